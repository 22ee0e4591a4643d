/*
 * Far control transfers: JMP, CALL, RET and IRET, in every mode and between privilege levels
 * (SDM vol. 3, 5.8, and the pseudo-code of vol. 2). Each checks everything before it changes
 * anything.
 */
#include "x86/insn.h"
#include "x86/interrupt.h"
#include "x86/model.h"
#include "x86/stack.h"
#include "x86/task.h"

static bool is_64bit_code(const struct x86_cpu *c, u64 cs)
{
    return x86_long_mode(c) && (descriptor_attr(cs) & SEG_L);
}

/* L and D together mean nothing in long mode. */
static bool has_bad_size(const struct x86_cpu *c, u64 cs)
{
    return is_64bit_code(c, cs) && (descriptor_attr(cs) & SEG_DB);
}

static void check_target(struct x86_cpu *c, u64 cs, u64 offset)
{
    bool good = is_64bit_code(c, cs) ? x86_canonical(offset) : offset <= descriptor_limit(cs);
    if (!good)
        x86_raise_error(c, VEC_GP, 0);
}

static void commit_code(struct x86_cpu *c, const struct x86_descriptor *cs, unsigned cpl,
                        u64 rip)
{
    c->seg[SEG_CS] = x86_seg_from((u16)((cs->sel & ~3) | cpl), cs->low);
    c->rip = rip;
}

/* -- Real and virtual-8086 mode ------------------------------------------------------------ */

static bool is_8086(const struct x86_cpu *c)
{
    return x86_real(c) || x86_v86(c);
}

static void check_target_8086(struct x86_cpu *c, u64 rip)
{
    if (rip > c->seg[SEG_CS].limit)
        x86_raise_error(c, VEC_GP, 0);
}

static void commit_code_8086(struct x86_cpu *c, u16 sel, u64 rip)
{
    if (x86_v86(c))
        c->seg[SEG_CS] = x86_seg_v86(sel);
    else
        x86_seg_load_real(c, SEG_CS, sel);
    c->rip = rip;
    x86_derive(c);
}

/* -- Far JMP and CALL ---------------------------------------------------------------------- */

struct far_branch {
    u16 sel;
    u64 offset;
    unsigned size; /* operand size: 2, 4, 8 */
    bool call;
};

/* With REX.W a pointer in memory has a 64-bit offset on every model: AMD's manual knows only 16
 * and 32 bits there (APM vol. 3, JMP Far), but who writes REX.W means it, and hypervisors on
 * AMD's processors do as Intel's. */
static struct far_branch far_operand(struct x86_cpu *c, const struct x86_insn *i, bool call)
{
    struct far_branch b = {.size = i->opsize, .call = call};
    if (i->opd[0].kind == OPD_MEM) {
        u64 ea = x86_ea(c, i), sel_at = ea + b.size;
        if (i->adsize != 8)
            sel_at &= bits_low(8 * i->adsize);
        b.offset = x86_load(c, i->seg, ea, b.size);
        b.sel = (u16)x86_load(c, i->seg, sel_at, 2);
    } else {
        b.offset = i->imm & bits_low(8 * b.size);
        b.sel = i->imm2;
    }
    return b;
}

/* Pushes the return address on the present stack. */
static void push_return(struct x86_cpu *c, unsigned size, struct x86_frame *f)
{
    x86_frame_here(c, f, size, 0);
    x86_frame_push(f, c->seg[SEG_CS].sel);
    x86_frame_push(f, c->rip);
    x86_frame_write(c, f);
}

static void far_8086(struct x86_cpu *c, const struct far_branch *b)
{
    check_target_8086(c, b->offset);
    if (b->call) {
        struct x86_frame f;
        push_return(c, b->size, &f);
        x86_frame_commit(c, &f);
    }
    commit_code_8086(c, b->sel, b->offset);
}

static void far_to_segment(struct x86_cpu *c, const struct far_branch *b,
                           struct x86_descriptor *cs)
{
    unsigned dpl = descriptor_dpl(cs->low);
    bool level = descriptor_is_conforming(cs->low)
                     ? dpl <= c->cpl
                     : selector_rpl(b->sel) <= c->cpl && dpl == c->cpl;
    if (!descriptor_is_code(cs->low) || has_bad_size(c, cs->low) || !level)
        x86_raise_error(c, VEC_GP, selector_error(b->sel, 0));
    if (!descriptor_present(cs->low))
        x86_raise_error(c, VEC_NP, selector_error(b->sel, 0));
    check_target(c, cs->low, b->offset);
    x86_descriptor_touch(c, cs);
    unsigned cpl = c->cpl;
    if (b->call) {
        struct x86_frame f;
        push_return(c, b->size, &f);
        x86_frame_commit(c, &f);
    }
    commit_code(c, cs, cpl, b->offset);
    x86_derive(c);
}

/* The code segment of a call gate; a null selector is #GP(0). */
static void gate_target(struct x86_cpu *c, const struct x86_gate *g, bool call,
                        struct x86_descriptor *cs)
{
    if (selector_is_null(g->sel))
        x86_raise_error(c, VEC_GP, 0);
    x86_descriptor_read(c, g->sel, VEC_GP, 0, cs);
    unsigned dpl = descriptor_dpl(cs->low);
    bool conforming = descriptor_is_conforming(cs->low);
    bool bad =
        !descriptor_is_code(cs->low) || dpl > c->cpl || (!call && !conforming && dpl != c->cpl);
    if (x86_long_mode(c))
        bad |= (descriptor_attr(cs->low) & (SEG_L | SEG_DB)) != SEG_L;
    if (bad)
        x86_raise_error(c, VEC_GP, selector_error(g->sel, 0));
    if (!descriptor_present(cs->low))
        x86_raise_error(c, VEC_NP, selector_error(g->sel, 0));
}

/* The caller's parameters, for the inner stack, in the order they are pushed there. */
static void copy_parameters(struct x86_cpu *c, const struct x86_gate *g, struct x86_frame *f)
{
    for (unsigned n = g->count; n > 0; n--)
        x86_frame_push(f, x86_peek(c, f->item, (n - 1) * f->item));
}

static void call_inner(struct x86_cpu *c, const struct x86_gate *g, struct x86_descriptor *cs,
                       unsigned item)
{
    struct x86_frame f;
    unsigned dpl = descriptor_dpl(cs->low);
    x86_frame_inner(c, &f, dpl, 0, item, 0);
    x86_frame_push(&f, c->seg[SEG_SS].sel);
    x86_frame_push(&f, c->gpr[RSP]);
    if (!x86_long_mode(c))
        copy_parameters(c, g, &f);
    x86_frame_push(&f, c->seg[SEG_CS].sel);
    x86_frame_push(&f, c->rip);
    check_target(c, cs->low, g->offset);
    x86_descriptor_touch(c, cs);
    x86_frame_write(c, &f);
    c->seg[SEG_SS] = f.ss;
    x86_frame_commit(c, &f);
    commit_code(c, cs, dpl, g->offset);
    x86_derive(c);
}

static void far_to_gate(struct x86_cpu *c, const struct far_branch *b,
                        const struct x86_descriptor *gate)
{
    struct x86_descriptor cs;
    u64 high = x86_long_mode(c) ? x86_descriptor_high(c, gate, VEC_GP, 0) : 0;
    struct x86_gate g = x86_gate_from(gate->low, high);
    unsigned item = x86_long_mode(c) ? 8 : g.type & 8 ? 4 : 2;
    gate_target(c, &g, b->call, &cs);
    if (b->call && !descriptor_is_conforming(cs.low) && descriptor_dpl(cs.low) < c->cpl) {
        call_inner(c, &g, &cs, item);
        return;
    }
    unsigned cpl = c->cpl;
    check_target(c, cs.low, g.offset);
    x86_descriptor_touch(c, &cs);
    if (b->call) {
        struct x86_frame f;
        x86_frame_here(c, &f, item, 0);
        if (x86_long_mode(c)) {
            f.width = 8; /* from compatibility mode too: the target is 64-bit code */
            f.sp = c->gpr[RSP];
        }
        x86_frame_push(&f, c->seg[SEG_CS].sel);
        x86_frame_push(&f, c->rip);
        x86_frame_write(c, &f);
        x86_frame_commit(c, &f);
    }
    commit_code(c, &cs, cpl, g.offset);
    x86_derive(c);
}

/* Call gates, task gates, TSSs. */
static void far_to_system(struct x86_cpu *c, const struct far_branch *b,
                          const struct x86_descriptor *d)
{
    unsigned type = descriptor_type(d->low);
    bool call_gate = type == DESC_CALL || (type == DESC_CALL16 && !x86_long_mode(c));
    bool task = !x86_long_mode(c) &&
                (type == DESC_TASK_GATE || type == DESC_TSS_AVAIL || type == DESC_TSS16_AVAIL);
    unsigned dpl = descriptor_dpl(d->low);
    if ((!call_gate && !task) || dpl < c->cpl || dpl < selector_rpl(b->sel))
        x86_raise_error(c, VEC_GP, selector_error(b->sel, 0));
    if (!descriptor_present(d->low))
        x86_raise_error(c, VEC_NP, selector_error(b->sel, 0));
    if (call_gate) {
        far_to_gate(c, b, d);
        return;
    }
    struct x86_task_switch how = {
        .source = b->call ? TASK_CALL : TASK_JUMP, .rip = c->rip, .flags = c->rflags};
    x86_task_enter(c, type == DESC_TASK_GATE ? x86_gate_from(d->low, 0).sel : b->sel, &how);
}

static void far_branch(struct x86_cpu *c, const struct far_branch *b)
{
    struct x86_descriptor d;
    if (is_8086(c)) {
        far_8086(c, b);
        return;
    }
    if (selector_is_null(b->sel))
        x86_raise_error(c, VEC_GP, 0);
    x86_descriptor_read(c, b->sel, VEC_GP, 0, &d);
    if (descriptor_is_segment(d.low))
        far_to_segment(c, b, &d);
    else
        far_to_system(c, b, &d);
}

void exec_jmp_far(struct x86_cpu *c, struct x86_insn *i)
{
    struct far_branch b = far_operand(c, i, false);
    far_branch(c, &b);
}

void exec_call_far(struct x86_cpu *c, struct x86_insn *i)
{
    struct far_branch b = far_operand(c, i, true);
    far_branch(c, &b);
}

/* -- Far RET and IRET ---------------------------------------------------------------------- */

/* What a far return found on the stack, checked. */
struct far_return {
    unsigned size; /* of a stack slot */
    u64 rip;
    struct x86_descriptor cs;
    unsigned cpl;      /* after it */
    u64 above;         /* bytes taken from the old stack */
    bool switch_stack; /* SS:SP below come from the stack too */
    struct x86_seg ss;
    u64 sp;
};

static void check_return_code(struct x86_cpu *c, struct far_return *r, u16 sel)
{
    if (selector_is_null(sel))
        x86_raise_error(c, VEC_GP, 0);
    x86_descriptor_read(c, sel, VEC_GP, 0, &r->cs);
    unsigned rpl = selector_rpl(sel), dpl = descriptor_dpl(r->cs.low);
    bool level = descriptor_is_conforming(r->cs.low) ? dpl <= rpl : dpl == rpl;
    if (rpl < c->cpl || !descriptor_is_code(r->cs.low) || !level || has_bad_size(c, r->cs.low))
        x86_raise_error(c, VEC_GP, selector_error(sel, 0));
    if (!descriptor_present(r->cs.low))
        x86_raise_error(c, VEC_NP, selector_error(sel, 0));
    r->cpl = rpl;
}

static void check_return_stack(struct x86_cpu *c, struct far_return *r, u16 sel)
{
    if (!selector_is_null(sel)) {
        r->ss = x86_seg_read_stack(c, sel, r->cpl, VEC_GP, 0);
        return;
    }
    if (!is_64bit_code(c, r->cs.low) || r->cpl == 3 || selector_rpl(sel) != r->cpl)
        x86_raise_error(c, VEC_GP, 0);
    r->ss = x86_seg_null(sel, r->cpl);
}

static void commit_return(struct x86_cpu *c, const struct far_return *r, u64 release)
{
    bool outer = r->cpl > c->cpl;
    u64 sp = r->switch_stack ? r->sp : x86_sp(c) + r->above;
    if (r->switch_stack)
        c->seg[SEG_SS] = r->ss;
    commit_code(c, &r->cs, r->cpl, r->rip);
    if (outer)
        x86_seg_drop_inner(c, r->cpl);
    x86_derive(c);
    x86_set_sp(c, sp + release);
}

static void ret_8086(struct x86_cpu *c, unsigned size, u64 release)
{
    u64 rip = x86_peek(c, size, 0);
    u16 sel = (u16)x86_peek(c, size, size);
    check_target_8086(c, rip);
    x86_set_sp(c, x86_sp(c) + 2 * size + release);
    commit_code_8086(c, sel, rip);
}

void exec_ret_far(struct x86_cpu *c, struct x86_insn *i)
{
    u64 release = (u16)i->imm;
    struct far_return r = {.size = i->opsize};
    if (is_8086(c)) {
        ret_8086(c, r.size, release);
        return;
    }
    r.rip = x86_peek(c, r.size, 0);
    check_return_code(c, &r, (u16)x86_peek(c, r.size, r.size));
    r.above = 2 * r.size + (r.cpl > c->cpl ? 0 : release);
    if (r.cpl > c->cpl) {
        unsigned at = (unsigned)(2 * r.size + release);
        r.switch_stack = true;
        r.sp = x86_peek(c, r.size, at);
        check_return_stack(c, &r, (u16)x86_peek(c, r.size, at + r.size));
    }
    check_target(c, r.cs.low, r.rip);
    x86_descriptor_touch(c, &r.cs);
    commit_return(c, &r, r.switch_stack ? release : 0);
}

/* -- IRET ---------------------------------------------------------------------------------- */

#define IRET_FLAGS (FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT)
#define IRET_WIDE  (FLAG_RF | FLAG_AC | FLAG_ID)

/* After IRET the next NMI may come, and the loop must look at what the new flags allow. */
static void iret_done(struct x86_cpu *c)
{
    c->nmi_blocked = false;
    x86_attend(c);
}

static void iret_real(struct x86_cpu *c, unsigned size)
{
    u64 rip = x86_peek(c, size, 0);
    u16 sel = (u16)x86_peek(c, size, size);
    u64 flags = x86_peek(c, size, 2 * size);
    check_target_8086(c, rip);
    x86_set_sp(c, x86_sp(c) + 3 * size);
    commit_code_8086(c, sel, rip);
    x86_write_flags(c, flags, IRET_FLAGS | FLAG_IF | FLAG_IOPL | (size > 2 ? IRET_WIDE : 0));
}

/* In virtual-8086 mode with IOPL < 3 only the extensions allow it, on the virtual IF. */
static void iret_v86(struct x86_cpu *c, unsigned size)
{
    bool virtual_if = x86_iopl(c) < 3;
    if (virtual_if && (!(c->cr4 & CR4_VME) || size != 2))
        x86_raise_error(c, VEC_GP, 0);
    u64 rip = x86_peek(c, size, 0);
    u16 sel = (u16)x86_peek(c, size, size);
    u64 flags = x86_peek(c, size, 2 * size);
    u64 mask = IRET_FLAGS | FLAG_IF | (size > 2 ? IRET_WIDE : 0);
    check_target_8086(c, rip);
    if (virtual_if) {
        if ((flags & FLAG_TF) || ((flags & FLAG_IF) && (c->rflags & FLAG_VIP)))
            x86_raise_error(c, VEC_GP, 0);
        mask = (mask & ~FLAG_IF) | FLAG_VIF;
        flags = (flags & ~FLAG_VIF) | (flags & FLAG_IF ? FLAG_VIF : 0);
    }
    x86_set_sp(c, x86_sp(c) + 3 * size);
    commit_code_8086(c, sel, rip);
    x86_write_flags(c, flags, mask);
}

/* From protected mode at CPL 0 to the virtual-8086 task whose frame lies above EFLAGS. */
static void iret_to_v86(struct x86_cpu *c, u64 flags)
{
    static const u8 order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u64 rip = x86_peek(c, 4, 0), sp = x86_peek(c, 4, 12);
    u16 cs = (u16)x86_peek(c, 4, 4), sel[ARRAY_LEN(order)];
    for (unsigned n = 0; n < ARRAY_LEN(order); n++)
        sel[n] = (u16)x86_peek(c, 4, 16 + 4 * n);
    if (rip > 0xffff)
        x86_raise_error(c, VEC_GP, 0);
    for (unsigned n = 0; n < ARRAY_LEN(order); n++)
        c->seg[order[n]] = x86_seg_v86(sel[n]);
    c->seg[SEG_CS] = x86_seg_v86(cs);
    c->rip = rip;
    c->gpr[RSP] = sp;
    x86_write_flags(
        c, flags, IRET_FLAGS | IRET_WIDE | FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP);
    x86_derive(c);
}

/* Which flags a return from `cpl` may change. */
static u64 iret_mask(const struct x86_cpu *c, unsigned size)
{
    u64 mask = IRET_FLAGS;
    if (size > 2)
        mask |= IRET_WIDE;
    if (c->cpl <= x86_iopl(c))
        mask |= FLAG_IF;
    if (c->cpl == 0)
        mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
    return mask;
}

static void iret_protected(struct x86_cpu *c, unsigned size)
{
    struct far_return r = {.size = size};
    r.rip = x86_peek(c, size, 0);
    u16 sel = (u16)x86_peek(c, size, size);
    u64 flags = x86_peek(c, size, 2 * size);
    if ((flags & FLAG_VM) && size == 4 && c->cpl == 0 && !x86_long_mode(c)) {
        iret_to_v86(c, flags);
        return;
    }
    check_return_code(c, &r, sel);
    r.switch_stack = r.cpl > c->cpl || x86_64bit(c);
    r.above = 3 * size;
    if (r.switch_stack) {
        r.sp = x86_peek(c, size, 3 * size);
        check_return_stack(c, &r, (u16)x86_peek(c, size, 4 * size));
    }
    check_target(c, r.cs.low, r.rip);
    x86_descriptor_touch(c, &r.cs);
    u64 mask = iret_mask(c, size);
    commit_return(c, &r, 0);
    x86_write_flags(c, flags, mask);
}

static void iret(struct x86_cpu *c, unsigned size)
{
    if (x86_real(c)) {
        iret_real(c, size);
    } else if (x86_v86(c)) {
        iret_v86(c, size);
    } else if (c->rflags & FLAG_NT) {
        if (x86_long_mode(c))
            x86_raise_error(c, VEC_GP, 0);
        x86_task_return(c);
    } else {
        iret_protected(c, size);
    }
    iret_done(c);
}

void exec_iret(struct x86_cpu *c, struct x86_insn *i)
{
    iret(c, 2);
}

void exec_iretd(struct x86_cpu *c, struct x86_insn *i)
{
    iret(c, 4);
}

void exec_iretq(struct x86_cpu *c, struct x86_insn *i)
{
    iret(c, 8);
}
