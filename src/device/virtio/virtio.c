/* What all virtio devices have in common, see virtio.h. */
#include "device/virtio/virtio.h"

#include <string.h>

#include "base/ensure.h"

/* -- For devices --------------------------------------------------------------------------- */

void virtio_fail(struct virtio *virtio, const char *why)
{
    log_to(virtio->board->log, LOG_GUEST_ERRORS, "%s: needs a reset: %s", virtio->class->name,
           why);
    if (virtio->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    virtio->status |= VIRTIO_STATUS_NEEDS_RESET;
    /* 2.1.2: only a driver that is live hears of it. */
    if (virtio->status & VIRTIO_STATUS_DRIVER_OK)
        virtio_config_changed(virtio);
}

bool virtio_pop(struct virtio *virtio, unsigned queue, struct virtq_chain *chain)
{
    if (!virtio_live(virtio))
        return false;
    if (virtq_pop(&virtio->queues[queue], chain))
        return true;
    if (virtio->queues[queue].broken)
        virtio_fail(virtio, "malformed queue");
    return false;
}

bool virtio_more(struct virtio *virtio, unsigned queue)
{
    return virtio_live(virtio) && virtq_want_notify(&virtio->queues[queue], true);
}

void virtio_signal(struct virtio *virtio, unsigned queue)
{
    if (virtio_live(virtio) && virtq_wants_interrupt(&virtio->queues[queue]))
        virtio->transport->queue_interrupt(virtio->transport_opaque, queue);
}

void virtio_config_changed(struct virtio *virtio)
{
    virtio->generation++;
    if (virtio->status & VIRTIO_STATUS_DRIVER_OK)
        virtio->transport->config_interrupt(virtio->transport_opaque);
}

/* -- Reset --------------------------------------------------------------------------------- */

static void virtio_clear(struct virtio *virtio)
{
    virtio->accepted = 0;
    virtio->status = 0;
    virtio->stopping = false;
    for (unsigned i = 0; i < virtio->n_queues; i++)
        virtq_reset(&virtio->queues[i]);
}

void virtio_stopped(struct virtio *virtio)
{
    if (virtio->stopping)
        virtio_clear(virtio);
}

/* Until the device is done with the driver's memory, the status does not read 0 (2.4.1). */
static void virtio_stop(struct virtio *virtio)
{
    virtio->stopping = true;
    if (!virtio->class->stop || virtio->class->stop(virtio->device))
        virtio_clear(virtio);
}

static void virtio_reset_line(void *state)
{
    struct virtio *virtio = state;
    virtio_stop(virtio);
    if (virtio->stopping)
        virtio->class->drain(virtio->device);
    ensure(!virtio->stopping);
}

/* -- For transports ------------------------------------------------------------------------ */

void virtio_accept(struct virtio *virtio, bool high, u32 features)
{
    if (virtio->status & VIRTIO_STATUS_FEATURES_OK)
        return;
    u64 other = virtio->accepted & (high ? bits_low(32) : ~bits_low(32));
    virtio->accepted = other | (u64)features << (high ? 32 : 0);
}

/* A subset of what is offered; and this device speaks nothing older than version 1. */
static bool virtio_acceptable(const struct virtio *virtio)
{
    return !(virtio->accepted & ~virtio->offered) && virtio_has(virtio, VIRTIO_F_VERSION_1);
}

static bool virtio_rises(const struct virtio *virtio, u8 status, u8 bit)
{
    return (status & bit) && !(virtio->status & bit);
}

void virtio_write_status(struct virtio *virtio, u8 status)
{
    if (virtio->stopping)
        return;
    if (!status) {
        virtio_stop(virtio);
        return;
    }
    if (virtio_rises(virtio, status, VIRTIO_STATUS_FEATURES_OK)) {
        if (!virtio_acceptable(virtio))
            status &= (u8)~VIRTIO_STATUS_FEATURES_OK;
        else if (virtio->class->features_ok)
            virtio->class->features_ok(virtio->device);
    }
    if (!(status & VIRTIO_STATUS_FEATURES_OK))
        status &= (u8)~VIRTIO_STATUS_DRIVER_OK;
    bool start = virtio_rises(virtio, status, VIRTIO_STATUS_DRIVER_OK);
    u8 needs_reset = virtio->status & VIRTIO_STATUS_NEEDS_RESET;
    virtio->status = (u8)(status & ~VIRTIO_STATUS_NEEDS_RESET) | needs_reset;
    if (start && virtio->class->start)
        virtio->class->start(virtio->device);
}

void virtio_notify(struct virtio *virtio, unsigned queue)
{
    if (queue < virtio->n_queues && virtio_live(virtio) && virtio->queues[queue].enabled)
        virtio->class->notify(virtio->device, queue);
}

void virtio_enable_queue(struct virtio *virtio, unsigned queue)
{
    struct virtq *q = &virtio->queues[queue];
    if (q->enabled || virtio->stopping)
        return;
    q->event_index = virtio_has(virtio, VIRTIO_F_EVENT_IDX);
    q->packed = virtio_has(virtio, VIRTIO_F_RING_PACKED);
    if (!virtq_enable(q))
        virtio_fail(virtio, "malformed queue");
}

u64 virtio_config_read(const struct virtio *virtio, u64 offset, unsigned size)
{
    u64 value = 0;
    if (offset < virtio->config_len) {
        u64 room = virtio->config_len - offset;
        memcpy(&value, virtio->config + offset, size < room ? size : room);
    }
    return value;
}

void virtio_config_write(struct virtio *virtio, u64 offset, unsigned size, u64 value)
{
    if (virtio->class->config_write && offset + size <= virtio->config_len)
        virtio->class->config_write(virtio->device, offset, size, value);
}

/* -- Life ---------------------------------------------------------------------------------- */

static bool virtio_post_load(void *state)
{
    const struct virtio *virtio = state;
    return !(virtio->status & VIRTIO_STATUS_FEATURES_OK) || virtio_acceptable(virtio);
}

static const struct field virtio_fields[] = {
    FIELD(struct virtio, accepted),
    FIELD(struct virtio, status),
    FIELD(struct virtio, generation),
};

static const struct device_class virtio_state_class = {
    .name = "virtio",
    .version = 1,
    .fields = virtio_fields,
    .n_fields = ARRAY_LEN(virtio_fields),
    .reset = virtio_reset_line,
    .post_load = virtio_post_load,
};

void virtio_init(struct virtio *virtio, struct board *board, const struct virtio_class *class,
                 void *device, u64 offered, void *config, unsigned config_len, unsigned queues)
{
    ensure(queues && queues <= VIRTIO_MAX_QUEUES);
    virtio->board = board;
    virtio->class = class;
    virtio->device = device;
    virtio->offered =
        offered | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
    virtio->config = config;
    virtio->config_len = config_len;
    virtio->n_queues = queues;
    device_add(board, &virtio->device_state, &virtio_state_class, virtio);
    for (unsigned i = 0; i < queues; i++)
        virtq_create(&virtio->queues[i], board);
}

void virtio_destroy(struct virtio *virtio)
{
    virtio_reset_line(virtio);
}
