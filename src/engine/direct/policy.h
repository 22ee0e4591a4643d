/*
 * Whether an address space's user code runs in a cell. A crossing into a cell and back costs
 * about 6 us where the translator's costs a fraction of one, and the translator's user code
 * takes up to 2.5 times native: so a cell pays where the stretches of user code between two
 * kernel entries are long. A new address space starts under the translator; its cell costs 0.3
 * ms and some 5 us a page, so it gets one only after it has used that much.
 *
 * Compiled with -mgeneral-regs-only. Times are TSC cycles.
 */
#pragma once

#include "base/types.h"

struct policy {
    bool promoted;
    u8 backoff;        /* how often it was demoted: each doubles the time to the next try */
    u64 user, entries; /* of the present window: cycles of user code, stretches */
    u64 not_before;    /* no promotion before */
};

/* User code ran for so long, under the translator or in the cell, and then something came that
 * counts as a kernel entry (not a page fault that the monitor served: it prefetches instead).
 */
void policy_stretch(struct policy *policy, u64 cycles, bool entry, u64 now, u64 tsc_hz);

/* The cell cannot be had, or was lost: back to the translator for some time. */
void policy_demote(struct policy *policy, u64 now, u64 tsc_hz);
