/*
 * Between a disk device (virtio block, IDE) and whatever keeps its sectors (host/block, a
 * test).
 *
 * Threads: a device submits under the board lock; `done` is called under it too, from any
 * thread.
 */
#pragma once

#include <sys/uio.h>

#include "base/types.h"

#define BLOCK_SECTOR 512u

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH, /* what was written before is durable when it completes */
    BLOCK_DISCARD,
    BLOCK_WRITE_ZEROES,
};

/* A request belongs to the back end from block_submit until `done`. */
struct block_request {
    enum block_op op;
    bool unmap;      /* BLOCK_WRITE_ZEROES: the host's space may go */
    u64 offset, len; /* bytes, multiples of BLOCK_SECTOR, within the size */
    void *data;      /* BLOCK_READ, BLOCK_WRITE: `len` bytes; NULL: they are `parts` */
    const struct iovec *parts; /* guest memory, for a back end that takes_parts */
    unsigned n_parts;
    int error; /* when completed: 0 or an errno value */
    void (*done)(struct block_request *request);
    struct block_request *next; /* the back end's, as what follows */
    u64 began;                  /* when it was submitted, ns */
};

struct block {
    u64 size; /* bytes, a multiple of BLOCK_SECTOR; 0: no medium in the drive */
    bool read_only;
    bool discards; /* BLOCK_DISCARD does something */
    /* Data may come in parts: the back end hands them to the host's kernel as they are, and
     * does not look at bytes that the guest may change meanwhile. */
    bool takes_parts;
    /* True: completed at once, and `done` will not be called. */
    bool (*submit)(void *back, struct block_request *request);
    /* Waits until nothing is under way, and calls each `done`. */
    void (*drain)(void *back);
    void *back;
};

static inline bool block_submit(struct block *block, struct block_request *request)
{
    return block->submit(block->back, request);
}

static inline void block_drain(struct block *block)
{
    block->drain(block->back);
}
