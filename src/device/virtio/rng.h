/* A virtio entropy device (virtio 1.2, clause 5.4). */
#pragma once

#include "device/pci.h"
#include "platform/entropy.h"

struct virtio_rng;

/* `slot` of the bus, or -1. NULL: the slot is taken or the bus is full. */
struct virtio_rng *virtio_rng_create(struct board *board, struct pci_host *host,
                                     struct entropy entropy, int slot);
