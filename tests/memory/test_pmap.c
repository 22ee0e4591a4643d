/* The pmap: ranges, lazy machine pages, flags, ROM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "memory/color.h"
#include "memory/pmap.h"

static struct pmap *create(u64 bytes)
{
    struct error err;
    struct pmap *pmap = pmap_create(bytes, &err);
    assert_non_null(pmap);
    return pmap;
}

static void test_ranges(void **state)
{
    struct pmap *pmap = create(5 * GiB);
    assert_int_equal(pmap_below_4g(pmap), PMAP_HOLE);
    assert_int_equal(pmap_above_4g(pmap), 5 * GiB - PMAP_HOLE);
    assert_true(pmap_flags(pmap, gfn(0)) & PMAP_RAM);
    assert_true(pmap_flags(pmap, gpa_to_gfn(gpa(PMAP_HOLE - 1))) & PMAP_RAM);
    assert_int_equal(pmap_flags(pmap, gpa_to_gfn(gpa(PMAP_HOLE))), 0);
    assert_null(pmap_page(pmap, gpa_to_gfn(gpa(4 * GiB - 1))));
    assert_non_null(pmap_page(pmap, gpa_to_gfn(gpa(4 * GiB))));
    u64 end = 4 * GiB + pmap_above_4g(pmap);
    assert_non_null(pmap_page(pmap, gpa_to_gfn(gpa(end - 1))));
    assert_null(pmap_page(pmap, gpa_to_gfn(gpa(end))));
    assert_null(pmap_page(pmap, gfn(UINT64_MAX)));
    pmap_destroy(pmap);
}

static void test_lazy(void **state)
{
    struct pmap *pmap = create(1 * GiB);
    assert_int_equal(pmap_allocated(pmap), 0);
    u8 *page = pmap_page(pmap, gfn(7));
    assert_int_equal(page[0], 0);
    memset(page, 0xab, PAGE_SIZE);
    assert_int_equal(pmap_allocated(pmap), PAGE_SIZE);
    assert_ptr_equal(pmap_page(pmap, gfn(7)), page);
    /* Neighbours lie beside each other in the file, so that their mappings can merge. */
    u64 offset = pmap_file_offset(pmap, page);
    assert_int_equal(pmap_file_offset(pmap, pmap_page(pmap, gfn(8))), offset + PAGE_SIZE);
    assert_int_not_equal(pmap_file_offset(pmap, pmap_page(pmap, gfn(8 + 512))),
                         offset + PAGE_SIZE);
    pmap_destroy(pmap);
}

/* Host memory of the guest, in pages. */
static u64 held(const struct pmap *pmap)
{
    struct stat status;
    assert_int_equal(fstat(pmap_file(pmap), &status), 0);
    return (u64)status.st_blocks * 512 / PAGE_SIZE;
}

/* Neighbours come along with the first page, few, and go when the guest gives them back. */
static void test_around(void **state)
{
    struct pmap *pmap = create(8 * MiB);
    *(u8 *)pmap_page(pmap, gfn(37)) = 1;
    assert_in_range(held(pmap), 1, 16);
    *(u8 *)pmap_page(pmap, gfn(38)) = 2;
    assert_in_range(held(pmap), 2, 16);
    assert_int_equal(pmap_allocated(pmap), 2 * PAGE_SIZE);
    pmap_release(pmap, gfn(0), 37);
    assert_int_equal(*(u8 *)pmap_page(pmap, gfn(37)), 1);
    pmap_release(pmap, gfn(0), 512);
    assert_int_equal(held(pmap), 0);
    assert_int_equal(pmap_allocated(pmap), 0);
    assert_int_equal(*(u8 *)pmap_page(pmap, gfn(37)), 0);
    pmap_destroy(pmap);
}

/* No page has a colour of the vCPUs' hot pages, and each keeps its own bytes. */
static void test_colors(void **state)
{
    const u64 frames = 8 * MiB / PAGE_SIZE;
    struct pmap *pmap = create(frames * PAGE_SIZE);
    unsigned others = 0;
    for (u64 f = 0; f < frames; f++) {
        u8 *page = pmap_page(pmap, gfn(f));
        assert_false(color_taken((u64)page));
        others += f && page != (u8 *)pmap_page(pmap, gfn(f - 1)) + PAGE_SIZE;
        memcpy(page, &f, sizeof(f));
        assert_int_equal(pmap_file_offset(pmap, page), f * PAGE_SIZE);
    }
    /* Two colours of 256 are, and leaving out a page makes two ends. */
    assert_in_range(others, frames / 256, frames / 64);
    for (u64 f = 0; f < frames; f++)
        assert_int_equal(*(u64 *)pmap_page(pmap, gfn(f)), f);
    pmap_destroy(pmap);
}

static void test_color_of(void **state)
{
    /* Pairs of address bits that are hashed together; each alone makes another colour. */
    static const u8 pairs[][2] = {{12, 27}, {13, 26}, {14, 25}, {15, 20},
                                  {16, 21}, {17, 22}, {18, 23}, {19, 24}};
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(color_of(BIT(pairs[i][0]) | BIT(pairs[i][1])), color_of(0));
        for (unsigned k = 0; k < 2; k++)
            assert_int_equal(color_of(BIT(pairs[i][k])), 1 << i);
    }
    assert_true(color_taken(COLOR_VCPU_AT) && color_taken(COLOR_ROOM_AT));
    assert_false(color_taken(COLOR_VCPU_AT + COLOR_SPAN / 2));
    assert_false(color_taken(COLOR_ROOM_AT + COLOR_SPAN / 2));
    assert_int_equal(color_of(BIT(28) | 0xfff), 0);
}

static void test_small_and_odd(void **state)
{
    struct pmap *pmap = create(3 * PAGE_SIZE);
    for (unsigned f = 0; f < 3; f++)
        memset(pmap_page(pmap, gfn(f)), (int)f, PAGE_SIZE);
    for (unsigned f = 0; f < 3; f++)
        assert_int_equal(*(u8 *)pmap_page(pmap, gfn(f)), f);
    assert_null(pmap_page(pmap, gfn(3)));
    pmap_destroy(pmap);
}

static void test_flags(void **state)
{
    struct pmap *pmap = create(1 * MiB);
    assert_int_equal(pmap_set_flags(pmap, gfn(5), PMAP_CODE, 0), PMAP_RAM);
    u8 *page = pmap_page(pmap, gfn(5));
    assert_int_equal(pmap_flags(pmap, gfn(5)), PMAP_RAM | PMAP_PRESENT | PMAP_CODE);
    pmap_set_flags(pmap, gfn(5), PMAP_DIRTY, PMAP_CODE);
    assert_int_equal(pmap_flags(pmap, gfn(5)), PMAP_RAM | PMAP_PRESENT | PMAP_DIRTY);
    assert_ptr_equal(pmap_page(pmap, gfn(5)), page);
    pmap_destroy(pmap);
}

static void test_rom(void **state)
{
    struct pmap *pmap = create(1 * MiB);
    struct gpa bios = gpa(4 * GiB - 256 * KiB);
    assert_null(pmap_page(pmap, gpa_to_gfn(bios)));
    assert_true(pmap_set_rom(pmap, bios, 256 * KiB, true));
    assert_non_null(pmap_page(pmap, gpa_to_gfn(bios)));
    assert_true(pmap_flags(pmap, gpa_to_gfn(bios)) & PMAP_ROM);
    assert_true(pmap_set_rom(pmap, gpa(0xf0000), 64 * KiB, true));
    assert_true(pmap_set_rom(pmap, gpa(0xf0000), 64 * KiB, false));
    assert_false(pmap_flags(pmap, gpa_to_gfn(gpa(0xf0000))) & PMAP_ROM);
    pmap_destroy(pmap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),        cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_small_and_odd), cmocka_unit_test(test_flags),
        cmocka_unit_test(test_rom),           cmocka_unit_test(test_colors),
        cmocka_unit_test(test_color_of),      cmocka_unit_test(test_around),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
