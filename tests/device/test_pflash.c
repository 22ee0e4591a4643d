/* A flash chip: modes, programming, erasing, locks, and what reaches the back end. */
#include <stdlib.h>
#include <string.h>

#include "device/pflash.h"
#include "fixture.h"
#include "memory/pmap.h"

#define SIZE (64 * KiB)
#define BASE (4 * GiB - SIZE)

struct chip {
    struct fixture *f;
    struct fake_disk disk;
};

static int setup(void **state)
{
    struct chip *chip = calloc(1, sizeof(*chip));
    struct error err;
    assert_non_null(chip);
    chip->f = fixture_create(1);
    fixture_add_ram(chip->f, 2 * MiB);
    fake_disk_init(&chip->disk, SIZE);
    for (unsigned i = 0; i < SIZE; i++)
        chip->disk.data[i] = (u8)(i * 7 + i / 256);
    assert_non_null(pflash_create(&chip->f->board, &chip->disk.block, 4 * GiB, &err));
    *state = chip;
    return 0;
}

static int teardown(void **state)
{
    struct chip *chip = *state;
    fixture_destroy(chip->f);
    fake_disk_destroy(&chip->disk);
    free(chip);
    return 0;
}

static void put(struct chip *chip, u32 offset, u8 value)
{
    bus_write(&chip->f->board, BUS_MMIO, BASE + offset, 1, value);
}

static u8 get(struct chip *chip, u32 offset)
{
    return (u8)bus_read(&chip->f->board, BUS_MMIO, BASE + offset, 1);
}

static bool is_mapped(struct chip *chip, u32 offset)
{
    return pmap_page(chip->f->board.pmap, gpa_to_gfn(gpa(BASE + offset)));
}

static void test_array_is_memory(void **state)
{
    struct chip *chip = *state;
    u8 bytes[16];
    assert_true(ram_read(&chip->f->board, gpa(BASE + 0x1234), bytes, sizeof(bytes)));
    assert_memory_equal(bytes, chip->disk.data + 0x1234, sizeof(bytes));
    assert_int_equal(get(chip, 0x1234), bytes[0]);
    put(chip, 0, 0x70);
    assert_false(is_mapped(chip, 0));
    assert_false(is_mapped(chip, SIZE - 1));
    put(chip, 0, 0xff);
    assert_true(is_mapped(chip, 0));
    assert_int_equal(get(chip, 5), chip->disk.data[5]);
}

/* What OVMF does to learn whether it has flash. */
static void test_ovmf_probe(void **state)
{
    struct chip *chip = *state;
    u8 original = get(chip, 8);
    put(chip, 8, 0x50);
    assert_int_equal(get(chip, 8), original);
    put(chip, 8, 0x70);
    assert_int_equal(get(chip, 8), 0);
    put(chip, 8, 0xff);
    assert_int_equal(get(chip, 8), original);
}

static void test_program_clears_bits(void **state)
{
    struct chip *chip = *state;
    u8 old = chip->disk.data[100];
    put(chip, 100, 0x40);
    put(chip, 100, 0x5a);
    assert_int_equal(get(chip, 100), 0x80);
    put(chip, 100, 0xff);
    assert_int_equal(get(chip, 100), old & 0x5a);
    assert_int_equal(chip->disk.data[100], old & 0x5a);
    assert_true(chip->disk.flushes > 0);
}

static void test_erase(void **state)
{
    struct chip *chip = *state;
    u8 before = chip->disk.data[0xfff], after = chip->disk.data[0x2000];
    put(chip, 0x1234, 0x20);
    put(chip, 0x1234, 0xd0);
    assert_int_equal(get(chip, 0), 0x80);
    put(chip, 0, 0xff);
    for (u32 i = 0x1000; i < 0x2000; i++) {
        assert_int_equal(get(chip, i), 0xff);
        assert_int_equal(chip->disk.data[i], 0xff);
    }
    assert_int_equal(get(chip, 0xfff), before);
    assert_int_equal(get(chip, 0x2000), after);
    /* Without confirmation: a bad sequence, and nothing happens. */
    put(chip, 0, 0x20);
    put(chip, 0, 0xff);
    assert_int_equal(get(chip, 0), 0x80 | 0x30);
    put(chip, 0, 0xff);
    assert_int_equal(get(chip, 0xfff), before);
}

static void test_buffer(void **state)
{
    struct chip *chip = *state;
    put(chip, 0x3000, 0x20);
    put(chip, 0x3000, 0xd0);
    put(chip, 0x3010, 0xe8);
    assert_int_equal(get(chip, 0x3010) & 0x80, 0x80);
    put(chip, 0x3010, 3);
    for (u32 i = 0; i < 4; i++)
        put(chip, 0x3010 + i, (u8)(0xa0 + i));
    put(chip, 0x3010, 0xd0);
    assert_int_equal(get(chip, 0), 0x80);
    put(chip, 0, 0xff);
    assert_memory_equal(chip->disk.data + 0x3010, "\xa0\xa1\xa2\xa3\xff", 5);
    /* An address beyond the buffer. */
    put(chip, 0x3020, 0xe8);
    put(chip, 0x3020, 3);
    put(chip, 0x3020, 0);
    put(chip, 0x3024, 0);
    assert_int_equal(get(chip, 0), 0x80 | 0x30);
    put(chip, 0, 0xff);
    assert_int_equal(get(chip, 0x3020), 0xff);
}

static void test_query(void **state)
{
    struct chip *chip = *state;
    put(chip, 0x55, 0x98);
    assert_int_equal(get(chip, 0x10), 'Q');
    assert_int_equal(get(chip, 0x11), 'R');
    assert_int_equal(get(chip, 0x12), 'Y');
    assert_int_equal(get(chip, 0x27), 16);
    assert_int_equal(get(chip, 0x2d), SIZE / 4096 - 1);
    assert_int_equal(get(chip, 0x30) << 16 | get(chip, 0x2f) << 8, 4096);
    assert_int_equal(get(chip, SIZE - 1), 0);
    put(chip, 0, 0x90);
    assert_int_equal(get(chip, 0), 0x89);
    assert_int_equal(get(chip, 2), 0);
}

static void test_read_only(void **state)
{
    struct chip *chip = *state;
    u8 old = chip->disk.data[1];
    chip->disk.block.read_only = true;
    put(chip, 1, 0x10);
    put(chip, 1, 0);
    assert_int_equal(get(chip, 1), 0x80 | 0x10 | 0x02);
    put(chip, 1, 0x50);
    put(chip, 1, 0x20);
    put(chip, 1, 0xd0);
    assert_int_equal(get(chip, 1), 0x80 | 0x20 | 0x02);
    put(chip, 1, 0xff);
    assert_int_equal(get(chip, 1), old);
    assert_int_equal(chip->disk.data[1], old);
}

/* Blocks that change while one is being written come after it; an error is seen. */
static void test_slow_back_end(void **state)
{
    struct chip *chip = *state;
    chip->disk.slow = true;
    for (u32 i = 0; i < 3; i++) {
        put(chip, i * 4096, 0x40);
        put(chip, i * 4096, 0);
    }
    board_lock(&chip->f->board);
    block_drain(&chip->disk.block);
    board_unlock(&chip->f->board);
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(chip->disk.data[i * 4096], 0);
    assert_int_equal(get(chip, 0), 0x80);
    chip->disk.error = 5;
    put(chip, 9, 0x40);
    put(chip, 9, 0);
    board_lock(&chip->f->board);
    block_drain(&chip->disk.block);
    board_unlock(&chip->f->board);
    assert_int_equal(get(chip, 0), 0x80 | 0x30);
}

static void test_sizes(void **state)
{
    struct chip *chip = *state;
    struct fake_disk odd;
    struct error err;
    fake_disk_init(&odd, 4096 + 512);
    assert_null(pflash_create(&chip->f->board, &odd.block, BASE, &err));
    fake_disk_destroy(&odd);
    fake_disk_init(&odd, 8 * MiB);
    assert_null(pflash_create(&chip->f->board, &odd.block, BASE, &err));
    fake_disk_destroy(&odd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_array_is_memory), TEST(test_ovmf_probe),    TEST(test_program_clears_bits),
        TEST(test_erase),           TEST(test_buffer),        TEST(test_query),
        TEST(test_read_only),       TEST(test_slow_back_end), TEST(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
