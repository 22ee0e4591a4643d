/* Timers over a clock source, see clock.h. */
#include "platform/clock.h"

static void timer_unlink(struct clock *clock, struct timer *timer)
{
    struct timer **link = &clock->first;
    while (*link != timer)
        link = &(*link)->next;
    *link = timer->next;
    timer->armed = false;
}

static void clock_rearm(struct clock *clock)
{
    if (clock->rearm)
        clock->rearm(clock->opaque);
}

void timer_arm(struct clock *clock, struct timer *timer, u64 deadline)
{
    if (timer->armed)
        timer_unlink(clock, timer);
    timer->deadline = deadline;
    timer->armed = true;
    /* Behind those of the same deadline: they fire in the order they were armed. */
    struct timer **link = &clock->first;
    while (*link && (*link)->deadline <= deadline)
        link = &(*link)->next;
    timer->next = *link;
    *link = timer;
    /* A deadline that moved back needs no call: the source wakes early once and asks again. */
    if (clock->first == timer)
        clock_rearm(clock);
}

void timer_cancel(struct clock *clock, struct timer *timer)
{
    if (timer->armed)
        timer_unlink(clock, timer);
}

u64 clock_run(struct clock *clock)
{
    /* Read once: a callback that arms itself for "now" must not keep us here. */
    u64 now = clock_now(clock);
    while (clock->first && clock->first->deadline <= now) {
        struct timer *timer = clock->first;
        timer_unlink(clock, timer);
        timer->fire(timer->opaque);
    }
    return clock->first ? clock->first->deadline : UINT64_MAX;
}

u64 clock_ticks(u64 ns, u64 hz)
{
    return (u64)((u128)ns * hz / NS_PER_S);
}

u64 clock_ns(u64 ticks, u64 hz)
{
    u128 ns = ((u128)ticks * NS_PER_S + hz - 1) / hz;
    return ns > UINT64_MAX ? UINT64_MAX : (u64)ns;
}
