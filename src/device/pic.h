/* Two cascaded 8259A interrupt controllers as in a PC. */
#pragma once

#include "platform/board.h"
#include "platform/irq.h"

struct pic;

/* `intr`: the master's INT output, a level. Ports 20h, 21h, A0h, A1h, 4D0h, 4D1h. */
struct pic *pic_create(struct board *board, struct irq_line intr);

/* Input `n` of the pair, 0..15 (2 is the cascade and ignored). Calls need the board lock. */
struct irq_line pic_line(struct pic *pic, unsigned n);

/* The processor's two INTA cycles: the vector, 0..255; a spurious one if nothing is pending.
 * Under the board lock. */
int pic_acknowledge(struct pic *pic);

/* The edge/level control registers, bit n for IRQ n, as firmware would write them. */
void pic_set_elcr(struct pic *pic, u16 elcr);
