/* Bit arithmetic that C leaves to everyone to write again. All shapes are unsigned and pure. */
#pragma once

#include "base/types.h"

#define BIT(n) (1ull << (n))

/* A mask of the low `n` bits, 0 <= n <= 64. */
static inline u64 bits_low(unsigned n)
{
    return n >= 64 ? ~0ull : BIT(n) - 1;
}

/* Bits hi..lo of `v`, both inclusive, as the manuals write them. */
static inline u64 bits(u64 v, unsigned hi, unsigned lo)
{
    return (v >> lo) & bits_low(hi - lo + 1);
}

/* `v`, an integer of `size` bytes (1, 2, 4, 8), sign-extended to 64 bits. */
static inline u64 sign_extend(u64 v, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (u64)((s64)(v << shift) >> shift);
}

static inline u64 align_down(u64 v, u64 to)
{
    return v & ~(to - 1);
}

static inline u64 align_up(u64 v, u64 to)
{
    return (v + to - 1) & ~(to - 1);
}
