/*
 * Stack frames, see stack.h.
 */
#include "x86/stack.h"

#include "base/ensure.h"
#include "x86/debug.h"

static u64 cut(u64 sp, unsigned width)
{
    return width == 8 ? sp : sp & bits_low(8 * width);
}

void x86_frame_here(const struct x86_cpu *c, struct x86_frame *f, unsigned item, u32 ext)
{
    f->ss = c->seg[SEG_SS];
    f->width = c->stack_size;
    f->item = (u8)item;
    f->as = AS_CPL;
    f->error = ext;
    f->sp = x86_sp(c);
    f->count = 0;
}

/* An entry of the task-state segment; #TS(TR) when it is beyond the limit. */
static u64 tss_entry(struct x86_cpu *c, u32 offset, unsigned size, unsigned whole, u32 ext)
{
    const struct x86_seg *tr = &c->seg[SEG_TR];
    if (offset + whole - 1 > tr->limit)
        x86_raise_error(c, VEC_TS, selector_error(tr->sel, ext));
    u64 la = tr->base + offset;
    return x86_load_system(c, gva(x86_long_mode(c) ? la : (u32)la), size);
}

static void inner_stack_long(struct x86_cpu *c, struct x86_frame *f, unsigned cpl, unsigned ist,
                             u32 ext)
{
    u32 offset = ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl;
    f->sp = tss_entry(c, offset, 8, 8, ext);
    f->ss = cpl == c->cpl ? c->seg[SEG_SS] : x86_seg_null((u16)cpl, cpl);
    f->width = 8;
    f->error = ext;
}

static void inner_stack_legacy(struct x86_cpu *c, struct x86_frame *f, unsigned cpl, u32 ext)
{
    bool wide = c->seg[SEG_TR].attr & 8;
    u32 offset = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
    unsigned size = wide ? 4 : 2;
    f->sp = tss_entry(c, offset, size, size + 2, ext);
    u16 sel = (u16)tss_entry(c, offset + size, 2, 2, ext);
    if (selector_is_null(sel))
        x86_raise_error(c, VEC_TS, selector_error(sel, ext));
    f->ss = x86_seg_read_stack(c, sel, cpl, VEC_TS, ext);
    f->width = f->ss.attr & SEG_DB ? 4 : 2;
    f->error = selector_error(sel, ext);
}

void x86_frame_inner(struct x86_cpu *c, struct x86_frame *f, unsigned cpl, unsigned ist,
                     unsigned item, u32 ext)
{
    f->item = (u8)item;
    f->as = AS_SUPERVISOR;
    f->count = 0;
    if (x86_long_mode(c))
        inner_stack_long(c, f, cpl, ist, ext);
    else
        inner_stack_legacy(c, f, cpl, ext);
}

/* The linear address of an item, checked. */
static struct gva item_address(struct x86_cpu *c, const struct x86_frame *f, u64 offset,
                               unsigned size)
{
    if (f->width == 8) {
        if (!x86_canonical(offset) || !x86_canonical(offset + size - 1))
            x86_raise_error(c, VEC_SS, f->error);
        return gva(offset);
    }
    bool typed = x86_protected(c) && !x86_v86(c);
    if (!x86_seg_covers(&f->ss, offset, size) ||
        (typed && (f->ss.attr & (SEG_CODE | SEG_WRITE)) != SEG_WRITE))
        x86_raise_error(c, VEC_SS, f->error);
    return gva((u32)(f->ss.base + offset));
}

/* The frame within one page and without wrapping: one write. */
static bool write_at_once(struct x86_cpu *c, struct x86_frame *f)
{
    unsigned size = f->count * f->item;
    u64 sp = f->sp - size;
    u8 image[64];
    if (size > sizeof(image) || cut(sp, f->width) != sp || cut(f->sp, f->width) != f->sp)
        return false;
    struct gva la = item_address(c, f, sp, size);
    if (page_left(la.v) < size)
        return false;
    for (unsigned n = 0; n < f->count; n++)
        memcpy(image + size - (n + 1) * f->item, &f->values[n], f->item);
    void *p = x86_tlb_write_as(c, la, size, f->as);
    if (likely(p)) {
        for (unsigned n = 0; n < size; n++)
            ((u8 *)p)[n] = image[n];
        x86_data_breakpoints(c, la, size, ACCESS_WRITE);
        f->sp = sp;
        return true;
    }
    /* The first push is the one that faults. */
    c->ops->probe(c, gva(la.v + size - f->item), f->item, ACCESS_WRITE, f->as);
    c->ops->write(c, la, image, size, f->as);
    x86_data_breakpoints(c, la, size, ACCESS_WRITE);
    f->sp = sp;
    return true;
}

void x86_frame_write(struct x86_cpu *c, struct x86_frame *f)
{
    struct gva at[FRAME_MAX];
    ensure(f->count <= FRAME_MAX);
    if (f->count == 0 || write_at_once(c, f))
        return;
    u64 sp = f->sp;
    for (unsigned n = 0; n < f->count; n++) {
        sp = cut(sp - f->item, f->width);
        at[n] = item_address(c, f, sp, f->item);
        c->ops->probe(c, at[n], f->item, ACCESS_WRITE, f->as);
    }
    for (unsigned n = 0; n < f->count; n++) {
        c->ops->write(c, at[n], &f->values[n], f->item, f->as);
        x86_data_breakpoints(c, at[n], f->item, ACCESS_WRITE);
    }
    f->sp = sp;
}

void x86_frame_commit(struct x86_cpu *c, const struct x86_frame *f)
{
    if (f->width == 2)
        x86_gpr_write(c, RSP, 2, f->sp);
    else
        c->gpr[RSP] = cut(f->sp, f->width);
}
