/* Prefixes, for code that looks at bytes which no decoder has seen yet (SDM vol. 2, 2.1.1). */
#pragma once

#include "base/types.h"

/* LOCK, REPNE, REP, a segment, operand size or address size. */
static inline bool prefix_is_legacy(u8 byte)
{
    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64 ... 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return false;
    }
}

/* In 64-bit code; elsewhere these are INC and DEC. */
static inline bool prefix_is_rex(u8 byte)
{
    return (byte & 0xf0) == 0x40;
}
