/*
 * The control protocol QMP in QEMU's wire format: a greeting, JSON commands with their answers,
 * events. One struct qmp is one conversation; where its bytes come from and go to is the
 * caller's affair, so that tests and the fuzzer talk to it without a socket.
 *
 *   > {"execute": "stop", "id": 7}
 *   < {"timestamp": {...}, "event": "STOP"}
 *   < {"return": {}, "id": 7}
 *
 * Threads: the loop's, without the board lock.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "control/json_stream.h"

struct control;

struct qmp {
    struct control *control;
    void (*send)(void *opaque, const char *text, size_t len);
    void *opaque;
    bool pretty;
    bool negotiated; /* qmp_capabilities was said: commands and events from now on */
    struct json_stream stream;
};

void qmp_free(struct qmp *qmp);
/* Somebody new is at the other end: the greeting. */
void qmp_greet(struct qmp *qmp);
/* Takes `len` bytes, until the first that completes a command, which is carried out and
 * answered: returns how many it took. */
size_t qmp_feed(struct qmp *qmp, const u8 *data, size_t len);
/* `event` is borrowed. */
void qmp_event(struct qmp *qmp, const json_t *event);

/* {"timestamp": ..., "event": name, "data": data}; takes `data` over, NULL: none. */
json_t *qmp_event_new(const char *name, json_t *data);

/* -- Commands ------------------------------------------------------------------------------ */

/* Why a command failed: QEMU's error classes. `class` NULL: it did not. */
struct qmp_error {
    const char *class;
    char desc[600];
};
void qmp_fail(struct qmp_error *error, const char *class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define QMP_GENERIC "GenericError"
/* A command's answer when it failed for `why`: NULL. */
json_t *qmp_fail_why(struct qmp_error *error, const struct error *why);

/* A parameter; the dispatcher has checked that it is there, and of this type. */
struct qmp_param {
    const char *name; /* NULL ends the list */
    char type;        /* 's' string, 'i' integer, 'b' boolean, 'l' list, 'o' object, 'a' any */
    bool optional;
};

#define QMP_MAX_PARAMS 6

struct qmp_command {
    const char *name;
    /* The answer, a new reference; NULL: *error says why not. `args` is an object. */
    json_t *(*run)(struct control *control, const json_t *args, struct qmp_error *error);
    struct qmp_param params[QMP_MAX_PARAMS];
};

/* One table for each file of commands. */
struct qmp_table {
    const struct qmp_command *commands;
    unsigned n;
};
extern const struct qmp_table qmp_machine_commands;
extern const struct qmp_table qmp_device_commands;
extern const struct qmp_table qmp_query_commands;
extern const struct qmp_table qmp_object_commands;

/* Calls `each` for every command there is. */
void qmp_each_command(void (*each)(void *opaque, const char *name), void *opaque);

/* An optional argument, or what stands in for it. */
s64 qmp_integer(const json_t *args, const char *name, s64 otherwise);
const char *qmp_string(const json_t *args, const char *name, const char *otherwise);
