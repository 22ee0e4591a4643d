/* KVM's paravirtual features as a guest sees them: EOIs, steal time, hypercalls, and what each
 * word of -cpu hides. Linux: Documentation/virt/kvm/x86/msr.rst, hypercalls.rst, cpuid.rst. */
#include "fixture.h"

#include "device/steal.h"
#include "machine/pv.h"
#include "x86/model.h"

#define CPUS   3
#define VECTOR 0x55
#define EOI    0xb0
#define SVR    0xf0

/* Guest memory: the byte of EOIs, and struct kvm_steal_time. */
#define EOI_BYTE  0x1004u
#define STEAL     0x2040u
#define VERSION   (STEAL + 8)
#define PREEMPTED (STEAL + 16)

#define HC_KICK_CPU 5
#define HC_SEND_IPI 10

struct pv_test {
    struct fixture *f;
    struct apic_bus *bus;
    struct lapic *lapic[CPUS];
    struct pv pv[CPUS];
    struct x86_model model;
    u64 run_delay;
};

static u64 run_delay(void *opaque, unsigned cpu)
{
    const struct pv_test *t = opaque;
    return t->run_delay;
}

static unsigned flushes; /* of TLBs, whoever's */

static void count_flush(struct x86_cpu *c, enum x86_flush what, u16 pcid)
{
    assert_int_equal(what, FLUSH_ALL);
    flushes++;
}

static const struct x86_ops flush_ops = {.flush = count_flush};

static struct pv_test *create(const char *model)
{
    struct error err;
    struct pv_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(CPUS);
    fixture_add_ram(t->f, MiB);
    if (!x86_model_init(&t->model, model, CPUS, FIXTURE_TSC_HZ, &err))
        fail_msg("%s", err.text);
    t->bus = apic_bus_create(&t->f->board, 40);
    struct pvclock *clock = pvclock_create(&t->f->board);
    struct steal *steal = steal_create(&t->f->board, run_delay, t);
    for (unsigned i = 0; i < CPUS; i++) {
        struct vcpu *vcpu = t->f->vcpus[i];
        vcpu->cpu.model = &t->model;
        vcpu->cpu.code_size = 8;
        t->lapic[i] = lapic_create(t->bus, vcpu);
        vcpu_mmio_write(vcpu, gpa(LAPIC_ADDRESS + SVR), 4, 0x1ff);
        t->pv[i] = (struct pv){.clock = clock, .steal = steal, .apic_bus = t->bus};
        pv_attach(&t->pv[i], vcpu);
    }
    return t;
}

static int setup(void **state)
{
    *state = create("max");
    return 0;
}

static int teardown(void **state)
{
    struct pv_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static bool wrmsr(struct pv_test *t, u32 index, u64 value)
{
    return t->f->vcpus[0]->pv_ops->write_msr(t->f->vcpus[0]->pv, index, value);
}

static u64 load(struct pv_test *t, u32 at, unsigned size)
{
    u64 value = 0;
    assert_true(ram_read(&t->f->board, gpa(at), &value, size));
    return value;
}

static void store8(struct pv_test *t, u32 at, u8 value)
{
    assert_true(ram_write(&t->f->board, gpa(at), &value, 1));
}

/* -- EOIs ---------------------------------------------------------------------------------- */

static void interrupt(struct pv_test *t, u8 vector)
{
    board_lock(&t->f->board);
    assert_true(lapic_accept(t->lapic[0], APIC_FIXED, vector, false));
    board_unlock(&t->f->board);
}

static int ack(struct pv_test *t)
{
    return t->f->vcpus[0]->apic_ops->acknowledge(t->f->vcpus[0]->apic);
}

static bool line(struct pv_test *t)
{
    return atomic_load(&t->f->vcpus[0]->cpu.attention) & ATTN_INTR;
}

static bool in_service(struct pv_test *t, u8 vector)
{
    u32 isr =
        (u32)vcpu_mmio_read(t->f->vcpus[0], gpa(LAPIC_ADDRESS + 0x100 + vector / 32 * 16u), 4);
    return isr >> vector % 32 & 1;
}

static void test_eoi_by_memory(void **state)
{
    struct pv_test *t = *state;
    assert_false(wrmsr(t, MSR_KVM_PV_EOI_EN, EOI_BYTE | 3));
    assert_true(wrmsr(t, MSR_KVM_PV_EOI_EN, EOI_BYTE | 1));
    for (unsigned i = 0; i < 3; i++) {
        interrupt(t, VECTOR);
        assert_true(line(t));
        assert_int_equal(ack(t), VECTOR);
        assert_int_equal(load(t, EOI_BYTE, 1), 1);
        assert_false(line(t));
        store8(t, EOI_BYTE, 0); /* the guest's EOI */
    }
    /* A lower one comes through at once: the first is over. */
    interrupt(t, VECTOR - 0x10);
    assert_true(line(t));
    assert_int_equal(ack(t), VECTOR - 0x10);
    assert_false(in_service(t, VECTOR));
}

static void test_eoi_is_wanted_when_something_waits(void **state)
{
    struct pv_test *t = *state;
    assert_true(wrmsr(t, MSR_KVM_PV_EOI_EN, EOI_BYTE | 1));
    interrupt(t, VECTOR);
    assert_int_equal(ack(t), VECTOR);
    /* Still in its handler when a lower one comes: the offer is withdrawn. */
    interrupt(t, VECTOR - 0x10);
    assert_true(line(t));
    assert_int_equal(ack(t), -1);
    assert_false(line(t));
    assert_int_equal(load(t, EOI_BYTE, 1), 0);
    assert_true(in_service(t, VECTOR));
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + EOI), 4, 0);
    assert_true(line(t));
    assert_int_equal(ack(t), VECTOR - 0x10);
    assert_int_equal(load(t, EOI_BYTE, 1), 1);
    /* A higher one nests, and is not alone. */
    interrupt(t, VECTOR + 0x10);
    assert_int_equal(ack(t), VECTOR + 0x10);
    assert_int_equal(load(t, EOI_BYTE, 1), 0);
}

static void test_no_offer(void **state)
{
    struct pv_test *t = *state;
    assert_true(wrmsr(t, MSR_KVM_PV_EOI_EN, EOI_BYTE | 1));
    /* Two wait: the second needs to be told. */
    interrupt(t, VECTOR);
    interrupt(t, VECTOR - 0x10);
    assert_int_equal(ack(t), VECTOR);
    assert_int_equal(load(t, EOI_BYTE, 1), 0);
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + EOI), 4, 0);
    assert_int_equal(ack(t), VECTOR - 0x10);
    vcpu_mmio_write(t->f->vcpus[0], gpa(LAPIC_ADDRESS + EOI), 4, 0);
    store8(t, EOI_BYTE, 0);
    /* A level-triggered one: IOAPICs hear its EOI. */
    board_lock(&t->f->board);
    assert_true(lapic_accept(t->lapic[0], APIC_FIXED, VECTOR, true));
    board_unlock(&t->f->board);
    assert_int_equal(ack(t), VECTOR);
    assert_int_equal(load(t, EOI_BYTE, 1), 0);
}

/* -- Steal time ---------------------------------------------------------------------------- */

static void test_steal_time(void **state)
{
    struct pv_test *t = *state;
    t->run_delay = 1000;
    assert_false(wrmsr(t, MSR_KVM_STEAL_TIME, STEAL | 2 | 1));
    assert_true(wrmsr(t, MSR_KVM_STEAL_TIME, STEAL | 1));
    u64 version = load(t, VERSION, 4);
    assert_int_equal(version % 2, 0);
    assert_int_equal(load(t, STEAL, 8), 0); /* what was before is not stolen */
    t->run_delay = 5000;
    board_lock(&t->f->board);
    t->f->vcpus[0]->pv_ops->tick(t->f->vcpus[0]->pv);
    board_unlock(&t->f->board);
    assert_int_equal(load(t, STEAL, 8), 4000);
    assert_true(load(t, VERSION, 4) > version);
    assert_int_equal(load(t, VERSION, 4) % 2, 0);
}

static void test_flush_left_for_a_sleeper(void **state)
{
    struct pv_test *t = *state;
    struct vcpu *vcpu = t->f->vcpus[0];
    vcpu->cpu.ops = &flush_ops;
    assert_true(wrmsr(t, MSR_KVM_STEAL_TIME, STEAL | 1));
    vcpu->pv_ops->sleeps(vcpu->pv);
    assert_int_equal(load(t, PREEMPTED, 1), 1);
    flushes = 0;
    vcpu->pv_ops->wakes(vcpu->pv);
    assert_int_equal(load(t, PREEMPTED, 1), 0);
    assert_int_equal(flushes, 0);
    vcpu->pv_ops->sleeps(vcpu->pv);
    store8(t, PREEMPTED, 3); /* another processor: KVM_VCPU_FLUSH_TLB */
    vcpu->pv_ops->wakes(vcpu->pv);
    assert_int_equal(load(t, PREEMPTED, 1), 0);
    assert_int_equal(flushes, 1);
}

/* -- Hypercalls ---------------------------------------------------------------------------- */

static s64 hypercall(struct pv_test *t, u64 number, u64 a0, u64 a1, u64 a2, u64 a3)
{
    struct vcpu *vcpu = t->f->vcpus[0];
    u64 *gpr = vcpu->cpu.gpr;
    gpr[RAX] = number;
    gpr[RBX] = a0;
    gpr[RCX] = a1;
    gpr[RDX] = a2;
    gpr[RSI] = a3;
    assert_true(vcpu->pv_ops->hypercall(vcpu->pv));
    return (s64)gpr[RAX];
}

static bool interrupted(struct pv_test *t, unsigned cpu)
{
    return atomic_load(&t->f->vcpus[cpu]->cpu.attention) & ATTN_INTR;
}

static void test_send_ipi(void **state)
{
    struct pv_test *t = *state;
    assert_int_equal(hypercall(t, HC_SEND_IPI, 3, 0, 1, VECTOR), 2);
    assert_false(interrupted(t, 0));
    assert_true(interrupted(t, 1));
    assert_true(interrupted(t, 2));
    /* Nobody has these numbers. */
    assert_int_equal(hypercall(t, HC_SEND_IPI, 0, 1, 0, VECTOR), 0);
    assert_int_equal(hypercall(t, HC_SEND_IPI, 1, 0, ~0ull, VECTOR), 0);
    /* In 32-bit code the second word begins at 32. */
    t->f->vcpus[0]->cpu.code_size = 4;
    assert_int_equal(hypercall(t, HC_SEND_IPI, 1, 0, 0, VECTOR), 1);
    assert_true(interrupted(t, 0));
    t->f->vcpus[0]->cpu.code_size = 8;
    /* NMIs too; nothing else. */
    assert_int_equal(hypercall(t, HC_SEND_IPI, 2, 0, 0, 0x400), 1);
    assert_true(atomic_load(&t->f->vcpus[1]->cpu.attention) & ATTN_NMI);
    assert_int_equal(hypercall(t, HC_SEND_IPI, 2, 0, 0, 0x500), -22);
    assert_int_equal(hypercall(t, HC_SEND_IPI, 2, 0, 0, 0x40000 | VECTOR), -22);
    /* Not from user code; and there are no others. */
    t->f->vcpus[0]->cpu.cpl = 3;
    assert_int_equal(hypercall(t, HC_SEND_IPI, 2, 0, 0, VECTOR), -1);
    t->f->vcpus[0]->cpu.cpl = 0;
    assert_int_equal(hypercall(t, 99, 0, 0, 0, 0), -1000);
}

static void test_kick(void **state)
{
    struct pv_test *t = *state;
    assert_int_equal(hypercall(t, HC_KICK_CPU, 0, 2, 0, 0), 0);
    vcpu_wait(t->f->vcpus[2], 0); /* returns: nothing else could end it */
    assert_true(atomic_load(&t->f->vcpus[2]->unhalted));
    assert_false(atomic_load(&t->f->vcpus[1]->unhalted));
    assert_int_equal(hypercall(t, HC_KICK_CPU, 0, ~0ull, 0, 0), 0);
}

/* -- What -cpu hides ----------------------------------------------------------------------- */

static u32 features(const char *words)
{
    struct pv_test *t = create(words);
    u32 out[4];
    x86_cpuid(&t->f->vcpus[0]->cpu, 0x40000001, 0, out);
    void *state = t;
    teardown(&state);
    return out[0];
}

static void test_model(void **state)
{
    const u32 all = BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(24);
    assert_int_equal(features("max"), all);
    assert_int_equal(features("host,-kvm-pv-eoi"), all & ~BIT(6));
    assert_int_equal(features("host,kvm-pv-ipi=off,-kvm_pv_unhalt"), all & ~(BIT(11) | BIT(7)));
    assert_int_equal(features("max,-kvm-steal-time"), all & ~(BIT(5) | BIT(9)));
    assert_int_equal(features("max,-kvmclock"), all & ~(BIT(3) | BIT(24)));
    assert_int_equal(features("max,kvm=off"), 0);
    assert_int_equal(features("max,-hypervisor"), 0);
}

static void test_hidden_is_gone(void **state)
{
    struct pv_test *t = create("max,kvm=off");
    u64 value;
    static const u32 msrs[] = {MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK, MSR_KVM_STEAL_TIME,
                               MSR_KVM_PV_EOI_EN};
    for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
        assert_false(wrmsr(t, msrs[i], 0));
        assert_false(t->f->vcpus[0]->pv_ops->read_msr(t->f->vcpus[0]->pv, msrs[i], &value));
    }
    assert_int_equal(hypercall(t, HC_SEND_IPI, 1, 0, 0, VECTOR), -1000);
    assert_int_equal(hypercall(t, HC_KICK_CPU, 0, 1, 0, 0), -1000);
    *state = t;
    teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_eoi_by_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eoi_is_wanted_when_something_waits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_no_offer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_steal_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_left_for_a_sleeper, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send_ipi, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kick, setup, teardown),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_hidden_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
