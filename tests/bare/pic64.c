/*
 * The two 8259 controllers, fed by the timer (line 0), the serial port (line 4) and the
 * real-time clock (line 8), through LINT0 as ExtINT.
 */
#include "lib/apic.h"
#include "lib/cmos.h"
#include "lib/pit.h"
#include "lib/system.h"

enum { BASE = 0x60, COM1 = 0x3f8, READ_IRR = 0x0a, READ_ISR = 0x0b, POLL = 0x0c };

static volatile u32 count[16];
static volatile u8 order[16];
static volatile u32 ordered;
static volatile bool keep; /* the handlers give no EOI */

static void on_line(struct regs *r)
{
    unsigned line = r->vector - BASE;

    count[line]++;
    if (ordered < COUNT(order))
        order[ordered++] = line;
    if (line == 4)
        (void)inb(COM1 + 2); /* ends the cause */
    if (line == 8)
        (void)cmos_read(0x0c);
    if (!keep)
        pic_eoi(line);
}

static void open_window(void)
{
    for (unsigned n = 0; n < 10; n++)
        irq_window();
}

static void clear(void)
{
    for (unsigned i = 0; i < 16; i++)
        count[i] = 0;
    ordered = 0;
}

/* One edge of line 0: the end of a one-shot count, which may come late on a busy host. */
static void raise_timer(void)
{
    pit_start(0, 0, 2000);
    for (u32 n = 0; n < 20000 && !(pic_ocw3(PIC_MASTER, READ_IRR) & 1); n++)
        pit_wait_us(100);
}

static void raise_serial(void)
{
    outb(COM1 + 1, 0);
    outb(COM1 + 4, 0x0b); /* OUT2 lets the interrupt through */
    outb(COM1 + 1, 2);    /* the transmitter is empty */
}

static void lower_serial(void)
{
    outb(COM1 + 1, 0);
}

static void raise_clock(void)
{
    cmos_write(0x0a, 0x26);
    (void)cmos_read(0x0c);
    cmos_write(0x0b, 0x42); /* periodic, 1024 a second */
    for (u32 n = 0; n < 20000 && !(pic_ocw3(PIC_SLAVE, READ_IRR) & 1); n++)
        pit_wait_us(100);
}

static void masks(void)
{
    clear();
    pic_mask(0xffff);
    check_equal("mask reads back, master", inb(PIC_MASTER + 1), 0xff);
    check_equal("mask reads back, slave", inb(PIC_SLAVE + 1), 0xff);
    raise_timer();
    open_window();
    check_equal("masked", count[0], 0);
    check_equal("pending in IRR", pic_ocw3(PIC_MASTER, READ_IRR) & 1, 1);
    pic_mask(0xfffe);
    open_window();
    check_equal("unmasked: taken", count[0], 1);
    check_equal("IRR clear", pic_ocw3(PIC_MASTER, READ_IRR) & 1, 0);
    check_equal("ISR clear", pic_ocw3(PIC_MASTER, READ_ISR), 0);
}

static void in_service(void)
{
    clear();
    keep = true;
    raise_timer();
    open_window();
    check_equal("taken", count[0], 1);
    check_equal("in service", pic_ocw3(PIC_MASTER, READ_ISR), 1);
    raise_timer();
    open_window();
    check_equal("the same line waits for EOI", count[0], 1);
    pic_mask(0xffee);
    raise_serial();
    open_window();
    check_equal("a lower line waits, too", count[4], 0);
    outb(PIC_MASTER, 0x60); /* specific EOI of line 0 */
    open_window();
    check_equal("after EOI line 0 again", count[0], 2);
    outb(PIC_MASTER, 0x20);
    open_window();
    check_equal("then line 4", count[4], 1);
    check_equal("line 4 in service", pic_ocw3(PIC_MASTER, READ_ISR), 0x10);
    raise_timer();
    open_window();
    check_equal("a higher line interrupts it", count[0], 3);
    check_equal("both in service", pic_ocw3(PIC_MASTER, READ_ISR), 0x11);
    outb(PIC_MASTER, 0x20);
    check_equal("unspecific EOI ends the highest", pic_ocw3(PIC_MASTER, READ_ISR), 0x10);
    outb(PIC_MASTER, 0x64);
    check_equal("specific EOI of line 4", pic_ocw3(PIC_MASTER, READ_ISR), 0);
    keep = false;
    lower_serial();
}

static void priorities(void)
{
    clear();
    pic_mask(0xffff);
    raise_serial();
    raise_clock();
    cmos_write(0x0b, 0x42);
    raise_timer();
    check_equal("three lines pending", pic_ocw3(PIC_MASTER, READ_IRR) & 0x11, 0x11);
    check_equal("line 8 at the slave", pic_ocw3(PIC_SLAVE, READ_IRR), 0x01);
    pic_mask(0xfeea);
    open_window();
    cmos_write(0x0b, 0x02);
    check_equal("first the timer", order[0], 0);
    check_equal("then the clock at the slave", order[1], 8);
    /* The clock may tick again meanwhile: what counts is that the others were first. */
    check_equal("the serial port after both", count[4], 1);
    lower_serial();
    (void)cmos_read(0x0c);
    open_window();
}

static void poll(void)
{
    clear();
    pic_mask(0xfffe);
    raise_timer();
    check_equal("poll shows the line", pic_ocw3(PIC_MASTER, POLL) & 0x87, 0x80);
    check_equal("and acknowledges it", pic_ocw3(PIC_MASTER, READ_ISR), 1);
    outb(PIC_MASTER, 0x20);
    open_window();
    check_equal("so that no interrupt comes", count[0], 0);
    check_equal("poll with nothing pending", pic_ocw3(PIC_MASTER, POLL) & 0x80, 0);
}

/* A level-triggered request that goes away before it is acknowledged gives line 7. */
static void spurious(void)
{
    u8 elcr = inb(0x4d0);

    clear();
    outb(0x4d0, 0x10);
    check_equal("ELCR reads back", inb(0x4d0), 0x10);
    outb(0x4d0, elcr);
    outb(0x4d0, 0xff);
    check_equal("lines 0, 1 and 2 cannot be level", inb(0x4d0), 0xf8);
    outb(0x4d0, elcr);
    outb(0x4d1, 0xff);
    check_equal("nor lines 8 and 13", inb(0x4d1), 0xde);
    outb(0x4d1, 0);
}

static void auto_eoi(void)
{
    clear();
    keep = true;
    pic_init(BASE);
    outb(PIC_MASTER, 0x11);
    outb(PIC_MASTER + 1, BASE);
    outb(PIC_MASTER + 1, 4);
    outb(PIC_MASTER + 1, 3); /* AEOI */
    pic_mask(0xfffe);
    raise_timer();
    open_window();
    check_equal("taken", count[0], 1);
    check_equal("automatic EOI", pic_ocw3(PIC_MASTER, READ_ISR), 0);
    raise_timer();
    open_window();
    check_equal("again", count[0], 2);
    keep = false;
    pic_init(BASE);
}

static void rotation(void)
{
    clear();
    pic_mask(0xffff);
    raise_serial();
    raise_timer();
    outb(PIC_MASTER, 0xc2); /* line 2 is the lowest: 3, 4, ... come first */
    pic_mask(0xffee);
    open_window();
    check_equal("after rotation line 4 is first", order[0], 4);
    check_equal("then line 0", order[1], 0);
    outb(PIC_MASTER, 0xc7);
    lower_serial();
}

static void special_mask(void)
{
    clear();
    keep = true;
    pic_mask(0xfffe);
    raise_timer();
    open_window();
    pic_mask(0xffef); /* line 0 in service and masked */
    raise_serial();
    open_window();
    check_equal("blocked by line 0", count[4], 0);
    outb(PIC_MASTER, 0x68); /* special mask mode */
    pic_mask(0xffef);       /* for QEMU, which looks again only then */
    open_window();
    check_equal("special mask: only masked lines in service do not block", count[4], 1);
    outb(PIC_MASTER, 0x48);
    keep = false;
    outb(PIC_MASTER, 0x60);
    outb(PIC_MASTER, 0x64);
    lower_serial();
    check_equal("ISR clear", pic_ocw3(PIC_MASTER, READ_ISR), 0);
}

/* Without an unmasked ExtINT the controllers reach nobody. */
static void lint0(void)
{
    if (skip_tcg("unmasking LINT0", "QEMU looks at the controllers only at their next change"))
        return;
    clear();
    pic_mask(0xfffe);
    apic_write(APIC_LVT_LINT0, LVT_MASKED | 0x700);
    raise_timer();
    open_window();
    check_equal("LINT0 masked", count[0], 0);
    apic_write(APIC_LVT_LINT0, 0x700);
    open_window();
    check_equal("LINT0 unmasked", count[0], 1);
    raise_timer();
    apic_write(APIC_TPR, 0xff);
    open_window();
    check_equal("ExtINT does not look at TPR", count[0], 2);
    apic_write(APIC_TPR, 0);
}

void test(void)
{
    for (unsigned line = 0; line < 16; line++)
        trap_set(BASE + line, on_line);
    apic_init();
    apic_write(APIC_LVT_LINT0, 0x700);
    pic_init(BASE);
    masks();
    in_service();
    priorities();
    poll();
    spurious();
    auto_eoi();
    rotation();
    special_mask();
    lint0();
}
