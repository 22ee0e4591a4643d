/* The virtio network device against a back end that keeps what it gets; and checksums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "device/virtio/net.h"
#include "driver.h"
#include "host/net/frame.h"

#define F_CSUM       BIT(0)
#define F_GUEST_CSUM BIT(1)
#define F_MAC        BIT(5)
#define F_HOST_TSO4  BIT(11)
#define F_MRG_RXBUF  BIT(15)
#define F_CTRL_VQ    BIT(17)
#define F_CTRL_RX    BIT(18)
#define F_CTRL_VLAN  BIT(19)
#define F_RX_EXTRA   BIT(20)
#define F_CTRL_MAC   BIT(23)

#define HEADER 12

struct fixture {
    struct rig rig;
    struct driver driver;
    struct virtio_net *net;
    struct net_port port;
    u8 frame[NET_MAX_FRAME]; /* sent last */
    size_t len;
    struct net_offload offload;
    unsigned sent, rooms;
};

static void send_frame(void *back, const void *frame, size_t len,
                       const struct net_offload *offload)
{
    struct fixture *fixture = back;
    assert_true(len <= NET_MAX_FRAME);
    memcpy(fixture->frame, frame, len);
    fixture->len = len;
    fixture->offload = *offload;
    fixture->sent++;
}

static void room(void *back)
{
    struct fixture *fixture = back;
    fixture->rooms++;
}

static const u8 mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    rig_init(&fixture.rig);
    fixture.port = (struct net_port){.send = send_frame,
                                     .room = room,
                                     .back = &fixture,
                                     .sends_csum = true,
                                     .sends_tso = true,
                                     .receives_csum = true};
    struct virtio_net_config config = {.port = &fixture.port, .mtu = 1400, .slot = 3};
    memcpy(config.mac, mac, 6);
    fixture.net = virtio_net_create(&fixture.rig.board, fixture.rig.host, &config);
    assert_non_null(fixture.net);
    driver_find(&fixture.driver, &fixture.rig, 3);
    driver_enable_msix(&fixture.driver);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    rig_destroy(&fixture->rig);
    return 0;
}

static void fill(u8 *data, size_t len, const u8 *to)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (u8)(i * 7 + (i >> 8));
    memcpy(data, to, 6);
}

static void transmit(struct fixture *fixture, const struct net_offload *offload, size_t len)
{
    struct driver *driver = &fixture->driver;
    static u8 packet[HEADER + NET_MAX_FRAME + 64];
    memset(packet, 0, HEADER);
    memcpy(packet, offload, sizeof(*offload));
    fill(packet + HEADER, len, mac);
    u64 addr = driver_alloc(driver, HEADER + len);
    ram_write(&driver->rig->board, gpa(addr), packet, HEADER + len);
    const struct piece pieces[] = {{addr, 5, false},
                                   {addr + 5, (u32)(HEADER + len - 5), false}};
    driver_offer(driver, 1, driver_chain(driver, 1, pieces, 2, false));
    driver_notify(driver, 1);
    u32 id, used;
    assert_true(driver_used(driver, 1, &id, &used));
    assert_int_equal(used, 0);
}

static void receive(struct fixture *fixture, const u8 *frame, size_t len,
                    const struct net_offload *offload)
{
    board_lock(&fixture->rig.board);
    net_receive(&fixture->port, frame, len, offload);
    board_unlock(&fixture->rig.board);
}

/* Offers `n` receive buffers of `len` bytes; the first one's address. */
static u64 offer_buffers(struct driver *driver, unsigned n, u32 len)
{
    u64 first = driver_alloc(driver, (u64)n * align_up(len, 16));
    for (unsigned i = 0; i < n; i++) {
        const struct piece piece = {first + i * align_up(len, 16), len, true};
        driver_offer(driver, 0, driver_chain(driver, 0, &piece, 1, false));
    }
    return first;
}

static void test_config(void **state)
{
    struct driver *driver = &((struct fixture *)*state)->driver;
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(driver_read(driver, driver->config + i, 1), mac[i]);
    assert_int_equal(driver_read(driver, driver->config + 6, 2), 1);
    assert_int_equal(driver_read(driver, driver->config + 10, 2), 1400);
}

static void test_transmit(void **state)
{
    struct fixture *fixture = *state;
    const struct net_offload none = {0};
    static u8 wanted[NET_MAX_FRAME];
    driver_start(&fixture->driver, F_MAC, 2);
    for (size_t len = 14; len < 1515; len += 50) {
        transmit(fixture, &none, len);
        fill(wanted, len, mac);
        assert_int_equal(fixture->len, len);
        assert_memory_equal(fixture->frame, wanted, len);
        assert_true(driver_took_interrupt(&fixture->driver, 2));
    }
    /* Too short, too long: gone. */
    fixture->sent = 0;
    transmit(fixture, &none, 13);
    transmit(fixture, &none, NET_MAX_FRAME + 1);
    assert_int_equal(fixture->sent, 0);
}

/* What was not negotiated or does not fit the frame is not passed on. */
static void test_offloads(void **state)
{
    struct fixture *fixture = *state;
    const struct net_offload csum = {.flags = 1, .csum_start = 34, .csum_offset = 16};
    const struct net_offload late = {.flags = 1, .csum_start = 34, .csum_offset = 65};
    const struct net_offload tso = {
        .flags = 1, .gso_type = 1, .gso_size = 1448, .csum_start = 34, .csum_offset = 16};
    const struct net_offload tso6 = {
        .flags = 1, .gso_type = 4, .gso_size = 1448, .csum_start = 34, .csum_offset = 16};
    const struct net_offload tso_zero = {
        .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16};
    driver_start(&fixture->driver, F_MAC, 2);
    transmit(fixture, &csum, 100);
    transmit(fixture, &tso, 3000);
    assert_int_equal(fixture->sent, 0);
    driver_start(&fixture->driver, F_MAC | F_CSUM | F_HOST_TSO4, 2);
    transmit(fixture, &csum, 100);
    assert_int_equal(fixture->sent, 1);
    assert_int_equal(fixture->offload.csum_start, 34);
    transmit(fixture, &late, 100);
    transmit(fixture, &tso6, 3000);
    transmit(fixture, &tso_zero, 3000);
    assert_int_equal(fixture->sent, 1);
    transmit(fixture, &tso, 60000);
    assert_int_equal(fixture->sent, 2);
    assert_int_equal(fixture->len, 60000);
}

static void test_receive(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const struct net_offload good = {.flags = 2};
    u8 frame[1000], got[HEADER + sizeof(frame)];
    u32 id, len;
    driver_start(driver, F_MAC | F_GUEST_CSUM, 2);
    assert_int_equal(fixture->rooms, 1);
    fill(frame, sizeof(frame), mac);
    /* No buffer: lost, and asked for; a buffer: told. */
    receive(fixture, frame, sizeof(frame), &good);
    u64 at = offer_buffers(driver, 2, 1600);
    driver_notify(driver, 0);
    assert_int_equal(fixture->rooms, 2);
    receive(fixture, frame, sizeof(frame), &good);
    assert_true(driver_used(driver, 0, &id, &len));
    assert_int_equal(len, sizeof(got));
    ram_read(&driver->rig->board, gpa(at), got, sizeof(got));
    assert_int_equal(got[0], 2);
    assert_int_equal(got[10], 1); /* num_buffers */
    assert_memory_equal(got + HEADER, frame, sizeof(frame));
    assert_true(driver_took_interrupt(driver, 1));
    /* Too large for a buffer, and no merging: lost, the buffer stays. */
    static u8 large[2000];
    fill(large, sizeof(large), mac);
    receive(fixture, large, sizeof(large), NULL);
    assert_false(driver_used(driver, 0, &id, &len));
    receive(fixture, frame, sizeof(frame), NULL);
    assert_true(driver_used(driver, 0, &id, &len));
}

static void test_merge(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    u8 frame[1000], got[600];
    u32 id, len;
    driver_start(driver, F_MAC | F_MRG_RXBUF, 2);
    u64 at = offer_buffers(driver, 2, 512);
    fill(frame, sizeof(frame), mac);
    receive(fixture, frame, sizeof(frame), NULL);
    assert_int_equal(driver_used_index(driver, 0), 2);
    assert_true(driver_used(driver, 0, &id, &len));
    assert_int_equal(len, 512);
    assert_true(driver_used(driver, 0, &id, &len));
    assert_int_equal(len, 500);
    ram_read(&driver->rig->board, gpa(at), got, 512);
    assert_int_equal(got[10], 2);
    assert_memory_equal(got + HEADER, frame, 500);
    ram_read(&driver->rig->board, gpa(at + 512), got, 500);
    assert_memory_equal(got, frame + 500, 500);
    /* One buffer short: none is used, and they serve the next frame. */
    offer_buffers(driver, 1, 512);
    receive(fixture, frame, sizeof(frame), NULL);
    assert_int_equal(driver_used_index(driver, 0), 2);
    receive(fixture, frame, 100, NULL);
    assert_int_equal(driver_used_index(driver, 0), 3);
}

static u8 command(struct driver *driver, u8 class, u8 number, const void *data, u32 size)
{
    u64 out = driver_alloc(driver, 2 + size), in = driver_alloc(driver, 1);
    const u8 head[2] = {class, number};
    u8 answer = 0xee;
    ram_write(&driver->rig->board, gpa(out), head, 2);
    ram_write(&driver->rig->board, gpa(out + 2), data, size);
    const struct piece pieces[] = {{out, 2 + size, false}, {in, 1, true}};
    driver_offer(driver, 2, driver_chain(driver, 2, pieces, 2, false));
    driver_notify(driver, 2);
    ram_read(&driver->rig->board, gpa(in), &answer, 1);
    return answer;
}

static void test_control(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const u8 off = 0, on = 1, other[6] = {0x52, 0x54, 9, 9, 9, 9};
    u8 frame[100];
    driver_start(driver, F_MAC | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC, 3);
    offer_buffers(driver, 8, 1600);
    fill(frame, sizeof(frame), other);
    assert_int_equal(command(driver, 0, 0, &off, 1), 0);
    receive(fixture, frame, sizeof(frame), NULL);
    assert_int_equal(driver_used_index(driver, 0), 0);
    assert_int_equal(command(driver, 0, 0, &on, 1), 0);
    receive(fixture, frame, sizeof(frame), NULL);
    assert_int_equal(driver_used_index(driver, 0), 1);
    assert_int_equal(command(driver, 0, 0, &off, 1), 0);
    assert_int_equal(command(driver, 1, 1, other, 6), 0);
    assert_int_equal(driver_read(driver, driver->config + 2, 1), 9);
    receive(fixture, frame, sizeof(frame), NULL);
    assert_int_equal(driver_used_index(driver, 0), 2);
    memset(frame, 0xff, 6);
    receive(fixture, frame, sizeof(frame), NULL);
    assert_int_equal(driver_used_index(driver, 0), 3);
    assert_int_equal(command(driver, 9, 0, &on, 1), 1);
    assert_int_equal(command(driver, 0, 9, &on, 1), 1);
    assert_int_equal(command(driver, 1, 1, other, 5), 1);
    /* A reset brings the card's own address back. */
    driver_start(driver, F_MAC, 2);
    assert_int_equal(driver_read(driver, driver->config + 2, 1), mac[2]);
}

/* Whether a frame for that address comes through. */
static bool comes(struct fixture *fixture, const u8 *to, const u8 *tag)
{
    struct driver *driver = &fixture->driver;
    u16 before = driver_used_index(driver, 0);
    u8 frame[100];
    fill(frame, sizeof(frame), to);
    memcpy(frame + 12, tag ? tag : (const u8[]){8, 0, 0, 0}, 4);
    offer_buffers(driver, 1, 256);
    driver_notify(driver, 0);
    receive(fixture, frame, sizeof(frame), NULL);
    return driver_used_index(driver, 0) != before;
}

static void test_filter(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const u8 off = 0, on = 1, all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const u8 other[6] = {0x52, 0x54, 9, 9, 9, 9}, group[6] = {1, 0, 0x5e, 0, 0, 1};
    const u8 tables[] = {1, 0, 0, 0, 0x52, 0x54, 9, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
    static const u8 none[8], many[4 + 65 * 6 + 4] = {65};
    driver_start(driver, F_MAC | F_CTRL_VQ | F_CTRL_RX | F_RX_EXTRA, 3);
    assert_true(comes(fixture, other, NULL)); /* nothing was said */
    assert_int_equal(command(driver, 0, 1, &off, 1), 0);
    assert_false(comes(fixture, other, NULL));
    assert_false(comes(fixture, group, NULL));
    assert_true(comes(fixture, all, NULL));
    assert_true(comes(fixture, mac, NULL));
    /* Tables: whole, or as they were. */
    assert_int_equal(command(driver, 1, 0, tables, sizeof(tables)), 0);
    assert_true(comes(fixture, other, NULL));
    assert_true(comes(fixture, group, NULL));
    assert_int_equal(command(driver, 1, 0, none, 7), 1);
    assert_int_equal(command(driver, 1, 0, many, 100), 1);
    assert_true(comes(fixture, other, NULL));
    assert_int_equal(command(driver, 1, 0, none, 8), 0);
    assert_false(comes(fixture, other, NULL));
    assert_int_equal(command(driver, 1, 0, many, sizeof(many)), 0); /* more than it holds */
    assert_true(comes(fixture, other, NULL));
    assert_false(comes(fixture, group, NULL));
    assert_int_equal(command(driver, 1, 0, none, 8), 0);
    /* Modes, one by one: all multicast, all unicast, none of each, no broadcast. */
    assert_int_equal(command(driver, 0, 1, &on, 1), 0);
    assert_true(comes(fixture, group, NULL));
    assert_int_equal(command(driver, 0, 2, &on, 1), 0);
    assert_true(comes(fixture, other, NULL));
    assert_int_equal(command(driver, 0, 3, &on, 1), 0);
    assert_false(comes(fixture, group, NULL));
    assert_int_equal(command(driver, 0, 4, &on, 1), 0);
    assert_false(comes(fixture, mac, NULL));
    assert_int_equal(command(driver, 0, 5, &on, 1), 0);
    assert_false(comes(fixture, all, NULL));
    assert_int_equal(command(driver, 0, 0, &on, 1), 0);
    assert_true(comes(fixture, other, NULL));
    /* What was not negotiated is refused. */
    driver_start(driver, F_MAC | F_CTRL_VQ, 3);
    assert_int_equal(command(driver, 0, 0, &on, 1), 1);
    assert_int_equal(command(driver, 1, 0, none, 8), 1);
    assert_int_equal(command(driver, 2, 0, none, 2), 1);
}

static void test_vlans(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const u8 seven[4] = {0x81, 0, 0x20, 7}, eight[4] = {0x81, 0, 0, 8};
    const u8 add[2] = {7, 0}, beyond[2] = {0, 0x10};
    driver_start(driver, F_MAC | F_CTRL_VQ, 3);
    assert_true(comes(fixture, mac, seven)); /* not negotiated: all */
    driver_start(driver, F_MAC | F_CTRL_VQ | F_CTRL_VLAN, 3);
    assert_false(comes(fixture, mac, seven));
    assert_true(comes(fixture, mac, NULL));
    assert_int_equal(command(driver, 2, 0, add, 2), 0);
    assert_true(comes(fixture, mac, seven));
    assert_false(comes(fixture, mac, eight));
    assert_int_equal(command(driver, 2, 1, add, 2), 0);
    assert_false(comes(fixture, mac, seven));
    assert_int_equal(command(driver, 2, 0, beyond, 2), 1);
    assert_int_equal(command(driver, 2, 2, add, 2), 1);
}

static void test_link(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const struct net_offload none = {0};
    driver_start(driver, F_MAC, 2);
    board_lock(&fixture->rig.board);
    virtio_net_set_link(fixture->net, false);
    board_unlock(&fixture->rig.board);
    assert_true(driver_took_interrupt(driver, 0));
    assert_int_equal(driver_read(driver, driver->config + 6, 2), 0);
    transmit(fixture, &none, 100);
    assert_int_equal(fixture->sent, 0);
}

/* An IPv4 UDP datagram whose checksum is known (worked out by hand, RFC 768). */
static void test_checksum(void **state)
{
    u8 frame[14 + 20 + 8 + 3] = {0};
    const struct net_offload offload = {.flags = 1, .csum_start = 34, .csum_offset = 6};
    const u8 udp[] = {0x04, 0xd2, 0x00, 0x35, 0x00, 0x0b, 0x00, 0x00, 'a', 'b', 'c'};
    memcpy(frame + 34, udp, sizeof(udp));
    /* The pseudo header of 10.0.2.15 and 10.0.2.3, protocol 17, length 11:
     * 0a00 + 020f + 0a00 + 0203 + 0011 + 000b = 182e */
    frame[40] = 0x18;
    frame[41] = 0x2e;
    frame_checksum(frame, sizeof(frame), &offload);
    /* + 04d2 + 0035 + 000b + 6162 + 6300 = e1a2, and ~ of it */
    assert_int_equal(frame[40] << 8 | frame[41], 0xffff & ~0xe1a2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_config),   TEST(test_transmit),
        TEST(test_offloads), TEST(test_receive),
        TEST(test_merge),    TEST(test_control),
        TEST(test_filter),   TEST(test_vlans),
        TEST(test_link),     cmocka_unit_test(test_checksum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
