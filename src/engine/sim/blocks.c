/* The decode cache, see blocks.h. */
#include "engine/sim/blocks.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memory/pmap.h"

#define BLOCK_BYTES(n) (sizeof(struct block) + (n) * sizeof(struct x86_insn))

bool blocks_create(struct blocks *blocks, struct error *err)
{
    *blocks = (struct blocks){0};
    blocks->memory = mmap(NULL, BLOCKS_MEMORY, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (blocks->memory == MAP_FAILED)
        return error_errno(err, "cannot allocate the decode cache");
    return true;
}

void blocks_destroy(struct blocks *blocks)
{
    munmap(blocks->memory, BLOCKS_MEMORY);
}

static u64 page_of_key(u64 key)
{
    return key & bits_low(60) & PAGE_MASK;
}

static struct block **page_list(struct blocks *blocks, u64 page)
{
    u64 number = page >> PAGE_SHIFT;
    return &blocks->page[(number ^ number >> 10) & (PAGE_SLOTS - 1)];
}

struct block *blocks_reserve(struct blocks *blocks)
{
    if (blocks->used + BLOCK_BYTES(MAX_BLOCK) > BLOCKS_MEMORY)
        return NULL;
    return (struct block *)(blocks->memory + blocks->used);
}

void blocks_commit(struct blocks *blocks, struct block *block)
{
    blocks->used += BLOCK_BYTES(block->n);
    struct block **list = page_list(blocks, page_of_key(block->key));
    block->next = *list;
    *list = block;
    blocks->slot[block_slot(block->key)] = block;
    blocks->decoded++;
}

static u64 lines_of(const struct block *block)
{
    return pmap_lines((unsigned)(block->key & ~PAGE_MASK), block->size);
}

void blocks_drop(struct blocks *blocks, const u8 *hva, u64 lines)
{
    struct block **link = page_list(blocks, (u64)hva);
    while (*link) {
        struct block *block = *link;
        if (page_of_key(block->key) == (u64)hva && (lines_of(block) & lines)) {
            *link = block->next;
            block->key = 0;
        } else {
            link = &block->next;
        }
    }
}

void blocks_reset(struct blocks *blocks)
{
    blocks->used = 0;
    blocks->resets++;
    memset(blocks->slot, 0, sizeof(blocks->slot));
    memset(blocks->page, 0, sizeof(blocks->page));
}
