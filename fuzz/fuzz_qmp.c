/*
 * A hostile client of the control socket: bytes that become pieces of commands, their arguments
 * and plain noise. The machine behind it is one for all inputs; its guest spins.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ensure.h"
#include "control/control.h"
#include "control/qmp.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define LOAD 0x200000

/* Files that commands may write are where nothing stays. */
static const char *const pieces[] = {
    "{\"execute\": \"",
    "\"}",
    "\", \"arguments\": {",
    "}}",
    "\"id\": 1, ",
    "{'execute': 'human-monitor-command', 'arguments': {'command-line': '",
    "'}}",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u",
    "\xff",
    "\n",
    /* Whole ones, after what gives a clean start. */
    ("\xff\n{'execute': 'memsave', 'arguments': {'filename': '/dev/null', 'val': 4096, 'size': "
     "99}}"),
    "\xff\n{'execute': 'human-monitor-command', 'arguments': {'command-line': 'x /4xg $pc'}}",
    "\xff\n{'execute': 'human-monitor-command', 'arguments': {'command-line': 'xp /",
    "\xff\n{'execute': 'send-key', 'arguments': {'keys': [{'type': 'qcode', 'data': 'a'}]}}",
    "\xff\n{'execute': 'stop'}",
    "\xff\n{'execute': 'cont'}",
    "qmp_capabilities",
    "query-status",
    "query-commands",
    "query-block",
    "query-chardev",
    "query-cpus-fast",
    "stop",
    "cont",
    "system_reset",
    "system_powerdown",
    "send-key",
    "memsave",
    "pmemsave",
    "balloon",
    "screendump",
    "inject-nmi",
    "\"keys\": [{\"type\": \"qcode\", \"data\": \"ret\"}], ",
    "\"hold-time\": ",
    "\"val\": ",
    "\"size\": ",
    "\"value\": ",
    "\"cpu-index\": ",
    "\"filename\": \"/dev/null\"",
    "\"format\": \"png\", ",
    "4096, ",
    "-1",
    "9223372036854775807",
    "info registers",
    "info mem",
    "info tlb",
    "info ",
    "x /",
    "xp /",
    "4xg ",
    "9i ",
    "$pc",
    "(",
    "print ",
    "sendkey ctrl-alt-",
    "cpu 1",
    "gva2gpa ",
};

static void swallow(void *opaque, const char *text, size_t len)
{
    *(u64 *)opaque += len;
}

static struct vm *make_machine(void)
{
    static const u8 spin[] = {0xeb, 0xfe};
    const u32 header[8] = {0x1badb002, 1 << 16,  -(0x1badb002u + (1 << 16)), LOAD, LOAD, 0,
                           0,          LOAD + 32};
    static struct log log = {.fd = 2};
    char path[] = "/tmp/doppel-fuzz-XXXXXX";
    struct error err;
    enum vm_failure failure;
    int fd = mkstemp(path);
    ensure(fd >= 0 && write(fd, header, sizeof(header)) == sizeof(header) &&
           write(fd, spin, sizeof(spin)) == sizeof(spin));
    close(fd);
    const struct vm_config config = {
        .kernel = path,
        .command_line = "",
        .memory = 16 * MiB,
        .cpus = 2,
        .log = &log,
    };
    struct vm *made = vm_create(&config, &failure, &err);
    unlink(path);
    ensure(made);
    return made;
}

static struct vm *vm;

static void end(void)
{
    vm_destroy(vm);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    if (!vm) {
        vm = make_machine();
        atexit(end);
    }
    const struct control_config config = {.version = "fuzz"};
    struct control *control = control_create(vm, &config);
    u64 said = 0;
    struct qmp qmp = {.control = control, .send = swallow, .opaque = &said};
    static const char hello[] = "{\"execute\": \"qmp_capabilities\"}";
    qmp_greet(&qmp);
    qmp_feed(&qmp, (const u8 *)hello, strlen(hello));
    for (size_t i = 0; i < size; i++) {
        const u8 *piece = &data[i];
        size_t len = 1;
        if (data[i] / 2 < ARRAY_LEN(pieces)) {
            piece = (const u8 *)pieces[data[i] / 2];
            len = strlen(pieces[data[i] / 2]);
        }
        while (len) {
            size_t took = qmp_feed(&qmp, piece, len);
            piece += took;
            len -= took;
        }
    }
    qmp_free(&qmp);
    control_destroy(control);
    vm_pause(vm);
    return 0;
}
