/* All monitors of one machine, see control.h. */
#include "control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "control/actions.h"
#include "control/monitor.h"
#include "control/qmp.h"

struct control {
    struct vm *vm;
    struct control_config config;
    struct vm_watcher watcher;
    struct monitor *monitors[CONTROL_MAX_MONITORS];
};

struct vm *control_vm(struct control *control)
{
    return control->vm;
}

const struct control_config *control_config(const struct control *control)
{
    return &control->config;
}

json_t *control_version(const struct control *control)
{
    char package[64];
    snprintf(package, sizeof(package), "Doppel %s", control->config.version);
    json_t *version = json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "micro", 0, "minor", 2,
                                "major", 7, "package", package);
    ensure(version);
    return version;
}

/* Tells every QMP client; takes `data` over, NULL: none. */
static void tell_clients(struct control *control, const char *name, json_t *data)
{
    json_t *event = qmp_event_new(name, data);
    for (unsigned i = 0; i < control->config.n_monitors; i++)
        if (control->monitors[i])
            monitor_event(control->monitors[i], event);
    json_decref(event);
}

static json_t *disk_failure(struct control *control, const struct vm_event *event)
{
    static const char *const actions[] = {
        [BLOCK_REPORT] = "report", [BLOCK_IGNORE] = "ignore", [BLOCK_STOP] = "stop"};
    const struct block_failure *failure = event->failure;
    char device[64];
    action_disk_name(vm_config(control->vm), event->disk, device, sizeof(device));
    return json_pack("{s:s, s:s, s:s, s:b, s:s}", "device", device, "operation",
                     failure->write ? "write" : "read", "action", actions[failure->action],
                     "nospace", failure->error == ENOSPC, "reason", strerror(failure->error));
}

static json_t *moved_tray(struct control *control, const struct vm_event *event)
{
    char name[64], device[80];
    action_disk_name(vm_config(control->vm), event->disk, name, sizeof(name));
    action_disk_device(vm_config(control->vm), event->disk, device, sizeof(device));
    return json_pack("{s:s, s:s, s:b}", "device", name, "id", device, "tray-open",
                     event->tray_open);
}

static void watch(void *opaque, const struct vm_event *event)
{
    static const char *const names[] = {
        [VM_EVENT_STOP] = "STOP",
        [VM_EVENT_RESUME] = "RESUME",
        [VM_EVENT_RESET] = "RESET",
        [VM_EVENT_SHUTDOWN] = "SHUTDOWN",
        [VM_EVENT_POWERDOWN] = "POWERDOWN",
        [VM_EVENT_DISK_FAILED] = "BLOCK_IO_ERROR",
        [VM_EVENT_TRAY_MOVED] = "DEVICE_TRAY_MOVED",
        [VM_EVENT_CLOCK_SET] = "RTC_CHANGE",
    };
    json_t *data = NULL;
    if (event->kind == VM_EVENT_TRAY_MOVED)
        data = moved_tray(opaque, event);
    else if (event->kind == VM_EVENT_CLOCK_SET)
        data = json_pack("{s:I, s:s}", "offset", (json_int_t)event->clock_offset, "qom-path",
                         "/machine/unattached/rtc");
    else if (event->failure)
        data = disk_failure(opaque, event);
    else if (event->reason)
        data = json_pack("{s:b, s:s}", "guest", event->guest, "reason", event->reason);
    tell_clients(opaque, names[event->kind], data);
}

struct control *control_create(struct vm *vm, const struct control_config *config)
{
    struct control *control = calloc(1, sizeof(*control));
    ensure(control);
    control->vm = vm;
    control->config = *config;
    control->watcher = (struct vm_watcher){.event = watch, .opaque = control};
    vm_watch(vm, &control->watcher);
    for (unsigned i = 0; i < config->n_monitors; i++) {
        board_lock(vm_board(vm));
        struct chardev *line = plugs_line(vm_plugs(vm), config->monitors[i].line);
        board_unlock(vm_board(vm));
        ensure(line); /* the command line has counted them */
        control->monitors[i] = monitor_create(control, &config->monitors[i], line);
    }
    return control;
}

void control_destroy(struct control *control)
{
    if (!control)
        return;
    vm_unwatch(control->vm, &control->watcher);
    for (unsigned i = 0; i < control->config.n_monitors; i++)
        monitor_destroy(control->monitors[i]);
    free(control);
}
