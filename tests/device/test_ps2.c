/* Keyboard and mouse, through the controller and the seam of keys. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

#include "device/scan_codes.h"

#define MS 1000000ull

struct ps2_test {
    struct fixture *f;
    struct input input;
    struct ps2_keyboard *keyboard;
};

static int setup(void **state)
{
    struct ps2_test *t = test_calloc(1, sizeof(*t));
    struct board *board;
    t->f = fixture_create(0);
    board = &t->f->board;
    struct i8042 *i8042 = i8042_create(board, fixture_line(t->f, 0), fixture_line(t->f, 1));
    input_init(&t->input, board);
    t->keyboard = ps2_keyboard_create(board, i8042, &t->input);
    ps2_mouse_create(board, i8042, &t->input);
    out8(t->f, 0x64, 0x60);
    out8(t->f, 0x60, 0x03); /* both ports, both interrupts, no translation */
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct ps2_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

/* What the ports give is exactly these bytes, from that port (0x20: the mouse's). */
static void expect(struct ps2_test *t, u8 aux, const char *hex)
{
    unsigned byte;
    int used;
    for (; sscanf(hex, "%x%n", &byte, &used) == 1; hex += used) {
        assert_int_equal(in8(t->f, 0x64) & 0x21, 1 | aux);
        assert_int_equal(in8(t->f, 0x60), byte);
    }
    assert_int_equal(in8(t->f, 0x64) & 1, 0);
}

static void key(struct ps2_test *t, const char *name, bool down)
{
    enum input_key key = input_key_named(name);
    assert_int_not_equal(key, INPUT_KEY_NONE);
    assert_true(input_key(&t->input, key, down));
}

/* Down and up. */
static void tap(struct ps2_test *t, const char *name, const char *hex)
{
    key(t, name, true);
    key(t, name, false);
    expect(t, 0, hex);
}

static void command(struct ps2_test *t, u8 byte, const char *hex)
{
    out8(t->f, 0x60, byte);
    expect(t, 0, hex);
}

static void mouse(struct ps2_test *t, u8 byte, const char *hex)
{
    out8(t->f, 0x64, 0xd4);
    out8(t->f, 0x60, byte);
    expect(t, 0x20, hex);
}

static void test_names(void **state)
{
    for (unsigned key = 1; key < INPUT_KEYS; key++)
        assert_int_equal(input_key_named(input_key_name(key)), key);
    assert_int_equal(input_key_named("return"), INPUT_KEY_NONE);
}

static void test_set2(void **state)
{
    struct ps2_test *t = *state;
    tap(t, "a", "1c f0 1c");
    tap(t, "up", "e0 75 e0 f0 75");
    tap(t, "f7", "83 f0 83");
    tap(t, "pause", "e1 14 77 e1 f0 14 f0 77");
    tap(t, "print", "e0 12 e0 7c e0 f0 7c e0 f0 12");
    key(t, "alt", true);
    expect(t, 0, "11");
    tap(t, "print", "84 f0 84");
    key(t, "alt", false);
    key(t, "ctrl", true);
    expect(t, 0, "f0 11 14");
    tap(t, "pause", "e0 7e e0 f0 7e");
    tap(t, "print", "e0 7c e0 f0 7c");
}

static void test_set1(void **state)
{
    struct ps2_test *t = *state;
    command(t, 0xf0, "fa");
    command(t, 0x01, "fa");
    tap(t, "a", "1e 9e");
    tap(t, "up", "e0 48 e0 c8");
    tap(t, "pause", "e1 1d 45 e1 9d c5");
    command(t, 0xf0, "fa");
    command(t, 0x00, "fa 01");
    command(t, 0xf0, "fa");
    command(t, 0x04, "fe");
}

/* What every PC's software sees: set 2, translated by the controller. */
static void test_translated(void **state)
{
    struct ps2_test *t = *state;
    out8(t->f, 0x64, 0x60);
    out8(t->f, 0x60, 0x43);
    tap(t, "ret", "1c 9c");
    tap(t, "f7", "41 c1");
    tap(t, "print", "e0 2a e0 37 e0 b7 e0 aa");
    tap(t, "kp_enter", "e0 1c e0 9c");
    command(t, 0xf2, "fa ab 41");
}

static void test_set3(void **state)
{
    struct ps2_test *t = *state;
    command(t, 0xf0, "fa");
    command(t, 0x03, "fa");
    tap(t, "a", "1c");           /* typematic */
    tap(t, "shift", "12 f0 12"); /* make and break */
    tap(t, "f1", "07");          /* make only */
    tap(t, "pause", "62");
    command(t, 0xf8, "fa"); /* all: make and break */
    tap(t, "a", "1c f0 1c");
    command(t, 0xfd, "fa"); /* A and S: make only */
    command(t, 0x1c, "fa");
    command(t, 0x1b, "fa");
    command(t, 0xf4, "fa");
    tap(t, "a", "1c");
    tap(t, "s", "1b");
    tap(t, "d", "23 f0 23");
    command(t, 0xf6, "fa");
    tap(t, "a", "1c f0 1c"); /* set 2 again */
}

static void test_typematic(void **state)
{
    struct ps2_test *t = *state;
    key(t, "a", true);
    expect(t, 0, "1c");
    fixture_step(t->f, 499 * MS);
    expect(t, 0, "");
    fixture_step(t->f, 2 * MS);
    expect(t, 0, "1c");
    fixture_step(t->f, 92 * MS); /* 10.9 a second */
    expect(t, 0, "1c");
    key(t, "b", true);
    key(t, "a", false); /* not the one that repeats */
    expect(t, 0, "32 f0 1c");
    fixture_step(t->f, 501 * MS);
    expect(t, 0, "32");
    key(t, "b", false);
    expect(t, 0, "f0 32");
    fixture_step(t->f, 2000 * MS);
    expect(t, 0, "");
    command(t, 0xf3, "fa");
    command(t, 0x00, "fa"); /* 250 ms, 30 a second */
    key(t, "a", true);
    fixture_step(t->f, 251 * MS);
    fixture_step(t->f, 34 * MS);
    expect(t, 0, "1c 1c 1c");
    fixture_step(t->f, 5000 * MS); /* nobody reads: it stops at what there is room for */
    unsigned n = 0;
    for (; in8(t->f, 0x64) & 1; n++)
        assert_int_equal(in8(t->f, 0x60), 0x1c);
    assert_in_range(n, 16, 18);
}

static void test_commands(void **state)
{
    struct ps2_test *t = *state;
    command(t, 0xee, "ee");
    command(t, 0xf2, "fa ab 83");
    command(t, 0xfe, "83");
    command(t, 0xed, "fa");
    command(t, 0x05, "fa");
    assert_int_equal(ps2_keyboard_leds(t->keyboard), 5);
    command(t, 0xed, "fa");
    command(t, 0xf4, "fa"); /* a command ends the wait for lamps */
    assert_int_equal(ps2_keyboard_leds(t->keyboard), 5);
    command(t, 0x12, "fe");
    command(t, 0xf5, "fa");
    tap(t, "a", "");
    command(t, 0xf4, "fa");
    tap(t, "a", "1c f0 1c");
    command(t, 0xff, "fa aa");
    assert_int_equal(ps2_keyboard_leds(t->keyboard), 0);
}

/* The seam keeps what the keyboard has no room for, and presses hold and release in time. */
static void test_queue(void **state)
{
    struct ps2_test *t = *state;
    const enum input_key keys[] = {INPUT_KEY_CTRL, INPUT_KEY_ALT, INPUT_KEY_DELETE};
    for (unsigned i = 0; i < 40; i++) {
        key(t, "x", true);
        key(t, "x", false);
    }
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(in8(t->f, 0x60), 0x22);
        assert_int_equal(in8(t->f, 0x60), 0xf0);
        assert_int_equal(in8(t->f, 0x60), 0x22);
    }
    expect(t, 0, "");
    board_close(&t->f->board); /* a stopped machine gets nothing until it goes on */
    key(t, "y", true);
    key(t, "y", false);
    expect(t, 0, "");
    board_open(&t->f->board);
    expect(t, 0, "35 f0 35");
    assert_true(input_press(&t->input, keys, 3, 100 * MS));
    assert_true(input_press(&t->input, keys, 1, 100 * MS));
    expect(t, 0, "14 11 e0 71");
    fixture_step(t->f, 99 * MS);
    expect(t, 0, "");
    fixture_step(t->f, MS);
    expect(t, 0, "e0 f0 71 f0 11 f0 14");
    fixture_step(t->f, 20 * MS);
    expect(t, 0, "14");
    input_reset(&t->input);
    fixture_step(t->f, 200 * MS);
    expect(t, 0, "");
    unsigned n = 0;
    while (input_press(&t->input, keys, 1, 100 * MS))
        n++;
    assert_in_range(n, 100, 200);
}

static void test_mouse(void **state)
{
    struct ps2_test *t = *state;
    struct input_motion motion = {.dx = 5, .dy = -3, .buttons = BIT(INPUT_LEFT)};
    input_move(&t->input, &motion);
    expect(t, 0x20, ""); /* not enabled */
    mouse(t, 0xff, "fa aa 00");
    mouse(t, 0xf2, "fa 00");
    mouse(t, 0xe9, "fa 04 02 64");
    mouse(t, 0xf4, "fa");
    input_move(&t->input, &motion);
    assert_true(t->f->level[1]);
    expect(t, 0x20, "09 05 03");
    motion = (struct input_motion){.dx = -300, .dy = 2};
    input_move(&t->input, &motion);
    expect(t, 0x20, "38 01 fe 18 d3 00"); /* more than 9 bits: in two packets */
    mouse(t, 0xe7, "fa");
    motion = (struct input_motion){.dx = 3, .dy = -10};
    input_move(&t->input, &motion);
    expect(t, 0x20, "08 03 14");
    mouse(t, 0xe6, "fa");
    mouse(t, 0xf0, "fa"); /* remote: only when asked */
    input_move(&t->input, &motion);
    expect(t, 0x20, "");
    mouse(t, 0xeb, "fa 08 03 0a");
    mouse(t, 0xeb, "fa 08 00 00");
    mouse(t, 0xee, "fa"); /* wrap mode */
    mouse(t, 0xf2, "f2");
    mouse(t, 0xec, "fa");
    mouse(t, 0x77, "fc");
}

static void rates(struct ps2_test *t, const u8 *rate)
{
    for (unsigned i = 0; i < 3; i++) {
        mouse(t, 0xf3, "fa");
        mouse(t, rate[i], "fa");
    }
}

static void test_wheel(void **state)
{
    struct ps2_test *t = *state;
    static const u8 wheel[] = {200, 100, 80}, five[] = {200, 200, 80};
    struct input_motion motion = {.dz = -1, .buttons = BIT(INPUT_SIDE)};
    rates(t, wheel);
    mouse(t, 0xf2, "fa 03");
    mouse(t, 0xf4, "fa");
    input_move(&t->input, &motion);
    expect(t, 0x20, "08 00 00 ff");
    rates(t, five);
    mouse(t, 0xf2, "fa 04");
    input_move(&t->input, &motion);
    expect(t, 0x20, "08 00 00 1f");
    motion = (struct input_motion){.dz = 1, .buttons = BIT(INPUT_EXTRA)};
    input_move(&t->input, &motion);
    expect(t, 0x20, "08 00 00 21");
    mouse(t, 0xff, "fa aa 00");
    mouse(t, 0xf2, "fa 00");
}

/* What is not read yet is part of the state; so is a key that repeats. */
static void test_state(void **state)
{
    struct ps2_test *t = *state;
    struct device_buffer saved = {0};
    key(t, "q", true);
    key(t, "w", true);
    for (struct device *d = t->f->board.devices; d; d = d->next)
        device_save(d, &saved);
    expect(t, 0, "15 1d");
    devices_reset(&t->f->board);
    size_t at = 0;
    for (struct device *d = t->f->board.devices; d; d = d->next) {
        size_t len = device_load(d, saved.data + at, saved.len - at);
        assert_int_not_equal(len, 0);
        at += len;
    }
    expect(t, 0, "15 1d");
    fixture_step(t->f, 501 * MS);
    expect(t, 0, "1d");
    device_buffer_free(&saved);
}

/* QEMU's numbers of keys: set 1, and 80h for what follows E0h. */
static void test_numbers(void **state)
{
    assert_int_equal(scan_key_numbered(0x01), INPUT_KEY_ESC);
    assert_int_equal(scan_key_numbered(0x1e), INPUT_KEY_A);
    assert_int_equal(scan_key_numbered(0x41), INPUT_KEY_F7);
    assert_int_equal(scan_key_numbered(0x47), INPUT_KEY_KP_7);
    assert_int_equal(scan_key_numbered(0xc7), INPUT_KEY_HOME);
    assert_int_equal(scan_key_numbered(0x54), INPUT_KEY_SYSRQ);
    assert_int_equal(scan_key_numbered(0xb7), INPUT_KEY_PRINT);
    assert_int_equal(scan_key_numbered(0xc6), INPUT_KEY_PAUSE);
    assert_int_equal(scan_key_numbered(0x9d), INPUT_KEY_CTRL_R);
    assert_int_equal(scan_key_numbered(0), INPUT_KEY_NONE);
    assert_int_equal(scan_key_numbered(0xff), INPUT_KEY_NONE);
    assert_int_equal(scan_key_numbered(0x11e), INPUT_KEY_NONE);
    /* No number is two keys', but for the two names of one. */
    for (enum input_key key = INPUT_KEY_NONE + 1; key < INPUT_KEYS; key++) {
        bool found = false;
        for (unsigned number = 0; number < 0x100 && !found; number++)
            found = scan_key_numbered(number) == key;
        assert_true(found || key == INPUT_KEY_COMPOSE || key == INPUT_KEY_MENU);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test_setup_teardown(test_set2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_translated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set3, setup, teardown),
        cmocka_unit_test_setup_teardown(test_typematic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wheel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
