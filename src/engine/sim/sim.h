/*
 * The simulator: the reference engine. It runs the instruction semantics of x86/ from a cache
 * of decoded blocks, and is the one fallback of every other engine (law 2), which therefore
 * attach a struct sim to each vCPU as well.
 *
 * Threads: a struct sim belongs to its vCPU's thread.
 */
#pragma once

#include "engine/engine.h"
#include "engine/sim/blocks.h"
#include "engine/sim/thunk.h"

/* An instruction that crosses a page is decoded apart: its second page may change by itself, so
 * the bytes are compared each time it runs. */
struct crossing {
    u64 key; /* as a block's, of the first byte */
    u8 bytes[15];
    u8 size;
    struct x86_insn insn;
};
#define CROSSING_SLOTS 256

struct sim {
    struct blocks blocks;
    struct thunks thunks;
    struct crossing crossing[CROSSING_SLOTS];
    struct trap trap;       /* the thread's, while the simulator is its engine */
    u64 faults, interrupts; /* statistics */
    /* Called before a fault is delivered, for engines that fall back on the simulator and keep
     * flags lazily; or NULL. */
    void (*faulting)(struct x86_cpu *c);
};

static inline struct sim *sim_of(struct x86_cpu *c)
{
    return container_of(c, struct vcpu, cpu)->sim;
}

/* Makes vcpu->sim, without taking the thread's traps: for engines that fall back on it. Their
 * trap handler offers each signal to thunks_trap. */
bool sim_create(struct vcpu *vcpu, struct error *err);
void sim_destroy(struct vcpu *vcpu);

/*
 * Looks at the attention word and serves it in the architecture's order (SDM vol. 3, table
 * 6-2): work, INIT, SIPI, NMI, interrupt. True: go on; false: *exit says why to leave. For
 * every engine that runs in software.
 */
bool sim_attend(struct vcpu *vcpu, enum engine_exit *exit);

/* Runs one instruction at RIP with all that belongs to it: faults and traps are delivered,
 * debug breakpoints and TF looked at. */
void sim_step(struct vcpu *vcpu);
/* The same for what stands decoded in a row at RIP, as long as nothing wants attention. */
void sim_run(struct vcpu *vcpu);

/* Is the instruction at RIP, in 64-bit code, decoded already? Then sim_step calls nothing but
 * its handler, the delivery of faults and vcpu->cpu.ops. */
bool sim_ready(struct vcpu *vcpu);

/* engine->code_written */
void sim_code_written(struct vcpu *vcpu, struct gfn frame, u64 lines);
