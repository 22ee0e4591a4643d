/* The MultiProcessor tables: found, whole, and saying what the board has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "machine/mp.h"

#define BASE 0xf0000u

static u8 tables[MP_MAX_SIZE];

static u8 sum(const u8 *data, size_t size)
{
    u8 total = 0;
    while (size--)
        total = (u8)(total + *data++);
    return total;
}

static unsigned get(const u8 *at, unsigned size)
{
    unsigned value = 0;
    memcpy(&value, at, size);
    return value;
}

static const u8 *build(unsigned n_cpus)
{
    struct acpi_config board = {.n_cpus = n_cpus, .sci = 9, .ioapic_base = 0xfec00000};
    memset(board.pci_irq, 10, sizeof(board.pci_irq));
    memset(board.pci_irq[3], 11, sizeof(board.pci_irq[3]));
    const struct mp_config config = {
        .board = &board, .cpu_signature = 0xa20f12, .cpu_features = 0x178bfbff};
    size_t size = mp_build(&config, BASE, tables);
    assert_memory_equal(tables, "_MP_", 4);
    assert_int_equal(sum(tables, 16), 0);
    assert_int_equal(get(tables + 4, 4), BASE + 16);
    const u8 *header = tables + 16;
    assert_memory_equal(header, "PCMP", 4);
    assert_int_equal(get(header + 4, 2), size - 16);
    assert_int_equal(sum(header, size - 16), 0);
    return header;
}

static void test_entries(void **state)
{
    static const unsigned sizes[] = {20, 8, 8, 8, 8};
    const u8 *header = build(3), *at = header + 44;
    unsigned counts[5] = {0}, timer_pin = 0, slot3_pin = 0;
    for (unsigned n = get(header + 34, 2); n--; at += sizes[*at]) {
        assert_in_range(*at, 0, 4);
        counts[*at]++;
        if (*at == 0) {
            assert_int_equal(at[1], counts[0] - 1);
            assert_int_equal(at[3], counts[0] == 1 ? 3 : 1);
            assert_int_equal(get(at + 4, 4), 0xa20f12);
        }
        if (*at == 3 && at[4] == 1 && at[5] == 0)
            timer_pin = at[7];
        if (*at == 3 && at[4] == 0 && at[5] == (3 << 2 | 1))
            slot3_pin = at[7];
        if (*at == 3 && at[4] == 1)
            assert_true(at[5] != 10 && at[5] != 11);
    }
    assert_int_equal(at - header, get(header + 4, 2));
    assert_int_equal(counts[0], 3);
    assert_int_equal(counts[1], 2);
    assert_int_equal(counts[2], 1);
    assert_int_equal(counts[4], 2);
    assert_int_equal(timer_pin, 2);
    assert_int_equal(slot3_pin, 11);
}

static void test_many(void **state)
{
    const u8 *header = build(64);
    assert_true(get(header + 4, 2) > 64 * 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_entries),
                                       cmocka_unit_test(test_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
