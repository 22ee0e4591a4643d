/* A virtio block device (virtio 1.2, clause 5.2). */
#pragma once

#include "device/pci.h"
#include "platform/block.h"

#define VIRTIO_BLK_ID_LEN 20

struct virtio_blk;

struct virtio_blk_config {
    struct block *block; /* must outlive the device */
    const char *serial;  /* at most VIRTIO_BLK_ID_LEN bytes are told; NULL: none */
    unsigned queues;     /* at least 1 */
    bool writeback;      /* what the driver finds: the device has a volatile cache */
    bool packed;         /* packed virtqueues are offered */
    int slot;            /* of the bus, or -1 */
};

/* NULL: the slot is taken or the bus is full. */
struct virtio_blk *virtio_blk_create(struct board *board, struct pci_host *host,
                                     const struct virtio_blk_config *config);
