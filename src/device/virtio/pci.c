/* Virtio over PCI, see pci.h. */
#include "device/virtio/pci.h"

#include <string.h>

#include "base/ensure.h"

#define PART_SIZE 0x1000u

/* Capability types (4.1.4). */
#define CAP_COMMON_CFG 1
#define CAP_NOTIFY_CFG 2
#define CAP_ISR_CFG    3
#define CAP_DEVICE_CFG 4
#define CAP_PCI_CFG    5

/* Offsets in a virtio_pci_cap (4.1.4), and what follows it in the longer ones. */
#define CAP_LEN    2
#define CAP_TYPE   3
#define CAP_BAR    4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_SIZE   16
#define CAP_EXTRA  16 /* notify_off_multiplier, or pci_cfg_data */

#define ISR_QUEUE  1
#define ISR_CONFIG 2

/* -- The common configuration (4.1.4.3) ---------------------------------------------------- */

struct common {
    u32 device_feature_select;
    u32 device_feature;
    u32 driver_feature_select;
    u32 driver_feature;
    u16 config_vector;
    u16 num_queues;
    u8 device_status;
    u8 config_generation;
    u16 queue_select;
    u16 queue_size;
    u16 queue_vector;
    u16 queue_enable;
    u16 queue_notify_off;
    u64 queue_desc;
    u64 queue_driver;
    u64 queue_device;
};
_Static_assert(sizeof(struct common) == 56, "virtio 4.1.4.3");

static struct virtq *selected(const struct virtio_pci *transport)
{
    struct virtio *virtio = transport->virtio;
    return transport->queue_select < virtio->n_queues ? &virtio->queues[transport->queue_select]
                                                      : NULL;
}

static u32 feature_half(u64 features, u32 select)
{
    return select < 2 ? (u32)(features >> 32 * select) : 0;
}

static struct common common_read(const struct virtio_pci *transport)
{
    const struct virtio *virtio = transport->virtio;
    struct common image = {
        .device_feature_select = transport->device_feature_select,
        .device_feature = feature_half(virtio->offered, transport->device_feature_select),
        .driver_feature_select = transport->driver_feature_select,
        .driver_feature = feature_half(virtio->accepted, transport->driver_feature_select),
        .config_vector = transport->config_vector,
        .num_queues = (u16)virtio->n_queues,
        .device_status = virtio->status,
        .config_generation = virtio->generation,
        .queue_select = transport->queue_select,
    };
    const struct virtq *queue = selected(transport);
    if (queue) {
        image.queue_size = queue->size;
        image.queue_vector = transport->queue_vector[transport->queue_select];
        image.queue_enable = queue->enabled;
        image.queue_notify_off = transport->queue_select;
        image.queue_desc = queue->descriptors;
        image.queue_driver = queue->driver;
        image.queue_device = queue->device_area;
    }
    return image;
}

/* A vector that the table has not is refused, which the driver sees as none (4.1.5.1.2.1). */
static u16 usable_vector(const struct virtio_pci *transport, u16 vector)
{
    return vector < transport->pci.msix.vectors ? vector : VIRTIO_NO_VECTOR;
}

static void set_device_feature_select(struct virtio_pci *transport, const struct common *image)
{
    transport->device_feature_select = image->device_feature_select;
}
static void set_driver_feature_select(struct virtio_pci *transport, const struct common *image)
{
    transport->driver_feature_select = image->driver_feature_select;
}
static void set_driver_feature(struct virtio_pci *transport, const struct common *image)
{
    if (transport->driver_feature_select < 2)
        virtio_accept(transport->virtio, transport->driver_feature_select == 1,
                      image->driver_feature);
}
static void set_config_vector(struct virtio_pci *transport, const struct common *image)
{
    transport->config_vector = usable_vector(transport, image->config_vector);
}
static void set_queue_select(struct virtio_pci *transport, const struct common *image)
{
    transport->queue_select = image->queue_select;
}
static void set_queue_vector(struct virtio_pci *transport, const struct common *image)
{
    if (selected(transport))
        transport->queue_vector[transport->queue_select] =
            usable_vector(transport, image->queue_vector);
}
static void set_queue_enable(struct virtio_pci *transport, const struct common *image)
{
    if (selected(transport) && image->queue_enable == 1)
        virtio_enable_queue(transport->virtio, transport->queue_select);
}
/* Size and places: fixed once the queue is enabled. virtq_enable judges them. */
static void set_queue_shape(struct virtio_pci *transport, const struct common *image)
{
    struct virtq *queue = selected(transport);
    if (!queue || queue->enabled)
        return;
    queue->size = image->queue_size;
    queue->descriptors = image->queue_desc;
    queue->driver = image->queue_driver;
    queue->device_area = image->queue_device;
}
static void reset_selections(struct virtio_pci *transport);

static void set_device_status(struct virtio_pci *transport, const struct common *image)
{
    if (!image->device_status)
        reset_selections(transport);
    virtio_write_status(transport->virtio, image->device_status);
}

/* The registers that a driver may write. Those not here are read-only. */
static const struct {
    u8 offset, size;
    void (*set)(struct virtio_pci *transport, const struct common *image);
} writable[] = {
#define WRITABLE(member, set)                                                                  \
    {                                                                                          \
        offsetof(struct common, member), sizeof(((struct common *)0)->member), set             \
    }
    WRITABLE(device_feature_select, set_device_feature_select),
    WRITABLE(driver_feature_select, set_driver_feature_select),
    WRITABLE(driver_feature, set_driver_feature),
    WRITABLE(config_vector, set_config_vector),
    WRITABLE(device_status, set_device_status),
    WRITABLE(queue_select, set_queue_select),
    WRITABLE(queue_size, set_queue_shape),
    WRITABLE(queue_vector, set_queue_vector),
    WRITABLE(queue_enable, set_queue_enable),
    WRITABLE(queue_desc, set_queue_shape),
    WRITABLE(queue_driver, set_queue_shape),
    WRITABLE(queue_device, set_queue_shape),
#undef WRITABLE
};

static void common_write(struct virtio_pci *transport, u64 offset, unsigned size, u64 value)
{
    struct common image = common_read(transport);
    if (offset + size > sizeof(image))
        return;
    memcpy((u8 *)&image + offset, &value, size);
    for (unsigned i = 0; i < ARRAY_LEN(writable); i++)
        if (offset < writable[i].offset + writable[i].size &&
            writable[i].offset < offset + size)
            writable[i].set(transport, &image);
}

/* -- BAR 4 --------------------------------------------------------------------------------- */

static u64 isr_read(struct virtio_pci *transport)
{
    u8 isr = transport->isr;
    transport->isr = 0;
    pci_set_intx(&transport->pci, false);
    return isr;
}

static u64 bar_read(void *opaque, u64 offset, unsigned size)
{
    struct virtio_pci *transport = opaque;
    u64 at = offset % PART_SIZE;
    u64 value = 0;
    struct common image;
    switch (offset / PART_SIZE) {
    case VIRTIO_PCI_COMMON:
        image = common_read(transport);
        if (at + size <= sizeof(image))
            memcpy(&value, (u8 *)&image + at, size);
        return value;
    case VIRTIO_PCI_ISR:
        return at == 0 ? isr_read(transport) : 0;
    case VIRTIO_PCI_DEVICE:
        return virtio_config_read(transport->virtio, at, size);
    default:
        return 0;
    }
}

static void bar_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct virtio_pci *transport = opaque;
    u64 at = offset % PART_SIZE;
    switch (offset / PART_SIZE) {
    case VIRTIO_PCI_COMMON:
        common_write(transport, at, size, value);
        break;
    case VIRTIO_PCI_DEVICE:
        virtio_config_write(transport->virtio, at, size, value);
        break;
    case VIRTIO_PCI_NOTIFY:
        virtio_notify(transport->virtio, (unsigned)(at / VIRTIO_PCI_NOTIFY_BY));
        break;
    default:
        break;
    }
}

static const struct bus_ops bar_ops = {bar_read, bar_write};

/* -- The window in configuration space (4.1.4.9), for firmware that cannot map the BAR ----- */

/* Whether an access to `offset` goes through the window; where to, then. */
static bool window_hit(const struct virtio_pci *transport, unsigned offset, u32 *to,
                       unsigned *size)
{
    const struct pci_device *pci = &transport->pci;
    unsigned cap = transport->window_capability;
    if (offset / 4 != (cap + CAP_EXTRA) / 4 || pci->config[cap + CAP_BAR] != VIRTIO_PCI_BAR)
        return false;
    *to = pci_get32(pci, cap + CAP_OFFSET);
    *size = pci_get32(pci, cap + CAP_LENGTH);
    return (*size == 1 || *size == 2 || *size == 4) && *to % *size == 0 &&
           *to < VIRTIO_PCI_PARTS * PART_SIZE;
}

static void config_read(void *opaque, unsigned offset, unsigned size)
{
    struct virtio_pci *transport = opaque;
    u32 to;
    unsigned width;
    if (window_hit(transport, offset, &to, &width))
        pci_set32(&transport->pci, transport->window_capability + CAP_EXTRA,
                  (u32)bar_read(transport, to, width));
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
    struct virtio_pci *transport = opaque;
    u32 to;
    unsigned width;
    if (window_hit(transport, offset, &to, &width))
        bar_write(transport, to, width,
                  pci_get32(&transport->pci, transport->window_capability + CAP_EXTRA) &
                      bits_low(8 * width));
}

static const struct pci_ops config_ops = {.config_read = config_read,
                                          .config_written = config_written};

/* -- Interrupts ---------------------------------------------------------------------------- */

static void interrupt(struct virtio_pci *transport, u16 vector, u8 isr)
{
    if (pci_msix_enabled(&transport->pci)) {
        pci_msix_notify(&transport->pci, vector);
        return;
    }
    transport->isr |= isr;
    pci_set_intx(&transport->pci, true);
}

static void queue_interrupt(void *opaque, unsigned queue)
{
    struct virtio_pci *transport = opaque;
    interrupt(transport, transport->queue_vector[queue], ISR_QUEUE);
}

static void config_interrupt(void *opaque)
{
    struct virtio_pci *transport = opaque;
    interrupt(transport, transport->config_vector, ISR_CONFIG);
}

static const struct virtio_transport pci_transport = {queue_interrupt, config_interrupt};

/* -- Life ---------------------------------------------------------------------------------- */

static void reset_selections(struct virtio_pci *transport)
{
    transport->device_feature_select = transport->driver_feature_select = 0;
    transport->queue_select = 0;
    transport->config_vector = VIRTIO_NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        transport->queue_vector[i] = VIRTIO_NO_VECTOR;
    transport->isr = 0;
    pci_set_intx(&transport->pci, false);
}

static void transport_reset(void *state)
{
    reset_selections(state);
}

static const struct field transport_fields[] = {
    FIELD(struct virtio_pci, device_feature_select),
    FIELD(struct virtio_pci, driver_feature_select),
    FIELD(struct virtio_pci, queue_select),
    FIELD(struct virtio_pci, config_vector),
    FIELD_ARRAY(struct virtio_pci, queue_vector),
    FIELD(struct virtio_pci, isr),
};

static const struct device_class transport_class = {
    .name = "virtio-pci",
    .version = 1,
    .fields = transport_fields,
    .n_fields = ARRAY_LEN(transport_fields),
    .reset = transport_reset,
};

/* `extra`: bytes after the common part. Returns where the capability lies. */
static u8 add_capability(struct virtio_pci *transport, u8 type, enum virtio_pci_part part,
                         u32 length, unsigned extra)
{
    struct pci_device *pci = &transport->pci;
    u8 cap = pci_add_capability(pci, PCI_CAP_VENDOR, CAP_SIZE + extra);
    pci->config[cap + CAP_LEN] = (u8)(CAP_SIZE + extra);
    pci->config[cap + CAP_TYPE] = type;
    if (type == CAP_PCI_CFG)
        return cap;
    pci->config[cap + CAP_BAR] = VIRTIO_PCI_BAR;
    pci_set32(pci, cap + CAP_OFFSET, part * PART_SIZE);
    pci_set32(pci, cap + CAP_LENGTH, length);
    return cap;
}

static void add_capabilities(struct virtio_pci *transport)
{
    struct pci_device *pci = &transport->pci;
    struct virtio *virtio = transport->virtio;
    add_capability(transport, CAP_COMMON_CFG, VIRTIO_PCI_COMMON, sizeof(struct common), 0);
    add_capability(transport, CAP_ISR_CFG, VIRTIO_PCI_ISR, 1, 0);
    if (virtio->config_len)
        add_capability(transport, CAP_DEVICE_CFG, VIRTIO_PCI_DEVICE, virtio->config_len, 0);
    u8 notify = add_capability(transport, CAP_NOTIFY_CFG, VIRTIO_PCI_NOTIFY,
                               VIRTIO_PCI_NOTIFY_BY * virtio->n_queues, 4);
    pci_set32(pci, notify + CAP_EXTRA, VIRTIO_PCI_NOTIFY_BY);
    u8 window = add_capability(transport, CAP_PCI_CFG, 0, 0, 4);
    pci->writable[window + CAP_BAR] = 0xff;
    memset(pci->writable + window + CAP_OFFSET, 0xff, 12); /* offset, length, data */
    transport->window_capability = window;
}

bool virtio_pci_plug(struct virtio_pci *transport, struct virtio *virtio, struct pci_host *host,
                     int slot)
{
    const struct pci_ids ids = {
        .vendor = VIRTIO_PCI_VENDOR,
        .device = VIRTIO_PCI_DEVICE(virtio->class->type),
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .class = virtio->class->pci_class,
        .revision = 1,
    };
    transport->virtio = virtio;
    virtio->transport = &pci_transport;
    virtio->transport_opaque = transport;
    pci_init(&transport->pci, virtio->class->name, &ids, &config_ops, transport);
    transport->pci.config[PCI_INTERRUPT_PIN] = 1; /* INTA# */
    pci_add_bar(&transport->pci, VIRTIO_PCI_BAR, PCI_BAR_MEM64, VIRTIO_PCI_PARTS * PART_SIZE,
                &bar_ops, transport, 8);
    if (transport->rom)
        pci_add_rom(&transport->pci, transport->rom, transport->rom_size);
    /* One for the configuration, one for each queue. */
    pci_add_msix(&transport->pci, VIRTIO_PCI_MSIX_BAR, virtio->n_queues + 1);
    add_capabilities(transport);
    if (!pci_plug(host, &transport->pci, slot))
        return false;
    device_add(virtio->board, &transport->device, &transport_class, transport);
    reset_selections(transport);
    return true;
}

void virtio_pci_unplug(struct virtio_pci *transport)
{
    pci_unplug(&transport->pci);
}
