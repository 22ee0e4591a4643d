/* The 8254: modes, latches and port 61h against the data sheet's wave forms. */
#include "fixture.h"

/* Just past the n-th tick after the last whole one. */
static void ticks(struct fixture *f, u64 n)
{
    u64 tick = clock_ticks(f->now, PIT_HZ) + n;
    fixture_step(f, clock_ns(tick, PIT_HZ) - f->now);
}

static int setup(void **state)
{
    struct fixture *f = fixture_create(0);
    pit_create(&f->board, fixture_line(f, 0));
    ticks(f, 1000);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void program(struct fixture *f, unsigned counter, unsigned mode, u16 count)
{
    out8(f, 0x43, (u8)(counter << 6 | 0x30 | mode << 1));
    out8(f, (u16)(0x40 + counter), (u8)count);
    out8(f, (u16)(0x40 + counter), (u8)(count >> 8));
}

static u16 latched(struct fixture *f, unsigned counter)
{
    out8(f, 0x43, (u8)(counter << 6));
    u16 low = in8(f, (u16)(0x40 + counter));
    return (u16)(low | in8(f, (u16)(0x40 + counter)) << 8);
}

static bool out2(struct fixture *f)
{
    return in8(f, 0x61) & 0x20;
}

static void test_mode0(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 0, 100);
    assert_false(f->level[0]);
    ticks(f, 1); /* loaded */
    assert_int_equal(latched(f, 0), 100);
    ticks(f, 99);
    assert_int_equal(latched(f, 0), 1);
    assert_false(f->level[0]);
    ticks(f, 1);
    assert_true(f->level[0]);
    assert_int_equal(latched(f, 0), 0);
    ticks(f, 1);
    assert_int_equal(latched(f, 0), 0xffff); /* counts on */
    assert_true(f->level[0]);
    /* A new count starts over; its first byte takes OUT low. */
    out8(f, 0x40, 50);
    assert_false(f->level[0]);
    ticks(f, 1000);
    assert_false(f->level[0]);
    out8(f, 0x40, 0);
    ticks(f, 51);
    assert_true(f->level[0]);
}

static void test_mode2(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 1000);
    unsigned before = f->rises[0];
    ticks(f, 1 + 10 * 1000);
    assert_int_equal(f->rises[0] - before, 10);
    ticks(f, 998);
    assert_int_equal(latched(f, 0), 2);
    ticks(f, 1);
    assert_int_equal(latched(f, 0), 1);
    ticks(f, 1);
    assert_int_equal(latched(f, 0), 1000);
    assert_int_equal(f->rises[0] - before, 11);
}

/* No error adds up: the 1.193182 MHz are exact over an hour. */
static void test_mode2_rate(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 11932);
    unsigned before = f->rises[0];
    fixture_step(f, 3600ull * 1000000000);
    unsigned expected = (unsigned)(3600ull * PIT_HZ / 11932);
    assert_in_range(f->rises[0] - before, expected - 1, expected);
}

static void test_mode2_new_count(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 1000);
    ticks(f, 1 + 100);
    unsigned before = f->rises[0];
    out8(f, 0x40, 200);
    out8(f, 0x40, 0);
    ticks(f, 899);
    assert_int_equal(f->rises[0], before); /* the old one runs out first */
    ticks(f, 1);
    assert_int_equal(f->rises[0], before + 1);
    ticks(f, 200);
    assert_int_equal(f->rises[0], before + 2);
}

static void test_mode3(void **state)
{
    struct fixture *f = *state;
    out8(f, 0x61, 1); /* gate of counter 2 */
    program(f, 2, 3, 5);
    ticks(f, 1);
    /* Odd: high for (N + 1) / 2, low for (N - 1) / 2; by twos from N - 1. */
    static const struct {
        u16 value;
        bool out;
    } wave[] = {{4, true}, {2, true}, {0, true}, {4, false}, {2, false}};
    for (unsigned i = 0; i < 3 * ARRAY_LEN(wave); i++) {
        assert_int_equal(latched(f, 2), wave[i % ARRAY_LEN(wave)].value);
        assert_int_equal(out2(f), wave[i % ARRAY_LEN(wave)].out);
        ticks(f, 1);
    }
}

static void test_mode3_irq(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 3, 0); /* 65536: 18.2 Hz */
    unsigned before = f->rises[0];
    fixture_step(f, 10 * 1000000000ull);
    assert_int_equal(f->rises[0] - before, 182);
}

static void test_mode4(void **state)
{
    struct fixture *f = *state;
    out8(f, 0x61, 1);
    program(f, 2, 4, 10);
    ticks(f, 1 + 9);
    assert_true(out2(f));
    ticks(f, 1);
    assert_false(out2(f)); /* the strobe */
    ticks(f, 1);
    assert_true(out2(f));
    program(f, 0, 4, 10);
    unsigned before = f->rises[0];
    ticks(f, 100);
    assert_int_equal(f->rises[0], before + 1);
}

static void test_gate_of_counter_2(void **state)
{
    struct fixture *f = *state;
    /* Mode 0 with the gate low does not count; it goes on when the gate rises. */
    program(f, 2, 0, 100);
    ticks(f, 500);
    assert_int_equal(latched(f, 2), 100);
    assert_false(out2(f));
    out8(f, 0x61, 1);
    ticks(f, 40);
    assert_int_equal(latched(f, 2), 60);
    out8(f, 0x61, 0);
    ticks(f, 40);
    assert_int_equal(latched(f, 2), 60);
    out8(f, 0x61, 1);
    ticks(f, 60);
    assert_true(out2(f));
    assert_int_equal(in8(f, 0x61) & 0x0f, 1);
}

static void test_mode1(void **state)
{
    struct fixture *f = *state;
    program(f, 2, 1, 20);
    assert_true(out2(f));
    ticks(f, 100);
    assert_true(out2(f)); /* waits for its trigger */
    out8(f, 0x61, 1);
    assert_false(out2(f));
    ticks(f, 20);
    assert_false(out2(f));
    ticks(f, 1);
    assert_true(out2(f));
    /* Retriggered before the end, it starts over. */
    out8(f, 0x61, 0);
    out8(f, 0x61, 1);
    ticks(f, 11);
    out8(f, 0x61, 0);
    out8(f, 0x61, 1);
    ticks(f, 15);
    assert_false(out2(f));
    ticks(f, 6);
    assert_true(out2(f));
}

static void test_mode5(void **state)
{
    struct fixture *f = *state;
    program(f, 2, 5, 8);
    ticks(f, 50);
    assert_true(out2(f));
    out8(f, 0x61, 1);
    ticks(f, 1 + 7);
    assert_true(out2(f));
    ticks(f, 1);
    assert_false(out2(f));
    ticks(f, 1);
    assert_true(out2(f));
}

static void test_bcd(void **state)
{
    struct fixture *f = *state;
    out8(f, 0x43, 0x31); /* counter 0, both bytes, mode 0, BCD */
    out8(f, 0x40, 0x00);
    out8(f, 0x40, 0x10); /* 1000 */
    ticks(f, 2);
    assert_int_equal(latched(f, 0), 0x0999);
    ticks(f, 999);
    assert_true(f->level[0]);
    ticks(f, 1);
    assert_int_equal(latched(f, 0), 0x9999);
}

static void test_read_back(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 500);
    out8(f, 0x43, 0xe2);                                /* status of counter 0 */
    assert_int_equal(in8(f, 0x40), 0x80 | 0x40 | 0x34); /* OUT, null count, both, mode 2 */
    ticks(f, 1);
    out8(f, 0x43, 0xe2);
    assert_int_equal(in8(f, 0x40), 0x80 | 0x34);
    /* Status and count: status is read first; later latches do not replace the first. */
    out8(f, 0x43, 0xc2);
    ticks(f, 100);
    out8(f, 0x43, 0xc2);
    assert_int_equal(in8(f, 0x40), 0x80 | 0x34);
    assert_int_equal(in8(f, 0x40), 500 & 0xff);
    assert_int_equal(in8(f, 0x40), 500 >> 8);
    assert_int_equal(latched(f, 0), 400);
}

static void test_single_bytes(void **state)
{
    struct fixture *f = *state;
    out8(f, 0x43, 0x10); /* LSB only, mode 0 */
    out8(f, 0x40, 30);
    ticks(f, 11);
    assert_int_equal(in8(f, 0x40), 20);
    out8(f, 0x43, 0x20); /* MSB only */
    out8(f, 0x40, 2);
    ticks(f, 1);
    assert_int_equal(in8(f, 0x40), 2);
    ticks(f, 1);
    assert_int_equal(in8(f, 0x40), 1);
}

static void test_refresh_toggles(void **state)
{
    struct fixture *f = *state;
    unsigned changes = 0;
    u8 last = in8(f, 0x61) & 0x10;
    for (unsigned i = 0; i < 1000; i++) {
        fixture_step(f, 1000);
        u8 now = in8(f, 0x61) & 0x10;
        changes += now != last;
        last = now;
    }
    assert_in_range(changes, 65, 67); /* every 15.09 us */
}

/* A count of 2 asks for 600,000 interrupts a second: the host must not spin. */
static void test_fast_period_is_bounded(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 2);
    unsigned before = f->rises[0];
    fixture_step(f, 1000000);
    assert_in_range(f->rises[0] - before, 20, 60);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mode0),
        TEST(test_mode2),
        TEST(test_mode2_rate),
        TEST(test_mode2_new_count),
        TEST(test_mode3),
        TEST(test_mode3_irq),
        TEST(test_mode4),
        TEST(test_gate_of_counter_2),
        TEST(test_mode1),
        TEST(test_mode5),
        TEST(test_bcd),
        TEST(test_read_back),
        TEST(test_single_bytes),
        TEST(test_refresh_toggles),
        TEST(test_fast_period_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
