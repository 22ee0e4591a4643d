/*
 * Where a guest's serial line ends on the host: the terminal (with Doppel's keys, when asked),
 * a file, a pseudo-terminal, nowhere. The seam to the device is platform/chardev.h.
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

#define CHAR_QUEUE (8 * MiB)

enum char_kind { CHAR_NULL, CHAR_STDIO, CHAR_FILE, CHAR_PTY };

/* A parsed `-serial` argument. */
struct char_config {
    enum char_kind kind;
    bool keys; /* `mon:`: Ctrl-a is Doppel's */
    char path[256];
};

/* "stdio", "mon:stdio", "null", "none", "file:PATH", "pty"; false: *err names `option`. */
bool char_parse(struct char_config *config, const char *option, const char *text,
                struct error *err);

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
/* Writes what is queued, as far as the descriptor takes it within a second. */
void char_destroy(struct char_back *back);

/* The seam to give to the device. */
struct chardev *char_chardev(struct char_back *back);
