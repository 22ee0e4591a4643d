/*
 * The code cache: translations one behind the other, found by the host address of the guest
 * code, its virtual address and the mode. Their cold parts grow towards them from the other
 * end, so that hot code lies close together. The cache and its tables have parts of equal size
 * for the generations of TUs: when one is full the next begins, in place of the oldest.
 */
#include "engine/bt/bt.h"

#include <sys/mman.h>

#include "base/ensure.h"
#include "memory/pmap.h"

/* -- Memory -------------------------------------------------------------------------------- */

static void *map_table(u64 size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Cells that must be free, or all is flushed: no TU needs that many. */
#define MIN_CELLS 256

/* The page behind the hot block is the one that polls fault on. */
#define HOT_SIZE (align_up(sizeof(struct bt_hot), PAGE_SIZE) + PAGE_SIZE)
_Static_assert(sizeof(struct bt_hot) + 2 * PAGE_SIZE <= VCPU_ENGINE_ROOM, "the engine's room");

/* Each of many vCPUs gets less, as it has its own. */
static u32 cache_size(const struct vcpu *vcpu)
{
    u32 size = ENGINE_CACHE_MIB(vcpu->engine_options) * (u32)MiB;
    unsigned n = vcpu->board->n_vcpus;
    if (!size)
        return (u32)CACHE_SIZE / (n < 4 ? n : 4);
    return size < CACHE_SIZE ? size : (u32)CACHE_SIZE;
}

bool cache_create(struct bt *bt, struct error *err)
{
    bt->generation_size = cache_size(bt->vcpu) / GENERATIONS;
    bt->hot = vcpu_engine_room(bt->vcpu);
    bt->tus = map_table(sizeof(*bt->tus) * MAX_TUS);
    bt->links = map_table(sizeof(*bt->links) * MAX_LINKS);
    bt->cells = map_table(sizeof(*bt->cells) * MAX_CELLS);
    bt->sites = map_table(sizeof(*bt->sites) * MAX_SITES);
    bt->decoded = map_table(sizeof(*bt->decoded) * MAX_DECODED);
    bt->live_page = map_table(sizeof(*bt->live_page) * LIVE_PLACES);
    bt->live_in = map_table(sizeof(*bt->live_in) * LIVE_PLACES);
    for (unsigned i = 0; i < 2; i++)
        bt->live[i].place = map_table(sizeof(u32) * LIVE_PLACES);
    if (!bt->tus || !bt->links || !bt->cells || !bt->sites || !bt->decoded || !bt->live_page ||
        !bt->live_in || !bt->live[0].place || !bt->live[1].place) {
        error_set(err, "no memory for the translator");
        return false;
    }
    bt->hot->poll_trap = (u64 *)((u8 *)bt->hot + HOT_SIZE - PAGE_SIZE);
    mprotect(bt->hot->poll_trap, PAGE_SIZE, PROT_NONE);
    bt->hot->poll = &bt->hot->poll_word;
    /* Behind the vCPU, with as much in between as it takes itself. */
    return code_memory_map(&bt->memory, CACHE_SIZE, (u8 *)bt->hot + 2 * VCPU_ENGINE_ROOM, err);
}

static void unmap(void *at, u64 size)
{
    if (at)
        munmap(at, size);
}

void cache_destroy(struct bt *bt)
{
    if (bt->hot->poll_trap)
        mprotect(bt->hot->poll_trap, PAGE_SIZE, PROT_READ | PROT_WRITE);
    vcpu_clear_room(bt->vcpu);
    unmap(bt->tus, sizeof(*bt->tus) * MAX_TUS);
    unmap(bt->links, sizeof(*bt->links) * MAX_LINKS);
    unmap(bt->cells, sizeof(*bt->cells) * MAX_CELLS);
    unmap(bt->decoded, sizeof(*bt->decoded) * MAX_DECODED);
    unmap(bt->live_page, sizeof(*bt->live_page) * LIVE_PLACES);
    unmap(bt->live_in, sizeof(*bt->live_in) * LIVE_PLACES);
    for (unsigned i = 0; i < 2; i++)
        unmap(bt->live[i].place, sizeof(u32) * LIVE_PLACES);
    unmap(bt->sites, sizeof(*bt->sites) * MAX_SITES);
    if (bt->memory.write)
        code_memory_unmap(&bt->memory);
}

static void generation_begin(struct bt *bt, u32 generation)
{
    /* Number 0 of each table means none. */
    bt->generation = generation;
    bt->n_decoded = cache_first(generation, MAX_DECODED);
    bt->n_tus = cache_first(generation, MAX_TUS);
    bt->n_links = cache_first(generation, MAX_LINKS);
    bt->n_sites = cache_first(generation, MAX_SITES);
    bt->used = generation ? generation * bt->generation_size : bt->stubs_end;
    bt->cold = (generation + 1) * bt->generation_size;
    bt->closed[generation].tus = bt->closed[generation].links = 0;
    bt->closed[generation].sites = 0;
    bt->epoch++;
}

void cache_flush(struct bt *bt)
{
    for (unsigned i = 0; i < GENERATIONS; i++)
        generation_begin(bt, GENERATIONS - 1 - i);
    bt->n_cells = 1;
    for (unsigned i = 0; i < TU_SLOTS; i++)
        bt->tu_slot[i] = 0;
    for (unsigned i = 0; i < PAGE_CHAINS; i++)
        bt->page_chain[i] = 0;
    for (unsigned i = 0; i < CELL_SLOTS; i++)
        bt->cell_slot[i] = 0;
    links_forget(bt, true);
    bt->stats.flushes++;
}

/* -- Finding ------------------------------------------------------------------------------- */

static unsigned tu_slot(const u8 *code, u64 rip)
{
    /* Fibonacci hashing: neighbouring pages at neighbouring addresses must not cancel out. */
    u64 hash = ((u64)code ^ rip << 20) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(hash >> (64 - TU_SLOT_BITS));
}

static unsigned page_slot(const u8 *code)
{
    u64 page = (u64)code >> PAGE_SHIFT;
    return (unsigned)((page ^ page >> 12) & (PAGE_CHAINS - 1));
}

struct tu *cache_find(struct bt *bt, const u8 *code, u64 rip, u32 mode)
{
    for (u32 i = bt->tu_slot[tu_slot(code, rip)]; i; i = bt->tus[i].next) {
        struct tu *tu = &bt->tus[i];
        if (tu->code == code && tu->rip == rip && tu->mode == mode)
            return tu;
    }
    return NULL;
}

void cache_add(struct bt *bt, struct tu *tu)
{
    u32 number = (u32)(tu - bt->tus);
    u32 *slot = &bt->tu_slot[tu_slot(tu->code, tu->rip)];
    tu->next = *slot;
    *slot = number;
    u32 *chain = &bt->page_chain[page_slot(tu->code)];
    tu->page_next = *chain;
    tu->page_before = 0;
    bt->tus[*chain].page_before = number;
    *chain = number;
}

/* -- Forgetting ---------------------------------------------------------------------------- */

static void remove_from_hash(struct bt *bt, struct tu *tu)
{
    u32 number = (u32)(tu - bt->tus);
    u32 *link = &bt->tu_slot[tu_slot(tu->code, tu->rip)];
    while (*link != number)
        link = &bt->tus[*link].next;
    *link = tu->next;
}

static void remove_from_page(struct bt *bt, struct tu *tu)
{
    u32 *link = tu->page_before ? &bt->tus[tu->page_before].page_next
                                : &bt->page_chain[page_slot(tu->code)];
    *link = tu->page_next;
    bt->tus[tu->page_next].page_before = tu->page_before;
}

void cache_drop(struct bt *bt, struct tu *tu)
{
    remove_from_page(bt, tu);
    remove_from_hash(bt, tu);
    link_drop_incoming(bt, tu);
    tu->dead = true;
}

void cache_drop_lines(struct bt *bt, const u8 *hva, u64 lines)
{
    bool any = false;
    u32 *link = &bt->page_chain[page_slot(hva)];
    while (*link) {
        struct tu *tu = &bt->tus[*link];
        if (((u64)tu->code & PAGE_MASK) != (u64)hva || !(tu->lines & lines)) {
            link = &tu->page_next;
            continue;
        }
        cache_drop(bt, tu);
        bt->stats.tus_dropped++;
        any = true;
    }
    if (any && lines == UINT64_MAX)
        bt->stats.page_drops++;
    else if (any)
        bt->stats.line_drops++;
}

void cache_drop_cut(struct bt *bt, u64 la, unsigned cut)
{
    u64 lines = pmap_lines((unsigned)(la & ~PAGE_MASK), 1);
    for (u32 g = 0; g < GENERATIONS; g++) {
        u32 behind = g == bt->generation ? bt->n_tus : bt->closed[g].tus;
        for (u32 i = cache_first(g, MAX_TUS); i < behind; i++) {
            struct tu *tu = &bt->tus[i];
            bool there = !((place_linear(tu->mode, tu->rip) ^ la) & PAGE_MASK);
            if (tu->dead || !((there && tu->lines & lines) || (cut && tu->cut == cut)))
                continue;
            cache_drop(bt, tu);
            bt->stats.tus_dropped++;
        }
    }
}

static void evict(struct bt *bt, u32 generation)
{
    u32 start = generation * bt->generation_size;
    if (!bt->closed[generation].tus)
        return;
    link_drop_outgoing(bt, start, start + bt->generation_size);
    for (u32 i = cache_first(generation, MAX_TUS); i < bt->closed[generation].tus; i++) {
        struct tu *tu = &bt->tus[i];
        if (tu->dead)
            continue;
        cache_drop(bt, tu);
        bt->stats.evictions++;
    }
}

void cache_make_room(struct bt *bt)
{
    if (bt->n_cells + MIN_CELLS > MAX_CELLS) {
        cache_flush(bt);
        return;
    }
    u32 next = (bt->generation + 1) % GENERATIONS;
    bt->closed[bt->generation].tus = bt->n_tus;
    bt->closed[bt->generation].links = bt->n_links;
    bt->closed[bt->generation].sites = bt->n_sites;
    evict(bt, next);
    generation_begin(bt, next);
}
