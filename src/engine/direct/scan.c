/* Sensitive instructions in code pages, see scan.h. */
#include "engine/direct/scan.h"

#include <string.h>

#include "base/addr.h"
#include "base/bits.h"
#include "x86/prefix.h"

#define ESCAPE 0x0f

const char *const scan_names[N_FINDINGS] = {
    [FOUND_CPUID] = "code_refused_cpuid",     [FOUND_XGETBV] = "code_refused_xgetbv",
    [FOUND_RDTSCP] = "code_refused_rdtscp",   [FOUND_LSL] = "code_refused_lsl",
    [FOUND_VMMCALL] = "code_refused_vmmcall", [FOUND_XSAVE] = "code_refused_xsave",
    [FOUND_RDTSC] = "code_refused_rdtsc",     [FOUND_SYSENTER] = "code_refused_sysenter",
    [FOUND_HIDDEN] = "code_refused_hidden",   [FOUND_LAR] = "code_refused_lar",
};

/* 0F 01 with a register form that is an instruction of its own. */
static u16 look_group7(u8 modrm)
{
    switch (modrm) {
    case 0xd0: /* XGETBV */
    case 0xfd: /* RDPRU */
        return BIT(FOUND_XGETBV);
    case 0xd7: /* ENCLU */
    case 0xee: /* RDPKRU */
    case 0xef: /* WRPKRU */
    case 0xfa: /* MONITORX */
    case 0xfb: /* MWAITX */
    case 0xfc: /* CLZERO */
        return BIT(FOUND_HIDDEN);
    case 0xd9:
        return BIT(FOUND_VMMCALL);
    case 0xf9:
        return BIT(FOUND_RDTSCP);
    default:
        return 0;
    }
}

/* The opcode after 0F at `p`, of which `left` bytes are there. */
static u16 look(const u8 *p, u64 left)
{
    if (!left)
        return BIT(SCAN_CUT);
    switch (p[0]) {
    case 0xa2:
        return BIT(FOUND_CPUID);
    case 0x31:
        return BIT(FOUND_RDTSC);
    case 0x05: /* SYSCALL */
    case 0x34:
        return BIT(FOUND_SYSENTER);
    case 0x01:
    case 0x02:
    case 0x03:
    case 0xae:
    case 0xc7:
        break;
    default:
        return 0;
    }
    if (left < 2)
        return BIT(SCAN_CUT);
    bool memory = p[1] < 0xc0;
    unsigned reg = p[1] >> 3 & 7;
    switch (p[0]) {
    case 0x01:
        return look_group7(p[1]);
    case 0x02:
        return memory ? 0 : BIT(FOUND_LAR);
    case 0x03:
        return memory ? 0 : BIT(FOUND_LSL);
    case 0xae: /* XSAVE, XSAVEOPT */
        return memory && (reg == 4 || reg == 6) ? BIT(FOUND_XSAVE) : 0;
    default: /* XSAVEC; RDPID, which shares its place with RDSEED */
        if (memory)
            return reg == 4 ? BIT(FOUND_XSAVE) : 0;
        return reg == 7 ? BIT(FOUND_RDTSCP) : 0;
    }
}

static bool is_prefix(u8 byte)
{
    return prefix_is_legacy(byte) || prefix_is_rex(byte);
}

/* The first of the bytes before `escape` that may be prefixes. */
static const u8 *first_prefix(const u8 *page, const u8 *escape)
{
    while (escape > page && is_prefix(escape[-1]))
        escape--;
    return escape;
}

/* The findings of what begins with the escape at `p`, with any prefixes. */
static u16 look_at(const u8 *page, const u8 *p)
{
    u16 found = look(p + 1, (u64)(page + PAGE_SIZE - p - 1));
    if (found != BIT(FOUND_RDTSCP) || p[1] != 0xc7)
        return found;
    /* Without F3 before it, RDSEED. */
    const u8 *first = first_prefix(page, p);
    return first == page || memchr(first, 0xf3, (size_t)(p - first)) ? found : 0;
}

static const u8 *next_escape(const u8 *page, const u8 *p)
{
    return p < page + PAGE_SIZE ? memchr(p, ESCAPE, (size_t)(page + PAGE_SIZE - p)) : NULL;
}

u16 scan_page(const u8 *page)
{
    u16 found = BIT(SCAN_DONE);
    for (const u8 *p = page; (p = next_escape(page, p)); p++)
        found |= look_at(page, p);
    return found;
}

unsigned scan_places(const u8 *page, u16 findings, u16 *places, unsigned max)
{
    unsigned n = 0;
    for (const u8 *p = page; (p = next_escape(page, p)); p++) {
        if (!(look_at(page, p) & findings))
            continue;
        const u8 *first = first_prefix(page, p);
        if (first == page)
            return 0;
        for (; first <= p; first++) {
            if (n == max)
                return 0;
            places[n++] = (u16)(first - page);
        }
    }
    return n;
}

u16 scan_bytes(const u8 *bytes, unsigned n)
{
    const u8 *end = bytes + n;
    u16 found = 0;
    for (const u8 *p = bytes; p < end && (p = memchr(p, ESCAPE, (size_t)(end - p))); p++)
        found |= look(p + 1, (u64)(end - p - 1));
    return found & (u16)~BIT(SCAN_CUT);
}

u16 scan_joint(const u8 bytes[4])
{
    u16 found = 0;
    if (bytes[0] == ESCAPE)
        found |= look(bytes + 1, 2);
    if (bytes[1] == ESCAPE)
        found |= look(bytes + 2, 2);
    return found;
}
