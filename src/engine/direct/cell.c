/* Cells, see cell.h. */
#include "engine/direct/cell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/monotonic.h"
#include "engine/direct/filter.h"

#define KICK_SIGNAL SIGUSR1

/* Nothing of ours takes so long, on a loaded host either; what fails ends the cell at once. */
#define START_DEADLINE (60 * NS_PER_S)
#define KICK_DEADLINE  NS_PER_S
#define WATCH_PERIOD   (20 * NS_PER_MS) /* how often a waiting monitor looks at deadlines */

/* What the set-up scripts point to, in the stub's page behind the stub. */
struct setup {
    struct {
        u64 handler, flags, restorer, mask;
    } action; /* the kernel's struct sigaction */
    struct {
        u64 sp;
        u32 flags, gap;
        u64 size;
    } stack; /* stack_t */
    struct program {
        u16 n;
        u16 gap[3];
        u64 code;
    } cell, mapper; /* struct sock_fprog */
    struct sock_filter cell_code[FILTER_MAX], mapper_code[FILTER_MAX];
};
#define SETUP_OFFSET (PAGE_SIZE - sizeof(struct setup))

static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, KICK_SIGNAL};

static long futex(_Atomic u32 *word, int what, u32 value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, what, value, timeout, NULL, 0);
}

/* -- Filling the block --------------------------------------------------------------------- */

static u64 control_address(u64 base, unsigned field)
{
    return base + CELL_CONTROL_PAGE * PAGE_SIZE + field;
}

static u64 stub_address(u64 base, const u8 *place)
{
    return base + (u64)(place - cell_stub);
}

static void put_program(struct program *program, struct sock_filter *code,
                        const struct filter *filter, u64 address)
{
    memcpy(code, filter->code, filter->n * sizeof(*code));
    *program = (struct program){.n = filter->n, .code = address};
}

static void fill_setup(struct setup *s, u64 base, bool narrow)
{
    u64 here = base + SETUP_OFFSET;
    struct filter filter;
    s->action.handler = stub_address(base, cell_stub_handler);
    s->action.restorer = stub_address(base, cell_stub_gadget);
    s->action.flags = SA_SIGINFO | SA_ONSTACK | 0x04000000; /* SA_RESTORER */
    s->action.mask = ~0ull;
    s->stack.sp = base + CELL_STACK_PAGE * PAGE_SIZE;
    s->stack.flags = 1u << 31; /* SS_AUTODISARM */
    s->stack.size = (CELL_TABLE_PAGE - CELL_STACK_PAGE) * PAGE_SIZE;
    filter_cell(&filter, control_address(base, CONTROL_TURN),
                control_address(base, CONTROL_MTURN),
                narrow ? control_address(base, CONTROL_TLS) : 0);
    put_program(&s->cell, s->cell_code, &filter, here + offsetof(struct setup, cell_code));
    filter_mapper(&filter, base + CELL_ORDERS_PAGE * PAGE_SIZE,
                  control_address(base, CONTROL_TURN));
    put_program(&s->mapper, s->mapper_code, &filter,
                here + offsetof(struct setup, mapper_code));
}

/* The cell's own set-up, in an order that matters: the mapper is cloned while there are
 * descriptors and no handlers; Syscall User Dispatch comes last but for the filter, which then
 * comes through the gadget. */
static void fill_script(struct order *to, u64 base, bool narrow)
{
    const u8 *last = narrow ? cell_stub_legacy_end : cell_stub_gadget_end;
    u64 setup = base + SETUP_OFFSET, behind = base + CELL_PAGES * PAGE_SIZE;
    struct order *o = to;
    *o++ = (struct order){SYS_set_tid_address, {control_address(base, CONTROL_MTURN)}};
    *o++ = (struct order){
        SYS_clone, {CLONE_VM | CLONE_PARENT_SETTID, 0, control_address(base, CONTROL_MAPPER)}};
    *o++ = (struct order){SYS_close_range, {0, ~0u, 0}};
    *o++ = (struct order){SYS_munmap, {0, base}};
    *o++ = (struct order){SYS_munmap, {behind, CELL_TASK_END - behind}};
    *o++ = (struct order){SYS_sigaltstack, {setup + offsetof(struct setup, stack), 0}};
    for (unsigned i = 0; i < ARRAY_LEN(caught); i++)
        *o++ = (struct order){
            SYS_rt_sigaction,
            {(u64)caught[i], setup + offsetof(struct setup, action), 0, sizeof(u64)}};
    *o++ = (struct order){SYS_prctl,
                          {PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON,
                           stub_address(base, cell_stub_gadget_end),
                           (u64)(last - cell_stub_gadget_end) + 1, 0}};
    *o++ = (struct order){SYS_seccomp,
                          {SECCOMP_SET_MODE_FILTER, 0, setup + offsetof(struct setup, cell)}};
    o->number = (u64)SCRIPT_END;
    ensure(o - to < SCRIPT_MAX);
}

/* The mapper's first batch. It has its descriptors from the zygote, and blocks all signals. */
static void fill_mapper(struct mapper *mapper, u64 base)
{
    const struct order orders[] = {
        {SYS_seccomp,
         {SECCOMP_SET_MODE_FILTER, 0, base + SETUP_OFFSET + offsetof(struct setup, mapper)}},
    };
    for (unsigned i = 0; i < ARRAY_LEN(orders); i++)
        mapper_order(mapper, &orders[i]);
}

static void fill(struct cell *cell)
{
    u64 base = cell->place.base;
    u64 stub_size = (u64)(cell_stub_end - cell_stub);
    ensure(stub_size <= SETUP_OFFSET);
    memcpy(cell->place.block, cell_stub, stub_size);
    fill_setup((struct setup *)(cell->place.block + SETUP_OFFSET), base, cell->narrow);
    struct orders *orders = cell->mapper.orders;
    for (unsigned i = 0; i < ARRAY_LEN(orders->value); i++)
        orders->value[i] = i + 1;
    fill_script(orders->script, base, cell->narrow);
    fill_mapper(&cell->mapper, base);
    snprintf(cell->waiting, sizeof(cell->waiting), "%d 0x%llx 0x0 0x0 0x0 ", SYS_futex,
             (unsigned long long)control_address(base, CONTROL_TURN));
}

/* -- Waiting ------------------------------------------------------------------------------- */

static bool is_dead(const struct cell *cell)
{
    struct pollfd process = {.fd = cell->process, .events = POLLIN};
    return poll(&process, 1, 0) != 0;
}

static void send_kick(const struct cell *cell)
{
    syscall(SYS_tgkill, cell->pid, cell->pid, KICK_SIGNAL);
}

/* A cell that does not answer a kick may have got no processor since, on a loaded host: late is
 * one that used so much of it, or sleeps. *used: at the first look since the kick; at first 0.
 * Who kicked may have lost his processor before the signal: so it is sent again then. */
static bool too_late(const struct cell *cell, u64 until, u64 *used)
{
    u64 time = monotonic_ns(), kicked = atomic_load(&cell->kicked);
    if (!kicked || time > until)
        return time > until;
    if (!*used) {
        send_kick(cell);
        *used = cell_time(cell);
    }
    return time > kicked + cell->deadline &&
           (cell_sleeps(cell) || cell_time(cell) > *used + cell->deadline);
}

static void wake(struct cell *cell)
{
    futex(&cell->control->turn, FUTEX_WAKE, 1, NULL);
}

/* False: the mapper is lost. */
static bool take_report(struct cell *cell)
{
    bool due = cell->mapping;
    cell->mapping = false;
    return !due || mapper_wait(&cell->mapper) >= 0;
}

/* A mapper that was to wake the cell has not if the host refused a mapping: the cell then runs
 * without, for it finds out, and so do we (cell_run). An answer to a kick is not late before
 * the cell's turn. */
static bool see_mapper(struct cell *cell)
{
    if (!take_report(cell))
        return false;
    wake(cell);
    if (atomic_load(&cell->kicked))
        atomic_store(&cell->kicked, monotonic_ns());
    return true;
}

/* The monitor waits for a while. False: in vain. */
static bool goes_on(struct cell *cell, u64 until, u64 *used)
{
    if (is_dead(cell))
        return false;
    if (!cell->mapping)
        return !too_late(cell, until, used);
    return mapper_is_done(&cell->mapper) ? see_mapper(cell) : !mapper_is_gone(&cell->mapper);
}

/* Until the cell says that it has stopped. False: it is dead, or late. */
static bool wait_turn(struct cell *cell, u64 until)
{
    struct control *control = cell->control;
    const struct timespec period = timespec_of(WATCH_PERIOD);
    u64 used = 0;
    for (unsigned i = 0; i < MONITOR_YIELDS && !atomic_load(&control->mturn); i++)
        sched_yield();
    while (!atomic_load(&control->mturn)) {
        atomic_store(&control->monitor_asleep, 1);
        futex(&control->mturn, FUTEX_WAIT, 0, &period);
        atomic_store(&control->monitor_asleep, 0);
        /* While it is looked at, or this thread has no processor, it may answer, and sleep. */
        if (!atomic_load(&control->mturn) && !goes_on(cell, until, &used))
            return atomic_load(&control->mturn);
    }
    return true;
}

/* From the mapper to the cell: a switch less than by way of the monitor. A cell that is not
 * asleep yet does not wait for the mappings, and stops for them once more. */
static void wake_by_mapper(struct cell *cell)
{
    const struct order order = {
        SYS_futex, {control_address(cell->place.base, CONTROL_TURN), FUTEX_WAKE, 1}};
    ensure(mapper_only_adds(&cell->mapper));
    mapper_order(&cell->mapper, &order);
    mapper_start(&cell->mapper);
    cell->mapping = true;
}

static void give_turn(struct cell *cell)
{
    struct control *control = cell->control;
    atomic_store(&control->mturn, 0);
    atomic_store(&control->turn, 1);
    if (cell->mapper.n)
        wake_by_mapper(cell);
    else if (atomic_load(&control->cell_asleep))
        wake(cell);
}

/* Has the stub set what differs. Counted here: the guest can write where it is told. */
static void put_tls(struct cell *cell)
{
    struct control *control = cell->control;
    u32 n = 0;
    for (unsigned i = 0; cell->narrow && i < TLS_MAX; i++) {
        const struct tls *want = &cell->tls[i];
        if (cell->tls_unknown || memcmp(want, &cell->tls_set[i], sizeof(*want)) != 0)
            control->tls[n++] = cell->tls_set[i] = *want;
    }
    control->n_tls = n;
    cell->tls_unknown = false;
}

enum cell_end cell_run(struct cell *cell, struct x86_cpu *c, struct stop *stop)
{
    ensure(!cell->dead);
    cell->parked = false;
    /* A kick that came after the last stop is still pending there, and will stop it again. */
    if (atomic_load(&cell->kicked))
        atomic_store(&cell->kicked, monotonic_ns());
    put_tls(cell);
    frame_write(&cell->place, c);
    give_turn(cell);
    bool stopped = wait_turn(cell, UINT64_MAX) && take_report(cell);
    atomic_store(&cell->kicked, 0);
    if (stopped && frame_take(&cell->place, c, stop))
        return CELL_STOPPED;
    cell_condemn(cell);
    return CELL_DEAD;
}

void cell_kick(struct cell *cell)
{
    u64 none = 0;
    atomic_compare_exchange_strong(&cell->kicked, &none, monotonic_ns());
    send_kick(cell);
}

/* -- Life ---------------------------------------------------------------------------------- */

static bool map_block(struct cell *cell, struct error *err)
{
    cell->block_file = memfd_create("doppel-cell", MFD_CLOEXEC);
    if (cell->block_file < 0 || ftruncate(cell->block_file, CELL_PAGES * PAGE_SIZE) < 0)
        return error_errno(err, "cannot make a cell's memory");
    void *block = mmap(NULL, CELL_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                       cell->block_file, 0);
    if (block == MAP_FAILED)
        return error_errno(err, "cannot map a cell's memory");
    cell->place.block = block;
    annex_init(&cell->annex, &cell->place);
    cell->control = (void *)(cell->place.block + CELL_CONTROL_PAGE * PAGE_SIZE);
    cell->mapper.orders = (void *)(cell->place.block + CELL_ORDERS_PAGE * PAGE_SIZE);
    return true;
}

static bool watch(struct cell *cell, struct error *err)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)cell->pid);
    cell->process = (int)syscall(SYS_pidfd_open, cell->pid, 0);
    cell->status = open(path, O_RDONLY | O_CLOEXEC);
    if (cell->process < 0 || cell->status < 0)
        return error_errno(err, "cannot watch a cell");
    return true;
}

static bool start(struct cell *cell, struct error *err)
{
    unsigned orders = cell->mapper.n;
    if (!wait_turn(cell, monotonic_ns() + START_DEADLINE))
        return error_set(err, "a cell cannot set itself up (Syscall User Dispatch, seccomp)");
    /* No guest code has run yet: the kernel's word. */
    cell->mapper.pid = (pid_t)cell->control->mapper;
    if (mapper_run(&cell->mapper) != (int)orders)
        return error_set(err, "a cell's mapper cannot set itself up");
    if (!cell_verify(cell))
        return error_set(err, "cannot see in /proc whether a cell is parked");
    return true;
}

bool cell_create(struct cell *cell, struct zygote *zygote, u64 base, bool narrow,
                 struct error *err)
{
    ensure(!narrow || base + CELL_PAGES * PAGE_SIZE <= NARROW_END);
    memset(cell, 0, sizeof(*cell));
    cell->zygote = zygote;
    cell->place.base = base;
    cell->narrow = cell->tls_unknown = narrow;
    for (unsigned i = 0; i < TLS_MAX; i++)
        cell->tls[i] = (struct tls){.entry = TLS_FIRST + i, .flags = TLS_EMPTY};
    cell->deadline = KICK_DEADLINE;
    cell->pid = cell->status = cell->process = cell->mapper.event = -1;
    cell->block_file = -1;
    bool good = map_block(cell, err);
    if (good) {
        fill(cell);
        cell->mapper.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        good = cell->mapper.event >= 0 || error_errno(err, "cannot make an event descriptor");
    }
    if (good) {
        cell->pid = zygote_fork(zygote, cell->block_file, cell->mapper.event, base, err);
        good = cell->pid > 0 && watch(cell, err) && start(cell, err);
    }
    if (!good)
        cell_destroy(cell);
    return good;
}

static void close_one(int fd)
{
    if (fd >= 0)
        close(fd);
}

void cell_destroy(struct cell *cell)
{
    if (cell->pid > 0) {
        cell_condemn(cell);
        zygote_reap(cell->zygote, cell->pid);
        if (cell->mapper.pid > 0)
            zygote_reap(cell->zygote, cell->mapper.pid);
    }
    if (cell->place.block)
        munmap(cell->place.block, CELL_PAGES * PAGE_SIZE);
    close_one(cell->block_file);
    close_one(cell->mapper.event);
    close_one(cell->status);
    close_one(cell->process);
    guards_close(&cell->guards);
    annex_free(&cell->annex);
    cell->pid = -1;
}
