/*
 * The zygote: a process forked from the monitor before the guest has run, which makes cells by
 * forking itself. A fork of the monitor later would copy its page tables (8 ms for 256 MiB).
 *
 * It holds the guest's memory file for the mappers, trusts the monitor, and never meets the
 * guest's word. It dies with the thread that made it, its cells with it, and their mappers with
 * them.
 *
 * Threads: a zygote belongs to the thread that made it.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

struct zygote {
    pid_t pid;
    int socket;
    bool faults_cpuid; /* CPUID in a cell raises #GP: the host's processor can do that */
};

/* `memory` is the guest's memory file; it is opened again for reading only. */
bool zygote_create(struct zygote *zygote, int memory, struct error *err);
void zygote_destroy(struct zygote *zygote);

/*
 * Forks a cell whose block (protocol.h) is the file `block`, filled by the caller, at address
 * `base` of the cell; `event` becomes its mapper's report. Returns its process number, which
 * stays taken until zygote_reap; -1: *err says why.
 */
pid_t zygote_fork(struct zygote *zygote, int block, int event, u64 base, struct error *err);

/* Waits for the end of a cell that was killed. */
void zygote_reap(struct zygote *zygote, pid_t pid);
