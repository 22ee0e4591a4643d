/* The CMOS clock's registers, by index. */
#pragma once
#include "cpu.h"

static inline u8 cmos_read(u8 index)
{
    outb(0x70, index);
    return inb(0x71);
}

static inline void cmos_write(u8 index, u8 value)
{
    outb(0x70, index);
    outb(0x71, value);
}
