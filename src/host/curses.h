/*
 * The screen in the user's terminal (-display curses, by ncurses): text modes as they are, of
 * graphics only their size. What is typed goes to the machine's keyboard, as on a US one;
 * Ctrl-a begins Doppel's own keys.
 *
 * Threads: all in the loop's thread; the callbacks take the board lock. One in a process: the
 * terminal is one, too.
 */
#pragma once

#include "base/error.h"
#include "host/char/char.h"
#include "host/loop.h"
#include "platform/input.h"
#include "platform/screen.h"

struct curses;

/* Takes the terminal over. NULL: *err says why. `keys` is copied. */
struct curses *curses_create(struct board *board, struct loop *loop,
                             const struct screen *screen, struct input *input,
                             const struct char_keys *keys, struct error *err);
/* Gives the terminal back as it was. */
void curses_destroy(struct curses *curses);
