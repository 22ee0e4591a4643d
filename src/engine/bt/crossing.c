/*
 * Instructions that lie on two pages are TUs of their own. Such a TU belongs to the first page,
 * whose bytes are watched; of the second one, which may be mapped or written anew by itself, it
 * makes sure each time: that the guest may fetch from there, and that the bytes are the same.
 * If not, the simulator runs the instruction.
 */
#include "engine/bt/translate.h"

#include <string.h>

#include "memory/pmap.h"

#define CMP_REG_MEM 0x3b

static struct x86_tlb *tlb_of(const struct translation *t)
{
    return &bt_cpu(t->bt)->tlb[t->tu->mode & MODE_SET_MASK];
}

bool crossing_decode(struct translation *t, struct guest_insn *g)
{
    u32 mode = t->tu->mode;
    const struct x86_tlb *tlb = tlb_of(t);
    u64 second = place_next_page(mode, t->tu->rip), rip = place_rip(mode, t->tu->rip);
    unsigned left = (unsigned)page_left(place_linear(mode, t->tu->rip));
    /* Close to the limit of CS it is left to the simulator, as where it has not fetched yet. */
    bool inside =
        mode_is_64bit(mode) || rip + GUEST_BYTES <= t->bt->code_limit[MODE_LIMIT_OF(mode)];
    if (left >= GUEST_BYTES || !inside || tlb->exec[tlb_slot(second)] != second)
        return false;
    t->tu->lines |= pmap_lines(PAGE_SIZE - left, left);
    u8 bytes[GUEST_BYTES];
    memcpy(bytes, translation_look(t, (unsigned)PAGE_SIZE - left, left), left);
    memcpy(bytes + left, (const void *)tlb->page[tlb_slot(second)], GUEST_BYTES - left);
    return guest_decode(&t->bt->decoder, mode_code_size(mode), bytes, GUEST_BYTES, rip, g) &&
           g->length > left;
}

static void leave_if_not_equal(struct translation *t, const struct site *site)
{
    u8 *field = emit_jump_if_later(&t->e, CC_NE);
    cold_add(t, field, COLD_SIMULATE, (u32)(site - t->bt->sites), true);
}

void crossing_check(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    struct x86_tlb *tlb = tlb_of(t);
    u64 second = place_next_page(t->tu->mode, t->tu->rip);
    unsigned at = (unsigned)page_left(place_linear(t->tu->mode, t->tu->rip));
    flags_clobber(t);
    /* Without a decoded form: the simulator fetches anew. */
    struct site *site = site_here(t, SITE_CROSSING);
    site->retry = site->host;
    emit_const(e, R10, second);
    emit_rm(e, 8, CMP_REG_MEM, R10, bt_mem(t->bt, &tlb->exec[tlb_slot(second)]));
    leave_if_not_equal(t, site);
    emit_load(e, R10, bt_mem(t->bt, &tlb->page[tlb_slot(second)]));
    for (unsigned from = at; from < g->length;) {
        unsigned rest = g->length - from, size = rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
        u32 bytes = 0;
        memcpy(&bytes, g->bytes + from, size);
        emit_compare_memory(e, size, mem_at(R10, (s32)(from - at)), bytes);
        leave_if_not_equal(t, site);
        from += size;
    }
}
