/* The MultiProcessor tables, see mp.h. Offsets are those of the specification's tables. */
#include "machine/mp.h"

#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "machine/acpi.h"

#define POINTER_SIZE 16
#define HEADER_SIZE  44
#define LAPIC_BASE   0xfee00000u
#define SPEC_REV     4 /* 1.4 */
#define PCI_SLOTS    32

/* Entry types (4.3) and buses' and APICs' numbers. */
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { BUS_PCI, BUS_ISA };
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTINT };
#define IOAPIC_ID  0
#define ALL_LAPICS 0xff
#define LEVEL_HIGH (1u | 3u << 2) /* as the ACPI tables have PCI's interrupts */

#define CPU_ENABLED   BIT(0)
#define CPU_BOOTSTRAP BIT(1)

struct mp {
    u8 *buf;
    size_t at;
    unsigned entries;
};

static u8 *entry(struct mp *mp, u8 type, unsigned size)
{
    u8 *at = mp->buf + mp->at;
    ensure(mp->at + size <= MP_MAX_SIZE);
    at[0] = type;
    mp->at += size;
    mp->entries++;
    return at;
}

static void put32(u8 *at, u32 value)
{
    memcpy(at, &value, 4);
}

static void put_cpu(struct mp *mp, const struct mp_config *config, unsigned n)
{
    u8 *cpu = entry(mp, ENTRY_CPU, 20);
    cpu[1] = (u8)n;
    cpu[2] = 0x14; /* local APIC version */
    cpu[3] = n ? CPU_ENABLED : CPU_ENABLED | CPU_BOOTSTRAP;
    put32(cpu + 4, config->cpu_signature);
    put32(cpu + 8, config->cpu_features);
}

static void put_bus(struct mp *mp, u8 id, const char *name)
{
    u8 *bus = entry(mp, ENTRY_BUS, 8);
    bus[1] = id;
    memcpy(bus + 2, name, 6);
}

/* Both kinds of interrupt entry have this shape. */
static void put_interrupt(struct mp *mp, u8 entry_type, u8 kind, u8 flags, u8 bus, u8 irq,
                          u8 apic, u8 pin)
{
    const u8 fields[8] = {entry_type, kind, flags, 0, bus, irq, apic, pin};
    memcpy(entry(mp, entry_type, sizeof(fields)), fields, sizeof(fields));
}

static void put_interrupts(struct mp *mp, const struct acpi_config *board)
{
    u16 pci = 0;
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            u8 irq = board->pci_irq[slot][pin];
            pci |= (u16)(1u << irq);
            put_interrupt(mp, ENTRY_INTERRUPT, INT_VECTORED, LEVEL_HIGH, BUS_PCI,
                          (u8)(slot << 2 | pin), IOAPIC_ID, irq);
        }
    }
    for (u8 irq = 0; irq < 16; irq++) {
        if (irq == 2 || (pci >> irq & 1)) /* the cascade; taken by PCI */
            continue;
        put_interrupt(mp, ENTRY_INTERRUPT, INT_VECTORED, irq == board->sci ? LEVEL_HIGH : 0,
                      BUS_ISA, irq, IOAPIC_ID, irq ? irq : 2);
    }
    put_interrupt(mp, ENTRY_LOCAL_INTERRUPT, INT_EXTINT, 0, BUS_ISA, 0, ALL_LAPICS, 0);
    put_interrupt(mp, ENTRY_LOCAL_INTERRUPT, INT_NMI, 0, BUS_ISA, 0, ALL_LAPICS, 1);
}

static void finish_header(const struct mp *mp)
{
    u8 *header = mp->buf + POINTER_SIZE;
    u16 size = (u16)(mp->at - POINTER_SIZE), entries = (u16)mp->entries;
    memcpy(header, "PCMP", 4);
    memcpy(header + 4, &size, 2);
    header[6] = SPEC_REV;
    memcpy(header + 8, "DOPPEL  DOPPELPC    ", 20);
    memcpy(header + 34, &entries, 2);
    put32(header + 36, LAPIC_BASE);
    header[7] = acpi_checksum(header, size);
}

size_t mp_build(const struct mp_config *config, u32 base, u8 *buf)
{
    struct mp mp = {.buf = buf, .at = POINTER_SIZE + HEADER_SIZE};
    memset(buf, 0, MP_MAX_SIZE);
    memcpy(buf, "_MP_", 4);
    put32(buf + 4, base + POINTER_SIZE);
    buf[8] = POINTER_SIZE / 16;
    buf[9] = SPEC_REV;
    buf[10] = acpi_checksum(buf, POINTER_SIZE);
    for (unsigned n = 0; n < config->board->n_cpus; n++)
        put_cpu(&mp, config, n);
    put_bus(&mp, BUS_PCI, "PCI   ");
    put_bus(&mp, BUS_ISA, "ISA   ");
    u8 *ioapic = entry(&mp, ENTRY_IOAPIC, 8);
    ioapic[1] = IOAPIC_ID;
    ioapic[2] = 0x20; /* version */
    ioapic[3] = 1;    /* usable */
    put32(ioapic + 4, config->board->ioapic_base);
    put_interrupts(&mp, config->board);
    finish_header(&mp);
    return mp.at;
}
