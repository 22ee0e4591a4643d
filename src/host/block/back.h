/*
 * A disk's back end: carries a device's requests (platform/block.h) to a disk image in threads
 * of its own, so that no vCPU ever waits for the host's disk.
 *
 * Completions are delivered under the board lock, by the thread that did the work. Flushes wait
 * for nothing but what was completed before (as on a real disk): the image orders the rest.
 */
#pragma once

#include "host/block/image.h"
#include "platform/block.h"

struct board;
struct block_back;

/* Takes the image over. */
struct block_back *block_back_create(struct board *board, struct image *image);
/* After the device is gone: closes the image. */
void block_back_destroy(struct block_back *back);

/* The seam to give to the device. */
struct block *block_back_block(struct block_back *back);
