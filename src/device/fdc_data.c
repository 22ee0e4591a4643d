/*
 * The floppy controller's data commands, see fdc.h: a sector at a time moves between `sector`
 * and DMA, or the FIFO, and the disk.
 */
#include <string.h>

#include "device/fdc_state.h"

#define DMA_CHANNEL 2
#define MULTI_TRACK BIT(7)

bool fdc_uses_dma(const struct fdc *fdc)
{
    return !(fdc->specify[1] & 1);
}

bool fdc_wants_data(const struct fdc *fdc)
{
    u32 size = fdc->what == FORMAT ? 4 : BLOCK_SECTOR;
    return fdc->phase == PHASE_EXECUTE && !fdc_uses_dma(fdc) && !fdc->in_flight &&
           fdc->pos < size && fdc->what != VERIFY;
}

/* Where on the disk the sector is; false: nowhere, and the command has failed. */
static bool find_sector(struct fdc *fdc, u64 *offset)
{
    const struct geometry *g = fdc_has_disk(fdc, fdc->drive) ? fdc->geometry[fdc->drive] : NULL;
    if (!g) {
        fdc_finish_data(fdc, ST0_ABNORMAL, ST1_NO_ID, 0);
        return false;
    }
    if (fdc->c != fdc->track[fdc->drive] || fdc->c >= g->tracks) {
        fdc_finish_data(fdc, ST0_ABNORMAL, ST1_NO_DATA, ST2_WRONG);
        return false;
    }
    u64 lba = ((u64)fdc->c * g->heads + fdc->h) * g->sectors + fdc->r - 1;
    *offset = lba * BLOCK_SECTOR;
    if (fdc->h >= g->heads || !fdc->r || fdc->r > g->sectors || fdc->n != 2 ||
        *offset >= fdc->disk[fdc->drive]->size) {
        fdc_finish_data(fdc, ST0_ABNORMAL, ST1_NO_DATA, 0);
        return false;
    }
    return true;
}

/* The address moves on; true: it passed the last sector. */
static bool next_sector(struct fdc *fdc)
{
    if (fdc->r != fdc->eot) {
        fdc->r++;
        return false;
    }
    fdc->r = 1;
    if (fdc->multi_track) {
        fdc->h ^= 1;
        if (fdc->h)
            return false;
    }
    fdc->c++;
    return true;
}

/* Starts or ends a sector's way to or from the disk. False: it is still under way. */
static bool submit(struct fdc *fdc, enum block_op op, u64 offset);

/* A whole sector has moved; `tc`: the host wants no more. True: go on. */
static bool sector_done(struct fdc *fdc, bool tc)
{
    bool last = next_sector(fdc);
    fdc->pos = 0;
    if (tc)
        fdc_finish_data(fdc, 0, 0, 0);
    else if (last)
        fdc_finish_data(fdc, ST0_ABNORMAL, ST1_END, 0);
    return !tc && !last;
}

static bool verify_done(struct fdc *fdc)
{
    bool last = next_sector(fdc);
    if (--fdc->left && !last)
        return true;
    fdc_finish_data(fdc, 0, 0, 0);
    return false;
}

static bool disk_answered(struct fdc *fdc)
{
    if (fdc->io.error) {
        fdc_finish_data(fdc, ST0_ABNORMAL, BIT(5), BIT(5)); /* CRC error in the data */
        return false;
    }
    if (fdc->io.op == BLOCK_READ) {
        fdc->pos = 0;
        if (fdc->what == VERIFY)
            return verify_done(fdc);
        return true; /* to the host with it */
    }
    if (fdc->what == FORMAT) {
        fdc->pos = 0;
        if (--fdc->left)
            return true;
        fdc_finish_data(fdc, 0, 0, 0);
        return false;
    }
    return sector_done(fdc, fdc->last);
}

static void io_done(struct block_request *io)
{
    struct fdc *fdc = container_of(io, struct fdc, io);
    fdc->in_flight = false;
    if (fdc->reset_wanted) {
        fdc->reset_wanted = false;
        fdc_want_command(fdc);
        return;
    }
    if (disk_answered(fdc))
        fdc_run(fdc);
}

static bool submit(struct fdc *fdc, enum block_op op, u64 offset)
{
    fdc->io = (struct block_request){
        .op = op, .offset = offset, .len = BLOCK_SECTOR, .data = fdc->sector, .done = io_done};
    fdc->in_flight = true;
    if (!block_submit(fdc->disk[fdc->drive], &fdc->io))
        return false;
    fdc->in_flight = false;
    return disk_answered(fdc);
}

/* Moves the rest of the sector; true: all of it, or the host's count ended and the rest of a
 * written sector is zeroes. */
static bool move(struct fdc *fdc, u32 size, bool to_host, bool *tc)
{
    u32 moved = 0;
    *tc = false;
    if (fdc->pos < size && fdc_uses_dma(fdc)) {
        if (fdc->dor & DOR_GATE)
            moved = isa_dma_move(fdc->dma, DMA_CHANNEL, fdc->sector + fdc->pos, size - fdc->pos,
                                 to_host, tc);
        if (!moved) {
            fdc_finish_data(fdc, ST0_ABNORMAL, ST1_OVERRUN, 0);
            return false;
        }
        fdc->pos += moved;
    }
    if (*tc && fdc->pos < size && !to_host)
        memset(fdc->sector + fdc->pos, 0, size - fdc->pos);
    return *tc || fdc->pos == size;
}

static bool step_read(struct fdc *fdc)
{
    u64 offset;
    bool tc;
    if (fdc->pos == EMPTY)
        return find_sector(fdc, &offset) && submit(fdc, BLOCK_READ, offset);
    if (!move(fdc, BLOCK_SECTOR, true, &tc) || !sector_done(fdc, tc))
        return false;
    fdc->pos = EMPTY;
    return true;
}

static bool step_write(struct fdc *fdc)
{
    u64 offset;
    bool tc;
    if (!find_sector(fdc, &offset) || !move(fdc, BLOCK_SECTOR, false, &tc))
        return false;
    fdc->last = tc;
    return submit(fdc, BLOCK_WRITE, offset);
}

/* Four bytes for each sector say where it is. */
static bool step_format(struct fdc *fdc)
{
    u64 offset;
    bool tc;
    if (!move(fdc, 4, false, &tc))
        return false;
    fdc->c = fdc->sector[0];
    fdc->h = fdc->sector[1];
    fdc->r = fdc->sector[2];
    fdc->n = fdc->sector[3];
    if (!find_sector(fdc, &offset))
        return false;
    memset(fdc->sector, fdc->fill, sizeof(fdc->sector));
    return submit(fdc, BLOCK_WRITE, offset);
}

static bool step_verify(struct fdc *fdc)
{
    u64 offset;
    return find_sector(fdc, &offset) && submit(fdc, BLOCK_READ, offset);
}

static bool step(struct fdc *fdc)
{
    switch (fdc->what) {
    case READ:
        return step_read(fdc);
    case WRITE:
        return step_write(fdc);
    case FORMAT:
        return step_format(fdc);
    case VERIFY:
        return step_verify(fdc);
    default:
        return false;
    }
}

void fdc_run(struct fdc *fdc)
{
    while (!fdc->in_flight && step(fdc))
        ;
    fdc_update_irq(fdc);
}

static void start_data(struct fdc *fdc, enum what what)
{
    fdc->phase = PHASE_EXECUTE;
    fdc->what = what;
    fdc->pos = what == READ ? EMPTY : 0;
    if ((what == WRITE || what == FORMAT) && fdc_has_disk(fdc, fdc->drive) &&
        fdc->disk[fdc->drive]->read_only) {
        fdc_finish_data(fdc, ST0_ABNORMAL, ST1_PROTECT, 0);
        return;
    }
    fdc_run(fdc);
}

/* -- Commands ------------------------------------------------------------------------------ */

static void take_address(struct fdc *fdc)
{
    const u8 *fifo = fdc->fifo;
    fdc->multi_track = fifo[0] & MULTI_TRACK;
    fdc->drive = fifo[1] & 3;
    fdc->c = fifo[2];
    fdc->h = fifo[3];
    fdc->r = fifo[4];
    fdc->n = fifo[5];
    fdc->eot = fifo[6];
}

void fdc_read_data(struct fdc *fdc)
{
    take_address(fdc);
    start_data(fdc, READ);
}

void fdc_read_track(struct fdc *fdc)
{
    take_address(fdc);
    fdc->r = 1;
    fdc->multi_track = false;
    start_data(fdc, READ);
}

void fdc_write_data(struct fdc *fdc)
{
    take_address(fdc);
    start_data(fdc, WRITE);
}

void fdc_verify(struct fdc *fdc)
{
    take_address(fdc);
    bool enable_count = fdc->fifo[1] & 0x80;
    fdc->left = enable_count && fdc->fifo[8] ? fdc->fifo[8] : 256;
    start_data(fdc, VERIFY);
}

void fdc_format(struct fdc *fdc)
{
    fdc->drive = fdc->fifo[1] & 3;
    fdc->c = fdc_has_drive(fdc, fdc->drive) ? fdc->track[fdc->drive] : 0;
    fdc->h = fdc->fifo[1] >> 2 & 1;
    fdc->r = 1;
    fdc->n = fdc->fifo[2];
    fdc->left = fdc->fifo[3] ? fdc->fifo[3] : 1;
    fdc->fill = fdc->fifo[5];
    start_data(fdc, FORMAT);
}
