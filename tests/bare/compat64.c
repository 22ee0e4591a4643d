/*
 * Long mode's other segments: compatibility mode of 32 and 16 bits, far transfers among the
 * modes, 64-bit call gates, IRET in all its forms, and what loading segment registers does and
 * checks (SDM 3A 5.2.1, 5.8.3.1, 6.14; APM 2 4.8).
 */
#include "lib/system.h"

#define NON_CANONICAL 0x800000000000ul

enum {
    GATE = FREE,
    SEG = FREE + 16,
    SEG_B = FREE + 24,
    STACK16 = FREE + 32,
    UCODE16 = FREE + 40
};

static u64 memory[8] __attribute__((aligned(64)));

static void compatibility(void)
{
    struct regs r = regs_user();

    r.cs = UCODE32;
    r.ax = 0xffffffff12345678;
    r.bx = 0x1111111180000000;
    expect_done("32-bit code: upper halves are kept or zeroed", &r,
                CODE32("inc eax; .byte 0x40; mov ecx, esp; sub esp, 4; add esp, 4"));
    check_equal("INC by its short form", r.ax, 0x1234567a);
    r = regs_user();
    r.cs = UCODE32;
    r.bx = (ulong)memory + USER_BASE + 0xabcd00000000;
    memory[0] = 0x1122334455667788;
    expect_done("addresses are 32 bits", &r, CODE32("mov eax, [ebx]; push eax; pop edx"));
    check_equal("value", r.ax, 0x55667788);
    check_equal("value by the stack", r.dx, 0x55667788);
    r = regs_user();
    r.cs = UCODE32;
    expect_fault("int3 of privilege: hlt", &r, CODE32("hlt"), GP, 0);
    check_equal("CS in the frame", r.cs, UCODE32);
    r = regs_user();
    r.cs = UCODE32;
    expect_fault("syscall-era instructions: swapgs", &r, CODE32(".byte 0x0f, 0x01, 0xf8"), UD,
                 0);
    r = regs_user();
    r.cs = UCODE32;
    expect_done("aaa, daa, pushad, bound, les exist here", &r,
                CODE32("aaa; daa; pushad; popad; push es; pop es; push ds; pop ds"));
    r = regs_user();
    r.cs = UCODE32;
    r.ds = UDATA;
    r.bx = 0xfffff000;
    expect_fault("a page fault in compatibility mode", &r, CODE32("mov eax, [ebx]"), PF, 5);
    check_equal("CR2 is 32 bits", r.cr2, 0xfffff000);
    r = regs_kernel();
    r.cs = KCODE32;
    expect_done("32-bit code in ring 0", &r, CODE32("mov eax, cr0; mov ecx, cs"));
    check_equal("CS", r.cx, KCODE32);
    r = regs_kernel();
    r.cs = KCODE32;
    if (!skip_tcg("a write through CS", "QEMU allows it"))
        expect_fault("a write through CS", &r, CODE32("mov cs:[ebx], eax"), GP, 0);
}

static void limits(void)
{
    struct regs r;

    if (skip_tcg("limits in compatibility mode", "QEMU does not check them"))
        return;
    gdt_set(SEG, segment((u32)(ulong)memory + USER_BASE, 15, SEG_DATA | SEG_DPL3 | SEG_32));
    r = regs_user();
    r.cs = UCODE32;
    r.ds = SEG | 3;
    r.bx = 12;
    expect_done("within the limit", &r, CODE32("mov eax, [ebx]"));
    r = regs_user();
    r.cs = UCODE32;
    r.ds = SEG | 3;
    r.bx = 13;
    expect_fault("beyond the limit", &r, CODE32("mov eax, [ebx]"), GP, 0);
    r = regs_user();
    r.ds = SEG | 3;
    r.bx = (ulong)memory + USER_BASE;
    expect_done("64-bit code ignores base and limit of DS", &r, CODE("mov eax, [rbx + 20]"));
    gdt_set(SEG, segment(0x12345, 15, SEG_DATA | SEG_DPL3 | SEG_32));
    r = regs_user();
    r.ds = SEG | 3;
    r.bx = (ulong)memory + USER_BASE;
    expect_done("nor is what is aligned unaligned by the base", &r, CODE("movaps xmm0, [rbx]"));
    gdt_set(SEG, segment((u32)(ulong)memory + USER_BASE, 15, SEG_DATA | SEG_DPL3 | SEG_32));
    r = regs_user();
    r.fs = SEG | 3;
    r.bx = 0x10;
    memory[2] = 0x99;
    expect_done("and the limit, but not the base, of FS", &r, CODE("mov eax, fs:[rbx]"));
    check_equal("value", r.ax, 0x99);
    r = regs_user();
    r.ds = 0;
    r.bx = (ulong)memory + USER_BASE;
    expect_done("null segments can be used in 64-bit code", &r, CODE("mov eax, [rbx]"));
    if (!skip_tcg("null selectors lose their RPL on the way to ring 3", "QEMU keeps it")) {
        r = regs_user();
        r.fs = 3;
        expect_done("null selectors lose their RPL on the way to ring 3", &r,
                    CODE("mov eax, fs"));
        check_equal("FS", r.ax, 0);
    }
    wrmsr(MSR_FS_BASE, 0);
}

static void loads(void)
{
    struct regs r = regs_kernel();

    expect_done("null SS in ring 0 of 64-bit code", &r, CODE("xor eax, eax; mov ss, eax"));
    r = regs_kernel();
    if (!skip_tcg("null SS with RPL 3 in ring 0", "QEMU takes it"))
        expect_fault("null SS with RPL 3 in ring 0", &r, CODE2("mov eax, 3", "mov ss, eax"), GP,
                     0);
    r = regs_user();
    expect_fault("null SS in ring 3", &r, CODE2("mov eax, 3", "mov ss, eax"), GP, 0);
    r = regs_kernel();
    r.cs = KCODE32;
    expect_fault("null SS in 32-bit code", &r,
                 CODE_IN(".code32", "xor eax, eax", "mov ss, eax"), GP, 0);
    fault0("DS beyond the table", CODE2("mov eax, 0x2f8", "mov ds, eax"), GP, 0x2f8);
    gdt_set(SEG, segment(0, 0xfffff, (SEG_DATA & ~0x80) | SEG_4K));
    fault0("DS not present", CODE2("mov eax, 0x70", "mov ds, eax"), NP, SEG);
    fault0("SS not present", CODE2("mov eax, 0x70", "mov ss, eax"), SS, SEG);
    fault0("DS of a system descriptor", CODE2("mov eax, 0x50", "mov ds, eax"), GP, KTSS);
    r = regs_kernel();
    expect_done("lar, lsl of code and TSS", &r,
                CODE("mov eax, 0x50; lar ebx, eax; mov ecx, 0x08; lar edx, ecx; lsl esi, eax"));
    check_equal("LAR of the TSS", r.bx & 0xff00, 0x8b00);
    check_equal("LAR of 64-bit code", r.dx & 0x20ff00, 0x209b00);
    check_equal("LSL of the TSS", r.si, 103);
    gdt_set(GATE, 0x8c0000000000);
    gdt_set(GATE + 8, 0);
    r = regs_kernel();
    r.bx = 7;
    expect_done("LAR of a call gate", &r,
                CODE("mov eax, 0x60; lar ebx, eax; setz cl; movzx ecx, cl"));
    check_equal("ZF", r.cx, 1);
    gdt_set(GATE, 0x840000000000);
    r = regs_kernel();
    expect_done("LAR of a 16-bit call gate", &r,
                CODE("mov eax, 0x60; lar ebx, eax; setz cl; movzx ecx, cl"));
    check_equal("not in long mode", r.cx, on_tcg());
}

/* 16:32: the form with a 64-bit offset is Intel's alone. */
static struct {
    u32 offset;
    u16 selector;
} __attribute__((packed)) pointer;

static void gate_set(u16 selector, ulong offset, unsigned type, unsigned dpl)
{
    gdt_set(GATE, (offset & 0xffff) | (u64)selector << 16 |
                      (u64)(0x80 | dpl << 5 | type) << 40 | (u64)(offset >> 16 & 0xffff) << 48);
    gdt_set(GATE + 8, offset >> 32);
}

static void call_gates(void)
{
    struct code target = CODE("mov rax, [rsp]; mov rcx, [rsp + 8]; mov rdx, [rsp + 16]; "
                              "mov rsi, [rsp + 24]; mov edi, cs; mov r8d, ss; mov r9, rsp");
    struct code call = CODE("call fword ptr [rbx]");
    struct code call32 = CODE32("call fword ptr [ebx]");
    struct regs r = regs_user();

    u32 pointer32[2] = {0, GATE | 3};

    gate_set(KCODE, (ulong)target.start, 0xc, 3);
    pointer.offset = 0x5555;
    pointer.selector = GATE | 3;
    r.bx = (ulong)&pointer + USER_BASE;
    r.ip = (ulong)call.start + USER_BASE;
    regs_run(&r);
    check_equal("64-bit call gate", r.vector, VECTOR_END);
    check_equal("return RIP", r.ax, (ulong)call.end + USER_BASE);
    check_equal("return CS", r.cx, UCODE64);
    check_equal("outer RSP", r.dx, regs_user().sp);
    check_equal("outer SS", r.si, UDATA);
    check_equal("CS", r.di, KCODE);
    check_equal("SS is null", r.r8, 0);
    check_equal("stack of the TSS", r.r9, tss_stack() - 32);
    r = regs_user();
    r.cs = UCODE32;
    r.bx = (ulong)pointer32 + USER_BASE;
    r.ip = (ulong)call32.start + USER_BASE;
    regs_run(&r);
    check_equal("from compatibility mode", r.vector, VECTOR_END);
    check_equal("return CS", r.cx, UCODE32);
    check_equal("64-bit frame", r.dx, regs_user().sp);

    gate_set(KCODE32, (ulong)target.start, 0xc, 3);
    r = regs_user();
    r.bx = (ulong)&pointer + USER_BASE;
    expect_fault("gate to 32-bit code", &r, call, GP, KCODE32);
    gate_set(KCODE, (ulong)target.start, 0x4, 3);
    r = regs_user();
    r.bx = (ulong)&pointer + USER_BASE;
    expect_fault("16-bit gate", &r, call, GP, GATE);
    gate_set(KCODE, (ulong)target.start, 0x5, 3);
    r = regs_user();
    r.bx = (ulong)&pointer + USER_BASE;
    expect_fault("task gate", &r, call, GP, GATE);
    gate_set(KCODE, (ulong)target.start, 0xc, 0);
    r = regs_user();
    r.bx = (ulong)&pointer + USER_BASE;
    expect_fault("gate of DPL 0", &r, call, GP, GATE);
    gate_set(KCODE, (ulong)target.start, 0xc, 3);
    gdt_set(GATE, gdt_get(GATE) & ~BIT(47));
    r = regs_user();
    r.bx = (ulong)&pointer + USER_BASE;
    expect_fault("gate not present", &r, call, NP, GATE);
    pointer.selector = KTSS;
    r = regs_kernel();
    r.bx = (ulong)&pointer;
    expect_fault("call of a TSS", &r, call, GP, KTSS);
    if (!skip_tcg("upper half of a gate and its target", "QEMU does not check them")) {
        pointer.selector = GATE | 3;
        gate_set(KCODE, (ulong)target.start, 0xc, 3);
        gdt_set(GATE + 8, 0x1f00ull << 32);
        r = regs_user();
        r.bx = (ulong)&pointer + USER_BASE;
        expect_fault("type bits in the upper half", &r, call, GP, GATE);
        gate_set(KCODE, NON_CANONICAL, 0xc, 3);
        r = regs_user();
        r.bx = (ulong)&pointer + USER_BASE;
        expect_fault("non-canonical target", &r, call, GP, 0);
    }
}

static void far_transfers(void)
{
    struct regs r = regs_kernel();
    struct code narrow = CODE32("mov ecx, cs; push 0x08; push ebx; retf");
    u32 pointer32[2] = {(u32)(ulong)narrow.start, KCODE32};

    r.bx = (ulong)CODE("mov edx, cs").start;
    r.si = (ulong)pointer32;
    r.ip = (ulong)CODE("jmp fword ptr [rsi]").start;
    regs_run(&r);
    check_equal("64 to 32 bits and back", r.vector, VECTOR_END);
    check_equal("CS in between", r.cx, KCODE32);
    check_equal("CS at the end", r.dx, KCODE);
    gdt_set(SEG, segment(0, 0xfffff, SEG_CODE | SEG_64 | SEG_32 | SEG_4K));
    if (!skip_tcg("code with both L and D", "QEMU takes it"))
        fault0("code with both L and D", CODE2("push 0x70; push 0", "retfq"), GP, SEG);
    if (!skip_tcg("non-canonical far return", "QEMU faults at the target"))
        fault0("non-canonical far return",
               CODE2("mov rax, 0x800000000000; push 0x08; push rax", "retfq"), GP, 0);
    r = regs_kernel();
    r.bx = regs_user().sp;
    r.cx = (ulong)CODE("mov eax, cs; mov edx, ss").start + USER_BASE;
    r.ip = (ulong)CODE("push 0x23; push rbx; push 0x2b; push rcx; retfq").start;
    regs_run(&r);
    check_equal("far return to ring 3", r.vector, VECTOR_END);
    check_equal("CS", r.ax, UCODE64);
    check_equal("SS", r.dx, UDATA);
    fault0("far return with a null CS", CODE2("push 0; push 0", "retfq"), GP, 0);
    fault0("far return to data", CODE2("push 0x10; push 0", "retfq"), GP, KDATA);
    fault0("to ring 3 with a null SS for 32-bit code",
           CODE2("push 3; push 0x1000; push 0x1b; push 0", "retfq"), GP, 0);
    fault0("to ring 3 with a null SS for 64-bit code",
           CODE2("push 3; push 0x1000; push 0x2b; push 0", "retfq"), GP, 0);
}

static void iret(void)
{
    struct regs r = regs_kernel();
    ulong here = (ulong)CODE("mov eax, cs; mov edx, ss; mov rsi, rsp; pushfq; pop rdi").start;

    r.bx = here;
    r.cx = r.sp - 0x100;
    r.ip = (ulong)CODE("push 0; push rcx; push 2; push 0x08; push rbx; iretq").start;
    regs_run(&r);
    check_equal("iret to ring 0 with a null SS", r.vector, VECTOR_END);
    check_equal("SS", r.dx, 0);
    check_equal("RSP is loaded without a change of ring", r.si, r.cx);
    fault0("iret with a null SS and RPL 3 for ring 3",
           CODE2("push 3; push 0x1000; push 2; push 0x2b; push 0", "iretq"), GP, 0);
    if (!skip_tcg("iret to 32-bit code with a null SS", "QEMU takes it"))
        fault0("iret to 32-bit code with a null SS",
               CODE2("push 0; push 0x1000; push 2; push 0x38; push 0", "iretq"), GP, 0);
    fault0("iret to data", CODE2("push 0x10; push 0x1000; push 2; push 0x10; push 0", "iretq"),
           GP, KDATA);
    fault0("iret with a null CS",
           CODE2("push 0x10; push 0x1000; push 2; push 0; push 0", "iretq"), GP, 0);
    if (!skip_tcg("iret to a non-canonical address", "QEMU faults at the target"))
        fault0(
            "iret to a non-canonical address",
            CODE2(
                "mov rax, 0x800000000000; push 0x10; push 0x1000; push 2; push 0x08; push rax",
                "iretq"),
            GP, 0);
    r = regs_kernel();
    r.bx = (ulong)CODE32("mov eax, cs; mov edx, ss; mov esi, esp").start;
    r.cx = r.sp - 0x100;
    r.ip = (ulong)CODE("push 0x10; push rcx; push 2; push 0x38; push rbx; iretq").start;
    regs_run(&r);
    check_equal("iret to 32-bit code of ring 0", r.ax, KCODE32);
    r = regs_user();
    expect_fault("iret to ring 0 from ring 3", &r,
                 CODE2("push 0x10; push 0x1000; push 2; push 8; push 0", "iretq"), GP, KCODE);
    r = regs_user();
    r.bx = (ulong)CODE("mov eax, cs; pushfq; pop rdi").start + USER_BASE;
    r.cx = r.sp - 0x100;
    r.ip = (ulong)CODE("push 0x23; push rcx; push 0x247202; push 0x2b; push rbx; iretq").start +
           USER_BASE;
    regs_run(&r);
    check_equal("iret within ring 3", r.ax, UCODE64);
    check_equal("it changes neither IF nor IOPL", r.di & (FLAG_IF | FLAG_IOPL), 0);
    check_equal("but AC, ID and NT", r.di & (FLAG_AC | FLAG_ID | FLAG_NT),
                FLAG_AC | FLAG_ID | FLAG_NT);
    r = regs_kernel();
    r.bx = (ulong)CODE("mov eax, cs").start;
    r.ip = (ulong)CODE("mov rcx, rsp; push 0x10; push rcx; push 2; push 8; push rbx; "
                       "mov ecx, 0x1234; iretq")
               .start;
    regs_run(&r);
    check_equal("the common frame", r.vector, VECTOR_END);
    /* 32-bit and 16-bit operand sizes in 64-bit code */
    r = regs_kernel();
    r.bx = here;
    r.cx = r.sp - 0x100;
    r.ip = (ulong)CODE("sub rsp, 20; mov [rsp], ebx; mov dword ptr [rsp + 4], 8; "
                       "mov dword ptr [rsp + 8], 2; mov [rsp + 12], ecx; "
                       "mov dword ptr [rsp + 16], 0x10; iretd")
               .start;
    regs_run(&r);
    check_equal("32-bit iret in 64-bit code", r.vector, VECTOR_END);
    check_equal("RSP", r.si, r.cx);
}

static void code16(void)
{
    struct code code = CODE16("mov ax, cs; mov dx, sp; push 0x1234; pop bx");
    struct regs r = regs_user();

    gdt_set(UCODE16, segment((u32)(ulong)code.start + USER_BASE, 0xffff, SEG_CODE | SEG_DPL3));
    gdt_set(STACK16, segment((u32)(ulong)memory + USER_BASE, 0xffff, SEG_DATA | SEG_DPL3));
    r.cs = UCODE16 | 3;
    r.ss = STACK16 | 3;
    r.sp = 0x40;
    r.ip = 0;
    regs_run(&r);
    check_equal("16-bit code", r.vector, VECTOR_END);
    check_equal("IP", r.ip, (ulong)(code.end - code.start) + 2);
    check_equal("CS", r.ax & 0xffff, UCODE16 | 3);
    check_equal("SP", r.dx & 0xffff, 0x40);
    check_equal("stack", r.bx & 0xffff, 0x1234);
}

void test(void)
{
    compatibility();
    limits();
    loads();
    call_gates();
    far_transfers();
    iret();
    code16();
}
