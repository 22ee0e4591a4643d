/* The options of `doppel run`, see options.h. */
#include "cli/options.h"

#include <string.h>
#include <unistd.h>

#include "cli/board.h"
#include "cli/drives.h"
#include "cli/firmware.h"
#include "cli/lines.h"
#include "cli/plugs.h"
#include "cli/shares.h"
#include "cli/words.h"

#define DEFAULT_MEMORY   (512 * MiB)
#define DEFAULT_FIRMWARE "/usr/share/seabios/bios-256k.bin"
#define DEFAULT_NET_ROM  "/usr/lib/ipxe/qemu/efi-virtio.rom"
#define DEFAULT_VGA_ROM  "/usr/share/seabios/vgabios-stdvga.bin"
#define HELP_WIDTH       96
#define HELP_COLUMN      26

/* -- Arguments ----------------------------------------------------------------------------- */

static bool set_kernel(struct run_options *o, const char *value, struct error *err)
{
    o->vm.kernel = value;
    return true;
}

static bool set_initrd(struct run_options *o, const char *value, struct error *err)
{
    o->vm.initrd = value;
    return true;
}

static bool set_append(struct run_options *o, const char *value, struct error *err)
{
    o->vm.command_line = value;
    return true;
}

static bool set_firmware(struct run_options *o, const char *value, struct error *err)
{
    o->vm.firmware = value;
    return true;
}

static bool set_no_graphic(struct run_options *o, const char *value, struct error *err)
{
    o->curses = false;
    return true;
}

static bool set_display(struct run_options *o, const char *value, struct error *err)
{
    static const char *const displays[] = {"curses", "none", NULL};
    if (!words_among(value, displays))
        return error_set(err, "-display: '%.60s' is not supported; there are curses and none",
                         value);
    o->curses = !strcmp(value, "curses");
    return true;
}

static bool set_curses(struct run_options *o, const char *value, struct error *err)
{
    o->curses = true;
    return true;
}

static bool set_vga(struct run_options *o, const char *value, struct error *err)
{
    static const char *const adapters[] = {"std", "none", NULL};
    if (!words_among(value, adapters))
        return error_set(err, "-vga: no adapter '%.60s'; there are std and none", value);
    o->vm.vga = !strcmp(value, "std");
    o->vga_given = true;
    return true;
}

static bool set_vnc(struct run_options *o, const char *value, struct error *err)
{
    return !strcmp(value, "none") ||
           error_set(err,
                     "-vnc: '%.60s' is not supported; give none, and see the machine by "
                     "-display curses or -qmp's screendump",
                     value);
}

static bool set_parallel(struct run_options *o, const char *value, struct error *err)
{
    if (o->vm.parallel)
        return error_set(err, "-parallel: the machine has one parallel port");
    o->vm.parallel = strcmp(value, "none");
    return !o->vm.parallel ||
           lines_find(o, "-parallel", "parallel0", value, &o->vm.parallel_line, err);
}

static bool set_snapshot(struct run_options *o, const char *value, struct error *err)
{
    o->snapshot = true;
    return true;
}

static bool set_no_floppy_check(struct run_options *o, const char *value, struct error *err)
{
    o->vm.no_floppy_check = true;
    return true;
}

static bool set_no_reboot(struct run_options *o, const char *value, struct error *err)
{
    o->vm.no_reboot = true;
    return true;
}

static bool set_paused(struct run_options *o, const char *value, struct error *err)
{
    o->vm.paused = true;
    return true;
}

static bool set_no_shutdown(struct run_options *o, const char *value, struct error *err)
{
    o->vm.no_shutdown = true;
    return true;
}

/* What each event leads to: two words, the second of which sets a switch. */
static bool set_action(struct run_options *o, const char *list, struct error *err)
{
    struct word word;
    const struct {
        const char *event, *off, *on;
        bool *set;
    } actions[] = {{"reboot", "reset", "shutdown", &o->vm.no_reboot},
                   {"shutdown", "poweroff", "pause", &o->vm.no_shutdown}};
    while (words_next(&list, &word)) {
        bool known = false;
        for (unsigned i = 0; word.value && i < ARRAY_LEN(actions); i++) {
            if (strcmp(word.key, actions[i].event))
                continue;
            *actions[i].set = !strcmp(word.value, actions[i].on);
            known = *actions[i].set || !strcmp(word.value, actions[i].off);
        }
        if (!known)
            return error_set(err,
                             "-action: '%.60s=%.60s' is not supported; there are "
                             "reboot=reset|shutdown and shutdown=poweroff|pause",
                             word.key, word.value ? word.value : "");
    }
    return true;
}

static bool set_name(struct run_options *o, const char *list, struct error *err)
{
    static const char *const ignored[] = {"process", "debug-threads", NULL};
    struct word word;
    while (words_next(&list, &word)) {
        bool is_name = !word.value || !strcmp(word.key, "guest");
        if (!is_name && !words_among(word.key, ignored))
            return error_set(err, "-name: '%s' is not supported; there is guest=", word.key);
        if (is_name && !words_copy("-name", word.value ? word.value : word.key, o->name,
                                   sizeof(o->name), err))
            return false;
    }
    o->control.name = o->name;
    return true;
}

static bool set_uuid(struct run_options *o, const char *value, struct error *err)
{
    return firmware_set_uuid(o, "-uuid", value, err);
}

static bool set_pid_file(struct run_options *o, const char *value, struct error *err)
{
    o->pid_file = value;
    return true;
}

static bool set_daemonize(struct run_options *o, const char *value, struct error *err)
{
    o->daemonize = true;
    return true;
}

static bool set_log(struct run_options *o, const char *value, struct error *err)
{
    o->log_help = words_ask_help(value);
    if (!o->log_help && !log_parse(&o->log, value))
        return error_set(err, "-d: unknown category in '%s'; -d help lists them", value);
    return true;
}

static bool set_log_file(struct run_options *o, const char *value, struct error *err)
{
    o->log_file = value;
    return true;
}

static bool set_stats(struct run_options *o, const char *value, struct error *err)
{
    o->stats = true;
    o->vm.engine_options |= ENGINE_COUNTS;
    return true;
}

static bool set_no_defaults(struct run_options *o, const char *value, struct error *err)
{
    o->no_defaults = true;
    return true;
}

static bool set_verbose(struct run_options *o, const char *value, struct error *err)
{
    o->verbose = true;
    return true;
}

static bool set_help(struct run_options *o, const char *value, struct error *err)
{
    o->help = true;
    return true;
}

static bool set_ignored(struct run_options *o, const char *value, struct error *err)
{
    return true;
}

static bool set_audio(struct run_options *o, const char *value, struct error *err)
{
    return !strcmp(value, "none") || !strncmp(value, "none,", 5) ||
           error_set(err, "-audiodev: there is no sound; give none,id=ID");
}

/* A controller alone is no harm to leave out; what is plugged into it is refused. */
static bool set_usb(struct run_options *o, const char *value, struct error *err)
{
    fputs("doppel: warning: -usb: there is no USB; it goes without\n", stderr);
    return true;
}

/* The host's entropy is what -device virtio-rng-pci has anyway. */
static bool set_object(struct run_options *o, const char *value, struct error *err)
{
    static const char *const kinds[] = {"rng-random", "rng-builtin", "iothread", NULL};
    struct word word = {0};
    words_next(&value, &word);
    return words_among(word.value ? word.value : word.key, kinds) ||
           error_set(err,
                     "-object: '%.60s' is not supported; there are rng-random, rng-builtin and "
                     "iothread, which change nothing",
                     word.key);
}

/* How lost ticks of a timer are made up for is QEMU's affair: ours are not lost. */
static bool set_global(struct run_options *o, const char *value, struct error *err)
{
    static const char *const as_it_is[] = {"kvm-pit.lost_tick_policy=discard",
                                           "kvm-pit.lost_tick_policy=delay",
                                           "mc146818rtc.lost_tick_policy=discard",
                                           "mc146818rtc.lost_tick_policy=slew",
                                           "PIIX4_PM.disable_s4=1",
                                           "ICH9-LPC.disable_s4=1",
                                           NULL};
    static const char debug_port[] = "isa-debugcon.iobase=";
    if (!strncmp(value, debug_port, sizeof(debug_port) - 1))
        return plugs_set_debug_port(o, value + sizeof(debug_port) - 1, err);
    return words_among(value, as_it_is) ||
           error_set(err, "-global: '%.80s' is not supported", value);
}

/* -- The table ----------------------------------------------------------------------------- */

struct option {
    const char *name;     /* without dashes; NULL: `help` is a heading */
    const char *argument; /* what follows; NULL: nothing */
    bool (*set)(struct run_options *options, const char *value, struct error *err);
    const char *help; /* NULL: accepted, and not worth a line */
};

/* clang-format off */
static const struct option table[] = {
    {NULL, NULL, NULL, "What to start"},
    {"kernel", "FILE", set_kernel, "Linux bzImage, PVH ELF or multiboot kernel; without it, a disk, or else the default guest"},
    {"initrd", "FILE", set_initrd, "initial RAM disk; for multiboot, modules \"FILE ARGS,FILE ARGS\""},
    {"append", "WORDS", set_append, "kernel command line; with the default guest, words added to it"},
    {"bios", "FILE", set_firmware, "firmware that starts at the reset vector; SeaBIOS where there is a disk and no kernel, and for kernels that need a BIOS"},
    {"boot", "order=LETTERS", firmware_set_boot, "what firmware starts from: c disk, a floppy, d CD, n network (cad is the default); once=LETTERS for the first start; menu=on[,splash-time=MS] asks; strict=on tries only what has a bootindex; reboot-timeout=MS"},
    {"fw_cfg", "name=opt/N,file=F", firmware_add_blob, "a file that the guest finds in fw_cfg (Linux: /sys/firmware/qemu_fw_cfg); also string=TEXT"},
    {"smbios", "type=N,KEY=TEXT", firmware_add_smbios, "what DMI says: type=0 vendor, version, date; 1 manufacturer, product, version, serial, uuid, sku, family; 2, 3; 11 value=TEXT"},
    {NULL, NULL, NULL, "The machine"},
    {"m", "SIZE", board_set_memory, "memory: 512M (the default), 2G, or a number of MiB; at most 16G"},
    {"smp", "N", board_set_cpus, "processors, 1 to 64; the default is 1"},
    {"cpu", "MODEL[,+F,-F]", board_set_cpu, "processor: host (the default), max, x86-64-v2, x86-64-v3 and QEMU's names (help lists them); features on and off, vendor=GenuineIntel|AuthenticAMD, phys-bits=N"},
    {"accel", "ENGINE[:ENGINE]", board_set_accel, "how instructions run: the first that works of those given, direct, bt, sim or auto (the default); help lists them. bt,cache=32M bounds a processor's code cache (1M to 128M)"},
    {"machine", "pc", board_set_machine, "the one machine there is; also accel=ENGINE"},
    {"M", "pc", board_set_machine, NULL},
    {"device", "DEVICE", board_add_device, "isa-debug-exit[,iobase=0xf4][,iosize=4]: a write of V ends doppel with status 2V+1"},
    {"device", "DEVICE", board_add_device, "virtio-blk-pci, ide-hd, ide-cd or floppy,drive=ID[,serial=S][,bootindex=N]; virtio-blk-pci and -net-pci: packed=on offers packed rings"},
    {"drive", "file=F,format=raw", drives_add, "a disk, also format=qcow2; if=virtio, ide, floppy, pflash (or none, with id=ID), index=N, media=disk|cdrom, readonly=on, snapshot=on, cache=writeback|none|writethrough|directsync|unsafe, discard=unmap, werror=report|stop|enospc|ignore, rerror=; F may be nbd://HOST:PORT/EXPORT"},
    {"drive", "if=pflash,unit=0", drives_add, "firmware in flash (file=OVMF_CODE.fd,format=raw,readonly=on); unit=1 keeps its variables (file=a copy of OVMF_VARS.fd,format=raw)"},
    {"cdrom", "FILE", drives_add_cdrom, "a CD in an IDE drive; \"\" leaves it empty, for the monitor's change and eject"},
    {"hda", "FILE", drives_add_hda, "a raw disk image on IDE; also -hdb, -hdc, -hdd"},
    {"hdb", "FILE", drives_add_hdb, NULL},
    {"hdc", "FILE", drives_add_hdc, NULL},
    {"hdd", "FILE", drives_add_hdd, NULL},
    {"fda", "FILE", drives_add_fda, "a floppy's image in drive A:, or \"\"; also -fdb"},
    {"fdb", "FILE", drives_add_fdb, NULL},
    {"pflash", "FILE", drives_add_flash, NULL},
    {"snapshot", NULL, set_snapshot, "keep what is written to disks in temporary files"},
    {"nic", "user", plugs_add_nic, "a network card: user[,hostfwd=tcp::2222-:22][,restrict=on][,net=10.0.2.0/24] or none; mac=ADDRESS"},
    {"netdev", "user,id=ID", plugs_add_netdev, "the same in two parts, with -device virtio-net-pci,netdev=ID[,mac=ADDRESS][,host_mtu=N]"},
    {"netdev", "stream,id=ID", plugs_add_netdev, "to another machine: addr.type=unix,addr.path=P or addr.type=inet,addr.host=H,addr.port=N; server=on"},
    {"netdev", "tap,id=ID", plugs_add_netdev, "a tap device of the host: ifname=NAME,script=no"},
    {"net", "nic", plugs_add_net, NULL},
    {"virtfs", "local,path=DIR", shares_add_virtfs, "a host directory that a Linux guest mounts (mount -t 9p -o trans=virtio TAG /mnt): mount_tag=TAG,security_model=none|mapped-xattr[,readonly=on]"},
    {"fsdev", "local,id=ID", shares_add_fsdev, "the same in two parts, with -device virtio-9p-pci,fsdev=ID,mount_tag=TAG"},
    {"device", "DEVICE", board_add_device, "virtio-rng-pci; virtio-balloon-pci[,free-page-reporting=on][,deflate-on-oom=on]; with id=ID QMP's qom-get of /machine/peripheral/ID shows guest-stats"},
    {"debugcon", "WHERE", plugs_add_debugcon, NULL},
    {"device", "DEVICE", board_add_device, "isa-debugcon,chardev=ID[,iobase=0xe9]: a port that guests print to; SeaBIOS's is 0x402"},
    {"device", "DEVICE", board_add_device, "pc-testdev, pci-testdev: registers and interrupt wires that conformance suites use; help lists all devices"},
    {"chardev", "KIND,id=ID", lines_add, "a line for -device virtconsole,chardev=ID and others: null, stdio, pty, file,path=P, socket,path=P or host=H,port=N; mux=on lets several share it"},
    {"rtc", "base=BASE", board_set_rtc, "what the clock shows: utc (the default), localtime or YYYY-MM-DD[THH:MM:SS]"},
    {"no-fd-bootchk", NULL, set_no_floppy_check, "floppies start without a boot sector's signature"},
    {"no-reboot", NULL, set_no_reboot, "end where the guest would reset"},
    {NULL, NULL, NULL, "Its consoles"},
    {"serial", "WHERE", lines_add_serial, "serial line: mon:stdio (the default), stdio, file:PATH, pty, unix:PATH, tcp:HOST:PORT[,server=on][,wait=off], chardev:ID, null; may be given twice"},
    {"nographic", NULL, set_no_graphic, "serial line on the terminal: what happens anyway"},
    {"display", "curses", set_display, "the screen on the terminal, which is the keyboard too; none (the default): -qmp's screendump shows it"},
    {"nodefaults", NULL, set_no_defaults, "no serial line unless -serial is given"},
    {"vga", "std", set_vga, "display adapter: std, a VGA with VBE (the default for firmware and multiboot kernels), or none"},
    {"vnc", "none", set_vnc, NULL},
    {"parallel", "WHERE", set_parallel, "what is printed on LPT1, in -serial's words; none (the default): no such port"},
    {NULL, NULL, NULL, "Steering it"},
    {"qmp", "WHERE", lines_add_qmp, "control socket in QEMU's protocol: unix:PATH,server=on,wait=off, tcp:127.0.0.1:PORT,..., stdio; may be given several times"},
    {"qmp-pretty", "WHERE", lines_add_qmp_pretty, NULL},
    {"monitor", "WHERE", lines_add_monitor, "text monitor, in -serial's words; Ctrl-a c reaches the one of mon:stdio"},
    {"mon", "chardev=ID", lines_add_mon, "the same on a -chardev; mode=control is QMP, mode=readline text"},
    {"S", NULL, set_paused, "stand at the first instruction until `cont`"},
    {"no-shutdown", NULL, set_no_shutdown, "stop where the guest powers off, instead of ending"},
    {"action", "EVENT=WHAT", set_action, "reboot=reset|shutdown, shutdown=poweroff|pause"},
    {"name", "NAME", set_name, "what query-name shows"},
    {"uuid", "UUID", set_uuid, "what query-uuid shows"},
    {"pidfile", "FILE", set_pid_file, "write the process's number there"},
    {"daemonize", NULL, set_daemonize, "go on in the background once the machine is made"},
    {"no-user-config", NULL, set_ignored, NULL},
    {"no-hpet", NULL, set_ignored, NULL},
    {"audiodev", "none,id=ID", set_audio, NULL},
    {"audio", "none", set_audio, NULL},
    {"usb", NULL, set_usb, NULL},
    {"curses", NULL, set_curses, NULL},
    {"mem-prealloc", NULL, set_ignored, NULL},
    {"only-migratable", NULL, set_ignored, NULL},
    {"sandbox", "on", set_ignored, NULL}, /* cells always are, and nothing else */
    {"msg", "timestamp=on", set_ignored, NULL},
    {"object", "rng-random,id=ID", set_object, NULL},
    {"global", "DRIVER.PROPERTY=VALUE", set_global, NULL},
    {"overcommit", "cpu-pm=on", set_ignored, NULL},
    {"realtime", "mlock=off", set_ignored, NULL},
    {NULL, NULL, NULL, "Watching it"},
    {"d", "CATEGORIES", set_log, "log these (-d help lists them), to stderr or the file of -D"},
    {"D", "FILE", set_log_file, "where the log goes"},
    {"stats", NULL, set_stats, "print the named counters at the end"},
    {"v", NULL, set_verbose, "say which engine was chosen and how the machine ended"},
    {"help", NULL, set_help, "this page"},
    {"h", NULL, set_help, NULL},
};
/* clang-format on */

/* QEMU's words that Doppel knows and does not do; each with what to do instead. */
static const struct {
    const char *name;
    const char *remedy;
} unsupported[] = {
    {"blockdev", "use -drive"},
    {"gdb", "there is no debugger stub yet"},
    {"s", "there is no debugger stub yet"},
    {"enable-kvm", "use -accel kvm:auto"},
    {"no-acpi", "the machine has ACPI; tell the kernel not to use it, as in -append acpi=off"},
    {"sdl", "see it with -display curses, or by -qmp's screendump"},
    {"spice", "see it with -display curses, or by -qmp's screendump"},
    {"numa", "the machine has one node"},
    {"watchdog", "there is none"},
    {"mem-path", "memory is a file of its own; leave it out"},
    {"plugin", "-d logs what runs"},
    {"trace", "-d logs what happens; -d help lists the categories"},
    {"L", "name the firmware, as in -bios FILE"},
    {"soundhw", "there is no sound"},
    {"loadvm", "there are no checkpoints yet"},
    {"incoming", "there is no migration yet"},
    {"icount", "there is no record and replay yet"},
};

/* -- Parsing ------------------------------------------------------------------------------- */

void options_init(struct run_options *options)
{
    *options = (struct run_options){
        .vm = {.memory = DEFAULT_MEMORY, .cpus = 1},
        .log = {.fd = 2},
    };
}

static const struct option *find_option(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].name && !strcmp(table[i].name, name))
            return &table[i];
    return NULL;
}

static bool unknown_option(const char *word, const char *name, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(unsupported); i++)
        if (!strcmp(unsupported[i].name, name))
            return error_set(err, "-%s is not supported: %s", name, unsupported[i].remedy);
    return error_set(err, "unknown option '%s'; doppel run --help lists them", word);
}

/* Those that name what others define (-drive, -netdev, -fsdev, -chardev), wherever it
 * stands. */
static bool refers(const struct option *option)
{
    static const char *const names[] = {"device", "serial",   "monitor", "qmp",
                                        "mon",    "debugcon", NULL};
    return words_among(option->name, names);
}

/* An image alone, as in `doppel disk.img`: the first disk, as -hda has it. Kernels are not
 * meant so. */
static bool is_image(const char *word)
{
    return !access(word, R_OK) && !firmware_is_kernel(word);
}

/* One option: moves *argv behind it. The value is NULL where the option has none. */
static bool next_option(char ***argv, const struct option **option, const char **value,
                        struct error *err)
{
    const char *word = *(*argv)++;
    const char *name = word + 1 + (word[0] == '-' && word[1] == '-');
    char cut[32] = "";
    *value = NULL;
    if (word[0] != '-' && is_image(word)) {
        *option = find_option("hda");
        *value = word;
        return true;
    }
    if (word[0] != '-' || !*name)
        return error_set(err,
                         access(word, F_OK)
                             ? "'%s' is not an option and no file; give a disk's image with "
                               "-drive and a kernel with -kernel"
                             : "'%s' is not an option; give a kernel with -kernel",
                         word);
    /* --option=value, as other tools have it. */
    const char *equals = name - word == 2 ? strchr(name, '=') : NULL;
    if (equals && (size_t)(equals - name) < sizeof(cut)) {
        memcpy(cut, name, (size_t)(equals - name));
        name = cut;
        *value = equals + 1;
    }
    *option = find_option(name);
    if (!*option)
        return unknown_option(word, name, err);
    if (!(*option)->argument && *value)
        return error_set(err, "-%s takes no argument", name);
    if ((*option)->argument && !*value && !**argv)
        return error_set(err, "-%s needs an argument: %s", name, (*option)->argument);
    if ((*option)->argument && !*value)
        *value = *(*argv)++;
    return true;
}

bool options_parse(struct run_options *options, char **argv, struct error *err)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        for (char **at = argv; *at;) {
            const struct option *option;
            const char *value;
            if (!next_option(&at, &option, &value, err))
                return false;
            if (refers(option) == pass && !option->set(options, value, err))
                return false;
        }
    }
    return true;
}

/* Firmware has a display adapter, if there is a BIOS for one; so have multiboot kernels. */
static void screen_finish(struct run_options *options)
{
    struct vm_config *vm = &options->vm;
    bool has_rom = !access(DEFAULT_VGA_ROM, R_OK);
    vm->screen_on_serial = !options->curses;
    if (options->curses && !options->vga_given)
        vm->vga = true;
    else if (!options->vga_given)
        vm->vga = vm->firmware ? has_rom
                               : !options->no_defaults && vm->kernel &&
                                     firmware_kernel_has_screen(vm->kernel);
    if (vm->vga && (vm->firmware || has_rom))
        vm->vga_rom = DEFAULT_VGA_ROM;
}

static bool may_start_from_net(const struct vm_config *vm)
{
    return (vm->boot_order && strchr(vm->boot_order, 'n')) ||
           (vm->boot_once && strchr(vm->boot_once, 'n'));
}

/* A machine that may start from the network has iPXE in its cards. */
static void net_finish(struct run_options *options)
{
    struct vm_config *vm = &options->vm;
    bool by_net = may_start_from_net(vm);
    for (unsigned i = 0; i < vm->plugs.n_devices && vm->firmware; i++) {
        struct plug_config *plug = &vm->plugs.devices[i];
        if (plug->kind == PLUG_NET && !plug->rom_given && (by_net || plug->boot_index >= 0) &&
            !access(DEFAULT_NET_ROM, R_OK))
            strcpy(plug->rom, DEFAULT_NET_ROM);
    }
}

bool options_finish(struct run_options *options, struct error *err)
{
    struct vm_config *vm = &options->vm;
    if (!drives_finish(options, err) || !plugs_join_net(options, err))
        return false;
    if (vm->initrd && !vm->kernel)
        return error_set(err, "-initrd needs a -kernel; the default guest has its own");
    memcpy(vm->smbios.uuid, options->control.uuid, sizeof(vm->smbios.uuid));
    bool by_firmware = vm->kernel ? firmware_wanted(vm->kernel)
                                  : may_start_from_net(vm) || plugs_have_disk(&vm->plugs);
    if (!vm->firmware && by_firmware) {
        vm->firmware = DEFAULT_FIRMWARE;
        if (access(vm->firmware, R_OK))
            return error_set(
                err,
                "no firmware to start %s in '%s'; install the package seabios or give -bios "
                "FILE",
                vm->kernel ? "this -kernel" : "disk or network", vm->firmware);
    }
    screen_finish(options);
    net_finish(options);
    return lines_finish(options, err);
}

/* Words from column `column` on, in lines of at most HELP_WIDTH that begin at HELP_COLUMN. */
static void print_wrapped(FILE *out, size_t column, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column + 1 + length > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        fprintf(out, " %.*s", (int)length, text);
        column += 1 + length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

void options_help(FILE *out)
{
    fputs("usage: doppel run [OPTION]...\n\n"
          "Starts a virtual machine. Without options: a small Linux on this terminal.\n",
          out);
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        const struct option *option = &table[i];
        char left[40];
        if (!option->name) {
            fprintf(out, "\n%s:\n", option->help);
            continue;
        }
        if (!option->help)
            continue;
        snprintf(left, sizeof(left), "-%s %s", option->name,
                 option->argument ? option->argument : "");
        fprintf(out, "  %-24s", left);
        print_wrapped(out, strlen(left) > 24 ? 2 + strlen(left) : 26, option->help);
    }
    fputs("\nKeys on the terminal:\n"
          "  Ctrl-a x                 leave at once\n"
          "  Ctrl-a h                 list all keys\n"
          "\nExit status:\n"
          "  0      the guest powered off, or it reset under -no-reboot, or Ctrl-a x\n"
          "  1      the host refused something\n"
          "  2      a bad option\n"
          "  3      a kernel, a disk or another file or address cannot be used\n"
          "  4      a triple fault under -no-reboot\n"
          "  2V+1   the guest wrote V to the isa-debug-exit port\n"
          "  128+N  signal N\n"
          "\nExamples:\n"
          "  doppel run\n"
          "  doppel run -m 1G -smp 2 -kernel vmlinuz -initrd initrd -append console=ttyS0\n",
          out);
}
