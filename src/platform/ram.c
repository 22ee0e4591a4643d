/* Guest memory for devices and loaders, see ram.h. */
#include "platform/ram.h"

#include <stdatomic.h>
#include <string.h>

#include "memory/pmap.h"
#include "platform/board.h"

bool ram_read(struct board *board, struct gpa addr, void *buf, u64 len)
{
    u8 *to = buf;
    bool all = true;
    while (len) {
        u64 part = page_left(addr.v) < len ? page_left(addr.v) : len;
        const u8 *page = pmap_page(board->pmap, gpa_to_gfn(addr));
        if (page)
            memcpy(to, page + (addr.v & ~PAGE_MASK), part);
        else
            memset(to, 0xff, part);
        all = all && page;
        to += part;
        addr.v += part;
        len -= part;
    }
    return all;
}

static bool ram_write_page(struct board *board, struct gpa addr, const void *buf, u64 len)
{
    struct gfn f = gpa_to_gfn(addr);
    u8 *page = pmap_page(board->pmap, f);
    if (!page)
        return false;
    if (pmap_flags(board->pmap, f) & PMAP_ROM)
        return true;
    memcpy(page + (addr.v & ~PAGE_MASK), buf, len);
    /* Bytes before flags: a decoder sets PMAP_CODE before it reads the bytes, so either it
     * reads the new ones or we see its flag. */
    atomic_thread_fence(memory_order_seq_cst);
    u64 flags = pmap_flags(board->pmap, f);
    if (!(flags & PMAP_DIRTY))
        pmap_set_flags(board->pmap, f, PMAP_DIRTY, 0);
    if (unlikely(flags & PMAP_CODE) && board->code_written)
        board->code_written(board->opaque, f);
    return true;
}

bool ram_write(struct board *board, struct gpa addr, const void *buf, u64 len)
{
    const u8 *from = buf;
    bool all = true;
    while (len) {
        u64 part = page_left(addr.v) < len ? page_left(addr.v) : len;
        if (!ram_write_page(board, addr, from, part))
            all = false;
        from += part;
        addr.v += part;
        len -= part;
    }
    return all;
}
