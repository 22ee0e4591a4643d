/* QMP's commands about devices: disks, lines, balloon, keyboard, screen. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "control/actions.h"
#include "control/qmp.h"
#include "device/scan_codes.h"
#include "host/block/back.h"

/* -- Disks --------------------------------------------------------------------------------- */

static json_t *disk_image(const struct disk_config *disk, u64 size)
{
    struct stat stat = {0};
    json_t *image =
        json_pack("{s:I, s:s?, s:s, s:b}", "virtual-size", (json_int_t)size, "filename",
                  disk->path, "format", action_disk_format(disk), "dirty-flag", 0);
    if (image && !lstat(disk->path, &stat))
        json_object_set_new(image, "actual-size", json_integer(stat.st_blocks * 512));
    return image;
}

static json_t *disk_inserted(const struct disk_config *disk, u64 size)
{
    const struct image_cache *cache = &disk->image.cache;
    static const char *const limits[] = {"bps",  "bps_rd",  "bps_wr",
                                         "iops", "iops_rd", "iops_wr"};
    json_t *inserted =
        json_pack("{s:s, s:b, s:s, s:b, s:i, s:s, s:i, s:{s:b, s:b, s:b}, s:o}", "file",
                  disk->path, "ro", disk->image.read_only, "drv", action_disk_format(disk),
                  "encrypted", 0, "backing_file_depth", 0, "detect_zeroes", "off",
                  "write_threshold", 0, "cache", "writeback", cache->writeback, "direct",
                  cache->direct, "no-flush", cache->no_flush, "image", disk_image(disk, size));
    for (unsigned i = 0; inserted && i < ARRAY_LEN(limits); i++)
        json_object_set_new(inserted, limits[i], json_integer(0));
    return inserted;
}

/* As QEMU has it: what made the machine stop, until it goes on. */
static const char *io_status(struct vm *vm, unsigned i)
{
    if (vm_state(vm) != VM_STATE_IO_ERROR)
        return "ok";
    board_lock(vm_board(vm));
    int error = vm_plugs(vm)->disk_failures[i].what.error;
    board_unlock(vm_board(vm));
    return error == ENOSPC ? "nospace" : error ? "failed" : "ok";
}

static json_t *query_block(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct vm *vm = control_vm(control);
    const struct plugs_config *plugs = &vm_config(vm)->plugs;
    json_t *list = json_array();
    for (unsigned i = 0; i < plugs->n_disks; i++) {
        char name[64], device[80];
        u64 size = block_back_block(vm_plugs(vm)->disks[i])->size;
        action_disk_name(vm_config(vm), i, name, sizeof(name));
        struct vm_medium medium = vm_medium(vm, i);
        json_t *disk =
            json_pack("{s:s, s:s, s:b, s:b, s:s}", "device", name, "type", "unknown",
                      "removable", medium.removable, "locked",
                      medium.removable && medium.locked, "io-status", io_status(vm, i));
        if (medium.removable)
            json_object_set_new(disk, "tray_open", json_boolean(medium.open));
        action_disk_device(vm_config(vm), i, device, sizeof(device));
        if (device[0])
            json_object_set_new(disk, "qdev", json_string(device));
        json_t *inserted =
            plugs->disks[i].path[0] ? disk_inserted(&plugs->disks[i], size) : NULL;
        if (inserted)
            json_object_set_new(disk, "inserted", inserted);
        json_array_append_new(list, disk);
    }
    return list;
}

/* -- Removable media ----------------------------------------------------------------------- */

/* The drive that a command is about: its name, or its device's. NULL: *error says it. */
static const char *drive_name(const json_t *args, struct qmp_error *error)
{
    const char *device = qmp_string(args, "device", NULL), *id = qmp_string(args, "id", NULL);
    if (!device == !id) {
        qmp_fail(error, QMP_GENERIC, "Need exactly one of 'device' and 'id'");
        return NULL;
    }
    return device ? device : id;
}

static json_t *open_drive(struct control *control, const json_t *args, struct qmp_error *error,
                          bool (*action)(struct control *, const char *, bool, struct error *))
{
    const char *name = drive_name(args, error);
    bool force = json_is_true(json_object_get(args, "force"));
    struct error why;
    if (!name)
        return NULL;
    return action(control, name, force, &why) ? json_object() : qmp_fail_why(error, &why);
}

static json_t *eject(struct control *control, const json_t *args, struct qmp_error *error)
{
    return open_drive(control, args, error, action_eject);
}

static json_t *open_tray(struct control *control, const json_t *args, struct qmp_error *error)
{
    return open_drive(control, args, error, action_open_tray);
}

static json_t *close_tray(struct control *control, const json_t *args, struct qmp_error *error)
{
    const char *name = drive_name(args, error);
    struct error why;
    if (!name)
        return NULL;
    return action_close_tray(control, name, &why) ? json_object() : qmp_fail_why(error, &why);
}

static json_t *remove_medium(struct control *control, const json_t *args,
                             struct qmp_error *error)
{
    struct error why;
    bool good = action_remove_medium(control, qmp_string(args, "id", ""), &why);
    return good ? json_object() : qmp_fail_why(error, &why);
}

static json_t *change_medium(struct control *control, const json_t *args,
                             struct qmp_error *error)
{
    const char *name = drive_name(args, error);
    struct error why;
    const struct action_medium medium = {.path = qmp_string(args, "filename", ""),
                                         .format = qmp_string(args, "format", NULL),
                                         .mode = qmp_string(args, "read-only-mode", NULL),
                                         .force = json_is_true(json_object_get(args, "force"))};
    if (!name)
        return NULL;
    return action_change_medium(control, name, &medium, &why) ? json_object()
                                                              : qmp_fail_why(error, &why);
}

/* -- Lines --------------------------------------------------------------------------------- */

static json_t *query_chardev(struct control *control, const json_t *args,
                             struct qmp_error *error)
{
    struct vm *vm = control_vm(control);
    const struct plugs_config *plugs = &vm_config(vm)->plugs;
    json_t *list = json_array();
    for (unsigned i = 0; i < plugs->n_lines; i++) {
        char text[512];
        char_describe(vm_plugs(vm)->lines[i], text, sizeof(text));
        json_t *line = json_pack("{s:b, s:s, s:s}", "frontend-open", plugs->lines[i].users > 0,
                                 "filename", text, "label", plugs->lines[i].back.label);
        if (line)
            json_array_append_new(list, line);
    }
    return list;
}

/* -- Balloon ------------------------------------------------------------------------------- */

static json_t *no_balloon(struct qmp_error *error)
{
    qmp_fail(error, "DeviceNotActive", "No balloon device has been activated");
    return NULL;
}

static json_t *balloon(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct error why = {{0}};
    if (action_set_balloon(control, qmp_integer(args, "value", 0), &why))
        return json_object();
    return why.text[0] ? qmp_fail_why(error, &why) : no_balloon(error);
}

static json_t *query_balloon(struct control *control, const json_t *args,
                             struct qmp_error *error)
{
    u64 bytes;
    if (!action_get_balloon(control, &bytes))
        return no_balloon(error);
    return json_pack("{s:I}", "actual", (json_int_t)bytes);
}

/* -- Keyboard and screen ------------------------------------------------------------------- */

/* {"type": "qcode", "data": "ret"} or {"type": "number", "data": 28} */
static bool one_key(const json_t *value, enum input_key *key, struct qmp_error *error)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    const json_t *data = json_object_get(value, "data");
    const char *name = json_string_value(data);
    long long number = json_integer_value(data);
    if (type && !strcmp(type, "qcode") && name) {
        *key = input_key_named(name);
        if (*key == INPUT_KEY_NONE)
            qmp_fail(error, QMP_GENERIC, "Parameter 'data' does not accept value '%.60s'",
                     name);
    } else if (type && !strcmp(type, "number") && json_is_integer(data)) {
        *key = scan_key_numbered((u64)number);
        if (*key == INPUT_KEY_NONE)
            qmp_fail(error, QMP_GENERIC, "Parameter 'data' does not accept value '%lld'",
                     number);
    } else {
        *key = INPUT_KEY_NONE;
        qmp_fail(error, QMP_GENERIC,
                 "Invalid parameter 'keys': keys are {\"type\": \"qcode\", \"data\": NAME} or "
                 "{\"type\": \"number\", \"data\": CODE}");
    }
    return *key != INPUT_KEY_NONE;
}

static json_t *send_key(struct control *control, const json_t *args, struct qmp_error *error)
{
    const json_t *list = json_object_get(args, "keys");
    enum input_key keys[INPUT_MAX_KEYS];
    size_t n = json_array_size(list);
    struct error why;
    s64 hold = qmp_integer(args, "hold-time", 0);
    if (!n || n > INPUT_MAX_KEYS) {
        qmp_fail(error, QMP_GENERIC, "Parameter 'keys' expects 1 to %d keys", INPUT_MAX_KEYS);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        if (!one_key(json_array_get(list, i), &keys[i], error))
            return NULL;
    bool good = action_send_keys(control, keys, (unsigned)n, hold > 0 ? (u64)hold : 0, &why);
    return good ? json_object() : qmp_fail_why(error, &why);
}

static json_t *screendump(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct error why;
    bool good = action_screendump(control, qmp_string(args, "filename", ""),
                                  qmp_string(args, "format", "ppm"), &why);
    return good ? json_object() : qmp_fail_why(error, &why);
}

static const struct qmp_command commands[] = {
    {"query-block", query_block, {}},
    {"eject", eject, {{"device", 's', true}, {"id", 's', true}, {"force", 'b', true}}},
    {"blockdev-open-tray",
     open_tray,
     {{"device", 's', true}, {"id", 's', true}, {"force", 'b', true}}},
    {"blockdev-close-tray", close_tray, {{"device", 's', true}, {"id", 's', true}}},
    {"blockdev-remove-medium", remove_medium, {{"id", 's', false}}},
    {"blockdev-change-medium",
     change_medium,
     {{"device", 's', true},
      {"id", 's', true},
      {"filename", 's', false},
      {"format", 's', true},
      {"force", 'b', true},
      {"read-only-mode", 's', true}}},
    {"query-chardev", query_chardev, {}},
    {"balloon", balloon, {{"value", 'i', false}}},
    {"query-balloon", query_balloon, {}},
    {"send-key", send_key, {{"keys", 'l', false}, {"hold-time", 'i', true}}},
    {"screendump",
     screendump,
     {{"filename", 's', false},
      {"device", 's', true},
      {"head", 'i', true},
      {"format", 's', true}}},
};

const struct qmp_table qmp_device_commands = {commands, ARRAY_LEN(commands)};
