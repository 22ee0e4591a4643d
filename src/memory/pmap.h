/*
 * The pmap: gfn -> machine page, with the page's flags (ESX's term; design, section 6).
 *
 * Machine pages come from one memory file (memfd), mapped readable and writable, never
 * executable; a page has one address as long as it has a place (color.h says which). A frame
 * gets its machine page when it is first touched, in aligned runs of 2 MiB where the RAM range
 * allows it, so memory that was never touched costs nothing but table space. RAM lies at [0,
 * below) and [4 GiB, 4 GiB + above): the PCI hole is between.
 *
 * Threads: lookups and flag updates are lock-free (atomic entries); allocation takes the pmap's
 * own lock. An entry's machine page changes only while every vCPU is outside guest code or has
 * flushed its shadow entries (vcpu_request_all).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/addr.h"
#include "base/bits.h"
#include "base/error.h"

/* Flags of a page, in the low bits of its entry. */
#define PMAP_PRESENT BIT(0) /* has a machine page */
#define PMAP_RAM     BIT(1) /* is guest RAM (or ROM) at all */
#define PMAP_ROM     BIT(2) /* guest writes go to the bus, where mostly nobody is */
#define PMAP_CODE                                                                              \
    BIT(3) /* decoded or translated code comes from it: writes take the slow path */
#define PMAP_DIRTY BIT(4) /* written since the dirty log was last read */
#define PMAP_FIXED BIT(5) /* a device's memory: its machine page is never given back */

/*
 * What the engines of all vCPUs know of a page under PMAP_CODE: from which of its 64 lines of
 * 64 bytes code was decoded, so that a write beside it costs no code; and how often it was
 * written, so that a page which is data by now does not stay watched (engine/access.c).
 */
struct pmap_code {
    _Atomic u64 lines;   /* by bit */
    _Atomic u32 writes;  /* since it is watched */
    _Atomic u32 stamp;   /* when the watch ended last, in units of about 30 ms */
    _Atomic u8 patience; /* writes before it ends, as a shift */
    _Atomic bool whole;  /* somebody counts on the whole page */
};
#define PMAP_LINE 64

struct pmap;

#define PMAP_MAX_RAM (16 * GiB)
#define PMAP_HOLE    0xc0000000ull /* RAM below 4 GiB ends here at most: 3 GiB */

/* `bytes` of RAM, a multiple of 4096, at most PMAP_MAX_RAM. NULL: *err says why. */
struct pmap *pmap_create(u64 bytes, struct error *err);
void pmap_destroy(struct pmap *pmap);

/* RAM below 4 GiB and above, in bytes; for memory maps. */
u64 pmap_below_4g(const struct pmap *pmap);
u64 pmap_above_4g(const struct pmap *pmap);

/* One more than the highest frame there can be. */
u64 pmap_frames(const struct pmap *pmap);
/* The entry's flags; 0: not RAM. */
u64 pmap_flags(const struct pmap *pmap, struct gfn f);
/* Sets and clears flags atomically; returns the old ones. The frame must be RAM. */
u64 pmap_set_flags(struct pmap *pmap, struct gfn f, u64 set, u64 clear);

/* The page's first byte, allocating its machine page if need be; NULL: not RAM. Never fails
 * otherwise: host memory that runs out kills the process, as with any overcommitted mapping. */
void *pmap_page(struct pmap *pmap, struct gfn f);

/* The frame must be RAM. */
struct pmap_code *pmap_code(struct pmap *pmap, struct gfn f);
/* Lines that [offset, offset + size) of a page touches, size > 0. */
static inline u64 pmap_lines(unsigned offset, unsigned size)
{
    unsigned first = offset / PMAP_LINE, last = (offset + size - 1) / PMAP_LINE;
    return bits_low(last - first + 1) << first;
}

/* The memory file, for mappings in other address spaces, and where in it a page lies that
 * pmap_page gave. */
int pmap_file(const struct pmap *pmap);
u64 pmap_file_offset(const struct pmap *pmap, const void *page);

/*
 * Turns [addr, addr+len), page-aligned and below 4 GiB, into ROM or plain RAM. Frames outside
 * RAM (a firmware image under 4 GiB) become pages of their own, 16 MiB of them at most: false
 * when they are used up. Before the machine runs, or with shadow entries flushed after.
 */
bool pmap_set_rom(struct pmap *pmap, struct gpa addr, u64 len, bool rom);

/* Takes [addr, addr+len), page-aligned and below 4 GiB, out of RAM: what is there belongs to
 * devices. Before the machine runs. */
void pmap_set_hole(struct pmap *pmap, struct gpa addr, u64 len);

/*
 * Gives the machine pages of `count` frames from `first` on back to the host (a balloon, pages
 * that the guest reports free); they read as zeroes and come back when they are touched. ROM
 * and what is no RAM stays. A frame always gets the same place in the memory file, so a shadow
 * entry that is still there is no danger, but what it touches is not counted as allocated:
 * flush them. Under PMAP_CODE the caller sees to what was decoded (platform/ram.h does both).
 */
void pmap_release(struct pmap *pmap, struct gfn first, u64 count);

/*
 * Memory of a device's own that guests reach without the device (a frame buffer): `len` bytes,
 * page-aligned, of the memory file, mapped over what is at `at`. *offset: where in the file
 * they begin. False, and nothing has changed: there are not that many, PMAP_DEVICE_MEMORY in
 * all.
 */
#define PMAP_DEVICE_MEMORY (16 * MiB)
bool pmap_device_memory(struct pmap *pmap, void *at, u64 len, u64 *offset);
/* Shows it at `addr`, where there is no RAM; false: frames beyond the table, or RAM. Hides it;
 * with shadow entries flushed after. */
bool pmap_show_device(struct pmap *pmap, struct gpa addr, u64 len, u64 offset);
void pmap_hide_device(struct pmap *pmap, struct gpa addr, u64 len);
/* Makes it read as zeroes, and costs nothing until it is touched. */
void pmap_clear_device(struct pmap *pmap, u64 offset, u64 len);

/* Bytes of machine pages handed out (statistics). */
u64 pmap_allocated(const struct pmap *pmap);
