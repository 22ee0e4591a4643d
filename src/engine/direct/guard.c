/* Execution breakpoints, see guard.h. */
#include "engine/direct/guard.h"

#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/ensure.h"

/* Guards that change hands cost 20 us, a visit without them 12 and what is simulated. */
#define WANTED 8
#define NEVER  (~0u)

static struct visit *visit_of(struct guards *g, u64 page)
{
    return &g->visits[page >> PAGE_SHIFT & (GUARD_VISITS - 1)];
}

bool guards_wanted(struct guards *g, u64 page)
{
    struct visit *visit = visit_of(g, page);
    if (g->refused)
        return false;
    for (unsigned i = 0; i < GUARDS; i++) {
        if (g->guard[i].page == page)
            return true;
    }
    if (visit->page != page)
        *visit = (struct visit){.page = page};
    visit->n += visit->n != NEVER;
    return visit->n >= WANTED && visit->n != NEVER;
}

void guards_never(struct guards *g, u64 page)
{
    struct visit *visit = visit_of(g, page);
    if (visit->page == page)
        visit->n = NEVER;
}

u64 guards_victim(const struct guards *g, unsigned n)
{
    const struct guard *oldest = NULL;
    unsigned idle = 0;
    for (const struct guard *guard = g->guard; guard < g->guard + GUARDS; guard++) {
        idle += !guard->page;
        if (guard->page && (!oldest || guard->age < oldest->age))
            oldest = guard;
    }
    return idle >= n ? 0 : oldest->page;
}

void guards_release(struct guards *g, u64 page)
{
    for (struct guard *guard = g->guard; guard < g->guard + GUARDS; guard++) {
        if (guard->page == page)
            guard->page = 0;
    }
}

/* One that exists is moved: it stays where it was for nobody's harm, see direct.c. */
static bool place(struct guard *guard, pid_t pid, u64 address)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_BREAKPOINT,
        .size = sizeof(attr),
        .sample_period = 1,
        .bp_type = HW_BREAKPOINT_X,
        .bp_addr = address,
        .bp_len = sizeof(long),
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .sigtrap = 1,
        .remove_on_exec = 1,
    };
    if (guard->fd)
        return !ioctl(guard->fd, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr);
    long fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    guard->fd = fd > 0 ? (int)fd : 0;
    return fd > 0;
}

bool guards_place(struct guards *g, pid_t pid, u64 page, const u16 *offsets, unsigned n)
{
    g->clock++;
    for (unsigned i = 0; i < GUARDS && n; i++) {
        struct guard *guard = &g->guard[i];
        if (guard->page)
            continue;
        n--;
        if (!place(guard, pid, page + offsets[n])) {
            guards_release(g, page);
            g->refused = true;
            return false;
        }
        guard->page = page;
        guard->address = page + offsets[n];
        guard->age = g->clock;
    }
    ensure(!n);
    visit_of(g, page)->n = 0;
    return true;
}

void guards_close(struct guards *g)
{
    for (struct guard *guard = g->guard; guard < g->guard + GUARDS; guard++) {
        if (guard->fd)
            close(guard->fd);
    }
    *g = (struct guards){0};
}
