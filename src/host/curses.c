/* The screen in the terminal, see curses.h. */
#define _XOPEN_SOURCE_EXTENDED 1 /* wide characters in ncurses.h */
#include "host/curses.h"

#include <langinfo.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "host/char/keys.h"
#include "host/typing.h"

#define REFRESH_NS 40000000L /* 25 times a second */
#define HOLD_NS    (20 * NS_PER_MS)

#define IBM_COLOURS 8

struct curses {
    struct board *board;
    struct loop *loop;
    const struct screen *screen;
    struct input *input;
    struct keys keys;
    SCREEN *terminal;
    struct loop_source timer, typed;
    struct screen_text text;
    bool alt; /* an escape came just before */
};

/* -- Showing ------------------------------------------------------------------------------- */

/* IBM counts blue, green, red; terminals the other way. */
static short terminal_colour(unsigned colour)
{
    return (short)((colour & 2) | (colour & 1) << 2 | (colour >> 2 & 1));
}

static void make_colours(void)
{
    start_color();
    for (unsigned fore = 0; fore < IBM_COLOURS; fore++)
        for (unsigned back = 0; back < IBM_COLOURS; back++)
            init_pair((short)(1 + back * IBM_COLOURS + fore), terminal_colour(fore),
                      terminal_colour(back));
}

static void show_cell(int y, int x, const struct screen_cell *cell)
{
    const wchar_t text[2] = {typing_cp437(cell->character), 0};
    attr_t attributes = (cell->foreground & 8 ? A_BOLD : 0) | (cell->blinks ? A_BLINK : 0);
    short pair = (short)(1 + (cell->background & 7) * IBM_COLOURS + (cell->foreground & 7));
    cchar_t wide;
    setcchar(&wide, text, attributes, pair, NULL);
    mvadd_wch(y, x, &wide);
}

static void show_text(const struct screen_text *text)
{
    for (unsigned y = 0; y < text->rows && (int)y < LINES; y++)
        for (unsigned x = 0; x < text->columns && (int)x < COLS; x++)
            show_cell((int)y, (int)x, &text->cells[y][x]);
    curs_set(text->cursor);
    if (text->cursor)
        move((int)text->cursor_row, (int)text->cursor_column);
}

static void show_words(const char *words)
{
    curs_set(0);
    mvaddstr(LINES / 2, COLS > (int)strlen(words) ? (COLS - (int)strlen(words)) / 2 : 0, words);
}

static void fit(void)
{
    struct winsize size;
    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col &&
        (size.ws_row != LINES || size.ws_col != COLS))
        resizeterm(size.ws_row, size.ws_col);
}

static void show(struct curses *curses)
{
    unsigned width, height;
    board_lock(curses->board);
    bool text = screen_text(curses->screen, &curses->text);
    bool graphics = !text && screen_size(curses->screen, &width, &height);
    board_unlock(curses->board);
    fit();
    erase();
    if (text) {
        show_text(&curses->text);
    } else if (graphics) {
        char words[64];
        snprintf(words, sizeof(words), "%u x %u dots of graphics", width, height);
        show_words(words);
    } else {
        show_words("The screen is off");
    }
    refresh();
}

static void tick(void *opaque, short revents)
{
    struct curses *curses = opaque;
    u64 times;
    if (read(curses->timer.fd, &times, sizeof(times)) == sizeof(times))
        show(curses);
}

/* -- Typing -------------------------------------------------------------------------------- */

static const struct {
    int code;
    enum input_key key;
} function_keys[] = {
    {KEY_UP, INPUT_KEY_UP},      {KEY_DOWN, INPUT_KEY_DOWN},
    {KEY_LEFT, INPUT_KEY_LEFT},  {KEY_RIGHT, INPUT_KEY_RIGHT},
    {KEY_HOME, INPUT_KEY_HOME},  {KEY_END, INPUT_KEY_END},
    {KEY_IC, INPUT_KEY_INSERT},  {KEY_DC, INPUT_KEY_DELETE},
    {KEY_PPAGE, INPUT_KEY_PGUP}, {KEY_NPAGE, INPUT_KEY_PGDN},
    {KEY_ENTER, INPUT_KEY_RET},  {KEY_BACKSPACE, INPUT_KEY_BACKSPACE},
    {KEY_F(1), INPUT_KEY_F1},    {KEY_F(2), INPUT_KEY_F2},
    {KEY_F(3), INPUT_KEY_F3},    {KEY_F(4), INPUT_KEY_F4},
    {KEY_F(5), INPUT_KEY_F5},    {KEY_F(6), INPUT_KEY_F6},
    {KEY_F(7), INPUT_KEY_F7},    {KEY_F(8), INPUT_KEY_F8},
    {KEY_F(9), INPUT_KEY_F9},    {KEY_F(10), INPUT_KEY_F10},
    {KEY_F(11), INPUT_KEY_F11},  {KEY_F(12), INPUT_KEY_F12},
};

/* What does not fit into the queue is lost, as with a keyboard that nobody reads. */
static void press(struct curses *curses, const enum input_key *keys, unsigned n)
{
    enum input_key with_alt[1 + TYPING_MAX] = {INPUT_KEY_ALT};
    if (!n)
        return;
    memcpy(with_alt + 1, keys, n * sizeof(*keys));
    board_lock(curses->board);
    if (curses->alt)
        input_press(curses->input, with_alt, n + 1, HOLD_NS);
    else
        input_press(curses->input, keys, n, HOLD_NS);
    board_unlock(curses->board);
    curses->alt = false;
}

static void press_escape(struct curses *curses)
{
    const enum input_key escape = INPUT_KEY_ESC;
    curses->alt = false;
    press(curses, &escape, 1);
}

static void take_byte(struct curses *curses, u8 byte)
{
    enum input_key keys[TYPING_MAX];
    u8 kept;
    if (!keys_filter(&curses->keys, &byte, 1, &kept))
        return;
    /* A terminal sends Alt as an escape before; one alone is the key. */
    if (kept == 0x1b && !curses->alt) {
        curses->alt = true;
        return;
    }
    press(curses, keys, typing_byte(kept, keys));
}

static void take_function(struct curses *curses, int code)
{
    for (unsigned i = 0; i < ARRAY_LEN(function_keys); i++)
        if (function_keys[i].code == code)
            press(curses, &function_keys[i].key, 1);
}

static void typed(void *opaque, short revents)
{
    struct curses *curses = opaque;
    int code;
    if (revents & (POLLHUP | POLLERR) && !(revents & POLLIN)) {
        curses->typed.events = 0; /* the terminal is gone */
        return;
    }
    while ((code = getch()) != ERR) {
        if (code < 0x100)
            take_byte(curses, (u8)code);
        else
            take_function(curses, code);
    }
    if (curses->alt)
        press_escape(curses);
}

/* -- Life ---------------------------------------------------------------------------------- */

/* Characters beyond ASCII want UTF-8, which nearly every terminal has, whatever the locale. */
static void use_utf8(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static bool start_timer(struct curses *curses, struct error *err)
{
    const struct itimerspec every = {.it_interval.tv_nsec = REFRESH_NS,
                                     .it_value.tv_nsec = REFRESH_NS};
    curses->timer =
        (struct loop_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                             .events = POLLIN,
                             .ready = tick,
                             .opaque = curses};
    return (curses->timer.fd >= 0 && !timerfd_settime(curses->timer.fd, 0, &every, NULL)) ||
           error_errno(err, "-display curses: cannot make a timer");
}

static void start_terminal(struct curses *curses)
{
    set_term(curses->terminal);
    raw(); /* Ctrl-c is the guest's */
    noecho();
    nonl();
    keypad(stdscr, true);
    nodelay(stdscr, true);
    set_escdelay(25);
    make_colours();
}

struct curses *curses_create(struct board *board, struct loop *loop,
                             const struct screen *screen, struct input *input,
                             const struct char_keys *keys, struct error *err)
{
    struct curses *curses = calloc(1, sizeof(*curses));
    ensure(curses);
    *curses = (struct curses){.board = board, .loop = loop, .screen = screen, .input = input};
    keys_init(&curses->keys, true, keys);
    use_utf8();
    if (!start_timer(curses, err)) {
        free(curses);
        return NULL;
    }
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        curses->terminal = newterm(NULL, stdout, stdin);
    if (!curses->terminal) {
        error_set(err,
                  "-display curses: this is no terminal, or TERM names none that is known");
        close(curses->timer.fd);
        free(curses);
        return NULL;
    }
    start_terminal(curses);
    curses->typed = (struct loop_source){
        .fd = STDIN_FILENO, .events = POLLIN, .ready = typed, .opaque = curses};
    loop_add(loop, &curses->timer);
    loop_add(loop, &curses->typed);
    return curses;
}

void curses_destroy(struct curses *curses)
{
    if (!curses)
        return;
    loop_remove(curses->loop, &curses->timer);
    loop_remove(curses->loop, &curses->typed);
    close(curses->timer.fd);
    endwin();
    delscreen(curses->terminal);
    free(curses);
}
