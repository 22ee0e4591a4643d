/*
 * The decode cache: runs of decoded instructions ("blocks"), found by the host address of their
 * first byte and the code size. A block lies in one page and ends after an instruction that
 * may set RIP, or at MAX_BLOCK.
 *
 * Invariant: the page of every block is watched (PMAP_CODE), so that a write to it drops the
 * page's blocks before they could run again. A dropped block's memory stays until the next
 * blocks_reset, because it may be the one in progress.
 */
#pragma once

#include "base/error.h"
#include "x86/insn.h"

#define MAX_BLOCK 24

struct block {
    u64 key;            /* hva of the first byte, low bit trick: see block_key; 0: dropped */
    struct block *next; /* in its page's list */
    u32 n;
    u32 size; /* bytes of code */
    struct x86_insn insns[];
};

#define BLOCK_SLOTS   (1u << 15)
#define PAGE_SLOTS    (1u << 10)
#define BLOCKS_MEMORY (12 * MiB)

struct blocks {
    u8 *memory; /* an arena: allocation moves `used` up, reset moves it to 0 */
    u64 used;
    struct block *slot[BLOCK_SLOTS]; /* direct-mapped by key; a loser is only decoded again */
    struct block *page[PAGE_SLOTS];  /* all live blocks, by page address hashed: for dropping */
    u64 decoded, resets;             /* statistics: blocks made, arena flushes */
};

bool blocks_create(struct blocks *blocks, struct error *err);
void blocks_destroy(struct blocks *blocks);

/* A block may start at any byte and be of three code sizes: both are in the key. Code sizes 2,
 * 4, 8 are shifted into bits 63:60, which no user-space address has. */
static inline u64 block_key(const u8 *hva, unsigned code_size)
{
    return (u64)hva | (u64)code_size << 60;
}

static inline unsigned block_slot(u64 key)
{
    return (unsigned)((key ^ key >> 15) & (BLOCK_SLOTS - 1));
}

static inline struct block *blocks_find(struct blocks *blocks, u64 key)
{
    struct block *block = blocks->slot[block_slot(key)];
    return likely(block && block->key == key) ? block : NULL;
}

/* Room for a block of up to MAX_BLOCK instructions at the arena's end, not yet findable; NULL:
 * the arena is full. */
struct block *blocks_reserve(struct blocks *blocks);
/* Makes the reserved block, now filled, findable. */
void blocks_commit(struct blocks *blocks, struct block *block);

/* Forgets the blocks that touch those lines (pmap_lines) of the page at `hva` (its first
 * byte). */
void blocks_drop(struct blocks *blocks, const u8 *hva, u64 lines);
/* Forgets all. */
void blocks_reset(struct blocks *blocks);
