/*
 * Where a line of bytes ends on the host: the terminal (with Doppel's keys, when asked), a
 * file, a pseudo-terminal, a socket, nowhere. The seam to whoever uses the line, a device or a
 * monitor, is platform/chardev.h.
 *
 * Output is queued and written by the loop when the descriptor takes it, so that a slow reader
 * never stalls the machine; beyond CHAR_QUEUE bytes the oldest output is dropped.
 *
 * Threads: create and destroy in the loop's thread; the loop callbacks run there and take the
 * board lock.
 */
#pragma once

#include "base/error.h"
#include "host/loop.h"
#include "platform/chardev.h"

#define CHAR_QUEUE     (8 * MiB)
#define CHAR_MAX_PORTS 4

enum char_kind { CHAR_NULL, CHAR_STDIO, CHAR_FILE, CHAR_PTY, CHAR_SOCKET };

struct char_config {
    enum char_kind kind;
    bool keys; /* Ctrl-a is Doppel's */
    bool mux; /* up to CHAR_MAX_PORTS share the line; Ctrl-a c gives the keyboard to the next */
    char label[64];     /* its name for monitors */
    const char *option; /* that named it, for messages */
    char path[256];     /* CHAR_FILE; CHAR_SOCKET: of a UNIX socket, else "" */
    /* CHAR_SOCKET */
    char host[64]; /* "": any address, or this host as a client */
    u16 port;
    bool server;
    bool wait; /* a server's creation waits for its first client */
};

/* What the keys ask for; in the loop's thread, without the board lock. */
struct char_keys {
    void (*leave)(void *opaque);      /* Ctrl-a x */
    void (*send_break)(void *opaque); /* Ctrl-a b */
    void *opaque;
};

struct board;
struct char_back;

/* NULL: *err says why. `keys` is copied. */
struct char_back *char_create(const struct char_config *config, struct board *board,
                              struct loop *loop, const struct char_keys *keys,
                              struct error *err);
/* Writes what is queued, as long as the descriptor takes some of it every five seconds. */
void char_destroy(struct char_back *back);

/* The seam to give to a device or monitor: a new one at each call. NULL: the line has no more.
 * The first has the keyboard first. */
struct chardev *char_port(struct char_back *back);

/* The line as QEMU's query-chardev and `info chardev` describe it, "pty:/dev/pts/3". */
void char_describe(const struct char_back *back, char *text, size_t size);
