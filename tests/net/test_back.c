/* Network back ends: the user network's gateway answers, stream sockets carry frames. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/net/net.h"
#include "platform/board.h"

/* A device that keeps what it gets. */
struct card {
    struct board board;
    struct log log;
    struct loop loop;
    struct net_back *back;
    bool full;
    unsigned frames;
    u8 frame[NET_MAX_FRAME];
    size_t len;
};

static bool card_can_receive(void *front)
{
    const struct card *card = front;
    return !card->full;
}

static void card_receive(void *front, const void *frame, size_t len,
                         const struct net_offload *offload)
{
    struct card *card = front;
    memcpy(card->frame, frame, len);
    card->len = len;
    card->frames++;
}

static u64 now(void *opaque)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (u64)time.tv_sec * 1000000000 + (u64)time.tv_nsec;
}

static void card_create(struct card *card, const struct net_config *config)
{
    struct error err;
    memset(card, 0, sizeof(*card));
    card->log.fd = 2;
    board_init(&card->board, &card->log);
    card->board.clock.now = now;
    assert_true(loop_init(&card->loop, &err));
    card->back = net_create(config, &card->board, &card->loop, &err);
    if (!card->back)
        print_error("%s\n", err.text);
    assert_non_null(card->back);
    board_lock(&card->board);
    card->back->port.can_receive = card_can_receive;
    card->back->port.receive = card_receive;
    card->back->port.front = card;
    board_unlock(&card->board);
}

static void card_destroy(struct card *card)
{
    net_destroy(card->back);
    loop_destroy(&card->loop);
    board_destroy(&card->board);
}

static void card_send(struct card *card, const void *frame, size_t len)
{
    const struct net_offload none = {0};
    board_lock(&card->board);
    card->back->port.send(card->back->port.back, frame, len, &none);
    board_unlock(&card->board);
}

static unsigned card_frames(struct card *card)
{
    board_lock(&card->board);
    unsigned frames = card->frames;
    board_unlock(&card->board);
    return frames;
}

/* Runs both loops until `card` has got `frames`; false: it does not in so many seconds. */
static bool got_within(struct card *card, unsigned frames, struct card *other, u64 seconds)
{
    u64 end = now(NULL) + seconds * 1000000000;
    while (card_frames(card) < frames && now(NULL) < end) {
        loop_wait(&card->loop, 500000);
        if (other)
            loop_wait(&other->loop, 500000);
    }
    return card_frames(card) >= frames;
}

/* On a busy host it may take long. */
static bool wait_for(struct card *card, unsigned frames, struct card *other)
{
    return got_within(card, frames, other, 90);
}

static void test_user(void **state)
{
    struct card card;
    const struct net_config config = {.kind = NET_USER};
    /* Who has 10.0.2.2? Tell 10.0.2.15. */
    u8 arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34,
                  0x56, 8,    6,    0,    1,    8,    0,    6,    4, 0,    1,
                  0x52, 0x54, 0,    0x12, 0x34, 0x56, 10,   0,    2, 15,   0,
                  0,    0,    0,    0,    0,    10,   0,    2,    2};
    card_create(&card, &config);
    card_send(&card, arp, sizeof(arp));
    assert_true(wait_for(&card, 1, NULL));
    board_lock(&card.board);
    assert_int_equal(card.frame[21], 2); /* a reply */
    assert_memory_equal(card.frame + 28, "\x0a\x00\x02\x02", 4);
    unsigned before = card.frames;
    /* What comes while there is no room waits. */
    card.full = true;
    board_unlock(&card.board);
    card_send(&card, arp, sizeof(arp));
    assert_false(got_within(&card, before + 1, NULL, 1));
    board_lock(&card.board);
    card.full = false;
    card.back->port.room(card.back->port.back);
    assert_true(card.frames > before);
    board_unlock(&card.board);
    card_destroy(&card);
}

/* -- Fragments ----------------------------------------------------------------------------- */

#define PING_DATA 3000 /* with the ICMP header, a multiple of 8 */

static void put16(u8 *at, unsigned value)
{
    at[0] = (u8)(value >> 8);
    at[1] = (u8)value;
}

static u16 sum16(const u8 *data, size_t len)
{
    u32 sum = 0;
    for (size_t i = 0; i < len; i += 2)
        sum += (u32)(data[i] << 8 | data[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16) ~(sum + (sum >> 16));
}

/* A piece of a ping from 10.0.2.15 to 10.0.2.2. */
static void send_piece(struct card *card, u16 id, const u8 *ping, unsigned from, unsigned to)
{
    static const u8 head[34] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0,
                                0x12, 0x34, 0x56, 8,    0,    0x45, 0,    0,    0,
                                0,    0,    0,    0,    64,   1,    0,    0,    10,
                                0,    2,    15,   10,   0,    2,    2};
    u8 frame[NET_MAX_FRAME];
    memcpy(frame, head, sizeof(head));
    memcpy(frame + sizeof(head), ping + from, to - from);
    put16(frame + 16, 20 + to - from);
    put16(frame + 18, id);
    put16(frame + 20, from / 8 | (to < PING_DATA ? 0x2000 : 0));
    put16(frame + 24, sum16(frame + 14, 20));
    card_send(card, frame, sizeof(head) + to - from);
}

static void make_ping(u8 *ping, u16 sequence)
{
    memset(ping, sequence, PING_DATA);
    memset(ping, 0, 8);
    ping[0] = 8;
    put16(ping + 6, sequence);
    put16(ping + 2, sum16(ping, PING_DATA));
}

/* The gateway answers a ping that came in pieces, in any order, once it is whole. */
static void test_fragments(void **state)
{
    struct card card;
    const struct net_config config = {.kind = NET_USER};
    static const unsigned orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
    static const unsigned cuts[] = {0, 1480, 2400, PING_DATA};
    u8 ping[PING_DATA];
    card_create(&card, &config);
    for (u16 i = 0; i < ARRAY_LEN(orders); i++) {
        unsigned before = card_frames(&card);
        make_ping(ping, i + 1);
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(card_frames(&card), before);
            send_piece(&card, i, ping, cuts[orders[i][k]], cuts[orders[i][k] + 1]);
        }
        assert_true(wait_for(&card, before + 1, NULL));
    }
    /* Pieces that overlap, a hole, a last piece that is not the last. */
    unsigned before = card_frames(&card);
    send_piece(&card, 77, ping, 0, 1480);
    send_piece(&card, 77, ping, 1472, PING_DATA);
    send_piece(&card, 78, ping, 0, 1480);
    send_piece(&card, 78, ping, 1488, PING_DATA);
    send_piece(&card, 79, ping, 0, 1480);
    send_piece(&card, 79, ping, 2400, 2408);
    send_piece(&card, 79, ping, 2400, PING_DATA);
    for (u16 id = 100; id < 200; id++)
        send_piece(&card, id, ping, 8, 1480);
    assert_int_equal(card_frames(&card), before);
    make_ping(ping, 9);
    send_piece(&card, 300, ping, 0, 1480);
    send_piece(&card, 300, ping, 1480, PING_DATA);
    assert_true(wait_for(&card, before + 1, NULL));
    card_destroy(&card);
}

static void test_forward_taken(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    struct net_config config = {.kind = NET_USER, .n_forwards = 1};
    config.forwards[0] = (struct net_forward){
        .host_addr = htonl(0x7f000001), .host_port = ntohs(address.sin_port), .guest_port = 22};
    struct board board;
    struct log log = {.fd = 2};
    struct error err;
    board_init(&board, &log);
    board.clock.now = now;
    assert_null(net_create(&config, &board, NULL, &err));
    assert_non_null(strstr(err.text, "cannot listen"));
    board_destroy(&board);
    close(fd);
}

/* The gateway is where QEMU has it in a wide network; what lies outside, or twice, fails. */
static void test_addresses(void **state)
{
    const struct net_config wide = {
        .kind = NET_USER, .network = htonl(0x0a000000), .mask = htonl(0xff000000)};
    u8 arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34,
                  0x56, 8,    6,    0,    1,    8,    0,    6,    4, 0,    1,
                  0x52, 0x54, 0,    0x12, 0x34, 0x56, 10,   0,    2, 15,   0,
                  0,    0,    0,    0,    0,    10,   0,    2,    2};
    struct card card;
    card_create(&card, &wide);
    card_send(&card, arp, sizeof(arp));
    assert_true(wait_for(&card, 1, NULL));
    card_destroy(&card);

    const u32 outside = htonl(0x0b000001), gateway = htonl(0x0a000202);
    const struct {
        struct net_config config;
        const char *text;
    } bad[] = {{{.kind = NET_USER, .dhcp_start = outside}, "dhcpstart= is not"},
               {{.kind = NET_USER, .host = outside}, "host= is not"},
               {{.kind = NET_USER, .dns = outside}, "dns= is not"},
               {{.kind = NET_USER, .dns = gateway}, "dns= and host="}};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct board board;
        struct log log = {.fd = 2};
        struct error err;
        board_init(&board, &log);
        assert_null(net_create(&bad[i].config, &board, NULL, &err));
        assert_non_null(strstr(err.text, bad[i].text));
        board_destroy(&board);
    }
}

static struct net_config unix_config(bool server)
{
    struct net_config config = {.kind = NET_STREAM, .server = server};
    snprintf(config.path, sizeof(config.path), "/tmp/doppel-net-%d", getpid());
    return config;
}

static void test_stream(void **state)
{
    static struct card server, client;
    struct net_config config = unix_config(true);
    u8 frame[NET_MAX_FRAME];
    card_create(&server, &config);
    config.server = false;
    card_create(&client, &config);
    loop_wait(&server.loop, 1000000); /* accepts */
    for (unsigned i = 0; i < 50; i++) {
        size_t len = i % 7 ? 14 + i * 31 : NET_MAX_FRAME;
        memset(frame, (int)i, len);
        card_send(&client, frame, len);
        assert_true(wait_for(&server, i + 1, &client));
        assert_int_equal(server.len, len);
        assert_memory_equal(server.frame, frame, len);
        card_send(&server, frame, len);
        assert_true(wait_for(&client, i + 1, &server));
        assert_int_equal(client.len, len);
    }
    /* Many at once, some while the other has no room: all arrive, in order. */
    server.full = true;
    for (unsigned i = 0; i < 5; i++) {
        memset(frame, (int)i, 1000);
        card_send(&client, frame, 1000);
    }
    assert_false(got_within(&server, 51, &client, 1));
    server.full = false;
    board_lock(&server.board);
    server.back->port.room(server.back->port.back);
    board_unlock(&server.board);
    assert_true(wait_for(&server, 55, &client));
    assert_int_equal(server.frame[0], 4);
    card_destroy(&client);
    /* The next peer is welcome. */
    loop_wait(&server.loop, 1000000);
    card_create(&client, &config);
    loop_wait(&server.loop, 1000000);
    card_send(&client, frame, 100);
    assert_true(wait_for(&server, 56, &client));
    card_destroy(&client);
    card_destroy(&server);
    unlink(config.path);
}

/* A peer that sends nonsense is left, not believed. */
static void test_stream_nonsense(void **state)
{
    static struct card server;
    struct net_config config = unix_config(true);
    card_create(&server, &config);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, config.path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    loop_wait(&server.loop, 1000000);
    assert_int_equal(send(fd, "\xff\xff\xff\xff....", 8, 0), 8);
    loop_wait(&server.loop, 1000000);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    assert_int_equal(server.frames, 0);
    close(fd);
    card_destroy(&server);
    unlink(config.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user),          cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_forward_taken), cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_stream),        cmocka_unit_test(test_stream_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
