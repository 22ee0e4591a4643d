/*
 * PS/2 keyboard and mouse (IBM PS/2 Hardware Interface Technical Reference; Microsoft's
 * IntelliMouse protocol), behind the keyboard controller's two ports. Everything here is called
 * under the board lock.
 */
#pragma once

#include "device/i8042.h"
#include "platform/input.h"

struct ps2_keyboard;
struct ps2_mouse;

/* They attach themselves to the controller and to the seam of keys and movements. */
struct ps2_keyboard *ps2_keyboard_create(struct board *board, struct i8042 *i8042,
                                         struct input *input);
struct ps2_mouse *ps2_mouse_create(struct board *board, struct i8042 *i8042,
                                   struct input *input);

/* The lamps, as the guest set them: BIT(0) Scroll Lock, BIT(1) Num Lock, BIT(2) Caps Lock. */
u8 ps2_keyboard_leds(const struct ps2_keyboard *keyboard);

/* Bytes on their way to the controller. Answers to commands go before what was typed. */
#define PS2_TYPED   16
#define PS2_ANSWERS 8

struct ps2_queue {
    u8 typed[PS2_TYPED];
    u8 typed_first, typed_count;
    u8 answers[PS2_ANSWERS];
    u8 answers_first, answers_count;
    u8 last; /* what was sent last, for "resend" */
};

/* As fields of a struct that has it as `member`. */
#define PS2_QUEUE_FIELDS(type, member)                                                         \
    FIELD_ARRAY(type, member.typed), FIELD(type, member.typed_first),                          \
        FIELD(type, member.typed_count), FIELD_ARRAY(type, member.answers),                    \
        FIELD(type, member.answers_first), FIELD(type, member.answers_count),                  \
        FIELD(type, member.last)

void ps2_queue_clear(struct ps2_queue *queue);
/* Loaded state that makes sense. */
bool ps2_queue_valid(const struct ps2_queue *queue);
void ps2_answer(struct ps2_queue *queue, u8 byte); /* one too many is lost */
unsigned ps2_room(const struct ps2_queue *queue);  /* for ps2_typed */
void ps2_typed(struct ps2_queue *queue, u8 byte);  /* there is room */
/* False: nothing to send. */
bool ps2_next(struct ps2_queue *queue, u8 *byte);
