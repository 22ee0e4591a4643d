/* Sensitive instructions in code pages, see scan.h. */
#include "engine/direct/scan.h"

#include <string.h>

#include "base/addr.h"
#include "base/bits.h"

#define ESCAPE 0x0f

const char *const scan_names[N_FINDINGS] = {
    [FOUND_CPUID] = "code_refused_cpuid",     [FOUND_XGETBV] = "code_refused_xgetbv",
    [FOUND_RDTSCP] = "code_refused_rdtscp",   [FOUND_LSL] = "code_refused_lsl",
    [FOUND_VMMCALL] = "code_refused_vmmcall", [FOUND_XSAVE] = "code_refused_xsave",
    [FOUND_RDTSC] = "code_refused_rdtsc",     [FOUND_SYSENTER] = "code_refused_sysenter",
};

/* 0F 01 with a register form that is an instruction of its own. */
static u16 look_group7(u8 modrm)
{
    switch (modrm) {
    case 0xd0: /* XGETBV */
    case 0xfd: /* RDPRU */
        return BIT(FOUND_XGETBV);
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

u16 scan_page(const u8 *page)
{
    const u8 *end = page + PAGE_SIZE, *p = page;
    u16 found = BIT(SCAN_DONE);
    while (p < end && (p = memchr(p, ESCAPE, (size_t)(end - p)))) {
        p++;
        found |= look(p, (u64)(end - p));
    }
    return found;
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
