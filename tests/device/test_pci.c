/* PCI: configuration mechanism 1, BARs, capabilities, MSI-X, INTx. */
#include "fixture.h"

#include "memory/pmap.h"
#include "platform/ram.h"

/* A register is that of function 0, or has the function in bits 10:8. */
#define SLOT(n) (0x80000000u | (n) << 11)

struct pci_test {
    struct fixture *f;
    struct full_board full;
    unsigned slot;
};

static int setup(void **state)
{
    struct pci_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(2);
    fixture_add_ram(t->f, 2 * MiB);
    full_board_init(&t->full, t->f);
    t->slot = t->full.card.devfn >> 3;
    out8(t->f, 0x21, 0xff); /* the 8259s stay out of it */
    out8(t->f, 0xa1, 0xff);
    for (unsigned i = 0; i < 2; i++)
        vcpu_mmio_write(t->f->vcpus[i], gpa(LAPIC_ADDRESS + 0xf0), 4, 0x1ff);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct pci_test *t = *state;
    fixture_destroy(t->f);
    full_board_destroy(&t->full);
    test_free(t);
    return 0;
}

static u32 rd(struct pci_test *t, unsigned slot, unsigned reg)
{
    out32(t->f, 0xcf8, SLOT(slot) | (reg & 0x7fc));
    return in32(t->f, 0xcfc);
}

static void wr(struct pci_test *t, unsigned slot, unsigned reg, u32 value)
{
    out32(t->f, 0xcf8, SLOT(slot) | (reg & 0x7fc));
    out32(t->f, 0xcfc, value);
}

static int ack(struct pci_test *t, unsigned cpu)
{
    return t->f->vcpus[cpu]->apic_ops->acknowledge(t->f->vcpus[cpu]->apic);
}

/* What i440FX's registers have after a reset (its data sheet, 3.2). */
static void test_bridge(void **state)
{
    struct pci_test *t = *state;
    assert_int_equal(rd(t, 0, 0x00), 0x12378086);
    assert_int_equal(rd(t, 0, 0x04), 0x02800006);
    assert_int_equal(rd(t, 0, 0x08) >> 8, 0x060000);
    assert_int_equal(rd(t, 0, 0x0c), 0);
    assert_int_equal(rd(t, 0, 0x50), 0x80000000);
    assert_int_equal(rd(t, 0, 0x54), 0x01000000);
    assert_int_equal(rd(t, 0, 0x58) & 0xff, 0x10);
    assert_int_equal(rd(t, 0, 0x60), 0x01010101);
    assert_int_equal(rd(t, 0, 0x70), 0x00021000);
    assert_int_equal(rd(t, 0, 0x90), 0);
    wr(t, 0, 0x04, 0); /* memory and master stay on */
    assert_int_equal(rd(t, 0, 0x04), 0x02800006);
}

static void test_mechanism(void **state)
{
    struct pci_test *t = *state;
    out32(t->f, 0xcf8, 0x80000000);
    assert_int_equal(in32(t->f, 0xcf8), 0x80000000);
    assert_int_equal(in32(t->f, 0xcfc), 0x12378086);
    assert_int_equal(in16(t->f, 0xcfe), 0x1237);
    assert_int_equal(in8(t->f, 0xcfd), 0x80);
    out8(t->f, 0xcf9, 0x00); /* another device's port */
    assert_int_equal(in32(t->f, 0xcf8), 0x80000000);
    out32(t->f, 0xcf8, 0x00000000); /* not enabled */
    assert_int_equal(in32(t->f, 0xcfc), 0xffffffff);
    assert_int_equal(rd(t, 31, 0), 0xffffffff); /* an empty slot */
    out32(t->f, 0xcf8, 0x80010000);             /* another bus */
    assert_int_equal(in32(t->f, 0xcfc), 0xffffffff);
    out32(t->f, 0xcf8, SLOT(t->slot) | 0x100); /* another function */
    assert_int_equal(in32(t->f, 0xcfc), 0xffffffff);
    assert_int_equal(rd(t, 1, 0), 0x70008086);
    assert_int_equal(rd(t, 1, 8) >> 8, 0x060100);
}

static void test_header(void **state)
{
    struct pci_test *t = *state;
    assert_int_equal(rd(t, t->slot, 0x00), 0x10001af4);
    wr(t, t->slot, 0x00, 0x12345678); /* read-only */
    assert_int_equal(rd(t, t->slot, 0x00), 0x10001af4);
    assert_int_equal(rd(t, t->slot, 0x08), 0x02000001);
    assert_int_equal(rd(t, t->slot, 0x2c), 0x00011af4);
    assert_int_equal(rd(t, t->slot, 0x3c) & 0xff00, 0x0100);
    wr(t, t->slot, 0x04, 0xffffffff);
    assert_int_equal(rd(t, t->slot, 0x04) & 0xffff, 0x0547);
    /* One byte of four. */
    out32(t->f, 0xcf8, SLOT(t->slot) | 0x3c);
    out8(t->f, 0xcfc, 0x0b);
    assert_int_equal(rd(t, t->slot, 0x3c) & 0xffff, 0x010b);
}

static void test_bar_sizing(void **state)
{
    struct pci_test *t = *state;
    u32 old = rd(t, t->slot, 0x10);
    wr(t, t->slot, 0x10, ~0u);
    assert_int_equal(rd(t, t->slot, 0x10), 0xffffffe1);
    wr(t, t->slot, 0x10, old);
    wr(t, t->slot, 0x14, ~0u);
    assert_int_equal(rd(t, t->slot, 0x14), 0xfffff000);
    wr(t, t->slot, 0x18, ~0u);
    wr(t, t->slot, 0x1c, ~0u);
    assert_int_equal(rd(t, t->slot, 0x18), 0xffffc004);
    assert_int_equal(rd(t, t->slot, 0x1c), 0xffffffff);
    wr(t, t->slot, 0x20, ~0u); /* none */
    assert_int_equal(rd(t, t->slot, 0x20), 0);
    wr(t, t->slot, 0x30, ~0u); /* no ROM */
    assert_int_equal(rd(t, t->slot, 0x30), 0);
}

static void test_bar_moves(void **state)
{
    struct pci_test *t = *state;
    wr(t, t->slot, 0x04, 0x3);
    wr(t, t->slot, 0x10, 0xd000);
    assert_int_equal(in8(t->f, 0xd013), 0x13);
    wr(t, t->slot, 0x10, 0xd101); /* bit 0 is not address */
    assert_int_equal(in8(t->f, 0xd013), 0xff);
    assert_int_equal(in8(t->f, 0xd113), 0x13);
    wr(t, t->slot, 0x04, 0x2); /* I/O off */
    assert_int_equal(in8(t->f, 0xd113), 0xff);
    /* 64-bit, above 4 GiB. */
    wr(t, t->slot, 0x18, 0);
    wr(t, t->slot, 0x1c, 0x10);
    assert_int_equal(bus_read(&t->f->board, BUS_MMIO, 0x1000000123, 8), 0x123);
    wr(t, t->slot, 0x04, 0);
    assert_int_equal(bus_read(&t->f->board, BUS_MMIO, 0x1000000123, 8), ~0ull);
    /* Sizing with decoding on must not put the BAR over everything. */
    wr(t, t->slot, 0x04, 0x3);
    wr(t, t->slot, 0x14, ~0u);
    assert_int_equal(bus_read(&t->f->board, BUS_MMIO, 0xfffff000, 4), 0xffffffff);
    wr(t, t->slot, 0x10, 0); /* nor at zero: not assigned */
    assert_int_equal(in8(t->f, 0x13), 0xff);
}

static void test_assign(void **state)
{
    struct pci_test *t = *state;
    devices_reset(&t->f->board);
    assert_int_equal(rd(t, t->slot, 0x10), 1);
    pci_host_assign(t->full.pci);
    u32 io = rd(t, t->slot, 0x10) & ~3u, mem = rd(t, t->slot, 0x18) & ~15u;
    assert_in_range(io, PCI_IO_BASE, PCI_IO_END - 32);
    assert_in_range(mem, PCI_MMIO_BASE, PCI_MMIO_END - 16 * KiB);
    assert_int_equal(mem % (16 * KiB), 0);
    assert_int_equal(rd(t, t->slot, 0x04) & 3, 3);
    assert_int_equal(in8(t->f, (u16)(io + 7)), 7);
    assert_int_equal(rd(t, t->slot, 0x3c) & 0xff,
                     (unsigned)pci_host_irq(t->full.pci, t->slot, 0));
}

static u8 find_capability(struct pci_test *t, u8 id)
{
    u8 at = (u8)rd(t, t->slot, 0x34);
    assert_true(rd(t, t->slot, 0x04) & 0x100000);
    while (at && (rd(t, t->slot, at) & 0xff) != id)
        at = (u8)(rd(t, t->slot, at) >> 8);
    return at;
}

static void test_msix(void **state)
{
    struct pci_test *t = *state;
    u8 cap = find_capability(t, PCI_CAP_MSIX);
    assert_true(cap);
    assert_int_equal(rd(t, t->slot, cap) >> 16, 3); /* four vectors */
    assert_int_equal(rd(t, t->slot, cap + 4u), 1);
    assert_int_equal(rd(t, t->slot, cap + 8u), 0x801);
    u64 table = rd(t, t->slot, 0x14);
    struct board *board = &t->f->board;
    assert_int_equal(bus_read(board, BUS_MMIO, table + 2 * 16 + 12, 4), 1); /* masked */
    bus_write(board, BUS_MMIO, table + 2 * 16, 4, 0xfee01000);
    bus_write(board, BUS_MMIO, table + 2 * 16 + 8, 4, 0x4077);
    pci_msix_notify(&t->full.card, 2); /* not enabled: nothing, not even pending */
    wr(t, t->slot, cap, 0x80000000);
    assert_true(pci_msix_enabled(&t->full.card));
    assert_int_equal(bus_read(board, BUS_MMIO, table + 0x800, 8), 0);
    pci_msix_notify(&t->full.card, 2);
    assert_int_equal(bus_read(board, BUS_MMIO, table + 0x800, 8), 4);
    assert_int_equal(ack(t, 1), -1);
    bus_write(board, BUS_MMIO, table + 2 * 16 + 12, 4, 0); /* unmask: what waited comes */
    assert_int_equal(ack(t, 1), 0x77);
    assert_int_equal(bus_read(board, BUS_MMIO, table + 0x800, 8), 0);
    wr(t, t->slot, cap, 0xc0000000); /* function mask */
    vcpu_mmio_write(t->f->vcpus[1], gpa(LAPIC_ADDRESS + 0xb0), 4, 0);
    pci_msix_notify(&t->full.card, 2);
    assert_int_equal(ack(t, 1), -1);
    wr(t, t->slot, cap, 0x80000000);
    assert_int_equal(ack(t, 1), 0x77);
    pci_msix_notify(&t->full.card, 0xffff); /* no vector */
}

static void route_pin(struct pci_test *t, unsigned pin, u32 low)
{
    bus_write(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS, 4, 0x10 + 2 * pin);
    bus_write(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS + 0x10, 4, low);
}

static void test_intx(void **state)
{
    struct pci_test *t = *state;
    int irq = pci_host_irq(t->full.pci, t->slot, 0);
    assert_true(irq == 10 || irq == 11);
    route_pin(t, (unsigned)irq, 0x8000 | 0x6a);
    pci_set_intx(&t->full.card, true);
    assert_int_equal(rd(t, t->slot, 0x04) >> 16 & 8, 8);
    assert_int_equal(ack(t, 0), 0x6a);
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + 0xb0), 4, 0);
    assert_int_equal(ack(t, 0), 0x6a); /* a level */
    wr(t, t->slot, 0x04, 0x403);       /* INTx disable */
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + 0xb0), 4, 0);
    assert_int_equal(ack(t, 0), -1);
    /* Routed elsewhere by the PIIX3. */
    wr(t, 1, 0x60, 0x05050505);
    route_pin(t, 5, 0x8000 | 0x65);
    wr(t, t->slot, 0x04, 0x3);
    assert_int_equal(ack(t, 0), 0x65);
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + 0xb0), 4, 0);
    wr(t, 1, 0x60, 0x80808080); /* off */
    assert_int_equal(pci_host_irq(t->full.pci, t->slot, 0), -1);
    while (ack(t, 0) >= 0)
        vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + 0xb0), 4, 0);
    pci_set_intx(&t->full.card, false);
}

static void test_swizzle(void **state)
{
    struct pci_test *t = *state;
    static const int expected[4] = {10, 10, 11, 11};
    for (unsigned slot = 0; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++)
            assert_int_equal(pci_host_irq(t->full.pci, slot, pin),
                             expected[(slot + 3 + pin) % 4]);
}

static u8 get_byte(struct pci_test *t, u64 addr)
{
    u8 value = 0;
    assert_true(ram_read(&t->f->board, gpa(addr), &value, 1));
    return value;
}

static void put_byte(struct pci_test *t, u64 addr, u8 value)
{
    ram_write(&t->f->board, gpa(addr), &value, 1);
}

/* PAM: what lies below 4 GiB shows at E0000h and F0000h until RAM is switched in, and comes
 * back; what was in RAM stays there. */
static void test_shadow(void **state)
{
    struct pci_test *t = *state;
    const u64 high = 4 * GiB - 128 * KiB;
    assert_true(pmap_set_rom(t->f->board.pmap, gpa(high), 128 * KiB, false));
    put_byte(t, high + 5, 0xe5);
    put_byte(t, high + 64 * KiB + 5, 0xf5);
    put_byte(t, 0xe0005, 1);
    put_byte(t, 0xf0005, 2);
    board_lock(&t->f->board);
    pci_host_shadow(t->full.pci, true);
    board_unlock(&t->f->board);
    assert_int_equal(rd(t, 0, 0x58), 0x00000010); /* no RAM, by PAM0 to PAM2 */
    assert_int_equal(get_byte(t, 0xc0005), 0xff);
    assert_int_equal(get_byte(t, 0xe0005), 0xe5);
    assert_int_equal(get_byte(t, 0xf0005), 0xf5);
    put_byte(t, 0xf0005, 3);
    assert_int_equal(get_byte(t, 0xf0005), 0xf5);

    wr(t, 0, 0x58, 0x00003000); /* F0000h: RAM */
    assert_int_equal(get_byte(t, 0xf0005), 2);
    assert_int_equal(get_byte(t, 0xe0005), 0xe5);
    put_byte(t, 0xf0005, 4);
    wr(t, 0, 0x58, 0x00001000); /* to be read only */
    put_byte(t, 0xf0005, 5);
    assert_int_equal(get_byte(t, 0xf0005), 4);
    wr(t, 0, 0x5c, 0x01000100); /* PAM6 and PAM4: E8000h and D8000h */
    assert_int_equal(get_byte(t, 0xe0005), 0xe5);
    wr(t, 0, 0x5c, 0x00010000); /* PAM5, low half: E0000h */
    assert_int_equal(get_byte(t, 0xe0005), 1);
    wr(t, 0, 0x58, 0x00000000);
    assert_int_equal(get_byte(t, 0xf0005), 0xf5);
}

static void count_move(void *opaque)
{
    ++*(unsigned *)opaque;
}

/* Firmware finds ACPI's registers nowhere, places them where it likes, and a reset takes them
 * away again. */
static void test_piix4_pm(void **state)
{
    struct pci_test *t = *state;
    const unsigned isa = PCI_ISA_SLOT, pm = 3 << 8;
    unsigned moves = 0;
    piix4_pm_watch(t->full.piix4_pm, count_move, &moves);
    assert_int_equal(rd(t, isa, 0), 0x70008086);
    assert_int_equal(rd(t, isa, pm), 0x71138086);
    assert_int_equal(rd(t, isa, pm | 0x40), ACPI_PM_BASE | 1);
    assert_int_equal(rd(t, isa, pm | 0x58), BIT(25)); /* no SMM to set up */
    assert_int_equal(in16(t->f, ACPI_PM1_CNT), 1);

    devices_reset(&t->f->board);
    piix4_pm_start(t->full.piix4_pm, true);
    assert_int_equal(rd(t, isa, pm | 0x40), 1);
    assert_int_equal(in16(t->f, ACPI_PM1_CNT), 0xffff);
    wr(t, isa, pm | 0x40, 0xffffb03f);
    assert_int_equal(rd(t, isa, pm | 0x40), 0xb001);
    assert_int_equal(in16(t->f, 0xb004), 0xffff); /* not enabled yet */
    assert_int_equal(moves, 0);
    wr(t, isa, pm | 0x80, 1);
    assert_int_equal(moves, 1);
    assert_int_equal(in16(t->f, 0xb004), 1);
    assert_int_not_equal(in32(t->f, 0xb008), 0xffffffff);
    wr(t, isa, pm | 0x40, 0xa001);
    assert_int_equal(moves, 2);
    assert_int_equal(in16(t->f, 0xb004), 0xffff);
    assert_int_equal(in16(t->f, 0xa004), 1);
    wr(t, isa, pm | 0x80, 0);
    assert_int_equal(in16(t->f, 0xa004), 0xffff);
    assert_int_equal(moves, 2);

    devices_reset(&t->f->board);
    piix4_pm_start(t->full.piix4_pm, false);
    assert_int_equal(in16(t->f, ACPI_PM1_CNT), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mechanism), TEST(test_header),   TEST(test_bar_sizing), TEST(test_bar_moves),
        TEST(test_assign),    TEST(test_msix),     TEST(test_intx),       TEST(test_swizzle),
        TEST(test_shadow),    TEST(test_piix4_pm), TEST(test_bridge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
