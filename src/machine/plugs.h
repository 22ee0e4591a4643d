/*
 * What is plugged into the PC besides the board's own devices: disks, networks and other virtio
 * devices, each with its back end on the host.
 *
 * Threads: made and destroyed by the VM's main thread.
 */
#pragma once

#include "device/pci.h"
#include "host/block/image.h"
#include "host/loop.h"
#include "platform/board.h"

#define PLUGS_MAX_DISKS   16
#define PLUGS_MAX_DEVICES 26 /* what a bus of 32 slots has room for, with some left */

/* A -drive: an image, which a device may use. Strings must live as long as the VM. */
struct disk_config {
    char id[64]; /* "": none */
    char path[4096];
    char serial[64]; /* "": none */
    struct image_config image;
    bool used; /* a device has it */
};

enum plug_kind { PLUG_BLK };

/* A -device. */
struct plug_config {
    enum plug_kind kind;
    int slot;        /* on the bus, or -1 */
    unsigned disk;   /* PLUG_BLK: which of the disks */
    unsigned queues; /* PLUG_BLK; 0: as many as is good */
};

struct plugs_config {
    struct disk_config disks[PLUGS_MAX_DISKS];
    unsigned n_disks;
    struct plug_config devices[PLUGS_MAX_DEVICES];
    unsigned n_devices;
};

struct plugs {
    struct block_back *disks[PLUGS_MAX_DISKS];
};

/* Opens the back ends. False: *err says why; plugs_close takes what there is. */
bool plugs_open(struct plugs *plugs, const struct plugs_config *config, struct board *board,
                struct loop *loop, struct error *err);
/* After the devices are gone. */
void plugs_close(struct plugs *plugs);

/* Makes the devices. Under the board lock. */
bool plugs_create(struct plugs *plugs, const struct plugs_config *config, struct board *board,
                  struct pci_host *pci, struct error *err);
