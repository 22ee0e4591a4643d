/*
 * Exceptions and interrupts in 32-bit protected mode: INTO, BOUND, gates of 16 and 32 bits,
 * trap and interrupt gates, handlers of other rings, error codes, and nested faults.
 */
#include "lib/system.h"

enum { SEG = FREE, VECTOR = 0x31 };

static void overflow_and_bound(void)
{
    static u32 bounds[2] = {5, 10};
    struct regs r = regs_kernel();

    expect_trap("into with OF", &r, CODE2("mov al, 0x7f; add al, 1", "into"), OF);
    r = regs_kernel();
    expect_done("into without OF", &r, CODE("xor eax, eax; into"));
    r = regs_user();
    expect_trap("into in ring 3", &r, CODE2("mov al, 0x7f; add al, 1", "into"), OF);
    idt[OF].low &= ~(3ull << 45);
    r = regs_user();
    expect_fault("into against DPL 0", &r, CODE2("mov al, 0x7f; add al, 1", "into"), GP,
                 OF * 8 + 2);
    idt[OF].low |= 3ull << 45;
    for (u32 i = 4; i < 12; i++) {
        r = regs_kernel();
        r.bx = (ulong)bounds;
        r.ax = i;
        if (i < 5 || i > 10)
            expect_fault("bound exceeded", &r, CODE("bound eax, [ebx]"), BR, 0);
        else
            expect_done("within bounds", &r, CODE("bound eax, [ebx]"));
    }
    r = regs_kernel();
    r.bx = (ulong)bounds;
    r.ax = -1;
    expect_fault("bound is signed", &r, CODE("bound eax, [ebx]"), BR, 0);
    fault0("bound of a register", CODE(".byte 0x62, 0xc0"), UD, 0);
    fault0("aam 0", CODE(".byte 0xd4, 0"), DE, 0);
    r = regs_kernel();
    r.ax = 79;
    expect_done("aam", &r, CODE("aam"));
    check_equal("7 and 9", r.ax, 0x0709);
    fault0("swapgs", CODE(".byte 0x0f, 0x01, 0xf8"), UD, 0);
}

static void gates(void)
{
    struct gate saved = idt[VECTOR];
    struct regs r;

    idt[VECTOR].low &= ~BIT(47);
    fault0("not present", CODE("int 0x31"), NP, VECTOR * 8 + 2);
    idt[VECTOR].low = (saved.low & ~(15ull << 40)) | 0xcull << 40;
    fault0("call gate in the IDT", CODE("int 0x31"), GP, VECTOR * 8 + 2);
    idt[VECTOR].low = saved.low | BIT(44);
    fault0("S bit", CODE("int 0x31"), GP, VECTOR * 8 + 2);
    idt[VECTOR].low = saved.low & ~(0xffffull << 16);
    fault0("null selector", CODE("int 0x31"), GP, 0);
    idt[VECTOR].low = (saved.low & ~(0xffffull << 16)) | (u64)KDATA << 16;
    fault0("data segment", CODE("int 0x31"), GP, KDATA);
    idt[VECTOR].low = (saved.low & ~(0xffffull << 16)) | (u64)UCODE32 << 16;
    fault0("outer ring", CODE("int 0x31"), GP, UCODE32 & ~3);
    gdt_set(SEG, segment(0, 0xfffff, (SEG_CODE & ~0x80) | SEG_32 | SEG_4K));
    idt[VECTOR].low = (saved.low & ~(0xffffull << 16)) | (u64)SEG << 16;
    fault0("code not present", CODE("int 0x31"), NP, SEG);
    gdt_set(SEG, segment(0, 0xff, SEG_CODE | SEG_32));
    if (!skip_tcg("handler beyond its limit", "QEMU gives the selector"))
        fault0("handler beyond its limit", CODE("int 0x31"), GP, 0);
    idt[VECTOR] = saved;
    r = regs_user();
    expect_fault("DPL 0 from ring 3", &r, CODE("int 0x31"), GP, VECTOR * 8 + 2);
    idt_load(VECTOR * 8 + 6);
    fault0("beyond the limit", CODE("int 0x31"), GP, VECTOR * 8 + 2);
    idt_load(256 * 8 - 1);
}

static void flags(void)
{
    struct gate saved = idt[VECTOR];
    struct code handler = CODE("mov eax, [esp + 8]; pushf; pop ecx");
    struct regs r = regs_kernel();

    idt[VECTOR] = gate_make(KCODE, handler.start, GATE_INTERRUPT, 3);
    r.flags |= FLAG_IF | FLAG_AC | FLAG_NT;
    r.ip = (ulong)CODE("int 0x31").start;
    regs_run(&r);
    check_equal("pushed flags", r.ax, 2 | FLAG_IF | FLAG_AC | FLAG_NT);
    check_equal("interrupt gate: IF, TF, NT clear", r.cx & (FLAG_IF | FLAG_TF | FLAG_NT), 0);
    check_equal("AC stays", r.cx & FLAG_AC, FLAG_AC);
    idt[VECTOR] = gate_make(KCODE, handler.start, GATE_TRAP, 3);
    r = regs_kernel();
    r.flags |= FLAG_IF;
    r.ip = (ulong)CODE("int 0x31").start;
    regs_run(&r);
    check_equal("trap gate: IF stays", r.cx & FLAG_IF, FLAG_IF);
    idt[VECTOR] = saved;
}

/* Frames of the different gates, seen by the handler. */
static void frames(void)
{
    struct gate saved = idt[VECTOR], gp = idt[GP];
    struct code wide = CODE("mov eax, [esp]; mov ecx, [esp + 4]; mov edx, [esp + 8]; "
                            "mov esi, [esp + 12]; mov edi, [esp + 16]; mov ebp, esp");
    struct code narrow =
        CODE("movzx eax, word ptr [esp]; movzx ecx, word ptr [esp + 2]; "
             "movzx edx, word ptr [esp + 4]; movzx esi, word ptr [esp + 6]; mov ebp, esp");
    struct code call = CODE("int 0x31");
    struct regs r = regs_user();

    idt[VECTOR] = gate_make(KCODE, wide.start, GATE_INTERRUPT, 3);
    r.ip = (ulong)call.start;
    regs_run(&r);
    check_equal("EIP", r.ax, (ulong)call.end);
    check_equal("CS", r.cx & 0xffff, UCODE32);
    check_equal("EFLAGS", r.dx, 2);
    check_equal("outer ESP", r.si, regs_user().sp);
    check_equal("outer SS", r.di & 0xffff, UDATA);
    check_equal("inner stack", r.bp, tss_stack() - 20);
    r = regs_kernel();
    r.ip = (ulong)call.start;
    regs_run(&r);
    check_equal("within ring 0: three words", r.bp, regs_kernel().sp - 12);
    idt[VECTOR] = saved;
    if (skip_tcg("16-bit gates", "QEMU 7.2 keeps the upper half of their offset"))
        return;
    gdt_set(SEG, segment((u32)narrow.start, 0xffff, SEG_CODE | SEG_32));
    idt[VECTOR] = gate_make(SEG, NULL, GATE_INTERRUPT16, 3);
    idt[VECTOR].low |= 0xffffull << 48; /* not looked at */
    r = regs_kernel();
    r.ip = (ulong)call.start;
    regs_run(&r);
    check_equal("16-bit gate: IP", r.ax, (ulong)call.end & 0xffff);
    check_equal("CS", r.cx, KCODE);
    check_equal("FLAGS", r.dx, 2);
    check_equal("three halves", r.bp, regs_kernel().sp - 6);
    idt[GP] = gate_make(SEG, NULL, GATE_INTERRUPT16, 0);
    r = regs_kernel();
    r.ip = (ulong)CODE("mov eax, 0x1f8; mov ds, eax").start;
    regs_run(&r);
    check_equal("16-bit error code", r.ax, 0x1f8);
    check_equal("then CS", r.dx, KCODE);
    idt[GP] = gp;
    idt[VECTOR] = saved;
}

/* A handler in ring 3, one in conforming code. */
static void rings(void)
{
    struct gate saved = idt[VECTOR];
    struct code handler = CODE("mov eax, cs; mov ebp, esp");
    struct regs r = regs_user();

    idt[VECTOR] = gate_make(UCODE32, handler.start, GATE_INTERRUPT, 3);
    r.ip = (ulong)CODE("int 0x31").start;
    regs_run(&r);
    check_equal("a handler in ring 3", r.vector, VECTOR_END);
    check_equal("CS", r.ax, UCODE32);
    check_equal("its own stack", r.bp, regs_user().sp - 12);
    gdt_set(SEG, segment(0, 0xfffff, 0x9f | SEG_32 | SEG_4K));
    idt[VECTOR] = gate_make(SEG, handler.start, GATE_INTERRUPT, 3);
    r = regs_user();
    r.ip = (ulong)CODE("int 0x31").start;
    regs_run(&r);
    check_equal("a conforming handler runs in ring 3", r.ax, on_tcg() ? r.ax : SEG | 3u);
    idt[VECTOR] = saved;
}

static void nested(void)
{
    struct gate ud = idt[UD], np = idt[NP], gp = idt[GP];
    struct regs r = regs_kernel();

    idt[UD].low &= ~BIT(47);
    fault0("#UD through an absent gate", CODE("ud2"), NP, UD * 8 + 2 + !on_tcg());
    idt[NP].low &= ~BIT(47);
    fault0("and #NP through one, too: double fault", CODE("ud2"), DF, 0);
    idt[UD] = ud;
    idt[NP] = np;
    idt[GP].low &= ~BIT(47);
    r.ax = 0x1f8;
    expect_fault("#GP, #NP: double fault", &r, CODE("mov ds, eax"), DF, 0);
    idt[GP] = gp;
}

static void hardware_interrupt(void)
{
    struct code code = CODE2("sti", "nop; nop; nop; cli");
    struct regs r = regs_kernel();

    /* the timer's line, through the 8259 as it was left by pic_init() */
    outb(0x43, 0x30);
    outb(0x40, 100);
    outb(0x40, 0);
    outb(0x21, 0xfe);
    for (u32 n = 0; n < 1000000; n++) {
        outb(0x20, 0x0a);
        if (inb(0x20) & 1)
            break;
    }
    r.ip = (ulong)code.start;
    regs_run(&r);
    outb(0x20, 0x20);
    outb(0x21, 0xff);
    if (r.vector != 0x20) {
        check_skip("timer interrupt", "LINT0 is not set up without firmware");
        return;
    }
    check_equal("timer interrupt after sti's shadow", r.ip, (ulong)code.at + 1);
}

void test(void)
{
    overflow_and_bound();
    gates();
    flags();
    frames();
    rings();
    nested();
    hardware_interrupt();
}
