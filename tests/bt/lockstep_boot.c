/*
 * lockstep_boot KERNEL INITRD TUS [SECONDS]: boots a guest, on the lockstep engine for SLICE
 * TUs, then on bt alone for a while, and so on until so many TUs were compared or the time is
 * over: so it comes from the start to user code. Status 0: sim and bt agreed on all of them.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/monotonic.h"
#include "lockstep.h"
#include "machine/vm.h"
#include "platform/board.h"

#define SLICE 20000
#define TICK  5   /* ms: how often the engine's progress is looked at */
#define ALONE 150 /* ms */

struct test {
    struct vm *vm;
    const struct lockstep_counts *counts; /* of the slice; NULL: bt runs alone */
    struct lockstep_counts total;
    u64 limit, end; /* TUs; monotonic time */
    int timer;
};

static void arm(struct test *test, long ms)
{
    const struct itimerspec once = {.it_value.tv_nsec = ms * 1000000};
    ensure(timerfd_settime(test->timer, 0, &once, NULL) == 0);
}

static void set_engine(struct test *test, const struct engine *engine)
{
    struct error err;
    if (!vm_set_engine(test->vm, 0, engine, &err)) {
        fprintf(stderr, "lockstep: %s\n", err.text);
        exit(1);
    }
}

static void begin_slice(struct test *test)
{
    set_engine(test, &lockstep_engine);
    test->counts = lockstep_counts(vm_board(test->vm)->vcpus[0]);
    arm(test, TICK);
}

/* The vCPU is parked, or the machine has ended. */
static void add_slice(struct test *test)
{
    if (!test->counts)
        return;
    test->total.compared += test->counts->compared;
    test->total.insns += test->counts->insns;
    test->total.skipped += test->counts->skipped;
    test->total.failures += test->counts->failures;
    test->counts = NULL;
}

static void tick(void *opaque, short revents)
{
    struct test *test = opaque;
    u64 count;
    ensure(read(test->timer, &count, sizeof(count)) == sizeof(count));
    if (!test->counts) {
        begin_slice(test);
        return;
    }
    vm_hold(test->vm);
    bool done = test->counts->compared >= SLICE || test->counts->failures >= LOCKSTEP_FAILURES;
    if (done)
        add_slice(test);
    vm_release(test->vm);
    if (test->total.compared >= test->limit || test->total.failures >= LOCKSTEP_FAILURES ||
        monotonic_ns() >= test->end) {
        vm_leave(test->vm, "host-signal");
    } else if (done) {
        set_engine(test, &bt_engine);
        arm(test, ALONE);
    } else {
        arm(test, TICK);
    }
}

static int run(const struct vm_config *config, u64 limit, u64 seconds)
{
    struct error err = {{0}};
    enum vm_failure failure;
    struct test test = {.limit = limit, .end = UINT64_MAX};
    if (seconds)
        test.end = monotonic_ns() + seconds * 1000000000;
    test.vm = vm_create(config, &failure, &err);
    if (!test.vm) {
        fprintf(stderr, "lockstep: %s\n", err.text);
        return 1;
    }
    test.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct loop_source source = {
        .fd = test.timer, .events = POLLIN, .ready = tick, .opaque = &test};
    loop_add(vm_loop(test.vm), &source);
    begin_slice(&test);
    vm_run(test.vm);
    add_slice(&test);
    loop_remove(vm_loop(test.vm), &source);
    close(test.timer);
    vm_destroy(test.vm);
    printf("compared %llu TUs of %llu instructions, skipped %llu, failures %llu\n",
           (unsigned long long)test.total.compared, (unsigned long long)test.total.insns,
           (unsigned long long)test.total.skipped, (unsigned long long)test.total.failures);
    return test.total.failures || (test.total.compared < limit && monotonic_ns() < test.end) ||
           test.total.skipped > test.total.compared / 4;
}

int main(int argc, char **argv)
{
    struct log log = {.fd = 2};
    struct error err = {{0}};
    if (argc != 4 && argc != 5)
        return 2;
    if (access(argv[1], R_OK) || access(argv[2], R_OK) || !lockstep_engine.probe(&err)) {
        printf("SKIP: no guest (`make guests`), or the translator cannot run here\n");
        return 77;
    }
    const struct vm_config config = {
        .kernel = argv[1],
        .initrd = argv[2],
        .command_line = "console=ttyS0",
        .memory = 512 * MiB,
        .cpus = 1,
        .n_serial = 1,
        .plugs.n_lines = 1,
        .plugs.lines[0].back = {.kind = CHAR_STDIO},
        .no_reboot = true,
        .log = &log,
    };
    return run(&config, strtoull(argv[3], NULL, 0), argc == 5 ? strtoull(argv[4], NULL, 0) : 0);
}
