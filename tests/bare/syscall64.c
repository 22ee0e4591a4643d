/*
 * SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS and the FS and GS bases: in 64-bit and in
 * compatibility mode, with what differs between the vendors (SDM 2, APM 3).
 */
#include "lib/page.h"
#include "lib/system.h"

#define NON_CANONICAL 0x800000000000ul
#define STAR          ((u64)(UCODE32 & ~3) << 48 | (u64)KCODE << 32)

/* The kernel's side of SYSCALL: ends at once, on the user's stack. */
static void target_set(struct code code)
{
    wrmsr(MSR_LSTAR, (ulong)code.start);
    wrmsr(MSR_CSTAR, (ulong)code.start);
}

static void syscall_user(void)
{
    struct code target = CODE("mov edx, cs; mov ebx, ss; pushfq; pop rsi");
    struct code caller = CODE("syscall");
    struct regs r = regs_user();

    target_set(target);
    wrmsr(MSR_STAR, STAR);
    wrmsr(MSR_SFMASK, FLAG_IF | FLAG_DF | FLAG_CF | FLAG_TF);
    r.sp -= USER_BASE; /* the kernel's view of the same stack */
    r.ip = (ulong)caller.start + USER_BASE;
    r.flags |= FLAG_DF | FLAG_CF | FLAG_ZF | FLAG_AC;
    regs_run(&r);
    check_equal("syscall ends in the kernel", r.vector, VECTOR_END);
    check_equal("RIP", r.ip, (ulong)target.end + 2);
    check_equal("CS", r.dx, KCODE);
    check_equal("SS", r.bx, KCODE + 8);
    check_equal("RCX is the return address", r.cx, (ulong)caller.end + USER_BASE);
    check_equal("R11 is the old RFLAGS", r.r11, 2 | FLAG_DF | FLAG_CF | FLAG_ZF | FLAG_AC);
    check_equal("masked flags", r.si | (on_tcg() ? FLAG_ZF : 0), 2 | FLAG_ZF | FLAG_AC);
    r = regs_kernel();
    r.ip = (ulong)caller.start;
    regs_run(&r);
    check_equal("syscall in ring 0", r.vector, VECTOR_END);
    check_equal("RCX", r.cx, (ulong)caller.end);
    /* the fixed attributes: base and limit are flat whatever the descriptors say */
    wrmsr(MSR_STAR, (u64)(UCODE32 & ~3) << 48 | (u64)(KCODE | 3) << 32);
    r = regs_user();
    r.sp -= USER_BASE;
    r.ip = (ulong)caller.start + USER_BASE;
    regs_run(&r);
    check_equal("RPL of STAR is ignored", r.dx, KCODE);
    check_equal("in SS, too", r.bx & ~3, KDATA);
    wrmsr(MSR_STAR, STAR);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SCE);
    r = regs_user();
    expect_fault("syscall with SCE off", &r, CODE("syscall"), UD, 0);
    fault0("sysret with SCE off", CODE("sysretq"), UD, 0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
}

static void syscall_compat(void)
{
    struct code target = CODE("mov edx, cs; mov ebx, ss");
    struct code caller = CODE32("syscall");
    struct regs r = regs_user();

    wrmsr(MSR_CSTAR, (ulong)target.start);
    wrmsr(MSR_LSTAR, 0x1234);
    r.cs = UCODE32;
    r.sp -= USER_BASE;
    if (cpu_is_intel()) {
        expect_fault("syscall in compatibility mode", &r, caller, UD, 0);
        return;
    }
    r.ip = (ulong)caller.start + USER_BASE;
    regs_run(&r);
    check_equal("syscall from compatibility mode goes to CSTAR", r.vector, VECTOR_END);
    check_equal("RIP", r.ip, (ulong)target.end + 2);
    check_equal("CS", r.dx, KCODE);
    check_equal("RCX", r.cx, (ulong)caller.end + USER_BASE);
}

static void sysret(void)
{
    struct code landing = CODE("mov eax, cs; mov ebx, ss; pushfq; pop rsi");
    struct code landing32 = CODE32("mov eax, cs; mov ebx, ss; mov edx, esp");
    struct regs r = regs_kernel();
    struct code back = CODE("sysretq"), back32 = CODE(".byte 0x0f, 0x07");

    wrmsr(MSR_STAR, STAR);
    r.sp = regs_user().sp;
    r.cx = (ulong)landing.start + USER_BASE;
    r.r11 = 2 | FLAG_CF | FLAG_AC | FLAG_ID | FLAG_RF | FLAG_VM | FLAG_IOPL;
    r.ip = (ulong)back.start;
    regs_run(&r);
    check_equal("sysret to 64-bit code", r.vector, VECTOR_END);
    check_equal("RIP", r.ip, (ulong)landing.end + 2 + USER_BASE);
    check_equal("CS", r.ax, UCODE64);
    check_equal("SS", r.bx, UDATA);
    check_equal("CS in the frame", r.cs, UCODE64);
    check_equal("RSP unchanged", r.sp, regs_user().sp);
    check_equal("RFLAGS from R11", r.si & ~FLAG_RF,
                2 | FLAG_CF | FLAG_AC | FLAG_ID | FLAG_IOPL);
    r = regs_kernel();
    r.sp = regs_user().sp;
    r.cx = ((ulong)landing32.start + USER_BASE) | 0xabcd00000000;
    r.r11 = 2;
    r.ip = (ulong)back32.start;
    regs_run(&r);
    check_equal("sysret to compatibility code", r.vector, VECTOR_END);
    check_equal("CS", r.ax, UCODE32);
    check_equal("SS", r.bx, UDATA);
    check_equal("EIP is 32 bits of RCX", r.ip, (ulong)landing32.end + 2 + USER_BASE);
    r = regs_user();
    expect_fault("sysret in ring 3", &r, CODE("sysretq"), GP, 0);
    if (skip_tcg("sysret to a non-canonical address", "QEMU has the AMD way without its fault"))
        return;
    r = regs_kernel();
    r.sp = regs_user().sp;
    r.cx = NON_CANONICAL;
    r.r11 = 2;
    r.ip = (ulong)back.start;
    regs_run(&r);
    check_equal("sysret to a non-canonical address", r.vector, GP);
    check_equal("error code", r.error, 0);
    if (cpu_is_intel()) {
        check_equal("Intel: in the kernel", r.cs & 3, 0);
        check_equal("at the sysret", r.ip, (ulong)back.start);
    } else {
        check_equal("AMD: in the user", r.cs & 3, 3);
        check_equal("at the target", r.ip, NON_CANONICAL);
    }
}

static void sysenter(void)
{
    struct code target = CODE("mov edx, cs; mov ebx, ss; mov rcx, rsp; pushfq; pop rsi");
    struct regs r = regs_user();
    u64 value;

    if (!cpu_is_intel()) {
        /* AMD: invalid in long mode (APM 3 SYSENTER) */
        expect_fault("sysenter in 64-bit mode", &r, CODE(".byte 0x0f, 0x34"), UD, 0);
        fault0("sysexit in 64-bit mode", CODE(".byte 0x0f, 0x35"), UD, 0);
        r = regs_user();
        r.cs = UCODE32;
        if (!skip_tcg("sysenter in compatibility mode", "depends on the model"))
            expect_fault("sysenter in compatibility mode", &r, CODE32(".byte 0x0f, 0x34"), UD,
                         0);
        check_equal("the registers are there", rdmsr_safe(MSR_SYSENTER_CS, &value), VECTOR_END);
        return;
    }
    wrmsr(MSR_SYSENTER_CS, 0);
    expect_fault("sysenter with a null CS", &r, CODE(".byte 0x0f, 0x34"), GP, 0);
    wrmsr(MSR_SYSENTER_CS, KCODE);
    wrmsr(MSR_SYSENTER_EIP, (ulong)target.start);
    wrmsr(MSR_SYSENTER_ESP, stack_code() - 0x800);
    r = regs_user();
    r.flags |= FLAG_CF;
    r.ip = (ulong)CODE(".byte 0x0f, 0x34").start + USER_BASE;
    regs_run(&r);
    check_equal("sysenter", r.vector, VECTOR_END);
    check_equal("CS", r.dx, KCODE);
    check_equal("SS", r.bx, KDATA);
    check_equal("RSP", r.cx, stack_code() - 0x800);
    check("IF clear, CF kept", (r.si & (FLAG_IF | FLAG_CF)) == FLAG_CF);
    check_equal("non-canonical EIP", wrmsr_safe(MSR_SYSENTER_EIP, NON_CANONICAL), GP);
    check_equal("non-canonical ESP", wrmsr_safe(MSR_SYSENTER_ESP, NON_CANONICAL), GP);
    target = CODE32("mov eax, cs");
    r = regs_kernel();
    r.dx = (ulong)target.start + USER_BASE;
    r.cx = regs_user().sp;
    r.ip = (ulong)CODE(".byte 0x0f, 0x35").start;
    regs_run(&r);
    check_equal("sysexit to compatibility code", r.ax, UCODE32);
    target = CODE("mov eax, cs; mov ebx, ss");
    r = regs_kernel();
    r.dx = (ulong)target.start + USER_BASE;
    r.cx = regs_user().sp;
    r.ip = (ulong)CODE(".byte 0x48, 0x0f, 0x35").start;
    regs_run(&r);
    check_equal("sysexit to 64-bit code", r.ax, UCODE64);
    check_equal("SS", r.bx, UDATA64);
    r = regs_user();
    expect_fault("sysexit in ring 3", &r, CODE(".byte 0x0f, 0x35"), GP, 0);
}

static void registers(void)
{
    static const u32 canonical[] = {MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE,
                                    MSR_KERNEL_GS_BASE};

    for (unsigned i = 0; i < COUNT(canonical); i++) {
        u64 old = rdmsr(canonical[i]);

        wrmsr(canonical[i], 0xffff800012345678);
        check_equal("reads back", rdmsr(canonical[i]), 0xffff800012345678);
        if (!on_tcg())
            check_equal("non-canonical", wrmsr_safe(canonical[i], NON_CANONICAL), GP);
        wrmsr(canonical[i], old);
    }
    wrmsr(MSR_SFMASK, 0xffffffff);
    check_equal("SFMASK", rdmsr(MSR_SFMASK), 0xffffffff);
    wrmsr(MSR_SFMASK, 0);
}

static void bases(void)
{
    struct regs r;
    static u64 there[2] = {0x1111, 0x2222};

    wrmsr(MSR_GS_BASE, (ulong)&there[0]);
    wrmsr(MSR_KERNEL_GS_BASE, (ulong)&there[1]);
    r = regs_kernel();
    expect_done("swapgs", &r, CODE("mov rax, gs:[0]; swapgs; mov rbx, gs:[0]"));
    check_equal("before", r.ax, 0x1111);
    check_equal("after", r.bx, 0x2222);
    check_equal("GS base", rdmsr(MSR_GS_BASE), (ulong)&there[1]);
    check_equal("kernel GS base", rdmsr(MSR_KERNEL_GS_BASE), (ulong)&there[0]);
    wrmsr(MSR_FS_BASE, (ulong)&there[0]);
    r = regs_kernel();
    expect_done("fs", &r, CODE("mov eax, fs:[8]; .byte 0x64; lea rbx, [rax]"));
    check_equal("through FS", r.ax, 0x2222);
    check_equal("lea ignores the base", r.bx, 0x2222);
    wrmsr(MSR_FS_BASE, 0x123456789000);
    r = regs_kernel();
    expect_done("loading FS sets its base from the descriptor", &r,
                CODE("mov eax, 0x10; mov fs, eax"));
    check_equal("FS base", rdmsr(MSR_FS_BASE), 0);
    if (!(cpuid(7, 0).b & 1)) {
        fault0("rdfsbase without the feature", CODE("rdfsbase rax"), UD, 0);
        return;
    }
    write_cr4(read_cr4() & ~CR4_FSGSBASE);
    fault0("rdfsbase with CR4.FSGSBASE clear", CODE("rdfsbase rax"), UD, 0);
    fault0("wrgsbase with CR4.FSGSBASE clear", CODE("wrgsbase rax"), UD, 0);
    write_cr4(read_cr4() | CR4_FSGSBASE);
    r = regs_user();
    r.bx = 0x7fff12345000;
    expect_done("wrfsbase in ring 3", &r, CODE("wrfsbase rbx; rdfsbase rax"));
    check_equal("reads back", r.ax, 0x7fff12345000);
    check_equal("in the MSR", rdmsr(MSR_FS_BASE), 0x7fff12345000);
    r = regs_user();
    r.bx = 0xffffffff12345000;
    expect_done("32-bit wrgsbase", &r, CODE("wrgsbase ebx; rdgsbase rax"));
    check_equal("upper half 0", r.ax, 0x12345000);
    r = regs_user();
    r.bx = NON_CANONICAL;
    if (!on_tcg())
        expect_fault("wrfsbase of a non-canonical base", &r, CODE("wrfsbase rbx"), GP, 0);
    r = regs_user();
    r.cs = UCODE32;
    expect_fault("rdfsbase in compatibility mode", &r, CODE32(".byte 0xf3, 0x0f, 0xae, 0xc0"),
                 UD, 0);
    wrmsr(MSR_GS_BASE, 0);
    wrmsr(MSR_FS_BASE, 0);
}

/* One way or the other across the border with TF: #DB, and where. Unlike IRET SYSRET traps
 * before the first instruction when it brings TF, and not at all when it takes TF away. */
static void stepped_return(const char *name, ulong before, ulong after, u16 cs, unsigned vector)
{
    struct code landing = CODE("nop"), back = CODE("sysretq");
    struct code landing32 = CODE32("nop"), back32 = CODE(".byte 0x0f, 0x07");
    bool wide = cs == UCODE64;
    struct code target = wide ? landing : landing32;
    struct regs r = regs_kernel();

    asm volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ul));
    r.sp = regs_user().sp;
    r.flags |= before;
    r.cx = (ulong)target.start + USER_BASE;
    r.r11 = 2 | after;
    r.ip = (ulong)(wide ? back : back32).start;
    regs_run(&r);
    check_equal(name, r.vector, vector);
    check_equal("CS", r.cs, cs);
    if (vector == DB) {
        check_equal("at the target", r.ip, (ulong)target.start + USER_BASE);
        check_equal("BS", read_dr6(), 0xffff4ff0);
        check_equal("TF", r.flags & FLAG_TF, FLAG_TF);
    }
}

static void stepped(void)
{
    struct code target = CODE("nop"), caller = CODE2("syscall", "nop");
    struct regs r = regs_user();

    stepped_return("sysret brings TF", 0, FLAG_TF, UCODE64, DB);
    stepped_return("sysret to compatibility code brings TF", 0, FLAG_TF, UCODE32, DB);
    stepped_return("sysret keeps TF", FLAG_TF, FLAG_TF, UCODE64, DB);
    stepped_return("sysret takes TF away", FLAG_TF, 0, UCODE64, VECTOR_END);
    target_set(target);
    wrmsr(MSR_SFMASK, FLAG_TF);
    r.sp -= USER_BASE;
    r.flags |= FLAG_TF;
    r.ip = (ulong)caller.start + USER_BASE;
    regs_run(&r);
    check_equal("syscall masks TF", r.vector, VECTOR_END);
    check_equal("R11 has it", r.r11 & FLAG_TF, FLAG_TF);
    wrmsr(MSR_SFMASK, 0);
    r = regs_user();
    r.sp -= USER_BASE;
    r.flags |= FLAG_TF;
    r.ip = (ulong)caller.start + USER_BASE;
    regs_run(&r);
    check_equal("syscall that leaves TF", r.vector, DB);
    check_equal("at the kernel's entry", r.ip, (ulong)target.start);
    check_equal("CS", r.cs, KCODE);
}

void test(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    syscall_user();
    syscall_compat();
    sysret();
    stepped();
    sysenter();
    registers();
    bases();
}
