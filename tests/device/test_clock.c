/* Timers over a stepped clock. */
#include "fixture.h"

struct probe {
    struct timer timer;
    struct fixture *f;
    u64 again; /* re-arms itself so much later, if not 0 */
    unsigned fired;
};

static void probe_fire(void *opaque)
{
    struct probe *p = opaque;
    p->fired++;
    if (p->again)
        timer_arm(&p->f->board.clock, &p->timer, p->timer.deadline + p->again);
}

static struct probe probe_make(struct fixture *f)
{
    return (struct probe){.f = f};
}

static void probe_arm(struct probe *p, u64 deadline)
{
    p->timer.fire = probe_fire;
    p->timer.opaque = p;
    timer_arm(&p->f->board.clock, &p->timer, deadline);
}

static void count_rearm(void *opaque)
{
    struct fixture *f = opaque;
    f->rooms++;
}

static int setup(void **state)
{
    *state = fixture_create(0);
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void test_order(void **state)
{
    struct fixture *f = *state;
    struct probe a = probe_make(f), b = probe_make(f), c = probe_make(f);
    probe_arm(&b, 200);
    probe_arm(&a, 100);
    probe_arm(&c, 200);
    assert_ptr_equal(f->board.clock.first, &a.timer);
    assert_ptr_equal(a.timer.next, &b.timer);
    assert_ptr_equal(b.timer.next, &c.timer); /* equal deadlines in order of arming */
    f->now = 150;
    assert_int_equal(clock_run(&f->board.clock), 200);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 0);
    timer_cancel(&f->board.clock, &b.timer);
    timer_cancel(&f->board.clock, &b.timer);
    probe_arm(&c, 300); /* moves */
    f->now = 299;
    assert_int_equal(clock_run(&f->board.clock), 300);
    f->now = 300;
    assert_int_equal(clock_run(&f->board.clock), UINT64_MAX);
    assert_int_equal(b.fired, 0);
    assert_int_equal(c.fired, 1);
}

static void test_rearm_in_callback(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make(f);
    p.again = 100;
    probe_arm(&p, 100);
    f->now = 450;
    assert_int_equal(clock_run(&f->board.clock), 500);
    assert_int_equal(p.fired, 4);
    timer_cancel(&f->board.clock, &p.timer);
}

static void test_source_hears_of_earlier_deadlines(void **state)
{
    struct fixture *f = *state;
    struct probe a = probe_make(f), b = probe_make(f);
    f->board.clock.rearm = count_rearm;
    probe_arm(&a, 1000);
    assert_int_equal(f->rooms, 1);
    probe_arm(&b, 2000);
    assert_int_equal(f->rooms, 1);
    probe_arm(&b, 500);
    assert_int_equal(f->rooms, 2);
    timer_cancel(&f->board.clock, &a.timer);
    timer_cancel(&f->board.clock, &b.timer);
}

static void test_ticks(void **state)
{
    /* 100 years of nanoseconds do not overflow, and each tick lies where it says. */
    const u64 century = 3155760000ull * 1000000000;
    assert_int_equal(clock_ticks(century, 3579545), 3155760000ull * 3579545);
    for (u64 tick = 0; tick < 100000; tick += 37) {
        assert_int_equal(clock_ticks(clock_ns(tick, 1193182), 1193182), tick);
        if (tick)
            assert_int_equal(clock_ticks(clock_ns(tick, 1193182) - 1, 1193182), tick - 1);
    }
    assert_int_equal(clock_ns(UINT64_MAX, 1), UINT64_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_rearm_in_callback),
        TEST(test_source_hears_of_earlier_deadlines),
        TEST(test_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
