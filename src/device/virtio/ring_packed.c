/*
 * The packed virtqueue (virtio 1.2, clause 2.8): one ring of descriptors that both sides write.
 * Each side counts its rounds with a wrap counter of one bit; a descriptor is available when
 * its AVAIL flag is the driver's counter and its USED flag is not.
 *
 * A place in the ring is a number of 16 bits, as event suppression has it: bit 15 the wrap
 * counter, 1 in the first round, below it the offset. next_avail, next_used and signalled are
 * places.
 */
#include "device/virtio/ring_state.h"

#include "base/bits.h"
#include "platform/ram.h"

#define PLACE_WRAP BIT(15)

#define DESC_AVAIL BIT(7)
#define DESC_USED  BIT(15)

/* Flags of event suppression (2.8.10) */
#define EVENTS_ENABLE  0
#define EVENTS_DISABLE 1
#define EVENTS_DESC    2

struct packed_descriptor {
    u64 addr;
    u32 len;
    u16 id;
    u16 flags;
};
_Static_assert(sizeof(struct packed_descriptor) == 16, "virtio 2.8.13");

static u16 offset_of(u16 place)
{
    return place & (u16)~PLACE_WRAP;
}

static struct gpa descriptor_at(const struct virtq *queue, u16 place)
{
    return gpa(queue->descriptors + 16ull * offset_of(place));
}

static struct gpa flags_at(const struct virtq *queue, u16 place)
{
    return gpa(descriptor_at(queue, place).v + 14);
}

static u16 advance(const struct virtq *queue, u16 place, u16 n)
{
    u16 offset = (u16)(offset_of(place) + n), wrap = place & PLACE_WRAP;
    if (offset < queue->size)
        return wrap | offset;
    return (u16)(wrap ^ PLACE_WRAP) | (u16)(offset - queue->size);
}

/* -- Taking a chain ------------------------------------------------------------------------ */

bool packed_waiting(const struct virtq *queue)
{
    u16 flags = ram_load16(queue->board, flags_at(queue, queue->next_avail));
    bool wrap = queue->next_avail & PLACE_WRAP;
    return !(flags & DESC_AVAIL) != wrap && !(flags & DESC_USED) == wrap;
}

static bool read_descriptor(struct virtq *queue, u64 addr, struct packed_descriptor *desc)
{
    return ram_read(queue->board, gpa(addr), desc, sizeof(*desc)) ||
           ring_break(queue, "a descriptor outside RAM");
}

/* All of the table is one list; only WRITE counts in it (2.8.7). */
static bool read_indirect(struct virtq *queue, struct virtq_chain *chain,
                          const struct packed_descriptor *table)
{
    struct packed_descriptor desc;
    if (!table->len || table->len % sizeof(desc))
        return ring_break(queue, "an indirect table of odd length");
    for (u32 at = 0; at < table->len; at += (u32)sizeof(desc)) {
        if (!read_descriptor(queue, table->addr + at, &desc))
            return false;
        if (desc.flags & DESC_INDIRECT)
            return ring_break(queue, "an indirect table inside an indirect table");
        if (!ring_add_segment(queue, chain, desc.addr, desc.len, desc.flags & DESC_WRITE))
            return false;
    }
    return true;
}

static bool read_list(struct virtq *queue, struct virtq_chain *chain)
{
    struct packed_descriptor desc;
    do {
        u16 place = advance(queue, queue->next_avail, chain->slots);
        if (queue->in_flight + chain->slots >= queue->size)
            return ring_break(queue, "more descriptors offered than the queue holds");
        if (!read_descriptor(queue, descriptor_at(queue, place).v, &desc))
            return false;
        bool indirect = desc.flags & DESC_INDIRECT;
        if (indirect && (chain->slots || (desc.flags & DESC_NEXT)))
            return ring_break(queue, "an indirect descriptor in a list");
        chain->slots++;
        if (indirect
                ? !read_indirect(queue, chain, &desc)
                : !ring_add_segment(queue, chain, desc.addr, desc.len, desc.flags & DESC_WRITE))
            return false;
    } while (desc.flags & DESC_NEXT);
    chain->head = desc.id; /* the last one's counts (2.8.6) */
    return true;
}

bool packed_pop(struct virtq *queue, struct virtq_chain *chain)
{
    if (!packed_waiting(queue))
        return false;
    chain->slots = 0;
    if (!read_list(queue, chain))
        return false;
    queue->next_avail = advance(queue, queue->next_avail, chain->slots);
    queue->in_flight += chain->slots;
    return true;
}

/* -- Giving chains back -------------------------------------------------------------------- */

static u16 used_flags(u16 place, u32 written)
{
    return (u16)((place & PLACE_WRAP ? DESC_AVAIL | DESC_USED : 0) |
                 (written ? DESC_WRITE : 0));
}

/* The driver looks at descriptors in their order, so the first one's flags, which are written
 * last, show all of them. */
void packed_stage(const struct virtq_chain *chain, u16 n, u32 written)
{
    struct virtq *queue = chain->queue;
    if (!n)
        queue->staged = 0;
    u16 place = advance(queue, queue->next_used, queue->staged);
    const struct {
        u32 len;
        u16 id;
    } __attribute__((packed)) used = {written, chain->head};
    ram_write(queue->board, gpa(descriptor_at(queue, place).v + 8), &used, sizeof(used));
    if (n)
        ram_store16(queue->board, flags_at(queue, place), used_flags(place, written));
    else
        queue->staged_flags = used_flags(place, written);
    queue->staged += chain->slots;
}

void packed_publish(struct virtq *queue)
{
    ram_store16(queue->board, flags_at(queue, queue->next_used), queue->staged_flags);
    queue->next_used = advance(queue, queue->next_used, queue->staged);
    queue->in_flight -= queue->staged;
}

/* -- Notifications ------------------------------------------------------------------------- */

/* Places of two rounds in a row, as the driver and the device can differ by, in their order. */
static u32 in_order(const struct virtq *queue, u16 place)
{
    return offset_of(place) + (place & PLACE_WRAP ? 0 : queue->size);
}

static u32 distance(const struct virtq *queue, u16 from, u16 to)
{
    u32 both = 2u * queue->size;
    return (in_order(queue, to) + both - in_order(queue, from)) % both;
}

bool packed_wants_interrupt(struct virtq *queue)
{
    u16 old = queue->signalled;
    u16 flags = ram_load16(queue->board, gpa(queue->driver + 2)) & 3;
    u16 event = ram_load16(queue->board, gpa(queue->driver));
    queue->signalled = queue->next_used;
    if (flags == EVENTS_DISABLE)
        return false;
    /* An event that cannot come is none that was asked for. */
    if (flags != EVENTS_DESC || !queue->event_index || offset_of(event) >= queue->size)
        return true;
    return distance(queue, old, event) < distance(queue, old, queue->next_used);
}

void packed_want_notify(struct virtq *queue, bool want)
{
    u16 flags = !want ? EVENTS_DISABLE : queue->event_index ? EVENTS_DESC : EVENTS_ENABLE;
    if (flags == EVENTS_DESC)
        ram_store16(queue->board, gpa(queue->device_area), queue->next_avail);
    ram_store16(queue->board, gpa(queue->device_area + 2), flags);
}

/* -- Life ---------------------------------------------------------------------------------- */

void packed_start(struct virtq *queue)
{
    queue->next_avail = queue->next_used = queue->signalled = PLACE_WRAP;
    queue->in_flight = 0;
}

bool packed_well_formed(const struct virtq *queue)
{
    return queue->size && queue->size <= VIRTQ_MAX_SIZE && !(queue->descriptors % 16) &&
           !(queue->driver % 4) && !(queue->device_area % 4) &&
           (!queue->enabled ||
            (offset_of(queue->next_avail) < queue->size &&
             offset_of(queue->next_used) < queue->size &&
             offset_of(queue->signalled) < queue->size && queue->in_flight <= queue->size));
}
