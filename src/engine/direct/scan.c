/* Sensitive instructions in code pages, see scan.h. */
#include "engine/direct/scan.h"

#include <string.h>

#include "base/addr.h"

static unsigned modrm_reg(u8 modrm)
{
    return modrm >> 3 & 7;
}

/* 0F 01 with a register form that is an instruction of its own. */
static bool is_bad_group7(u8 modrm)
{
    switch (modrm) {
    case 0xd0: /* XGETBV */
    case 0xd9: /* VMMCALL */
    case 0xf9: /* RDTSCP */
    case 0xfd: /* RDPRU */
        return true;
    default:
        return false;
    }
}

/* The opcode after 0F at `p`, of which `left` bytes are on the page: bad, or cut off. */
static enum scan_verdict look(const u8 *p, u64 left)
{
    if (!left)
        return SCAN_BAD;
    switch (p[0]) {
    case 0x03: /* LSL */
    case 0xa2: /* CPUID */
        return SCAN_BAD;
    case 0x31:
        return SCAN_COUNTER;
    case 0x01:
        return left < 2 || is_bad_group7(p[1]) ? SCAN_BAD : SCAN_GOOD;
    case 0xae: /* XSAVE, XSAVEOPT: /4 and /6 in memory */
        return left < 2 || (p[1] < 0xc0 && (modrm_reg(p[1]) == 4 || modrm_reg(p[1]) == 6))
                   ? SCAN_BAD
                   : SCAN_GOOD;
    case 0xc7: /* XSAVEC: /4 in memory; RDPID: /7 of registers, shared with RDSEED */
        return left < 2 || (p[1] < 0xc0 && modrm_reg(p[1]) == 4) ||
                       (p[1] >= 0xc0 && modrm_reg(p[1]) == 7)
                   ? SCAN_BAD
                   : SCAN_GOOD;
    default:
        return SCAN_GOOD;
    }
}

enum scan_verdict scan_page(const u8 *page)
{
    const u8 *end = page + PAGE_SIZE;
    enum scan_verdict verdict = SCAN_GOOD;
    for (const u8 *p = page; (p = memchr(p, 0x0f, (size_t)(end - p))); p++) {
        enum scan_verdict here = look(p + 1, (u64)(end - p) - 1);
        if (here == SCAN_BAD)
            return SCAN_BAD;
        if (here == SCAN_COUNTER)
            verdict = SCAN_COUNTER;
        if (p + 1 == end)
            break;
    }
    return verdict;
}
