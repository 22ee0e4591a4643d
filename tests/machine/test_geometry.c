/* The geometry of IDE disks: what their first sector says, and CMOS memory with it. */
#include "fixture.h"

#include <string.h>

#include "machine/disk_geometry.h"

#define SMALL (61440 * 512ull)   /* 60 cylinders */
#define LARGE (8388608 * 512ull) /* 8322 */

/* A first sector with one partition, in entry `n`, that ends at this head and sector. */
static const u8 *partition(unsigned n, u8 head, u8 sector)
{
    static u8 first[512];
    memset(first, 0, sizeof(first));
    u8 *entry = first + 0x1be + 16 * n;
    entry[5] = head;
    entry[6] = sector;
    entry[12] = 0x41;
    first[510] = 0x55;
    first[511] = 0xaa;
    return first;
}

static void check(u64 size, const u8 *first, u16 cylinders, enum disk_translation translation)
{
    const struct disk_geometry g = disk_geometry_of(size, first);
    assert_int_equal(g.cylinders, cylinders);
    assert_int_equal(g.heads, 16);
    assert_int_equal(g.sectors, 63);
    assert_int_equal(g.translation, translation);
}

static void test_guess(void **state)
{
    static const u8 blank[512];
    u8 unsigned_mbr[512];
    check(SMALL, blank, 60, DISK_TRANSLATION_NONE);
    check(LARGE, blank, 8322, DISK_TRANSLATION_LBA);
    check(1024 * 16 * 63 * 512ull, blank, 1024, DISK_TRANSLATION_NONE);
    check(1025 * 16 * 63 * 512ull, blank, 1025, DISK_TRANSLATION_LBA);
    check(100 * GiB, blank, 16383, DISK_TRANSLATION_LBA);
    check(512, blank, 1, DISK_TRANSLATION_NONE);
    check(SMALL, partition(0, 127, 63), 60, DISK_TRANSLATION_LARGE);
    check(LARGE, partition(0, 127, 63), 8322, DISK_TRANSLATION_LBA);
    check(LARGE, partition(3, 254, 0xff), 8322, DISK_TRANSLATION_LBA);
    check(SMALL, partition(0, 15, 63), 60, DISK_TRANSLATION_NONE);
    check(LARGE, partition(2, 15, 63), 8322, DISK_TRANSLATION_NONE);
    /* These say nothing: no sector, one head, no signature, a disk smaller than a cylinder. */
    check(LARGE, partition(0, 15, 0x40), 8322, DISK_TRANSLATION_LBA);
    check(LARGE, partition(0, 0, 63), 8322, DISK_TRANSLATION_LBA);
    check(MiB, partition(0, 254, 63), 2, DISK_TRANSLATION_NONE);
    memcpy(unsigned_mbr, partition(0, 15, 63), 512);
    unsigned_mbr[511] = 0;
    check(LARGE, unsigned_mbr, 8322, DISK_TRANSLATION_LBA);
}

static u8 cmos(struct fixture *f, u8 index)
{
    out8(f, 0x70, index);
    return in8(f, 0x71);
}

static void test_cmos(void **state)
{
    static const u8 slave[] = {0x82, 0x20, 16, 0xff, 0xff, 0xc8, 0x82, 0x20, 63};
    static const u8 blank[512];
    struct fixture *f = fixture_create(0);
    struct rtc *rtc = rtc_create(&f->board, fixture_line(f, 0), fixture_line(f, 1));
    struct disk_geometry drives[DISK_GEOMETRY_DRIVES] = {
        [1] = disk_geometry_of(LARGE, blank),
        [3] = disk_geometry_of(SMALL, partition(0, 127, 63)),
    };
    disk_geometry_tell(drives, rtc);
    assert_int_equal(cmos(f, 0x12), 0x0f);
    assert_int_equal(cmos(f, 0x19), 0);
    assert_int_equal(cmos(f, 0x1a), 47);
    for (u8 i = 0; i < 9; i++) {
        assert_int_equal(cmos(f, 0x1b + i), 0);
        assert_int_equal(cmos(f, 0x24 + i), slave[i]);
    }
    assert_int_equal(cmos(f, 0x39), 0x84);
    drives[0] = drives[1];
    disk_geometry_tell(drives, rtc);
    assert_int_equal(cmos(f, 0x12), 0xff);
    assert_int_equal(cmos(f, 0x1c), 0x20);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_guess),
                                       cmocka_unit_test(test_cmos)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
