/*
 * The commands of an ATAPI CD-ROM drive (MMC-3, SPC-2; their transport: ATA/ATAPI-7, 6.24). A
 * disc has one data track of 2,048-byte blocks.
 */
#include <endian.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/ensure.h"
#include "device/ide_state.h"

#define PACKET_SIZE 12
#define SECTOR      2048u
#define LEADOUT     0xaa
#define MSF_OFFSET  150 /* frames before the first block */

#define FEATURE_DMA     BIT(0)
#define FEATURE_OVERLAP BIT(1)

/* Additional sense codes that come as unit attentions */
#define ASC_MEDIUM_CHANGED 0x28
#define ASC_RESET          0x29

/* Media events (MMC-3, table 90) */
enum { EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW_MEDIA, EVENT_MEDIA_REMOVAL };

/* Sense keys (SPC-2, table 107) */
enum { NO_SENSE = 0, NOT_READY = 2, ILLEGAL_REQUEST = 5, UNIT_ATTENTION = 6 };

/* What may be said of a command before it is looked at. */
#define NEEDS_DISC     BIT(0)
#define PASS_ATTENTION BIT(1) /* works with a unit attention waiting, which stays */

static bool has_disc(const struct ide_drive *drive)
{
    return drive->block->size && !drive->tray_open;
}

static u32 blocks(const struct ide_drive *drive)
{
    u64 blocks = drive->block->size / SECTOR;
    return blocks > 0xffffffff ? 0xffffffff : (u32)blocks;
}

static void set_sense(struct ide_drive *drive, u8 key, u8 asc, u8 ascq)
{
    drive->sense_key = key;
    drive->asc = asc;
    drive->ascq = ascq;
}

void ide_atapi_fail(struct ide_drive *drive, u8 key, u8 asc, u8 ascq)
{
    set_sense(drive, key, asc, ascq);
    ide_finish(drive);
    drive->error = (u8)(key << 4 | (key == ILLEGAL_REQUEST ? IDE_ABRT : 0));
    drive->status |= IDE_ERR;
}

static void illegal_field(struct ide_drive *drive)
{
    ide_atapi_fail(drive, ILLEGAL_REQUEST, 0x24, 0);
}

/* The first `len` bytes of the buffer, as far as the guest wants them. */
static void reply(struct ide_drive *drive, u32 len, u32 wanted)
{
    drive->len = len < wanted ? len : wanted;
    drive->pos = drive->left = 0;
    ide_start(drive, drive->len ? IDE_OFFER : IDE_DONE);
}

/* Zeroed room for an answer. */
static u8 *answer(struct ide_drive *drive, u32 len)
{
    return memset(drive->buffer, 0, len);
}

/* -- What it is ---------------------------------------------------------------------------- */

void ide_identify_packet(struct ide_drive *drive)
{
    u8 dma = drive->mode;
    u16 words[256] = {
        [0] = 0x85c0,  /* ATAPI, CD-ROM, removable, 12-byte packets, DRQ within 50 us */
        [49] = 0x0f00, /* IORDY, LBA, DMA */
        [53] = 7,
        [63] = (u16)(7 | ((dma & 0xf8) == 0x20 ? 0x100u << (dma & 7) : 0)),
        [64] = 3,
        [65] = 120,
        [66] = 120,
        [67] = 120,
        [68] = 120,
        [80] = 0x00f0,
        [82] = BIT(14) | BIT(9) | BIT(4), /* NOP, DEVICE RESET, PACKET */
        [83] = BIT(14),
        [84] = BIT(14),
        [85] = BIT(14) | BIT(9) | BIT(4),
        [87] = BIT(14),
        [88] = (u16)(0x3f | ((dma & 0xf8) == 0x40 ? 0x100u << (dma & 7) : 0)),
        [93] = 0x6001,
    };
    ide_put_text(words + 10, 10, drive->serial, sizeof(drive->serial));
    ide_put_text(words + 23, 4, "1.0", 3);
    ide_put_text(words + 27, 20, drive->model, sizeof(drive->model));
    memcpy(drive->buffer, words, sizeof(words));
    drive->dma = drive->quiet = false;
    drive->drq_bytes = sizeof(words);
    reply(drive, sizeof(words), sizeof(words));
}

static void inquiry(struct ide_drive *drive, const u8 *packet)
{
    if (packet[1] & 1) { /* vital product data */
        illegal_field(drive);
        return;
    }
    u8 *data = answer(drive, 36);
    data[0] = 5;    /* CD-ROM */
    data[1] = 0x80; /* removable */
    data[3] = 0x21; /* ATAPI, response format 1 */
    data[4] = 31;
    memcpy(data + 8, "DOPPEL  ", 8);
    memcpy(data + 16, "DOPPEL CD-ROM   ", 16);
    memcpy(data + 32, "1.0 ", 4);
    reply(drive, 36, packet[4]);
}

static void request_sense(struct ide_drive *drive, const u8 *packet)
{
    u8 *data = answer(drive, 18);
    if (drive->attention && drive->sense_key == NO_SENSE)
        set_sense(drive, UNIT_ATTENTION, drive->attention, 0);
    drive->attention = 0;
    data[0] = 0x70;
    data[2] = drive->sense_key;
    data[7] = 10;
    data[12] = drive->asc;
    data[13] = drive->ascq;
    set_sense(drive, NO_SENSE, 0, 0);
    reply(drive, 18, packet[4]);
}

/* -- Mode pages ---------------------------------------------------------------------------- */

static const u8 page_recovery[] = {0x01, 0x06, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00};
/* MMC-3's "capabilities": reads CD-R and RW, mode 2; locks, ejects, a tray; 16 x, 512 KiB. */
static const u8 page_capabilities[] = {0x2a, 0x12, 0x03, 0x00, 0x70, 0x60, 0x2b,
                                       0x00, 0x0a, 0xc4, 0x00, 0x02, 0x02, 0x00,
                                       0x0a, 0xc4, 0x00, 0x00, 0x00, 0x00};

static u32 put_page(u8 *at, const u8 *page, u32 size, u8 wanted)
{
    if (wanted != 0x3f && wanted != (page[0] & 0x3f))
        return 0;
    memcpy(at, page, size);
    return size;
}

/* `header` is 8 bytes for the long form of the command, 4 for the short one. */
static void mode_sense(struct ide_drive *drive, const u8 *packet, u32 header, u32 wanted)
{
    u8 page = packet[2] & 0x3f, control = packet[2] >> 6;
    u8 *data = answer(drive, 64);
    u32 len = header;
    if (control == 3) { /* saved values */
        ide_atapi_fail(drive, ILLEGAL_REQUEST, 0x39, 0);
        return;
    }
    len += put_page(data + len, page_recovery, sizeof(page_recovery), page);
    u32 capabilities = len;
    len += put_page(data + len, page_capabilities, sizeof(page_capabilities), page);
    if (len == header) {
        illegal_field(drive);
        return;
    }
    if (len > capabilities && drive->locked)
        data[capabilities + 6] |= 2;
    u8 medium = !has_disc(drive) ? 0x70 : 0x01;
    if (header == 8)
        be_put16(data, len - 2);
    else
        data[0] = (u8)(len - 1);
    data[header == 8 ? 2 : 1] = medium;
    reply(drive, len, wanted);
}

static void mode_sense_6(struct ide_drive *drive, const u8 *packet)
{
    mode_sense(drive, packet, 4, packet[4]);
}

static void mode_sense_10(struct ide_drive *drive, const u8 *packet)
{
    mode_sense(drive, packet, 8, be_get16(packet + 7));
}

/* -- The disc ------------------------------------------------------------------------------ */

static void nothing(struct ide_drive *drive, const u8 *packet)
{
    ide_finish(drive);
}

static void read_capacity(struct ide_drive *drive, const u8 *packet)
{
    u8 *data = answer(drive, 8);
    be_put32(data, blocks(drive) ? blocks(drive) - 1 : 0);
    be_put32(data + 4, SECTOR);
    reply(drive, 8, 8);
}

static void read_blocks(struct ide_drive *drive, u32 lba, u32 count)
{
    if (lba > blocks(drive) || count > blocks(drive) - lba) {
        ide_atapi_fail(drive, ILLEGAL_REQUEST, 0x21, 0); /* block address out of range */
        return;
    }
    drive->lba = lba;
    drive->left = count;
    drive->to_disk = false;
    ide_start(drive, count ? IDE_FETCH : IDE_DONE);
}

static void read_10(struct ide_drive *drive, const u8 *packet)
{
    read_blocks(drive, be_get32(packet + 2), be_get16(packet + 7));
}

static void read_12(struct ide_drive *drive, const u8 *packet)
{
    read_blocks(drive, be_get32(packet + 2), be_get32(packet + 6));
}

/* Of READ CD only what is as READ: the user data of data blocks. */
static void read_cd(struct ide_drive *drive, const u8 *packet)
{
    u32 count = (u32)packet[6] << 16 | be_get16(packet + 7);
    u8 type = packet[1] >> 2 & 7, fields = packet[9] & 0xf8;
    if (type > 2 || (fields && fields != 0x10))
        illegal_field(drive);
    else
        read_blocks(drive, be_get32(packet + 2), fields ? count : 0);
}

static void seek(struct ide_drive *drive, const u8 *packet)
{
    if (be_get32(packet + 2) >= blocks(drive))
        ide_atapi_fail(drive, ILLEGAL_REQUEST, 0x21, 0);
    else
        ide_finish(drive);
}

/* A block's place, as a number or in minutes, seconds and frames. */
static void put_place(u8 *at, u32 lba, bool msf)
{
    if (!msf) {
        be_put32(at, lba);
        return;
    }
    lba += MSF_OFFSET;
    at[0] = 0;
    at[1] = (u8)(lba / 75 / 60);
    at[2] = (u8)(lba / 75 % 60);
    at[3] = (u8)(lba % 75);
}

static u32 put_track(u8 *at, u8 track, u32 lba, bool msf)
{
    at[1] = 0x14; /* a data track; the subchannel has places */
    at[2] = track;
    put_place(at + 4, lba, msf);
    return 8;
}

/* Format 2: points A0h (first track), A1h (last track), A2h (lead-out), and track 1. */
static u32 put_raw_toc(struct ide_drive *drive, u8 *data)
{
    static const u8 points[] = {0xa0, 0xa1, 0xa2, 1};
    u8 *at = data + 4;
    for (unsigned i = 0; i < ARRAY_LEN(points); i++, at += 11) {
        at[0] = 1; /* session */
        at[1] = 0x14;
        at[3] = points[i];
        if (points[i] == 0xa0 || points[i] == 0xa1) {
            at[8] = 1;
            continue;
        }
        u8 place[4];
        put_place(place, points[i] == 1 ? 0 : blocks(drive), true);
        memcpy(at + 8, place + 1, 3);
    }
    return (u32)(at - data);
}

static void read_toc(struct ide_drive *drive, const u8 *packet)
{
    bool msf = packet[1] & 2;
    /* SFF-8020i has the format in the last byte. */
    u8 format = packet[2] & 15 ? packet[2] & 15 : packet[9] >> 6, first = packet[6];
    u8 *data = answer(drive, 64);
    u32 len = 4;
    data[2] = data[3] = 1; /* first and last track or session */
    switch (format) {
    case 0:
        if (first > 1 && first != LEADOUT) {
            illegal_field(drive);
            return;
        }
        if (first <= 1)
            len += put_track(data + len, 1, 0, msf);
        len += put_track(data + len, LEADOUT, blocks(drive), msf);
        break;
    case 1: /* sessions */
        len += put_track(data + len, 1, 0, msf);
        break;
    case 2:
        len = put_raw_toc(drive, data);
        break;
    default:
        illegal_field(drive);
        return;
    }
    be_put16(data, len - 2);
    reply(drive, len, be_get16(packet + 7));
}

static void read_disc_information(struct ide_drive *drive, const u8 *packet)
{
    u8 *data = answer(drive, 34);
    be_put16(data, 32);
    data[2] = 0x0e; /* a finished disc, its last session complete */
    data[3] = data[4] = data[5] = data[6] = 1;
    data[7] = 0x20; /* unrestricted use */
    reply(drive, 34, be_get16(packet + 7));
}

static void read_subchannel(struct ide_drive *drive, const u8 *packet)
{
    u8 *data = answer(drive, 4);
    data[1] = 0x15; /* no audio status */
    reply(drive, 4, be_get16(packet + 7));
}

/* -- Tray and state ------------------------------------------------------------------------ */

/* A disc that was there all the time is new when the tray has closed, too. */
static void move_tray(struct ide_drive *drive, bool open)
{
    if (drive->tray_open == open)
        return;
    drive->tray_open = open;
    if (open) {
        drive->event = EVENT_MEDIA_REMOVAL;
    } else if (drive->block->size) {
        drive->attention = ASC_MEDIUM_CHANGED;
        drive->event = EVENT_NEW_MEDIA;
    }
    tray_moved(&drive->tray, open);
}

void ide_atapi_power_on(struct ide_drive *drive)
{
    drive->locked = false;
    if (drive->tray_open)
        move_tray(drive, false);
    drive->attention = drive->cdrom ? ASC_RESET : 0;
    drive->event = EVENT_NONE;
}

static bool tray_is_open(void *drive)
{
    return ((const struct ide_drive *)drive)->tray_open;
}

static bool tray_is_locked(void *drive)
{
    return ((const struct ide_drive *)drive)->locked;
}

static void tray_move(void *opaque, bool open)
{
    struct ide_drive *drive = opaque;
    move_tray(drive, open);
    /* By force, or of a drive that was not locked: a lock does not outlive it. */
    if (open)
        drive->locked = false;
}

static void tray_press(void *drive)
{
    ((struct ide_drive *)drive)->event = EVENT_EJECT_REQUEST;
}

/* What a command still wanted of the old disc is not on the new one. */
static void tray_exchanged(void *opaque)
{
    struct ide_drive *drive = opaque;
    bool reads = drive->stage != IDE_IDLE && drive->stage != IDE_PACKET && drive->left;
    drive->attention = drive->block->size ? ASC_MEDIUM_CHANGED : 0;
    if (reads)
        ide_atapi_fail(drive, NOT_READY, 0x3a, 2);
}

void ide_create_tray(struct ide_drive *drive)
{
    drive->tray = (struct tray){.is_open = tray_is_open,
                                .is_locked = tray_is_locked,
                                .move = tray_move,
                                .press = tray_press,
                                .exchanged = tray_exchanged,
                                .drive = drive};
}

static void start_stop(struct ide_drive *drive, const u8 *packet)
{
    bool start = packet[4] & 1, eject = packet[4] & 2;
    if (eject && !start && drive->locked) {
        ide_atapi_fail(drive, has_disc(drive) ? ILLEGAL_REQUEST : NOT_READY, 0x53, 2);
        return;
    }
    if (eject)
        move_tray(drive, !start);
    ide_finish(drive);
}

static void prevent_allow(struct ide_drive *drive, const u8 *packet)
{
    drive->locked = packet[4] & 1;
    ide_finish(drive);
}

/* Only polling; of all classes media events. */
static void get_event_status(struct ide_drive *drive, const u8 *packet)
{
    u8 *data = answer(drive, 8);
    if (!(packet[1] & 1)) {
        illegal_field(drive);
        return;
    }
    data[3] = 0x10; /* classes that there are */
    if (!(packet[4] & 0x10)) {
        be_put16(data, 2);
        data[2] = 0x80; /* none of those asked for */
        reply(drive, 4, be_get16(packet + 7));
        return;
    }
    be_put16(data, 6);
    data[2] = 4;
    data[4] = drive->event;
    drive->event = EVENT_NONE;
    data[5] = (u8)((has_disc(drive) ? 2 : 0) | drive->tray_open);
    reply(drive, 8, be_get16(packet + 7));
}

static void get_configuration(struct ide_drive *drive, const u8 *packet)
{
    static const u8 features[] = {
        0x00, 0x00, 0x03, 0x04, 0x00, 0x08, 0x01, 0x00,             /* profiles: CD-ROM */
        0x00, 0x01, 0x0b, 0x08, 0x00, 0x00, 0x00, 0x02, 1, 0, 0, 0, /* core: ATAPI */
        0x00, 0x03, 0x03, 0x04, 0x29, 0x00, 0x00, 0x00, /* removable: tray, eject, lock */
    };
    u8 *data = answer(drive, 64);
    u16 first = be_get16(packet + 2);
    u32 len = 8;
    for (u32 at = 0; at < sizeof(features); at += 4 + features[at + 3]) {
        u16 code = be_get16(features + at);
        bool wanted = packet[1] & 2 ? code == first : code >= first;
        if (!wanted)
            continue;
        memcpy(data + len, features + at, 4 + features[at + 3]);
        len += 4 + features[at + 3];
    }
    be_put32(data, len - 4);
    be_put16(data + 6, has_disc(drive) ? 8 : 0); /* the current profile */
    reply(drive, len, be_get16(packet + 7));
}

static void mechanism_status(struct ide_drive *drive, const u8 *packet)
{
    u8 *data = answer(drive, 8);
    data[1] = drive->tray_open ? 0x10 : 0;
    data[5] = 1;
    reply(drive, 8, be_get16(packet + 8));
}

/* -- Dispatch ------------------------------------------------------------------------------ */

static const struct packet_command {
    u8 opcode, needs;
    void (*run)(struct ide_drive *drive, const u8 *packet);
} commands[] = {
    {0x00, NEEDS_DISC, nothing}, /* TEST UNIT READY */
    {0x03, PASS_ATTENTION, request_sense},
    {0x12, PASS_ATTENTION, inquiry},
    {0x1a, 0, mode_sense_6},
    {0x1b, 0, start_stop},
    {0x1e, 0, prevent_allow},
    {0x25, NEEDS_DISC, read_capacity},
    {0x28, NEEDS_DISC, read_10},
    {0x2b, NEEDS_DISC, seek},
    {0x2f, NEEDS_DISC, nothing}, /* VERIFY(10) */
    {0x35, NEEDS_DISC, nothing}, /* SYNCHRONIZE CACHE */
    {0x42, NEEDS_DISC, read_subchannel},
    {0x43, NEEDS_DISC, read_toc},
    {0x46, PASS_ATTENTION, get_configuration},
    {0x4a, PASS_ATTENTION, get_event_status},
    {0x51, NEEDS_DISC, read_disc_information},
    {0x5a, 0, mode_sense_10},
    {0xa8, NEEDS_DISC, read_12},
    {0xbb, 0, nothing}, /* SET CD SPEED */
    {0xbd, 0, mechanism_status},
    {0xbe, NEEDS_DISC, read_cd},
};

static const struct packet_command *find_command(u8 opcode)
{
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].opcode == opcode)
            return &commands[i];
    return NULL;
}

/* The packet is in the buffer. */
void ide_packet(struct ide_drive *drive)
{
    u8 packet[PACKET_SIZE];
    memcpy(packet, drive->buffer, sizeof(packet));
    const struct packet_command *command = find_command(packet[0]);
    if (!command) {
        ide_atapi_fail(drive, ILLEGAL_REQUEST, 0x20, 0); /* no such operation */
        return;
    }
    if (drive->attention && !(command->needs & PASS_ATTENTION)) {
        u8 asc = drive->attention;
        drive->attention = 0;
        ide_atapi_fail(drive, UNIT_ATTENTION, asc, 0);
        return;
    }
    if ((command->needs & NEEDS_DISC) && !has_disc(drive)) {
        ide_atapi_fail(drive, NOT_READY, 0x3a, drive->tray_open ? 2 : 1);
        return;
    }
    command->run(drive, packet);
}

/* PACKET: asks for the command packet, without an interrupt. */
void ide_start_packet(struct ide_drive *drive)
{
    if (drive->reg.feature & FEATURE_OVERLAP) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    u32 limit = drive->reg.mid | drive->reg.high << 8;
    drive->dma = drive->reg.feature & FEATURE_DMA;
    /* An odd limit is one too many, unless it is enough for all; 0 is none at all. */
    drive->drq_bytes = limit ? limit & ~1u : 0xfffe;
    if (!drive->drq_bytes)
        drive->drq_bytes = 2;
    drive->quiet = false;
    drive->stage = IDE_PACKET;
    drive->pos = 0;
    drive->len = drive->block_end = PACKET_SIZE;
    drive->reg.count = ATAPI_COD;
    drive->status = IDE_DRDY | IDE_DRQ;
}
