/*
 * A stopped machine stands still: whatever arrives from outside meanwhile, guest memory, device
 * state and virtual time do not change; and it goes on where it stopped.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/vm.h"
#include "platform/device.h"
#include "platform/ram.h"
#include "tiny.h"

#define COUNTER 0x300000
#define TICK    10000000 /* ns */

/* Counts in memory until the serial line has a byte, and gives that to the debug exit. */
static const u8 code[] = {
    0x66, 0xba, 0xfd, 0x03,             /* mov $0x3fd,%dx */
    0xff, 0x05, 0x00, 0x00, 0x30, 0x00, /* incl COUNTER */
    0xec, 0xa8, 0x01, 0x74, 0xf5,       /* in %dx,%al; test $1,%al; jz incl */
    0x66, 0xba, 0xf8, 0x03, 0xec,       /* mov $0x3f8,%dx; in %dx,%al */
    0xe6, 0xf4, 0xeb, 0xfe,             /* out %al,$0xf4; jmp . */
};

enum step { START, STOPPED, RUNS_AGAIN };

struct test {
    struct vm *vm;
    char socket[64];
    int client, timer;
    enum step step;
    unsigned turns; /* of the timer in this step */
    u32 counter;
    u64 time;
    struct device_buffer devices;
    unsigned stops, resumes;
};

static u32 counter(struct test *test)
{
    u32 value;
    assert_true(ram_read(vm_board(test->vm), gpa(COUNTER), &value, sizeof(value)));
    return value;
}

static struct device_buffer save(struct test *test)
{
    struct device_buffer buffer = {0};
    struct board *board = vm_board(test->vm);
    board_lock(board);
    for (struct device *device = board->devices; device; device = device->next)
        device_save(device, &buffer);
    board_unlock(board);
    return buffer;
}

static void start(struct test *test)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!counter(test))
        return;
    strcpy(address.sun_path, test->socket);
    test->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(test->client, (const struct sockaddr *)&address, sizeof(address)),
                     0);
    vm_pause(test->vm);
    assert_int_equal(vm_state(test->vm), VM_STATE_PAUSED);
    test->counter = counter(test);
    test->time = clock_now(&vm_board(test->vm)->clock);
    test->devices = save(test);
    assert_int_equal(write(test->client, "!", 1), 1);
    test->turns = 0;
    test->step = STOPPED;
}

static void stopped(struct test *test)
{
    if (test->turns < 20)
        return;
    struct device_buffer devices = save(test);
    assert_int_equal(counter(test), test->counter);
    assert_int_equal(clock_now(&vm_board(test->vm)->clock), test->time);
    assert_int_equal(devices.len, test->devices.len);
    assert_memory_equal(devices.data, test->devices.data, devices.len);
    device_buffer_free(&devices);
    device_buffer_free(&test->devices);
    test->step = RUNS_AGAIN;
    assert_true(vm_continue(test->vm));
}

/* Every 10 ms of the host's time: the machine's own timers stand while it is stopped. */
static void tick(void *opaque, short revents)
{
    struct test *test = opaque;
    static void (*const steps[])(struct test * test) = {[START] = start, [STOPPED] = stopped};
    u64 count;
    assert_int_equal(read(test->timer, &count, sizeof(count)), sizeof(count));
    test->turns++;
    if (test->step < ARRAY_LEN(steps))
        steps[test->step](test);
}

static void watch(void *opaque, const struct vm_event *event)
{
    struct test *test = opaque;
    test->stops += event->kind == VM_EVENT_STOP;
    test->resumes += event->kind == VM_EVENT_RESUME;
}

static void test_stands_still(void **state)
{
    struct log log = {.fd = 2};
    struct error err = {{0}};
    enum vm_failure failure;
    struct test test = {.client = -1};
    char directory[] = "/tmp/doppel-test-XXXXXX";
    char kernel[64];
    assert_non_null(mkdtemp(directory));
    snprintf(kernel, sizeof(kernel), "%s/kernel", directory);
    snprintf(test.socket, sizeof(test.socket), "%s/serial", directory);
    tiny_write(kernel, code, sizeof(code));
    struct vm_config config = {
        .kernel = kernel,
        .command_line = "",
        .memory = 16 * MiB,
        .cpus = 2,
        .debug_exit = true,
        .debug_exit_base = 0xf4,
        .debug_exit_size = 4,
        .n_serial = 1,
        .plugs.n_lines = 1,
        .plugs.lines[0].back = {.kind = CHAR_SOCKET, .server = true},
        .log = &log,
    };
    strcpy(config.plugs.lines[0].back.path, test.socket);
    test.vm = vm_create(&config, &failure, &err);
    if (!test.vm)
        fail_msg("%s", err.text);
    struct vm_watcher watcher = {.event = watch, .opaque = &test};
    vm_watch(test.vm, &watcher);
    test.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    const struct itimerspec every = {.it_interval.tv_nsec = TICK, .it_value.tv_nsec = TICK};
    timerfd_settime(test.timer, 0, &every, NULL);
    struct loop_source source = {
        .fd = test.timer, .events = POLLIN, .ready = tick, .opaque = &test};
    loop_add(vm_loop(test.vm), &source);

    struct vm_result result = vm_run(test.vm);
    assert_int_equal(result.end, VM_DEBUG_EXIT);
    assert_int_equal(result.status, '!' << 1 | 1);
    assert_int_equal(test.stops, 1);
    assert_int_equal(test.resumes, 2); /* the first is the start */
    loop_remove(vm_loop(test.vm), &source);
    vm_destroy(test.vm);
    close(test.timer);
    close(test.client);
    unlink(kernel);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
