/*
 * Repeated MOVS and STOS page by page: while both ends are in the software TLB, or can be
 * entered there, the host's own instruction moves the elements. What remains (devices, watched
 * pages, elements across pages, faults) is the simulator's, from the state reached.
 */
#include "engine/bt/bt.h"
#include "x86/mem.h"

static void move(void *to, const void *from, u64 n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 2:
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 4:
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    default:
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    }
}

static void store(void *to, u64 value, u64 n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    case 2:
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    case 4:
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    default:
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(value) : "memory");
    }
}

/* One of the two operands of a string instruction. */
struct side {
    enum x86_seg_reg seg;
    enum x86_gpr reg;
    bool write;
};

/*
 * How many elements from the present one on stay in the page, in the segment, and before the
 * offset wraps; *host is where they are. 0: the simulator must look at this one.
 */
static u64 span(struct bt *bt, const struct site *site, struct side side, void **host)
{
    struct x86_cpu *c = bt_cpu(bt);
    u64 offset = x86_gpr_read(c, side.reg, site->adsize), la = offset + c->flat_base[side.seg];
    u64 room = UINT64_MAX;
    if (site->adsize < 8)
        room = BIT(8 * site->adsize) - offset;
    if (c->code_size != 8) {
        const struct x86_reach *reach = &c->reach[side.seg];
        u64 end = reach->end[side.write];
        if (offset < reach->first || offset >= end)
            return 0;
        room = end - offset < room ? end - offset : room;
        la = (u32)(offset + c->seg[side.seg].base);
    }
    room = page_left(la) < room ? page_left(la) : room;
    *host = room < site->size ? NULL : bounce_host(bt, la, side.write);
    return *host ? room / site->size : 0;
}

static void advance(struct x86_cpu *c, const struct site *site, enum x86_gpr reg, u64 n)
{
    u64 at = x86_gpr_read(c, reg, site->adsize) + n * site->size;
    x86_gpr_write(c, reg, site->adsize, at);
}

bool string_run(struct bt *bt, const struct site *site)
{
    struct x86_cpu *c = bt_cpu(bt);
    bool moves = site->string == STRING_MOVS;
    u64 left = x86_gpr_read(c, RCX, site->adsize);
    while (left) {
        void *to, *from = NULL;
        u64 n = span(bt, site, (struct side){SEG_ES, RDI, true}, &to);
        if (n && moves) {
            u64 room = span(bt, site, (struct side){site->seg, RSI, false}, &from);
            n = room < n ? room : n;
        }
        n = left < n ? left : n;
        if (!n)
            return false;
        if (moves)
            move(to, from, n, site->size);
        else
            store(to, c->gpr[RAX], n, site->size);
        advance(c, site, RDI, n);
        if (moves)
            advance(c, site, RSI, n);
        left -= n;
        x86_gpr_write(c, RCX, site->adsize, left);
        if (left && atomic_load_explicit(&c->attention, memory_order_relaxed))
            return false;
    }
    return true;
}
