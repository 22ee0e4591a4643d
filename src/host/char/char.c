/* Character back ends: queues, ports and the way between them, see char.h. */
#include "host/char/char.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ensure.h"
#include "host/char/char_state.h"

/* At most PIPE_BUF, so that after POLLOUT the write does not block (pipe(7)). */
#define WRITE_PIECE 4096
#define READ_PIECE  1024
#define FLUSH_MS    5000 /* who reads may have no processor for a while */

static void tell(struct char_back *back, unsigned port, enum chardev_event event)
{
    struct chardev *chardev = &back->ports[port].chardev;
    if (port < back->n_ports && chardev->event)
        chardev->event(chardev->front, event);
}

/* -- Output -------------------------------------------------------------------------------- */

static bool queue_empty(const struct char_back *back)
{
    return back->head == back->tail;
}

/* Writes one piece; under the board lock. False: nothing more can be written. */
static bool write_piece(struct char_back *back)
{
    u64 at = back->head % CHAR_QUEUE;
    u64 size = back->tail - back->head;
    if (size > CHAR_QUEUE - at)
        size = CHAR_QUEUE - at;
    if (size > WRITE_PIECE)
        size = WRITE_PIECE;
    ssize_t written = write(back->out.fd, back->queue + at, size);
    if (written < 0) {
        if (errno == EINTR || errno == EAGAIN)
            return true;
        /* The reader is gone; the machine goes on without. */
        back->head = back->tail;
        back->has_out = false;
        return false;
    }
    back->head += (u64)written;
    return true;
}

static void out_ready(void *opaque, short revents)
{
    struct char_back *back = opaque;
    board_lock(back->board);
    bool alive = queue_empty(back) || write_piece(back);
    if (queue_empty(back)) {
        back->out.events = 0;
        for (unsigned i = 0; i < back->n_ports; i++)
            tell(back, i, CHARDEV_EMPTY);
    }
    if (!alive && back->config.kind == CHAR_SOCKET)
        socket_hang_up(back);
    board_unlock(back->board);
}

static void port_write(void *opaque, const u8 *data, size_t len)
{
    struct char_back *back = ((struct char_port *)opaque)->back;
    if (!back->has_out)
        return;
    bool wake = queue_empty(back);
    for (size_t i = 0; i < len; i++) {
        back->queue[back->tail++ % CHAR_QUEUE] = data[i];
        if (back->tail - back->head > CHAR_QUEUE)
            back->head++;
    }
    if (wake && len) {
        back->out.events = POLLOUT;
        loop_wake(back->loop);
    }
}

static size_t port_queued(const void *opaque)
{
    const struct char_back *back = ((const struct char_port *)opaque)->back;
    return back->tail - back->head;
}

static void flush(struct char_back *back)
{
    struct pollfd fd = {.fd = back->out.fd, .events = POLLOUT};
    while (back->has_out && !queue_empty(back) && poll(&fd, 1, FLUSH_MS) > 0)
        write_piece(back);
}

/* -- Input --------------------------------------------------------------------------------- */

/* Gives the port that has the keyboard what it takes; under the board lock. */
static void deliver(struct char_back *back)
{
    struct chardev *chardev = &back->ports[back->focus].chardev;
    if (back->board->stopped && !chardev->outside)
        return;
    size_t room = chardev->can_receive ? chardev->can_receive(chardev->front) : 0;
    size_t len = back->n_typed < room ? back->n_typed : room;
    if (!len)
        return;
    chardev->receive(chardev->front, back->typed, len);
    back->n_typed -= len;
    memmove(back->typed, back->typed + len, back->n_typed);
}

static void has_room(struct char_back *back)
{
    deliver(back);
    if (back->has_in && !back->in.events && back->n_typed <= TYPED_AHEAD - READ_PIECE) {
        back->in.events = POLLIN;
        loop_wake(back->loop);
    }
}

static void port_room(void *opaque)
{
    has_room(((struct char_port *)opaque)->back);
}

static void gate_opened(void *opaque)
{
    has_room(opaque);
}

/* Ctrl-a c. What the last one left unread is not for the next one. */
static void next_port(void *opaque)
{
    struct char_back *back = opaque;
    if (back->n_ports < 2)
        return;
    board_lock(back->board);
    deliver(back);
    back->n_typed = 0;
    tell(back, back->focus, CHARDEV_FOCUS_OUT);
    back->focus = (back->focus + 1) % back->n_ports;
    tell(back, back->focus, CHARDEV_FOCUS_IN);
    board_unlock(back->board);
}

/* Byte by byte, since a key may change who gets the next one. */
static void type(struct char_back *back, u8 byte)
{
    u8 cooked;
    if (!keys_filter(&back->keys, &byte, 1, &cooked))
        return;
    board_lock(back->board);
    back->typed[back->n_typed++] = cooked;
    board_unlock(back->board);
}

/* Reads on while there is room for typed-ahead input, whether the guest reads or not: Ctrl-a x
 * must work then too. */
static void in_ready(void *opaque, short revents)
{
    struct char_back *back = opaque;
    u8 raw[READ_PIECE];
    ssize_t got = read(back->in.fd, raw, sizeof(raw));
    bool ended = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
    for (ssize_t i = 0; i < got; i++)
        type(back, raw[i]);
    board_lock(back->board);
    deliver(back);
    back->has_in = !ended;
    back->in.events = !ended && back->n_typed <= TYPED_AHEAD - READ_PIECE ? POLLIN : 0;
    if (ended && back->config.kind == CHAR_SOCKET)
        socket_hang_up(back);
    board_unlock(back->board);
}

/* -- Connections --------------------------------------------------------------------------- */

void char_connected(struct char_back *back, bool connected)
{
    back->has_in = back->has_out = connected;
    back->in.events = connected ? POLLIN : 0;
    back->out.events = 0;
    back->n_typed = 0;
    back->head = back->tail;
    for (unsigned i = 0; i < back->n_ports; i++) {
        back->ports[i].chardev.open = connected;
        tell(back, i, connected ? CHARDEV_OPENED : CHARDEV_CLOSED);
    }
}

struct chardev *char_port(struct char_back *back)
{
    if (back->n_ports == (back->config.mux ? CHAR_MAX_PORTS : 1))
        return NULL;
    struct char_port *port = &back->ports[back->n_ports++];
    port->back = back;
    port->chardev = (struct chardev){
        .write = port_write,
        .room = port_room,
        .queued = port_queued,
        .back = port,
        .open = back->has_in || back->has_out,
        .focused = back->n_ports == 1,
    };
    return &port->chardev;
}

/* -- Life ---------------------------------------------------------------------------------- */

struct char_back *char_create(const struct char_config *config, struct board *board,
                              struct loop *loop, const struct char_keys *keys,
                              struct error *err)
{
    struct char_back *back = calloc(1, sizeof(*back));
    ensure(back);
    back->config = *config;
    back->board = board;
    back->loop = loop;
    back->pty_peer = -1;
    back->in = (struct loop_source){.fd = -1, .ready = in_ready, .opaque = back};
    back->out = (struct loop_source){.fd = -1, .ready = out_ready, .opaque = back};
    back->listener = (struct loop_source){.fd = -1};
    if (!(config->kind == CHAR_SOCKET ? socket_open(back, err) : char_open(back, err))) {
        free(back);
        return NULL;
    }
    keys_init(&back->keys, config->keys, keys);
    back->keys.next = next_port;
    back->keys.next_opaque = back;
    if (back->has_out || config->kind == CHAR_SOCKET) {
        back->queue = malloc(CHAR_QUEUE); /* touched as it fills: costs what is queued */
        ensure(back->queue);
    }
    back->in.events = back->has_in ? POLLIN : 0;
    loop_add(loop, &back->out);
    loop_add(loop, &back->in);
    back->gate = (struct board_gate){.opened = gate_opened, .opaque = back};
    board_add_gate(board, &back->gate);
    return back;
}

void char_destroy(struct char_back *back)
{
    if (!back)
        return;
    flush(back);
    board_remove_gate(back->board, &back->gate);
    loop_remove(back->loop, &back->in);
    loop_remove(back->loop, &back->out);
    socket_close(back);
    if (back->owns_fd)
        close(back->out.fd);
    if (back->pty_peer >= 0)
        close(back->pty_peer);
    free(back->queue);
    free(back);
}
