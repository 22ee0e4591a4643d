/* The user's terminal, see tty.h. */
#include "host/tty.h"

#include <unistd.h>

static void make_raw(struct tty *tty)
{
    struct termios raw = tty->saved;
    cfmakeraw(&raw);
    /* Our own messages end lines with \n alone; a guest's \r\n is not hurt by this. */
    raw.c_oflag |= OPOST;
    if (tty->keep_signals)
        raw.c_lflag |= ISIG;
    tty->raw = 1;
    tcsetattr(tty->fd, TCSANOW, &raw);
}

void tty_raw(struct tty *tty, int fd, bool keep_signals)
{
    tty->fd = fd;
    tty->keep_signals = keep_signals;
    if (!isatty(fd) || tcgetpgrp(fd) != getpgrp() || tcgetattr(fd, &tty->saved))
        return;
    make_raw(tty);
}

void tty_restore(struct tty *tty)
{
    if (!tty->raw)
        return;
    tcsetattr(tty->fd, TCSANOW, &tty->saved);
    tty->raw = 0;
}

void tty_resume(struct tty *tty)
{
    /* Whoever stopped us may have left other settings, but the ones to come back to are the
     * first. */
    if (tty->saved.c_cflag && !tty->raw && tcgetpgrp(tty->fd) == getpgrp())
        make_raw(tty);
}
