/*
 * Firmware in flash memory: a NOR chip with the Common Flash Interface (JESD68.01) and Intel's
 * basic command set (JEP137 vendor 0001h; Intel AP-646), eight bits wide, with blocks of 4 KiB,
 * as QEMU's PC has two of them below 4 GiB. OVMF keeps its variables in it.
 *
 * While the chip is in read-array mode its bytes are ROM pages that the guest reads and
 * executes without the device; each write is a command and comes here, and in every other mode
 * reads do, too. What is programmed goes to the block back end behind the guest's back.
 */
#pragma once

#include "base/error.h"
#include "platform/block.h"
#include "platform/board.h"

#define PFLASH_BLOCK (4 * KiB)
#define PFLASH_MAX   (8 * MiB) /* of all chips of a machine together */

struct pflash;

/*
 * A chip that ends at `end`, a page's address of at most 4 GiB, with the contents of `block`,
 * which must outlive it; one that is read-only has all its blocks locked. NULL: *err says why
 * (its size, or it cannot be read). Under the board lock; before the machine runs.
 */
struct pflash *pflash_create(struct board *board, struct block *block, u64 end,
                             struct error *err);
