/* A parallel port (LPT1) with a printer that is always ready. */
#pragma once

#include "platform/board.h"
#include "platform/chardev.h"
#include "platform/irq.h"

struct parallel;

/* Eight ports from `base` (LPT1 378h, IRQ 7). `chardev` gets what is printed; it may be NULL,
 * and must outlive the device. */
struct parallel *parallel_create(struct board *board, u16 base, struct irq_line irq,
                                 struct chardev *chardev);
