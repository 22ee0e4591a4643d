/*
 * What every device of one machine shares: the lock, the bus, the clock, guest memory, the log.
 *
 * The board lock is the one lock of the device world: each device register access, timer
 * callback and back-end completion runs under it, so devices need none of their own. vCPU
 * threads take it only for device accesses. It is not recursive. Lock order: board lock, then
 * anything of memory/.
 */
#pragma once

#include <pthread.h>

#include "base/log.h"
#include "platform/bus.h"
#include "platform/clock.h"

struct pmap;
struct vcpu;

/* What a device may ask of the machine as a whole; set by machine/, read by the main thread. */
enum board_request {
    BOARD_RUN,
    BOARD_RESET,     /* reset line: keyboard controller, port 92h, CF9h, reset register, triple
                        fault */
    BOARD_POWER_OFF, /* ACPI S5 */
    BOARD_EXIT,      /* debug exit: `exit_status` */
    BOARD_SHUTDOWN,  /* triple fault */
};

struct board {
    pthread_mutex_t lock;
    struct bus_region *regions[2]; /* by enum bus_space; newest first among overlapping */
    struct clock clock;
    struct pmap *pmap; /* guest RAM, see platform/ram.h */
    struct log *log;
    struct vcpu **vcpus;
    unsigned n_vcpus;
    /* Called under the board lock by a device; the machine acts on it outside any device. */
    void (*request)(void *opaque, enum board_request request, int exit_status);
    void *opaque;
};

void board_init(struct board *board, struct log *log);

static inline void board_lock(struct board *board)
{
    pthread_mutex_lock(&board->lock);
}
static inline void board_unlock(struct board *board)
{
    pthread_mutex_unlock(&board->lock);
}
