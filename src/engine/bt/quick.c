/*
 * The fast ways of the frequent callouts. The stub that calls them has stored only what C code
 * may change, so they read and write no other guest register, deliver no fault and call nothing
 * that could use vector registers; where more is needed they answer NULL before anything was
 * changed, and the dispatch function does it all (bt.h has the contract).
 */
#include <sys/syscall.h>

#include "engine/bt/bt.h"
#include "x86/segment.h"

/* -- Control flow -------------------------------------------------------------------------- */

/* The TU at `place` if it exists and nothing stands against entering it; *global: its page's
 * translation survives CR3 loads. */
static struct tu *find_ready(struct bt *bt, u64 place, u32 mode, bool *global)
{
    const struct x86_cpu *c = bt_cpu(bt);
    const struct x86_tlb *tlb = &c->tlb[c->tlb_index];
    u64 la = place_linear(mode, place);
    unsigned slot = tlb_slot(la);
    u64 offset = la ^ tlb->exec[slot];
    if (bt_attention(bt) || bt_watched_everywhere(bt) || offset >= PAGE_SIZE)
        return NULL;
    *global = c->tlb_use.global[c->tlb_index][slot / 64] >> (slot % 64) & 1;
    return cache_find(bt, (const u8 *)tlb->page[slot] + offset, place, mode);
}

const void *quick_link(struct bt *bt, u64 number)
{
    struct link *link = &bt->links[number];
    const struct tu *from = &bt->tus[link->from];
    bool global;
    struct tu *tu = find_ready(bt, link->rip, mode_of_guest(from->mode), &global);
    if (!tu || from->dead || (flags_unpack(link->stale) & tu->flags_in))
        return NULL;
    bt->stats.link_misses++;
    link_set(bt, link, tu);
    return bt_exec(bt, tu->entry_saved);
}

const void *quick_cell(struct bt *bt, u64 number)
{
    const struct cell *cell = &bt->cells[number];
    bool global;
    struct tu *tu = find_ready(bt, cell->rip, cell->mode, &global);
    if (!tu)
        return NULL;
    bt->stats.cell_misses++;
    cell_set(bt, (u32)number, tu, global);
    return bt_exec(bt, tu->entry_saved);
}

const void *quick_indirect(struct bt *bt, u64 unused, u64 target)
{
    (void)unused;
    const struct x86_cpu *c = bt_cpu(bt);
    /* Without C code nothing but the set can be another. */
    u32 mode = bt->indirect_entered;
    if (mode != MODE_NONE)
        mode = bt->indirect_mode[MODE_TABLE((mode & ~MODE_SET_MASK) | MODE_SET(c->tlb_index))];
    bool global;
    if (mode == MODE_NONE || !bt_may_jump(bt, mode, place_rip(mode, target)))
        return NULL;
    struct tu *tu = find_ready(bt, target, mode, &global);
    if (!tu)
        return NULL;
    bt->stats.indirect_misses++;
    indirect_set(bt, tu, global);
    return bt_exec(bt, tu->entry_saved);
}

/* -- Memory -------------------------------------------------------------------------------- */

const void *quick_access(struct bt *bt, u64 number, u64 la)
{
    const struct site *site = &bt->sites[number];
    if (page_left(la) < site->size) {
        const void *on = bounce_load(bt, site, la);
        bt->stats.two_pages += on != NULL;
        return on;
    }
    if (!bt_fill(bt, gva(la), site->write ? ACCESS_WRITE : ACCESS_READ))
        return NULL;
    bt->stats.fills++;
    return bt_exec(bt, site->retry);
}

const void *quick_store(struct bt *bt, u64 number, u64 la)
{
    const struct site *site = &bt->sites[number];
    if (page_left(la) < site->size) {
        if (!bounce_store(bt, site, la))
            return NULL;
        bt->stats.two_pages++;
        return bt_exec(bt, site->resume);
    }
    if (!bt_fill(bt, gva(la), ACCESS_WRITE)) {
        if (!bounce_store_beside_code(bt, site, la))
            return NULL;
        bt->stats.beside_code++;
        return bt_exec(bt, site->resume);
    }
    bt->stats.fills++;
    adapt_filled(bt, site);
    return bt_exec(bt, site->retry);
}

const void *quick_done(struct bt *bt, const struct site *site)
{
    bt->stats.quick[site->mnemonic]++;
    return bt_exec(bt, site->resume);
}

const void *quick_string(struct bt *bt, u64 number)
{
    const struct site *site = &bt->sites[number];
    return string_run(bt, site) ? quick_done(bt, site) : NULL;
}

/* -- PAUSE --------------------------------------------------------------------------------- */

/* TSC cycles: PAUSEs that lie no further apart are one wait; after so long a one others get the
 * processor: who is waited for may have none, and would else wait for the end of our slice. */
#define PAUSE_GAP  20000
#define PAUSE_LONG 60000

static void yield(void)
{
    long result = SYS_sched_yield;
    __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
}

const void *quick_pause(struct bt *bt, u64 number)
{
    u64 now = __builtin_ia32_rdtsc();
    __builtin_ia32_pause();
    if (now - bt->pause.last > PAUSE_GAP)
        bt->pause.began = now;
    bt->pause.last = now;
    if (now - bt->pause.began > PAUSE_LONG) {
        yield();
        bt->pause.last = 0;
        bt->stats.yields++;
    }
    return quick_done(bt, &bt->sites[number]);
}

/* -- Descriptors --------------------------------------------------------------------------- */

static void *known_system(struct x86_cpu *c, u64 la, unsigned size, enum x86_access access)
{
    return access == ACCESS_WRITE ? x86_tlb_write_as(c, gva(la), size, AS_SUPERVISOR)
                                  : x86_tlb_read_as(c, gva(la), size, AS_SUPERVISOR);
}

void *quick_system(struct bt *bt, u64 la, unsigned size, enum x86_access access)
{
    void *at = known_system(bt_cpu(bt), la, size, access);
    if (likely(at) || page_left(la) < size || !bt_fill_set(bt, TLB_KERNEL, gva(la), access))
        return at;
    return known_system(bt_cpu(bt), la, size, access);
}

bool quick_descriptor(struct bt *bt, u16 sel, u64 *low)
{
    const struct x86_cpu *c = bt_cpu(bt);
    if (selector_is_null(sel) || (sel & 4) || (sel | 7) > c->gdtr.limit)
        return false;
    const void *at = quick_system(bt, c->gdtr.base + (sel & ~7u), 8, ACCESS_READ);
    if (!at)
        return false;
    *low = host_load(at, 8);
    return true;
}

#define HOT_ZF (FLAG_ZF << 8)

const void *quick_verw(struct bt *bt, u64 number, u64 selector)
{
    struct x86_cpu *c = bt_cpu(bt);
    u16 sel = (u16)selector;
    u64 low = 0;
    if (!selector_is_null(sel) && !quick_descriptor(bt, sel, &low))
        return NULL;
    unsigned dpl = descriptor_dpl(low);
    bool good = descriptor_is_writable_data(low) && c->cpl <= dpl && selector_rpl(sel) <= dpl;
    bt->hot->flags = (bt->hot->flags & ~HOT_ZF) | (good ? HOT_ZF : 0);
    return quick_done(bt, &bt->sites[number]);
}

/* May the present code load a data segment register with it, without touching it? */
static bool may_load(const struct x86_cpu *c, u16 sel, u64 low)
{
    const u32 set = SEG_P | SEG_ACCESSED;
    unsigned dpl = descriptor_dpl(low);
    bool conforming = descriptor_is_code(low) && descriptor_is_conforming(low);
    return descriptor_is_readable(low) && (descriptor_attr(low) & set) == set &&
           (conforming || (selector_rpl(sel) <= dpl && c->cpl <= dpl));
}

/* Kernels load the same again at each entry. */
static bool is_same(const struct x86_seg *a, const struct x86_seg *b)
{
    return a->sel == b->sel && a->attr == b->attr && a->limit == b->limit && a->base == b->base;
}

/* False: the mode is another with it. */
static bool change_segment(struct bt *bt, const struct site *site, const struct x86_seg *to)
{
    struct x86_cpu *c = bt_cpu(bt);
    c->seg[site->seg] = *to;
    x86_derive_segment(c, site->seg);
    return bt_mode(c) == mode_of_guest(bt->tus[site->tu].mode);
}

/* A load of ES, DS, FS or GS in protected mode, unless it changes what the mode tells. */
const void *quick_segment(struct bt *bt, u64 number, u64 selector)
{
    const struct site *site = &bt->sites[number];
    struct x86_cpu *c = bt_cpu(bt);
    u16 sel = (u16)selector;
    u64 low;
    struct x86_seg before = c->seg[site->seg], after = x86_seg_null(sel, 0);
    if (!selector_is_null(sel)) {
        if (!quick_descriptor(bt, sel, &low) || !may_load(c, sel, low))
            return NULL;
        after = x86_seg_from(sel, low);
    }
    if (!is_same(&before, &after) && !change_segment(bt, site, &after)) {
        c->seg[site->seg] = before;
        x86_derive_segment(c, site->seg);
        return NULL;
    }
    x86_set_sp(c, x86_sp(c) + (u64)(s64)site->stack);
    return quick_done(bt, site);
}
