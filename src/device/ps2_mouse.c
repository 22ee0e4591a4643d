/*
 * A PS/2 mouse with wheel and five buttons, see ps2.h. The driver's sequences of sample rates
 * (200, 100, 80 and 200, 200, 80) switch it to the longer packets of Microsoft's mice.
 *
 * Movements add up while a packet is on its way; so there are as many packets as the guest
 * reads, and the sample rate is but a register.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "device/ps2.h"
#include "platform/device.h"

#define ACK    0xfa
#define ERROR  0xfc
#define BAT_OK 0xaa

#define SET_RESOLUTION 0xe8
#define SET_RATE       0xf3
#define RESET_WRAP     0xec
#define RESET          0xff

enum { ID_PLAIN = 0, ID_WHEEL = 3, ID_FIVE = 4 };

struct ps2_mouse {
    struct device device;
    struct i8042 *i8042;

    struct ps2_queue queue;
    u8 command; /* SET_RESOLUTION, SET_RATE or 0 */
    u8 id;
    u8 rate, resolution;
    u8 rates[3];   /* the last ones */
    bool remote;   /* else stream mode */
    bool wrapping; /* sends back what it gets */
    bool double_scale;
    bool enabled;   /* stream mode: may report */
    u32 dx, dy, dz; /* two's complement; not yet reported */
    u8 buttons, reported_buttons;
};

static s32 clamp(s32 value, s32 low, s32 high)
{
    return value < low ? low : value > high ? high : value;
}

/* A packet's part of what has added up: up to 9 bits with sign. */
static s32 take(u32 *sum, s32 low, s32 high)
{
    s32 part = clamp((s32)*sum, low, high);
    *sum -= (u32)part;
    return part;
}

/* 2:1 scaling (only of what stream mode reports): 0, 1, 1, 3, 6, 9, 12, ... */
static s32 scale(s32 value)
{
    static const u8 small[] = {0, 1, 1, 3, 6, 9};
    s32 magnitude = value < 0 ? -value : value;
    magnitude = magnitude < (s32)ARRAY_LEN(small) ? small[magnitude] : 2 * magnitude;
    return clamp(value < 0 ? -magnitude : magnitude, -255, 255);
}

static bool moved(const struct ps2_mouse *m)
{
    return m->dx || m->dy || (m->dz && m->id != ID_PLAIN) || m->buttons != m->reported_buttons;
}

static void packet(struct ps2_mouse *m, void (*put)(struct ps2_queue *queue, u8 byte),
                   bool scaled)
{
    s32 dx = take(&m->dx, -255, 255), dy = take(&m->dy, -255, 255);
    if (scaled) {
        dx = scale(dx);
        dy = scale(dy);
    }
    put(&m->queue,
        (u8)((m->buttons & 7) | BIT(3) | (dx < 0 ? BIT(4) : 0) | (dy < 0 ? BIT(5) : 0)));
    put(&m->queue, (u8)dx);
    put(&m->queue, (u8)dy);
    m->reported_buttons = m->buttons;
    if (m->id == ID_WHEEL)
        put(&m->queue, (u8)take(&m->dz, -128, 127));
    else if (m->id == ID_FIVE)
        put(&m->queue, (u8)((take(&m->dz, -8, 7) & 15) | (m->buttons & 0x18) << 1));
    else
        m->dz = 0;
}

static void report(struct ps2_mouse *m)
{
    if (m->enabled && !m->remote && !m->wrapping && !m->queue.typed_count && moved(m))
        packet(m, ps2_typed, m->double_scale);
    i8042_ready(m->i8042);
}

static u32 add(u32 sum, s32 by)
{
    return (u32)clamp(clamp((s32)sum, -0xffff, 0xffff) + clamp(by, -0xffff, 0xffff), -0xffff,
                      0xffff);
}

static void mouse_move(void *opaque, const struct input_motion *motion)
{
    struct ps2_mouse *m = opaque;
    m->dx = add(m->dx, motion->dx);
    m->dy = add(m->dy, -motion->dy);
    m->dz = add(m->dz, motion->dz);
    m->buttons = motion->buttons & 31;
    report(m);
}

static bool mouse_read(void *opaque, u8 *byte)
{
    struct ps2_mouse *m = opaque;
    if (!ps2_next(&m->queue, byte))
        return false;
    report(m);
    return true;
}

/* -- Commands ------------------------------------------------------------------------------ */

static void answer(struct ps2_mouse *m, u8 byte)
{
    ps2_answer(&m->queue, byte);
}

/* What was not yet reported is forgotten with the change of a mode. */
static void forget(struct ps2_mouse *m)
{
    u8 last = m->queue.last;
    ps2_queue_clear(&m->queue);
    m->queue.last = last;
    m->dx = m->dy = m->dz = 0;
    m->reported_buttons = m->buttons;
}

static void set_defaults(struct ps2_mouse *m)
{
    forget(m);
    m->rate = 100;
    m->resolution = 2; /* 4 counts per mm */
    m->double_scale = m->remote = m->wrapping = m->enabled = false;
}

static void reset(struct ps2_mouse *m)
{
    set_defaults(m);
    m->command = 0;
    m->id = ID_PLAIN;
    memset(m->rates, 0, sizeof(m->rates));
}

static void set_rate(struct ps2_mouse *m, u8 rate)
{
    static const u8 wheel[3] = {200, 100, 80}, five[3] = {200, 200, 80};
    m->rate = rate;
    m->rates[0] = m->rates[1];
    m->rates[1] = m->rates[2];
    m->rates[2] = rate;
    if (m->id == ID_PLAIN && !memcmp(m->rates, wheel, 3))
        m->id = ID_WHEEL;
    else if (m->id == ID_WHEEL && !memcmp(m->rates, five, 3))
        m->id = ID_FIVE;
}

static void status(struct ps2_mouse *m)
{
    const u8 buttons = m->buttons;
    answer(m, ACK);
    answer(m, (u8)((buttons & BIT(INPUT_RIGHT) ? BIT(0) : 0) |
                   (buttons & BIT(INPUT_MIDDLE) ? BIT(1) : 0) |
                   (buttons & BIT(INPUT_LEFT) ? BIT(2) : 0) | (m->double_scale ? BIT(4) : 0) |
                   (m->enabled ? BIT(5) : 0) | (m->remote ? BIT(6) : 0)));
    answer(m, m->resolution);
    answer(m, m->rate);
}

/* True: acknowledge it. */
static bool command(struct ps2_mouse *m, u8 byte)
{
    switch (byte) {
    case 0xe6:
    case 0xe7:
        m->double_scale = byte == 0xe7;
        return true;
    case SET_RESOLUTION:
    case SET_RATE:
        m->command = byte;
        return true;
    case 0xe9:
        status(m);
        return false;
    case 0xea:
    case 0xf0:
        forget(m);
        m->remote = byte == 0xf0;
        return true;
    case 0xeb: /* read data */
        answer(m, ACK);
        packet(m, ps2_answer, false);
        return false;
    case RESET_WRAP:
        m->wrapping = false;
        return true;
    case 0xee:
        forget(m);
        m->wrapping = true;
        return true;
    case 0xf2:
        answer(m, ACK);
        answer(m, m->id);
        return false;
    case 0xf4:
    case 0xf5:
        forget(m);
        m->enabled = byte == 0xf4;
        return true;
    case 0xf6:
        set_defaults(m);
        return true;
    case 0xfe:
        answer(m, m->queue.last);
        return false;
    case RESET:
        reset(m);
        answer(m, ACK);
        answer(m, BAT_OK);
        answer(m, ID_PLAIN);
        return false;
    default:
        answer(m, ERROR);
        return false;
    }
}

static void mouse_write(void *opaque, u8 byte)
{
    struct ps2_mouse *m = opaque;
    u8 waiting = m->command;
    m->command = 0;
    if (m->wrapping && byte != RESET && byte != RESET_WRAP) {
        answer(m, byte);
    } else if (waiting) {
        if (waiting == SET_RATE)
            set_rate(m, byte);
        else
            m->resolution = byte & 3;
        answer(m, ACK);
    } else if (command(m, byte)) {
        answer(m, ACK);
    }
    i8042_ready(m->i8042);
}

/* -- Life ---------------------------------------------------------------------------------- */

static void mouse_reset(void *device)
{
    struct ps2_mouse *m = device;
    reset(m);
    m->queue.last = 0;
    m->buttons = m->reported_buttons = 0;
}

static bool mouse_post_load(void *device)
{
    const struct ps2_mouse *m = device;
    return ps2_queue_valid(&m->queue);
}

static const struct field mouse_fields[] = {
    PS2_QUEUE_FIELDS(struct ps2_mouse, queue),
    FIELD(struct ps2_mouse, command),
    FIELD(struct ps2_mouse, id),
    FIELD(struct ps2_mouse, rate),
    FIELD(struct ps2_mouse, resolution),
    FIELD_ARRAY(struct ps2_mouse, rates),
    FIELD(struct ps2_mouse, remote),
    FIELD(struct ps2_mouse, wrapping),
    FIELD(struct ps2_mouse, double_scale),
    FIELD(struct ps2_mouse, enabled),
    FIELD(struct ps2_mouse, dx),
    FIELD(struct ps2_mouse, dy),
    FIELD(struct ps2_mouse, dz),
    FIELD(struct ps2_mouse, buttons),
    FIELD(struct ps2_mouse, reported_buttons),
};

static const struct device_class mouse_class = {
    .name = "ps2-mouse",
    .version = 1,
    .fields = mouse_fields,
    .n_fields = ARRAY_LEN(mouse_fields),
    .reset = mouse_reset,
    .post_load = mouse_post_load,
    .destroy = free,
};

struct ps2_mouse *ps2_mouse_create(struct board *board, struct i8042 *i8042,
                                   struct input *input)
{
    struct ps2_mouse *m = calloc(1, sizeof(*m));
    ensure(m);
    m->i8042 = i8042;
    i8042_attach(i8042, I8042_AUX, (struct ps2_device){mouse_write, mouse_read, m});
    input_attach_mouse(input, (struct input_mouse){mouse_move, m});
    device_add(board, &m->device, &mouse_class, m);
    mouse_reset(m);
    return m;
}
