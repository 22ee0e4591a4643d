/* The debug exit and the debug console: no state, so nothing to save. See debug.h. */
#include "device/debug.h"

#include <stdlib.h>

#include "base/ensure.h"
#include "platform/device.h"

struct debug_exit {
    struct device device;
    struct board *board;
    struct bus_region region;
};

static u64 debug_exit_read(void *opaque, u64 offset, unsigned size)
{
    return 0;
}

static void debug_exit_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct debug_exit *debug = opaque;
    board_ask(debug->board, BOARD_EXIT, (int)(u32)(value << 1 | 1));
}

static const struct bus_ops debug_exit_ops = {debug_exit_read, debug_exit_write};

static void debug_exit_destroy(void *device)
{
    struct debug_exit *debug = device;
    bus_remove(debug->board, &debug->region);
    free(debug);
}

static const struct device_class debug_exit_class = {
    .name = "debug-exit",
    .version = 1,
    .destroy = debug_exit_destroy,
};

struct debug_exit *debug_exit_create(struct board *board, u16 base, u16 size)
{
    struct debug_exit *debug = calloc(1, sizeof(*debug));
    ensure(debug);
    debug->board = board;
    debug->region = (struct bus_region){.name = "debug-exit",
                                        .ops = &debug_exit_ops,
                                        .opaque = debug,
                                        .base = base,
                                        .size = size,
                                        .max_size = 4,
                                        .space = BUS_PIO};
    bus_add(board, &debug->region);
    device_add(board, &debug->device, &debug_exit_class, debug);
    return debug;
}

struct debug_console {
    struct device device;
    struct board *board;
    struct chardev *chardev;
    struct bus_region region;
};

static u64 debug_console_read(void *opaque, u64 offset, unsigned size)
{
    return 0xe9;
}

static void debug_console_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    const struct debug_console *debug = opaque;
    u8 c = (u8)value;
    chardev_write(debug->chardev, &c, 1);
}

static const struct bus_ops debug_console_ops = {debug_console_read, debug_console_write};

static void debug_console_destroy(void *device)
{
    struct debug_console *debug = device;
    bus_remove(debug->board, &debug->region);
    free(debug);
}

static const struct device_class debug_console_class = {
    .name = "debug-console",
    .version = 1,
    .destroy = debug_console_destroy,
};

struct debug_console *debug_console_create(struct board *board, u16 base,
                                           struct chardev *chardev)
{
    struct debug_console *debug = calloc(1, sizeof(*debug));
    ensure(debug);
    debug->board = board;
    debug->chardev = chardev;
    debug->region = (struct bus_region){.name = "debug-console",
                                        .ops = &debug_console_ops,
                                        .opaque = debug,
                                        .base = base,
                                        .size = 1,
                                        .max_size = 1,
                                        .space = BUS_PIO};
    bus_add(board, &debug->region);
    device_add(board, &debug->device, &debug_console_class, debug);
    return debug;
}
