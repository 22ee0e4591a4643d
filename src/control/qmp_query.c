/*
 * QMP's questions of clients that want to know what they talk to, before they do: libvirt's and
 * others' start. What there is none of is answered by an empty list, as QEMU does it; what is
 * not known here stays CommandNotFound, and such clients do without.
 */
#include "control/actions.h"
#include "control/hardware.h"
#include "control/qmp.h"

static json_t *query_machines(struct control *control, const json_t *args,
                              struct qmp_error *error)
{
    return json_pack("[{s:s, s:s, s:b, s:i, s:b, s:b, s:b, s:s}]", "name", "pc", "alias", "q35",
                     "is-default", 1, "cpu-max", VM_MAX_CPUS, "hotpluggable-cpus", 0,
                     "numa-mem-supported", 0, "deprecated", 0, "default-cpu-type",
                     "max-x86_64-cpu");
}

static json_t *query_current_machine(struct control *control, const json_t *args,
                                     struct qmp_error *error)
{
    return json_pack("{s:b}", "wakeup-suspend-support", 0);
}

static json_t *query_cpu_definitions(struct control *control, const json_t *args,
                                     struct qmp_error *error)
{
    static const char *const models[] = {"max", "host", "x86-64-v2", "x86-64-v3"};
    json_t *list = json_array();
    for (unsigned i = 0; i < ARRAY_LEN(models); i++)
        json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:b, s:s+, s:[]}", "name",
                                              models[i], "static", 0, "migration-safe", 0,
                                              "deprecated", 0, "typename", models[i],
                                              "-x86_64-cpu", "unavailable-features"));
    return list;
}

static json_t *query_mice(struct control *control, const json_t *args, struct qmp_error *error)
{
    return json_pack("[{s:s, s:i, s:b, s:b}]", "name", "PS/2 Mouse", "index", 0, "current", 1,
                     "absolute", 0);
}

static json_t *query_display_options(struct control *control, const json_t *args,
                                     struct qmp_error *error)
{
    return json_pack("{s:s}", "type", "none");
}

static json_t *query_pci(struct control *control, const json_t *args, struct qmp_error *error)
{
    return hardware_pci(control);
}

static json_t *query_blockstats(struct control *control, const json_t *args,
                                struct qmp_error *error)
{
    return hardware_block_stats(control);
}

/* All that there can be are there. */
static json_t *query_hotpluggable_cpus(struct control *control, const json_t *args,
                                       struct qmp_error *error)
{
    json_t *list = json_array();
    for (unsigned i = vm_board(control_vm(control))->n_vcpus; i--;) {
        char path[64];
        snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
        json_array_append_new(list, json_pack("{s:s, s:i, s:{s:i, s:i, s:i}, s:s}", "type",
                                              "max-x86_64-cpu", "vcpus-count", 1, "props",
                                              "core-id", (int)i, "thread-id", 0, "socket-id", 0,
                                              "qom-path", path));
    }
    return list;
}

static json_t *empty_list(struct control *control, const json_t *args, struct qmp_error *error)
{
    return json_array();
}

static json_t *empty_object(struct control *control, const json_t *args,
                            struct qmp_error *error)
{
    return json_object();
}

static json_t *set_link(struct control *control, const json_t *args, struct qmp_error *error)
{
    const char *name = qmp_string(args, "name", "");
    if (action_set_link(control, name, json_is_true(json_object_get(args, "up"))))
        return json_object();
    qmp_fail(error, "DeviceNotFound", "Device '%.100s' not found", name);
    return NULL;
}

static const struct qmp_command commands[] = {
    {"query-machines", query_machines, {}},
    {"query-current-machine", query_current_machine, {}},
    {"query-cpu-definitions", query_cpu_definitions, {}},
    {"query-mice", query_mice, {}},
    {"query-display-options", query_display_options, {}},
    {"query-pci", query_pci, {}},
    {"query-blockstats", query_blockstats, {{"query-nodes", 'b', true}}},
    {"query-hotpluggable-cpus", query_hotpluggable_cpus, {}},
    {"query-iothreads", empty_list, {}},
    {"query-memdev", empty_list, {}},
    {"query-fdsets", empty_list, {}},
    {"query-jobs", empty_list, {}},
    {"query-block-jobs", empty_list, {}},
    {"query-memory-devices", empty_list, {}},
    {"query-migrate", empty_object, {}},
    {"query-migrate-capabilities", empty_list, {}},
    {"query-tpm-models", empty_list, {}},
    {"query-tpm-types", empty_list, {}},
    {"query-tpm", empty_list, {}},
    {"query-gic-capabilities", empty_list, {}},
    {"query-acpi-ospm-status", empty_list, {}},
    {"set_link", set_link, {{"name", 's', false}, {"up", 'b', false}}},
};

const struct qmp_table qmp_query_commands = {commands, ARRAY_LEN(commands)};
