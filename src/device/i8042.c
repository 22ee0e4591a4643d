/*
 * An 8042 keyboard controller (IBM PS/2 Hardware Interface Technical Reference, keyboard and
 * auxiliary device controller). Its own answers and the one byte that it has taken from a
 * device wait in a queue; what else the devices have to say stays with them, also while their
 * port is switched off. The controller answers at once, so its input buffer is never seen full.
 */
#include "device/i8042.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "device/scan_codes.h"
#include "platform/device.h"

#define STATUS_OBF     BIT(0)
#define STATUS_SYS     BIT(2)
#define STATUS_COMMAND BIT(3) /* the last write went to 64h */
#define STATUS_UNLOCK  BIT(4)
#define STATUS_AUX     BIT(5)
#define STATUS_TIMEOUT BIT(6)

#define CCB_IRQ(port)     (BIT(0) << (port))
#define CCB_SYS           BIT(2)
#define CCB_DISABLE(port) (BIT(4) << (port))
#define CCB_TRANSLATE     BIT(6)

#define OUTPUT_RESET BIT(0) /* low resets the processor */
#define OUTPUT_A20   BIT(1)
#define OUTPUT_OBF   BIT(4) /* bit 5: the auxiliary buffer */

#define QUEUE_SIZE 32
#define FROM_AUX   0x100
#define TIMED_OUT  0x200 /* the answer in place of a device that is not there */

struct i8042 {
    struct device device;
    struct board *board;
    struct irq_line irq[I8042_PORTS];
    struct ps2_device ps2[I8042_PORTS];
    struct bus_region data, command_port;

    u8 ccb;     /* controller command byte */
    u8 output;  /* output port: A20 and reset as written */
    u8 command; /* waiting for its data byte at 60h, or 0 */
    bool last_was_command;
    u8 last; /* what an empty buffer reads as */
    u16 queue[QUEUE_SIZE];
    u8 queue_first, queue_count;
    bool break_seen; /* translation: F0h came, its code did not */
    bool filling;    /* a device is asked for a byte */
};

static void i8042_update(struct i8042 *i8042)
{
    u16 head = i8042->queue[i8042->queue_first];
    enum i8042_port from = head & FROM_AUX ? I8042_AUX : I8042_KEYBOARD;
    for (unsigned port = 0; port < I8042_PORTS; port++)
        irq_set(&i8042->irq[port],
                i8042->queue_count && from == port && (i8042->ccb & CCB_IRQ(port)));
}

static bool i8042_push(struct i8042 *i8042, u16 entry)
{
    if (i8042->queue_count == QUEUE_SIZE)
        return false;
    i8042->queue[(i8042->queue_first + i8042->queue_count++) % QUEUE_SIZE] = entry;
    i8042_update(i8042);
    return true;
}

/* Set 2 becomes set 1, and what F0h announced becomes bit 7. False: nothing is left of it. */
static bool i8042_translate(struct i8042 *i8042, u8 *byte)
{
    if (!(i8042->ccb & CCB_TRANSLATE))
        return true;
    if (*byte == SCAN_BREAK) {
        i8042->break_seen = true;
        return false;
    }
    *byte = scan_set1(*byte) | (i8042->break_seen ? 0x80 : 0);
    i8042->break_seen = false;
    return true;
}

/* Takes a byte from the device; false: there is none, or its clock line is held. */
static bool i8042_take(struct i8042 *i8042, enum i8042_port port)
{
    const struct ps2_device *ps2 = &i8042->ps2[port];
    u8 byte;
    do {
        if ((i8042->ccb & CCB_DISABLE(port)) || !ps2->read || !ps2->read(ps2->opaque, &byte))
            return false;
    } while (port == I8042_KEYBOARD && !i8042_translate(i8042, &byte));
    return i8042_push(i8042, byte | (port == I8042_AUX ? FROM_AUX : 0));
}

/* With the buffer empty, the devices may send: one byte. */
static void i8042_fill(struct i8042 *i8042)
{
    /* What a device is asked for may make room in it, and so bring the next byte. */
    if (i8042->filling)
        return;
    i8042->filling = true;
    for (unsigned port = 0; port < I8042_PORTS && !i8042->queue_count; port++)
        i8042_take(i8042, port);
    i8042->filling = false;
}

void i8042_ready(struct i8042 *i8042)
{
    i8042_fill(i8042);
}

void i8042_attach(struct i8042 *i8042, enum i8042_port port, struct ps2_device ps2)
{
    i8042->ps2[port] = ps2;
}

/* A byte for a PS/2 device; where none is, the controller answers "resend" with a time-out. */
static void i8042_to_device(struct i8042 *i8042, enum i8042_port port, u8 byte)
{
    const struct ps2_device *ps2 = &i8042->ps2[port];
    i8042->ccb &= ~CCB_DISABLE(port);
    if (ps2->write)
        ps2->write(ps2->opaque, byte);
    else
        i8042_push(i8042, 0xfe | TIMED_OUT | (port == I8042_AUX ? FROM_AUX : 0));
}

static void i8042_write_output(struct i8042 *i8042, u8 value)
{
    i8042->output = value & (OUTPUT_RESET | OUTPUT_A20);
    if (!(value & OUTPUT_RESET))
        board_ask(i8042->board, BOARD_RESET, 0);
}

static u8 i8042_read_output(const struct i8042 *i8042)
{
    u8 value = i8042->output;
    if (i8042->queue_count)
        value |= OUTPUT_OBF << !!(i8042->queue[i8042->queue_first] & FROM_AUX);
    return value;
}

static void i8042_write_command(struct i8042 *i8042, u8 value)
{
    i8042->command = 0;
    switch (value) {
    case 0x20:
        i8042_push(i8042, i8042->ccb);
        break;
    case 0x60: /* write CCB */
    case 0xd1: /* write output port */
    case 0xd2: /* write keyboard output buffer */
    case 0xd3: /* write auxiliary output buffer */
    case 0xd4: /* write to auxiliary device */
        i8042->command = value;
        break;
    case 0xa7:
        i8042->ccb |= CCB_DISABLE(I8042_AUX);
        break;
    case 0xa8:
        i8042->ccb &= ~CCB_DISABLE(I8042_AUX);
        break;
    case 0xa9: /* interface tests: no error */
    case 0xab:
        i8042_push(i8042, 0x00);
        break;
    case 0xaa: /* self test: passed */
        i8042->ccb |= CCB_SYS;
        i8042_push(i8042, 0x55);
        break;
    case 0xad:
        i8042->ccb |= CCB_DISABLE(I8042_KEYBOARD);
        break;
    case 0xae:
        i8042->ccb &= ~CCB_DISABLE(I8042_KEYBOARD);
        break;
    case 0xc0: /* input port: not locked, colour display, manufacturing jumper absent */
        i8042_push(i8042, 0x80);
        break;
    case 0xd0:
        i8042_push(i8042, i8042_read_output(i8042));
        break;
    case 0xf0 ... 0xff: /* pulse the output bits that are zero; bit 0 is the reset line */
        if (!(value & OUTPUT_RESET))
            board_ask(i8042->board, BOARD_RESET, 0);
        break;
    default:
        log_to(i8042->board->log, LOG_GUEST_ERRORS, "i8042: unknown command %02xh", value);
        break;
    }
}

static void i8042_write_data(struct i8042 *i8042, u8 value)
{
    u8 command = i8042->command;
    i8042->command = 0;
    switch (command) {
    case 0x60:
        i8042->ccb = value;
        break;
    case 0xd1:
        i8042_write_output(i8042, value);
        break;
    case 0xd2:
        i8042_push(i8042, value);
        break;
    case 0xd3:
        i8042_push(i8042, value | FROM_AUX);
        break;
    case 0xd4:
        i8042_to_device(i8042, I8042_AUX, value);
        break;
    default:
        i8042_to_device(i8042, I8042_KEYBOARD, value);
        break;
    }
}

static u64 i8042_read_data(void *opaque, u64 offset, unsigned size)
{
    struct i8042 *i8042 = opaque;
    if (!i8042->queue_count)
        return i8042->last;
    i8042->last = (u8)i8042->queue[i8042->queue_first];
    i8042->queue_first = (i8042->queue_first + 1) % QUEUE_SIZE;
    i8042->queue_count--;
    /* The lines fall between two bytes, so that each gives an edge. */
    for (unsigned port = 0; port < I8042_PORTS; port++)
        irq_set(&i8042->irq[port], false);
    i8042_fill(i8042);
    i8042_update(i8042);
    return i8042->last;
}

static void i8042_write_port60(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct i8042 *i8042 = opaque;
    i8042->last_was_command = false;
    i8042_write_data(i8042, (u8)value);
    i8042_fill(i8042);
    i8042_update(i8042);
}

static u64 i8042_read_status(void *opaque, u64 offset, unsigned size)
{
    const struct i8042 *i8042 = opaque;
    u16 head = i8042->queue[i8042->queue_first];
    u8 status = STATUS_UNLOCK;
    if (i8042->ccb & CCB_SYS)
        status |= STATUS_SYS;
    if (i8042->last_was_command)
        status |= STATUS_COMMAND;
    if (i8042->queue_count)
        status |= STATUS_OBF | (head & FROM_AUX ? STATUS_AUX : 0) |
                  (head & TIMED_OUT ? STATUS_TIMEOUT : 0);
    return status;
}

static void i8042_write_port64(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct i8042 *i8042 = opaque;
    i8042->last_was_command = true;
    i8042_write_command(i8042, (u8)value);
    i8042_fill(i8042);
    i8042_update(i8042);
}

static const struct bus_ops i8042_data_ops = {i8042_read_data, i8042_write_port60};
static const struct bus_ops i8042_command_ops = {i8042_read_status, i8042_write_port64};

static void i8042_reset(void *device)
{
    struct i8042 *i8042 = device;
    i8042->ccb = CCB_TRANSLATE | CCB_DISABLE(I8042_KEYBOARD) | CCB_DISABLE(I8042_AUX);
    i8042->output = OUTPUT_RESET | OUTPUT_A20;
    i8042->command = i8042->last = 0;
    i8042->last_was_command = i8042->break_seen = false;
    memset(i8042->queue, 0, sizeof(i8042->queue));
    i8042->queue_first = i8042->queue_count = 0;
    i8042_update(i8042);
}

static bool i8042_post_load(void *device)
{
    struct i8042 *i8042 = device;
    if (i8042->queue_first >= QUEUE_SIZE || i8042->queue_count > QUEUE_SIZE)
        return false;
    i8042_update(i8042);
    return true;
}

static void i8042_destroy(void *device)
{
    struct i8042 *i8042 = device;
    bus_remove(i8042->board, &i8042->data);
    bus_remove(i8042->board, &i8042->command_port);
    free(i8042);
}

static const struct field i8042_fields[] = {
    FIELD(struct i8042, ccb),         FIELD(struct i8042, output),
    FIELD(struct i8042, command),     FIELD(struct i8042, last_was_command),
    FIELD(struct i8042, last),        FIELD_ARRAY(struct i8042, queue),
    FIELD(struct i8042, queue_first), FIELD(struct i8042, queue_count),
    FIELD(struct i8042, break_seen),
};

static const struct device_class i8042_class = {
    .name = "i8042",
    .version = 2,
    .fields = i8042_fields,
    .n_fields = ARRAY_LEN(i8042_fields),
    .reset = i8042_reset,
    .post_load = i8042_post_load,
    .destroy = i8042_destroy,
};

struct i8042 *i8042_create(struct board *board, struct irq_line keyboard, struct irq_line aux)
{
    struct i8042 *i8042 = calloc(1, sizeof(*i8042));
    ensure(i8042);
    i8042->board = board;
    i8042->irq[I8042_KEYBOARD] = keyboard;
    i8042->irq[I8042_AUX] = aux;
    i8042->data = (struct bus_region){.name = "i8042-data",
                                      .ops = &i8042_data_ops,
                                      .opaque = i8042,
                                      .base = 0x60,
                                      .size = 1,
                                      .max_size = 1,
                                      .space = BUS_PIO};
    i8042->command_port = (struct bus_region){.name = "i8042-command",
                                              .ops = &i8042_command_ops,
                                              .opaque = i8042,
                                              .base = 0x64,
                                              .size = 1,
                                              .max_size = 1,
                                              .space = BUS_PIO};
    bus_add(board, &i8042->data);
    bus_add(board, &i8042->command_port);
    device_add(board, &i8042->device, &i8042_class, i8042);
    i8042_reset(i8042);
    return i8042;
}
