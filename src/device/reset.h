/*
 * Reset control: port 92h (fast reset; A20 gate) and port CF9h (reset control register; the
 * FADT's RESET_REG, with RESET_VALUE 6).
 *
 * A20 is always on: the bit can be written and read back, and addresses never wrap at 1 MiB.
 * Software that turns it off and depends on the wrap is older than the 386 modes that Doppel's
 * guests use.
 */
#pragma once

#include "platform/board.h"

#define RESET_PORT  0xcf9
#define RESET_VALUE 6

struct reset_control;

/* Create it after the PCI host bridge, whose CF8h dword it overlaps. */
struct reset_control *reset_control_create(struct board *board);
