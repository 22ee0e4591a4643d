/*
 * Breakpoints in code that ran before they were enabled, often enough to be translated and
 * chained, and that runs again after: each must meet its instruction or operand each time, and
 * nothing else, in both rings (SDM 3B 17.2-17.3).
 */
#include "lib/page.h"
#include "lib/system.h"

#define DR6_CLEAR 0xffff0ff0ul
#define DR6_BS    0x4000ul
#define DR7_CLEAR 0x400ul
#define WARM      300 /* rounds without a breakpoint */
#define ROUNDS    7   /* and with one */

enum kind { ON_EXECUTE, ON_WRITE, ON_IO, ON_ACCESS };

/* Code segments with a base, of ring 3. */
enum { BASED32 = FREE | 3, BASED16 = (FREE + 8) | 3 };
static ulong based; /* the base of both */

/* Where a state's ring sees the address. */
static ulong in_ring(const struct regs *r, const volatile void *at)
{
    return (ulong)at + (r->cs & 3 ? USER_BASE : 0);
}

static ulong code_base(const struct regs *r)
{
    return r->cs == BASED32 || r->cs == BASED16 ? based : 0;
}

/* What the handler saw: how often, where last, and all of DR6 together. */
static volatile struct {
    unsigned count;
    ulong last, dr6, cx;
} seen;

static void on_debug(struct regs *r)
{
    ulong dr6 = read_dr6();

    seen.count++;
    seen.last = r->ip + code_base(r);
    seen.dr6 |= dr6 & ~DR6_CLEAR;
    seen.cx = r->cx;
    if (dr6 & 15)
        r->flags |= FLAG_RF;
    if (seen.count > 1000)
        write_dr7(DR7_CLEAR);
    write_dr6(DR6_CLEAR);
}

static ulong dr7_for(unsigned n, enum kind kind, unsigned size)
{
    unsigned length = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 3 : 2;

    return 2ul << (2 * n) | ((ulong)kind | length << 2) << (16 + 4 * n);
}

/* `rounds` in RCX; the code must come to its end. */
static void run(const char *name, struct regs r, const void *start, ulong rounds)
{
    r.ip = in_ring(&r, start) - code_base(&r);
    r.cx = rounds;
    seen.count = 0;
    seen.dr6 = seen.last = 0;
    write_dr6(DR6_CLEAR);
    regs_run(&r);
    check_equal(name, r.vector, VECTOR_END);
}

static void run_with(const char *name, struct regs r, const void *start, ulong dr7,
                     unsigned hits, ulong dr6, ulong at)
{
    write_dr7(DR7_CLEAR | dr7);
    run(name, r, start, ROUNDS);
    write_dr7(DR7_CLEAR);
    check_equal(name, seen.count, hits);
    check_equal(name, seen.dr6, hits ? dr6 : 0);
    if (hits && at)
        check_equal(name, seen.last, at);
}

/* The code without the breakpoint, with it, without, and with it again. */
static void expect_hits(const char *name, struct regs r, const void *start, ulong address,
                        ulong dr7, unsigned hits, ulong at)
{
    write_dr7(DR7_CLEAR);
    run(name, r, start, WARM);
    write_dr0(address);
    for (unsigned n = 0; n < 2; n++) {
        run_with(name, r, start, dr7, hits, 1, at);
        run(name, r, start, WARM);
        check_equal(name, seen.count, 0);
    }
}

/* An instruction breakpoint at code.at, in both rings, met `hits` times. */
static void expect_breaks(const char *name, struct code code, unsigned hits)
{
    struct regs r = regs_kernel(), u = regs_user();

    expect_hits(name, r, code.start, (ulong)code.at, dr7_for(0, ON_EXECUTE, 1), hits,
                (ulong)code.at);
    expect_hits(name, u, code.start, in_ring(&u, code.at), dr7_for(0, ON_EXECUTE, 1), hits,
                in_ring(&u, code.at));
    /* Linear addresses count, not what they stand for. */
    expect_hits(name, u, code.start, (ulong)code.at, dr7_for(0, ON_EXECUTE, 1), 0, 0);
    expect_hits(name, r, code.start, in_ring(&u, code.at), dr7_for(0, ON_EXECUTE, 1), 0, 0);
}

static void instructions(void)
{
    expect_breaks("first of a loop", CODE2("xor eax, eax", "inc eax; dec rcx; jnz 662b"),
                  ROUNDS);
    expect_breaks("loop of one", CODE2("nop", "loop 662b"), ROUNDS);
    expect_breaks("middle of a loop",
                  CODE2("1: inc eax; test eax, eax", "mov edx, eax; dec rcx; jnz 1b"), ROUNDS);
    expect_breaks("branch of a loop", CODE2("1: inc eax; dec rcx", "jnz 1b"), ROUNDS);
    expect_breaks("behind a branch, seldom reached",
                  CODE2("1: dec rcx; jnz 1b", "mov eax, ecx"), 1);
    expect_breaks("behind a repeated string instruction",
                  CODE2("1: push rcx; lea rdi, [rsp - 64]; mov ecx, 8; rep stosb; pop rcx",
                        "dec rcx; jnz 1b"),
                  ROUNDS);
    if (!skip_tcg("repeated string instruction", "QEMU breaks at each round"))
        expect_breaks("repeated string instruction",
                      CODE2("1: push rcx; lea rdi, [rsp - 64]; mov ecx, 8",
                            "rep stosb; pop rcx; dec rcx; jnz 1b"),
                      ROUNDS);
    expect_breaks(
        "flags live across it",
        CODE2("1: cmp ecx, 3; jne 2f; 2: cmp ecx, ecx", "jne 3f; dec rcx; jnz 1b; 3:"), ROUNDS);
    expect_breaks("target of jumps",
                  CODE2("1: jmp 2f; ud2; 2: jmp 662f; ud2", "dec rcx; jnz 1b"), ROUNDS);
}

static void functions(void)
{
    expect_breaks("called", CODE2("jmp 2f", "inc eax; ret; 2: call 662b; dec rcx; jnz 2b"),
                  ROUNDS);
    expect_breaks(
        "called indirectly",
        CODE2("lea rbx, [rip + 662f]; jmp 2f", "inc eax; ret; 2: call rbx; dec rcx; jnz 2b"),
        ROUNDS);
    expect_breaks("return address",
                  CODE2("jmp 2f; 1: inc eax; ret; 2: call 1b", "dec rcx; jnz 2b"), ROUNDS);
    expect_breaks("return", CODE2("jmp 2f; 1: inc eax", "ret; 2: call 1b; dec rcx; jnz 2b"),
                  ROUNDS);
    expect_breaks("jumped to indirectly",
                  CODE2("lea rbx, [rip + 662f]; 1: jmp rbx", "dec rcx; jnz 1b"), ROUNDS);
}

/* Code on two pages: the breakpoint on, before and behind the instruction that crosses. */
static void two_pages(void)
{
    static u8 area[8192] __attribute__((aligned(4096)));
    static const u8 code[] = {
        0x48, 0xff,       0xc0,                         /* inc rax */
        0x48, 0xc7,       0xc2, 0x12, 0x34, 0x56, 0x07, /* mov rdx, imm32 */
        0x48, 0xff,       0xc9,                         /* dec rcx */
        0x75, 0xf1,                                     /* jnz */
        0xcd, VECTOR_END,
    };
    static const u8 insns[] = {0, 3, 10, 13};
    struct regs r = regs_kernel(), u = regs_user();

    for (unsigned before = 1; before < 15; before++) {
        u8 *at = area + 4096 - before;
        for (unsigned i = 0; i < sizeof(code); i++)
            at[i] = code[i];
        for (unsigned i = 0; i < sizeof(insns); i++) {
            expect_hits("code on two pages", r, at, (ulong)at + insns[i],
                        dr7_for(0, ON_EXECUTE, 1), ROUNDS, (ulong)at + insns[i]);
            expect_hits("code on two pages, ring 3", u, at, in_ring(&u, at + insns[i]),
                        dr7_for(0, ON_EXECUTE, 1), ROUNDS, in_ring(&u, at + insns[i]));
        }
    }
}

/* Breakpoints are at linear addresses, whatever the code segment says. */
static void segments(void)
{
    static const u16 selectors[] = {UCODE32, KCODE32, BASED32, BASED16};
    struct code wide = CODE_IN(".code32", "1: inc eax; test eax, eax", "mov edx, eax; loop 1b");
    struct code narrow = CODE_IN(".code16", "1: inc ax; test ax, ax", "mov dx, ax; loop 1b");

    unsigned some = skip_tcg("breakpoints in a segment with a base", "QEMU crashes") ? 2 : 4;
    for (unsigned n = 0; n < some; n++) {
        struct code code = selectors[n] == BASED16 ? narrow : wide;
        struct regs r = selectors[n] & 3 ? regs_user() : regs_kernel();
        r.cs = selectors[n];
        ulong at = in_ring(&r, code.at);
        based = in_ring(&r, code.start) & ~0xffful;
        gdt_set(BASED32 & ~3, segment((u32)based, 0xffff, SEG_CODE | SEG_DPL3 | SEG_32));
        gdt_set(BASED16 & ~3, segment((u32)based, 0xffff, SEG_CODE | SEG_DPL3));
        expect_hits("compatibility mode", r, code.start, at, dr7_for(0, ON_EXECUTE, 1), ROUNDS,
                    at);
        expect_hits("compatibility mode, 4 GiB above", r, code.start, at + (1ul << 32),
                    dr7_for(0, ON_EXECUTE, 1), 0, 0);
    }
}

/* Neither STI's shadow nor that of MOV SS lets go more than it should. */
static void shadows(void)
{
    struct code sti = CODE2("1: sti", "cli; dec rcx; jnz 1b");
    struct code ss = CODE2("1: mov eax, ss; mov ss, eax", "dec rcx; jnz 1b");
    struct regs r = regs_kernel();

    expect_hits("behind sti", r, sti.start, (ulong)sti.at, dr7_for(0, ON_EXECUTE, 1), ROUNDS,
                (ulong)sti.at);
    if (!skip_tcg("behind mov ss", "QEMU breaks there"))
        expect_hits("behind mov ss", r, ss.start, (ulong)ss.at, dr7_for(0, ON_EXECUTE, 1), 0,
                    0);
}

/* More addresses one after the other, and all four at once. */
static void many(void)
{
    struct code code =
        CODE2("1: .rept 150; inc eax; .endr", ".rept 150; inc edx; .endr; dec rcx; jnz 1b");
    struct regs r = regs_kernel();
    const u8 *at = (const u8 *)code.start;

    run("many", r, at, WARM);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned n = 0; n < 300; n++) {
            write_dr0((ulong)at + 2 * n);
            run_with("many", r, at, dr7_for(0, ON_EXECUTE, 1), ROUNDS, 1, (ulong)at + 2 * n);
        }
    }
    run("many", r, at, WARM);
    write_dr0((ulong)at);
    write_dr1((ulong)at + 10);
    write_dr2((ulong)at + 12);
    write_dr3((ulong)code.at);
    run_with("four", r, at,
             dr7_for(0, ON_EXECUTE, 1) | dr7_for(1, ON_EXECUTE, 1) | dr7_for(2, ON_EXECUTE, 1) |
                 dr7_for(3, ON_EXECUTE, 1),
             4 * ROUNDS, 15, 0);
}

/* -- Data ---------------------------------------------------------------------------------- */

static u8 data[3 * 4096] __attribute__((aligned(4096)));

static bool overlap(long a, unsigned na, long b, unsigned nb)
{
    return a < b + (long)nb && b < a + (long)na;
}

/* Each length and place of operand around a watched place, in a loop. */
static void operands(const char *name, long place)
{
    static const u8 sizes[] = {1, 2, 4, 8};
    struct code loads[] = {CODE2("nop; 1: mov al, [rbx]", "dec rcx; jnz 1b"),
                           CODE2("nop; 1: mov ax, [rbx]", "dec rcx; jnz 1b"),
                           CODE2("nop; 1: mov eax, [rbx]", "dec rcx; jnz 1b"),
                           CODE2("nop; 1: mov rax, [rbx]", "dec rcx; jnz 1b")};
    struct code stores[] = {CODE2("nop; 1: mov [rbx], cl", "dec rcx; jnz 1b"),
                            CODE2("nop; 1: mov [rbx], cx", "dec rcx; jnz 1b"),
                            CODE2("nop; 1: mov [rbx], ecx", "dec rcx; jnz 1b"),
                            CODE2("nop; 1: mov [rbx], rcx", "dec rcx; jnz 1b")};

    for (unsigned w = 0; w < 4; w++) {
        unsigned watched = sizes[w];
        long from = place & -(long)watched;
        for (unsigned s = 0; s < 4; s++) {
            for (long offset = -9; offset <= 9; offset++) {
                struct regs r = regs_kernel();
                bool hit = overlap(from, watched, place + offset, sizes[s]);
                /* QEMU reads the aligned words around one that is not. */
                if (on_tcg() && !hit && (place + offset) % sizes[s])
                    continue;
                r.bx = (ulong)data + (ulong)(place + offset);
                ulong address = (ulong)data + (ulong)from;
                expect_hits(name, r, stores[s].start, address, dr7_for(0, ON_WRITE, watched),
                            hit ? ROUNDS : 0, (ulong)stores[s].at);
                expect_hits(name, r, loads[s].start, address, dr7_for(0, ON_WRITE, watched), 0,
                            0);
                expect_hits(name, r, loads[s].start, address, dr7_for(0, ON_ACCESS, watched),
                            hit ? ROUNDS : 0, (ulong)loads[s].at);
            }
        }
    }
}

/* A write of `where` bytes behind data, met `hits` times with RIP at code.at then; in both
 * rings. */
static void expect_data(const char *name, struct code code, unsigned where, enum kind kind,
                        unsigned hits)
{
    for (unsigned ring = 0; ring < 2; ring++) {
        struct regs r = ring ? regs_user() : regs_kernel();
        r.bx = in_ring(&r, data + 4096);
        r.dx = r.sp;
        expect_hits(name, r, code.start, r.bx + where, dr7_for(0, kind, 8), hits,
                    in_ring(&r, code.at));
    }
}

static void accesses(void)
{
    expect_data(
        "one of three fields",
        CODE2("1: mov [rbx], rcx; mov [rbx + 8], rcx", "mov [rbx + 16], rcx; dec rcx; jnz 1b"),
        8, ON_WRITE, ROUNDS);
    expect_data("a field read and written",
                CODE2("1: mov rax, [rbx]; add [rbx + 8], rax", "mov [rbx + 16], rcx; "
                                                               "dec rcx; jnz 1b"),
                8, ON_WRITE, ROUNDS);
    expect_data("push", CODE2("1: lea rsp, [rbx + 16]; push rcx", "dec rcx; jnz 1b"), 8,
                ON_WRITE, ROUNDS);
    expect_data(
        "the second of three pushes",
        CODE2("1: lea rsp, [rbx + 24]; push rcx; push rcx", "push rcx; dec rcx; jnz 1b"), 8,
        ON_WRITE, ROUNDS);
    expect_data("pop", CODE2("1: mov rsp, rbx; pop rax; pop rax", "dec rcx; jnz 1b"), 8,
                ON_ACCESS, ROUNDS);
    expect_data("call", CODE2("1: lea rsp, [rbx + 16]; call 662f", "dec rcx; jnz 1b"), 8,
                ON_WRITE, ROUNDS);
    expect_data("ret",
                CODE2("1: lea rax, [rip + 662f]; mov [rbx + 64], rax; lea rsp, [rbx + 64]; ret",
                      "dec rcx; jnz 1b"),
                64, ON_ACCESS, 2 * ROUNDS);
    expect_data("locked", CODE2("1: lock inc qword ptr [rbx + 8]", "dec rcx; jnz 1b"), 8,
                ON_WRITE, ROUNDS);
    expect_data("of 16 bytes", CODE2("1: movups [rbx + 4], xmm0", "dec rcx; jnz 1b"), 8,
                ON_WRITE, ROUNDS);
    expect_data("bit in memory", CODE2("1: mov eax, 70; bts [rbx], rax", "dec rcx; jnz 1b"), 8,
                ON_WRITE, ROUNDS);
    expect_data("stosq", CODE2("1: lea rdi, [rbx + 8]; stosq", "dec rcx; jnz 1b"), 8, ON_WRITE,
                ROUNDS);
    expect_data("pushf", CODE2("1: lea rsp, [rbx + 16]; pushfq", "dec rcx; jnz 1b"), 8,
                ON_WRITE, ROUNDS);
    expect_data("another page", CODE2("1: mov [rbx], rcx", "dec rcx; jnz 1b"), 4096, ON_WRITE,
                0);
    expect_data(
        "the same page, not there",
        CODE2("1: mov [rbx], rcx; mov rax, [rbx + 8]; push rax; pop rax", "dec rcx; jnz 1b"),
        128, ON_ACCESS, 0);
}

/* 32-bit code, whose data segment has a base. */
static void data_segments(void)
{
    static const u16 selector = (FREE + 16) | 3;
    struct code code = CODE_IN(".code32", "1: mov edx, [ebx + 4]; mov [ebx], ecx; ",
                               "mov [ebx + 8], edx; loop 1b");
    struct regs r = regs_user();

    gdt_set(selector & ~3,
            segment((u32)in_ring(&r, data), 0x1fff, SEG_DATA | SEG_DPL3 | SEG_32));
    r.cs = UCODE32;
    for (unsigned n = 0; n < 2; n++) {
        r.ds = n ? selector : UDATA;
        r.bx = n ? 64 : in_ring(&r, data + 64);
        expect_hits("compatibility mode", r, code.start, in_ring(&r, data + 64),
                    dr7_for(0, ON_WRITE, 4), ROUNDS, in_ring(&r, code.at));
        expect_hits("compatibility mode, beside", r, code.start, in_ring(&r, data + 80),
                    dr7_for(0, ON_ACCESS, 4), 0, 0);
    }
}

/* A repeated string instruction traps behind the iteration that hit. */
static void strings(void)
{
    struct code code = CODE2("mov rdi, rbx; mov ecx, 100", "rep stosq");
    struct regs r = regs_kernel();

    r.bx = (ulong)data + 4096 - 400;
    expect_hits("rep stosq", r, code.start, (ulong)data + 4096, dr7_for(0, ON_WRITE, 8), 1,
                (ulong)code.at);
    write_dr7(DR7_CLEAR | dr7_for(0, ON_WRITE, 8));
    run("rep stosq", r, code.start, 0);
    check_equal("rep stosq: RCX", seen.cx, 49);
    write_dr7(DR7_CLEAR);
    code = CODE2("mov rdi, rbx; lea rsi, [rbx + 1024]; mov ecx, 100", "rep movsb");
    expect_hits("rep movsb", r, code.start, (ulong)data + 4096 - 400 + 1024 + 40,
                dr7_for(0, ON_ACCESS, 1), 1, (ulong)code.at);
}

/* -- Both ---------------------------------------------------------------------------------- */

/* A breakpoint on an instruction whose operand is watched: first one, then the other. */
static void together(void)
{
    struct code code = CODE2("1: inc rax", "mov [rbx], rax; dec rcx; jnz 1b");
    struct regs r = regs_kernel();

    r.bx = (ulong)data;
    run("together", r, code.start, WARM);
    write_dr0((ulong)code.at);
    write_dr1((ulong)data);
    run_with("together", r, code.start, dr7_for(0, ON_EXECUTE, 1) | dr7_for(1, ON_WRITE, 4),
             2 * ROUNDS, 3, 0);
    /* Without global or local enable there is none. */
    run_with("R/W alone", r, code.start,
             (dr7_for(0, ON_EXECUTE, 1) | dr7_for(1, ON_WRITE, 4)) & ~0xfful, 0, 0, 0);
}

/* Enabled in the middle of code that has just made the same access, and disabled again. */
static void midway(void)
{
    struct code store =
        CODE2("1: mov [rbx], rcx; mov rdx, [rbx + 8]; mov dr7, rax; mov [rbx], rcx",
              "mov rdx, [rbx + 8]; mov dr7, rsi; mov [rbx], rcx; dec rcx; jnz 1b");
    struct code next =
        CODE2("1: inc edx; mov dr7, rax", "inc edi; mov dr7, rsi; dec rcx; jnz 1b");
    struct regs r = regs_kernel();

    r.bx = (ulong)data;
    r.si = DR7_CLEAR;
    for (unsigned n = 0; n < 4; n++) {
        struct code code = n & 1 ? next : store;
        r.ax = DR7_CLEAR;
        run("midway", r, code.start, WARM);
        check_equal("midway", seen.count, 0);
        write_dr0(n & 1 ? (ulong)next.at : (ulong)data);
        r.ax |= n & 1 ? dr7_for(0, ON_EXECUTE, 1) : dr7_for(0, ON_WRITE, 8);
        run("midway", r, code.start, WARM);
        check_equal("midway", seen.count, WARM);
        check_equal("midway", seen.last, (ulong)code.at);
    }
}

/* The same page at two addresses: only one is watched. */
static void aliases(void)
{
    struct code code = CODE2("1: mov [rbx], rcx; mov [rdx], rcx", "dec rcx; jnz 1b");
    struct regs r = regs_kernel();

    page_map(PAGE_TEST, (ulong)data, 1, PTE_P | PTE_W);
    r.bx = (ulong)data;
    r.dx = PAGE_TEST;
    expect_hits("alias", r, code.start, PAGE_TEST, dr7_for(0, ON_WRITE, 8), ROUNDS,
                (ulong)code.at);
    r.dx = (ulong)data;
    expect_hits("alias not touched", r, code.start, PAGE_TEST, dr7_for(0, ON_WRITE, 8), 0, 0);
}

/* The step of the instruction before comes first, then the breakpoint. */
static void stepped(void)
{
    struct code code = CODE2("inc eax", "dec rcx; jnz 661b");
    struct regs r = regs_kernel();

    if (skip_tcg("step to a breakpoint", "QEMU takes them for one"))
        return;
    run("stepped", r, code.start, WARM);
    write_dr0((ulong)code.at);
    r.flags |= FLAG_TF;
    run_with("stepped", r, code.start, dr7_for(0, ON_EXECUTE, 1), 4 * ROUNDS, 1 | DR6_BS, 0);
}

void test(void)
{
    trap_set(DB, on_debug);
    instructions();
    functions();
    two_pages();
    segments();
    shadows();
    many();
    operands("in a page", 64);
    operands("at a page's beginning", 4096);
    accesses();
    data_segments();
    strings();
    together();
    midway();
    aliases();
    stepped();
}
