/* Starting the other processors (Intel SDM 3A 9.4.4) and giving them work. */
#include "smp.h"
#include "apic.h"
#include "pit.h"

enum { TRAMPOLINE = 0x8000 };

extern const char ap_start[], ap_end[];
extern volatile u32 ap_ticket;

void smp_idle(void)
{
    struct cpu *cpu = cpu_this();

    cpu->online = true;
    for (;;) {
        while (!cpu->call)
            cpu_relax();
        cpu->call(cpu->call_argument);
        cpu->call = NULL;
        __atomic_store_n(&cpu->busy, false, __ATOMIC_SEQ_CST);
    }
}

void ap_main(u32 ticket)
{
    system_init(ticket + 1);
    apic_init();
    smp_idle();
}

u32 smp_start(u32 total)
{
    char *to = (char *)TRAMPOLINE;
    u32 found = 1;

    for (const char *p = ap_start; p < ap_end; p++)
        *to++ = *p;
    apic_init();
    cpu_this()->online = true;
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | ICR_INIT);
    pit_wait_us(10000);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | ICR_STARTUP | TRAMPOLINE >> 12);
    pit_wait_us(200);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | ICR_STARTUP | TRAMPOLINE >> 12);
    for (u32 wait = 0; wait < 60000 && found < total; wait++) {
        pit_wait_us(1000);
        for (found = 1; found < total && cpu_by_index(found)->online; found++)
            ;
    }
    return found;
}

void smp_call(u32 index, void (*f)(void *), void *argument)
{
    struct cpu *cpu = cpu_by_index(index);

    smp_wait(index);
    cpu->call_argument = argument;
    __atomic_store_n(&cpu->busy, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->call, f, __ATOMIC_SEQ_CST);
}

void smp_wait(u32 index)
{
    while (__atomic_load_n(&cpu_by_index(index)->busy, __ATOMIC_SEQ_CST))
        cpu_relax();
}

void smp_run(u32 index, void (*f)(void *), void *argument)
{
    smp_call(index, f, argument);
    smp_wait(index);
}
