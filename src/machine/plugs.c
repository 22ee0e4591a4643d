/* Disks, networks and other virtio devices, see plugs.h. */
#include "machine/plugs.h"

#include <stdio.h>
#include <string.h>

#include "device/debug.h"
#include "device/fdc.h"
#include "device/gsi.h"
#include "device/ide.h"
#include "device/pflash.h"
#include "device/pci_testdev.h"
#include "device/testdev.h"
#include "device/virtio/balloon.h"
#include "device/virtio/blk.h"
#include "device/virtio/console.h"
#include "device/virtio/net.h"
#include "device/virtio/pci.h"
#include "device/virtio/rng.h"
#include "host/block/back.h"
#include "host/entropy.h"
#include "host/file.h"
#include "machine/firmware.h"

/* A queue for each vCPU lets each submit without the others; beyond a few nobody gains. */
#define BLK_MAX_AUTO_QUEUES 4

bool plugs_open_lines(struct plugs *plugs, const struct plugs_config *config,
                      struct board *board, struct loop *loop, const struct char_keys *keys,
                      struct error *err)
{
    for (unsigned i = 0; i < config->n_lines; i++) {
        plugs->lines[i] = char_create(&config->lines[i].back, board, loop, keys, err);
        if (!plugs->lines[i])
            return false;
    }
    return true;
}

static void disk_failed(void *opaque, const struct block_failure *what)
{
    struct disk_failure *failure = opaque;
    /* A stop is not to be forgotten for a report that follows it. */
    if (!failure->pending || failure->what.action != BLOCK_STOP)
        failure->what = *what;
    failure->pending = true;
    if (failure->plugs->disk_changed)
        failure->plugs->disk_changed(failure->plugs->opaque);
}

static void disk_tray_moved(void *opaque, bool open)
{
    struct disk_tray *tray = opaque;
    tray->open = open;
    tray->pending = true;
    if (tray->plugs->disk_changed)
        tray->plugs->disk_changed(tray->plugs->opaque);
}

static void watch_tray(struct plugs *plugs, unsigned disk, struct tray *tray)
{
    plugs->trays[disk] = (struct disk_tray){.plugs = plugs, .tray = tray};
    tray->moved = disk_tray_moved;
    tray->opaque = &plugs->trays[disk];
}

/*
 * One ROM serves several cards, so the ids in its PCI data structure (PCI Firmware
 * Specification 3.0, 5.1) become this one's, and the first byte that is free makes up for it in
 * the checksum.
 */
static void patch_rom(u8 *rom, u64 size, u16 vendor, u16 device)
{
    const u8 ids[4] = {(u8)vendor, (u8)(vendor >> 8), (u8)device, (u8)(device >> 8)};
    u32 data = size > 0x1a ? rom[0x18] | rom[0x19] << 8 : 0;
    if (!data || data + 8 > size || memcmp(rom + data, "PCIR", 4) != 0)
        return;
    for (unsigned i = 0; i < 4; i++) {
        rom[6] = (u8)(rom[6] + rom[data + 4 + i] - ids[i]);
        rom[data + 4 + i] = ids[i];
    }
}

static bool open_rom(struct plugs *plugs, unsigned i, const struct plug_config *device,
                     struct error *err)
{
    if (!device->rom[0])
        return true;
    if (!firmware_read_rom(device->rom, "romfile", &plugs->rom[i], &plugs->rom_size[i], err))
        return false;
    patch_rom(plugs->rom[i], plugs->rom_size[i], VIRTIO_PCI_VENDOR,
              VIRTIO_PCI_DEVICE(VIRTIO_NET_TYPE));
    return true;
}

/* What a BIOS is to know of an IDE disk; one that cannot be read is as good as empty. */
static void find_geometry(struct plugs *plugs, const struct plugs_config *config, unsigned disk,
                          struct image *image)
{
    u8 first[BLOCK_SECTOR];
    for (unsigned i = 0; i < config->n_devices; i++) {
        const struct plug_config *device = &config->devices[i];
        if (device->kind != PLUG_IDE || device->disk != disk)
            continue;
        if (image->size < sizeof(first) || image_read(image, 0, first, sizeof(first)))
            memset(first, 0, sizeof(first));
        plugs->hard_disks[device->unit] = disk_geometry_of(image->size, first);
    }
}

bool plugs_open(struct plugs *plugs, const struct plugs_config *config, struct board *board,
                struct loop *loop, struct error *err)
{
    for (unsigned i = 0; i < config->n_disks; i++) {
        const struct disk_config *disk = &config->disks[i];
        struct image *image = disk->path[0] ? image_open(&disk->image, err) : NULL;
        if (disk->path[0] && !image) {
            error_prefix(err, disk->option);
            return false;
        }
        if (image)
            find_geometry(plugs, config, i, image);
        plugs->disk_failures[i].plugs = plugs;
        const struct block_policy policy = {.on_read = config->disks[i].on_read,
                                            .on_write = config->disks[i].on_write,
                                            .failed = disk_failed,
                                            .opaque = &plugs->disk_failures[i]};
        plugs->disks[i] = block_back_create(board, image, &policy);
    }
    for (unsigned i = 0; i < config->n_nets; i++) {
        plugs->nets[i] = net_create(&config->nets[i].net, board, loop, err);
        if (!plugs->nets[i])
            return false;
    }
    for (unsigned i = 0; i < config->n_devices; i++)
        if (!open_rom(plugs, i, &config->devices[i], err))
            return false;
    for (unsigned i = 0; i < config->n_shares; i++) {
        plugs->shares[i] = share_create(&config->shares[i].p9, board, err);
        if (!plugs->shares[i])
            return false;
    }
    return true;
}

void plugs_close(struct plugs *plugs)
{
    for (unsigned i = 0; i < PLUGS_MAX_DEVICES; i++)
        if (plugs->rom[i])
            file_release(plugs->rom[i], plugs->rom_size[i]);
    for (unsigned i = 0; i < PLUGS_MAX_DISKS; i++)
        block_back_destroy(plugs->disks[i]);
    for (unsigned i = 0; i < PLUGS_MAX_NETS; i++)
        net_destroy(plugs->nets[i]);
    for (unsigned i = 0; i < PLUGS_MAX_SHARES; i++)
        share_destroy(plugs->shares[i]);
    for (unsigned i = 0; i < PLUGS_MAX_LINES; i++)
        char_destroy(plugs->lines[i]);
}

struct chardev *plugs_line(struct plugs *plugs, unsigned line)
{
    return char_port(plugs->lines[line]);
}

void plugs_drain(struct plugs *plugs)
{
    for (unsigned i = 0; i < PLUGS_MAX_DISKS; i++)
        if (plugs->disks[i])
            block_back_settle(plugs->disks[i]);
    for (unsigned i = 0; i < PLUGS_MAX_SHARES; i++)
        if (plugs->shares[i])
            share_share(plugs->shares[i])->drain(share_share(plugs->shares[i])->back);
}

static bool create_blk(struct plugs *plugs, const struct plugs_config *config,
                       const struct plug_config *device, struct board *board,
                       struct pci_host *pci)
{
    const struct disk_config *disk = &config->disks[device->disk];
    unsigned queues =
        board->n_vcpus < BLK_MAX_AUTO_QUEUES ? board->n_vcpus : BLK_MAX_AUTO_QUEUES;
    const struct virtio_blk_config blk = {
        .block = block_back_block(plugs->disks[device->disk]),
        .serial = disk->serial[0] ? disk->serial : NULL,
        .queues = device->queues ? device->queues : queues,
        .writeback = disk->image.cache.writeback,
        .packed = device->packed,
        .slot = device->slot,
    };
    return virtio_blk_create(board, pci, &blk);
}

static bool create_net(struct plugs *plugs, const struct plug_config *device, unsigned i,
                       struct board *board, struct pci_host *pci)
{
    struct virtio_net_config net = {.port = &plugs->nets[device->net]->port,
                                    .mtu = device->mtu,
                                    .packed = device->packed,
                                    .slot = device->slot,
                                    .rom = plugs->rom[i],
                                    .rom_size = (u32)plugs->rom_size[i]};
    memcpy(net.mac, device->mac, sizeof(net.mac));
    plugs->cards[i] = virtio_net_create(board, pci, &net);
    return plugs->cards[i];
}

static bool create_p9(struct plugs *plugs, const struct plugs_config *config,
                      const struct plug_config *device, struct board *board,
                      struct pci_host *pci)
{
    const struct virtio_p9_config p9 = {
        .share = share_share(plugs->shares[device->share]),
        .tag = config->shares[device->share].tag,
        .slot = device->slot,
    };
    return virtio_p9_create(board, pci, &p9);
}

static bool create_balloon(struct plugs *plugs, const struct plug_config *device,
                           struct board *board, struct pci_host *pci)
{
    const struct virtio_balloon_config balloon = {
        .deflate_on_oom = device->deflate_on_oom,
        .free_page_reporting = device->free_page_reporting,
        .slot = device->slot,
    };
    plugs->balloon = virtio_balloon_create(board, pci, &balloon);
    return plugs->balloon;
}

/* All IDE drives have one controller, which every PC has. */
static bool create_ide(struct plugs *plugs, const struct plugs_config *config,
                       struct board *board, struct pci_host *pci, struct gsi *gsi)
{
    struct ide_drive_config drives[IDE_CHANNELS][IDE_DRIVES] = {0};
    const struct irq_line irq[IDE_CHANNELS] = {gsi_line(gsi, 14), gsi_line(gsi, 15)};
    for (unsigned i = 0; i < config->n_devices; i++) {
        const struct plug_config *device = &config->devices[i];
        if (device->kind != PLUG_IDE && device->kind != PLUG_IDE_CD)
            continue;
        struct ide_drive_config *drive =
            &drives[device->unit / IDE_DRIVES][device->unit % IDE_DRIVES];
        drive->cdrom = device->kind == PLUG_IDE_CD;
        const struct disk_config *disk = &config->disks[device->disk];
        drive->block = block_back_block(plugs->disks[device->disk]);
        drive->writeback = disk->image.cache.writeback;
        drive->serial = disk->serial[0] ? disk->serial : NULL;
    }
    struct ide *ide = ide_create(board, pci, irq, drives);
    for (unsigned i = 0; i < config->n_devices; i++) {
        const struct plug_config *device = &config->devices[i];
        if (device->kind == PLUG_IDE_CD)
            watch_tray(plugs, device->disk,
                       ide_tray(ide, device->unit / IDE_DRIVES, device->unit % IDE_DRIVES));
    }
    return ide;
}

static void find_floppies(const struct plugs *plugs, const struct plugs_config *config,
                          struct block **disks)
{
    for (unsigned i = 0; i < config->n_devices; i++) {
        const struct plug_config *device = &config->devices[i];
        if (device->kind == PLUG_FLOPPY)
            disks[device->unit] = block_back_block(plugs->disks[device->disk]);
    }
}

static void create_floppies(struct plugs *plugs, const struct plugs_config *config,
                            struct board *board, struct gsi *gsi, struct isa_dma *dma)
{
    struct block *disks[FDC_DRIVES] = {0};
    find_floppies(plugs, config, disks);
    if (!disks[0] && !disks[1])
        return;
    struct fdc *fdc = fdc_create(board, dma, gsi_line(gsi, 6), disks);
    for (unsigned i = 0; i < config->n_devices; i++) {
        const struct plug_config *device = &config->devices[i];
        if (device->kind == PLUG_FLOPPY)
            watch_tray(plugs, device->disk, fdc_tray(fdc, device->unit));
    }
}

u8 plugs_floppy_types(const struct plugs *plugs, const struct plugs_config *config)
{
    struct block *disks[FDC_DRIVES] = {0};
    find_floppies(plugs, config, disks);
    return (u8)((disks[0] ? fdc_drive_type(disks[0]->size) : 0) << 4 |
                (disks[1] ? fdc_drive_type(disks[1]->size) : 0));
}

/* One below the other from 4 GiB on, where the first processor starts. */
static bool create_flashes(struct plugs *plugs, const struct plugs_config *config,
                           struct board *board, struct error *err)
{
    u64 end = 4 * GiB;
    for (unsigned unit = 0; unit < PLUGS_FLASHES; unit++) {
        for (unsigned i = 0; i < config->n_devices; i++) {
            const struct plug_config *device = &config->devices[i];
            if (device->kind != PLUG_FLASH || device->unit != unit)
                continue;
            struct block *block = block_back_block(plugs->disks[device->disk]);
            if (!pflash_create(board, block, end, err))
                return false;
            end -= block->size;
        }
    }
    return true;
}

bool plugs_create(struct plugs *plugs, const struct plugs_config *config, struct board *board,
                  struct pci_host *pci, struct gsi *gsi, struct isa_dma *dma, struct error *err)
{
    for (unsigned i = 0; i < config->n_devices; i++) {
        const struct plug_config *device = &config->devices[i];
        bool plugged = false;
        plugs->slot[i] = device->slot >= 0 ? device->slot : pci_host_free_slot(pci);
        switch (device->kind) {
        case PLUG_BLK:
            plugged = create_blk(plugs, config, device, board, pci);
            break;
        case PLUG_NET:
            plugged = create_net(plugs, device, i, board, pci);
            break;
        case PLUG_P9:
            plugged = create_p9(plugs, config, device, board, pci);
            break;
        case PLUG_RNG:
            plugged = virtio_rng_create(board, pci, host_entropy(), device->slot);
            break;
        case PLUG_BALLOON:
            plugged = create_balloon(plugs, device, board, pci);
            break;
        case PLUG_CONSOLE:
            plugged = virtio_console_create(board, pci, plugs_line(plugs, device->line),
                                            device->slot);
            break;
        case PLUG_DEBUG:
            plugged =
                debug_console_create(board, device->port, plugs_line(plugs, device->line));
            break;
        case PLUG_TESTDEV:
            plugged = testdev_create(board, gsi);
            break;
        case PLUG_PCI_TESTDEV:
            plugged = pci_testdev_create(board, pci, device->slot);
            break;
        case PLUG_IDE:
        case PLUG_IDE_CD:
        case PLUG_FLOPPY:
        case PLUG_FLASH: /* below, together */
            plugged = true;
            break;
        }
        if (!plugged && device->slot >= 0)
            return error_set(err, "-device: PCI slot %d is taken or does not exist",
                             device->slot);
        if (!plugged)
            return error_set(err, "-device: the PCI bus is full");
    }
    create_floppies(plugs, config, board, gsi, dma);
    if (!create_flashes(plugs, config, board, err))
        return false;
    return create_ide(plugs, config, board, pci, gsi);
}

/* -- Boot order ---------------------------------------------------------------------------- */

static int boot_path(const struct plug_config *device, int slot, char *text, size_t size)
{
    static const char root[] = "/pci@i0cf8";
    switch (device->kind) {
    case PLUG_BLK:
        return snprintf(text, size, "%s/scsi@%x/disk@0,0\n", root, (unsigned)slot);
    case PLUG_NET:
        return snprintf(text, size, "%s/ethernet@%x/ethernet-phy@0\n", root, (unsigned)slot);
    case PLUG_IDE:
    case PLUG_IDE_CD:
        return snprintf(text, size, "%s/ide@%u,1/drive@%u/disk@%u\n", root, PCI_ISA_SLOT,
                        device->unit / IDE_DRIVES, device->unit % IDE_DRIVES);
    case PLUG_FLOPPY:
        return snprintf(text, size, "%s/isa@%u/fdc@03f0/floppy@%u\n", root, PCI_ISA_SLOT,
                        device->unit);
    default:
        return 0;
    }
}

size_t plugs_boot_order(const struct plugs *plugs, const struct plugs_config *config,
                        char *text, size_t size)
{
    size_t length = 0;
    for (int index = 0; index <= 255; index++) {
        for (unsigned i = 0; i < config->n_devices; i++) {
            if (config->devices[i].boot_index != index)
                continue;
            int more =
                boot_path(&config->devices[i], plugs->slot[i], text + length, size - length);
            if (more < 0 || (size_t)more >= size - length)
                return length;
            length += (size_t)more;
        }
    }
    return length;
}
