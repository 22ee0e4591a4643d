/*
 * The signal trampoline: the one place where a host fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL,
 * SIGTRAP) in our own generated code becomes something else than a crash.
 *
 * A thread that runs generated code registers a struct trap; the handler runs on the thread's
 * alternate signal stack, may change the interrupted context (RIP, registers, MXCSR in the
 * saved state) and returns true. False, or no registered trap, means a real crash: the default
 * action follows.
 *
 * Threads: trap_install once for the process (idempotent); the rest concerns the calling
 * thread.
 */
#pragma once

#include <signal.h>
#include <ucontext.h>

#include "base/error.h"

struct trap {
    bool (*handle)(struct trap *trap, int signal, siginfo_t *info, ucontext_t *context);
};

/* Installs the handlers for the process. */
void trap_install(void);

/* What to do before a real crash ends the process, such as putting the terminal back; only
 * async-signal-safe functions. Before any thread is made. */
void trap_on_crash(void (*function)(void));

/* Gives the calling thread an alternate stack and makes `trap` its handler, until
 * trap_leave. */
bool trap_enter(struct trap *trap, struct error *err);
void trap_leave(void);
