/*
 * Far transfers in protected mode: jumps and calls, call gates with parameters, conforming
 * code, returns and IRET to outer rings, and the faults of each (SDM 3A 5.8, SDM 2 CALL, RET,
 * IRET).
 */
#include "lib/system.h"

enum {
    GATE = FREE,
    SEG = FREE + 8,
    SEG_B = FREE + 16,
};

static u32 pointer[2];

static void gate_set(u16 selector, ulong offset, unsigned type, unsigned dpl, unsigned count)
{
    gdt_set(GATE, (offset & 0xffff) | (u64)selector << 16 | (u64)count << 32 |
                      (u64)(0x80 | dpl << 5 | type) << 40 | (u64)(offset >> 16) << 48);
}

static struct code jump_far(void)
{
    return CODE("jmp fword ptr [ebx]");
}

static struct code call_far(void)
{
    return CODE("call fword ptr [ebx]");
}

static void transfer_faults(const char *name, struct regs r, u16 selector, unsigned vector,
                            ulong error)
{
    struct regs again = r;

    pointer[0] = 0;
    pointer[1] = selector;
    r.bx = again.bx = (u32)pointer;
    expect_fault(name, &r, jump_far(), vector, error);
    expect_fault(name, &again, call_far(), vector, error);
    check_equal("ESP unchanged", again.sp, (again.cs & 3 ? regs_user().sp : regs_kernel().sp));
}

static void code_segments(void)
{
    static const struct {
        const char *name;
        u32 attributes;
        u8 ok0, ok3;
    } kinds[] = {
        {"code, DPL 0", 0x9b, 1, 0},
        {"code, DPL 3", 0xfb, 0, 1},
        {"execute-only code, DPL 0", 0x99, 1, 0},
        {"conforming code, DPL 0", 0x9f, 1, 1},
        {"conforming code, DPL 3", 0xff, 0, 1},
        {"data", 0x93, 0, 0},
        {"call-gate-like type 13", 0x8d, 0, 0},
        {"interrupt gate", 0x8e, 0, 0},
        {"LDT", 0x82, 0, 0},
    };

    for (unsigned i = 0; i < COUNT(kinds); i++) {
        struct code target = CODE("mov eax, cs");

        gdt_set(SEG, segment(0, 0xfffff, kinds[i].attributes | SEG_32 | SEG_4K));
        for (unsigned ring = 0; ring < 4; ring += 3) {
            struct regs r = ring ? regs_user() : regs_kernel();
            bool ok = ring ? kinds[i].ok3 : kinds[i].ok0;

            if (!ok) {
                transfer_faults(kinds[i].name, r, SEG | ring, GP, SEG);
                continue;
            }
            pointer[0] = (u32)target.start;
            pointer[1] = SEG | ring;
            r.bx = (u32)pointer;
            r.ip = (u32)jump_far().start;
            regs_run(&r);
            check_equal(kinds[i].name, r.vector, VECTOR_END);
            check_equal("the selector's RPL becomes the CPL", r.ax, SEG | ring);
        }
    }
    gdt_set(SEG, segment(0, 0xfffff, 0x1b | SEG_32 | SEG_4K));
    transfer_faults("code not present", regs_kernel(), SEG, NP, SEG);
    gdt_set(SEG, segment(0, 0xfffff, 0x9b | SEG_32 | SEG_4K));
    transfer_faults("RPL above CPL", regs_kernel(), SEG | 3, GP, SEG);
    transfer_faults("null selector", regs_kernel(), 0, GP, 0);
    transfer_faults("null selector with RPL", regs_kernel(), 3, GP, 0);
    transfer_faults("beyond the GDT", regs_kernel(), 0x200, GP, 0x200);
    transfer_faults("LDT without one", regs_kernel(), 0xc, GP, 0xc);
    gdt_set(SEG, segment(0, 0xff, 0x9b | SEG_32));
    pointer[0] = 0x100;
    pointer[1] = SEG;
    struct regs r = regs_kernel();
    r.bx = (u32)pointer;
    expect_fault("offset beyond the limit", &r, jump_far(), GP, 0);
    r = regs_kernel();
    r.bx = (u32)pointer;
    expect_fault("call beyond the limit", &r, call_far(), GP, on_tcg() ? SEG : 0);
    check_equal("ESP unchanged", r.sp, regs_kernel().sp);
}

static void direct(void)
{
    struct regs r = regs_kernel();

    expect_done("far jump with an immediate", &r, CODE("ljmp 0x38, offset 1f; 1: mov eax, cs"));
    check_equal("CS", r.ax, KCODE32);
    r = regs_kernel();
    expect_done("far call and return", &r,
                CODE("lcall 0x38, offset 1f; jmp 2f; 1: mov eax, cs; mov ebx, [esp]; "
                     "mov ecx, [esp + 4]; retf; 2: mov edx, cs"));
    check_equal("CS of the callee", r.ax, KCODE32);
    check_equal("pushed CS", r.cx & 0xffff, KCODE);
    check_equal("CS after the return", r.dx, KCODE);
    check_equal("stack balanced", r.sp, regs_kernel().sp);
    r = regs_kernel();
    expect_done("retf with bytes to drop", &r,
                CODE("push 1; push 2; push cs; push offset 1f; retf 8; 1:"));
    check_equal("stack balanced", r.sp, regs_kernel().sp);
}

static void call_gates(void)
{
    struct regs r = regs_kernel();
    struct code target = CODE("mov eax, [esp]; mov ecx, [esp + 4]; mov edx, cs; mov esi, esp");
    struct code parameters =
        CODE("mov eax, [esp]; mov ecx, [esp + 4]; mov edx, [esp + 8]; mov esi, [esp + 12]; "
             "mov edi, [esp + 16]; mov ebp, [esp + 20]; mov ebx, esp");

    gate_set(KCODE, (ulong)target.start, 0xc, 0, 5);
    pointer[0] = 0xdeadbeef; /* ignored */
    pointer[1] = GATE;
    r.bx = (u32)pointer;
    r.ip = (u32)call_far().start;
    regs_run(&r);
    check_equal("gate within ring 0", r.vector, VECTOR_END);
    check_equal("return EIP", r.ax, (u32)call_far().end);
    check_equal("return CS", r.cx & 0xffff, KCODE);
    check_equal("no parameters copied", r.si, regs_kernel().sp - 8);
    r = regs_kernel();
    r.bx = (u32)pointer;
    r.ip = (u32)jump_far().start;
    regs_run(&r);
    check_equal("jump through a gate within ring 0", r.vector, VECTOR_END);

    gate_set(KCODE, (ulong)parameters.start, 0xc, 3, 2);
    r = regs_user();
    r.bx = (u32)pointer;
    pointer[1] = GATE | 3;
    r.ip = (u32)CODE("push 0x11; push 0x22; call fword ptr [ebx]").start;
    regs_run(&r);
    check_equal("gate from ring 3 to ring 0", r.vector, VECTOR_END);
    check_equal("CS", r.cs, KCODE);
    check_equal("return CS", r.cx & 0xffff, UCODE32);
    check_equal("first parameter", r.dx, 0x22);
    check_equal("second parameter", r.si, 0x11);
    check_equal("outer ESP", r.di, regs_user().sp - 8);
    check_equal("outer SS", r.bp & 0xffff, UDATA);
    check_equal("inner stack", r.bx, tss_stack() - 24);
    r = regs_user();
    r.bx = (u32)pointer;
    expect_fault("jump to an inner ring", &r, jump_far(), GP, KCODE);

    gate_set(KCODE, (ulong)target.start, 0xc, 0, 0);
    transfer_faults("gate of DPL 0 from ring 3", regs_user(), GATE | 3, GP, GATE);
    gate_set(KCODE, (ulong)target.start, 0xc, 2, 0);
    transfer_faults("gate of DPL 2 with RPL 3", regs_kernel(), GATE | 3, GP, GATE);
    gate_set(KCODE, (ulong)target.start, 0xc, 3, 0);
    gdt_set(GATE, gdt_get(GATE) & ~BIT(47));
    transfer_faults("gate not present", regs_user(), GATE | 3, NP, GATE);
    gate_set(0, (ulong)target.start, 0xc, 3, 0);
    transfer_faults("gate with a null selector", regs_user(), GATE | 3, GP, 0);
    gate_set(0x200, (ulong)target.start, 0xc, 3, 0);
    transfer_faults("gate beyond the GDT", regs_user(), GATE | 3, GP, 0x200);
    gate_set(KDATA, (ulong)target.start, 0xc, 3, 0);
    transfer_faults("gate to data", regs_user(), GATE | 3, GP, KDATA);
    gate_set(UCODE32, (ulong)target.start, 0xc, 3, 0);
    transfer_faults("gate to an outer ring", regs_kernel(), GATE, GP, UCODE32 & ~3);
    gdt_set(SEG, segment(0, 0xfffff, 0x1b | SEG_32 | SEG_4K));
    gate_set(SEG, (ulong)target.start, 0xc, 3, 0);
    if (!skip_tcg("gate to code not present", "QEMU gives #GP on a jump"))
        transfer_faults("gate to code not present", regs_kernel(), GATE, NP, SEG);
}

static void conforming(void)
{
    struct regs r = regs_user();
    struct code target = CODE("mov edx, cs; mov esi, esp");

    gdt_set(SEG, segment(0, 0xfffff, 0x9f | SEG_32 | SEG_4K));
    gate_set(SEG, (ulong)target.start, 0xc, 3, 3);
    pointer[1] = GATE | 3;
    r.bx = (u32)pointer;
    r.ip = (u32)call_far().start;
    regs_run(&r);
    check_equal("gate to conforming code: no change of ring", r.dx, on_tcg() ? SEG : SEG | 3);
    check_equal("nor of stacks", r.si, regs_user().sp - 8);
    r = regs_user();
    r.bx = (u32)pointer;
    r.ip = (u32)jump_far().start;
    regs_run(&r);
    check_equal("jump through it", r.dx, SEG | 3);
}

static void gate16(void)
{
    struct regs r = regs_user();
    struct code target = CODE("mov ax, [esp]; mov cx, [esp + 2]; mov dx, [esp + 4]; "
                              "mov si, [esp + 6]; mov di, [esp + 8]; mov ebx, esp");

    gdt_set(SEG, segment((u32)target.start, 0xffff, 0x9b | SEG_32));
    gate_set(SEG, 0, 0x4, 3, 1);
    pointer[1] = GATE | 3;
    r.bx = (u32)pointer;
    r.ip = (u32)CODE("push word ptr 0x3344; call fword ptr [ebx]").start;
    regs_run(&r);
    check_equal("16-bit gate", r.vector, VECTOR_END);
    check_equal("16-bit return CS", r.cx & 0xffff, UCODE32);
    check_equal("16-bit parameter", r.dx & 0xffff, 0x3344);
    check_equal("16-bit outer SP", r.si & 0xffff, (regs_user().sp - 2) & 0xffff);
    check_equal("16-bit outer SS", r.di & 0xffff, UDATA);
    check_equal("inner stack", r.bx, tss_stack() - 10);
}

/* RETF and IRET to the outer ring: data segments that it may not use become null. */
static void outward(void)
{
    struct regs r = regs_kernel();
    struct code user = CODE("mov eax, ds; mov ecx, es; mov edx, fs; mov esi, gs; mov edi, cs");

    gdt_set(SEG, segment(0, 0xfffff, 0x9f | SEG_32 | SEG_4K)); /* conforming: stays */
    r.es = UDATA;
    r.fs = SEG;
    r.gs = KDATA;
    r.cx = (u32)user.start;
    r.dx = regs_user().sp;
    r.ip = (u32)CODE("push 0x23; push edx; push 0x1b; push ecx; retf").start;
    regs_run(&r);
    check_equal("retf to ring 3", r.vector, VECTOR_END);
    check_equal("CS", r.di, UCODE32);
    check_equal("DS of ring 0 is null", r.ax, 0);
    check_equal("ES of ring 3 stays", r.cx, UDATA);
    check_equal("FS, conforming code, stays", r.dx, SEG);
    check_equal("GS of ring 0 is null", r.si, 0);
    check_equal("ESP", r.sp, regs_user().sp);
    r = regs_kernel();
    r.gs = KDATA;
    r.cx = (u32)user.start;
    r.dx = regs_user().sp;
    r.ip = (u32)CODE("push 0x23; push edx; push 2; push 0x1b; push ecx; iretd").start;
    regs_run(&r);
    check_equal("iret to ring 3", r.vector, VECTOR_END);
    check_equal("DS is null", r.ax, 0);
    check_equal("GS is null", r.si, 0);
    r = regs_kernel();
    r.cx = (u32)user.start;
    r.dx = regs_user().sp - 8;
    r.ip = (u32)CODE("push 0x23; push edx; push 5; push 6; push 0x1b; push ecx; retf 8").start;
    regs_run(&r);
    check_equal("retf 8 drops from both stacks", r.sp, regs_user().sp);
}

static void return_faults(void)
{
    struct regs r;
    struct code outer = CODE2("push ebx; push edx; push ecx; push 0", "retf");
    struct code outer_iret = CODE2("push ebx; push edx; push 2; push ecx; push 0", "iretd");
    static const struct {
        const char *name;
        u32 cs, ss;
        unsigned vector;
        ulong error;
    } cases[] = {
        {"null CS", 0, UDATA, GP, 0},
        {"CS beyond the GDT", 0x203, UDATA, GP, 0x200},
        {"data as CS", UDATA, UDATA, GP, UDATA & ~3},
        {"CS with DPL 0 and RPL 3", KCODE | 3, UDATA, GP, KCODE},
        {"CS with DPL 3 and RPL 0", UCODE32 & ~3, UDATA, GP, UCODE32 & ~3},
        {"CS with RPL 1 and DPL 3", (UCODE32 & ~3) | 1, UDATA, GP, UCODE32 & ~3},
        {"null SS", UCODE32, 0, GP, 0},
        {"null SS with RPL", UCODE32, 3, GP, 0},
        {"SS with another RPL", UCODE32, UDATA & ~3, GP, UDATA & ~3},
        {"SS with DPL 0", UCODE32, KDATA | 3, GP, KDATA},
        {"code as SS", UCODE32, UCODE32, GP, UCODE32 & ~3},
        {"SS beyond the GDT", UCODE32, 0x203, GP, 0x200},
        {"CS not present", SEG | 3, UDATA, NP, SEG},
        {"SS not present", UCODE32, SEG_B | 3, SS, SEG_B}, /* the last: QEMU gives #NP */
    };

    gdt_set(SEG, segment(0, 0xfffff, 0x7b | SEG_32 | SEG_4K));
    gdt_set(SEG_B, segment(0, 0xfffff, 0x73 | SEG_32 | SEG_4K));
    for (unsigned i = 0; i < COUNT(cases) - on_tcg(); i++) {
        r = regs_kernel();
        r.cx = cases[i].cs;
        r.bx = cases[i].ss;
        r.dx = regs_user().sp;
        expect_fault(cases[i].name, &r, outer, cases[i].vector, cases[i].error);
        check_equal("ESP as before retf", r.sp, regs_kernel().sp - 16);
        r = regs_kernel();
        r.cx = cases[i].cs;
        r.bx = cases[i].ss;
        r.dx = regs_user().sp;
        expect_fault(cases[i].name, &r, outer_iret, cases[i].vector, cases[i].error);
    }
    r = regs_user();
    expect_fault("retf to an inner ring", &r, CODE2("push 8; push 0", "retf"), GP, KCODE);
    r = regs_user();
    expect_fault("iret to an inner ring", &r, CODE2("push 2; push 8; push 0", "iretd"), GP,
                 KCODE);
    r = regs_user();
    gdt_set(SEG, segment(0, 0xff, 0xfb | SEG_32));
    if (!skip_tcg("retf beyond the limit", "QEMU faults after it"))
        expect_fault("retf beyond the limit", &r, CODE2("push 0x6b; push 0x100", "retf"), GP,
                     0);
}

/* What IRET and POPF may change, by ring. */
static void flags(void)
{
    struct regs r = regs_kernel();

    expect_done("popf in ring 0", &r,
                CODE("push 0x00247001; popf; pushf; pop eax; push 2; popf"));
    check_equal("all but the reserved", r.ax, 0x00247003);
    r = regs_user();
    expect_done("popf in ring 3 with IOPL 0", &r,
                CODE("push 0x00247201; popf; pushf; pop eax; push 2; popf"));
    check_equal("IOPL and IF stay", r.ax, 0x00244003);
    r = regs_user();
    r.flags |= FLAG_IOPL;
    expect_done("popf in ring 3 with IOPL 3", &r,
                CODE("push 0x00244201; popf; pushf; pop eax; push 2; popf"));
    check_equal("IF changes, IOPL stays", r.ax, 0x00247203);
    r = regs_user();
    r.flags |= FLAG_IOPL | FLAG_IF;
    expect_done("cli and sti in ring 3 with IOPL 3", &r,
                CODE("cli; pushf; pop eax; sti; pushf; pop ebx"));
    check_equal("cli", r.ax & FLAG_IF, 0);
    check_equal("sti", r.bx & FLAG_IF, FLAG_IF);
    r = regs_kernel();
    expect_done("popf does not set VM, RF, VIF, VIP", &r,
                CODE("push 0x001b0002; popf; pushf; pop eax"));
    check_equal("flags", r.ax, 2);
    r = regs_kernel();
    r.flags |= FLAG_IF | FLAG_AC;
    expect_done("16-bit popf", &r,
                CODE("push word ptr 3; popfw; pushf; pop eax; push 2; popf"));
    check_equal("the upper half stays", r.ax, 3 | FLAG_AC);
}

void test(void)
{
    code_segments();
    direct();
    call_gates();
    conforming();
    gate16();
    outward();
    return_faults();
    flags();
}
