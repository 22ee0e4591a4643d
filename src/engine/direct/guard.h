/*
 * Guards: execution breakpoints of the host's processor on the places of a code page where an
 * instruction would begin that must not run directly. With all of them guarded the page may be
 * executed: most such places are bytes in the middle of other instructions, and nobody jumps
 * there; who does stops before the instruction. There are four, so they are for pages that are
 * visited often.
 *
 * A copy of the page with other bytes in those places would do for any number of them, but who
 * reads it would read the copy; copies elsewhere (annex.h) cost more than breakpoints.
 *
 * They come from perf_event_open, which not every host allows: then there are none. A cell with
 * guards costs 2 us more each time that it is switched to.
 *
 * Threads: those of a cell belong to its vCPU's thread.
 */
#pragma once

#include <sys/types.h>

#include "base/types.h"

#define GUARDS       4
#define GUARD_VISITS 16

struct guards {
    struct guard {
        int fd;      /* 0: none yet */
        u64 page;    /* whose it is; 0: nobody's, and it may stand anywhere */
        u64 address; /* where it stops */
        u64 age;
    } guard[GUARDS];
    struct visit {
        u64 page;
        unsigned n;
    } visits[GUARD_VISITS];
    u64 clock;
    bool refused; /* by the host */
};

/* Code in that page was wanted again. Has it been often enough for guards? */
bool guards_wanted(struct guards *guards, u64 page);
/* It needs too many, so it is not to be asked for again while it is remembered. */
void guards_never(struct guards *guards, u64 page);
/* The page whose guards are the oldest, if fewer than `n` are nobody's; 0: there are enough. */
u64 guards_victim(const struct guards *guards, unsigned n);
/* The page, which must not be mapped to be executed any more, has none. */
void guards_release(struct guards *guards, u64 page);
/* Makes `n` that are nobody's stop task `pid` at these offsets of the page. */
bool guards_place(struct guards *guards, pid_t pid, u64 page, const u16 *offsets, unsigned n);

void guards_close(struct guards *guards);
