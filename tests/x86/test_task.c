/*
 * Hardware task switches: what is saved and loaded, links and busy bits, and the faults before
 * and after the point of no return.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tables.h"

#define NEW_STACK (FAKE_DATA + 0x800)

static void put(struct fake *f, unsigned offset, u64 value)
{
    tables_store(f, TABLE_TSS2 + offset, 4, value);
}

/* A second task ready to run at CPL 0. */
static struct fake *task_new(void)
{
    struct fake *f = tables_new(4);
    put(f, 0x20, TABLE_CODE);
    put(f, 0x24, FLAG_FIXED | FLAG_CF);
    for (unsigned n = 0; n < 8; n++)
        put(f, 0x28 + 4 * n, n == RSP ? NEW_STACK : 0x1000 + n);
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        put(f, 0x48 + 4 * n, n == SEG_CS ? SEL_KCODE : SEL_KDATA);
    return f;
}

static int jump(struct fake *f, u16 sel, bool call)
{
    tables_store(f, FAKE_DATA, 8, (u64)sel << 32);
    f->cpu.gpr[RBX] = FAKE_DATA;
    return FAKE_RUN(f, 0xff, call ? 0x1b : 0x2b);
}

static unsigned type_of(struct fake *f, u16 sel)
{
    return tables_get(f, sel) >> 40 & 0x1f;
}

static void test_jump(void **state)
{
    struct fake *f = task_new();
    f->cpu.gpr[RDI] = 0x77;
    f->cpu.rflags |= FLAG_DF;
    f->cpu.dr7 |= 0x3ff;
    assert_int_equal(jump(f, SEL_TSS2, false), -1);
    assert_int_equal(f->cpu.rip, TABLE_CODE);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_CF);
    assert_int_equal(f->cpu.gpr[RDI], 0x1007);
    assert_int_equal(f->cpu.gpr[RSP], NEW_STACK);
    assert_int_equal(f->cpu.seg[SEG_TR].base, TABLE_TSS2);
    assert_int_equal(f->cpu.seg[SEG_TR].attr & SEG_TYPE, DESC_TSS_BUSY);
    assert_true(f->cpu.cr0 & CR0_TS);
    assert_int_equal(f->cpu.dr7 & 0x3ff, 0x2aa); /* local breakpoints are the old task's */
    assert_int_equal(type_of(f, SEL_TSS), DESC_TSS_AVAIL);
    assert_int_equal(type_of(f, SEL_TSS2), DESC_TSS_BUSY);
    assert_int_equal(tables_load(f, TABLE_TSS + 0x20, 4), FAKE_CODE + 2);
    assert_int_equal(tables_load(f, TABLE_TSS + 0x24, 4), FLAG_FIXED | FLAG_DF);
    assert_int_equal(tables_load(f, TABLE_TSS + 0x44, 4), 0x77);
    assert_int_equal(tables_load(f, TABLE_TSS + 0x4c, 4), SEL_KCODE);
    fake_free(f);
}

static void test_call_and_return(void **state)
{
    struct fake *f = task_new();
    tables_gate(f, SEL_GATE, DESC_TASK_GATE, 0, SEL_TSS2, 0, 0);
    assert_int_equal(jump(f, SEL_GATE, true), -1);
    assert_true(f->cpu.rflags & FLAG_NT);
    assert_int_equal(tables_load(f, TABLE_TSS2, 2), SEL_TSS);
    assert_int_equal(type_of(f, SEL_TSS), DESC_TSS_BUSY);
    assert_int_equal(type_of(f, SEL_TSS2), DESC_TSS_BUSY);
    assert_int_equal(FAKE_RUN(f, 0xcf), -1); /* iret */
    assert_int_equal(f->cpu.rip, FAKE_CODE + 2);
    assert_int_equal(f->cpu.seg[SEG_TR].sel, SEL_TSS);
    assert_int_equal(type_of(f, SEL_TSS2), DESC_TSS_AVAIL);
    assert_false(tables_load(f, TABLE_TSS2 + 0x24, 4) & FLAG_NT);
    fake_free(f);
}

/* Faults of the old task: nothing has changed. */
static void test_refused(void **state)
{
    static const struct {
        u64 descriptor; /* 0: as it is */
        u16 sel;
        int vector;
        u32 error;
    } cases[] = {
        {0, SEL_TSS, VEC_GP, SEL_TSS}, /* busy */
        {1, SEL_TSS2, VEC_NP, SEL_TSS2},
        {2, SEL_TSS2, VEC_TS, SEL_TSS2}, /* too short */
        {0, SEL_TSS2 | 3, VEC_GP, SEL_TSS2},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = task_new();
        if (cases[n].descriptor == 1)
            tables_set(f, SEL_TSS2, tables_segment(TABLE_TSS2, 0x7ff, DESC_TSS_AVAIL));
        if (cases[n].descriptor == 2)
            tables_set(f, SEL_TSS2, tables_segment(TABLE_TSS2, 0x66, SEG_P | DESC_TSS_AVAIL));
        assert_int_equal(jump(f, cases[n].sel, false), cases[n].vector);
        assert_int_equal(f->cpu.fault.error, cases[n].error);
        assert_int_equal(f->cpu.rip, FAKE_CODE);
        assert_int_equal(f->cpu.seg[SEG_TR].sel, SEL_TSS);
        assert_int_equal(type_of(f, SEL_TSS), DESC_TSS_BUSY);
        fake_free(f);
    }
}

/* Faults of the new task, at its first instruction. */
static void test_bad_segments(void **state)
{
    static const struct {
        u8 offset;
        u16 sel;
        int vector;
        u32 error;
    } cases[] = {
        {0x60, SEL_KDATA, VEC_TS, SEL_KDATA},                       /* LDT */
        {0x60, 0x14, VEC_TS, 0x14},           {0x4c, 0, VEC_TS, 0}, /* CS */
        {0x4c, SEL_KDATA, VEC_TS, SEL_KDATA}, {0x4c, SEL_KCODE | 3, VEC_TS, SEL_KCODE},
        {0x4c, SEL_TEST, VEC_NP, SEL_TEST},   {0x50, 0, VEC_TS, 0}, /* SS */
        {0x50, SEL_UDATA, VEC_TS, SEL_UDATA}, {0x50, SEL_KCODE, VEC_TS, SEL_KCODE},
        {0x54, SEL_TSS2, VEC_TS, SEL_TSS2}, /* DS */
        {0x58, 0x100, VEC_TS, 0x100},       /* FS */
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = task_new();
        tables_set(f, SEL_TEST, tables_segment(0, 0xfffff, 0x1b | ATTR_G | ATTR_DB));
        put(f, cases[n].offset, cases[n].sel);
        assert_int_equal(jump(f, SEL_TSS2, false), cases[n].vector);
        assert_int_equal(f->cpu.fault.error, cases[n].error);
        assert_int_equal(f->cpu.rip, TABLE_CODE);
        assert_int_equal(f->cpu.seg[SEG_TR].sel, SEL_TSS2);
        fake_free(f);
    }
}

static void test_no_way_back(void **state)
{
    struct fake *f = task_new();
    f->cpu.rflags |= FLAG_NT;
    tables_store(f, TABLE_TSS, 2, SEL_TSS2); /* available, not busy */
    assert_int_equal(FAKE_RUN(f, 0xcf), VEC_TS);
    assert_int_equal(f->cpu.fault.error, SEL_TSS2);
    tables_store(f, TABLE_TSS, 2, 0x100);
    assert_int_equal(FAKE_RUN(f, 0xcf), VEC_TS);
    assert_int_equal(f->cpu.fault.error, 0x100);
    fake_free(f);
}

/* A fault through a task gate: the error code on the new stack, the old task at the fault. */
static void test_event(void **state)
{
    struct fake *f = task_new();
    tables_idt(f, VEC_GP, DESC_TASK_GATE, 0, SEL_TSS2, 0, 0);
    f->cpu.fault.vector = VEC_GP;
    f->cpu.fault.has_error = true;
    f->cpu.fault.error = 0x1230;
    x86_deliver_fault(&f->cpu);
    assert_int_equal(f->cpu.rip, TABLE_CODE);
    assert_int_equal(f->cpu.gpr[RSP], NEW_STACK - 4);
    assert_int_equal(tables_load(f, NEW_STACK - 4, 4), 0x1230);
    assert_int_equal(tables_load(f, TABLE_TSS + 0x20, 4), FAKE_CODE);
    assert_true(tables_load(f, TABLE_TSS + 0x24, 4) & FLAG_RF);
    assert_true(f->cpu.rflags & FLAG_NT);
    fake_free(f);
}

static void test_trap_bit(void **state)
{
    struct fake *f = task_new();
    put(f, 0x64, 1);
    assert_int_equal(jump(f, SEL_TSS2, false), -1);
    assert_int_equal(f->cpu.pending_db, DR6_BT);
    assert_true(f->cpu.attention & ATTN_STATE);
    fake_free(f);
}

static void test_16bit(void **state)
{
    static const u16 image[] = {
        0, 0, 0,      0, 0, 0, 0,         0x4321,    2 | FLAG_NT, 1,         2,
        3, 4, 0x8000, 6, 7, 8, SEL_KDATA, SEL_KCODE, SEL_KDATA,   SEL_KDATA, 0};
    struct fake *f = task_new();
    tables_set(f, SEL_TSS2, tables_segment(TABLE_TSS2, 0x2b, SEG_P | DESC_TSS16_AVAIL));
    memcpy(fake_at(f, TABLE_TSS2), image, sizeof(image));
    f->cpu.gpr[RAX] = 0xaaaabbbb;
    assert_int_equal(jump(f, SEL_TSS2, false), -1);
    assert_int_equal(f->cpu.rip, 0x4321);
    assert_int_equal((u16)f->cpu.gpr[RAX], 1);
    assert_int_equal((u16)f->cpu.gpr[RSP], 0x8000);
    assert_int_equal(f->cpu.seg[SEG_DS].sel, SEL_KDATA);
    assert_int_equal(f->cpu.seg[SEG_FS].sel, 0);
    assert_int_equal(f->cpu.rflags, 2 | FLAG_NT);
    assert_int_equal(tables_load(f, TABLE_TSS + 0x28, 4), 0xaaaabbbb);
    assert_int_equal(type_of(f, SEL_TSS2), DESC_TSS16_BUSY);
    fake_free(f);
}

/* An old TSS that cannot be written faults before anything is. */
static void test_old_tss_absent(void **state)
{
    struct fake *f = task_new();
    f->cpu.seg[SEG_TR].base = FAKE_DATA + PAGE_SIZE;
    fake_protect(f, FAKE_DATA + PAGE_SIZE, true, false);
    assert_int_equal(jump(f, SEL_TSS2, true), VEC_PF);
    assert_int_equal(f->cpu.rip, FAKE_CODE);
    assert_int_equal(type_of(f, SEL_TSS2), DESC_TSS_AVAIL);
    assert_int_equal(tables_load(f, TABLE_TSS2, 2), 0);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jump),           cmocka_unit_test(test_call_and_return),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_bad_segments),
        cmocka_unit_test(test_no_way_back),    cmocka_unit_test(test_event),
        cmocka_unit_test(test_trap_bit),       cmocka_unit_test(test_16bit),
        cmocka_unit_test(test_old_tss_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
