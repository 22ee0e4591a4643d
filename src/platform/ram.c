/* Guest memory for devices and loaders, see ram.h. */
#include "platform/ram.h"

#include <stdatomic.h>
#include <string.h>

#include "base/ensure.h"
#include "memory/pmap.h"
#include "memory/tlb.h"
#include "platform/board.h"
#include "platform/vcpu.h"

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

/* After the bytes of a page have changed. */
static void ram_page_written(struct board *board, struct gfn f)
{
    /* Bytes before flags: a decoder sets PMAP_CODE before it reads the bytes, so either it
     * reads the new ones or we see its flag. */
    atomic_thread_fence(memory_order_seq_cst);
    u64 flags = pmap_flags(board->pmap, f);
    if (!(flags & PMAP_DIRTY))
        pmap_set_flags(board->pmap, f, PMAP_DIRTY, 0);
    if (unlikely(flags & PMAP_CODE) && board->code_written)
        board->code_written(board->opaque, f);
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
    ram_page_written(board, f);
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

/* Pages often lie side by side in the host's address space, too: they make one part. */
static bool add_part(struct iovec *parts, unsigned room, unsigned *n, u8 *from, u64 len)
{
    if (*n && (u8 *)parts[*n - 1].iov_base + parts[*n - 1].iov_len == from) {
        parts[*n - 1].iov_len += len;
        return true;
    }
    if (*n == room)
        return false;
    parts[(*n)++] = (struct iovec){from, len};
    return true;
}

u64 ram_parts(struct board *board, struct gpa addr, u64 len, bool write, struct iovec *parts,
              unsigned room, unsigned *n)
{
    u64 done = 0;
    while (done < len) {
        struct gpa at = gpa(addr.v + done);
        u64 part = page_left(at.v) < len - done ? page_left(at.v) : len - done;
        u8 *page = pmap_page(board->pmap, gpa_to_gfn(at));
        if (!page || (write && pmap_flags(board->pmap, gpa_to_gfn(at)) & PMAP_ROM) ||
            !add_part(parts, room, n, page + (at.v & ~PAGE_MASK), part))
            break;
        done += part;
    }
    return done;
}

void ram_written(struct board *board, struct gpa addr, u64 len)
{
    u64 end = addr.v + len;
    while (addr.v < end) {
        ram_page_written(board, gpa_to_gfn(addr));
        addr.v += page_left(addr.v);
    }
}

u16 ram_load16(struct board *board, struct gpa addr)
{
    const u8 *page = pmap_page(board->pmap, gpa_to_gfn(addr));
    ensure(addr.v % 2 == 0);
    return page ? __atomic_load_n((const u16 *)(page + (addr.v & ~PAGE_MASK)), __ATOMIC_ACQUIRE)
                : 0xffff;
}

void ram_store16(struct board *board, struct gpa addr, u16 value)
{
    struct gfn f = gpa_to_gfn(addr);
    u8 *page = pmap_page(board->pmap, f);
    ensure(addr.v % 2 == 0);
    if (!page || pmap_flags(board->pmap, f) & PMAP_ROM)
        return;
    __atomic_store_n((u16 *)(page + (addr.v & ~PAGE_MASK)), value, __ATOMIC_RELEASE);
    ram_page_written(board, f);
}

u8 ram_exchange8(struct board *board, struct gpa addr, u8 value)
{
    struct gfn f = gpa_to_gfn(addr);
    u8 *page = pmap_page(board->pmap, f);
    if (!page || pmap_flags(board->pmap, f) & PMAP_ROM)
        return 0xff;
    u8 old = __atomic_exchange_n(page + (addr.v & ~PAGE_MASK), value, __ATOMIC_SEQ_CST);
    ram_page_written(board, f);
    return old;
}

static void flush_tlb(struct vcpu *vcpu, struct vcpu_work *work)
{
    tlb_drop(&vcpu->cpu);
}

void ram_release(struct board *board, struct gpa addr, u64 len)
{
    u64 first = align_up(addr.v, PAGE_SIZE) >> PAGE_SHIFT, end = (addr.v + len) >> PAGE_SHIFT;
    if (addr.v + len < addr.v || first >= end)
        return;
    u64 frames = pmap_frames(board->pmap);
    if (end > frames)
        end = frames;
    pmap_release(board->pmap, gfn(first), end > first ? end - first : 0);
    for (u64 f = first; f < end; f++)
        if (unlikely(pmap_flags(board->pmap, gfn(f)) & PMAP_CODE) && board->code_written)
            board->code_written(board->opaque, gfn(f));
    vcpu_post_all(board, flush_tlb, NULL);
}
