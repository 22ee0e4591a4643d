/*
 * Memory and code seen by several processors: TLB shootdown by IPI, cross-modifying code, store
 * ordering, and page tables changed by one processor while others walk them. Needs two.
 */
#include "lib/apic.h"
#include "lib/page.h"
#include "lib/pit.h"
#include "lib/smp.h"

enum { N = 2, VECTOR = 0x53, ROUNDS = 100 };
#define T PAGE_TEST

static volatile u32 acknowledged;
static volatile bool stop;
static volatile u32 failures;

static void on_shootdown(struct regs *r)
{
    (void)r;
    invlpg((void *)T);
    __atomic_add_fetch(&acknowledged, 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

/* Waits until the other has flushed. */
static void shoot(void)
{
    u32 before = acknowledged;

    invlpg((void *)T);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | VECTOR);
    while (acknowledged == before)
        cpu_relax();
}

static volatile u64 generation; /* what the reader must see at least */
static volatile u32 reads;

static void reader(void *unused)
{
    (void)unused;
    irq_enable();
    while (!stop) {
        u64 least = generation;
        u64 seen = *(volatile u64 *)T;

        if (seen < least)
            failures = failures + 1;
        reads = reads + 1;
    }
    irq_disable();
}

static void shootdown(void)
{
    ulong pages[2] = {page_alloc(), page_alloc()};

    page_map(T, pages[0], 1, PTE_P | PTE_W);
    stop = false;
    smp_call(1, reader, NULL);
    while (reads < 10)
        cpu_relax();
    for (u64 i = 1; i <= ROUNDS; i++) {
        *(volatile u64 *)pages[i & 1] = i;
        *page_entry(T, 1) = pages[i & 1] | PTE_P | PTE_W;
        shoot();
        generation = i;
    }
    stop = true;
    smp_wait(1);
    check_equal("stale reads after a shootdown", failures, 0);
}

/* Fault handler of the other processor: counts and waits for the page to come back. */
static volatile u32 faults;

static void on_page_fault(struct regs *r)
{
    (void)r;
    faults = faults + 1;
}

/* Unmapping: after the shootdown the other must fault until the page is there again. */
static void unmapping(void)
{
    ulong page = page_alloc();

    trap_set(PF, on_page_fault);
    page_map(T, page, 1, PTE_P | PTE_W);
    stop = false;
    reads = 0;
    failures = 0;
    generation = 0;
    smp_call(1, reader, NULL);
    while (reads < 10)
        cpu_relax();
    for (u32 i = 0; i < 50; i++) {
        u32 before;

        *page_entry(T, 1) = 0;
        shoot();
        before = faults;
        while (faults == before)
            cpu_relax();
        *page_entry(T, 1) = page | PTE_P | PTE_W;
        before = reads;
        while (reads == before)
            cpu_relax();
    }
    stop = true;
    smp_wait(1);
    trap_set(PF, NULL);
    check("the other faulted each time", faults >= 50);
}

static u8 code[64] __attribute__((aligned(64)));
static volatile u32 version, done_version;

/* Runs the function whenever a new version is announced, after a serialising instruction. */
static void runner(void *unused)
{
    (void)unused;
    for (u32 seen = 0; seen < ROUNDS;) {
        u32 result;

        while (version == seen)
            cpu_relax();
        seen = version;
        cpuid(0, 0);
        result = ((u32(*)(void))code)();
        if (result != seen)
            failures = failures + 1;
        done_version = seen;
    }
}

static void cross_modifying(void)
{
    failures = 0;
    code[0] = 0xb8; /* mov eax, version; ret */
    code[5] = 0xc3;
    smp_call(1, runner, NULL);
    for (u32 i = 1; i <= ROUNDS; i++) {
        *(volatile u32 *)(code + 1) = i;
        __atomic_store_n(&version, i, __ATOMIC_SEQ_CST);
        while (done_version != i)
            cpu_relax();
    }
    smp_wait(1);
    check_equal("old code run after it was modified", failures, 0);
}

/* Functions and data of both processors in one page: each round changes one function, each
 * processor counts in its word beside them, and the function as well as one that stays is run.
 */
static u8 mixed[4096] __attribute__((aligned(4096)));
enum { MIXED_ROUNDS = 200, MIXED_FUNCTIONS = 5, MIXED_LAST = 2048, MIXED_DATA = 1024 };

static u32 mixed_place(u32 round)
{
    return round % MIXED_FUNCTIONS * 40;
}

static void mixed_write(u32 at, u32 value)
{
    mixed[at] = 0xb8;
    *(volatile u32 *)(mixed + at + 1) = value;
    mixed[at + 5] = 0xc3;
}

static u32 mixed_call(u32 at)
{
    return ((u32(*)(void))(mixed + at))();
}

static void mixed_runner(void *unused)
{
    (void)unused;
    for (u32 seen = 0; seen < MIXED_ROUNDS;) {
        while (version == seen)
            cpu_relax();
        seen = version;
        cpuid(0, 0);
        failures = failures + (mixed_call(mixed_place(seen)) != seen);
        failures = failures + (mixed_call(MIXED_LAST) != 7);
        *(volatile u32 *)(mixed + MIXED_DATA) += 1;
        done_version = seen;
    }
}

static void code_and_data(void)
{
    volatile u32 *data = (volatile u32 *)(mixed + MIXED_DATA);

    failures = version = done_version = 0;
    mixed_write(MIXED_LAST, 7);
    smp_call(1, mixed_runner, NULL);
    for (u32 i = 1; i <= MIXED_ROUNDS; i++) {
        mixed_write(mixed_place(i), i);
        data[16] += 1;
        __atomic_store_n(&version, i, __ATOMIC_SEQ_CST);
        while (done_version != i)
            data[17] += 1;
        failures = failures + (mixed_call(mixed_place(i)) != i);
    }
    smp_wait(1);
    check_equal("old code run from a page of code and data", failures, 0);
    check_equal("what the other counted", data[0], MIXED_ROUNDS);
    check_equal("what was counted here", data[16], MIXED_ROUNDS);
}

static volatile u32 x __attribute__((aligned(64))), y __attribute__((aligned(64)));
static volatile u32 message __attribute__((aligned(64))), flag __attribute__((aligned(64)));
static volatile u32 seen_x, seen_y, phase0, phase1;

static void producer(void *unused)
{
    (void)unused;
    for (u32 i = 1; i <= ROUNDS * 10; i++) {
        message = i; /* two plain stores: must be seen in this order */
        flag = i;
    }
}

static void other_side(void *unused)
{
    (void)unused;
    for (u32 i = 1; i <= ROUNDS; i++) {
        while (phase0 != i)
            cpu_relax();
        y = 1;
        asm volatile("mfence" ::: "memory");
        seen_x = x;
        phase1 = i;
    }
}

static void ordering(void)
{
    u32 both_zero = 0;

    failures = 0;
    smp_call(1, producer, NULL);
    for (u32 f = 0; f < ROUNDS * 10;) {
        f = flag;
        if (message < f)
            failures = failures + 1;
    }
    smp_wait(1);
    check_equal("stores seen out of order", failures, 0);
    smp_call(1, other_side, NULL);
    for (u32 i = 1; i <= ROUNDS; i++) {
        x = y = 0;
        asm volatile("mfence" ::: "memory");
        phase0 = i;
        x = 1;
        asm volatile("mfence" ::: "memory");
        seen_y = y;
        while (phase1 != i)
            cpu_relax();
        both_zero += !seen_x && !seen_y;
    }
    smp_wait(1);
    check_equal("both read old values in spite of MFENCE", both_zero, 0);
}

/* Both set accessed and dirty bits in one table at once: none may be lost. */
static void touch_half(void *which)
{
    ulong start = T + 0x100000 + (ulong)which * 0x1000;

    for (ulong va = start; va < T + 0x100000 + 256 * 0x1000; va += 0x2000)
        *(volatile u8 *)va = 1;
}

static void dirty_bits(void)
{
    ulong page = page_alloc();

    for (u32 i = 0; i < 256; i++)
        page_map(T + 0x100000 + i * 0x1000, page, 1, PTE_P | PTE_W);
    smp_call(1, touch_half, (void *)1);
    touch_half((void *)0);
    smp_wait(1);
    for (u32 i = 0; i < 256; i++) {
        u64 bits = *page_entry(T + 0x100000 + i * 0x1000, 1) & (PTE_A | PTE_D);

        if (bits != (PTE_A | PTE_D)) {
            check_equal("accessed and dirty bits", bits, PTE_A | PTE_D);
            return;
        }
    }
    check("accessed and dirty bits", true);
}

void test(void)
{
    trap_set(VECTOR, on_shootdown);
    check_equal("processors", smp_start(N), N);
    shootdown();
    unmapping();
    cross_modifying();
    code_and_data();
    ordering();
    dirty_bits();
}
