/*
 * NMIs between processors: how many are kept, and that STI's shadow keeps them off.
 */
#include "lib/apic.h"
#include "lib/smp.h"
#include "lib/check.h"

enum { ROUNDS = 300, AFTER = 0x61 };

static volatile u32 nmis, first_sends;
static volatile bool flushed, stop;
static volatile u32 round_here, round_there, done_here, done_there;

static void send(u32 cpu, u32 command)
{
    apic_ipi(cpu_by_index(cpu)->apic_id, command | ICR_ASSERT);
}

static void on_nmi(struct regs *r)
{
    (void)r;
    nmis++;
}

static void on_nmi_again(struct regs *r)
{
    (void)r;
    if (++nmis == 1)
        for (u32 i = 0; i < first_sends; i++)
            send(0, ICR_NMI);
}

static void on_after(struct regs *r)
{
    (void)r;
    flushed = true;
    apic_eoi();
}

/* The other processor: in each round an NMI, and an interrupt that comes after it. */
static void helper(void *argument)
{
    (void)argument;
    while (!stop) {
        round_there++;
        while (round_there != round_here && !stop)
            cpu_relax();
        if (stop)
            return;
        send(0, ICR_NMI);
        send(0, ICR_FIXED | AFTER);
        done_there++;
        while (done_there != done_here && !stop)
            cpu_relax();
    }
}

/* Two that come at once, from this processor and another, are two. */
static void both(void)
{
    u32 wrong = 0;

    trap_set(NMI, on_nmi);
    trap_set(AFTER, on_after);
    smp_call(1, helper, NULL);
    irq_enable();
    for (u32 i = 0; i < ROUNDS; i++) {
        flushed = false;
        nmis = 0;
        round_here++;
        while (round_there != round_here)
            cpu_relax();
        send(0, ICR_NMI);
        while (!flushed)
            cpu_relax();
        wrong += nmis != 2;
        done_here++;
        while (done_there != done_here)
            cpu_relax();
    }
    irq_disable();
    stop = true;
    smp_wait(1);
    check_equal("rounds in which two NMIs were not two", wrong, 0);
}

/* Any number that comes while one is handled is one. */
static void inside(void)
{
    u32 wrong = 0;

    trap_set(NMI, on_nmi_again);
    for (u32 i = 0; i < ROUNDS; i++) {
        first_sends = 1 + i % 10;
        nmis = 0;
        send(0, ICR_NMI);
        for (u32 spin = 0; spin < 100; spin++)
            cpu_relax();
        wrong += nmis != 2;
    }
    check_equal("rounds in which many NMIs inside one were not one more", wrong, 0);
}

static volatile u32 seen, in_shadow;
static volatile bool looping;
extern const u8 behind_sti[];

static void on_nmi_place(struct regs *r)
{
    in_shadow += r->ip == (ulong)behind_sti;
    seen++;
}

static void sti_loop(void *argument)
{
    (void)argument;
    while (looping)
        asm volatile("sti\n.globl behind_sti\nbehind_sti: nop\nnop\ncli" ::: "memory");
}

static void shadow(void)
{
    trap_set(NMI, on_nmi_place);
    looping = true;
    smp_call(1, sti_loop, NULL);
    for (u32 i = 0; i < ROUNDS; i++) {
        u32 before = seen;

        send(1, ICR_NMI);
        while (seen == before)
            cpu_relax();
    }
    looping = false;
    smp_wait(1);
    check_equal("NMIs between STI and the next instruction", in_shadow, 0);
}

void test(void)
{
    apic_init();
    if (!check_equal("processors", smp_start(2), 2))
        check_done();
    inside();
    shadow();
    both();
}
