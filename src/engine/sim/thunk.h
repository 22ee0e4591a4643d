/*
 * Where the host code of decoded vector instructions lives (x86/native.h makes it) and how it
 * is run: the ops native and native_emit of a vCPU with a struct sim.
 *
 * Threads: the vCPU's own.
 */
#pragma once

#include "host/code_memory.h"
#include "host/trap.h"
#include "x86/cpu.h"

/* Room for about 20,000 thunks; a boot to a shell needs a fifth of it. */
#define THUNK_MEMORY (4 * MiB)

struct thunks {
    struct code_memory memory;
    u64 used;
    const u8 *running; /* the thunk in progress: what a SIGFPE belongs to */
};

bool thunks_map(struct thunks *thunks, struct error *err);
void thunks_unmap(struct thunks *thunks);
/* All thunks are gone; together with the instructions that name them. */
void thunks_reset(struct thunks *thunks);

/* For the thread's trap handler: true when the signal was a thunk's SIMD exception, and the
 * context now resumes at its fault exit. */
bool thunks_trap(struct thunks *thunks, int signal, ucontext_t *context);

/* x86_ops */
bool thunk_run(struct x86_cpu *c, const void *code, void *mem);
const void *thunk_emit(struct x86_cpu *c, const void *bytes, unsigned size);
