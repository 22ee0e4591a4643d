/*
 * A virtio 9P transport (device ID 9): file messages of the guest to a share (platform/share.h)
 * and back. Its layout is not in the OASIS text; it is what Linux's net/9p/trans_virtio.c and
 * include/uapi/linux/virtio_9p.h expect.
 */
#pragma once

#include "device/pci.h"
#include "platform/share.h"

struct virtio_p9;

#define VIRTIO_P9_MAX_TAG 63

struct virtio_p9_config {
    struct share *share;
    const char *tag; /* what the guest mounts; at most VIRTIO_P9_MAX_TAG bytes */
    int slot;        /* of the bus, or -1 */
};

/* NULL: the slot is taken or the bus is full. */
struct virtio_p9 *virtio_p9_create(struct board *board, struct pci_host *host,
                                   const struct virtio_p9_config *config);
