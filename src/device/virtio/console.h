/* A virtio console with one port (virtio 1.2, clause 5.3): a fast line of bytes. */
#pragma once

#include "device/pci.h"
#include "platform/chardev.h"

struct virtio_console;

/* `chardev` must outlive the device; `slot` of the bus, or -1. NULL: the slot is taken or the
 * bus is full. */
struct virtio_console *virtio_console_create(struct board *board, struct pci_host *host,
                                             struct chardev *chardev, int slot);
