/* A 101/102-key PS/2 keyboard, see ps2.h: scan code sets 1 to 3, typematic repeat. */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "device/ps2.h"
#include "device/scan_codes.h"
#include "platform/device.h"

#define ACK     0xfa
#define RESEND  0xfe
#define BAT_OK  0xaa
#define MAX_SEQ 8 /* bytes of the longest key, Pause */

#define DEFAULT_RATE 0x2b /* 500 ms, then 10.9 a second */

/* Commands that wait for a byte of their own. */
#define SET_LEDS    0xed
#define SELECT_SET  0xf0
#define SET_RATE    0xf3
#define KEY_REPEATS 0xfb /* ..FDh: of the set 3 codes that follow */
#define KEY_BREAK   0xfc
#define KEY_MAKE    0xfd

#define MODES 0x90 /* set 3 codes */

struct ps2_keyboard {
    struct device device;
    struct board *board;
    struct i8042 *i8042;
    struct input *input;
    struct timer repeat;

    struct ps2_queue queue;
    u8 command; /* one of the above, or 0 */
    u8 set;     /* 1..3 */
    u8 leds;
    u8 rate;
    bool scanning;
    bool held[INPUT_KEYS];
    u8 mode[MODES]; /* SCAN_REPEATS, SCAN_REPORTS_BREAK */
    u8 repeating;   /* the key, or INPUT_KEY_NONE */
    u64 repeat_at;
};

/* -- Scan codes ---------------------------------------------------------------------------- */

struct sequence {
    u8 bytes[MAX_SEQ];
    unsigned len;
};

static void put(struct sequence *sequence, u8 byte)
{
    ensure(sequence->len < MAX_SEQ);
    sequence->bytes[sequence->len++] = byte;
}

/* A code of set 2 or, converted, 1. */
static void put_code(const struct ps2_keyboard *k, struct sequence *sequence, u16 code,
                     bool down)
{
    u8 byte = (u8)code;
    if (code & SCAN_EXTENDED)
        put(sequence, 0xe0);
    if (k->set == 1) {
        put(sequence, scan_set1(byte) | (down ? 0 : 0x80));
        return;
    }
    if (!down)
        put(sequence, SCAN_BREAK);
    put(sequence, byte);
}

/* Print Screen shifts itself, unless Ctrl or Shift is held; with Alt it is another key. */
static void put_print(const struct ps2_keyboard *k, struct sequence *sequence, bool down)
{
    const u16 print = SCAN_EXTENDED | 0x7c, shift = SCAN_EXTENDED | 0x12;
    const bool *held = k->held;
    bool plain = !held[INPUT_KEY_CTRL] && !held[INPUT_KEY_CTRL_R] && !held[INPUT_KEY_SHIFT] &&
                 !held[INPUT_KEY_SHIFT_R];
    if (held[INPUT_KEY_ALT] || held[INPUT_KEY_ALT_R]) {
        put_code(k, sequence, scan_codes[INPUT_KEY_SYSRQ].set2, down);
        return;
    }
    if (plain && down)
        put_code(k, sequence, shift, true);
    put_code(k, sequence, print, down);
    if (plain && !down)
        put_code(k, sequence, shift, false);
}

/* Pause goes down and up at once; with Ctrl it is Break. */
static void put_pause(const struct ps2_keyboard *k, struct sequence *sequence, bool down)
{
    const u16 stop = SCAN_EXTENDED | 0x7e;
    if (!down)
        return;
    if (k->held[INPUT_KEY_CTRL] || k->held[INPUT_KEY_CTRL_R]) {
        put_code(k, sequence, stop, true);
        put_code(k, sequence, stop, false);
        return;
    }
    for (unsigned up = 0; up < 2; up++) {
        put(sequence, 0xe1);
        put_code(k, sequence, 0x14, !up);
        put_code(k, sequence, 0x77, !up);
    }
}

static void put_set3(const struct ps2_keyboard *k, struct sequence *sequence,
                     enum input_key key, bool down)
{
    u8 code = scan_codes[key].set3;
    if (!code || (!down && !(k->mode[code] & SCAN_REPORTS_BREAK)))
        return;
    if (!down)
        put(sequence, SCAN_BREAK);
    put(sequence, code);
}

static void encode(const struct ps2_keyboard *k, struct sequence *sequence, enum input_key key,
                   bool down)
{
    if (k->set == 3)
        put_set3(k, sequence, key, down);
    else if (key == INPUT_KEY_PRINT)
        put_print(k, sequence, down);
    else if (key == INPUT_KEY_PAUSE)
        put_pause(k, sequence, down);
    else if (scan_codes[key].set2)
        put_code(k, sequence, scan_codes[key].set2, down);
}

static bool type(struct ps2_keyboard *k, enum input_key key, bool down)
{
    struct sequence sequence = {.len = 0};
    encode(k, &sequence, key, down);
    if (sequence.len > ps2_room(&k->queue))
        return false;
    for (unsigned i = 0; i < sequence.len; i++)
        ps2_typed(&k->queue, sequence.bytes[i]);
    i8042_ready(k->i8042);
    return true;
}

/* -- Typematic ----------------------------------------------------------------------------- */

static u64 repeat_delay(const struct ps2_keyboard *k)
{
    return (bits(k->rate, 6, 5) + 1) * 250 * NS_PER_MS;
}

/* (8 + A) * 2^B * 4.17 ms */
static u64 repeat_period(const struct ps2_keyboard *k)
{
    return ((8 + bits(k->rate, 2, 0)) << bits(k->rate, 4, 3)) * 4170000ull;
}

static void repeat_stop(struct ps2_keyboard *k)
{
    k->repeating = INPUT_KEY_NONE;
    timer_cancel(&k->board->clock, &k->repeat);
}

static void repeat_arm(struct ps2_keyboard *k, u64 at)
{
    k->repeat_at = at;
    timer_arm(&k->board->clock, &k->repeat, at);
}

static void repeat_start(struct ps2_keyboard *k, enum input_key key)
{
    u8 code = scan_codes[key].set3;
    bool repeats = k->set == 3 ? k->mode[code] & SCAN_REPEATS : key != INPUT_KEY_PAUSE;
    repeat_stop(k);
    if (!repeats)
        return;
    k->repeating = (u8)key;
    repeat_arm(k, clock_now(&k->board->clock) + repeat_delay(k));
}

static void repeat_fire(void *opaque)
{
    struct ps2_keyboard *k = opaque;
    /* Without room this one is lost. */
    type(k, k->repeating, true);
    repeat_arm(k, clock_now(&k->board->clock) + repeat_period(k));
}

/* -- Keys ---------------------------------------------------------------------------------- */

static bool keyboard_key(void *opaque, enum input_key key, bool down)
{
    struct ps2_keyboard *k = opaque;
    if (k->scanning && !type(k, key, down))
        return false;
    if (down && k->scanning)
        repeat_start(k, key);
    else if (k->repeating == key)
        repeat_stop(k);
    k->held[key] = down;
    return true;
}

static bool keyboard_read(void *opaque, u8 *byte)
{
    struct ps2_keyboard *k = opaque;
    bool was_full = ps2_room(&k->queue) < MAX_SEQ;
    if (!ps2_next(&k->queue, byte))
        return false;
    if (was_full)
        input_room(k->input);
    return true;
}

/* -- Commands ------------------------------------------------------------------------------ */

static void answer(struct ps2_keyboard *k, u8 byte)
{
    ps2_answer(&k->queue, byte);
}

static void set_defaults(struct ps2_keyboard *k)
{
    u8 last = k->queue.last;
    ps2_queue_clear(&k->queue);
    k->queue.last = last;
    repeat_stop(k);
    k->set = 2;
    k->rate = DEFAULT_RATE;
    memset(k->mode, 0, sizeof(k->mode));
    for (unsigned key = 0; key < INPUT_KEYS; key++)
        k->mode[scan_codes[key].set3] = scan_codes[key].mode;
}

static void reset(struct ps2_keyboard *k)
{
    set_defaults(k);
    k->leds = k->command = 0;
    k->scanning = true;
}

static void set_all_modes(struct ps2_keyboard *k, u8 command)
{
    /* F7h: typematic; F8h: make and break; F9h: make; FAh: all of them */
    static const u8 modes[] = {SCAN_REPEATS, SCAN_REPORTS_BREAK, 0,
                               SCAN_REPEATS | SCAN_REPORTS_BREAK};
    memset(k->mode, modes[command - 0xf7], sizeof(k->mode));
}

/* The byte that a command waited for; true: it was that. */
static bool parameter(struct ps2_keyboard *k, u8 command, u8 byte)
{
    static const u8 modes[] = {SCAN_REPEATS, SCAN_REPORTS_BREAK, 0};
    /* Commands end a command's wait. */
    if (byte >= 0xed)
        return false;
    switch (command) {
    case SET_LEDS:
        k->leds = byte & 7;
        break;
    case SET_RATE:
        k->rate = byte & 0x7f;
        break;
    case SELECT_SET:
        if (byte > 3) {
            answer(k, RESEND);
            return true;
        }
        answer(k, ACK);
        if (byte)
            k->set = byte;
        else
            answer(k, k->set);
        return true;
    default: /* stays until another command comes */
        /* A saved state may name any command. */
        if (byte < MODES && command >= KEY_REPEATS && command < KEY_REPEATS + ARRAY_LEN(modes))
            k->mode[byte] = modes[command - KEY_REPEATS];
        k->command = command;
        break;
    }
    answer(k, ACK);
    return true;
}

static void command(struct ps2_keyboard *k, u8 byte)
{
    switch (byte) {
    case 0xee: /* echo */
        answer(k, 0xee);
        return;
    case 0xfe:
        answer(k, k->queue.last);
        return;
    case KEY_REPEATS ... KEY_MAKE:
    case SET_LEDS:
    case SELECT_SET:
    case SET_RATE:
        k->command = byte;
        break;
    case 0xf2: /* identify */
        answer(k, ACK);
        answer(k, 0xab);
        answer(k, 0x83);
        return;
    case 0xf4: /* enable */
        ps2_queue_clear(&k->queue);
        k->scanning = true;
        break;
    case 0xf5: /* defaults, and off */
    case 0xf6:
        set_defaults(k);
        k->scanning = byte == 0xf6;
        break;
    case 0xf7 ... 0xfa:
        set_all_modes(k, byte);
        break;
    case 0xff:
        reset(k);
        answer(k, ACK);
        answer(k, BAT_OK);
        return;
    default:
        answer(k, RESEND);
        return;
    }
    answer(k, ACK);
}

static void keyboard_write(void *opaque, u8 byte)
{
    struct ps2_keyboard *k = opaque;
    u8 waiting = k->command;
    k->command = 0;
    if (!waiting || !parameter(k, waiting, byte))
        command(k, byte);
    i8042_ready(k->i8042);
}

u8 ps2_keyboard_leds(const struct ps2_keyboard *keyboard)
{
    return keyboard->leds;
}

/* -- Life ---------------------------------------------------------------------------------- */

static void keyboard_reset(void *device)
{
    struct ps2_keyboard *k = device;
    reset(k);
    k->queue.last = 0;
    memset(k->held, 0, sizeof(k->held));
}

static bool keyboard_post_load(void *device)
{
    struct ps2_keyboard *k = device;
    if (!ps2_queue_valid(&k->queue) || k->set < 1 || k->set > 3 || k->repeating >= INPUT_KEYS)
        return false;
    if (k->repeating)
        repeat_arm(k, k->repeat_at);
    else
        repeat_stop(k);
    return true;
}

static void keyboard_destroy(void *device)
{
    struct ps2_keyboard *k = device;
    repeat_stop(k);
    free(k);
}

static const struct field keyboard_fields[] = {
    PS2_QUEUE_FIELDS(struct ps2_keyboard, queue),
    FIELD(struct ps2_keyboard, command),
    FIELD(struct ps2_keyboard, set),
    FIELD(struct ps2_keyboard, leds),
    FIELD(struct ps2_keyboard, rate),
    FIELD(struct ps2_keyboard, scanning),
    FIELD_ARRAY(struct ps2_keyboard, held),
    FIELD_ARRAY(struct ps2_keyboard, mode),
    FIELD(struct ps2_keyboard, repeating),
    FIELD(struct ps2_keyboard, repeat_at),
};

static const struct device_class keyboard_class = {
    .name = "ps2-keyboard",
    .version = 1,
    .fields = keyboard_fields,
    .n_fields = ARRAY_LEN(keyboard_fields),
    .reset = keyboard_reset,
    .post_load = keyboard_post_load,
    .destroy = keyboard_destroy,
};

struct ps2_keyboard *ps2_keyboard_create(struct board *board, struct i8042 *i8042,
                                         struct input *input)
{
    struct ps2_keyboard *k = calloc(1, sizeof(*k));
    ensure(k);
    k->board = board;
    k->i8042 = i8042;
    k->input = input;
    k->repeat = (struct timer){.fire = repeat_fire, .opaque = k};
    i8042_attach(i8042, I8042_KEYBOARD, (struct ps2_device){keyboard_write, keyboard_read, k});
    input_attach_keyboard(input, (struct input_keyboard){keyboard_key, k});
    device_add(board, &k->device, &keyboard_class, k);
    keyboard_reset(k);
    return k;
}
