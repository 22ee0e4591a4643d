/* The text monitor's commands, see hmp.h. Each gets its arguments as words. */
#include "control/hmp.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control/actions.h"
#include "control/hardware.h"
#include "control/inspect.h"
#include "control/qmp.h"
#include "device/scan_codes.h"
#include "host/block/back.h"
#include "memory/walk.h"

#define MAX_WORDS 6
#define MAX_LINE  4096

/* One line under way. */
struct hmp {
    struct control *control;
    struct vm *vm;
    unsigned *cpu;
    FILE *out;
    char whole[MAX_LINE];
    char line[MAX_LINE]; /* the same, cut into: */
    unsigned n;
    char *words[MAX_WORDS];      /* [0] is the command; "/4xw" behind it is a word of its own */
    const char *rest[MAX_WORDS]; /* `whole` from each word on */
};

static struct vcpu *current(struct hmp *hmp)
{
    return vm_board(hmp->vm)->vcpus[*hmp->cpu];
}

static const char *word(const struct hmp *hmp, unsigned i)
{
    return i < hmp->n ? hmp->words[i] : "";
}

/* A number or expression that is the whole of `text`. */
static bool value_of(struct hmp *hmp, const char *text, u64 *value)
{
    struct error err = {{0}};
    if (inspect_value(current(hmp), &text, value, &err) && !*text)
        return true;
    fprintf(hmp->out, "%s\n", err.text[0] ? err.text : "unexpected characters after a number");
    return false;
}

static void report(struct hmp *hmp, bool good, const struct error *err)
{
    if (!good)
        fprintf(hmp->out, "Error: %s\n", err->text);
}

/* -- Information --------------------------------------------------------------------------- */

static void info_status(struct hmp *hmp)
{
    enum vm_state state = vm_state(hmp->vm);
    bool running = state == VM_STATE_RUNNING;
    fprintf(hmp->out, "VM status: %s", running ? "running" : "paused");
    if (!running && state != VM_STATE_PAUSED)
        fprintf(hmp->out, " (%s)", vm_state_name(state));
    fputc('\n', hmp->out);
}

static void info_registers(struct hmp *hmp)
{
    const struct board *board = vm_board(hmp->vm);
    bool all = !strcmp(word(hmp, 2), "-a");
    for (unsigned i = 0; i < board->n_vcpus; i++)
        if (all || i == *hmp->cpu)
            inspect_registers(board->vcpus[i], hmp->out);
}

static void info_mem(struct hmp *hmp)
{
    inspect_ranges(current(hmp), hmp->out);
}

static void info_tlb(struct hmp *hmp)
{
    inspect_pages(current(hmp), hmp->out);
}

static void info_cpus(struct hmp *hmp)
{
    for (unsigned i = 0; i < vm_board(hmp->vm)->n_vcpus; i++)
        fprintf(hmp->out, "%c CPU #%u: thread_id=%d\n", i == *hmp->cpu ? '*' : ' ', i,
                (int)vm_thread_id(hmp->vm, i));
}

static void info_block(struct hmp *hmp)
{
    const struct vm_config *config = vm_config(hmp->vm);
    for (unsigned i = 0; i < config->plugs.n_disks; i++) {
        const struct disk_config *disk = &config->plugs.disks[i];
        char name[80];
        action_disk_name(config, i, name, sizeof(name));
        fprintf(hmp->out, "%s%s: ", i ? "\n" : "", name);
        struct vm_medium medium = vm_medium(hmp->vm, i);
        if (!disk->path[0])
            fputs("[not inserted]\n", hmp->out);
        else
            fprintf(hmp->out, "%s (%s%s)\n", disk->path, action_disk_format(disk),
                    disk->image.read_only ? ", read-only" : "");
        action_disk_device(config, i, name, sizeof(name));
        if (name[0])
            fprintf(hmp->out, "    Attached to:      %s\n", name);
        if (medium.removable)
            fprintf(hmp->out, "    Removable device: %slocked, tray %s\n",
                    medium.locked ? "" : "not ", medium.open ? "open" : "closed");
        if (!disk->path[0])
            continue;
        fprintf(hmp->out, "    Cache mode:       %s%s%s\n",
                disk->image.cache.writeback ? "writeback" : "writethrough",
                disk->image.cache.direct ? ", direct" : "",
                disk->image.cache.no_flush ? ", ignore flushes" : "");
    }
}

static void info_block_stats(struct hmp *hmp)
{
    hardware_print_block_stats(hmp->control, hmp->out);
}

static void info_pci(struct hmp *hmp)
{
    hardware_print_pci(hmp->control, hmp->out);
}

static void info_network(struct hmp *hmp)
{
    hardware_print_networks(hmp->control, hmp->out);
}

static void info_mice(struct hmp *hmp)
{
    fputs("* Mouse #1: PS/2 Mouse\n", hmp->out);
}

static void info_uuid(struct hmp *hmp)
{
    const u8 *id = control_config(hmp->control)->uuid;
    for (unsigned i = 0; i < 16; i++)
        fprintf(hmp->out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    fputc('\n', hmp->out);
}

static void info_chardev(struct hmp *hmp)
{
    const struct plugs_config *plugs = &vm_config(hmp->vm)->plugs;
    for (unsigned i = 0; i < plugs->n_lines; i++) {
        char text[512];
        char_describe(vm_plugs(hmp->vm)->lines[i], text, sizeof(text));
        fprintf(hmp->out, "%s: filename=%s\n", plugs->lines[i].back.label, text);
    }
}

static void info_balloon(struct hmp *hmp)
{
    u64 bytes;
    if (action_get_balloon(hmp->control, &bytes))
        fprintf(hmp->out, "balloon: actual=%" PRIu64 "\n", bytes >> 20);
    else
        fputs("Error: No balloon device has been activated\n", hmp->out);
}

static void info_version(struct hmp *hmp)
{
    fprintf(hmp->out, "7.2.0Doppel %s\n", control_config(hmp->control)->version);
}

static void info_name(struct hmp *hmp)
{
    const char *name = control_config(hmp->control)->name;
    if (name)
        fprintf(hmp->out, "%s\n", name);
}

static void info_kvm(struct hmp *hmp)
{
    bool used = !strcmp(vm_engine(hmp->vm)->name, "kvm");
    fprintf(hmp->out, "kvm support: %s\n", used ? "enabled" : "not compiled");
}

static void info_engine(struct hmp *hmp)
{
    fprintf(hmp->out, "engine: %s\n", vm_engine(hmp->vm)->name);
    vm_print_counters(hmp->vm, hmp->out);
}

/* -- Memory -------------------------------------------------------------------------------- */

static void dump(struct hmp *hmp, bool physical)
{
    struct inspect_format format;
    struct error err;
    u64 addr;
    unsigned at = word(hmp, 1)[0] == '/' ? 2 : 1;
    if (at >= hmp->n) {
        fputs("an address is missing\n", hmp->out);
        return;
    }
    if (!inspect_format_parse(&format, at == 2 ? word(hmp, 1) : "", &err))
        fprintf(hmp->out, "%s\n", err.text);
    else if (value_of(hmp, hmp->rest[at], &addr))
        inspect_memory(current(hmp), physical, &format, addr, hmp->out);
}

static void x(struct hmp *hmp)
{
    dump(hmp, false);
}

static void xp(struct hmp *hmp)
{
    dump(hmp, true);
}

static void print(struct hmp *hmp)
{
    unsigned at = word(hmp, 1)[0] == '/' ? 2 : 1;
    u64 value;
    if (at >= hmp->n || !value_of(hmp, hmp->rest[at], &value))
        return;
    char letter = at == 2 ? hmp->words[1][1] : 'x';
    fprintf(hmp->out,
            letter == 'd'   ? "%" PRId64 "\n"
            : letter == 'u' ? "%" PRIu64 "\n"
                            : "0x%" PRIx64 "\n",
            value);
}

static void gva2gpa(struct hmp *hmp)
{
    struct gpa pa;
    u64 addr;
    if (!value_of(hmp, word(hmp, 1), &addr))
        return;
    if (walk_peek(&current(hmp)->cpu, vm_board(hmp->vm)->pmap, gva(addr), &pa))
        fprintf(hmp->out, "gpa: 0x%" PRIx64 "\n", pa.v);
    else
        fputs("Unmapped\n", hmp->out);
}

static void save(struct hmp *hmp, bool physical)
{
    struct error err;
    u64 addr, size;
    if (!value_of(hmp, word(hmp, 1), &addr) || !value_of(hmp, word(hmp, 2), &size))
        return;
    bool good =
        physical ? action_save_physical(hmp->control, addr, size, word(hmp, 3), &err)
                 : action_save_virtual(hmp->control, *hmp->cpu, addr, size, word(hmp, 3), &err);
    report(hmp, good, &err);
}

static void pmemsave(struct hmp *hmp)
{
    save(hmp, true);
}

static void memsave(struct hmp *hmp)
{
    save(hmp, false);
}

/* The checksum of System V's sum(1). */
static void sum(struct hmp *hmp)
{
    u64 addr, size;
    u16 total = 0;
    u8 byte;
    if (!value_of(hmp, word(hmp, 1), &addr) || !value_of(hmp, word(hmp, 2), &size))
        return;
    for (u64 i = 0; i < size; i++) {
        if (!inspect_read(current(hmp), true, addr + i, &byte, 1)) {
            fprintf(hmp->out, "no memory at 0x%" PRIx64 "\n", addr + i);
            return;
        }
        total = (u16)((total >> 1 | total << 15) + byte);
    }
    fprintf(hmp->out, "%05u\n", total);
}

/* -- Ports --------------------------------------------------------------------------------- */

/* The words "[/fmt] port number", of which there is `n` at least; the number is 0 without. */
static bool port_of(struct hmp *hmp, unsigned n, unsigned *size, u64 *port, u64 *number)
{
    struct inspect_format format;
    struct error err;
    unsigned at = word(hmp, 1)[0] == '/' ? 2 : 1;
    *number = 0;
    if (!inspect_format_parse(&format, at == 2 ? word(hmp, 1) : "", &err)) {
        fprintf(hmp->out, "%s\n", err.text);
        return false;
    }
    *size = format.size > 4 ? 4 : format.size;
    if (hmp->n < at + n) {
        fputs("a number is missing\n", hmp->out);
        return false;
    }
    return value_of(hmp, word(hmp, at), port) &&
           (hmp->n < at + 2 || value_of(hmp, word(hmp, at + 1), number));
}

/* With an index: what is behind it, as CMOS memory is behind port 70h. */
static void in(struct hmp *hmp)
{
    struct board *board = vm_board(hmp->vm);
    unsigned size;
    u64 port, index;
    if (!port_of(hmp, 1, &size, &port, &index))
        return;
    if (hmp->n > (word(hmp, 1)[0] == '/' ? 3 : 2))
        bus_write(board, BUS_PIO, port++ & 0xffff, 1, index & 0xff);
    u64 value = bus_read(board, BUS_PIO, port & 0xffff, size);
    fprintf(hmp->out, "port%c[0x%04x] = 0x%0*" PRIx64 "\n", "-bw-l"[size],
            (unsigned)port & 0xffff, (int)size * 2, value);
}

static void out(struct hmp *hmp)
{
    unsigned size;
    u64 port, value;
    if (port_of(hmp, 2, &size, &port, &value))
        bus_write(vm_board(hmp->vm), BUS_PIO, port & 0xffff, size, value & bits_low(8 * size));
}

/* -- The machine --------------------------------------------------------------------------- */

static void stop(struct hmp *hmp)
{
    vm_pause(hmp->vm);
}

static void cont(struct hmp *hmp)
{
    if (!vm_continue(hmp->vm))
        fputs("Error: Resetting the Virtual Machine is required\n", hmp->out);
}

static void quit(struct hmp *hmp)
{
    vm_leave(hmp->vm, "host-qmp-quit");
}

static void system_reset(struct hmp *hmp)
{
    vm_ask_reset(hmp->vm, "host-qmp-system-reset");
}

static void system_powerdown(struct hmp *hmp)
{
    vm_power_button(hmp->vm);
}

static void nmi(struct hmp *hmp)
{
    action_nmi(hmp->control);
}

static void cpu(struct hmp *hmp)
{
    u64 index;
    if (!value_of(hmp, word(hmp, 1), &index))
        return;
    if (index < vm_board(hmp->vm)->n_vcpus)
        *hmp->cpu = (unsigned)index;
    else
        fputs("Error: invalid CPU index\n", hmp->out);
}

static void balloon(struct hmp *hmp)
{
    struct error err = {{0}};
    u64 megabytes;
    if (!value_of(hmp, word(hmp, 1), &megabytes))
        return;
    if (!action_set_balloon(hmp->control, (s64)(megabytes << 20), &err))
        fprintf(hmp->out, "Error: %s\n",
                err.text[0] ? err.text : "No balloon device has been activated");
}

/* "eject [-f] device" */
static void eject(struct hmp *hmp)
{
    struct error err;
    bool force = !strcmp(word(hmp, 1), "-f");
    report(hmp, action_eject(hmp->control, word(hmp, force ? 2 : 1), force, &err), &err);
}

/* "change [-f] device file [format [mode]]" */
static void change(struct hmp *hmp)
{
    struct error err;
    bool force = !strcmp(word(hmp, 1), "-f");
    unsigned at = force ? 2 : 1;
    const struct action_medium medium = {.path = word(hmp, at + 1),
                                         .format = at + 2 < hmp->n ? word(hmp, at + 2) : NULL,
                                         .mode = at + 3 < hmp->n ? word(hmp, at + 3) : NULL,
                                         .force = force};
    report(hmp, action_change_medium(hmp->control, word(hmp, at), &medium, &err), &err);
}

static void set_link(struct hmp *hmp)
{
    bool up = !strcmp(word(hmp, 2), "on");
    if (!up && strcmp(word(hmp, 2), "off"))
        fputs("Error: Parameter 'up' expects 'on' or 'off'\n", hmp->out);
    else if (!action_set_link(hmp->control, word(hmp, 1), up))
        fprintf(hmp->out, "Error: Device '%s' not found\n", word(hmp, 1));
}

static void screendump(struct hmp *hmp)
{
    struct error err;
    const char *path = word(hmp, 1), *format = "ppm";
    if (!strcmp(path, "-f")) {
        format = word(hmp, 2);
        path = word(hmp, 3);
    }
    report(hmp, action_screendump(hmp->control, path, format, &err), &err);
}

/* "alt", or a number as in "0x38" */
static enum input_key key_of(const char *name)
{
    char *end;
    if (strncmp(name, "0x", 2))
        return input_key_named(name);
    u64 number = strtoull(name, &end, 16);
    return *end ? INPUT_KEY_NONE : scan_key_numbered(number);
}

/* "ctrl-alt-delete", and how long, in ms. */
static void sendkey(struct hmp *hmp)
{
    enum input_key keys[INPUT_MAX_KEYS];
    struct error err;
    unsigned n = 0;
    u64 hold = 0;
    if (hmp->n > 2 && !value_of(hmp, word(hmp, 2), &hold))
        return;
    char *names = hmp->n > 1 ? hmp->words[1] : NULL;
    for (char *name; (name = strsep(&names, "-"));) {
        if (n == INPUT_MAX_KEYS) {
            fputs("too many keys\n", hmp->out);
            return;
        }
        keys[n] = key_of(name);
        if (keys[n++] == INPUT_KEY_NONE) {
            fprintf(hmp->out, "invalid parameter: %s\n", name);
            return;
        }
    }
    if (n)
        report(hmp, action_send_keys(hmp->control, keys, n, hold, &err), &err);
}

/* -- The tables ---------------------------------------------------------------------------- */

static void help(struct hmp *hmp);
static void info(struct hmp *hmp);

static const struct command {
    const char *name;
    void (*run)(struct hmp *hmp);
    const char *args;
    unsigned least; /* words after the command */
    bool holds;     /* looks at processors, which stand still meanwhile */
    const char *help;
} commands[] = {
    {"balloon", balloon, "target", 1, false, "leave the guest target MiB of memory"},
    {"change", change, "[-f] device file [format [mode]]", 2, false,
     "put another medium into a drive; mode is retain, read-only or read-write"},
    {"cont", cont, "", 0, false, "let the machine go on"},
    {"c", cont, "", 0, false, NULL},
    {"cpu", cpu, "index", 1, true, "the processor that registers and addresses are of"},
    {"eject", eject, "[-f] device", 1, false, "take the medium out of a drive"},
    {"gva2gpa", gva2gpa, "addr", 1, true, "the guest-physical address behind addr"},
    {"help", help, "[command]", 0, false, "this page, or one command's line"},
    {"?", help, "", 0, false, NULL},
    {"i", in, "[/fmt] port [index]", 1, true, "read a port; fmt is b, h or w"},
    {"info", info, "what", 0, true, "show something; `info` lists what there is"},
    {"memsave", memsave, "addr size file", 3, true, "save what a processor sees at addr"},
    {"nmi", nmi, "", 0, false, "a non-maskable interrupt on every processor"},
    {"o", out, "[/fmt] port value", 2, true, "write a port"},
    {"pmemsave", pmemsave, "addr size file", 3, true, "save guest-physical memory"},
    {"print", print, "[/fmt] expr", 1, true, "the value of an expression"},
    {"p", print, "[/fmt] expr", 1, true, NULL},
    {"quit", quit, "", 0, false, "end the machine at once"},
    {"q", quit, "", 0, false, NULL},
    {"screendump", screendump, "[-f ppm|png] file", 1, false, "a picture of the screen"},
    {"sendkey", sendkey, "keys [hold_ms]", 1, false, "press keys, as in ctrl-alt-delete"},
    {"set_link", set_link, "name on|off", 2, false, "plug a network cable in or out"},
    {"stop", stop, "", 0, false, "stop the machine"},
    {"s", stop, "", 0, false, NULL},
    {"sum", sum, "addr size", 2, true, "the sum of guest-physical memory"},
    {"system_powerdown", system_powerdown, "", 0, false, "press the power button"},
    {"system_reset", system_reset, "", 0, false, "reset the machine"},
    {"x", x, "[/fmt] addr", 1, true, "memory at addr; fmt is a count, x d u o c or i, b h w g"},
    {"xp", xp, "[/fmt] addr", 1, true, "guest-physical memory"},
};

static const struct {
    const char *name;
    void (*run)(struct hmp *hmp);
    const char *help;
} infos[] = {
    {"balloon", info_balloon, "how much memory the balloon leaves"},
    {"block", info_block, "disks"},
    {"blockstats", info_block_stats, "what the disks have done"},
    {"chardev", info_chardev, "lines"},
    {"cpus", info_cpus, "processors"},
    {"engine", info_engine, "the engine and its counters"},
    {"kvm", info_kvm, "whether KVM is used"},
    {"mem", info_mem, "ranges that the page tables map"},
    {"mice", info_mice, "mice"},
    {"name", info_name, "the machine's name"},
    {"network", info_network, "network cards and what is behind them"},
    {"pci", info_pci, "devices on the PCI bus"},
    {"registers", info_registers, "the processor's registers; -a for all processors"},
    {"status", info_status, "whether the machine runs"},
    {"tlb", info_tlb, "pages that the page tables map"},
    {"uuid", info_uuid, "the machine's UUID"},
    {"version", info_version, "the version"},
};

static void list_infos(struct hmp *hmp);

static void help(struct hmp *hmp)
{
    const char *wanted = word(hmp, 1);
    if (!strcmp(wanted, "info")) {
        list_infos(hmp);
        return;
    }
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].help && (!*wanted || !strcmp(wanted, commands[i].name)))
            fprintf(hmp->out, "%s %s -- %s\n", commands[i].name, commands[i].args,
                    commands[i].help);
}

static void list_infos(struct hmp *hmp)
{
    for (unsigned i = 0; i < ARRAY_LEN(infos); i++)
        fprintf(hmp->out, "info %s -- %s\n", infos[i].name, infos[i].help);
}

static void info(struct hmp *hmp)
{
    for (unsigned i = 0; i < ARRAY_LEN(infos); i++) {
        if (!strcmp(word(hmp, 1), infos[i].name)) {
            infos[i].run(hmp);
            return;
        }
    }
    list_infos(hmp);
}

/* -- Lines --------------------------------------------------------------------------------- */

#define SPACES " \t\r\n"

/* A word between quotes, in its place, without them and the backslashes before quotes. Returns
 * what is behind it. */
static char *unquote(char *at)
{
    char *to = at++;
    for (; *at && *at != '"'; at++) {
        if (*at == '\\' && at[1])
            at++;
        *to++ = *at;
    }
    char *behind = *at ? at + 1 : at;
    *to = 0;
    return behind;
}

/* Cuts the line into words; "x/4i" is two. */
static void split(struct hmp *hmp, const char *text)
{
    text += strspn(text, SPACES);
    int name = (int)strcspn(text, SPACES "/");
    snprintf(hmp->whole, sizeof(hmp->whole), "%.*s%s%s", name, text,
             text[name] == '/' ? " " : "", text + name);
    strcpy(hmp->line, hmp->whole);
    for (char *at = hmp->line; hmp->n < MAX_WORDS;) {
        at += strspn(at, SPACES);
        if (!*at)
            return;
        hmp->words[hmp->n] = at;
        hmp->rest[hmp->n++] = hmp->whole + (at - hmp->line);
        if (*at == '"') {
            at = unquote(at);
            continue;
        }
        at += strcspn(at, SPACES);
        if (*at)
            *at++ = 0;
    }
}

static const struct command *find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

void hmp_run(struct control *control, const char *line, unsigned *cpu_index, FILE *out)
{
    struct hmp hmp = {
        .control = control, .vm = control_vm(control), .cpu = cpu_index, .out = out};
    split(&hmp, line);
    if (!hmp.n)
        return;
    const struct command *command = find(hmp.words[0]);
    if (!command) {
        fprintf(out, "unknown command: '%s'\n", hmp.words[0]);
        return;
    }
    if (hmp.n <= command->least) {
        fprintf(out, "%s: usage: %s %s\n", command->name, command->name, command->args);
        return;
    }
    if (command->holds)
        vm_hold(hmp.vm);
    command->run(&hmp);
    if (command->holds)
        vm_release(hmp.vm);
}
