/* Disks, CDs and floppies on the command line, see drives.h. */
#include "cli/drives.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/plugs.h"
#include "device/virtio/virtio.h"

#define MAX_INDEX 255 /* what there is room for is seen when all drives are known */

enum drive_interface {
    DRIVE_DEFAULT,
    DRIVE_VIRTIO,
    DRIVE_IDE,
    DRIVE_FLOPPY,
    DRIVE_FLASH,
    DRIVE_NONE
};

static const char *const interfaces[] = {[DRIVE_VIRTIO] = "virtio",
                                         [DRIVE_IDE] = "ide",
                                         [DRIVE_FLOPPY] = "floppy",
                                         [DRIVE_FLASH] = "pflash",
                                         [DRIVE_NONE] = "none"};

struct drive {
    struct disk_config *disk;
    enum drive_interface interface;
    bool format, cdrom;
    unsigned unit; /* where on its interface, or PLUGS_ANY_UNIT */
    unsigned bus;  /* of an interface with several, which have two units each */
};

static bool drive_file(struct drive *drive, const char *value, struct error *err)
{
    return words_copy("-drive file", value, drive->disk->path, sizeof(drive->disk->path), err);
}

static bool drive_format(struct drive *drive, const char *value, struct error *err)
{
    drive->format = true;
    if (!image_format_parse(&drive->disk->image.format, value))
        return error_set(err, "-drive: format '%.60s' is not supported; use raw or qcow2",
                         value);
    return true;
}

static bool drive_if(struct drive *drive, const char *value, struct error *err)
{
    for (unsigned i = DRIVE_VIRTIO; i <= DRIVE_NONE; i++) {
        if (strcmp(value, interfaces[i]))
            continue;
        drive->interface = i;
        return true;
    }
    return error_set(err,
                     "-drive: if=%.60s is not supported; use virtio, ide, floppy, pflash or "
                     "none",
                     value);
}

static bool unit_number(const char *option, const char *value, u64 last, unsigned *unit,
                        struct error *err)
{
    u64 number;
    if (!words_number(option, value, 0, last, &number, err))
        return false;
    *unit = (unsigned)number;
    return true;
}

static bool drive_index(struct drive *drive, const char *value, struct error *err)
{
    return unit_number("-drive index", value, MAX_INDEX, &drive->unit, err);
}

static bool drive_bus(struct drive *drive, const char *value, struct error *err)
{
    return unit_number("-drive bus", value, MAX_INDEX / 2, &drive->bus, err);
}

static bool drive_id(struct drive *drive, const char *value, struct error *err)
{
    return words_copy("-drive id", value, drive->disk->id, sizeof(drive->disk->id), err);
}

static bool drive_serial(struct drive *drive, const char *value, struct error *err)
{
    return words_copy("-drive serial", value, drive->disk->serial, sizeof(drive->disk->serial),
                      err);
}

static bool drive_cache(struct drive *drive, const char *value, struct error *err)
{
    if (!image_cache_parse(&drive->disk->image.cache, value))
        return error_set(err,
                         "-drive: cache='%.60s' is not one of writeback, none, writethrough, "
                         "directsync, unsafe",
                         value);
    return true;
}

static bool drive_writeback(struct drive *drive, const char *value, struct error *err)
{
    return words_switch("-drive cache.writeback", value, &drive->disk->image.cache.writeback,
                        err);
}

static bool drive_direct(struct drive *drive, const char *value, struct error *err)
{
    return words_switch("-drive cache.direct", value, &drive->disk->image.cache.direct, err);
}

static bool drive_no_flush(struct drive *drive, const char *value, struct error *err)
{
    return words_switch("-drive cache.no-flush", value, &drive->disk->image.cache.no_flush,
                        err);
}

static bool drive_read_only(struct drive *drive, const char *value, struct error *err)
{
    return words_switch("-drive readonly", value, &drive->disk->image.read_only, err);
}

static bool drive_snapshot(struct drive *drive, const char *value, struct error *err)
{
    return words_switch("-drive snapshot", value, &drive->disk->image.snapshot, err);
}

static bool drive_locking(struct drive *drive, const char *value, struct error *err)
{
    drive->disk->image.share = !strcmp(value, "off");
    return true;
}

static bool drive_discard(struct drive *drive, const char *value, struct error *err)
{
    static const char *const words[] = {"unmap", "on", "ignore", "off", NULL};
    if (!words_among(value, words))
        return error_set(err, "-drive: discard='%.60s' is neither unmap nor ignore", value);
    drive->disk->image.discard = !strcmp(value, "unmap") || !strcmp(value, "on");
    return true;
}

static bool drive_werror(struct drive *drive, const char *value, struct error *err)
{
    return block_action_parse(&drive->disk->on_write, value) ||
           error_set(err, "-drive: werror=%.60s is not one of report, stop, enospc, ignore",
                     value);
}

static bool drive_rerror(struct drive *drive, const char *value, struct error *err)
{
    enum block_action *action = &drive->disk->on_read;
    return (block_action_parse(action, value) && *action != BLOCK_STOP_IF_FULL) ||
           error_set(err, "-drive: rerror=%.60s is not one of report, stop, ignore", value);
}

/* What is only there to be switched off. */
static bool drive_off(struct drive *drive, const char *value, struct error *err)
{
    static const char *const off[] = {"off", "no", "false", NULL};
    return words_among(value, off) ||
           error_set(err, "-drive: copy-on-read and detect-zeroes are not supported, but off");
}

/* Words that say how QEMU does something that has one way here. */
static bool drive_ignored(struct drive *drive, const char *value, struct error *err)
{
    return true;
}

static bool drive_media(struct drive *drive, const char *value, struct error *err)
{
    static const char *const media[] = {"disk", "cdrom", NULL};
    if (!words_among(value, media))
        return error_set(err, "-drive: media=%.60s is neither disk nor cdrom", value);
    drive->cdrom = !strcmp(value, "cdrom");
    return true;
}

static const struct {
    const char *key;
    bool (*set)(struct drive *drive, const char *value, struct error *err);
} drive_keys[] = {
    {"file", drive_file},
    {"format", drive_format},
    {"driver", drive_format},
    {"if", drive_if},
    {"id", drive_id},
    {"serial", drive_serial},
    {"cache", drive_cache},
    {"cache.writeback", drive_writeback},
    {"cache.direct", drive_direct},
    {"cache.no-flush", drive_no_flush},
    {"copy-on-read", drive_off},
    {"detect-zeroes", drive_off},
    {"readonly", drive_read_only},
    {"read-only", drive_read_only},
    {"snapshot", drive_snapshot},
    {"discard", drive_discard},
    {"werror", drive_werror},
    {"rerror", drive_rerror},
    {"file.locking", drive_locking},
    {"media", drive_media},
    {"index", drive_index},
    {"unit", drive_index},
    {"bus", drive_bus},
    {"aio", drive_ignored},
    {"auto-read-only", drive_ignored}, /* what readonly= does not forbid is written */
};

static bool drive_set(struct drive *drive, const struct word *word, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(drive_keys); i++)
        if (word->value && !strcmp(word->key, drive_keys[i].key))
            return drive_keys[i].set(drive, word->value, err);
    return error_set(err,
                     "-drive: '%s' is not supported; there are file, format, if, index, media, "
                     "id, serial, cache, readonly, snapshot, discard, werror and rerror",
                     word->key);
}

static struct disk_config *new_disk(struct run_options *o, const char *option,
                                    struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (plugs->n_disks == PLUGS_MAX_DISKS) {
        error_set(err, "%s: more than %d disks", option, PLUGS_MAX_DISKS);
        return NULL;
    }
    struct disk_config *disk = &plugs->disks[plugs->n_disks];
    *disk = (struct disk_config){.option = option,
                                 .image.path = disk->path,
                                 .image.cache.writeback = true,
                                 .on_write = BLOCK_STOP_IF_FULL};
    return disk;
}

/* The drive is complete: gives it a device, unless one is to come. */
static bool plug_drive(struct run_options *o, const struct drive *drive, struct error *err)
{
    static const enum plug_kind kinds[] = {
        [DRIVE_IDE] = PLUG_IDE, [DRIVE_FLOPPY] = PLUG_FLOPPY, [DRIVE_FLASH] = PLUG_FLASH};
    unsigned number = o->vm.plugs.n_disks++;
    enum drive_interface interface = drive->interface;
    if (interface == DRIVE_DEFAULT)
        interface = drive->cdrom ? DRIVE_IDE : DRIVE_VIRTIO;
    drive->disk->image.read_only |= drive->cdrom;
    drive->disk->used = interface != DRIVE_NONE;
    if (interface == DRIVE_NONE)
        return true;
    if (interface == DRIVE_VIRTIO) {
        o->virtio_drives |= BIT(number);
        return true;
    }
    bool ide_cd = drive->cdrom && interface == DRIVE_IDE;
    struct plug_config *plug = plugs_add(o, ide_cd ? PLUG_IDE_CD : kinds[interface], err);
    if (!plug)
        return false;
    plug->disk = number;
    plug->unit = drive->unit;
    return true;
}

bool drives_add(struct run_options *o, const char *value, struct error *err)
{
    struct drive drive = {.disk = new_disk(o, "-drive", err), .unit = PLUGS_ANY_UNIT};
    struct word word;
    if (!drive.disk)
        return false;
    while (words_next(&value, &word))
        if (!drive_set(&drive, &word, err))
            return false;
    const struct disk_config *disks = o->vm.plugs.disks;
    if (!words_new_id("-drive", drive.disk->id, disks->id, o->vm.plugs.n_disks, sizeof(*disks),
                      err))
        return false;
    if (drive.bus)
        drive.unit = 2 * drive.bus + (drive.unit == PLUGS_ANY_UNIT ? 0 : drive.unit);
    bool removable = drive.cdrom || drive.interface == DRIVE_FLOPPY;
    if (!drive.disk->path[0] && !removable && drive.interface != DRIVE_NONE)
        return error_set(err, "-drive: no file; write -drive file=PATH,format=raw");
    /* What is on a CD is not another image. */
    if (!drive.format && !drive.cdrom && drive.disk->path[0])
        return error_set(err,
                         "-drive: '%.200s' has no format, and formats are never guessed; add "
                         "format=raw or format=qcow2",
                         drive.disk->path);
    return plug_drive(o, &drive, err);
}

/* Raw images; a guest that writes to a qcow2 one as if it were raw destroys it. */
static bool add_raw(struct run_options *o, const char *option, const char *path,
                    struct drive drive, struct error *err)
{
    char magic[4] = "";
    drive.disk = new_disk(o, option, err);
    if (!drive.disk ||
        !words_copy(option, path, drive.disk->path, sizeof(drive.disk->path), err))
        return false;
    if (!*path && !drive.cdrom && drive.interface != DRIVE_FLOPPY)
        return error_set(err, "%s: no file; only -cdrom and floppies may be without", option);
    /* Who starts the machine opens it again, and says why not; a FIFO must not wait here. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool qcow2 = fd >= 0 && pread(fd, magic, 4, 0) == 4 && !memcmp(magic, "QFI\xfb", 4);
    if (fd >= 0)
        close(fd);
    if (qcow2)
        return error_set(err,
                         "%s: '%.200s' is a qcow2 image; use -drive file=FILE,format=qcow2,"
                         "if=%s",
                         option, path, interfaces[drive.interface]);
    return plug_drive(o, &drive, err);
}

bool drives_add_flash(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-pflash", path,
                   (struct drive){.interface = DRIVE_FLASH, .unit = PLUGS_ANY_UNIT}, err);
}

bool drives_add_hda(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-hda", path, (struct drive){.interface = DRIVE_IDE, .unit = 0}, err);
}

bool drives_add_hdb(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-hdb", path, (struct drive){.interface = DRIVE_IDE, .unit = 1}, err);
}

bool drives_add_hdc(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-hdc", path, (struct drive){.interface = DRIVE_IDE, .unit = 2}, err);
}

bool drives_add_hdd(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-hdd", path, (struct drive){.interface = DRIVE_IDE, .unit = 3}, err);
}

bool drives_add_cdrom(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-cdrom", path,
                   (struct drive){.interface = DRIVE_IDE, .unit = 2, .cdrom = true}, err);
}

bool drives_add_fda(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-fda", path, (struct drive){.interface = DRIVE_FLOPPY, .unit = 0}, err);
}

bool drives_add_fdb(struct run_options *o, const char *path, struct error *err)
{
    return add_raw(o, "-fdb", path, (struct drive){.interface = DRIVE_FLOPPY, .unit = 1}, err);
}

/* -- Devices ------------------------------------------------------------------------------- */

static bool use_drive(struct run_options *o, struct plug_config *plug, const char *value,
                      struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    for (unsigned i = 0; i < plugs->n_disks; i++) {
        if (!plugs->disks[i].id[0] || strcmp(plugs->disks[i].id, value))
            continue;
        if (plugs->disks[i].used)
            return error_set(err, "-device: drive '%.60s' is in use by another device", value);
        plugs->disks[i].used = true;
        plug->disk = i;
        return true;
    }
    return error_set(err, "-device: no -drive with id=%.60s", value);
}

bool drives_blk_property(struct run_options *o, struct plug_config *plug,
                         const struct word *word, struct error *err)
{
    u64 queues;
    if (!strcmp(word->key, "drive"))
        return use_drive(o, plug, word->value, err);
    struct disk_config *disk = &o->vm.plugs.disks[plug->disk];
    if (!strcmp(word->key, "serial"))
        return words_copy("-device serial", word->value, disk->serial, sizeof(disk->serial),
                          err);
    if (!strcmp(word->key, "num-queues")) {
        if (!words_number("-device num-queues", word->value, 1, VIRTIO_MAX_QUEUES, &queues,
                          err))
            return false;
        plug->queues = (unsigned)queues;
        return true;
    }
    static const char *const off[] = {"scsi=off", "config-wce=off", NULL}; /* as it is */
    char pair[sizeof(word->key) + 8];
    snprintf(pair, sizeof(pair), "%s=%.4s", word->key, word->value ? word->value : "");
    return words_among(pair, off) ||
           error_set(err, "-device virtio-blk-pci: no property '%s'", word->key);
}

/* A unit is bus * 2 + place; what is not given may still come. */
static void set_unit(struct plug_config *plug, unsigned bit, unsigned value)
{
    unsigned unit = plug->unit == PLUGS_ANY_UNIT ? 0 : plug->unit;
    plug->unit = (unit & ~(1u << bit)) | value << bit;
}

bool drives_ide_property(struct run_options *o, struct plug_config *plug,
                         const struct word *word, struct error *err)
{
    static const char *const buses[] = {"ide.0", "ide.1", NULL};
    struct disk_config *disk = &o->vm.plugs.disks[plug->disk];
    unsigned value;
    if (!strcmp(word->key, "drive"))
        return use_drive(o, plug, word->value, err);
    if (!strcmp(word->key, "bus")) {
        if (!words_among(word->value, buses))
            return error_set(err, "-device: bus=%.60s is neither ide.0 nor ide.1", word->value);
        set_unit(plug, 1, word->value[4] == '1');
        return true;
    }
    if (!strcmp(word->key, "unit")) {
        if (!unit_number("-device unit", word->value, 1, &value, err))
            return false;
        set_unit(plug, 0, value);
        return true;
    }
    if (!strcmp(word->key, "serial") && plug->disk < PLUGS_MAX_DISKS)
        return words_copy("-device serial", word->value, disk->serial, sizeof(disk->serial),
                          err);
    return error_set(err,
                     "-device ide-hd: no property '%s'; there are drive, bus, unit, serial "
                     "(after drive) and bootindex",
                     word->key);
}

bool drives_floppy_property(struct run_options *o, struct plug_config *plug,
                            const struct word *word, struct error *err)
{
    if (!strcmp(word->key, "drive"))
        return use_drive(o, plug, word->value, err);
    if (!strcmp(word->key, "unit"))
        return unit_number("-device unit", word->value, 1, &plug->unit, err);
    return error_set(err,
                     "-device floppy: no property '%s'; there are drive, unit and bootindex",
                     word->key);
}

bool drives_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    bool removable = plug->kind == PLUG_IDE_CD || plug->kind == PLUG_FLOPPY;
    if (plug->disk == PLUGS_MAX_DISKS) {
        struct disk_config *disk = removable ? new_disk(o, "-device", err) : NULL;
        if (!disk)
            return removable ? false : error_set(err, "-device: no drive=ID for the disk");
        disk->used = true;
        plug->disk = o->vm.plugs.n_disks++;
    }
    struct disk_config *disk = &o->vm.plugs.disks[plug->disk];
    disk->image.read_only |= plug->kind == PLUG_IDE_CD;
    return disk->path[0] || removable ||
           error_set(err,
                     "-device: its drive has no file; only CDs and floppies may be without");
}

/* -- All of them --------------------------------------------------------------------------- */

bool drives_are(enum plug_kind kind)
{
    return kind == PLUG_BLK || kind == PLUG_IDE || kind == PLUG_IDE_CD || kind == PLUG_FLOPPY ||
           kind == PLUG_FLASH;
}

/* What one controller, or one place, has several of. */
struct family {
    enum plug_kind kinds[2];
    unsigned units;
    const char *name;
};

static const struct family families[] = {
    {{PLUG_IDE, PLUG_IDE_CD}, PLUGS_IDE_UNITS, "IDE"},
    {{PLUG_FLOPPY, PLUG_FLOPPY}, PLUGS_FLOPPIES, "floppy"},
    {{PLUG_FLASH, PLUG_FLASH}, PLUGS_FLASHES, "pflash"},
};

/* Each gets a unit: first those that ask for one. */
static bool assign_units(struct plugs_config *plugs, const struct family *family,
                         struct error *err)
{
    bool taken[PLUGS_IDE_UNITS] = {false};
    for (unsigned any = 0; any < 2; any++) {
        for (unsigned i = 0; i < plugs->n_devices; i++) {
            struct plug_config *plug = &plugs->devices[i];
            bool member = plug->kind == family->kinds[0] || plug->kind == family->kinds[1];
            if (!member || (plug->unit == PLUGS_ANY_UNIT) != (any == 1))
                continue;
            unsigned unit = plug->unit == PLUGS_ANY_UNIT ? 0 : plug->unit;
            while (any && unit < family->units && taken[unit])
                unit++;
            if (unit >= family->units || taken[unit])
                return error_set(err,
                                 "-drive: there is no room for all %s drives, or two want "
                                 "the same place (index=)",
                                 family->name);
            plug->unit = unit;
            taken[unit] = true;
        }
    }
    return true;
}

/* Flash 0 holds what starts at the reset vector. */
static bool find_flash_firmware(struct vm_config *vm, struct error *err)
{
    bool any = false;
    for (unsigned i = 0; i < vm->plugs.n_devices; i++) {
        const struct plug_config *plug = &vm->plugs.devices[i];
        any |= plug->kind == PLUG_FLASH;
        if (plug->kind != PLUG_FLASH || plug->unit)
            continue;
        if (vm->firmware)
            return error_set(err, "-bios and -drive if=pflash,unit=0: give one");
        vm->firmware = vm->plugs.disks[plug->disk].path;
        vm->firmware_in_flash = true;
    }
    return !any || vm->firmware_in_flash ||
           error_set(err, "-drive if=pflash: there is no unit=0, which holds the code");
}

/* Devices behind those of -device, as in QEMU: the guest's first disk is the same one. */
static bool plug_virtio_drives(struct run_options *o, struct error *err)
{
    for (unsigned i = 0; i < o->vm.plugs.n_disks; i++) {
        if (!(o->virtio_drives & BIT(i)))
            continue;
        struct plug_config *plug = plugs_add(o, PLUG_BLK, err);
        if (!plug)
            return false;
        plug->disk = i;
    }
    return true;
}

bool drives_finish(struct run_options *o, struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (!plug_virtio_drives(o, err))
        return false;
    for (unsigned i = 0; i < plugs->n_disks; i++)
        plugs->disks[i].image.snapshot |= o->snapshot;
    for (unsigned i = 0; i < ARRAY_LEN(families); i++)
        if (!assign_units(plugs, &families[i], err))
            return false;
    return find_flash_firmware(&o->vm, err);
}
