/*
 * Accesses for which there is no host address: operands on two pages, and what is no RAM. The
 * instruction runs on hot->bounce instead. A load goes on behind its check with the operand
 * there; an adapted store (adapt.c) puts its value there, and C code stores it. Which other
 * processors may see it in parts, as the architecture says of such operands.
 */
#include "engine/access.h"
#include "engine/bt/bt.h"
#include "memory/pmap.h"
#include "memory/tlb.h"
#include "x86/debug.h"
#include "x86/mem.h"

void *bounce_host(struct bt *bt, u64 la, bool write)
{
    struct x86_cpu *c = bt_cpu(bt);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        void *at = write ? x86_tlb_write(c, gva(la), 1) : x86_tlb_read(c, gva(la), 1);
        if (likely(at))
            return at;
        if (!bt_fill(bt, gva(la), write ? ACCESS_WRITE : ACCESS_READ))
            return NULL;
    }
    return NULL;
}

/* A function of the C library's might use vector registers. */
static void copy(void *to, const void *from, u64 n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* An aligned operand up to 8 bytes becomes visible as a whole. */
static void store(void *to, const void *from, unsigned size)
{
    if (size <= 8 && !(size & (size - 1)))
        host_store(to, size, host_load(from, size));
    else
        copy(to, from, size);
}

/* Where the operand at `la` lies on its two pages; false: not both are RAM that it may use. */
static bool find_parts(struct bt *bt, u64 la, bool write, void *part[2])
{
    u64 second = (la & PAGE_MASK) + PAGE_SIZE;
    part[0] = bounce_host(bt, la, write);
    part[1] = bounce_host(bt, bt_cpu(bt)->code_size == 8 ? second : (u32)second, write);
    return !bt_logged(bt) && part[0] && part[1];
}

u32 bounce_enter(struct bt *bt, const struct site *site, u64 la)
{
    u32 place = site->host + site->passed;
    u64 at = (u64)bounce_at(bt, la);
    /* What r10 is to be there: r11 holds the place itself on the way back. */
    bt->hot->address = at - (site->constant ? la & ~PAGE_MASK : (u64)bt_exec(bt, place));
    return place;
}

const void *bounce_load(struct bt *bt, const struct site *site, u64 la)
{
    void *part[2];
    if (!site->passed || !find_parts(bt, la, false, part))
        return NULL;
    u64 first = page_left(la);
    u8 *to = bounce_at(bt, la);
    copy(to, part[0], first);
    copy(to + first, part[1], site->size - first);
    bt->stats.bounced_loads++;
    return bt_exec(bt, bounce_enter(bt, site, la));
}

bool bounce_store(struct bt *bt, const struct site *site, u64 la)
{
    void *part[2];
    if (!find_parts(bt, la, true, part))
        return false;
    u64 first = page_left(la);
    copy(part[0], bt->hot->bounce, first);
    copy(part[1], bt->hot->bounce + first, site->size - first);
    bt->stats.bounced_stores++;
    return true;
}

bool bounce_store_beside_code(struct bt *bt, const struct site *site, u64 la)
{
    const u64 wanted = PMAP_PRESENT | PMAP_CODE | PMAP_DIRTY;
    struct x86_cpu *c = bt_cpu(bt);
    struct pmap *pmap = bt->vcpu->board->pmap;
    struct walk_result page;
    u32 error;
    if (bt_logged(bt) || !bt_canonical(la) || x86_page_watched(c, gva(la), ACCESS_WRITE) ||
        !tlb_walk(c, pmap, gva(la), tlb_access(c, c->tlb_index, ACCESS_WRITE), &page, &error))
        return false;
    struct gfn frame = gpa_to_gfn(page.gpa);
    unsigned offset = (unsigned)(la & ~PAGE_MASK);
    u64 lines = pmap_lines(offset, site->size);
    if ((pmap_flags(pmap, frame) & (wanted | PMAP_ROM)) != wanted ||
        !access_beside_code(bt->vcpu, frame, lines, false))
        return false;
    store((u8 *)pmap_page(pmap, frame) + offset, bt->hot->bounce, site->size);
    if (!access_beside_code(bt->vcpu, frame, lines, true)) {
        bt->untold.frame = frame;
        bt->untold.lines = lines;
        return false;
    }
    bt->stats.bounced_stores++;
    return true;
}
