/* Processors, memory, engines, the clock and what the board has on it, see board.h. */
#include "cli/board.h"

#include <string.h>
#include <time.h>

#include "cli/lines.h"
#include "cli/plugs.h"
#include "cli/words.h"
#include "memory/pmap.h"

/* -- Memory, processors, engines ------------------------------------------------------------
 */

bool board_set_memory(struct run_options *o, const char *value, struct error *err)
{
    const char *list = value;
    struct word word;
    u64 bytes = 0;
    while (words_next(&list, &word)) {
        const char *size = word.value ? word.value : word.key;
        if (word.value && strcmp(word.key, "size"))
            return error_set(err, "-m: '%s' is not supported; give the size alone, as in -m 2G",
                             word.key);
        if (!words_size("-m", size, &bytes, err))
            return false;
    }
    if (bytes < VM_MIN_MEMORY || bytes > PMAP_MAX_RAM || bytes % PAGE_SIZE)
        return error_set(err, "-m: '%s' is not from 2M to 16G in steps of 4K", value);
    o->vm.memory = bytes;
    return true;
}

enum { SMP_CPUS, SMP_SOCKETS, SMP_CORES, SMP_THREADS, SMP_MAX, SMP_WORDS };

/* Sockets, cores and threads only count: the guest sees cores of one socket. */
static bool set_cpu_word(u64 *smp, const struct word *word, struct error *err)
{
    static const char *const names[] = {"cpus", "sockets", "cores", "threads", "maxcpus"};
    static const char *const ones[] = {"dies", "clusters", NULL};
    const char *key = word->value ? word->key : "cpus";
    const char *value = word->value ? word->value : word->key;
    u64 one;
    if (words_among(key, ones))
        return words_number("-smp dies", value, 1, 1, &one, err);
    for (unsigned i = 0; i < SMP_WORDS; i++)
        if (!strcmp(key, names[i]))
            return words_number("-smp", value, 1, VM_MAX_CPUS, &smp[i], err);
    return error_set(err, "-smp: '%s' is not supported; give the number alone, as in -smp 2",
                     word->key);
}

static const u64 smp_initial[SMP_WORDS] = {
    [SMP_SOCKETS] = 1, [SMP_CORES] = 1, [SMP_THREADS] = 1};

static bool count_cpus(struct run_options *o, const u64 *smp, struct error *err)
{
    u64 cpus = smp[SMP_CPUS], product = smp[SMP_SOCKETS] * smp[SMP_CORES] * smp[SMP_THREADS];
    bool shaped = smp[SMP_SOCKETS] + smp[SMP_CORES] + smp[SMP_THREADS] > 3;
    if (!cpus)
        cpus = product;
    if ((shaped && product != cpus) || (smp[SMP_MAX] && smp[SMP_MAX] != cpus) ||
        cpus > VM_MAX_CPUS)
        return error_set(err,
                         "-smp: %llu processors are not sockets x cores x threads (%llu) or "
                         "not maxcpus: none can be added later, and %d is the most",
                         (unsigned long long)cpus, (unsigned long long)product, VM_MAX_CPUS);
    o->vm.cpus = (unsigned)cpus;
    return true;
}

bool board_set_cpus(struct run_options *o, const char *value, struct error *err)
{
    const char *list = value;
    struct word word;
    u64 smp[SMP_WORDS];
    memcpy(smp, smp_initial, sizeof(smp));
    while (words_next(&list, &word)) {
        if (!set_cpu_word(smp, &word, err))
            return false;
    }
    return count_cpus(o, smp, err);
}

/* QEMU's translator, and another word for the simulator. */
static const char *engine_name(const char *name)
{
    return !strcmp(name, "tcg") ? "bt" : !strcmp(name, "interp") ? "sim" : name;
}

static bool add_engines(struct run_options *o, const char *option, const char *list,
                        struct error *err)
{
    while (*list) {
        size_t length = strcspn(list, ":");
        static const char *const names[] = {"sim",    "interp", "bt",   "tcg",
                                            "direct", "kvm",    "auto", NULL};
        char *name = o->accel + o->accel_used;
        if (length + 1 > sizeof(o->accel) - o->accel_used || o->vm.n_engines == VM_MAX_ENGINES)
            return error_set(err, "%s: too many engines", option);
        memcpy(name, list, length);
        name[length] = 0;
        if (!words_among(name, names))
            return error_set(err, "%s: no engine '%s'; there are sim, bt, direct, kvm and auto",
                             option, name);
        o->accel_used += length + 1;
        o->vm.engines[o->vm.n_engines++] = engine_name(name);
        list += length + (list[length] == ':');
    }
    return true;
}

bool board_set_accel(struct run_options *o, const char *value, struct error *err)
{
    if (!strcmp(value, "help")) {
        o->accel_help = true;
        return true;
    }
    static const char always[] = "direct,always=on";
    static const char copies[] = "direct,always=on,copies=on";
    if (!strcmp(value, always) ||
        !strcmp(value, copies)) { /* for tests: whether it pays or not */
        o->vm.engine_options |= ENGINE_ALWAYS | (strcmp(value, always) ? ENGINE_COPIES : 0);
        return add_engines(o, "-accel", "direct", err);
    }
    unsigned mib;
    char end;
    if (sscanf(value, "bt,cache=%uM%c", &mib, &end) == 1) {
        if (mib < 1 || mib > 128)
            return error_set(err, "-accel bt,cache=: 1M to 128M");
        o->vm.engine_options |= ENGINE_CACHE(mib);
        return add_engines(o, "-accel", "bt", err);
    }
    static const char *const tcg[] = {"tcg,thread=multi", "tcg,thread=single", NULL};
    if (words_among(value, tcg))
        return add_engines(o, "-accel", "tcg", err);
    if (strchr(value, ',') || !*value)
        return error_set(err, "-accel: '%s' is not supported; give engines alone, as in sim:bt",
                         value);
    return add_engines(o, "-accel", value, err);
}

bool board_set_machine(struct run_options *o, const char *value, struct error *err)
{
    static const char *const types[] = {"pc", "q35", NULL};
    /* What happens anyway, or changes nothing that a guest sees. */
    static const char *const as_it_is[] = {"usb=off",
                                           "vmport=off",
                                           "hpet=off",
                                           "smm=off",
                                           "acpi=on",
                                           "dump-guest-core=off",
                                           "mem-merge=off",
                                           "graphics=off",
                                           "kernel-irqchip=on",
                                           "kernel-irqchip=off",
                                           "vmport=auto",
                                           "kernel-irqchip=split",
                                           "smm=auto",
                                           "hpet=auto",
                                           "pit=on",
                                           "suppress-vmdesc=on",
                                           NULL};
    const char *list = value;
    struct word word;
    u64 smp[SMP_WORDS];
    bool smp_given = false;
    memcpy(smp, smp_initial, sizeof(smp));
    while (words_next(&list, &word)) {
        const char *type = word.value ? word.value : word.key;
        if (word.value && !strncmp(word.key, "smp.", 4)) {
            memmove(word.key, word.key + 4, strlen(word.key) - 3);
            smp_given = true;
            if (!set_cpu_word(smp, &word, err))
                return false;
            continue;
        }
        if (word.value && !strcmp(word.key, "accel")) {
            if (!add_engines(o, "-machine accel=", word.value, err))
                return false;
            continue;
        }
        char pair[sizeof(word.key) + 8];
        snprintf(pair, sizeof(pair), "%s=%.6s", word.key, word.value ? word.value : "");
        for (char *c = pair; *c; c++)
            if (*c == '_') /* both spellings are QEMU's */
                *c = '-';
        if (!word.value && words_ask_help(type)) {
            o->machine_help = true;
            continue;
        }
        bool versioned = !strncmp(type, "pc-i440fx-", 10) || !strncmp(type, "pc-q35-", 7);
        if (word.value && words_among(pair, as_it_is))
            continue;
        if (!strcmp(pair, "pit=off")) {
            o->vm.no_pit = true;
            continue;
        }
        if ((word.value && strcmp(word.key, "type")) ||
            (!versioned && !words_among(type, types))) {
            return error_set(err, "-machine: '%s' is not supported; the one machine is 'pc'",
                             word.key);
        }
    }
    return !smp_given || count_cpus(o, smp, err);
}

bool board_set_cpu(struct run_options *o, const char *value, struct error *err)
{
    o->cpu_help = words_ask_help(value);
    o->vm.cpu_model = value;
    return true;
}

/* -- Devices ------------------------------------------------------------------------------- */

static bool set_debug_exit(struct run_options *o, const char *list, struct error *err)
{
    struct word word;
    u64 base = 0xf4;
    u64 size = 4;
    while (words_next(&list, &word)) {
        bool is_base = word.value && !strcmp(word.key, "iobase");
        if (!is_base && (!word.value || strcmp(word.key, "iosize")))
            return error_set(err,
                             "-device isa-debug-exit: no property '%s'; it has iobase and "
                             "iosize",
                             word.key);
        if (is_base
                ? !words_number("-device isa-debug-exit,iobase", word.value, 1, 0xffff, &base,
                                err)
                : !words_number("-device isa-debug-exit,iosize", word.value, 1, 8, &size, err))
            return false;
    }
    o->vm.debug_exit = true;
    o->vm.debug_exit_base = (u16)base;
    o->vm.debug_exit_size = (u16)size;
    return true;
}

/* -device isa-serial: -serial in other words. Lines are numbered as they come. */
static bool add_isa_serial(struct run_options *o, const char *list, struct error *err)
{
    char where[sizeof("chardev:") + 64] = "";
    struct word word;
    while (words_next(&list, &word)) {
        u64 index;
        if (word.value && !strcmp(word.key, "chardev"))
            snprintf(where, sizeof(where), "chardev:%.63s", word.value);
        else if (word.value && !strcmp(word.key, "index")) {
            if (!words_number("isa-serial index", word.value, o->vm.n_serial, o->vm.n_serial,
                              &index, err))
                return false;
        } else if (strcmp(word.key, "id")) {
            return error_set(err, "-device isa-serial: no property '%s'", word.key);
        }
    }
    return where[0] ? lines_add_serial(o, where, err)
                    : error_set(err, "-device isa-serial: no chardev=ID");
}

/* What has an option of its own, or is there anyway; *known says whether it is that. */
static bool add_board_device(struct run_options *o, const char *name, const char *list,
                             bool *known, struct error *err)
{
    *known = true;
    if (!strcmp(name, "isa-debug-exit"))
        return set_debug_exit(o, list, err);
    if (!strcmp(name, "isa-serial"))
        return add_isa_serial(o, list, err);
    if (!strcmp(name, "sga")) /* firmware prints on the serial line */
        return true;
    *known = !strcmp(name, "VGA");
    o->vm.vga |= *known;
    o->vga_given |= *known;
    return true;
}

bool board_add_device(struct run_options *o, const char *value, struct error *err)
{
    struct word word = {0};
    const char *list = value;
    words_next(&list, &word);
    if (words_ask_help(value)) {
        o->device_help = true;
        return true;
    }
    bool known = false;
    if (!word.value && !add_board_device(o, word.key, list, &known, err))
        return false;
    if (known)
        return true;
    if (plugs_add_device(o, word.key, list, err))
        return true;
    if (err->text[0])
        return false;
    if (!strncmp(word.key, "virtio", 6))
        return error_set(err, "-device: '%s' is not supported yet", word.key);
    static const char *const replaced[] = {"e1000", "e1000e", "rtl8139",    "ne2k_pci", "pcnet",
                                           "nvme",  "ahci",   "lsi53c895a", NULL};
    if (words_among(word.key, replaced))
        return error_set(err,
                         "-device: '%s' is not supported; virtio devices do its work, as in "
                         "-drive if=virtio and -nic user",
                         word.key);
    return error_set(
        err,
        "-device: no device '%s'; there are isa-debug-exit, isa-debugcon, isa-serial, VGA, "
        "pc-testdev, pci-testdev, virtconsole, ide-hd, ide-cd, "
        "floppy and virtio-blk-pci, -net-pci, -9p-pci, -rng-pci and -balloon-pci",
        word.key);
}

/* -- The clock ----------------------------------------------------------------------------- */

bool board_set_rtc(struct run_options *o, const char *value, struct error *err)
{
    /* There is one: it shows the host's at the start, and then goes with virtual time. */
    static const char *const clocks[] = {"host", "rt", "vm", NULL};
    struct word word;
    const char *list = value;
    while (words_next(&list, &word)) {
        time_t now = time(NULL);
        struct tm tm = {0};
        if (word.value && (!strcmp(word.key, "driftfix") ||
                           (!strcmp(word.key, "clock") && words_among(word.value, clocks))))
            continue;
        if (!word.value || strcmp(word.key, "base"))
            return error_set(err,
                             "-rtc: '%s' is not supported; use base=utc, base=localtime or "
                             "base=YYYY-MM-DD[THH:MM:SS]",
                             word.key);
        if (!strcmp(word.value, "utc")) {
            o->vm.wall_offset = 0;
        } else if (!strcmp(word.value, "localtime")) {
            localtime_r(&now, &tm);
            o->vm.wall_offset = tm.tm_gmtoff;
        } else {
            const char *end = strptime(word.value, "%Y-%m-%d", &tm);
            if (end && *end)
                end = strptime(end, "T%H:%M:%S", &tm);
            if (!end || *end)
                return error_set(err,
                                 "-rtc: base '%s' is not utc, localtime or "
                                 "YYYY-MM-DD[THH:MM:SS]",
                                 word.value);
            o->vm.wall_offset = timegm(&tm) - now;
        }
    }
    return true;
}
