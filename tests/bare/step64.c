/*
 * Single steps through what holds traps back or brings its own: shadows, INT1, general detect,
 * HLT, in ring 0 and in ring 3; and a data breakpoint that MOV SS carries into an INT.
 */
#include "lib/apic.h"
#include "lib/system.h"

#define DR6_CLEAR 0xffff0ff0ul
#define DR6_BS    0x4000ul
#define DR6_BD    0x2000ul
#define DR7_CLEAR 0x400ul

enum { MAX = 10 };
static ulong where[MAX], what[MAX];
static volatile unsigned count, breaks;
static ulong break_ip;
static u32 stack_selector = KDATA;

static void on_debug(struct regs *r)
{
    if (count < MAX) {
        where[count] = r->ip;
        what[count] = read_dr6();
    } else {
        r->flags &= ~FLAG_TF;
    }
    count++;
    write_dr6(DR6_CLEAR);
}

static void on_break(struct regs *r)
{
    breaks++;
    break_ip = r->ip;
}

struct step {
    unsigned at; /* bytes behind code.at */
    ulong dr6;
};

/* Runs code that switches TF on by a POPF, and off again by the last; the traps come where
 * `steps` says, which ends with a zero. */
static void expect_steps(const char *name, struct regs r, struct code code,
                         const struct step *steps)
{
    unsigned n = 0;

    r.ip = (ulong)code.start + (r.cs & 3 ? USER_BASE : 0);
    r.bx = FLAG_TF;
    r.dx = 0x80;
    count = 0;
    write_dr6(DR6_CLEAR);
    regs_run(&r);
    check_equal(name, r.vector, VECTOR_END);
    for (; steps[n].dr6; n++) {
        ulong at = (ulong)code.at + steps[n].at + (r.cs & 3 ? USER_BASE : 0);
        check_equal(name, n < count ? where[n] : 0, at);
        check_equal(name, n < count ? what[n] : 0, steps[n].dr6);
    }
    check_equal(name, count, n);
}

#define BS  (DR6_CLEAR | DR6_BS)
#define ON  "pushfq; or [rsp], rbx; popfq;"
#define OFF "pushfq; pop rax; and eax, ~0x100; push rax; popfq;" /* 1, 1, 5, 1 and 1 bytes */
#define BEHIND(n)                                                                              \
    {n + 1, BS}, {n + 2, BS}, {n + 7, BS}, {n + 8, BS}, {n + 9, BS},                           \
    {                                                                                          \
        0, 0                                                                                   \
    }

static void both_rings(const char *name, struct code code, const struct step *steps)
{
    struct regs r = regs_user();

    expect_steps(name, regs_kernel(), code, steps);
    r.flags |= FLAG_IOPL;
    expect_steps(name, r, code, steps);
}

static void steps(void)
{
    static const struct step plain[] = {BEHIND(0)};
    static const struct step sti[] = {{1, BS}, BEHIND(1)};
    static const struct step slow[] = {{2, BS}, {4, BS}, BEHIND(4)};
    static const struct step shadowed[] = {{3, BS}, BEHIND(3)};
    static const struct step icebp[] = {{3, DR6_CLEAR}, {4, DR6_CLEAR}, BEHIND(4)};
    static const struct step detect[] = {{2, DR6_CLEAR | DR6_BD}, {5, BS}, BEHIND(5)};
    static const struct step halted[] = {{1, BS}, {2, BS}, {3, BS}, BEHIND(3)};

    both_rings("steps", CODE2(ON, OFF), plain);
    both_rings("cpuid and in", CODE2("mov esi, edx;" ON, "cpuid; in al, 0x61;" OFF), slow);
    if (skip_tcg("shadows and int1", "QEMU steps behind STI, and knows no INT1 of its own"))
        return;
    both_rings("sti", CODE2(ON, "sti;" OFF), sti);
    both_rings("mov ss", CODE2("mov ecx, ss;" ON, "mov ss, ecx; nop;" OFF), shadowed);
    both_rings("mov ss and int1",
               CODE2("mov ecx, ss;" ON, "mov ss, ecx; .byte 0xf1; .byte 0xf1;" OFF), icebp);
    expect_steps("mov ss and general detect", regs_kernel(),
                 CODE2("mov ecx, ss; xor esi, esi; mov eax, 0x2400; mov dr7, rax;" ON,
                       "mov ss, ecx; mov dr6, rsi;" OFF),
                 detect);
    write_dr7(DR7_CLEAR);
    expect_steps("sti and hlt", regs_kernel(), CODE2(ON, "sti; hlt; cli;" OFF),
                 halted); /* nothing else would wake it */
}

/* The breakpoint on what MOV SS loads waits for the next instruction; where that is an INT, it
 * comes at the handler's first. */
static void carried(void)
{
    struct regs r = regs_kernel();
    struct code code;

    if (skip_tcg("a breakpoint carried by mov ss", "QEMU reports it at once"))
        return;
    idt_set_ist(BP, 0); /* one handler interrupts another */
    idt_set_ist(DB, 0);
    write_dr1((ulong)&stack_selector);
    write_dr7(DR7_CLEAR | 0xf0 << 16 | 0xa); /* DR1: 4 bytes, read or written */
    r.bx = (ulong)&stack_selector;
    code = CODE2("mov ss, [rbx]", "int3");
    count = breaks = 0;
    r.ip = (ulong)code.start;
    regs_run(&r);
    check_equal("int3: ends", r.vector, VECTOR_END);
    check_equal("int3: breakpoint traps", count, 1);
    check_equal("int3: INT3s", breaks, 1);
    check_equal("int3: RIP behind it", break_ip, (ulong)code.end);
    r = regs_kernel();
    r.bx = (ulong)&stack_selector;
    code = CODE2("mov ss, [rbx]", "int 1");
    count = 0;
    r.ip = (ulong)code.start;
    regs_run(&r);
    check_equal("int 1: ends", r.vector, VECTOR_END);
    check_equal("int 1: both", count, 2);
    r = regs_kernel();
    r.bx = (ulong)&stack_selector;
    code = CODE2("mov ss, [rbx]", ".byte 0x2e, 0x2e, 0xf1");
    count = 0;
    r.ip = (ulong)code.start;
    regs_run(&r);
    check_equal("int1: ends", r.vector, VECTOR_END);
    check_equal("int1: once", count, 1);
    write_dr7(DR7_CLEAR);
}

void test(void)
{
    trap_set(DB, on_debug);
    trap_set(BP, on_break);
    steps();
    carried();
}
