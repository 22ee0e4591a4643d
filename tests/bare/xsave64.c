/*
 * XSAVE and its relatives: enabling, XCR0's rules, the standard and the compacted format,
 * header faults, init and modified optimisations (SDM 1 chapter 13).
 */
#include "lib/system.h"

static u8 area[4096] __attribute__((aligned(64)));
static u32 offset_ymm;

static u64 *header(void)
{
    return (u64 *)(area + 512);
}

static void fill(u8 value)
{
    for (unsigned i = 0; i < sizeof(area); i++)
        area[i] = value;
}

static unsigned xsetbv(u32 index, u64 value)
{
    struct regs r = regs_kernel();
    struct code code = CODE("xsetbv");

    r.cx = index;
    r.ax = (u32)value;
    r.dx = value >> 32;
    r.ip = (ulong)code.start;
    regs_run(&r);
    return r.vector;
}

static u64 xgetbv(u32 index)
{
    u32 low, high;

    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return (u64)high << 32 | low;
}

/* With RAX:RDX as the mask and RBX the area. */
static struct regs masked(u64 mask)
{
    struct regs r = regs_kernel();

    r.ax = (u32)mask;
    r.dx = mask >> 32;
    r.bx = (ulong)area;
    return r;
}

static void off(void)
{
    struct regs r = masked(7);

    write_cr4(read_cr4() & ~CR4_OSXSAVE);
    expect_fault("xsave with OSXSAVE clear", &r, CODE("xsave [rbx]"), UD, 0);
    r = masked(7);
    expect_fault("xrstor with OSXSAVE clear", &r, CODE("xrstor [rbx]"), UD, 0);
    r = masked(7);
    expect_fault("xsetbv with OSXSAVE clear", &r, CODE("xsetbv"), UD, 0);
    r = masked(7);
    expect_fault("avx with OSXSAVE clear", &r, CODE("vaddps ymm0, ymm1, ymm2"), UD, 0);
}

static void xcr0(u64 all)
{
    struct regs r;

    write_cr4(read_cr4() | CR4_OSXSAVE);
    check_equal("XCR0 after reset", xgetbv(0), 1);
    check_equal("x87 cannot be off", xsetbv(0, 0), GP);
    check_equal("SSE alone", xsetbv(0, 2), GP);
    check_equal("AVX without SSE", xsetbv(0, 5), GP);
    check_equal("XCR1", xsetbv(1, 1), GP);
    check_equal("an unknown bit", xsetbv(0, 3 | BIT(62)), GP);
    check_equal("bit 63", xsetbv(0, 3 | BIT(63)), GP);
    for (unsigned bit = 3; bit < 20; bit++) {
        if (!(all >> bit & 1))
            check_equal("a feature that CPUID does not show", xsetbv(0, 3 | BIT(bit)), GP);
    }
    r = regs_user();
    r.ax = 1;
    expect_fault("xsetbv in ring 3", &r, CODE("xsetbv"), GP, 0);
    r = regs_user();
    expect_done("xgetbv in ring 3", &r, CODE("xor ecx, ecx; xgetbv"));
    r = regs_kernel();
    r.cx = 7;
    expect_fault("xgetbv of XCR7", &r, CODE("xgetbv"), GP, 0);
    fault0("avx with XCR0 1", CODE("vaddps xmm0, xmm1, xmm2"), UD, 0);
    check_equal("SSE", xsetbv(0, 3), VECTOR_END);
    check_equal("size by CPUID for x87 and SSE", cpuid(13, 0).b, 576);
    fault0("avx with XCR0 3", CODE("vaddps xmm0, xmm1, xmm2"), UD, 0);
    if (all & 4) {
        check_equal("AVX", xsetbv(0, 7), VECTOR_END);
        check_equal("XCR0", xgetbv(0), 7);
        check_equal("size by CPUID for AVX", cpuid(13, 0).b, offset_ymm + 256);
        done0("avx", CODE("vaddps ymm0, ymm1, ymm2; vzeroupper"));
        write_cr0(read_cr0() | CR0_TS);
        fault0("avx with TS", CODE("vaddps ymm0, ymm1, ymm2"), NM, 0);
        write_cr0(read_cr0() & ~CR0_TS);
        fault0("avx with a lock prefix", CODE(".byte 0xf0; vaddps ymm0, ymm1, ymm2"), UD, 0);
        fault0("avx with a 66 prefix", CODE(".byte 0x66; vaddps ymm0, ymm1, ymm2"), UD, 0);
        fault0("avx with a rex prefix", CODE(".byte 0x48; vaddps ymm0, ymm1, ymm2"), UD, 0);
        write_cr0(read_cr0() | CR0_EM);
        if (!skip_tcg("avx with EM", "QEMU gives #UD"))
            done0("avx ignores EM", CODE("vaddps ymm0, ymm1, ymm2"));
        write_cr0(read_cr0() & ~CR0_EM);
    }
}

static void standard(u64 all)
{
    struct regs r = masked(all);

    fill(0xee);
    for (unsigned i = 0; i < 64; i++)
        area[512 + i] = 0;
    expect_done("xsave", &r,
                CODE("push rax; fninit; fld1; mov eax, 0x11223344; movd xmm3, eax; pop rax; "
                     "xsave64 [rbx]"));
    check_equal("XSTATE_BV: x87 and SSE in use", header()[0] & 3, 3);
    check_equal("XCOMP_BV is left alone", header()[1], 0);
    check_equal("XMM3", *(u32 *)(area + 160 + 48), 0x11223344);
    r = masked(all);
    expect_done("xrstor", &r,
                CODE("push rax; fninit; pxor xmm3, xmm3; pop rax; xrstor64 [rbx]; "
                     "movd ecx, xmm3; fnstsw ax"));
    check_equal("XMM3 is back", r.cx, 0x11223344);
    check_equal("TOP is back", r.ax >> 11 & 7, 7);
    header()[0] = 1;
    r = masked(all);
    expect_done("a state without its bit is initialised", &r,
                CODE("xrstor64 [rbx]; movd ecx, xmm3"));
    check_equal("XMM3", r.cx, 0);
    r = masked(1);
    expect_done("a state outside the mask is kept", &r,
                CODE("mov ecx, 77; movd xmm3, ecx; xrstor64 [rbx]; movd ecx, xmm3"));
    check_equal("XMM3", r.cx, 77);
    if (all & 4) {
        fill(0);
        r = masked(7);
        expect_done("the upper halves", &r,
                    CODE("mov ecx, 0x5566; movd xmm1, ecx; vinsertf128 ymm0, ymm0, xmm1, 1; "
                         "xsave [rbx]"));
        check_equal("YMM0's upper half", *(u32 *)(area + offset_ymm), 0x5566);
        check_equal("XSTATE_BV", header()[0] & 4, 4);
        r = masked(7);
        expect_done("vzeroupper", &r, CODE("vzeroupper; xsave [rbx]"));
        r = masked(7);
        expect_done(
            "restoring an empty AVX state", &r,
            CODE("vinsertf128 ymm0, ymm0, xmm1, 1; and qword ptr [rbx + 512], 3; xrstor [rbx]; "
                 "vextractf128 xmm2, ymm0, 1; movd ecx, xmm2"));
        check_equal("the upper half is 0", r.cx, 0);
    }
}

static void header_faults(u64 all)
{
    struct regs r;

#define REJECT(name, change)                                                                   \
    fill(0), *(u32 *)(area + 24) = 0x1f80, header()[0] = 1, change, r = masked(all),           \
                             expect_fault(name, &r, CODE("xrstor [rbx]"), GP, 0)
    REJECT("XSTATE_BV with a bit not in XCR0", header()[0] |= BIT(40));
    REJECT("XCOMP_BV bits without bit 63", header()[1] = 1);
    REJECT("the third word", header()[2] = 1);
    if (!skip_tcg("reserved MXCSR bits", "QEMU takes them")) {
        REJECT("reserved MXCSR bits", (*(u32 *)(area + 24) = 0x80000000, header()[0] = 2));
    }
    if (!on_tcg() && !(cpuid(13, 1).a & 2))
        REJECT("compacted format without XSAVEC", header()[1] = BIT(63) | all);
    r = masked(all);
    r.bx += 8;
    expect_fault("xrstor of an unaligned area", &r, CODE("xrstor [rbx]"), GP, 0);
    r = masked(all);
    r.bx += 32;
    expect_fault("xsave to an unaligned area", &r, CODE("xsave [rbx]"), GP, 0);
    write_cr0(read_cr0() | CR0_TS);
    r = masked(all);
    if (!skip_tcg("xsave with TS", "QEMU ignores TS"))
        expect_fault("xsave with TS", &r, CODE("xsave [rbx]"), NM, 0);
    write_cr0(read_cr0() & ~CR0_TS);
    r = masked(all);
    expect_fault("lock xsave", &r, CODE(".byte 0xf0, 0x0f, 0xae, 0x23"), UD, 0);
    fault0("xsave of a register is something else or nothing", CODE(".byte 0x0f, 0xae, 0xe0"),
           UD, 0);
}

static void compacted(u64 all)
{
    struct regs r = masked(all);

    if (!(cpuid(13, 1).a & 2)) {
        expect_fault("xsavec without the feature", &r, CODE("xsavec [rbx]"), UD, 0);
        return;
    }
    fill(0);
    expect_done(
        "xsavec", &r,
        CODE("fninit; mov ecx, 0x778899; movd xmm1, ecx; vinsertf128 ymm0, ymm0, xmm1, 1; "
             "xsavec64 [rbx]"));
    check_equal("XCOMP_BV", header()[1], BIT(63) | all);
    check_equal("SSE and AVX are", header()[0] & 6, all & 6);
    if (all & 4)
        check_equal("AVX right behind the header", *(u32 *)(area + 576), 0x778899);
    r = masked(all);
    expect_done("xrstor of the compacted format", &r,
                CODE("vzeroall; xrstor64 [rbx]; movd ecx, xmm1; vextractf128 xmm2, ymm0, 1; "
                     "movd esi, xmm2"));
    check_equal("XMM1", r.cx, 0x778899);
    check_equal("YMM0", r.si, 0x778899);
    header()[0] |= 2;
    header()[1] = BIT(63) | (all & ~2ull);
    r = masked(all);
    expect_fault("XSTATE_BV outside XCOMP_BV", &r, CODE("xrstor [rbx]"), GP, 0);
    header()[1] = BIT(63) | all | BIT(50);
    r = masked(all);
    expect_fault("XCOMP_BV outside XCR0", &r, CODE("xrstor [rbx]"), GP, 0);
    header()[1] = BIT(63) | all;
    header()[3] = 1;
    r = masked(all);
    expect_fault("reserved header bytes", &r, CODE("xrstor [rbx]"), GP, 0);
    check_equal("size of the compacted format", cpuid(13, 1).b, all & 4 ? 576 + 256 : 576);
}

static void others(u64 all)
{
    struct regs r = masked(all);
    u64 value;

    if (cpuid(13, 1).a & 4)
        check_equal("XINUSE is within XCR0", xgetbv(1) & ~all, 0);
    if (cpuid(13, 1).a & 1) {
        fill(0);
        expect_done("xsaveopt", &r, CODE("push rax; fninit; fld1; pop rax; xsaveopt [rbx]"));
        check_equal("x87", header()[0] & 1, 1);
    }
    if (cpuid(13, 1).a & 8) {
        check_equal("IA32_XSS", rdmsr_safe(0xda0, &value), VECTOR_END);
        check_equal("starts at 0", value, 0);
        check_equal("unknown bits", wrmsr_safe(0xda0, BIT(40)), GP);
        fill(0);
        r = masked(all);
        expect_done("xsaves", &r, CODE("xsaves [rbx]"));
        check_equal("XCOMP_BV", header()[1], BIT(63) | all);
        r = masked(all);
        expect_done("xrstors", &r, CODE("xrstors [rbx]"));
        header()[1] = 0;
        r = masked(all);
        expect_fault("xrstors of the standard format", &r, CODE("xrstors [rbx]"), GP, 0);
        r = regs_user();
        r.bx = (ulong)area + USER_BASE;
        expect_fault("xsaves in ring 3", &r, CODE("xsaves [rbx]"), GP, 0);
    }
}

void test(void)
{
    u64 all = cpuid(13, 0).a & 7;

    if (!(cpuid(1, 0).c & BIT(26))) {
        fault0("xgetbv without XSAVE", CODE("xgetbv"), UD, 0);
        check_equal("CR4.OSXSAVE without XSAVE", write_cr4_safe(read_cr4() | CR4_OSXSAVE), GP);
        return;
    }
    offset_ymm = cpuid(13, 2).b;
    off();
    xcr0(cpuid(13, 0).a | (u64)cpuid(13, 0).d << 32);
    standard(all);
    header_faults(all);
    compacted(all);
    others(all);
}
