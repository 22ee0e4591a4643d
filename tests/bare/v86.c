/*
 * Virtual-8086 mode: what IOPL guards, interrupts and the I/O permission map, and the virtual
 * interrupt flag with the redirection map (SDM 3A chapter 20).
 */
#include "lib/system.h"

enum { SEGMENT = 0x900, STACK_SEGMENT = 0x1000, HANDLER_SEGMENT = 0xa00, VECTOR_SOFT = 0x51 };

/* Copies the code below 1 MiB, where its address is SEGMENT:0. */
static struct code low(struct code code)
{
    u8 *to = (u8 *)(SEGMENT * 16);
    ulong delta = (ulong)code.start;

    for (const char *p = code.start; p < code.end + 2; p++)
        *to++ = *p;
    return (struct code){NULL, (const char *)((ulong)code.at - delta),
                         (const char *)((ulong)code.end - delta)};
}

static struct regs regs_v86(unsigned iopl)
{
    struct regs r = {.cs = SEGMENT, .ss = STACK_SEGMENT, .ds = 0x2000, .es = 0x3000};

    r.fs = 0x4000;
    r.gs = 0x5000;
    r.sp = 0x8000;
    r.flags = 2 | FLAG_VM | iopl << 12;
    return r;
}

#define V86(text)       low(CODE16(text))
#define V862(pre, text) low(CODE_IN(".code16", pre, text))

/* With IOPL below 3 the `int 0x40` at the end faults instead: that is the end, too. */
static bool expect_v86(const char *name, struct regs *r, struct code code)
{
    regs_run(r);
    if (r->vector == GP && r->error == 0 && r->ip == (ulong)code.end)
        return check(name, true);
    if (!check(name, r->vector == VECTOR_END && r->ip == (ulong)code.end + 2)) {
        print("     vector %d error %lx ip %lx\n", (int)r->vector, r->error, r->ip);
        return false;
    }
    return true;
}

static void fault_v86(const char *name, unsigned iopl, struct code code, unsigned vector,
                      ulong error)
{
    struct regs r = regs_v86(iopl);

    expect_fault(name, &r, code, vector, error);
    check("VM in the frame", r.flags & FLAG_VM);
}

static void basics(void)
{
    struct regs r = regs_v86(3);
    struct code code =
        V86("mov ax, cs; mov bx, ds; mov cx, es; mov dx, ss; mov si, fs; mov di, gs; "
            "mov bp, sp");

    expect_v86("segments", &r, code);
    check_equal("CS", r.ax, SEGMENT);
    check_equal("DS", r.bx, 0x2000);
    check_equal("ES", r.cx, 0x3000);
    check_equal("SS", r.dx, STACK_SEGMENT);
    check_equal("FS", r.si, 0x4000);
    check_equal("GS", r.di, 0x5000);
    check_equal("SP", r.bp, 0x8000);
    *(volatile u32 *)0x21234 = 0x87654321;
    r = regs_v86(3);
    r.bx = 0x1234;
    expect_v86("memory through DS", &r, V86("mov eax, [bx]"));
    check_equal("value", r.ax, 0x87654321);
    r = regs_v86(3);
    expect_v86("loading a segment", &r, V86("mov ax, 0x2123; mov ds, ax; mov eax, [4]"));
    check_equal("value", r.ax, 0x87654321);
    check_equal("DS in the frame", r.ds, 0x2123);
    r = regs_v86(3);
    expect_v86("push and pop", &r, V86("push 0x1234; pop ax; mov bx, sp"));
    check_equal("value", r.ax & 0xffff, 0x1234);
    r = regs_v86(3);
    expect_v86("far call and return", &r,
               V86("push cs; call 1f; jmp 2f; 1: mov ax, 7; retf; 2:"));
    check_equal("AX", r.ax, 7);
    if (!skip_tcg("limits", "QEMU does not check them")) {
        r = regs_v86(3);
        r.bx = 0xffff;
        expect_fault("word at ffff", &r, V86("mov ax, [bx]"), GP, 0);
        r = regs_v86(3);
        r.bp = 0xffff;
        expect_fault("word at ffff through BP", &r, V86("mov ax, [bp]"), SS, 0);
        r = regs_v86(3);
        r.bx = 0x10000;
        expect_fault("offset above 64 KiB", &r, V86("mov al, [ebx]"), GP, 0);
    }
    fault_v86("divide", 3, V862("xor cx, cx", "div cx"), DE, 0);
    fault_v86("ud2", 3, V86("ud2"), UD, 0);
}

static void privileged(void)
{
    fault_v86("hlt", 3, V86("hlt"), GP, 0);
    fault_v86("mov from cr0", 3, V86("mov eax, cr0"), GP, 0);
    fault_v86("mov to cr3", 3, V86("mov cr3, eax"), GP, 0);
    fault_v86("mov from dr0", 3, V86("mov eax, dr0"), GP, 0);
    fault_v86("clts", 3, V86("clts"), GP, 0);
    fault_v86("lgdt", 3, V86("lgdt [bx]"), GP, 0);
    fault_v86("lidt", 3, V86("lidt [bx]"), GP, 0);
    fault_v86("lmsw", 3, V86("lmsw ax"), GP, 0);
    fault_v86("invd", 3, V86("invd"), GP, 0);
    fault_v86("wbinvd", 3, V86("wbinvd"), GP, 0);
    fault_v86("rdmsr", 3, V86("rdmsr"), GP, 0);
    fault_v86("lldt", 3, V86("lldt ax"), UD, 0);
    fault_v86("sldt", 3, V86("sldt ax"), UD, 0);
    fault_v86("ltr", 3, V86("ltr ax"), UD, 0);
    fault_v86("str", 3, V86("str ax"), UD, 0);
    fault_v86("lar", 3, V86("lar ax, bx"), UD, 0);
    fault_v86("lsl", 3, V86("lsl ax, bx"), UD, 0);
    fault_v86("verr", 3, V86("verr ax"), UD, 0);
    fault_v86("verw", 3, V86("verw ax"), UD, 0);
    fault_v86("arpl", 3, V86("arpl ax, bx"), UD, 0);
}

static void iopl(void)
{
    struct regs r;
    struct gate saved = idt[VECTOR_SOFT];

    for (unsigned level = 0; level < 3; level++) {
        fault_v86("cli with low IOPL", level, V86("cli"), GP, 0);
        fault_v86("sti with low IOPL", level, V86("sti"), GP, 0);
        fault_v86("pushf with low IOPL", level, V86("pushf"), GP, 0);
        fault_v86("popf with low IOPL", level, V86("popf"), GP, 0);
        fault_v86("pushfd with low IOPL", level, V86("pushfd"), GP, 0);
        fault_v86("int n with low IOPL", level, V86("int 0x51"), GP, 0);
        fault_v86("iret with low IOPL", level, V86("iret"), GP, 0);
        r = regs_v86(level);
        expect_trap("int3 is not guarded", &r, V86("int3"), BP);
    }
    r = regs_v86(3);
    r.flags |= FLAG_IF;
    expect_v86("cli with IOPL 3", &r, V86("cli"));
    check_equal("IF", r.flags & FLAG_IF, 0);
    r = regs_v86(3);
    expect_v86("sti with IOPL 3", &r, V86("sti"));
    check_equal("IF", r.flags & FLAG_IF, FLAG_IF);
    r = regs_v86(3);
    expect_v86("pushf and popf with IOPL 3", &r,
               V86("push 0x0ed7; popf; pushf; pop ax; cli; cld"));
    check_equal("flags: IF and IOPL", r.ax & 0xffff, 0x3ed7);
    r = regs_v86(3);
    expect_v86("popfd changes neither VM nor IOPL", &r,
               V86("push dword ptr 0x00000002; popfd; pushfd; pop eax"));
    check_equal("IOPL stays", r.ax & FLAG_IOPL, FLAG_IOPL);
    check("VM stays in the frame", r.flags & FLAG_VM);
    r = regs_v86(3);
    expect_v86("iret with IOPL 3", &r,
               V86("pushf; push cs; call 1f; jmp 2f; 1: mov ax, 5; iret; 2:"));
    check_equal("AX", r.ax, 5);
    /* INT n with IOPL 3 needs a gate of DPL 3, to ring 0 */
    fault_v86("gate of DPL 0", 3, V86("int 0x51"), GP, VECTOR_SOFT * 8 + 2);
    idt[VECTOR_SOFT].low |= 3ull << 45;
    r = regs_v86(3);
    expect_trap("gate of DPL 3", &r, V86("int 0x51"), VECTOR_SOFT);
    idt[VECTOR_SOFT].low = (idt[VECTOR_SOFT].low & ~(0xffffull << 16)) | (u64)FREE << 16;
    gdt_set(FREE, segment(0, 0xfffff, 0x9f | SEG_32 | SEG_4K));
    fault_v86("gate to conforming code", 3, V86("int 0x51"), GP, FREE);
    gdt_set(FREE, segment(0, 0xfffff, 0xbb | SEG_32 | SEG_4K));
    if (!skip_tcg("gate to ring 1", "QEMU goes there"))
        fault_v86("gate to ring 1", 3, V86("int 0x51"), GP, FREE);
    idt[VECTOR_SOFT] = saved;
}

static u8 *io_map(u16 limit)
{
    u16 *base = (u16 *)cpu_this()->tss + 51;

    *base = 104;
    gdt_set(KTSS, segment((u32)cpu_this()->tss, limit, 0x89));
    asm volatile("ltr %w0" ::"r"(KTSS));
    return (u8 *)cpu_this()->tss + 104;
}

static void io_one(const char *name, bool v86, struct code code, u16 port, bool ok)
{
    struct regs r = v86 ? regs_v86(3) : regs_user();

    r.dx = port;
    if (v86)
        code = low(code);
    if (ok)
        expect_done(name, &r, code);
    else
        expect_fault(name, &r, code, GP, 0);
}

static void io_permission(void)
{
    u8 *map = io_map(104 + 8192);

    for (unsigned i = 0; i < 8192; i++)
        map[i] = 0xff;
    map[8192] = 0xff;
    map[0x80 / 8] = 0xfe;  /* port 0x80 */
    map[0x87 / 8] &= 0x7f; /* port 0x87, and with it half of a word across two bytes */
    map[0xa0 / 8] = 0xf0;
    map[0xe9 / 8] = 0;
    for (unsigned v86 = 0; v86 < 2; v86++) {
        struct code in8 = v86 ? CODE16("in al, dx") : CODE("in al, dx");
        struct code in16 = v86 ? CODE16("in ax, dx") : CODE("in ax, dx");
        struct code in32 = v86 ? CODE16("in eax, dx") : CODE("in eax, dx");
        struct code out8 = v86 ? CODE16("out dx, al") : CODE("out dx, al");

        io_one("permitted port", v86, in8, 0x80, true);
        io_one("permitted port, out", v86, out8, 0x80, true);
        io_one("forbidden port", v86, in8, 0x81, false);
        io_one("forbidden port, out", v86, out8, 0x81, false);
        io_one("word with one forbidden half", v86, in16, 0x80, false);
        io_one("word across map bytes, one half forbidden", v86, in16, 0x87, false);
        io_one("dword all permitted", v86, in32, 0xe8, true);
        io_one("dword half permitted", v86, in32, 0xa2, false);
        io_one("dword permitted", v86, in32, 0xa0, true);
        io_one("last port", v86, in8, 0xffff, false);
        map[8191] = 0x7f;
        io_one("last port permitted", v86, in8, 0xffff, true);
        map[8191] = 0xff;
    }
    io_map(104 + 0x10);
    io_one("port whose map byte is the limit's last, with no byte after it", false,
           CODE("in al, dx"), 0x80, false);
    io_map(104 + 0x11);
    io_one("one more byte within the limit", false, CODE("in al, dx"), 0x80, true);
    io_one("beyond the limit", false, CODE("in al, dx"), 0xe9, false);
    io_map(103);
    io_one("no map", false, CODE("in al, dx"), 0x80, false);
    struct regs r = regs_user();
    r.flags |= FLAG_IOPL;
    r.dx = 0x80;
    expect_done("IOPL 3 in protected mode needs no map", &r, CODE("in al, dx"));
}

/* Virtual-8086 mode extensions. */
static void vme(void)
{
    struct regs r;
    u8 *redirect; /* the 32 bytes before the I/O map */
    volatile u16 *ivt = (volatile u16 *)0;

    if (!(cpuid(1, 0).d & 2)) {
        if (skip_tcg("CR4.VME without VME", "QEMU keeps reserved bits"))
            return;
        check_equal("CR4.VME without VME", write_cr4_safe(read_cr4() | CR4_VME), GP);
        return;
    }
    if (skip_tcg("virtual-8086 extensions", "QEMU lacks the redirection map"))
        return;
    write_cr4(read_cr4() | CR4_VME);
    io_map(104 + 64 + 8192);
    ((u16 *)cpu_this()->tss)[51] = 104 + 64;
    redirect = (u8 *)cpu_this()->tss + 104 + 64 - 32;
    for (unsigned i = 0; i < 32; i++)
        redirect[i] = 0xff;
    redirect[VECTOR_SOFT / 8] &= ~(1 << (VECTOR_SOFT % 8)); /* 0x51 stays in v86 mode */
    ivt[VECTOR_SOFT * 2] = 0;
    ivt[VECTOR_SOFT * 2 + 1] = HANDLER_SEGMENT;
    *(u8 *)(HANDLER_SEGMENT * 16) = 0x5a;     /* pop dx */
    *(u8 *)(HANDLER_SEGMENT * 16 + 1) = 0x5e; /* pop si */
    *(u8 *)(HANDLER_SEGMENT * 16 + 2) = 0x5f; /* pop di */
    *(u8 *)(HANDLER_SEGMENT * 16 + 3) = 0xf4; /* hlt: #GP */

    r = regs_v86(0);
    r.flags |= FLAG_VIF;
    expect_v86("cli clears VIF", &r, V86("cli"));
    check_equal("VIF", r.flags & FLAG_VIF, 0);
    r = regs_v86(0);
    expect_v86("sti sets VIF", &r, V86("sti"));
    check_equal("VIF", r.flags & FLAG_VIF, FLAG_VIF);
    check_equal("IF stays", r.flags & FLAG_IF, 0);
    r = regs_v86(0);
    r.flags |= FLAG_VIP;
    expect_fault("sti with VIP", &r, V86("sti"), GP, 0);
    r = regs_v86(0);
    r.flags |= FLAG_VIF;
    expect_v86("pushf pushes VIF as IF, and IOPL 3", &r, V86("pushf; pop ax"));
    check_equal("pushed", r.ax & 0xffff, 0x3202);
    fault_v86("pushfd", 0, V86("pushfd"), GP, 0);
    fault_v86("popfd", 0, V86("popfd"), GP, 0);
    r = regs_v86(0);
    expect_v86("popf sets VIF from IF", &r, V86("push 0x0202; popf"));
    check_equal("VIF", r.flags & (FLAG_VIF | FLAG_IF | FLAG_IOPL), FLAG_VIF);
    r = regs_v86(0);
    r.flags |= FLAG_VIP;
    expect_fault("popf that sets IF with VIP", &r, V862("push 0x0202", "popf"), GP, 0);
    r = regs_v86(0);
    expect_fault("popf that sets TF", &r, V862("push 0x0102", "popf"), GP, 0);
    r = regs_v86(0);
    expect_v86("iret sets VIF", &r,
               V86("push 0x0202; push cs; push offset 1f - 661b; iret; 1:"));
    check_equal("VIF", r.flags & FLAG_VIF, FLAG_VIF);
    r = regs_v86(0);
    r.flags |= FLAG_VIF;
    struct code code = V86("int 0x51");
    r.ip = 0;
    regs_run(&r);
    check_equal("int through the map, IOPL 0: reaches the handler", r.cs, HANDLER_SEGMENT);
    check_equal("its HLT faults", r.vector, GP);
    check_equal("pushed IP", r.dx & 0xffff, (ulong)code.end);
    check_equal("pushed CS", r.si & 0xffff, SEGMENT);
    check_equal("pushed flags: VIF as IF, IOPL 3", r.di & 0xffff, 0x3202);
    check_equal("VIF cleared", r.flags & FLAG_VIF, 0);
    r = regs_v86(3);
    r.flags |= FLAG_IF;
    r.ip = 0;
    regs_run(&r);
    check_equal("int through the map, IOPL 3", r.cs, HANDLER_SEGMENT);
    check_equal("pushed flags", r.di & 0xffff, 0x3202);
    check_equal("IF cleared", r.flags & FLAG_IF, 0);
    fault_v86("int with its bit set, IOPL 0", 0, V86("int 0x52"), GP, 0);
    fault_v86("int with its bit set, IOPL 3: by the IDT", 3, V86("int 0x52"), GP, 0x52 * 8 + 2);
    write_cr4(read_cr4() & ~CR4_VME);
}

/* The same flag in protected mode, ring 3. */
static void pvi(void)
{
    struct regs r;

    if (!(cpuid(1, 0).d & 2) ||
        skip_tcg("protected-mode virtual interrupts", "QEMU lacks them"))
        return;
    write_cr4(read_cr4() | CR4_PVI);
    r = regs_user();
    expect_done("sti sets VIF", &r, CODE("sti"));
    check_equal("VIF", r.flags & (FLAG_VIF | FLAG_IF), FLAG_VIF);
    r = regs_user();
    r.flags |= FLAG_VIF | FLAG_IF;
    expect_done("cli clears VIF", &r, CODE("cli"));
    check_equal("VIF, not IF", r.flags & (FLAG_VIF | FLAG_IF), FLAG_IF);
    r = regs_user();
    r.flags |= FLAG_VIP;
    expect_fault("sti with VIP", &r, CODE("sti"), GP, 0);
    write_cr4(read_cr4() & ~CR4_PVI);
    r = regs_user();
    expect_fault("sti without PVI", &r, CODE("sti"), GP, 0);
}

/* To virtual-8086 mode and back, each time with other code at the same place. */
static void rounds(void)
{
    u32 wrong = 0;
    for (unsigned n = 0; n < 300; n++) {
        struct regs r = regs_v86(3);
        struct code code = n & 1 ? V86("mov ax, 7; mov cx, 9; 1: add ax, cx; loop 1b")
                                 : V86("mov ax, 7; mov cx, 9; 1: sub ax, cx; loop 1b");
        if (!expect_v86("a round", &r, code))
            return;
        wrong += (r.ax & 0xffff) != (n & 1 ? 52 : 0xffff & (7 - 45));
    }
    check_equal("wrong rounds", wrong, 0);
}

void test(void)
{
    basics();
    rounds();
    privileged();
    iopl();
    io_permission();
    vme();
    pvi();
}
