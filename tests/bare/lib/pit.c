/* Programmable timer and interrupt controllers. */
#include "pit.h"

void pit_start(unsigned channel, unsigned mode, u16 count)
{
    outb(PIT_CONTROL, channel << 6 | 0x30 | mode << 1);
    outb(PIT_CHANNEL0 + channel, count);
    outb(PIT_CHANNEL0 + channel, count >> 8);
}

u16 pit_count(unsigned channel)
{
    u8 low;

    outb(PIT_CONTROL, channel << 6);
    low = inb(PIT_CHANNEL0 + channel);
    return low | inb(PIT_CHANNEL0 + channel) << 8;
}

void pit_wait_us(u32 us)
{
    while (us) {
        u32 part = us > 50000 ? 50000 : us;

        outb(PORT_61, (inb(PORT_61) & ~3) | 1);
        pit_start(2, 0, part * 1193 / 1000 + 1);
        while (!(inb(PORT_61) & 0x20))
            cpu_relax();
        us -= part;
    }
}

void pic_init(u8 base)
{
    outb(PIC_MASTER, 0x11);
    outb(PIC_SLAVE, 0x11);
    outb(PIC_MASTER + 1, base);
    outb(PIC_SLAVE + 1, base + 8);
    outb(PIC_MASTER + 1, 4);
    outb(PIC_SLAVE + 1, 2);
    outb(PIC_MASTER + 1, 1);
    outb(PIC_SLAVE + 1, 1);
    pic_mask(0xffff);
}

void pic_mask(u16 mask)
{
    outb(PIC_MASTER + 1, mask);
    outb(PIC_SLAVE + 1, mask >> 8);
}

u8 pic_ocw3(u16 chip, u8 command)
{
    outb(chip, command);
    return inb(chip);
}

void pic_eoi(unsigned line)
{
    if (line >= 8)
        outb(PIC_SLAVE, 0x20);
    outb(PIC_MASTER, 0x20);
}
