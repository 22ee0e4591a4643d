/*
 * Clocks and timers: the APIC timer in its three modes, the time-stamp counter and its
 * adjustment, against the 8254 and the ACPI timer.
 */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/system.h"

enum { VECTOR = 0x61 };

static volatile u32 ticks;
static volatile u64 tick_at;

static void on_timer(struct regs *r)
{
    (void)r;
    ticks++;
    tick_at = rdtsc();
    apic_eoi();
}

static void wait_open(u32 us)
{
    irq_enable();
    pit_wait_us(us);
    irq_disable();
}

/* Until so many ticks have come, however late on a busy host; and a little longer. */
static void wait_ticks(u32 wanted)
{
    for (u32 ms = 0; ms < 60000 && ticks < wanted; ms++)
        wait_open(1000);
    wait_open(2000);
}

/* What is stopped before it fires must not fire; on a busy host it may have fired before. */
static bool fired(u32 before)
{
    if (!apic_bit(APIC_IRR, VECTOR))
        return false;
    wait_ticks(before + 1);
    ticks = before;
    return true;
}

static void one_shot(void)
{
    ticks = 0;
    apic_write(APIC_TIMER_DIVIDE, 0xb); /* by 1 */
    check_equal("divide register", apic_read(APIC_TIMER_DIVIDE), 0xb);
    apic_write(APIC_LVT_TIMER, VECTOR);
    check_equal("count at rest", apic_read(APIC_TIMER_CURRENT), 0);
    apic_write(APIC_TIMER_INITIAL, 100000);
    check("counts down", apic_read(APIC_TIMER_CURRENT) <= 100000);
    wait_ticks(1);
    check_equal("one-shot fires once", ticks, 1);
    check_equal("then stays 0", apic_read(APIC_TIMER_CURRENT), 0);
    check_equal("initial count is kept", apic_read(APIC_TIMER_INITIAL), 100000);
    wait_open(5000);
    check_equal("and does not come again", ticks, 1);
    for (unsigned tries = 0; tries < 20; tries++) {
        apic_write(APIC_TIMER_INITIAL, 100000000);
        apic_write(APIC_TIMER_INITIAL, 0);
        if (!fired(1))
            break;
    }
    wait_open(200000);
    check_equal("initial count 0 stops it", ticks, 1);
    apic_write(APIC_LVT_TIMER, LVT_MASKED | VECTOR);
    apic_write(APIC_TIMER_INITIAL, 1000);
    wait_open(2000);
    check_equal("masked", ticks, 1);
    check("an expiry while masked is lost", !apic_bit(APIC_IRR, VECTOR));
}

static void periodic(void)
{
    u64 before;
    u32 seen;

    ticks = 0;
    apic_write(APIC_TIMER_DIVIDE, 0x3); /* by 16 */
    apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR);
    seen = ~0u;
    for (unsigned tries = 0; tries < 20 && seen >= 50000000; tries++) {
        apic_write(APIC_TIMER_INITIAL, 1000000000);
        pit_wait_us(10000);
        seen = 1000000000 - apic_read(APIC_TIMER_CURRENT);
    }
    check("counts at a plausible rate", seen > 1000 && seen < 50000000);
    ticks = 0;
    apic_write(APIC_TIMER_INITIAL, seen / 5); /* about 2 ms */
    before = rdtsc();
    for (unsigned n = 0; n < 5000 && ticks < 10; n++)
        wait_open(1000);
    apic_write(APIC_TIMER_INITIAL, 0);
    check("periodic fires again and again", ticks >= 10);
    check("not faster than it should", rdtsc() - before > 9 * 1000000);
    seen = ticks;
    wait_open(5000);
    check("stopped", ticks <= seen + 1);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

static void deadline(void)
{
    u64 start;

    if (!(cpuid(1, 0).c & BIT(24))) {
        u64 value;

        check_skip("TSC deadline", "CPUID does not show it");
        if (!skip_tcg("no deadline register", "QEMU has it"))
            check_equal("no deadline register", rdmsr_safe(MSR_TSC_DEADLINE, &value), GP);
        return;
    }
    ticks = 0;
    apic_write(APIC_LVT_TIMER, LVT_DEADLINE | VECTOR);
    asm volatile("mfence" ::: "memory");
    wrmsr(MSR_TSC_DEADLINE, 0);
    check_equal("disarmed", rdmsr(MSR_TSC_DEADLINE), 0);
    start = rdtsc();
    wrmsr(MSR_TSC_DEADLINE, start + 3000000);
    check("armed", rdmsr(MSR_TSC_DEADLINE) == start + 3000000 || rdtsc() > start + 3000000);
    wait_ticks(1);
    check_equal("fires once", ticks, 1);
    check("not before its time", tick_at >= start + 3000000);
    check_equal("reads 0 after it fired", rdmsr(MSR_TSC_DEADLINE), 0);
    wrmsr(MSR_TSC_DEADLINE, 1);
    wait_ticks(2);
    check_equal("a time in the past fires at once", ticks, 2);
    for (unsigned tries = 0; tries < 20; tries++) {
        wrmsr(MSR_TSC_DEADLINE, rdtsc() + 500000000);
        wrmsr(MSR_TSC_DEADLINE, 0);
        if (!fired(2))
            break;
    }
    wait_open(300000);
    check_equal("0 disarms", ticks, 2);
    apic_write(APIC_TIMER_INITIAL, 1000);
    wait_open(2000);
    check_equal("the initial count does nothing in this mode", ticks, 2);
    apic_write(APIC_LVT_TIMER, VECTOR);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000);
    check_equal("the deadline is ignored in the other modes", rdmsr(MSR_TSC_DEADLINE), 0);
    wait_open(2000);
    check_equal("nothing came", ticks, 2);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

/* What was written to the counter is the adjustment: without it the time goes on as before. */
static void tsc_written(void)
{
    u64 before = rdtsc(), adjust;

    check_equal("no adjustment at the start", rdmsr(MSR_TSC_ADJUST), 0);
    wrmsr(MSR_TSC_ADJUST, 100000000000ull);
    check("it moves the counter", rdtsc() - before >= 100000000000ull);
    wrmsr(MSR_TSC_ADJUST, 0);
    before = rdtsc();
    check_equal("none again", rdmsr(MSR_TSC_ADJUST), 0);
    wrmsr(MSR_TSC, 100000000000ull);
    check("set", rdtsc() >= 100000000000ull);
    adjust = rdmsr(MSR_TSC_ADJUST);
    check("the time behind it went on", before <= 100000000000ull - adjust);
    wrmsr(MSR_TSC_ADJUST, 0);
}

static void tsc(void)
{
    u64 before = rdtsc(), after, adjust;
    struct regs r;

    if (cpuid(7, 0).b & 2 && !skip_tcg("counter and adjustment", "QEMU adds nothing to it"))
        tsc_written();

    for (unsigned i = 0; i < 1000; i++) {
        after = rdtsc();
        if (after < before) {
            check("the time-stamp counter never goes back", false);
            break;
        }
        before = after;
    }
    for (unsigned tries = 0; tries < 50;
         tries++) { /* once without an interruption by the host */
        before = rdtsc();
        pit_wait_us(10000);
        after = rdtsc();
        if (after - before < 400000000)
            break;
    }
    check("10 ms are 2 to 400 million cycles",
          after - before > 2000000 && after - before < 400000000);
    wrmsr(MSR_TSC, 0x1000000000ull);
    after = rdtsc();
    if (!skip_tcg("writing the time-stamp counter", "QEMU adds nothing to it"))
        check("MSR 10h sets it", after >= 0x1000000000ull && after < 0x2000000000ull);
    if (cpuid(7, 0).b & 2) {
        adjust = rdmsr(MSR_TSC_ADJUST);
        before = rdtsc();
        wrmsr(MSR_TSC_ADJUST, adjust + BIT(44));
        after = rdtsc();
        check("adjusting moves it",
              after - before >= BIT(44) && after - before < BIT(44) + BIT(34));
        check_equal("adjust reads back", rdmsr(MSR_TSC_ADJUST), adjust + BIT(44));
        wrmsr(MSR_TSC, rdtsc() - BIT(44));
        check("writing MSR 10h moves adjust",
              (s64)(rdmsr(MSR_TSC_ADJUST) - adjust) < (s64)BIT(34) &&
                  (s64)(rdmsr(MSR_TSC_ADJUST) - adjust) > -(s64)BIT(34));
    }
    write_cr4(read_cr4() | CR4_TSD);
    r = regs_user();
    expect_fault("rdtsc in ring 3 with CR4.TSD", &r, CODE("rdtsc"), GP, 0);
    if (cpuid(0x80000001, 0).d & BIT(27)) {
        r = regs_user();
        expect_fault("rdtscp in ring 3 with CR4.TSD", &r, CODE("rdtscp"), GP, 0);
    }
    done0("rdtsc in ring 0 with CR4.TSD", CODE("rdtsc"));
    write_cr4(read_cr4() & ~CR4_TSD);
    r = regs_user();
    expect_done("rdtsc in ring 3", &r, CODE("rdtsc"));
    if (cpuid(0x80000001, 0).d & BIT(27)) {
        wrmsr(MSR_TSC_AUX, 0x12345);
        r = regs_user();
        expect_done("rdtscp", &r, CODE("rdtscp"));
        check_equal("TSC_AUX by rdtscp", r.cx, 0x12345);
        check_equal("TSC_AUX above 32 bits", wrmsr_safe(MSR_TSC_AUX, BIT(32)),
                    on_tcg() ? wrmsr_safe(MSR_TSC_AUX, BIT(32)) : GP);
    } else {
        fault0("rdtscp without the feature", CODE("rdtscp"), UD, 0);
    }
    if (cpuid(7, 0).c & BIT(22)) {
        wrmsr(MSR_TSC_AUX, 0x54321);
        r = regs_user();
        expect_done("rdpid", &r, CODE("rdpid rax"));
        check_equal("TSC_AUX by rdpid", r.ax, 0x54321);
    } else {
        fault0("rdpid without the feature", CODE("rdpid rax"), UD, 0);
    }
}

/* HLT until the timer, so that the VMM sleeps and wakes. */
static void sleep(void)
{
    ticks = 0;
    apic_write(APIC_LVT_TIMER, VECTOR);
    for (unsigned i = 0; i < 20; i++) {
        u32 old = ticks;

        apic_write(APIC_TIMER_INITIAL, 200000);
        while (ticks == old)
            irq_wait();
    }
    check_equal("20 sleeps, 20 wakes", ticks, 20);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

void test(void)
{
    apic_init();
    trap_set(VECTOR, on_timer);
    one_shot();
    periodic();
    deadline();
    tsc();
    sleep();
}
