/*
 * The PCI host bridge of a PC: configuration mechanism 1 (PCI 3.0, 3.2.2.3.2), i440FX and PIIX3
 * in the little that software looks at, and the way of INTx to the interrupt controllers.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "device/apic_bus.h"
#include "device/gsi.h"
#include "device/pci.h"

#define CONFIG_ENABLE BIT(31)

#define PAM          0x59 /* i440FX: PAM0..PAM6 */
#define DRB          0x60 /* i440FX: the ends of eight rows of memory */
#define DRBS         8
#define PIRQS        4
#define PIRQRC       0x60 /* PIIX3: PIRQ route control, bit 7 off, bits 3:0 the ISA IRQ */
#define PIRQRC_OFF   BIT(7)
#define PIRQ_ALLOWED 0xdef8 /* IRQs 3-7, 9-12, 14, 15 */

static const u8 pirq_initial[PIRQS] = {10, 10, 11, 11};

/* i440FX data sheet (290549), 3.2: what is not zero after a reset */
static const struct {
    u8 reg, value;
} i440fx_initial[] = {
    {0x53, 0x80}, /* DBC: data buffer control */
    {0x57, 0x01}, /* DRAMC: type of memory and refresh */
    {0x58, 0x10}, /* DRAMT: its timing */
    {0x71, 0x10}, /* CLT: the processor's latency timer */
    {0x72, 0x02}, /* SMRAM: at A0000h, and closed */
};

struct pci_host {
    struct device device;
    struct board *board;
    struct gsi *gsi;
    struct apic_bus *apic_bus;
    struct bus_region address_region, data_region;
    struct pci_device *function[PCI_SLOTS * PCI_FUNCTIONS]; /* by slot << 3 | function */
    struct pci_device bridge, isa;
    struct pam *pam;
    u16 driven;  /* ISA IRQs that INTx holds up now */
    u32 address; /* CF8h */
};

struct board *pci_host_board(const struct pci_host *host)
{
    return host->board;
}

const struct pci_device *pci_host_device(const struct pci_host *host, unsigned slot,
                                         unsigned function)
{
    return host->function[slot * PCI_FUNCTIONS + function];
}

void pci_host_msi(struct pci_host *host, u64 addr, u32 data)
{
    apic_msi(host->apic_bus, addr, data);
}

/* -- INTx ---------------------------------------------------------------------------------- */

int pci_host_irq(const struct pci_host *host, unsigned slot, unsigned pin)
{
    u8 route = host->isa.config[PIRQRC + ((slot + PIRQS - 1 + pin) % PIRQS)];
    bool on = !(route & PIRQRC_OFF) && (PIRQ_ALLOWED & BIT(route & 15));
    return on ? route & 15 : -1;
}

/* Wires are shared: an IRQ is up while any device routed to it asks. */
void pci_host_update_intx(struct pci_host *host)
{
    u16 wanted = 0;
    for (unsigned devfn = 0; devfn < ARRAY_LEN(host->function); devfn++) {
        const struct pci_device *pci = host->function[devfn];
        if (!pci || !pci->intx || (pci_get16(pci, PCI_COMMAND) & PCI_COMMAND_NO_INT))
            continue;
        int irq = pci_host_irq(host, devfn / PCI_FUNCTIONS, 0);
        if (irq >= 0)
            wanted |= BIT(irq);
    }
    u16 changed = wanted ^ host->driven;
    host->driven = wanted;
    for (unsigned irq = 0; irq < 16; irq++) {
        if (!(changed & BIT(irq)))
            continue;
        struct irq_line line = gsi_line(host->gsi, irq);
        irq_set(&line, wanted & BIT(irq));
    }
}

static void pci_isa_written(void *opaque, unsigned offset, unsigned size)
{
    pci_host_update_intx(opaque);
}

static const struct pci_ops pci_isa_ops = {.config_written = pci_isa_written};

/* -- Shadow memory ------------------------------------------------------------------------- */

static void pci_bridge_written(void *opaque, unsigned offset, unsigned size)
{
    struct pci_host *host = opaque;
    pam_apply(host->pam, host->bridge.config + PAM);
}

static const struct pci_ops pci_bridge_ops = {.config_written = pci_bridge_written};

void pci_host_shadow(struct pci_host *host, bool firmware)
{
    memset(host->bridge.config + PAM, firmware ? 0 : PAM_ALL_RAM, PAM_REGISTERS);
    pam_apply(host->pam, host->bridge.config + PAM);
}

struct pci_shadow pci_host_shadowed(const struct pci_host *host)
{
    struct pci_shadow shadow;
    memcpy(shadow.pam, host->bridge.config + PAM, sizeof(shadow.pam));
    return shadow;
}

void pci_host_shadow_again(struct pci_host *host, struct pci_shadow shadow)
{
    memcpy(host->bridge.config + PAM, shadow.pam, sizeof(shadow.pam));
    pam_apply(host->pam, host->bridge.config + PAM);
}

/* -- Configuration mechanism 1 ------------------------------------------------------------- */

static u64 pci_host_read_address(void *opaque, u64 offset, unsigned size)
{
    const struct pci_host *host = opaque;
    /* Only a dword is the register; narrower accesses go to whatever else is there. */
    return size == 4 && !offset ? host->address : bits_low(8 * size);
}

static void pci_host_write_address(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pci_host *host = opaque;
    if (size == 4 && !offset)
        host->address = value & 0x80fffffc;
}

static const struct bus_ops pci_host_address_ops = {pci_host_read_address,
                                                    pci_host_write_address};

/* The device that CF8h names, or NULL: only bus 0. */
static struct pci_device *pci_host_target(const struct pci_host *host)
{
    u32 address = host->address;
    if (!(address & CONFIG_ENABLE) || bits(address, 23, 16))
        return NULL;
    return host->function[bits(address, 15, 8)];
}

static u64 pci_host_read_data(void *opaque, u64 offset, unsigned size)
{
    struct pci_host *host = opaque;
    struct pci_device *pci = pci_host_target(host);
    if (!pci)
        return bits_low(8 * size);
    return pci_config_read(pci, (host->address & 0xfc) + (unsigned)offset, size);
}

static void pci_host_write_data(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pci_host *host = opaque;
    struct pci_device *pci = pci_host_target(host);
    if (pci)
        pci_config_write(pci, (host->address & 0xfc) + (unsigned)offset, size, (u32)value);
}

static const struct bus_ops pci_host_data_ops = {pci_host_read_data, pci_host_write_data};

/* -- Slots --------------------------------------------------------------------------------- */

bool pci_plug_function(struct pci_host *host, struct pci_device *pci, unsigned slot,
                       unsigned function)
{
    unsigned devfn = slot * PCI_FUNCTIONS + function;
    if (slot >= PCI_SLOTS || host->function[devfn])
        return false;
    host->function[devfn] = pci;
    pci->devfn = (u8)devfn;
    pci_enter(host, pci);
    return true;
}

int pci_host_free_slot(const struct pci_host *host)
{
    for (int slot = 0; slot < PCI_SLOTS; slot++)
        if (!host->function[slot * PCI_FUNCTIONS])
            return slot;
    return -1;
}

bool pci_plug(struct pci_host *host, struct pci_device *pci, int slot)
{
    if (slot < 0)
        slot = pci_host_free_slot(host);
    return slot >= 0 && pci_plug_function(host, pci, (unsigned)slot, 0);
}

static u64 pci_host_assign_bar(struct pci_device *pci, unsigned n, u64 *next, u64 end)
{
    u64 size = pci->bar[n].size, at = align_up(*next, size);
    if (at + size > end)
        return 0; /* no room: stays unassigned, which guests know how to mend */
    *next = at + size;
    pci_config_write(pci, n == PCI_ROM_BAR ? PCI_ROM : PCI_BAR + 4 * n, 4, (u32)at);
    if (pci->bar[n].kind == PCI_BAR_MEM64)
        pci_config_write(pci, PCI_BAR + 4 * (n + 1), 4, (u32)(at >> 32));
    return at;
}

void pci_host_assign(struct pci_host *host)
{
    u64 next_io = PCI_IO_BASE, next_mmio = PCI_MMIO_BASE;
    for (unsigned devfn = 0; devfn < ARRAY_LEN(host->function); devfn++) {
        struct pci_device *pci = host->function[devfn];
        u16 enable = 0;
        for (unsigned n = 0; pci && n <= PCI_ROM_BAR; n++) {
            if (!pci->bar[n].size)
                continue;
            bool io = pci->bar[n].kind == PCI_BAR_IO;
            if (pci_host_assign_bar(pci, n, io ? &next_io : &next_mmio,
                                    io ? PCI_IO_END : PCI_MMIO_END))
                enable |= io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
        }
        if (!pci)
            continue;
        pci_config_write(pci, PCI_COMMAND, 2, pci_get16(pci, PCI_COMMAND) | enable);
        if (pci->config[PCI_INTERRUPT_PIN])
            pci->config[PCI_INTERRUPT_LINE] = (u8)pci_host_irq(host, devfn / PCI_FUNCTIONS, 0);
    }
}

/* -- The device ---------------------------------------------------------------------------- */

static void pci_host_reset(void *device)
{
    struct pci_host *host = device;
    host->address = 0;
}

static void pci_host_destroy(void *device)
{
    struct pci_host *host = device;
    bus_remove(host->board, &host->address_region);
    bus_remove(host->board, &host->data_region);
    free(host);
}

static const struct field pci_host_fields[] = {
    FIELD(struct pci_host, address),
};

static const struct device_class pci_host_class = {
    .name = "pci-host",
    .version = 1,
    .fields = pci_host_fields,
    .n_fields = ARRAY_LEN(pci_host_fields),
    .reset = pci_host_reset,
    .destroy = pci_host_destroy,
};

static void pci_host_build_bridges(struct pci_host *host)
{
    static const struct pci_ids bridge = {0x8086, 0x1237, 0x1af4, 0x1100, 0x060000, 2};
    static const struct pci_ids isa = {0x8086, 0x7000, 0x1af4, 0x1100, 0x060100, 0};
    pci_init(&host->bridge, "i440fx", &bridge, &pci_bridge_ops, host);
    for (unsigned i = 0; i < ARRAY_LEN(i440fx_initial); i++)
        host->bridge.config[i440fx_initial[i].reg] = i440fx_initial[i].value;
    memset(host->bridge.config + DRB, 0x01, DRBS);
    pci_set16(&host->bridge, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    memset(host->bridge.writable + PCI_COMMAND, 0, 2); /* both of them always */
    pci_set16(&host->bridge, PCI_STATUS, 0x0280);
    memset(host->bridge.config + PAM, PAM_ALL_RAM, PAM_REGISTERS);
    memset(host->bridge.writable + PAM, PAM_ALL_RAM, PAM_REGISTERS);
    pci_init(&host->isa, "piix3", &isa, &pci_isa_ops, host);
    host->isa.config[PCI_HEADER_TYPE] = PCI_MULTIFUNCTION;
    memcpy(host->isa.config + PIRQRC, pirq_initial, sizeof(pirq_initial));
    memset(host->isa.writable + PIRQRC, 0x8f, PIRQS);
    ensure(pci_plug(host, &host->bridge, 0) && pci_plug(host, &host->isa, PCI_ISA_SLOT));
}

struct pci_host *pci_host_create(struct board *board, struct gsi *gsi, struct apic_bus *bus)
{
    struct pci_host *host = calloc(1, sizeof(*host));
    ensure(host);
    host->board = board;
    host->gsi = gsi;
    host->apic_bus = bus;
    host->address_region = (struct bus_region){.name = "pci-address",
                                               .ops = &pci_host_address_ops,
                                               .opaque = host,
                                               .base = 0xcf8,
                                               .size = 4,
                                               .max_size = 4,
                                               .space = BUS_PIO};
    host->data_region = (struct bus_region){.name = "pci-data",
                                            .ops = &pci_host_data_ops,
                                            .opaque = host,
                                            .base = 0xcfc,
                                            .size = 4,
                                            .max_size = 4,
                                            .space = BUS_PIO};
    bus_add(board, &host->address_region);
    bus_add(board, &host->data_region);
    device_add(board, &host->device, &pci_host_class, host);
    host->pam = pam_create(board);
    pci_host_build_bridges(host);
    return host;
}
