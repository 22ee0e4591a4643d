/* One monitor on one line, see monitor.h. */
#include "control/monitor.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "control/hmp.h"
#include "control/qmp.h"

#define INPUT 4096
/* Output that may wait for the other end before commands, and before events, are held back. */
#define FULL   (1 * MiB)
#define EVENTS (4 * MiB)
#define LINE   1024
/* What people's scripts wait for. */
#define PROMPT "(qemu) "

struct monitor {
    struct control *control;
    struct board *board;
    struct loop *loop;
    struct loop_work work;
    struct chardev *line;
    bool is_qmp;

    /* Under the board lock: what came, for the loop to work on. */
    u8 in[INPUT];
    size_t n_in;
    bool opened;  /* somebody new, to be greeted */
    bool greeted; /* with all words: from then on a prompt will do */
    bool focused; /* of a text monitor that shares its line: it has the keyboard */

    struct qmp qmp;
    /* The text monitor's line so far. */
    char typed[LINE];
    size_t n_typed;
    unsigned escape; /* how far into a cursor key's sequence */
    bool was_cr;
    unsigned cpu;
};

/* -- The line's callbacks, under the board lock -------------------------------------------- */

static bool is_full(const struct monitor *monitor)
{
    const struct chardev *line = monitor->line;
    return line->queued && line->queued(line->back) > FULL;
}

static size_t can_receive(void *front)
{
    struct monitor *monitor = front;
    return is_full(monitor) ? 0 : INPUT - monitor->n_in;
}

static void receive(void *front, const u8 *data, size_t len)
{
    struct monitor *monitor = front;
    ensure(len <= INPUT - monitor->n_in);
    memcpy(monitor->in + monitor->n_in, data, len);
    monitor->n_in += len;
    loop_schedule(monitor->loop, &monitor->work);
}

static void on_event(void *front, enum chardev_event event)
{
    struct monitor *monitor = front;
    switch (event) {
    case CHARDEV_OPENED:
        monitor->opened = true;
        monitor->greeted = false;
        break;
    case CHARDEV_CLOSED:
        monitor->n_in = 0;
        break;
    case CHARDEV_FOCUS_IN:
        monitor->focused = true;
        monitor->opened |= !monitor->is_qmp;
        break;
    case CHARDEV_FOCUS_OUT:
        monitor->focused = false;
        break;
    case CHARDEV_EMPTY:
        break;
    }
    loop_schedule(monitor->loop, &monitor->work);
}

/* -- Output -------------------------------------------------------------------------------- */

static void send_bytes(void *opaque, const char *text, size_t len)
{
    struct monitor *monitor = opaque;
    board_lock(monitor->board);
    chardev_write(monitor->line, (const u8 *)text, len);
    board_unlock(monitor->board);
}

static void say(struct monitor *monitor, const char *text)
{
    send_bytes(monitor, text, strlen(text));
}

/* Terminals want a carriage return before each line feed. */
static void say_lines(struct monitor *monitor, const char *text, size_t len)
{
    for (const char *end = text + len; text < end;) {
        const char *feed = memchr(text, '\n', (size_t)(end - text));
        size_t part = (size_t)((feed ? feed : end) - text);
        send_bytes(monitor, text, part);
        if (feed)
            say(monitor, "\r\n");
        text += part + (feed != NULL);
    }
}

void monitor_event(struct monitor *monitor, const json_t *event)
{
    if (!monitor->is_qmp)
        return;
    board_lock(monitor->board);
    const struct chardev *line = monitor->line;
    bool room = !line->queued || line->queued(line->back) < EVENTS;
    board_unlock(monitor->board);
    if (room)
        qmp_event(&monitor->qmp, event);
}

/* -- Text ---------------------------------------------------------------------------------- */

static void run_line(struct monitor *monitor)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    ensure(out);
    monitor->typed[monitor->n_typed] = 0;
    monitor->n_typed = 0;
    hmp_run(monitor->control, monitor->typed, &monitor->cpu, out);
    fclose(out);
    say_lines(monitor, text, len);
    free(text);
    say(monitor, PROMPT);
}

/* Cursor keys (ESC [ or ESC O, parameters, a letter) are not for us. True: part of one. */
static bool skip_escape(struct monitor *monitor, u8 c)
{
    if (!monitor->escape) {
        monitor->escape = c == 27;
        return c == 27;
    }
    if (monitor->escape == 1)
        monitor->escape = c == '[' || c == 'O' ? 2 : 0;
    else if (c >= 0x40)
        monitor->escape = 0;
    return true;
}

/* A character of the line being typed. */
static void type(struct monitor *monitor, u8 c)
{
    bool after_cr = monitor->was_cr;
    monitor->was_cr = c == '\r';
    if (skip_escape(monitor, c) || (c == '\n' && after_cr))
        return;
    if (c == '\r' || c == '\n') {
        say(monitor, "\r\n");
        run_line(monitor);
    } else if ((c == 8 || c == 127) && monitor->n_typed) {
        monitor->n_typed--;
        say(monitor, "\b \b");
    } else if (c == 21 || c == 3) { /* Ctrl-u, Ctrl-c */
        monitor->n_typed = 0;
        say(monitor, "\r\n" PROMPT);
    } else if (c >= ' ' && c != 127 && monitor->n_typed < LINE - 1) {
        monitor->typed[monitor->n_typed++] = (char)c;
        send_bytes(monitor, (const char *)&c, 1);
    }
}

static void greet(struct monitor *monitor)
{
    if (monitor->is_qmp) {
        qmp_greet(&monitor->qmp);
        return;
    }
    monitor->n_typed = 0;
    say(monitor, monitor->greeted ? "\r\n" : "Doppel ");
    if (!monitor->greeted) {
        say(monitor, control_config(monitor->control)->version);
        say(monitor, " monitor - type 'help' for more information\r\n");
    }
    monitor->greeted = true;
    say(monitor, PROMPT);
}

/* -- The loop's turn ----------------------------------------------------------------------- */

/* Takes what has come, at most one command of QMP's; returns how many bytes it took. */
static size_t take(struct monitor *monitor, const u8 *data, size_t len)
{
    if (monitor->is_qmp)
        return qmp_feed(&monitor->qmp, data, len);
    type(monitor, data[0]);
    return 1;
}

static void work(void *opaque)
{
    struct monitor *monitor = opaque;
    u8 data[INPUT];
    board_lock(monitor->board);
    bool opened = monitor->opened && (monitor->focused || monitor->is_qmp);
    monitor->opened &= !opened;
    board_unlock(monitor->board);
    if (opened)
        greet(monitor);
    for (;;) {
        board_lock(monitor->board);
        size_t len = is_full(monitor) ? 0 : monitor->n_in;
        memcpy(data, monitor->in, len);
        board_unlock(monitor->board);
        if (!len)
            break;
        size_t taken = take(monitor, data, len);
        board_lock(monitor->board);
        /* A client that left meanwhile took its input along. */
        if (taken > monitor->n_in)
            taken = monitor->n_in;
        monitor->n_in -= taken;
        memmove(monitor->in, monitor->in + taken, monitor->n_in);
        board_unlock(monitor->board);
    }
    board_lock(monitor->board);
    chardev_room(monitor->line);
    board_unlock(monitor->board);
}

/* -- Life ---------------------------------------------------------------------------------- */

struct monitor *monitor_create(struct control *control, const struct monitor_config *config,
                               struct chardev *line)
{
    struct monitor *monitor = calloc(1, sizeof(*monitor));
    ensure(monitor);
    monitor->control = control;
    monitor->board = vm_board(control_vm(control));
    monitor->loop = vm_loop(control_vm(control));
    monitor->line = line;
    monitor->is_qmp = config->qmp;
    monitor->qmp = (struct qmp){
        .control = control, .send = send_bytes, .opaque = monitor, .pretty = config->pretty};
    monitor->work = (struct loop_work){.run = work, .opaque = monitor};
    loop_add_work(monitor->loop, &monitor->work);
    board_lock(monitor->board);
    line->front = monitor;
    line->can_receive = can_receive;
    line->receive = receive;
    line->event = on_event;
    line->outside = true;
    monitor->opened = line->open;
    monitor->focused = line->focused;
    board_unlock(monitor->board);
    loop_schedule(monitor->loop, &monitor->work);
    return monitor;
}

void monitor_destroy(struct monitor *monitor)
{
    board_lock(monitor->board);
    monitor->line->can_receive = NULL;
    monitor->line->receive = NULL;
    monitor->line->event = NULL;
    board_unlock(monitor->board);
    loop_remove_work(monitor->loop, &monitor->work);
    qmp_free(&monitor->qmp);
    free(monitor);
}
