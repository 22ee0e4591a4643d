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
#include "platform/irq.h"

struct pmap;
struct vcpu;
struct device;

/* What a device may ask of the machine as a whole; set by machine/, read by the main thread. */
enum board_request {
    BOARD_RUN,
    BOARD_RESET,     /* reset line: keyboard controller, port 92h, CF9h, reset register, triple
                        fault */
    BOARD_POWER_OFF, /* ACPI S5 */
    BOARD_SLEEP,     /* ACPI S3 */
    BOARD_WAKE,      /* an event that ends S3 */
    BOARD_EXIT,      /* debug exit: `exit_status` */
    BOARD_SHUTDOWN,  /* triple fault */
};

/*
 * A back end that brings things from outside to a device (input, frames): while the machine is
 * stopped it keeps them, so that guest memory and device state stand still, and `opened` tells
 * it to go on. Under the board lock.
 */
struct board_gate {
    void (*opened)(void *opaque);
    void *opaque;
    struct board_gate *next;
};

struct board {
    pthread_mutex_t lock;
    bool stopped;             /* under the lock: nothing from outside may reach a device */
    struct board_gate *gates; /* under the lock */
    struct bus bus;
    struct clock clock;
    struct pmap *pmap; /* guest RAM, see platform/ram.h */
    struct log *log;
    struct vcpu **vcpus;
    unsigned n_vcpus;
    u64 tsc_hz;             /* what the guest's TSC counts in one second of virtual time */
    struct device *devices; /* in order of device_add, see device.h */
    /* Called under the board lock by a device; the machine acts on it outside any device. */
    void (*request)(void *opaque, enum board_request request, int exit_status);
    /*
     * The page's bytes were changed while PMAP_CODE stood in its entry: whatever was decoded or
     * translated from it must go, on every vCPU. Any thread, with or without the board lock:
     * it must not wait for a vCPU (one may be waiting for that lock); the architecture lets
     * another processor see new code as late as at its next serializing instruction (SDM
     * vol. 3, 8.1.3). May be NULL.
     */
    void (*code_written)(void *opaque, struct gfn f);
    void *opaque; /* of the two above */

    /* Locked accesses that one host instruction cannot do (across pages, to devices) exclude
     * each other, as on a bus with LOCK# asserted. Outermost. */
    pthread_mutex_t bus_lock;
    /* x87 errors with CR0.NE clear (SDM vol. 1, 8.7.1): the wire to IRQ 13, and IGNNE#, which a
     * write to port F0h asserts until FERR# falls. */
    struct irq_line ferr;
    bool ignne;

    /* Cross-vCPU work, see vcpu.h; innermost but for a vCPU's wait_lock. */
    pthread_mutex_t work_lock;
    pthread_cond_t work_cond; /* something was queued, done, or left the guest */
};

void board_init(struct board *board, struct log *log);
/* Destroys all devices, last added first; takes the board lock. What they used on the host is
 * closed between this and board_destroy. */
void board_destroy_devices(struct board *board);
/* Destroys the devices that there are, then the board's own locks. */
void board_destroy(struct board *board);

/* Closes the way from outside to the devices, and opens it again; under the board lock. */
void board_close(struct board *board);
void board_open(struct board *board);
/* The owner keeps the memory while it is added; these take the board lock. */
void board_add_gate(struct board *board, struct board_gate *gate);
void board_remove_gate(struct board *board, struct board_gate *gate);

/* Asks the machine for something; a board without a machine (tests) may leave it out. */
void board_ask(struct board *board, enum board_request request, int exit_status);

static inline void board_lock(struct board *board)
{
    pthread_mutex_lock(&board->lock);
}
static inline bool board_trylock(struct board *board)
{
    return !pthread_mutex_trylock(&board->lock);
}
static inline void board_unlock(struct board *board)
{
    pthread_mutex_unlock(&board->lock);
}
