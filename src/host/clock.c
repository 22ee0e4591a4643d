/* The real clock, see clock.h. */
#include "host/clock.h"

#include <time.h>

static s64 monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (s64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static u64 host_now(void *opaque)
{
    struct host_clock *host = opaque;
    u64 frozen = atomic_load(&host->frozen);
    return frozen ? frozen - 1 : (u64)(monotonic() + atomic_load(&host->offset));
}

static void host_rearm(void *opaque)
{
    struct host_clock *host = opaque;
    if (host->clock->first && host->clock->first->deadline < atomic_load(&host->sleeps_until))
        loop_wake(host->loop);
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
        .sleeps_until = UINT64_MAX,
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
    atomic_store(&host->offset, (s64)(frozen - 1) - monotonic());
    atomic_store(&host->frozen, 0);
    loop_wake(host->loop);
}

void host_clock_stop(struct host_clock *host)
{
    if (!atomic_load(&host->frozen))
        atomic_store(&host->frozen, host_now(host) + 1);
}

u64 host_clock_run(struct host_clock *host, struct board *board)
{
    /* Until the new deadline is known, whoever arms a timer wakes the loop. */
    atomic_store(&host->sleeps_until, UINT64_MAX);
    if (atomic_load(&host->frozen))
        return UINT64_MAX;
    board_lock(board);
    u64 deadline = clock_run(host->clock);
    board_unlock(board);
    if (deadline == UINT64_MAX)
        return UINT64_MAX;
    atomic_store(&host->sleeps_until, deadline);
    u64 now = host_now(host);
    return deadline > now ? deadline - now : 0;
}
