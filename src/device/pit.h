/* An 8254 programmable interval timer, and port 61h, which gates its third counter. */
#pragma once

#include "platform/board.h"
#include "platform/irq.h"

#define PIT_HZ 1193182

struct pit;

/* Ports 40h..43h and 61h; `irq` is OUT of counter 0 (ISA IRQ 0). */
struct pit *pit_create(struct board *board, struct irq_line irq);
