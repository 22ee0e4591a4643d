/* The 16550A. */
#include "fixture.h"

#include <string.h>

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define COM 0x3f8

struct serial_test {
    struct fixture *f;
    struct serial *serial;
};

static int setup(void **state)
{
    struct serial_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(0);
    t->serial = serial_create(&t->f->board, COM, fixture_line(t->f, 0), &t->f->chardev);
    out8(t->f, COM + MCR, 0x0b); /* OUT2 lets interrupts out */
    in8(t->f, COM + MSR);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct serial_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static size_t send(struct serial_test *t, const char *text)
{
    size_t len = strlen(text), room = t->f->chardev.can_receive(t->f->chardev.front);
    if (len > room)
        len = room;
    t->f->chardev.receive(t->f->chardev.front, (const u8 *)text, len);
    return len;
}

static void test_output(void **state)
{
    struct serial_test *t = *state;
    for (const char *c = "hello"; *c; c++) {
        assert_int_equal(in8(t->f, COM + LSR), 0x60);
        out8(t->f, COM, (u8)*c);
    }
    assert_int_equal(t->f->output_len, 5);
    assert_memory_equal(t->f->output, "hello", 5);
}

static void test_registers(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + SCR, 0x5a);
    assert_int_equal(in8(t->f, COM + SCR), 0x5a);
    out8(t->f, COM + IER, 0xff);
    assert_int_equal(in8(t->f, COM + IER), 0x0f);
    out8(t->f, COM + LCR, 0x83);
    out8(t->f, COM, 0x34);
    out8(t->f, COM + 1, 0x12);
    assert_int_equal(in8(t->f, COM), 0x34);
    assert_int_equal(in8(t->f, COM + 1), 0x12);
    out8(t->f, COM + LCR, 0x03);
    assert_int_equal(in8(t->f, COM + IER), 0x0f);
    assert_int_equal(t->f->output_len, 0);
    assert_int_equal(in8(t->f, COM + MSR) & 0xf0, 0xb0);
    out8(t->f, COM + MCR, 0xff);
    assert_int_equal(in8(t->f, COM + MCR), 0x1f);
}

static void test_thre_interrupt(void **state)
{
    struct serial_test *t = *state;
    assert_int_equal(in8(t->f, COM + IIR), 0x01);
    out8(t->f, COM + IER, 0x02); /* empty already: at once */
    assert_true(t->f->level[0]);
    assert_int_equal(in8(t->f, COM + IIR), 0x02);
    assert_false(t->f->level[0]); /* reading IIR takes it */
    assert_int_equal(in8(t->f, COM + IIR), 0x01);
    out8(t->f, COM, 'x');
    assert_true(t->f->level[0]);
    out8(t->f, COM + IER, 0);
    assert_false(t->f->level[0]);
    out8(t->f, COM + IER, 0x02);
    assert_true(t->f->level[0]);
    out8(t->f, COM + MCR, 0x03); /* OUT2 off */
    assert_false(t->f->level[0]);
}

static void test_receive_without_fifo(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + IER, 0x01);
    assert_int_equal(send(t, "ab"), 1);
    assert_true(t->f->level[0]);
    assert_int_equal(in8(t->f, COM + IIR), 0x04);
    assert_int_equal(in8(t->f, COM + LSR), 0x61);
    unsigned rooms = t->f->rooms;
    assert_int_equal(in8(t->f, COM), 'a');
    assert_false(t->f->level[0]);
    assert_int_equal(in8(t->f, COM + LSR), 0x60);
    assert_int_equal(t->f->rooms, rooms + 1); /* the back end hears that there is room */
    assert_int_equal(send(t, "b"), 1);
    assert_int_equal(in8(t->f, COM), 'b');
}

static void test_fifo(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + 2, 0x81); /* FIFO, trigger at 8 */
    out8(t->f, COM + IER, 0x01);
    assert_int_equal(in8(t->f, COM + IIR), 0xc1);
    assert_int_equal(send(t, "1234567"), 7);
    assert_false(t->f->level[0]);
    assert_int_equal(in8(t->f, COM + LSR), 0x61);
    send(t, "8");
    assert_true(t->f->level[0]);
    assert_int_equal(in8(t->f, COM + IIR), 0xc4);
    assert_int_equal(in8(t->f, COM), '1');
    assert_false(t->f->level[0]);                 /* below the trigger again */
    assert_int_equal(send(t, "9abcdefghijk"), 9); /* 16 in all */
    assert_int_equal(send(t, "x"), 0);
    unsigned rooms = t->f->rooms;
    out8(t->f, COM + 2, 0x83); /* reset the receiver: what waits at the back end can come */
    assert_int_equal(t->f->rooms, rooms + 1);
    assert_int_equal(in8(t->f, COM + LSR), 0x60);
    assert_false(t->f->level[0]);
}

static void test_timeout(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + LCR, 0x83);
    out8(t->f, COM, 1); /* 115,200 baud */
    out8(t->f, COM + 1, 0);
    out8(t->f, COM + LCR, 0x03); /* 8N1: four characters last 347 us */
    out8(t->f, COM + 2, 0xc1);
    out8(t->f, COM + IER, 0x01);
    send(t, "ab");
    fixture_step(t->f, 340000);
    assert_false(t->f->level[0]);
    fixture_step(t->f, 10000);
    assert_true(t->f->level[0]);
    assert_int_equal(in8(t->f, COM + IIR), 0xcc);
    in8(t->f, COM);
    assert_false(t->f->level[0]); /* counts anew for the second */
    fixture_step(t->f, 350000);
    assert_true(t->f->level[0]);
    in8(t->f, COM);
    fixture_step(t->f, 1000000);
    assert_false(t->f->level[0]);
}

static void test_loopback(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + MCR, 0x1a); /* loop, OUT2, RTS */
    assert_int_equal(in8(t->f, COM + MSR) & 0xf0, 0x90);
    out8(t->f, COM + MCR, 0x15);                         /* OUT1, DTR */
    assert_int_equal(in8(t->f, COM + MSR), 0x60 | 0x0b); /* CTS, DSR, DCD changed */
    out8(t->f, COM + MCR, 0x10);
    assert_int_equal(in8(t->f, COM + MSR), 0x06); /* RI's trailing edge; DSR fell */
    out8(t->f, COM, 'z');
    assert_int_equal(t->f->output_len, 0);
    assert_int_equal(in8(t->f, COM + LSR), 0x61);
    out8(t->f, COM, 'y'); /* overrun */
    assert_int_equal(in8(t->f, COM + LSR), 0x63);
    assert_int_equal(in8(t->f, COM + LSR), 0x61);
    assert_int_equal(in8(t->f, COM), 'y');
    assert_int_equal(send(t, "x"), 0); /* the line is disconnected */
}

static void test_modem_interrupt(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + IER, 0x08);
    out8(t->f, COM + MCR, 0x1b);
    in8(t->f, COM + MSR);
    out8(t->f, COM + MCR, 0x0b); /* leaving loopback changes inputs */
    assert_true(in8(t->f, COM + IIR) == 0x00 || in8(t->f, COM + IIR) == 0x01);
    in8(t->f, COM + MSR);
    assert_int_equal(in8(t->f, COM + IIR), 0x01);
}

static void test_break(void **state)
{
    struct serial_test *t = *state;
    out8(t->f, COM + 2, 0x01);
    out8(t->f, COM + IER, 0x05);
    send(t, "a");
    serial_break(t->serial);
    assert_int_equal(in8(t->f, COM + LSR), 0xe1); /* an error is in the FIFO */
    assert_int_equal(in8(t->f, COM), 'a');
    assert_int_equal(in8(t->f, COM + IIR), 0xc6); /* line status first */
    assert_int_equal(in8(t->f, COM + LSR), 0xf1);
    assert_int_equal(in8(t->f, COM), 0);
    assert_int_equal(in8(t->f, COM + LSR), 0x60);
    assert_false(t->f->level[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_output),   TEST(test_registers),
        TEST(test_fifo),     TEST(test_receive_without_fifo),
        TEST(test_timeout),  TEST(test_thre_interrupt),
        TEST(test_loopback), TEST(test_modem_interrupt),
        TEST(test_break),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
