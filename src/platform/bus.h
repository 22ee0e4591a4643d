/*
 * The bus: which device answers at which I/O port or guest-physical address.
 *
 * A device registers regions; it gets offsets into its region, never addresses, and never
 * learns who accesses it. Accesses reach a region as they were made, 1, 2, 4 or 8 bytes wide;
 * an access wider than the region's `max_size` is split into max_size pieces, lowest first, one
 * that crosses a region's end is split there. Nobody at home: reads give all ones, writes
 * vanish (ISA and PCI master abort).
 *
 * Threads: bus_read and bus_write take the board lock (board.h); region handlers run under it.
 * Adding, moving and removing regions needs the board lock too.
 */
#pragma once

#include "base/addr.h"
#include "base/log.h"

enum bus_space { BUS_PIO, BUS_MMIO };

struct bus_region;

struct bus_ops {
    /* `offset` < region size; `size` 1, 2, 4 or 8; the value is zero-extended. */
    u64 (*read)(void *opaque, u64 offset, unsigned size);
    void (*write)(void *opaque, u64 offset, unsigned size, u64 value);
};

struct bus_region {
    const char *name;
    const struct bus_ops *ops;
    void *opaque;
    u64 base; /* port number or guest-physical address */
    u64 size;
    unsigned max_size; /* widest access the device takes: 1, 2, 4, 8; 0 means 8 */
    enum bus_space space;
    struct bus_region *next; /* the bus's own: newest first */
};

/* Addresses looked up lately, each of them exactly: regions may overlap, so a hit for one
 * address says nothing about its neighbour. */
#define BUS_CACHE 64

struct bus_cached {
    u64 addr;
    struct bus_region *region; /* NULL: empty */
};

struct bus {
    struct bus_region *regions[2]; /* by enum bus_space */
    struct bus_cached cache[2][BUS_CACHE];
};

struct board;

/* The region's memory belongs to the device; it stays linked until bus_remove. Regions may
 * overlap: the one added last wins (PCI BARs over holes). */
void bus_add(struct board *board, struct bus_region *region);
void bus_remove(struct board *board, struct bus_region *region);

u64 bus_read(struct board *board, enum bus_space space, u64 addr, unsigned size);
void bus_write(struct board *board, enum bus_space space, u64 addr, unsigned size, u64 value);
