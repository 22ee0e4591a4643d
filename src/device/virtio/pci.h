/* Virtio over PCI, the modern interface only (virtio 1.2, clause 4.1). */
#pragma once

#include "device/pci.h"
#include "device/virtio/virtio.h"

/* Structures in BAR 4, a page each. */
enum virtio_pci_part {
    VIRTIO_PCI_COMMON,
    VIRTIO_PCI_ISR,
    VIRTIO_PCI_DEVICE,
    VIRTIO_PCI_NOTIFY,
    VIRTIO_PCI_PARTS,
};

/* PCI ids (4.1.2). */
#define VIRTIO_PCI_VENDOR       0x1af4
#define VIRTIO_PCI_DEVICE(type) (0x1040 + (type))

#define VIRTIO_PCI_BAR       4
#define VIRTIO_PCI_MSIX_BAR  1
#define VIRTIO_PCI_NOTIFY_BY 4 /* bytes between the notification registers of two queues */
#define VIRTIO_NO_VECTOR     0xffff

struct virtio_pci {
    struct virtio *virtio;
    struct pci_device pci;
    const void *rom; /* for firmware, set before plugging; NULL: none */
    u32 rom_size;
    struct device device; /* what follows is its state */
    u32 device_feature_select, driver_feature_select;
    u16 queue_select;
    u16 config_vector;
    u16 queue_vector[VIRTIO_MAX_QUEUES];
    u8 isr;
    u8 window_capability; /* offset of the configuration access capability */
};

/* Gives the device, which virtio_init has made, a place on the bus: `slot`, or the first free
 * one for -1. False: no such slot, or it is taken. */
bool virtio_pci_plug(struct virtio_pci *transport, struct virtio *virtio, struct pci_host *host,
                     int slot);
void virtio_pci_unplug(struct virtio_pci *transport);
