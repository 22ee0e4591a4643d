/* An MC146818 real-time clock with 128 bytes of CMOS memory. */
#pragma once

#include "platform/board.h"
#include "platform/irq.h"

struct rtc;

/* Ports 70h and 71h; `irq` is ISA IRQ 8, `nmi_mask` takes bit 7 of the index port (1: NMIs of
 * the chipset are masked; may be an empty wire). */
struct rtc *rtc_create(struct board *board, struct irq_line irq, struct irq_line nmi_mask);

/* Tells when the guest has set the clock: by how many seconds it differs from the host's (as
 * the machine shows that). Under the board lock. */
void rtc_watch(struct rtc *rtc, void (*set)(void *opaque, s64 offset), void *opaque);

/* A byte of CMOS memory, 0Eh..7Fh, as firmware finds it at power-on; it outlives resets. */
void rtc_set_cmos(struct rtc *rtc, u8 index, u8 value);

/* The bytes from which SeaBIOS takes the RAM's size: 15h/16h, 17h/18h, 30h/31h, 34h/35h,
 * 5Bh..5Dh. */
void rtc_set_memory(struct rtc *rtc, u64 below_4g, u64 above_4g);
