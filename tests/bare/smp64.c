/*
 * Several processors: their start, IPIs of each delivery mode, locked operations from all of
 * them, INIT and a second start, interrupts that wake from HLT. Needs four.
 */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/smp.h"

enum { N = 4, VECTOR = 0x51, VECTOR_STOP = 0x52, ROUNDS = 20000 };

static volatile u32 received[CPUS], nmis[CPUS];
static volatile u32 awake;

static void on_ipi(struct regs *r)
{
    (void)r;
    __atomic_add_fetch(&received[cpu_this()->index], 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static void on_stop(struct regs *r)
{
    (void)r;
    apic_eoi();
}

static void on_nmi(struct regs *r)
{
    (void)r;
    __atomic_add_fetch(&nmis[cpu_this()->index], 1, __ATOMIC_SEQ_CST);
}

static bool wait_for(volatile u32 *word, u32 value)
{
    for (u32 ms = 0; ms < 60000 && *word < value; ms++)
        pit_wait_us(1000);
    return *word >= value;
}

static volatile bool stop;

/* Keeps interrupts on until told to stop. */
static void listen(void *unused)
{
    (void)unused;
    __atomic_add_fetch(&awake, 1, __ATOMIC_SEQ_CST);
    irq_enable();
    while (!stop)
        cpu_relax();
    irq_disable();
}

static void sleep(void *unused)
{
    (void)unused;
    __atomic_add_fetch(&awake, 1, __ATOMIC_SEQ_CST);
    while (!stop)
        irq_wait();
}

static void all_call(void (*f)(void *))
{
    awake = 0;
    stop = false;
    for (u32 i = 1; i < N; i++)
        smp_call(i, f, NULL);
    check("all others run", wait_for(&awake, N - 1));
}

static void all_stop(void)
{
    stop = true;
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | VECTOR_STOP);
    for (u32 i = 1; i < N; i++)
        smp_wait(i);
}

static void forget(void)
{
    for (u32 i = 0; i < CPUS; i++)
        received[i] = nmis[i] = 0;
}

/* One startup IPI right behind INIT suffices, and the start may be at address 0. */
static void start_at_zero(void)
{
    static const u8 code[] = {
        0xf0, 0xff, 0x06, 0x00, 0x06, /* lock inc word ptr [0x600] */
        0xf4, 0xeb, 0xfd,             /* hlt, for ever */
    };
    volatile u8 *to = (volatile u8 *)0;
    volatile u32 *count = (volatile u32 *)0x600;

    asm volatile("" : "+r"(to), "+r"(count));
    for (u32 i = 0; i < sizeof(code); i++)
        to[i] = code[i];
    *count = 0;
    apic_init();
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | ICR_INIT);
    apic_ipi(0, ICR_OTHERS | ICR_STARTUP);
    check("started at 0", wait_for(count, N - 1));
    check_equal("each once", *count, N - 1);
}

static void start(void)
{
    u32 found, ids = 0;

    start_at_zero();
    found = smp_start(N);
    check_equal("processors started", found, N);
    if (found != N)
        check_done();
    for (u32 i = 0; i < N; i++)
        ids |= 1u << cpu_by_index(i)->apic_id;
    check_equal("their APIC ids are 0 to 3", ids, 0xf);
}

static void read_state(void *where)
{
    u64 *to = where;

    to[0] = read_cr0();
    to[1] = rdmsr(MSR_APIC_BASE);
    to[2] = apic_id();
    to[3] = cpuid(1, 0).b >> 24;
    to[4] = rdmsr(MSR_EFER);
    to[5] = cpuid(11, 0).d;
}

static void states(void)
{
    for (u32 i = 1; i < N; i++) {
        u64 state[6];

        smp_run(i, read_state, state);
        check_equal("not the bootstrap processor", state[1] & APIC_BASE_BSP, 0);
        check_equal("APIC id and CPUID agree", state[2], state[3]);
        if (cpuid(0, 0).a >= 11)
            check_equal("leaf 11 agrees", state[5], state[2]);
    }
}

static void fixed(void)
{
    forget();
    all_call(listen);
    for (u32 i = 1; i < N; i++) {
        u32 id = cpu_by_index(i)->apic_id;

        apic_ipi(id, ICR_ASSERT | VECTOR);
        check("one processor by its id", wait_for(&received[i], 1));
    }
    for (u32 i = 1; i < N; i++)
        check_equal("nobody else", received[i], 1);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | VECTOR);
    for (u32 i = 1; i < N; i++)
        check("all others", wait_for(&received[i], 2));
    check_equal("not itself", received[0], 0);
    irq_enable();
    apic_ipi(0, ICR_ALL | ICR_ASSERT | VECTOR);
    check("all: itself", wait_for(&received[0], 1));
    irq_disable();
    for (u32 i = 1; i < N; i++)
        check("all: others", wait_for(&received[i], 3));
    apic_ipi(0xff, ICR_ASSERT | VECTOR);
    for (u32 i = 1; i < N; i++)
        check("broadcast id", wait_for(&received[i], 4));
    irq_window();
    all_stop();
}

static void set_logical(void *unused)
{
    (void)unused;
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 1u << (24 + cpu_this()->index));
}

static u32 sum(void)
{
    u32 total = 0;

    for (u32 i = 0; i < N; i++)
        total += received[i];
    return total;
}

static void logical(void)
{
    set_logical(NULL);
    for (u32 i = 1; i < N; i++)
        smp_run(i, set_logical, NULL);
    forget();
    all_call(listen);
    apic_ipi(0x0c, ICR_LOGICAL | ICR_ASSERT | VECTOR); /* processors 2 and 3 */
    check("logical: first", wait_for(&received[2], 1));
    check("logical: second", wait_for(&received[3], 1));
    check_equal("logical: not the other", received[1], 0);
    forget();
    apic_ipi(0x0e, ICR_LOGICAL | ICR_LOWEST | ICR_ASSERT | VECTOR);
    for (u32 ms = 0; ms < 60000 && !sum(); ms++)
        pit_wait_us(1000);
    pit_wait_us(2000);
    check_equal("lowest priority: exactly one", sum(), 1);
    all_stop();
}

static void nmi(void)
{
    forget();
    trap_set(NMI, on_nmi);
    for (u32 i = 1; i < N; i++) {
        apic_ipi(cpu_by_index(i)->apic_id, ICR_ASSERT | ICR_NMI);
        check("NMI", wait_for(&nmis[i], 1));
    }
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | ICR_NMI);
    for (u32 i = 1; i < N; i++)
        check("NMI to all others", wait_for(&nmis[i], 2));
    trap_set(NMI, NULL);
}

static void wake(void)
{
    forget();
    all_call(sleep);
    for (u32 round = 1; round <= 50; round++) {
        for (u32 i = 1; i < N; i++)
            apic_ipi(cpu_by_index(i)->apic_id, ICR_ASSERT | VECTOR);
        for (u32 i = 1; i < N; i++) {
            while (received[i] < round)
                cpu_relax();
        }
    }
    check("50 wakes of each", received[1] == 50 && received[2] == 50 && received[3] == 50);
    all_stop();
}

static volatile u32 counter32;
static volatile u64 counter64 __attribute__((aligned(64)));
static u8 split_area[256] __attribute__((aligned(64)));
static volatile u64 pair[2] __attribute__((aligned(16)));
static volatile u32 bits_won;

static void add_all(void *unused)
{
    volatile u32 *split = (volatile u32 *)(split_area + 62);    /* across two cache lines */
    volatile u64 *split64 = (volatile u64 *)(split_area + 187); /* the same, other size */

    (void)unused;
    for (u32 i = 0; i < ROUNDS; i++) {
        asm volatile("lock incl %0" : "+m"(counter32)::"cc");
        asm volatile("lock addq $3, %0" : "+m"(counter64)::"cc");
        asm volatile("lock incl %0" : "+m"(*split)::"cc");
        asm volatile("lock addq $5, %0" : "+m"(*split64)::"cc");
    }
}

static void add_pair(void *unused)
{
    (void)unused;
    for (u32 i = 0; i < ROUNDS / 4; i++) {
        bool won;

        do {
            u64 low = pair[0], high = pair[1];

            asm volatile("lock cmpxchg16b %1"
                         : "=@ccz"(won), "+m"(*(volatile u64(*)[2])pair), "+a"(low), "+d"(high)
                         : "b"(low + 1), "c"(high + 2)
                         : "memory");
        } while (!won);
    }
}

static volatile u32 spin, guarded;

static void add_guarded(void *unused)
{
    (void)unused;
    for (u32 i = 0; i < ROUNDS / 4; i++) {
        u32 taken = 1;

        do {
            asm volatile("xchg %0, %1" : "+r"(taken), "+m"(spin)::"memory");
        } while (taken);
        guarded = guarded + 1;
        spin = 0;
    }
}

static volatile u32 bitmap[32];

static void take_bits(void *unused)
{
    (void)unused;
    for (u64 bit = 0; bit < 1024; bit++) {
        bool was;

        asm volatile("lock btsq %2, %1"
                     : "=@ccc"(was), "+m"(*(volatile u32(*)[32])bitmap)
                     : "r"(bit));
        if (!was)
            __atomic_add_fetch(&bits_won, 1, __ATOMIC_SEQ_CST);
    }
}

static void on_all(void (*f)(void *))
{
    for (u32 i = 1; i < N; i++)
        smp_call(i, f, NULL);
    f(NULL);
    for (u32 i = 1; i < N; i++)
        smp_wait(i);
}

static void locked(void)
{
    on_all(add_all);
    check_equal("lock inc", counter32, N * ROUNDS);
    check_equal("lock add, 64 bits", counter64, 3ull * N * ROUNDS);
    check_equal("lock inc across cache lines", *(u32 *)(split_area + 62), N * ROUNDS);
    check_equal("lock add across cache lines", *(u64 *)(split_area + 187), 5ull * N * ROUNDS);
    if (cpuid(1, 0).c & BIT(13)) {
        on_all(add_pair);
        check_equal("cmpxchg16b, low", pair[0], N * (ROUNDS / 4));
        check_equal("cmpxchg16b, high", pair[1], 2 * N * (ROUNDS / 4));
    }
    on_all(add_guarded);
    check_equal("xchg as a lock", guarded, N * (ROUNDS / 4));
    on_all(take_bits);
    check_equal("lock bts: each bit once", bits_won, 1024);
}

/* Processor 3 is reset by INIT, and waits for a startup IPI. */
static void restart(void)
{
    struct cpu *last = cpu_by_index(3);
    extern volatile u32 ap_ticket;

    last->online = false;
    apic_ipi(last->apic_id, ICR_ASSERT | ICR_INIT);
    pit_wait_us(1000);
    apic_ipi(last->apic_id, ICR_ASSERT | VECTOR);
    pit_wait_us(1000);
    check("after INIT it does not run", !last->online);
    ap_ticket = 2; /* it takes its old stack */
    apic_ipi(last->apic_id, ICR_ASSERT | ICR_STARTUP | 8);
    for (u32 ms = 0; ms < 60000 && !last->online; ms++)
        pit_wait_us(1000);
    check("started again", last->online);
    apic_ipi(last->apic_id, ICR_ASSERT | ICR_STARTUP | 8);
    pit_wait_us(1000);
    if (last->online) {
        forget();
        stop = false;
        awake = 0;
        smp_call(3, listen, NULL);
        wait_for(&awake, 1);
        apic_ipi(last->apic_id, ICR_ASSERT | VECTOR);
        check("it takes interrupts; a startup IPI to a running one is ignored",
              wait_for(&received[3], 1));
        stop = true;
        smp_wait(3);
    }
}

void test(void)
{
    trap_set(VECTOR, on_ipi);
    trap_set(VECTOR_STOP, on_stop);
    start();
    states();
    fixed();
    logical();
    nmi();
    wake();
    locked();
    restart();
}
