/* The host's clock that only goes forward. */
#pragma once

#include <time.h>

#include "base/types.h"

/* CLOCK_MONOTONIC in nanoseconds; any thread. */
static inline u64 monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}
