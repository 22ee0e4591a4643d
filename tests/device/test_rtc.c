/* The CMOS clock: time, formats, interrupts, memory bytes. */
#include "fixture.h"

struct rtc_test {
    struct fixture *f;
    struct rtc *rtc;
};

#define SECOND 1000000000ull

static int setup(void **state)
{
    struct rtc_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(0);
    t->rtc = rtc_create(&t->f->board, fixture_line(t->f, 0), fixture_line(t->f, 1));
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct rtc_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static u8 rd(struct rtc_test *t, u8 index)
{
    out8(t->f, 0x70, index);
    return in8(t->f, 0x71);
}

static void wr(struct rtc_test *t, u8 index, u8 value)
{
    out8(t->f, 0x70, index);
    out8(t->f, 0x71, value);
}

/* century, year, month, day, hour, minute, second, weekday */
static void check_time(struct rtc_test *t, const u8 expected[8])
{
    static const u8 index[8] = {0x32, 9, 8, 7, 4, 2, 0, 6};
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(rd(t, index[i]), expected[i]);
}

static void test_time(void **state)
{
    struct rtc_test *t = *state;
    assert_int_equal(rd(t, 0x0d), 0x80);
    assert_int_equal(rd(t, 0x0b), 0x02);
    check_time(t, (u8[]){0x20, 0x01, 0x09, 0x09, 0x01, 0x46, 0x40, 1});
    fixture_step(t->f, 22 * 3600 * SECOND + 13 * 60 * SECOND + 20 * SECOND);
    check_time(t, (u8[]){0x20, 0x01, 0x09, 0x10, 0x00, 0x00, 0x00, 2});
    wr(t, 0x0b, 0x06); /* binary */
    check_time(t, (u8[]){20, 1, 9, 10, 0, 0, 0, 2});
    wr(t, 0x0b, 0x00); /* BCD, 12 hours */
    assert_int_equal(rd(t, 4), 0x12);
    fixture_step(t->f, 12 * 3600 * SECOND);
    assert_int_equal(rd(t, 4), 0x92);
    fixture_step(t->f, 3600 * SECOND);
    assert_int_equal(rd(t, 4), 0x81);
}

static void test_set(void **state)
{
    struct rtc_test *t = *state;
    wr(t, 0x0b, 0x86); /* SET, binary, 24 hours */
    static const u8 index[] = {0x32, 9, 8, 7, 4, 2, 0}, value[] = {20, 24, 2, 28, 23, 59, 58};
    for (unsigned i = 0; i < sizeof(index); i++)
        wr(t, index[i], value[i]);
    fixture_step(t->f, 10 * SECOND); /* stands still */
    assert_int_equal(rd(t, 0), 58);
    wr(t, 0x0b, 0x06);
    fixture_step(t->f, 2 * SECOND);
    check_time(t, (u8[]){20, 24, 2, 29, 0, 0, 0, 5}); /* a leap year's Thursday */
    fixture_step(t->f, 86400 * SECOND);
    check_time(t, (u8[]){20, 24, 3, 1, 0, 0, 0, 6});
}

static void test_uip(void **state)
{
    struct rtc_test *t = *state;
    assert_int_equal(rd(t, 0x0a), 0x26);
    fixture_step(t->f, SECOND - 200000);
    assert_int_equal(rd(t, 0x0a), 0xa6);
    wr(t, 0x0b, 0x82); /* no update with SET */
    assert_int_equal(rd(t, 0x0a), 0x26);
    wr(t, 0x0b, 0x02);
    fixture_step(t->f, 200001);
    assert_int_equal(rd(t, 0x0a), 0x26);
    assert_int_equal(rd(t, 0), 0x41);
}

static void test_periodic(void **state)
{
    struct rtc_test *t = *state;
    wr(t, 0x0a, 0x26); /* 1,024 Hz */
    wr(t, 0x0b, 0x42);
    fixture_step(t->f, SECOND / 1024 + 1);
    assert_true(t->f->level[0]);
    fixture_step(t->f, SECOND); /* nobody reads C: the line stays up, one rise */
    assert_int_equal(t->f->rises[0], 1);
    assert_int_equal(rd(t, 0x0c), 0xd0); /* a second ended, too */
    assert_false(t->f->level[0]);
    assert_int_equal(rd(t, 0x0c), 0);
    unsigned count = 0;
    for (unsigned i = 0; i < 100000; i++) {
        fixture_step(t->f, 10000);
        count += (rd(t, 0x0c) & 0xc0) == 0xc0;
    }
    assert_in_range(count, 1023, 1025);
    wr(t, 0x0a, 0x20); /* rate 0: none */
    fixture_step(t->f, SECOND);
    assert_false(t->f->level[0]);
}

static void test_update_interrupt(void **state)
{
    struct rtc_test *t = *state;
    wr(t, 0x0b, 0x12);
    for (unsigned i = 0; i < 5; i++) {
        fixture_step(t->f, SECOND - 1);
        assert_false(t->f->level[0]);
        fixture_step(t->f, 1);
        assert_true(t->f->level[0]);
        assert_int_equal(rd(t, 0x0c) & 0xb0, 0x90);
    }
    wr(t, 0x0b, 0x92); /* SET clears UIE */
    assert_int_equal(rd(t, 0x0b), 0x82);
}

static void test_alarm(void **state)
{
    struct rtc_test *t = *state;
    wr(t, 1, 0x45);
    wr(t, 3, 0x46);
    wr(t, 5, 0x01);
    wr(t, 0x0b, 0x22);
    fixture_step(t->f, 4 * SECOND);
    assert_false(t->f->level[0]);
    fixture_step(t->f, SECOND);
    assert_true(t->f->level[0]);
    assert_int_equal(rd(t, 0x0c) & 0xb0, 0xb0);
    wr(t, 1, 0x10); /* at second 10 of any minute of any hour */
    wr(t, 3, 0xff);
    wr(t, 5, 0xc0);
    fixture_step(t->f, 24 * SECOND);
    assert_false(t->f->level[0]);
    fixture_step(t->f, SECOND);
    assert_true(t->f->level[0]);
    rd(t, 0x0c);
    fixture_step(t->f, 60 * SECOND);
    assert_true(t->f->level[0]);
}

/* UF can be polled with its interrupt off. */
static void test_poll_update(void **state)
{
    struct rtc_test *t = *state;
    rd(t, 0x0c);
    fixture_step(t->f, SECOND / 2);
    assert_int_equal(rd(t, 0x0c) & 0xb0, 0);
    fixture_step(t->f, SECOND / 2);
    assert_int_equal(rd(t, 0x0c) & 0xb0, 0x10);
    assert_int_equal(rd(t, 0x0c) & 0xb0, 0);
}

/* AF, too, and it knows of the alarm that was set when its time came. */
static void test_poll_alarm(void **state)
{
    struct rtc_test *t = *state;
    wr(t, 0x0b, 0x04); /* binary, 12 hours */
    wr(t, 1, 0xff);
    wr(t, 3, 0xc0);
    wr(t, 5, 0x82); /* any moment from 2 to 3 in the afternoon */
    rd(t, 0x0c);
    fixture_step(t->f, 11 * 3600 * SECOND);
    assert_int_equal(rd(t, 4), 0x8c);
    assert_int_equal(rd(t, 0x0c), 0x50);
    fixture_step(t->f, 3 * 3600 * SECOND);
    wr(t, 5, 0x02); /* too late to matter */
    assert_int_equal(rd(t, 0x0c), 0x70);
    fixture_step(t->f, 10 * 3600 * SECOND);
    assert_int_equal(rd(t, 4), 0x01);
    assert_int_equal(rd(t, 0x0c), 0x50);
    fixture_step(t->f, 1000 * 86400 * SECOND);
    wr(t, 0x0b, 0x24); /* and interrupts when it is let */
    assert_true(t->f->level[0]);
    assert_int_equal(rd(t, 0x0c), 0xf0);
    wr(t, 0x0b, 0x84); /* no update, no flag */
    fixture_step(t->f, 86400 * SECOND);
    assert_int_equal(rd(t, 0x0c), 0x40);
}

static unsigned from_bcd(u8 value)
{
    return (value >> 4) * 10u + (value & 15);
}

/* Alarms: second, minute, hour; FFh: any. */
static bool alarm_at(const u8 alarm[3], u64 second)
{
    const u64 now[] = {second % 60, second / 60 % 60, second / 3600 % 24};
    for (unsigned i = 0; i < 3; i++)
        if (alarm[i] != 0xff && alarm[i] != (now[i] / 10 << 4 | now[i] % 10))
            return false;
    return true;
}

/* What is found after a long time without a look, against a count second by second. */
static void test_poll_any_alarm(void **state)
{
    struct rtc_test *t = *state;
    static const u8 alarms[][3] = {
        {0xff, 0xff, 0xff}, {0x30, 0xff, 0xff}, {0xff, 0x15, 0xff}, {0xff, 0xff, 0x03},
        {0x30, 0x15, 0xff}, {0x30, 0xff, 0x03}, {0xff, 0x15, 0x03}, {0x30, 0x15, 0x03},
        {0x6a, 0xff, 0xff}, {0xff, 0x60, 0xff}, {0xff, 0xff, 0x24}, /* no times */
    };
    static const unsigned pauses[] = {1, 59, 60, 61, 1000, 3599, 3601, 5000, 20000, 86399};
    for (unsigned i = 0; i < sizeof(alarms) / sizeof(alarms[0]); i++) {
        for (unsigned k = 0; k < 3; k++)
            wr(t, (u8)(2 * k + 1), alarms[i][k]);
        for (unsigned k = 0; k < sizeof(pauses) / sizeof(pauses[0]); k++) {
            u64 at = from_bcd(rd(t, 4)) * 3600 + from_bcd(rd(t, 2)) * 60 + from_bcd(rd(t, 0));
            bool met = false;
            rd(t, 0x0c);
            fixture_step(t->f, pauses[k] * SECOND);
            for (unsigned n = 1; n <= pauses[k]; n++)
                met |= alarm_at(alarms[i], at + n);
            assert_int_equal(rd(t, 0x0c) & 0x20, met ? 0x20 : 0);
        }
    }
}

/* A divider held in reset keeps the time; let go, it takes half a second to the next update. */
static void test_divider(void **state)
{
    struct rtc_test *t = *state;
    u64 uip = 8 * SECOND / 32768;
    wr(t, 0x0a, 0x76);
    fixture_step(t->f, 5 * SECOND);
    wr(t, 0, 0x58);
    wr(t, 2, 0x59);
    wr(t, 4, 0x23);
    fixture_step(t->f, SECOND);
    assert_int_equal(rd(t, 0), 0x58);
    wr(t, 0x0a, 0x26);
    fixture_step(t->f, SECOND / 2 - uip - 1);
    assert_int_equal(rd(t, 0x0a), 0x26);
    assert_int_equal(rd(t, 0), 0x58);
    fixture_step(t->f, 1);
    assert_int_equal(rd(t, 0x0a), 0xa6);
    fixture_step(t->f, uip);
    assert_int_equal(rd(t, 0x0a), 0x26);
    assert_int_equal(rd(t, 0), 0x59);
    wr(t, 0x0a, 0x0d); /* no such crystal in a PC: as the one there is, 8 Hz */
    wr(t, 0x0b, 0x42);
    rd(t, 0x0c);
    fixture_step(t->f, SECOND / 8);
    assert_true(t->f->level[0]);
    fixture_step(t->f, 7 * SECOND / 8);
    check_time(t, (u8[]){0x20, 0x01, 0x09, 0x10, 0, 0, 0, 2});
}

/* Both ends of the century byte's range; 2080 is beyond a time of 32 bits. */
static void test_centuries(void **state)
{
    struct rtc_test *t = *state;
    static const u8 centuries[][2] = {{0x19, 0x80}, {0x20, 0x11}, {0x20, 0x80}};
    for (unsigned i = 0; i < 3; i++) {
        wr(t, 0x0a, 0x76);
        wr(t, 0x32, centuries[i][0]);
        wr(t, 9, centuries[i][1]);
        wr(t, 8, 0x02);
        wr(t, 7, 0x02);
        wr(t, 0x0a, 0x26);
        fixture_step(t->f, SECOND / 4);
        assert_int_equal(rd(t, 0x32), centuries[i][0]);
        assert_int_equal(rd(t, 9), centuries[i][1]);
        assert_int_equal(rd(t, 8), 0x02);
        assert_int_equal(rd(t, 7), 0x02);
    }
}

/* PF shows the ends of periods without PIE, and asks for an interrupt when PIE comes later. */
static void test_poll_periodic(void **state)
{
    struct rtc_test *t = *state;
    wr(t, 0x0a, 0x26); /* 1,024 Hz */
    wr(t, 0x0b, 0x02);
    rd(t, 0x0c);
    assert_int_equal(rd(t, 0x0c), 0);
    fixture_step(t->f, SECOND / 1024 + 1);
    assert_false(t->f->level[0]);
    assert_int_equal(rd(t, 0x0c), 0x40);
    assert_int_equal(rd(t, 0x0c), 0);
    fixture_step(t->f, SECOND / 1024 + 1);
    wr(t, 0x0b, 0x42);
    assert_true(t->f->level[0]);
    assert_int_equal(rd(t, 0x0c), 0xc0);
    wr(t, 0x0a, 0x20); /* rate 0: none */
    wr(t, 0x0b, 0x02);
    fixture_step(t->f, SECOND / 2);
    assert_int_equal(rd(t, 0x0c) & 0x40, 0);
}

static void test_memory(void **state)
{
    struct rtc_test *t = *state;
    rtc_set_memory(t->rtc, 3 * GiB, 5 * GiB);
    assert_int_equal(rd(t, 0x15) | rd(t, 0x16) << 8, 640);
    assert_int_equal(rd(t, 0x17) | rd(t, 0x18) << 8, 0xffff);
    assert_int_equal(rd(t, 0x34) | rd(t, 0x35) << 8, (3 * GiB - 16 * MiB) / 65536);
    assert_int_equal(rd(t, 0x5b) | rd(t, 0x5c) << 8 | rd(t, 0x5d) << 16, 5 * GiB / 65536);
    wr(t, 0x50, 0xaa);
    devices_reset(&t->f->board);
    assert_int_equal(rd(t, 0x50), 0xaa);        /* the battery */
    assert_int_equal(rd(t, 0x8f), rd(t, 0x0f)); /* bit 7 is the NMI mask */
    out8(t->f, 0x70, 0x80);
    assert_true(t->f->level[1]);
    out8(t->f, 0x70, 0x00);
    assert_false(t->f->level[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_time),           TEST(test_set),           TEST(test_uip),
        TEST(test_periodic),       TEST(test_poll_periodic), TEST(test_alarm),
        TEST(test_poll_update),    TEST(test_memory),        TEST(test_update_interrupt),
        TEST(test_poll_alarm),     TEST(test_divider),       TEST(test_centuries),
        TEST(test_poll_any_alarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
