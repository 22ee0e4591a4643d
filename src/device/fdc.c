/*
 * The floppy controller, see fdc.h. Commands come through the FIFO into `fifo`, results leave
 * from there; what moves data is in fdc_data.c. The disk's mechanics take a millisecond,
 * whatever they do.
 */
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/fdc_state.h"

#define SEEK_NS NS_PER_MS

#define DOR_NORESET BIT(2)
#define DSR_RESET   BIT(7)

#define MSR_RQM    BIT(7)
#define MSR_DIO    BIT(6) /* to the host */
#define MSR_NONDMA BIT(5)
#define MSR_BUSY   BIT(4)

/* The type is that of the drive that takes such disks. */
static const struct geometry geometries[] = {
    {1440, 80, 2, 18, 4}, {2880, 80, 2, 36, 5}, {1200, 80, 2, 15, 2},
    {720, 80, 2, 9, 3},   {360, 40, 2, 9, 1},   {1680, 80, 2, 21, 4},
    {320, 40, 2, 8, 1},   {180, 40, 1, 9, 1},   {160, 40, 1, 8, 1},
};

static const struct geometry *find_geometry(u64 size)
{
    for (unsigned i = 0; i < ARRAY_LEN(geometries); i++)
        if (geometries[i].kib * KiB == size)
            return &geometries[i];
    /* Whatever it is, as much of it as fits on a usual one. */
    return &geometries[0];
}

u8 fdc_drive_type(u64 size)
{
    return find_geometry(size)->type;
}

/* What the drive has of a disk now. */
static void look_at_disk(struct fdc *fdc, unsigned drive)
{
    const struct block *disk = fdc->disk[drive];
    bool there = disk && disk->size && !fdc->door[drive].open;
    fdc->geometry[drive] = there ? find_geometry(disk->size) : NULL;
}

/* The host's data bytes are asked for by an interrupt, too (82077AA, 5.2.4). */
void fdc_update_irq(struct fdc *fdc)
{
    irq_set(&fdc->irq, (fdc->irq_pending || fdc_wants_data(fdc)) && (fdc->dor & DOR_GATE));
}

static void interrupt(struct fdc *fdc)
{
    fdc->irq_pending = true;
    fdc_update_irq(fdc);
}

/* -- Phases -------------------------------------------------------------------------------- */

void fdc_want_command(struct fdc *fdc)
{
    fdc->phase = PHASE_COMMAND;
    fdc->fifo_pos = fdc->fifo_len = 0;
    fdc->what = NOTHING;
}

static void give_result(struct fdc *fdc, unsigned len)
{
    fdc->phase = PHASE_RESULT;
    fdc->fifo_pos = 0;
    fdc->fifo_len = (u8)len;
    fdc->what = NOTHING;
}

static void invalid(struct fdc *fdc)
{
    fdc->fifo[0] = ST0_INVALID;
    give_result(fdc, 1);
}

void fdc_finish_data(struct fdc *fdc, u8 st0, u8 st1, u8 st2)
{
    const u8 result[] = {
        (u8)(st0 | (fdc->h & 1) << 2 | fdc->drive), st1, st2, fdc->c, fdc->h, fdc->r, fdc->n};
    memcpy(fdc->fifo, result, sizeof(result));
    give_result(fdc, sizeof(result));
    interrupt(fdc);
}

/* -- Commands ------------------------------------------------------------------------------ */

static void read_id(struct fdc *fdc)
{
    fdc->drive = fdc->fifo[1] & 3;
    fdc->h = fdc->fifo[1] >> 2 & 1;
    fdc->c = fdc->track[fdc->drive];
    fdc->r = 1;
    fdc->n = 2;
    const struct geometry *g = fdc_has_disk(fdc, fdc->drive) ? fdc->geometry[fdc->drive] : NULL;
    bool there = g && fdc->h < g->heads && fdc->c < g->tracks;
    fdc_finish_data(fdc, there ? 0 : ST0_ABNORMAL, there ? 0 : ST1_NO_ID, 0);
}

static void arm(struct fdc *fdc)
{
    fdc->due = clock_now(&fdc->board->clock) + SEEK_NS;
    timer_arm(&fdc->board->clock, &fdc->timer, fdc->due);
}

/* The heads move to `track`; a drive that is not there never finds its track 0. */
static void move_heads(struct fdc *fdc, unsigned drive, u8 track, u8 st0)
{
    if (fdc->track[drive] != track && fdc_has_disk(fdc, drive))
        fdc->changed[drive] = false; /* a step pulse, with a disk in */
    fdc->track[drive] = track;
    fdc->sense_st0[drive] = (u8)(st0 | drive);
    fdc->seeking |= (u8)BIT(drive);
    fdc_want_command(fdc);
    arm(fdc);
}

static void recalibrate(struct fdc *fdc)
{
    unsigned drive = fdc->fifo[1] & 3;
    bool there = fdc_has_drive(fdc, drive);
    move_heads(fdc, drive, 0, ST0_SEEK_END | (there ? 0 : ST0_ABNORMAL | ST0_CHECK));
}

static void seek(struct fdc *fdc)
{
    unsigned drive = fdc->fifo[1] & 3;
    move_heads(fdc, drive, fdc->fifo[2], (u8)(ST0_SEEK_END | (fdc->fifo[1] & 4)));
}

static void relative_seek(struct fdc *fdc)
{
    unsigned drive = fdc->fifo[1] & 3;
    int by = fdc->fifo[0] & 0x40 ? fdc->fifo[2] : -fdc->fifo[2], to = fdc->track[drive] + by;
    move_heads(fdc, drive, (u8)(to < 0 ? 0 : to > 255 ? 255 : to), ST0_SEEK_END);
}

static void sense_interrupt(struct fdc *fdc)
{
    for (unsigned i = 0; i < ARRAY_LEN(fdc->sense); i++) {
        if (!fdc->sense[i])
            continue;
        fdc->sense[i] = false;
        fdc->irq_pending = false;
        fdc_update_irq(fdc);
        fdc->fifo[0] = fdc->sense_st0[i];
        fdc->fifo[1] = fdc->track[i];
        give_result(fdc, 2);
        return;
    }
    invalid(fdc);
}

static void sense_drive(struct fdc *fdc)
{
    unsigned drive = fdc->fifo[1] & 3;
    bool there = fdc_has_drive(fdc, drive);
    fdc->fifo[0] =
        (u8)((fdc->fifo[1] & 7) | ST3_READY | ST3_TWO |
             (there && !fdc->track[drive] ? ST3_TRACK0 : 0) |
             (fdc_has_disk(fdc, drive) && fdc->disk[drive]->read_only ? ST3_PROTECT : 0));
    give_result(fdc, 1);
}

static void specify(struct fdc *fdc)
{
    memcpy(fdc->specify, fdc->fifo + 1, sizeof(fdc->specify));
    fdc_want_command(fdc);
}

static void configure(struct fdc *fdc)
{
    memcpy(fdc->config, fdc->fifo + 1, sizeof(fdc->config));
    fdc_want_command(fdc);
}

static void set_perpendicular(struct fdc *fdc)
{
    fdc->perpendicular = fdc->fifo[1] & 0x3f;
    fdc_want_command(fdc);
}

static void lock(struct fdc *fdc)
{
    fdc->locked = fdc->fifo[0] & 0x80;
    fdc->fifo[0] = fdc->locked ? 0x10 : 0;
    give_result(fdc, 1);
}

static void version(struct fdc *fdc)
{
    fdc->fifo[0] = 0x90;
    give_result(fdc, 1);
}

static void part_id(struct fdc *fdc)
{
    fdc->fifo[0] = 0x01;
    give_result(fdc, 1);
}

static void dump_registers(struct fdc *fdc)
{
    const u8 result[] = {fdc->track[0],   fdc->track[1],
                         fdc->track[2],   fdc->track[3],
                         fdc->specify[0], fdc->specify[1],
                         fdc->eot,        (u8)(fdc->locked << 7 | (fdc->perpendicular & 0x3f)),
                         fdc->config[1],  fdc->config[2]};
    memcpy(fdc->fifo, result, sizeof(result));
    give_result(fdc, sizeof(result));
}

static const struct command {
    u8 mask, code; /* of the first byte */
    u8 len;        /* of all */
    void (*run)(struct fdc *fdc);
} commands[] = {
    {0x1f, 0x06, 9, fdc_read_data}, /* READ DATA, WRITE DATA, and those of deleted data */
    {0x1f, 0x0c, 9, fdc_read_data},
    {0x1f, 0x05, 9, fdc_write_data},
    {0x1f, 0x09, 9, fdc_write_data},
    {0x1f, 0x02, 9, fdc_read_track},
    {0x1f, 0x16, 9, fdc_verify},
    {0xbf, 0x0d, 6, fdc_format},
    {0xbf, 0x0a, 2, read_id},
    {0xff, 0x07, 2, recalibrate},
    {0xff, 0x0f, 3, seek},
    {0xbf, 0x8f, 3, relative_seek},
    {0xff, 0x08, 1, sense_interrupt},
    {0xff, 0x04, 2, sense_drive},
    {0xff, 0x03, 3, specify},
    {0xff, 0x13, 4, configure},
    {0xff, 0x12, 2, set_perpendicular},
    {0x7f, 0x14, 1, lock},
    {0xff, 0x10, 1, version},
    {0xff, 0x18, 1, part_id},
    {0xff, 0x0e, 1, dump_registers},
};

static const struct command *find_command(u8 first)
{
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
        if ((first & commands[i].mask) == commands[i].code)
            return &commands[i];
    return NULL;
}

/* -- The FIFO ------------------------------------------------------------------------------ */

static void command_byte(struct fdc *fdc, u8 byte)
{
    fdc->fifo[fdc->fifo_pos++] = byte;
    const struct command *command = find_command(fdc->fifo[0]);
    if (!command)
        invalid(fdc);
    else if (fdc->fifo_pos == command->len)
        command->run(fdc);
}

static void fifo_write(struct fdc *fdc, u8 byte)
{
    if (fdc->phase == PHASE_COMMAND) {
        command_byte(fdc, byte);
    } else if (fdc_wants_data(fdc) && fdc->what != READ) {
        irq_set(&fdc->irq, false); /* for this byte */
        fdc->sector[fdc->pos++] = byte;
        fdc_run(fdc);
    }
}

static u8 fifo_read(struct fdc *fdc)
{
    u8 byte = 0;
    if (fdc->phase == PHASE_RESULT) {
        fdc->irq_pending = false;
        fdc_update_irq(fdc);
        byte = fdc->fifo[fdc->fifo_pos++];
        if (fdc->fifo_pos == fdc->fifo_len)
            fdc_want_command(fdc);
    } else if (fdc_wants_data(fdc) && fdc->what == READ) {
        irq_set(&fdc->irq, false);
        byte = fdc->sector[fdc->pos++];
        fdc_run(fdc);
    }
    return byte;
}

static u8 main_status(const struct fdc *fdc)
{
    u8 status = fdc->seeking;
    if (!(fdc->dor & DOR_NORESET) || fdc->in_flight)
        return fdc->in_flight ? status | MSR_BUSY : 0;
    switch (fdc->phase) {
    case PHASE_COMMAND:
        return status | MSR_RQM | (fdc->fifo_pos ? MSR_BUSY : 0);
    case PHASE_RESULT:
        return status | MSR_RQM | MSR_DIO | MSR_BUSY;
    default:
        status |= MSR_BUSY | (fdc_uses_dma(fdc) ? 0 : MSR_NONDMA);
        if (fdc_wants_data(fdc))
            status |= MSR_RQM | (fdc->what == READ ? MSR_DIO : 0);
        return status;
    }
}

/* -- Reset --------------------------------------------------------------------------------- */

/* What a reset by DOR or DSR does; LOCK keeps the FIFO's configuration. */
static void soft_reset(struct fdc *fdc)
{
    fdc->irq_pending = false;
    fdc_update_irq(fdc);
    memset(fdc->sense, 0, sizeof(fdc->sense));
    fdc->seeking = 0;
    fdc->due = UINT64_MAX;
    fdc->resetting = false;
    timer_cancel(&fdc->board->clock, &fdc->timer);
    if (!fdc->locked)
        memcpy(fdc->config, (u8[3]){0}, sizeof(fdc->config));
    fdc->perpendicular = 0;
    fdc->reset_wanted = fdc->in_flight;
    if (!fdc->in_flight)
        fdc_want_command(fdc);
}

static void leave_reset(struct fdc *fdc)
{
    fdc->resetting = true;
    arm(fdc);
}

static void timer_fired(void *opaque)
{
    struct fdc *fdc = opaque;
    fdc->due = UINT64_MAX;
    for (unsigned i = 0; i < ARRAY_LEN(fdc->sense); i++) {
        if (fdc->resetting)
            fdc->sense_st0[i] = (u8)(ST0_READY | i);
        fdc->sense[i] |= fdc->resetting || (fdc->seeking & BIT(i));
    }
    fdc->seeking = 0;
    fdc->resetting = false;
    interrupt(fdc);
}

static void write_dor(struct fdc *fdc, u8 value)
{
    u8 old = fdc->dor;
    fdc->dor = value;
    if ((old & DOR_NORESET) && !(value & DOR_NORESET))
        soft_reset(fdc);
    if (!(old & DOR_NORESET) && (value & DOR_NORESET))
        leave_reset(fdc);
    fdc_update_irq(fdc);
}

/* -- Ports --------------------------------------------------------------------------------- */

enum { PORT_DOR = 2, PORT_TDR, PORT_MSR, PORT_FIFO };

static u64 ports_read(void *opaque, u64 offset, unsigned size)
{
    struct fdc *fdc = opaque;
    switch (offset) {
    case PORT_DOR:
        return fdc->dor;
    case PORT_TDR:
        return fdc->tdr;
    case PORT_MSR:
        return main_status(fdc);
    case PORT_FIFO:
        return fifo_read(fdc);
    default: /* status registers A and B are not there in AT mode */
        return 0xff;
    }
}

static void ports_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct fdc *fdc = opaque;
    bool on = fdc->dor & DOR_NORESET;
    switch (offset) {
    case PORT_DOR:
        write_dor(fdc, (u8)value);
        break;
    case PORT_TDR:
        fdc->tdr = value & 3;
        break;
    case PORT_MSR: /* data rate select register */
        fdc->rate = value & 3;
        if ((value & DSR_RESET) && on) {
            soft_reset(fdc);
            leave_reset(fdc);
        }
        break;
    case PORT_FIFO:
        if (on && !fdc->in_flight)
            fifo_write(fdc, (u8)value);
        break;
    default:
        break;
    }
}

/* Digital input register: the selected drive's disk was changed, or its door opened. */
static u64 dir_read(void *opaque, u64 offset, unsigned size)
{
    const struct fdc *fdc = opaque;
    unsigned drive = fdc->dor & 3;
    bool motor = fdc->dor & BIT(4 + drive);
    bool changed = !fdc_has_disk(fdc, drive) || fdc->changed[drive];
    return motor && changed ? 0x80 : 0;
}

static void ccr_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct fdc *fdc = opaque;
    fdc->rate = value & 3;
}

static const struct bus_ops ports_ops = {ports_read, ports_write};
static const struct bus_ops dir_ops = {dir_read, ccr_write};

/* -- Doors --------------------------------------------------------------------------------- */

static bool door_is_open(void *opaque)
{
    return ((const struct fdc_door *)opaque)->open;
}

/* No drive of this kind has a lock. */
static bool door_is_locked(void *opaque)
{
    return false;
}

/* What a command wanted of the disk that was there is lost. */
static void door_exchanged(void *opaque)
{
    struct fdc_door *door = opaque;
    struct fdc *fdc = door->fdc;
    unsigned drive = (unsigned)(door - fdc->door);
    look_at_disk(fdc, drive);
    fdc->changed[drive] = true;
    if (fdc->phase == PHASE_EXECUTE && fdc->drive == drive)
        fdc_finish_data(fdc, ST0_ABNORMAL, ST1_NO_ID, 0);
}

static void door_move(void *opaque, bool open)
{
    struct fdc_door *door = opaque;
    if (door->open == open)
        return;
    door->open = open;
    door_exchanged(door);
    tray_moved(&door->tray, open);
}

static void door_press(void *opaque) {}

static void create_door(struct fdc *fdc, unsigned drive)
{
    struct fdc_door *door = &fdc->door[drive];
    door->fdc = fdc;
    door->open = fdc->disk[drive] && !fdc->disk[drive]->size;
    door->tray = (struct tray){.is_open = door_is_open,
                               .is_locked = door_is_locked,
                               .move = door_move,
                               .press = door_press,
                               .exchanged = door_exchanged,
                               .drive = door};
}

struct tray *fdc_tray(struct fdc *fdc, unsigned drive)
{
    return &fdc->door[drive].tray;
}

/* -- Life ---------------------------------------------------------------------------------- */

static void fdc_reset(void *device)
{
    struct fdc *fdc = device;
    if (fdc->in_flight) {
        fdc->reset_wanted = true;
        block_drain(fdc->disk[fdc->drive]);
        ensure(!fdc->in_flight);
    }
    fdc->locked = false;
    soft_reset(fdc);
    fdc->dor = fdc->tdr = 0;
    fdc->rate = 2;
    memset(fdc->track, 0, sizeof(fdc->track));
    memset(fdc->changed, true, sizeof(fdc->changed));
    memset(fdc->specify, 0, sizeof(fdc->specify));
    memset(fdc->sense_st0, 0, sizeof(fdc->sense_st0));
    memset(fdc->fifo, 0, sizeof(fdc->fifo));
    memset(fdc->sector, 0, sizeof(fdc->sector));
    fdc->drive = fdc->c = fdc->h = fdc->r = fdc->n = fdc->eot = fdc->fill = 0;
    fdc->multi_track = fdc->last = false;
    fdc->pos = fdc->left = 0;
}

static bool fdc_post_load(void *device)
{
    struct fdc *fdc = device;
    u32 size = fdc->what == FORMAT ? 4 : BLOCK_SECTOR;
    const struct command *command = find_command(fdc->fifo[0]);
    bool executing = fdc->phase == PHASE_EXECUTE;
    if (fdc->in_flight || fdc->phase > PHASE_RESULT || fdc->what > VERIFY || fdc->drive > 3 ||
        (fdc->what == NOTHING) == executing ||
        (executing && fdc->pos != EMPTY && fdc->pos > size) ||
        (executing && fdc->pos == EMPTY && fdc->what != READ) ||
        (executing && fdc->what == FORMAT && !fdc->left) ||
        (executing && fdc->what == VERIFY && !fdc->left))
        return false;
    if (fdc->phase == PHASE_COMMAND && fdc->fifo_pos &&
        (!command || fdc->fifo_pos >= command->len))
        return false;
    if (fdc->phase == PHASE_RESULT &&
        (fdc->fifo_len > sizeof(fdc->fifo) || fdc->fifo_pos >= fdc->fifo_len))
        return false;
    if (fdc->due == UINT64_MAX)
        timer_cancel(&fdc->board->clock, &fdc->timer);
    else
        timer_arm(&fdc->board->clock, &fdc->timer, fdc->due);
    fdc_update_irq(fdc);
    return true;
}

static void fdc_destroy(void *device)
{
    struct fdc *fdc = device;
    if (fdc->in_flight) {
        fdc->reset_wanted = true;
        block_drain(fdc->disk[fdc->drive]);
    }
    timer_cancel(&fdc->board->clock, &fdc->timer);
    bus_remove(fdc->board, &fdc->ports);
    bus_remove(fdc->board, &fdc->dir_port);
    free(fdc);
}

/* clang-format off */
static const struct field fdc_fields[] = {
    FIELD(struct fdc, dor), FIELD(struct fdc, tdr), FIELD(struct fdc, rate),
    FIELD(struct fdc, phase), FIELD(struct fdc, fifo_pos), FIELD(struct fdc, fifo_len),
    FIELD(struct fdc, irq_pending), FIELD(struct fdc, perpendicular), FIELD(struct fdc, locked),
    FIELD(struct fdc, due), FIELD(struct fdc, seeking), FIELD(struct fdc, resetting),
    FIELD(struct fdc, what), FIELD(struct fdc, drive), FIELD(struct fdc, c),
    FIELD(struct fdc, h), FIELD(struct fdc, r), FIELD(struct fdc, n), FIELD(struct fdc, eot),
    FIELD(struct fdc, fill), FIELD(struct fdc, multi_track), FIELD(struct fdc, last),
    FIELD(struct fdc, pos), FIELD(struct fdc, left), FIELD_ARRAY(struct fdc, fifo),
    FIELD_ARRAY(struct fdc, config), FIELD_ARRAY(struct fdc, specify),
    FIELD_ARRAY(struct fdc, track), FIELD_ARRAY(struct fdc, changed),
    FIELD_ARRAY(struct fdc, sense), FIELD_ARRAY(struct fdc, sense_st0),
    FIELD_BLOB(struct fdc, sector),
};
/* clang-format on */

static const struct device_class fdc_class = {
    .name = "fdc",
    .version = 2,
    .fields = fdc_fields,
    .n_fields = ARRAY_LEN(fdc_fields),
    .reset = fdc_reset,
    .post_load = fdc_post_load,
    .destroy = fdc_destroy,
};

static void add_ports(struct fdc *fdc, struct bus_region *region, const struct bus_ops *ops,
                      u16 base, u16 size)
{
    *region = (struct bus_region){.name = "fdc",
                                  .ops = ops,
                                  .opaque = fdc,
                                  .base = base,
                                  .size = size,
                                  .max_size = 1,
                                  .space = BUS_PIO};
    bus_add(fdc->board, region);
}

struct fdc *fdc_create(struct board *board, struct isa_dma *dma, struct irq_line irq,
                       struct block *const disks[FDC_DRIVES])
{
    struct fdc *fdc = calloc(1, sizeof(*fdc));
    ensure(fdc);
    fdc->board = board;
    fdc->dma = dma;
    fdc->irq = irq;
    fdc->timer = (struct timer){.fire = timer_fired, .opaque = fdc};
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        fdc->disk[i] = disks[i];
        create_door(fdc, i);
        look_at_disk(fdc, i);
    }
    add_ports(fdc, &fdc->ports, &ports_ops, 0x3f0, 6);
    add_ports(fdc, &fdc->dir_port, &dir_ops, 0x3f7, 1);
    device_add(board, &fdc->device, &fdc_class, fdc);
    fdc_reset(fdc);
    return fdc;
}
