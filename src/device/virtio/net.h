/* A virtio network device with one pair of queues (virtio 1.2, clause 5.1). */
#pragma once

#include "device/pci.h"
#include "platform/net.h"

struct virtio_net;

#define VIRTIO_NET_TYPE 1 /* 5.1.1 */

struct virtio_net_config {
    struct net_port *port; /* must outlive the device */
    u8 mac[6];
    u16 mtu;         /* told to the driver; 0: nothing is */
    bool packed;     /* packed virtqueues are offered */
    int slot;        /* of the bus, or -1 */
    const void *rom; /* expansion ROM, for firmware; NULL: none */
    u32 rom_size;
};

/* NULL: the slot is taken or the bus is full. */
struct virtio_net *virtio_net_create(struct board *board, struct pci_host *host,
                                     const struct virtio_net_config *config);

/* Plugs the cable in or out. Under the board lock. */
void virtio_net_set_link(struct virtio_net *net, bool up);
