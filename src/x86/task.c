/*
 * Hardware task switches. Two halves: up to the point of no return everything that can fail
 * fails in the old task with nothing changed; from there on faults belong to the new task, at
 * its first instruction (SDM vol. 3, 7.3).
 */
#include "x86/task.h"

#include "x86/debug.h"
#include "x86/insn.h"
#include "x86/stack.h"

#define TSS_LINK 0

/* Where the two formats keep things (SDM vol. 3, figures 7-2 and 7-10). */
struct tss_layout {
    u8 size; /* of a register */
    u8 limit, ip, flags, gprs, segs, n_segs, ldt;
};
static const struct tss_layout tss16 = {2, 0x2b, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a};
static const struct tss_layout tss32 = {4, 0x67, 0x20, 0x24, 0x28, 0x48, 6, 0x60};
#define TSS32_CR3   0x1c
#define TSS32_TRAP  0x64
#define TSS_MAXSIZE 0x68

static const struct tss_layout *layout_of(unsigned type)
{
    return type & 8 ? &tss32 : &tss16;
}

static struct gva tss_at(u64 base, unsigned offset)
{
    return gva((u32)(base + offset));
}

/* -- The old task -------------------------------------------------------------------------- */

/* Every access of the switch up to the commit must succeed before the first write. */
static void probe_tss(struct x86_cpu *c, u64 base, const struct tss_layout *l,
                      enum x86_access access)
{
    for (unsigned at = 0; at <= l->limit; at += 4)
        c->ops->probe(c, tss_at(base, at), 4, access, AS_SUPERVISOR);
}

static void save_task(struct x86_cpu *c, u64 base, const struct tss_layout *l, u64 rip,
                      u64 flags)
{
    x86_store_system(c, tss_at(base, l->ip), l->size, rip);
    x86_store_system(c, tss_at(base, l->flags), l->size, flags);
    for (unsigned n = RAX; n <= RDI; n++)
        x86_store_system(c, tss_at(base, l->gprs + n * l->size), l->size, c->gpr[n]);
    for (unsigned n = SEG_ES; n < l->n_segs; n++)
        x86_store_system(c, tss_at(base, l->segs + n * l->size), 2, c->seg[n].sel);
}

/* -- The new task -------------------------------------------------------------------------- */

struct task_image {
    const struct tss_layout *layout;
    u64 rip, flags, cr3;
    u64 gpr[8];
    u16 seg[6], ldt;
    bool trap;
};

static void load_image(struct x86_cpu *c, u64 base, struct task_image *t)
{
    const struct tss_layout *l = t->layout;
    bool wide = l == &tss32;
    t->rip = x86_load_system(c, tss_at(base, l->ip), l->size);
    t->flags = x86_load_system(c, tss_at(base, l->flags), l->size);
    for (unsigned n = 0; n < 8; n++)
        t->gpr[n] = x86_load_system(c, tss_at(base, l->gprs + n * l->size), l->size);
    for (unsigned n = 0; n < l->n_segs; n++)
        t->seg[n] = (u16)x86_load_system(c, tss_at(base, l->segs + n * l->size), 2);
    t->ldt = (u16)x86_load_system(c, tss_at(base, l->ldt), 2);
    if (wide) {
        t->cr3 = x86_load_system(c, tss_at(base, TSS32_CR3), 4);
        t->trap = x86_load_system(c, tss_at(base, TSS32_TRAP), 2) & 1;
    }
}

/* From here on the state is the new task's; segment registers hold selectors only. */
static void commit_image(struct x86_cpu *c, const struct task_image *t)
{
    const u64 known = FLAGS_STATUS | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT |
                      FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID;
    for (unsigned n = 0; n < 8; n++)
        x86_gpr_write(c, n, t->layout->size, t->gpr[n]);
    c->rip = c->insn_rip = t->rip;
    c->dr7 &= ~0x155ull; /* L0..L3 and LE are the old task's */
    unsigned cpl = selector_rpl(t->seg[SEG_CS]);
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        c->seg[n] = x86_seg_null(t->seg[n], n == SEG_SS ? cpl : 0);
    c->seg[SEG_LDTR] = x86_seg_null(t->ldt, 0);
    c->cr0 |= CR0_TS;
    x86_write_flags(c, t->flags, known);
    x86_debug_changed(c);
    x86_attend(c);
}

static void load_ldt(struct x86_cpu *c, u16 sel, u32 ext)
{
    struct x86_descriptor d;
    u32 error = selector_error(sel, ext);
    if (selector_is_null(sel))
        return;
    if (sel & 4)
        x86_raise_error(c, VEC_TS, error);
    x86_descriptor_read(c, sel, VEC_TS, ext, &d);
    if (descriptor_is_segment(d.low) || descriptor_type(d.low) != DESC_LDT ||
        !descriptor_present(d.low))
        x86_raise_error(c, VEC_TS, error);
    c->seg[SEG_LDTR] = x86_seg_from(sel, d.low);
}

static void load_code(struct x86_cpu *c, u16 sel, u32 ext)
{
    struct x86_descriptor d;
    u32 error = selector_error(sel, ext);
    if (selector_is_null(sel))
        x86_raise_error(c, VEC_TS, error);
    x86_descriptor_read(c, sel, VEC_TS, ext, &d);
    unsigned dpl = descriptor_dpl(d.low), rpl = selector_rpl(sel);
    bool level = descriptor_is_conforming(d.low) ? dpl <= rpl : dpl == rpl;
    if (!descriptor_is_code(d.low) || !level)
        x86_raise_error(c, VEC_TS, error);
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, error);
    x86_descriptor_touch(c, &d);
    c->seg[SEG_CS] = x86_seg_from(sel, d.low);
}

static void load_data(struct x86_cpu *c, enum x86_seg_reg seg, u16 sel, u32 ext)
{
    struct x86_descriptor d;
    u32 error = selector_error(sel, ext);
    if (selector_is_null(sel))
        return;
    x86_descriptor_read(c, sel, VEC_TS, ext, &d);
    bool conforming = descriptor_is_code(d.low) && descriptor_is_conforming(d.low);
    unsigned dpl = descriptor_dpl(d.low);
    if (!descriptor_is_readable(d.low) ||
        (!conforming && (selector_rpl(sel) > dpl || c->cpl > dpl)))
        x86_raise_error(c, VEC_TS, error);
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, error);
    x86_descriptor_touch(c, &d);
    c->seg[seg] = x86_seg_from(sel, d.low);
}

/* Table 7-1 of SDM vol. 3 from check 7 on: #TS and its kin in the new task. */
static void load_segments(struct x86_cpu *c, const struct task_image *t, u32 ext)
{
    load_ldt(c, t->ldt, ext);
    if (x86_v86(c)) {
        for (unsigned n = SEG_ES; n <= SEG_GS; n++)
            c->seg[n] = x86_seg_v86(t->seg[n]);
        return;
    }
    load_code(c, t->seg[SEG_CS], ext);
    x86_derive(c);
    if (selector_is_null(t->seg[SEG_SS]))
        x86_raise_error(c, VEC_TS, selector_error(t->seg[SEG_SS], ext));
    c->seg[SEG_SS] = x86_seg_read_stack(c, t->seg[SEG_SS], c->cpl, VEC_TS, ext);
    x86_derive(c);
    for (unsigned n = SEG_ES; n < t->layout->n_segs; n++)
        if (n != SEG_CS && n != SEG_SS)
            load_data(c, n, t->seg[n], ext);
}

/* -- The switch ---------------------------------------------------------------------------- */

static void load_cr3(struct x86_cpu *c, const struct task_image *t, u16 tss, u32 ext)
{
    if (t->layout != &tss32 || !(c->cr0 & CR0_PG))
        return;
    if ((c->cr4 & CR4_PAE) && !c->ops->load_pdptes(c, t->cr3))
        x86_raise_error(c, VEC_TS, selector_error(tss, ext));
    c->cr3 = t->cr3;
    c->ops->cr3_loaded(c, false);
}

static void push_error(struct x86_cpu *c, const struct task_image *t, u32 error, u32 ext)
{
    struct x86_frame f;
    x86_frame_here(c, &f, t->layout->size, ext);
    x86_frame_push(&f, error);
    x86_frame_write(c, &f);
    x86_frame_commit(c, &f);
}

/* The descriptor of the task that is left. */
static struct x86_descriptor old_descriptor(const struct x86_cpu *c)
{
    return (struct x86_descriptor){c->seg[SEG_TR].sel,
                                   gva((u32)(c->gdtr.base + (c->seg[SEG_TR].sel & ~7u))), 0};
}

/* The memory half: old state out, links and busy bits. */
static void leave_task(struct x86_cpu *c, const struct x86_descriptor *to,
                       const struct x86_task_switch *how)
{
    const struct x86_seg *tr = &c->seg[SEG_TR];
    const struct tss_layout *l = layout_of(tr->attr & SEG_TYPE);
    struct x86_descriptor from = old_descriptor(c);
    u64 flags = how->source == TASK_IRET ? how->flags & ~FLAG_NT : how->flags;
    bool nested = how->source == TASK_CALL || how->source == TASK_EVENT;
    probe_tss(c, tr->base, l, ACCESS_WRITE);
    probe_tss(c, descriptor_base(to->low), layout_of(descriptor_type(to->low)),
              nested ? ACCESS_WRITE : ACCESS_READ);
    c->ops->probe(c, from.at, 8, ACCESS_WRITE, AS_SUPERVISOR);
    c->ops->probe(c, to->at, 8, ACCESS_WRITE, AS_SUPERVISOR);

    if (!nested)
        x86_descriptor_busy(c, &from, false);
    save_task(c, tr->base, l, how->rip, flags);
    if (nested)
        x86_store_system(c, tss_at(descriptor_base(to->low), TSS_LINK), 2, tr->sel);
    if (how->source != TASK_IRET)
        x86_descriptor_busy(c, to, true);
}

static void switch_task(struct x86_cpu *c, const struct x86_descriptor *to,
                        const struct x86_task_switch *how)
{
    struct task_image t = {.layout = layout_of(descriptor_type(to->low))};
    if (descriptor_limit(to->low) < t.layout->limit)
        x86_raise_error(c, VEC_TS, selector_error(to->sel, how->ext));
    leave_task(c, to, how);
    load_image(c, descriptor_base(to->low), &t);
    if (how->source == TASK_CALL || how->source == TASK_EVENT)
        t.flags |= FLAG_NT;
    c->seg[SEG_TR] = x86_seg_from((u16)(to->sel & ~3), to->low | 2ull << 40);
    commit_image(c, &t);
    c->no_step = true;

    load_cr3(c, &t, to->sel, how->ext);
    load_segments(c, &t, how->ext);
    x86_derive(c);
    if (t.trap)
        c->pending_db |= DR6_BT;
    if (how->has_error)
        push_error(c, &t, how->error, how->ext);
    if (c->rip > c->seg[SEG_CS].limit)
        x86_raise_error(c, VEC_GP, how->ext);
}

static bool is_tss(u64 low, bool busy)
{
    unsigned type = descriptor_type(low);
    return !descriptor_is_segment(low) && (type & ~8u) == (busy ? 3 : 1);
}

void x86_task_enter(struct x86_cpu *c, u16 sel, const struct x86_task_switch *how)
{
    struct x86_descriptor d;
    u32 error = selector_error(sel, how->ext);
    if (sel & 4)
        x86_raise_error(c, VEC_GP, error);
    if (selector_is_null(sel))
        x86_raise_error(c, VEC_GP, error);
    x86_descriptor_read(c, sel, VEC_GP, how->ext, &d);
    if (!is_tss(d.low, false))
        x86_raise_error(c, VEC_GP, error);
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, error);
    switch_task(c, &d, how);
}

void x86_task_return(struct x86_cpu *c)
{
    struct x86_descriptor d;
    u16 sel = (u16)x86_load_system(c, tss_at(c->seg[SEG_TR].base, TSS_LINK), 2);
    if ((sel & 4) || selector_is_null(sel))
        x86_raise_error(c, VEC_TS, selector_error(sel, 0));
    x86_descriptor_read(c, sel, VEC_TS, 0, &d);
    if (!is_tss(d.low, true))
        x86_raise_error(c, VEC_TS, selector_error(sel, 0));
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, selector_error(sel, 0));
    struct x86_task_switch how = {.source = TASK_IRET, .rip = c->rip, .flags = c->rflags};
    switch_task(c, &d, &how);
}
