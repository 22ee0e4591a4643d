/*
 * A floppy controller, Intel's 82077AA in AT mode (data sheet 290166), with up to two drives:
 * ports 3F0h..3F5h and 3F7h, interrupt 6, DMA channel 2 or data through the FIFO.
 */
#pragma once

#include "device/isa_dma.h"
#include "platform/block.h"
#include "platform/irq.h"
#include "platform/tray.h"

#define FDC_DRIVES 2

struct fdc;

/* `disks`: images whose size says what they are (160 KiB to 2.88 MiB), 0: an empty drive; NULL:
 * no drive. */
struct fdc *fdc_create(struct board *board, struct isa_dma *dma, struct irq_line irq,
                       struct block *const disks[FDC_DRIVES]);
/* The door of a drive. */
struct tray *fdc_tray(struct fdc *fdc, unsigned drive);

/* The drive for an image of that size, as in CMOS register 10h (1: 360 KiB .. 5: 2.88 MiB); one
 * of 1.44 MB for sizes that no floppy has, and for an empty drive (size 0). */
u8 fdc_drive_type(u64 size);
