/* The 8259 pair: what the data sheet says, register by register. */
#include "fixture.h"

struct pic_test {
    struct fixture *f;
    struct pic *pic;
};

static void init_chips(struct fixture *f, u8 icw4)
{
    out8(f, 0x20, 0x11);
    out8(f, 0x21, 0x20);
    out8(f, 0x21, 0x04);
    out8(f, 0x21, icw4);
    out8(f, 0xa0, 0x11);
    out8(f, 0xa1, 0x28);
    out8(f, 0xa1, 0x02);
    out8(f, 0xa1, 0x01);
}

static int setup(void **state)
{
    struct pic_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(0);
    t->pic = pic_create(&t->f->board, fixture_line(t->f, 0));
    init_chips(t->f, 0x01);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct pic_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static void raise(struct pic_test *t, unsigned n)
{
    struct irq_line line = pic_line(t->pic, n);
    irq_set(&line, true);
}

static void lower(struct pic_test *t, unsigned n)
{
    struct irq_line line = pic_line(t->pic, n);
    irq_set(&line, false);
}

static u8 read_isr(struct pic_test *t, u16 port)
{
    out8(t->f, port, 0x0b);
    u8 isr = in8(t->f, port);
    out8(t->f, port, 0x0a);
    return isr;
}

static void test_edge(void **state)
{
    struct pic_test *t = *state;
    raise(t, 3);
    assert_true(t->f->level[0]);
    assert_int_equal(in8(t->f, 0x20), 0x08);
    assert_int_equal(pic_acknowledge(t->pic), 0x23);
    assert_false(t->f->level[0]);
    assert_int_equal(in8(t->f, 0x20), 0);
    assert_int_equal(read_isr(t, 0x20), 0x08);
    /* Still high: no second interrupt without an edge. */
    out8(t->f, 0x20, 0x20);
    assert_int_equal(read_isr(t, 0x20), 0);
    assert_false(t->f->level[0]);
    lower(t, 3);
    raise(t, 3);
    assert_true(t->f->level[0]);
}

static void test_priority_and_nesting(void **state)
{
    struct pic_test *t = *state;
    raise(t, 5);
    raise(t, 1);
    assert_int_equal(pic_acknowledge(t->pic), 0x21);
    assert_false(t->f->level[0]); /* 5 waits for 1 */
    raise(t, 0);
    assert_true(t->f->level[0]); /* 0 nests */
    assert_int_equal(pic_acknowledge(t->pic), 0x20);
    out8(t->f, 0x20, 0x20); /* ends 0 */
    assert_int_equal(read_isr(t, 0x20), 0x02);
    assert_false(t->f->level[0]);
    out8(t->f, 0x20, 0x61); /* specific: ends 1 */
    assert_int_equal(pic_acknowledge(t->pic), 0x25);
}

static void test_mask(void **state)
{
    struct pic_test *t = *state;
    out8(t->f, 0x21, 0x10);
    assert_int_equal(in8(t->f, 0x21), 0x10);
    raise(t, 4);
    assert_false(t->f->level[0]);
    out8(t->f, 0x21, 0);
    assert_true(t->f->level[0]);
}

static void test_cascade(void **state)
{
    struct pic_test *t = *state;
    raise(t, 12);
    assert_true(t->f->level[0]);
    assert_int_equal(pic_acknowledge(t->pic), 0x2c);
    assert_int_equal(read_isr(t, 0x20), 0x04);
    assert_int_equal(read_isr(t, 0xa0), 0x10);
    /* A higher one of the slave waits for the master's EOI, without special fully nested
     * mode. */
    raise(t, 8);
    assert_false(t->f->level[0]);
    out8(t->f, 0xa0, 0x20);
    out8(t->f, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(t->pic), 0x28);
}

static void test_special_fully_nested(void **state)
{
    struct pic_test *t = *state;
    init_chips(t->f, 0x11);
    raise(t, 12);
    assert_int_equal(pic_acknowledge(t->pic), 0x2c);
    raise(t, 8);
    assert_true(t->f->level[0]);
    assert_int_equal(pic_acknowledge(t->pic), 0x28);
}

static void test_spurious(void **state)
{
    struct pic_test *t = *state;
    assert_int_equal(pic_acknowledge(t->pic), 0x27);
    assert_int_equal(read_isr(t, 0x20), 0); /* sets no bit */
    /* A level that went away before INTA. */
    pic_set_elcr(t->pic, 0x0800);
    raise(t, 11);
    assert_true(t->f->level[0]);
    lower(t, 11);
    assert_false(t->f->level[0]);
}

static void test_level(void **state)
{
    struct pic_test *t = *state;
    out8(t->f, 0x4d1, 0xff);
    assert_int_equal(in8(t->f, 0x4d1), 0xde); /* 8 and 13 stay edges */
    out8(t->f, 0x4d0, 0xff);
    assert_int_equal(in8(t->f, 0x4d0), 0xf8);
    raise(t, 10);
    assert_int_equal(pic_acknowledge(t->pic), 0x2a);
    out8(t->f, 0xa0, 0x20);
    out8(t->f, 0x20, 0x20);
    assert_true(t->f->level[0]); /* still up: again */
    assert_int_equal(pic_acknowledge(t->pic), 0x2a);
    lower(t, 10);
    out8(t->f, 0xa0, 0x20);
    out8(t->f, 0x20, 0x20);
    assert_false(t->f->level[0]);
}

static void test_auto_eoi(void **state)
{
    struct pic_test *t = *state;
    init_chips(t->f, 0x03);
    raise(t, 6);
    assert_int_equal(pic_acknowledge(t->pic), 0x26);
    assert_int_equal(read_isr(t, 0x20), 0);
    /* Rotation in automatic EOI mode: 6 becomes the lowest, so 7 beats 0. */
    out8(t->f, 0x20, 0x80);
    lower(t, 6);
    raise(t, 6);
    pic_acknowledge(t->pic);
    raise(t, 0);
    raise(t, 7);
    assert_int_equal(pic_acknowledge(t->pic), 0x27);
    assert_int_equal(pic_acknowledge(t->pic), 0x20);
}

static void test_rotation(void **state)
{
    struct pic_test *t = *state;
    out8(t->f, 0x20, 0xc3); /* set priority: 3 lowest, 4 highest */
    raise(t, 3);
    raise(t, 4);
    assert_int_equal(pic_acknowledge(t->pic), 0x24);
    out8(t->f, 0x20, 0xa0); /* rotate on non-specific EOI: 4 lowest */
    raise(t, 5);
    assert_int_equal(pic_acknowledge(t->pic), 0x25);
    out8(t->f, 0x20, 0xe5); /* rotate on specific EOI */
    assert_int_equal(pic_acknowledge(t->pic), 0x23);
}

static void test_special_mask(void **state)
{
    struct pic_test *t = *state;
    raise(t, 2 + 1);
    assert_int_equal(pic_acknowledge(t->pic), 0x23);
    raise(t, 6);
    assert_false(t->f->level[0]);
    out8(t->f, 0x21, 0x08);
    out8(t->f, 0x20, 0x68); /* special mask mode: the masked 3 in service holds nobody back */
    assert_true(t->f->level[0]);
    assert_int_equal(pic_acknowledge(t->pic), 0x26);
    out8(t->f, 0x20, 0x20); /* a non-specific EOI ends 6, not the masked 3 */
    assert_int_equal(read_isr(t, 0x20), 0x08);
    out8(t->f, 0x20, 0x48); /* leave */
    raise(t, 7);
    assert_false(t->f->level[0]);
}

static void test_poll(void **state)
{
    struct pic_test *t = *state;
    out8(t->f, 0x20, 0x0c);
    assert_int_equal(in8(t->f, 0x20), 0);
    raise(t, 5);
    out8(t->f, 0x20, 0x0c);
    assert_int_equal(in8(t->f, 0x20), 0x85);
    assert_int_equal(read_isr(t, 0x20), 0x20);
}

static void test_icw1_forgets(void **state)
{
    struct pic_test *t = *state;
    out8(t->f, 0x21, 0xff);
    raise(t, 1);
    out8(t->f, 0x20, 0x11);
    assert_false(t->f->level[0]); /* in the middle of initialization */
    out8(t->f, 0x21, 0x40);
    out8(t->f, 0x21, 0x04);
    out8(t->f, 0x21, 0x01);
    assert_int_equal(in8(t->f, 0x21), 0); /* IMR is cleared */
    assert_false(t->f->level[0]);         /* and the edge forgotten */
    lower(t, 1);
    raise(t, 1);
    assert_int_equal(pic_acknowledge(t->pic), 0x41);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_edge),     TEST(test_priority_and_nesting),
        TEST(test_mask),     TEST(test_cascade),
        TEST(test_spurious), TEST(test_special_fully_nested),
        TEST(test_level),    TEST(test_auto_eoi),
        TEST(test_rotation), TEST(test_special_mask),
        TEST(test_poll),     TEST(test_icw1_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
