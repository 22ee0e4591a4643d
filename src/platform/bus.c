/* The bus, see bus.h. */
#include "platform/bus.h"

#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/board.h"

static void bus_forget(struct bus *bus)
{
    memset(bus->cache, 0, sizeof(bus->cache));
}

void bus_add(struct board *board, struct bus_region *region)
{
    ensure(region->size && region->ops);
    struct bus *bus = &board->bus;
    region->next = bus->regions[region->space];
    bus->regions[region->space] = region;
    bus_forget(bus);
}

void bus_remove(struct board *board, struct bus_region *region)
{
    struct bus *bus = &board->bus;
    struct bus_region **link = &bus->regions[region->space];
    while (*link && *link != region)
        link = &(*link)->next;
    ensure(*link);
    *link = region->next;
    region->next = NULL;
    bus_forget(bus);
}

static struct bus_region *bus_find(struct bus *bus, enum bus_space space, u64 addr)
{
    struct bus_cached *cached = &bus->cache[space][(addr ^ addr >> 6) % BUS_CACHE];
    if (likely(cached->region && cached->addr == addr))
        return cached->region;
    for (struct bus_region *r = bus->regions[space]; r; r = r->next) {
        if (addr - r->base < r->size) {
            *cached = (struct bus_cached){addr, r};
            return r;
        }
    }
    return NULL;
}

/* How many of the `left` bytes at `addr` one handler call takes: a power of two that fits. */
static unsigned bus_piece(const struct bus_region *region, u64 addr, unsigned left)
{
    if (!region)
        return 1;
    unsigned max = region->max_size ? region->max_size : 8;
    u64 room = region->base + region->size - addr;
    unsigned piece = 8;
    while (piece > left || piece > max || piece > room)
        piece /= 2;
    return piece;
}

static u64 bus_read_piece(struct bus_region *region, u64 addr, unsigned size)
{
    if (!region || !region->ops->read)
        return bits_low(8 * size);
    return region->ops->read(region->opaque, addr - region->base, size) & bits_low(8 * size);
}

/* A device must not show a time whose timers have not fired: a counter that reads zero has
 * raised its interrupt, however late the main thread is. */
static void bus_catch_up(struct board *board)
{
    if (board->clock.first)
        clock_run(&board->clock);
}

u64 bus_read(struct board *board, enum bus_space space, u64 addr, unsigned size)
{
    u64 value = 0;
    board_lock(board);
    bus_catch_up(board);
    for (unsigned done = 0, piece; done < size; done += piece) {
        struct bus_region *region = bus_find(&board->bus, space, addr + done);
        piece = bus_piece(region, addr + done, size - done);
        value |= bus_read_piece(region, addr + done, piece) << 8 * done;
    }
    board_unlock(board);
    return value;
}

void bus_write(struct board *board, enum bus_space space, u64 addr, unsigned size, u64 value)
{
    board_lock(board);
    bus_catch_up(board);
    for (unsigned done = 0, piece; done < size; done += piece) {
        struct bus_region *region = bus_find(&board->bus, space, addr + done);
        piece = bus_piece(region, addr + done, size - done);
        if (region && region->ops->write)
            region->ops->write(region->opaque, addr + done - region->base, piece,
                               value >> 8 * done & bits_low(8 * piece));
    }
    board_unlock(board);
}
