/*
 * exchange KERNEL INITRD APPEND MEMORY_MIB CPUS SEED: boots a guest as `doppel run` does, and
 * puts another engine under a random one of its vCPUs every few milliseconds (law 1). Its
 * serial line is the terminal. The seed decides which engine comes when, but not between which
 * two instructions: that is the host's time.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/ensure.h"
#include "machine/vm.h"

#define MIN_MS        4
#define MAX_MS        150
#define MIN_EXCHANGES 30

struct test {
    struct vm *vm;
    unsigned cpus;
    int timer;
    u64 random;
    unsigned exchanges;
    bool failed;
};

static const struct engine *const choice[] = {&sim_engine, &bt_engine, &direct_engine};

static unsigned random_below(struct test *test, unsigned n)
{
    test->random = test->random * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((test->random >> 33) * n >> 31);
}

static void arm(struct test *test)
{
    long ns = (MIN_MS + (long)random_below(test, MAX_MS - MIN_MS)) * 1000000;
    ensure(timerfd_settime(test->timer, 0, &(struct itimerspec){.it_value = {.tv_nsec = ns}},
                           NULL) == 0);
}

static void tick(void *opaque, short revents)
{
    struct test *test = opaque;
    struct error err;
    u64 count;
    ensure(read(test->timer, &count, sizeof(count)) == sizeof(count));
    const struct engine *engine = choice[random_below(test, ARRAY_LEN(choice))];
    if (!engine->probe(&err))
        engine = &sim_engine;
    if (!vm_set_engine(test->vm, random_below(test, test->cpus), engine, &err)) {
        fprintf(stderr, "exchange: %s\n", err.text);
        test->failed = true;
        vm_leave(test->vm, "host-error");
    }
    test->exchanges++;
    arm(test);
}

int main(int argc, char **argv)
{
    struct log log = {.fd = 2};
    struct error err = {{0}};
    enum vm_failure failure;
    if (argc != 7)
        return 2;
    if (!bt_engine.probe(&err)) {
        fprintf(stderr, "exchange: skipped: no engine can run here but sim: %s\n", err.text);
        return 77;
    }
    const struct vm_config config = {
        .kernel = argv[1],
        .initrd = argv[2],
        .command_line = argv[3],
        .memory = strtoull(argv[4], NULL, 0) * MiB,
        .cpus = (unsigned)atoi(argv[5]),
        .n_serial = 1,
        .plugs.n_lines = 1,
        .plugs.lines[0].back = {.kind = CHAR_STDIO},
        .no_reboot = true,
        .log = &log,
    };
    struct test test = {.cpus = config.cpus, .random = strtoull(argv[6], NULL, 0)};
    test.vm = vm_create(&config, &failure, &err);
    if (!test.vm) {
        fprintf(stderr, "exchange: %s\n", err.text);
        return 1;
    }
    test.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct loop_source source = {
        .fd = test.timer, .events = POLLIN, .ready = tick, .opaque = &test};
    loop_add(vm_loop(test.vm), &source);
    arm(&test);
    struct vm_result result = vm_run(test.vm);
    loop_remove(vm_loop(test.vm), &source);
    vm_destroy(test.vm);
    close(test.timer);
    fprintf(stderr, "exchange: %u exchanges\n", test.exchanges);
    return test.failed || result.end != VM_POWER_OFF || test.exchanges < MIN_EXCHANGES;
}
