/* The CMOS clock: registers, time, periodic, update and alarm interrupts. */
#include "lib/apic.h"
#include "lib/cmos.h"
#include "lib/pit.h"
#include "lib/system.h"

enum { BASE = 0x60, PERIODIC = 0x40, ALARM = 0x20, UPDATE = 0x10, BINARY = 4, HOURS24 = 2 };

static volatile u32 count;
static volatile u8 causes;

static void on_clock(struct regs *r)
{
    (void)r;
    count++;
    causes |= cmos_read(0x0c);
    pic_eoi(8);
}

static bool wait_for(u32 wanted, u32 ms)
{
    irq_enable();
    for (u32 i = 0; i < ms && count < wanted; i++)
        pit_wait_us(1000);
    irq_disable();
    return count >= wanted;
}

static unsigned decimal(u8 value)
{
    return cmos_read(0x0b) & BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static void registers(void)
{
    check_equal("D: memory is valid", cmos_read(0x0d) & 0x80, 0x80);
    cmos_write(0x0a, 0x26);
    check_equal("A: rate and divider", cmos_read(0x0a) & 0x7f, 0x26);
    cmos_write(0x0b, HOURS24);
    check_equal("B", cmos_read(0x0b) & ~0x04u, HOURS24);
    for (u8 index = 0x50; index < 0x60; index++) {
        u8 old = cmos_read(index);

        cmos_write(index, index ^ 0x5a);
        check_equal("memory", cmos_read(index), index ^ 0x5a);
        cmos_write(index, old);
    }
    outb(0x70, 0x8d); /* the NMI mask bit is not part of the index */
    check_equal("index with the NMI bit", inb(0x71) & 0x80, 0x80);
}

static void time(void)
{
    unsigned first, second;

    for (unsigned n = 0; n < 1000000 && (cmos_read(0x0a) & 0x80); n++)
        cpu_relax();
    check("seconds", decimal(cmos_read(0)) < 60);
    check("minutes", decimal(cmos_read(2)) < 60);
    check("hours", decimal(cmos_read(4)) < 24);
    check("day of the month", decimal(cmos_read(7)) >= 1 && decimal(cmos_read(7)) <= 31);
    check("month", decimal(cmos_read(8)) >= 1 && decimal(cmos_read(8)) <= 12);
    check("year", decimal(cmos_read(9)) < 100);
    first = decimal(cmos_read(0));
    for (u32 ms = 0; ms < 3000; ms++) {
        pit_wait_us(1000);
        second = decimal(cmos_read(0));
        if (second != first)
            break;
    }
    check("the seconds go on", second != first);
}

static void set_time(void)
{
    cmos_write(0x0b, cmos_read(0x0b) | 0x80); /* SET stops updates */
    cmos_write(0, 0x58);
    cmos_write(2, 0x59);
    cmos_write(4, 0x23);
    cmos_write(7, 0x28);
    cmos_write(8, 0x02);
    cmos_write(9, 0x24);
    check_equal("no update while SET", cmos_read(0), 0x58);
    cmos_write(0x0b, cmos_read(0x0b) & ~0x80);
    for (u32 ms = 0; ms < 5000 && cmos_read(4) != 0; ms++)
        pit_wait_us(1000);
    check_equal("midnight", cmos_read(4), 0);
    check_equal("28 February of a leap year is followed by the 29th", cmos_read(7), 0x29);
    check_equal("the same month", cmos_read(8), 0x02);
}

/* Turns all interrupts of the clock off, and takes one that came before. */
static void quiet(void)
{
    cmos_write(0x0b, HOURS24);
    (void)cmos_read(0x0c);
    wait_for(~0u, 5);
    count = causes = 0;
}

static void periodic(void)
{
    quiet();
    cmos_write(0x0a, 0x2a); /* 64 a second */
    cmos_write(0x0b, HOURS24 | PERIODIC);
    check("periodic interrupts", wait_for(5, 20000));
    check_equal("cause", causes & (0x80 | PERIODIC), 0x80 | PERIODIC);
    quiet();
    wait_for(1, 50);
    check_equal("off", count, 0);
    cmos_write(0x0a, 0x26);
}

static void update_and_alarm(void)
{
    quiet();
    cmos_write(0x0b, HOURS24 | UPDATE);
    check("update interrupt", wait_for(1, 20000));
    check_equal("cause", causes & UPDATE, UPDATE);
    quiet();
    cmos_write(1, 0xff); /* alarm at each second */
    cmos_write(3, 0xff);
    cmos_write(5, 0xff);
    cmos_write(0x0b, HOURS24 | ALARM);
    check("alarm interrupt", wait_for(1, 20000));
    check_equal("cause", causes & ALARM, ALARM);
    cmos_write(0x0b, HOURS24);
    (void)cmos_read(0x0c);
}

void test(void)
{
    apic_init();
    apic_write(APIC_LVT_LINT0, 0x700);
    pic_init(BASE);
    trap_set(BASE + 8, on_clock);
    pic_mask(0xfefb);
    registers();
    time();
    set_time();
    periodic();
    update_and_alarm();
}
