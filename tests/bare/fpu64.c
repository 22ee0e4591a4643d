/*
 * The floating-point unit as a system sees it: CR0.TS, EM and MP, pending x87 exceptions as #MF
 * and by FERR and line 13, #XM, FXSAVE and its faults, alignment (SDM 3A 2.5, 6.15, SDM 1 8.7).
 */
#include "lib/apic.h"
#include "lib/pit.h"
#include "lib/system.h"

static u8 area[1024] __attribute__((aligned(64)));

/* The outcome of an x87, WAIT, MMX and SSE instruction for each of EM, MP, TS (SDM 3A table
 * 2-2). */
static void matrix(void)
{
    ulong old = read_cr0() & ~(CR0_EM | CR0_MP | CR0_TS);

    for (unsigned n = 0; n < 8; n++) {
        bool em = n & 4, mp = n & 2, ts = n & 1;
        ulong cr0 = old | (em ? CR0_EM : 0) | (mp ? CR0_MP : 0) | (ts ? CR0_TS : 0);
        unsigned simd = em && !(ts && on_tcg()) ? UD
                        : ts                    ? NM
                                                : VECTOR_END; /* QEMU: #NM first */
        struct regs r;

#define OUTCOME(name, text, vector_)                                                           \
    r = regs_kernel(), r.bx = (ulong)area, write_cr0(cr0);                                     \
    if ((vector_) == VECTOR_END)                                                               \
        expect_done(name, &r, CODE(text));                                                     \
    else                                                                                       \
        expect_fault(name, &r, CODE(text), vector_, 0);                                        \
    write_cr0(old | CR0_MP)
        OUTCOME("x87", "fnop", em || ts ? NM : VECTOR_END);
        OUTCOME("x87 control", "fnstcw [rbx]", em || ts ? NM : VECTOR_END);
        OUTCOME("wait", "fwait", mp && ts ? NM : VECTOR_END);
        OUTCOME("mmx", "paddb mm0, mm1", simd);
        OUTCOME("sse", "addps xmm0, xmm1", simd);
        OUTCOME("sse load", "movups xmm0, [rbx]", simd);
        OUTCOME("stmxcsr", "stmxcsr [rbx]", em ? UD : ts ? NM : VECTOR_END);
        OUTCOME("fxsave", "fxsave [rbx]", em || ts ? NM : VECTOR_END);
        OUTCOME("prefetch", "prefetcht0 [rbx]", VECTOR_END);
        OUTCOME("movnti", "movnti [rbx], eax", VECTOR_END);
        OUTCOME("sfence", "sfence", VECTOR_END);
        OUTCOME("crc32", "crc32 eax, ebx", VECTOR_END);
        OUTCOME("popcnt", "popcnt eax, ebx", VECTOR_END);
    }
    asm volatile("emms");
    write_cr4(read_cr4() & ~CR4_OSFXSR);
    fault0("sse with OSFXSR clear", CODE("addps xmm0, xmm1"), UD, 0);
    done0("mmx with OSFXSR clear", CODE("paddb mm0, mm1; emms"));
    done0("movnti with OSFXSR clear", CODE("movnti [rsp - 8], eax"));
    write_cr4(read_cr4() | CR4_OSFXSR);
}

/* An unmasked x87 exception waits for the next x87 instruction that looks. */
static void pending(void)
{
    struct regs r;

    if (skip_tcg("#MF", "QEMU raises it at FWAIT only"))
        return;
#define DIVIDE "fninit; push 0x37b; fldcw [rsp]; pop rax; fld1; fldz; fdivp; "

    fault0("#MF at the next instruction", CODE2(DIVIDE, "fld1"), MF, 0);
    fault0("#MF at fwait",
           CODE2("fninit; push 0x37b; fldcw [rsp]; pop rax; fld1; fldz; fdivp; nop; "
                 "mov eax, 1",
                 "fwait"),
           MF, 0);
    fault0("#MF at an MMX instruction", CODE2(DIVIDE, "paddb mm0, mm1"), MF, 0);
    r = regs_kernel();
    expect_done("fnstsw, fnstcw, fnclex, fninit do not look", &r,
                CODE(DIVIDE "fnstsw ax; fnstcw [rsp - 8]; fnclex; fld1; fninit"));
    check_equal("status: summary and division by zero", r.ax & 0x80ff, 0x8084);
    r = regs_kernel();
    expect_done("sse does not look", &r, CODE(DIVIDE "addps xmm0, xmm1; fnclex; fninit"));
    fault0("fxsave does not look, fxrstor brings it back",
           CODE2(DIVIDE
                 "lea rbx, [rsp - 0x400]; and rbx, -64; fxsave [rbx]; fninit; fxrstor [rbx]",
                 "fld1"),
           MF, 0);
    fault0("unmasking makes a pending exception",
           CODE2("fninit; fld1; fldz; fdivp; push 0x37b; fldcw [rsp]; pop rax", "fld1"), MF, 0);
    asm volatile("fnclex; fninit");
    write_cr0(read_cr0() | CR0_TS);
    fault0("#NM before #MF", CODE("fld1"), NM, 0);
    write_cr0(read_cr0() & ~CR0_TS);
}

static volatile u32 line13;

static void on_line13(struct regs *r)
{
    (void)r;
    line13++;
    outb(0xf0, 0); /* ends FERR */
    asm volatile("fnclex");
    pic_eoi(13);
}

/* CR0.NE clear: the error goes by pin FERR to line 13, the instruction waits (SDM 1 D.2). */
static void ferr(void)
{
    if (skip_tcg("FERR", "QEMU runs the instruction before the interrupt comes"))
        return;
    apic_init();
    apic_write(APIC_LVT_LINT0, 0x700);
    pic_init(0x60);
    trap_set(0x60 + 13, on_line13);
    pic_mask(0xdffb);
    write_cr0(read_cr0() & ~CR0_NE);
    line13 = 0;
    struct regs r = regs_kernel();
    r.flags |= FLAG_IF;
    expect_done("x87 error with NE clear", &r, CODE(DIVIDE "fld1; nop; nop; cli"));
    check_equal("interrupt 13 came", line13, 1);
    write_cr0(read_cr0() | CR0_NE);
    trap_set(0x60 + 13, NULL);
    pic_mask(0xffff);
    asm volatile("fninit");
}

static void simd(void)
{
    struct regs r;

    if (skip_tcg("#XM", "QEMU does not raise it"))
        return;
#define UNMASK                                                                                 \
    "push 0x1d80; ldmxcsr [rsp]; pop rax; mov eax, 1; cvtsi2ss xmm0, eax; xorps xmm1, xmm1; "
    fault0("#XM of a division", CODE2(UNMASK, "divss xmm0, xmm1"), XM, 0);
    r = regs_kernel();
    expect_done("MXCSR shows it", &r, CODE("stmxcsr [rsp - 8]; mov eax, [rsp - 8]"));
    check_equal("ZE flag", r.ax & 0x3f, 4);
    r = regs_kernel();
    expect_done("the destination is unchanged", &r, CODE("movd eax, xmm0"));
    check_equal("1.0", r.ax & 0xffffffff, 0x3f800000);
    write_cr4(read_cr4() & ~CR4_OSXMMEXCPT);
    fault0("#UD without OSXMMEXCPT", CODE2(UNMASK, "divss xmm0, xmm1"), UD, 0);
    write_cr4(read_cr4() | CR4_OSXMMEXCPT);
    r = regs_kernel();
    expect_fault("reserved bits of MXCSR", &r, CODE2("push 0x10000", "ldmxcsr [rsp]"), GP, 0);
    asm volatile("push %0; ldmxcsr (%%rsp); pop %%rax" ::"i"(0x1f80) : "rax");
}

static void alignment(void)
{
    struct regs r;

    r = regs_kernel();
    r.bx = (ulong)area + 1;
    expect_fault("movaps of an unaligned operand", &r, CODE("movaps xmm0, [rbx]"), GP, 0);
    r = regs_kernel();
    r.bx = (ulong)area + 8;
    expect_fault("addps of an unaligned operand", &r, CODE("addps xmm0, [rbx]"), GP, 0);
    r = regs_kernel();
    r.bx = (ulong)area + 8;
    expect_fault("movntdq of an unaligned operand", &r, CODE("movntdq [rbx], xmm0"), GP, 0);
    r = regs_kernel();
    r.bx = (ulong)area + 1;
    expect_done("movups", &r, CODE("movups xmm0, [rbx]"));
    r = regs_kernel();
    r.bx = (ulong)area + 8;
    expect_fault("fxsave of an unaligned operand", &r, CODE("fxsave [rbx]"), GP, 0);
    r = regs_kernel();
    r.bx = (ulong)area + 8;
    expect_fault("fxrstor of an unaligned operand", &r, CODE("fxrstor [rbx]"), GP, 0);
    r = regs_kernel();
    r.bx = (ulong)area + 8;
    expect_fault("cmpxchg16b of an unaligned operand", &r, CODE("cmpxchg16b [rbx]"), GP, 0);
    r = regs_kernel();
    r.bp = (ulong)area + 8;
    expect_fault("not #SS through RBP", &r, CODE("movaps xmm0, [rbp]"), GP, 0);
}

static void access3(const char *name, struct code code, unsigned offset, unsigned vector)
{
    struct regs r = regs_user();

    r.flags |= FLAG_AC;
    r.bx = (ulong)area + USER_BASE + offset;
    if (vector == VECTOR_END)
        expect_done(name, &r, code);
    else
        expect_fault(name, &r, code, vector, 0);
}

/* CR0.AM with RFLAGS.AC: unaligned accesses of ring 3. */
static void alignment_check(void)
{
    struct regs r;

    write_cr0(read_cr0() | CR0_AM);
    access3("mov eax, [rbx]", CODE("mov eax, [rbx]"), 0, VECTOR_END);
    access3("mov al, [rbx]", CODE("mov al, [rbx]"), 1, VECTOR_END);
    if (!skip_tcg("alignment check", "QEMU lacks it")) {
        access3("mov eax, [rbx]", CODE("mov eax, [rbx]"), 1, AC);
        access3("mov eax, [rbx]", CODE("mov eax, [rbx]"), 2, AC);
        access3("mov ax, [rbx]", CODE("mov ax, [rbx]"), 1, AC);
        access3("mov rax, [rbx]", CODE("mov rax, [rbx]"), 4, AC);
        access3("mov [rbx], eax", CODE("mov [rbx], eax"), 3, AC);
        access3("add [rbx], eax", CODE("add [rbx], eax"), 3, AC);
        access3("fld qword ptr [rbx]", CODE("fld qword ptr [rbx]"), 4, AC);
        access3("movsd xmm0, [rbx]", CODE("movsd xmm0, [rbx]"), 4, AC);
        access3("fnstcw [rbx]", CODE("fnstcw [rbx]"), 1, AC);

        r = regs_user();
        r.flags |= FLAG_AC;
        r.bx = 0x40000001;
        expect_fault("the page fault of an unaligned access comes after #AC", &r,
                     CODE("mov eax, [rbx]"), AC, 0);
    }
    r = regs_kernel();
    r.flags |= FLAG_AC;
    r.bx = (ulong)area + 1;
    expect_done("ring 0 is not checked", &r, CODE("mov eax, [rbx]"));
    write_cr0(read_cr0() & ~CR0_AM);
    r = regs_user();
    r.flags |= FLAG_AC;
    r.bx = (ulong)area + USER_BASE + 1;
    expect_done("nor without CR0.AM", &r, CODE("mov eax, [rbx]"));
}

static void fxsave(void)
{
    struct regs r = regs_kernel();

    r.bx = (ulong)area;
    for (unsigned i = 0; i < 512; i++)
        area[i] = 0xee;
    expect_done(
        "fxsave", &r,
        CODE("fninit; fld1; fldpi; mov eax, 0x12345678; movd xmm15, eax; fxsave64 [rbx]"));
    check_equal("FCW", *(u16 *)area, 0x37f);
    check_equal("TOP", *(u16 *)(area + 2) >> 11 & 7, 6);
    check_equal("abridged tags", area[4], 0xc0);
    check_equal("ST0 exponent of pi", *(u16 *)(area + 32 + 8), 0x4000);
    check_equal("ST1 is 1.0", *(u64 *)(area + 48), 0x8000000000000000);
    check_equal("XMM15", *(u64 *)(area + 160 + 15 * 16), 0x12345678);
    check_equal("MXCSR", *(u32 *)(area + 24), 0x1f80);
    check("MXCSR mask", *(u32 *)(area + 28) == 0xffff || *(u32 *)(area + 28) == 0x2ffff);
    check_equal("the last 48 bytes are left alone", area[464], 0xee);
    *(u32 *)(area + 24) = 0x80000000;
    r = regs_kernel();
    r.bx = (ulong)area;
    if (!skip_tcg("reserved bits of MXCSR", "QEMU takes them"))
        expect_fault("fxrstor with reserved bits in MXCSR", &r, CODE("fxrstor64 [rbx]"), GP, 0);
    *(u32 *)(area + 24) = 0x1f80;
    r = regs_kernel();
    r.bx = (ulong)area;
    expect_done("fxrstor", &r,
                CODE("fninit; pxor xmm15, xmm15; fxrstor64 [rbx]; movd ecx, xmm15; fnstsw ax"));
    check_equal("XMM15 is back", r.cx, 0x12345678);
    check_equal("TOP is back", r.ax >> 11 & 7, 6);
    asm volatile("fninit");
}

void test(void)
{
    matrix();
    pending();
    ferr();
    simd();
    alignment();
    alignment_check();
    fxsave();
}
