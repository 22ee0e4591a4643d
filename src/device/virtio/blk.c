/*
 * A virtio block device, see blk.h.
 *
 * A back end that takes parts moves the data straight into and out of guest memory, in pieces
 * that the parts of one request describe. For others it goes through a buffer of ours in pieces
 * of at most PIECE bytes, so a request of a terabyte costs no more than a small one. Together
 * the buffers stay below BUFFERED; while they are used up, requests wait in the queue.
 */
#include "device/virtio/blk.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/virtio/pci.h"

#define PIECE    (1 * MiB)
#define BUFFERED (32 * MiB)
#define ALIGN    4096 /* of buffers, for direct I/O */
#define SPARES   4    /* whole buffers that are kept: fresh ones cost a page fault a page */

#define PARTS_BYTES                                                                            \
    (16 * MiB) /* at most at a time, that a disk is not taken by one request                   \
                */

#define SIDE_LIMIT 64u       /* segments in one discard or write-zeroes request */
#define SIDE_BYTES (2 * GiB) /* largest segment of those */

/* Features (5.2.3). */
#define F_SEG_MAX      BIT(2)
#define F_RO           BIT(5)
#define F_BLK_SIZE     BIT(6)
#define F_FLUSH        BIT(9)
#define F_TOPOLOGY     BIT(10)
#define F_CONFIG_WCE   BIT(11)
#define F_MQ           BIT(12)
#define F_DISCARD      BIT(13)
#define F_WRITE_ZEROES BIT(14)

/* Request types and status (5.2.6). */
enum {
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13,
};
enum { S_OK, S_IOERR, S_UNSUPP };

/* 5.2.4 */
struct config {
    u64 capacity; /* in sectors */
    u32 size_max;
    u32 seg_max;
    u32 geometry;
    u32 blk_size;
    u8 physical_block_exp;
    u8 alignment_offset;
    u16 min_io_size;
    u32 opt_io_size;
    u8 writeback;
    u8 unused0;
    u16 num_queues;
    u32 max_discard_sectors;
    u32 max_discard_seg;
    u32 discard_sector_alignment;
    u32 max_write_zeroes_sectors;
    u32 max_write_zeroes_seg;
    u8 write_zeroes_may_unmap;
    u8 unused1[3];
};
_Static_assert(sizeof(struct config) == 64, "virtio 5.2.4, with padding at the end");
#define CONFIG_LEN 60

struct header {
    u32 type;
    u32 reserved;
    u64 sector;
};

struct range { /* of discard and write zeroes */
    u64 sector;
    u32 sectors;
    u32 flags;
};
#define RANGE_UNMAP 1u

struct request {
    struct block_request io;
    struct virtio_blk *blk;
    unsigned queue;
    u32 type;
    u64 offset;   /* on the disk */
    u64 position; /* bytes of the data part that are done */
    u64 len;      /* of the data part */
    void *buffer;
    u64 buffered;  /* bytes at `buffer` */
    bool flushing; /* a write is followed by its flush */
    struct request *next_free;
    struct iovec parts[VIRTQ_MAX_SIZE];
    struct virtq_chain chain;
};

struct virtio_blk {
    struct virtio virtio;
    struct virtio_pci pci;
    struct device device;
    struct config config;
    struct block *block;
    char serial[VIRTIO_BLK_ID_LEN];
    bool writeback_default;
    struct request *free;
    unsigned in_flight;
    void *spares[SPARES]; /* of PIECE bytes */
    unsigned n_spares;
    u64 buffered;
    bool starved; /* a queue was left with requests because of BUFFERED */
};

/* -- Requests of ours ---------------------------------------------------------------------- */

static struct request *request_take(struct virtio_blk *blk)
{
    struct request *request = blk->free;
    if (request)
        blk->free = request->next_free;
    else
        request = malloc(sizeof(*request));
    ensure(request);
    return request;
}

static void request_give(struct virtio_blk *blk, struct request *request)
{
    request->next_free = blk->free;
    blk->free = request;
}

static void request_buffer(struct request *request)
{
    struct virtio_blk *blk = request->blk;
    u64 want = request->len < PIECE ? request->len : PIECE;
    if (request->buffered)
        return;
    request->buffered = align_up(want, ALIGN);
    if (want == PIECE && blk->n_spares)
        request->buffer = blk->spares[--blk->n_spares];
    else
        request->buffer = aligned_alloc(ALIGN, request->buffered);
    ensure(request->buffer);
    blk->buffered += request->buffered;
}

static void request_unbuffer(struct request *request)
{
    struct virtio_blk *blk = request->blk;
    if (!request->buffered)
        return;
    if (request->buffered == PIECE && blk->n_spares < SPARES)
        blk->spares[blk->n_spares++] = request->buffer;
    else
        free(request->buffer);
    blk->buffered -= request->buffered;
    request->buffered = 0;
}

/* The status byte is the last one the device may write. */
static void request_finish(struct request *request, u8 status)
{
    request_unbuffer(request);
    virtq_put(&request->chain, request->chain.in_len - 1, &status, 1);
    /* `used.len` counts from the first byte: nothing but all of it includes the status. */
    virtq_push(&request->chain, (u32)request->chain.in_len);
    request_give(request->blk, request);
}

/* -- Carrying one out -------------------------------------------------------------------------
 *
 * request_step prepares the next piece; request_piece_done takes its result. Both return false
 * when the request has been finished.
 */

static bool writethrough(const struct virtio_blk *blk)
{
    if (virtio_has(&blk->virtio, F_CONFIG_WCE))
        return !blk->config.writeback;
    return !virtio_has(&blk->virtio, F_FLUSH);
}

static bool finish(struct request *request, u8 status)
{
    request_finish(request, status);
    return false;
}

static bool in_range(const struct virtio_blk *blk, u64 offset, u64 len)
{
    return offset <= blk->block->size && len <= blk->block->size - offset;
}

static bool step_range(struct request *request)
{
    struct virtio_blk *blk = request->blk;
    struct range range;
    if (!virtq_get(&request->chain, sizeof(struct header) + request->position, &range,
                   sizeof(range)))
        return finish(request, S_IOERR);
    u32 known = request->type == T_WRITE_ZEROES ? RANGE_UNMAP : 0;
    if (range.flags & ~known)
        return finish(request, S_UNSUPP);
    u64 len = (u64)range.sectors * BLOCK_SECTOR;
    if (range.sector > blk->config.capacity || len > SIDE_BYTES ||
        !in_range(blk, range.sector * BLOCK_SECTOR, len))
        return finish(request, S_IOERR);
    request->io.op = request->type == T_DISCARD ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
    request->io.unmap = range.flags & RANGE_UNMAP;
    request->io.offset = range.sector * BLOCK_SECTOR;
    request->io.len = len;
    return true;
}

/* The next piece as parts of guest memory; false: it has to be copied. */
static bool step_parts(struct request *request, u64 left)
{
    bool in = request->type == T_IN;
    unsigned n = 0;
    u64 skip = in ? 0 : sizeof(struct header);
    if (!request->blk->block->takes_parts)
        return false;
    u64 want = left < PARTS_BYTES ? left : PARTS_BYTES;
    u64 got = virtq_parts(&request->chain, in, skip + request->position, want, request->parts,
                          ARRAY_LEN(request->parts), &n);
    /* Too many of them, or not all is RAM; the parts' boundaries are not those of sectors. */
    for (u64 cut = got % BLOCK_SECTOR; cut && n;) {
        u64 part = request->parts[n - 1].iov_len < cut ? request->parts[n - 1].iov_len : cut;
        request->parts[n - 1].iov_len -= part;
        n -= !request->parts[n - 1].iov_len;
        cut -= part;
    }
    request->io.len = got - got % BLOCK_SECTOR;
    request->io.data = NULL;
    request->io.parts = request->parts;
    request->io.n_parts = n;
    return request->io.len;
}

static bool step_data(struct request *request)
{
    u64 left = request->len - request->position;
    request->io.op = request->type == T_IN ? BLOCK_READ : BLOCK_WRITE;
    request->io.offset = request->offset + request->position;
    if (step_parts(request, left))
        return true;
    request_buffer(request);
    request->io.len = left < PIECE ? left : PIECE;
    request->io.data = request->buffer;
    return request->type == T_IN ||
           virtq_get(&request->chain, sizeof(struct header) + request->position,
                     request->io.data, request->io.len) ||
           finish(request, S_IOERR);
}

static bool request_step(struct request *request)
{
    if (request->position == request->len && request->type != T_FLUSH && !request->flushing) {
        if (request->type == T_IN || !writethrough(request->blk))
            return finish(request, S_OK);
        request->flushing = true;
    }
    if (request->flushing || request->type == T_FLUSH) {
        request->io.op = BLOCK_FLUSH;
        request->io.offset = request->io.len = 0;
        return true;
    }
    return request->type == T_IN || request->type == T_OUT ? step_data(request)
                                                           : step_range(request);
}

static bool request_piece_done(struct request *request)
{
    if (request->io.error)
        return finish(request, S_IOERR);
    switch (request->io.op) {
    case BLOCK_READ:
        if (!request->io.data)
            virtq_written(&request->chain, request->position, request->io.len);
        else if (!virtq_put(&request->chain, request->position, request->io.data,
                            request->io.len))
            return finish(request, S_IOERR);
        request->position += request->io.len;
        return true;
    case BLOCK_WRITE:
        request->position += request->io.len;
        return true;
    case BLOCK_FLUSH:
        return finish(request, S_OK);
    default:
        request->position += sizeof(struct range);
        return true;
    }
}

/* Goes on until a piece is under way or the request is finished. */
static void request_run(struct request *request)
{
    while (request_step(request)) {
        request->blk->in_flight++;
        if (!block_submit(request->blk->block, &request->io))
            return;
        request->blk->in_flight--;
        if (!request_piece_done(request))
            return;
    }
}

static void process(struct virtio_blk *blk, unsigned queue);

static void process_all(struct virtio_blk *blk)
{
    for (unsigned i = 0; i < blk->virtio.n_queues; i++)
        process(blk, i);
}

static void request_done(struct block_request *io)
{
    struct request *request = container_of(io, struct request, io);
    struct virtio_blk *blk = request->blk;
    unsigned queue = request->queue;
    blk->in_flight--;
    if (blk->virtio.stopping) {
        request_unbuffer(request);
        request_give(blk, request);
        if (!blk->in_flight)
            virtio_stopped(&blk->virtio);
        return;
    }
    if (request_piece_done(request))
        request_run(request);
    virtio_signal(&blk->virtio, queue);
    if (blk->starved && blk->buffered <= BUFFERED / 2) {
        blk->starved = false;
        process_all(blk);
    }
}

/* -- Taking requests from the queues ------------------------------------------------------- */

static void start_data(struct request *request, u64 sector)
{
    struct virtio_blk *blk = request->blk;
    request->len = request->type == T_IN ? request->chain.in_len - 1
                                         : request->chain.out_len - sizeof(struct header);
    request->offset = sector * BLOCK_SECTOR;
    if (request->len % BLOCK_SECTOR || sector > blk->config.capacity ||
        !in_range(blk, request->offset, request->len) ||
        (request->type == T_OUT && blk->block->read_only)) {
        request_finish(request, S_IOERR);
        return;
    }
    request_run(request);
}

static void start_ranges(struct request *request, u64 feature)
{
    request->len = request->chain.out_len - sizeof(struct header);
    if (!virtio_has(&request->blk->virtio, feature))
        request_finish(request, S_UNSUPP);
    else if (request->len % sizeof(struct range) || !request->len ||
             request->len / sizeof(struct range) > SIDE_LIMIT || request->blk->block->read_only)
        request_finish(request, S_IOERR);
    else
        request_run(request);
}

static void start_get_id(struct request *request)
{
    bool ok = request->chain.in_len - 1 == VIRTIO_BLK_ID_LEN &&
              virtq_put(&request->chain, 0, request->blk->serial, VIRTIO_BLK_ID_LEN);
    request_finish(request, ok ? S_OK : S_IOERR);
}

static void start(struct request *request)
{
    struct header header;
    if (!virtq_get(&request->chain, 0, &header, sizeof(header))) {
        request_finish(request, S_IOERR);
        return;
    }
    request->type = header.type;
    switch (header.type) {
    case T_IN:
    case T_OUT:
        start_data(request, header.sector);
        break;
    case T_FLUSH:
        request_run(request);
        break;
    case T_GET_ID:
        start_get_id(request);
        break;
    case T_DISCARD:
        start_ranges(request, F_DISCARD);
        break;
    case T_WRITE_ZEROES:
        start_ranges(request, F_WRITE_ZEROES);
        break;
    default:
        request_finish(request, S_UNSUPP);
    }
}

static bool process_one(struct virtio_blk *blk, unsigned queue)
{
    struct request *request = request_take(blk);
    if (!virtio_pop(&blk->virtio, queue, &request->chain)) {
        request_give(blk, request);
        return false;
    }
    request->io = (struct block_request){.done = request_done};
    request->blk = blk;
    request->queue = queue;
    request->position = request->len = request->buffered = 0;
    request->flushing = false;
    if (request->chain.out_len < sizeof(struct header) || !request->chain.in_len) {
        request_give(blk, request);
        virtio_fail(&blk->virtio, "a block request without header or status");
        return false;
    }
    start(request);
    return true;
}

static void process(struct virtio_blk *blk, unsigned queue)
{
    struct virtq *q = &blk->virtio.queues[queue];
    do {
        virtq_want_notify(q, false);
        do {
            if (blk->buffered >= BUFFERED) {
                blk->starved = true;
                break;
            }
        } while (process_one(blk, queue));
    } while (!blk->starved && virtio_more(&blk->virtio, queue));
    virtio_signal(&blk->virtio, queue);
}

static void blk_notify(void *device, unsigned queue)
{
    process(device, queue);
}

/* -- Life ---------------------------------------------------------------------------------- */

static void blk_config_write(void *device, u64 offset, unsigned size, u64 value)
{
    struct virtio_blk *blk = device;
    if (offset == offsetof(struct config, writeback) && size == 1 &&
        virtio_has(&blk->virtio, F_CONFIG_WCE))
        blk->config.writeback = value & 1;
}

static bool blk_stop(void *device)
{
    struct virtio_blk *blk = device;
    blk->config.writeback = blk->writeback_default;
    blk->starved = false;
    return !blk->in_flight;
}

static void blk_drain(void *device)
{
    struct virtio_blk *blk = device;
    block_drain(blk->block);
}

static const struct virtio_class blk_class = {
    .name = "virtio-blk",
    .type = 2,
    .pci_class = 0x010000,
    .notify = blk_notify,
    .config_write = blk_config_write,
    .stop = blk_stop,
    .drain = blk_drain,
};

static const struct field blk_fields[] = {
    FIELD(struct virtio_blk, config.writeback),
};

static void blk_destroy(void *device)
{
    struct virtio_blk *blk = device;
    virtio_pci_unplug(&blk->pci);
    virtio_destroy(&blk->virtio);
    while (blk->n_spares)
        free(blk->spares[--blk->n_spares]);
    while (blk->free) {
        struct request *request = blk->free;
        blk->free = request->next_free;
        free(request);
    }
    free(blk);
}

static const struct device_class blk_device_class = {
    .name = "virtio-blk",
    .version = 1,
    .fields = blk_fields,
    .n_fields = ARRAY_LEN(blk_fields),
    .destroy = blk_destroy,
};

static u64 blk_features(const struct virtio_blk *blk)
{
    u64 features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE | F_MQ;
    if (blk->block->read_only)
        return features | F_RO;
    return features | F_WRITE_ZEROES | (blk->block->discards ? F_DISCARD : 0);
}

static struct config blk_config(const struct virtio_blk_config *config)
{
    u32 side_sectors = SIDE_BYTES / BLOCK_SECTOR;
    return (struct config){
        .capacity = config->block->size / BLOCK_SECTOR,
        .seg_max = VIRTQ_MAX_SIZE - 2, /* without header and status */
        .blk_size = BLOCK_SECTOR,
        .physical_block_exp = 3, /* 4 KiB, the page of the host's cache */
        .min_io_size = 8,
        .writeback = config->writeback,
        .num_queues = (u16)config->queues,
        .max_discard_sectors = side_sectors,
        .max_discard_seg = SIDE_LIMIT,
        .discard_sector_alignment = 8,
        .max_write_zeroes_sectors = side_sectors,
        .max_write_zeroes_seg = SIDE_LIMIT,
        .write_zeroes_may_unmap = 1,
    };
}

struct virtio_blk *virtio_blk_create(struct board *board, struct pci_host *host,
                                     const struct virtio_blk_config *config)
{
    struct virtio_blk *blk = calloc(1, sizeof(*blk));
    ensure(blk);
    blk->block = config->block;
    blk->writeback_default = config->writeback;
    blk->config = blk_config(config);
    if (config->serial)
        memcpy(blk->serial, config->serial, strnlen(config->serial, VIRTIO_BLK_ID_LEN));
    device_add(board, &blk->device, &blk_device_class, blk);
    u64 offered = blk_features(blk) | (config->packed ? VIRTIO_F_RING_PACKED : 0);
    virtio_init(&blk->virtio, board, &blk_class, blk, offered, &blk->config, CONFIG_LEN,
                config->queues);
    if (!virtio_pci_plug(&blk->pci, &blk->virtio, host, config->slot))
        return NULL;
    return blk;
}
