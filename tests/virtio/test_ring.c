/* Virtqueues and the PCI transport, driven through an echo device: registers, rings, malice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "device/virtio/pci.h"
#include "driver.h"

/* Writes what it reads back into the writable part, in reverse. */
struct echo {
    struct virtio virtio;
    struct virtio_pci pci;
    u8 config[8];
    unsigned notified;
    bool hold; /* reset waits */
};

static void echo_notify(void *device, unsigned queue)
{
    struct echo *echo = device;
    struct virtq_chain chain;
    u8 data[256];
    echo->notified++;
    while (virtio_pop(&echo->virtio, queue, &chain)) {
        u64 len = chain.out_len < sizeof(data) ? chain.out_len : sizeof(data);
        u32 written = 0;
        virtq_get(&chain, 0, data, len);
        for (u64 i = 0; i < len; i++)
            written += virtq_put(&chain, i, &data[len - 1 - i], 1);
        virtq_push(&chain, written);
    }
    virtq_want_notify(&echo->virtio.queues[queue], true);
    virtio_signal(&echo->virtio, queue);
}

static void echo_config_write(void *device, u64 offset, unsigned size, u64 value)
{
    struct echo *echo = device;
    memcpy(echo->config + offset, &value, size);
}

static bool echo_stop(void *device)
{
    const struct echo *echo = device;
    return !echo->hold;
}

static const struct virtio_class echo_class = {
    .name = "echo",
    .type = 42,
    .pci_class = 0xff0000,
    .notify = echo_notify,
    .config_write = echo_config_write,
    .stop = echo_stop,
};

struct fixture {
    struct rig rig;
    struct echo echo;
    struct driver driver;
};

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    rig_init(&fixture.rig);
    virtio_init(&fixture.echo.virtio, &fixture.rig.board, &echo_class, &fixture.echo, BIT(3),
                fixture.echo.config, sizeof(fixture.echo.config), 2);
    assert_true(virtio_pci_plug(&fixture.echo.pci, &fixture.echo.virtio, fixture.rig.host, 5));
    driver_find(&fixture.driver, &fixture.rig, 5);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    fixture->echo.hold = false;
    virtio_pci_unplug(&fixture->echo.pci);
    virtio_destroy(&fixture->echo.virtio);
    rig_destroy(&fixture->rig);
    return 0;
}

static u8 status(struct driver *driver)
{
    return (u8)driver_read(driver, driver->common + COMMON_STATUS, 1);
}

static u64 put_text(struct driver *driver, const char *text)
{
    u64 addr = driver_alloc(driver, strlen(text));
    ram_write(&driver->rig->board, gpa(addr), text, strlen(text));
    return addr;
}

static void assert_guest(struct driver *driver, u64 addr, const char *text)
{
    char got[64] = "";
    ram_read(&driver->rig->board, gpa(addr), got, strlen(text));
    assert_string_equal(got, text);
}

static void offer_hello(struct driver *driver, unsigned queue, u64 in, bool indirect)
{
    const struct piece pieces[] = {
        {put_text(driver, "abc"), 3, false},
        {put_text(driver, "defg"), 4, false},
        {in, 2, true},
        {in + 2, 60, true},
    };
    driver_offer(driver, queue, driver_chain(driver, queue, pieces, 4, indirect));
}

static void test_identity(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    assert_int_equal(driver_pci_read(driver, PCI_DEVICE, 2), 0x1040 + 42);
    assert_true(driver_pci_read(driver, PCI_REVISION, 1) >= 1);
    assert_true(driver_pci_read(driver, PCI_SUBSYSTEM, 2) >= 0x40);
    assert_int_equal(driver_read(driver, driver->common + COMMON_NUM_QUEUES, 2), 2);
    /* Features in two halves; those beyond read as zero. */
    const u32 wanted[3] = {0x30000008, 1, 0};
    for (u32 half = 0; half < 3; half++) {
        driver_write(driver, driver->common + COMMON_DEVICE_SELECT, 4, half);
        assert_int_equal(driver_read(driver, driver->common + COMMON_DEVICE_FEATURE, 4),
                         wanted[half]);
    }
    /* A queue that is not there has size 0 (4.1.4.3). */
    driver_write(driver, driver->common + COMMON_QUEUE_SELECT, 2, 2);
    assert_int_equal(driver_read(driver, driver->common + COMMON_QUEUE_SIZE, 2), 0);
}

static void test_negotiation(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    assert_int_equal(driver_negotiate(driver, DRIVER_VERSION | BIT(3)), 11);
    /* Settled: a late write changes nothing. */
    driver_write(driver, driver->common + COMMON_DRIVER_SELECT, 4, 0);
    driver_write(driver, driver->common + COMMON_DRIVER_FEATURE, 4, 0);
    assert_int_equal(driver_read(driver, driver->common + COMMON_DRIVER_FEATURE, 4), 8);
    /* Not offered; or too old. */
    assert_int_equal(driver_negotiate(driver, DRIVER_VERSION | BIT(4)), 3);
    assert_int_equal(driver_negotiate(driver, BIT(3)), 3);
    /* No way around FEATURES_OK. */
    driver_write(driver, driver->common + COMMON_STATUS, 1, 7);
    assert_int_equal(status(driver), 3);
}

static void test_echo(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    driver_start(driver, 0, 2);
    for (unsigned i = 0; i < 200; i++) {
        u64 in = driver_alloc(driver, 64);
        u32 id, len;
        offer_hello(driver, i % 2, in, i & 4);
        assert_false(driver_used(driver, i % 2, &id, &len));
        driver_notify(driver, i % 2);
        assert_true(driver_used(driver, i % 2, &id, &len));
        assert_int_equal(len, 7);
        assert_guest(driver, in, "gfedcba");
        assert_false(driver_used(driver, i % 2, &id, &len));
    }
}

/* Nothing may be consumed before DRIVER_OK (2.1.2). */
static void test_not_live(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    driver_negotiate(driver, DRIVER_VERSION);
    driver_setup_queue(driver, 0);
    offer_hello(driver, 0, driver_alloc(driver, 64), false);
    driver_notify(driver, 0);
    assert_int_equal(fixture->echo.notified, 0);
    assert_int_equal(driver_used_index(driver, 0), 0);
}

static void test_intx(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    driver_start(driver, 0, 1);
    offer_hello(driver, 0, driver_alloc(driver, 64), false);
    driver_notify(driver, 0);
    assert_true(driver_pci_read(driver, PCI_STATUS, 2) & 8);
    assert_int_equal(driver_pci_read(driver, PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(driver_read(driver, driver->isr, 1), 1);
    assert_int_equal(driver_read(driver, driver->isr, 1), 0);
    assert_false(driver_pci_read(driver, PCI_STATUS, 2) & 8);
}

static void test_msix(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    driver_enable_msix(driver);
    driver_start(driver, 0, 2);
    /* A vector beyond the table is refused. */
    driver_write(driver, driver->common + COMMON_QUEUE_VECTOR, 2, 3);
    assert_int_equal(driver_read(driver, driver->common + COMMON_QUEUE_VECTOR, 2), 0xffff);
    driver_write(driver, driver->common + COMMON_QUEUE_VECTOR, 2, 2);
    offer_hello(driver, 1, driver_alloc(driver, 64), false);
    driver_notify(driver, 1);
    assert_true(driver_took_interrupt(driver, 2));
    assert_false(driver_took_interrupt(driver, 1));
    assert_int_equal(driver_read(driver, driver->isr, 1), 0);
}

static void test_no_interrupt_flag(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    u16 flag = 1;
    driver_enable_msix(driver);
    driver_start(driver, 0, 1);
    ram_write(&driver->rig->board, gpa(driver->queue[0].avail), &flag, 2);
    offer_hello(driver, 0, driver_alloc(driver, 64), false);
    driver_notify(driver, 0);
    assert_false(driver_took_interrupt(driver, 1));
}

/* 2.7.10: an interrupt exactly when the index steps over used_event; and avail_event
 * follows. */
static void test_event_index(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    driver_enable_msix(driver);
    driver_start(driver, DRIVER_EVENT, 1);
    u64 used_event = driver->queue[0].avail + 4 + 2 * DRIVER_SIZE;
    u64 avail_event = driver->queue[0].used + 4 + 8 * DRIVER_SIZE;
    for (unsigned i = 0; i < 300; i++) {
        u16 event = (u16)(i / 3 * 3 + 2), told;
        ram_write(&driver->rig->board, gpa(used_event), &event, 2);
        offer_hello(driver, 0, 1 * MiB - 64, false);
        driver_notify(driver, 0);
        bool want = i % 3 == 2 || i == 0; /* the first one has no past */
        assert_int_equal(driver_took_interrupt(driver, 1), want);
        ram_read(&driver->rig->board, gpa(avail_event), &told, 2);
        assert_int_equal(told, i + 1);
    }
}

static void test_config(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    driver_enable_msix(driver);
    driver_start(driver, 0, 1);
    driver_write(driver, driver->config + 4, 4, 0xaabbccdd);
    assert_int_equal(driver_read(driver, driver->config + 5, 2), 0xbbcc);
    assert_int_equal(driver_read(driver, driver->config + 8, 4), 0);
    driver_write(driver, driver->config + 6, 4, 0); /* over the end: nothing */
    assert_int_equal(driver_read(driver, driver->config + 4, 4), 0xaabbccdd);
    u64 before = driver_read(driver, driver->common + COMMON_GENERATION, 1);
    virtio_config_changed(&fixture->echo.virtio);
    assert_int_not_equal(driver_read(driver, driver->common + COMMON_GENERATION, 1), before);
    assert_true(driver_took_interrupt(driver, 0));
}

/* 4.1.4.9 */
static void test_window(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    unsigned cap = driver->window;
    assert_int_equal(driver_pci_read(driver, cap + 2, 1), 20);
    driver_pci_write(driver, cap + 4, 1, VIRTIO_PCI_BAR);
    driver_pci_write(driver, cap + 8, 4, COMMON_STATUS);
    driver_pci_write(driver, cap + 12, 4, 1);
    driver_pci_write(driver, cap + 16, 1, 3);
    assert_int_equal(status(driver), 3);
    assert_int_equal(driver_pci_read(driver, cap + 16, 1), 3);
    /* Nonsense goes nowhere. */
    driver_pci_write(driver, cap + 8, 4, 0x7fffffff);
    driver_pci_write(driver, cap + 16, 1, 0);
    driver_pci_write(driver, cap + 8, 4, COMMON_STATUS);
    driver_pci_write(driver, cap + 12, 4, 3);
    driver_pci_write(driver, cap + 16, 1, 0);
    assert_int_equal(status(driver), 3);
}

/* The status reads 0 only when the device is done with the driver's memory (2.4.1). */
static void test_slow_reset(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    driver_start(driver, 0, 1);
    fixture->echo.hold = true;
    driver_write(driver, driver->common + COMMON_STATUS, 1, 0);
    assert_int_not_equal(status(driver), 0);
    driver_notify(driver, 0);
    assert_int_equal(fixture->echo.notified, 0);
    virtio_stopped(&fixture->echo.virtio);
    assert_int_equal(status(driver), 0);
    driver_write(driver, driver->common + COMMON_QUEUE_SELECT, 2, 0);
    assert_int_equal(driver_read(driver, driver->common + COMMON_QUEUE_ENABLE, 2), 0);
    fixture->echo.hold = false;
    driver_start(driver, 0, 2);
}

/* -- Malice: each of these ends in DEVICE_NEEDS_RESET, and a reset mends it ---------------- */

static void bad_next(struct driver *driver)
{
    driver_set_desc(driver, 0, 0, MiB, 16, DESC_NEXT, DRIVER_SIZE);
    driver_offer(driver, 0, 0);
}

static void bad_head(struct driver *driver)
{
    driver_offer(driver, 0, DRIVER_SIZE);
}

static void bad_loop(struct driver *driver)
{
    driver_set_desc(driver, 0, 0, MiB, 16, DESC_NEXT, 1);
    driver_set_desc(driver, 0, 1, MiB, 16, DESC_NEXT, 0);
    driver_offer(driver, 0, 0);
}

static void bad_order(struct driver *driver)
{
    const struct piece pieces[] = {{MiB, 4, true}, {MiB, 4, false}};
    driver_offer(driver, 0, driver_chain(driver, 0, pieces, 2, false));
}

static void bad_indirect_length(struct driver *driver)
{
    driver_set_desc(driver, 0, 0, MiB, 24, DESC_INDIRECT, 0);
    driver_offer(driver, 0, 0);
}

static void bad_indirect_next(struct driver *driver)
{
    driver_set_desc(driver, 0, 0, MiB, 32, DESC_INDIRECT | DESC_NEXT, 1);
    driver_offer(driver, 0, 0);
}

static void bad_nested(struct driver *driver)
{
    u64 table = driver_alloc(driver, 16);
    const u64 desc[2] = {table, 16 | (u64)DESC_INDIRECT << 32};
    ram_write(&driver->rig->board, gpa(table), desc, 16);
    driver_set_desc(driver, 0, 0, table, 16, DESC_INDIRECT, 0);
    driver_offer(driver, 0, 0);
}

static void bad_indirect_place(struct driver *driver)
{
    driver_set_desc(driver, 0, 0, 2 * GiB, 16, DESC_INDIRECT, 0);
    driver_offer(driver, 0, 0);
}

static void bad_wrap(struct driver *driver)
{
    driver_set_desc(driver, 0, 0, UINT64_MAX - 3, 16, 0, 0);
    driver_offer(driver, 0, 0);
}

static void bad_index(struct driver *driver)
{
    u16 idx = DRIVER_SIZE + 1;
    ram_write(&driver->rig->board, gpa(driver->queue[0].avail + 2), &idx, 2);
}

static void test_malice(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    static void (*const bad[])(struct driver *) = {
        bad_next,   bad_head,           bad_loop, bad_order, bad_indirect_length,
        bad_nested, bad_indirect_place, bad_wrap, bad_index, bad_indirect_next,
    };
    driver_enable_msix(driver);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        driver_start(driver, 0, 2);
        bad[i](driver);
        driver_notify(driver, 0);
        assert_int_equal(status(driver), 15 | 64);
        assert_true(driver_took_interrupt(driver, 0));
        assert_int_equal(driver_used_index(driver, 0), 0);
        /* Dead until the reset, the other queue too. */
        offer_hello(driver, 1, driver_alloc(driver, 64), false);
        driver_notify(driver, 1);
        assert_int_equal(driver_used_index(driver, 1), 0);
        /* The driver cannot clear the bit. */
        driver_write(driver, driver->common + COMMON_STATUS, 1, 15);
        assert_int_equal(status(driver), 15 | 64);
    }
    test_echo(state);
}

/* Rings at odd places or of odd sizes. */
static void test_bad_shape(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    static const struct {
        u16 size;
        u64 desc, avail, used;
    } bad[] = {
        {0, MiB, MiB, MiB},     {3, MiB, MiB, MiB},     {512, MiB, MiB, MiB},
        {8, MiB + 8, MiB, MiB}, {8, MiB, MiB + 1, MiB}, {8, MiB, MiB, MiB + 2},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        u64 common = driver->common;
        driver_negotiate(driver, DRIVER_VERSION);
        driver_write(driver, common + COMMON_QUEUE_SELECT, 2, 0);
        driver_write(driver, common + COMMON_QUEUE_SIZE, 2, bad[i].size);
        driver_write(driver, common + COMMON_QUEUE_DESC, 8, bad[i].desc);
        driver_write(driver, common + COMMON_QUEUE_DRIVER, 8, bad[i].avail);
        driver_write(driver, common + COMMON_QUEUE_DEVICE, 8, bad[i].used);
        driver_write(driver, common + COMMON_QUEUE_ENABLE, 2, 1);
        assert_true(status(driver) & 64);
        assert_int_equal(driver_read(driver, common + COMMON_QUEUE_ENABLE, 2), 0);
    }
    /* Outside RAM altogether: all ones are an impossible index. */
    driver_negotiate(driver, DRIVER_VERSION);
    driver_write(driver, driver->common + COMMON_QUEUE_DESC, 8, 2 * GiB);
    driver_write(driver, driver->common + COMMON_QUEUE_DRIVER, 8, 2 * GiB);
    driver_write(driver, driver->common + COMMON_QUEUE_DEVICE, 8, 2 * GiB);
    driver_write(driver, driver->common + COMMON_QUEUE_ENABLE, 2, 1);
    driver_write(driver, driver->common + COMMON_STATUS, 1, 15);
    driver_notify(driver, 0);
    assert_true(status(driver) & 64);
}

/* Saved in the middle of traffic, loaded into a device that was reset: it goes on. */
static void test_state(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct device_buffer saved = {0};
    driver_start(driver, DRIVER_EVENT, 2);
    offer_hello(driver, 0, driver_alloc(driver, 64), false);
    driver_notify(driver, 0);
    board_lock(&fixture->rig.board);
    for (struct device *d = fixture->rig.board.devices; d; d = d->next)
        device_save(d, &saved);
    devices_reset(&fixture->rig.board);
    board_unlock(&fixture->rig.board);
    driver_notify(driver, 0);
    size_t at = 0;
    board_lock(&fixture->rig.board);
    for (struct device *d = fixture->rig.board.devices; d; d = d->next) {
        size_t len = device_load(d, saved.data + at, saved.len - at);
        assert_int_not_equal(len, 0);
        at += len;
    }
    board_unlock(&fixture->rig.board);
    assert_int_equal(at, saved.len);
    offer_hello(driver, 0, driver_alloc(driver, 64), false);
    driver_notify(driver, 0);
    assert_int_equal(driver_used_index(driver, 0), 2);
    device_buffer_free(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_identity),    TEST(test_negotiation), TEST(test_echo),
        TEST(test_not_live),    TEST(test_intx),        TEST(test_msix),
        TEST(test_event_index), TEST(test_config),      TEST(test_no_interrupt_flag),
        TEST(test_window),      TEST(test_slow_reset),  TEST(test_malice),
        TEST(test_bad_shape),   TEST(test_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
