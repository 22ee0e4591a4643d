/*
 * Interrupts at any time: string instructions, arithmetic with flags, vector code and page
 * faults go on as if nothing had happened, in ring 0 and in ring 3; string I/O.
 */
#include "lib/apic.h"
#include "lib/page.h"
#include "lib/pit.h"
#include "lib/system.h"

/* Some rounds suffice, but a busy host may be late with the first interrupt. */
enum { VECTOR = 0x61, SIZE = 1 << 20, ROUNDS = 20, MAX_ROUNDS = 5000 };

static volatile u32 ticks;
static u64 *const source = (u64 *)(24ul << 20), *const target = (u64 *)(28ul << 20);

static void on_timer(struct regs *r)
{
    (void)r;
    ticks++;
    apic_eoi();
}

static void storm(bool on)
{
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_LVT_TIMER, (on ? 0 : LVT_MASKED) | LVT_PERIODIC | VECTOR);
    apic_write(APIC_TIMER_INITIAL, on ? 30000 : 0);
}

static u64 pattern(u64 i)
{
    return i * 0x9e3779b97f4a7c15ul ^ i << 7;
}

static void copies(bool user)
{
    u64 base = user ? USER_BASE : 0;
    struct code fill = CODE("rep stosq"), back = CODE("std; rep movsq; cld");
    u32 wrong = 0, before;

    for (u64 i = 0; i < SIZE / 8; i++) {
        source[i] = pattern(i);
        target[i] = 0;
    }
    before = ticks;
    for (unsigned round = 0;
         ticks < before + 20 && round < (ticks == before ? MAX_ROUNDS : ROUNDS); round++) {
        struct regs r = user ? regs_user() : regs_kernel();
        struct code code = round % 2 ? CODE("rep movsb") : CODE("rep movsq");

        r.flags |= FLAG_IF;
        r.si = (ulong)source + base;
        r.di = (ulong)target + base;
        r.cx = round % 2 ? SIZE : SIZE / 8;
        r.ip = (ulong)code.start + base;
        regs_run(&r);
        check_equal("copy under interrupts", r.vector, VECTOR_END);
        check_equal("RCX", r.cx, 0);
        check_equal("RSI", r.si, (ulong)source + base + SIZE);
        for (u64 i = 0; i < SIZE / 8; i += 97)
            wrong += target[i] != pattern(i);
        target[97 * (round % 1000 + 1)] = 0;
    }
    check_equal("copied wrongly", wrong, 0);
    check("interrupts came", ticks > before);
    struct regs r = user ? regs_user() : regs_kernel();
    r.flags |= FLAG_IF;
    r.di = (ulong)target + base;
    r.cx = SIZE / 8;
    r.ax = 0x77;
    r.ip = (ulong)fill.start + base;
    regs_run(&r);
    for (u64 i = 0; i < SIZE / 8; i += 61)
        wrong += target[i] != 0x77;
    r = user ? regs_user() : regs_kernel();
    r.flags |= FLAG_IF;
    r.si = (ulong)source + base + SIZE - 8;
    r.di = (ulong)target + base + SIZE - 8;
    r.cx = SIZE / 8;
    r.ip = (ulong)back.start + base;
    regs_run(&r);
    check_equal("downwards", r.vector, VECTOR_END);
    for (u64 i = 0; i < SIZE / 8; i += 61)
        wrong += target[i] != pattern(i);
    check_equal("filled or copied wrongly", wrong, 0);
}

/* A computation whose result depends on every register and flag on the way. */
static void arithmetic(bool user)
{
    struct code code = CODE(
        "mov eax, 1; mov ebx, 2; mov edi, 3; mov esi, 5; mov ebp, 7; mov r8d, 11; mov r15d, "
        "13; "
        "movq xmm0, rax; movq xmm15, rbx; mov rcx, 100000; clc; "
        "1: adc rax, rbx; adc rbx, r8; rcl rdi, 3; sbb rsi, rdi; xor rbp, rsi; lea r15, [r15 + "
        "rbp * 2 + 1]; adc r8, r15; paddq xmm0, xmm15; pxor xmm15, xmm0; dec rcx; jnz 1b; "
        "movq rdx, xmm0; add rax, rdx; add rax, rbp; add rax, rsi");
    u64 quiet = 0;
    u32 before = ticks, wrong = 0;

    /* run 0 is the undisturbed one; the others go on until interrupts have come, which may be
     * late on a busy host */
    storm(false);
    for (unsigned run = 0; run < 60000 && ticks < before + 3; run++) {
        struct regs r = user ? regs_user() : regs_kernel();

        r.flags |= FLAG_IF;
        r.ip = (ulong)code.start + (user ? USER_BASE : 0);
        regs_run(&r);
        if (!check_equal("computation ends", r.vector, VECTOR_END))
            return;
        if (!run)
            quiet = r.ax;
        wrong += r.ax != quiet;
        if (!run)
            storm(true);
    }
    check("interrupts came", ticks >= before + 3);
    check_equal("runs with another result", wrong, 0);
}

static volatile u32 faults;

static void on_page_fault(struct regs *r)
{
    (void)r;
    faults++;
    *page_entry(read_cr2(), 1) |= PTE_P;
}

/* Demand paging under a timer storm: every page is touched for the first time by a string
 * store. */
static void demand(void)
{
    struct code code = CODE("rep stosd");
    struct regs r = regs_kernel();
    u32 wrong = 0;

    for (u32 i = 0; i < 256; i++)
        page_map(PAGE_TEST + i * 0x1000, (ulong)target + i * 0x1000, 1, PTE_W);
    faults = 0;
    trap_set(PF, on_page_fault);
    r.flags |= FLAG_IF;
    r.di = PAGE_TEST + 2; /* elements across pages */
    r.cx = (256 * 0x1000 - 2) / 4;
    r.ax = 0x89abcdef;
    r.ip = (ulong)code.start;
    regs_run(&r);
    trap_set(PF, NULL);
    check_equal("demand-paged store ends", r.vector, VECTOR_END);
    check_equal("one fault a page", faults, 256);
    for (u32 i = 0; i < (256 * 0x1000 - 2) / 4; i += 53)
        wrong += *(volatile u32 *)((ulong)target + 2 + i * 4ul) != 0x89abcdef;
    check_equal("stored wrongly", wrong, 0);
}

static void string_io(void)
{
    struct regs r = regs_kernel();
    u8 *bytes = (u8 *)target;

    outb(0x3f8 + 7, 0x5a); /* the serial port's scratch register */
    for (unsigned i = 0; i < 16; i++)
        bytes[i] = 0;
    r.dx = 0x3f8 + 7;
    r.di = (ulong)bytes;
    r.cx = 8;
    expect_done("rep insb", &r, CODE("rep insb"));
    check_equal("eight bytes", *(u64 *)bytes, 0x5a5a5a5a5a5a5a5a);
    check_equal("not more", bytes[8], 0);
    check_equal("RDI", r.di, (ulong)bytes + 8);
    bytes[0] = 1;
    bytes[1] = 2;
    bytes[2] = 0xa5;
    r = regs_kernel();
    r.dx = 0x3f8 + 7;
    r.si = (ulong)bytes;
    r.cx = 3;
    expect_done("rep outsb", &r, CODE("rep outsb"));
    check_equal("the last one stays", inb(0x3f8 + 7), 0xa5);
    check_equal("RSI", r.si, (ulong)bytes + 3);
    r = regs_kernel();
    r.flags |= FLAG_DF;
    r.dx = 0x3f8 + 7;
    r.di = (ulong)bytes + 4;
    r.cx = 2;
    expect_done("downwards", &r, CODE("rep insb"));
    check_equal("RDI", r.di, (ulong)bytes + 2);
    r = regs_kernel();
    r.dx = 0x80;
    r.cx = 0;
    r.si = PAGE_TEST + 0x200000;
    expect_done("nothing at all", &r, CODE("rep outsd"));
    r = regs_kernel();
    r.dx = 0x80;
    r.cx = 1;
    r.si = PAGE_TEST + 0x300000;
    expect_fault("outsb from an absent page", &r, CODE("rep outsb"), PF, 0);
    r = regs_user();
    r.flags |= FLAG_IOPL;
    r.dx = 0x80;
    expect_done("ring 3 with IOPL 3", &r, CODE("out dx, al; in al, dx; cli; sti"));
    outb(0x80, 0x12);
    check("port 0x80 can be read", inb(0x80) <= 0xff);
    check_equal("a port without a device reads as ones", inb(0x2f0), 0xff);
    check_equal("32 bits wide, too", inl(0x2f0), 0xffffffff);
}

void test(void)
{
    apic_init();
    trap_set(VECTOR, on_timer);
    storm(true);
    copies(false);
    copies(true);
    arithmetic(false);
    arithmetic(true);
    storm(true);
    demand();
    storm(false);
    string_io();
}
