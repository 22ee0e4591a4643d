/*
 * A disk's back end: carries a device's requests (platform/block.h) to a disk image in threads
 * of its own, so that no vCPU ever waits for the host's disk.
 *
 * Completions are delivered under the board lock, by the thread that did the work; none while
 * the board is closed, but by block_back_settle and block_drain. The latter, which stands
 * before a reset and the end, breaks off after 10 seconds what a silent server owes. Flushes
 * wait for nothing but what was completed before (as on a real disk): the image orders the
 * rest.
 */
#pragma once

#include "host/block/image.h"
#include "platform/block.h"

struct board;
struct block_back;

/* What follows when the image fails (QEMU's werror= and rerror=). */
enum block_action {
    BLOCK_REPORT,       /* the guest gets the error */
    BLOCK_IGNORE,       /* the guest sees success */
    BLOCK_STOP,         /* the request waits until the machine, which is to stop, goes on */
    BLOCK_STOP_IF_FULL, /* "enospc": that for ENOSPC, else BLOCK_REPORT */
};
/* "report", "ignore", "stop", "enospc"; false: unknown. */
bool block_action_parse(enum block_action *action, const char *word);

struct block_failure {
    bool write; /* or anything that changes the image or makes it durable */
    int error;
    enum block_action action; /* that was taken: one of the first three */
};

struct block_policy {
    enum block_action on_read, on_write;
    /* Told of each failure, under the board lock, from any thread; may be NULL. */
    void (*failed)(void *opaque, const struct block_failure *failure);
    void *opaque;
};

/* Takes the image over; NULL: a drive without a medium. Requests that wait (BLOCK_STOP) are
 * tried again when the board opens after it was closed. */
struct block_back *block_back_create(struct board *board, struct image *image,
                                     const struct block_policy *policy);
/* Waits until no request but those that wait for the machine is under way, for 3 seconds at
 * most: the answers to those that are left (false) wait for the board, which is closed, to
 * open. Under the board lock. */
bool block_back_settle(struct block_back *back);
/* Puts another image, or none, in the place of the one that there is, and returns that; what is
 * under way ends before. Under the board lock. */
struct image *block_back_exchange(struct block_back *back, struct image *image);
/* After the device is gone: closes the image. */
void block_back_destroy(struct block_back *back);

/* What a disk has done since it was made. */
struct block_count {
    u64 operations, failed, bytes, ns;
};
struct block_stats {
    struct block_count read, write, flush, discard; /* write: with zeroes */
    u64 highest; /* the end of what was written farthest in the image */
};
/* Under the board lock. */
const struct block_stats *block_back_stats(const struct block_back *back);

/* The seam to give to the device. */
struct block *block_back_block(struct block_back *back);
