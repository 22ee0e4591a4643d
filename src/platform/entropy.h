/* Random numbers from outside the machine (law 5), for devices that hand them to the guest.
 * Threads: under the board lock. */
#pragma once

#include "base/types.h"

struct entropy {
    /* Fills the buffer; never fails. */
    void (*fill)(void *opaque, void *buf, size_t len);
    void *opaque;
};
