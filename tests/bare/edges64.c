/*
 * What lies at an edge, and conformance suites therefore ask: encodings next to known ones,
 * bits that are ignored, tables and targets at the end of the canonical addresses.
 */
#include "lib/page.h"
#include "lib/system.h"

#define NON_CANONICAL 0x800000000000ul
#define TOP_PAGE      (NON_CANONICAL - 4096)

/* The upper half of RCX is no part of the index (SDM 2, XGETBV and XSETBV). */
static void extended_control(void)
{
    struct regs r = regs_kernel();

    if (!(cpuid(1, 0).c & BIT(26)))
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    r.cx = 0x1234567800000000;
    r.ax = 3;
    expect_done("xsetbv with more in RCX", &r, CODE("xsetbv"));
    r = regs_kernel();
    r.cx = 0x8765432100000000;
    expect_done("xgetbv with more in RCX", &r, CODE("xgetbv"));
    check_equal("XCR0", r.ax, 3);
    for (unsigned bit = 1; bit < 32; bit++) {
        r = regs_kernel();
        r.cx = BIT(bit);
        expect_fault("xgetbv of 1 << n", &r, CODE("xgetbv"), GP, 0);
        r = regs_kernel();
        r.cx = BIT(bit);
        r.ax = 3;
        expect_fault("xsetbv of 1 << n", &r, CODE("xsetbv"), GP, 0);
    }
}

/* Neighbours of CLWB, CLFLUSHOPT and the fences; LEA and MOVBE of a register. */
static void encodings(void)
{
    if (!(cpuid(7, 0).c & BIT(5)) && !skip_tcg("66 0f ae f0", "QEMU takes it for MFENCE"))
        fault0("66 0f ae f0", CODE(".byte 0x66, 0x0f, 0xae, 0xf0"), UD, 0);
    if (!(cpuid(7, 0).b & BIT(22)) && !skip_tcg("66 0f ae f8", "QEMU takes it for SFENCE"))
        fault0("66 0f ae f8 without PCOMMIT", CODE(".byte 0x66, 0x0f, 0xae, 0xf8"), UD, 0);
    fault0("lea of a register", CODE(".byte 0x8d, 0xc0"), UD, 0);
    if (!skip_tcg("movbe to a register", "QEMU takes it for BSWAP"))
        fault0("movbe to a register", CODE(".byte 0x0f, 0x38, 0xf0, 0xc0"), UD, 0);
    fault0("les in 64-bit code", CODE(".byte 0xc4, 0x00, 0, 0, 0, 0"), UD, 0);
    fault0("bound in 64-bit code", CODE(".byte 0x62, 0x00, 0, 0, 0, 0"), UD, 0);
    fault0("mov to CS", CODE(".byte 0x8e, 0xc8"), UD, 0);
    fault0("mov to segment register 6", CODE(".byte 0x8e, 0xf0"), UD, 0);
    fault0("mov from CR1", CODE(".byte 0x0f, 0x20, 0xc8"), UD, 0);
    fault0("mov from CR5", CODE(".byte 0x0f, 0x20, 0xe8"), UD, 0);
    fault0("mov from DR8", CODE(".byte 0x44, 0x0f, 0x21, 0xc0"), UD, 0);
    done0("mov from CR0 with mod 0", CODE(".byte 0x0f, 0x20, 0x00"));
    done0("mov from DR7 with mod 1", CODE(".byte 0x0f, 0x21, 0x78"));
    if (!skip_tcg("lock on a load", "QEMU takes it"))
        fault0("lock on a load", CODE(".byte 0xf0, 0x8b, 0x03"), UD, 0);
    fault0("lock on a register", CODE(".byte 0xf0, 0x01, 0xc0"), UD, 0);
    fault0("fifteen bytes and one",
           CODE(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,"
                "0x66,0x90"),
           GP, 0);
}

/* Instructions of features that no model offers, though the host may have them: suites look at
 * CPUID and demand #UD in either ring. */
static void absent(void)
{
    static const struct {
        const char *name;
        u8 bytes[6];
    } all[] = {
        {"rdpru", {0x0f, 0x01, 0xfd}},        {"rdpkru", {0x0f, 0x01, 0xee}},
        {"wrpkru", {0x0f, 0x01, 0xef}},       {"monitorx", {0x0f, 0x01, 0xfa}},
        {"mwaitx", {0x0f, 0x01, 0xfb}},       {"clzero", {0x0f, 0x01, 0xfc}},
        {"invlpgb", {0x0f, 0x01, 0xfe}},      {"tlbsync", {0x0f, 0x01, 0xff}},
        {"vmrun", {0x0f, 0x01, 0xd8}},        {"vmload", {0x0f, 0x01, 0xda}},
        {"stgi", {0x0f, 0x01, 0xdc}},         {"clgi", {0x0f, 0x01, 0xdd}},
        {"skinit", {0x0f, 0x01, 0xde}},       {"vmlaunch", {0x0f, 0x01, 0xc2}},
        {"vmxon", {0xf3, 0x0f, 0xc7, 0x33}},  {"vmptrld", {0x0f, 0xc7, 0x33}},
        {"vmread", {0x0f, 0x78, 0xc0}},       {"getsec", {0x0f, 0x37}},
        {"xend", {0x0f, 0x01, 0xd5}},         {"xtest", {0x0f, 0x01, 0xd6}},
        {"wrssd", {0x0f, 0x38, 0xf6, 0x03}},  {"setssbsy", {0xf3, 0x0f, 0x01, 0xe8}},
        {"serialize", {0x0f, 0x01, 0xe8}},    {"movdiri", {0x0f, 0x38, 0xf9, 0x03}},
        {"tpause", {0x66, 0x0f, 0xae, 0xf3}}, {"ptwrite", {0xf3, 0x0f, 0xae, 0xe3}},
    };
    static u8 code[16];

    if (skip_tcg("instructions of absent features", "QEMU has some of them"))
        return;
    for (unsigned i = 0; i < 2 * COUNT(all); i++) {
        const u8 *bytes = all[i / 2].bytes;
        struct regs r = i & 1 ? regs_user() : regs_kernel();

        for (unsigned n = 0; n < sizeof(all[0].bytes); n++)
            code[n] = bytes[n] ? bytes[n] : 0x90;
        r.ip = (ulong)code + (i & 1 ? USER_BASE : 0);
        r.bx = r.sp - 0x200;
        regs_run(&r);
        if (!check_equal(all[i / 2].name, r.vector, UD))
            print("     in ring %d\n", i & 1 ? 3 : 0);
    }
}

struct table {
    u16 limit;
    u64 base;
} __attribute__((packed));

/* The descriptor of a system segment, 16 bytes in two words of the table. */
static void set_system(u16 selector, u64 base, unsigned type)
{
    gdt_set(selector, segment((u32)base, 0x67, 0x80 | type));
    gdt_set(selector + 8, base >> 32);
}

static void bases(void)
{
    static struct table table = {0xff, 0x4000000000000000};
    static const u64 addresses[] = {NON_CANONICAL, 0x4000000000000000, 0xfffeffffffffffff};
    static const u32 msrs[] = {MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR,
                               MSR_CSTAR};
    struct regs r;
    for (unsigned i = 0; i < 3; i++) {
        table.base = addresses[i];
        r = regs_kernel();
        r.bx = (ulong)&table;
        if (!skip_tcg("lgdt not canonical", "QEMU takes it")) {
            expect_fault("lgdt not canonical", &r, CODE("lgdt [rbx]"), GP, 0);
            r = regs_kernel();
            r.bx = (ulong)&table;
            expect_fault("lidt not canonical", &r, CODE("lidt [rbx]"), GP, 0);
        }
        set_system(FREE, addresses[i], 9);
        if (!skip_tcg("ltr not canonical", "QEMU takes it"))
            fault0("ltr not canonical", CODE2("mov eax, 0x60", "ltr ax"), GP, FREE);
        set_system(FREE, addresses[i], 2);
        if (!skip_tcg("lldt not canonical", "QEMU takes it"))
            fault0("lldt not canonical", CODE2("mov eax, 0x60", "lldt ax"), GP, FREE);
        if (!skip_tcg("MSR not canonical", "QEMU takes it"))
            for (unsigned k = 0; k < 5; k++)
                check_equal("MSR not canonical", wrmsr_safe(msrs[k], addresses[i]), GP);
    }
}

/* A three-byte instruction may end at the last canonical address; the next is not fetched. */
static void last_instruction(const char *name, u8 first, u8 second, u8 third)
{
    u8 *page = (u8 *)page_entry(TOP_PAGE, 1) ? (u8 *)TOP_PAGE : 0;
    struct regs r = regs_kernel();

    page[4093] = first;
    page[4094] = second;
    page[4095] = third;
    r.ip = TOP_PAGE + 4093;
    r.ax = -1;
    regs_run(&r);
    check_equal(name, r.vector, GP);
    check_equal("error code", r.error, 0);
    check_equal("RIP behind it", r.ip, NON_CANONICAL);
}

static void top(void)
{
    struct regs r = regs_kernel();

    page_map(TOP_PAGE, page_alloc(), 1, PTE_P | PTE_W);
    if (skip_tcg("an instruction at the top", "QEMU wraps and stops at RIP with #PF"))
        return;
    last_instruction("nops at the top", 0x90, 0x90, 0x90);
    last_instruction("cpuid at the top", 0x90, 0x0f, 0xa2);
    last_instruction("mov rax, rbx at the top", 0x48, 0x89, 0xd8);
    last_instruction("vmcall at the top", 0x0f, 0x01, 0xc1);
    last_instruction("vmmcall at the top", 0x0f, 0x01, 0xd9);
    r.ip = (ulong)CODE("jmp rcx").start;
    r.cx = NON_CANONICAL;
    expect_fault("jmp to behind the top", &r, CODE("jmp rcx"), GP, 0);
    r = regs_kernel();
    r.cx = NON_CANONICAL;
    expect_fault("ret to behind the top", &r, CODE2("push rcx", "ret"), GP, 0);
}

/* A return to ring 3 empties the selector of a segment that ring 3 may not use, and leaves its
 * base alone (as processors do; suites read through it). */
static void emptied_segment(void)
{
    static u64 magic = 0x1122334455667788;
    struct regs r = regs_kernel();
    struct code code;

    r.gs = KDATA;
    r.r8 = (ulong)&magic + USER_BASE - 0x400000;
    r.r9 = stack_user();
    code = CODE("mov ecx, 0xc0000101; mov eax, 0x400000; xor edx, edx; wrmsr;"
                "lea rax, [rip + 1f]; mov ecx, 0x80000000; add rax, rcx;"
                "push 0x33; push r9; pushf; push 0x2b; push rax; iretq;"
                "1: mov rax, gs:[r8]; mov ebx, gs");
    r.ip = (ulong)code.start;
    regs_run(&r);
    check_equal("iretq with GS of ring 0", r.vector, VECTOR_END);
    check_equal("base", r.ax, magic);
    check_equal("selector", r.bx, 0);
}

static void words(void)
{
    ulong cr0 = read_cr0();
    struct regs r = regs_kernel();

    r.ax = 0x1234567890abcdef;
    expect_done("smsw ax", &r, CODE("smsw ax"));
    check_equal("smsw ax", r.ax, 0x1234567890ab0000 | (cr0 & 0xffff));
    r = regs_kernel();
    r.ax = -1;
    expect_done("smsw eax", &r, CODE("smsw eax"));
    check_equal("smsw eax", r.ax, (u32)cr0);
    r = regs_kernel();
    r.ax = -1;
    expect_done("smsw rax", &r, CODE("smsw rax"));
    check_equal("smsw rax", r.ax, cr0);
}

/* KVM takes these registers whether or not it shows their feature. */
static void paravirtual(void)
{
    static u32 page[16] __attribute__((aligned(64)));

    if (on_tcg())
        return;
    check_equal("asynchronous page faults", wrmsr_safe(0x4b564d02, (ulong)page | 3),
                VECTOR_END);
    check_equal("a reserved bit", wrmsr_safe(0x4b564d02, 0x10), GP);
    check_equal("and off", wrmsr_safe(0x4b564d02, 0), VECTOR_END);
    check_equal("IA32_MISC_ENABLE on any vendor's", wrmsr_safe(0x1a0, 0x400c50809), VECTOR_END);
    check_equal("as written", rdmsr(0x1a0), 0x400c50809);
}

void test(void)
{
    extended_control();
    encodings();
    absent();
    bases();
    top();
    emptied_segment();
    words();
    paravirtual();
}
