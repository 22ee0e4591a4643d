/*
 * Whether an address space's user code runs in a cell. A stop of a cell costs some 10 us where
 * the translator's kernel entry costs a fraction of one, and a batch of mappings as much again;
 * the translator's user code takes two to five times native. So a cell pays where the stretches
 * of user code between two kernel entries are long, and never while a process touches new
 * memory page by page. A new address space starts under the translator and gets a cell only
 * after it has used as much time as that costs.
 *
 * In the cell each stop and batch is charged with what it costs on a quiet host, not with what
 * it took: a loaded host would demote everybody.
 *
 * Compiled with -mgeneral-regs-only. `now` is the TSC.
 */
#pragma once

#include "base/types.h"

struct policy {
    bool promoted;
    u8 backoff; /* how often it was demoted: each doubles the time to the next try */
    /* Of the present window, us: user code, and what its stops and mappings cost or would cost
     * in a cell; negative is credit for what is paid once. */
    u64 user;
    s64 charges;
    u64 not_before; /* no promotion before, TSC */
};

/* Of what kind a stop or a kernel entry was. */
enum policy_cost {
    COST_STOP,    /* a crossing */
    COST_MAPPING, /* a crossing and a batch of mappings: a page fault */
};

/* Under the translator: `n` kernel entries. */
void policy_charge(struct policy *policy, enum policy_cost cost, unsigned n);
/* Under the translator, as a timer interrupts the guest: `us` of processor time have passed
 * since it did so last, in this address space all the time, and it interrupts user code or
 * not. */
void policy_sample(struct policy *policy, u64 us, bool user, u64 now, u64 tsc_hz);
/* User code ran so many cycles in the cell until it stopped. */
void policy_direct(struct policy *policy, u64 cycles, enum policy_cost cost, u64 now,
                   u64 tsc_hz);

/* The cell cannot be had, or was lost: back to the translator for some time. */
void policy_demote(struct policy *policy, u64 now, u64 tsc_hz);
