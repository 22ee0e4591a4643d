/*
 * The ACPI tables of the machine (ACPI 6.4, chapter 5): RSDP, RSDT and XSDT, FADT with FACS and
 * DSDT, MADT. They describe what the board has and nothing else: no HPET, no PCI Express.
 *
 * Building is separate from placing, so that the same bytes can go into guest memory for a
 * direct kernel start, or to firmware.
 */
#pragma once

#include "base/types.h"

struct acpi_config {
    unsigned n_cpus;
    u16 pm_base;    /* PM1 event block here, PM1 control at +4, timer +8, GPE0 +12 */
    u8 sci;         /* the ISA IRQ, level-triggered and active high */
    u16 reset_port; /* writing reset_value resets the machine */
    u8 reset_value;
    u8 s3_type; /* SLP_TYP of suspend to RAM */
    u8 s5_type; /* and of soft-off */
    u32 ioapic_base;
    u32 pci_mmio_first, pci_mmio_last; /* the window for BARs */
    u8 pci_irq[32][4]; /* what INTA..INTD of each slot are wired to: GSI = ISA IRQ */
    unsigned n_com;    /* serial lines, 0..2 */
    bool has_vga;
};

#define ACPI_MAX_SIZE    0x4000
#define ACPI_RSDP_SIZE   36
#define ACPI_FACS_VECTOR 12 /* where the FACS has the firmware waking vector (5.2.10) */
#define ACPI_FIRST       64 /* where the other tables begin: the FACS wants it */

/*
 * Builds all tables for address `base` (16-byte aligned, below 4 GiB) into `buf` of
 * ACPI_MAX_SIZE bytes. The RSDP comes first. Returns the size.
 */
size_t acpi_build(const struct acpi_config *config, u32 base, u8 *buf);

/* The byte that makes `size` bytes with it sum up to 0, their own checksum byte being 0: in all
 * tables of ACPI, of the MP specification and of SMBIOS. */
u8 acpi_checksum(const u8 *data, size_t size);
