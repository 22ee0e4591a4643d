/*
 * A flash chip, see pflash.h.
 *
 * Commands are one or two writes, the second of which gives the data or confirms; after an
 * operation the chip shows its status register until FFh. Operations take no time. One
 * deviation, QEMU's, by which OVMF knows flash from ROM: SR.7 (ready) is 0 from "clear
 * status" until the next operation has ended.
 */
#include "device/pflash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "memory/pmap.h"
#include "memory/tlb.h"
#include "platform/device.h"
#include "platform/vcpu.h"

#define MAX_BLOCKS (PFLASH_MAX / PFLASH_BLOCK)
#define BUFFER     256u /* of "write to buffer" */

/* Commands */
#define READ_ARRAY      0xff
#define READ_ID         0x90
#define READ_QUERY      0x98
#define READ_STATUS     0x70
#define CLEAR_STATUS    0x50
#define PROGRAM         0x40
#define PROGRAM_OLD     0x10
#define BLOCK_ERASE     0x20
#define WRITE_TO_BUFFER 0xe8
#define BLOCK_LOCK      0x60
#define CONFIRM         0xd0

/* Status register */
#define SR_LOCKED  BIT(1)
#define SR_PROGRAM BIT(4) /* programming or setting a lock failed */
#define SR_ERASE   BIT(5) /* erasing or clearing locks failed; both: a bad sequence */
#define SR_READY   BIT(7)

#define MANUFACTURER 0x89
#define DEVICE       0x18

enum pflash_mode { MODE_ARRAY, MODE_STATUS, MODE_ID, MODE_QUERY, MODES };

/* What the next write is. */
enum pflash_cycle {
    CYCLE_COMMAND,
    CYCLE_PROGRAM,
    CYCLE_ERASE,
    CYCLE_LOCK,
    CYCLE_COUNT,
    CYCLE_BUFFER,
    CYCLE_BUFFER_CONFIRM,
    CYCLES
};

struct pflash {
    struct device device;
    struct board *board;
    struct block *block;
    struct bus_region region;
    u32 size;

    u8 mode;
    u8 cycle;
    u8 status;
    u32 start;         /* where the buffer goes */
    u16 count, filled; /* bytes that it is to get, and has got */
    u8 buffer[BUFFER];

    /* The back end's side: blocks to be written, one of them under way. */
    struct block_request request;
    bool busy, flushed;
    u32 dirty; /* how many are */
    bool block_dirty[MAX_BLOCKS];
    u8 sector[PFLASH_BLOCK];
    u8 *pages[]; /* the chip's bytes */
};

static u8 *pflash_byte(struct pflash *flash, u32 offset)
{
    return flash->pages[offset / PAGE_SIZE] + offset % PAGE_SIZE;
}

static struct gfn pflash_frame(const struct pflash *flash, u32 offset)
{
    return gpa_to_gfn(gpa(flash->region.base + offset));
}

/* -- To the back end ----------------------------------------------------------------------- */

static void pflash_save(struct pflash *flash);

static void pflash_answered(struct pflash *flash)
{
    flash->busy = false;
    if (flash->request.error)
        flash->status |= SR_PROGRAM | SR_ERASE;
}

static void pflash_saved(struct block_request *request)
{
    struct pflash *flash = container_of(request, struct pflash, request);
    pflash_answered(flash);
    pflash_save(flash);
}

static void pflash_submit(struct pflash *flash, enum block_op op, u64 offset)
{
    flash->busy = true;
    flash->request = (struct block_request){
        .op = op, .offset = offset, .data = flash->sector, .done = pflash_saved};
    flash->request.len = op == BLOCK_WRITE ? PFLASH_BLOCK : 0;
    if (block_submit(flash->block, &flash->request))
        pflash_answered(flash);
}

/* One block after the other, and when all are there a flush. */
static void pflash_save(struct pflash *flash)
{
    for (u32 i = 0; i < flash->size / PFLASH_BLOCK && flash->dirty && !flash->busy; i++) {
        if (!flash->block_dirty[i])
            continue;
        flash->block_dirty[i] = false;
        flash->dirty--;
        flash->flushed = false;
        memcpy(flash->sector, flash->pages[i], PFLASH_BLOCK);
        pflash_submit(flash, BLOCK_WRITE, (u64)i * PFLASH_BLOCK);
    }
    if (!flash->busy && !flash->flushed) {
        flash->flushed = true;
        pflash_submit(flash, BLOCK_FLUSH, 0);
    }
}

/* -- Operations ---------------------------------------------------------------------------- */

static void pflash_changed(struct pflash *flash, u32 offset)
{
    struct gfn f = pflash_frame(flash, offset);
    bool *dirty = &flash->block_dirty[offset / PFLASH_BLOCK];
    flash->dirty += !*dirty;
    *dirty = true;
    u64 old = pmap_set_flags(flash->board->pmap, f, PMAP_DIRTY, 0);
    if ((old & PMAP_CODE) && flash->board->code_written)
        flash->board->code_written(flash->board->opaque, f);
}

static bool pflash_locked(struct pflash *flash, u8 error)
{
    if (!flash->block->read_only)
        return false;
    flash->status |= SR_LOCKED | error;
    return true;
}

/* Programming makes zeroes of ones; only erasing makes ones. */
static void pflash_program(struct pflash *flash, u32 offset, u8 value)
{
    if (pflash_locked(flash, SR_PROGRAM))
        return;
    *pflash_byte(flash, offset) &= value;
    pflash_changed(flash, offset);
}

static void pflash_erase(struct pflash *flash, u32 offset)
{
    if (pflash_locked(flash, SR_ERASE))
        return;
    memset(flash->pages[offset / PFLASH_BLOCK], 0xff, PFLASH_BLOCK);
    pflash_changed(flash, offset);
}

static void pflash_program_buffer(struct pflash *flash)
{
    for (u32 i = 0; i < BUFFER && flash->start + i < flash->size; i++)
        if (flash->buffer[i] != 0xff)
            pflash_program(flash, flash->start + i, flash->buffer[i]);
}

/* -- Modes --------------------------------------------------------------------------------- */

static void flush_tlb(struct vcpu *vcpu, struct vcpu_work *work)
{
    tlb_drop(&vcpu->cpu);
}

static void pflash_set_mode(struct pflash *flash, enum pflash_mode mode)
{
    bool was_array = flash->mode == MODE_ARRAY, is_array = mode == MODE_ARRAY;
    flash->mode = mode;
    if (was_array == is_array)
        return;
    for (u32 offset = 0; offset < flash->size; offset += PAGE_SIZE)
        pmap_set_flags(flash->board->pmap, pflash_frame(flash, offset), is_array ? PMAP_RAM : 0,
                       is_array ? 0 : PMAP_RAM);
    if (!is_array)
        vcpu_post_all(flash->board, flush_tlb, NULL);
}

static void pflash_done(struct pflash *flash, u8 errors)
{
    flash->status |= SR_READY | errors;
    flash->cycle = CYCLE_COMMAND;
    pflash_set_mode(flash, MODE_STATUS);
    pflash_save(flash);
}

/* -- Commands ------------------------------------------------------------------------------ */

static void pflash_expect(struct pflash *flash, enum pflash_cycle cycle)
{
    flash->cycle = cycle;
    pflash_set_mode(flash, MODE_STATUS);
}

static void pflash_command(struct pflash *flash, u8 command)
{
    switch (command) {
    case PROGRAM:
    case PROGRAM_OLD:
        pflash_expect(flash, CYCLE_PROGRAM);
        break;
    case BLOCK_ERASE:
        pflash_expect(flash, CYCLE_ERASE);
        break;
    case BLOCK_LOCK:
        pflash_expect(flash, CYCLE_LOCK);
        break;
    case WRITE_TO_BUFFER:
        flash->status |= SR_READY; /* the extended status: a buffer is free */
        pflash_expect(flash, CYCLE_COUNT);
        break;
    case READ_STATUS:
        pflash_set_mode(flash, MODE_STATUS);
        break;
    case READ_ID:
        pflash_set_mode(flash, MODE_ID);
        break;
    case READ_QUERY:
        pflash_set_mode(flash, MODE_QUERY);
        break;
    case CLEAR_STATUS:
        flash->status = 0;
        break;
    default: /* READ_ARRAY, and what other makers' chips know */
        pflash_set_mode(flash, MODE_ARRAY);
        break;
    }
}

static void pflash_take_count(struct pflash *flash, u8 value)
{
    memset(flash->buffer, 0xff, sizeof(flash->buffer));
    flash->count = (u16)(value + 1);
    flash->filled = 0;
    flash->cycle = CYCLE_BUFFER;
}

/* The first write says where the buffer goes; the others stay within it and its block. */
static void pflash_fill_buffer(struct pflash *flash, u32 offset, u8 value)
{
    if (!flash->filled)
        flash->start = offset;
    if (offset - flash->start >= flash->count ||
        offset / PFLASH_BLOCK != flash->start / PFLASH_BLOCK) {
        pflash_done(flash, SR_PROGRAM | SR_ERASE);
        return;
    }
    flash->buffer[offset - flash->start] = value;
    if (++flash->filled == flash->count)
        flash->cycle = CYCLE_BUFFER_CONFIRM;
}

static void pflash_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pflash *flash = opaque;
    u32 at = (u32)offset;
    u8 byte = (u8)value;
    u8 bad_sequence = byte == CONFIRM ? 0 : SR_PROGRAM | SR_ERASE;
    switch ((enum pflash_cycle)flash->cycle) {
    case CYCLE_COMMAND:
        pflash_command(flash, byte);
        break;
    case CYCLE_PROGRAM:
        pflash_program(flash, at, byte);
        pflash_done(flash, 0);
        break;
    case CYCLE_ERASE:
        if (!bad_sequence)
            pflash_erase(flash, at);
        pflash_done(flash, bad_sequence);
        break;
    case CYCLE_LOCK: /* 01h locks a block, D0h unlocks all: there is nothing to keep */
        pflash_done(flash, byte == 0x01 || !bad_sequence ? 0 : SR_PROGRAM | SR_ERASE);
        break;
    case CYCLE_COUNT:
        pflash_take_count(flash, byte);
        break;
    case CYCLE_BUFFER:
        pflash_fill_buffer(flash, at, byte);
        break;
    case CYCLE_BUFFER_CONFIRM:
        if (!bad_sequence)
            pflash_program_buffer(flash);
        pflash_done(flash, bad_sequence);
        break;
    case CYCLES:
        break;
    }
}

/* JESD68.01, table 2, and Intel's primary table at 31h. */
static u8 pflash_query(const struct pflash *flash, u32 offset)
{
    u32 blocks = flash->size / PFLASH_BLOCK;
    const u8 table[] = {
        [0x10] = 'Q',
        [0x11] = 'R',
        [0x12] = 'Y',
        [0x13] = 0x01, /* command set */
        [0x15] = 0x31, /* where its table is */
        [0x1b] = 0x45,
        [0x1c] = 0x55, /* 4.5 V to 5.5 V */
        [0x1f] = 0x07,
        [0x20] = 0x07,
        [0x21] = 0x0a, /* typical times: 2^n us, us, ms */
        [0x23] = 0x04,
        [0x24] = 0x04,
        [0x25] = 0x04,                                        /* 2^n times these at most */
        [0x27] = (u8)(64 - __builtin_clzll(flash->size - 1)), /* 2^n bytes hold it */
        [0x2a] = 0x08,                                        /* the buffer, 2^n */
        [0x2c] = 0x01,                                        /* one region of equal blocks */
        [0x2d] = (u8)(blocks - 1),
        [0x2e] = (u8)((blocks - 1) >> 8),
        [0x2f] = (u8)(PFLASH_BLOCK >> 8),
        [0x30] = (u8)(PFLASH_BLOCK >> 16),
        [0x31] = 'P',
        [0x32] = 'R',
        [0x33] = 'I',
        [0x34] = '1',
        [0x35] = '0',
        [0x3f] = 0x01, /* one protection field */
    };
    return offset < sizeof(table) ? table[offset] : 0;
}

static u64 pflash_read(void *opaque, u64 offset, unsigned size)
{
    struct pflash *flash = opaque;
    u32 at = (u32)offset;
    switch ((enum pflash_mode)flash->mode) {
    case MODE_STATUS:
        return flash->status;
    case MODE_ID:
        at %= PFLASH_BLOCK;
        return at == 0 ? MANUFACTURER : at == 1 ? DEVICE : at == 2 && flash->block->read_only;
    case MODE_QUERY:
        return pflash_query(flash, at);
    default:
        return *pflash_byte(flash, at);
    }
}

static const struct bus_ops pflash_ops = {pflash_read, pflash_write};

/* -- Life ---------------------------------------------------------------------------------- */

static void pflash_reset(void *device)
{
    struct pflash *flash = device;
    flash->cycle = CYCLE_COMMAND;
    flash->status = SR_READY;
    flash->start = flash->count = flash->filled = 0;
    memset(flash->buffer, 0xff, sizeof(flash->buffer));
    pflash_set_mode(flash, MODE_ARRAY);
}

/* The bytes themselves are guest memory, which is loaded apart from devices. */
static bool pflash_post_load(void *device)
{
    struct pflash *flash = device;
    u8 mode = flash->mode;
    if (mode >= MODES || flash->cycle >= CYCLES || flash->start >= flash->size ||
        flash->count > BUFFER || flash->filled > flash->count)
        return false;
    flash->mode = mode == MODE_ARRAY ? MODE_STATUS : MODE_ARRAY;
    pflash_set_mode(flash, mode);
    return true;
}

static void pflash_destroy(void *device)
{
    struct pflash *flash = device;
    block_drain(flash->block);
    bus_remove(flash->board, &flash->region);
    free(flash);
}

static const struct field pflash_fields[] = {
    FIELD(struct pflash, mode),        FIELD(struct pflash, cycle),
    FIELD(struct pflash, status),      FIELD(struct pflash, start),
    FIELD(struct pflash, count),       FIELD(struct pflash, filled),
    FIELD_BLOB(struct pflash, buffer),
};

static const struct device_class pflash_class = {
    .name = "pflash",
    .version = 1,
    .fields = pflash_fields,
    .n_fields = ARRAY_LEN(pflash_fields),
    .reset = pflash_reset,
    .post_load = pflash_post_load,
    .destroy = pflash_destroy,
};

static void loaded(struct block_request *request) {}

static bool pflash_load(struct pflash *flash, struct error *err)
{
    u8 *data = malloc(flash->size);
    ensure(data);
    struct block_request request = {
        .op = BLOCK_READ, .len = flash->size, .data = data, .done = loaded};
    if (!block_submit(flash->block, &request))
        block_drain(flash->block);
    for (u32 offset = 0; offset < flash->size; offset += PAGE_SIZE) {
        struct gfn f = pflash_frame(flash, offset);
        flash->pages[offset / PAGE_SIZE] = pmap_page(flash->board->pmap, f);
        memcpy(flash->pages[offset / PAGE_SIZE], data + offset, PAGE_SIZE);
    }
    free(data);
    errno = request.error;
    return !request.error || error_errno(err, "cannot read the flash's contents");
}

struct pflash *pflash_create(struct board *board, struct block *block, u64 end,
                             struct error *err)
{
    if (!block->size || block->size % PFLASH_BLOCK || block->size > PFLASH_MAX ||
        4 * GiB - end + block->size > PFLASH_MAX) {
        error_set(
            err,
            "if=pflash: images have a multiple of 4096 bytes, all of them together at most "
            "8 MiB; one has %llu",
            (unsigned long long)block->size);
        return NULL;
    }
    u32 size = (u32)block->size;
    struct pflash *flash = calloc(1, sizeof(*flash) + size / PAGE_SIZE * sizeof(u8 *));
    ensure(flash);
    flash->board = board;
    flash->block = block;
    flash->size = size;
    flash->status = SR_READY;
    memset(flash->buffer, 0xff, sizeof(flash->buffer));
    flash->flushed = true;
    flash->region = (struct bus_region){.name = "pflash",
                                        .ops = &pflash_ops,
                                        .opaque = flash,
                                        .base = end - size,
                                        .size = size,
                                        .max_size = 1,
                                        .space = BUS_MMIO};
    ensure(pmap_set_rom(board->pmap, gpa(end - size), size, true));
    if (!pflash_load(flash, err)) {
        free(flash);
        return NULL;
    }
    bus_add(board, &flash->region);
    device_add(board, &flash->device, &pflash_class, flash);
    return flash;
}
