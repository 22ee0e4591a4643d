/*
 * The PC's wiring, see pc.h: which device stands at which port and which interrupt, as every PC
 * since the AT has them.
 */
#include "machine/pc.h"

#include "base/ensure.h"
#include "device/acpi_pm.h"
#include "device/apic_bus.h"
#include "device/debug.h"
#include "device/fpu_error.h"
#include "device/i8042.h"
#include "device/ioapic.h"
#include "device/isa_dma.h"
#include "device/lapic.h"
#include "device/piix4_pm.h"
#include "device/pit.h"
#include "device/ps2.h"
#include "device/reset.h"
#include "device/parallel.h"
#include "device/vga.h"
#include "machine/acpi.h"
#include "machine/bios_rest.h"
#include "machine/mp.h"
#include "memory/pmap.h"
#include "platform/ram.h"
#include "x86/model.h"

#define IRQ_PIT      0
#define IRQ_KEYBOARD 1
#define IRQ_COM2     3
#define IRQ_COM1     4
#define IRQ_LPT1     7
#define IRQ_RTC      8
#define IRQ_AUX      12
#define IRQ_FPU      13

static const struct {
    u16 base;
    unsigned irq;
} com[VM_MAX_SERIAL] = {{0x3f8, IRQ_COM1}, {0x2f8, IRQ_COM2}};
#define LPT1_BASE 0x378

static void create_interrupts(struct pc *pc, struct board *board, unsigned phys_bits)
{
    struct lapic *first = NULL;
    pc->apic_bus = apic_bus_create(board, phys_bits);
    for (unsigned i = 0; i < board->n_vcpus; i++) {
        struct lapic *lapic = lapic_create(pc->apic_bus, board->vcpus[i]);
        first = i ? first : lapic;
    }
    pc->pic = pic_create(board, lapic_line(first, LAPIC_LINT0));
    apic_bus_set_intack(pc->apic_bus, pc->pic);
    gsi_init(&pc->gsi, pc->pic, ioapic_create(board, pc->apic_bus));
}

/* The wire forks. */
static void set_rtc_irq(void *opaque, unsigned n, bool level)
{
    const struct pc *pc = opaque;
    for (unsigned i = 0; i < ARRAY_LEN(pc->rtc_irq); i++)
        irq_set(&pc->rtc_irq[i], level);
}

void pc_create(struct pc *pc, struct board *board, const struct vm_config *config,
               const struct pc_lines *lines, unsigned phys_bits)
{
    struct gsi *gsi = &pc->gsi;
    create_interrupts(pc, board, phys_bits);
    if (!config->no_pit)
        pit_create(board, gsi_line(gsi, IRQ_PIT));
    pc->acpi_pm = acpi_pm_create(board, gsi_line(gsi, ACPI_SCI_IRQ));
    pc->rtc_irq[0] = gsi_line(gsi, IRQ_RTC);
    pc->rtc_irq[1] = acpi_pm_rtc_line(pc->acpi_pm);
    pc->rtc = rtc_create(board, (struct irq_line){set_rtc_irq, pc, 0}, (struct irq_line){0});
    rtc_set_memory(pc->rtc, pmap_below_4g(board->pmap), pmap_above_4g(board->pmap));
    struct i8042 *i8042 =
        i8042_create(board, gsi_line(gsi, IRQ_KEYBOARD), gsi_line(gsi, IRQ_AUX));
    ps2_keyboard_create(board, i8042, &pc->input);
    ps2_mouse_create(board, i8042, &pc->input);
    fpu_error_create(board, gsi_line(gsi, IRQ_FPU));
    pc->pci = pci_host_create(board, gsi, pc->apic_bus);
    pc->piix4_pm = piix4_pm_create(board, pc->pci, pc->acpi_pm);
    pmap_set_hole(board->pmap, gpa(VGA_WINDOW), VGA_WINDOW_SIZE);
    if (config->vga)
        pc->vga = vga_create(board, pc->pci, pc->vga_rom, (u32)pc->vga_rom_size, &pc->screen);
    pc->dma = isa_dma_create(board);
    reset_control_create(board);
    pc->fw_cfg = fw_cfg_create(board);
    pc->pvclock = pvclock_create(board);
    struct steal *steal = steal_create(board, pc->run_delay, pc->run_delay_opaque);
    for (unsigned i = 0; i < board->n_vcpus; i++) {
        pc->pv[i] = (struct pv){.clock = pc->pvclock, .steal = steal, .apic_bus = pc->apic_bus};
        pv_attach(&pc->pv[i], board->vcpus[i]);
    }
    for (unsigned i = 0; i < config->n_serial; i++)
        pc->serial[i] =
            serial_create(board, com[i].base, gsi_line(gsi, com[i].irq), lines->serial[i]);
    if (config->parallel)
        parallel_create(board, LPT1_BASE, gsi_line(gsi, IRQ_LPT1), lines->parallel);
    debug_console_create(board, 0xe9, lines->serial[0]);
    if (config->debug_exit)
        debug_exit_create(board, config->debug_exit_base, config->debug_exit_size);
}

void pc_reset(struct pc *pc, bool firmware)
{
    input_reset(&pc->input);
    pci_host_shadow(pc->pci, firmware);
    piix4_pm_start(pc->piix4_pm, firmware);
    if (firmware)
        return;
    if (pc->vga)
        vga_set_text_mode(pc->vga);
    u16 level = 1u << ACPI_SCI_IRQ;
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            int irq = pci_host_irq(pc->pci, slot, pin);
            level |= irq < 0 ? 0 : (u16)(1u << irq);
        }
    }
    pic_set_elcr(pc->pic, level);
    pci_host_assign(pc->pci);
}

static struct acpi_config describe(const struct pc *pc, const struct board *board,
                                   const struct vm_config *config)
{
    struct acpi_config acpi = {
        .n_cpus = board->n_vcpus,
        .pm_base = acpi_pm_base(pc->acpi_pm),
        .sci = ACPI_SCI_IRQ,
        .reset_port = RESET_PORT,
        .reset_value = RESET_VALUE,
        .s3_type = ACPI_SLP_TYP_S3,
        .s5_type = ACPI_SLP_TYP_S5,
        .ioapic_base = IOAPIC_ADDRESS,
        .pci_mmio_first = PCI_MMIO_BASE,
        .pci_mmio_last = PCI_MMIO_END - 1,
        .n_com = config->n_serial,
        .has_vga = config->vga,
    };
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 0; pin < 4; pin++)
            acpi.pci_irq[slot][pin] = (u8)pci_host_irq(pc->pci, slot, pin);
    return acpi;
}

size_t pc_build_acpi(const struct pc *pc, const struct board *board,
                     const struct vm_config *config, u32 base, u8 *tables)
{
    const struct acpi_config acpi = describe(pc, board, config);
    return acpi_build(&acpi, base, tables);
}

static void write_mp(struct board *board, const struct acpi_config *acpi)
{
    u8 tables[MP_MAX_SIZE];
    u32 cpuid[4];
    x86_cpuid(&board->vcpus[0]->cpu, 1, 0, cpuid);
    const struct mp_config config = {
        .board = acpi, .cpu_signature = cpuid[0], .cpu_features = cpuid[3]};
    size_t size = mp_build(&config, PC_MP_TABLES, tables);
    ram_write(board, gpa(PC_MP_TABLES), tables, size);
}

size_t pc_build_smbios(const struct board *board, const struct vm_config *config, u32 base,
                       u8 *tables, u8 *anchor)
{
    struct smbios_config smbios = config->smbios;
    u32 cpuid[4];
    x86_cpuid(&board->vcpus[0]->cpu, 1, 0, cpuid);
    smbios.cpu_id[0] = cpuid[0];
    smbios.cpu_id[1] = cpuid[3];
    smbios.cpus = board->n_vcpus;
    smbios.memory_below = pmap_below_4g(board->pmap);
    smbios.memory_above = pmap_above_4g(board->pmap);
    return smbios_build(&smbios, base, tables, anchor);
}

static void write_smbios(struct board *board, const struct vm_config *config)
{
    u8 tables[SMBIOS_MAX_SIZE], anchor[SMBIOS_ANCHOR_SIZE];
    u32 base = PC_SMBIOS_TABLES + 32;
    size_t size = pc_build_smbios(board, config, base, tables, anchor);
    ram_write(board, gpa(PC_SMBIOS_TABLES), anchor, sizeof(anchor));
    ram_write(board, gpa(base), tables, size);
}

u32 pc_waking_vector(struct board *board)
{
    u32 vector = 0;
    ram_read(board, gpa(PC_ACPI_TABLES + ACPI_FIRST + ACPI_FACS_VECTOR), &vector,
             sizeof(vector));
    return vector;
}

u64 pc_write_tables(const struct pc *pc, struct board *board, const struct vm_config *config)
{
    u8 tables[ACPI_MAX_SIZE];
    const struct acpi_config acpi = describe(pc, board, config);
    size_t size = acpi_build(&acpi, PC_ACPI_TABLES, tables);
    ram_write(board, gpa(PC_ACPI_TABLES), tables, size);
    write_mp(board, &acpi);
    write_smbios(board, config);
    struct bios_equipment equipment = {.vga = config->vga};
    for (unsigned i = 0; i < config->n_serial; i++)
        equipment.com[i] = com[i].base;
    equipment.lpt[0] = config->parallel ? LPT1_BASE : 0;
    bios_rest_write(board, &equipment);
    return PC_ACPI_TABLES;
}
