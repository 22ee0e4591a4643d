/* The monitor's end of a mapper, see mapper.h. */
#include "engine/direct/mapper.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/ensure.h"

/* A mapper makes only short system calls, but waits for a processor as everybody does. */
#define LOOK_MS 1000 /* how often one looks whether a silent one lives */
#define LOOKS   60

void mapper_order(struct mapper *mapper, const struct order *order)
{
    ensure(mapper->n < ORDERS_MAX);
    mapper->orders->list[mapper->n++] = *order;
}

void mapper_map(struct mapper *mapper, u64 address, u64 pages, u64 offset, int rights)
{
    u64 file = rights & PROT_WRITE ? MAPPER_WRITE : MAPPER_READ;
    const struct order order = {SYS_mmap,
                                {address, pages * PAGE_SIZE, (u64)rights,
                                 MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, offset}};
    mapper_order(mapper, &order);
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
}

static bool is_gone(const struct mapper *mapper)
{
    struct pollfd process = {.events = POLLIN};
    process.fd = (int)syscall(SYS_pidfd_open, mapper->pid, 0);
    if (process.fd < 0)
        return errno == ESRCH;
    bool gone = poll(&process, 1, 0) == 1;
    close(process.fd);
    return gone;
}

static bool wait_report(struct mapper *mapper, u64 *value)
{
    struct pollfd report = {.fd = mapper->event, .events = POLLIN};
    int ready;
    unsigned looks = 0;
    do
        ready = poll(&report, 1, LOOK_MS);
    while ((ready < 0 && errno == EINTR) ||
           (ready == 0 && ++looks < LOOKS && !is_gone(mapper)));
    return ready == 1 && read(mapper->event, value, sizeof(*value)) == sizeof(*value);
}

int mapper_run(struct mapper *mapper)
{
    struct orders *orders = mapper->orders;
    u64 value;
    if (!mapper->n)
        return 0;
    __atomic_store_n(&orders->n, mapper->n, __ATOMIC_RELAXED);
    /* The orders before the sequence number that starts them. */
    __atomic_store_n(&orders->sequence, orders->sequence + 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &orders->sequence, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    mapper->n = 0;
    if (mapper->batches)
        ++*mapper->batches;
    if (!wait_report(mapper, &value) || value == 0 || value > ORDERS_MAX + 1)
        return -1;
    return (int)value - 1;
}
