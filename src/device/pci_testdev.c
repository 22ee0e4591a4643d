/* A PCI device that counts writes, see pci_testdev.h. */
#include "device/pci_testdev.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"

#define TESTS  3
#define NONE   0xff
#define DATA   0xfa
#define HEADER 16

enum { BAR_MEMORY, BAR_PORTS, BARS };

/* The upper half of a BAR is what tests write to. */
static const u32 bar_half[BARS] = {2048, 128};
static const char *const test_names[BARS][TESTS] = {
    {"mmio-no-eventfd", "mmio-wildcard-eventfd", "mmio-datamatch-eventfd"},
    {"portio-no-eventfd", "portio-wildcard-eventfd", "portio-datamatch-eventfd"},
};
#define DATA_MUST_MATCH 2 /* the test's number */

struct bar {
    struct pci_testdev *dev;
    unsigned number;
};

struct pci_testdev {
    struct pci_device pci;
    struct device device;
    struct bar bar[BARS];
    u8 test_bar, test; /* the one that was started; test NONE: none */
    u32 count;
};

static u32 test_offset(const struct pci_testdev *dev)
{
    return bar_half[dev->test_bar] + dev->test;
}

/* The header that the guest reads, which is the same in both BARs. */
static size_t make_header(const struct pci_testdev *dev, u8 header[64])
{
    const char *name = test_names[dev->test_bar][dev->test];
    u32 words[3] = {test_offset(dev), DATA, dev->count};
    memset(header, 0, 4);
    header[0] = dev->test;
    header[1] = 1;
    memcpy(header + 4, words, sizeof(words));
    memcpy(header + HEADER, name, strlen(name) + 1);
    return HEADER + strlen(name) + 1;
}

static u64 pci_testdev_read(void *opaque, u64 offset, unsigned size)
{
    const struct bar *bar = opaque;
    u8 header[64];
    u64 value = ~0ull;
    size_t length = bar->dev->test == NONE ? 0 : make_header(bar->dev, header);
    if (offset + size <= length)
        memcpy(&value, header + offset, size);
    return value;
}

static void pci_testdev_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    const struct bar *bar = opaque;
    struct pci_testdev *dev = bar->dev;
    if (!offset) {
        dev->test_bar = (u8)bar->number;
        dev->test = (u8)value < TESTS ? (u8)value : NONE;
        dev->count = 0;
    } else if (dev->test != NONE && dev->test_bar == bar->number &&
               offset == test_offset(dev) && size == 1 &&
               (dev->test != DATA_MUST_MATCH || (u8)value == DATA)) {
        dev->count++;
    }
}

static const struct bus_ops pci_testdev_ops = {pci_testdev_read, pci_testdev_write};

static void pci_testdev_reset(void *device)
{
    struct pci_testdev *dev = device;
    dev->test = NONE;
    dev->test_bar = 0;
    dev->count = 0;
}

static bool pci_testdev_post_load(void *device)
{
    const struct pci_testdev *dev = device;
    return dev->test_bar < BARS && (dev->test < TESTS || dev->test == NONE);
}

static void pci_testdev_destroy(void *device)
{
    struct pci_testdev *dev = device;
    pci_unplug(&dev->pci);
    free(dev);
}

static const struct field pci_testdev_fields[] = {
    FIELD(struct pci_testdev, test_bar),
    FIELD(struct pci_testdev, test),
    FIELD(struct pci_testdev, count),
};

static const struct device_class pci_testdev_class = {
    .name = "pci-testdev",
    .version = 1,
    .fields = pci_testdev_fields,
    .n_fields = ARRAY_LEN(pci_testdev_fields),
    .reset = pci_testdev_reset,
    .post_load = pci_testdev_post_load,
    .destroy = pci_testdev_destroy,
};

struct pci_testdev *pci_testdev_create(struct board *board, struct pci_host *host, int slot)
{
    static const struct pci_ids ids = {
        .vendor = 0x1b36,
        .device = 0x0005,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .class = 0x00ff00,
    };
    struct pci_testdev *dev = calloc(1, sizeof(*dev));
    ensure(dev);
    device_add(board, &dev->device, &pci_testdev_class, dev);
    pci_init(&dev->pci, "pci-testdev", &ids, NULL, dev);
    for (unsigned n = 0; n < BARS; n++) {
        dev->bar[n] = (struct bar){dev, n};
        pci_add_bar(&dev->pci, n, n == BAR_PORTS ? PCI_BAR_IO : PCI_BAR_MEM32, 2 * bar_half[n],
                    &pci_testdev_ops, &dev->bar[n], 4);
    }
    pci_testdev_reset(dev);
    return pci_plug(host, &dev->pci, slot) ? dev : NULL;
}
