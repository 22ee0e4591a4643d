/* A board for tests, see fixture.h. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "memory/pmap.h"

static u64 fixture_now(void *opaque)
{
    const struct fixture *f = opaque;
    return f->now;
}

static s64 fixture_wall(void *opaque)
{
    const struct fixture *f = opaque;
    return FIXTURE_WALL + (s64)(f->now / 1000000000);
}

static void fixture_request(void *opaque, enum board_request request, int exit_status)
{
    struct fixture *f = opaque;
    f->requests++;
    f->request = request;
    f->exit_status = exit_status;
}

static u64 fixture_tsc(struct x86_cpu *c)
{
    struct vcpu *vcpu = container_of(c, struct vcpu, cpu);
    return clock_ticks(clock_now(&vcpu->board->clock), FIXTURE_TSC_HZ);
}

static const struct x86_ops fixture_ops = {.tsc = fixture_tsc};

static void fixture_output(void *back, const u8 *data, size_t len)
{
    struct fixture *f = back;
    for (size_t i = 0; i < len; i++)
        f->output[f->output_len++ % sizeof(f->output)] = data[i];
}

static void fixture_room(void *back)
{
    struct fixture *f = back;
    f->rooms++;
}

struct fixture *fixture_create(unsigned n_vcpus)
{
    struct fixture *f = calloc(1, sizeof(*f));
    ensure(f && n_vcpus <= ARRAY_LEN(f->vcpus));
    board_init(&f->board, &f->log);
    f->board.clock = (struct clock){.now = fixture_now, .wall = fixture_wall, .opaque = f};
    f->board.request = fixture_request;
    f->board.opaque = f;
    f->board.tsc_hz = FIXTURE_TSC_HZ;
    f->board.vcpus = f->vcpus;
    f->board.n_vcpus = n_vcpus;
    for (unsigned i = 0; i < n_vcpus; i++) {
        f->vcpus[i] = vcpu_create(&f->board, i);
        f->vcpus[i]->cpu.ops = &fixture_ops;
    }
    f->chardev = (struct chardev){.write = fixture_output, .room = fixture_room, .back = f};
    return f;
}

void fixture_destroy(struct fixture *f)
{
    board_destroy(&f->board);
    for (unsigned i = 0; i < f->board.n_vcpus; i++)
        vcpu_destroy(f->vcpus[i]);
    if (f->board.pmap)
        pmap_destroy(f->board.pmap);
    free(f);
}

void fixture_add_ram(struct fixture *f, u64 bytes)
{
    struct error err;
    f->board.pmap = pmap_create(bytes, &err);
    ensure(f->board.pmap);
}

void fixture_step(struct fixture *f, u64 ns)
{
    u64 end = f->now + ns;
    board_lock(&f->board);
    while (f->board.clock.first && f->board.clock.first->deadline <= end) {
        if (f->board.clock.first->deadline > f->now)
            f->now = f->board.clock.first->deadline;
        clock_run(&f->board.clock);
    }
    f->now = end;
    board_unlock(&f->board);
}

static void fixture_set(void *opaque, unsigned n, bool level)
{
    struct fixture *f = opaque;
    if (level && !f->level[n])
        f->rises[n]++;
    f->level[n] = level;
}

struct irq_line fixture_line(struct fixture *f, unsigned n)
{
    return (struct irq_line){fixture_set, f, n};
}

u8 in8(struct fixture *f, u16 port)
{
    return (u8)bus_read(&f->board, BUS_PIO, port, 1);
}
u16 in16(struct fixture *f, u16 port)
{
    return (u16)bus_read(&f->board, BUS_PIO, port, 2);
}
u32 in32(struct fixture *f, u16 port)
{
    return (u32)bus_read(&f->board, BUS_PIO, port, 4);
}
void out8(struct fixture *f, u16 port, u8 value)
{
    bus_write(&f->board, BUS_PIO, port, 1, value);
}
void out16(struct fixture *f, u16 port, u16 value)
{
    bus_write(&f->board, BUS_PIO, port, 2, value);
}
void out32(struct fixture *f, u16 port, u32 value)
{
    bus_write(&f->board, BUS_PIO, port, 4, value);
}

/* -- A disk -------------------------------------------------------------------------------- */

static void fake_disk_do(struct fake_disk *disk, struct block_request *request)
{
    request->error = disk->error;
    if (request->error)
        return;
    ensure(request->offset + request->len <= disk->block.size);
    if (request->op == BLOCK_READ)
        memcpy(request->data, disk->data + request->offset, request->len);
    else if (request->op == BLOCK_WRITE)
        memcpy(disk->data + request->offset, request->data, request->len);
    else if (request->op == BLOCK_DISCARD || request->op == BLOCK_WRITE_ZEROES)
        memset(disk->data + request->offset, 0, request->len);
    else
        disk->flushes++;
}

static bool fake_disk_submit(void *back, struct block_request *request)
{
    struct fake_disk *disk = back;
    if (!disk->slow) {
        fake_disk_do(disk, request);
        return true;
    }
    struct block_request **last = &disk->waiting;
    while (*last)
        last = &(*last)->next;
    *last = request;
    request->next = NULL;
    return false;
}

void fake_disk_answer(struct fake_disk *disk)
{
    struct block_request *request = disk->waiting;
    disk->waiting = NULL;
    while (request) {
        struct block_request *next = request->next;
        fake_disk_do(disk, request);
        request->done(request);
        request = next;
    }
}

static void fake_disk_drain(void *back)
{
    struct fake_disk *disk = back;
    while (disk->waiting)
        fake_disk_answer(disk);
}

void fake_disk_init(struct fake_disk *disk, u64 size)
{
    *disk = (struct fake_disk){
        .block = {.size = size, .submit = fake_disk_submit, .drain = fake_disk_drain},
        .data = calloc(1, size)};
    disk->block.back = disk;
    ensure(disk->data);
}

void fake_disk_destroy(struct fake_disk *disk)
{
    free(disk->data);
}

/* -- All devices --------------------------------------------------------------------------- */

static u64 card_read(void *opaque, u64 offset, unsigned size)
{
    return offset;
}

static void card_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pci_device *card = opaque;
    pci_set_intx(card, value & 1);
    pci_msix_notify(card, (unsigned)(value >> 1 & 7));
}

static const struct bus_ops card_ops = {card_read, card_write};

static void full_board_card(struct full_board *full)
{
    static const struct pci_ids ids = {0x1af4, 0x1000, 0x1af4, 0x0001, 0x020000, 1};
    struct pci_device *card = &full->card;
    pci_init(card, "card", &ids, NULL, card);
    card->config[PCI_INTERRUPT_PIN] = 1;
    pci_add_bar(card, 0, PCI_BAR_IO, 32, &card_ops, card, 4);
    pci_add_bar(card, 2, PCI_BAR_MEM64, 16 * KiB, &card_ops, card, 8);
    pci_add_msix(card, 1, 4);
    ensure(pci_plug(full->pci, card, -1));
}

void full_board_init(struct full_board *full, struct fixture *f)
{
    struct board *board = &f->board;
    struct lapic *lapic[4];
    full->bus = apic_bus_create(board, 40);
    for (unsigned i = 0; i < board->n_vcpus; i++)
        lapic[i] = lapic_create(full->bus, f->vcpus[i]);
    full->pic = pic_create(board, lapic_line(lapic[0], LAPIC_LINT0));
    apic_bus_set_intack(full->bus, full->pic);
    full->ioapic = ioapic_create(board, full->bus);
    gsi_init(&full->gsi, full->pic, full->ioapic);
    pit_create(board, gsi_line(&full->gsi, 0));
    rtc_create(board, gsi_line(&full->gsi, 8), fixture_line(f, 0));
    full->serial = serial_create(board, 0x3f8, gsi_line(&full->gsi, 4), &f->chardev);
    serial_create(board, 0x2f8, gsi_line(&full->gsi, 3), NULL);
    full->i8042 = i8042_create(board, gsi_line(&full->gsi, 1), gsi_line(&full->gsi, 12));
    input_init(&full->input, board);
    ps2_keyboard_create(board, full->i8042, &full->input);
    ps2_mouse_create(board, full->i8042, &full->input);
    full->acpi_pm = acpi_pm_create(board, gsi_line(&full->gsi, ACPI_SCI_IRQ));
    full->pci = pci_host_create(board, &full->gsi, full->bus);
    full->piix4_pm = piix4_pm_create(board, full->pci, full->acpi_pm);
    piix4_pm_start(full->piix4_pm, false);
    static const u8 rom[5000] = {0x55, 0xaa, 10, [4999] = 0x77};
    vga_create(board, full->pci, rom, sizeof(rom), &full->screen);
    full_board_card(full);
    fake_disk_init(&full->disk, 2 * MiB);
    fake_disk_init(&full->cd, 64 * 2048);
    const struct irq_line irq[] = {gsi_line(&full->gsi, 14), gsi_line(&full->gsi, 15)};
    const struct ide_drive_config drives[IDE_CHANNELS][IDE_DRIVES] = {
        {{.block = &full->disk.block}, {.cdrom = true, .block = &full->cd.block}}};
    ide_create(board, full->pci, irq, drives);
    fake_disk_init(&full->floppy, 360 * KiB);
    struct block *const floppies[FDC_DRIVES] = {&full->floppy.block};
    fdc_create(board, isa_dma_create(board), gsi_line(&full->gsi, 6), floppies);
    fake_disk_init(&full->flash, 64 * KiB);
    memset(full->flash.data, 0xff, 64 * KiB);
    struct error err;
    ensure(pflash_create(board, &full->flash.block, 4 * GiB, &err));
    reset_control_create(board);
    full->fw_cfg = fw_cfg_create(board);
    debug_exit_create(board, 0xf4, 4);
    debug_console_create(board, 0xe9, NULL);
    full->pvclock = pvclock_create(board);
    pci_host_assign(full->pci);
}

static const u16 poke_ports[] = {
    0x00,  0x01,  0x04,  0x05,  0x08,  0x0a,  0x0b,  0x0c,  0x81,  0xc0,  0xd4,  0x3f2, 0x3f4,
    0x3f5, 0x3f7, 0x1f0, 0x1f0, 0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5, 0x1f6, 0x1f7, 0x1f7, 0x3f6,
    0x20,  0x21,  0x40,  0x41,  0x42,  0x43,  0x60,  0x61,  0x64,  0x70,  0x71,  0x92,  0xa0,
    0xa1,  0xe9,  0xf4,  0x2f8, 0x2f9, 0x2fa, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe,
    0x3ff, 0x4d0, 0x4d1, 0x510, 0x511, 0x514, 0x518, 0x1ce, 0x1cf, 0x3b4, 0x3b5, 0x3c0, 0x3c1,
    0x3c2, 0x3c4, 0x3c5, 0x3c6, 0x3c7, 0x3c8, 0x3c9, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x600,
    0x602, 0x604, 0x605, 0x608, 0x60c, 0x60e, 0xcf8, 0xcf9, 0xcfc, 0xcfe,
};

static void poke_msr(struct fixture *f, u32 what, u32 where, u64 value)
{
    struct vcpu *vcpu = f->vcpus[what >> 8 & (f->board.n_vcpus - 1)];
    u32 index = where & 64    ? MSR_APIC_BASE
                : where & 128 ? MSR_TSC_DEADLINE
                              : 0x800 + where % 64;
    u64 read;
    if (what & 16)
        vcpu->apic_ops->write_msr(vcpu->apic, index, value);
    else
        vcpu->apic_ops->read_msr(vcpu->apic, index, &read);
}

static void poke_apic(struct fixture *f, u32 what, u32 where, u64 value)
{
    struct vcpu *vcpu = f->vcpus[what >> 8 & (f->board.n_vcpus - 1)];
    u64 page = atomic_load(&vcpu->apic_page);
    if (page == ~0ull)
        page = LAPIC_ADDRESS;
    if (what & 16)
        vcpu_mmio_write(vcpu, gpa(page + where % 64 * 16), 4, value);
    else
        vcpu_mmio_read(vcpu, gpa(page + where % 64 * 16), 4);
    if (what & 32)
        vcpu->apic_ops->acknowledge(vcpu->apic);
}

static void look(struct full_board *full, struct fixture *f)
{
    struct screen_image image;
    board_lock(&f->board);
    screen_image(&full->screen, &image);
    screen_text(&full->screen, &full->text);
    board_unlock(&f->board);
    free(image.rgb);
}

/* Registers that exist, memory that is shown, and a look at the screen. */
static void poke_vga(struct full_board *full, struct fixture *f, u32 where, u64 value)
{
    static const u16 indexed[] = {0x3c4, 0x3ce, 0x3d4, 0x3d4};
    u64 at = where >> 3;
    switch (where % 8) {
    case 0:
        look(full, f);
        break;
    case 1: /* VBE: numbers of the size that they have */
        out16(f, 0x1ce, at % 12);
        out16(f, 0x1cf, (u16)(value >> (value >> 60)));
        break;
    case 2:
        out16(f, indexed[at % 4], (u16)((value & 0xff00) | (value & 31)));
        break;
    case 3: /* the screen on, and an attribute register */
        in8(f, 0x3da);
        out8(f, 0x3c0, (u8)(value & 31));
        out8(f, 0x3c0, (u8)(value >> 8));
        out8(f, 0x3c0, 0x20);
        break;
    case 4:
        bus_write(&f->board, BUS_MMIO, PCI_MMIO_BASE + at % (16 * MiB), 4, value);
        break;
    default:
        bus_write(&f->board, BUS_MMIO, VGA_WINDOW + at % VGA_WINDOW_SIZE, 4, value);
        bus_read(&f->board, BUS_MMIO, VGA_WINDOW + (value >> 32) % VGA_WINDOW_SIZE, 4);
        break;
    }
}

static void poke_back_end(struct full_board *full, struct fixture *f, u32 where, u64 value)
{
    u8 byte = (u8)value;
    board_lock(&f->board);
    struct input_motion motion = {(s32)value, (s32)(value >> 16), (s8)(value >> 40),
                                  where >> 8};
    switch (where % 6) {
    case 0:
        if (f->chardev.can_receive(f->chardev.front))
            f->chardev.receive(f->chardev.front, &byte, 1);
        break;
    case 1:
        serial_break(full->serial);
        break;
    case 2:
        acpi_pm_power_button(full->acpi_pm);
        break;
    case 3:
        input_key(&full->input, 1 + byte % (INPUT_KEYS - 1), value >> 8 & 1);
        break;
    case 4:
        apic_msi(full->bus, LAPIC_ADDRESS | (value & 0xff00c), (u32)(value >> 32));
        break;
    case 5:
        input_move(&full->input, &motion);
        break;
    }
    board_unlock(&f->board);
}

void full_board_destroy(struct full_board *full)
{
    fake_disk_destroy(&full->disk);
    fake_disk_destroy(&full->cd);
    fake_disk_destroy(&full->floppy);
    fake_disk_destroy(&full->flash);
}

/* An IDE command as a driver gives it, with memory for DMA. */
static void poke_ide(struct full_board *full, struct fixture *f, u32 where, u64 value)
{
    static const u8 packets[] = {0x03, 0x12, 0x1b, 0x25, 0x28, 0x43,
                                 0x46, 0x4a, 0x51, 0x5a, 0xa8};
    u32 prd[4] = {0x10000, 0x1000, 0x20000 + (where >> 16 & 0xfffe),
                  0x80000000 | (value & 0xfffe)};
    out32(f, 0xcf8, 0x80000000 | PCI_ISA_SLOT << 11 | 1 << 8 | 0x20);
    u16 bm = (u16)(in32(f, 0xcfc) & 0xfff0);
    full->disk.slow = full->cd.slow = value >> 63;
    ram_write(&f->board, gpa(0x9000), prd, sizeof(prd));
    out32(f, (u16)(bm + 4), 0x9000);
    for (unsigned i = 1; i < 6; i++)
        out8(f, (u16)(0x1f0 + i), (u8)(value >> 8 * i & (where & BIT(i) ? 0xff : 0x07)));
    out8(f, 0x1f6, where & 0x100 ? 0x10 : 0xe0);
    out8(f, 0x1f7, where & 0x100 ? 0xa0 : (u8)value);
    if (where & 0x100) {
        const u8 packet[12] = {
            packets[value % sizeof(packets)], [5] = value >> 50 & 63, [8] = value >> 56 & 31};
        for (unsigned i = 0; i < 12; i += 2)
            out16(f, 0x1f0, (u16)(packet[i] | packet[i + 1] << 8));
    }
    out8(f, bm, where & 0x200 ? 0 : (u8)(1 | (where >> 7 & 8)));
    board_lock(&f->board);
    fake_disk_answer(&full->disk);
    fake_disk_answer(&full->cd);
    board_unlock(&f->board);
    /* Else it might be saved with a request under way, which the machine never does. */
    full->disk.slow = full->cd.slow = false;
    for (unsigned i = 0; i < (where >> 24 & 127); i++)
        if (value & 1)
            in32(f, 0x1f0);
        else
            out32(f, 0x1f0, (u32)value);
}

/* A floppy command, mostly with sense, and DMA that is ready for it. */
static void poke_fdc(struct fixture *f, u32 where, u64 value)
{
    static const u8 codes[] = {0xe6, 0xc5, 0x4d, 0x0f, 0x07, 0x08,
                               0x03, 0x16, 0x4a, 0x0e, 0x42};
    out8(f, 0x3f2, where & 1 ? 0x1c : (u8)(where >> 1));
    fixture_step(f, 2000000);
    out8(f, 0x0b, where & 2 ? 0x46 : 0x4a);
    out8(f, 0x05, (u8)(value >> 40));
    out8(f, 0x05, (u8)(value >> 48 & 15));
    out8(f, 0x0a, 2);
    out8(f, 0x3f5, codes[(where >> 8 & 255) % sizeof(codes)]);
    for (unsigned i = 0; i < 8; i++)
        out8(f, 0x3f5, (u8)(value >> 8 * i & (where >> 16 & 31)));
    for (unsigned i = 0; i < (where >> 24); i++)
        if (value & 1)
            in8(f, 0x3f5);
        else
            out8(f, 0x3f5, (u8)(value >> i % 64));
}

/* Commands of the flash, some with what they want, most of them within one block. */
static void poke_flash(struct fixture *f, u32 where, u64 value)
{
    static const u8 commands[] = {0xff, 0x10, 0x40, 0x20, 0xd0, 0x50,
                                  0x60, 0x70, 0x90, 0x98, 0xe8};
    for (unsigned i = 0; i < 8; i++) {
        u8 byte = (u8)(value >> 8 * i);
        u64 addr = 4 * GiB - 64 * KiB + (where & BIT(i) ? where >> 8 : i) % (64 * KiB);
        bus_write(&f->board, BUS_MMIO, addr, 1,
                  byte & 1 ? commands[byte % sizeof(commands)] : byte);
        bus_read(&f->board, BUS_MMIO, addr, 1u << i % 4);
    }
}

void full_board_poke(struct full_board *full, struct fixture *f, u32 what, u32 where, u64 value)
{
    unsigned size = 1u << (what >> 5 & 3);
    /* Nobody runs these vCPUs, and their work would pile up. */
    for (unsigned i = 0; i < f->board.n_vcpus; i++)
        vcpu_run_work(f->vcpus[i]);
    switch (what % 8) {
    case 0:
    case 1:
        if (size == 8)
            size = 4;
        if (what & 16)
            bus_write(&f->board, BUS_PIO, poke_ports[where % ARRAY_LEN(poke_ports)], size,
                      value);
        else
            bus_read(&f->board, BUS_PIO, poke_ports[where % ARRAY_LEN(poke_ports)], size);
        break;
    case 2:
        bus_write(&f->board, BUS_MMIO, IOAPIC_ADDRESS + (where & 1 ? 0x10 : where & 0x40), 4,
                  value);
        break;
    case 3:
        poke_msr(f, what, where, value);
        break;
    case 4:
        poke_apic(f, what, where, value);
        break;
    case 5:
        fixture_step(f, value >> (value & 63) & 0xfffffff);
        break;
    case 6:
        if (where % 16 == 12)
            poke_flash(f, where >> 4, value);
        else if (where % 16 == 13)
            poke_fdc(f, where >> 4, value);
        else if (where % 16 == 14)
            poke_ide(full, f, where >> 4, value);
        else if (where % 16 == 15)
            poke_vga(full, f, where >> 4, value);
        else
            poke_back_end(full, f, where, value);
        break;
    case 7:
        for (unsigned n = 0; n < PCI_BARS; n++)
            if (full->card.bar[n].mapped && (where & BIT(n)))
                bus_write(&f->board, full->card.bar[n].region.space,
                          full->card.bar[n].region.base + (where >> 8) % full->card.bar[n].size,
                          size, value);
        break;
    }
}
