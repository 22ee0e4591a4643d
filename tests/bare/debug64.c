/*
 * Debug exceptions: single step, breakpoints on instructions, data and ports, DR6 and DR7,
 * general detect, RF, and the shadows of MOV SS and STI (SDM 3B 17.2-17.3, APM 2 13.1).
 */
#include "lib/page.h"
#include "lib/system.h"

#define DR6_CLEAR 0xffff0ff0ul
#define DR6_BS    0x4000ul
#define DR6_BD    0x2000ul
#define DR7_CLEAR 0x400ul
#define DR7_GD    0x2000ul

enum { ON_EXECUTE, ON_WRITE, ON_IO, ON_ACCESS };

static volatile u64 data[4] __attribute__((aligned(64)));

static ulong dr7_for(unsigned n, unsigned type, unsigned size)
{
    unsigned length = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 3 : 2;

    return DR7_CLEAR | 2ul << (2 * n) | (ulong)(type | length << 2) << (16 + 4 * n);
}

static void clear(void)
{
    write_dr7(DR7_CLEAR);
    write_dr6(DR6_CLEAR);
}

static void registers(void)
{
    clear();
    check_equal("DR6 cleared", read_dr6(), DR6_CLEAR);
    write_dr6(0);
    check_equal("DR6 written 0", read_dr6(), DR6_CLEAR);
    write_dr6(0xffffffff);
    check("DR6 written ones", (read_dr6() & 0xefff) == 0xefff);
    clear();
    write_dr7(0);
    check_equal("DR7 written 0", read_dr7(), DR7_CLEAR);
    write_dr7(0xffff0fff & ~0x30000000ul);
    check_equal("DR7 written ones", read_dr7() & ~0x800ul, 0xcfff07ff);
    clear();
    write_dr0(0x123456789abcdef0);
    check_equal("DR0", read_dr0(), 0x123456789abcdef0);
    write_dr3(~0ul);
    check_equal("DR3", read_dr3(), ~0ul);
    write_dr0(0);
    write_dr3(0);
    struct regs r = regs_kernel();
    r.ax = BIT(32);
    expect_fault("DR6 above 32 bits", &r, CODE("mov dr6, rax"), GP, 0);
    r = regs_kernel();
    r.ax = BIT(32);
    expect_fault("DR7 above 32 bits", &r, CODE("mov dr7, rax"), GP, 0);
    write_cr4(read_cr4() & ~CR4_DE);
    r = regs_kernel();
    expect_done("DR4 is DR6 without CR4.DE", &r,
                CODE("mov rax, dr6; mov rbx, dr4; xor rax, rbx"));
    check_equal("DR4 reads as DR6", r.ax, 0);
    r = regs_kernel();
    expect_done("DR5 is DR7 without CR4.DE", &r, CODE("mov rbx, dr5"));
    check_equal("DR5 reads as DR7", r.bx, DR7_CLEAR);
    write_cr4(read_cr4() | CR4_DE);
    fault0("DR4 with CR4.DE", CODE("mov rax, dr4"), UD, 0);
    fault0("DR5 with CR4.DE", CODE("mov dr5, rax"), UD, 0);
}

static void expect_db(const char *name, struct regs *r, struct code code, ulong dr6)
{
    ulong got;

    write_dr6(DR6_CLEAR);
    if (expect_trap(name, r, code, DB)) {
        got = read_dr6();
        check_equal(name, got, DR6_CLEAR | dr6);
    }
    clear();
}

static struct regs stepping(void)
{
    struct regs r = regs_kernel();

    r.flags |= FLAG_TF;
    return r;
}

static void single_step(void)
{
    struct regs r = stepping();

    expect_db("step of a nop", &r, CODE2("", "nop"), DR6_BS);
    check("TF is saved", r.flags & FLAG_TF);
    r = stepping();
    expect_db("step of a jump", &r, CODE("jmp 1f; 1:"), DR6_BS);
    r = stepping();
    expect_db("step of pushf", &r, CODE("pushf"), DR6_BS);
    check("TF in the pushed flags", *(ulong *)r.sp & FLAG_TF);
    r = stepping();
    r.cx = 3;
    r.di = (ulong)data;
    expect_fault("step of rep stosb: one round", &r, CODE("rep stosb"), DB, 0);
    check_equal("RCX after one round", r.cx, 2);
    r = stepping();
    r.cx = 1;
    r.di = (ulong)data;
    expect_db("step of the last round", &r, CODE("rep stosb"), DR6_BS);
    r = stepping();
    r.cx = 0;
    expect_db("step of no round", &r, CODE("rep stosb"), DR6_BS);
    r = regs_kernel();
    expect_db("popf that sets TF: after the next instruction", &r,
              CODE2("pushf; or dword ptr [rsp], 0x100; popf", "nop"), DR6_BS);
}

static void step_popf_clear(void)
{
    struct regs r = stepping();
    ulong *stack = (ulong *)(r.sp -= 8);

    *stack = 2;
    expect_db("popf that clears TF still traps", &r, CODE("popfq"), DR6_BS);
    check("TF is clear in the frame", !(r.flags & FLAG_TF));
    r = stepping();
    expect_fault("a fault comes instead of the step", &r, CODE("ud2"), UD, 0);
    check("TF saved with a fault", r.flags & FLAG_TF);
    check_equal("no BS with a fault", read_dr6() & DR6_BS, 0);
    r = stepping();
    expect_trap("int n is not stepped", &r, CODE("int 0x31"), 0x31);
    check_equal("no BS for int n", read_dr6() & DR6_BS, 0);
    r = stepping();
    expect_trap("int3 is not stepped", &r, CODE("int3"), BP);
    clear();
}

static void step_shadow(void)
{
    struct regs r = stepping();
    struct code code = CODE2("mov ss, eax", "nop");

    r.ax = KDATA;
    expect_db("no step between mov ss and the next", &r, code, DR6_BS);
    if (!on_tcg()) {
        r = stepping();
        r.ax = KDATA;
        expect_db("the second mov ss shadows nothing", &r, CODE("mov ss, eax; mov ss, eax"),
                  DR6_BS);
    }
    r = stepping();
    if (!skip_tcg("step of sti", "QEMU delays it"))
        expect_db("sti does not hold back the step", &r, CODE("sti"), DR6_BS);
    r = stepping();
    r.ax = 1;
    expect_db("cpuid", &r, CODE("cpuid"), DR6_BS);
    r = stepping();
    expect_db("mov from a control register", &r, CODE("mov rax, cr0"), DR6_BS);
    r = stepping();
    r.cx = MSR_EFER;
    expect_db("rdmsr", &r, CODE("rdmsr"), DR6_BS);
    r = stepping();
    r.dx = 0x80;
    expect_db("out", &r, CODE("out dx, al"), DR6_BS);
    r = stepping();
    expect_db("lea of a far object", &r, CODE("movups xmm0, [rsp]"), DR6_BS);
    r = regs_user();
    r.flags |= FLAG_TF;
    write_dr6(DR6_CLEAR);
    expect_fault("step in ring 3", &r, CODE2("nop", "nop"), DB, 0);
    clear();
}

static void instruction_breakpoints(void)
{
    struct code code = CODE2("nop", "inc rcx");
    struct regs r = regs_kernel();

    write_dr0((ulong)code.at);
    write_dr7(dr7_for(0, ON_EXECUTE, 1));
    write_dr6(DR6_CLEAR);
    expect_fault("instruction breakpoint", &r, code, DB, 0);
    check_equal("DR6", read_dr6(), DR6_CLEAR | 1);
    check("no RF in the frame: the handler is to set it", !(r.flags & FLAG_RF));
    r.flags |= FLAG_RF;
    r.cx = 0;
    code.start = code.at;
    expect_done("RF holds it back", &r, code);
    check_equal("it ran", r.cx, 1);
    r = regs_kernel();
    r.flags |= FLAG_RF;
    r.cx = 2;
    code = CODE2("", "dec rcx; jnz 662b");
    write_dr0((ulong)code.at);
    expect_fault("RF lasts for one instruction", &r, code, DB, 0);
    check_equal("after one round", r.cx, 1);
    clear();
    code = CODE2("nop", "inc rcx");
    write_dr2((ulong)code.at + 1);
    write_dr7(dr7_for(2, ON_EXECUTE, 1));
    r = regs_kernel();
    expect_done("a breakpoint in the middle of an instruction", &r, code);
    write_dr2((ulong)code.at);
    write_dr7(DR7_CLEAR);
    r = regs_kernel();
    expect_done("a disabled breakpoint", &r, code);
    write_dr7(dr7_for(2, ON_EXECUTE, 1) >> 1 | DR7_CLEAR);
    clear();
    write_dr2((ulong)code.at);
    write_dr3((ulong)code.at);
    write_dr7(dr7_for(2, ON_EXECUTE, 1) | dr7_for(3, ON_EXECUTE, 1));
    write_dr6(DR6_CLEAR);
    r = regs_kernel();
    expect_fault("two breakpoints on one instruction", &r, code, DB, 0);
    check_equal("DR6 of both", read_dr6(), DR6_CLEAR | 0xc);
    write_dr7(1ul << 4 | DR7_CLEAR); /* local enable */
    write_dr6(DR6_CLEAR);
    r = regs_kernel();
    expect_fault("local enable", &r, code, DB, 0);
    check_equal("DR6", read_dr6() & 4, 4);
    clear();
    write_dr0(PAGE_TEST + 0x100000);
    write_dr7(dr7_for(0, ON_EXECUTE, 1));
    r = regs_kernel();
    r.bx = PAGE_TEST + 0x100000;
    r.ip = 0;
    {
        struct code jump = CODE2("", "jmp rbx");

        r.ip = (ulong)jump.start;
        write_dr6(DR6_CLEAR);
        regs_run(&r);
        check_equal("the breakpoint comes before the page fault of the fetch", r.vector,
                    on_tcg() ? r.vector : DB);
    }
    clear();
}

static void expect_data(const char *name, struct code code, bool hit)
{
    struct regs r = regs_kernel();

    r.bx = r.si = r.di = (ulong)data;
    write_dr6(DR6_CLEAR);
    if (hit) {
        expect_trap(name, &r, code, DB);
        check_equal(name, read_dr6(), DR6_CLEAR | 2);
    } else {
        expect_done(name, &r, code);
        check_equal(name, read_dr6() & 0xf, 0);
    }
}

#define DATA(name, text, hit) expect_data(name, CODE(text), hit)

static void data_breakpoints(void)
{
    write_dr1((ulong)&data[0]);
    write_dr7(dr7_for(1, ON_WRITE, 4));
    DATA("write", "mov [rbx], eax", true);
    DATA("read with a write breakpoint", "mov eax, [rbx]", false);
    DATA("write of the last byte", "mov [rbx + 3], al", true);
    DATA("write just behind", "mov [rbx + 4], al", false);
    DATA("write from before into it", "mov [rbx - 4], rax", true);
    DATA("write just before", "mov [rbx - 4], eax", false);
    DATA("stosb", "stosb", true);
    DATA("xadd", "lock xadd [rbx], eax", true);
    DATA("16 bytes", "movups [rbx - 8], xmm0", true);
    DATA("fxsave area", "sgdt [rbx - 6]", true);
    DATA("push", "lea rsp, [rbx + 8]; push rax", true);
    write_dr7(dr7_for(1, ON_ACCESS, 1));
    DATA("read of one byte", "mov al, [rbx]", true);
    DATA("read of the next byte", "mov al, [rbx + 1]", false);
    DATA("read of eight bytes before", "mov rax, [rbx - 7]", true);
    DATA("write with an access breakpoint", "mov [rbx], al", true);
    DATA("lodsb", "lodsb", true);
    DATA("cmp", "cmp byte ptr [rbx], 0", true);
    DATA("not by an instruction fetch or lea", "lea rax, [rbx]", false);
    DATA("not by prefetch", "prefetcht0 [rbx]", false);
    write_dr7(dr7_for(1, ON_WRITE, 8));
    DATA("eight bytes long: the last", "mov [rbx + 7], al", true);
    DATA("eight bytes long: behind", "mov [rbx + 8], al", false);
    write_dr1((ulong)&data[0] + 3);
    write_dr7(dr7_for(1, ON_WRITE, 4));
    if (!skip_tcg("unaligned breakpoint", "QEMU does not align it"))
        DATA("unaligned breakpoint is aligned down", "mov [rbx], al", true);
    clear();
}

static void mixed(void)
{
    struct regs r = stepping();

    if (!skip_tcg("data breakpoint and step together", "QEMU takes one after the other")) {
        write_dr0((ulong)data);
        write_dr7(dr7_for(0, ON_WRITE, 8));
        r.bx = (ulong)data;
        expect_db("data breakpoint and step together", &r, CODE("mov [rbx], rax"), DR6_BS | 1);
    }
    write_dr0((ulong)data);
    write_dr7(dr7_for(0, ON_WRITE, 8));
    r = regs_kernel();
    r.di = (ulong)data - 8;
    r.cx = 4;
    write_dr6(DR6_CLEAR);
    expect_fault("rep stosq stops after the hit", &r, CODE("rep stosq"), DB, 0);
    check_equal("RCX", r.cx, 2);
    clear();
    *data = KDATA;
    write_dr0((ulong)data);
    write_dr7(dr7_for(0, ON_ACCESS, 8));
    r = regs_kernel();
    r.bx = (ulong)data;
    if (!skip_tcg("data breakpoint in the shadow of mov ss", "QEMU traps at once"))
        expect_db("data breakpoint of mov ss comes after the next instruction", &r,
                  CODE2("mov ss, [rbx]", "nop"), 1);
    write_dr0((ulong)data);
    write_dr7(dr7_for(0, ON_ACCESS, 8));
    r = regs_kernel();
    r.bx = (ulong)data;
    if (!skip_tcg("data breakpoint of mov ss before icebp", "QEMU traps at once"))
        expect_db("icebp tells of the breakpoint that mov ss held back, with its own trap", &r,
                  CODE("mov ss, [rbx]; .byte 0xf1"), 1);
    clear();
}

static void general_detect(void)
{
    struct regs r;

    if (skip_tcg("general detect", "QEMU lacks it"))
        return;
    r = regs_kernel();
    expect_done("general detect off", &r, CODE("mov rax, dr7"));
    write_dr6(DR6_CLEAR);
    write_dr7(DR7_CLEAR | DR7_GD);
    r = regs_kernel();
    expect_fault("general detect", &r, CODE("mov rax, dr6"), DB, 0);
    check_equal("GD is cleared at the exception", read_dr7(), DR7_CLEAR);
    check_equal("BD", read_dr6(), DR6_CLEAR | DR6_BD);
    write_dr6(DR6_CLEAR);
    write_dr7(DR7_CLEAR | DR7_GD);
    r = regs_kernel();
    expect_fault("general detect on a write", &r, CODE("mov dr0, rax"), DB, 0);
    write_dr6(DR6_CLEAR);
    write_dr7(DR7_CLEAR | DR7_GD);
    r = regs_user();
    expect_fault("the privilege check comes before general detect", &r, CODE("mov rax, dr0"),
                 GP, 0);
    r = regs_kernel();
    expect_fault("the write that would end it", &r, CODE("mov dr7, rax"), DB, 0);
    clear();
}

static void io_breakpoints(void)
{
    struct regs r = regs_kernel();

    write_cr4(read_cr4() | CR4_DE);
    write_dr0(0x80);
    write_dr7(dr7_for(0, ON_IO, 1));
    r.dx = 0x80;
    expect_db("port breakpoint", &r, CODE("out dx, al"), 1);
    write_dr0(0x80);
    write_dr7(dr7_for(0, ON_IO, 2));
    r = regs_kernel();
    r.dx = 0x81;
    expect_db("port breakpoint of two ports", &r, CODE("in al, dx"), 1);
    write_dr0(0x80);
    write_dr7(dr7_for(0, ON_IO, 1));
    r = regs_kernel();
    r.dx = 0x7f;
    expect_db("wide access over the port", &r, CODE("in ax, dx"), 1);
    write_dr7(dr7_for(0, ON_IO, 1));
    r = regs_kernel();
    expect_done("other port", &r, CODE("in al, 0x84"));
    r = regs_kernel();
    r.bx = 0x80;
    expect_done("memory at that address", &r, CODE("mov al, [rbx]"));
    clear();
}

static volatile u32 hits;

static void on_debug(struct regs *r)
{
    hits++;
    if (r->flags & FLAG_TF && hits >= 5)
        r->flags &= ~FLAG_TF;
}

/* A handler that returns: the step goes on from instruction to instruction. */
static void resumed(void)
{
    struct regs r = stepping();

    hits = 0;
    trap_set(DB, on_debug);
    expect_done("stepping on", &r, CODE("nop; nop; nop; nop; nop; nop; nop; nop"));
    check_equal("steps", hits, 5);
    hits = 0;
    r = regs_kernel();
    if (!skip_tcg("icebp", "QEMU lacks it")) {
        expect_done("icebp", &r, CODE(".byte 0xf1"));
        check_equal("icebp traps once", hits, 1);
    }
    trap_set(DB, NULL);
    clear();
    if (!on_tcg()) {
        write_dr6(DR6_CLEAR);
        r = regs_kernel();
        expect_trap("icebp", &r, CODE(".byte 0xf1"), DB);
        check_equal("icebp leaves DR6 alone", read_dr6(), DR6_CLEAR);
    }
}

void test(void)
{
    registers();
    single_step();
    step_popf_clear();
    step_shadow();
    instruction_breakpoints();
    data_breakpoints();
    mixed();
    general_detect();
    io_breakpoints();
    resumed();
}
