/*
 * The real clock behind a machine's virtual time (platform/clock.h): CLOCK_MONOTONIC, standing
 * still while the machine is stopped.
 *
 * Threads: reading is lock-free from any thread; start and stop under the board lock.
 */
#pragma once

#include <stdatomic.h>

#include "host/loop.h"
#include "platform/board.h"

struct host_clock {
    struct clock *clock;
    struct loop *loop;  /* the one that fires the timers */
    _Atomic s64 offset; /* running: virtual time = monotonic time + offset */
    _Atomic u64 frozen; /* stopped: virtual time + 1; 0 while running */
    u64 alarm;          /* virtual: the loop runs then at the latest; under the board lock */
    s64 wall_offset;    /* seconds added to the host's UTC (-rtc base=) */
};

/* Makes `clock` read the real clock. It starts stopped, at 0. */
void host_clock_init(struct host_clock *host, struct clock *clock, struct loop *loop,
                     s64 wall_offset);

void host_clock_start(struct host_clock *host);
void host_clock_stop(struct host_clock *host);

/* Fires the timers that are due, none while stopped, and sees to it that the loop comes back
 * for the next one. In the loop's thread; takes the board lock. */
void host_clock_run(struct host_clock *host, struct board *board);
