/*
 * QMP's commands about properties of devices, qom-get and qom-set: there is no tree of objects
 * behind them, only the properties that tools ask for. `path` is /machine/peripheral/ID.
 */
#include <string.h>

#include "control/control.h"
#include "control/qmp.h"
#include "device/virtio/balloon.h"

struct property {
    enum plug_kind kind; /* of device */
    const char *name;
    /* Under the board lock. `set` NULL: read only. */
    json_t *(*get)(struct vm *vm);
    bool (*set)(struct vm *vm, const json_t *value, struct qmp_error *error);
};

/* -- The balloon (docs/interop/virtio-balloon-stats in QEMU's manual) ---------------------- */

/* What the guest did not tell is -1. */
static json_t *balloon_stats(struct vm *vm)
{
    static const char *const names[VIRTIO_BALLOON_STATS] = {
        "stat-swap-in",      "stat-swap-out",     "stat-major-faults",     "stat-minor-faults",
        "stat-free-memory",  "stat-total-memory", "stat-available-memory", "stat-disk-caches",
        "stat-htlb-pgalloc", "stat-htlb-pgfail"};
    const struct virtio_balloon_stats *stats = virtio_balloon_stats(vm_plugs(vm)->balloon);
    s64 taken = stats->taken ? stats->taken - vm_config(vm)->wall_offset : 0;
    json_t *values = json_object();
    for (unsigned i = 0; i < VIRTIO_BALLOON_STATS; i++)
        json_object_set_new(values, names[i], json_integer((json_int_t)stats->value[i]));
    return json_pack("{s:o, s:I}", "stats", values, "last-update", (json_int_t)taken);
}

static json_t *balloon_interval(struct vm *vm)
{
    return json_integer(virtio_balloon_polled(vm_plugs(vm)->balloon));
}

static bool set_balloon_interval(struct vm *vm, const json_t *value, struct qmp_error *error)
{
    json_int_t seconds = json_integer_value(value);
    if (!json_is_integer(value))
        qmp_fail(
            error, QMP_GENERIC,
            "Invalid parameter type for 'guest-stats-polling-interval', expected: integer");
    else if (seconds < 0)
        qmp_fail(error, QMP_GENERIC, "timer value must be greater than zero");
    else if (seconds > UINT32_MAX)
        qmp_fail(error, QMP_GENERIC, "timer value is too big");
    else
        virtio_balloon_poll(vm_plugs(vm)->balloon, (u32)seconds);
    return !error->class;
}

/* -- Any ----------------------------------------------------------------------------------- */

static const struct property properties[] = {
    {PLUG_BALLOON, "guest-stats", balloon_stats, NULL},
    {PLUG_BALLOON, "guest-stats-polling-interval", balloon_interval, set_balloon_interval},
};

static const struct plug_config *find_device(const struct vm *vm, const char *path)
{
    static const char folder[] = "/machine/peripheral/";
    const struct plugs_config *plugs = &vm_config(vm)->plugs;
    if (strncmp(path, folder, strlen(folder)) || !path[strlen(folder)])
        return NULL;
    for (unsigned i = 0; i < plugs->n_devices; i++)
        if (!strcmp(path + strlen(folder), plugs->devices[i].id))
            return &plugs->devices[i];
    return NULL;
}

static const struct property *find_property(const struct vm *vm, const json_t *args,
                                            struct qmp_error *error)
{
    const char *path = qmp_string(args, "path", ""), *name = qmp_string(args, "property", "");
    const struct plug_config *device = find_device(vm, path);
    if (!device) {
        qmp_fail(error, "DeviceNotFound", "Device '%.100s' not found", path);
        return NULL;
    }
    for (unsigned i = 0; i < ARRAY_LEN(properties); i++)
        if (properties[i].kind == device->kind && !strcmp(properties[i].name, name))
            return &properties[i];
    qmp_fail(error, QMP_GENERIC, "Property '%.64s.%.100s' not found", device->id, name);
    return NULL;
}

static json_t *qom_get(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct vm *vm = control_vm(control);
    const struct property *property = find_property(vm, args, error);
    if (!property)
        return NULL;
    board_lock(vm_board(vm));
    json_t *value = property->get(vm);
    board_unlock(vm_board(vm));
    return value;
}

static json_t *qom_set(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct vm *vm = control_vm(control);
    const struct property *property = find_property(vm, args, error);
    if (!property)
        return NULL;
    if (!property->set) {
        qmp_fail(error, QMP_GENERIC, "Property '%s' cannot be set", property->name);
        return NULL;
    }
    board_lock(vm_board(vm));
    bool good = property->set(vm, json_object_get(args, "value"), error);
    board_unlock(vm_board(vm));
    return good ? json_object() : NULL;
}

static const struct qmp_command commands[] = {
    {"qom-get", qom_get, {{"path", 's', false}, {"property", 's', false}}},
    {"qom-set",
     qom_set,
     {{"path", 's', false}, {"property", 's', false}, {"value", 'a', false}}},
};

const struct qmp_table qmp_object_commands = {commands, ARRAY_LEN(commands)};
