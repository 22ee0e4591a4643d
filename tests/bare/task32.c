/*
 * Hardware task switches: by jump, call, interrupt gate and IRET; nesting, busy bits, CR0.TS,
 * the debug trap, and each way a switch may fail (SDM 3A chapter 7).
 */
#include "lib/system.h"

enum {
    TASK_A = FREE, /* TSS of the other task */
    GATE = FREE + 8,
    TASK_16 = FREE + 16,
    SEG = FREE + 24,
    LDT = FREE + 32,
    HANDLER = FREE + 40,
};

struct tss {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, map;
};

struct tss16 {
    u16 link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags;
    u16 ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};

static struct tss other __attribute__((aligned(128)));
static struct tss handler __attribute__((aligned(128)));
static struct tss16 other16 __attribute__((aligned(128)));
static u8 task_stack[0x2000] __attribute__((aligned(4096)));

static struct tss *own(void)
{
    return (struct tss *)cpu_this()->tss;
}

static void far_pointer(u32 *at, u16 selector)
{
    at[0] = 0;
    at[1] = selector;
}

static unsigned type_of(u16 selector)
{
    return gdt_get(selector) >> 40 & 0x1f;
}

/* The other task runs `code` in ring 0. */
static void other_set(struct code code)
{
    other = (struct tss){.eip = (u32)code.start,
                         .eflags = 2,
                         .esp = (u32)task_stack + sizeof(task_stack) - 64,
                         .es = KDATA,
                         .cs = KCODE,
                         .ss = KDATA,
                         .ds = KDATA,
                         .map = sizeof(struct tss)};
    other.eax = 0xaaaa;
    other.edi = 0xdddd;
    gdt_set(TASK_A, segment((u32)&other, sizeof(other) - 1, 0x89));
    gdt_set(KTSS, segment((u32)own(), 103, 0x8b));
}

/* Back to a clean state: the library's TSS loaded, the other available. */
static void restore(void)
{
    gdt_set(KTSS, segment((u32)own(), 103, 0x89));
    asm volatile("ltr %w0" ::"r"(KTSS));
    gdt_set(TASK_A, segment((u32)&other, sizeof(other) - 1, 0x89));
    asm volatile("clts");
}

static u32 pointer[2];

static void jump(void)
{
    struct regs r = regs_kernel();
    struct code target = CODE("mov ebx, eax; mov ecx, cr0; str edx");
    struct code code = CODE("jmp fword ptr [ebx]");

    other_set(target);
    far_pointer(pointer, TASK_A);
    r.ip = (u32)code.start;
    r.bx = (u32)pointer;
    r.si = 0x5151;
    r.flags |= FLAG_CF;
    regs_run(&r);
    check_equal("the other task ends", r.vector, VECTOR_END);
    check_equal("its EIP", r.ip, (u32)target.end + 2);
    check_equal("its EAX", r.bx, 0xaaaa);
    check_equal("its EDI", r.di, 0xdddd);
    check("CR0.TS is set", r.cx & CR0_TS);
    check_equal("TR", r.dx, TASK_A);
    check_equal("the old task is available", type_of(KTSS), 0x09);
    check_equal("the new one busy", type_of(TASK_A), 0x0b);
    check_equal("no NT", r.flags & FLAG_NT, 0);
    check_equal("old EIP", own()->eip, (u32)code.end);
    check_equal("old ESI", own()->esi, 0x5151);
    check_equal("old EFLAGS", own()->eflags, 3);
    check_equal("old ESP", own()->esp, regs_kernel().sp);
    check_equal("old CS", own()->cs & 0xffff, KCODE);
    check_equal("no link", other.link, 0);
    restore();
}

static void call_and_return(void)
{
    struct regs r = regs_kernel();
    struct code target = CODE("mov ebx, 0x77; iretd");

    other_set(target);
    far_pointer(pointer, TASK_A);
    r.bx = (u32)pointer;
    expect_done("call of a task that returns", &r, CODE("call fword ptr [ebx]"));
    check_equal("own EBX is back", r.bx, (u32)pointer);
    check_equal("link to the caller", other.link & 0xffff, KTSS);
    check_equal("the task has its EBX saved", other.ebx, 0x77);
    check_equal("it would go on after its iret", other.eip, (u32)target.end);
    check_equal("its NT is clear in memory", other.eflags & FLAG_NT, 0);
    check_equal("available again", type_of(TASK_A), 0x09);
    check_equal("own TSS is busy", type_of(KTSS), 0x0b);
    restore();
    /* NT set while it runs, the caller stays busy */
    other_set(CODE("pushf; pop eax"));
    r = regs_kernel();
    r.bx = (u32)pointer;
    r.ip = (u32)CODE("call fword ptr [ebx]").start;
    regs_run(&r);
    check_equal("ended in the called task", r.vector, VECTOR_END);
    check("NT while nested", r.ax & FLAG_NT);
    check_equal("caller busy", type_of(KTSS), 0x0b);
    check_equal("callee busy", type_of(TASK_A), 0x0b);
    restore();
}

static void gates(void)
{
    struct regs r = regs_kernel();
    struct gate saved = idt[0x31], divide = idt[DE], general = idt[GP];

    other_set(CODE("iretd"));
    gdt_set(GATE, (u64)TASK_A << 16 | 0x85ull << 40);
    far_pointer(pointer, GATE);
    r.bx = (u32)pointer;
    expect_done("call through a task gate", &r, CODE("call fword ptr [ebx]"));
    check_equal("link", other.link & 0xffff, KTSS);
    restore();
    other_set(CODE("iretd"));
    idt[0x31].low = (u64)TASK_A << 16 | 0x85ull << 40;
    r = regs_kernel();
    expect_done("interrupt through a task gate", &r, CODE("int 0x31"));
    restore();
    idt[0x31].low = (u64)TASK_A << 16 | 0x05ull << 40;
    fault0("task gate not present", CODE("int 0x31"), NP, 0x31 * 8 + 2);
    idt[0x31] = saved;
    /* #DE by a task: the faulting EIP is saved, and no error code pushed */
    other_set(CODE("mov eax, [0x1234]"));
    idt[DE].low = (u64)TASK_A << 16 | 0x85ull << 40;
    r = regs_kernel();
    struct code code = CODE2("xor ecx, ecx", "div ecx");
    r.ip = (u32)code.start;
    regs_run(&r);
    check_equal("in the handler task", r.vector, VECTOR_END);
    check_equal("EIP of the fault", own()->eip, (u32)code.at);
    check_equal("stack of the handler unchanged", r.sp,
                (u32)task_stack + sizeof(task_stack) - 64);
    idt[DE] = divide;
    restore();
    other_set(CODE("pop ecx"));
    idt[GP].low = (u64)TASK_A << 16 | 0x85ull << 40;
    r = regs_kernel();
    code = CODE2("mov eax, 0x1f8", "mov ds, eax");
    r.ip = (u32)code.start;
    regs_run(&r);
    check_equal("error code on the handler's stack", r.cx, 0x1f8);
    check_equal("EIP of the fault", own()->eip, (u32)code.at);
    idt[GP] = general;
    restore();
}

/*
 * A fault of the new task: its segments may be unusable, so that only a task can handle it (SDM
 * 3A 6.15, #TS). The handler pops the error code.
 */
static void fault_in_new_task(const char *name, unsigned vector, ulong error)
{
    struct regs r = regs_kernel();
    struct gate saved = idt[vector];
    u32 start = other.eip;

    handler = (struct tss){.eip = (u32)CODE("pop ecx").start,
                           .eflags = 2,
                           .esp = (u32)task_stack + 0x800,
                           .es = KDATA,
                           .cs = KCODE,
                           .ss = KDATA,
                           .ds = KDATA,
                           .map = sizeof(struct tss)};
    gdt_set(HANDLER, segment((u32)&handler, sizeof(handler) - 1, 0x89));
    idt[vector].low = (u64)HANDLER << 16 | 0x85ull << 40;
    far_pointer(pointer, TASK_A);
    r.bx = (u32)pointer;
    r.ip = (u32)CODE("jmp fword ptr [ebx]").start;
    regs_run(&r);
    idt[vector] = saved;
    check_equal(name, r.vector, VECTOR_END);
    check_equal(name, r.cx, error);
    check_equal("the fault is in the new task", handler.link & 0xffff, TASK_A);
    check_equal("before its first instruction", other.eip, start);
    restore();
}

static void fault_in_old_task(const char *name, u16 selector, unsigned vector, ulong error)
{
    struct regs r = regs_kernel();

    far_pointer(pointer, selector);
    r.bx = (u32)pointer;
    expect_fault(name, &r, CODE("jmp fword ptr [ebx]"), vector, error);
    r = regs_kernel();
    r.bx = (u32)pointer;
    expect_fault(name, &r, CODE("call fword ptr [ebx]"), vector, error);
    restore();
}

static void failures(void)
{
    struct code code = CODE("nop");

    other_set(code);
    gdt_set(TASK_A, segment((u32)&other, 102, 0x89));
    fault_in_old_task("TSS too small", TASK_A, TS, TASK_A);
    gdt_set(TASK_A, segment((u32)&other, 103, 0x8b));
    fault_in_old_task("busy TSS", TASK_A, GP, TASK_A);
    gdt_set(TASK_A, segment((u32)&other, 103, 0x09));
    fault_in_old_task("TSS not present", TASK_A, NP, TASK_A);
    other_set(code);
    fault_in_old_task("RPL above the DPL", TASK_A | 1, GP, TASK_A);
    gdt_set(GATE, (u64)0x1f8 << 16 | 0x85ull << 40);
    fault_in_old_task("task gate to nothing", GATE, GP, 0x1f8);
    gdt_set(GATE, (u64)TASK_A << 16 | 0x05ull << 40);
    fault_in_old_task("task gate not present", GATE, NP, GATE);
    gdt_set(GATE, (u64)0x4 << 16 | 0x85ull << 40);
    if (!skip_tcg("task gate into the LDT", "QEMU gives #TS"))
        fault_in_old_task("task gate into the LDT", GATE, GP, 0x4);
    gdt_set(GATE, (u64)KDATA << 16 | 0x85ull << 40);
    fault_in_old_task("task gate to data", GATE, GP, KDATA);
}

static void new_task_failures(void)
{
    struct code code = CODE("nop");

    if (skip_tcg("faults in the new task", "QEMU saves the EIP of the old one"))
        return;
    other_set(code);
    other.cs = KDATA;
    fault_in_new_task("CS is data", TS, KDATA);
    other_set(code);
    other.cs = 0;
    fault_in_new_task("CS is null", TS, 0);
    other_set(code);
    other.cs = 0x1f8;
    fault_in_new_task("CS is empty", TS, 0x1f8);
    other_set(code);
    gdt_set(SEG, segment(0, 0xfffff, (SEG_CODE & ~0x80) | SEG_32 | SEG_4K));
    other.cs = SEG;
    fault_in_new_task("CS not present", NP, SEG);
    other_set(code);
    other.ss = UDATA;
    fault_in_new_task("SS of another ring", TS, UDATA & ~3);
    other_set(code);
    other.ss = 0;
    fault_in_new_task("SS is null", TS, 0);
    other_set(code);
    other.ss = KCODE;
    fault_in_new_task("SS is code", TS, KCODE);
    gdt_set(SEG, segment(0, 0xfffff, (SEG_DATA & ~0x80) | SEG_32 | SEG_4K));
    other_set(code);
    other.ss = SEG;
    fault_in_new_task("SS not present", SS, SEG);
    other_set(code);
    other.ds = SEG;
    fault_in_new_task("DS not present", NP, SEG);
    other_set(code);
    other.gs = 0x1f8;
    fault_in_new_task("GS is empty", TS, 0x1f8);
    other_set(code);
    other.es = KTSS;
    fault_in_new_task("ES is a TSS", TS, KTSS);
    other_set(code);
    other.ldt = KDATA;
    fault_in_new_task("LDT is data", TS, KDATA);
    other_set(code);
    gdt_set(LDT, segment(0, 7, 0x02));
    other.ldt = LDT;
    fault_in_new_task("LDT not present", TS, LDT);
    other_set(code);
    other.ldt = 0x0c;
    fault_in_new_task("LDT in the LDT", TS, 0x0c);
    other_set(code);
    gdt_set(SEG, segment(0, 0xfff, SEG_CODE | SEG_32));
    other.cs = SEG;
    fault_in_new_task("EIP beyond the limit", GP, 0);
}

static void iret_failures(void)
{
    struct regs r;

    gdt_set(TASK_A, segment((u32)&other, 103, 0x89));
    own()->link = TASK_A;
    r = regs_kernel();
    r.flags |= FLAG_NT;
    expect_fault("iret to a task that is not busy", &r, CODE("iretd"), TS, TASK_A);
    own()->link = 0x4;
    r = regs_kernel();
    r.flags |= FLAG_NT;
    expect_fault("iret to an LDT selector", &r, CODE("iretd"), TS, 4);
    own()->link = KDATA;
    r = regs_kernel();
    r.flags |= FLAG_NT;
    expect_fault("iret to data", &r, CODE("iretd"), TS, KDATA);
    own()->link = 0;
}

/* From ring 0 to a task in ring 3, and the debug trap on entry. */
static void others(void)
{
    struct regs r;
    struct code code = CODE("nop");

    other_set(code);
    other.cs = UCODE32;
    other.ss = other.ds = UDATA;
    other.es = other.fs = other.gs = 0;
    other.esp0 = tss_stack();
    other.ss0 = KDATA;
    other.eflags = 2 | FLAG_IOPL;
    far_pointer(pointer, TASK_A);
    r = regs_kernel();
    r.bx = (u32)pointer;
    r.ip = (u32)CODE("jmp fword ptr [ebx]").start;
    regs_run(&r);
    check_equal("task in ring 3", r.vector, VECTOR_END);
    check_equal("its CS", r.cs, UCODE32);
    check_equal("its IOPL", r.flags & FLAG_IOPL, FLAG_IOPL);
    restore();

    other_set(code);
    other.trap = 1;
    write_dr6(0xffff0ff0);
    r = regs_kernel();
    r.bx = (u32)pointer;
    r.ip = (u32)CODE("jmp fword ptr [ebx]").start;
    regs_run(&r);
    if (!skip_tcg("T bit", "QEMU does not trap")) {
        check_equal("debug trap of the T bit", r.vector, DB);
        check_equal("before the first instruction", r.ip, (u32)code.start);
        check_equal("DR6.BT", read_dr6() & 0xe00f, 0x8000);
    }
    other.trap = 0;
    write_dr6(0xffff0ff0);
    restore();

    /* local breakpoint enables are cleared, global ones stay */
    write_dr0((u32)&other);
    write_dr7(0x400 | 1 | 8);
    other_set(code);
    r = regs_kernel();
    r.bx = (u32)pointer;
    r.ip = (u32)CODE("jmp fword ptr [ebx]").start;
    regs_run(&r);
    check_equal("local enables cleared by the switch", read_dr7() & 0xff, 8);
    write_dr7(0x400);
    restore();
}

static void task16(void)
{
    struct code target = CODE16("mov bx, ax; str dx; iret");
    struct regs r = regs_kernel();

    /* the code lies above 64 KiB: a segment whose base is its page */
    gdt_set(SEG, segment((u32)target.start & ~0xfffu, 0xffff, SEG_CODE));
    other16 = (struct tss16){.ip = (u32)target.start & 0xfff,
                             .flags = 2,
                             .ax = 0x1616,
                             .sp = 0x1000,
                             .ss = KDATA,
                             .cs = SEG,
                             .ds = KDATA,
                             .es = KDATA};
    gdt_set(TASK_16, segment((u32)&other16, sizeof(other16) - 1, 0x81));
    gdt_set(KTSS, segment((u32)own(), 103, 0x8b));
    far_pointer(pointer, TASK_16);
    r.bx = (u32)pointer;
    r.si = 0x12345678;
    expect_done("call of a 16-bit task", &r, CODE("call fword ptr [ebx]"));
    check_equal("own ESI is back", r.si, 0x12345678);
    check_equal("its AX", other16.bx, 0x1616);
    check_equal("TR", other16.dx, TASK_16);
    check_equal("link", other16.link, KTSS);
    check_equal("available again", type_of(TASK_16), 0x01);
    restore();
    gdt_set(TASK_16, segment((u32)&other16, 0x2a, 0x81));
    fault_in_old_task("16-bit TSS too small", TASK_16, TS, TASK_16);
}

/* A stack in the TSS that cannot be used, seen when ring 3 interrupts. */
static void inner_stack(void)
{
    struct regs r = regs_user();
    u32 good = own()->ss0, esp0 = own()->esp0;
    struct gate saved = idt[TS];
    static const struct {
        const char *name;
        u16 ss0;
        unsigned vector;
    } cases[] = {
        {"SS0 null", 0, TS},          {"SS0 with RPL 3", KDATA | 3, TS},
        {"SS0 is code", KCODE, TS},   {"SS0 of DPL 3", UDATA & ~3, TS},
        {"SS0 not present", SEG, SS}, {"SS0 empty", 0x1f8, TS},
    };

    /* the handler of the stack fault needs a stack: a task */
    gdt_set(SEG, segment(0, 0xfffff, (SEG_DATA & ~0x80) | SEG_32 | SEG_4K));
    for (unsigned i = 0; i < COUNT(cases); i++) {
        struct gate old = idt[cases[i].vector];
        struct code code = CODE("int3");

        if (cases[i].vector == SS && skip_tcg(cases[i].name, "QEMU gives #TS"))
            continue;
        other_set(CODE("pop ecx"));
        idt[cases[i].vector].low = (u64)TASK_A << 16 | 0x85ull << 40;
        own()->ss0 = cases[i].ss0;
        own()->esp0 = esp0;
        r = regs_user();
        r.ip = (u32)code.start;
        regs_run(&r);
        own()->ss0 = good;
        check_equal(cases[i].name, r.vector, VECTOR_END);
        check_equal(cases[i].name, r.cx, cases[i].ss0 & ~3);
        check_equal("EIP of the int3", own()->eip, (u32)code.start);
        idt[cases[i].vector] = old;
        restore();
    }
    idt[TS] = saved;
}

/* A double fault as a task: a stack that is lost. */
static void double_fault(void)
{
    struct gate saved = idt[DF];
    struct regs r = regs_kernel();
    struct code code = CODE("ud2");
    struct gate ud = idt[UD], np = idt[NP];

    other_set(CODE("pop ecx"));
    idt[DF].low = (u64)TASK_A << 16 | 0x85ull << 40;
    idt[UD].low = 0;
    idt[NP].low = 0;
    idt[GP].low &= ~(0x80ull << 40);
    r.ip = (u32)code.start;
    r.cx = 1;
    regs_run(&r);
    idt[GP].low |= 0x80ull << 40;
    idt[UD] = ud;
    idt[NP] = np;
    idt[DF] = saved;
    check_equal("double fault task", r.vector, VECTOR_END);
    check_equal("error code 0", r.cx, 0);
    restore();
}

void test(void)
{
    jump();
    call_and_return();
    gates();
    failures();
    new_task_failures();
    iret_failures();
    others();
    task16();
    inner_stack();
    double_fault();
}
