/* The real clock, see clock.h. */
#include "host/clock.h"

#include <time.h>

#include "base/monotonic.h"

static u64 host_now(void *opaque)
{
    struct host_clock *host = opaque;
    u64 frozen = atomic_load(&host->frozen);
    return frozen ? frozen - 1 : monotonic_ns() + (u64)atomic_load(&host->offset);
}

/* No time in 200 years is later. */
#define LAST ((u64)INT64_MAX / 2)

static void set_alarm(struct host_clock *host, u64 deadline)
{
    s64 at = (s64)deadline - atomic_load(&host->offset);
    host->alarm = deadline;
    loop_alarm(host->loop, at > 0 ? (u64)at : 0);
}

/* The loop is not woken for this: a guest's tick arms the next one, and a wake-up for each
 * costs more than all else of a tick. */
static void host_rearm(void *opaque)
{
    struct host_clock *host = opaque;
    const struct timer *first = host->clock->first;
    if (first && first->deadline < host->alarm && !atomic_load(&host->frozen))
        set_alarm(host, first->deadline);
}

static s64 host_wall(void *opaque)
{
    struct host_clock *host = opaque;
    return (s64)time(NULL) + host->wall_offset;
}

void host_clock_init(struct host_clock *host, struct clock *clock, struct loop *loop,
                     s64 wall_offset)
{
    *host = (struct host_clock){
        .clock = clock,
        .loop = loop,
        .frozen = 1,
        .alarm = LAST,
        .wall_offset = wall_offset,
    };
    *clock = (struct clock){
        .now = host_now,
        .rearm = host_rearm,
        .wall = host_wall,
        .opaque = host,
    };
}

void host_clock_start(struct host_clock *host)
{
    u64 frozen = atomic_load(&host->frozen);
    if (!frozen)
        return;
    atomic_store(&host->offset, (s64)(frozen - 1 - monotonic_ns()));
    atomic_store(&host->frozen, 0);
    host->alarm = LAST;
    host_rearm(host);
}

void host_clock_stop(struct host_clock *host)
{
    if (!atomic_load(&host->frozen))
        atomic_store(&host->frozen, host_now(host) + 1);
}

void host_clock_run(struct host_clock *host, struct board *board)
{
    board_lock(board);
    if (!atomic_load(&host->frozen)) {
        host->alarm = 0; /* one alarm for all that the timers arm */
        u64 deadline = clock_run(host->clock);
        host->alarm = LAST;
        if (deadline < LAST)
            set_alarm(host, deadline);
    }
    board_unlock(board);
}
