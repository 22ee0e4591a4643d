/* The bus, guest memory, and what a chain of regions makes of odd accesses. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

#include "memory/pmap.h"

struct recorder {
    struct bus_region region;
    char log[128];
};

static u64 recorder_read(void *opaque, u64 offset, unsigned size)
{
    struct recorder *r = opaque;
    size_t used = strlen(r->log);
    snprintf(r->log + used, sizeof(r->log) - used, "r%u@%u ", size, (unsigned)offset);
    return 0x8877665544332211ull >> 8 * offset;
}

static void recorder_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct recorder *r = opaque;
    size_t used = strlen(r->log);
    snprintf(r->log + used, sizeof(r->log) - used, "w%u@%u=%llx ", size, (unsigned)offset,
             (unsigned long long)value);
}

static const struct bus_ops recorder_ops = {recorder_read, recorder_write};

static void recorder_add(struct fixture *f, struct recorder *r, u64 base, u64 size,
                         unsigned max_size)
{
    *r = (struct recorder){.region = {.name = "recorder",
                                      .ops = &recorder_ops,
                                      .opaque = r,
                                      .base = base,
                                      .size = size,
                                      .max_size = max_size,
                                      .space = BUS_PIO}};
    bus_add(&f->board, &r->region);
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

static void test_nobody(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(in8(f, 0x80), 0xff);
    assert_int_equal(in32(f, 0x80), 0xffffffff);
    assert_int_equal(bus_read(&f->board, BUS_MMIO, 0xd0000000, 8), ~0ull);
    out32(f, 0x80, 1);
}

static void test_widths(void **state)
{
    struct fixture *f = *state;
    struct recorder whole, bytes;
    recorder_add(f, &whole, 0x100, 8, 0);
    recorder_add(f, &bytes, 0x200, 8, 1);
    assert_int_equal(in32(f, 0x102), 0x66554433);
    assert_string_equal(whole.log, "r4@2 ");
    assert_int_equal(in32(f, 0x202), 0x66554433);
    assert_string_equal(bytes.log, "r1@2 r1@3 r1@4 r1@5 ");
    bytes.log[0] = 0;
    out16(f, 0x206, 0xbeef);
    assert_string_equal(bytes.log, "w1@6=ef w1@7=be ");
    bus_remove(&f->board, &whole.region);
    bus_remove(&f->board, &bytes.region);
}

static void test_ends(void **state)
{
    struct fixture *f = *state;
    struct recorder r, next;
    recorder_add(f, &r, 0x100, 3, 0);
    assert_int_equal(in32(f, 0x101), 0xffff3322); /* nobody behind it */
    assert_string_equal(r.log, "r2@1 ");
    assert_int_equal(in32(f, 0xfe), 0x2211ffff); /* nor before it */
    recorder_add(f, &next, 0x103, 8, 0);
    r.log[0] = 0;
    out32(f, 0x102, 0x04030201);
    assert_string_equal(r.log, "w1@2=1 ");
    assert_string_equal(next.log, "w2@0=302 w1@2=4 ");
    bus_remove(&f->board, &r.region);
    bus_remove(&f->board, &next.region);
}

static void test_newest_wins(void **state)
{
    struct fixture *f = *state;
    struct recorder under, over;
    recorder_add(f, &under, 0x100, 8, 0);
    in8(f, 0x104); /* now in the look-up cache */
    recorder_add(f, &over, 0x104, 1, 0);
    under.log[0] = 0;
    assert_int_equal(in8(f, 0x104), 0x11);
    assert_string_equal(over.log, "r1@0 ");
    assert_string_equal(under.log, "");
    in8(f, 0x103);
    assert_string_equal(under.log, "r1@3 ");
    bus_remove(&f->board, &over.region);
    assert_int_equal(in8(f, 0x104), 0x55);
    bus_remove(&f->board, &under.region);
    assert_int_equal(in8(f, 0x104), 0xff);
}

static void code_written(void *opaque, struct gfn f)
{
    struct fixture *fixture = opaque;
    fixture->rises[0]++;
    fixture->rises[1] = (unsigned)f.v;
}

static void test_ram(void **state)
{
    struct fixture *f = *state;
    u8 data[8192], back[8192];
    fixture_add_ram(f, 1 * MiB);
    f->board.code_written = code_written;
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 7);
    pmap_page(f->board.pmap, gfn(2));
    pmap_set_flags(f->board.pmap, gfn(2), PMAP_CODE, PMAP_DIRTY);
    assert_true(ram_write(&f->board, gpa(0x1800), data, sizeof(data)));
    assert_true(ram_read(&f->board, gpa(0x1800), back, sizeof(back)));
    assert_memory_equal(data, back, sizeof(data));
    assert_int_equal(f->rises[0], 1);
    assert_int_equal(f->rises[1], 2);
    assert_true(pmap_flags(f->board.pmap, gfn(2)) & PMAP_DIRTY);
    /* Where there is no RAM. */
    assert_false(ram_write(&f->board, gpa(1 * MiB - 4), data, 8));
    assert_false(ram_read(&f->board, gpa(1 * MiB - 4), back, 8));
    assert_memory_equal(back, data, 4);
    assert_int_equal(back[4], 0xff);
    /* ROM takes no writes. */
    pmap_set_rom(f->board.pmap, gpa(0xf0000), 0x1000, true);
    assert_true(ram_write(&f->board, gpa(0xf0000), data + 1, 1));
    ram_read(&f->board, gpa(0xf0000), back, 1);
    assert_int_equal(back[0], 0);
}

static void fired(void *opaque)
{
    ++*(unsigned *)opaque;
}

/* The guest must not see a counter at its end before the interrupt, though the thread that
 * fires timers be late. */
static void test_access_fires_what_is_due(void **state)
{
    struct fixture *f = *state;
    unsigned n = 0;
    struct timer timer = {.fire = fired, .opaque = &n};
    board_lock(&f->board);
    timer_arm(&f->board.clock, &timer, f->now + 100);
    board_unlock(&f->board);
    f->now += 99;
    in8(f, 0x80);
    assert_int_equal(n, 0);
    f->now += 1;
    in8(f, 0x80);
    assert_int_equal(n, 1);
    out8(f, 0x80, 0);
    assert_int_equal(n, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nobody),      TEST(test_widths), TEST(test_ends),
        TEST(test_newest_wins), TEST(test_ram),    TEST(test_access_fires_what_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
