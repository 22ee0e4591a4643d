/* Ports for test kernels and firmware that talk to the monitor. */
#pragma once

#include "platform/board.h"
#include "platform/chardev.h"

/* A write ends the machine with exit status (value << 1) | 1; reads give zero. As QEMU's
 * isa-debug-exit: `base` F4h and `size` 4 by default. */
struct debug_exit;
struct debug_exit *debug_exit_create(struct board *board, u16 base, u16 size);

/* A console of one port, E9h by default; reading gives E9h, by which it is detected. `chardev`
 * is only written to; NULL: output vanishes. */
struct debug_console;
struct debug_console *debug_console_create(struct board *board, u16 base,
                                           struct chardev *chardev);
