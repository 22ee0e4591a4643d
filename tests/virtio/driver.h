/*
 * A virtio driver for tests: finds the device in PCI configuration space, maps its BAR, builds
 * rings in guest memory and talks to them as a guest would. Nothing here looks inside a device.
 */
#pragma once

#include "device/apic_bus.h"
#include "device/gsi.h"
#include "device/pci.h"
#include "platform/board.h"
#include "platform/ram.h"

#define DRIVER_QUEUES  4
#define DRIVER_SIZE    64 /* entries of a queue */
#define DRIVER_VERSION BIT(32)
#define DRIVER_EVENT   BIT(29)

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

/* A machine with nothing in it but a PCI bus. */
struct rig {
    struct log log;
    struct board board;
    struct gsi gsi;
    struct apic_bus *apic_bus;
    struct pci_host *host;
    u64 now; /* virtual ns */
};

void rig_init(struct rig *rig);
void rig_destroy(struct rig *rig);

/* Offsets of the common configuration. */
enum {
    COMMON_DEVICE_SELECT = 0,
    COMMON_DEVICE_FEATURE = 4,
    COMMON_DRIVER_SELECT = 8,
    COMMON_DRIVER_FEATURE = 12,
    COMMON_CONFIG_VECTOR = 16,
    COMMON_NUM_QUEUES = 18,
    COMMON_STATUS = 20,
    COMMON_GENERATION = 21,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY_OFF = 30,
    COMMON_QUEUE_DESC = 32,
    COMMON_QUEUE_DRIVER = 40,
    COMMON_QUEUE_DEVICE = 48,
};

struct driver {
    struct rig *rig;
    unsigned slot;
    u64 common, isr, config, notify; /* guest-physical */
    u64 msix;                        /* its table; PBA at +800h */
    u32 notify_multiplier;
    u8 window; /* the capability for configuration-space access */
    u64 features;
    struct {
        u64 desc, avail, used;
        u16 avail_idx, used_idx; /* next to offer; next to look at */
        u16 next_desc;
    } queue[DRIVER_QUEUES];
    u64 heap; /* guest memory not given out yet */
};

/* Finds the device in `slot`, with memory decoding on. */
void driver_find(struct driver *driver, struct rig *rig, unsigned slot);
/* The whole of 3.1.1: reset, status, features (of those offered), `queues` queues,
 * DRIVER_OK. */
void driver_start(struct driver *driver, u64 features, unsigned queues);
/* As driver_start up to DRIVER_OK, and that. */
void driver_set_up(struct driver *driver, u64 features, unsigned queues);
void driver_go(struct driver *driver);
/* As driver_start up to the features; returns the status. */
u8 driver_negotiate(struct driver *driver, u64 features);
void driver_setup_queue(struct driver *driver, unsigned queue);

u64 driver_read(struct driver *driver, u64 addr, unsigned size);
void driver_write(struct driver *driver, u64 addr, unsigned size, u64 value);
u32 driver_pci_read(struct driver *driver, unsigned offset, unsigned size);
void driver_pci_write(struct driver *driver, unsigned offset, unsigned size, u32 value);

/* MSI-X on, all vectors masked: an interrupt shows as a pending bit. */
void driver_enable_msix(struct driver *driver);
/* Whether vector `n` came; it is taken back by unmasking. */
bool driver_took_interrupt(struct driver *driver, unsigned n);

/* `len` bytes of guest memory, 16-byte aligned. */
u64 driver_alloc(struct driver *driver, u64 len);

struct piece {
    u64 addr;
    u32 len;
    bool in; /* the device writes */
};

/* Writes a chain into the descriptor table, through an indirect table if asked; its head. */
u16 driver_chain(struct driver *driver, unsigned queue, const struct piece *pieces, unsigned n,
                 bool indirect);
void driver_set_desc(struct driver *driver, unsigned queue, u16 n, u64 addr, u32 len, u16 flags,
                     u16 next);
/* Puts a head into the available ring and publishes it; does not notify. */
void driver_offer(struct driver *driver, unsigned queue, u16 head);
void driver_notify(struct driver *driver, unsigned queue);
/* The next used element, if there is one. */
bool driver_used(struct driver *driver, unsigned queue, u32 *id, u32 *len);
u16 driver_used_index(struct driver *driver, unsigned queue);
