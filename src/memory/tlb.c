/* The software TLB's upkeep, see tlb.h. */
#include "memory/tlb.h"

struct walk_access tlb_access(const struct x86_cpu *c, enum x86_tlb_index set,
                              enum x86_access access)
{
    return (struct walk_access){
        .access = access, .user = set == TLB_USER, .smap_off = set == TLB_KERNEL_AC};
}

static void note_large(struct x86_cpu *c, struct gva la, unsigned shift)
{
    u64 first = align_down(la.v, BIT(shift)), last = first | bits_low(shift);
    unsigned half = la.v >> 63;
    if (first < c->tlb_use.large[half].first)
        c->tlb_use.large[half].first = first;
    if (last > c->tlb_use.large[half].last)
        c->tlb_use.large[half].last = last;
}

static bool allowed(const struct x86_cpu *c, enum x86_tlb_index set,
                    const struct walk_result *page, enum x86_access access)
{
    return walk_allows(c, page, tlb_access(c, set, access));
}

void tlb_fill(struct x86_cpu *c, enum x86_tlb_index set, struct gva la,
              const struct walk_result *page, void *hva, u64 flags)
{
    unsigned slot = tlb_slot(la.v);
    u64 tag = la.v & PAGE_MASK;
    bool writable = page->dirty && !(flags & (PMAP_ROM | PMAP_CODE)) && (flags & PMAP_DIRTY);
    struct x86_tlb *tlb = &c->tlb[set];
    u64 invalid = tlb_invalid(slot);
    tlb->read[slot] = allowed(c, set, page, ACCESS_READ) ? tag : invalid;
    tlb->write[slot] = writable && allowed(c, set, page, ACCESS_WRITE) ? tag : invalid;
    tlb->exec[slot] = allowed(c, set, page, ACCESS_EXEC) ? tag : invalid;
    tlb->page[slot] = (u64)hva;
    u64 bit = BIT(slot % 64);
    u64 *local = &c->tlb_use.local[set][slot / 64],
        *global = &c->tlb_use.global[set][slot / 64];
    *local = page->global ? *local & ~bit : *local | bit;
    *global = page->global ? *global | bit : *global & ~bit;
    if (page->page_shift > PAGE_SHIFT)
        note_large(c, la, page->page_shift);
}

static void invalidate(struct x86_tlb *tlb, unsigned slot)
{
    tlb->read[slot] = tlb->write[slot] = tlb->exec[slot] = tlb_invalid(slot);
}

void tlb_init(struct x86_cpu *c)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned slot = 0; slot < TLB_SIZE; slot++)
            invalidate(&c->tlb[set], slot);
    }
    tlb_flush_all(c);
}

void tlb_flush_page(struct x86_cpu *c, struct gva la)
{
    unsigned half = la.v >> 63;
    if (la.v >= c->tlb_use.large[half].first && la.v <= c->tlb_use.large[half].last) {
        tlb_flush_all(c);
        return;
    }
    for (unsigned set = 0; set < TLB_SETS; set++)
        invalidate(&c->tlb[set], tlb_slot(la.v));
}

static void flush_used(struct x86_cpu *c, u64 used[TLB_SETS][TLB_SIZE / 64])
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned word = 0; word < TLB_SIZE / 64; word++) {
            for (u64 left = used[set][word]; left; left &= left - 1)
                invalidate(&c->tlb[set], word * 64 + (unsigned)__builtin_ctzll(left));
            used[set][word] = 0;
        }
    }
}

void tlb_flush_local(struct x86_cpu *c)
{
    flush_used(c, c->tlb_use.local);
}

void tlb_flush_all(struct x86_cpu *c)
{
    flush_used(c, c->tlb_use.local);
    flush_used(c, c->tlb_use.global);
    for (unsigned half = 0; half < 2; half++) {
        c->tlb_use.large[half].first = UINT64_MAX;
        c->tlb_use.large[half].last = 0;
    }
}

void tlb_watch(struct x86_cpu *c, const void *hva)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned slot = 0; slot < TLB_SIZE; slot++) {
            if (c->tlb[set].page[slot] == (u64)hva)
                c->tlb[set].write[slot] = tlb_invalid(slot);
        }
    }
}
