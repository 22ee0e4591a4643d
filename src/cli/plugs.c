/* Disks, networks and virtio devices on the command line, see plugs.h. */
#include "cli/plugs.h"

#include <string.h>

#include "cli/words.h"
#include "device/virtio/virtio.h"

static struct plug_config *add_plug(struct run_options *o, enum plug_kind kind,
                                    struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (plugs->n_devices == PLUGS_MAX_DEVICES) {
        error_set(err, "-device: more than %d devices", PLUGS_MAX_DEVICES);
        return NULL;
    }
    struct plug_config *plug = &plugs->devices[plugs->n_devices++];
    *plug = (struct plug_config){.kind = kind, .slot = -1};
    return plug;
}

/* -- Drives ----------------------------------------------------------------------------------
 */

enum drive_interface { DRIVE_VIRTIO, DRIVE_NONE };

struct drive {
    struct disk_config *disk;
    enum drive_interface interface;
    bool format;
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
    if (strcmp(value, "virtio") && strcmp(value, "none"))
        return error_set(err, "-drive: if=%.60s is not supported; use if=virtio or if=none",
                         value);
    drive->interface = strcmp(value, "none") ? DRIVE_VIRTIO : DRIVE_NONE;
    return true;
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

/* Words that say how QEMU does something that has one way here. */
static bool drive_ignored(struct drive *drive, const char *value, struct error *err)
{
    return true;
}

static bool drive_media(struct drive *drive, const char *value, struct error *err)
{
    if (strcmp(value, "disk"))
        return error_set(err, "-drive: media=%.60s is not supported; use media=disk", value);
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
    {"readonly", drive_read_only},
    {"read-only", drive_read_only},
    {"snapshot", drive_snapshot},
    {"discard", drive_discard},
    {"file.locking", drive_locking},
    {"media", drive_media},
    {"index", drive_ignored},
    {"aio", drive_ignored},
};

static bool drive_set(struct drive *drive, const struct word *word, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(drive_keys); i++)
        if (word->value && !strcmp(word->key, drive_keys[i].key))
            return drive_keys[i].set(drive, word->value, err);
    return error_set(err,
                     "-drive: '%s' is not supported; there are file, format, if, id, serial, "
                     "cache, readonly, snapshot and discard",
                     word->key);
}

bool plugs_add_drive(struct run_options *o, const char *value, struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    struct word word;
    if (plugs->n_disks == PLUGS_MAX_DISKS)
        return error_set(err, "-drive: more than %d disks", PLUGS_MAX_DISKS);
    struct disk_config *disk = &plugs->disks[plugs->n_disks];
    *disk = (struct disk_config){.image.path = disk->path, .image.cache.writeback = true};
    struct drive drive = {.disk = disk};
    while (words_next(&value, &word))
        if (!drive_set(&drive, &word, err))
            return false;
    if (!disk->path[0])
        return error_set(err, "-drive: no file; write -drive file=PATH,format=raw");
    if (!drive.format)
        return error_set(err,
                         "-drive: '%.200s' has no format, and formats are never guessed; add "
                         "format=raw or format=qcow2",
                         disk->path);
    if (drive.interface == DRIVE_VIRTIO) {
        struct plug_config *plug = add_plug(o, PLUG_BLK, err);
        if (!plug)
            return false;
        plug->disk = plugs->n_disks;
        disk->used = true;
    }
    plugs->n_disks++;
    return true;
}

/* -- Devices ---------------------------------------------------------------------------------
 */

/* "addr=SLOT[.0]" of every PCI device. */
static bool device_slot(struct plug_config *plug, const char *value, struct error *err)
{
    char text[16] = "";
    u64 slot;
    size_t length = strcspn(value, ".");
    bool function_0 = !value[length] || !strcmp(value + length, ".0");
    memcpy(text, value, length < sizeof(text) ? length : sizeof(text) - 1);
    if (!function_0)
        return error_set(err, "-device: addr=%.60s: devices have one function, 0", value);
    /* QEMU reads this number as hexadecimal. */
    char number[20] = "0x";
    strcat(number, !strncmp(text, "0x", 2) ? text + 2 : text);
    if (!words_number("-device addr", number, 2, PCI_SLOTS - 1, &slot, err))
        return false;
    plug->slot = (int)slot;
    return true;
}

static bool blk_drive(struct run_options *o, struct plug_config *plug, const char *value,
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
    return error_set(err, "-device: no -drive with id=%.60s before it", value);
}

static bool blk_property(struct run_options *o, struct plug_config *plug,
                         const struct word *word, struct error *err)
{
    u64 queues;
    if (!strcmp(word->key, "drive"))
        return blk_drive(o, plug, word->value, err);
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
    return error_set(err, "-device virtio-blk-pci: no property '%s'", word->key);
}

static bool blk_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    if (plug->disk == PLUGS_MAX_DISKS)
        return error_set(err, "-device virtio-blk-pci: no drive=ID");
    return true;
}

static const struct device_kind {
    const char *name; /* without "virtio-" and "-pci" */
    enum plug_kind kind;
    bool (*property)(struct run_options *options, struct plug_config *plug,
                     const struct word *word, struct error *err);
    bool (*check)(struct run_options *options, struct plug_config *plug, struct error *err);
} device_kinds[] = {
    {"blk", PLUG_BLK, blk_property, blk_check},
};

/* "virtio-KIND", "virtio-KIND-pci", "virtio-KIND-pci-non-transitional". */
static const struct device_kind *find_kind(const char *name)
{
    static const char *const endings[] = {"", "-pci", "-pci-non-transitional", NULL};
    if (strncmp(name, "virtio-", 7))
        return NULL;
    for (unsigned i = 0; i < ARRAY_LEN(device_kinds); i++) {
        size_t length = strlen(device_kinds[i].name);
        if (!strncmp(name + 7, device_kinds[i].name, length) &&
            words_among(name + 7 + length, endings))
            return &device_kinds[i];
    }
    return NULL;
}

static bool device_property(struct run_options *o, const struct device_kind *kind,
                            struct plug_config *plug, const struct word *word,
                            struct error *err)
{
    static const char *const ignored[] = {
        "id", "bootindex", "bus", "disable-legacy", "disable-modern", NULL};
    if (!word->value)
        return error_set(err, "-device: '%s' has no value", word->key);
    if (words_among(word->key, ignored))
        return true;
    if (!strcmp(word->key, "addr"))
        return device_slot(plug, word->value, err);
    if (!kind->property)
        return error_set(err, "-device virtio-%s-pci: no property '%s'", kind->name, word->key);
    return kind->property(o, plug, word, err);
}

bool plugs_add_device(struct run_options *o, const char *name, const char *list,
                      struct error *err)
{
    const struct device_kind *kind = find_kind(name);
    struct word word;
    err->text[0] = 0;
    if (!kind)
        return false;
    struct plug_config *plug = add_plug(o, kind->kind, err);
    if (!plug)
        return false;
    plug->disk = PLUGS_MAX_DISKS;
    while (words_next(&list, &word))
        if (!device_property(o, kind, plug, &word, err))
            return false;
    return !kind->check || kind->check(o, plug, err);
}

bool plugs_finish(struct run_options *o, struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    for (unsigned i = 0; i < plugs->n_disks; i++)
        plugs->disks[i].image.snapshot |= o->snapshot;
    return true;
}
