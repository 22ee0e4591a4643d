/* x87 exceptions that are pending: #MF, or FERR# where CR0.NE is clear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fake_ops.h"
#include "x86/native.h"

/* 1 / 0 with all exceptions unmasked leaves ZE pending. */
static void divide_by_zero(struct fake *f)
{
    assert_int_equal(FAKE_RUN(f, 0xdb, 0xe3), -1); /* fninit */
    f->cpu.fpu.fcw = 0x340;
    assert_int_equal(FAKE_RUN(f, 0xd9, 0xee), -1); /* fldz */
    assert_int_equal(FAKE_RUN(f, 0xd9, 0xe8), -1); /* fld1 */
    assert_int_equal(FAKE_RUN(f, 0xd8, 0xf1), -1); /* fdiv st, st(1) */
    assert_true(f->cpu.fpu.fsw & FSW_ES);
}

static void test_mf(void **state)
{
    struct fake *f = fake_new(8, true);
    divide_by_zero(f);
    assert_int_equal(FAKE_RUN(f, 0xd9, 0xe8), VEC_MF);
    assert_int_equal(FAKE_RUN(f, 0x9b), VEC_MF);
    assert_int_equal(f->ferr_calls, 0);
    fake_free(f);
}

/* The next instruction raises FERR# and waits; with IGNNE# it runs, the exception stays
 * pending, and the host, which runs it, does not trap. */
static void test_ferr(void **state)
{
    struct fake *f = fake_new(8, true);
    f->cpu.cr0 &= ~CR0_NE;
    divide_by_zero(f);
    f->cpu.gpr[RBX] = FAKE_DATA;
    assert_int_equal(FAKE_RUN(f, 0xd9, 0xe8), X86_FAULT_RETRY);
    assert_int_equal(f->ferr_calls, 1);
    f->ignne = true;
    assert_int_equal(FAKE_RUN(f, 0xd9, 0xe8), -1);       /* fld1 */
    assert_int_equal(FAKE_RUN(f, 0xdd, 0x1b), -1);       /* fstp qword [rbx] */
    assert_int_equal(FAKE_RUN(f, 0x0f, 0xfc, 0xc1), -1); /* paddb */
    assert_int_equal(f->ferr_calls, 1);
    assert_true(f->cpu.fpu.fsw & FSW_ES);
    assert_int_equal(f->cpu.fpu.fcw, 0x340);
    assert_true(*(double *)fake_at(f, FAKE_DATA) == 1.0);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mf), cmocka_unit_test(test_ferr)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
