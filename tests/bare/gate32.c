/*
 * System calls of 32-bit programs, again and again, so that translations of them are made and
 * reached: INT n and IRET, SYSENTER and SYSEXIT, IRET within ring 0 (SDM 2 INT n, IRET,
 * SYSENTER, SYSEXIT); and what makes a return an unusual one.
 */
#include "lib/system.h"

enum { ROUNDS = 8, CALL = 0x80 };

static u32 kernel_stack[64];

/* What the handlers tell: the frame in registers. */
#define HANDLER                                                                                \
    "mov eax, [esp + 4]; mov edx, [esp + 8]; mov ebp, [esp + 12]; mov esi, [esp + 16];"        \
    "pushfd; pop edi; iretd"
/* Counts the rounds in which the carry is set afterwards. */
#define CALLS "mov ecx, 8; xor ebx, ebx; 1: stc; int 0x80; adc ebx, 0; dec ecx; jnz 1b"

static void set_handler(struct code code, unsigned type)
{
    idt[CALL] = gate_make(KCODE, code.start, type, 3);
}

static void interrupts(const char *name, unsigned type, u32 flags)
{
    struct regs r = regs_user();

    set_handler(CODE(HANDLER), type);
    r.flags |= flags;
    expect_done(name, &r, CODE(CALLS));
    check_equal("rounds", r.bx, ROUNDS);
    check_equal("CS", r.ax & 0xffff, UCODE);
    check_equal("SS", r.si & 0xffff, UDATA);
    check_equal("ESP", r.bp, regs_user().sp);
    check_equal("flags of the frame", r.dx & (FLAG_CF | FLAG_DF | FLAG_AC), FLAG_CF | flags);
    check_equal("flags in the handler", r.di & (FLAG_CF | FLAG_DF | FLAG_IF),
                FLAG_CF | (flags & FLAG_DF) |
                    (type == GATE_TRAP ? regs_user().flags & FLAG_IF : 0));
    check_equal("flags afterwards", r.flags & (FLAG_DF | FLAG_AC), flags);
    check_equal("ESP afterwards", r.sp, regs_user().sp);
}

/* A segment register of ring 0 does not come along; one for everybody does. */
static void segments(void)
{
    struct regs r = regs_user();

    set_handler(CODE("push 0x10; pop es; push 0x10; pop fs; push 0x23; pop fs; iretd"),
                GATE_INTERRUPT);
    expect_done("segments of ring 0", &r, CODE(CALLS));
    check_equal("rounds", r.bx, ROUNDS);
    check_equal("ES", r.es & 0xffff, 0);
    check_equal("FS", r.fs & 0xffff, UDATA);
}

/* The handler changes where and how the program goes on. */
static void changed_frames(void)
{
    struct regs r = regs_user();

    set_handler(CODE("add dword ptr [esp], 1; xor dword ptr [esp + 8], 0x400; "
                     "sub dword ptr [esp + 12], 16; iretd"),
                GATE_INTERRUPT);
    expect_done("changed frames", &r,
                CODE("mov ecx, 8; 1: int 0x80; hlt; pushfd; pop eax; and eax, 0x400; "
                     "add ebx, eax; dec ecx; jnz 1b"));
    check_equal("DF in every other round", r.bx - regs_user().bx, ROUNDS / 2 * FLAG_DF);
    check_equal("ESP", r.sp, regs_user().sp - ROUNDS * 16);
    r = regs_user();
    set_handler(CODE("mov dword ptr [esp + 4], 8; iretd"), GATE_INTERRUPT);
    r.vector = 0;
    r.ip = (ulong)CODE("int 0x80").start;
    regs_run(&r);
    check_equal("CS of ring 0 with a stack of ring 3", r.vector, VECTOR_END);
}

/* The same code, before and after the gate is closed to programs. */
static void gates(void)
{
    struct regs r = regs_user();
    struct code code = CODE2("mov ecx, 5", "int 0x80; loop 662b");

    set_handler(CODE(HANDLER), GATE_INTERRUPT);
    expect_done("good gate", &r, code);
    idt[CALL] = gate_make(KCODE, CODE(HANDLER).start, GATE_INTERRUPT, 0);
    r = regs_user();
    expect_fault("gate of ring 0", &r, code, GP, CALL * 8 + 2);
}

static void within(void)
{
    struct regs r = regs_kernel();

    expect_done(
        "IRET within ring 0", &r,
        CODE("mov ecx, 8; xor ebx, ebx; 1: pushfd; push cs; lea eax, 2f; push eax; stc; "
             "or dword ptr [esp + 8], 0x40; and dword ptr [esp + 8], -2; iretd; "
             "2: jc 3f; jnz 3f; inc ebx; 3: dec ecx; jnz 1b"));
    check_equal("rounds", r.bx, ROUNDS);
    check_equal("ESP", r.sp, regs_kernel().sp);
}

static void fast_calls(void)
{
    struct regs r = regs_user();

    wrmsr(0x174, KCODE);
    wrmsr(0x175, (ulong)(kernel_stack + COUNT(kernel_stack)));
    wrmsr(0x176, (ulong)CODE("mov eax, cs; mov ebp, ss; mov esi, esp; pushfd; pop edi; "
                             "push edx; pop edx; sysexit")
                     .start);
    expect_done("SYSENTER and SYSEXIT", &r,
                CODE("mov ebx, 0; 1: mov ecx, esp; lea edx, 2f; stc; sysenter; ud2; "
                     "2: adc ebx, 0; cmp ebx, 8; jb 1b; mov edx, ss; mov ecx, cs"));
    check_equal("rounds", r.bx, ROUNDS);
    check_equal("CS", r.ax & 0xffff, KCODE);
    check_equal("SS", r.bp & 0xffff, KDATA);
    check_equal("ESP", r.si, (ulong)(kernel_stack + COUNT(kernel_stack)));
    check_equal("IF", r.di & FLAG_IF, 0);
    check_equal("CS afterwards", r.cx & 0xffff, UCODE);
    check_equal("SS afterwards", r.dx & 0xffff, UDATA);
    check_equal("ESP afterwards", r.sp, regs_user().sp);
    wrmsr(0x174, 0);
    r = regs_user();
    expect_fault("SYSENTER without a CS", &r, CODE("sysenter"), GP, 0);
}

void test(void)
{
    interrupts("interrupt gate", GATE_INTERRUPT, 0);
    interrupts("trap gate", GATE_TRAP, 0);
    interrupts("with DF", GATE_INTERRUPT, FLAG_DF);
    interrupts("with AC", GATE_INTERRUPT, FLAG_AC);
    segments();
    changed_frames();
    gates();
    within();
    fast_calls();
}
