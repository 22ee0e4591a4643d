/*
 * 32-bit code in cells: what it sees is what was asked for, and the ways that it has out are no
 * ways to the host. It comes into a narrow cell as what runs there, and into a wide one by its
 * own far jump.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "probe.h"

#define WITNESS "/tmp/doppel-compat-witness"

/* Numbers in the 32-bit table, and beyond its end. */
#define NUMBERS  480
#define OPEN32   5
#define TLS32    243
#define OPENING  (O_WRONLY | O_CREAT)
#define SELECTOR (TLS_FIRST << 3 | 3) /* of the first thread-local segment */

/* Code of the tests' own, for both modes or one of them. */
#define OWN   (CODE + 0x400)
#define WORDS (DATA + 0x800) /* what it stores or reads there */

static void renew(struct fixture *f)
{
    fixture_drop(f);
    fixture_narrow(f);
}

static u64 stub(const struct fixture *f, const u8 *place)
{
    return f->cell.place.base + (u64)(place - cell_stub);
}

static u64 control(const struct fixture *f, unsigned field)
{
    return f->cell.place.base + CELL_CONTROL_PAGE * PAGE_SIZE + field;
}

static u8 *data(struct fixture *f, u64 address)
{
    return f->ram + DATA_PAGE * PAGE_SIZE + (address - DATA);
}

static u32 word(struct fixture *f, unsigned number)
{
    u32 value;
    memcpy(&value, data(f, WORDS) + 4 * number, sizeof(value));
    return value;
}

static void put(struct fixture *f, const void *code, u64 size)
{
    memcpy(f->ram + (OWN - CODE), code, size);
}
#define PUT(f, ...) put(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* A file that any open in the tests would make. */
static void watch(struct fixture *f)
{
    unlink(WITNESS);
    memcpy(data(f, DATA), WITNESS, sizeof(WITNESS));
}

static void assert_unseen(struct fixture *f)
{
    assert_int_equal(access(WITNESS, F_OK), -1);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(f->ram[SECRET_PAGE * PAGE_SIZE + i], 0x5e);
}

/* Whatever is asked for by number with these arguments, `open` would do harm. */
static void ask(struct fixture *f, u32 number)
{
    struct x86_cpu *c = f->cpu;
    c->gpr[RAX] = number;
    c->gpr[RBX] = DATA;
    c->gpr[RCX] = OPENING;
    c->gpr[RDX] = 0666;
    c->gpr[RSI] = c->gpr[RDI] = OPENING;
    c->gpr[R15] = c->gpr[RDI] = CODE_INT3; /* back from the stub, in 32-bit mode too */
}

/* -- What it is for ------------------------------------------------------------------------ */

static void test_stops(void **state)
{
    static const struct {
        u8 code[8];
        u8 stops_at;
        int signal;
        u64 trap; /* ~0: none */
    } cases[] = {
        {{0xcd, 0x80}, 2, SIGSYS, ~0ull},
        {{0xcc}, 1, SIGTRAP, 3},
        {{0x0f, 0x0b}, 0, SIGILL, 6},
        {{0x40, 0x0f, 0x0b}, 1, SIGILL, 6},                   /* inc eax, not a prefix */
        {{0xd4, 0x00}, 0, SIGFPE, 0},                         /* aam 0 */
        {{0xb0, 0x7f, 0x04, 1, 0xce}, 5, SIGSEGV, 4},         /* overflow; into */
        {{0x31, 0xc0, 0x62, 0x05, 0, 0, 0x60, 0}, 2, ~0, 5},  /* bound eax, [DATA] */
        {{0xf4}, 0, SIGSEGV, 13},                             /* hlt */
        {{0xa1, 0, 0, 0xe0, 0xff}, 0, SIGSEGV, 14},           /* mov eax, [ffe00000] */
        {{0xea, 0x20, 0, 0x40, 0, 0x33, 0}, 0x20, SIGILL, 6}, /* jmp 33:CODE_UD2 */
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        put(f, cases[i].code, sizeof(cases[i].code));
        fixture_registers32(f);
        memcpy(data(f, DATA), "\1\0\0\0\2\0\0\0", 8); /* the bounds of BOUND */
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        bool far = cases[i].stops_at == 0x20;
        assert_int_equal(f->cpu->rip, (far ? CODE : OWN) + cases[i].stops_at);
        assert_int_equal(f->stop.cs, far ? HOST_CS : HOST_CS32);
        if (cases[i].signal != ~0)
            assert_int_equal(f->stop.signal, cases[i].signal);
        if (cases[i].trap != ~0ull)
            assert_int_equal(f->stop.trap, cases[i].trap);
    }
}

/* Selectors and the thread pointer, as read and as loaded again. */
static void test_segments(void **state)
{
    static const u8 code[] = {
        0x8c, 0xc8, 0xab, 0x8c, 0xd0, 0xab, 0x8c, 0xd8,
        0xab, 0x8c, 0xc0, 0xab,                         /* cs ss ds es */
        0x8c, 0xe0, 0xab, 0x8c, 0xe8, 0xab,             /* fs gs */
        0x65, 0xa1, 4,    0,    0,    0,    0xab,       /* mov eax, gs:[4]; stosd */
        0x0f, 0xa8, 0x0f, 0xa9,                         /* push gs; pop gs */
        0x65, 0xa1, 4,    0,    0,    0,    0xab, 0xcc, /* the same; int3 */
    };
    static const u32 expected[] = {HOST_CS32, HOST_DS, HOST_DS, HOST_DS, 0, SELECTOR};
    struct fixture *f = *state;
    struct x86_cpu *c = f->cpu;
    put(f, code, sizeof(code));
    for (u32 i = 0; i < 3; i++) {
        const u32 before = 0xaaaaaaa0 + i, after = 0x55555550 + i;
        /* The register may hold another base than the table gives. */
        u64 held = DATA + 0x100, given = DATA + 0x200 + 16 * i;
        memcpy(data(f, held + 4), &before, 4);
        memcpy(data(f, given + 4), &after, 4);
        f->cell.tls[0] = (struct tls){TLS_FIRST, (u32)given, 0xfffff, TLS_DATA};
        fixture_registers32(f);
        c->seg[SEG_GS].sel = SELECTOR;
        c->seg[SEG_GS].base = held;
        c->gpr[RDI] = WORDS;
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGTRAP);
        for (unsigned n = 0; n < ARRAY_LEN(expected); n++)
            assert_int_equal(word(f, n), expected[n]);
        assert_int_equal(word(f, 6), before);
        assert_int_equal(word(f, 7), after);
        assert_int_equal(f->stop.selector[3], SELECTOR);
        assert_int_equal(c->seg[SEG_GS].base, given);
    }
    /* An empty place cannot be loaded. */
    f->cell.tls[0] = (struct tls){.entry = TLS_FIRST, .flags = TLS_EMPTY};
    PUT(f, 0xb8, SELECTOR, 0, 0, 0, 0x8e, 0xe8, 0xcc);
    fixture_registers32(f);
    assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
    assert_int_equal(f->stop.trap, 13);
    assert_int_equal(f->cpu->rip, OWN + 5);
}

/*
 * Why user code of a 32-bit Linux has no cells: its selectors are 73H for code and 7BH for the
 * stack. A 64-bit host has there a place that takes no code, and the processor's number.
 */
static void test_selectors_of_32_bit_kernels(void **state)
{
    struct fixture *f = *state;
    PUT(f, 0xea, 0, 0, 0x40, 0, 0x73, 0);
    fixture_registers32(f);
    f->cell.tls[2] = (struct tls){TLS_FIRST + 2, 0, 0xfffff, TLS_DATA};
    assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
    assert_int_equal(f->stop.trap, 13);
    assert_int_equal(f->stop.error, 0x70);
    PUT(f, 0xb8, 0x7b, 0, 0, 0, 0x8e, 0xd0, 0xcc); /* mov ss */
    fixture_registers32(f);
    assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
    assert_int_equal(f->stop.trap, 13);
    assert_int_equal(f->stop.error, 0x78);
}

/* -- System calls -------------------------------------------------------------------------- */

/* By INT 80H of its own, from both modes: the guest's, every number. */
static void test_every_call_from_guest(void **state)
{
    struct fixture *f = *state;
    watch(f);
    for (u32 number = 0; number < 2 * NUMBERS; number++) {
        if (number % 2)
            fixture_registers(f, 0);
        else
            fixture_registers32(f);
        ask(f, number / 2);
        assert_int_equal(fixture_run(f, CODE_INT80), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGSYS);
        assert_int_equal(f->cpu->rip, CODE_INT80 + 2);
        assert_int_equal(f->cpu->gpr[RAX], number / 2);
    }
    assert_unseen(f);
}

/* The same from 32-bit code that a wide cell's 64-bit code jumped to. */
static void test_every_call_from_wide(void **state)
{
    static const u8 far[] = {0xff, 0x2e}; /* jmp far [rsi] */
    const struct __attribute__((packed)) {
        u32 offset;
        u16 selector;
    } target = {CODE_INT80, HOST_CS32};
    struct fixture *f = *state;
    put(f, far, sizeof(far));
    watch(f);
    memcpy(data(f, WORDS), &target, sizeof(target));
    for (u32 number = 0; number < NUMBERS; number++) {
        fixture_registers(f, 0);
        ask(f, number);
        f->cpu->gpr[RSI] = WORDS;
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGSYS);
        assert_int_equal(f->stop.cs, HOST_CS32);
    }
    assert_unseen(f);
}

/* The stub's INT 80H: of a wide cell it is as any other; of a narrow one it can be used from
 * both modes, and for one thing. */
static void test_gadget_of_wide(void **state)
{
    struct fixture *f = *state;
    watch(f);
    for (u32 number = 0; number < NUMBERS; number++) {
        fixture_registers(f, 0);
        ask(f, number);
        assert_int_equal(fixture_run(f, stub(f, cell_stub_legacy_end) - 2), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGSYS);
    }
    assert_unseen(f);
}

static void test_gadget_of_narrow(void **state)
{
    struct fixture *f = *state;
    watch(f);
    for (u32 i = 0; i < 4 * NUMBERS; i++) {
        u32 number = i / 4;
        bool descriptor = i & 2;
        if (i & 1)
            fixture_registers(f, 0);
        else
            fixture_registers32(f);
        ask(f, number);
        if (descriptor)
            f->cpu->gpr[RBX] = control(f, CONTROL_TLS);
        enum cell_end end = fixture_run(f, stub(f, cell_stub_legacy_end) - 2);
        if (descriptor && number == TLS32) {
            assert_int_equal(end, CELL_STOPPED);
            continue;
        }
        assert_int_equal(end, CELL_DEAD);
        assert_true(f->cell.dead);
        renew(f);
    }
    assert_unseen(f);
}

/* What is 64-bit by number must not be 32-bit by that number, nor the other way round. */
static void test_numbers_of_the_other_table(void **state)
{
    const u32 numbers[] = {SYS_futex, SYS_rt_sigreturn, SYS_gettimeofday, SYS_time, SYS_getcpu};
    struct fixture *f = *state;
    for (unsigned i = 0; i <= ARRAY_LEN(numbers); i++) {
        bool last = i == ARRAY_LEN(numbers);
        const u8 *place = last ? cell_stub_gadget_end : cell_stub_legacy_end;
        fixture_registers(f, 0);
        ask(f, last ? TLS32 : numbers[i]);
        f->cpu->gpr[RBX] = f->cpu->gpr[RDI] = control(f, last ? CONTROL_TLS : CONTROL_TURN);
        f->cpu->gpr[RCX] = f->cpu->gpr[RDX] = f->cpu->gpr[RSI] = 0;
        assert_int_equal(fixture_run(f, stub(f, place) - 2), CELL_DEAD);
        renew(f);
    }
}

/* set_thread_area with descriptors elsewhere, where others could change them or that are not
 * the cell's. */
static void test_foreign_descriptors(void **state)
{
    struct fixture *f = *state;
    const u64 tls = control(f, CONTROL_TLS);
    const u64 places[] = {DATA,    tls - TLS_SIZE, tls + TLS_MAX * TLS_SIZE, tls + 1, tls + 4,
                          FIXED,   control(f, 0),  f->cell.place.base,       0,       ~0u,
                          tls ^ 1, tls + BIT(31)};
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        fixture_registers(f, 0);
        ask(f, TLS32);
        f->cpu->gpr[RBX] = places[i];
        assert_int_equal(fixture_run(f, stub(f, cell_stub_legacy_end) - 2), CELL_DEAD);
        renew(f);
    }
}

/* A process sets its places by itself: the next that is given the cell sees its own. */
static void test_left_descriptors(void **state)
{
    const struct tls evil = {TLS_FIRST + 1, DATA, 0xfffff, TLS_DATA};
    struct fixture *f = *state;
    PUT(f, 0xb8, SELECTOR + 8, 0, 0, 0, 0x8e, 0xe8, 0xcc); /* mov gs, place; int3 */
    for (unsigned again = 0; again < 2; again++) {
        fixture_registers32(f);
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        assert_int_equal(f->stop.trap, 13);
        fixture_registers(f, 0);
        memcpy(&f->cell.control->tls[1], &evil, sizeof(evil));
        ask(f, TLS32);
        f->cpu->gpr[RBX] = control(f, CONTROL_TLS) + TLS_SIZE;
        assert_int_equal(fixture_run(f, stub(f, cell_stub_legacy_end) - 2), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGTRAP);
        assert_int_equal(f->cpu->gpr[RAX], 0);
        fixture_registers32(f);
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGTRAP); /* it can be loaded */
        f->cell.tls_unknown = true;
    }
}

/* SYSENTER and SYSCALL in 32-bit code: the scan keeps them from cells, but if they come, none
 * is the host's. Where ESP points decides how far Linux goes. */
static void test_fast_calls(void **state)
{
    static const u8 calls[][2] = {{0x0f, 0x34}, {0x0f, 0x05}};
    static const u64 stacks[] = {STACK - 0x100, 0xe0000000, 0, 0xfffffffc};
    struct fixture *f = *state;
    watch(f);
    for (unsigned i = 0; i < 2 * ARRAY_LEN(stacks) * NUMBERS; i++) {
        put(f, calls[i % 2], 2);
        fixture_registers32(f);
        ask(f, i / 2 / ARRAY_LEN(stacks));
        f->cpu->gpr[RSP] = stacks[i / 2 % ARRAY_LEN(stacks)];
        f->cpu->gpr[RBP] = f->cpu->gpr[RSP];
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        assert_true(f->stop.signal == SIGSYS || f->stop.signal == SIGILL ||
                    f->stop.signal == SIGSEGV);
    }
    assert_unseen(f);
}

/* Both gadgets reached by 32-bit code, and each byte of the stub as such code. */
static void test_stub_in_32_bit(void **state)
{
    const unsigned size = (unsigned)(cell_stub_end - cell_stub);
    struct fixture *f = *state;
    watch(f);
    for (unsigned at = 0; at < size; at++) {
        struct kicker kicker;
        fixture_registers32(f);
        ask(f, OPEN32);
        f->cell.deadline = 20000000;
        kicker_start(&kicker, f, 2, false);
        enum cell_end end = fixture_run(f, f->cell.place.base + at);
        kicker_join(&kicker);
        if (end == CELL_DEAD || !cell_verify(&f->cell))
            renew(f);
        atomic_store(&f->cell.kicked, 0);
        assert_unseen(f);
    }
}

/* -- Jumps between the modes --------------------------------------------------------------- */

/* From each mode by every selector: where it arrives is user code of one of the two kinds. */
static void test_far_jumps(void **state)
{
    struct fixture *f = *state;
    PUT(f, 0xff, 0x2e, 0xcc); /* jmp far [esi] */
    for (u32 i = 0; i < 2 * 0x120; i++) {
        u32 selector = i / 2 < 0x100 ? i / 2 : 0x1000 * (i / 2 - 0x100) + 0x33;
        const u32 target[2] = {CODE_UD2, selector};
        memcpy(data(f, WORDS), target, sizeof(target));
        if (i % 2)
            fixture_registers(f, 0);
        else
            fixture_registers32(f);
        f->cpu->gpr[RSI] = WORDS;
        f->cpu->cpl = 3;
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        bool good = f->stop.signal == SIGILL;
        assert_int_equal(f->cpu->rip, good ? CODE_UD2 : OWN);
        assert_true(good || f->stop.trap == 13);
        assert_true(f->stop.cs == HOST_CS || f->stop.cs == HOST_CS32);
        assert_int_equal(good, (selector & ~3u & 0xffff) == (HOST_CS & ~3u) ||
                                   (selector & ~3u & 0xffff) == (HOST_CS32 & ~3u));
    }
}

/* Whatever the mode was, the next run is in the mode that it is given. */
static void test_mode_of_resume(void **state)
{
    struct fixture *f = *state;
    PUT(f, 0x31, 0xc0, 0x48, 0xff, 0xc0, 0xcc); /* xor eax, eax; inc rax, or dec eax; inc eax */
    for (unsigned i = 0; i < 4; i++) {
        if (i % 2)
            fixture_registers(f, 0);
        else
            fixture_registers32(f);
        assert_int_equal(fixture_run(f, OWN), CELL_STOPPED);
        assert_int_equal(f->cpu->gpr[RAX], i % 2);
        assert_int_equal(f->stop.cs, i % 2 ? HOST_CS : HOST_CS32);
    }
}

/* The host's vsyscall page is for 64-bit code of a narrow cell as of a wide one. */
static void test_vsyscall(void **state)
{
    static const u64 entries[] = {0xffffffffff600000, 0xffffffffff600400, 0xffffffffff600800};
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(entries); i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RBX] = entries[i];
        f->cpu->gpr[RDI] = f->cpu->gpr[RSI] = DATA;
        memset(data(f, DATA), 0, 16);
        assert_int_equal(fixture_run(f, CODE_CALL), CELL_STOPPED);
        assert_true(f->stop.signal == SIGSEGV ||
                    (f->stop.signal == SIGSYS && f->stop.call_address == entries[i]));
        assert_memory_equal(data(f, DATA), "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
        /* From 32-bit code there is nothing at that address. */
        fixture_registers32(f);
        assert_int_equal(fixture_run(f, (u32)entries[i]), CELL_STOPPED);
        assert_int_equal(f->stop.trap, 14);
        assert_int_equal(f->stop.cr2, (u32)entries[i]);
    }
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        NARROW_TEST(test_stops),
        NARROW_TEST(test_segments),
        NARROW_TEST(test_selectors_of_32_bit_kernels),
        NARROW_TEST(test_every_call_from_guest),
        CELL_TEST(test_every_call_from_wide),
        CELL_TEST(test_gadget_of_wide),
        NARROW_TEST(test_gadget_of_narrow),
        NARROW_TEST(test_numbers_of_the_other_table),
        NARROW_TEST(test_foreign_descriptors),
        NARROW_TEST(test_left_descriptors),
        NARROW_TEST(test_fast_calls),
        NARROW_TEST(test_stub_in_32_bit),
        NARROW_TEST(test_far_jumps),
        NARROW_TEST(test_mode_of_resume),
        NARROW_TEST(test_vsyscall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
