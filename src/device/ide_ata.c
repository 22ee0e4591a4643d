/* The commands of an ATA disk (ATA/ATAPI-7, volume 1, chapter 6). */
#include <string.h>

#include "device/ide_state.h"

#define MAX_MULTIPLE 16
#define LBA28_LIMIT  0x0fffffffu

#define SMART_MID  0x4f
#define SMART_HIGH 0xc2

/* -- Addresses ----------------------------------------------------------------------------- */

static u64 disk_sectors(const struct ide_drive *drive)
{
    return drive->block->size / BLOCK_SECTOR;
}

static u16 default_cylinders(const struct ide_drive *drive)
{
    u64 cylinders = disk_sectors(drive) / (IDE_CHS_HEADS * IDE_CHS_SECTORS);
    return (u16)(cylinders > 16383 ? 16383 : cylinders < 1 ? 1 : cylinders);
}

static u16 cylinders(const struct ide_drive *drive)
{
    u64 all = (u64)default_cylinders(drive) * IDE_CHS_HEADS * IDE_CHS_SECTORS;
    return (u16)(all / (drive->heads * drive->sectors));
}

/* Where the registers point; false: no such CHS address. */
static bool get_lba(const struct ide_drive *drive, u64 *lba)
{
    const struct ide_regs *reg = &drive->reg, *hob = &drive->hob;
    u8 select = drive->channel->select;
    u32 cylinder = reg->mid | reg->high << 8;
    if (drive->ext) {
        *lba = reg->low | reg->mid << 8 | (u64)reg->high << 16 | (u64)hob->low << 24 |
               (u64)hob->mid << 32 | (u64)hob->high << 40;
        return true;
    }
    if (select & IDE_SELECT_LBA) {
        *lba = reg->low | cylinder << 8 | (u64)(select & 15) << 24;
        return true;
    }
    *lba = ((u64)cylinder * drive->heads + (select & 15)) * drive->sectors + reg->low - 1;
    return reg->low && reg->low <= drive->sectors && (select & 15) < drive->heads;
}

static void set_lba(struct ide_drive *drive, u64 lba)
{
    drive->reg.low = (u8)lba;
    drive->reg.mid = (u8)(lba >> 8);
    drive->reg.high = (u8)(lba >> 16);
    if (drive->ext) {
        drive->hob.low = (u8)(lba >> 24);
        drive->hob.mid = (u8)(lba >> 32);
        drive->hob.high = (u8)(lba >> 40);
    } else {
        drive->channel->select = (u8)((drive->channel->select & 0xf0) | (lba >> 24 & 15));
    }
}

static u32 get_count(const struct ide_drive *drive)
{
    u32 count = drive->reg.count;
    if (!drive->ext)
        return count ? count : 256;
    count |= drive->hob.count << 8;
    return count ? count : 65536;
}

/* False: the command has failed. */
static bool get_range(struct ide_drive *drive)
{
    drive->left = get_count(drive);
    if (get_lba(drive, &drive->lba) && drive->lba < disk_sectors(drive) &&
        drive->left <= disk_sectors(drive) - drive->lba)
        return true;
    ide_fail(drive, IDE_IDNF);
    return false;
}

/* -- Reading and writing ------------------------------------------------------------------- */

enum access { PIO, MULTIPLE, DMA };

static bool prepare(struct ide_drive *drive, enum access access)
{
    if (access == MULTIPLE && !drive->multiple) {
        ide_fail(drive, IDE_ABRT);
        return false;
    }
    drive->dma = access == DMA;
    drive->drq_bytes = (access == MULTIPLE ? drive->multiple : 1u) * BLOCK_SECTOR;
    drive->pos = drive->len = 0;
    drive->quiet = false;
    return get_range(drive);
}

static void read_sectors(struct ide_drive *drive, enum access access)
{
    drive->to_disk = false;
    if (prepare(drive, access))
        ide_start(drive, IDE_FETCH);
}

static void write_sectors(struct ide_drive *drive, enum access access, bool fua)
{
    drive->to_disk = true;
    drive->fua = fua;
    if (drive->block->read_only) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    if (!prepare(drive, access))
        return;
    drive->quiet = true;
    ide_start(drive, IDE_ASK);
}

/* DATA SET MANAGEMENT, of which there is TRIM: ranges in blocks of 512 bytes, by DMA. */
static void manage_data_set(struct ide_drive *drive)
{
    u32 blocks = get_count(drive);
    if (drive->reg.feature != 1 || !drive->block->discards ||
        blocks > IDE_BUFFER / BLOCK_SECTOR) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    drive->dma = drive->to_disk = true;
    drive->fua = drive->quiet = false;
    drive->drq_bytes = BLOCK_SECTOR;
    drive->pos = drive->len = 0;
    drive->lba = 0;
    drive->left = blocks;
    ide_start(drive, IDE_ASK);
}

static void verify(struct ide_drive *drive)
{
    if (get_range(drive))
        ide_finish(drive);
}

static void flush(struct ide_drive *drive)
{
    drive->to_disk = true;
    drive->left = 0;
    ide_start(drive, IDE_FLUSH);
}

static void read_native_max(struct ide_drive *drive)
{
    u64 last = disk_sectors(drive) - 1;
    set_lba(drive, drive->ext || last < LBA28_LIMIT ? last : LBA28_LIMIT);
    ide_finish(drive);
}

/* A sector of our own making that the guest reads by PIO. */
static void reply(struct ide_drive *drive, const void *sector)
{
    memcpy(drive->buffer, sector, BLOCK_SECTOR);
    drive->dma = drive->quiet = false;
    drive->drq_bytes = drive->len = BLOCK_SECTOR;
    drive->pos = drive->left = 0;
    ide_start(drive, IDE_OFFER);
}

/* -- IDENTIFY DEVICE ----------------------------------------------------------------------- */

void ide_put_text(u16 *words, unsigned n, const char *text, size_t size)
{
    size_t len = strnlen(text, size);
    for (unsigned i = 0; i < n; i++) {
        u8 first = 2 * i < len ? (u8)text[2 * i] : ' ';
        u8 second = 2 * i + 1 < len ? (u8)text[2 * i + 1] : ' ';
        words[i] = (u16)(first << 8 | second);
    }
}

static void identify(struct ide_drive *drive)
{
    u64 all = disk_sectors(drive);
    u32 lba28 = (u32)(all > LBA28_LIMIT ? LBA28_LIMIT : all);
    u32 chs = cylinders(drive) * drive->heads * drive->sectors;
    u16 wcache = drive->write_cache ? BIT(5) : 0, smart = drive->smart ? 1 : 0;
    u8 dma = drive->mode;
    bool trims = drive->block->discards;
    u16 words[256] = {
        [0] = 0x0040, /* not removable */
        [1] = default_cylinders(drive),
        [3] = IDE_CHS_HEADS,
        [6] = IDE_CHS_SECTORS,
        [47] = 0x8000 | MAX_MULTIPLE,
        [48] = 1,      /* 32-bit PIO */
        [49] = 0x0f00, /* IORDY, LBA, DMA */
        [50] = 0x4000,
        [51] = 0x0200,
        [53] = 7, /* words 54 to 58, 64 to 70 and 88 mean something */
        [54] = cylinders(drive),
        [55] = drive->heads,
        [56] = drive->sectors,
        [57] = (u16)chs,
        [58] = (u16)(chs >> 16),
        [59] = drive->multiple ? 0x100 | drive->multiple : 0,
        [60] = (u16)lba28,
        [61] = (u16)(lba28 >> 16),
        [63] = (u16)(7 | ((dma & 0xf8) == 0x20 ? 0x100u << (dma & 7) : 0)),
        [64] = 3, /* PIO modes 3 and 4 */
        [65] = 120,
        [66] = 120,
        [67] = 120,
        [68] = 120,
        [80] = 0x00f0,                                /* ATA/ATAPI-4 to -7 */
        [82] = BIT(14) | BIT(5) | 1,                  /* NOP, write cache, SMART */
        [83] = BIT(14) | BIT(13) | BIT(12) | BIT(10), /* flush, flush ext, 48 bits */
        [84] = BIT(14) | BIT(6),                      /* write FUA */
        [85] = (u16)(BIT(14) | wcache | smart),
        [86] = BIT(13) | BIT(12) | BIT(10),
        [87] = BIT(14) | BIT(6),
        [88] = (u16)(0x3f | ((dma & 0xf8) == 0x40 ? 0x100u << (dma & 7) : 0)),
        [93] = 0x6001 | (drive == &drive->channel->drive[1] ? 0x4a00 : 0x000a),
        [100] = (u16)all,
        [101] = (u16)(all >> 16),
        [102] = (u16)(all >> 32),
        [105] = trims ? IDE_BUFFER / BLOCK_SECTOR : 0, /* blocks of ranges */
        [106] = BIT(14) | BIT(13) | 3,                 /* 8 sectors in a physical one */
        [169] = trims,                                 /* TRIM */
    };
    ide_put_text(words + 10, 10, drive->serial, sizeof(drive->serial));
    ide_put_text(words + 23, 4, "1.0", 3);
    ide_put_text(words + 27, 20, drive->model, sizeof(drive->model));
    reply(drive, words);
}

/* -- Settings ------------------------------------------------------------------------------ */

static void set_multiple(struct ide_drive *drive)
{
    u8 count = drive->reg.count;
    if (count > MAX_MULTIPLE || (count & (count - 1))) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    drive->multiple = count;
    ide_finish(drive);
}

static void set_geometry(struct ide_drive *drive)
{
    if (!drive->reg.count) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    drive->heads = (drive->channel->select & 15) + 1;
    drive->sectors = drive->reg.count;
    ide_finish(drive);
}

/* 03h's argument: PIO, multiword and ultra DMA modes that there are. */
static bool set_mode(struct ide_drive *drive, u8 mode)
{
    bool pio = mode <= 1 || (mode >= 0x08 && mode <= 0x0c);
    bool dma = (mode >= 0x20 && mode <= 0x22) || (mode >= 0x40 && mode <= 0x45);
    if (dma)
        drive->mode = mode;
    return pio || dma;
}

static void set_features(struct ide_drive *drive)
{
    bool done = true;
    switch (drive->reg.feature) {
    case 0x02:
        drive->write_cache = !drive->cdrom;
        break;
    case 0x82: /* what is in the cache must not stay there */
        drive->write_cache = false;
        if (!drive->cdrom) {
            flush(drive);
            return;
        }
        break;
    case 0x03:
        done = set_mode(drive, drive->reg.count);
        break;
    case 0x05: /* power management, acoustics, look-ahead, revert to defaults: taken as said */
    case 0x42:
    case 0x55:
    case 0x66:
    case 0x85:
    case 0xaa:
    case 0xc2:
    case 0xcc:
        break;
    default:
        done = false;
        break;
    }
    if (done)
        ide_finish(drive);
    else
        ide_fail(drive, IDE_ABRT);
}

/* -- SMART --------------------------------------------------------------------------------- */

/* A sector of SMART data: no attributes, and the checksum that makes its bytes' sum zero. */
static void smart_sector(struct ide_drive *drive, u8 revision)
{
    u8 sector[BLOCK_SECTOR] = {revision};
    sector[511] = (u8)-revision;
    reply(drive, sector);
}

static void smart(struct ide_drive *drive)
{
    struct ide_regs *reg = &drive->reg;
    bool on = drive->smart || reg->feature == 0xd8;
    if (reg->mid != SMART_MID || reg->high != SMART_HIGH || !on) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    switch (reg->feature) {
    case 0xd0: /* read data, thresholds */
    case 0xd1:
        smart_sector(drive, 16);
        break;
    case 0xd2: /* attribute autosave */
    case 0xd4: /* off-line test: finished at once */
    case 0xda: /* status: registers as they are say that all is well */
        ide_finish(drive);
        break;
    case 0xd5: /* logs: the directory is empty, and so is each of them */
        smart_sector(drive, 1);
        break;
    case 0xd8:
    case 0xd9:
        drive->smart = reg->feature == 0xd8;
        ide_finish(drive);
        break;
    default:
        ide_fail(drive, IDE_ABRT);
        break;
    }
}

/* -- Dispatch ------------------------------------------------------------------------------ */

static void disk_command(struct ide_drive *drive)
{
    switch (drive->command) {
    case IDE_DATA_SET_MANAGEMENT:
        manage_data_set(drive);
        break;
    case 0x10 ... 0x1f: /* RECALIBRATE */
    case 0x70:          /* SEEK */
        ide_finish(drive);
        break;
    case 0x20:
    case 0x21:
    case 0x24:
        read_sectors(drive, PIO);
        break;
    case 0x25:
    case 0xc8:
    case 0xc9:
        read_sectors(drive, DMA);
        break;
    case 0x29:
    case 0xc4:
        read_sectors(drive, MULTIPLE);
        break;
    case 0x30:
    case 0x31:
    case 0x34:
        write_sectors(drive, PIO, false);
        break;
    case 0x35:
    case 0xca:
    case 0xcb:
    case 0x3d:
        write_sectors(drive, DMA, drive->command == 0x3d);
        break;
    case 0x39:
    case 0xc5:
    case 0xce:
        write_sectors(drive, MULTIPLE, drive->command == 0xce);
        break;
    case 0x40:
    case 0x41:
    case 0x42:
        verify(drive);
        break;
    case 0x27:
    case 0xf8:
        read_native_max(drive);
        break;
    case 0x91:
        set_geometry(drive);
        break;
    case 0xb0:
        smart(drive);
        break;
    case 0xc6:
        set_multiple(drive);
        break;
    case 0xe7:
    case 0xea:
        flush(drive);
        break;
    case 0xec:
        identify(drive);
        break;
    default:
        ide_fail(drive, IDE_ABRT);
        break;
    }
}

static bool is_ext(u8 command)
{
    static const u8 ext[] = {0x24, 0x25, 0x27, 0x29, 0x34, 0x35, 0x39, 0x3d, 0x42, 0xce, 0xea};
    return command == IDE_DATA_SET_MANAGEMENT || memchr(ext, command, sizeof(ext));
}

/* Commands of disks and of CD-ROM drives. */
void ide_ata_command(struct ide_drive *drive)
{
    drive->ext = is_ext(drive->command);
    switch (drive->command) {
    case 0xe0: /* power: standby, idle, at once or later, sleep */
    case 0xe1:
    case 0xe2:
    case 0xe3:
    case 0xe6:
        ide_finish(drive);
        return;
    case 0xe5: /* check power mode: active */
        ide_finish(drive);
        drive->reg.count = 0xff;
        return;
    case 0xef:
        set_features(drive);
        return;
    default:
        break;
    }
    if (!drive->cdrom) {
        disk_command(drive);
        return;
    }
    switch (drive->command) {
    case 0x08: /* DEVICE RESET */
        ide_set_signature(drive);
        break;
    case 0xa0:
        ide_start_packet(drive);
        break;
    case 0xa1:
        ide_identify_packet(drive);
        break;
    case 0x20: /* these say what it is instead */
    case 0xec:
        ide_set_signature(drive);
        drive->status |= IDE_DRDY;
        ide_fail(drive, IDE_ABRT);
        break;
    default:
        ide_fail(drive, IDE_ABRT);
        break;
    }
}

void ide_power_on(struct ide_drive *drive)
{
    drive->heads = IDE_CHS_HEADS;
    drive->sectors = IDE_CHS_SECTORS;
    drive->multiple = 0;
    drive->mode = 0x45;
    drive->write_cache = drive->writeback_default;
    drive->smart = true;
    drive->sense_key = drive->asc = drive->ascq = 0;
    ide_atapi_power_on(drive);
    drive->stage = IDE_IDLE;
    drive->lba = drive->left = drive->pos = drive->len = drive->block_end = 0;
    drive->drq_bytes = 0;
    drive->dma = drive->ext = drive->to_disk = drive->fua = drive->quiet = false;
    drive->command = 0;
    drive->hob = (struct ide_regs){0};
    ide_set_signature(drive);
}
