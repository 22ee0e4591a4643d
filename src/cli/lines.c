/* Lines of bytes on the command line, see lines.h. */
#include "cli/lines.h"

#include <stdio.h>
#include <string.h>

#include "cli/words.h"

static struct line_config *new_line(struct run_options *o, const char *option,
                                    struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (plugs->n_lines == PLUGS_MAX_LINES) {
        error_set(err, "%s: more than %d lines", option, PLUGS_MAX_LINES);
        return NULL;
    }
    struct line_config *line = &plugs->lines[plugs->n_lines++];
    *line = (struct line_config){.back.option = option};
    return line;
}

static bool take(struct line_config *line, const char *option, struct error *err)
{
    if (line->users == (line->back.mux ? CHAR_MAX_PORTS : 1))
        return error_set(err,
                         "%s: chardev '%.60s' is in use by another device; mux=on lets %d "
                         "share it",
                         option, line->id, CHAR_MAX_PORTS);
    line->users++;
    return true;
}

bool lines_use(struct run_options *o, const char *option, const char *id, unsigned *line,
               struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    for (*line = 0; *line < plugs->n_lines; ++*line)
        if (plugs->lines[*line].id[0] && !strcmp(plugs->lines[*line].id, id))
            return take(&plugs->lines[*line], option, err);
    return error_set(err, "%s: no -chardev with id=%.60s", option, id);
}

/* -- Sockets ------------------------------------------------------------------------------- */

static bool socket_switch(const char *option, const struct word *word, bool *on,
                          struct error *err)
{
    *on = true;
    return !word->value || words_switch(option, word->value, on, err);
}

/* The words that -serial unix: and -chardev socket share. */
static bool socket_word(struct char_config *back, const char *option, const struct word *word,
                        struct error *err)
{
    bool ignored;
    if (!strcmp(word->key, "server"))
        return socket_switch(option, word, &back->server, err);
    if (!strcmp(word->key, "wait"))
        return socket_switch(option, word, &back->wait, err);
    if (!strcmp(word->key, "nodelay") || !strcmp(word->key, "delay"))
        return socket_switch(option, word, &ignored, err);
    if (!strcmp(word->key, "nowait") && !word->value) {
        back->wait = false;
        return true;
    }
    return error_set(err, "%s: '%.60s' is not supported; there are server and wait", option,
                     word->key);
}

static bool socket_port(struct char_config *back, const char *option, const char *text,
                        struct error *err)
{
    u64 port;
    if (!words_number(option, text, 1, 65535, &port, err))
        return false;
    back->port = (u16)port;
    return true;
}

/* "HOST:PORT", the host maybe empty or in brackets. */
static bool socket_address(struct char_config *back, const char *option, const char *text,
                           struct error *err)
{
    const char *colon = strrchr(text, ':');
    if (!colon)
        return error_set(err, "%s: 'tcp:%.100s' has no port; write tcp:HOST:PORT", option,
                         text);
    bool brackets = *text == '[' && colon > text + 1 && colon[-1] == ']';
    size_t length = (size_t)(colon - text) - 2 * brackets;
    if (length >= sizeof(back->host))
        return error_set(err, "%s: '%.100s' is too long", option, text);
    memcpy(back->host, text + brackets, length);
    return socket_port(back, option, colon + 1, err);
}

/* "unix:PATH,..." or "tcp:HOST:PORT,..."; `where` is behind the colon. */
static bool parse_socket(struct char_config *back, const char *option, bool is_unix,
                         const char *where, struct error *err)
{
    char address[sizeof(back->path)] = "";
    struct word word;
    size_t length = strcspn(where, ",");
    if (!length || length >= sizeof(address))
        return error_set(err, "%s: the socket's address is missing or too long", option);
    memcpy(address, where, length);
    const char *list = where + length + (where[length] == ',');
    back->kind = CHAR_SOCKET;
    back->wait = true;
    if (is_unix)
        strcpy(back->path, address);
    else if (!socket_address(back, option, address, err))
        return false;
    while (words_next(&list, &word))
        if (!socket_word(back, option, &word, err))
            return false;
    return true;
}

/* -- -serial's words ----------------------------------------------------------------------- */

static bool parse_where(struct char_config *back, const char *option, const char *text,
                        struct error *err)
{
    if (!strcmp(text, "stdio"))
        back->kind = CHAR_STDIO;
    else if (!strcmp(text, "null") || !strcmp(text, "none"))
        back->kind = CHAR_NULL;
    else if (!strcmp(text, "pty"))
        back->kind = CHAR_PTY;
    else if (!strncmp(text, "unix:", 5) || !strncmp(text, "tcp:", 4))
        return parse_socket(back, option, *text == 'u', strchr(text, ':') + 1, err);
    else if (!strncmp(text, "file:", 5) && text[5]) {
        back->kind = CHAR_FILE;
        return words_copy(option, text + 5, back->path, sizeof(back->path), err);
    } else {
        return error_set(err,
                         "%s: '%.200s' is not supported; use stdio, mon:stdio, file:PATH, pty, "
                         "unix:PATH, tcp:HOST:PORT, chardev:ID or null",
                         option, text);
    }
    return true;
}

static bool add_monitor(struct run_options *o, const struct monitor_config *monitor,
                        struct error *err)
{
    if (o->control.n_monitors == CONTROL_MAX_MONITORS)
        return error_set(err, "-mon: more than %d monitors", CONTROL_MAX_MONITORS);
    o->control.monitors[o->control.n_monitors++] = *monitor;
    return true;
}

bool lines_find(struct run_options *o, const char *option, const char *label, const char *text,
                unsigned *line, struct error *err)
{
    if (!strncmp(text, "chardev:", 8))
        return lines_use(o, option, text + 8, line, err);
    struct line_config *config = new_line(o, option, err);
    if (!config)
        return false;
    *line = o->vm.plugs.n_lines - 1;
    config->users = 1;
    snprintf(config->back.label, sizeof(config->back.label), "%s", label);
    if (!strncmp(text, "mon:", 4)) {
        const struct monitor_config monitor = {.line = *line};
        config->back.keys = config->back.mux = true;
        config->users++;
        text += 4;
        if (!add_monitor(o, &monitor, err))
            return false;
    }
    return parse_where(&config->back, option, text, err);
}

bool lines_add_serial(struct run_options *o, const char *value, struct error *err)
{
    char label[16];
    if (o->vm.n_serial == VM_MAX_SERIAL)
        return error_set(err, "-serial: the machine has %u serial lines", VM_MAX_SERIAL);
    snprintf(label, sizeof(label), "serial%u", o->vm.n_serial);
    o->serial_given = true;
    return lines_find(o, "-serial", label, value, &o->vm.serial[o->vm.n_serial++], err);
}

/* -- Monitors ------------------------------------------------------------------------------ */

static bool add_monitor_at(struct run_options *o, const char *option, const char *where,
                           bool qmp, bool pretty, struct error *err)
{
    struct monitor_config monitor = {.qmp = qmp, .pretty = pretty};
    char label[32];
    snprintf(label, sizeof(label), "compat_monitor%u", o->control.n_monitors);
    return lines_find(o, option, label, where, &monitor.line, err) &&
           add_monitor(o, &monitor, err);
}

bool lines_add_monitor(struct run_options *o, const char *value, struct error *err)
{
    if (!strcmp(value, "none"))
        return true;
    return add_monitor_at(o, "-monitor", value, false, false, err);
}

bool lines_add_qmp(struct run_options *o, const char *value, struct error *err)
{
    if (!strcmp(value, "none"))
        return true;
    return add_monitor_at(o, "-qmp", value, true, false, err);
}

bool lines_add_qmp_pretty(struct run_options *o, const char *value, struct error *err)
{
    return add_monitor_at(o, "-qmp-pretty", value, true, true, err);
}

static bool mon_word(struct run_options *o, struct monitor_config *monitor,
                     const struct word *word, bool *line, struct error *err)
{
    const char *value =
        word->value ? word->value : word->key; /* the chardev= may be left out */
    if (!word->value || !strcmp(word->key, "chardev")) {
        *line = true;
        return lines_use(o, "-mon", value, &monitor->line, err);
    }
    if (!strcmp(word->key, "pretty"))
        return words_switch("-mon pretty", value, &monitor->pretty, err);
    if (strcmp(word->key, "mode"))
        return error_set(err, "-mon: '%.60s' is not supported; there are chardev, mode, pretty",
                         word->key);
    monitor->qmp = !strcmp(value, "control");
    return monitor->qmp || !strcmp(value, "readline") ||
           error_set(err, "-mon: mode=%.60s is neither control nor readline", value);
}

bool lines_add_mon(struct run_options *o, const char *value, struct error *err)
{
    struct monitor_config monitor = {0};
    struct word word;
    bool line = false;
    while (words_next(&value, &word))
        if (!mon_word(o, &monitor, &word, &line, err))
            return false;
    return line ? add_monitor(o, &monitor, err) : error_set(err, "-mon: no chardev=ID");
}

/* -- -chardev ------------------------------------------------------------------------------ */

static bool chardev_kind(struct char_config *back, const char *name, struct error *err)
{
    static const struct {
        const char *name;
        enum char_kind kind;
    } kinds[] = {{"null", CHAR_NULL},
                 {"stdio", CHAR_STDIO},
                 {"file", CHAR_FILE},
                 {"pty", CHAR_PTY},
                 {"socket", CHAR_SOCKET}};
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!strcmp(name, kinds[i].name)) {
            back->kind = kinds[i].kind;
            return true;
        }
    }
    return error_set(
        err, "-chardev: '%.60s' is not supported; use null, stdio, file, pty or socket", name);
}

static bool chardev_word(struct line_config *line, const struct word *word, struct error *err)
{
    struct char_config *back = &line->back;
    bool ignored;
    if (word->value && !strcmp(word->key, "id"))
        return words_copy("-chardev id", word->value, line->id, sizeof(line->id), err);
    if (word->value && !strcmp(word->key, "path"))
        return words_copy("-chardev path", word->value, back->path, sizeof(back->path), err);
    if (word->value && !strcmp(word->key, "mux"))
        return words_switch("-chardev mux", word->value, &back->mux, err);
    if (word->value && !strcmp(word->key, "signal"))
        return words_switch("-chardev signal", word->value, &ignored, err);
    if (back->kind != CHAR_SOCKET)
        return error_set(err, "-chardev: '%.60s' is not supported; there are id, path and mux",
                         word->key);
    if (word->value && !strcmp(word->key, "host"))
        return words_copy("-chardev host", word->value, back->host, sizeof(back->host), err);
    if (word->value && !strcmp(word->key, "port"))
        return socket_port(back, "-chardev port", word->value, err);
    return socket_word(back, "-chardev", word, err);
}

bool lines_add(struct run_options *o, const char *value, struct error *err)
{
    struct word word = {0};
    struct line_config *line = new_line(o, "-chardev", err);
    if (!line)
        return false;
    line->back.wait = true;
    words_next(&value, &word);
    if (!chardev_kind(&line->back, word.key, err))
        return false;
    while (words_next(&value, &word))
        if (!chardev_word(line, &word, err))
            return false;
    const struct plugs_config *plugs = &o->vm.plugs;
    if (!line->id[0])
        return error_set(err, "-chardev: no id=ID");
    if (!words_new_id("-chardev", line->id, plugs->lines->id, plugs->n_lines - 1, sizeof(*line),
                      err))
        return false;
    if (line->back.kind == CHAR_FILE && !line->back.path[0])
        return error_set(err, "-chardev file: no path=PATH");
    if (line->back.kind == CHAR_SOCKET && !line->back.path[0] && !line->back.port)
        return error_set(err, "-chardev socket: no path=PATH, or host=HOST and port=PORT");
    memcpy(line->back.label, line->id, sizeof(line->back.label));
    line->back.keys |= line->back.mux;
    return true;
}

/* -- Together ------------------------------------------------------------------------------ */

static unsigned terminals(const struct plugs_config *plugs)
{
    unsigned n = 0;
    for (unsigned i = 0; i < plugs->n_lines; i++)
        n += plugs->lines[i].back.kind == CHAR_STDIO;
    return n;
}

bool lines_finish(struct run_options *o, struct error *err)
{
    bool taken = o->daemonize || o->curses || terminals(&o->vm.plugs);
    if (!o->serial_given && !o->no_defaults &&
        !lines_add_serial(o, taken ? "null" : "mon:stdio", err))
        return false;
    if (o->daemonize && terminals(&o->vm.plugs))
        return error_set(err, "-daemonize: there is no terminal for a line on stdio");
    if (o->curses && (o->daemonize || terminals(&o->vm.plugs)))
        return error_set(err, "-display curses has the terminal: no -daemonize, and no line on "
                              "stdio");
    if (terminals(&o->vm.plugs) > 1)
        return error_set(err, "-serial, -chardev: only one line can have the terminal; "
                              "mux=on lets several share it");
    return true;
}
