/* The inside of a character back end, for the files of host/char/. */
#pragma once

#include "host/char/char.h"
#include "host/char/keys.h"
#include "platform/board.h"

#define TYPED_AHEAD 4096

struct char_port {
    struct chardev chardev;
    struct char_back *back;
};

struct char_back {
    struct char_config config;
    struct board *board;
    struct loop *loop;
    struct board_gate gate;
    struct char_port ports[CHAR_MAX_PORTS];
    unsigned n_ports;
    unsigned focus; /* the port that gets the input */
    struct loop_source in, out, listener;
    bool has_in, has_out, owns_fd; /* under the board lock */
    int pty_peer;                  /* or -1 */
    struct keys keys;
    /* Output: a ring under the board lock. */
    u8 *queue;
    u64 head, tail; /* bytes ever written and ever queued */
    /* Input that nobody had room for yet, under the board lock. */
    u8 typed[TYPED_AHEAD];
    size_t n_typed;
};

/* Opens what the configuration names; no sockets. */
bool char_open(struct char_back *back, struct error *err);

/* The socket's side: its listener or connection. */
bool socket_open(struct char_back *back, struct error *err);
/* The client is gone: the next one may come. In the loop's thread, under the board lock. */
void socket_hang_up(struct char_back *back);
void socket_close(struct char_back *back);

/* Somebody is at the other end, or nobody any more; under the board lock. */
void char_connected(struct char_back *back, bool connected);
