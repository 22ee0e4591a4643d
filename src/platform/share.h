/*
 * Between a device that carries messages of a file protocol (virtio 9p) and whatever answers
 * them (host/share, a test).
 *
 * Threads: a device submits under the board lock; `done` is called under it too, from any
 * thread.
 */
#pragma once

#include "base/types.h"

/* The largest message either way. */
#define SHARE_MAX_MESSAGE (512 * KiB)

/* A request belongs to the back end from submit until `done`. */
struct share_request {
    const u8 *in; /* the guest's message, of in_len bytes */
    u32 in_len;
    u8 *out; /* room for the answer */
    u32 out_size;
    u32 out_len; /* when done */
    void (*done)(struct share_request *request);
    struct share_request *next; /* the back end's */
};

struct share {
    void (*submit)(void *back, struct share_request *request);
    /* Waits until nothing is under way, and calls each `done`. */
    void (*drain)(void *back);
    void *back;
};
