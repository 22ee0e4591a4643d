/*
 * How long a thread looks for what it waits for before it goes to sleep. Waking a sleeper costs
 * its waker a system call and itself 5 to 50 us (an interrupt to an idle processor, which in a
 * virtual machine leaves that machine); a wait that mostly ends sooner is cheaper awake. As
 * with KVM's halt polling, the time grows while sleeps turn out short, and falls to nothing
 * with the first long one: who is idle does not spin. It also falls when the processor was
 * taken away meanwhile, because then others have a use for it.
 *
 * Threads: one struct belongs to one thread.
 */
#pragma once

#include "base/types.h"

struct spin {
    u32 ns;    /* how long to look next time */
    bool lone; /* there is one processor: whoever is waited for cannot run meanwhile */
    u64 began; /* of the wait */
};

void spin_init(struct spin *spin);
/* Begins a wait: looks until `seen`. False: for long enough, the caller should sleep. */
bool spin_look(struct spin *spin, bool (*seen)(const void *opaque), const void *opaque);
/* After that sleep: learns from how long the wait was. */
void spin_slept(struct spin *spin);
