/* The small ones: keyboard controller, reset ports, debug ports, the paravirtual clock. */
#include "fixture.h"

#include <string.h>

static int setup(void **state)
{
    struct fixture *f = fixture_create(2);
    fixture_add_ram(f, 2 * MiB);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void test_i8042(void **state)
{
    struct fixture *f = *state;
    i8042_create(&f->board, fixture_line(f, 0), fixture_line(f, 1));
    assert_int_equal(in8(f, 0x64), 0x10);
    out8(f, 0x64, 0xaa);
    assert_int_equal(in8(f, 0x64), 0x1d); /* OBF, SYS, command, not locked */
    assert_int_equal(in8(f, 0x60), 0x55);
    assert_int_equal(in8(f, 0x64), 0x1c);
    out8(f, 0x64, 0xab);
    assert_int_equal(in8(f, 0x60), 0x00);
    out8(f, 0x64, 0x60);
    out8(f, 0x60, 0x03); /* both interrupts */
    out8(f, 0x64, 0x20);
    assert_true(f->level[0]);
    assert_int_equal(in8(f, 0x60), 0x03);
    assert_false(f->level[0]);
    out8(f, 0x60, 0xff); /* no keyboard: resend, time-out */
    assert_int_equal(in8(f, 0x64) & 0x61, 0x41);
    assert_int_equal(in8(f, 0x60), 0xfe);
    out8(f, 0x64, 0xd4);
    out8(f, 0x60, 0xff); /* no mouse */
    assert_true(f->level[1]);
    assert_false(f->level[0]);
    assert_int_equal(in8(f, 0x64) & 0x61, 0x61);
    assert_int_equal(in8(f, 0x60), 0xfe);
    out8(f, 0x64, 0xd0);
    assert_int_equal(in8(f, 0x60) & 3, 3); /* A20 on, not in reset */
    assert_int_equal(f->requests, 0);
    out8(f, 0x64, 0xfe);
    assert_int_equal(f->request, BOARD_RESET);
    assert_int_equal(f->requests, 1);
    out8(f, 0x64, 0xff); /* pulses nothing */
    assert_int_equal(f->requests, 1);
    out8(f, 0x64, 0xd1);
    out8(f, 0x60, 0x02);
    assert_int_equal(f->requests, 2);
}

static void test_testdev(void **state)
{
    struct fixture *f = *state;
    struct gsi gsi;
    for (unsigned n = 0; n < 16; n++)
        gsi.pic[n] = (struct irq_line){0};
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        gsi.ioapic[n] = fixture_line(f, n);
    testdev_create(&f->board, &gsi);
    out32(f, 0xe0, 0x44332211);
    assert_int_equal(in8(f, 0xe1), 0x22);
    assert_int_equal(in32(f, 0xe8), 0x44332211);
    out8(f, 0xea, 0x55);
    assert_int_equal(in16(f, 0xe2), 0x4455);
    out32(f, 0xe4, 0x1000);
    out8(f, 0x2005, 1);
    assert_true(f->level[5]);
    out8(f, 0x2002, 1);
    out8(f, 0x2017, 1);
    assert_true(f->level[23]);
    out8(f, 0x2005, 0);
    assert_false(f->level[5]);
    bus_write(&f->board, BUS_MMIO, 0xff00fff8, 8, 0x1122334455667788);
    assert_int_equal(bus_read(&f->board, BUS_MMIO, 0xff00fffc, 4), 0x11223344);
}

/* A device that echoes, inverted, and has more to say than the controller takes. */
struct echo {
    u8 bytes[64];
    unsigned first, count;
    struct i8042 *i8042;
};

static void echo_write(void *opaque, u8 byte)
{
    struct echo *echo = opaque;
    echo->bytes[echo->count++] = (u8)~byte;
}

static bool echo_read(void *opaque, u8 *byte)
{
    struct echo *echo = opaque;
    if (echo->first == echo->count)
        return false;
    *byte = echo->bytes[echo->first++];
    return true;
}

static void test_ps2_device(void **state)
{
    struct fixture *f = *state;
    struct i8042 *i8042 = i8042_create(&f->board, fixture_line(f, 0), fixture_line(f, 1));
    struct echo echo = {.bytes = {0x1c, 0xf0, 0x1c, 0xe0, 0xf0, 0x75, 0x83}, .count = 7};
    i8042_attach(i8042, I8042_KEYBOARD, (struct ps2_device){echo_write, echo_read, &echo});
    i8042_ready(i8042);
    assert_int_equal(in8(f, 0x64) & 1, 0); /* switched off after reset */
    assert_int_equal(echo.first, 0);
    out8(f, 0x64, 0xae);
    static const u8 set1[] = {0x1e, 0x9e, 0xe0, 0xc8, 0x41};
    for (unsigned i = 0; i < sizeof(set1); i++) {
        assert_int_equal(in8(f, 0x64) & 1, 1);
        assert_int_equal(in8(f, 0x60), set1[i]);
    }
    assert_int_equal(in8(f, 0x64) & 1, 0);
    assert_int_equal(in8(f, 0x60), 0x41); /* an empty buffer keeps the last byte */
    out8(f, 0x64, 0x60);
    out8(f, 0x60, 0x01); /* its interrupt, no translation */
    for (unsigned byte = 0; byte < 40; byte++)
        out8(f, 0x60, (u8)byte);
    for (unsigned byte = 0; byte < 40; byte++) {
        assert_int_equal(f->rises[0], byte + 1); /* an edge for each */
        assert_int_equal(in8(f, 0x60), (u8)~byte);
    }
    assert_false(f->level[0]);
}

static void test_reset_ports(void **state)
{
    struct fixture *f = *state;
    reset_control_create(&f->board);
    assert_int_equal(in8(f, 0x92), 2);
    out8(f, 0x92, 0);
    assert_int_equal(in8(f, 0x92), 0);
    assert_int_equal(f->requests, 0);
    out8(f, 0x92, 3);
    assert_int_equal(f->requests, 1);
    out8(f, 0x92, 3); /* no rise */
    assert_int_equal(f->requests, 1);
    out8(f, RESET_PORT, 0x02);
    assert_int_equal(f->requests, 1);
    out8(f, RESET_PORT, RESET_VALUE);
    assert_int_equal(f->requests, 2);
    assert_int_equal(f->request, BOARD_RESET);
}

static void test_debug_ports(void **state)
{
    struct fixture *f = *state;
    debug_exit_create(&f->board, 0xf4, 4);
    debug_console_create(&f->board, 0xe9, &f->chardev);
    out32(f, 0xf4, 0x10);
    assert_int_equal(f->request, BOARD_EXIT);
    assert_int_equal(f->exit_status, 0x21);
    out8(f, 0xf4, 0);
    assert_int_equal(f->exit_status, 1);
    assert_int_equal(in8(f, 0xe9), 0xe9);
    out8(f, 0xe9, '!');
    assert_int_equal(f->output[0], '!');
}

/* IBM's printer adapter, as QEMU answers for it. */
static void test_parallel(void **state)
{
    struct fixture *f = *state;
    parallel_create(&f->board, 0x378, fixture_line(f, 0), &f->chardev);
    assert_int_equal(in8(f, 0x379), 0xd8);
    assert_int_equal(in8(f, 0x37a), 0xcc);
    out8(f, 0x378, 'p');
    assert_int_equal(in8(f, 0x378), 'p');
    out8(f, 0x37a, 0x1c); /* interrupts */
    assert_false(f->level[0]);
    out8(f, 0x37a, 0x1d); /* strobe: printed once, though it stays */
    out8(f, 0x37a, 0x1d);
    assert_int_equal(f->output_len, 1);
    assert_int_equal(f->output[0], 'p');
    assert_true(f->level[0]);
    assert_int_equal(in8(f, 0x379), 0x58); /* busy while the strobe is on */
    assert_false(f->level[0]);
    assert_int_equal(in8(f, 0x379), 0x58);
    out8(f, 0x37a, 0x0c);
    assert_int_equal(in8(f, 0x379), 0x58);
    assert_int_equal(in8(f, 0x379), 0x18); /* acknowledged */
    assert_int_equal(in8(f, 0x379), 0xd8);
    out8(f, 0x37a, 0x08); /* the printer is reset */
    assert_int_equal(in8(f, 0x379) & 0x80, 0);
    out8(f, 0x37a, 0x01); /* not selected */
    assert_int_equal(f->output_len, 1);
}

struct pvclock_page {
    u32 version, pad;
    u64 tsc_timestamp, system_time;
    u32 mul;
    s8 shift;
    u8 flags;
};

/* As a guest computes it. */
static u64 pvclock_ns(const struct pvclock_page *page, u64 tsc)
{
    u64 delta = tsc - page->tsc_timestamp;
    delta = page->shift >= 0 ? delta << page->shift : delta >> -page->shift;
    return page->system_time + (u64)((u128)delta * page->mul >> 32);
}

static void test_pvclock(void **state)
{
    struct fixture *f = *state;
    struct pvclock *pvclock = pvclock_create(&f->board);
    struct vcpu *one = f->vcpus[1];
    struct pvclock_page page, other;
    u64 value;
    one->cpu.tsc_offset = 777;
    fixture_step(f, 5000000);
    assert_false(pvclock_write_msr(pvclock, one, 0x10, 0));
    assert_false(pvclock_write_msr(pvclock, one, MSR_KVM_SYSTEM_TIME, 0x3003));
    assert_true(pvclock_write_msr(pvclock, one, MSR_KVM_SYSTEM_TIME, 0x3001));
    assert_true(pvclock_read_msr(pvclock, one, MSR_KVM_SYSTEM_TIME, &value));
    assert_int_equal(value, 0x3001);
    ram_read(&f->board, gpa(0x3000), &page, sizeof(page));
    assert_int_equal(page.version & 1, 0);
    assert_int_equal(page.flags, 1);
    for (unsigned i = 0; i < 10; i++) {
        fixture_step(f, 123456789);
        s64 error = (s64)(pvclock_ns(&page, f->now * 2 + 777) - f->now);
        assert_in_range(error + 2, 0, 4);
    }
    /* All vCPUs are told the same line. */
    assert_true(pvclock_write_msr(pvclock, f->vcpus[0], MSR_KVM_SYSTEM_TIME, 0x4001));
    ram_read(&f->board, gpa(0x4000), &other, sizeof(other));
    assert_int_equal(other.system_time, page.system_time);
    assert_int_equal(other.tsc_timestamp + 777, page.tsc_timestamp);
    u32 wall[3];
    assert_true(pvclock_write_msr(pvclock, one, MSR_KVM_WALL_CLOCK, 0x5000));
    ram_read(&f->board, gpa(0x5000), wall, sizeof(wall));
    assert_int_equal(wall[0] & 1, 0);
    assert_in_range(wall[1], FIXTURE_WALL - 1, FIXTURE_WALL);
    pvclock_refresh(pvclock);
    u32 version = page.version;
    ram_read(&f->board, gpa(0x3000), &page, sizeof(page));
    assert_true(page.version > version);
    assert_int_equal(page.system_time, f->now);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_i8042),       TEST(test_testdev),     TEST(test_ps2_device),
        TEST(test_reset_ports), TEST(test_debug_ports), TEST(test_pvclock),
        TEST(test_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
