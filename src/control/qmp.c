/* The control protocol, see qmp.h. */
#include "control/qmp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "base/ensure.h"
#include "control/control.h"

#define COMMAND_NOT_FOUND "CommandNotFound"
#define CAPABILITIES      "qmp_capabilities"

static const struct qmp_table *const tables[] = {&qmp_machine_commands, &qmp_device_commands,
                                                 &qmp_query_commands, &qmp_object_commands};

void qmp_fail(struct qmp_error *error, const char *class, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->desc, sizeof(error->desc), format, args);
    va_end(args);
    error->class = class;
}

json_t *qmp_fail_why(struct qmp_error *error, const struct error *why)
{
    qmp_fail(error, QMP_GENERIC, "%s", why->text);
    return NULL;
}

/* -- Out ----------------------------------------------------------------------------------- */

static void send_json(struct qmp *qmp, const json_t *json)
{
    size_t flags = JSON_PRESERVE_ORDER | (qmp->pretty ? JSON_INDENT(4) : 0);
    char *text = json_dumps(json, flags);
    if (!text) /* no valid UTF-8 inside: names of files */
        text = json_dumps(json, flags | JSON_ENSURE_ASCII);
    if (!text)
        return;
    qmp->send(qmp->opaque, text, strlen(text));
    qmp->send(qmp->opaque, "\r\n", 2);
    free(text);
}

void qmp_greet(struct qmp *qmp)
{
    json_stream_reset(&qmp->stream);
    qmp->negotiated = false;
    json_t *version = control_version(qmp->control);
    json_t *greeting = json_pack("{s:{s:o, s:[]}}", "QMP", "version", version, "capabilities");
    ensure(greeting);
    send_json(qmp, greeting);
    json_decref(greeting);
}

json_t *qmp_event_new(const char *name, json_t *data)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    json_t *event =
        json_pack("{s:{s:I, s:I}, s:s}", "timestamp", "seconds", (json_int_t)now.tv_sec,
                  "microseconds", (json_int_t)now.tv_usec, "event", name);
    ensure(event);
    if (data)
        json_object_set_new(event, "data", data);
    return event;
}

void qmp_event(struct qmp *qmp, const json_t *event)
{
    if (qmp->negotiated)
        send_json(qmp, event);
}

/* Takes `result` over; NULL: the error is the answer. */
static void answer(struct qmp *qmp, json_t *result, const struct qmp_error *error, json_t *id)
{
    json_t *reply = result ? json_pack("{s:o}", "return", result)
                           : json_pack("{s:{s:s, s:s}}", "error", "class", error->class, "desc",
                                       error->desc);
    /* A description that is no UTF-8 quotes the client's own words. */
    if (!reply)
        reply = json_pack("{s:{s:s, s:s}}", "error", "class", QMP_GENERIC, "desc",
                          "the answer is no text");
    ensure(reply);
    if (id)
        json_object_set(reply, "id", id);
    send_json(qmp, reply);
    json_decref(reply);
}

/* -- Checking a command -------------------------------------------------------------------- */

s64 qmp_integer(const json_t *args, const char *name, s64 otherwise)
{
    const json_t *value = json_object_get(args, name);
    return value ? json_integer_value(value) : otherwise;
}

const char *qmp_string(const json_t *args, const char *name, const char *otherwise)
{
    const json_t *value = json_object_get(args, name);
    return value ? json_string_value(value) : otherwise;
}

static bool has_type(const json_t *value, char type)
{
    switch (type) {
    case 's':
        return json_is_string(value);
    case 'i':
        return json_is_integer(value);
    case 'b':
        return json_is_boolean(value);
    case 'l':
        return json_is_array(value);
    case 'a':
        return true;
    default:
        return json_is_object(value);
    }
}

static const char *type_name(char type)
{
    return type == 's'   ? "string"
           : type == 'i' ? "integer"
           : type == 'b' ? "boolean"
           : type == 'l' ? "array"
                         : "object";
}

static const struct qmp_param *find_param(const struct qmp_param *params, const char *name)
{
    for (unsigned i = 0; i < QMP_MAX_PARAMS && params[i].name; i++)
        if (!strcmp(params[i].name, name))
            return &params[i];
    return NULL;
}

static bool check_args(const struct qmp_param *params, json_t *args, struct qmp_error *error)
{
    const char *name;
    json_t *value;
    for (unsigned i = 0; i < QMP_MAX_PARAMS && params[i].name; i++) {
        value = json_object_get(args, params[i].name);
        if (!value && !params[i].optional) {
            qmp_fail(error, QMP_GENERIC, "Parameter '%s' is missing", params[i].name);
            return false;
        }
        if (value && !has_type(value, params[i].type)) {
            qmp_fail(error, QMP_GENERIC, "Invalid parameter type for '%s', expected: %s",
                     params[i].name, type_name(params[i].type));
            return false;
        }
    }
    json_object_foreach(args, name, value)
    {
        if (!find_param(params, name)) {
            qmp_fail(error, QMP_GENERIC, "Parameter '%.200s' is unexpected", name);
            return false;
        }
    }
    return true;
}

/* The members of the message itself. NULL: *error says what is wrong with them. */
static const char *check_message(json_t *message, struct qmp_error *error)
{
    static const struct qmp_param members[QMP_MAX_PARAMS] = {
        {"execute", 's', true}, {"arguments", 'o', true}, {"id", 0, true}};
    const char *name;
    json_t *value;
    if (!json_is_object(message)) {
        qmp_fail(error, QMP_GENERIC, "QMP input must be a JSON object");
        return NULL;
    }
    json_object_foreach(message, name, value)
    {
        const struct qmp_param *member = find_param(members, name);
        if (!member)
            qmp_fail(error, QMP_GENERIC, "QMP input member '%.200s' is unexpected", name);
        else if (member->type && !has_type(value, member->type))
            qmp_fail(error, QMP_GENERIC, "QMP input member '%s' must be %s", name,
                     member->type == 's' ? "a string" : "an object");
        else
            continue;
        return NULL;
    }
    name = json_string_value(json_object_get(message, "execute"));
    if (!name)
        qmp_fail(error, QMP_GENERIC, "QMP input lacks member 'execute'");
    return name;
}

static const struct qmp_command *find_command(const char *name)
{
    for (unsigned t = 0; t < ARRAY_LEN(tables); t++)
        for (unsigned i = 0; i < tables[t]->n; i++)
            if (!strcmp(tables[t]->commands[i].name, name))
                return &tables[t]->commands[i];
    return NULL;
}

void qmp_each_command(void (*each)(void *opaque, const char *name), void *opaque)
{
    each(opaque, CAPABILITIES);
    for (unsigned t = 0; t < ARRAY_LEN(tables); t++)
        for (unsigned i = 0; i < tables[t]->n; i++)
            each(opaque, tables[t]->commands[i].name);
}

/* -- Carrying it out ----------------------------------------------------------------------- */

static json_t *negotiate(struct qmp *qmp, json_t *args, struct qmp_error *error)
{
    static const struct qmp_param params[QMP_MAX_PARAMS] = {{"enable", 'l', true}};
    if (!check_args(params, args, error))
        return NULL;
    const json_t *wanted = json_object_get(args, "enable");
    if (json_array_size(wanted)) {
        qmp_fail(error, QMP_GENERIC, "Capability '%.100s' not available",
                 json_is_string(json_array_get(wanted, 0))
                     ? json_string_value(json_array_get(wanted, 0))
                     : "?");
        return NULL;
    }
    qmp->negotiated = true;
    return json_object();
}

static json_t *run(struct qmp *qmp, const char *name, json_t *args, struct qmp_error *error)
{
    bool capabilities = !strcmp(name, CAPABILITIES);
    if (!qmp->negotiated) {
        if (capabilities)
            return negotiate(qmp, args, error);
        qmp_fail(error, COMMAND_NOT_FOUND,
                 "Expecting capabilities negotiation with 'qmp_capabilities'");
        return NULL;
    }
    const struct qmp_command *command = find_command(name);
    if (capabilities)
        qmp_fail(error, COMMAND_NOT_FOUND,
                 "Capabilities negotiation is already complete, command ignored");
    else if (!command)
        qmp_fail(error, COMMAND_NOT_FOUND, "The command %.200s has not been found", name);
    else if (check_args(command->params, args, error))
        return command->run(qmp->control, args, error);
    return NULL;
}

static void execute(struct qmp *qmp, json_t *message)
{
    struct qmp_error error = {0};
    json_t *result = NULL;
    const char *name = check_message(message, &error);
    if (name) {
        json_t *given = json_object_get(message, "arguments");
        json_t *args = given ? json_incref(given) : json_object();
        result = run(qmp, name, args, &error);
        json_decref(args);
    }
    answer(qmp, result, &error, json_object_get(message, "id"));
}

/* -- In ------------------------------------------------------------------------------------ */

static void take_value(struct qmp *qmp)
{
    json_error_t why;
    struct qmp_error error;
    json_t *message =
        json_loadb(qmp->stream.text, qmp->stream.len,
                   JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (message) {
        execute(qmp, message);
        json_decref(message);
        return;
    }
    qmp_fail(&error, QMP_GENERIC, "JSON parse error, %s", why.text);
    answer(qmp, NULL, &error, NULL);
}

size_t qmp_feed(struct qmp *qmp, const u8 *data, size_t len)
{
    struct qmp_error error;
    for (size_t i = 0; i < len; i++) {
        enum json_stream_result result = json_stream_feed(&qmp->stream, data[i]);
        bool again = qmp->stream.again;
        if (result == JSON_STREAM_MORE)
            continue;
        if (result == JSON_STREAM_VALUE) {
            take_value(qmp);
        } else {
            qmp_fail(&error, QMP_GENERIC, "JSON parse error, %s", qmp->stream.problem);
            answer(qmp, NULL, &error, NULL);
        }
        return i + !again;
    }
    return len;
}

void qmp_free(struct qmp *qmp)
{
    json_stream_free(&qmp->stream);
}
