/* The IOAPIC, and the wires that share it with the 8259 pair. */
#include "fixture.h"

struct ioapic_test {
    struct fixture *f;
    struct apic_bus *bus;
    struct ioapic *ioapic;
    struct pic *pic;
    struct gsi gsi;
};

static int setup(void **state)
{
    struct ioapic_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(2);
    t->bus = apic_bus_create(&t->f->board, 40);
    for (unsigned i = 0; i < 2; i++) {
        lapic_create(t->bus, t->f->vcpus[i]);
        vcpu_mmio_write(t->f->vcpus[i], gpa(LAPIC_ADDRESS + 0xf0), 4, 0x1ff);
    }
    t->pic = pic_create(&t->f->board, fixture_line(t->f, 0));
    t->ioapic = ioapic_create(&t->f->board, t->bus);
    gsi_init(&t->gsi, t->pic, t->ioapic);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct ioapic_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static u32 rd(struct ioapic_test *t, u8 reg)
{
    bus_write(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS, 4, reg);
    return (u32)bus_read(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS + 0x10, 4);
}

static void wr(struct ioapic_test *t, u8 reg, u32 value)
{
    bus_write(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS, 4, reg);
    bus_write(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS + 0x10, 4, value);
}

static void route(struct ioapic_test *t, unsigned pin, u64 rte)
{
    wr(t, (u8)(0x11 + 2 * pin), (u32)(rte >> 32));
    wr(t, (u8)(0x10 + 2 * pin), (u32)rte);
}

static int ack(struct ioapic_test *t, unsigned cpu)
{
    return t->f->vcpus[cpu]->apic_ops->acknowledge(t->f->vcpus[cpu]->apic);
}

static void eoi(struct ioapic_test *t, unsigned cpu)
{
    vcpu_mmio_write(t->f->vcpus[cpu], gpa(LAPIC_ADDRESS + 0xb0), 4, 0);
}

static void set(struct ioapic_test *t, unsigned pin, bool level)
{
    struct irq_line line = ioapic_line(t->ioapic, pin);
    irq_set(&line, level);
}

static void test_registers(void **state)
{
    struct ioapic_test *t = *state;
    assert_int_equal(rd(t, 0), 0);
    assert_int_equal(rd(t, 1), 0x170020);
    wr(t, 0, 0xff000000);
    assert_int_equal(rd(t, 0), 0x0f000000);
    assert_int_equal(rd(t, 0x10), 0x10000);
    route(t, 5, ~0ull);
    assert_int_equal(rd(t, 0x1a), 0x1afff); /* read-only and reserved bits */
    assert_int_equal(rd(t, 0x1b), 0xff000000);
    assert_int_equal(rd(t, 0x50), 0);
}

static void test_edge(void **state)
{
    struct ioapic_test *t = *state;
    route(t, 4, 1ull << 56 | 0x44);
    set(t, 4, true);
    assert_int_equal(ack(t, 1), 0x44);
    eoi(t, 1);
    set(t, 4, true); /* no edge */
    assert_int_equal(ack(t, 1), -1);
    set(t, 4, false);
    set(t, 4, true);
    assert_int_equal(ack(t, 1), 0x44);
    assert_int_equal(rd(t, 0x18), 0x44); /* no remote IRR */
}

static void test_masked_edge_is_lost(void **state)
{
    struct ioapic_test *t = *state;
    route(t, 4, 0x10044);
    set(t, 4, true);
    route(t, 4, 0x44);
    assert_int_equal(ack(t, 0), -1);
}

static void test_level(void **state)
{
    struct ioapic_test *t = *state;
    route(t, 10, 0x8000 | 0x6a);
    set(t, 10, true);
    assert_int_equal(rd(t, 0x24), 0xc06a); /* remote IRR */
    assert_int_equal(ack(t, 0), 0x6a);
    assert_int_equal(ack(t, 0), -1);
    eoi(t, 0); /* still up: again */
    assert_int_equal(ack(t, 0), 0x6a);
    set(t, 10, false);
    eoi(t, 0);
    assert_int_equal(rd(t, 0x24), 0x806a);
    assert_int_equal(ack(t, 0), -1);
    /* Masked while up, then unmasked: a level is not lost. */
    route(t, 10, 0x18000 | 0x6a);
    set(t, 10, true);
    assert_int_equal(ack(t, 0), -1);
    route(t, 10, 0x8000 | 0x6a);
    assert_int_equal(ack(t, 0), 0x6a);
}

static void test_eoi_register(void **state)
{
    struct ioapic_test *t = *state;
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + 0xf0), 4, 0x11ff); /* no broadcast */
    route(t, 10, 0x8000 | 0x6a);
    set(t, 10, true);
    assert_int_equal(ack(t, 0), 0x6a);
    eoi(t, 0);
    assert_int_equal(rd(t, 0x24), 0xc06a);
    set(t, 10, false);
    bus_write(&t->f->board, BUS_MMIO, IOAPIC_ADDRESS + 0x40, 4, 0x6a);
    assert_int_equal(rd(t, 0x24), 0x806a);
}

/* What Linux does for IOAPICs without EOI register: to edge and back. */
static void test_edge_clears_remote_irr(void **state)
{
    struct ioapic_test *t = *state;
    route(t, 10, 0x8000 | 0x6a);
    set(t, 10, true);
    wr(t, 0x24, 0x1006a);
    assert_int_equal(rd(t, 0x24), 0x1006a);
    wr(t, 0x24, 0x1806a);
    assert_int_equal(rd(t, 0x24), 0x1806a);
}

static void test_modes(void **state)
{
    struct ioapic_test *t = *state;
    route(t, 7, 1ull << 56 | 0x400); /* NMI */
    set(t, 7, true);
    assert_int_equal(atomic_load(&t->f->vcpus[1]->cpu.attention), ATTN_NMI);
    for (unsigned i = 0; i < 2; i++)
        vcpu_mmio_write(t->f->vcpus[i], gpa(LAPIC_ADDRESS + 0xd0), 4, 1u << (24 + i));
    route(t, 6, 3ull << 56 | 0x800 | 0x56); /* logical: both */
    set(t, 6, true);
    assert_int_equal(ack(t, 0), 0x56);
    assert_int_equal(ack(t, 1), 0x56);
    route(t, 5, 0xffull << 56 | 0x57); /* physical broadcast */
    set(t, 5, true);
    eoi(t, 0);
    eoi(t, 1);
    assert_int_equal(ack(t, 0), 0x57);
    assert_int_equal(ack(t, 1), 0x57);
}

static void test_gsi(void **state)
{
    struct ioapic_test *t = *state;
    struct irq_line timer = gsi_line(&t->gsi, 0), com1 = gsi_line(&t->gsi, 4);
    struct irq_line pin20 = gsi_line(&t->gsi, 20);
    route(t, 2, 0x32);
    route(t, 4, 0x34);
    route(t, 20, 0x40);
    irq_set(&timer, true);
    assert_int_equal(ack(t, 0), 0x32); /* IRQ 0 comes in at pin 2 */
    irq_set(&com1, true);
    irq_set(&pin20, true);
    assert_int_equal(ack(t, 0), 0x40);
    eoi(t, 0);
    eoi(t, 0);
    assert_int_equal(ack(t, 0), 0x34);
    assert_int_equal(in8(t->f, 0x20), 0x11); /* the 8259's IRR has 0 and 4 */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registers),    TEST(test_edge),
        TEST(test_level),        TEST(test_masked_edge_is_lost),
        TEST(test_eoi_register), TEST(test_edge_clears_remote_irr),
        TEST(test_modes),        TEST(test_gsi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
