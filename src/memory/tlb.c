/* The software TLB's upkeep, see tlb.h. */
#include "memory/tlb.h"

#include "x86/debug.h"

struct walk_access tlb_access(const struct x86_cpu *c, enum x86_tlb_index set,
                              enum x86_access access)
{
    return (struct walk_access){
        .access = access, .user = set == TLB_USER, .smap_off = set == TLB_KERNEL_AC};
}

/* -- Large pages --------------------------------------------------------------------------- */

#define REGION_SHIFT 21

static u64 *region_bit(struct x86_tlb_use *use, u64 la, u64 *bit)
{
    u64 region = la >> REGION_SHIFT;
    region = (region ^ region >> 14) % TLB_REGIONS;
    *bit = BIT(region % 64);
    return &use->regions[region / 64];
}

static void note_region(struct x86_cpu *c, struct gva la)
{
    u64 bit;
    u64 *word = region_bit(&c->tlb_use, la.v, &bit);
    if (*word & bit)
        return;
    *word |= bit;
}

static void note_large(struct x86_cpu *c, struct gva la, unsigned shift)
{
    if (shift == REGION_SHIFT) {
        note_region(c, la);
        return;
    }
    u64 first = align_down(la.v, BIT(shift)), last = first | bits_low(shift);
    unsigned half = la.v >> 63;
    if (first < c->tlb_use.large[half].first)
        c->tlb_use.large[half].first = first;
    if (last > c->tlb_use.large[half].last)
        c->tlb_use.large[half].last = last;
}

unsigned tlb_page_shift(const struct x86_cpu *c, struct gva la)
{
    u64 bit;
    unsigned half = la.v >> 63;
    if (la.v >= c->tlb_use.large[half].first && la.v <= c->tlb_use.large[half].last)
        return 64;
    const u64 *word = region_bit((struct x86_tlb_use *)&c->tlb_use, la.v, &bit);
    return *word & bit ? REGION_SHIFT : PAGE_SHIFT;
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
    if (!paged)
        return true;
    if (out->page_shift > PAGE_SHIFT)
        note_large(c, la, out->page_shift);
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
    if (page->page_shift > PAGE_SHIFT)
        note_large(c, la, page->page_shift);
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

/* The pages of 2^shift bytes around `la`, of one PCID; `global`: and global ones. */
static void drop_pages(struct x86_cpu *c, u64 la, unsigned shift, u16 pcid, bool global)
{
    u64 page = align_down(la, BIT(shift));
    for (u64 end = page + BIT(shift); page != end; page += PAGE_SIZE) {
        if (global || pcid == stlb_pcid(c))
            drop_slot(c, page);
        stlb_forget_page(c, gva(page), pcid, global);
    }
}

static void flush_page(struct x86_cpu *c, struct gva la, u16 pcid, bool global)
{
    unsigned shift = tlb_page_shift(c, la);
    if (shift == 64)
        tlb_flush_all(c);
    else
        drop_pages(c, la.v, shift, pcid, global);
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
        for (unsigned word = 0; word < TLB_SIZE / 64; word++) {
            for (u64 left = used[set][word]; left; left &= left - 1)
                invalidate(&c->tlb[set], word * 64 + (unsigned)__builtin_ctzll(left));
            used[set][word] = 0;
        }
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
    for (unsigned i = 0; i < ARRAY_LEN(c->tlb_use.regions); i++)
        c->tlb_use.regions[i] = 0;
    for (unsigned half = 0; half < 2; half++) {
        c->tlb_use.large[half].first = UINT64_MAX;
        c->tlb_use.large[half].last = 0;
    }
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
