/*
 * Instruction breakpoints under translation. A linear address that had one is a cut: no TU goes
 * on over it, and the one that begins there starts with a load through hot->cut, which faults
 * while the breakpoint is enabled, as a poll does for a kick; from then on the simulator, which
 * knows all about breakpoints, looks at the instruction. So nothing that may lead to a TU need
 * be found and undone when DR7 changes, as it does at each context switch of a debugged
 * process: enabling and disabling are a store. Only an address that is new costs more: the TUs
 * made without regard to it die.
 *
 * Data breakpoints need nothing here: their pages are in no software TLB (tlb_fill), and what
 * fails its check for that goes to the simulator. Nor do those of ports, whose instructions are
 * callouts anyway.
 */
#include "engine/bt/bt.h"
#include "x86/debug.h"

unsigned breakpoint_cut(const struct bt *bt, u64 la)
{
    for (unsigned i = 0; i < bt->n_cuts; i++)
        if (bt->cut[i] == la)
            return i + 1;
    return 0;
}

bool breakpoint_is_set(const struct bt *bt, u64 la)
{
    unsigned cut = bt->cuts_set ? breakpoint_cut(bt, la) : 0;
    return cut && bt->cuts_set >> (cut - 1) & 1;
}

/* The cut at a new address, in place of one that is not set when there are too many. */
static unsigned new_cut(struct bt *bt, u64 la)
{
    if (bt->n_cuts < CUTS) {
        bt->cut[bt->n_cuts++] = la;
        cache_drop_cut(bt, la, 0);
        return bt->n_cuts;
    }
    do
        bt->next_cut = (bt->next_cut + 1) % CUTS;
    while (bt->cuts_set >> bt->next_cut & 1);
    bt->cut[bt->next_cut] = la;
    cache_drop_cut(bt, la, bt->next_cut + 1);
    return bt->next_cut + 1;
}

void breakpoints_update(struct bt *bt)
{
    const struct x86_cpu *c = bt_cpu(bt);
    for (u64 left = bt->cuts_set; left; left &= left - 1)
        bt->hot->cut[__builtin_ctzll(left)] = &bt->hot->poll_word;
    bt->cuts_set = 0;
    for (unsigned n = 0; n < 4 && x86_breakpoints_on(c); n++) {
        if (x86_breakpoint(c, n) != BREAK_EXEC)
            continue;
        unsigned cut = breakpoint_cut(bt, c->dr[n]);
        if (!cut)
            cut = new_cut(bt, c->dr[n]);
        bt->cuts_set |= BIT(cut - 1);
        bt->hot->cut[cut - 1] = bt->hot->poll_trap;
    }
}
