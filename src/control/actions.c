/* What monitors can do to a machine, see actions.h. */
#include "control/actions.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/inspect.h"
#include "device/virtio/balloon.h"
#include "device/virtio/net.h"
#include "host/picture.h"
#include "memory/pmap.h"
#include "platform/ram.h"

#define PIECE   (256 * KiB)
#define HOLD_MS 100
/* Longer would only keep keys pressed. */
#define MAX_HOLD_MS 60000

/* -- Memory into files --------------------------------------------------------------------- */

static bool write_all(int fd, const u8 *data, u64 len)
{
    while (len) {
        ssize_t written = write(fd, data, len);
        if (written <= 0)
            return false;
        data += written;
        len -= (u64)written;
    }
    return true;
}

/* Checks all before the file is touched: nobody wants half of one. Physical addresses are there
 * whatever answers. */
static bool all_there(struct vcpu *vcpu, bool physical, u64 addr, u64 size)
{
    u64 last = addr + size - 1;
    u8 byte;
    if (last < addr || size > PMAP_MAX_RAM)
        return false;
    if (physical)
        return true;
    for (u64 at = addr & PAGE_MASK; at <= last; at += PAGE_SIZE) {
        if (!inspect_read(vcpu, physical, at < addr ? addr : at, &byte, 1))
            return false;
        if (at > UINT64_MAX - PAGE_SIZE)
            break;
    }
    return true;
}

/* Where there is no memory (the VGA's window, the gap below 4 GiB) zeros stand: reading a
 * device could change it. */
static void read_physical(struct vcpu *vcpu, u64 addr, u8 *buf, u64 size)
{
    while (size) {
        u64 part = page_left(addr) < size ? page_left(addr) : size;
        if (!inspect_read(vcpu, true, addr, buf, part))
            memset(buf, 0, part);
        addr += part;
        buf += part;
        size -= part;
    }
}

static bool copy_out(struct vcpu *vcpu, bool physical, u64 addr, u64 size, int fd)
{
    u8 *buf = malloc(PIECE);
    bool good = buf;
    while (good && size) {
        u64 part = size < PIECE ? size : PIECE;
        if (physical)
            read_physical(vcpu, addr, buf, part);
        else
            good = inspect_read(vcpu, false, addr, buf, part);
        good = good && write_all(fd, buf, part);
        addr += part;
        size -= part;
    }
    free(buf);
    return good;
}

static bool save(struct vcpu *vcpu, bool physical, u64 addr, u64 size, const char *path,
                 struct error *err)
{
    if (size && !all_there(vcpu, physical, addr, size))
        return error_set(err, "Invalid addr 0x%016llx/size %lld specified",
                         (unsigned long long)addr, (long long)size);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0)
        return error_errno(err, "Could not open '%.300s'", path);
    bool good = copy_out(vcpu, physical, addr, size, fd);
    if (!good)
        error_errno(err, "Could not write '%.300s'", path);
    close(fd);
    return good;
}

bool action_save_physical(struct control *control, u64 addr, u64 size, const char *path,
                          struct error *err)
{
    return save(vm_board(control_vm(control))->vcpus[0], true, addr, size, path, err);
}

bool action_save_virtual(struct control *control, unsigned cpu, u64 addr, u64 size,
                         const char *path, struct error *err)
{
    struct vm *vm = control_vm(control);
    vm_hold(vm);
    bool good = save(vm_board(vm)->vcpus[cpu], false, addr, size, path, err);
    vm_release(vm);
    return good;
}

/* -- Screen and keys ----------------------------------------------------------------------- */

bool action_screendump(struct control *control, const char *path, const char *format,
                       struct error *err)
{
    struct vm *vm = control_vm(control);
    enum picture_format kind;
    struct screen_image image;
    if (!picture_format_named(&kind, format))
        return error_set(err, "Parameter 'format' does not accept value '%.60s'", format);
    board_lock(vm_board(vm));
    bool there = screen_image(vm_screen(vm), &image);
    board_unlock(vm_board(vm));
    if (!there)
        return error_set(err, "There is no console to take a screendump from");
    bool good = picture_save(&image, kind, path, err);
    free(image.rgb);
    return good;
}

bool action_send_keys(struct control *control, const enum input_key *keys, unsigned n,
                      u64 hold_ms, struct error *err)
{
    struct vm *vm = control_vm(control);
    if (hold_ms > MAX_HOLD_MS)
        hold_ms = MAX_HOLD_MS;
    board_lock(vm_board(vm));
    bool good = input_press(vm_input(vm), keys, n, (hold_ms ? hold_ms : HOLD_MS) * NS_PER_MS);
    board_unlock(vm_board(vm));
    return good || error_set(err, "too many keys are waiting");
}

void action_nmi(struct control *control)
{
    struct board *board = vm_board(control_vm(control));
    for (unsigned i = 0; i < board->n_vcpus; i++)
        vcpu_nmi(board->vcpus[i]);
}

bool action_set_link(struct control *control, const char *name, bool up)
{
    struct vm *vm = control_vm(control);
    const struct plugs_config *plugs = &vm_config(vm)->plugs;
    for (unsigned i = 0; i < plugs->n_devices; i++) {
        const struct plug_config *plug = &plugs->devices[i];
        if (plug->kind != PLUG_NET || !*name ||
            (strcmp(plug->id, name) && strcmp(plugs->nets[plug->net].net.id, name)))
            continue;
        board_lock(vm_board(vm));
        virtio_net_set_link(vm_plugs(vm)->cards[i], up);
        board_unlock(vm_board(vm));
        return true;
    }
    return false;
}

/* -- The balloon --------------------------------------------------------------------------- */

bool action_set_balloon(struct control *control, s64 bytes, struct error *err)
{
    struct vm *vm = control_vm(control);
    struct virtio_balloon *balloon = vm_plugs(vm)->balloon;
    u64 memory = vm_config(vm)->memory;
    if (!balloon)
        return false;
    if (bytes <= 0)
        return error_set(err, "Parameter 'target' expects a size");
    board_lock(vm_board(vm));
    virtio_balloon_set_target(balloon, (u64)bytes < memory ? memory - (u64)bytes : 0);
    board_unlock(vm_board(vm));
    return true;
}

bool action_get_balloon(struct control *control, u64 *bytes)
{
    struct vm *vm = control_vm(control);
    struct virtio_balloon *balloon = vm_plugs(vm)->balloon;
    if (!balloon)
        return false;
    board_lock(vm_board(vm));
    u64 taken = virtio_balloon_actual(balloon); /* the guest's word */
    board_unlock(vm_board(vm));
    u64 memory = vm_config(vm)->memory;
    *bytes = taken < memory ? memory - taken : 0;
    return true;
}

/* -- Disks --------------------------------------------------------------------------------- */

/* The device that has disk `i`, and how many of its kind come before it; NULL: none has it. */
static const struct plug_config *disk_plug(const struct plugs_config *plugs, unsigned i,
                                           unsigned *before)
{
    *before = 0;
    for (unsigned k = 0; k < plugs->n_devices; k++) {
        const struct plug_config *plug = &plugs->devices[k];
        bool is_disk = plug->kind == PLUG_BLK || plug->kind == PLUG_IDE ||
                       plug->kind == PLUG_IDE_CD || plug->kind == PLUG_FLOPPY ||
                       plug->kind == PLUG_FLASH;
        if (is_disk && plug->disk == i)
            return plug;
        *before += plug->kind == PLUG_BLK;
    }
    return NULL;
}

void action_disk_name(const struct vm_config *config, unsigned i, char *name, size_t size)
{
    const struct disk_config *disk = &config->plugs.disks[i];
    unsigned before;
    const struct plug_config *plug = disk_plug(&config->plugs, i, &before);
    if (disk->id[0])
        snprintf(name, size, "%s", disk->id);
    else if (!plug)
        snprintf(name, size, "none%u", i);
    else if (plug->kind == PLUG_BLK)
        snprintf(name, size, "virtio%u", before);
    else if (plug->kind == PLUG_FLOPPY)
        snprintf(name, size, "floppy%u", plug->unit);
    else if (plug->kind == PLUG_FLASH)
        snprintf(name, size, "pflash%u", plug->unit);
    else
        snprintf(name, size, "ide%u-%s%u", plug->unit / 2,
                 plug->kind == PLUG_IDE_CD ? "cd" : "hd", plug->unit % 2);
}

const char *action_disk_format(const struct disk_config *disk)
{
    return disk->image.format == IMAGE_QCOW2 ? "qcow2" : "raw";
}

void action_disk_device(const struct vm_config *config, unsigned i, char *text, size_t size)
{
    char name[64];
    unsigned before;
    const struct plug_config *plug = disk_plug(&config->plugs, i, &before);
    action_disk_name(config, i, name, sizeof(name));
    if (!plug)
        *text = 0;
    else if (plug->id[0])
        snprintf(text, size, "%s", plug->id);
    else
        snprintf(text, size, "/machine/unattached/%s", name);
}

/* -- Removable media ----------------------------------------------------------------------- */

static bool find_disk(struct control *control, const char *name, unsigned *disk,
                      struct error *err)
{
    const struct vm_config *config = vm_config(control_vm(control));
    for (unsigned i = 0; i < config->plugs.n_disks; i++) {
        char own[64], device[80];
        action_disk_name(config, i, own, sizeof(own));
        action_disk_device(config, i, device, sizeof(device));
        if (strcmp(name, own) && strcmp(name, device))
            continue;
        *disk = i;
        return true;
    }
    return error_set(err, "Device '%.100s' not found", name);
}

static bool find_removable(struct control *control, const char *name, unsigned *disk,
                           struct error *err)
{
    if (!find_disk(control, name, disk, err))
        return false;
    return vm_medium(control_vm(control), *disk).removable ||
           error_set(err, "Device '%.100s' is not removable", name);
}

static bool may_open(struct control *control, const char *name, unsigned disk, bool force,
                     struct error *err)
{
    struct vm_medium medium = vm_medium(control_vm(control), disk);
    if (force || medium.open || !medium.locked)
        return true;
    vm_open_tray(control_vm(control), disk, false);
    return error_set(err,
                     "Device '%.100s' is locked and force was not specified, wait for tray to "
                     "open and try again",
                     name);
}

bool action_open_tray(struct control *control, const char *name, bool force, struct error *err)
{
    unsigned disk;
    if (!find_removable(control, name, &disk, err) ||
        !may_open(control, name, disk, force, err))
        return false;
    vm_open_tray(control_vm(control), disk, true);
    return true;
}

bool action_close_tray(struct control *control, const char *name, struct error *err)
{
    unsigned disk;
    if (!find_removable(control, name, &disk, err))
        return false;
    vm_close_tray(control_vm(control), disk);
    return true;
}

bool action_remove_medium(struct control *control, const char *name, struct error *err)
{
    unsigned disk;
    if (!find_removable(control, name, &disk, err))
        return false;
    if (!vm_medium(control_vm(control), disk).open)
        return error_set(err, "Tray of device '%.100s' is not open", name);
    vm_remove_medium(control_vm(control), disk);
    return true;
}

bool action_eject(struct control *control, const char *name, bool force, struct error *err)
{
    return action_open_tray(control, name, force, err) &&
           action_remove_medium(control, name, err);
}

bool action_change_medium(struct control *control, const char *name,
                          const struct action_medium *medium, struct error *err)
{
    unsigned disk;
    struct vm *vm = control_vm(control);
    const char *mode = medium->mode ? medium->mode : "retain";
    if (!find_removable(control, name, &disk, err))
        return false;
    struct vm_new_medium new = {.path = medium->path,
                                .read_only = vm_config(vm)->plugs.disks[disk].image.read_only};
    if (!image_format_parse(&new.format, medium->format ? medium->format : "raw"))
        return error_set(err, "Unknown driver '%.60s'", medium->format);
    if (!strcmp(mode, "read-only") || !strcmp(mode, "read-write"))
        new.read_only = !strcmp(mode, "read-only");
    else if (strcmp(mode, "retain"))
        return error_set(err, "Parameter 'read-only-mode' does not accept value '%.60s'", mode);
    return may_open(control, name, disk, medium->force, err) &&
           vm_change_medium(vm, disk, &new, err);
}
