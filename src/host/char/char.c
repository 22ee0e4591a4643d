/* Character back ends, see char.h. */
#include "host/char/char.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ensure.h"
#include "host/char/keys.h"
#include "platform/board.h"

/* At most PIPE_BUF, so that after POLLOUT the write does not block (pipe(7)). */
#define WRITE_PIECE 4096
#define READ_PIECE  256
#define TYPED_AHEAD 4096

struct char_back {
    struct chardev chardev;
    struct board *board;
    struct loop *loop;
    struct loop_source in, out;
    bool has_in, has_out, owns_fd;
    int pty_peer; /* or -1 */
    struct keys keys;
    /* Output: a ring under the board lock. */
    u8 *queue;
    u64 head, tail; /* bytes ever written and ever queued */
    /* Input that the device had no room for yet, under the board lock. */
    u8 typed[TYPED_AHEAD];
    size_t n_typed;
};

bool char_parse(struct char_config *config, const char *option, const char *text,
                struct error *err)
{
    *config = (struct char_config){0};
    if (!strncmp(text, "mon:", 4)) {
        config->keys = true;
        text += 4;
    }
    if (!strcmp(text, "stdio")) {
        config->kind = CHAR_STDIO;
    } else if (!strcmp(text, "null") || !strcmp(text, "none")) {
        config->kind = CHAR_NULL;
    } else if (!strcmp(text, "pty")) {
        config->kind = CHAR_PTY;
    } else if (!strncmp(text, "file:", 5) && text[5]) {
        config->kind = CHAR_FILE;
        if (snprintf(config->path, sizeof(config->path), "%s", text + 5) >=
            (int)sizeof(config->path))
            return error_set(err, "%s: the file name is too long", option);
    } else {
        return error_set(err,
                         "%s: '%s' is not supported; use stdio, mon:stdio, file:PATH, pty or "
                         "null",
                         option, text);
    }
    return true;
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
    if (!queue_empty(back))
        write_piece(back);
    if (queue_empty(back))
        back->out.events = 0;
    board_unlock(back->board);
}

static void back_write(void *opaque, const u8 *data, size_t len)
{
    struct char_back *back = opaque;
    if (!back->has_out)
        return;
    bool wake = queue_empty(back);
    for (size_t i = 0; i < len; i++) {
        back->queue[back->tail++ % CHAR_QUEUE] = data[i];
        if (back->tail - back->head > CHAR_QUEUE)
            back->head++;
    }
    if (wake) {
        back->out.events = POLLOUT;
        loop_wake(back->loop);
    }
}

static void flush(struct char_back *back)
{
    struct pollfd fd = {.fd = back->out.fd, .events = POLLOUT};
    while (back->has_out && !queue_empty(back) && poll(&fd, 1, 1000) > 0)
        write_piece(back);
}

/* -- Input --------------------------------------------------------------------------------- */

/* Gives the device what it takes; under the board lock. */
static void deliver(struct char_back *back)
{
    struct chardev *chardev = &back->chardev;
    size_t room = chardev->can_receive ? chardev->can_receive(chardev->front) : 0;
    size_t len = back->n_typed < room ? back->n_typed : room;
    if (!len)
        return;
    chardev->receive(chardev->front, back->typed, len);
    back->n_typed -= len;
    memmove(back->typed, back->typed + len, back->n_typed);
}

static void back_room(void *opaque)
{
    struct char_back *back = opaque;
    deliver(back);
    if (back->has_in && !back->in.events && back->n_typed <= TYPED_AHEAD - READ_PIECE) {
        back->in.events = POLLIN;
        loop_wake(back->loop);
    }
}

/* Reads on while there is room for typed-ahead input, whether the guest reads or not: Ctrl-a x
 * must work then too. */
static void in_ready(void *opaque, short revents)
{
    struct char_back *back = opaque;
    u8 raw[READ_PIECE];
    u8 cooked[sizeof(raw)];
    ssize_t got = read(back->in.fd, raw, sizeof(raw));
    bool ended = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
    size_t len = got > 0 ? keys_filter(&back->keys, raw, (size_t)got, cooked) : 0;

    board_lock(back->board);
    memcpy(back->typed + back->n_typed, cooked, len);
    back->n_typed += len;
    deliver(back);
    back->has_in = !ended;
    back->in.events = !ended && back->n_typed <= TYPED_AHEAD - READ_PIECE ? POLLIN : 0;
    board_unlock(back->board);
}

/* -- Life ---------------------------------------------------------------------------------- */

static bool open_pty(struct char_back *back, struct error *err)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || grantpt(fd) || unlockpt(fd)) {
        if (fd >= 0)
            close(fd);
        return error_errno(err, "-serial pty: cannot make a pseudo-terminal");
    }
    char name[64] = "";
    if (!ptsname_r(fd, name, sizeof(name)))
        fprintf(stderr, "doppel: the serial line is at %s\n", name);
    /* Held open: without anybody at the other end, reading fails. */
    back->pty_peer = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    back->in.fd = back->out.fd = fd;
    back->has_in = back->has_out = back->owns_fd = true;
    return true;
}

static bool open_back(struct char_back *back, const struct char_config *config,
                      struct error *err)
{
    switch (config->kind) {
    case CHAR_NULL:
        return true;
    case CHAR_STDIO:
        back->in.fd = STDIN_FILENO;
        back->out.fd = STDOUT_FILENO;
        back->has_in = back->has_out = true;
        return true;
    case CHAR_FILE:
        back->out.fd = open(config->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (back->out.fd < 0)
            return error_errno(err, "-serial: cannot write '%s'", config->path);
        back->has_out = back->owns_fd = true;
        return true;
    case CHAR_PTY:
        return open_pty(back, err);
    }
    ensure(!"a known kind");
    return false;
}

struct char_back *char_create(const struct char_config *config, struct board *board,
                              struct loop *loop, const struct char_keys *keys,
                              struct error *err)
{
    struct char_back *back = calloc(1, sizeof(*back));
    ensure(back);
    back->board = board;
    back->loop = loop;
    back->pty_peer = -1;
    if (!open_back(back, config, err)) {
        free(back);
        return NULL;
    }
    back->chardev = (struct chardev){.write = back_write, .room = back_room, .back = back};
    keys_init(&back->keys, config->keys, keys);
    if (back->has_out) {
        back->queue = malloc(CHAR_QUEUE); /* touched as it fills: costs what is queued */
        ensure(back->queue);
        back->out.ready = out_ready;
        back->out.opaque = back;
        loop_add(loop, &back->out);
    }
    if (back->has_in) {
        back->in.events = POLLIN;
        back->in.ready = in_ready;
        back->in.opaque = back;
        loop_add(loop, &back->in);
    }
    return back;
}

void char_destroy(struct char_back *back)
{
    if (!back)
        return;
    flush(back);
    loop_remove(back->loop, &back->in);
    loop_remove(back->loop, &back->out);
    if (back->owns_fd)
        close(back->out.fd);
    if (back->pty_peer >= 0)
        close(back->pty_peer);
    free(back->queue);
    free(back);
}

struct chardev *char_chardev(struct char_back *back)
{
    return &back->chardev;
}
