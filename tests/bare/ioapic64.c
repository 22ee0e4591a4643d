/* The IOAPIC: its registers, edge and level lines, remote IRR, masks, destinations, NMI. */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/system.h"

enum { PIN_TIMER = 2, PIN_SERIAL = 4, COM1 = 0x3f8, VECTOR = 0x71 };

static volatile u32 count, remote_irr_seen, tmr_seen, again_left;

static void on_edge(struct regs *r)
{
    count++;
    tmr_seen = apic_bit(APIC_TMR, r->vector);
    apic_eoi();
}

/* A level line: leaves it asserted until `again_left` is 0. */
static void on_level(struct regs *r)
{
    count++;
    remote_irr_seen = !!(ioapic_redirect(PIN_SERIAL) & RTE_REMOTE_IRR);
    tmr_seen = apic_bit(APIC_TMR, r->vector);
    if (again_left)
        again_left--;
    else
        outb(COM1 + 1, 0);
    apic_eoi();
}

/* One edge of the timer; its 8259 input tells when it has come, late on a busy host. */
static void raise_timer(void)
{
    pic_init(0x20);
    pit_start(0, 0, 2000);
    for (u32 n = 0; n < 20000 && !(pic_ocw3(PIC_MASTER, 0x0a) & 1); n++)
        pit_wait_us(100);
    pit_wait_us(200);
}

static void raise_serial(void)
{
    outb(COM1 + 1, 0);
    outb(COM1 + 4, 0x0b);
    outb(COM1 + 1, 2);
}

static void open_window(void)
{
    for (unsigned n = 0; n < 20; n++)
        irq_window();
}

static void registers(void)
{
    u32 version = ioapic_read(IOAPIC_VERSION), pins = (version >> 16 & 0xff) + 1;

    check("version", (version & 0xff) == 0x11 || (version & 0xff) == 0x20);
    check_equal("pins", pins, 24);
    for (u32 pin = 0; pin < pins; pin++)
        ioapic_set_redirect(pin, RTE_MASKED);
    ioapic_write(IOAPIC_ID, 0x05000000);
    check_equal("id", ioapic_read(IOAPIC_ID) & 0x0f000000, 0x05000000);
    ioapic_write(IOAPIC_ID, 0xf0ffffff);
    check_equal("id: no other bits", ioapic_read(IOAPIC_ID), 0);
    ioapic_write(IOAPIC_ID, 0x0f000000);
    check_equal("the arbitration id is set by it", ioapic_read(IOAPIC_ARB), 0x0f000000);
    ioapic_write(IOAPIC_ARB, 0);
    check_equal("and read-only", ioapic_read(IOAPIC_ARB), 0x0f000000);
    ioapic_write(IOAPIC_ID, 0);
    ioapic_write(IOAPIC_REDIRECT, 0x1ffff);
    check_equal("entry: status and remote IRR are read-only",
                ioapic_read(IOAPIC_REDIRECT) & (RTE_STATUS | RTE_REMOTE_IRR), 0);
    check_equal("the rest is stored", ioapic_read(IOAPIC_REDIRECT) & ~0x5000u, 0x1afff);
    ioapic_write(IOAPIC_REDIRECT + 1, 0xab000000);
    check_equal("destination", ioapic_read(IOAPIC_REDIRECT + 1) & 0xff000000, 0xab000000);
    ioapic_set_redirect(0, RTE_MASKED);
    *(volatile u32 *)IOAPIC_DEFAULT = IOAPIC_VERSION;
    check_equal("the index reads back", *(volatile u32 *)IOAPIC_DEFAULT & 0xff, IOAPIC_VERSION);
    ioapic_write(IOAPIC_VERSION, 0);
    check_equal("the version is read-only", ioapic_read(IOAPIC_VERSION), version);
}

static void edge(void)
{
    trap_set(VECTOR, on_edge);
    count = 0;
    ioapic_set_redirect(PIN_TIMER, VECTOR);
    raise_timer();
    open_window();
    check_equal("edge", count, 1);
    check_equal("TMR of an edge", tmr_seen, 0);
    open_window();
    check_equal("only once", count, 1);
    raise_timer();
    open_window();
    check_equal("the next edge", count, 2);
    ioapic_set_redirect(PIN_TIMER, RTE_MASKED | VECTOR);
    raise_timer();
    open_window();
    check_equal("masked", count, 2);
}

static void level(void)
{
    trap_set(VECTOR, on_level);
    count = 0;
    again_left = 3;
    ioapic_set_redirect(PIN_SERIAL, RTE_LEVEL | VECTOR);
    raise_serial();
    open_window();
    check_equal("a line that stays up comes again after each EOI", count, 4);
    check_equal("remote IRR in the handler", remote_irr_seen, 1);
    check_equal("TMR of a level", tmr_seen, 1);
    check_equal("remote IRR after EOI", ioapic_redirect(PIN_SERIAL) & RTE_REMOTE_IRR, 0);
    count = 0;
    ioapic_set_redirect(PIN_SERIAL, RTE_MASKED | RTE_LEVEL | VECTOR);
    raise_serial();
    open_window();
    check_equal("masked", count, 0);
    ioapic_set_redirect(PIN_SERIAL, RTE_LEVEL | VECTOR);
    open_window();
    check_equal("unmasked while up", count, 1);
    /* goes away before it is taken: the interrupt is already in IRR */
    ioapic_set_redirect(PIN_SERIAL, RTE_LEVEL | VECTOR);
    count = 0;
    raise_serial();
    outb(COM1 + 1, 0);
    open_window();
    check_equal("a level that fell before it was taken is still delivered", count, 1);
    check_equal("remote IRR is clear", ioapic_redirect(PIN_SERIAL) & RTE_REMOTE_IRR, 0);
    ioapic_set_redirect(PIN_SERIAL, RTE_MASKED);
}

static void destinations(void)
{
    trap_set(VECTOR, on_edge);
    count = 0;
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 0x02000000);
    ioapic_set_redirect(PIN_TIMER, (u64)0x02 << 56 | RTE_LOGICAL | VECTOR);
    raise_timer();
    open_window();
    check_equal("logical", count, 1);
    ioapic_set_redirect(PIN_TIMER, (u64)0x04 << 56 | RTE_LOGICAL | VECTOR);
    raise_timer();
    open_window();
    check_equal("logical, another", count, 1);
    ioapic_set_redirect(PIN_TIMER, (u64)0xff << 56 | RTE_LOGICAL | RTE_LOWEST | VECTOR);
    raise_timer();
    open_window();
    check_equal("lowest priority", count, 2);
    ioapic_set_redirect(PIN_TIMER, (u64)0x07 << 56 | VECTOR);
    raise_timer();
    open_window();
    check_equal("physical, nobody there", count, 2);
    ioapic_set_redirect(PIN_TIMER, (u64)0xff << 56 | VECTOR);
    raise_timer();
    open_window();
    check_equal("physical broadcast", count, 3);
}

static volatile u32 nmis;

static void on_nmi(struct regs *r)
{
    (void)r;
    nmis++;
}

static void nmi(void)
{
    trap_set(NMI, on_nmi);
    nmis = 0;
    ioapic_set_redirect(PIN_TIMER, RTE_NMI | VECTOR);
    raise_timer();
    check_equal("a line as NMI", nmis, 1);
    ioapic_set_redirect(PIN_TIMER, RTE_MASKED);
    trap_set(NMI, NULL);
}

/* Two lines at once: the higher vector first, whatever the pins are. */
static volatile u8 order[4];
static volatile u32 ordered;

static void on_ordered(struct regs *r)
{
    if (ordered < COUNT(order))
        order[ordered++] = r->vector;
    outb(COM1 + 1, 0);
    apic_eoi();
}

static void priorities(void)
{
    trap_set(0x81, on_ordered);
    trap_set(0x91, on_ordered);
    ordered = 0;
    ioapic_set_redirect(PIN_TIMER, 0x81);
    ioapic_set_redirect(PIN_SERIAL, RTE_LEVEL | 0x91);
    raise_timer();
    raise_serial();
    open_window();
    check_equal("two came", ordered, 2);
    check_equal("the higher vector first", order[0], 0x91);
    check_equal("then the lower", order[1], 0x81);
    ioapic_set_redirect(PIN_TIMER, RTE_MASKED);
    ioapic_set_redirect(PIN_SERIAL, RTE_MASKED);
}

void test(void)
{
    apic_init();
    registers();
    edge();
    level();
    destinations();
    nmi();
    priorities();
}
