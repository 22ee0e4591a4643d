/*
 * Integer instructions where the processor beside us cannot be the judge: faults, LOCK, other
 * modes, repetition that stops, and results that follow from arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fake_ops.h"

static u64 load(struct fake *f, u64 la, unsigned n)
{
    u64 value = 0;
    memcpy(&value, fake_at(f, la), n);
    return value;
}

static void store(struct fake *f, u64 la, unsigned n, u64 value)
{
    memcpy(fake_at(f, la), &value, n);
}

/* -- Read-modify-write and LOCK ------------------------------------------------------------ */

static void test_write_fault_first(void **state)
{
    static const u8 rmw[][4] = {
        {0x01, 0x03},       {0xf0, 0x01, 0x03},    {0xff, 0x03}, {0x87, 0x03},
        {0x0f, 0xc1, 0x03}, {0x0f, 0xb1, 0x03},    {0xd1, 0x23}, {0x0f, 0xab, 0x03},
        {0x0f, 0xc7, 0x0b}, {0x0f, 0xa4, 0x03, 5}, {0xf6, 0x13},
    };
    for (int tlb = 0; tlb < 2; tlb++) {
        struct fake *f = fake_new(8, tlb);
        fake_protect(f, FAKE_DATA, false, true);
        for (size_t k = 0; k < ARRAY_LEN(rmw); k++) {
            f->cpu.gpr[RBX] = FAKE_DATA + 8;
            f->cpu.gpr[RAX] = 1;
            f->cpu.rflags = FLAG_FIXED | FLAG_CF | FLAG_OF;
            assert_int_equal(fake_run(f, rmw[k], sizeof(rmw[k])), VEC_PF);
            assert_int_equal(f->cpu.fault.error, PF_W | PF_P);
            assert_int_equal(f->cpu.fault.cr2, FAKE_DATA + 8);
            assert_int_equal(f->cpu.rip, FAKE_CODE);
            assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_CF | FLAG_OF);
            assert_int_equal(f->cpu.gpr[RAX], 1);
            assert_int_equal(load(f, FAKE_DATA + 8, 8), 0);
        }
        fake_free(f);
    }
}

static void test_bus_lock(void **state)
{
    struct fake *f = fake_new(8, false);
    f->refuse_atomic = true;
    f->cpu.gpr[RBX] = FAKE_DATA;
    f->cpu.gpr[RAX] = 5;
    store(f, FAKE_DATA, 4, 0xffffffff);
    assert_int_equal(FAKE_RUN(f, 0xf0, 0x01, 0x03), -1); /* lock add [rbx], eax */
    assert_int_equal(load(f, FAKE_DATA, 8), 4);
    assert_true(f->cpu.rflags & FLAG_CF);
    assert_int_equal(f->lock_calls, 1);
    assert_int_equal(f->locks, 0);
    assert_int_equal(FAKE_RUN(f, 0xf0, 0x0f, 0xb1, 0x0b), -1); /* lock cmpxchg: not equal */
    assert_int_equal(f->cpu.gpr[RAX], 4);
    assert_int_equal(FAKE_RUN(f, 0x87, 0x03), -1); /* xchg locks by itself */
    assert_int_equal(f->lock_calls, 3);
    assert_int_equal(f->locks, 0);
    /* Across pages, the second one absent: the fault comes before the lock is taken. */
    fake_protect(f, FAKE_DATA + PAGE_SIZE, true, false);
    f->cpu.gpr[RBX] = FAKE_DATA + PAGE_SIZE - 2;
    assert_int_equal(FAKE_RUN(f, 0xf0, 0xff, 0x03), VEC_PF);
    assert_int_equal(f->cpu.fault.cr2, FAKE_DATA + PAGE_SIZE);
    assert_int_equal(f->locks, 0);
    fake_free(f);
}

static void test_cmpxchg_pair(void **state)
{
    for (int refuse = 0; refuse < 2; refuse++) {
        struct fake *f = fake_new(8, !refuse);
        f->refuse_atomic = refuse;
        struct x86_cpu *c = &f->cpu;
        c->gpr[RDI] = FAKE_DATA + 8;
        assert_int_equal(FAKE_RUN(f, 0xf0, 0x48, 0x0f, 0xc7, 0x0f), VEC_GP);
        c->gpr[RDI] = FAKE_DATA + 16;
        store(f, FAKE_DATA + 16, 8, 1);
        store(f, FAKE_DATA + 24, 8, 2);
        c->gpr[RBX] = 3;
        c->gpr[RCX] = 4;
        assert_int_equal(FAKE_RUN(f, 0xf0, 0x48, 0x0f, 0xc7, 0x0f), -1);
        assert_false(c->rflags & FLAG_ZF);
        assert_int_equal(c->gpr[RAX], 1);
        assert_int_equal(c->gpr[RDX], 2);
        assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0xc7, 0x0f), -1);
        assert_true(c->rflags & FLAG_ZF);
        assert_int_equal(load(f, FAKE_DATA + 16, 8), 3);
        assert_int_equal(load(f, FAKE_DATA + 24, 8), 4);
        fake_free(f);
    }
}

/* -- Bit strings --------------------------------------------------------------------------- */

static void test_bit_string(void **state)
{
    struct fake *f = fake_new(8, true);
    f->cpu.gpr[RBX] = FAKE_DATA + 64;
    for (int bit = -512; bit < 512; bit += 7) {
        f->cpu.gpr[RAX] = (u64)(s64)bit;
        assert_int_equal(FAKE_RUN(f, 0x0f, 0xab, 0x03), -1); /* bts [rbx], eax */
        assert_false(f->cpu.rflags & FLAG_CF);
        u8 *byte = (u8 *)fake_at(f, FAKE_DATA + 64) + (bit >> 3);
        assert_int_equal(*byte >> (bit & 7) & 1, 1);
        FAKE_RUN(f, 0x48, 0x0f, 0xa3, 0x03); /* bt [rbx], rax */
        assert_true(f->cpu.rflags & FLAG_CF);
    }
    /* An immediate is cut to the operand instead. */
    store(f, FAKE_DATA + 64, 4, 0);
    FAKE_RUN(f, 0x0f, 0xba, 0x2b, 35);
    assert_int_equal(load(f, FAKE_DATA + 64, 4), 8);
    fake_free(f);
}

/* -- Strings ------------------------------------------------------------------------------- */

static void test_rep_movs_fault(void **state)
{
    for (int tlb = 0; tlb < 2; tlb++) {
        struct fake *f = fake_new(8, tlb);
        struct x86_cpu *c = &f->cpu;
        fake_protect(f, FAKE_DATA + 4 * PAGE_SIZE, true, false);
        for (unsigned k = 0; k < PAGE_SIZE; k++)
            f->memory[2 * PAGE_SIZE + k] = (u8)(k * 7);
        c->gpr[RSI] = FAKE_DATA;
        c->gpr[RDI] = FAKE_DATA + 4 * PAGE_SIZE - 100;
        c->gpr[RCX] = 1000;
        assert_int_equal(FAKE_RUN(f, 0xf3, 0xa4), VEC_PF);
        assert_int_equal(c->gpr[RCX], 900);
        assert_int_equal(c->gpr[RSI], FAKE_DATA + 100);
        assert_int_equal(c->gpr[RDI], FAKE_DATA + 4 * PAGE_SIZE);
        assert_int_equal(c->rip, FAKE_CODE);
        assert_memory_equal(fake_at(f, FAKE_DATA), fake_at(f, FAKE_DATA + 4 * PAGE_SIZE - 100),
                            100);
        fake_free(f);
    }
}

/* Copying forward onto itself repeats the first elements; backward it moves. */
static void test_rep_overlap(void **state)
{
    for (int tlb = 0; tlb < 2; tlb++) {
        struct fake *f = fake_new(8, tlb);
        struct x86_cpu *c = &f->cpu;
        memcpy(fake_at(f, FAKE_DATA), "abcdefgh", 8);
        c->gpr[RSI] = FAKE_DATA;
        c->gpr[RDI] = FAKE_DATA + 3;
        c->gpr[RCX] = 8;
        assert_int_equal(FAKE_RUN(f, 0xf3, 0xa4), -1);
        assert_memory_equal(fake_at(f, FAKE_DATA), "abcabcabcab", 11);
        c->rflags |= FLAG_DF;
        c->gpr[RSI] = FAKE_DATA + 7;
        c->gpr[RDI] = FAKE_DATA + 10;
        c->gpr[RCX] = 8;
        memcpy(fake_at(f, FAKE_DATA), "abcdefgh", 8);
        assert_int_equal(FAKE_RUN(f, 0xf3, 0xa4), -1);
        assert_memory_equal(fake_at(f, FAKE_DATA), "abcabcdefgh", 11);
        assert_int_equal(c->gpr[RDI], FAKE_DATA + 2);
        fake_free(f);
    }
}

static void test_rep_attention(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    atomic_store(&c->attention, ATTN_KICK);
    c->gpr[RDI] = FAKE_DATA;
    c->gpr[RAX] = 0x5a;
    c->gpr[RCX] = 3 * PAGE_SIZE;
    unsigned rounds = 0;
    do {
        u64 before = c->gpr[RCX];
        assert_int_equal(FAKE_RUN(f, 0xf3, 0xaa), -1);
        assert_true(c->gpr[RCX] < before);
        assert_int_equal(c->gpr[RDI] - FAKE_DATA, 3 * PAGE_SIZE - c->gpr[RCX]);
        rounds++;
    } while (c->rip == FAKE_CODE);
    assert_int_equal(rounds, 3); /* at most a page between two looks */
    assert_int_equal(c->rip, FAKE_CODE + 2);
    assert_int_equal(load(f, FAKE_DATA + 3 * PAGE_SIZE - 1, 1), 0x5a);

    /* Single-stepping stops after each iteration. */
    atomic_store(&c->attention, 0);
    c->rflags |= FLAG_TF;
    c->gpr[RCX] = 2;
    FAKE_RUN(f, 0xf3, 0xaa);
    assert_int_equal(c->gpr[RCX], 1);
    assert_int_equal(c->rip, FAKE_CODE);
    fake_free(f);
}

static void test_rep_compare(void **state)
{
    for (int tlb = 0; tlb < 2; tlb++) {
        struct fake *f = fake_new(8, tlb);
        struct x86_cpu *c = &f->cpu;
        memset(fake_at(f, FAKE_DATA), 'x', 6000);
        store(f, FAKE_DATA + 5000, 1, 0);
        c->gpr[RDI] = FAKE_DATA;
        c->gpr[RAX] = 0;
        c->gpr[RCX] = ~0ull;
        assert_int_equal(FAKE_RUN(f, 0xf2, 0xae), -1); /* strlen */
        assert_int_equal(~c->gpr[RCX] - 1, 5000);
        assert_true(c->rflags & FLAG_ZF);
        c->gpr[RSI] = FAKE_DATA;
        c->gpr[RDI] = FAKE_DATA + 1;
        c->gpr[RCX] = 6000;
        assert_int_equal(FAKE_RUN(f, 0xf3, 0xa6), -1); /* 'x' against 0 */
        assert_int_equal(c->gpr[RSI], FAKE_DATA + 5000);
        assert_int_equal(c->rflags & (FLAG_ZF | FLAG_CF), 0);
        fake_free(f);
    }
}

/* 16-bit addressing wraps within 64 KiB. */
static void test_string_wrap(void **state)
{
    struct fake *f = fake_new(2, true);
    struct x86_cpu *c = &f->cpu;
    c->seg[SEG_ES].base = FAKE_BASE;
    x86_derive(c);
    c->gpr[RDI] = 0xabcdfffe;
    c->gpr[RCX] = 4;
    c->gpr[RAX] = 0x77;
    assert_int_equal(FAKE_RUN(f, 0xf3, 0xaa), -1);
    assert_int_equal(c->gpr[RDI], 0xabcd0002);
    assert_int_equal(load(f, FAKE_BASE + 0xfffe, 2), 0x7777);
    assert_int_equal(load(f, FAKE_BASE, 2), 0x7777);
    fake_free(f);
}

/* -- Stack --------------------------------------------------------------------------------- */

static void test_stack(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    FAKE_RUN(f, 0x54); /* push rsp: the old value */
    assert_int_equal(load(f, FAKE_STACK - 8, 8), FAKE_STACK);
    FAKE_RUN(f, 0x5c);
    assert_int_equal(c->gpr[RSP], FAKE_STACK);
    FAKE_RUN(f, 0x6a, 0xff);
    FAKE_RUN(f, 0x8f, 0x04, 0x24); /* pop [rsp]: the address after the increment */
    assert_int_equal(c->gpr[RSP], FAKE_STACK);
    assert_true(load(f, FAKE_STACK, 8) == ~0ull);
    FAKE_RUN(f, 0x66, 0x6a, 0xfe);
    assert_int_equal(c->gpr[RSP], FAKE_STACK - 2);
    assert_int_equal(load(f, FAKE_STACK - 2, 2), 0xfffe);
    /* A fault in pop [mem] keeps RSP. */
    c->gpr[RAX] = 0;
    assert_int_equal(FAKE_RUN(f, 0x8f, 0x00), VEC_PF);
    assert_int_equal(c->gpr[RSP], FAKE_STACK - 2);
    fake_free(f);

    f = fake_new(4, true);
    c = &f->cpu;
    for (unsigned r = RAX; r <= RDI; r++)
        if (r != RSP)
            c->gpr[r] = 0x1000 + r;
    FAKE_RUN(f, 0x60);
    assert_int_equal(c->gpr[RSP], FAKE_STACK - 32);
    assert_int_equal(load(f, FAKE_STACK - 4, 4), 0x1000 + RAX);
    assert_int_equal(load(f, FAKE_STACK - 20, 4), FAKE_STACK);
    memset(c->gpr, 0, sizeof(c->gpr[0]) * RSP);
    FAKE_RUN(f, 0x61);
    assert_int_equal(c->gpr[RBX], 0x1000 + RBX);
    assert_int_equal(c->gpr[RSP], FAKE_STACK);

    /* enter 8, 2: old EBP, a copy of the outer frame's pointer, and this frame's. */
    c->gpr[RBP] = FAKE_DATA + 16;
    store(f, FAKE_DATA + 12, 4, 0x2222);
    FAKE_RUN(f, 0xc8, 8, 0, 2);
    assert_int_equal(load(f, FAKE_STACK - 4, 4), FAKE_DATA + 16);
    assert_int_equal(load(f, FAKE_STACK - 8, 4), 0x2222);
    assert_int_equal(load(f, FAKE_STACK - 12, 4), FAKE_STACK - 4);
    assert_int_equal(c->gpr[RBP], FAKE_STACK - 4);
    assert_int_equal(c->gpr[RSP], FAKE_STACK - 20);
    FAKE_RUN(f, 0xc9);
    assert_int_equal(c->gpr[RBP], FAKE_DATA + 16);
    assert_int_equal(c->gpr[RSP], FAKE_STACK);
    fake_free(f);
}

/* -- Control flow -------------------------------------------------------------------------- */

static void test_branches(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    FAKE_RUN(f, 0xe8, 0x10, 0, 0, 0);
    assert_int_equal(c->rip, FAKE_CODE + 0x15);
    assert_int_equal(load(f, FAKE_STACK - 8, 8), FAKE_CODE + 5);
    FAKE_RUN(f, 0xc2, 0x08, 0x00);
    assert_int_equal(c->rip, FAKE_CODE + 5);
    assert_int_equal(c->gpr[RSP], FAKE_STACK + 8);
    /* A target that is not canonical faults at the branch, with nothing pushed. */
    c->gpr[RAX] = 1ull << 47;
    assert_int_equal(FAKE_RUN(f, 0xff, 0xd0), VEC_GP);
    assert_int_equal(c->rip, FAKE_CODE);
    assert_int_equal(c->gpr[RSP], FAKE_STACK + 8);
    store(f, FAKE_STACK + 8, 8, 1ull << 63);
    assert_int_equal(FAKE_RUN(f, 0xc3), VEC_GP);
    assert_int_equal(c->gpr[RSP], FAKE_STACK + 8);
    c->gpr[RCX] = 1ull << 32;
    FAKE_RUN(f, 0x67, 0xe3, 0x10); /* jecxz */
    assert_int_equal(c->rip, FAKE_CODE + 0x13);
    FAKE_RUN(f, 0xe3, 0x10); /* jrcxz */
    assert_int_equal(c->rip, FAKE_CODE + 2);
    FAKE_RUN(f, 0x67, 0xe2, 0x10); /* loop with ECX: 0 - 1 */
    assert_int_equal(c->rip, FAKE_CODE + 0x13);
    assert_int_equal(c->gpr[RCX], 0xffffffff);
    fake_free(f);

    f = fake_new(4, true);
    c = &f->cpu;
    c->seg[SEG_CS].limit = FAKE_BASE + 0x7fff;
    x86_derive(c);
    assert_int_equal(FAKE_RUN(f, 0xe9, 0x00, 0x80, 0, 0), VEC_GP);
    assert_int_equal(FAKE_RUN(f, 0xe9, 0x00, 0x70, 0, 0), -1);
    assert_int_equal(FAKE_RUN(f, 0x66, 0xeb, 0x00), -1); /* cuts EIP */
    assert_int_equal(c->rip, (FAKE_CODE + 3) & 0xffff);
    fake_free(f);
}

/* Each condition against its definition, for all values of the flags it may look at. */
static void test_conditions(void **state)
{
    struct fake *f = fake_new(8, true);
    for (unsigned n = 0; n < 32; n++) {
        bool cf = n & 1, zf = n & 2, sf = n & 4, of = n & 8, pf = n & 16;
        bool met[16] = {of, !of, cf, !cf, zf,       !zf,      cf || zf,       !cf && !zf,
                        sf, !sf, pf, !pf, sf != of, sf == of, zf || sf != of, !zf && sf == of};
        u64 flags = FLAG_FIXED | (cf ? FLAG_CF : 0) | (zf ? FLAG_ZF : 0) | (sf ? FLAG_SF : 0) |
                    (of ? FLAG_OF : 0) | (pf ? FLAG_PF : 0);
        for (unsigned cc = 0; cc < 16; cc++) {
            f->cpu.rflags = flags;
            FAKE_RUN(f, 0x70 | cc, 0x20);
            assert_int_equal(f->cpu.rip, FAKE_CODE + 2 + (met[cc] ? 0x20 : 0));
            FAKE_RUN(f, 0x0f, 0x90 | cc, 0xc0);
            assert_int_equal(f->cpu.gpr[RAX] & 0xff, met[cc]);
        }
    }
    fake_free(f);
}

/* -- Arithmetic ---------------------------------------------------------------------------- */

static void test_divide(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    static const struct {
        u64 rax, rdx, rcx;
        int vector;
        bool is_signed;
    } cases[] = {
        {1, 0, 0, VEC_DE, false},
        {0, 1, 1, VEC_DE, false},
        {~0ull, 1, 2, -1, false},
        {1ull << 63, ~0ull, ~0ull, VEC_DE, true}, /* INT64_MIN / -1 */
        {1ull << 63, ~0ull, 1, -1, true},
        {1ull << 63, 0, 1, VEC_DE, true},
        {0, 1ull << 63, 1ull << 63, VEC_DE, true}, /* 2^127 / 2^63 magnitude */
        {0, 1ull << 62, 1ull << 63, -1, true},     /* -2^63 fits */
        {0, 1ull << 63, ~0ull, VEC_DE, true},
    };
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        c->gpr[RAX] = cases[k].rax;
        c->gpr[RDX] = cases[k].rdx;
        c->gpr[RCX] = cases[k].rcx;
        int vector = FAKE_RUN(f, 0x48, 0xf7, cases[k].is_signed ? 0xf9 : 0xf1);
        assert_int_equal(vector, cases[k].vector);
        if (vector >= 0)
            assert_int_equal(c->gpr[RAX], cases[k].rax);
    }
    fake_free(f);
}

/* Bytes against C, around the edge where quotients stop to fit. */
static void test_divide_bytes(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    for (int dividend = INT16_MIN; dividend <= INT16_MAX; dividend += 37) {
        for (int divisor = -128; divisor < 128; divisor += 5) {
            bool fits = divisor && dividend / divisor == (s8)(dividend / divisor);
            c->gpr[RAX] = (u16)dividend;
            c->gpr[RCX] = (u8)divisor;
            assert_int_equal(FAKE_RUN(f, 0xf6, 0xf9), fits ? -1 : VEC_DE);
            if (fits)
                assert_int_equal(c->gpr[RAX],
                                 (u8)(dividend % divisor) << 8 | (u8)(dividend / divisor));
            c->gpr[RAX] = (u16)dividend;
            fits = (u8)divisor && (u16)dividend / (u8)divisor < 256;
            assert_int_equal(FAKE_RUN(f, 0xf6, 0xf1), fits ? -1 : VEC_DE);
        }
    }
    fake_free(f);
}

static u8 bcd(unsigned v)
{
    return (u8)(v % 100 / 10 << 4 | v % 10);
}

static void test_decimal(void **state)
{
    struct fake *f = fake_new(4, true);
    struct x86_cpu *c = &f->cpu;
    for (unsigned a = 0; a < 100; a++) {
        for (unsigned b = 0; b < 100; b++) {
            c->gpr[RAX] = bcd(a);
            c->gpr[RCX] = bcd(b);
            FAKE_RUN(f, 0x00, 0xc8); /* add al, cl; daa */
            FAKE_RUN(f, 0x27);
            assert_int_equal(c->gpr[RAX] & 0xff, bcd(a + b));
            assert_int_equal(!!(c->rflags & FLAG_CF), a + b > 99);
            c->gpr[RAX] = bcd(a);
            FAKE_RUN(f, 0x28, 0xc8); /* sub al, cl; das */
            FAKE_RUN(f, 0x2f);
            assert_int_equal(c->gpr[RAX] & 0xff, bcd(100 + a - b));
            assert_int_equal(!!(c->rflags & FLAG_CF), a < b);
        }
        c->gpr[RAX] = a;
        FAKE_RUN(f, 0xd4, 10);
        assert_int_equal(c->gpr[RAX], a / 10 << 8 | a % 10);
        FAKE_RUN(f, 0xd5, 10);
        assert_int_equal(c->gpr[RAX], a);
    }
    for (unsigned a = 0; a < 10; a++) {
        for (unsigned b = 0; b < 10; b++) {
            c->gpr[RAX] = a;
            c->gpr[RCX] = b;
            FAKE_RUN(f, 0x00, 0xc8);
            FAKE_RUN(f, 0x37); /* aaa */
            assert_int_equal(c->gpr[RAX], (a + b) / 10 << 8 | (a + b) % 10);
            c->gpr[RAX] = 0x100 + a;
            FAKE_RUN(f, 0x28, 0xc8);
            FAKE_RUN(f, 0x3f); /* aas */
            assert_int_equal(c->gpr[RAX], a >= b ? 0x100 + a - b : 10 + a - b);
        }
    }
    assert_int_equal(FAKE_RUN(f, 0xd4, 0), VEC_DE);
    fake_free(f);
}

static void test_bound(void **state)
{
    struct fake *f = fake_new(4, true);
    f->cpu.gpr[RBX] = FAKE_DATA;
    store(f, FAKE_DATA, 4, (u32)-5);
    store(f, FAKE_DATA + 4, 4, 7);
    static const struct {
        s32 index;
        int vector;
    } cases[] = {{-6, VEC_BR}, {-5, -1}, {0, -1}, {7, -1}, {8, VEC_BR}};
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        f->cpu.gpr[RAX] = (u32)cases[k].index;
        assert_int_equal(FAKE_RUN(f, 0x62, 0x03), cases[k].vector);
    }
    fake_free(f);
}

/* 32-bit results clear bits 63:32, smaller ones keep what is above; BT and a scan of zero write
 * no register. */
static void test_upper_halves(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    c->gpr[RAX] = ~0ull;
    c->gpr[RCX] = 0;
    FAKE_RUN(f, 0x0f, 0xba, 0xe0, 3); /* bt eax, 3 */
    assert_true(c->gpr[RAX] == ~0ull);
    FAKE_RUN(f, 0x66, 0x31, 0xc8);
    assert_true(c->gpr[RAX] == ~0ull);
    FAKE_RUN(f, 0x00, 0xcc); /* add ah, cl */
    assert_true(c->gpr[RAX] == ~0ull);
    FAKE_RUN(f, 0x0f, 0x44, 0xc1); /* cmovz eax, ecx, not met: still extends */
    assert_int_equal(c->gpr[RAX], 0xffffffff);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_fault_first),
        cmocka_unit_test(test_bus_lock),
        cmocka_unit_test(test_cmpxchg_pair),
        cmocka_unit_test(test_bit_string),
        cmocka_unit_test(test_rep_movs_fault),
        cmocka_unit_test(test_rep_overlap),
        cmocka_unit_test(test_rep_attention),
        cmocka_unit_test(test_rep_compare),
        cmocka_unit_test(test_string_wrap),
        cmocka_unit_test(test_stack),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_divide),
        cmocka_unit_test(test_divide_bytes),
        cmocka_unit_test(test_decimal),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_upper_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
