/* How long threads waited for a processor of the host. */
#pragma once

#include <sys/types.h>

#include "base/types.h"

/* Opens the figures of a thread of this process (proc(5), schedstat); -1: the host has none. */
int run_delay_open(pid_t tid);
/* ns so far; 0 for -1. Any thread. */
u64 run_delay_read(int fd);
