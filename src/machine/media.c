/* Exchanging the media of a machine's drives, see vm.h. Main thread. */
#include <string.h>

#include "machine/runstate.h"
#include "machine/vm_state.h"

struct vm_medium vm_medium(struct vm *vm, unsigned disk)
{
    struct vm_medium medium = {0};
    board_lock(&vm->board);
    const struct tray *tray = vm->plugs.trays[disk].tray;
    if (tray)
        medium = (struct vm_medium){.removable = true,
                                    .open = tray->is_open(tray->drive),
                                    .locked = tray->is_locked(tray->drive)};
    board_unlock(&vm->board);
    return medium;
}

bool vm_open_tray(struct vm *vm, unsigned disk, bool force)
{
    board_lock(&vm->board);
    const struct tray *tray = vm->plugs.trays[disk].tray;
    bool open = tray->is_open(tray->drive);
    bool refused = !open && !force && tray->is_locked(tray->drive);
    if (refused)
        tray->press(tray->drive);
    else if (!open)
        tray->move(tray->drive, true);
    board_unlock(&vm->board);
    runstate_tell_disks(vm);
    return !refused;
}

void vm_close_tray(struct vm *vm, unsigned disk)
{
    board_lock(&vm->board);
    const struct tray *tray = vm->plugs.trays[disk].tray;
    tray->move(tray->drive, false);
    board_unlock(&vm->board);
    runstate_tell_disks(vm);
}

static void exchange(struct vm *vm, unsigned disk, struct image *image)
{
    board_lock(&vm->board);
    const struct tray *tray = vm->plugs.trays[disk].tray;
    struct image *old = block_back_exchange(vm->plugs.disks[disk], image);
    tray->exchanged(tray->drive);
    board_unlock(&vm->board);
    image_close(old);
}

void vm_remove_medium(struct vm *vm, unsigned disk)
{
    exchange(vm, disk, NULL);
    vm->config.plugs.disks[disk].path[0] = 0;
}

bool vm_change_medium(struct vm *vm, unsigned disk, const struct vm_new_medium *medium,
                      struct error *err)
{
    struct disk_config *config = &vm->config.plugs.disks[disk];
    struct image_config image = config->image;
    if (strlen(medium->path) >= sizeof(config->path))
        return error_set(err, "the file's name is too long");
    /* The same once more: the lock on it must go first. */
    if (!strcmp(medium->path, config->path)) {
        vm_open_tray(vm, disk, true);
        vm_remove_medium(vm, disk);
    }
    image.path = medium->path;
    image.format = medium->format;
    image.read_only = medium->read_only;
    struct image *opened = image_open(&image, err);
    if (!opened)
        return false;
    vm_open_tray(vm, disk, true);
    exchange(vm, disk, opened);
    strcpy(config->path, medium->path);
    config->image = image;
    config->image.path = config->path;
    vm_close_tray(vm, disk);
    return true;
}
