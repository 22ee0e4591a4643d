/* What is typed in a terminal becomes keys of a US keyboard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/types.h"
#include "host/typing.h"

static void test_bytes(void **state)
{
    enum input_key keys[TYPING_MAX];
    assert_int_equal(typing_byte('a', keys), 1);
    assert_int_equal(keys[0], INPUT_KEY_A);
    assert_int_equal(typing_byte('A', keys), 2);
    assert_int_equal(keys[0], INPUT_KEY_SHIFT);
    assert_int_equal(keys[1], INPUT_KEY_A);
    assert_int_equal(typing_byte('~', keys), 2);
    assert_int_equal(keys[1], INPUT_KEY_GRAVE_ACCENT);
    assert_int_equal(typing_byte('@', keys), 2);
    assert_int_equal(keys[1], INPUT_KEY_2);
    assert_int_equal(typing_byte('_', keys), 2);
    assert_int_equal(keys[1], INPUT_KEY_MINUS);
    assert_int_equal(typing_byte(3, keys), 2);
    assert_int_equal(keys[0], INPUT_KEY_CTRL);
    assert_int_equal(keys[1], INPUT_KEY_C);
    assert_int_equal(typing_byte('\r', keys), 1);
    assert_int_equal(keys[0], INPUT_KEY_RET);
    assert_int_equal(typing_byte(0xe4, keys), 0);
    for (unsigned byte = 0; byte < 256; byte++)
        assert_in_range(typing_byte((u8)byte, keys), byte < 0x80 ? 1 : 0, TYPING_MAX);
}

static void test_characters(void **state)
{
    assert_int_equal(typing_cp437('A'), 'A');
    assert_int_equal(typing_cp437(0), ' ');
    assert_int_equal(typing_cp437(0x01), 0x263a);
    assert_int_equal(typing_cp437(0x1f), 0x25bc);
    assert_int_equal(typing_cp437(0x7f), 0x2302);
    assert_int_equal(typing_cp437(0x80), 0xc7);
    assert_int_equal(typing_cp437(0xb0), 0x2591);
    assert_int_equal(typing_cp437(0xc4), 0x2500);
    assert_int_equal(typing_cp437(0xdb), 0x2588);
    assert_int_equal(typing_cp437(0xff), ' ');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
