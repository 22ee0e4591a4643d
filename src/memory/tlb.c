/* The software TLB's upkeep, see tlb.h. */
#include "memory/tlb.h"

#include "x86/debug.h"

struct walk_access tlb_access(const struct x86_cpu *c, enum x86_tlb_index set,
                              enum x86_access access)
{
    return (struct walk_access){
        .access = access, .user = set == TLB_USER, .smap_off = set == TLB_KERNEL_AC};
}

/* -- Filling ------------------------------------------------------------------------------- */

bool tlb_walk(struct x86_cpu *c, struct pmap *pmap, struct gva la, struct walk_access access,
              struct walk_result *out, u32 *error)
{
    bool paged = c->cr0 & CR0_PG;
    if (paged && stlb_find(c, la, out) && walk_allows(c, out, access) &&
        (access.access != ACCESS_WRITE || out->dirty))
        return true;
    if (!walk(c, pmap, la, access, out, error))
        return false;
    if (paged)
        stlb_enter(c, la, out);
    return true;
}

/* May such accesses to the page of `la` go without a look at each? */
static bool allowed(const struct x86_cpu *c, enum x86_tlb_index set, struct gva la,
                    const struct walk_result *page, enum x86_access access)
{
    return walk_allows(c, page, tlb_access(c, set, access)) &&
           likely(!x86_page_watched(c, la, access));
}

void tlb_fill(struct x86_cpu *c, enum x86_tlb_index set, struct gva la,
              const struct walk_result *page, void *hva, u64 flags)
{
    unsigned slot = tlb_slot(la.v);
    u64 tag = la.v & PAGE_MASK;
    bool writable = page->dirty && !(flags & (PMAP_ROM | PMAP_CODE)) && (flags & PMAP_DIRTY);
    struct x86_tlb *tlb = &c->tlb[set];
    u64 invalid = tlb_invalid(slot);
    tlb->read[slot] = allowed(c, set, la, page, ACCESS_READ) ? tag : invalid;
    tlb->write[slot] = writable && allowed(c, set, la, page, ACCESS_WRITE) ? tag : invalid;
    tlb->exec[slot] = allowed(c, set, la, page, ACCESS_EXEC) ? tag : invalid;
    tlb->page[slot] = (u64)hva;
    u64 bit = BIT(slot % 64);
    u64 *local = &c->tlb_use.local[set][slot / 64],
        *global = &c->tlb_use.global[set][slot / 64];
    *local = page->global ? *local & ~bit : *local | bit;
    *global = page->global ? *global | bit : *global & ~bit;
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

/* -- Dropping ------------------------------------------------------------------------------ */

static void drop_slot(struct x86_cpu *c, u64 la)
{
    for (unsigned set = 0; set < TLB_SETS; set++)
        invalidate(&c->tlb[set], tlb_slot(la));
}

/* A word of `local` or `global`: its slots. */
static void drop_word(struct x86_cpu *c, unsigned set, u64 used[TLB_SIZE / 64], unsigned word)
{
    for (u64 left = used[word]; left; left &= left - 1)
        invalidate(&c->tlb[set], word * 64 + (unsigned)__builtin_ctzll(left));
    used[word] = 0;
}

/* The slots of a region: what is filled of them. */
static void drop_region(struct x86_cpu *c, u64 la, unsigned shift)
{
    unsigned first = tlb_slot(align_down(la, BIT(shift))) / 64;
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned word = first; word < first + (BIT(shift - PAGE_SHIFT) / 64); word++) {
            drop_word(c, set, c->tlb_use.local[set], word);
            drop_word(c, set, c->tlb_use.global[set], word);
        }
    }
}

/* Under one PCID; `global`: and global ones. */
static void flush_page(struct x86_cpu *c, struct gva la, u16 pcid, bool global)
{
    unsigned shift = stlb_page_shift(c, la);
    if (shift == 64) {
        tlb_flush_all(c);
        return;
    }
    stlb_forget_page(c, la, pcid, global);
    if (!global && pcid != stlb_pcid(c))
        return;
    if (shift == PAGE_SHIFT)
        drop_slot(c, la.v);
    else
        drop_region(c, la.v, shift);
}

void tlb_flush_page(struct x86_cpu *c, struct gva la)
{
    flush_page(c, la, stlb_pcid(c), true);
}

void tlb_flush_page_of(struct x86_cpu *c, u16 pcid, struct gva la)
{
    flush_page(c, la, pcid, false);
}

static void flush_used(struct x86_cpu *c, u64 used[TLB_SETS][TLB_SIZE / 64])
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned word = 0; word < TLB_SIZE / 64; word++)
            drop_word(c, set, used[set], word);
    }
}

void tlb_cr3_loaded(struct x86_cpu *c, bool keep)
{
    u32 old = c->stlb.space;
    if (keep)
        stlb_choose(c);
    else
        stlb_forget_pcid(c, stlb_pcid(c));
    if (c->stlb.space != old)
        flush_used(c, c->tlb_use.local);
}

void tlb_flush_pcid(struct x86_cpu *c, u16 pcid)
{
    stlb_forget_pcid(c, pcid);
    if (pcid == stlb_pcid(c))
        flush_used(c, c->tlb_use.local);
}

void tlb_flush_local(struct x86_cpu *c)
{
    stlb_forget_local(c);
    flush_used(c, c->tlb_use.local);
}

static void empty(struct x86_cpu *c)
{
    stlb_forget_all(c);
    flush_used(c, c->tlb_use.local);
    flush_used(c, c->tlb_use.global);
}

void tlb_drop(struct x86_cpu *c)
{
    c->tlb_use.drops++;
    empty(c);
}

void tlb_flush_all(struct x86_cpu *c)
{
    empty(c);
    stlb_forget_large(c);
}

void tlb_debug_changed(struct x86_cpu *c)
{
    for (unsigned n = 0; n < 4; n++) {
        enum x86_break what = x86_breakpoint(c, n);
        if (what == BREAK_WRITE || what == BREAK_ACCESS)
            drop_slot(c, c->dr[n]);
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
