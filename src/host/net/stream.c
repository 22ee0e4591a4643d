/*
 * Frames over a stream socket, each behind its length in network byte order: how QEMU's
 * `-netdev stream` and `-netdev socket` talk, so that a machine here and one there make a
 * network.
 *
 * A server takes one peer at a time and waits for the next when it is gone; a client that loses
 * its server stays alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "host/net/frame.h"
#include "host/net/net.h"
#include "host/stream_socket.h"
#include "platform/board.h"

#define PREFIX  4u          /* bytes of a length */
#define QUEUE   (512 * KiB) /* for a peer that is slow to read; what is beyond is lost */
#define RECEIVE (PREFIX + NET_MAX_FRAME)

struct stream {
    struct net_back back;
    struct board *board;
    struct loop *loop;
    struct loop_source listener, peer; /* fd -1: none */
    /* Under the board lock: */
    u8 queue[QUEUE];
    size_t n_queue;
    u8 input[RECEIVE];
    size_t n_input;
};

static void peer_gone(struct stream *stream)
{
    if (stream->peer.fd < 0)
        return;
    loop_remove(stream->loop, &stream->peer);
    close(stream->peer.fd);
    stream->peer.fd = -1;
    stream->n_queue = stream->n_input = 0;
    stream->listener.events = POLLIN;
}

/* -- To the peer --------------------------------------------------------------------------- */

/* Under the board lock. An error shows up in the loop again, as POLLERR or POLLHUP. */
static void flush(struct stream *stream)
{
    ssize_t put = stream->n_queue ? send(stream->peer.fd, stream->queue, stream->n_queue,
                                         MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : 0;
    if (put > 0) {
        stream->n_queue -= (size_t)put;
        memmove(stream->queue, stream->queue + put, stream->n_queue);
    }
}

static void stream_send(void *opaque, const void *frame, size_t len,
                        const struct net_offload *offload)
{
    struct stream *stream = opaque;
    u32 prefix = htonl((u32)len);
    if (stream->peer.fd < 0 || PREFIX + len > QUEUE - stream->n_queue)
        return;
    u8 *to = stream->queue + stream->n_queue;
    memcpy(to, &prefix, PREFIX);
    memcpy(to + PREFIX, frame, len);
    frame_checksum(to + PREFIX, len, offload);
    stream->n_queue += PREFIX + len;
    flush(stream);
    if (stream->n_queue) {
        stream->peer.events |= POLLOUT;
        loop_wake(stream->loop);
    }
}

/* -- From the peer ------------------------------------------------------------------------- */

/* Gives the device the frames that are whole. False: the peer talks nonsense. */
static bool deliver(struct stream *stream)
{
    size_t at = 0;
    bool good = true;
    while (stream->n_input - at >= PREFIX) {
        u32 len;
        memcpy(&len, stream->input + at, PREFIX);
        len = ntohl(len);
        good = len >= 14 && len <= NET_MAX_FRAME;
        if (!good || stream->n_input - at < PREFIX + len ||
            !net_can_receive(&stream->back.port))
            break;
        net_receive(&stream->back.port, stream->input + at + PREFIX, len, NULL);
        at += PREFIX + len;
    }
    stream->n_input -= at;
    memmove(stream->input, stream->input + at, stream->n_input);
    /* Full with a frame that has to wait: so does the peer. */
    if (stream->n_input < RECEIVE)
        stream->peer.events |= POLLIN;
    else
        stream->peer.events &= ~POLLIN;
    return good;
}

static void stream_room(void *opaque)
{
    struct stream *stream = opaque;
    if (stream->peer.fd < 0)
        return;
    deliver(stream);
    loop_wake(stream->loop);
}

static void peer_ready(void *opaque, short revents)
{
    struct stream *stream = opaque;
    board_lock(stream->board);
    flush(stream);
    if (!stream->n_queue)
        stream->peer.events &= ~POLLOUT;
    ssize_t got = 1;
    if (revents & (POLLIN | POLLHUP | POLLERR) && stream->n_input < RECEIVE) {
        got = recv(stream->peer.fd, stream->input + stream->n_input, RECEIVE - stream->n_input,
                   MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            got = 1;
        else if (got > 0)
            stream->n_input += (size_t)got;
    }
    if (got <= 0 || !deliver(stream))
        peer_gone(stream);
    board_unlock(stream->board);
}

static void set_peer(struct stream *stream, int fd)
{
    stream->peer.fd = fd;
    stream->peer.events = POLLIN;
    loop_add(stream->loop, &stream->peer);
}

static void listener_ready(void *opaque, short revents)
{
    struct stream *stream = opaque;
    int fd = accept4(stream->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    board_lock(stream->board);
    set_peer(stream, fd);
    stream->listener.events = 0;
    board_unlock(stream->board);
}

/* -- Life ---------------------------------------------------------------------------------- */

static void stream_destroy(struct net_back *back)
{
    struct stream *stream = container_of(back, struct stream, back);
    peer_gone(stream);
    if (stream->listener.fd >= 0) {
        loop_remove(stream->loop, &stream->listener);
        close(stream->listener.fd);
    }
    free(stream);
}

static const struct net_back_ops stream_ops = {stream_destroy};

struct net_back *net_stream_create(const struct net_config *config, struct board *board,
                                   struct loop *loop, struct error *err)
{
    const struct stream_address at = {.path = config->path,
                                      .host = config->address,
                                      .port = config->port,
                                      .server = config->server};
    int fd = stream_socket_open(&at, "-netdev stream", err);
    if (fd < 0)
        return NULL;
    struct stream *stream = calloc(1, sizeof(*stream));
    ensure(stream);
    stream->board = board;
    stream->loop = loop;
    stream->back.ops = &stream_ops;
    stream->back.port = (struct net_port){
        .send = stream_send, .room = stream_room, .back = stream, .sends_csum = true};
    stream->peer = (struct loop_source){.fd = -1, .ready = peer_ready, .opaque = stream};
    stream->listener = (struct loop_source){
        .fd = -1, .events = POLLIN, .ready = listener_ready, .opaque = stream};
    if (config->server) {
        stream->listener.fd = fd;
        loop_add(loop, &stream->listener);
    } else {
        set_peer(stream, fd);
    }
    return &stream->back;
}
