/* All monitors of one machine, see control.h. */
#include "control/control.h"

#include <stdlib.h>

#include "base/ensure.h"
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

void control_event(struct control *control, const char *name, json_t *data)
{
    json_t *event = qmp_event_new(name, data);
    for (unsigned i = 0; i < control->config.n_monitors; i++)
        if (control->monitors[i])
            monitor_event(control->monitors[i], event);
    json_decref(event);
}

static void watch(void *opaque, const struct vm_event *event)
{
    static const char *const names[] = {
        [VM_EVENT_STOP] = "STOP",           [VM_EVENT_RESUME] = "RESUME",
        [VM_EVENT_RESET] = "RESET",         [VM_EVENT_SHUTDOWN] = "SHUTDOWN",
        [VM_EVENT_POWERDOWN] = "POWERDOWN",
    };
    json_t *data = event->reason
                       ? json_pack("{s:b, s:s}", "guest", event->guest, "reason", event->reason)
                       : NULL;
    control_event(opaque, names[event->kind], data);
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
