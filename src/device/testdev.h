/*
 * The platform device that conformance suites for PCs expect, as QEMU's pc-testdev: scratch
 * ports, scratch MMIO, and a port for each interrupt wire.
 *
 *   E0h-E3h      four bytes that keep what is written; E8h-EBh show them byte by byte
 *   E4h-E7h      the address of a page whose shadow entries are to go; nothing to see
 *   2000h-2017h  writing bit 0 sets the level of that global system interrupt
 *   FF000000h    64 KiB of device memory that keeps what is written
 */
#pragma once

#include "device/gsi.h"
#include "platform/board.h"

struct testdev;
/* `gsi` must outlive it. Under the board lock. */
struct testdev *testdev_create(struct board *board, struct gsi *gsi);
