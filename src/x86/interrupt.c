/*
 * Delivery of events, see interrupt.h. An event is first checked, its frame written, and only
 * then any register changed, so that a fault on the way leaves the interrupted state whole.
 */
#include "x86/interrupt.h"

#include "base/log.h"
#include "x86/insn.h"
#include "x86/stack.h"
#include "x86/task.h"

enum event_kind {
    EVENT_EXCEPTION,
    EVENT_EXTERNAL, /* interrupts, NMI */
    EVENT_SOFTWARE, /* INT n, INT3, INTO: gate DPL counts, EXT is 0 */
};

struct event {
    enum event_kind kind;
    u8 vector;
    bool has_error;
    u32 error;
    u64 rip, flags; /* what is pushed */
};

static u32 event_ext(const struct event *e)
{
    return e->kind != EVENT_SOFTWARE;
}

/* -- Real mode, and virtual-8086 mode with redirection ------------------------------------- */

static void deliver_ivt(struct x86_cpu *c, const struct event *e, u64 base, u64 clear)
{
    u64 vector = x86_load_system(c, gva(base + 4 * e->vector), 4);
    struct x86_frame f;
    x86_frame_here(c, &f, 2, 0);
    x86_frame_push(&f, e->flags);
    x86_frame_push(&f, c->seg[SEG_CS].sel);
    x86_frame_push(&f, e->rip);
    x86_frame_write(c, &f);
    x86_frame_commit(c, &f);
    u16 cs = (u16)(vector >> 16);
    if (x86_v86(c))
        c->seg[SEG_CS] = x86_seg_v86(cs);
    else
        x86_seg_load_real(c, SEG_CS, cs);
    c->rip = (u16)vector;
    x86_write_flags(c, 0, clear);
    x86_derive(c);
}

static void deliver_real(struct x86_cpu *c, const struct event *e)
{
    if (4u * e->vector + 3 > c->idtr.limit)
        x86_raise_error(c, VEC_GP, 8u * e->vector + 2);
    deliver_ivt(c, e, c->idtr.base, FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* -- Protected and long mode --------------------------------------------------------------- */

/* IDT errors name the gate: index, IDT bit, EXT. */
static u32 gate_error(const struct event *e)
{
    return 8u * e->vector | 2 | event_ext(e);
}

static bool gate_is_valid(const struct x86_cpu *c, unsigned type)
{
    if (type == DESC_INT || type == DESC_TRAP)
        return true;
    return !x86_long_mode(c) &&
           (type == DESC_INT16 || type == DESC_TRAP16 || type == DESC_TASK_GATE);
}

static struct x86_gate read_gate(struct x86_cpu *c, const struct event *e)
{
    unsigned size = x86_long_mode(c) ? 16 : 8;
    u32 offset = e->vector * size;
    if (offset + size - 1 > c->idtr.limit)
        x86_raise_error(c, VEC_GP, gate_error(e));
    u64 la = c->idtr.base + offset;
    u64 low = x86_load_system(c, gva(size == 16 ? la : (u32)la), 8);
    u64 high = size == 16 ? x86_load_system(c, gva(la + 8), 8) : 0;
    struct x86_gate g = x86_gate_from(low, high);
    if (descriptor_is_segment(low) || !gate_is_valid(c, g.type) ||
        (e->kind == EVENT_SOFTWARE && g.dpl < c->cpl))
        x86_raise_error(c, VEC_GP, gate_error(e));
    if (!g.present)
        x86_raise_error(c, VEC_NP, gate_error(e));
    return g;
}

/* The handler's code segment; returns its CPL. */
static unsigned read_handler(struct x86_cpu *c, const struct event *e, const struct x86_gate *g,
                             struct x86_descriptor *cs)
{
    u32 ext = event_ext(e);
    if (selector_is_null(g->sel))
        x86_raise_error(c, VEC_GP, ext);
    x86_descriptor_read(c, g->sel, VEC_GP, ext, cs);
    unsigned dpl = descriptor_dpl(cs->low);
    bool conforming = descriptor_is_conforming(cs->low);
    bool bad = !descriptor_is_code(cs->low) || dpl > c->cpl;
    if (x86_long_mode(c))
        bad |= (descriptor_attr(cs->low) & (SEG_L | SEG_DB)) != SEG_L;
    else if (x86_v86(c))
        bad |= conforming || dpl != 0;
    if (bad)
        x86_raise_error(c, VEC_GP, selector_error(g->sel, ext));
    if (!descriptor_present(cs->low))
        x86_raise_error(c, VEC_NP, selector_error(g->sel, ext));
    return conforming ? c->cpl : dpl;
}

static void choose_stack(struct x86_cpu *c, struct x86_frame *f, const struct x86_gate *g,
                         unsigned cpl, u32 ext)
{
    unsigned item = g->type & 8 ? 4 : 2;
    if (x86_long_mode(c)) {
        if (cpl != c->cpl || g->ist) {
            x86_frame_inner(c, f, cpl, g->ist, 8, ext);
        } else {
            x86_frame_here(c, f, 8, ext);
            f->width = 8; /* the handler is 64-bit code, whatever it interrupts */
            f->sp = c->gpr[RSP];
        }
        f->sp &= ~15ull;
    } else if (cpl != c->cpl) {
        x86_frame_inner(c, f, cpl, 0, item, ext);
    } else {
        x86_frame_here(c, f, item, ext);
    }
}

static void push_event(struct x86_cpu *c, struct x86_frame *f, const struct event *e,
                       bool switched)
{
    if (x86_v86(c)) {
        static const u8 segs[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
        for (unsigned n = 0; n < ARRAY_LEN(segs); n++)
            x86_frame_push(f, c->seg[segs[n]].sel);
    }
    if (switched || x86_long_mode(c)) {
        x86_frame_push(f, c->seg[SEG_SS].sel);
        x86_frame_push(f, c->gpr[RSP]);
    }
    x86_frame_push(f, e->flags);
    x86_frame_push(f, c->seg[SEG_CS].sel);
    x86_frame_push(f, e->rip);
    if (e->has_error)
        x86_frame_push(f, e->error);
}

static void check_offset(struct x86_cpu *c, const struct x86_gate *g, u64 cs, u32 ext)
{
    bool good = x86_long_mode(c) ? x86_canonical(g->offset) : g->offset <= descriptor_limit(cs);
    if (!good)
        x86_raise_error(c, VEC_GP, ext);
}

static void deliver_gate(struct x86_cpu *c, const struct event *e, const struct x86_gate *g)
{
    struct x86_descriptor cs;
    struct x86_frame f;
    unsigned cpl = read_handler(c, e, g, &cs);
    bool switched = cpl != c->cpl;
    choose_stack(c, &f, g, cpl, event_ext(e));
    push_event(c, &f, e, switched);
    check_offset(c, g, cs.low, event_ext(e));
    x86_descriptor_touch(c, &cs);
    x86_frame_write(c, &f);

    if (x86_v86(c)) {
        static const u8 segs[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
        for (unsigned n = 0; n < ARRAY_LEN(segs); n++)
            c->seg[segs[n]] = x86_seg_null(0, 0);
    }
    c->seg[SEG_SS] = f.ss;
    x86_frame_commit(c, &f);
    c->seg[SEG_CS] = x86_seg_from((u16)((g->sel & ~3) | cpl), cs.low);
    c->rip = g->offset;
    u64 clear = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM;
    if (g->type == DESC_INT || g->type == DESC_INT16)
        clear |= FLAG_IF;
    x86_write_flags(c, 0, clear);
    x86_derive(c);
}

static void deliver_protected(struct x86_cpu *c, const struct event *e)
{
    struct x86_gate g = read_gate(c, e);
    if (g.type == DESC_TASK_GATE) {
        struct x86_task_switch how = {.source = TASK_EVENT,
                                      .ext = event_ext(e),
                                      .rip = e->rip,
                                      .flags = e->flags,
                                      .has_error = e->has_error,
                                      .error = e->error};
        x86_task_enter(c, g.sel, &how);
    } else {
        deliver_gate(c, e, &g);
    }
}

/* Unwinds at a fault, with c->rip = c->insn_rip. */
static void deliver_event(struct x86_cpu *c, const struct event *e)
{
    if (x86_real(c))
        deliver_real(c, e);
    else
        deliver_protected(c, e);
}

/* -- Events that meet faults (SDM vol. 3, table 6-5) --------------------------------------- */

static bool is_contributory(u8 vector)
{
    return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

enum merged { MERGE_SERIAL, MERGE_DOUBLE, MERGE_SHUTDOWN };

static enum merged merge(const struct event *first, u8 second)
{
    bool bad = is_contributory(second) || second == VEC_PF;
    if (first->kind != EVENT_EXCEPTION || !bad)
        return MERGE_SERIAL;
    if (first->vector == VEC_DF)
        return MERGE_SHUTDOWN;
    if (first->vector == VEC_PF || (is_contributory(first->vector) && second != VEC_PF))
        return MERGE_DOUBLE;
    return MERGE_SERIAL;
}

/* The event that c->fault stands for, at c->rip. */
static struct event fault_event(struct x86_cpu *c)
{
    struct event e = {.kind = EVENT_EXCEPTION,
                      .vector = c->fault.vector,
                      .has_error = c->fault.has_error && x86_protected(c),
                      .error = c->fault.error,
                      .rip = c->rip,
                      .flags = c->rflags | FLAG_RF};
    if (e.vector == VEC_PF)
        c->cr2 = c->fault.cr2;
    if (e.vector == VEC_DB)
        c->dr7 &= ~DR7_GD;
    return e;
}

static bool try_deliver(struct x86_cpu *c, const struct event *e)
{
    jmp_buf here;
    jmp_buf *outer = c->unwind;
    c->unwind = &here;
    c->insn_rip = e->rip;
    if (setjmp(here)) {
        c->unwind = outer;
        return false;
    }
    deliver_event(c, e);
    c->unwind = outer;
    return true;
}

static void deliver(struct x86_cpu *c, struct event e)
{
    c->activity = CPU_RUNNING;
    c->sti_shadow = c->ss_shadow = c->no_step = false;
    for (;;) {
        if (c->log)
            log_to(c->log, LOG_INT, "event %02x error %x at %04x:%016llx cpl %u", e.vector,
                   e.error, c->seg[SEG_CS].sel, (unsigned long long)e.rip, c->cpl);
        if (try_deliver(c, &e))
            return;
        enum merged how = merge(&e, c->fault.vector);
        e = fault_event(c);
        if (how == MERGE_SHUTDOWN) {
            c->activity = CPU_SHUTDOWN;
            x86_attend(c);
            return;
        }
        if (how == MERGE_DOUBLE) {
            e.vector = VEC_DF;
            e.has_error = x86_protected(c);
            e.error = 0;
            e.flags = c->rflags;
        }
    }
}

void x86_deliver_fault(struct x86_cpu *c)
{
    c->pending_db = 0;
    if (c->fault.vector == X86_FAULT_RETRY)
        return;
    deliver(c, fault_event(c));
}

void x86_deliver_debug(struct x86_cpu *c)
{
    /* B0..B3 tell only of this trap; the others are sticky (SDM vol. 3, 17.2.3). */
    c->dr6 = (c->dr6 & ~0xfull) | c->pending_db;
    c->pending_db = 0;
    c->dr7 &= ~DR7_GD;
    deliver(c,
            (struct event){
                .kind = EVENT_EXCEPTION, .vector = VEC_DB, .rip = c->rip, .flags = c->rflags});
}

void x86_deliver_interrupt(struct x86_cpu *c, u8 vector)
{
    deliver(c,
            (struct event){
                .kind = EVENT_EXTERNAL, .vector = vector, .rip = c->rip, .flags = c->rflags});
}

void x86_deliver_nmi(struct x86_cpu *c)
{
    c->nmi_blocked = true;
    x86_deliver_interrupt(c, VEC_NMI);
}

/* -- INT n, INT3, INTO, INT1 --------------------------------------------------------------- */

static void software_interrupt(struct x86_cpu *c, u8 vector)
{
    struct event e = {
        .kind = EVENT_SOFTWARE, .vector = vector, .rip = c->rip, .flags = c->rflags};
    deliver_event(c, &e);
    c->no_step = true;
}

/*
 * Virtual-8086 mode extensions: the bit of INT n in the redirection bitmap, the 32 bytes below
 * the I/O permission bitmap; clear means that the 8086 program's own handler is meant (SDM
 * vol. 3, 20.3.3).
 */
static bool is_redirected(struct x86_cpu *c, u8 vector)
{
    const struct x86_seg *tr = &c->seg[SEG_TR];
    if (!(c->cr4 & CR4_VME))
        return false;
    if (!(tr->attr & 8) || tr->limit < 0x67)
        x86_raise_error(c, VEC_GP, 0);
    u64 at = x86_load_system(c, gva((u32)(tr->base + 0x66)), 2) - 32 + vector / 8;
    if (at > tr->limit)
        x86_raise_error(c, VEC_GP, 0);
    u64 map = x86_load_system(c, gva((u32)(tr->base + at)), 1);
    return !(map >> (vector % 8) & 1);
}

static void redirect(struct x86_cpu *c, u8 vector)
{
    struct event e = {
        .kind = EVENT_SOFTWARE, .vector = vector, .rip = c->rip, .flags = c->rflags};
    u64 clear = FLAG_TF | FLAG_RF | FLAG_IF;
    if (x86_iopl(c) < 3) {
        e.flags = (e.flags & ~FLAG_IF) | FLAG_IOPL | (e.flags & FLAG_VIF ? FLAG_IF : 0);
        clear = FLAG_TF | FLAG_RF | FLAG_VIF;
    }
    deliver_ivt(c, &e, 0, clear);
    c->no_step = true;
}

void exec_int(struct x86_cpu *c, struct x86_insn *i)
{
    u8 vector = (u8)i->imm;
    if (x86_v86(c) && is_redirected(c, vector))
        redirect(c, vector);
    else if (x86_v86(c) && x86_iopl(c) < 3)
        x86_raise_error(c, VEC_GP, 0);
    else
        software_interrupt(c, vector);
}

void exec_int3(struct x86_cpu *c, struct x86_insn *i)
{
    software_interrupt(c, VEC_BP);
}

void exec_into(struct x86_cpu *c, struct x86_insn *i)
{
    if (c->rflags & FLAG_OF)
        software_interrupt(c, VEC_OF);
}

/*
 * A #DB trap that leaves DR6 alone and asks no gate for its DPL. A data breakpoint that MOV SS
 * held back is told with it: a second #DB at the handler's first instruction would overwrite
 * the frame of the first where the handler has a stack of the IST, and never end.
 */
void exec_int1(struct x86_cpu *c, struct x86_insn *i)
{
    struct event e = {
        .kind = EVENT_EXCEPTION, .vector = VEC_DB, .rip = c->rip, .flags = c->rflags};
    deliver_event(c, &e);
    if (c->pending_db)
        c->dr6 = (c->dr6 & ~0xfull) | c->pending_db;
    c->pending_db = 0;
    c->dr7 &= ~DR7_GD;
    c->no_step = true;
}
