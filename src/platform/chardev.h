/*
 * Between a device that is a stream of bytes (16550, debug console, virtio console) and
 * whatever is at the other end (terminal, file, socket, a test).
 *
 * The back end is made first and handed to the device's create function; the device then
 * fills the front half. Threads: all four under the board lock.
 */
#pragma once

#include "base/types.h"

struct chardev {
    /* Back end: takes `len` bytes of output; never blocks, and drops what nobody reads. NULL:
     * output vanishes. */
    void (*write)(void *back, const u8 *data, size_t len);
    /* Back end: the device has room again after can_receive said 0; may be NULL. */
    void (*room)(void *back);
    void *back;

    /* Front end: how many bytes the device takes now, and input for it: at most that many. */
    size_t (*can_receive)(void *front);
    void (*receive)(void *front, const u8 *data, size_t len);
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
