/*
 * The monitor's end of a mapper: the task that maps and unmaps guest pages in a cell's address
 * space. A batch of orders is written where the cell can only read, and is done when the mapper
 * says so through an event descriptor that the cell does not have. One batch at a time: no
 * order is written before the report of the last batch.
 *
 * Threads: belongs to the cell's vCPU.
 */
#pragma once

#include <sys/types.h>

#include "engine/direct/protocol.h"

struct mapper {
    struct orders *orders; /* in the monitor's mapping of the block */
    int event;             /* its reports */
    pid_t pid;
    unsigned n;       /* orders of the batch being written */
    bool waits;       /* one of them must be known to be done before the cell runs */
    unsigned running; /* orders of a batch whose report was not taken yet, or 0 */
    bool refused;     /* a batch failed: what is mapped is unknown */
    u64 *batches;     /* statistics of the vCPU */
};

/* The next order of the batch; at most ORDERS_MAX between two mapper_run. */
void mapper_order(struct mapper *mapper, const struct order *order);

static inline unsigned mapper_room(const struct mapper *mapper)
{
    return ORDERS_MAX - mapper->n;
}

/*
 * Maps `pages` pages of guest memory from byte `offset` of its file at `address`. `rights` is
 * one of PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC. Replaces what is there.
 */
void mapper_map(struct mapper *mapper, u64 address, u64 pages, u64 offset, int rights);
/* At once with the order before it if that unmaps the pages that end there. */
void mapper_unmap(struct mapper *mapper, u64 address, u64 pages);

/* Does the batch only add mappings, which the host has no reason to refuse? It may then go with
 * the cell's turn (cell_run). */
static inline bool mapper_only_adds(const struct mapper *mapper)
{
    return !mapper->waits;
}

/* Starts the batch, which is not empty. */
void mapper_start(struct mapper *mapper);
/* Has the batch that runs been reported? */
bool mapper_is_done(const struct mapper *mapper);
bool mapper_is_gone(const struct mapper *mapper);
/* Waits for the report: how many orders succeeded, in order, before one failed; -1: the mapper
 * is dead or does not answer, the address space must go. */
int mapper_wait(struct mapper *mapper);
/* Starts the batch, if it is not empty, and waits. */
int mapper_run(struct mapper *mapper);
