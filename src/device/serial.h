/* A 16550A UART. */
#pragma once

#include "platform/board.h"
#include "platform/chardev.h"
#include "platform/irq.h"

struct serial;

/* Eight ports from `base` (COM1 3F8h, IRQ 4; COM2 2F8h, IRQ 3). `chardev` may be NULL: output
 * vanishes and nothing comes in; it must outlive the device. */
struct serial *serial_create(struct board *board, u16 base, struct irq_line irq,
                             struct chardev *chardev);

/* A break condition arrives (the terminal's `Ctrl-a b`). Under the board lock. */
void serial_break(struct serial *serial);
