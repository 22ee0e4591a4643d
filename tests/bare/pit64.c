/* The 8254: counting modes, latches, status, access widths, gate and speaker port 0x61. */
#include "lib/pit.h"
#include "lib/system.h"

enum { CHANNEL2 = 0x42, GATE = 1, OUT = 0x80, NULL_COUNT = 0x40 };

static u8 status(unsigned channel)
{
    outb(PIT_CONTROL, 0xe0 | 2 << channel);
    return inb(PIT_CHANNEL0 + channel);
}

static void gate(bool on)
{
    outb(PORT_61, (inb(PORT_61) & ~3) | (on ? GATE : 0));
}

/* Waits by the time-stamp counter's help alone: the PIT itself is under test. */
static bool wait_count(unsigned channel, u16 below)
{
    for (unsigned n = 0; n < 10000000; n++) {
        if (pit_count(channel) <= below)
            return true;
        cpu_relax();
    }
    return false;
}

/* Starts counter 2 in mode 0: is OUT low then? On a busy host it may have counted to its end
 * before one looks, so more than one start counts. */
static bool starts_low(u16 count)
{
    for (unsigned tries = 0; tries < 50; tries++) {
        pit_start(2, 0, count);
        if (!(inb(PORT_61) & 0x20))
            return true;
    }
    return false;
}

static void terminal_count(void)
{
    u16 first = 0;

    gate(true);
    for (unsigned tries = 0; tries < 50 && (first > 50000 || first <= 1000); tries++) {
        if (!check("mode 0: OUT low while counting", starts_low(50000)))
            break;
        first = pit_count(2);
    }
    check("counts down from the count", first <= 50000 && first > 1000);
    check_equal("status of mode 0", status(2) & 0x3f, 0x30);
    check("half-way", wait_count(2, 25000));
    if (!skip_tcg("gate", "QEMU counts on")) {
        gate(false);
        first = pit_count(2);
        for (unsigned i = 0; i < 1000; i++)
            cpu_relax();
        check_equal("gate low holds the count", pit_count(2), first);
        gate(true);
    }
    wait_count(2, 1000);
    for (unsigned n = 0; n < 10000000 && !(inb(PORT_61) & 0x20); n++)
        cpu_relax();
    check_equal("OUT high at the end", inb(PORT_61) & 0x20, 0x20);
    check_equal("OUT in the status", status(2) & OUT, OUT);
    check("OUT low with a new count", starts_low(60000));
}

static void latches(void)
{
    u16 first, second;
    u8 low;

    gate(true);
    pit_start(2, 2, 0);
    outb(PIT_CONTROL, 0x80); /* latch */
    for (unsigned i = 0; i < 1000; i++)
        cpu_relax();
    low = inb(CHANNEL2);
    first = low | inb(CHANNEL2) << 8;
    low = inb(CHANNEL2);
    second = low | inb(CHANNEL2) << 8;
    check("the latch held the older count", (u16)(first - second) > 0);
    outb(PIT_CONTROL, 0x80);
    for (unsigned i = 0; i < 1000; i++)
        cpu_relax();
    outb(PIT_CONTROL, 0x80); /* ignored: one is held already */
    low = inb(CHANNEL2);
    first = low | inb(CHANNEL2) << 8;
    second = pit_count(2);
    check("a second latch command is ignored", (u16)(first - second) > 100 / 10);
    outb(PIT_CONTROL, 0xc8); /* read back: count and status of channel 2 */
    check_equal("status comes first", inb(CHANNEL2) & 0x3f, 0x34);
    low = inb(CHANNEL2);
    first = low | inb(CHANNEL2) << 8;
    check("then the count", first != 0 || pit_count(2) != 0);
    check_equal("no null count", status(2) & NULL_COUNT, 0);
}

static void widths(void)
{
    gate(true);
    outb(PIT_CONTROL, 0x90); /* channel 2, low byte only, mode 0 */
    outb(CHANNEL2, 0x80);
    check_equal("low byte only: status", status(2) & 0x30, 0x10);
    outb(PIT_CONTROL, 0xa4); /* high byte only, mode 2 */
    outb(CHANNEL2, 0x80);
    check_equal("high byte only: status", status(2) & 0x3f, 0x24);
    outb(PIT_CONTROL, 0x80);
    check("high byte", inb(CHANNEL2) <= 0x80);
    gate(false);
    outb(PIT_CONTROL, 0xb1); /* mode 0, BCD */
    check_equal("OUT low after the mode is set", inb(PORT_61) & 0x20, 0);
    outb(CHANNEL2, 0x99);
    outb(CHANNEL2, 0x99);
    gate(true);
    check_equal("BCD in the status", status(2) & 1, 1);
    for (unsigned n = 0; n < 200 && !on_tcg(); n++) {
        u16 count = pit_count(2);

        if ((count & 15) > 9 || (count >> 4 & 15) > 9 || (count >> 8 & 15) > 9) {
            check_equal("BCD digits", count, 0);
            return;
        }
    }
    check("BCD digits", true);
}

static void rate_and_square(void)
{
    u16 high = 0;
    bool seen_low = false, seen_high = false;

    gate(true);
    pit_start(2, 2, 1000);
    for (unsigned n = 0; n < 3000; n++) {
        u16 count = pit_count(2);

        if (count > high)
            high = count;
    }
    check("mode 2 never exceeds its count", high <= 1000 && high > 100);
    pit_start(2, 3, 20000);
    check_equal("status of mode 3", status(2) & 0x3f, 0x36);
    for (unsigned n = 0; n < 1000000 && !(seen_low && seen_high); n++) {
        if (inb(PORT_61) & 0x20)
            seen_high = true;
        else
            seen_low = true;
    }
    check("square wave goes high", seen_high);
    check("square wave goes low", seen_low);
    for (unsigned n = 0; n < 100; n++) {
        if (pit_count(2) & 1) {
            check("mode 3 counts by two", false);
            return;
        }
    }
    check("mode 3 counts by two", true);
}

static void one_shot(void)
{
    bool low = false;

    if (skip_tcg("mode 1", "QEMU inverts it"))
        return;
    for (unsigned tries = 0; tries < 50 && !low; tries++) {
        gate(false);
        pit_start(2, 1, 3000);
        check_equal("mode 1: OUT high before the trigger", inb(PORT_61) & 0x20, 0x20);
        gate(true);
        low = !(inb(PORT_61) & 0x20);
    }
    check("low after it", low);
    for (unsigned n = 0; n < 1000000 && !(inb(PORT_61) & 0x20); n++)
        cpu_relax();
    check_equal("high again at the end", inb(PORT_61) & 0x20, 0x20);
    gate(false);
}

static void port61(void)
{
    u8 value, toggled = 0;

    outb(PORT_61, 3);
    check_equal("bits 0 and 1 read back", inb(PORT_61) & 3, 3);
    outb(PORT_61, 0);
    check_equal("and clear", inb(PORT_61) & 3, 0);
    value = inb(PORT_61) & 0x10;
    for (unsigned n = 0; n < 100000; n++)
        toggled |= (inb(PORT_61) & 0x10) ^ value;
    check("the refresh bit toggles", toggled);
}

void test(void)
{
    terminal_count();
    latches();
    widths();
    rate_and_square();
    one_shot();
    port61();
}
