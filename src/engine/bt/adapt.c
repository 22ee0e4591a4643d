/*
 * Adaptive translation (Adams and Agesen 2006, section 3.3). A store that keeps leaving the
 * fast path (to a device, to a page of code, across two pages) is translated anew so that its
 * failed check leads to a callout of its own with the value at hand, in place of tries at
 * filling the TLB and then the simulator; and it shares its check with no other access. Loads
 * need none of it: bounce.c serves them as they are. The check itself stays, so that a store
 * which goes to RAM now and then loses nothing.
 *
 * Hysteresis: an instruction is adapted after 2^patience slow accesses; when its checks fail
 * only for want of a TLB entry, it is plain again, and more patience is had with it next time.
 */
#include "engine/bt/bt.h"

#define FIRST_PATIENCE 4
#define LAST_PATIENCE  15
#define FILLS_TO_LEAVE 64 /* without a slow access between them */

static unsigned slot_of(const u8 *code)
{
    return (unsigned)(((u64)code * 0x9e3779b97f4a7c15ull) >> 32) & (ADAPTED - 1);
}

/* hva of the first byte of the site's instruction. */
static const u8 *code_of(const struct bt *bt, const struct site *site)
{
    const struct tu *tu = &bt->tus[site->tu];
    u64 linear = place_linear(tu->mode, place_beside(tu->mode, tu->rip, site->rip));
    return (const u8 *)(((u64)tu->code & PAGE_MASK) + (linear & ~PAGE_MASK));
}

bool adapt_wanted(const struct bt *bt, const u8 *code)
{
    const struct adapted *a = &bt->adapted[slot_of(code)];
    return a->on && a->code == code;
}

void adapt_slow(struct bt *bt, const struct site *site)
{
    const u8 *code = code_of(bt, site);
    struct adapted *a = &bt->adapted[slot_of(code)];
    if (a->code != code)
        *a = (struct adapted){.code = code, .patience = FIRST_PATIENCE};
    a->fills = 0;
    if (a->on || ++a->slow < 1u << a->patience)
        return;
    a->on = true;
    bt->stats.adapted++;
    if (!bt->tus[site->tu].dead)
        cache_drop(bt, &bt->tus[site->tu]);
}

void adapt_filled(struct bt *bt, const struct site *site)
{
    const u8 *code = code_of(bt, site);
    struct adapted *a = &bt->adapted[slot_of(code)];
    if (a->code != code || !a->on || ++a->fills < FILLS_TO_LEAVE)
        return;
    a->on = false;
    a->slow = 0;
    a->patience += a->patience < LAST_PATIENCE;
    bt->stats.unadapted++;
    if (!bt->tus[site->tu].dead)
        cache_drop(bt, &bt->tus[site->tu]);
}
