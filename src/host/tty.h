/*
 * The user's terminal in raw mode, and put back in every way of leaving.
 *
 * Threads: the main thread; tty_restore is async-signal-safe, so that a fatal signal's handler
 * may call it.
 */
#pragma once

#include <signal.h>
#include <termios.h>

#include "base/types.h"

struct tty {
    int fd;
    bool keep_signals; /* Ctrl-c and Ctrl-z stay the host's */
    struct termios saved;
    volatile sig_atomic_t raw;
};

/* Remembers the terminal's state and goes raw; does nothing when `fd` is no terminal or we are
 * in the background. */
void tty_raw(struct tty *tty, int fd, bool keep_signals);
void tty_restore(struct tty *tty);
/* Raw again, after the process was stopped and continued. */
void tty_resume(struct tty *tty);
