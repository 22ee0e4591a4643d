/*
 * Self-modifying code: the next instruction, the own loop, another page, an alias of the page,
 * a page that is exchanged, and code that is rewritten again and again (SDM 3A 8.1.3, 11.6).
 */
#include "lib/page.h"
#include "lib/system.h"

#define T0 (PAGE_TEST + 0x1000)
#define T1 (PAGE_TEST + 0x2000)
#define RW (PTE_P | PTE_W)

static u8 area[8192] __attribute__((aligned(4096)));

typedef u32 function(void);

/* mov eax, value; ret */
static void write_function(volatile u8 *at, u32 value)
{
    at[0] = 0xb8;
    *(volatile u32 *)(at + 1) = value;
    at[5] = 0xc3;
}

static u32 call(const volatile void *at)
{
    u32 result;

    asm volatile("call *%1" : "=a"(result) : "r"(at) : "rcx", "rdx", "rsi", "rdi", "memory");
    return result;
}

static void next_instruction(void)
{
    struct regs r = regs_kernel();

    expect_done("the next instruction", &r,
                CODE("mov byte ptr [rip + 1f + 1], 0x22; 1: mov al, 0x11; "
                     "mov byte ptr [rip + 1b + 1], 0x11"));
    check_equal("new immediate", r.ax & 0xff, 0x22);
    r = regs_kernel();
    expect_done("an opcode becomes another", &r,
                CODE("xor eax, eax; mov word ptr [rip + 1f], 0xc0ff; 1: nop; nop; "
                     "mov word ptr [rip + 1b], 0x9090"));
    check_equal("inc eax ran", r.ax, 1);
    r = regs_kernel();
    r.cx = 1000;
    expect_done("a loop that changes itself", &r,
                CODE("xor eax, eax; mov dword ptr [rip + 1f + 1], 0; "
                     "0: 1: add eax, 0x7fffffff; inc dword ptr [rip + 1b + 1]; loop 0b"));
    check_equal("sum of 0 to 999", r.ax, 499500);
    r = regs_kernel();
    r.cx = 4;
    expect_done(
        "a jump's target", &r,
        CODE("xor eax, eax; 1: jmp 2f; inc eax; 2: inc eax; mov byte ptr [rip + 1b + 1], 0; "
             "loop 1b; mov byte ptr [rip + 1b + 1], 2"));
    check_equal("1 + 3 * 2", r.ax, 7);
}

static void string_store(void)
{
    static const u8 head[] = {0xf3, 0xaa}; /* rep stosb over all that follows */
    struct regs r = regs_kernel();

    for (unsigned i = 0; i < 64; i++)
        area[i] = i < 2 ? head[i] : 0x0f; /* would be undefined */
    area[64] = 0xcd;
    area[65] = 0x40;
    r.di = (ulong)area + 2;
    r.cx = 62;
    r.ax = 0x90;
    r.ip = (ulong)area;
    regs_run(&r);
    check_equal("rep stosb over what follows", r.vector, VECTOR_END);
    check_equal("RCX", r.cx, 0);
    check_equal("end", r.ip, (ulong)area + 66);
}

static void rewritten(void)
{
    u32 wrong = 0;

    for (u32 i = 0; i < 2000; i++) {
        write_function(area + 16 * (i % 7), i);
        wrong += call(area + 16 * (i % 7)) != i;
    }
    check_equal("functions that are rewritten", wrong, 0);
    wrong = 0;
    for (u32 i = 0; i < 2000; i++) {
        area[1] = i;
        area[2] = i >> 8;
        area[0] = 0xb8;
        area[3] = area[4] = 0;
        area[5] = 0xc3;
        wrong += call(area) != i;
    }
    check_equal("byte by byte", wrong, 0);
}

/* Code that turns every call the next call's constant. */
static void self_counting(void)
{
    /* mov eax, imm; inc dword [rip - 11 + 1]; ret */
    static const u8 bytes[] = {0xb8, 0, 0, 0, 0, 0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, 0xc3};
    u32 wrong = 0;

    for (unsigned i = 0; i < sizeof(bytes); i++)
        area[i] = bytes[i];
    for (u32 i = 0; i < 1000; i++)
        wrong += call(area) != i;
    check_equal("code that counts in itself", wrong, 0);
}

static void page_crossing(void)
{
    u8 *at = area + 4096 - 3; /* the immediate lies in both pages */

    for (u32 i = 1; i < 200; i++) {
        write_function(at, i * 0x01010101);
        if (!check_equal("instruction across pages", call(at), i * 0x01010101))
            break;
        *(volatile u8 *)(area + 4096) = 0xee; /* only the second page changes */
        if (!check_equal("its second half modified", call(at) >> 16 & 0xff, 0xee))
            break;
    }
}

static void alias(void)
{
    ulong page = page_alloc();

    page_map(T0, page, 1, RW);
    page_map(T1, page, 1, RW);
    for (u32 i = 0; i < 200; i++) {
        write_function((u8 *)T1 + 0x80, i);
        cpuid(0, 0); /* serialises, as another linear address demands */
        if (!check_equal("written through an alias", call((void *)(T0 + 0x80)), i))
            break;
        write_function((u8 *)page + 0x80, ~i);
        cpuid(0, 0);
        if (!check_equal("written by its physical page", call((void *)(T0 + 0x80)), ~i))
            break;
    }
}

static void exchanged(void)
{
    ulong pages[2] = {page_alloc(), page_alloc()};

    write_function((u8 *)pages[0], 100);
    write_function((u8 *)pages[1], 101);
    for (u32 i = 0; i < 200; i++) {
        page_map(T0, pages[i & 1], 1, RW);
        if (!check_equal("page exchanged", call((void *)T0), 100 + (i & 1)))
            break;
    }
    /* the same by CR3, and a write while the code is mapped nowhere */
    page_map(T0, pages[0], 1, RW);
    call((void *)T0);
    *page_entry(T0, 1) = 0;
    invlpg((void *)T0);
    write_function((u8 *)pages[0], 555);
    *page_entry(T0, 1) = pages[0] | RW;
    check_equal("written while unmapped", call((void *)T0), 555);
}

/* A code page that also holds data which changes all the time. */
static void mixed_page(void)
{
    volatile u32 *counter = (volatile u32 *)(area + 2048);
    u32 wrong = 0;

    write_function(area, 77);
    *counter = 0;
    for (u32 i = 0; i < 5000; i++) {
        *counter += 1;
        wrong += call(area) != 77;
    }
    check_equal("data beside code", wrong, 0);
    check_equal("its count", *counter, 5000);
}

/* The same bytes as 64-bit and as 32-bit code. */
static void two_modes(void)
{
    struct code code = CODE(".byte 0x40, 0x48, 0x90"); /* rex prefixes, or inc eax; dec eax */
    struct code counted = CODE(".byte 0x31, 0xc0, 0x40, 0x40, 0x90");
    struct regs r = regs_kernel();

    expect_done("as 64-bit code", &r, counted);
    check_equal("prefixes", r.ax, 0);
    r = regs_kernel();
    r.cs = KCODE32;
    expect_done("as 32-bit code", &r, counted);
    check_equal("two increments", r.ax, 2);
    r = regs_kernel();
    expect_done("as 64-bit code again", &r, counted);
    check_equal("prefixes", r.ax, 0);
    r = regs_kernel();
    expect_done("prefixes alone", &r, code);
}

/* Written by ring 3, run by ring 3. */
static void user(void)
{
    struct regs r = regs_user();

    r.bx = (ulong)area + USER_BASE;
    r.cx = 500;
    expect_done("a generator in ring 3", &r,
                CODE("xor esi, esi; 1: mov byte ptr [rbx], 0xb8; mov [rbx + 1], ecx; "
                     "mov byte ptr [rbx + 5], 0xc3; call rbx; add esi, eax; dec ecx; jnz 1b"));
    check_equal("sum of 1 to 500", r.si, 125250);
}

void test(void)
{
    next_instruction();
    string_store();
    rewritten();
    self_counting();
    page_crossing();
    alias();
    exchanged();
    mixed_page();
    two_modes();
    user();
}
