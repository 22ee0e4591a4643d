/* The CMOS clock: registers, time, periodic, update and alarm interrupts. */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/system.h"

enum { BASE = 0x60, PERIODIC = 0x40, ALARM = 0x20, UPDATE = 0x10, BINARY = 4, HOURS24 = 2 };

static volatile u32 count;
static volatile u8 causes;

static u8 get(u8 index)
{
    outb(0x70, index);
    return inb(0x71);
}

static void set(u8 index, u8 value)
{
    outb(0x70, index);
    outb(0x71, value);
}

static void on_clock(struct regs *r)
{
    (void)r;
    count++;
    causes |= get(0x0c);
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
    return get(0x0b) & BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static void registers(void)
{
    check_equal("D: memory is valid", get(0x0d) & 0x80, 0x80);
    set(0x0a, 0x26);
    check_equal("A: rate and divider", get(0x0a) & 0x7f, 0x26);
    set(0x0b, HOURS24);
    check_equal("B", get(0x0b) & ~0x04u, HOURS24);
    for (u8 index = 0x50; index < 0x60; index++) {
        u8 old = get(index);

        set(index, index ^ 0x5a);
        check_equal("memory", get(index), index ^ 0x5a);
        set(index, old);
    }
    outb(0x70, 0x8d); /* the NMI mask bit is not part of the index */
    check_equal("index with the NMI bit", inb(0x71) & 0x80, 0x80);
}

static void time(void)
{
    unsigned first, second;

    for (unsigned n = 0; n < 1000000 && (get(0x0a) & 0x80); n++)
        cpu_relax();
    check("seconds", decimal(get(0)) < 60);
    check("minutes", decimal(get(2)) < 60);
    check("hours", decimal(get(4)) < 24);
    check("day of the month", decimal(get(7)) >= 1 && decimal(get(7)) <= 31);
    check("month", decimal(get(8)) >= 1 && decimal(get(8)) <= 12);
    check("year", decimal(get(9)) < 100);
    first = decimal(get(0));
    for (u32 ms = 0; ms < 3000; ms++) {
        pit_wait_us(1000);
        second = decimal(get(0));
        if (second != first)
            break;
    }
    check("the seconds go on", second != first);
}

static void set_time(void)
{
    set(0x0b, get(0x0b) | 0x80); /* SET stops updates */
    set(0, 0x58);
    set(2, 0x59);
    set(4, 0x23);
    set(7, 0x28);
    set(8, 0x02);
    set(9, 0x24);
    check_equal("no update while SET", get(0), 0x58);
    set(0x0b, get(0x0b) & ~0x80);
    for (u32 ms = 0; ms < 5000 && get(4) != 0; ms++)
        pit_wait_us(1000);
    check_equal("midnight", get(4), 0);
    check_equal("28 February of a leap year is followed by the 29th", get(7), 0x29);
    check_equal("the same month", get(8), 0x02);
}

/* Turns all interrupts of the clock off, and takes one that came before. */
static void quiet(void)
{
    set(0x0b, HOURS24);
    (void)get(0x0c);
    wait_for(~0u, 5);
    count = causes = 0;
}

static void periodic(void)
{
    quiet();
    set(0x0a, 0x2a); /* 64 a second */
    set(0x0b, HOURS24 | PERIODIC);
    check("periodic interrupts", wait_for(5, 20000));
    check_equal("cause", causes & (0x80 | PERIODIC), 0x80 | PERIODIC);
    quiet();
    wait_for(1, 50);
    check_equal("off", count, 0);
    set(0x0a, 0x26);
}

static void update_and_alarm(void)
{
    quiet();
    set(0x0b, HOURS24 | UPDATE);
    check("update interrupt", wait_for(1, 20000));
    check_equal("cause", causes & UPDATE, UPDATE);
    quiet();
    set(1, 0xff); /* alarm at each second */
    set(3, 0xff);
    set(5, 0xff);
    set(0x0b, HOURS24 | ALARM);
    check("alarm interrupt", wait_for(1, 20000));
    check_equal("cause", causes & ALARM, ALARM);
    set(0x0b, HOURS24);
    (void)get(0x0c);
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
