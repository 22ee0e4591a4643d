/* Spans of time: a u64 of nanoseconds everywhere, and what the host's calls take instead. */
#pragma once

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/types.h"

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

static inline u64 timespec_ns(struct timespec time)
{
    return (u64)time.tv_sec * NS_PER_S + (u64)time.tv_nsec;
}

static inline struct timespec timespec_of(u64 ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S),
                             .tv_nsec = (long)(ns % NS_PER_S)};
}

/* A clock of the host, ns; 0: it has none of that name. By the system call itself, which spares
 * the vector registers: they may hold a guest's. */
static inline u64 time_read(clockid_t clock)
{
    struct timespec now;
    return syscall(SYS_clock_gettime, clock, &now) ? 0 : timespec_ns(now);
}
