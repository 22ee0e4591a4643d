/*
 * Port F0h of the PC/AT: x87 errors with CR0.NE clear come by IRQ 13 (the processor's FERR#); a
 * write to the port drops the request and asserts IGNNE#, so that the handler may use the unit
 * (SDM vol. 1, appendix D.2).
 */
#pragma once

#include "platform/board.h"

/* `line` is IRQ 13. */
void fpu_error_create(struct board *board, struct irq_line line);
