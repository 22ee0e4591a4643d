/*
 * MOVS and STOS page by page: while both ends are in the software TLB, or can be entered there,
 * the host's own instruction moves the elements. What remains (devices, watched pages, elements
 * across pages, faults) is the simulator's, from the state reached.
 */
#include "engine/bt/bt.h"
#include "x86/mem.h"

static void *host_address(struct bt *bt, u64 la, bool write)
{
    struct x86_cpu *c = bt_cpu(bt);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        void *at = write ? x86_tlb_write(c, gva(la), 1) : x86_tlb_read(c, gva(la), 1);
        if (likely(at))
            return at;
        if (!bt_fill(bt, gva(la), write ? ACCESS_WRITE : ACCESS_READ))
            return NULL;
    }
    return NULL;
}

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

bool string_run(struct bt *bt, const struct site *site)
{
    struct x86_cpu *c = bt_cpu(bt);
    unsigned size = site->size;
    u64 left = site->rep ? c->gpr[RCX] : 1;
    while (left) {
        u64 n = page_left(c->gpr[RDI]) / size;
        void *to = host_address(bt, c->gpr[RDI], true);
        const void *from = NULL;
        if (site->string == STRING_MOVS) {
            u64 room = page_left(c->gpr[RSI]) / size;
            n = room < n ? room : n;
            from = host_address(bt, c->gpr[RSI], false);
        }
        n = left < n ? left : n;
        if (!n || !to || (site->string == STRING_MOVS && !from))
            return false;
        if (from)
            move(to, from, n, size);
        else
            store(to, c->gpr[RAX], n, size);
        c->gpr[RDI] += n * size;
        if (from)
            c->gpr[RSI] += n * size;
        left -= n;
        if (site->rep)
            c->gpr[RCX] = left;
        if (left && atomic_load_explicit(&c->attention, memory_order_relaxed))
            return false;
    }
    return true;
}
