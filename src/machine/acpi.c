/* The ACPI tables, see acpi.h. Offsets are those of the specification's tables. */
#include "machine/acpi.h"

#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "machine/aml.h"

#define HEADER_SIZE 36
#define FADT_SIZE   244 /* revision 3 */
#define FACS_SIZE   64
#define LAPIC_BASE  0xfee00000u
#define PCI_SLOTS   32

/* FADT flags (5.2.9, table 5.10) and boot architecture flags (table 5.11) */
#define FADT_WBINVD        BIT(0)
#define FADT_PROC_C1       BIT(2)
#define FADT_SLP_BUTTON    BIT(5) /* set: none, or not a fixed one */
#define FADT_FIX_RTC       BIT(6) /* set: the RTC has no fixed wake status */
#define FADT_TMR_VAL_EXT   BIT(8)
#define FADT_RESET_REG_SUP BIT(10)
#define BOOT_LEGACY        BIT(0)
#define BOOT_8042          BIT(1)
#define BOOT_NO_VGA        BIT(2)

/* The tables as they grow: `at` is the next free byte. */
struct tables {
    u8 *buf;
    u32 base;
    size_t at;
};

static void put(u8 *table, unsigned offset, u64 value, unsigned size)
{
    memcpy(table + offset, &value, size);
}

static u8 *table_begin(struct tables *tables, unsigned alignment)
{
    tables->at = align_up(tables->at, alignment);
    return tables->buf + tables->at;
}

static u32 table_address(const struct tables *tables, const u8 *table)
{
    return tables->base + (u32)(table - tables->buf);
}

u8 acpi_checksum(const u8 *data, size_t size)
{
    u8 sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (u8)(sum + data[i]);
    return (u8)-sum;
}

/* The header that all but the RSDP and the FACS have (5.2.6). */
static void table_end(struct tables *tables, u8 *table, const char *signature, u8 revision,
                      size_t size)
{
    memcpy(table, signature, 4);
    put(table, 4, size, 4);
    table[8] = revision;
    memcpy(table + 10, "DOPPEL", 6);
    memcpy(table + 16, "DOPPELPC", 8);
    put(table, 24, 1, 4);
    memcpy(table + 28, "DPPL", 4);
    put(table, 32, 1, 4);
    table[9] = 0;
    table[9] = acpi_checksum(table, size);
    tables->at = (size_t)(table - tables->buf) + size;
    ensure(tables->at <= ACPI_MAX_SIZE);
}

/* -- DSDT ---------------------------------------------------------------------------------- */

static void pci_routing(struct aml *aml, const struct acpi_config *config)
{
    aml_name(aml, "_PRT");
    size_t all = aml_package_begin(aml, (PCI_SLOTS - 1) * 4);
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            size_t route = aml_package_begin(aml, 4);
            aml_integer(aml, slot << 16 | 0xffff);
            aml_integer(aml, pin);
            aml_integer(aml, 0); /* no link device: a fixed GSI */
            aml_integer(aml, config->pci_irq[slot][pin]);
            aml_end(aml, route);
        }
    }
    aml_end(aml, all);
}

static void isa_device(struct aml *aml, const char *name, const char *id, u16 port, u8 ports,
                       unsigned irq)
{
    size_t device = aml_device_begin(aml, name);
    aml_name_eisa_id(aml, "_HID", id);
    struct aml_resources resources = aml_resources_begin(aml, "_CRS");
    aml_io(aml, port, ports);
    aml_irq(aml, irq);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

/* The keyboard has the controller's two ports, the mouse only an interrupt. */
static void ps2_devices(struct aml *aml)
{
    size_t device = aml_device_begin(aml, "KBD_");
    aml_name_eisa_id(aml, "_HID", "PNP0303");
    struct aml_resources resources = aml_resources_begin(aml, "_CRS");
    aml_io(aml, 0x60, 1);
    aml_io(aml, 0x64, 1);
    aml_irq(aml, 1);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
    device = aml_device_begin(aml, "MOU_");
    aml_name_eisa_id(aml, "_HID", "PNP0F13");
    resources = aml_resources_begin(aml, "_CRS");
    aml_irq(aml, 12);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

/* By which a kernel's driver finds the firmware configuration device. */
static void fw_cfg_device(struct aml *aml)
{
    size_t device = aml_device_begin(aml, "FWCF");
    aml_name_string(aml, "_HID", "QEMU0002");
    aml_name_integer(aml, "_STA", 0x0b);
    struct aml_resources resources = aml_resources_begin(aml, "_CRS");
    aml_io(aml, 0x510, 12);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void pci_root(struct aml *aml, const struct acpi_config *config)
{
    size_t device = aml_device_begin(aml, "PCI0");
    aml_name_eisa_id(aml, "_HID", "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    struct aml_resources resources = aml_resources_begin(aml, "_CRS");
    aml_window_bus(aml, 0, 0xff);
    aml_io(aml, 0xcf8, 8);
    aml_window_io(aml, 0, 0xcf7);
    aml_window_io(aml, 0xd00, 0xffff);
    aml_window_memory(aml, 0xa0000, 0xbffff); /* a VGA's */
    aml_window_memory(aml, config->pci_mmio_first, config->pci_mmio_last);
    aml_resources_end(aml, resources);
    pci_routing(aml, config);
    if (config->n_com > 0)
        isa_device(aml, "COM1", "PNP0501", 0x3f8, 8, 4);
    if (config->n_com > 1)
        isa_device(aml, "COM2", "PNP0501", 0x2f8, 8, 3);
    isa_device(aml, "RTC0", "PNP0B00", 0x70, 2, 8);
    ps2_devices(aml);
    fw_cfg_device(aml);
    aml_end(aml, device);
}

static void processors(struct aml *aml, unsigned n_cpus)
{
    const char digits[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < n_cpus; i++) {
        const char name[] = {'C', digits[i >> 8 & 15], digits[i >> 4 & 15], digits[i & 15], 0};
        size_t device = aml_device_begin(aml, name);
        aml_name_string(aml, "_HID", "ACPI0007");
        aml_name_integer(aml, "_UID", i);
        aml_end(aml, device);
    }
}

/* A sleep state's object: the value of SLP_TYP that enters it (7.4.2). */
static void sleep_state(struct aml *aml, const char *name, u8 type)
{
    aml_name(aml, name);
    size_t package = aml_package_begin(aml, 4);
    aml_integer(aml, type);
    for (unsigned i = 0; i < 3; i++)
        aml_integer(aml, 0);
    aml_end(aml, package);
}

static const u8 *build_dsdt(struct tables *tables, const struct acpi_config *config)
{
    u8 *table = table_begin(tables, 16);
    struct aml aml = {.data = table,
                      .size = HEADER_SIZE,
                      .capacity = ACPI_MAX_SIZE - (size_t)(table - tables->buf)};
    size_t scope = aml_scope_begin(&aml, "\\_SB_");
    pci_root(&aml, config);
    processors(&aml, config->n_cpus);
    aml_end(&aml, scope);

    sleep_state(&aml, "\\_S3_", config->s3_type);
    sleep_state(&aml, "\\_S5_", config->s5_type);

    ensure(!aml.overflow);
    table_end(tables, table, "DSDT", 2, aml.size);
    return table;
}

/* -- FADT ---------------------------------------------------------------------------------- */

static const u8 *build_facs(struct tables *tables)
{
    u8 *table = table_begin(tables, FACS_SIZE);
    memcpy(table, "FACS", 4);
    put(table, 4, FACS_SIZE, 4);
    table[32] = 2; /* version */
    tables->at += FACS_SIZE;
    return table;
}

/* A port as a generic address structure (5.2.3.2): space 1, access size by width. */
static void put_port(u8 *table, unsigned offset, u16 port, u8 bytes)
{
    table[offset] = 1;
    table[offset + 1] = (u8)(bytes * 8);
    table[offset + 3] = bytes == 4 ? 3 : bytes;
    put(table, offset + 4, port, 8);
}

static const u8 *build_fadt(struct tables *tables, const struct acpi_config *config)
{
    u32 facs = table_address(tables, build_facs(tables));
    u32 dsdt = table_address(tables, build_dsdt(tables, config));
    u8 *table = table_begin(tables, 16);
    put(table, 36, facs, 4);
    put(table, 40, dsdt, 4);
    put(table, 46, config->sci, 2);
    put(table, 56, config->pm_base, 4);
    put(table, 64, config->pm_base + 4, 4);
    put(table, 76, config->pm_base + 8, 4);
    put(table, 80, config->pm_base + 12, 4);
    table[88] = 4;             /* PM1_EVT_LEN */
    table[89] = 2;             /* PM1_CNT_LEN */
    table[91] = 4;             /* PM_TMR_LEN */
    table[92] = 4;             /* GPE0_BLK_LEN */
    put(table, 96, 0x0fff, 2); /* P_LVL2_LAT: no C2 */
    put(table, 98, 0x0fff, 2); /* P_LVL3_LAT: no C3 */
    table[108] = 0x32;         /* CENTURY in the RTC's CMOS */
    put(table, 109, BOOT_LEGACY | BOOT_8042 | (config->has_vga ? 0 : BOOT_NO_VGA), 2);
    put(table, 112,
        FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT |
            FADT_RESET_REG_SUP,
        4);
    put_port(table, 116, config->reset_port, 1);
    table[128] = config->reset_value;
    put(table, 132, facs, 8);
    put(table, 140, dsdt, 8);
    put_port(table, 148, config->pm_base, 4);
    put_port(table, 172, (u16)(config->pm_base + 4), 2);
    put_port(table, 208, (u16)(config->pm_base + 8), 4);
    put_port(table, 220, (u16)(config->pm_base + 12), 4);
    table[223] = 1; /* of any length, general-purpose events are accessed by bytes (4.8.4.1) */
    table_end(tables, table, "FACP", 3, FADT_SIZE);
    return table;
}

/* -- MADT ---------------------------------------------------------------------------------- */

/* Interrupt source override (5.2.12.5); flags: polarity 1 high, trigger 3 level (bits 3:2). */
static size_t madt_override(u8 *table, size_t at, u8 irq, u32 gsi, u16 flags)
{
    table[at] = 2;
    table[at + 1] = 10;
    table[at + 2] = 0; /* ISA */
    table[at + 3] = irq;
    put(table, (unsigned)at + 4, gsi, 4);
    put(table, (unsigned)at + 8, flags, 2);
    return at + 10;
}

static const u8 *build_madt(struct tables *tables, const struct acpi_config *config)
{
    u8 *table = table_begin(tables, 16);
    size_t at = HEADER_SIZE;
    put(table, 36, LAPIC_BASE, 4);
    put(table, 40, 1, 4); /* two 8259 are there too */
    at += 8;
    for (unsigned i = 0; i < config->n_cpus; i++, at += 8) {
        table[at] = 0; /* processor local APIC */
        table[at + 1] = 8;
        table[at + 2] = (u8)i; /* ACPI processor UID */
        table[at + 3] = (u8)i; /* APIC id */
        put(table, (unsigned)at + 4, 1, 4);
    }
    table[at] = 1; /* IOAPIC, id 0, GSI base 0 */
    table[at + 1] = 12;
    put(table, (unsigned)at + 4, config->ioapic_base, 4);
    at += 12;
    const u16 level_high = 1 | 3 << 2;
    at = madt_override(table, at, 0, 2, 0); /* the 8254 is wired to input 2 */
    at = madt_override(table, at, config->sci, config->sci, level_high);
    u16 pci = 0;
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 0; pin < 4; pin++)
            pci |= (u16)(1u << config->pci_irq[slot][pin]);
    for (u8 irq = 0; irq < 16; irq++)
        if (pci >> irq & 1)
            at = madt_override(table, at, irq, irq, level_high);
    table[at] = 4; /* local APIC NMI: LINT1 of every processor */
    table[at + 1] = 6;
    table[at + 2] = 0xff;
    table[at + 5] = 1;
    at += 6;
    table_end(tables, table, "APIC", 3, at);
    return table;
}

/* -- The roots ----------------------------------------------------------------------------- */

static const u8 *build_root(struct tables *tables, const char *signature, unsigned width,
                            const u32 *entries, unsigned n)
{
    u8 *table = table_begin(tables, 16);
    for (unsigned i = 0; i < n; i++)
        put(table, HEADER_SIZE + i * width, entries[i], width);
    table_end(tables, table, signature, 1, HEADER_SIZE + n * width);
    return table;
}

size_t acpi_build(const struct acpi_config *config, u32 base, u8 *buf)
{
    struct tables tables = {.buf = buf, .base = base, .at = ACPI_FIRST};
    ensure(config->n_cpus <= 255);
    memset(buf, 0, ACPI_MAX_SIZE);
    const u32 entries[] = {
        table_address(&tables, build_fadt(&tables, config)),
        table_address(&tables, build_madt(&tables, config)),
    };
    u32 rsdt = table_address(&tables, build_root(&tables, "RSDT", 4, entries, 2));
    u32 xsdt = table_address(&tables, build_root(&tables, "XSDT", 8, entries, 2));

    memcpy(buf, "RSD PTR ", 8);
    memcpy(buf + 9, "DOPPEL", 6);
    buf[15] = 2; /* revision */
    put(buf, 16, rsdt, 4);
    put(buf, 20, ACPI_RSDP_SIZE, 4);
    put(buf, 24, xsdt, 8);
    buf[8] = acpi_checksum(buf, 20);
    buf[32] = acpi_checksum(buf, ACPI_RSDP_SIZE);
    return tables.at;
}
