/*
 * IPIs among processors in x2APIC mode: by id, by cluster and bit, shorthands, broadcast, NMI;
 * and a start of all processors by INIT and startup IPIs sent in that mode. Needs four.
 */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/smp.h"

enum { N = 4, VECTOR = 0x51, VECTOR_STOP = 0x52 };

static volatile u32 received[CPUS], nmis[CPUS], listening;
static volatile bool stop;

static void on_ipi(struct regs *r)
{
    if (r->vector == VECTOR)
        received[cpu_this()->index] = received[cpu_this()->index] + 1;
    apic_eoi();
}

static void on_nmi(struct regs *r)
{
    (void)r;
    nmis[cpu_this()->index] = nmis[cpu_this()->index] + 1;
}

static bool wait_for(volatile u32 *word, u32 value)
{
    for (u32 ms = 0; ms < 60000 && *word < value; ms++)
        pit_wait_us(1000);
    return *word >= value;
}

static void listen(void *unused)
{
    (void)unused;
    apic_enter_x2();
    apic_init();
    __atomic_add_fetch(&listening, 1, __ATOMIC_SEQ_CST);
    irq_enable();
    while (!stop)
        cpu_relax();
    irq_disable();
}

static u32 sum(void)
{
    return received[0] + received[1] + received[2] + received[3];
}

void test(void)
{
    trap_set(VECTOR, on_ipi);
    trap_set(VECTOR_STOP, on_ipi);
    trap_set(NMI, on_nmi);
    if (!apic_has_x2()) {
        check_skip("x2APIC", "CPUID does not show it");
        check("nothing else to check", true);
        return;
    }
    apic_enter_x2();
    check_equal("processors started by IPIs of an x2APIC", smp_start(N), N);
    for (u32 i = 1; i < N; i++)
        smp_call(i, listen, NULL);
    check("all in x2APIC mode", wait_for(&listening, N - 1));
    for (u32 i = 1; i < N; i++) {
        apic_ipi(cpu_by_index(i)->apic_id, ICR_ASSERT | VECTOR);
        check("by id", wait_for(&received[i], 1));
    }
    check_equal("nobody else", sum(), N - 1);
    apic_ipi(0x0000000c, ICR_LOGICAL | ICR_ASSERT | VECTOR); /* cluster 0, ids 2 and 3 */
    for (u32 i = 1; i < N; i++) {
        if (cpu_by_index(i)->apic_id >= 2)
            check("by cluster and bit", wait_for(&received[i], 2));
    }
    pit_wait_us(2000);
    check_equal("only those", sum(), N + 1);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | VECTOR);
    for (u32 i = 1; i < N; i++)
        check("others", wait_for(&received[i], cpu_by_index(i)->apic_id >= 2 ? 3 : 2));
    irq_enable();
    apic_ipi(0xffffffff, ICR_ASSERT | VECTOR);
    check("broadcast: itself", wait_for(&received[0], 1));
    irq_disable();
    for (u32 i = 1; i < N; i++)
        check("broadcast", wait_for(&received[i], cpu_by_index(i)->apic_id >= 2 ? 4 : 3));
    apic_ipi(0xff, ICR_ASSERT | VECTOR);
    pit_wait_us(5000);
    check_equal("255 is an id like any other", sum(), 4 + 4 + 3 + 1);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | ICR_NMI);
    for (u32 i = 1; i < N; i++)
        check("NMI", wait_for(&nmis[i], 1));
    stop = true;
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | VECTOR_STOP);
    for (u32 i = 1; i < N; i++)
        smp_wait(i);
}
