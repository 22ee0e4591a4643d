/*
 * Keys and pointer movements on their way from the user into the machine (law 5): who has a
 * keyboard (a display, the control socket) puts events in, the keyboard and mouse devices take
 * them out.
 *
 * Key events wait in a queue, in order, with pauses between them, until the device has room.
 * The queue is outside of the machine: what a checkpoint keeps is what devices have taken, and
 * while the machine is stopped they take nothing (movements are then lost).
 *
 * Threads: everything under the board lock, but for input_init and what is about names.
 */
#pragma once

#include "platform/board.h"

/* The names are QEMU's: INPUT_KEY_RET is "ret". */
enum input_key {
    INPUT_KEY_NONE,
#define KEY(enumerator, name) INPUT_KEY_##enumerator,
#include "platform/input_keys.def"
#undef KEY
    INPUT_KEYS
};

enum input_button { INPUT_LEFT, INPUT_RIGHT, INPUT_MIDDLE, INPUT_SIDE, INPUT_EXTRA };

/* A pointer's movement since the last one, and its buttons now. */
struct input_motion {
    s32 dx, dy, dz;   /* right, down, wheel towards the user */
    unsigned buttons; /* BIT(enum input_button) */
};

/* The devices' half. */
struct input_keyboard {
    /* False: no room now; the device calls input_room when it has some. */
    bool (*key)(void *opaque, enum input_key key, bool down);
    void *opaque;
};
struct input_mouse {
    void (*move)(void *opaque, const struct input_motion *motion);
    void *opaque;
};

#define INPUT_QUEUE    256
#define INPUT_MAX_KEYS 16 /* of one input_press */

struct input_event {
    u8 key; /* enum input_key; INPUT_KEY_NONE: a pause */
    bool down;
    u64 pause; /* ns of virtual time before the next event */
};

struct input {
    struct board *board;
    struct board_gate gate;
    struct timer timer; /* the end of a pause */
    struct input_keyboard keyboard;
    struct input_mouse mouse;
    struct input_event queue[INPUT_QUEUE];
    unsigned first, count;
};

/* Not under the board lock, this one. */
void input_init(struct input *input, struct board *board);
/* Forgets what waits: the machine was reset, or ends. */
void input_reset(struct input *input);

void input_attach_keyboard(struct input *input, struct input_keyboard keyboard);
void input_attach_mouse(struct input *input, struct input_mouse mouse);
/* From the keyboard device, also from within `key`. */
void input_room(struct input *input);

/* INPUT_KEY_NONE: no such name. */
enum input_key input_key_named(const char *name);
const char *input_key_name(enum input_key key);

/* A key goes down or up. False: the queue is full, and nothing happens. */
bool input_key(struct input *input, enum input_key key, bool down);
/* Presses the `n` keys, at most INPUT_MAX_KEYS, in this order, holds them for `hold_ns`, and
 * releases them in the other: QEMU's send-key. False: there is no room for all that. */
bool input_press(struct input *input, const enum input_key *keys, unsigned n, u64 hold_ns);
void input_move(struct input *input, const struct input_motion *motion);
