/* The monitor's end of a mapper, see mapper.h. */
#include "engine/direct/mapper.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/ensure.h"

/* A mapper makes only short system calls, but waits for a processor as everybody does. */
#define LOOK_MS 1000 /* how often one looks whether a silent one lives */
#define LOOKS   60

/* The host has no guest pages below (vm.mmap_min_addr) or from there on. */
#define FIRST_PLAIN MiB
#define LAST_PLAIN  (BIT(47) - MiB)

void mapper_order(struct mapper *mapper, const struct order *order)
{
    ensure(mapper->n < ORDERS_MAX);
    ensure(!mapper->running);
    mapper->orders->list[mapper->n++] = *order;
}

void mapper_map(struct mapper *mapper, u64 address, u64 pages, u64 offset, int rights)
{
    u64 file = rights & PROT_WRITE ? MAPPER_WRITE : MAPPER_READ;
    const struct order order = {SYS_mmap,
                                {address, pages * PAGE_SIZE, (u64)rights,
                                 MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, offset}};
    mapper_order(mapper, &order);
    mapper->waits |= rights & PROT_EXEC || address < FIRST_PLAIN || address >= LAST_PLAIN;
}

/* A process that gives memory back loses page after page: neighbours go in one order. */
static bool joins(const struct order *last, u64 address)
{
    return last->number == SYS_munmap && last->argument[0] + last->argument[1] == address;
}

void mapper_unmap(struct mapper *mapper, u64 address, u64 pages)
{
    struct order *list = mapper->orders->list;
    if (mapper->n && joins(&list[mapper->n - 1], address)) {
        list[mapper->n - 1].argument[1] += pages * PAGE_SIZE;
        return;
    }
    const struct order order = {SYS_munmap, {address, pages * PAGE_SIZE}};
    mapper_order(mapper, &order);
    mapper->waits = true;
}

bool mapper_is_gone(const struct mapper *mapper)
{
    struct pollfd process = {.events = POLLIN};
    process.fd = (int)syscall(SYS_pidfd_open, mapper->pid, 0);
    if (process.fd < 0)
        return errno == ESRCH;
    bool gone = poll(&process, 1, 0) == 1;
    close(process.fd);
    return gone;
}

static bool take_report(const struct mapper *mapper, u64 *value)
{
    return read(mapper->event, value, sizeof(*value)) == sizeof(*value);
}

bool mapper_is_done(const struct mapper *mapper)
{
    struct pollfd report = {.fd = mapper->event, .events = POLLIN};
    return poll(&report, 1, 0) == 1;
}

static bool wait_report(const struct mapper *mapper, u64 *value)
{
    struct pollfd report = {.fd = mapper->event, .events = POLLIN};
    int ready;
    unsigned looks = 0;
    do
        ready = poll(&report, 1, LOOK_MS);
    while ((ready < 0 && errno == EINTR) ||
           (ready == 0 && ++looks < LOOKS && !mapper_is_gone(mapper)));
    return ready == 1 && take_report(mapper, value);
}

void mapper_start(struct mapper *mapper)
{
    struct orders *orders = mapper->orders;
    __atomic_store_n(&orders->n, mapper->n, __ATOMIC_RELAXED);
    /* The orders before the sequence number that starts them. */
    __atomic_store_n(&orders->sequence, orders->sequence + 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &orders->sequence, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    mapper->running = mapper->n;
    mapper->n = 0;
    mapper->waits = false;
    if (mapper->batches)
        ++*mapper->batches;
}

int mapper_wait(struct mapper *mapper)
{
    u64 value, done = mapper->running + 1;
    mapper->running = 0;
    if ((!take_report(mapper, &value) && !wait_report(mapper, &value)) || value == 0 ||
        value > done)
        return -1;
    mapper->refused |= value < done;
    return (int)value - 1;
}

int mapper_run(struct mapper *mapper)
{
    if (!mapper->n)
        return 0;
    mapper_start(mapper);
    return mapper_wait(mapper);
}
