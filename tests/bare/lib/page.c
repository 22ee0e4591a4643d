/* Making page tables. */
#include "page.h"
#include "cpu.h"

enum { POOL = 16 << 20 };

extern u64 pml4[512];
static ulong pool_next = POOL;

ulong page_alloc(void)
{
    volatile u64 *page = (volatile u64 *)pool_next;

    pool_next += 4096;
    for (unsigned i = 0; i < 512; i++)
        page[i] = 0;
    return (ulong)page;
}

volatile u64 *page_entry(ulong va, unsigned level)
{
    volatile u64 *table = pml4;

    for (unsigned at = 4;; at--) {
        volatile u64 *entry = &table[va >> (12 + 9 * (at - 1)) & 511];

        if (at == level)
            return entry;
        if (!(*entry & PTE_P))
            *entry = page_alloc() | PTE_P | PTE_W | PTE_U;
        table = (volatile u64 *)(*entry & PTE_ADDR);
    }
}

void page_map(ulong va, ulong pa, unsigned level, u64 flags)
{
    *page_entry(va, level) = pa | flags | (level > 1 ? PTE_PS : 0);
    invlpg((void *)va);
}
