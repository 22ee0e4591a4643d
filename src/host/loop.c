/* The event loop, see loop.h. */
#include "host/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/time.h"

/* Descriptors of the loop's own. */
#define OWN 2

bool loop_init(struct loop *loop, struct error *err)
{
    *loop = (struct loop){
        .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
    };
    if (loop->wake_fd >= 0 && loop->alarm_fd >= 0)
        return true;
    error_errno(err, "cannot make the descriptors of an event loop");
    loop_destroy(loop);
    return false;
}

static void close_one(int fd)
{
    if (fd >= 0)
        close(fd);
}

void loop_destroy(struct loop *loop)
{
    close_one(loop->wake_fd);
    close_one(loop->alarm_fd);
}

void loop_add(struct loop *loop, struct loop_source *source)
{
    source->next = loop->sources;
    loop->sources = source;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
    for (struct loop_source **at = &loop->sources; *at; at = &(*at)->next) {
        if (*at == source) {
            *at = source->next;
            return;
        }
    }
}

void loop_wake(struct loop *loop)
{
    u64 one = 1;
    /* Only a full counter can refuse, and then the loop wakes anyway. */
    if (write(loop->wake_fd, &one, sizeof(one)) < 0)
        return;
}

void loop_alarm(struct loop *loop, u64 ns)
{
    const struct itimerspec at = {.it_value = timespec_of(ns ? ns : 1)}; /* 0: never */
    ensure(!timerfd_settime(loop->alarm_fd, TFD_TIMER_ABSTIME, &at, NULL));
}

void loop_add_work(struct loop *loop, struct loop_work *work)
{
    work->next = loop->works;
    loop->works = work;
}

void loop_remove_work(struct loop *loop, struct loop_work *work)
{
    struct loop_work **at = &loop->works;
    while (*at && *at != work)
        at = &(*at)->next;
    if (*at)
        *at = work->next;
}

void loop_schedule(struct loop *loop, struct loop_work *work)
{
    atomic_store(&work->pending, true);
    loop_wake(loop);
}

/* What one of them schedules waits for the next turn. */
static void run_works(struct loop *loop)
{
    for (struct loop_work *work = loop->works, *next; work; work = next) {
        next = work->next;
        if (atomic_exchange(&work->pending, false))
            work->run(work->opaque);
    }
}

static bool loop_has(const struct loop *loop, const struct loop_source *source)
{
    for (const struct loop_source *at = loop->sources; at; at = at->next)
        if (at == source)
            return true;
    return false;
}

/* Empties a counter of wake-ups or expiries. */
static void take(const struct pollfd *counter)
{
    u64 count;
    if (counter->revents && read(counter->fd, &count, sizeof(count)) < 0)
        ensure(errno == EAGAIN);
}

static void wait_for_sources(struct loop *loop, u64 ns)
{
    struct pollfd fds[LOOP_MAX_SOURCES + OWN];
    struct loop_source *sources[LOOP_MAX_SOURCES + OWN];
    unsigned n = 0;
    fds[n++] = (struct pollfd){.fd = loop->wake_fd, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = loop->alarm_fd, .events = POLLIN};
    for (struct loop_source *source = loop->sources; source; source = source->next) {
        ensure(n < LOOP_MAX_SOURCES + OWN);
        sources[n] = source;
        fds[n++] =
            (struct pollfd){.fd = source->events ? source->fd : -1, .events = source->events};
    }
    const struct timespec timeout = timespec_of(ns);
    int ready = ppoll(fds, n, ns == UINT64_MAX ? NULL : &timeout, NULL);
    if (ready <= 0) {
        ensure(ready == 0 || errno == EINTR);
        return;
    }
    take(&fds[0]);
    take(&fds[1]);
    for (unsigned i = OWN; i < n; i++)
        if (fds[i].revents && loop_has(loop, sources[i]))
            sources[i]->ready(sources[i]->opaque, fds[i].revents);
}

void loop_wait(struct loop *loop, u64 ns)
{
    wait_for_sources(loop, ns);
    run_works(loop);
}
