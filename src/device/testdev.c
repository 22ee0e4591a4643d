/* Scratch registers and interrupt wires for conformance suites, see testdev.h. */
#include "device/testdev.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "platform/device.h"

#define MEMORY_BASE 0xff000000u
#define MEMORY_SIZE (64 * KiB)

enum { REGION_PORTS, REGION_FLUSH, REGION_BYTES, REGION_LINES, REGION_MEMORY, REGIONS };

struct testdev {
    struct device device;
    struct board *board;
    struct gsi *gsi;
    struct bus_region region[REGIONS];
    u8 ports[4];
    u8 memory[MEMORY_SIZE];
};

/* Values are little-endian; accesses beyond the end are cut by the bus. */
static u64 load(const u8 *from, unsigned size)
{
    u64 value = 0;
    memcpy(&value, from, size);
    return value;
}

static u64 ports_read(void *opaque, u64 offset, unsigned size)
{
    return load(((struct testdev *)opaque)->ports + offset, size);
}

static void ports_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    memcpy(((struct testdev *)opaque)->ports + offset, &value, size);
}

static u64 memory_read(void *opaque, u64 offset, unsigned size)
{
    return load(((struct testdev *)opaque)->memory + offset, size);
}

static void memory_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    memcpy(((struct testdev *)opaque)->memory + offset, &value, size);
}

static u64 nothing_read(void *opaque, u64 offset, unsigned size)
{
    return 0;
}

/* Shadow entries follow the guest's TLB rules by themselves: there is nothing to flush that the
 * guest could tell. */
static void flush_write(void *opaque, u64 offset, unsigned size, u64 value) {}

static void lines_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct testdev *dev = opaque;
    if (offset == 2) /* the cascade is no wire */
        return;
    struct irq_line line = gsi_line(dev->gsi, (unsigned)offset);
    irq_set(&line, value & 1);
}

static const struct bus_ops ports_ops = {ports_read, ports_write};
static const struct bus_ops flush_ops = {nothing_read, flush_write};
static const struct bus_ops lines_ops = {nothing_read, lines_write};
static const struct bus_ops memory_ops = {memory_read, memory_write};

static const struct bus_region regions[REGIONS] = {
    [REGION_PORTS] = {"testdev-ports", &ports_ops, NULL, 0xe0, 4, 4, BUS_PIO, NULL},
    [REGION_FLUSH] = {"testdev-flush", &flush_ops, NULL, 0xe4, 4, 4, BUS_PIO, NULL},
    [REGION_BYTES] = {"testdev-bytes", &ports_ops, NULL, 0xe8, 4, 1, BUS_PIO, NULL},
    [REGION_LINES] = {"testdev-lines", &lines_ops, NULL, 0x2000, IOAPIC_PINS, 1, BUS_PIO, NULL},
    [REGION_MEMORY] = {"testdev-memory", &memory_ops, NULL, MEMORY_BASE, MEMORY_SIZE, 8,
                       BUS_MMIO, NULL},
};

static void testdev_destroy(void *device)
{
    struct testdev *dev = device;
    for (unsigned i = 0; i < REGIONS; i++)
        bus_remove(dev->board, &dev->region[i]);
    free(dev);
}

static const struct field testdev_fields[] = {
    FIELD_BLOB(struct testdev, ports),
    FIELD_BLOB(struct testdev, memory),
};

static const struct device_class testdev_class = {
    .name = "pc-testdev",
    .version = 1,
    .fields = testdev_fields,
    .n_fields = ARRAY_LEN(testdev_fields),
    .destroy = testdev_destroy,
};

struct testdev *testdev_create(struct board *board, struct gsi *gsi)
{
    struct testdev *dev = calloc(1, sizeof(*dev));
    ensure(dev);
    dev->board = board;
    dev->gsi = gsi;
    for (unsigned i = 0; i < REGIONS; i++) {
        dev->region[i] = regions[i];
        dev->region[i].opaque = dev;
        bus_add(board, &dev->region[i]);
    }
    device_add(board, &dev->device, &testdev_class, dev);
    return dev;
}
