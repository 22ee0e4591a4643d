/* ACPI fixed hardware: events, SCI, the timer, power off. */
#include "fixture.h"

struct pm_test {
    struct fixture *f;
    struct acpi_pm *pm;
};

static int setup(void **state)
{
    struct pm_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(0);
    t->pm = acpi_pm_create(&t->f->board, fixture_line(t->f, 0));
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct pm_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static void test_timer(void **state)
{
    struct pm_test *t = *state;
    u32 before = in32(t->f, ACPI_PM_TMR);
    fixture_step(t->f, 1000000000);
    assert_int_equal(in32(t->f, ACPI_PM_TMR) - before, ACPI_PM_TIMER_HZ);
    fixture_step(t->f, 1200 * 1000000000ull); /* wraps at 32 bits */
    assert_int_equal(in32(t->f, ACPI_PM_TMR), (u32)(1201ull * ACPI_PM_TIMER_HZ));
    assert_int_equal(in8(t->f, ACPI_PM_TMR + 1), (u8)(1201ull * ACPI_PM_TIMER_HZ >> 8));
}

static void test_power_button(void **state)
{
    struct pm_test *t = *state;
    acpi_pm_power_button(t->pm);
    assert_false(t->f->level[0]);
    assert_int_equal(in16(t->f, ACPI_PM1_EVT), 0x100);
    out16(t->f, ACPI_PM1_EVT + 2, 0x120);
    assert_int_equal(in16(t->f, ACPI_PM1_EVT + 2), 0x120);
    assert_true(t->f->level[0]);
    out16(t->f, ACPI_PM1_EVT, 0x001); /* clears other bits only */
    assert_true(t->f->level[0]);
    out16(t->f, ACPI_PM1_EVT, 0x100);
    assert_false(t->f->level[0]);
    acpi_pm_power_button(t->pm);
    out8(t->f, ACPI_PM1_EVT + 1, 0x01); /* byte by byte */
    assert_false(t->f->level[0]);
}

static void test_timer_carry(void **state)
{
    struct pm_test *t = *state;
    const u64 half = clock_ns(BIT(31), ACPI_PM_TIMER_HZ); /* 600 s */
    out16(t->f, ACPI_PM1_EVT + 2, 1);
    fixture_step(t->f, half - 1000);
    assert_false(t->f->level[0]);
    fixture_step(t->f, 1000);
    assert_true(t->f->level[0]);
    out16(t->f, ACPI_PM1_EVT, 1);
    assert_false(t->f->level[0]);
    fixture_step(t->f, half);
    assert_true(t->f->level[0]);
    out16(t->f, ACPI_PM1_EVT + 2, 0);
    out16(t->f, ACPI_PM1_EVT, 1);
    fixture_step(t->f, half); /* with the interrupt off, the status bit still shows it */
    assert_int_equal(in16(t->f, ACPI_PM1_EVT), 1);
    assert_false(t->f->level[0]);
}

static void test_power_off(void **state)
{
    struct pm_test *t = *state;
    assert_int_equal(in16(t->f, ACPI_PM1_CNT), 1); /* SCI_EN, always */
    out16(t->f, ACPI_PM1_CNT, 5 << 10);
    assert_int_equal(t->f->requests, 0);
    assert_int_equal(in16(t->f, ACPI_PM1_CNT), 5 << 10 | 1);
    out16(t->f, ACPI_PM1_CNT, 3 << 10 | BIT(13)); /* no such sleep state */
    assert_int_equal(t->f->requests, 0);
    out16(t->f, ACPI_PM1_CNT, BIT(13)); /* PIIX4's soft off */
    assert_int_equal(t->f->requests, 1);
    assert_int_equal(t->f->request, BOARD_POWER_OFF);
    assert_int_equal(in16(t->f, ACPI_PM1_CNT) & BIT(13), 0); /* write-only */
}

static void test_gpe(void **state)
{
    struct pm_test *t = *state;
    acpi_pm_gpe(t->pm, 3);
    assert_false(t->f->level[0]);
    out16(t->f, ACPI_GPE0 + 2, 8);
    assert_true(t->f->level[0]);
    assert_int_equal(in16(t->f, ACPI_GPE0), 8);
    out8(t->f, ACPI_GPE0, 8);
    assert_false(t->f->level[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_timer),     TEST(test_power_button), TEST(test_timer_carry),
        TEST(test_power_off), TEST(test_gpe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
