/* A PCI device's configuration space and BARs, see pci.h. */
#include "device/pci.h"

#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"

#define STATUS_INTERRUPT    BIT(3)
#define STATUS_CAPABILITIES BIT(4)
#define STATUS_CLEARABLE    0xf900 /* error bits */

#define BAR_IO           BIT(0)
#define BAR_MEM64        BIT(2)
#define BAR_PREFETCH     BIT(3)
#define ROM_ENABLE       BIT(0)
#define ROM_MIN          (2 * KiB)
#define FIRST_CAPABILITY 0x40

u16 pci_get16(const struct pci_device *pci, unsigned offset)
{
    u16 value;
    memcpy(&value, pci->config + offset, sizeof(value));
    return value;
}

u32 pci_get32(const struct pci_device *pci, unsigned offset)
{
    u32 value;
    memcpy(&value, pci->config + offset, sizeof(value));
    return value;
}

void pci_set16(struct pci_device *pci, unsigned offset, u16 value)
{
    memcpy(pci->config + offset, &value, sizeof(value));
}

void pci_set32(struct pci_device *pci, unsigned offset, u32 value)
{
    memcpy(pci->config + offset, &value, sizeof(value));
}

static void pci_set_writable16(struct pci_device *pci, unsigned offset, u16 bits)
{
    memcpy(pci->writable + offset, &bits, sizeof(bits));
}

void pci_init(struct pci_device *pci, const char *name, const struct pci_ids *ids,
              const struct pci_ops *ops, void *opaque)
{
    memset(pci, 0, sizeof(*pci));
    pci->name = name;
    pci->ops = ops;
    pci->opaque = opaque;
    pci->next_capability = FIRST_CAPABILITY;
    pci_set16(pci, PCI_VENDOR, ids->vendor);
    pci_set16(pci, PCI_DEVICE, ids->device);
    pci_set16(pci, PCI_SUBSYSTEM_VENDOR, ids->subsystem_vendor);
    pci_set16(pci, PCI_SUBSYSTEM, ids->subsystem);
    pci_set32(pci, PCI_REVISION, ids->class << 8 | ids->revision);
    pci_set_writable16(pci, PCI_COMMAND, 0x0547);
    pci_set_writable16(pci, 0x0c, 0xffff); /* cache line size, latency timer */
    pci->writable[PCI_INTERRUPT_LINE] = 0xff;
    pci->clearable[PCI_STATUS + 1] = STATUS_CLEARABLE >> 8;
}

/* Where BAR `n` is in config[]. */
static unsigned pci_bar_register(unsigned n)
{
    return n == PCI_ROM_BAR ? PCI_ROM : PCI_BAR + 4 * n;
}

void pci_add_bar(struct pci_device *pci, unsigned n, enum pci_bar_kind kind, u64 size,
                 const struct bus_ops *ops, void *opaque, unsigned max_size)
{
    struct pci_bar *bar = &pci->bar[n];
    ensure(n < PCI_BARS && size >= (kind == PCI_BAR_IO ? 4 : 16) && !(size & (size - 1)));
    ensure(kind != PCI_BAR_MEM64 || n + 1 < PCI_BARS);
    bar->kind = kind;
    bar->size = size;
    bar->region = (struct bus_region){.name = pci->name,
                                      .ops = ops,
                                      .opaque = opaque,
                                      .size = size,
                                      .max_size = max_size,
                                      .space = kind == PCI_BAR_IO ? BUS_PIO : BUS_MMIO};
    unsigned offset = PCI_BAR + 4 * n;
    u64 writable = ~(size - 1);
    pci_set32(pci, offset, kind == PCI_BAR_IO ? BAR_IO : kind == PCI_BAR_MEM64 ? BAR_MEM64 : 0);
    memcpy(pci->writable + offset, &writable, kind == PCI_BAR_MEM64 ? 8 : 4);
}

static u64 pci_rom_read(void *opaque, u64 offset, unsigned size)
{
    const struct pci_device *pci = opaque;
    u64 value = ~0ull;
    if (offset < pci->rom_size)
        memcpy(&value, pci->rom + offset,
               size < pci->rom_size - offset ? size : pci->rom_size - offset);
    return value;
}

static const struct bus_ops pci_rom_ops = {.read = pci_rom_read};

void pci_add_rom(struct pci_device *pci, const void *image, u32 size)
{
    struct pci_bar *bar = &pci->bar[PCI_ROM_BAR];
    u64 room = ROM_MIN;
    while (room < size)
        room *= 2;
    pci->rom = image;
    pci->rom_size = size;
    bar->kind = PCI_BAR_MEM32;
    bar->size = room;
    bar->region = (struct bus_region){
        .name = pci->name, .ops = &pci_rom_ops, .opaque = pci, .size = room, .space = BUS_MMIO};
    u32 writable = (u32) ~(room - 1) | ROM_ENABLE;
    memcpy(pci->writable + PCI_ROM, &writable, sizeof(writable));
}

u8 pci_add_capability(struct pci_device *pci, u8 id, unsigned len)
{
    unsigned next = (unsigned)align_up(pci->next_capability + len, 4);
    u8 at = (u8)pci->next_capability;
    ensure(next <= sizeof(pci->config));
    /* At the end of the list, so that capabilities are met in the order they were added. */
    u8 *link = &pci->config[PCI_CAPABILITIES];
    while (*link)
        link = &pci->config[*link + 1];
    *link = at;
    pci->config[at] = id;
    pci->next_capability = (u16)next;
    pci->config[PCI_STATUS] |= STATUS_CAPABILITIES;
    return at;
}

bool pci_bus_master(const struct pci_device *pci)
{
    return pci_get16(pci, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* -- BARs ---------------------------------------------------------------------------------- */

static u64 pci_bar_address(const struct pci_device *pci, unsigned n)
{
    const struct pci_bar *bar = &pci->bar[n];
    u64 value = pci_get32(pci, pci_bar_register(n));
    if (bar->kind == PCI_BAR_MEM64)
        value |= (u64)pci_get32(pci, PCI_BAR + 4 * (n + 1)) << 32;
    return value & ~(bar->size - 1);
}

/* Whether the BAR decodes. Not at zero, which is "not assigned", nor at the end of its space,
 * where the all-ones of sizing put it. */
static bool pci_bar_decodes(const struct pci_device *pci, unsigned n, u64 addr)
{
    const struct pci_bar *bar = &pci->bar[n];
    u16 command = pci_get16(pci, PCI_COMMAND);
    u64 last = addr + bar->size - 1;
    if (!addr || last < addr)
        return false;
    if (n == PCI_ROM_BAR && !(pci->config[PCI_ROM] & ROM_ENABLE))
        return false;
    switch (bar->kind) {
    case PCI_BAR_IO:
        return (command & PCI_COMMAND_IO) && last < 0xffff;
    case PCI_BAR_MEM32:
        return (command & PCI_COMMAND_MEMORY) && last < 0xffffffff;
    default:
        return (command & PCI_COMMAND_MEMORY) && last != 0xffffffff && last != UINT64_MAX;
    }
}

static void pci_bar_moved(struct pci_device *pci, unsigned n, bool answers)
{
    struct pci_bar *bar = &pci->bar[n];
    bar->mapped = answers;
    if (pci->ops && pci->ops->bar_moved)
        pci->ops->bar_moved(pci->opaque, n, bar->region.base, answers);
}

/* Makes the bus agree with command register and BARs. */
static void map_bars(struct pci_device *pci)
{
    struct board *board = pci_host_board(pci->host);
    for (unsigned n = 0; n <= PCI_ROM_BAR; n++) {
        struct pci_bar *bar = &pci->bar[n];
        if (!bar->size)
            continue;
        u64 addr = pci_bar_address(pci, n);
        bool decodes = pci_bar_decodes(pci, n, addr);
        if (bar->mapped && (!decodes || bar->region.base != addr)) {
            bus_remove(board, &bar->region);
            pci_bar_moved(pci, n, false);
        }
        if (decodes && !bar->mapped) {
            bar->region.base = addr;
            bus_add(board, &bar->region);
            pci_bar_moved(pci, n, true);
        }
    }
}

static void pci_unmap_bars(struct pci_device *pci)
{
    for (unsigned n = 0; n <= PCI_ROM_BAR; n++) {
        if (!pci->bar[n].mapped)
            continue;
        bus_remove(pci_host_board(pci->host), &pci->bar[n].region);
        pci_bar_moved(pci, n, false);
    }
}

/* -- Configuration accesses ---------------------------------------------------------------- */

u32 pci_config_read(struct pci_device *pci, unsigned offset, unsigned size)
{
    if (offset >= FIRST_CAPABILITY && pci->ops && pci->ops->config_read)
        pci->ops->config_read(pci->opaque, offset, size);
    u32 value = 0;
    memcpy(&value, pci->config + offset, size);
    return value;
}

static bool pci_overlaps(unsigned offset, unsigned size, unsigned first, unsigned len)
{
    return offset < first + len && first < offset + size;
}

void pci_config_write(struct pci_device *pci, unsigned offset, unsigned size, u32 value)
{
    for (unsigned i = 0; i < size; i++) {
        u8 byte = (u8)(value >> 8 * i), *reg = &pci->config[offset + i];
        u8 writable = pci->writable[offset + i];
        *reg = (u8)((*reg & ~writable) | (byte & writable));
        *reg &= ~(byte & pci->clearable[offset + i]);
    }
    if (pci_overlaps(offset, size, PCI_COMMAND, 2)) {
        map_bars(pci);
        pci_host_update_intx(pci->host);
    } else if (pci_overlaps(offset, size, PCI_BAR, 4 * PCI_BARS) ||
               pci_overlaps(offset, size, PCI_ROM, 4)) {
        map_bars(pci);
    }
    if (pci->msix.vectors && pci_overlaps(offset, size, pci->msix.capability, 4))
        pci_msix_update(pci);
    if (offset >= FIRST_CAPABILITY && pci->ops && pci->ops->config_written)
        pci->ops->config_written(pci->opaque, offset, size);
}

/* -- INTx ---------------------------------------------------------------------------------- */

void pci_set_intx(struct pci_device *pci, bool level)
{
    if (pci->intx == level)
        return;
    pci->intx = level;
    if (level)
        pci->config[PCI_STATUS] |= STATUS_INTERRUPT;
    else
        pci->config[PCI_STATUS] &= ~STATUS_INTERRUPT;
    pci_host_update_intx(pci->host);
}

/* -- State --------------------------------------------------------------------------------- */

static void pci_reset(void *device)
{
    struct pci_device *pci = device;
    memcpy(pci->config, pci->initial, sizeof(pci->config));
    pci->intx = false;
    pci_msix_reset(pci);
    map_bars(pci);
    pci_host_update_intx(pci->host);
}

/* Whatever was loaded, read-only bytes stay what the device is. */
static bool pci_post_load(void *device)
{
    struct pci_device *pci = device;
    for (unsigned i = 0; i < sizeof(pci->config); i++) {
        u8 loadable = pci->writable[i] | pci->clearable[i];
        pci->config[i] = (u8)((pci->initial[i] & ~loadable) | (pci->config[i] & loadable));
    }
    if (pci->intx)
        pci->config[PCI_STATUS] |= STATUS_INTERRUPT;
    map_bars(pci);
    pci_host_update_intx(pci->host);
    if (pci->ops && pci->ops->config_loaded)
        pci->ops->config_loaded(pci->opaque);
    return true;
}

void pci_unplug(struct pci_device *pci)
{
    pci_unmap_bars(pci);
}

static const struct field pci_fields[] = {
    FIELD_BLOB(struct pci_device, config),
    FIELD(struct pci_device, intx),
    FIELD_BLOB(struct pci_device, msix.table),
    FIELD(struct pci_device, msix.pending),
};

/* Its memory is part of the device that embeds it, which destroys it with pci_unplug. */
static const struct device_class pci_class = {
    .name = "pci",
    .version = 1,
    .fields = pci_fields,
    .n_fields = ARRAY_LEN(pci_fields),
    .reset = pci_reset,
    .post_load = pci_post_load,
};

void pci_enter(struct pci_host *host, struct pci_device *pci)
{
    pci->host = host;
    memcpy(pci->initial, pci->config, sizeof(pci->initial));
    device_add(pci_host_board(host), &pci->device, &pci_class, pci);
    pci_msix_reset(pci);
}
