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

/* The opcode after 0F at `p`, of which `left` bytes are there. */
static enum scan_verdict look(const u8 *p, u64 left)
{
    if (!left)
        return SCAN_CUT;
    if (p[0] == 0xa2) /* CPUID */
        return SCAN_BAD;
    if (p[0] == 0x31)
        return SCAN_COUNTER;
    if (p[0] != 0x01 && p[0] != 0x03 && p[0] != 0xae && p[0] != 0xc7)
        return SCAN_GOOD;
    if (left < 2)
        return SCAN_CUT;
    bool memory = p[1] < 0xc0, bad;
    unsigned reg = modrm_reg(p[1]);
    switch (p[0]) {
    case 0x01:
        bad = is_bad_group7(p[1]);
        break;
    case 0x03: /* LSL */
        bad = !memory;
        break;
    case 0xae: /* XSAVE, XSAVEOPT */
        bad = memory && (reg == 4 || reg == 6);
        break;
    default: /* XSAVEC; RDPID, which shares its place with RDSEED */
        bad = memory ? reg == 4 : reg == 7;
    }
    return bad ? SCAN_BAD : SCAN_GOOD;
}

static enum scan_verdict worse(enum scan_verdict a, enum scan_verdict b)
{
    return a > b ? a : b;
}

enum scan_verdict scan_page(const u8 *page)
{
    const u8 *end = page + PAGE_SIZE, *p = page;
    enum scan_verdict verdict = SCAN_GOOD;
    while (p < end && verdict != SCAN_BAD && (p = memchr(p, 0x0f, (size_t)(end - p)))) {
        p++;
        verdict = worse(verdict, look(p, (u64)(end - p)));
    }
    return verdict;
}

bool scan_joint(const u8 bytes[4])
{
    for (unsigned i = 0; i < 2; i++) {
        if (bytes[i] == 0x0f && look(bytes + i + 1, 3 - i) != SCAN_GOOD)
            return false;
    }
    return true;
}
