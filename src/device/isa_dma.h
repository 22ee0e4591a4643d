/*
 * The PC/AT's two 8237A DMA controllers (Intel 8237A data sheet) with their page registers:
 * channels 0 to 3 move bytes, 5 to 7 words, channel 4 is the cascade. A transfer takes no time:
 * a device moves what it has, as far as its channel is programmed for it.
 */
#pragma once

#include "platform/board.h"

struct isa_dma;

/* Ports 00h..0Fh, C0h..DFh, 80h..8Fh. */
struct isa_dma *isa_dma_create(struct board *board);

/*
 * A device's request: moves at most `len` bytes (an even number for channels 5 to 7) between
 * `data` and memory, in the direction that the channel's mode says: `to_memory` must be the
 * device's. Returns how many; 0: the channel is masked or of another direction. *tc: the count
 * ran out (terminal count), after which a channel without autoinitialization is masked. Under
 * the board lock.
 */
u32 isa_dma_move(struct isa_dma *dma, unsigned channel, void *data, u32 len, bool to_memory,
                 bool *tc);
