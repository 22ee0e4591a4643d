/*
 * Whom an interrupt message in xAPIC mode reaches: physical ids that software has written, also
 * the same one twice; logical ids, flat and by cluster, of one bit or several.
 */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/smp.h"

enum { VECTOR = 0x51, OTHER = 1 };
#define FLAT    0xffffffffu
#define CLUSTER 0x0fffffffu

static volatile u32 received[CPUS];
static volatile u32 model, logical_id, physical_id, orders, obeyed;
static volatile bool stop;

static void on_ipi(struct regs *r)
{
    (void)r;
    __atomic_add_fetch(&received[cpu_this()->index], 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static void take_ids(u32 logical, u32 physical)
{
    apic_write(APIC_DFR, model);
    apic_write(APIC_LDR, logical << 24);
    apic_write(APIC_ID, physical << 24);
}

/* The other processor: takes the ids that it is told, interrupts on. */
static void obey(void *unused)
{
    u32 seen = 0;

    (void)unused;
    irq_enable();
    while (!stop) {
        if (seen == orders) {
            cpu_relax();
            continue;
        }
        seen = orders;
        take_ids(logical_id, physical_id);
        obeyed = seen;
    }
    irq_disable();
}

static void order(u32 logical, u32 physical)
{
    logical_id = logical;
    physical_id = physical;
    orders++;
    while (obeyed != orders)
        cpu_relax();
}

/* Sends, and says whether it came to whom it should, bit n: processor n. Those whom it must not
 * reach would have it by now: one message is sent to all at once. */
static bool reaches(u32 to, u32 command, u32 whom)
{
    u32 before[2] = {received[0], received[1]};

    apic_ipi(to, command | ICR_ASSERT | VECTOR);
    for (u32 n = 0; n < 2; n++)
        for (u32 tries = 0; (whom >> n & 1) && received[n] == before[n] && tries < 100000;
             tries++) {
            irq_window();
            if (tries > 1000)
                pit_wait_us(100);
        }
    irq_window();
    return received[0] - before[0] == (whom & 1) && received[1] - before[1] == whom >> 1;
}

static void physical(void)
{
    u32 wrong = 0;

    model = FLAT;
    for (u32 id = 0; id < 255; id++) {
        order(0, id);
        take_ids(0, (id + 1) % 255);
        wrong += !reaches(id, 0, 2);
        wrong += !reaches((id + 1) % 255, 0, 1);
        take_ids(0, id);
        wrong += !reaches(id, 0, 3);
    }
    check_equal("wrong answers to physical ids", wrong, 0);
    take_ids(0, 0);
    order(0, OTHER);
}

static void flat(void)
{
    u32 wrong = 0;

    model = FLAT;
    for (u32 mine = 0; mine < 8; mine++)
        for (u32 other = 0; other < 8; other++) {
            take_ids(BIT(mine), 0);
            order(BIT(other), OTHER);
            for (u32 to = 1; to < 255; to += 1 + mine + other)
                wrong += !reaches(to, ICR_LOGICAL, (to >> mine & 1) | (to >> other & 1) << 1);
        }
    check_equal("wrong answers to flat ids", wrong, 0);
    take_ids(0, 0);
    order(0x81, OTHER);
    check("an id of several bits", reaches(0x80, ICR_LOGICAL, 2));
    check("one of none", reaches(0x7f, ICR_LOGICAL, 2));
    check("nobody", reaches(0x7e, ICR_LOGICAL, 0));
    take_ids(2, 0);
    check("everybody", reaches(0xff, ICR_LOGICAL, 3));
}

static void clusters(void)
{
    u32 wrong = 0;

    model = CLUSTER;
    for (u32 cluster = 0; cluster < 15; cluster++)
        for (u32 bits = 1; bits < 16; bits += 2) {
            take_ids((cluster + bits / 2) % 15 << 4 | 2, 0);
            order(cluster << 4 | bits, OTHER);
            for (u32 to = 1; to < 16; to += 2) {
                u32 whom = (to & bits ? 2 : 0) | (bits == 1 && (to & 2) ? 1 : 0);

                wrong += !reaches(cluster << 4 | to, ICR_LOGICAL, whom);
            }
        }
    check_equal("wrong answers to clusters", wrong, 0);
}

void test(void)
{
    trap_set(VECTOR, on_ipi);
    apic_init();
    if (!check_equal("processors", smp_start(2), 2))
        check_done();
    smp_call(1, obey, NULL);
    physical();
    flat();
    clusters();
    stop = true;
    smp_wait(1);
}
