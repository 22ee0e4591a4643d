/* Four-level page tables of the 64-bit kernels. */
#pragma once
#include "types.h"

#define PTE_P    0x1ull
#define PTE_W    0x2ull
#define PTE_U    0x4ull
#define PTE_PWT  0x8ull
#define PTE_PCD  0x10ull
#define PTE_A    0x20ull
#define PTE_D    0x40ull
#define PTE_PS   0x80ull
#define PTE_G    0x100ull
#define PTE_NX   0x8000000000000000ull
#define PTE_ADDR 0x000ffffffffff000ull

#define PF_P    1ul
#define PF_W    2ul
#define PF_U    4ul
#define PF_RSVD 8ul
#define PF_I    16ul

/* A zeroed page of physical memory (identity mapped), never given back. */
ulong page_alloc(void);

/* The entry that translates va at this level (1: 4 KiB, 2: 2 MiB, 3: 1 GiB, 4: PML4E); makes
 * the tables above it, open to all. */
volatile u64 *page_entry(ulong va, unsigned level);

/* Maps and flushes one page of this level: 4 KiB, 2 MiB or 1 GiB. */
void page_map(ulong va, ulong pa, unsigned level, u64 flags);

/* Between these addresses (1 GiB to 2 GiB) nothing is mapped at the start. */
#define PAGE_TEST 0x40000000ul
