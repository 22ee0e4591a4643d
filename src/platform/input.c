/* The queue of key events, see input.h. */
#include "platform/input.h"

#include <string.h>

#include "base/ensure.h"

/* Between two input_press: guests tell a second press from a bouncing contact. */
#define GAP_NS (20 * NS_PER_MS)

static const char *const names[INPUT_KEYS] = {
#define KEY(enumerator, name) [INPUT_KEY_##enumerator] = name,
#include "platform/input_keys.def"
#undef KEY
};

enum input_key input_key_named(const char *name)
{
    for (unsigned key = 1; key < INPUT_KEYS; key++)
        if (!strcmp(names[key], name))
            return key;
    return INPUT_KEY_NONE;
}

const char *input_key_name(enum input_key key)
{
    return names[key];
}

/* Hands over what may go now. */
static void input_run(struct input *input)
{
    while (input->count && !input->timer.armed && !input->board->stopped) {
        const struct input_event event = input->queue[input->first];
        const struct input_keyboard *keyboard = &input->keyboard;
        if (event.key && keyboard->key &&
            !keyboard->key(keyboard->opaque, event.key, event.down))
            return;
        input->first = (input->first + 1) % INPUT_QUEUE;
        input->count--;
        if (event.pause)
            timer_arm(&input->board->clock, &input->timer,
                      clock_now(&input->board->clock) + event.pause);
    }
}

/* A pause ended, or the machine goes on. */
static void input_go_on(void *opaque)
{
    input_run(opaque);
}

void input_init(struct input *input, struct board *board)
{
    *input = (struct input){.board = board,
                            .timer = {.fire = input_go_on, .opaque = input},
                            .gate = {.opened = input_go_on, .opaque = input}};
    board_add_gate(board, &input->gate);
}

void input_reset(struct input *input)
{
    timer_cancel(&input->board->clock, &input->timer);
    input->first = input->count = 0;
}

void input_attach_keyboard(struct input *input, struct input_keyboard keyboard)
{
    input->keyboard = keyboard;
}

void input_attach_mouse(struct input *input, struct input_mouse mouse)
{
    input->mouse = mouse;
}

void input_room(struct input *input)
{
    input_run(input);
}

static void input_put(struct input *input, struct input_event event)
{
    ensure(input->count < INPUT_QUEUE && event.key < INPUT_KEYS);
    input->queue[(input->first + input->count++) % INPUT_QUEUE] = event;
}

bool input_key(struct input *input, enum input_key key, bool down)
{
    if (input->count == INPUT_QUEUE)
        return false;
    input_put(input, (struct input_event){.key = (u8)key, .down = down});
    input_run(input);
    return true;
}

bool input_press(struct input *input, const enum input_key *keys, unsigned n, u64 hold_ns)
{
    ensure(n && n <= INPUT_MAX_KEYS);
    if (input->count + 2 * n > INPUT_QUEUE)
        return false;
    for (unsigned i = 0; i < n; i++)
        input_put(input, (struct input_event){.key = (u8)keys[i],
                                              .down = true,
                                              .pause = i + 1 == n ? hold_ns : 0});
    for (unsigned i = n; i-- > 0;)
        input_put(input, (struct input_event){.key = (u8)keys[i], .pause = i ? 0 : GAP_NS});
    input_run(input);
    return true;
}

void input_move(struct input *input, const struct input_motion *motion)
{
    if (input->mouse.move && !input->board->stopped)
        input->mouse.move(input->mouse.opaque, motion);
}
