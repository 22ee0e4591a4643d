/*
 * A cell: the jailed task in which guest user code runs on the bare processor, and the mapper
 * of its address space (design, section 5.2; protocol.h for what is shared).
 *
 * What a cell can do at most: run any unprivileged instruction on the pages mapped for it, wait
 * for its turn, wake the monitor, and die. What it reports is checked here; whether it really
 * stopped is known only after cell_verify.
 *
 * Threads: a cell belongs to its vCPU's thread, but cell_kick.
 */
#pragma once

#include <sys/types.h>

#include "engine/direct/annex.h"
#include "engine/direct/frame.h"
#include "engine/direct/guard.h"
#include "engine/direct/mapper.h"
#include "engine/direct/zygote.h"

/* Where the host's user addresses end: one page below the canonical half. It unmaps nothing if
 * a range goes beyond. */
#define CELL_TASK_END 0x7ffffffff000ull

/* Where a narrow cell's block must lie. */
#define NARROW_END BIT(32)

struct cell {
    struct zygote *zygote;
    /* For 32-bit code, which may also be 64-bit for a while: its block lies below 4 GiB, and it
     * may set thread-local segments. Another one is wide, and not for 32-bit code. */
    bool narrow;
    /* Narrow: the host's places for such segments as they shall be, `tls_set` as they were made
     * last; unknown where code that nobody answers for ran since. */
    struct tls tls[TLS_MAX], tls_set[TLS_MAX];
    bool tls_unknown;
    struct frame_place place;
    struct control *control; /* in place.block */
    struct mapper mapper;
    pid_t pid;
    int status;  /* the task's `syscall` file in /proc */
    int process; /* its descriptor: readable once it is dead */
    bool parked; /* verified since it ran last */
    bool
        mapping; /* its turn goes with a batch of the mapper's, whose report is still to come */
    bool dead;
    char waiting[64];   /* how `status` begins while it is parked */
    _Atomic u64 kicked; /* when a kick was sent that is not answered yet, ns; 0: none */
    u64 deadline;       /* ns to answer a kick, of its own processor time while it has any */
    int block_file;
    struct guards guards;
    struct annex annex;
};

/* A new cell without guest pages, stopped and verified. */
bool cell_create(struct cell *cell, struct zygote *zygote, u64 base, bool narrow,
                 struct error *err);
/* Kills both tasks and waits for their end: after this none of its mappings exists. */
void cell_destroy(struct cell *cell);

static inline bool cell_owns(const struct cell *cell, u64 address)
{
    return address - cell->place.base < CELL_PAGES * PAGE_SIZE;
}

enum cell_end {
    CELL_STOPPED, /* it reports a stop, now in *c and *stop */
    CELL_DEAD, /* it did what is not allowed, did not answer a kick, or reports nonsense; *c is
                  the state of the last resume */
};
/* Runs guest code at *c, CPL 3 in 64-bit mode, in a narrow cell also in 32-bit compatibility
 * mode, until it stops. Orders of the mapper go first, if they only add mappings; if the host
 * refuses one, the cell is usable until then (mapper.refused). */
enum cell_end cell_run(struct cell *cell, struct x86_cpu *c, struct stop *stop);

/* Makes a running cell stop soon; any thread. */
void cell_kick(struct cell *cell);

/* Kills it; cell_destroy waits for the end. */
void cell_condemn(struct cell *cell);

/* The processor time that it has used, ns; 0: it is gone. */
u64 cell_time(const struct cell *cell);

/* Is it asleep until its turn, as far as one look tells? */
bool cell_sleeps(const struct cell *cell);

/*
 * Is the cell really off the processor, waiting for its turn? It then stays there until
 * cell_run, whatever it reported. False: it is not, and is dead now.
 */
bool cell_verify(struct cell *cell);
