/* Local APICs: registers, modes, priorities, IPIs, timer; SDM vol. 3, chapter 10. */
#include "fixture.h"

#define ICR_LOW    0x300
#define ICR_HIGH   0x310
#define SVR        0xf0
#define TPR        0x80
#define EOI        0xb0
#define ESR        0x280
#define LVT_TIMER  0x320
#define LVT_LINT0  0x350
#define LVT_LINT1  0x360
#define LVT_ERROR  0x370
#define TIMER_INIT 0x380
#define TIMER_NOW  0x390
#define DIVIDE     0x3e0

#define CPUS 4

struct lapic_test {
    struct fixture *f;
    struct apic_bus *bus;
    struct lapic *lapic[CPUS];
    unsigned eois;
    u8 eoi_vector;
};

static u32 rd(struct lapic_test *t, unsigned cpu, u32 reg)
{
    return (u32)vcpu_mmio_read(t->f->vcpus[cpu], gpa(LAPIC_ADDRESS + reg), 4);
}

static void wr(struct lapic_test *t, unsigned cpu, u32 reg, u32 value)
{
    vcpu_mmio_write(t->f->vcpus[cpu], gpa(LAPIC_ADDRESS + reg), 4, value);
}

static bool rdmsr(struct lapic_test *t, unsigned cpu, u32 index, u64 *value)
{
    return t->f->vcpus[cpu]->apic_ops->read_msr(t->f->vcpus[cpu]->apic, index, value);
}

static bool wrmsr(struct lapic_test *t, unsigned cpu, u32 index, u64 value)
{
    return t->f->vcpus[cpu]->apic_ops->write_msr(t->f->vcpus[cpu]->apic, index, value);
}

static u32 attention(struct lapic_test *t, unsigned cpu)
{
    return atomic_load(&t->f->vcpus[cpu]->cpu.attention);
}

static bool intr(struct lapic_test *t, unsigned cpu)
{
    return attention(t, cpu) & ATTN_INTR;
}

static int ack(struct lapic_test *t, unsigned cpu)
{
    return t->f->vcpus[cpu]->apic_ops->acknowledge(t->f->vcpus[cpu]->apic);
}

static void eoi_heard(void *opaque, u8 vector)
{
    struct lapic_test *t = opaque;
    t->eois++;
    t->eoi_vector = vector;
}

static int setup(void **state)
{
    struct lapic_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(CPUS);
    t->bus = apic_bus_create(&t->f->board, 40);
    apic_bus_set_eoi(t->bus, eoi_heard, t);
    for (unsigned i = 0; i < CPUS; i++) {
        t->lapic[i] = lapic_create(t->bus, t->f->vcpus[i]);
        wr(t, i, SVR, 0x1ff);
    }
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct lapic_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static void enter_x2apic(struct lapic_test *t)
{
    for (unsigned i = 0; i < CPUS; i++) {
        u64 base;
        assert_true(rdmsr(t, i, MSR_APIC_BASE, &base));
        assert_true(wrmsr(t, i, MSR_APIC_BASE, base | APIC_BASE_EXTD));
    }
}

static bool irr_has(struct lapic_test *t, unsigned cpu, u8 vector)
{
    return rd(t, cpu, 0x200u + vector / 32 * 16u) >> vector % 32 & 1;
}

static void test_reset_state(void **state)
{
    struct lapic_test *t = *state;
    devices_reset(&t->f->board);
    for (unsigned i = 0; i < CPUS; i++) {
        u64 base;
        assert_true(rdmsr(t, i, MSR_APIC_BASE, &base));
        assert_int_equal(base, 0xfee00800 | (i == 0 ? 0x100 : 0));
        assert_int_equal(rd(t, i, 0x20), i << 24);
        assert_int_equal(rd(t, i, 0x30) & 0xff00ff, 0x050014);
        assert_int_equal(rd(t, i, SVR), 0xff);
        assert_int_equal(rd(t, i, 0xe0), 0xffffffff);
        assert_int_equal(rd(t, i, LVT_TIMER), 0x10000);
        assert_int_equal(rd(t, i, LVT_LINT0), i == 0 ? 0x700 : 0x10000);
    }
}

static void test_priorities(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, ICR_LOW, 0x40000 | 0x41); /* self */
    assert_true(intr(t, 0));
    wr(t, 0, ICR_LOW, 0x40000 | 0x62);
    wr(t, 0, TPR, 0x60);
    assert_false(intr(t, 0));
    assert_int_equal(ack(t, 0), -1);
    wr(t, 0, TPR, 0x5f);
    assert_true(intr(t, 0));
    assert_int_equal(ack(t, 0), 0x62);
    assert_int_equal(rd(t, 0, 0xa0), 0x60); /* PPR: the class in service */
    assert_false(intr(t, 0));
    wr(t, 0, ICR_LOW, 0x40000 | 0x6f); /* same class waits */
    assert_false(intr(t, 0));
    wr(t, 0, ICR_LOW, 0x40000 | 0x71);
    assert_int_equal(ack(t, 0), 0x71);
    wr(t, 0, EOI, 0);
    assert_int_equal(rd(t, 0, 0xa0), 0x60);
    wr(t, 0, EOI, 0);
    assert_int_equal(rd(t, 0, 0xa0), 0x5f);
    assert_int_equal(ack(t, 0), 0x6f);
    wr(t, 0, EOI, 0);
    wr(t, 0, TPR, 0);
    assert_int_equal(ack(t, 0), 0x41);
    wr(t, 0, EOI, 0);
    assert_int_equal(ack(t, 0), -1);
    assert_int_equal(t->eois, 0); /* edges are not broadcast */
}

static void test_cr8(void **state)
{
    struct lapic_test *t = *state;
    struct vcpu *vcpu = t->f->vcpus[0];
    wr(t, 0, ICR_LOW, 0x40000 | 0x91);
    vcpu->apic_ops->write_tpr(vcpu->apic, 9);
    assert_int_equal(rd(t, 0, TPR), 0x90);
    assert_false(intr(t, 0));
    vcpu->apic_ops->write_tpr(vcpu->apic, 8);
    assert_true(intr(t, 0));
    assert_int_equal(vcpu->apic_ops->read_tpr(vcpu->apic), 8);
}

static void test_level_eoi(void **state)
{
    struct lapic_test *t = *state;
    struct apic_message m = {.dest = 1, .level = true, .vector = 0x55};
    assert_true(apic_bus_send(t->bus, &m));
    assert_int_equal(ack(t, 1), 0x55);
    assert_int_equal(rd(t, 1, 0x180 + 0x20), 1u << 21); /* TMR */
    wr(t, 1, EOI, 0);
    assert_int_equal(t->eois, 1);
    assert_int_equal(t->eoi_vector, 0x55);
    /* Directed EOI: suppressed. */
    wr(t, 1, SVR, 0x11ff);
    apic_bus_send(t->bus, &m);
    assert_int_equal(ack(t, 1), 0x55);
    wr(t, 1, EOI, 0);
    assert_int_equal(t->eois, 1);
}

static void test_ipis(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, ICR_HIGH, 2u << 24);
    wr(t, 0, ICR_LOW, 0x77);
    assert_true(irr_has(t, 2, 0x77));
    assert_false(irr_has(t, 1, 0x77));
    wr(t, 0, ICR_LOW, 0xc0000 | 0x78); /* all but self */
    wr(t, 0, ICR_LOW, 0x80000 | 0x79); /* all */
    wr(t, 0, ICR_HIGH, 0xffu << 24);
    wr(t, 0, ICR_LOW, 0x7a); /* physical broadcast */
    for (unsigned i = 0; i < CPUS; i++) {
        assert_int_equal(irr_has(t, i, 0x78), i != 0);
        assert_true(irr_has(t, i, 0x79));
        assert_true(irr_has(t, i, 0x7a));
    }
}

/* Two APICs that were given one id both have it; the one that it was has it no more. */
static void test_written_ids(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 1, 0x20, 2u << 24);
    wr(t, 0, ICR_HIGH, 2u << 24);
    wr(t, 0, ICR_LOW, 0x77);
    wr(t, 0, ICR_HIGH, 1u << 24);
    wr(t, 0, ICR_LOW, 0x78);
    for (unsigned i = 0; i < CPUS; i++) {
        assert_int_equal(irr_has(t, i, 0x77), i == 1 || i == 2);
        assert_false(irr_has(t, i, 0x78));
    }
    devices_reset(&t->f->board);
    wr(t, 1, SVR, 0x1ff);
    wr(t, 0, ICR_HIGH, 1u << 24);
    wr(t, 0, ICR_LOW, 0x78);
    assert_true(irr_has(t, 1, 0x78));
}

static void test_ipi_modes(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, ICR_HIGH, 1u << 24);
    wr(t, 0, ICR_LOW, 0x4400); /* NMI */
    assert_int_equal(attention(t, 1), ATTN_NMI);
    wr(t, 0, ICR_LOW, 0xc500); /* INIT, assert */
    assert_int_equal(attention(t, 1), ATTN_NMI | ATTN_INIT);
    vcpu_clear(t->f->vcpus[1], ATTN_NMI | ATTN_INIT);
    wr(t, 0, ICR_LOW, 0x8500); /* INIT level de-assert: nothing */
    assert_int_equal(attention(t, 1), 0);
    wr(t, 0, ICR_LOW, 0x4600 | 0x9a); /* SIPI */
    assert_int_equal(attention(t, 1), ATTN_SIPI);
    assert_int_equal(atomic_load(&t->f->vcpus[1]->sipi_vector), 0x9a);
    assert_int_equal(attention(t, 2), 0);
    /* INIT voids a start-up IPI before it, but not one after it. */
    wr(t, 0, ICR_LOW, 0x4500);
    assert_int_equal(attention(t, 1), ATTN_INIT);
    wr(t, 0, ICR_LOW, 0x4600 | 0x9b);
    assert_int_equal(attention(t, 1), ATTN_INIT | ATTN_SIPI);
}

static void test_logical(void **state)
{
    struct lapic_test *t = *state;
    for (unsigned i = 0; i < CPUS; i++)
        wr(t, i, 0xd0, 1u << (24 + i));
    wr(t, 0, ICR_HIGH, 0x0au << 24); /* flat: 1 and 3 */
    wr(t, 0, ICR_LOW, 0x4800 | 0x50);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(irr_has(t, i, 0x50), i & 1);
    for (unsigned i = 0; i < CPUS; i++) { /* cluster i / 2, member i % 2 */
        wr(t, i, 0xe0, 0x0fffffff);
        wr(t, i, 0xd0, (i / 2 << 4 | 1u << i % 2) << 24);
    }
    wr(t, 0, ICR_HIGH, 0x13u << 24); /* both of cluster 1 */
    wr(t, 0, ICR_LOW, 0x4800 | 0x51);
    wr(t, 0, ICR_HIGH, 0xf1u << 24); /* member 0 of every cluster */
    wr(t, 0, ICR_LOW, 0x4800 | 0x52);
    for (unsigned i = 0; i < CPUS; i++) {
        assert_int_equal(irr_has(t, i, 0x51), i >= 2);
        assert_int_equal(irr_has(t, i, 0x52), i % 2 == 0);
    }
}

static void test_lowest_priority(void **state)
{
    struct lapic_test *t = *state;
    for (unsigned i = 0; i < CPUS; i++) {
        wr(t, i, 0xd0, 1u << (24 + i));
        wr(t, i, TPR, i == 2 ? 0x10 : 0x20);
    }
    wr(t, 0, ICR_HIGH, 0x0fu << 24);
    wr(t, 0, ICR_LOW, 0x4900 | 0x60);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(irr_has(t, i, 0x60), i == 2);
}

static void test_software_disable(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 1, LVT_TIMER, 0x30);
    wr(t, 1, ICR_LOW, 0x40000 | 0x31);
    wr(t, 1, SVR, 0xff);
    assert_int_equal(rd(t, 1, LVT_TIMER), 0x10030); /* masked */
    wr(t, 1, LVT_TIMER, 0x30);
    assert_int_equal(rd(t, 1, LVT_TIMER), 0x10030); /* and stays so */
    assert_true(intr(t, 1));                        /* what was pending is still delivered */
    assert_int_equal(ack(t, 1), 0x31);
    struct apic_message m = {.dest = 1, .vector = 0x40};
    assert_false(apic_bus_send(t->bus, &m));
    m.mode = APIC_NMI; /* but NMI gets through */
    assert_true(apic_bus_send(t->bus, &m));
    assert_true(attention(t, 1) & ATTN_NMI);
}

static void test_esr(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, LVT_ERROR, 0xe0);
    wr(t, 0, ICR_LOW, 0x40000 | 0x05); /* an illegal vector */
    assert_int_equal(rd(t, 0, ESR), 0);
    assert_int_equal(ack(t, 0), 0xe0);
    wr(t, 0, ESR, 0);
    assert_int_equal(rd(t, 0, ESR), 0x20);
    wr(t, 0, ESR, 0);
    assert_int_equal(rd(t, 0, ESR), 0);
    struct apic_message m = {.dest = 0, .vector = 3};
    assert_false(apic_bus_send(t->bus, &m));
    rd(t, 0, 0x40); /* no such register */
    wr(t, 0, ESR, 0);
    assert_int_equal(rd(t, 0, ESR), 0xc0);
}

static void test_timer_one_shot(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, LVT_TIMER, 0x30);
    wr(t, 0, DIVIDE, 0xb); /* by 1 */
    wr(t, 0, TIMER_INIT, 1000);
    fixture_step(t->f, 400);
    assert_int_equal(rd(t, 0, TIMER_NOW), 600);
    fixture_step(t->f, 599);
    assert_false(intr(t, 0));
    assert_int_equal(rd(t, 0, TIMER_NOW), 1);
    fixture_step(t->f, 1);
    assert_int_equal(ack(t, 0), 0x30);
    assert_int_equal(rd(t, 0, TIMER_NOW), 0);
    wr(t, 0, EOI, 0);
    fixture_step(t->f, 10000);
    assert_false(intr(t, 0));
}

static void test_timer_divide(void **state)
{
    struct lapic_test *t = *state;
    static const struct {
        u32 code, by;
    } divides[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
    for (unsigned i = 0; i < ARRAY_LEN(divides); i++) {
        wr(t, 0, DIVIDE, divides[i].code);
        wr(t, 0, TIMER_INIT, 1000);
        fixture_step(t->f, 10 * divides[i].by);
        assert_int_equal(rd(t, 0, TIMER_NOW), 990);
    }
    /* A change goes on from the count. */
    wr(t, 0, DIVIDE, 0);
    wr(t, 0, TIMER_INIT, 1000);
    fixture_step(t->f, 1000);
    wr(t, 0, DIVIDE, 11);
    assert_int_equal(rd(t, 0, TIMER_NOW), 500);
    fixture_step(t->f, 100);
    assert_int_equal(rd(t, 0, TIMER_NOW), 400);
}

/* The count goes on where the mode changes between one-shot and periodic. */
static void test_timer_mode(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, DIVIDE, 0xb);
    wr(t, 0, LVT_TIMER, 0x10030);
    wr(t, 0, TIMER_INIT, 1000000);
    fixture_step(t->f, 600000);
    wr(t, 0, LVT_TIMER, 0x30030); /* periodic: not loaded anew */
    assert_int_equal(rd(t, 0, TIMER_NOW), 400000);
    fixture_step(t->f, 1500000);
    assert_int_equal(rd(t, 0, TIMER_NOW), 900000);
    wr(t, 0, LVT_TIMER, 0x10030); /* one-shot: the present period is the last */
    assert_int_equal(rd(t, 0, TIMER_NOW), 900000);
    fixture_step(t->f, 900000);
    assert_int_equal(rd(t, 0, TIMER_NOW), 0);
    wr(t, 0, LVT_TIMER, 0x30030); /* what has reached zero stays there */
    assert_int_equal(rd(t, 0, TIMER_NOW), 0);
    fixture_step(t->f, 300000);
    assert_int_equal(rd(t, 0, TIMER_NOW), 0);
    assert_int_equal(rd(t, 0, TIMER_INIT), 1000000);
    wr(t, 0, TIMER_INIT, 1000);
    assert_int_equal(rd(t, 0, TIMER_NOW), 1000);
}

static void test_timer_periodic(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, DIVIDE, 0xb);
    wr(t, 0, LVT_TIMER, 0x20030);
    wr(t, 0, TIMER_INIT, 1000000);
    for (unsigned i = 0; i < 10; i++) {
        fixture_step(t->f, 999999);
        assert_false(intr(t, 0));
        fixture_step(t->f, 1);
        assert_int_equal(ack(t, 0), 0x30);
        wr(t, 0, EOI, 0);
    }
    /* Masked, it counts on but is silent. */
    wr(t, 0, LVT_TIMER, 0x30030);
    fixture_step(t->f, 2500000);
    assert_false(intr(t, 0));
    assert_int_equal(rd(t, 0, TIMER_NOW), 500000);
    wr(t, 0, LVT_TIMER, 0x20030);
    fixture_step(t->f, 500000);
    assert_true(intr(t, 0));
    wr(t, 0, TIMER_INIT, 0); /* stops */
    assert_int_equal(ack(t, 0), 0x30);
    wr(t, 0, EOI, 0);
    fixture_step(t->f, 5000000);
    assert_false(intr(t, 0));
}

static void test_timer_fast_period_is_bounded(void **state)
{
    struct lapic_test *t = *state;
    wr(t, 0, DIVIDE, 0xb);
    wr(t, 0, LVT_TIMER, 0x20030);
    wr(t, 0, TIMER_INIT, 1);
    fixture_step(t->f, 1000000); /* ends */
    assert_true(intr(t, 0));
}

static void test_tsc_deadline(void **state)
{
    struct lapic_test *t = *state;
    u64 value;
    t->f->vcpus[0]->cpu.tsc_offset = 5000;
    assert_true(wrmsr(t, 0, MSR_TSC_DEADLINE, 12345)); /* ignored in the other modes */
    assert_true(rdmsr(t, 0, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);
    wr(t, 0, LVT_TIMER, 0x40030);
    u64 tsc = t->f->now * 2 + 5000;
    assert_true(wrmsr(t, 0, MSR_TSC_DEADLINE, tsc + 2000)); /* 1,000 ns */
    assert_true(rdmsr(t, 0, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, tsc + 2000);
    wr(t, 0, TIMER_INIT, 7); /* no meaning here */
    assert_int_equal(rd(t, 0, TIMER_NOW), 0);
    fixture_step(t->f, 999);
    assert_false(intr(t, 0));
    fixture_step(t->f, 1);
    assert_int_equal(ack(t, 0), 0x30);
    assert_true(rdmsr(t, 0, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);
    wr(t, 0, EOI, 0);
    assert_true(wrmsr(t, 0, MSR_TSC_DEADLINE, 1)); /* past: at once */
    assert_int_equal(ack(t, 0), 0x30);
    wr(t, 0, EOI, 0);
    assert_true(wrmsr(t, 0, MSR_TSC_DEADLINE, t->f->now * 2 + 5000 + 2000));
    assert_true(wrmsr(t, 0, MSR_TSC_DEADLINE, 0)); /* disarms */
    fixture_step(t->f, 100000);
    assert_false(intr(t, 0));
    /* Leaving the mode disarms. */
    assert_true(wrmsr(t, 0, MSR_TSC_DEADLINE, t->f->now * 2 + 5000 + 2000));
    wr(t, 0, LVT_TIMER, 0x30);
    fixture_step(t->f, 100000);
    assert_false(intr(t, 0));
}

static void test_base_transitions(void **state)
{
    struct lapic_test *t = *state;
    const u64 base = LAPIC_ADDRESS | APIC_BASE_BSP;
    const u64 on = base | APIC_BASE_ENABLE, x2 = on | APIC_BASE_EXTD;
    assert_false(wrmsr(t, 0, MSR_APIC_BASE, base | APIC_BASE_EXTD)); /* never valid */
    assert_false(wrmsr(t, 0, MSR_APIC_BASE, on | 1));                /* reserved bit */
    assert_false(wrmsr(t, 0, MSR_APIC_BASE, on | BIT(40)));          /* beyond MAXPHYADDR */
    assert_true(wrmsr(t, 0, MSR_APIC_BASE, x2));
    assert_int_equal(atomic_load(&t->f->vcpus[0]->apic_page), ~0ull);
    assert_false(wrmsr(t, 0, MSR_APIC_BASE, on)); /* x2APIC -> xAPIC */
    assert_true(wrmsr(t, 0, MSR_APIC_BASE, base));
    assert_true(t->f->vcpus[0]->cpu.apic_off);
    assert_false(wrmsr(t, 0, MSR_APIC_BASE, x2)); /* disabled -> x2APIC */
    assert_true(wrmsr(t, 0, MSR_APIC_BASE, on));
    assert_false(t->f->vcpus[0]->cpu.apic_off);
    assert_int_equal(rd(t, 0, SVR), 0xff); /* its state was lost */
    assert_true(wrmsr(t, 0, MSR_APIC_BASE, (on & ~PAGE_MASK) | 0xfed00000));
    assert_int_equal(atomic_load(&t->f->vcpus[0]->apic_page), 0xfed00000);
}

static void test_x2apic_registers(void **state)
{
    struct lapic_test *t = *state;
    u64 value;
    assert_false(rdmsr(t, 1, 0x802, &value)); /* not in xAPIC mode */
    wr(t, 1, 0x20, 0x77u << 24);              /* the xAPIC id can be written */
    assert_int_equal(rd(t, 1, 0x20), 0x77u << 24);
    enter_x2apic(t);
    assert_true(rdmsr(t, 1, 0x802, &value)); /* the x2APIC id cannot */
    assert_int_equal(value, 1);
    assert_true(rdmsr(t, 3, 0x80d, &value));
    assert_int_equal(value, 8);
    static const u32 unreadable[] = {0x800, 0x801, 0x804, 0x809, 0x80b, 0x80c, 0x80e,
                                     0x829, 0x831, 0x83a, 0x83f, 0x840, 0x8ff};
    for (unsigned i = 0; i < ARRAY_LEN(unreadable); i++)
        assert_false(rdmsr(t, 1, unreadable[i], &value));
    static const u32 unwritable[] = {0x802, 0x803, 0x80a, 0x80d, 0x80e, 0x810,
                                     0x820, 0x831, 0x839, 0x83a, 0x840};
    for (unsigned i = 0; i < ARRAY_LEN(unwritable); i++)
        assert_false(wrmsr(t, 1, unwritable[i], 0));
    static const struct {
        u32 index;
        u64 value;
    } reserved[] = {{0x808, 0x100},   {0x80b, 1},     {0x80f, 0x2ff},   {0x828, 1},
                    {0x832, 0x80000}, {0x835, 0x800}, {0x838, BIT(32)}, {0x83e, 4},
                    {0x830, BIT(13)}, {0x83f, 0x100}, {0x830, BIT(16)}};
    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++)
        assert_false(wrmsr(t, 1, reserved[i].index, reserved[i].value));
    assert_true(wrmsr(t, 1, 0x808, 0x20));
    assert_true(rdmsr(t, 1, 0x808, &value));
    assert_int_equal(value, 0x20);
}

static void test_x2apic_ipis(void **state)
{
    struct lapic_test *t = *state;
    u64 value;
    enter_x2apic(t);
    assert_true(wrmsr(t, 0, 0x830, 2ull << 32 | 0x44));
    assert_int_equal(ack(t, 2), 0x44);
    assert_true(wrmsr(t, 2, 0x80b, 0));
    assert_true(wrmsr(t, 0, 0x830, 0xaull << 32 | 0x800 | 0x45)); /* logical: 1 and 3 */
    assert_int_equal(ack(t, 1), 0x45);
    assert_int_equal(ack(t, 3), 0x45);
    assert_int_equal(ack(t, 2), -1);
    assert_true(wrmsr(t, 0, 0x830, 0xffffffffull << 32 | 0x56));
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(ack(t, i), 0x56);
    assert_true(wrmsr(t, 3, 0x83f, 0x99)); /* self IPI */
    assert_int_equal(ack(t, 3), 0x99);
    assert_true(rdmsr(t, 0, 0x830, &value));
    assert_int_equal(value, 0xffffffffull << 32 | 0x56);
}

static void test_lint(void **state)
{
    struct lapic_test *t = *state;
    struct irq_line nmi = lapic_line(t->lapic[1], LAPIC_LINT1);
    irq_pulse(&nmi);
    assert_int_equal(attention(t, 1), 0); /* masked after reset */
    wr(t, 1, LVT_LINT1, 0x400);
    irq_pulse(&nmi);
    assert_int_equal(attention(t, 1), ATTN_NMI);
    /* LINT0, fixed and level: asks again after each EOI until it falls. */
    struct irq_line lint0 = lapic_line(t->lapic[1], LAPIC_LINT0);
    wr(t, 1, LVT_LINT0, 0x8000 | 0x66);
    irq_set(&lint0, true);
    assert_int_equal(ack(t, 1), 0x66);
    assert_int_equal(rd(t, 1, LVT_LINT0), 0xc066); /* remote IRR */
    wr(t, 1, EOI, 0);
    assert_int_equal(ack(t, 1), 0x66);
    irq_set(&lint0, false);
    wr(t, 1, EOI, 0);
    assert_false(intr(t, 1));
    assert_int_equal(rd(t, 1, LVT_LINT0), 0x8066);
}

static void program_pic(struct fixture *f)
{
    out8(f, 0x20, 0x11);
    out8(f, 0x21, 0x20);
    out8(f, 0x21, 0x04);
    out8(f, 0x21, 0x01);
}

static void test_extint(void **state)
{
    struct lapic_test *t = *state;
    struct pic *pic = pic_create(&t->f->board, lapic_line(t->lapic[0], LAPIC_LINT0));
    apic_bus_set_intack(t->bus, pic);
    program_pic(t->f);
    struct irq_line irq3 = pic_line(pic, 3);
    wr(t, 0, LVT_LINT0, 0x700);
    irq_set(&irq3, true);
    wr(t, 0, TPR, 0xff); /* ExtINT knows no priorities */
    assert_true(intr(t, 0));
    assert_int_equal(ack(t, 0), 0x23);
    assert_false(intr(t, 0));
    assert_int_equal(rd(t, 0, 0x110), 0); /* nothing in ISR */
    irq_set(&irq3, false);
    out8(t->f, 0x20, 0x20);
    wr(t, 0, LVT_LINT0, 0x10700);
    irq_set(&irq3, true);
    assert_false(intr(t, 0));
    wr(t, 0, LVT_LINT0, 0x700);
    assert_true(intr(t, 0));
    /* With the LAPIC switched off, INT is the processor's INTR pin. */
    wr(t, 0, LVT_LINT0, 0x10700);
    assert_true(wrmsr(t, 0, MSR_APIC_BASE, LAPIC_ADDRESS | APIC_BASE_BSP));
    assert_true(intr(t, 0));
    assert_int_equal(ack(t, 0), 0x23);
}

static void test_msi(void **state)
{
    struct lapic_test *t = *state;
    assert_true(apic_msi(t->bus, 0xfee02000, 0x4041));
    assert_int_equal(ack(t, 2), 0x41);
    assert_false(apic_msi(t->bus, 0xfed02000, 0x4041));
    for (unsigned i = 0; i < CPUS; i++)
        wr(t, i, 0xd0, 1u << (24 + i));
    assert_true(apic_msi(t->bus, 0xfee0900c, 0x4042)); /* logical, hint: one of 0 and 3 */
    assert_int_equal(irr_has(t, 0, 0x42) + irr_has(t, 3, 0x42), 1);
    assert_true(apic_msi(t->bus, 0xfeeff000, 0x4043)); /* broadcast */
    for (unsigned i = 0; i < CPUS; i++)
        assert_true(irr_has(t, i, 0x43));
}

static void test_init(void **state)
{
    struct lapic_test *t = *state;
    struct vcpu *vcpu = t->f->vcpus[1];
    wr(t, 1, 0x20, 9u << 24);
    wr(t, 1, TPR, 0x40);
    wr(t, 1, ICR_LOW, 0x40000 | 0x55);
    assert_true(intr(t, 1));
    vcpu->apic_ops->init(vcpu->apic);
    assert_false(intr(t, 1));
    assert_int_equal(rd(t, 1, SVR), 0xff);
    assert_int_equal(rd(t, 1, TPR), 0);
    assert_int_equal(rd(t, 1, 0x20), 9u << 24); /* the id stays */
}

/* Only aligned dwords are registers; the rest of each 16 bytes reads as zero. */
static void test_page_accesses(void **state)
{
    struct lapic_test *t = *state;
    struct vcpu *vcpu = t->f->vcpus[0];
    wr(t, 0, TPR, 0x55);
    assert_int_equal(vcpu_mmio_read(vcpu, gpa(LAPIC_ADDRESS + TPR + 4), 4), 0);
    assert_int_equal(vcpu_mmio_read(vcpu, gpa(LAPIC_ADDRESS + TPR), 1), 0x55);
    vcpu_mmio_write(vcpu, gpa(LAPIC_ADDRESS + TPR), 1, 0);
    vcpu_mmio_write(vcpu, gpa(LAPIC_ADDRESS + TPR + 4), 4, 0);
    assert_int_equal(rd(t, 0, TPR), 0x55);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_state),
        TEST(test_priorities),
        TEST(test_cr8),
        TEST(test_level_eoi),
        TEST(test_ipis),
        TEST(test_written_ids),
        TEST(test_ipi_modes),
        TEST(test_logical),
        TEST(test_lowest_priority),
        TEST(test_software_disable),
        TEST(test_esr),
        TEST(test_timer_one_shot),
        TEST(test_timer_divide),
        TEST(test_timer_periodic),
        TEST(test_timer_mode),
        TEST(test_timer_fast_period_is_bounded),
        TEST(test_tsc_deadline),
        TEST(test_base_transitions),
        TEST(test_x2apic_registers),
        TEST(test_x2apic_ipis),
        TEST(test_lint),
        TEST(test_extint),
        TEST(test_msi),
        TEST(test_init),
        TEST(test_page_accesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
