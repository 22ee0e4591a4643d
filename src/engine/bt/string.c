/*
 * Repeated MOVS, STOS, CMPS and SCAS page by page: while both ends are in the software TLB, or
 * can be entered there, the host's own instruction does the elements. What remains (devices,
 * watched pages, elements across pages, faults) is the simulator's, from the state reached.
 */
#include "engine/bt/bt.h"
#include "x86/mem.h"
#include "x86/model.h"

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

/* The host's CMPS or SCAS on up to n elements; answers how many it took, and sets *flags as
 * bt->hot has them. */
#define COMPARING(name, instruction)                                                           \
    static u64 name(const void *to, const void *from, u64 a, u64 n, u64 *flags)                \
    {                                                                                          \
        u64 left = n;                                                                          \
        __asm__ volatile(instruction "\n\tlahf\n\tseto %%al"                                   \
                         : "+D"(to), "+S"(from), "+c"(left), "+a"(a)                           \
                         :                                                                     \
                         : "memory", "cc");                                                    \
        *flags = a & 0xffff;                                                                   \
        return n - left;                                                                       \
    }
#define COMPARING_SIZES(name, instruction)                                                     \
    COMPARING(name##1, instruction "b")                                                        \
    COMPARING(name##2, instruction "w")                                                        \
    COMPARING(name##4, instruction "l")                                                        \
    COMPARING(name##8, instruction "q")
COMPARING_SIZES(cmps_e, "repe cmps")
COMPARING_SIZES(cmps_ne, "repne cmps")
COMPARING_SIZES(scas_e, "repe scas")
COMPARING_SIZES(scas_ne, "repne scas")

/* By kind and size. */
static u64 (*const comparings[][4])(const void *to, const void *from, u64 a, u64 n,
                                    u64 *flags) = {
    [STRING_CMPS_E] = {cmps_e1, cmps_e2, cmps_e4, cmps_e8},
    [STRING_CMPS_NE] = {cmps_ne1, cmps_ne2, cmps_ne4, cmps_ne8},
    [STRING_SCAS_E] = {scas_e1, scas_e2, scas_e4, scas_e8},
    [STRING_SCAS_NE] = {scas_ne1, scas_ne2, scas_ne4, scas_ne8},
};

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

static bool reads_source(const struct site *site)
{
    return site->string == STRING_MOVS || site->string == STRING_CMPS_E ||
           site->string == STRING_CMPS_NE;
}

static bool compares(const struct site *site)
{
    return site->string >= STRING_CMPS_E;
}

/* Does ZF, in the form of bt->hot, end the repetition? */
static bool is_ended(const struct site *site, u64 flags)
{
    bool equal = flags & (FLAG_ZF << 8);
    return equal != (site->string == STRING_CMPS_E || site->string == STRING_SCAS_E);
}

/* Up to n elements, n > 0; answers how many, *ended: a comparison ended the repetition. */
static u64 do_elements(struct bt *bt, const struct site *site, void *to, const void *from,
                       u64 n, bool *ended)
{
    u64 a = bt_cpu(bt)->gpr[RAX];
    if (site->string == STRING_MOVS) {
        move(to, from, n, site->size);
    } else if (site->string == STRING_STOS) {
        store(to, a, n, site->size);
    } else {
        unsigned size = (unsigned)__builtin_ctz(site->size);
        n = comparings[site->string][size](to, from, a, n, &bt->hot->flags);
        *ended = is_ended(site, bt->hot->flags);
    }
    return n;
}

bool string_run(struct bt *bt, const struct site *site)
{
    struct x86_cpu *c = bt_cpu(bt);
    u64 left = x86_gpr_read(c, RCX, site->adsize), before = bt->hot->flags;
    bool ended = false;
    while (left && !ended) {
        void *to, *from = NULL;
        u64 n = span(bt, site, (struct side){SEG_ES, RDI, !compares(site)}, &to);
        if (n && reads_source(site)) {
            u64 room = span(bt, site, (struct side){site->seg, RSI, false}, &from);
            n = room < n ? room : n;
        }
        n = left < n ? left : n;
        if (!n) { /* it may fault */
            if (!x86_quirk(c->model, QUIRK_REP_FLAGS))
                bt->hot->flags = before;
            return false;
        }
        n = do_elements(bt, site, to, from, n, &ended);
        advance(c, site, RDI, n);
        if (reads_source(site))
            advance(c, site, RSI, n);
        left -= n;
        x86_gpr_write(c, RCX, site->adsize, left);
        if (left && !ended && atomic_load_explicit(&c->attention, memory_order_relaxed))
            return false;
    }
    return true;
}
