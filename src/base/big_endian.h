/* Integers in network byte order, at addresses of any alignment. */
#pragma once

#include "base/types.h"

static inline u16 be_get16(const u8 *at)
{
    return (u16)(at[0] << 8 | at[1]);
}

static inline u32 be_get32(const u8 *at)
{
    return (u32)be_get16(at) << 16 | be_get16(at + 2);
}

/* The low 16 bits of `value`. */
static inline void be_put16(u8 *at, u64 value)
{
    at[0] = (u8)(value >> 8);
    at[1] = (u8)value;
}

/* The low 32 bits of `value`. */
static inline void be_put32(u8 *at, u64 value)
{
    be_put16(at, value >> 16);
    be_put16(at + 2, value);
}
