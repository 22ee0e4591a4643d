/* The host's time-stamp counter, see tsc.h. */
#include "host/tsc.h"

#include <cpuid.h>
#include <x86intrin.h>

#include "base/monotonic.h"

#define MEASURE (8 * NS_PER_MS)
#define TRIES   16

/* CPUID leaf 15h: TSC = crystal * EBX / EAX (SDM vol. 2A); 0: not enumerated. */
static u64 tsc_hz_cpuid(void)
{
    u32 denominator;
    u32 numerator;
    u32 crystal;
    u32 edx;
    if (!__get_cpuid(0x15, &denominator, &numerator, &crystal, &edx) || !denominator)
        return 0;
    return (u64)crystal * numerator / denominator;
}

struct sample {
    u64 ns, tsc;
};

/* The clock and the counter at one moment: of several tries the one with the least between its
 * two readings of the counter. */
static struct sample take(void)
{
    struct sample best = {0};
    u64 best_width = UINT64_MAX;
    for (unsigned i = 0; i < TRIES; i++) {
        u64 before = __rdtsc();
        u64 now = monotonic_ns();
        u64 width = __rdtsc() - before;
        if (width >= best_width)
            continue;
        best_width = width;
        best.tsc = before + width / 2;
        best.ns = now;
    }
    return best;
}

u64 host_tsc_hz(void)
{
    u64 hz = tsc_hz_cpuid();
    if (hz)
        return hz;
    struct sample first = take();
    const struct timespec pause = timespec_of(MEASURE);
    nanosleep(&pause, NULL);
    struct sample last = take();
    return (u64)((u128)(last.tsc - first.tsc) * NS_PER_S / (last.ns - first.ns));
}
