/*
 * What an engine is: a way of running guest instructions on a struct vcpu. Four exist (design,
 * section 5); the run loop of machine/ knows only this table. No engine knows a device: they
 * meet through platform/.
 *
 * Ownership (law 1): between enter and its return the engine holds the vCPU's architectural
 * state; on return it is canonical in vcpu->cpu, so another engine may go on with it.
 */
#pragma once

#include "base/error.h"
#include "platform/vcpu.h"

enum engine_exit {
    EXIT_STOPPED,     /* ATTN_KICK: the machine wanted the vCPU back */
    EXIT_HALTED,      /* HLT with nothing to do, or waiting for SIPI: sleep in vcpu_wait */
    EXIT_SHUTDOWN,    /* triple fault */
    EXIT_DEBUG,       /* a breakpoint of the debugger or a finished single step */
    EXIT_USER,        /* bt to the engine that watches it (bt/watch.h), never to the machine */
    EXIT_UNSUPPORTED, /* one instruction that this engine leaves to the simulator (law 2) */
};

/* Bits of vcpu->engine_options. */
#define ENGINE_ALWAYS BIT(0) /* direct: cells for all user code that can have one (tests) */
#define ENGINE_COPIES BIT(1) /* direct: user code runs from copies, direct/annex.h (tests) */

#define ENGINE_COUNTS BIT(2) /* bt: also what costs to be counted */

/* The size of the code cache of bt, in MiB; 0: the default. */
#define ENGINE_CACHE(mib)         ((u32)(mib) << 8)
#define ENGINE_CACHE_MIB(options) ((options) >> 8 & 0xff)

/* A named counter for `-stats`. */
struct engine_counter {
    char name[48]; /* groups of rows begin alike, up to a dot */
    u64 value;
};

struct engine {
    const char *name;
    /* Can it run here at all? False: *why says why not. */
    bool (*probe)(struct error *why);
    /* Makes and frees the engine's own state of one vCPU (vcpu->engine_state); in the vCPU's
     * thread. */
    bool (*attach)(struct vcpu *vcpu, struct error *err);
    void (*detach)(struct vcpu *vcpu);
    /* Runs guest code until an exit. In the vCPU's thread, without the board lock. */
    enum engine_exit (*enter)(struct vcpu *vcpu);
    /* Makes a running `enter` look at vcpu->cpu.attention soon; any thread. May be NULL: the
     * engine polls it. */
    void (*kick)(struct vcpu *vcpu);
    /* Lines of a page from which code was decoded or translated were or are being written
     * (pmap_lines): forget that code before returning. In the vCPU's thread. */
    void (*code_written)(struct vcpu *vcpu, struct gfn frame, u64 lines);
    /* From now on writes to the page must be noticed: drop rights to write to it without.
     * May be NULL. In the vCPU's thread. */
    void (*code_watched)(struct vcpu *vcpu, struct gfn frame);
    /* Fills up to `max` counters; returns how many there are. */
    unsigned (*counters)(struct vcpu *vcpu, struct engine_counter *counters, unsigned max);
};

extern const struct engine sim_engine;
extern const struct engine bt_engine;
extern const struct engine direct_engine;

/* All engines of this build, fastest first: what `-accel help` lists and `-accel auto`
 * tries. */
extern const struct engine *const engines[];
extern const unsigned n_engines;

/* The engine of that name (`-accel`), or NULL. */
const struct engine *engine_named(const char *name);
/*
 * Puts another engine on the vCPU, which goes on where the old one left it; what that had
 * translated and counted is gone. In the vCPU's thread, while no other vCPU of the board runs.
 * False: the new one cannot be attached, and the old one is back.
 */
bool engine_exchange(struct vcpu *vcpu, const struct engine *engine, struct error *err);
/* The first engine of the list that can run here, or NULL; *why has the reasons of those before
 * it, or is empty. */
const struct engine *engine_first_working(struct error *why);
