/* Reset control, see reset.h (PIIX3 data sheet, reset control register; PS/2 port 92h). */
#include "device/reset.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

#define PORT92_RESET BIT(0)
#define PORT92_A20   BIT(1)
#define RC_SRST      BIT(1) /* hard or soft, all the same to us */
#define RC_RCPU      BIT(2) /* the rise resets */

struct reset_control {
    struct device device;
    struct board *board;
    struct bus_region port92, rc;
    u8 port92_value, rc_value;
};

static u64 reset_read92(void *opaque, u64 offset, unsigned size)
{
    const struct reset_control *reset = opaque;
    return reset->port92_value;
}

static void reset_write92(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct reset_control *reset = opaque;
    bool rise = (value & PORT92_RESET) && !(reset->port92_value & PORT92_RESET);
    reset->port92_value = (u8)value;
    if (rise)
        board_ask(reset->board, BOARD_RESET, 0);
}

static const struct bus_ops reset_ops92 = {reset_read92, reset_write92};

static u64 reset_read_rc(void *opaque, u64 offset, unsigned size)
{
    const struct reset_control *reset = opaque;
    return reset->rc_value;
}

static void reset_write_rc(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct reset_control *reset = opaque;
    bool rise = (value & RC_RCPU) && !(reset->rc_value & RC_RCPU);
    reset->rc_value = value & (RC_SRST | RC_RCPU);
    if (rise)
        board_ask(reset->board, BOARD_RESET, 0);
}

static const struct bus_ops reset_ops_rc = {reset_read_rc, reset_write_rc};

static void reset_reset(void *device)
{
    struct reset_control *reset = device;
    reset->port92_value = PORT92_A20;
    reset->rc_value = 0;
}

static void reset_destroy(void *device)
{
    struct reset_control *reset = device;
    bus_remove(reset->board, &reset->port92);
    bus_remove(reset->board, &reset->rc);
    free(reset);
}

static const struct field reset_fields[] = {
    FIELD(struct reset_control, port92_value),
    FIELD(struct reset_control, rc_value),
};

static const struct device_class reset_class = {
    .name = "reset-control",
    .version = 1,
    .fields = reset_fields,
    .n_fields = ARRAY_LEN(reset_fields),
    .reset = reset_reset,
    .destroy = reset_destroy,
};

struct reset_control *reset_control_create(struct board *board)
{
    struct reset_control *reset = calloc(1, sizeof(*reset));
    ensure(reset);
    reset->board = board;
    reset->port92 = (struct bus_region){.name = "port92",
                                        .ops = &reset_ops92,
                                        .opaque = reset,
                                        .base = 0x92,
                                        .size = 1,
                                        .max_size = 1,
                                        .space = BUS_PIO};
    reset->rc = (struct bus_region){.name = "reset-control",
                                    .ops = &reset_ops_rc,
                                    .opaque = reset,
                                    .base = RESET_PORT,
                                    .size = 1,
                                    .max_size = 1,
                                    .space = BUS_PIO};
    bus_add(board, &reset->port92);
    bus_add(board, &reset->rc);
    device_add(board, &reset->device, &reset_class, reset);
    reset_reset(reset);
    return reset;
}
