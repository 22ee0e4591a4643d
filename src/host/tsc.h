/* The rate of the host's time-stamp counter. */
#pragma once

#include "base/types.h"

/* Ticks a second, from CPUID where the processor says it, else measured against
 * CLOCK_MONOTONIC for a few milliseconds, to about ten parts in a million. */
u64 host_tsc_hz(void);
