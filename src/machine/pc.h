/* The devices of the PC and how they are wired. */
#pragma once

#include "device/fw_cfg.h"
#include "device/gsi.h"
#include "device/pci.h"
#include "device/pic.h"
#include "device/rtc.h"
#include "device/serial.h"
#include "machine/pv.h"
#include "machine/vm.h"
#include "platform/board.h"
#include "platform/input.h"
#include "platform/screen.h"

struct pc {
    struct apic_bus *apic_bus;
    struct pic *pic;
    struct gsi gsi;
    struct rtc *rtc;
    struct pci_host *pci;
    struct fw_cfg *fw_cfg;
    struct isa_dma *dma;
    struct acpi_pm *acpi_pm;
    struct irq_line rtc_irq[2]; /* the RTC's wire goes to a GSI and to acpi_pm */
    struct piix4_pm *piix4_pm;
    struct pvclock *pvclock;
    struct pv pv[VM_MAX_CPUS];
    struct serial *serial[VM_MAX_SERIAL];
    /* Filled in before pc_create: how long a vCPU's thread waited for the host, in ns. */
    u64 (*run_delay)(void *opaque, unsigned cpu);
    void *run_delay_opaque;
    struct vga *vga; /* or NULL */
    u8 *vga_rom;     /* the video BIOS, or NULL */
    u64 vga_rom_size;
    struct input input;           /* of keyboard and mouse */
    struct screen screen;         /* no functions: no display adapter */
    struct firmware_files *files; /* what fw_cfg shows; NULL without firmware */
};

/* Where guests look for the RSDP (ACPI 6.4, 5.2.5.1). */
#define PC_ACPI_TABLES 0xe0000u
/* Where they look for the MP floating pointer (MP specification 1.4, chapter 4). */
#define PC_MP_TABLES 0xf0000u

/* Builds the ACPI tables for address `base` into ACPI_MAX_SIZE bytes; returns their size. */
size_t pc_build_acpi(const struct pc *pc, const struct board *board,
                     const struct vm_config *config, u32 base, u8 *tables);

/* The other ends of the lines that the configuration has. */
struct pc_lines {
    struct chardev *serial[VM_MAX_SERIAL];
    struct chardev *parallel;
};

/* Makes all devices on the board, whose vCPUs are there. `phys_bits`: the processors' physical
 * address width. Under the board lock. */
void pc_create(struct pc *pc, struct board *board, const struct vm_config *config,
               const struct pc_lines *lines, unsigned phys_bits);

/* What firmware would have set up before it starts a kernel, or what it expects where
 * `firmware` is to start. After devices_reset; under the board lock. */
void pc_reset(struct pc *pc, bool firmware);

/* Where they look for SMBIOS's anchor (DSP0134, 5.2.1): its page, and the structures behind. */
#define PC_SMBIOS_TABLES 0xf8000u

/* Builds the SMBIOS structures for address `base`; returns their size, 0: too many texts. */
size_t pc_build_smbios(const struct board *board, const struct vm_config *config, u32 base,
                       u8 *tables, u8 *anchor);

/* Where the FACS that pc_write_tables wrote says that S3 ends. */
u32 pc_waking_vector(struct board *board);

/* Writes what firmware would have left in guest memory: ACPI tables, MP tables, BIOS data.
 * Returns the RSDP's address. */
u64 pc_write_tables(const struct pc *pc, struct board *board, const struct vm_config *config);
