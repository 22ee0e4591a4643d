/*
 * A virtqueue from the device's side: the one place where descriptors are read, checked and
 * answered (OASIS Virtual I/O Device, version 1.2, clauses 2.6 to 2.8; "virtio" below).
 *
 *   driver area     avail: flags, idx, ring[size] of head numbers, used_event
 *   descriptors     table of {addr, len, flags, next}; INDIRECT points at another table
 *   device area     used:  flags, idx, ring[size] of {head, len}, avail_event
 *
 * or, when that was negotiated, a packed virtqueue (2.8): descriptors {addr, len, id, flags}
 * that the device overwrites with its answers, and two words of event suppression for each
 * side.
 *
 * A device takes a chain, gets at its bytes by offset, and gives it back; it never sees an
 * address. Whatever the driver wrote is checked when it is read, once; a malformed ring makes
 * the queue `broken`, and the device then needs a reset (2.1.2).
 *
 * Threads: under the board lock.
 */
#pragma once

#include <sys/uio.h>

#include "platform/board.h"
#include "platform/device.h"

/* Also the longest chain: a driver must not make one longer than the queue (2.7.5.3.1). */
#define VIRTQ_MAX_SIZE 256

struct virtq {
    struct board *board;
    struct device device; /* the fields below are its state (law 8) */
    u16 size;    /* as the driver set it: at most VIRTQ_MAX_SIZE; split: a power of two */
    bool packed; /* VIRTIO_F_RING_PACKED was negotiated */
    bool enabled;
    u64 descriptors; /* guest-physical addresses of the three parts */
    u64 driver;
    u64 device_area;
    /* Split: count heads taken and chains returned, modulo 2^16; packed: places in the ring. */
    u16 next_avail, next_used;
    u16 signalled;       /* next_used when the last interrupt was decided on */
    u16 in_flight;       /* packed: descriptors taken and not returned */
    u16 staged;          /* packed: descriptors that virtq_publish returns, */
    u16 staged_flags;    /* and what makes the driver see them */
    bool signalled_once; /* `signalled` means something */
    bool event_index;    /* VIRTIO_F_EVENT_IDX was negotiated */
    bool broken;
};

struct virtq_segment {
    struct gpa addr;
    u32 len;
};

/* A request: `n_out` segments that the device reads, then `n_in` that it writes. */
struct virtq_chain {
    struct virtq *queue;
    u16 head;  /* packed: its buffer's id */
    u16 slots; /* packed: how many descriptors of the ring it has */
    u16 n_out, n_in;
    u64 out_len, in_len; /* bytes */
    struct virtq_segment segments[VIRTQ_MAX_SIZE];
};

/* Enters the queue into the board's declared state; once, at creation. */
void virtq_create(struct virtq *queue, struct board *board);
/* Power-on state: disabled, `size` is the largest. */
void virtq_reset(struct virtq *queue);
/* Starts the queue as its fields say; false: they break the alignment rules of 2.7, or `size`
 * is impossible, and it is broken. */
bool virtq_enable(struct virtq *queue);

/* Takes the next chain. False: there is none, or the queue is disabled or broken. */
bool virtq_pop(struct virtq *queue, struct virtq_chain *chain);
/* Whether virtq_pop would find one. */
bool virtq_waiting(const struct virtq *queue);
/* Before virtq_pop: where chains that were taken since, and are untouched, go back to. */
struct virtq_mark {
    u16 next_avail, in_flight;
};
static inline struct virtq_mark virtq_mark(const struct virtq *queue)
{
    return (struct virtq_mark){queue->next_avail, queue->in_flight};
}
static inline void virtq_rewind(struct virtq *queue, struct virtq_mark mark)
{
    queue->next_avail = mark.next_avail;
    queue->in_flight = mark.in_flight;
}

/*
 * The chain's bytes at `offset` of its readable or writable part. False, with nothing defined
 * about the buffer or the guest's: the part is shorter than that, or some of it is not RAM.
 */
bool virtq_get(const struct virtq_chain *chain, u64 offset, void *buf, u64 len);
bool virtq_put(const struct virtq_chain *chain, u64 offset, const void *buf, u64 len);

/*
 * The same bytes as parts for a transfer by the host's kernel (ram_parts): `in` chooses the
 * writable part. Returns how many of the `len` bytes they are.
 * After a transfer that wrote: virtq_written.
 */
u64 virtq_parts(const struct virtq_chain *chain, bool in, u64 offset, u64 len,
                struct iovec *parts, unsigned room, unsigned *n);
void virtq_written(const struct virtq_chain *chain, u64 offset, u64 len);

/* Gives the pages that lie within the writable part back to the host. */
void virtq_release(const struct virtq_chain *chain);

/* Returns the chain: `written` bytes of its writable part, from its start, were written. */
void virtq_push(const struct virtq_chain *chain, u32 written);
/* The same for several chains that the driver must see at once (mergeable buffers): each is
 * staged as the `n`-th from 0, then all `count` are published. */
void virtq_stage(const struct virtq_chain *chain, u16 n, u32 written);
void virtq_publish(struct virtq *queue, u16 count);

/* Whether the driver wants an interrupt for what was returned since the last question. */
bool virtq_wants_interrupt(struct virtq *queue);

/* Asks the driver for notifications, or asks it to leave them out (a hint). True: chains came
 * while they were off, so that the caller must look again. */
bool virtq_want_notify(struct virtq *queue, bool want);
