/*
 * Is a cell off the processor? Called as the guest's kernel changes address translations, while
 * the guest's vector state may be in the registers: so this is compiled with
 * -mgeneral-regs-only and calls nothing but the system.
 */
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/time.h"
#include "engine/direct/cell.h"

/* An honest cell is on its way to the futex when it reports: a few microseconds of its own
 * time, which on a loaded host it may get late. */
#define PARK_TIME     (300 * NS_PER_MS) /* of the processor's */
#define PARK_DEADLINE (60 * NS_PER_S)   /* of everybody's */
#define PARK_YIELDS   50

u64 cell_time(const struct cell *cell)
{
    /* The kernel's CPUCLOCK_SCHED of a process (include/linux/posix-timers.h). */
    return time_read((clockid_t)(~(unsigned)cell->pid << 3 | 2));
}

void cell_condemn(struct cell *cell)
{
    cell->dead = true;
    syscall(SYS_kill, cell->pid, SIGKILL);
    if (cell->mapper.pid > 0)
        syscall(SYS_kill, cell->mapper.pid, SIGKILL);
}

/* The task's call as /proc shows it: the kernel looks twice that the task stayed off the
 * processor meanwhile, else it says "running". */
static bool is_parked(const struct cell *cell, bool *gone)
{
    char line[sizeof(cell->waiting)];
    long n = syscall(SYS_pread64, cell->status, line, sizeof(line), 0);
    *gone = n <= 0;
    for (long i = 0; cell->waiting[i]; i++)
        if (i >= n || line[i] != cell->waiting[i])
            return false;
    return true;
}

bool cell_sleeps(const struct cell *cell)
{
    bool gone;
    return is_parked(cell, &gone);
}

/* SIGKILL takes hold when the task meets the kernel next: until then it may run. */
static void wait_end(const struct cell *cell)
{
    struct pollfd process = {.fd = cell->process, .events = POLLIN};
    while (syscall(SYS_poll, &process, 1, -1) != 1)
        ;
}

bool cell_verify(struct cell *cell)
{
    u64 until = 0, used = 0;
    bool gone;
    if (cell->parked || cell->dead)
        return cell->parked;
    for (unsigned i = 0; !is_parked(cell, &gone); i++) {
        if (!until) {
            until = time_read(CLOCK_MONOTONIC) + PARK_DEADLINE;
            used = cell_time(cell) + PARK_TIME;
        }
        if (gone || cell_time(cell) > used || time_read(CLOCK_MONOTONIC) > until) {
            cell_condemn(cell);
            wait_end(cell);
            return false;
        }
        if (i < PARK_YIELDS)
            syscall(SYS_sched_yield);
        else
            syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 50000}, NULL);
    }
    cell->parked = true;
    return true;
}
