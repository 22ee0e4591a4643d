/*
 * Virtual time and timers: the one seam through which time enters a machine (law 5).
 *
 * Virtual time is in nanoseconds since the machine was made and stands still while the machine
 * is stopped. The real clock is host/'s; tests bring their own and step it (clock_step.h in
 * tests).
 *
 * Threads: clock_now is lock-free. Timers are armed, cancelled and fired under the board lock;
 * the callback runs under it, in the thread that calls clock_run. A callback may arm timers
 * again.
 */
#pragma once

#include "base/time.h"

struct clock;

struct timer {
    void (*fire)(void *opaque);
    void *opaque;
    u64 deadline;       /* virtual ns, valid while armed */
    struct timer *next; /* the clock's: armed timers, sorted by deadline */
    bool armed;
};

struct clock {
    /* The source: virtual nanoseconds, monotonic. */
    u64 (*now)(void *opaque);
    /* Tells the source that the earliest deadline changed, so that it wakes in time; may be
     * NULL. */
    void (*rearm)(void *opaque);
    /* Wall-clock time, seconds since 1970-01-01 UTC, for the RTC; may be NULL. */
    s64 (*wall)(void *opaque);
    void *opaque;
    struct timer *first;
};

static inline u64 clock_now(const struct clock *clock)
{
    return clock->now(clock->opaque);
}

/* 0: it has none. */
static inline s64 clock_wall(const struct clock *clock)
{
    return clock->wall ? clock->wall(clock->opaque) : 0;
}

/* Arms (or re-arms) a timer for an absolute virtual time; one that is past fires at the next
 * clock_run. */
void timer_arm(struct clock *clock, struct timer *timer, u64 deadline);
void timer_cancel(struct clock *clock, struct timer *timer);

/* Fires all timers that are due, earliest first. Returns the next deadline, or UINT64_MAX. */
u64 clock_run(struct clock *clock);

/* ticks of a `hz` counter that fit into `ns`, and the ns that `ticks` last, rounded up; exact
 * for a machine's life (128-bit intermediate). */
u64 clock_ticks(u64 ns, u64 hz);
u64 clock_ns(u64 ticks, u64 hz);
