/*
 * The vCPU threads and their run loop. A thread is parked unless the machine runs; parked vCPUs
 * may be touched by the main thread.
 */
#pragma once

#include "base/error.h"

struct vm;
struct engine;

/* Makes the threads, parked; false: the engine could not be attached. */
bool run_create(struct vm *vm, struct error *err);
/* Ends the threads and waits for them. */
void run_destroy(struct vm *vm);

/* Puts another engine on a parked vCPU; the main thread, no locks. False: it has the old
 * one. */
bool run_exchange(struct vm *vm, unsigned cpu, const struct engine *engine, struct error *err);

void run_resume(struct vm *vm);
/* Makes the vCPUs park soon; any thread, the board lock may be held. */
void run_hold(struct vm *vm);
/* run_hold, and waits until all are parked; the main thread, no locks. */
void run_stop(struct vm *vm);
