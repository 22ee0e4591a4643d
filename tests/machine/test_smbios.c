/* SMBIOS: the anchor's sums, a walk over the structures, and what the user put into them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/smbios.h"

#define BASE 0xf8020u

static u8 tables[SMBIOS_MAX_SIZE], anchor[SMBIOS_ANCHOR_SIZE];

static u8 sum(const u8 *bytes, size_t size)
{
    u8 total = 0;
    while (size--)
        total = (u8)(total + *bytes++);
    return total;
}

/* The structure behind one; every text ends within `size`. */
static size_t next(size_t at, size_t size)
{
    at += tables[at + 1];
    while (at + 1 < size && (tables[at] || tables[at + 1]))
        at++;
    assert_true(at + 2 <= size);
    return at + 2;
}

static const char *text(size_t at, u8 number)
{
    const char *from = (const char *)tables + at + tables[at + 1];
    if (!number)
        return "";
    while (--number)
        from += strlen(from) + 1;
    return from;
}

/* Where the only structure of a type is; 0xffff: there is none. */
static size_t find(u8 type, size_t size, unsigned *count)
{
    size_t found = 0xffff;
    *count = 0;
    for (size_t at = 0; at < size; at = next(at, size)) {
        assert_in_range(tables[at + 1], 4, size - at);
        if (tables[at] == type)
            found = at;
        ++*count;
    }
    return found;
}

static void test_defaults(void **state)
{
    const struct smbios_config config = {.cpus = 4, .memory_below = 512 * MiB};
    unsigned count;
    size_t size = smbios_build(&config, BASE, tables, anchor), at = find(0, size, &count);
    assert_int_equal(at, 0);
    assert_string_equal(text(at, tables[at + 4]), "Doppel");
    assert_memory_equal(anchor, "_SM_", 4);
    assert_int_equal(sum(anchor, sizeof(anchor)), 0);
    assert_int_equal(sum(anchor + 16, 15), 0);
    assert_int_equal(anchor[0x16] | anchor[0x17] << 8, size);
    assert_int_equal(anchor[0x1c], count);
    assert_int_equal(find(2, size, &count), 0xffff);
    assert_int_equal(find(11, size, &count), 0xffff);
    at = find(4, size, &count);
    assert_int_equal(tables[at + 0x23], 4);
    at = find(17, size, &count);
    assert_int_equal(tables[at + 0x0c] | tables[at + 0x0d] << 8, 512);
    assert_int_equal(tables[find(127, size, &count) + 1], 4);
}

static void test_words(void **state)
{
    struct smbios_config config = {.cpus = 1,
                                   .memory_below = 3 * GiB,
                                   .memory_above = GiB,
                                   .board = true,
                                   .uuid = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
                                   .text[SMBIOS_SYSTEM_SERIAL] = "ds=nocloud",
                                   .text[SMBIOS_BOARD_ASSET] = "tag",
                                   .oem = {"one", "two"},
                                   .n_oem = 2};
    unsigned count;
    size_t size = smbios_build(&config, BASE, tables, anchor), at = find(1, size, &count);
    assert_string_equal(text(at, tables[at + 7]), "ds=nocloud");
    assert_memory_equal(tables + at + 8, "\x67\x45\x23\x01\xab\x89\xef\xcd", 8);
    at = find(2, size, &count);
    assert_string_equal(text(at, tables[at + 8]), "tag");
    at = find(11, size, &count);
    assert_int_equal(tables[at + 4], 2);
    assert_string_equal(text(at, 2), "two");
    at = find(19, size, &count);
    assert_int_equal(tables[at + 4], 0xff); /* beyond 4 GiB: the long fields */
}

static void test_too_much(void **state)
{
    static char text[1200];
    struct smbios_config config = {.cpus = 1, .memory_below = MiB, .n_oem = SMBIOS_MAX_OEM};
    memset(text, 'x', sizeof(text) - 1);
    for (unsigned i = 0; i < SMBIOS_MAX_OEM; i++)
        config.oem[i] = text;
    assert_int_equal(smbios_build(&config, BASE, tables, anchor), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
