/* Two machines in one process, each run by its own thread: nothing is shared by accident (law
 * 7). */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/vm.h"
#include "tiny.h"

#define LOOPS 200000

/* A multiboot image that adds the first letter behind its name in the command line to a counter
 * in memory LOOPS times and gives the sum, modulo 128, to the debug exit. */
static const u8 code[] = {
    0x8b, 0x73, 0x10,                         /* mov 16(%ebx),%esi: the command line */
    0xac, 0x3c, 0x20, 0x75, 0xfb,             /* lodsb; cmp $' ',%al; jne: its name's end */
    0x0f, 0xb6, 0x06,                         /* movzbl (%esi),%eax */
    0xb9, 0x40, 0x0d, 0x03, 0x00,             /* mov $LOOPS,%ecx */
    0x01, 0x05, 0x00, 0x00, 0x30, 0x00,       /* add %eax,0x300000 */
    0x49, 0x75, 0xf7,                         /* dec %ecx; jnz */
    0xa1, 0x00, 0x00, 0x30, 0x00, 0x24, 0x7f, /* mov 0x300000,%eax; and $0x7f,%al */
    0xe6, 0xf4, 0xeb, 0xfe,                   /* out %al,$0xf4; jmp . */
};

struct machine {
    const char *kernel;
    const char *words;
    struct vm_result result;
    struct error err;
    pthread_t thread;
};

static void *machine_main(void *opaque)
{
    struct machine *machine = opaque;
    struct log log = {.fd = 2};
    enum vm_failure failure;
    const struct vm_config config = {
        .kernel = machine->kernel,
        .command_line = machine->words,
        .memory = 16 * MiB,
        .cpus = 2,
        .no_reboot = true,
        .debug_exit = true,
        .debug_exit_base = 0xf4,
        .debug_exit_size = 4,
        .log = &log,
    };
    struct vm *vm = vm_create(&config, &failure, &machine->err);
    if (!vm)
        return NULL;
    machine->result = vm_run(vm);
    vm_destroy(vm);
    return machine;
}

static void test_two_machines(void **state)
{
    char path[] = "/tmp/doppel-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    tiny_write(path, code, sizeof(code));
    struct machine machines[] = {{.kernel = path, .words = "\x03"},
                                 {.kernel = path, .words = "\x05"},
                                 {.kernel = path, .words = "\x0b"}};
    for (unsigned i = 0; i < ARRAY_LEN(machines); i++)
        assert_int_equal(pthread_create(&machines[i].thread, NULL, machine_main, &machines[i]),
                         0);
    for (unsigned i = 0; i < ARRAY_LEN(machines); i++) {
        void *made;
        pthread_join(machines[i].thread, &made);
        if (!made)
            fail_msg("%s", machines[i].err.text);
    }
    unlink(path);
    for (unsigned i = 0; i < ARRAY_LEN(machines); i++) {
        int sum = (machines[i].words[0] * LOOPS) & 0x7f;
        assert_int_equal(machines[i].result.end, VM_DEBUG_EXIT);
        assert_int_equal(machines[i].result.status, sum << 1 | 1);
    }
}

/* Many one after the other: what a machine takes, it gives back. */
static unsigned open_files(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_gives_back(void **state)
{
    char path[] = "/tmp/doppel-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    tiny_write(path, code, sizeof(code));
    unsigned before = open_files();
    for (unsigned i = 0; i < 5; i++) {
        struct machine machine = {.kernel = path, .words = "\x01"};
        assert_non_null(machine_main(&machine));
        assert_int_equal(machine.result.end, VM_DEBUG_EXIT);
    }
    assert_int_equal(open_files(), before);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_machines),
        cmocka_unit_test(test_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
