/* Application processors: started by INIT and startup IPIs, then waiting for calls. */
#pragma once
#include "system.h"

/* Starts all other processors; waits until `total` are there. Returns the number found. */
u32 smp_start(u32 total);

/* Runs f(argument) on another processor; smp_wait() waits until it has returned. */
void smp_call(u32 cpu, void (*f)(void *), void *argument);
void smp_wait(u32 cpu);
void smp_run(u32 cpu, void (*f)(void *), void *argument);

/* Leaves the call loop's interrupts on while idle. */
void smp_idle(void);
