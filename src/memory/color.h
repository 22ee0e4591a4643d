/*
 * Colours of host pages. AMD's L1 data caches (Zen and its successors, measured on Zen 3)
 * predict the way of a line from eight bits hashed from its linear address: M. Lipp et al.,
 * "Take A Way", ASIA CCS 2020. Two lines of one set with equal hashes push each other out at
 * each access, 17 cycles instead of 3. Translated code reaches two pages of its vCPU every few
 * instructions, so guest memory leaves the colours of these alone: a loop whose table had the
 * colour of its vCPU ran at a third of its speed. Elsewhere it does no harm.
 */
#pragma once

#include "base/addr.h"
#include "base/bits.h"

/* Addresses in blocks aligned to this have the colours of their offsets; adding a half of it
 * changes the colour's lowest bit. */
#define COLOR_SPAN (256 * MiB)

/* Of a struct vcpu's first page and that of its engine's room, as offsets say. */
#define COLOR_VCPU_AT 0
#define COLOR_ROOM_AT (512 * KiB)

/* Bits 12 to 19, with 27, 26, 25 and 20 to 24 below them. */
static inline unsigned color_of(u64 hva)
{
    u64 n = hva >> PAGE_SHIFT;
    u64 high = (n >> 15 & 1) | (n >> 13 & 2) | (n >> 11 & 4) | (n >> 5 & 0xf8);
    return (unsigned)((n ^ high) & 0xff);
}

/* Has a vCPU that colour? */
static inline bool color_taken(u64 hva)
{
    return !(color_of(hva) & ~color_of(COLOR_ROOM_AT));
}
