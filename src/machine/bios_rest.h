/*
 * What a BIOS would have left in low memory where a kernel is started without one: the data
 * area's words by which systems find tables, and interrupt vectors. Kernels with a real-mode
 * past call the BIOS before they set up their own world (Xen asks for disks, video modes,
 * memory); here each service refuses as BIOSes refuse what they do not know, and hardware
 * interrupts are dismissed.
 */
#pragma once

#include "platform/board.h"

struct bios_equipment {
    u16 com[4], lpt[3]; /* ports; 0: none */
    bool vga;           /* in text mode 3 */
};

/* After each reset, before the kernel is loaded. */
void bios_rest_write(struct board *board, const struct bios_equipment *equipment);

/* The interrupt controllers and the clock as a BIOS leaves them, for kernels whose boot
 * protocol starts behind one: a multiboot kernel may go back to real mode and wait for the
 * tick. After the reset, before any vCPU runs, without the board lock. */
void bios_rest_interrupts(struct board *board);
