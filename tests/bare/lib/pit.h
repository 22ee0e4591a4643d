/* The 8254 timer and the two 8259 interrupt controllers. */
#pragma once
#include "types.h"
#include "cpu.h"

enum { PIT_HZ = 1193182, PIT_CHANNEL0 = 0x40, PIT_CONTROL = 0x43, PORT_61 = 0x61 };

/* Waits by counting channel 2 down; at most 50 ms at a time are counted, longer waits
 * repeat. */
void pit_wait_us(u32 us);

/* Programs a channel: mode 0-5, binary, low byte then high byte. */
void pit_start(unsigned channel, unsigned mode, u16 count);
u16 pit_count(unsigned channel);

enum { PIC_MASTER = 0x20, PIC_SLAVE = 0xa0 };

/* Vectors `base` to `base` + 15, all lines masked. */
void pic_init(u8 base);
void pic_mask(u16 mask);
u8 pic_ocw3(u16 chip, u8 command);
void pic_eoi(unsigned line);
