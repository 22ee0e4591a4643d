/*
 * Far transfers: call gates, returns to outer levels, IRET, SYSCALL and its kin.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tables.h"

/* call/jmp far through the pointer at FAKE_DATA: [ebx] or [rbx]. */
static int through_pointer(struct fake *f, bool call, u16 sel, u32 offset)
{
    tables_store(f, FAKE_DATA, 4, offset);
    tables_store(f, FAKE_DATA + 4, 2, sel);
    f->cpu.gpr[RBX] = FAKE_DATA;
    return FAKE_RUN(f, 0xff, call ? 0x1b : 0x2b);
}

/* -- Call gates ---------------------------------------------------------------------------- */

static void test_call_gate(void **state)
{
    struct fake *f = tables_new(4);
    tables_user(f);
    tables_gate(f, SEL_GATE, DESC_CALL, 3, SEL_KCODE, TABLE_CODE, 2);
    tables_store(f, FAKE_STACK, 4, 0x11111111);
    tables_store(f, FAKE_STACK + 4, 4, 0x22222222);
    assert_int_equal(through_pointer(f, true, SEL_GATE | 3, 0xbad), -1);
    assert_int_equal(f->cpu.rip, TABLE_CODE);
    assert_int_equal(f->cpu.cpl, 0);
    assert_int_equal(f->cpu.seg[SEG_CS].sel, SEL_KCODE);
    assert_int_equal(f->cpu.seg[SEG_SS].sel, SEL_KDATA);
    assert_int_equal(f->cpu.gpr[RSP], TABLE_SP0 - 24);
    assert_int_equal(tables_load(f, TABLE_SP0 - 4, 4), SEL_UDATA | 3);
    assert_int_equal(tables_load(f, TABLE_SP0 - 8, 4), FAKE_STACK);
    assert_int_equal(tables_load(f, TABLE_SP0 - 12, 4), 0x22222222);
    assert_int_equal(tables_load(f, TABLE_SP0 - 16, 4), 0x11111111);
    assert_int_equal(tables_load(f, TABLE_SP0 - 20, 4), SEL_UCODE | 3);
    assert_int_equal(tables_load(f, TABLE_SP0 - 24, 4), FAKE_CODE + 2);
    /* and back: retf 8 releases the parameters on both stacks */
    assert_int_equal(FAKE_RUN(f, 0xca, 8, 0), -1);
    assert_int_equal(f->cpu.rip, FAKE_CODE + 2);
    assert_int_equal(f->cpu.cpl, 3);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK + 8);
    fake_free(f);
}

static void test_gate_checks(void **state)
{
    static const struct {
        u8 dpl, rpl;
        bool call;
        u16 target;
        int vector;
        u32 error;
    } cases[] = {
        {0, 3, true, SEL_KCODE, VEC_GP, SEL_GATE},   /* the gate's DPL */
        {3, 3, false, SEL_KCODE, VEC_GP, SEL_KCODE}, /* JMP changes no level */
        {3, 3, true, SEL_KDATA, VEC_GP, SEL_KDATA},  {3, 3, true, 0, VEC_GP, 0},
        {3, 3, true, 0x100, VEC_GP, 0x100},          {3, 3, false, SEL_UCODE, -1, 0},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(4);
        tables_user(f);
        tables_gate(f, SEL_GATE, DESC_CALL, cases[n].dpl, cases[n].target, TABLE_CODE, 0);
        assert_int_equal(through_pointer(f, cases[n].call, SEL_GATE | cases[n].rpl, 0),
                         cases[n].vector);
        if (cases[n].vector >= 0) {
            assert_int_equal(f->cpu.fault.error, cases[n].error);
            assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK);
        }
        fake_free(f);
    }
}

static void test_gate_64(void **state)
{
    struct fake *f = tables_new(8);
    tables_user(f);
    tables_gate(f, SEL_GATE, DESC_CALL, 3, SEL_KCODE, TABLE_CODE, 5);
    assert_int_equal(through_pointer(f, true, SEL_GATE, 0), -1);
    assert_int_equal(f->cpu.gpr[RSP], TABLE_SP0 - 32); /* no parameters */
    assert_int_equal(tables_load(f, TABLE_SP0 - 8, 8), SEL_UDATA | 3);
    assert_int_equal(f->cpu.seg[SEG_SS].sel, 0);
    assert_int_equal(FAKE_RUN(f, 0x48, 0xcb), -1); /* retfq */
    assert_int_equal(f->cpu.cpl, 3);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK);
    tables_set(f, SEL_GATE + 8, (u64)DESC_CALL << 40); /* the upper type must be 0 */
    assert_int_equal(through_pointer(f, true, SEL_GATE, 0), VEC_GP);
    assert_int_equal(f->cpu.fault.error, SEL_GATE);
    fake_free(f);
}

static void test_long_mode_code(void **state)
{
    struct fake *f = tables_new(8);
    tables_set(f, SEL_TEST, tables_segment(0, 0xfffff, ATTR_KCODE | ATTR_L | ATTR_DB));
    assert_int_equal(through_pointer(f, false, SEL_TEST, TABLE_CODE), VEC_GP);
    assert_int_equal(f->cpu.fault.error, SEL_TEST);
    assert_int_equal(through_pointer(f, false, SEL_TSS2, 0), VEC_GP); /* no tasks here */
    tables_set(f, SEL_TEST, tables_segment(0, 0xfffff, ATTR_KCODE | ATTR_G | ATTR_DB));
    assert_int_equal(through_pointer(f, false, SEL_TEST, TABLE_CODE), -1);
    assert_int_equal(f->cpu.code_size, 4);
    fake_free(f);
}

/* -- IRET ---------------------------------------------------------------------------------- */

static void push_frame(struct fake *f, unsigned size, const u64 *values, unsigned count)
{
    f->cpu.gpr[RSP] = FAKE_STACK - 128;
    for (unsigned n = 0; n < count; n++)
        tables_store(f, f->cpu.gpr[RSP] + n * size, size, values[n]);
}

static void test_iretq(void **state)
{
    static const struct {
        u64 rip, cs, ss;
        int vector;
        u32 error;
    } cases[] = {
        {TABLE_CODE, SEL_UCODE64 | 3, SEL_UDATA | 3, -1, 0},
        {TABLE_CODE, SEL_KCODE, 0, -1, 0}, /* null SS below CPL 3 */
        {TABLE_CODE, SEL_UCODE64 | 3, 3, VEC_GP, 0},
        {TABLE_CODE, SEL_UCODE64 | 3, SEL_KDATA | 3, VEC_GP, SEL_KDATA},
        {TABLE_CODE, SEL_UCODE64, SEL_UDATA | 3, VEC_GP, SEL_UCODE64},
        {1ull << 47, SEL_UCODE64 | 3, SEL_UDATA | 3, VEC_GP, 0},
        {1ull << 32, SEL_UCODE | 3, SEL_UDATA | 3, VEC_GP, 0}, /* beyond the limit */
        {TABLE_CODE, 0, SEL_UDATA | 3, VEC_GP, 0},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(8);
        u64 frame[] = {cases[n].rip, cases[n].cs, FLAG_FIXED | FLAG_IF | FLAG_IOPL | FLAG_VM,
                       0x12345678, cases[n].ss};
        push_frame(f, 8, frame, 5);
        f->cpu.nmi_blocked = true;
        u64 sp = f->cpu.gpr[RSP];
        assert_int_equal(FAKE_RUN(f, 0x48, 0xcf), cases[n].vector);
        if (cases[n].vector < 0) {
            assert_int_equal(f->cpu.gpr[RSP], 0x12345678);
            assert_int_equal(f->cpu.seg[SEG_SS].sel, cases[n].ss);
            assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_IF | FLAG_IOPL);
            assert_false(f->cpu.nmi_blocked);
        } else {
            assert_int_equal(f->cpu.fault.error, cases[n].error);
            assert_int_equal(f->cpu.gpr[RSP], sp);
            assert_int_equal(f->cpu.cpl, 0);
        }
        fake_free(f);
    }
}

static void test_iret_nt(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.rflags |= FLAG_NT;
    assert_int_equal(FAKE_RUN(f, 0x48, 0xcf), VEC_GP);
    fake_free(f);
}

/* What CPL 3 may change with IOPL 0, and which data segments it keeps. */
static void test_iret_outer(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.seg[SEG_ES].attr |= ATTR_DPL3;
    u64 frame[] = {TABLE_CODE, SEL_UCODE | 3, FLAG_IOPL | FLAG_ID, 0x1000, SEL_UDATA | 3};
    push_frame(f, 4, frame, 5);
    f->cpu.rflags |= FLAG_IF;
    assert_int_equal(FAKE_RUN(f, 0xcf), -1);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_IOPL | FLAG_ID); /* CPL 0 executed it */
    assert_int_equal(f->cpu.seg[SEG_DS].sel, 0);
    assert_int_equal(f->cpu.seg[SEG_ES].sel, 16);
    f->cpu.rflags = FLAG_FIXED;
    u64 again[] = {TABLE_CODE, SEL_UCODE | 3, FLAG_IOPL | FLAG_IF | FLAG_CF};
    push_frame(f, 4, again, 3);
    assert_int_equal(FAKE_RUN(f, 0xcf), -1);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_CF);
    fake_free(f);
}

static void test_iret_v86(void **state)
{
    struct fake *f = tables_new(4);
    u64 frame[] = {0x100,  0x1234, FLAG_FIXED | FLAG_VM | FLAG_IOPL,
                   0xff00, 0x2000, 0x3000,
                   0x4000, 0x5000, 0x6000};
    push_frame(f, 4, frame, 9);
    assert_int_equal(FAKE_RUN(f, 0xcf), -1);
    assert_int_equal(f->cpu.cpl, 3);
    assert_int_equal(f->cpu.code_size, 2);
    assert_int_equal(f->cpu.seg[SEG_CS].base, 0x12340);
    assert_int_equal(f->cpu.seg[SEG_SS].base, 0x20000);
    assert_int_equal(f->cpu.seg[SEG_ES].base, 0x30000);
    assert_int_equal(f->cpu.seg[SEG_GS].base, 0x60000);
    assert_int_equal(f->cpu.seg[SEG_GS].limit, 0xffff);
    assert_int_equal(f->cpu.gpr[RSP], 0xff00);
    fake_free(f);
}

/* -- System calls -------------------------------------------------------------------------- */

static struct fake *syscall_new(bool amd)
{
    struct fake *f = tables_new(8);
    f->model.amd = amd;
    f->cpu.efer |= EFER_SCE;
    f->cpu.star = (u64)(SEL_UCODE - 0) << 48 | (u64)SEL_KCODE << 32 | 0x5555;
    f->cpu.lstar = TABLE_CODE;
    f->cpu.cstar = TABLE_CODE + 0x100;
    f->cpu.sfmask = FLAG_IF | FLAG_TF;
    return f;
}

static void test_syscall(void **state)
{
    struct fake *f = syscall_new(false);
    tables_user(f);
    f->cpu.rflags |= FLAG_IF | FLAG_CF | FLAG_RF;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x05), -1);
    assert_int_equal(f->cpu.rip, TABLE_CODE);
    assert_int_equal(f->cpu.gpr[RCX], FAKE_CODE + 2);
    assert_int_equal(f->cpu.gpr[R11], FLAG_FIXED | FLAG_IF | FLAG_CF);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_CF);
    assert_int_equal(f->cpu.cpl, 0);
    assert_int_equal(f->cpu.seg[SEG_SS].sel, SEL_KCODE + 8);
    assert_int_equal(f->cpu.code_size, 8);
    assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0x07), -1); /* sysretq */
    assert_int_equal(f->cpu.rip, FAKE_CODE + 2);
    assert_int_equal(f->cpu.cpl, 3);
    assert_int_equal(f->cpu.seg[SEG_CS].sel, (SEL_UCODE + 16) | 3);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_IF | FLAG_CF);
    assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0x07), VEC_GP); /* at CPL 3 */
    f->cpu.efer &= ~EFER_SCE;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x05), VEC_UD);
    fake_free(f);
}

/* Intel checks RCX before it leaves CPL 0, AMD after. */
static void test_sysret_vendor(void **state)
{
    struct fake *f = syscall_new(false);
    f->cpu.gpr[RCX] = 1ull << 47;
    assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0x07), VEC_GP);
    assert_int_equal(f->cpu.cpl, 0);
    f->model.amd = true;
    assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0x07), -1);
    assert_int_equal(f->cpu.cpl, 3);
    assert_int_equal(f->cpu.rip, 1ull << 47);
    fake_free(f);
}

static void compatibility(struct fake *f)
{
    tables_user(f);
    f->cpu.seg[SEG_CS].attr = (f->cpu.seg[SEG_CS].attr & ~SEG_L) | SEG_DB;
    x86_derive(&f->cpu);
}

static void test_compat_calls(void **state)
{
    struct fake *f = syscall_new(true);
    compatibility(f);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x05), -1); /* AMD: syscall to CSTAR */
    assert_int_equal(f->cpu.rip, TABLE_CODE + 0x100);
    compatibility(f);
    f->cpu.sysenter_cs = SEL_KCODE;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x34), VEC_UD); /* and no sysenter in long mode */
    f->model.amd = false;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x05), VEC_UD);
    f->cpu.sysenter_eip = TABLE_CODE;
    f->cpu.sysenter_esp = TABLE_SP0;
    f->cpu.rflags |= FLAG_IF;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x34), -1);
    assert_int_equal(f->cpu.code_size, 8);
    assert_int_equal(f->cpu.rip, TABLE_CODE);
    assert_int_equal(f->cpu.gpr[RSP], TABLE_SP0);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED);
    f->cpu.gpr[RDX] = 0x1000;
    f->cpu.gpr[RCX] = 0x2000;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x35), -1); /* sysexit to compatibility mode */
    assert_int_equal(f->cpu.seg[SEG_CS].sel, (SEL_KCODE + 16) | 3);
    assert_int_equal(f->cpu.code_size, 4);
    f->cpu.sysenter_cs = 0;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x34), VEC_GP);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call_gate),    cmocka_unit_test(test_gate_checks),
        cmocka_unit_test(test_gate_64),      cmocka_unit_test(test_long_mode_code),
        cmocka_unit_test(test_iretq),        cmocka_unit_test(test_iret_nt),
        cmocka_unit_test(test_iret_outer),   cmocka_unit_test(test_iret_v86),
        cmocka_unit_test(test_syscall),      cmocka_unit_test(test_sysret_vendor),
        cmocka_unit_test(test_compat_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
