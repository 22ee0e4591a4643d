/* QMP's commands about the machine as a whole: states, processors, memory. */
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "control/actions.h"
#include "control/hmp.h"
#include "control/qmp.h"

/* -- Who and what -------------------------------------------------------------------------- */

static json_t *query_version(struct control *control, const json_t *args,
                             struct qmp_error *error)
{
    return control_version(control);
}

static void list_command(void *opaque, const char *name)
{
    json_array_append_new(opaque, json_pack("{s:s}", "name", name));
}

static json_t *query_commands(struct control *control, const json_t *args,
                              struct qmp_error *error)
{
    json_t *list = json_array();
    qmp_each_command(list_command, list);
    return list;
}

static json_t *query_name(struct control *control, const json_t *args, struct qmp_error *error)
{
    const char *name = control_config(control)->name;
    json_t *answer = json_object();
    if (name)
        json_object_set_new(answer, "name", json_string(name));
    return answer;
}

static json_t *query_uuid(struct control *control, const json_t *args, struct qmp_error *error)
{
    const u8 *u = control_config(control)->uuid;
    char text[40];
    snprintf(text, sizeof(text),
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
             u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
             u[15]);
    return json_pack("{s:s}", "UUID", text);
}

static json_t *query_kvm(struct control *control, const json_t *args, struct qmp_error *error)
{
    bool used = !strcmp(vm_engine(control_vm(control))->name, "kvm");
    return json_pack("{s:b, s:b}", "enabled", used, "present", used);
}

static json_t *query_target(struct control *control, const json_t *args,
                            struct qmp_error *error)
{
    return json_pack("{s:s}", "arch", "x86_64");
}

/* -- Running and standing still ------------------------------------------------------------ */

static json_t *query_status(struct control *control, const json_t *args,
                            struct qmp_error *error)
{
    enum vm_state state = vm_state(control_vm(control));
    return json_pack("{s:s, s:b, s:b}", "status", vm_state_name(state), "singlestep", 0,
                     "running", state == VM_STATE_RUNNING);
}

static json_t *stop(struct control *control, const json_t *args, struct qmp_error *error)
{
    vm_pause(control_vm(control));
    return json_object();
}

static json_t *cont(struct control *control, const json_t *args, struct qmp_error *error)
{
    if (vm_continue(control_vm(control)))
        return json_object();
    qmp_fail(error, QMP_GENERIC, "Resetting the Virtual Machine is required");
    return NULL;
}

static json_t *quit(struct control *control, const json_t *args, struct qmp_error *error)
{
    vm_leave(control_vm(control), "host-qmp-quit");
    return json_object();
}

static json_t *system_reset(struct control *control, const json_t *args,
                            struct qmp_error *error)
{
    vm_ask_reset(control_vm(control), "host-qmp-system-reset");
    return json_object();
}

static json_t *system_powerdown(struct control *control, const json_t *args,
                                struct qmp_error *error)
{
    vm_power_button(control_vm(control));
    return json_object();
}

static json_t *inject_nmi(struct control *control, const json_t *args, struct qmp_error *error)
{
    action_nmi(control);
    return json_object();
}

/* -- Processors and memory ----------------------------------------------------------------- */

static json_t *query_cpus_fast(struct control *control, const json_t *args,
                               struct qmp_error *error)
{
    struct vm *vm = control_vm(control);
    json_t *list = json_array();
    for (unsigned i = 0; i < vm_board(vm)->n_vcpus; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
        json_array_append_new(list,
                              json_pack("{s:I, s:{s:i, s:i, s:i}, s:s, s:i, s:s}", "thread-id",
                                        (json_int_t)vm_thread_id(vm, i), "props", "core-id",
                                        (int)i, "thread-id", 0, "socket-id", 0, "qom-path",
                                        path, "cpu-index", (int)i, "target", "x86_64"));
    }
    return list;
}

static json_t *query_memory_size(struct control *control, const json_t *args,
                                 struct qmp_error *error)
{
    return json_pack("{s:I, s:i}", "base-memory",
                     (json_int_t)vm_config(control_vm(control))->memory, "plugged-memory", 0);
}

static json_t *pmemsave(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct error why;
    bool good = action_save_physical(control, (u64)qmp_integer(args, "val", 0),
                                     (u64)qmp_integer(args, "size", 0),
                                     qmp_string(args, "filename", ""), &why);
    return good ? json_object() : qmp_fail_why(error, &why);
}

/* The processor that a command names. */
static bool cpu_index(struct control *control, const json_t *args, unsigned *cpu,
                      struct qmp_error *error)
{
    s64 index = qmp_integer(args, "cpu-index", 0);
    *cpu = (unsigned)index;
    if (index >= 0 && index < vm_board(control_vm(control))->n_vcpus)
        return true;
    qmp_fail(error, QMP_GENERIC, "Invalid parameter 'cpu-index': expects a CPU number");
    return false;
}

static json_t *memsave(struct control *control, const json_t *args, struct qmp_error *error)
{
    struct error why;
    unsigned cpu;
    if (!cpu_index(control, args, &cpu, error))
        return NULL;
    bool good = action_save_virtual(control, cpu, (u64)qmp_integer(args, "val", 0),
                                    (u64)qmp_integer(args, "size", 0),
                                    qmp_string(args, "filename", ""), &why);
    return good ? json_object() : qmp_fail_why(error, &why);
}

/* -- The text monitor ---------------------------------------------------------------------- */

/* QEMU's text monitor ends its lines with "\r\n". NULL: it is not UTF-8. */
static json_t *with_returns(const char *text, size_t len)
{
    size_t n = 0;
    char *lines = malloc(2 * len + 1);
    ensure(lines);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n')
            lines[n++] = '\r';
        lines[n++] = text[i];
    }
    json_t *answer = json_stringn(lines, n);
    free(lines);
    return answer;
}

static json_t *human_monitor_command(struct control *control, const json_t *args,
                                     struct qmp_error *error)
{
    char *text = NULL;
    size_t len = 0;
    unsigned cpu;
    if (!cpu_index(control, args, &cpu, error))
        return NULL;
    FILE *out = open_memstream(&text, &len);
    ensure(out);
    hmp_run(control, qmp_string(args, "command-line", ""), &cpu, out);
    fclose(out);
    json_t *answer = with_returns(text, len);
    free(text);
    if (!answer)
        qmp_fail(error, QMP_GENERIC, "the answer is no text");
    return answer;
}

static const struct qmp_command commands[] = {
    {"query-version", query_version, {}},
    {"query-commands", query_commands, {}},
    {"query-name", query_name, {}},
    {"query-uuid", query_uuid, {}},
    {"query-kvm", query_kvm, {}},
    {"query-target", query_target, {}},
    {"query-status", query_status, {}},
    {"stop", stop, {}},
    {"cont", cont, {}},
    {"quit", quit, {}},
    {"system_reset", system_reset, {}},
    {"system_powerdown", system_powerdown, {}},
    {"inject-nmi", inject_nmi, {}},
    {"query-cpus-fast", query_cpus_fast, {}},
    {"query-memory-size-summary", query_memory_size, {}},
    {"pmemsave",
     pmemsave,
     {{"val", 'i', false}, {"size", 'i', false}, {"filename", 's', false}}},
    {"memsave",
     memsave,
     {{"val", 'i', false},
      {"size", 'i', false},
      {"filename", 's', false},
      {"cpu-index", 'i', true}}},
    {"human-monitor-command",
     human_monitor_command,
     {{"command-line", 's', false}, {"cpu-index", 'i', true}}},
};

const struct qmp_table qmp_machine_commands = {commands, ARRAY_LEN(commands)};
