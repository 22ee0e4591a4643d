/*
 * The keyboard controller of the PC/AT and PS/2: reset pulse, A20 gate (see reset.h), self
 * tests, two ports for PS/2 devices, none of which is plugged in until i8042_attach.
 */
#pragma once

#include "platform/board.h"
#include "platform/irq.h"

struct i8042;

enum i8042_port { I8042_KEYBOARD, I8042_AUX, I8042_PORTS };

/* A keyboard or mouse: takes bytes from the controller, and has bytes for it. */
struct ps2_device {
    void (*write)(void *opaque, u8 byte); /* NULL: nothing is plugged in */
    /* Takes the next byte; false: there is none. */
    bool (*read)(void *opaque, u8 *byte);
    void *opaque;
};

/* Ports 60h and 64h; `keyboard` is ISA IRQ 1, `aux` ISA IRQ 12. */
struct i8042 *i8042_create(struct board *board, struct irq_line keyboard, struct irq_line aux);

void i8042_attach(struct i8042 *i8042, enum i8042_port port, struct ps2_device ps2);

/* A device has bytes; from within `write` or `read`, too. Under the board lock. */
void i8042_ready(struct i8042 *i8042);
