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

/* A mapper makes only short system calls: one that is silent for so long is gone. */
#define DEADLINE_MS 5000

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

void mapper_unmap(struct mapper *mapper, u64 address, u64 pages)
{
    const struct order order = {SYS_munmap, {address, pages * PAGE_SIZE}};
    mapper_order(mapper, &order);
}

static bool wait_report(struct mapper *mapper, u64 *value)
{
    struct pollfd report = {.fd = mapper->event, .events = POLLIN};
    int ready;
    do
        ready = poll(&report, 1, DEADLINE_MS);
    while (ready < 0 && errno == EINTR);
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
