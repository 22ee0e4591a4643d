/*
 * The event loop of a VM's main thread: file descriptors, one deadline, and a wake-up that any
 * thread may send.
 *
 * Threads: everything but loop_wake, loop_alarm and loop_schedule belongs to the thread that
 * runs the loop.
 * Callbacks run in that thread without locks held; they may add and remove sources, their own
 * too.
 */
#pragma once

#include "base/error.h"
#include "base/types.h"

/* A watched descriptor; the owner keeps the memory while it is added. */
struct loop_source {
    int fd;
    short events; /* POLLIN, POLLOUT; 0 rests; the owner may change it at any time */
    void (*ready)(void *opaque, short revents);
    void *opaque;
    struct loop_source *next;
};

/* Something to do in the loop's thread without locks, asked for by any thread. The owner keeps
 * the memory while it is added. */
struct loop_work {
    void (*run)(void *opaque);
    void *opaque;
    _Atomic bool pending;
    struct loop_work *next;
};

struct loop {
    int wake_fd, alarm_fd;
    struct loop_source *sources;
    struct loop_work *works;
};

#define LOOP_MAX_SOURCES 64

bool loop_init(struct loop *loop, struct error *err);
void loop_destroy(struct loop *loop);

void loop_add(struct loop *loop, struct loop_source *source);
void loop_remove(struct loop *loop, struct loop_source *source);

/* Makes loop_wait return soon; any thread, and signal handlers. */
void loop_wake(struct loop *loop);

/* Makes loop_wait return at `ns` of CLOCK_MONOTONIC instead of the last such time, at once if
 * it is past; any thread. Unlike a wake-up it does not run the loop to tell it. */
void loop_alarm(struct loop *loop, u64 ns);

void loop_add_work(struct loop *loop, struct loop_work *work);
void loop_remove_work(struct loop *loop, struct loop_work *work);
/* Makes the loop run it soon, once however often it is asked; any thread and lock. */
void loop_schedule(struct loop *loop, struct loop_work *work);

/* Waits for a descriptor, an alarm or a wake-up, at most `ns` nanoseconds (UINT64_MAX: for
 * ever), and runs the callbacks of what is ready. */
void loop_wait(struct loop *loop, u64 ns);
