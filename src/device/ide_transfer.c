/*
 * How an IDE drive moves data: from the disk to the buffer to the guest, or the other way, by
 * PIO in data blocks or by bus-master DMA, one buffer after the other. Each step either is done
 * at once or is continued by what it waits for: the back end, the data port, the bus master.
 */
#include <string.h>

#include "base/ensure.h"
#include "device/ide_state.h"

static u32 at_most(u32 value, u32 limit)
{
    return value < limit ? value : limit;
}

/* With BSY the other bits mean nothing (ATA/ATAPI-7, 5.14); a disk that works is ready, too. */
static void show_busy(struct ide_drive *drive)
{
    drive->status = drive->cdrom ? IDE_BSY : IDE_BSY | IDE_DRDY | IDE_DSC;
}

void ide_finish(struct ide_drive *drive)
{
    drive->stage = IDE_IDLE;
    drive->status = IDE_DRDY | IDE_DSC;
    if (drive->cdrom) {
        drive->status = IDE_DRDY;
        drive->reg.count = ATAPI_COD | ATAPI_IO;
    }
    ide_interrupt(drive->channel);
}

void ide_fail(struct ide_drive *drive, u8 error)
{
    drive->error = error;
    drive->stage = IDE_IDLE;
    drive->status = IDE_DRDY | IDE_DSC | IDE_ERR;
    ide_interrupt(drive->channel);
}

static void disk_failed(struct ide_drive *drive)
{
    if (drive->cdrom)
        ide_atapi_fail(drive, 3, 0x11, 0); /* medium error: unrecovered read error */
    else
        ide_fail(drive, drive->to_disk ? IDE_ABRT : IDE_UNC);
}

/* -- The disk ------------------------------------------------------------------------------ */

/* What an answer of the back end leads to. */
static void disk_answered(struct ide_drive *drive)
{
    if (drive->io.error) {
        disk_failed(drive);
        return;
    }
    drive->lba += drive->io_sectors;
    drive->left -= drive->io_sectors;
    switch (drive->io.op) {
    case BLOCK_READ:
        drive->stage = IDE_OFFER;
        drive->pos = 0;
        drive->len = drive->io_sectors * ide_sector_size(drive);
        break;
    case BLOCK_WRITE:
        drive->stage = drive->left                         ? IDE_ASK
                       : drive->fua || !drive->write_cache ? IDE_FLUSH
                                                           : IDE_DONE;
        break;
    case BLOCK_DISCARD: /* the next range */
        break;
    default:
        drive->stage = IDE_DONE;
        break;
    }
}

static void io_done(struct block_request *io)
{
    struct ide_drive *drive = container_of(io, struct ide_drive, io);
    drive->in_flight = false;
    if (drive->reset_wanted) {
        drive->reset_wanted = false;
        ide_set_signature(drive);
        return;
    }
    disk_answered(drive);
    ide_run(drive);
}

/* True: it has answered. */
static bool ask_disk(struct ide_drive *drive, enum block_op op, u32 sectors)
{
    u32 size = ide_sector_size(drive);
    show_busy(drive);
    drive->io_sectors = op == BLOCK_DISCARD ? 0 : sectors;
    drive->io = (struct block_request){.op = op,
                                       .offset = drive->lba * size,
                                       .len = (u64)sectors * size,
                                       .data = drive->buffer,
                                       .done = io_done};
    if (!sectors)
        drive->io.offset = 0;
    drive->in_flight = true;
    if (!block_submit(drive->block, &drive->io))
        return false;
    drive->in_flight = false;
    disk_answered(drive);
    return true;
}

/* -- The guest ----------------------------------------------------------------------------- */

/* Opens the next data block. */
static void open_block(struct ide_drive *drive, bool to_host)
{
    u32 bytes = at_most(drive->len - drive->pos, drive->drq_bytes);
    drive->block_end = drive->pos + bytes;
    drive->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    if (drive->cdrom) {
        drive->reg.count = to_host ? ATAPI_IO : 0;
        drive->reg.mid = (u8)bytes;
        drive->reg.high = (u8)(bytes >> 8);
    }
    if (!drive->quiet)
        ide_interrupt(drive->channel);
    drive->quiet = false;
}

/* The buffer has been given. */
static void given(struct ide_drive *drive)
{
    drive->stage = drive->left ? IDE_FETCH : IDE_DONE;
}

/* True: go on with the next stage. */
static bool offer(struct ide_drive *drive)
{
    if (!drive->dma) {
        open_block(drive, true);
        return false;
    }
    show_busy(drive);
    drive->block_end = 0;
    if (!ide_dma_move(drive, true))
        return false;
    given(drive);
    return true;
}

static bool ask(struct ide_drive *drive)
{
    u32 size = ide_sector_size(drive);
    u32 most = drive->dma ? IDE_BUFFER : drive->drq_bytes;
    /* A transfer that waited for the bus master goes on where it was. */
    if (drive->pos == drive->len) {
        drive->pos = 0;
        drive->len = at_most(drive->left, most / size) * size;
    }
    if (!drive->dma) {
        open_block(drive, false);
        return false;
    }
    show_busy(drive);
    drive->block_end = 0;
    if (!ide_dma_move(drive, false))
        return false;
    drive->stage = drive->command == IDE_DATA_SET_MANAGEMENT ? IDE_TRIM : IDE_STORE;
    if (drive->stage == IDE_TRIM)
        drive->pos = 0;
    return true;
}

/* One range: an LBA of 48 bits, and sectors (ACS-2, 7.9); none: the entry is not used. */
static bool trim(struct ide_drive *drive)
{
    u64 entry, sectors = drive->block->size / BLOCK_SECTOR;
    if (drive->pos == drive->len) {
        drive->stage = IDE_DONE;
        return true;
    }
    memcpy(&entry, drive->buffer + drive->pos, sizeof(entry));
    drive->pos += sizeof(entry);
    u32 count = (u32)(entry >> 48);
    drive->lba = entry & bits_low(48);
    if (!count)
        return true;
    if (drive->lba > sectors || count > sectors - drive->lba) {
        ide_fail(drive, IDE_ABRT);
        return false;
    }
    return ask_disk(drive, BLOCK_DISCARD, count);
}

static bool step(struct ide_drive *drive)
{
    u32 size = ide_sector_size(drive);
    switch (drive->stage) {
    case IDE_FETCH:
        return ask_disk(drive, BLOCK_READ, at_most(drive->left, IDE_BUFFER / size));
    case IDE_OFFER:
        return offer(drive);
    case IDE_ASK:
        return ask(drive);
    case IDE_STORE:
        return ask_disk(drive, BLOCK_WRITE, drive->len / size);
    case IDE_TRIM:
        return trim(drive);
    case IDE_FLUSH:
        return ask_disk(drive, BLOCK_FLUSH, 0);
    case IDE_DONE:
        ide_finish(drive);
        return false;
    default:
        return false;
    }
}

void ide_run(struct ide_drive *drive)
{
    while (!drive->in_flight && step(drive))
        ;
}

void ide_start(struct ide_drive *drive, enum ide_stage stage)
{
    drive->stage = stage;
    ide_run(drive);
}

/* -- The data port ------------------------------------------------------------------------- */

/* The data block has moved. */
static void block_moved(struct ide_drive *drive)
{
    switch (drive->stage) {
    case IDE_OFFER:
        if (drive->pos < drive->len)
            break;
        given(drive);
        /* A disk's last block ends the command without an interrupt. */
        if (drive->stage == IDE_DONE && !drive->cdrom) {
            drive->stage = IDE_IDLE;
            drive->status = IDE_DRDY | IDE_DSC;
            return;
        }
        break;
    case IDE_ASK:
        drive->stage = IDE_STORE;
        break;
    case IDE_PACKET:
        ide_packet(drive);
        return;
    default:
        return;
    }
    ide_run(drive);
}

static bool block_is_open(const struct ide_drive *drive)
{
    return (drive->status & IDE_DRQ) && drive->pos < drive->block_end;
}

u32 ide_pio_read(struct ide_drive *drive, unsigned size)
{
    u32 value = 0;
    if (drive->stage != IDE_OFFER || !block_is_open(drive))
        return 0;
    for (unsigned i = 0; i < size && drive->pos < drive->block_end; i++)
        value |= (u32)drive->buffer[drive->pos++] << 8 * i;
    if (drive->pos == drive->block_end)
        block_moved(drive);
    return value;
}

void ide_pio_write(struct ide_drive *drive, unsigned size, u32 value)
{
    if ((drive->stage != IDE_ASK && drive->stage != IDE_PACKET) || !block_is_open(drive))
        return;
    for (unsigned i = 0; i < size && drive->pos < drive->block_end; i++)
        drive->buffer[drive->pos++] = (u8)(value >> 8 * i);
    if (drive->pos == drive->block_end)
        block_moved(drive);
}
