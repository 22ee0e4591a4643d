/*
 * Guest-physical memory as devices and loaders reach it: page by page through the pmap (law 6).
 * Writes mark pages dirty and invalidate decoded or translated code on them, on every vCPU,
 * before they return. Threads: any; no lock needed. Addresses that are not RAM: reads give all
 * ones, writes vanish, and the function returns false (a device turns that into its bus-error
 * status).
 */
#pragma once

#include <sys/uio.h>

#include "base/addr.h"

struct board;

bool ram_read(struct board *board, struct gpa addr, void *buf, u64 len);
bool ram_write(struct board *board, struct gpa addr, const void *buf, u64 len);

/*
 * For transfers that the host's kernel does (readv, writev): where the bytes from `addr` on
 * lie, in at most `room` parts, which are added to the `*n` that are there. Returns how many
 * bytes they are: less than `len` where the room or RAM ends, or ROM begins that would be
 * written. The parts stay valid; the guest may use the memory meanwhile, and should it give the
 * pages back (ram_release) a transfer brings them back. After one that wrote: ram_written.
 */
u64 ram_parts(struct board *board, struct gpa addr, u64 len, bool write, struct iovec *parts,
              unsigned room, unsigned *n);
void ram_written(struct board *board, struct gpa addr, u64 len);

/*
 * A 16-bit word that vCPUs change meanwhile, as in a virtqueue: one access that nothing before
 * (store) or after (load) passes. `addr` is even. Where there is no RAM, loads give ffffh.
 */
u16 ram_load16(struct board *board, struct gpa addr);
void ram_store16(struct board *board, struct gpa addr, u16 value);

/* Puts a byte in place of another, as one locked access; returns the old one, or ffh where
 * there is no RAM. */
u8 ram_exchange8(struct board *board, struct gpa addr, u8 value);

/* Gives the whole pages within [addr, addr + len) back to the host; what is no RAM is left out.
 * They read as zeroes when they are touched again. Any lock may be held. */
void ram_release(struct board *board, struct gpa addr, u64 len);
