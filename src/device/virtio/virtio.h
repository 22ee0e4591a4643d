/*
 * What all virtio devices have in common, whatever carries them: status, feature negotiation,
 * queues, configuration space, and the ways to interrupt the driver (virtio 1.2, clause 2 and
 * 3).
 *
 *   transport (pci.c) --virtio_write_status, virtio_notify...--> struct virtio --class-->
 * device device --virtio_push, virtio_signal, virtio_config_changed--> struct virtio --ops-->
 * transport
 *
 * Threads: under the board lock.
 */
#pragma once

#include "base/bits.h"
#include "device/virtio/ring.h"

#define VIRTIO_MAX_QUEUES 32

/* Device status (2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER      2
#define VIRTIO_STATUS_DRIVER_OK   4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED      128

/* Feature bits of every device (6). */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)
#define VIRTIO_F_RING_PACKED   BIT(34) /* offered where the device's user asks for it */

/* A kind of device: what its file ends with. `device` is the pointer given to virtio_init. */
struct virtio_class {
    const char *name;
    u16 type;      /* device ID (5) */
    u32 pci_class; /* as struct pci_ids has it */
    /* The driver announced chains in a queue; only while it is live (DRIVER_OK). */
    void (*notify)(void *device, unsigned queue);
    /* The driver writes the configuration; NULL: it is read-only. */
    void (*config_write)(void *device, u64 offset, unsigned size, u64 value);
    /* Features are settled; or the driver is live. May be NULL. */
    void (*features_ok)(void *device);
    void (*start)(void *device);
    /* Forget every chain. False: work for some is still under way, and virtio_stopped follows.
     * May be NULL. */
    bool (*stop)(void *device);
    /* Wait for what `stop` left under way, which calls virtio_stopped; may be NULL. */
    void (*drain)(void *device);
};

/* The transport's side. */
struct virtio_transport {
    void (*queue_interrupt)(void *transport, unsigned queue);
    void (*config_interrupt)(void *transport);
};

struct virtio {
    struct board *board;
    struct device device_state; /* below: offered features and status, as declared state */
    const struct virtio_class *class;
    void *device;
    const struct virtio_transport *transport;
    void *transport_opaque;

    u64 offered;  /* the device's features */
    u64 accepted; /* the driver's */
    u8 status;
    u8 generation; /* of the configuration (2.5.1) */
    bool stopping; /* a reset waits for work under way; the status still reads as before */
    u8 *config;    /* the device's configuration space, kept by the device */
    unsigned config_len;
    unsigned n_queues;
    struct virtq queues[VIRTIO_MAX_QUEUES];
};

/*
 * `offered` without the bits of clause 6, which virtio_init adds. `config` stays the device's.
 * The device enters itself with device_add before this: devices are destroyed last added first,
 * and its memory holds what is added here.
 */
void virtio_init(struct virtio *virtio, struct board *board, const struct virtio_class *class,
                 void *device, u64 offered, void *config, unsigned config_len, unsigned queues);
/* Waits for work under way; before the device's memory goes. */
void virtio_destroy(struct virtio *virtio);

/* -- For devices --------------------------------------------------------------------------- */

static inline bool virtio_has(const struct virtio *virtio, u64 feature)
{
    return virtio->accepted & feature;
}
static inline bool virtio_live(const struct virtio *virtio)
{
    return (virtio->status & VIRTIO_STATUS_DRIVER_OK) && !virtio->stopping &&
           !(virtio->status & VIRTIO_STATUS_NEEDS_RESET);
}

/* virtq_pop, but a malformed ring puts the device into the state of needing a reset. */
bool virtio_pop(struct virtio *virtio, unsigned queue, struct virtq_chain *chain);
/* Asks the driver for notifications. True: chains came while they were off, so that the caller
 * must look again, and virtio_pop will find them or fail; never of a device that has failed. */
bool virtio_more(struct virtio *virtio, unsigned queue);
/* Interrupts the driver if it wants that after chains were pushed. */
void virtio_signal(struct virtio *virtio, unsigned queue);
/* The device changed its configuration. */
void virtio_config_changed(struct virtio *virtio);
/* The driver did something that leaves the device no way on (2.1.2). */
void virtio_fail(struct virtio *virtio, const char *why);
/* What `stop` left under way is done. */
void virtio_stopped(struct virtio *virtio);

/* -- For transports ------------------------------------------------------------------------ */

/* The driver's features, low or high half; refused once they are settled. */
void virtio_accept(struct virtio *virtio, bool high, u32 features);
void virtio_write_status(struct virtio *virtio, u8 status);
void virtio_notify(struct virtio *virtio, unsigned queue);
void virtio_enable_queue(struct virtio *virtio, unsigned queue);
/* Bytes beyond the configuration read as zeroes. */
u64 virtio_config_read(const struct virtio *virtio, u64 offset, unsigned size);
void virtio_config_write(struct virtio *virtio, u64 offset, unsigned size, u64 value);
