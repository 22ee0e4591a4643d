/*
 * A virtio memory balloon (virtio 1.2, clause 5.5): pages that the guest puts into it, or
 * reports as free, go back to the host.
 *
 * Threads: all under the board lock.
 */
#pragma once

#include "device/pci.h"

struct virtio_balloon;

struct virtio_balloon_config {
    bool deflate_on_oom;
    bool free_page_reporting;
    int slot; /* of the bus, or -1 */
};

/* NULL: the slot is taken or the bus is full. */
struct virtio_balloon *virtio_balloon_create(struct board *board, struct pci_host *host,
                                             const struct virtio_balloon_config *config);

/* How large the guest's balloon should be, and is, in bytes. */
void virtio_balloon_set_target(struct virtio_balloon *balloon, u64 bytes);
u64 virtio_balloon_actual(const struct virtio_balloon *balloon);

/* The guest's statistics by tag (5.5.6.3), as it gave them last. */
#define VIRTIO_BALLOON_STATS   10
#define VIRTIO_BALLOON_UNKNOWN UINT64_MAX
struct virtio_balloon_stats {
    u64 value[VIRTIO_BALLOON_STATS]; /* VIRTIO_BALLOON_UNKNOWN: it told nothing */
    s64 taken;                       /* when, by the clock's wall(); 0: never */
};
const struct virtio_balloon_stats *virtio_balloon_stats(const struct virtio_balloon *balloon);

/* It is asked for new ones `seconds` after it gave the last, at once for the first time; 0: not
 * at all, as at the start. */
void virtio_balloon_poll(struct virtio_balloon *balloon, u32 seconds);
u32 virtio_balloon_polled(const struct virtio_balloon *balloon);
