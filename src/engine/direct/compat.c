/* 32-bit code in cells, see compat.h. */
#include "engine/direct/compat.h"

#include <string.h>

#include "memory/walk.h"
#include "x86/segment.h"

/* Entries of the guest's table: the host's, by number, and those that are looked at. */
enum { GDT_CODE32 = HOST_CS32 >> 3, GDT_DATA = HOST_DS >> 3, GDT_CODE64 = HOST_CS >> 3 };
#define GDT_ENTRIES (TLS_FIRST + TLS_MAX)

/* Of a data or code segment of user code; the accessed bit is set beforehand. */
#define USER_SEGMENT (SEG_P | SEG_S | SEG_G | SEG_ACCESSED | 3u << 5)
#define USER_DATA    (USER_SEGMENT | SEG_WRITE | SEG_DB)
#define ATTRIBUTES   0xe0ffu /* but for AVL, which is free */

static bool is_flat(u32 attr, u32 limit, u32 wanted)
{
    return (attr & ATTRIBUTES) == wanted && limit == 0xffffffff;
}

static bool describes_flat(u64 descriptor, u32 wanted)
{
    return is_flat(descriptor_attr(descriptor), descriptor_limit(descriptor), wanted);
}

static bool is_flat_data(const struct x86_seg *s)
{
    return is_flat(s->attr, s->limit, USER_DATA);
}

static bool is_host_data(const struct x86_seg *s)
{
    return s->sel == HOST_DS && !s->base && is_flat_data(s);
}

/* FS and GS may also be in a thread-local place. */
static bool is_thread_data(const struct x86_seg *s)
{
    unsigned place = (s->sel >> 3) - TLS_FIRST;
    return place < TLS_MAX && (s->sel & 7) == 3 && s->base < NARROW_END && is_flat_data(s);
}

bool compat_has_segments(const struct x86_seg *seg)
{
    const struct x86_seg *cs = &seg[SEG_CS];
    if (cs->sel != HOST_CS32 || cs->base || cs->limit != 0xffffffff ||
        !is_host_data(&seg[SEG_SS]))
        return false;
    for (enum x86_seg_reg s = SEG_ES; s <= SEG_GS; s++) {
        bool thread = s == SEG_FS || s == SEG_GS;
        if (s != SEG_CS && seg[s].sel > 3 && !is_host_data(&seg[s]) &&
            !(thread && is_thread_data(&seg[s])))
            return false;
    }
    return true;
}

/* The table's first entries. On one page, as with any kernel that cares for its speed. */
static bool read_table(struct x86_cpu *c, struct pmap *pmap, u64 *entries)
{
    const u64 size = GDT_ENTRIES * sizeof(u64);
    struct gpa where;
    if (c->gdtr.limit < size - 1 || (c->gdtr.base & ~PAGE_MASK) > PAGE_SIZE - size ||
        !walk_peek(c, pmap, gva(c->gdtr.base), &where))
        return false;
    const u8 *page = pmap_page(pmap, gpa_to_gfn(where));
    if (!page)
        return false;
    memcpy(entries, page + (where.v & ~PAGE_MASK), size);
    return true;
}

static bool is_present(const struct tls *tls, u16 selector)
{
    unsigned place = (selector >> 3) - TLS_FIRST;
    return place >= TLS_MAX || tls[place].flags != TLS_EMPTY;
}

bool compat_read_tls(struct x86_cpu *c, struct pmap *pmap, struct tls *tls)
{
    u64 table[GDT_ENTRIES];
    if (!read_table(c, pmap, table) ||
        !describes_flat(table[GDT_CODE32], USER_SEGMENT | SEG_CODE | SEG_READ | SEG_DB) ||
        !describes_flat(table[GDT_CODE64], USER_SEGMENT | SEG_CODE | SEG_READ | SEG_L) ||
        !describes_flat(table[GDT_DATA], USER_DATA))
        return false;
    for (unsigned i = 0; i < TLS_MAX; i++) {
        u64 entry = table[TLS_FIRST + i];
        tls[i] = (struct tls){.entry = TLS_FIRST + i, .flags = TLS_EMPTY};
        if (!describes_flat(entry, USER_DATA))
            continue;
        tls[i].base = (u32)descriptor_base(entry);
        tls[i].limit = 0xfffff;
        tls[i].flags = TLS_DATA | (entry >> 52 & 1 ? TLS_AVAILABLE : 0);
    }
    return is_present(tls, c->seg[SEG_FS].sel) && is_present(tls, c->seg[SEG_GS].sel);
}

/* A selector that user code loaded by itself: what the guest's own table says. What it does not
 * have was the host's, and leaves the register as it was. */
static void load_selector(struct x86_cpu *c, enum x86_seg_reg seg, u16 selector)
{
    jmp_buf unwind;
    c->unwind = &unwind;
    c->insn_rip = c->rip; /* where a selector that the table lacks leaves it */
    if (!setjmp(unwind))
        x86_seg_load(c, seg, selector);
}

void compat_take(struct x86_cpu *c, const struct stop *stop)
{
    bool was_64 = c->code_size == 8;
    if (unlikely(was_64 && stop->cs == HOST_CS32))
        c->seg[SEG_CS] = x86_seg_flat(HOST_CS32, SEG_CODE | SEG_READ | SEG_DB | 3 << 5);
    else if (unlikely(!was_64 && stop->cs == HOST_CS))
        c->seg[SEG_CS] = x86_seg_flat(HOST_CS, SEG_CODE | SEG_READ | SEG_L | 3 << 5);
    x86_derive(c);
    if (c->code_size != 8)
        c->rip = (u32)c->rip;
    for (unsigned i = 0; i < ARRAY_LEN(frame_segments); i++) {
        if (unlikely(stop->selector[i] != c->seg[frame_segments[i]].sel))
            load_selector(c, frame_segments[i], stop->selector[i]);
    }
    if (unlikely(stop->ss != c->seg[SEG_SS].sel))
        load_selector(c, SEG_SS, stop->ss);
}
