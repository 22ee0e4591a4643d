/*
 * Segmentation: from segment:offset to linear address where the fast path of mem.h does not
 * do, descriptors, and the loading of data segment registers (SDM vol. 3, chapter 5).
 */
#include "x86/segment.h"

#include "x86/debug.h"
#include "x86/model.h"

#define ATTR_V86 (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | 3 << 5)

/* -- Linear addresses ---------------------------------------------------------------------- */

bool x86_seg_covers(const struct x86_seg *s, u64 offset, unsigned size)
{
    u64 last = offset + size - 1;
    if ((s->attr & (SEG_S | SEG_CODE | SEG_DOWN)) != (SEG_S | SEG_DOWN))
        return last <= s->limit;
    return offset > s->limit && last <= (s->attr & SEG_DB ? 0xffffffff : 0xffff);
}

/* What a segment's type lets an access do, in protected mode. */
static bool segment_allows(const struct x86_seg *s, enum x86_access access)
{
    if ((s->attr & SEG_NULL) || !(s->attr & SEG_P))
        return false;
    if (access == ACCESS_WRITE)
        return (s->attr & (SEG_CODE | SEG_WRITE)) == SEG_WRITE;
    return (s->attr & (SEG_CODE | SEG_READ)) != SEG_CODE || access == ACCESS_EXEC;
}

/* Whether accesses must be looked at one by one: #AC armed, or a data breakpoint enabled. */
static bool accesses_watched(const struct x86_cpu *c)
{
    return ((c->cr0 & CR0_AM) && (c->rflags & FLAG_AC) && c->cpl == 3) ||
           (x86_breakpoint_kinds(c) & (1u << BREAK_WRITE | 1u << BREAK_ACCESS));
}

#define WHOLE (4 * GiB)

/* One that expands down ends where its offsets do (SDM vol. 3, 5.3). */
static struct x86_reach segment_reach(const struct x86_cpu *c, const struct x86_seg *s)
{
    bool down = (s->attr & (SEG_S | SEG_CODE | SEG_DOWN)) == (SEG_S | SEG_DOWN);
    bool typed = x86_protected(c) && !x86_v86(c);
    u64 first = down ? (u64)s->limit + 1 : 0;
    u64 end = !down ? (u64)s->limit + 1 : s->attr & SEG_DB ? WHOLE : 64 * KiB;
    bool read = !typed || segment_allows(s, ACCESS_READ);
    bool write = !typed || segment_allows(s, ACCESS_WRITE);
    bool whole = s->base == 0 && first == 0 && end == WHOLE;
    return (struct x86_reach){
        .first = first,
        .end = {read ? end : 0, write ? end : 0},
        .flat = whole ? (read ? FLAT_READ : 0) | (write ? FLAT_WRITE : 0) : 0,
    };
}

void x86_derive_segment(struct x86_cpu *c, enum x86_seg_reg seg)
{
    const struct x86_seg *s = &c->seg[seg];
    bool watched = accesses_watched(c);
    c->flat_base[seg] = x86_64bit(c) && seg >= SEG_FS ? s->base : 0;
    if (!x86_64bit(c))
        c->reach[seg] = segment_reach(c, s);
    unsigned flat = x86_64bit(c) ? FLAT_READ | FLAT_WRITE : c->reach[seg].flat;
    c->flat[seg] = watched ? 0 : (u8)flat;
}

/* What #AC demands of an access of `size` bytes (SDM vol. 3, table 6-7). */
static unsigned natural_alignment(const struct x86_cpu *c, unsigned size)
{
    if (size == 10)
        return 8;
    if (size == 16 || size == 32)
        return x86_quirk(c->model, QUIRK_AC_VECTORS) ? 16 : 1;
    return size <= 8 && !(size & (size - 1)) ? size : 1;
}

static bool misaligned(const struct x86_cpu *c, u64 la, unsigned size)
{
    return c->cpl == 3 && (c->rflags & FLAG_AC) && (c->cr0 & CR0_AM) &&
           (la & (natural_alignment(c, size) - 1));
}

struct gva x86_linear_slow(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size,
                           enum x86_access access)
{
    const struct x86_seg *s = &c->seg[seg];
    u64 la;
    if (x86_64bit(c)) {
        la = offset + x86_seg_base(c, seg);
        bool first = x86_quirk(c->model, QUIRK_AC_AT_END) && misaligned(c, la, size);
        if (!x86_canonical(la) || (!first && !x86_canonical(la + size - 1)))
            x86_raise_error(c, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
    } else {
        bool typed = x86_protected(c) && !x86_v86(c);
        if (typed && !segment_allows(s, access))
            x86_raise_error(c, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
        if (!x86_seg_covers(s, offset, size))
            x86_raise_error(c, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
        la = (u32)(s->base + offset);
    }
    if (misaligned(c, la, size))
        x86_raise_error(c, VEC_AC, 0);
    x86_data_breakpoints(c, gva(la), size, access);
    return gva(la);
}

u64 x86_load_system(struct x86_cpu *c, struct gva la, unsigned size)
{
    const void *p = x86_tlb_read_as(c, la, size, AS_SUPERVISOR);
    if (likely(p))
        return host_load(p, size);
    u64 value = 0;
    c->ops->read(c, la, &value, size, AS_SUPERVISOR);
    return value;
}

void x86_store_system(struct x86_cpu *c, struct gva la, unsigned size, u64 value)
{
    c->ops->write(c, la, &value, size, AS_SUPERVISOR);
}

/* -- Descriptors --------------------------------------------------------------------------- */

static struct gva table_address(const struct x86_cpu *c, u64 base, u32 offset)
{
    return gva(x86_long_mode(c) ? base + offset : (u32)(base + offset));
}

static bool table_holds(const struct x86_cpu *c, u16 sel, unsigned size)
{
    u32 last = (sel & ~7u) + size - 1;
    if (!(sel & 4))
        return last <= c->gdtr.limit;
    const struct x86_seg *ldt = &c->seg[SEG_LDTR];
    return !(ldt->attr & SEG_NULL) && last <= ldt->limit;
}

bool x86_descriptor_find(struct x86_cpu *c, u16 sel, struct x86_descriptor *d)
{
    if (!table_holds(c, sel, 8))
        return false;
    u64 base = sel & 4 ? c->seg[SEG_LDTR].base : c->gdtr.base;
    d->sel = sel;
    d->at = table_address(c, base, sel & ~7u);
    d->low = x86_load_system(c, d->at, 8);
    return true;
}

void x86_descriptor_read(struct x86_cpu *c, u16 sel, enum x86_vector vector, u32 ext,
                         struct x86_descriptor *d)
{
    if (!x86_descriptor_find(c, sel, d))
        x86_raise_error(c, vector, selector_error(sel, ext));
}

u64 x86_descriptor_high(struct x86_cpu *c, const struct x86_descriptor *d,
                        enum x86_vector vector, u32 ext)
{
    if (!table_holds(c, d->sel, 16))
        x86_raise_error(c, vector, selector_error(d->sel, ext));
    u64 high = x86_load_system(c, gva(d->at.v + 8), 8);
    if (bits(high, 44, 40))
        x86_raise_error(c, vector, selector_error(d->sel, ext));
    return high;
}

void x86_descriptor_touch(struct x86_cpu *c, struct x86_descriptor *d)
{
    if (descriptor_attr(d->low) & SEG_ACCESSED)
        return;
    d->low |= (u64)SEG_ACCESSED << 40;
    x86_store_system(c, gva(d->at.v + 5), 1, (u8)descriptor_attr(d->low));
}

void x86_descriptor_busy(struct x86_cpu *c, const struct x86_descriptor *d, bool busy)
{
    u64 attr = x86_load_system(c, gva(d->at.v + 5), 1);
    x86_store_system(c, gva(d->at.v + 5), 1, busy ? attr | 2 : attr & ~2ull);
}

/* -- Register contents --------------------------------------------------------------------- */

struct x86_seg x86_seg_from(u16 sel, u64 low)
{
    return (struct x86_seg){sel, descriptor_attr(low), descriptor_limit(low),
                            descriptor_base(low)};
}

struct x86_seg x86_seg_null(u16 sel, unsigned dpl)
{
    return (struct x86_seg){.sel = sel, .attr = SEG_NULL | dpl << 5};
}

struct x86_seg x86_seg_flat(u16 sel, u32 attr)
{
    return (struct x86_seg){sel, attr | SEG_P | SEG_S | SEG_G | SEG_ACCESSED | SEG_WRITE,
                            0xffffffff, 0};
}

struct x86_seg x86_seg_v86(u16 sel)
{
    return (struct x86_seg){sel, ATTR_V86, 0xffff, (u64)sel << 4};
}

void x86_seg_load_real(struct x86_cpu *c, enum x86_seg_reg seg, u16 sel)
{
    struct x86_seg *s = &c->seg[seg];
    u32 type = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | (seg == SEG_CS ? SEG_CODE : 0);
    s->sel = sel;
    s->base = (u64)sel << 4;
    s->attr = (s->attr & (SEG_DB | SEG_G)) | type;
    x86_derive_segment(c, seg);
}

/* -- Loads --------------------------------------------------------------------------------- */

struct x86_seg x86_seg_read_stack(struct x86_cpu *c, u16 sel, unsigned cpl,
                                  enum x86_vector vector, u32 ext)
{
    struct x86_descriptor d;
    x86_descriptor_read(c, sel, vector, ext, &d);
    if (selector_rpl(sel) != cpl || descriptor_dpl(d.low) != cpl ||
        !descriptor_is_writable_data(d.low))
        x86_raise_error(c, vector, selector_error(sel, ext));
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_SS, selector_error(sel, ext));
    x86_descriptor_touch(c, &d);
    return x86_seg_from(sel, d.low);
}

static void load_stack_segment(struct x86_cpu *c, u16 sel)
{
    if (!selector_is_null(sel)) {
        c->seg[SEG_SS] = x86_seg_read_stack(c, sel, c->cpl, VEC_GP, 0);
    } else {
        /* 64-bit code below CPL 3 may run without a stack segment (SDM vol. 3, 5.2.1.1). */
        if (!x86_64bit(c) || c->cpl == 3 || selector_rpl(sel) != c->cpl)
            x86_raise_error(c, VEC_GP, 0);
        c->seg[SEG_SS] = x86_seg_null(sel, c->cpl);
    }
    x86_derive(c);
}

static void load_data_segment(struct x86_cpu *c, enum x86_seg_reg seg, u16 sel)
{
    if (selector_is_null(sel)) {
        c->seg[seg] = x86_seg_null(sel, 0);
        x86_derive_segment(c, seg);
        return;
    }
    struct x86_descriptor d;
    x86_descriptor_read(c, sel, VEC_GP, 0, &d);
    bool conforming = descriptor_is_code(d.low) && descriptor_is_conforming(d.low);
    unsigned dpl = descriptor_dpl(d.low);
    if (!descriptor_is_readable(d.low) ||
        (!conforming && (selector_rpl(sel) > dpl || c->cpl > dpl)))
        x86_raise_error(c, VEC_GP, selector_error(sel, 0));
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, selector_error(sel, 0));
    x86_descriptor_touch(c, &d);
    c->seg[seg] = x86_seg_from(sel, d.low);
    x86_derive_segment(c, seg);
}

void x86_seg_load(struct x86_cpu *c, enum x86_seg_reg seg, u16 sel)
{
    if (x86_v86(c)) {
        c->seg[seg] = x86_seg_v86(sel);
        x86_derive_segment(c, seg);
    } else if (x86_real(c)) {
        x86_seg_load_real(c, seg, sel);
        if (seg == SEG_SS)
            x86_derive(c);
    } else if (seg == SEG_SS) {
        load_stack_segment(c, sel);
    } else {
        load_data_segment(c, seg, sel);
    }
}

void x86_seg_drop_inner(struct x86_cpu *c, unsigned cpl)
{
    static const u8 segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned n = 0; n < ARRAY_LEN(segs); n++) {
        struct x86_seg *s = &c->seg[segs[n]];
        bool conforming = (s->attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);
        /* Null selectors lose their RPL. A base stays: 64-bit code may go on using it (AMD APM
         * vol. 3, IRET; Intel's processors do the same). */
        if ((s->attr & SEG_NULL) || (SEG_DPL(s->attr) < cpl && !conforming))
            *s = (struct x86_seg){.attr = SEG_NULL, .base = s->base};
    }
}
