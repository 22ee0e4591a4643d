/*
 * Whether an address space's user code runs in a cell. A stop of a cell costs some 10 us where
 * the translator's kernel entry costs a fraction of one, and a batch of mappings as much again;
 * the translator's user code takes two to five times native. So a cell pays where the stretches
 * of user code between two kernel entries are long, and never while a process touches new
 * memory page by page.
 *
 * There are two answers. A new address space starts under the translator and is *promoted*, it
 * gets a cell, after it has used as much time as that costs. From then on a balance of the
 * stretches in the cell says at once when they do not pay: then the user code *rests* with the
 * translator for a fraction of a millisecond, and longer while it goes on entering the kernel;
 * processes touch memory, or call the kernel, in bursts. One that does nothing but rest is
 * demoted.
 *
 * Each stop and batch is charged with what it costs on a quiet host, not with what it took: a
 * loaded host would demote everybody.
 *
 * Compiled with -mgeneral-regs-only. `now` is the TSC.
 */
#pragma once

#include "base/types.h"

struct policy {
    bool promoted;
    u8 backoff;     /* how often it was demoted: each doubles the time to the next try */
    u32 rested;     /* us, since the cell last paid */
    u64 user;       /* us of user code: of the present window; in the cell, since it rested */
    u64 charges;    /* us: what the window's kernel entries would have cost in a cell */
    s64 balance;    /* us: what the cell gained and cost, within bounds */
    s64 net;        /* the same since it was promoted, within wide bounds */
    u64 not_before; /* no promotion before, TSC */
};

/* Of what kind a stop or a kernel entry was. */
enum policy_cost {
    COST_STOP,    /* a crossing */
    COST_MAPPING, /* a crossing and a batch of mappings: a page fault */
    COST_SWITCH,  /* a change of address space while the cell waits: it is verified */
};

/* What `n` of them cost in a cell, us. */
u64 policy_cost(enum policy_cost cost, unsigned n);

/* Under the translator: kernel entries that would have cost so many us. */
void policy_charge(struct policy *policy, u64 us);
/* Under the translator, as a timer interrupts user code of this address space: `us` of
 * processor time have passed since it did so last, here or elsewhere. As with the ticks that a
 * kernel counts, many of them tell who used the time. */
void policy_sample(struct policy *policy, u64 us, u64 now, u64 tsc_hz);
/* User code ran so many cycles in the cell until it stopped, which cost so many us. True: it
 * has to rest. */
bool policy_direct(struct policy *policy, u64 cycles, u64 charge, u64 tsc_hz);
/* All in all the cell has cost so much more than it gained that a rest will not mend it: code
 * that seems to pay as it rests, and that is copied again each time it runs in the cell. */
bool policy_is_lost(const struct policy *policy);
/* COST_SWITCH, of a promoted address space. */
void policy_switch(struct policy *policy);

/* How long user code rests that has rested for so long, us. */
u32 policy_rest(u32 rested);
/* What the vCPU did as a period of the rest ended: a sample of what it did all the while. */
enum rest_sight {
    SIGHT_USER, /* of that address space */
    SIGHT_OTHER,
    SIGHT_IDLE, /* or it got no processor of the host */
};
/* What the rest has shown since it began, the last periods most. All zeroes: nothing yet. */
struct rest_tally {
    u32 user, charges; /* us */
    u32 idle;          /* periods in a row */
};
enum rest_verdict {
    REST_GOES_ON,
    REST_OVER,     /* the cell would have paid */
    REST_HOPELESS, /* it has not for long: the address space is to be demoted */
};
/* After a period of `us` with kernel entries of so many us: what follows? Adds the period to
 * `*rested` unless the vCPU sleeps. Only user code gains from a cell: one that mostly waits for
 * the kernel to do what it called for enters it seldom, and yet at a loss. */
enum rest_verdict policy_judge_rest(struct rest_tally *tally, u32 *rested, u32 us, u64 charges,
                                    enum rest_sight sight);

/* The cell does not pay, cannot be had, or was lost: back to the translator for some time. */
void policy_demote(struct policy *policy, u64 now, u64 tsc_hz);
