/* Virtqueues, and the split form of them, see ring.h. */
#include "device/virtio/ring_state.h"

#include <stdatomic.h>

#include "base/ensure.h"
#include "platform/ram.h"

#define AVAIL_NO_INTERRUPT 1 /* 2.7.6 */
#define USED_NO_NOTIFY     1 /* 2.7.8 */

struct descriptor {
    u64 addr;
    u32 len;
    u16 flags;
    u16 next;
};
_Static_assert(sizeof(struct descriptor) == 16, "virtio 2.7.5");

struct used_element {
    u32 id;
    u32 len;
};

/* -- Where things lie ---------------------------------------------------------------------- */

static struct gpa avail_index(const struct virtq *queue)
{
    return gpa(queue->driver + 2);
}
static struct gpa avail_entry(const struct virtq *queue, u16 n)
{
    return gpa(queue->driver + 4 + 2ull * (n % queue->size));
}
static struct gpa used_event(const struct virtq *queue)
{
    return gpa(queue->driver + 4 + 2ull * queue->size);
}
static struct gpa used_index(const struct virtq *queue)
{
    return gpa(queue->device_area + 2);
}
static struct gpa used_entry(const struct virtq *queue, u16 n)
{
    return gpa(queue->device_area + 4 + 8ull * (n % queue->size));
}
static struct gpa avail_event(const struct virtq *queue)
{
    return gpa(queue->device_area + 4 + 8ull * queue->size);
}

static bool ready(const struct virtq *queue)
{
    return queue->enabled && !queue->broken;
}

bool ring_break(struct virtq *queue, const char *why)
{
    queue->broken = true;
    log_to(queue->board->log, LOG_GUEST_ERRORS, "virtqueue: %s", why);
    return false;
}

/* -- Taking a chain ------------------------------------------------------------------------ */

/* Where the descriptors of a chain come from: the queue's table, or an indirect one. */
struct table {
    u64 base;
    u32 entries;
    bool indirect;
};

static bool table_read(const struct virtq *queue, const struct table *table, u32 n,
                       struct descriptor *desc)
{
    return n < table->entries &&
           ram_read(queue->board, gpa(table->base + 16ull * n), desc, sizeof(*desc));
}

static bool enter_indirect(struct virtq *queue, struct table *table,
                           const struct descriptor *desc)
{
    if (table->indirect)
        return ring_break(queue, "an indirect table inside an indirect table");
    if (desc->flags & DESC_NEXT)
        return ring_break(queue, "an indirect descriptor with a successor");
    if (!desc->len || desc->len % sizeof(struct descriptor))
        return ring_break(queue, "an indirect table of odd length");
    *table = (struct table){desc->addr, desc->len / (u32)sizeof(struct descriptor), true};
    return true;
}

bool ring_add_segment(struct virtq *queue, struct virtq_chain *chain, u64 addr, u32 len,
                      bool in)
{
    u16 n = chain->n_out + chain->n_in;
    if (n >= queue->size)
        return ring_break(queue, "a chain longer than the queue");
    if (!in && chain->n_in)
        return ring_break(queue, "a readable descriptor after a writable one");
    if (addr + len < addr)
        return ring_break(queue, "a buffer that wraps around");
    chain->segments[n] = (struct virtq_segment){gpa(addr), len};
    if (in) {
        chain->n_in++;
        chain->in_len += len;
    } else {
        chain->n_out++;
        chain->out_len += len;
    }
    return true;
}

/* A loop is found as a chain longer than the queue. */
static bool read_chain(struct virtq *queue, struct virtq_chain *chain)
{
    struct table table = {queue->descriptors, queue->size, false};
    u32 n = chain->head;
    for (;;) {
        struct descriptor desc;
        if (!table_read(queue, &table, n, &desc))
            return ring_break(queue, "a descriptor outside its table or outside RAM");
        if (desc.flags & DESC_INDIRECT) {
            if (!enter_indirect(queue, &table, &desc))
                return false;
            n = 0;
            continue;
        }
        if (!ring_add_segment(queue, chain, desc.addr, desc.len, desc.flags & DESC_WRITE))
            return false;
        if (!(desc.flags & DESC_NEXT))
            return true;
        n = desc.next;
    }
}

static bool split_pop(struct virtq *queue, struct virtq_chain *chain)
{
    u16 waiting = (u16)(ram_load16(queue->board, avail_index(queue)) - queue->next_avail);
    if (!waiting)
        return false;
    if (waiting > queue->size || (u16)(queue->next_avail - queue->next_used) >= queue->size)
        return ring_break(queue, "more chains offered than the queue holds");
    chain->head = ram_load16(queue->board, avail_entry(queue, queue->next_avail));
    if (!read_chain(queue, chain))
        return false;
    queue->next_avail++;
    return true;
}

bool virtq_pop(struct virtq *queue, struct virtq_chain *chain)
{
    if (!ready(queue))
        return false;
    chain->queue = queue;
    chain->n_out = chain->n_in = 0;
    chain->out_len = chain->in_len = 0;
    return queue->packed ? packed_pop(queue, chain) : split_pop(queue, chain);
}

bool virtq_waiting(const struct virtq *queue)
{
    if (!ready(queue))
        return false;
    return queue->packed ? packed_waiting(queue)
                         : ram_load16(queue->board, avail_index(queue)) != queue->next_avail;
}

/* -- The bytes of a chain ------------------------------------------------------------------ */

enum direction { GET, PUT };

/* A run of bytes within one segment, and what is to be done with it; false: ends the walk. */
struct walk {
    bool (*visit)(struct walk *walk, struct gpa addr, u64 len);
    struct board *board;
    u8 *buf;             /* what is copied */
    struct iovec *parts; /* what is collected */
    unsigned room, *n;
    bool write;
    u64 done;
};

static bool get(struct walk *walk, struct gpa addr, u64 len)
{
    return ram_read(walk->board, addr, walk->buf + walk->done, len);
}

static bool put(struct walk *walk, struct gpa addr, u64 len)
{
    return ram_write(walk->board, addr, walk->buf + walk->done, len);
}

static bool collect(struct walk *walk, struct gpa addr, u64 len)
{
    u64 got = ram_parts(walk->board, addr, len, walk->write, walk->parts, walk->room, walk->n);
    if (got < len)
        walk->done += got;
    return got == len;
}

static bool mark(struct walk *walk, struct gpa addr, u64 len)
{
    ram_written(walk->board, addr, len);
    return true;
}

/* Visits [offset, offset + len) of the readable or the writable part; false: not all of it. */
static bool visit(const struct virtq_chain *chain, bool in, u64 offset, u64 len,
                  struct walk *walk)
{
    unsigned first = in ? chain->n_out : 0;
    unsigned end = in ? chain->n_out + chain->n_in : chain->n_out;
    walk->board = chain->queue->board;
    for (unsigned i = first; i < end && walk->done < len; i++) {
        const struct virtq_segment *segment = &chain->segments[i];
        if (offset >= segment->len) {
            offset -= segment->len;
            continue;
        }
        u64 room = segment->len - offset, left = len - walk->done;
        u64 part = room < left ? room : left;
        if (!walk->visit(walk, gpa(segment->addr.v + offset), part))
            return false;
        offset = 0;
        walk->done += part;
    }
    return walk->done == len;
}

bool virtq_get(const struct virtq_chain *chain, u64 offset, void *buf, u64 len)
{
    return visit(chain, false, offset, len, &(struct walk){.visit = get, .buf = buf});
}

bool virtq_put(const struct virtq_chain *chain, u64 offset, const void *buf, u64 len)
{
    return visit(chain, true, offset, len, &(struct walk){.visit = put, .buf = (u8 *)buf});
}

u64 virtq_parts(const struct virtq_chain *chain, bool in, u64 offset, u64 len,
                struct iovec *parts, unsigned room, unsigned *n)
{
    struct walk walk = {.visit = collect, .parts = parts, .room = room, .n = n, .write = in};
    visit(chain, in, offset, len, &walk);
    return walk.done;
}

void virtq_written(const struct virtq_chain *chain, u64 offset, u64 len)
{
    visit(chain, true, offset, len, &(struct walk){.visit = mark});
}

void virtq_release(const struct virtq_chain *chain)
{
    for (unsigned i = chain->n_out; i < chain->n_out + chain->n_in; i++)
        ram_release(chain->queue->board, chain->segments[i].addr, chain->segments[i].len);
}

/* -- Giving chains back -------------------------------------------------------------------- */

void virtq_stage(const struct virtq_chain *chain, u16 n, u32 written)
{
    struct virtq *queue = chain->queue;
    if (!ready(queue))
        return;
    if (queue->packed) {
        packed_stage(chain, n, written);
        return;
    }
    struct used_element element = {chain->head, written};
    ram_write(queue->board, used_entry(queue, queue->next_used + n), &element, sizeof(element));
}

void virtq_publish(struct virtq *queue, u16 count)
{
    if (!ready(queue) || !count)
        return;
    if (queue->packed) {
        packed_publish(queue);
        return;
    }
    queue->next_used += count;
    /* A release: the elements and the buffers are there before the index says so. */
    ram_store16(queue->board, used_index(queue), queue->next_used);
}

void virtq_push(const struct virtq_chain *chain, u32 written)
{
    virtq_stage(chain, 0, written);
    virtq_publish(chain->queue, 1);
}

bool virtq_wants_interrupt(struct virtq *queue)
{
    if (!ready(queue))
        return false;
    /* The driver arms used_event (or its flag), then looks at the used index once more; we
     * write the index, then look at used_event. Each side needs its store seen before its load,
     * which x86 does not promise by itself. */
    atomic_thread_fence(memory_order_seq_cst);
    if (queue->packed)
        return packed_wants_interrupt(queue);
    if (!queue->event_index)
        return !(ram_load16(queue->board, gpa(queue->driver)) & AVAIL_NO_INTERRUPT);
    u16 old = queue->signalled;
    bool known = queue->signalled_once;
    queue->signalled = queue->next_used;
    queue->signalled_once = true;
    if (!known)
        return true;
    /* 2.7.10: did the index step over used_event? */
    u16 event = ram_load16(queue->board, used_event(queue));
    return (u16)(queue->next_used - event - 1) < (u16)(queue->next_used - old);
}

bool virtq_want_notify(struct virtq *queue, bool want)
{
    if (!ready(queue))
        return false;
    if (queue->packed)
        packed_want_notify(queue, want);
    else if (!queue->event_index)
        ram_store16(queue->board, gpa(queue->device_area), want ? 0 : USED_NO_NOTIFY);
    else if (want)
        ram_store16(queue->board, avail_event(queue), queue->next_avail);
    if (!want)
        return false;
    /* As in virtq_wants_interrupt, with the sides exchanged. */
    atomic_thread_fence(memory_order_seq_cst);
    return virtq_waiting(queue);
}

/* -- Life ---------------------------------------------------------------------------------- */

void virtq_reset(struct virtq *queue)
{
    queue->size = VIRTQ_MAX_SIZE;
    queue->enabled = queue->broken = false;
    queue->descriptors = queue->driver = queue->device_area = 0;
    queue->next_avail = queue->next_used = queue->signalled = 0;
    queue->signalled_once = queue->event_index = queue->packed = false;
    queue->in_flight = queue->staged = queue->staged_flags = 0;
}

static bool well_formed(const struct virtq *queue)
{
    if (queue->packed)
        return packed_well_formed(queue);
    return queue->size && queue->size <= VIRTQ_MAX_SIZE && !(queue->size & (queue->size - 1)) &&
           !(queue->descriptors % 16) && !(queue->driver % 2) && !(queue->device_area % 4);
}

bool virtq_enable(struct virtq *queue)
{
    if (!well_formed(queue))
        return ring_break(queue, "misplaced or of an impossible size");
    if (queue->packed)
        packed_start(queue);
    queue->enabled = true;
    return true;
}

static bool virtq_post_load(void *state)
{
    const struct virtq *queue = state;
    return !queue->enabled || well_formed(queue);
}

static const struct field virtq_fields[] = {
    FIELD(struct virtq, size),        FIELD(struct virtq, enabled),
    FIELD(struct virtq, descriptors), FIELD(struct virtq, driver),
    FIELD(struct virtq, device_area), FIELD(struct virtq, next_avail),
    FIELD(struct virtq, next_used),   FIELD(struct virtq, signalled),
    FIELD(struct virtq, broken),      FIELD(struct virtq, signalled_once),
    FIELD(struct virtq, event_index), FIELD(struct virtq, packed),
    FIELD(struct virtq, in_flight),
};

static const struct device_class virtq_class = {
    .name = "virtqueue",
    .version = 2,
    .fields = virtq_fields,
    .n_fields = ARRAY_LEN(virtq_fields),
    .post_load = virtq_post_load,
};

void virtq_create(struct virtq *queue, struct board *board)
{
    *queue = (struct virtq){.board = board};
    virtq_reset(queue);
    device_add(board, &queue->device, &virtq_class, queue);
}
