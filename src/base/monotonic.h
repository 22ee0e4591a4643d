/* The host's clock that only goes forward. */
#pragma once

#include "base/time.h"

/* CLOCK_MONOTONIC in nanoseconds; any thread. */
static inline u64 monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return timespec_ns(now);
}
