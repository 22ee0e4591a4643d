/*
 * A drive whose medium can be exchanged, as its user's hand reaches it: a CD's tray, a floppy's
 * door. What is in it shows in its struct block, whose size is 0 without a medium.
 *
 * Threads: all under the board lock.
 */
#pragma once

#include "base/types.h"

struct tray {
    bool (*is_open)(void *drive);
    /* The guest has locked it: it does not open for the user but by force. */
    bool (*is_locked)(void *drive);
    void (*move)(void *drive, bool open);
    /* The eject button of one that is locked: the guest is told of the wish. */
    void (*press)(void *drive);
    /* The struct block has another medium, or none; nothing of the old one is under way. */
    void (*exchanged)(void *drive);
    void *drive;
    /* Set by the machine: it moved, by whomever. May be NULL. */
    void (*moved)(void *opaque, bool open);
    void *opaque;
};

static inline void tray_moved(const struct tray *tray, bool open)
{
    if (tray->moved)
        tray->moved(tray->opaque, open);
}
