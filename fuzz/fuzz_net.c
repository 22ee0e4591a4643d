/*
 * Frames of a hostile guest, as the network device lets them through, on their way into the
 * user network: packets of each protocol that it answers, changed as the input says. The
 * network is restricted, so none of them leaves it. What comes back is taken, or waits. The
 * sanitizers and ensure() judge.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/ensure.h"
#include "host/net/net.h"
#include "platform/board.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct card {
    struct log log;
    struct board board;
    struct net_back *back;
    bool full;
    u8 frame[NET_MAX_FRAME];
};

static bool can_receive(void *front)
{
    const struct card *card = front;
    return !card->full;
}

static void receive(void *front, const void *frame, size_t len,
                    const struct net_offload *offload)
{
    struct card *card = front;
    ensure(len <= NET_MAX_FRAME);
    memcpy(card->frame, frame, len);
}

static u64 now(void *opaque)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (u64)time.tv_sec * 1000000000 + (u64)time.tv_nsec;
}

/* -- Sound packets ------------------------------------------------------------------------- */

#define ETHERNET "\xff\xff\xff\xff\xff\xff\x52\x54\x00\x12\x34\x56"
#define GUEST    "\x0a\x00\x02\x0f"
#define GATEWAY  "\x0a\x00\x02\x02"
#define DNS      "\x0a\x00\x02\x03"
#define IP(proto, from, to)                                                                    \
    ETHERNET "\x08\x00\x45\x00\x00\x30\x00\x01\x00\x00\x40" proto "\x00\x00" from to
#define IP6(proto, to)                                                                         \
    ETHERNET "\x86\xdd\x60\x00\x00\x00\x00\x20" proto "\xff\xfe\x80\0\0\0\0\0\0\x50\x54\0\xff" \
             "\xfe\x12\x34\x56\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0" to

struct packet {
    const char *bytes;
    size_t len;
};
#define PACKET(text)                                                                           \
    {                                                                                          \
        text, sizeof(text) - 1                                                                 \
    }

static const struct packet packets[] = {
    PACKET(ETHERNET "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01\x52\x54\x00\x12\x34\x56" GUEST
                    "\0\0\0\0\0\0" GATEWAY),
    PACKET(IP("\x01", GUEST, GATEWAY) "\x08\x00\x00\x00\x12\x34\x00\x01"),
    PACKET(IP("\x06", GUEST, GATEWAY) "\x80\x00\x00\x07\0\0\0\1\0\0\0\0\x60\x02\xfa\xf0\0\0\0\0"
                                      "\x02\x04\x05\xb4"),
    PACKET(
        IP("\x11", GUEST, DNS) "\x80\x00\x00\x35\x00\x1c\x00\x00\x12\x34\x01\x00\x00\x01\0\0"),
    PACKET(IP("\x11", "\0\0\0\0", "\xff\xff\xff\xff") "\x00\x44\x00\x43\x01\x08\x00\x00\x01\x01"
                                                      "\x06\x00\x12\x34\x56\x78"),
    PACKET(IP("\x11", GUEST, GATEWAY) "\x80\x00\x00\x45\x00\x1c\x00\x00\x00\x01x\0octet\0"),
    PACKET(IP6("\x3a", "\x02") "\x87\x00\0\0\0\0\0\0\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02"),
    PACKET(IP6("\x3a", "\x02") "\x85\x00\0\0\0\0\0\0"),
    PACKET(IP6("\x11", "\x03") "\x02\x22\x02\x23\x00\x10\x00\x00\x01\x12\x34\x56"),
    PACKET(IP6("\x06", "\x02") "\x80\x00\x00\x07\0\0\0\1\0\0\0\0\x50\x02\xfa\xf0\0\0\0\0"),
};

/* -- Their changes ------------------------------------------------------------------------- */

struct input {
    const u8 *data;
    size_t size;
};

static u8 next(struct input *input)
{
    if (!input->size)
        return 0;
    input->size--;
    return *input->data++;
}

static void put16(u8 *at, size_t value)
{
    at[0] = (u8)(value >> 8);
    at[1] = (u8)value;
}

/* An IPv4 header's length and checksum are put right: else nothing gets further. */
static void complete(u8 *frame, size_t len, u8 how)
{
    u32 sum = 0;
    if (len < 34 || frame[12] != 8 || frame[13])
        return;
    if (how & 1)
        put16(frame + 16, len - 14);
    put16(frame + 24, 0);
    for (unsigned i = 14; i < 34; i += 2)
        sum += (u32)frame[i] << 8 | frame[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    if (how & 2)
        put16(frame + 24, ~(sum + (sum >> 16)));
}

static size_t make_frame(struct input *input, u8 *frame)
{
    const struct packet *packet = &packets[next(input) % ARRAY_LEN(packets)];
    u8 how = next(input);
    size_t len = packet->len;
    memcpy(frame, packet->bytes, len);
    if (how & 16) /* a long one, or one cut short */
        len += (size_t)next(input) << 8 | next(input);
    else if (how & 32)
        len = 14 + next(input) % (len - 14);
    if (len > NET_MAX_FRAME)
        len = NET_MAX_FRAME;
    if (len > packet->len)
        memset(frame + packet->len, how, len - packet->len);
    for (unsigned n = next(input) % 16; n && input->size; n--) {
        unsigned at = next(input) % (len < 128 ? len : 128);
        frame[at] ^= next(input);
    }
    complete(frame, len, how);
    return len;
}

/* What the device lets through (virtio 1.2, 5.1.6.2, and offload_good in virtio/net.c). */
static struct net_offload make_offload(struct input *input, size_t len)
{
    struct net_offload offload = {0};
    size_t start = next(input), at = next(input);
    if (start + at + 2 > len || !(start & 1))
        return offload;
    offload = (struct net_offload){
        .flags = 1, .csum_start = (u16)start, .csum_offset = (u16)at, .hdr_len = 54};
    if (at & 1) {
        offload.gso_type = at & 2 ? 1 : 4;
        offload.gso_size = 1460;
    }
    return offload;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static u8 frame[NET_MAX_FRAME];
    const struct net_config config = {.kind = NET_USER, .restricted = true};
    struct input input = {data, size < 2048 ? size : 2048};
    struct card *card = calloc(1, sizeof(*card));
    struct error err;
    ensure(card);
    card->log.fd = 2;
    board_init(&card->board, &card->log);
    card->board.clock.now = now;
    card->back = net_create(&config, &card->board, NULL, &err);
    ensure(card->back);
    struct net_port *port = &card->back->port;
    board_lock(&card->board);
    port->can_receive = can_receive;
    port->receive = receive;
    port->front = card;
    while (input.size) {
        size_t len = make_frame(&input, frame);
        struct net_offload offload = make_offload(&input, len);
        port->send(port->back, frame, len, &offload);
        card->full = next(&input) & 1;
        port->room(port->back);
    }
    port->can_receive = NULL;
    board_unlock(&card->board);
    net_destroy(card->back);
    board_destroy(&card->board);
    free(card);
    return 0;
}
