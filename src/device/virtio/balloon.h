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

/* The guest's statistics by tag (5.5.6.3), VIRTIO_BALLOON_UNKNOWN where it told nothing; and a
 * request for new ones, which arrive when the guest gets round to it. */
#define VIRTIO_BALLOON_STATS   10
#define VIRTIO_BALLOON_UNKNOWN UINT64_MAX
const u64 *virtio_balloon_stats(const struct virtio_balloon *balloon);
void virtio_balloon_ask_stats(struct virtio_balloon *balloon);
