/* Which leaks of processors the host's is free of, as its kernel knows. */
#pragma once

#include "base/types.h"

/* Bits of MSR_ARCH_CAPABILITIES (SDM vol. 4, 2.1; only the NO bits of data that the processor
 * itself lets out) for what is "Not affected" in Linux's list, 0 where there is no list. Reads
 * a few small files. */
u64 host_leaks_not(void);
