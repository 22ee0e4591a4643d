/*
 * Control registers and model-specific registers in 64-bit mode: reserved bits, combinations
 * that fault, and that the instructions follow what CPUID shows (SDM 3A 2.5, APM 2 3.1).
 */
#include "lib/system.h"

static void cr0(void)
{
    ulong old = read_cr0();
    struct regs r;

    if (!skip_tcg("PE, PG and NW of CR0", "QEMU does not check them")) {
        check_equal("PE off with PG on", write_cr0_safe(old & ~CR0_PE), GP);
        check_equal("PG off in 64-bit code", write_cr0_safe(old & ~CR0_PG), GP);
        check_equal("NW without CD", write_cr0_safe(old | CR0_NW), GP);
        check_equal("unchanged", read_cr0(), old);
    }
    check_equal("CD", write_cr0_safe(old | CR0_CD), VECTOR_END);
    check_equal("CD and NW", write_cr0_safe(old | CR0_CD | CR0_NW), VECTOR_END);
    write_cr0(old);
    if (!skip_tcg("reserved bits of CR0", "QEMU ignores them")) {
        check_equal("bit 32", write_cr0_safe(old | BIT(32)), GP);
        check_equal("bit 63", write_cr0_safe(old | BIT(63)), GP);
        check_equal("bit 6 is ignored", write_cr0_safe(old | BIT(6)), VECTOR_END);
        check_equal("and reads 0", read_cr0(), old);
    }
    check_equal("ET cannot be cleared", write_cr0_safe(old & ~CR0_ET), VECTOR_END);
    check_equal("ET reads 1", read_cr0() & CR0_ET, CR0_ET);
    r = regs_kernel();
    r.ax = 0x8;
    expect_done("lmsw cannot clear PE", &r, CODE("lmsw ax; smsw rbx"));
    check_equal("TS set, PE still", read_cr0() & 0xf, CR0_PE | CR0_TS);
    check_equal("smsw shows CR0", r.bx & 0xffff, read_cr0() & 0xffff);
    asm volatile("clts");
    check_equal("clts", read_cr0() & CR0_TS, 0);
    write_cr0(old);
    r = regs_kernel();
    expect_done("mov cr0 ignores mod", &r, CODE(".byte 0x0f, 0x20, 0x00")); /* mod 0 */
    check_equal("value", r.ax, old);
    r = regs_kernel();
    expect_done("66 prefix on mov cr", &r, CODE(".byte 0x66, 0x0f, 0x20, 0xc0"));
    check_equal("all of it", r.ax, old);
}

struct feature {
    const char *name;
    ulong bit;
    u32 leaf;
    unsigned reg; /* a, b, c, d of CPUID */
    unsigned shift;
};

static const struct feature cr4_features[] = {
    {"VME", CR4_VME, 1, 3, 1},
    {"PVI", CR4_PVI, 1, 3, 1},
    {"TSD", CR4_TSD, 1, 3, 4},
    {"DE", CR4_DE, 1, 3, 2},
    {"PSE", CR4_PSE, 1, 3, 3},
    {"MCE", 0x40, 1, 3, 7},
    {"PGE", CR4_PGE, 1, 3, 13},
    {"OSFXSR", CR4_OSFXSR, 1, 3, 24},
    {"OSXMMEXCPT", CR4_OSXMMEXCPT, 1, 3, 25},
    {"UMIP", CR4_UMIP, 7, 2, 2},
    {"LA57", 0x1000, 7, 2, 16},
    {"FSGSBASE", CR4_FSGSBASE, 7, 1, 0},
    {"PCIDE", CR4_PCIDE, 1, 2, 17},
    {"OSXSAVE", CR4_OSXSAVE, 1, 2, 26},
    {"SMEP", CR4_SMEP, 7, 1, 7},
    {"SMAP", CR4_SMAP, 7, 1, 20},
    {"PKE", 0x400000, 7, 2, 3},
};

static void cr4(void)
{
    ulong old = read_cr4();

    if (skip_tcg("CR4 and CPUID", "QEMU accepts or hangs on reserved bits"))
        return;
    check_equal("PAE off in long mode", write_cr4_safe(old & ~CR4_PAE), GP);
    for (unsigned i = 0; i < COUNT(cr4_features); i++) {
        const struct feature *f = &cr4_features[i];
        struct cpuid id = cpuid(f->leaf, 0);
        u32 word = f->reg == 1 ? id.b : f->reg == 2 ? id.c : id.d;
        bool has = word >> f->shift & 1;

        if (f->bit == 0x1000) {
            check_equal("LA57 cannot change in long mode", write_cr4_safe(old | f->bit), GP);
            continue;
        }
        check_equal(f->name, write_cr4_safe(old | f->bit), has ? VECTOR_END : GP);
        if (has)
            check_equal("reads back", read_cr4(), old | f->bit);
        write_cr4(old);
    }
    check_equal("bit 15", write_cr4_safe(old | BIT(15)), GP);
    check_equal("bit 26", write_cr4_safe(old | BIT(26)), GP);
    for (unsigned bit = 32; bit < 64; bit++)
        check_equal("bits above 31", write_cr4_safe(old | BIT(bit)), GP);
    check_equal("unchanged", read_cr4(), old);
}

static void efer(void)
{
    u64 old = rdmsr(MSR_EFER);

    check_equal("LMA and LME are set", old & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
    if (!skip_tcg("EFER", "QEMU checks nothing")) {
        check_equal("LME off while paging", wrmsr_safe(MSR_EFER, old & ~EFER_LME), GP);
        check_equal("reserved bit 1", wrmsr_safe(MSR_EFER, old | 2), GP);
        check_equal("reserved bit 9", wrmsr_safe(MSR_EFER, old | BIT(9)), GP);
        check_equal("reserved bit 32", wrmsr_safe(MSR_EFER, old | BIT(32)), GP);
        check_equal("unchanged", rdmsr(MSR_EFER), old);
        if (!(cpuid(0x80000001, 0).c & 4))
            check_equal("SVME without SVM", wrmsr_safe(MSR_EFER, old | BIT(12)), GP);
    }
    check_equal("SCE off", wrmsr_safe(MSR_EFER, old & ~EFER_SCE), VECTOR_END);
    check_equal("NXE off", wrmsr_safe(MSR_EFER, old & ~EFER_NXE), VECTOR_END);
    check_equal("NXE reads back", rdmsr(MSR_EFER) & EFER_NXE, 0);
    check_equal("old value", wrmsr_safe(MSR_EFER, old), VECTOR_END);
}

static void msrs(void)
{
    u64 value;
    static const u32 unknown[] = {0x12345,    0x40000080, 0xc0002345,
                                  0xffffffff, 0x7fffffff, 0xc0010fff};
    static const u8 types[] = {0, 1, 4, 5, 6, 7};

    if (!skip_tcg("unknown MSRs", "QEMU reads them as 0")) {
        for (unsigned i = 0; i < COUNT(unknown); i++) {
            check_equal("read of an unknown MSR", rdmsr_safe(unknown[i], &value), GP);
            check_equal("write of an unknown MSR", wrmsr_safe(unknown[i], 0), GP);
        }
    }
    check_equal("PAT after reset", rdmsr(MSR_PAT), 0x0007040600070406);
    for (unsigned type = 0; type < 256; type++) {
        bool ok = false;

        for (unsigned i = 0; i < COUNT(types); i++)
            ok = ok || types[i] == type;
        if (!on_tcg() && (type < 10 || type == 255 || type == 0x80))
            check_equal("memory type in PAT", wrmsr_safe(MSR_PAT, (u64)type << 24 | 6),
                        ok ? VECTOR_END : GP);
    }
    wrmsr(MSR_PAT, 0x0007040600070406);
    value = rdmsr(0xfe); /* MTRRcap */
    check("MTRR count", (value & 0xff) <= 32);
    if (!on_tcg()) {
        check_equal("MTRRcap is read-only", wrmsr_safe(0xfe, value), GP);
        if (value & 0xff) {
            check_equal("MTRR type 2", wrmsr_safe(0x200, 2), GP);
            check_equal("MTRR mask reserved bits", wrmsr_safe(0x201, 1), GP);
            check_equal("MTRR", wrmsr_safe(0x200, 0x80000006), VECTOR_END);
            check_equal("MTRR reads back", rdmsr(0x200), 0x80000006);
            wrmsr(0x200, 0);
        }
        check_equal("default type 2", wrmsr_safe(0x2ff, 2), GP);
    }
    if (cpuid(1, 0).d & BIT(14)) { /* machine check */
        value = rdmsr(0x179);
        check("banks", (value & 0xff) <= 64);
    }
    check_equal("TSC_AUX and others need no feature to be named", rdmsr_safe(MSR_TSC, &value),
                VECTOR_END);
    struct regs r = regs_kernel();
    r.cx = 0xabcd000000000000 | MSR_PAT;
    expect_done("rdmsr uses ECX", &r, CODE("rdmsr"));
    check_equal("upper halves are cleared", r.ax >> 32 | r.dx >> 32, 0);
}

static void cpuid_rules(void)
{
    u32 top = cpuid(0, 0).a, extended = cpuid(0x80000000, 0).a, shown;
    struct regs r;

    check("highest leaf", top >= 7 && top < 0x100);
    check("highest extended leaf", extended >= 0x80000008 && extended < 0x80000100);
    check("hypervisor bit", cpuid(1, 0).c >> 31);
    r = regs_kernel();
    r.ax = 0xffffffff00000001;
    r.cx = 0xffffffff00000000;
    expect_done("cpuid in ring 0", &r, CODE("cpuid"));
    check_equal("upper halves are cleared", (r.ax | r.bx | r.cx | r.dx) >> 32, 0);
    r = regs_user();
    expect_done("cpuid in ring 3", &r, CODE("cpuid"));
    shown = cpuid(1, 0).c;
    if (shown & BIT(26)) {
        write_cr4(read_cr4() & ~CR4_OSXSAVE);
        check_equal("OSXSAVE follows CR4: off", cpuid(1, 0).c & BIT(27), 0);
        fault0("xgetbv with OSXSAVE off", CODE2("xor ecx, ecx", "xgetbv"), UD, 0);
        write_cr4(read_cr4() | CR4_OSXSAVE);
        check_equal("on", cpuid(1, 0).c & BIT(27), BIT(27));
        write_cr4(read_cr4() & ~CR4_OSXSAVE);
    } else {
        check_equal("no OSXSAVE without XSAVE", shown & BIT(27), 0);
    }
    check("long mode, NX, syscall", (cpuid(0x80000001, 0).d & (BIT(29) | BIT(20) | BIT(11))) ==
                                        (BIT(29) | BIT(20) | BIT(11)));
    check_equal("x87, MMX, SSE, SSE2, FXSR",
                cpuid(1, 0).d & (BIT(0) | BIT(23) | BIT(25) | BIT(26) | BIT(24)),
                BIT(0) | BIT(23) | BIT(25) | BIT(26) | BIT(24));
    check("48 bits of virtual address", (cpuid(0x80000008, 0).a >> 8 & 0xff) >= 48);
    check("physical address width",
          (cpuid(0x80000008, 0).a & 0xff) >= 36 && (cpuid(0x80000008, 0).a & 0xff) <= 52);
}

/* An instruction runs exactly when CPUID shows its feature. Its memory operand is RBX's, zero
 * before each: INVPCID's descriptor has reserved bits, and CMPXCHG16B writes. */
static void feature(const char *name, u32 leaf, unsigned reg, unsigned shift, struct code code)
{
    static u8 area[64] __attribute__((aligned(64)));
    struct cpuid id = cpuid(leaf, 0);
    u32 word = reg == 0 ? id.a : reg == 1 ? id.b : reg == 2 ? id.c : id.d;
    struct regs r = regs_kernel();

    for (unsigned i = 0; i < sizeof area; i++)
        area[i] = 0;
    r.bx = (ulong)area;
    if (word >> shift & 1)
        expect_done(name, &r, code);
    else
        expect_fault(name, &r, code, UD, 0);
}

static void features(void)
{
    feature("pni: haddps", 1, 2, 0, CODE("haddps xmm0, xmm1"));
    feature("pclmulqdq", 1, 2, 1, CODE("pclmulqdq xmm0, xmm1, 0"));
    feature("ssse3: pshufb", 1, 2, 9, CODE("pshufb xmm0, xmm1"));
    feature("sse4.1: ptest", 1, 2, 19, CODE("ptest xmm0, xmm1"));
    feature("sse4.2: crc32", 1, 2, 20, CODE("crc32 eax, ebx"));
    feature("movbe", 1, 2, 22, CODE("movbe eax, [rbx]"));
    feature("popcnt", 1, 2, 23, CODE("popcnt eax, ebx"));
    feature("aes", 1, 2, 25, CODE("aesenc xmm0, xmm1"));
    feature("rdrand", 1, 2, 30, CODE("rdrand eax"));
    feature("cmpxchg16b", 1, 2, 13, CODE("cmpxchg16b [rbx]"));
    feature("clflush", 1, 3, 19, CODE("clflush [rbx]"));
    if (!on_tcg())
        feature("rdseed", 7, 1, 18, CODE("rdseed eax"));
    feature("adx", 7, 1, 19, CODE("adcx eax, ebx"));
    feature("clflushopt", 7, 1, 23, CODE("clflushopt [rbx]"));
    feature("clwb", 7, 1, 24, CODE("clwb [rbx]"));
    feature("sha", 7, 1, 29, CODE("sha1msg1 xmm0, xmm1"));
    feature("smap: stac", 7, 1, 20, CODE("stac; clac"));
    feature("invpcid", 7, 1, 10, CODE2("mov eax, 2", "invpcid rax, [rbx]"));
    feature("rdtscp", 0x80000001, 3, 27, CODE("rdtscp"));
    feature("rdpid", 7, 2, 22, CODE("rdpid rax"));
    feature("sse4a: insertq", 0x80000001, 2, 6, CODE("insertq xmm0, xmm1"));
    feature("monitorx", 0x80000001, 2, 29,
            CODE2("mov rax, rbx; xor ecx, ecx; xor edx, edx", ".byte 0x0f, 0x01, 0xfa"));
    feature("clzero", 0x80000008, 1, 0, CODE2("mov rax, rbx", ".byte 0x0f, 0x01, 0xfc"));
    feature("rdpru", 0x80000008, 1, 4, CODE2("xor ecx, ecx", ".byte 0x0f, 0x01, 0xfd"));
    feature("monitor", 1, 2, 3, CODE2("mov rax, rbx; xor ecx, ecx; xor edx, edx", "monitor"));
    feature("prefetchw", 1, 3, 0, CODE("prefetchw [rbx]"));
    if (!(cpuid(7, 0).c & BIT(3)))
        fault0("rdpkru without PKU", CODE2("xor ecx, ecx", ".byte 0x0f, 0x01, 0xee"), UD, 0);
    if (!(cpuid(1, 0).c & BIT(5)))
        fault0("vmxon without VMX", CODE2("lea rbx, [rsp - 64]", "vmxon [rbx]"), UD, 0);
    if (!(cpuid(0x80000001, 0).c & 4)) {
        fault0("vmrun without SVM", CODE(".byte 0x0f, 0x01, 0xd8"), UD, 0);
        fault0("clgi without SVM", CODE(".byte 0x0f, 0x01, 0xdd"), UD, 0);
    }
    if (!(cpuid(7, 0).b & BIT(11)) && !on_tcg())
        fault0("xbegin without TSX", CODE(".byte 0xc7, 0xf8, 0, 0, 0, 0"), UD, 0);
    fault0("rsm outside of SMM", CODE("rsm"), UD, 0);
    fault0("getsec", CODE(".byte 0x0f, 0x37"), UD, 0);
}

/* User-mode instruction prevention. */
static void umip(void)
{
    struct regs r;
    static const char name[] = "with CR4.UMIP";

    r = regs_user();
    expect_done("sgdt in ring 3", &r, CODE("sgdt [rsp - 16]"));
    r = regs_user();
    expect_done("smsw in ring 3", &r, CODE("smsw eax"));
    if (!(cpuid(7, 0).c & 4))
        return;
    write_cr4(read_cr4() | CR4_UMIP);
    r = regs_user();
    expect_fault(name, &r, CODE("sgdt [rsp - 16]"), GP, 0);
    r = regs_user();
    expect_fault(name, &r, CODE("sidt [rsp - 16]"), GP, 0);
    r = regs_user();
    expect_fault(name, &r, CODE("sldt eax"), GP, 0);
    r = regs_user();
    expect_fault(name, &r, CODE("str eax"), GP, 0);
    r = regs_user();
    expect_fault(name, &r, CODE("smsw eax"), GP, 0);
    r = regs_user();
    expect_fault("memory form", &r, CODE("str [rsp - 16]"), GP, 0);
    done0("ring 0 may", CODE("sgdt [rsp - 16]; sidt [rsp - 16]; sldt eax; str eax; smsw eax"));
    write_cr4(read_cr4() & ~CR4_UMIP);
}

static void table_registers(void)
{
    struct regs r = regs_kernel();
    static struct table_register wanted = {0x1ff, 0x12345678};

    if (!skip_tcg("non-canonical table base", "QEMU takes it")) {
        wanted.base = BIT(63);
        r.bx = (ulong)&wanted;
        expect_fault("lgdt with a non-canonical base", &r, CODE("lgdt [rbx]"), GP, 0);
        r = regs_kernel();
        r.bx = (ulong)&wanted;
        expect_fault("lidt with a non-canonical base", &r, CODE("lidt [rbx]"), GP, 0);
    }
    r = regs_kernel();
    expect_done("sgdt", &r, CODE("sub rsp, 16; sgdt [rsp]; mov ax, [rsp]; mov rbx, [rsp + 2]"));
    check_equal("limit", r.ax & 0xffff, GDT_ENTRIES * 8 - 1);
    check_equal("base", r.bx, (ulong)cpu_this()->gdt);
}

void test(void)
{
    cr0();
    cr4();
    efer();
    msrs();
    cpuid_rules();
    features();
    umip();
    table_registers();
}
