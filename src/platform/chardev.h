/*
 * Between a device that is a stream of bytes (16550, debug console, virtio console), or a
 * monitor, and whatever is at the other end (terminal, file, socket, a test).
 *
 * The back end is made first and handed to the device's create function; the device then
 * fills the front half. Threads: all functions under the board lock.
 */
#pragma once

#include "base/types.h"

enum chardev_event {
    CHARDEV_OPENED,    /* somebody is at the other end now */
    CHARDEV_CLOSED,    /* nobody any more */
    CHARDEV_EMPTY,     /* all output was taken */
    CHARDEV_FOCUS_IN,  /* this one of those that share the line gets the input from now on */
    CHARDEV_FOCUS_OUT, /* another one does */
};

struct chardev {
    /* Back end: takes `len` bytes of output; never blocks, and drops what nobody reads. NULL:
     * output vanishes. */
    void (*write)(void *back, const u8 *data, size_t len);
    /* Back end: the device has room again after can_receive said 0; may be NULL. */
    void (*room)(void *back);
    /* Back end: bytes of output that the other end has not taken yet; may be NULL. */
    size_t (*queued)(const void *back);
    void *back;
    bool open;    /* somebody is at the other end */
    bool focused; /* gets the input when the machine starts */

    /* Front end: how many bytes the device takes now, and input for it: at most that many. */
    size_t (*can_receive)(void *front);
    void (*receive)(void *front, const u8 *data, size_t len);
    void (*event)(void *front, enum chardev_event event); /* may be NULL */
    bool outside; /* no part of the machine: gets input while the machine is stopped too */
    void *front;
};

static inline void chardev_write(struct chardev *chardev, const u8 *data, size_t len)
{
    if (chardev && chardev->write)
        chardev->write(chardev->back, data, len);
}

static inline void chardev_room(struct chardev *chardev)
{
    if (chardev && chardev->room)
        chardev->room(chardev->back);
}
