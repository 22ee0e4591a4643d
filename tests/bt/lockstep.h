/*
 * sim and bt beside each other, as an engine: before the translator runs a TU, the simulator
 * runs the same instructions for trial; what they did to memory is taken back, the state is put
 * back, then the translator runs, and both must have come to the same registers, vector state
 * and memory.
 *
 * Nothing from outside can part the two: a trial ends before the first instruction that touches
 * more than registers and RAM (a device, the clock, an MSR, address translations), and where an
 * interrupt was delivered instead of the TU there is nothing to compare. For one vCPU.
 */
#pragma once

#include "engine/engine.h"

extern const struct engine lockstep_engine;

struct lockstep_counts {
    u64 compared; /* TUs */
    u64 insns;    /* their instructions */
    u64 skipped;  /* no trial, or it ended before the TU did */
    u64 failures; /* each is printed; after LOCKSTEP_FAILURES nothing is compared */
};
#define LOCKSTEP_FAILURES 10

/* Of a vCPU that the engine is attached to; any thread. */
const struct lockstep_counts *lockstep_counts(struct vcpu *vcpu);
