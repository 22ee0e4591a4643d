/* The small virtio devices: entropy, console, balloon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "device/virtio/balloon.h"
#include "device/virtio/console.h"
#include "device/virtio/rng.h"
#include "driver.h"
#include "memory/pmap.h"

struct fixture {
    struct rig rig;
    struct driver driver;
    struct chardev chardev;
    u8 output[8192];
    size_t n_output;
    unsigned rooms;
};

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    rig_init(&fixture.rig);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    rig_destroy(&fixture->rig);
    return 0;
}

static void found(struct fixture *fixture)
{
    driver_find(&fixture->driver, &fixture->rig, 6);
    driver_enable_msix(&fixture->driver);
}

/* -- Entropy ------------------------------------------------------------------------------- */

static void count_up(void *opaque, void *buf, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((u8 *)buf)[i] = (u8)(i + 1);
}

static void test_rng(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const struct entropy entropy = {.fill = count_up};
    assert_non_null(virtio_rng_create(&fixture->rig.board, fixture->rig.host, entropy, 6));
    found(fixture);
    driver_start(driver, 0, 1);
    u64 addr = driver_alloc(driver, 64);
    const struct piece pieces[] = {{addr, 10, true}, {addr + 20, 10, true}};
    driver_offer(driver, 0, driver_chain(driver, 0, pieces, 2, false));
    driver_notify(driver, 0);
    u32 id, len;
    u8 got[32];
    assert_true(driver_used(driver, 0, &id, &len));
    assert_int_equal(len, 20);
    ram_read(&driver->rig->board, gpa(addr), got, sizeof(got));
    assert_int_equal(got[9], 10);
    assert_int_equal(got[10], 0);
    assert_int_equal(got[20], 11);
    assert_true(driver_took_interrupt(driver, 1));
    /* Gigabytes asked for: some given. */
    const struct piece huge = {addr, 0xffffffff, true};
    driver_offer(driver, 0, driver_chain(driver, 0, &huge, 1, false));
    driver_notify(driver, 0);
    assert_true(driver_used(driver, 0, &id, &len));
    assert_true(len > 0 && len <= 4096);
}

/* -- Console ------------------------------------------------------------------------------- */

static void take_output(void *back, const u8 *data, size_t len)
{
    struct fixture *fixture = back;
    assert_true(fixture->n_output + len <= sizeof(fixture->output));
    memcpy(fixture->output + fixture->n_output, data, len);
    fixture->n_output += len;
}

static void note_room(void *back)
{
    struct fixture *fixture = back;
    fixture->rooms++;
}

static void test_console(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct chardev *chardev = &fixture->chardev;
    *chardev = (struct chardev){.write = take_output, .room = note_room, .back = fixture};
    assert_non_null(virtio_console_create(&fixture->rig.board, fixture->rig.host, chardev, 6));
    found(fixture);
    /* Emergency write: before anything is set up. */
    driver_write(driver, driver->config + 8, 4, '!');
    assert_int_equal(fixture->output[0], '!');
    assert_int_equal(chardev->can_receive(chardev->front), 0);
    driver_start(driver, 0, 2);
    assert_int_equal(fixture->rooms, 1);
    u64 addr = driver_alloc(driver, 6000);
    const struct piece out = {addr, 6000, false};
    ram_write(&driver->rig->board, gpa(addr + 5999), "z", 1);
    driver_offer(driver, 1, driver_chain(driver, 1, &out, 1, false));
    driver_notify(driver, 1);
    assert_int_equal(fixture->n_output, 6001);
    assert_int_equal(fixture->output[6000], 'z');
    /* Input: as much as the next buffer holds. */
    assert_int_equal(chardev->can_receive(chardev->front), 0);
    u64 room = driver_alloc(driver, 16);
    const struct piece in = {room, 16, true};
    driver_offer(driver, 0, driver_chain(driver, 0, &in, 1, false));
    driver_notify(driver, 0);
    assert_int_equal(fixture->rooms, 2);
    assert_int_equal(chardev->can_receive(chardev->front), 16);
    chardev->receive(chardev->front, (const u8 *)"hello", 5);
    u32 id, len;
    u8 got[5];
    assert_true(driver_used(driver, 0, &id, &len));
    assert_int_equal(len, 5);
    ram_read(&driver->rig->board, gpa(room), got, 5);
    assert_memory_equal(got, "hello", 5);
    assert_int_equal(chardev->can_receive(chardev->front), 0);
}

/* -- Balloon ------------------------------------------------------------------------------- */

#define F_STATS     BIT(1)
#define F_REPORTING BIT(5)

static void touch(struct driver *driver, u64 first, u64 count)
{
    for (u64 f = first; f < first + count; f++)
        ram_write(&driver->rig->board, gpa(f * PAGE_SIZE), &f, sizeof(f));
}

static struct virtio_balloon *balloon(struct fixture *fixture)
{
    const struct virtio_balloon_config config = {.free_page_reporting = true, .slot = 6};
    struct virtio_balloon *balloon =
        virtio_balloon_create(&fixture->rig.board, fixture->rig.host, &config);
    assert_non_null(balloon);
    found(fixture);
    /* The driver's own memory, so that only the balloon changes how much there is. */
    touch(&fixture->driver, 1 * MiB / PAGE_SIZE, 64);
    return balloon;
}

static u64 first_word(struct driver *driver, u64 frame)
{
    u64 word;
    ram_read(&driver->rig->board, gpa(frame * PAGE_SIZE), &word, sizeof(word));
    return word;
}

static void put_frames(struct driver *driver, unsigned queue, const u32 *frames, u32 n)
{
    u64 addr = driver_alloc(driver, 4ull * n);
    ram_write(&driver->rig->board, gpa(addr), frames, 4ull * n);
    const struct piece piece = {addr, 4 * n, false};
    driver_offer(driver, queue, driver_chain(driver, queue, &piece, 1, false));
    driver_notify(driver, queue);
}

static void test_inflate(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct pmap *pmap = fixture->rig.board.pmap;
    struct virtio_balloon *b = balloon(fixture);
    driver_start(driver, 0, 2);
    touch(driver, 2000, 64);
    u64 before = pmap_allocated(pmap);
    /* Up, down, alone, twice, and what is no RAM. */
    const u32 frames[] = {2000, 2001, 2002, 2010, 2009, 2008, 2020, 2020, 0xffffffff, 800000};
    put_frames(driver, 0, frames, ARRAY_LEN(frames));
    assert_int_equal(driver_used_index(driver, 0), 1);
    assert_int_equal(before - pmap_allocated(pmap), 7 * PAGE_SIZE);
    assert_int_equal(first_word(driver, 2001), 0);
    assert_int_equal(first_word(driver, 2003), 2003);
    assert_int_equal(first_word(driver, 2020), 0);
    put_frames(driver, 1, frames, 2);
    touch(driver, 2000, 1);
    assert_int_equal(first_word(driver, 2000), 2000);
    /* Wanted size and actual size. */
    board_lock(&fixture->rig.board);
    virtio_balloon_set_target(b, 5 * MiB);
    board_unlock(&fixture->rig.board);
    assert_true(driver_took_interrupt(driver, 0));
    assert_int_equal(driver_read(driver, driver->config, 4), 5 * MiB / PAGE_SIZE);
    driver_write(driver, driver->config + 4, 4, 7);
    assert_int_equal(virtio_balloon_actual(b), 7 * PAGE_SIZE);
    driver_write(driver, driver->config, 4, 0);
    assert_int_equal(driver_read(driver, driver->config, 4), 5 * MiB / PAGE_SIZE);
}

static void test_reporting(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct pmap *pmap = fixture->rig.board.pmap;
    balloon(fixture);
    /* Without statistics it is the third queue (5.5.2). */
    driver_start(driver, F_REPORTING, 3);
    touch(driver, 2000, 64);
    u64 before = pmap_allocated(pmap);
    const struct piece pieces[] = {
        {2000 * PAGE_SIZE, 16 * PAGE_SIZE, true},
        {2020 * PAGE_SIZE + 1, 2 * PAGE_SIZE, true}, /* only whole pages go */
        {UINT64_MAX - PAGE_SIZE, PAGE_SIZE, true},
        {3 * GiB, 0xffffffff, true},
    };
    driver_offer(driver, 2, driver_chain(driver, 2, pieces, 4, false));
    driver_notify(driver, 2);
    assert_int_equal(driver_used_index(driver, 2), 1);
    assert_int_equal(before - pmap_allocated(pmap), 17 * PAGE_SIZE);
    assert_int_equal(first_word(driver, 2015), 0);
    assert_int_equal(first_word(driver, 2016), 2016);
    assert_int_equal(first_word(driver, 2020), 2020);
    assert_int_equal(first_word(driver, 2021), 0);
}

static void poll(struct fixture *fixture, struct virtio_balloon *balloon, u32 seconds)
{
    board_lock(&fixture->rig.board);
    virtio_balloon_poll(balloon, seconds);
    board_unlock(&fixture->rig.board);
}

static void pass(struct fixture *fixture, u64 seconds)
{
    fixture->rig.now += seconds * NS_PER_S;
    board_lock(&fixture->rig.board);
    clock_run(&fixture->rig.board.clock);
    board_unlock(&fixture->rig.board);
}

static void test_stats(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct virtio_balloon *b = balloon(fixture);
    driver_set_up(driver, F_STATS, 3);
    const struct __attribute__((packed)) {
        u16 tag;
        u64 value;
    } stats[] = {{4, 111}, {9, 222}, {99, 333}};
    u64 addr = driver_alloc(driver, sizeof(stats));
    ram_write(&driver->rig->board, gpa(addr), stats, sizeof(stats));
    const struct piece piece = {addr, sizeof(stats), false};
    u16 head = driver_chain(driver, 2, &piece, 1, false);
    /* Linux announces it before it is live, and not again. */
    driver_offer(driver, 2, head);
    driver_notify(driver, 2);
    assert_int_equal(virtio_balloon_stats(b)->value[4], VIRTIO_BALLOON_UNKNOWN);
    driver_go(driver);
    assert_int_equal(virtio_balloon_stats(b)->value[4], 111);
    assert_int_equal(virtio_balloon_stats(b)->value[9], 222);
    assert_int_equal(virtio_balloon_stats(b)->value[0], VIRTIO_BALLOON_UNKNOWN);
    /* The buffer stays with the device until more are wanted: at once, then at intervals. */
    pass(fixture, 60);
    assert_int_equal(driver_used_index(driver, 2), 0);
    poll(fixture, b, 5);
    pass(fixture, 0);
    assert_int_equal(driver_used_index(driver, 2), 1);
    assert_true(driver_took_interrupt(driver, 3));
    pass(fixture, 3);
    driver_offer(driver, 2, head);
    driver_notify(driver, 2);
    pass(fixture, 4);
    assert_int_equal(driver_used_index(driver, 2), 1);
    pass(fixture, 1);
    assert_int_equal(driver_used_index(driver, 2), 2);
    /* A driver that is late is waited for. */
    pass(fixture, 7);
    driver_offer(driver, 2, head);
    driver_notify(driver, 2);
    pass(fixture, 5);
    assert_int_equal(driver_used_index(driver, 2), 3);
    driver_offer(driver, 2, head);
    driver_notify(driver, 2);
    poll(fixture, b, 0);
    pass(fixture, 60);
    assert_int_equal(driver_used_index(driver, 2), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_rng),   TEST(test_console),   TEST(test_inflate),
        TEST(test_stats), TEST(test_reporting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
