/*
 * The frequent changes of mode between 32- or 64-bit kernels and their programs, as quick
 * callouts (see quick.c): all segments flat, no task switch, no flag that the guest would have
 * to run on the simulator for. All else is left to that before anything was changed.
 */
#include "engine/bt/bt.h"

#include "base/ensure.h"
#include "x86/insn.h"
#include "x86/mem.h"
#include "x86/segment.h"

/* -- IRETQ --------------------------------------------------------------------------------- */

/* The frame of 64-bit mode, in its order in memory. */
struct frame {
    u64 rip, cs, flags, rsp, ss;
};

/* Flags that may be set in the frame; RF may too, but is dropped: it would hold back a
 * breakpoint where there is none (is_rare). */
#define PLAIN_FLAGS (FLAGS_STATUS | FLAG_FIXED | FLAG_IF | FLAG_IOPL | FLAG_ID | FLAG_RF)
#define ALL_FLAGS   (PLAIN_FLAGS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_VIF | FLAG_VIP)

static bool plain_flags(u64 flags, unsigned cpl)
{
    return !(flags & ALL_FLAGS & ~PLAIN_FLAGS & ~(cpl ? 0 : FLAG_AC));
}

/* Plain 64-bit code of level `cpl`, present and accessed. */
static bool plain_code(u64 low, unsigned cpl)
{
    const u32 set = SEG_S | SEG_P | SEG_CODE | SEG_L | SEG_ACCESSED;
    return (descriptor_attr(low) & (set | SEG_CONFORM | SEG_DB)) == set &&
           descriptor_dpl(low) == cpl;
}

static bool plain_stack(u64 low, unsigned cpl)
{
    const u32 set = SEG_P | SEG_ACCESSED;
    return descriptor_is_writable_data(low) && (descriptor_attr(low) & set) == set &&
           descriptor_dpl(low) == cpl;
}

/* Would a return to CPL 3 take a segment register away, or a null selector's RPL? */
static bool drops_segments(const struct x86_cpu *c)
{
    bool drops = false;
    for (unsigned seg = SEG_ES; seg <= SEG_GS; seg++) {
        const struct x86_seg *s = &c->seg[seg];
        if (seg != SEG_CS && seg != SEG_SS)
            drops |= s->attr & SEG_NULL ? s->sel != 0 : SEG_DPL(s->attr) < 3;
    }
    return drops;
}

/* The same for 32-bit code and stacks, which reach all 4 GiB. */
static bool flat(u64 low)
{
    return descriptor_base(low) == 0 && descriptor_limit(low) == UINT32_MAX;
}

static bool plain_code32(u64 low, unsigned cpl)
{
    const u32 set = SEG_S | SEG_P | SEG_CODE | SEG_DB | SEG_ACCESSED;
    return (descriptor_attr(low) & (set | SEG_CONFORM | SEG_L)) == set &&
           descriptor_dpl(low) == cpl && flat(low);
}

static bool plain_stack32(u64 low, unsigned cpl)
{
    const u32 shape = SEG_DB | SEG_DOWN;
    return plain_stack(low, cpl) && (descriptor_attr(low) & shape) == SEG_DB && flat(low);
}

/* Where what runs next has its mode from the state, which C code has changed. */
static const void *enter(struct bt *bt, const struct site *site, u64 rip)
{
    const struct x86_cpu *c = bt_cpu(bt);
    u32 mode = bt_mode(c);
    ensure(mode != MODE_NONE && c->seg[SEG_CS].base == 0);
    quick_done(bt, site);
    indirect_enter_mode(bt, mode);
    bt->hot->address = rip;
    return bt->hot->indirect[MODE_TABLE(mode)][rip & (INDIRECT_SLOTS - 1)];
}

static u8 kernel_set(const struct x86_cpu *c)
{
    return (c->cr4 & CR4_SMAP) && !(c->rflags & FLAG_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
}

/* -- IRET ---------------------------------------------------------------------------------- */

/* Would the frame, and what its selectors name, need more than is done here? */
static bool is_rare(const struct bt *bt, const struct frame *f)
{
    const struct x86_cpu *c = &bt->vcpu->cpu;
    unsigned cpl = selector_rpl((u16)f->cs);
    return !plain_flags(f->flags, cpl) || breakpoint_is_set(bt, f->rip) ||
           (cpl && (cpl != 3 || bt->hot->returns || drops_segments(c)));
}

/* CS and flags of the frame; CPL and what follows from it. */
static void commit_frame(struct bt *bt, const struct frame *f, u64 cs)
{
    struct x86_cpu *c = bt_cpu(bt);
    c->seg[SEG_CS] = x86_seg_from((u16)f->cs, cs);
    c->cpl = (u8)selector_rpl((u16)f->cs);
    c->rflags = (f->flags & ALL_FLAGS & ~FLAG_RF) | FLAG_FIXED;
    c->tlb_index = c->cpl ? TLB_USER : kernel_set(c);
    c->nmi_blocked = false;
    bt_flags_give(bt);
}

const void *quick_iretq(struct bt *bt, u64 number)
{
    struct x86_cpu *c = bt_cpu(bt);
    const struct site *site = &bt->sites[number];
    u64 cs, ss = 0;
    const struct frame *at = x86_tlb_read(c, gva(c->gpr[RSP]), sizeof(*at));
    if (!at || bt_attention(bt) || (c->rflags & FLAG_NT))
        return NULL;
    struct frame f = *at;
    unsigned cpl = selector_rpl((u16)f.cs);
    bool null = !cpl && selector_is_null((u16)f.ss); /* Linux's, until it was in user code */
    if (cpl != selector_rpl((u16)f.ss) || !bt_canonical(f.rip) || is_rare(bt, &f) ||
        !quick_descriptor(bt, (u16)f.cs, &cs) ||
        (!null && !quick_descriptor(bt, (u16)f.ss, &ss)))
        return NULL;
    bool compat = cpl && plain_code32(cs, cpl);
    if (compat ? !plain_stack32(ss, cpl) || f.rip >> 32
               : !plain_code(cs, cpl) || !(null || plain_stack(ss, cpl)))
        return NULL;
    commit_frame(bt, &f, cs);
    c->seg[SEG_SS] = null ? x86_seg_null((u16)f.ss, 0) : x86_seg_from((u16)f.ss, ss);
    if (compat) {
        x86_derive(c);
        c->gpr[RSP] = (u32)f.rsp;
        return enter(bt, site, f.rip);
    }
    c->gpr[RSP] = f.rsp;
    quick_done(bt, site);
    bt->hot->address = f.rip;
    return bt->hot->indirect[c->tlb_index][f.rip & (INDIRECT_SLOTS - 1)];
}

/* Legacy protected mode: SS and ESP are in the frame only where it goes to CPL 3. */
const void *quick_iretd(struct bt *bt, u64 number)
{
    struct x86_cpu *c = bt_cpu(bt);
    const struct site *site = &bt->sites[number];
    const u32 sp = (u32)c->gpr[RSP];
    u64 cs, ss = 0;
    const u32 *at = x86_tlb_read(c, gva(sp), 5 * sizeof(u32));
    if (!at || bt_attention(bt) || (c->rflags & FLAG_NT) || x86_long_mode(c) || c->cpl ||
        c->reach[SEG_SS].flat != (FLAT_READ | FLAT_WRITE))
        return NULL;
    struct frame f = {at[0], (u16)at[1], at[2], at[3], (u16)at[4]};
    unsigned cpl = selector_rpl((u16)f.cs);
    if ((f.flags & FLAG_VM) || is_rare(bt, &f) || !quick_descriptor(bt, (u16)f.cs, &cs) ||
        !plain_code32(cs, cpl))
        return NULL;
    if (cpl && (selector_rpl((u16)f.ss) != cpl || !quick_descriptor(bt, (u16)f.ss, &ss) ||
                !plain_stack32(ss, cpl)))
        return NULL;
    commit_frame(bt, &f, cs);
    if (cpl)
        c->seg[SEG_SS] = x86_seg_from((u16)f.ss, ss);
    c->gpr[RSP] = cpl ? f.rsp : (u32)(sp + 3 * sizeof(u32));
    x86_derive_segment(c, SEG_CS);
    x86_derive_segment(c, SEG_SS);
    return enter(bt, site, f.rip);
}

/* -- INT n --------------------------------------------------------------------------------- */

/* From 32-bit programs to a kernel of either size. */
struct way_in {
    struct x86_gate gate;
    u64 cs;
    struct x86_seg ss;
    u64 sp;
};

static bool find_gate(struct bt *bt, unsigned vector, struct way_in *in)
{
    const struct x86_cpu *c = bt_cpu(bt);
    bool wide = x86_long_mode(c);
    unsigned size = wide ? 16 : 8;
    u64 la = c->idtr.base + vector * size;
    if ((vector + 1) * size - 1 > c->idtr.limit)
        return false;
    const u64 *at = quick_system(bt, wide ? la : (u32)la, size, ACCESS_READ);
    if (!at)
        return false;
    struct x86_gate g = in->gate = x86_gate_from(at[0], wide ? at[1] : 0);
    return !descriptor_is_segment(at[0]) && (g.type == DESC_INT || g.type == DESC_TRAP) &&
           g.present && g.dpl >= c->cpl && !(wide && g.ist) && selector_rpl(g.sel) == 0 &&
           quick_descriptor(bt, g.sel, &in->cs) &&
           (wide ? plain_code(in->cs, 0) && bt_canonical(g.offset) : plain_code32(in->cs, 0));
}

static bool find_stack(struct bt *bt, struct way_in *in)
{
    const struct x86_cpu *c = bt_cpu(bt);
    const struct x86_seg *tr = &c->seg[SEG_TR];
    u64 ss;
    const void *at = quick_system(bt, tr->base + 4, 8, ACCESS_READ);
    if (!at || tr->limit < 11 || (tr->attr & SEG_TYPE) != DESC_TSS_BUSY)
        return false;
    u64 image = host_load(at, 8);
    if (x86_long_mode(c)) {
        in->sp = image & ~15ull;
        in->ss = x86_seg_null(0, 0);
        return bt_canonical(in->sp) && bt_canonical(in->sp - 64);
    }
    u16 sel = (u16)(image >> 32);
    in->sp = (u32)image;
    if (selector_rpl(sel) || !quick_descriptor(bt, sel, &ss) || !plain_stack32(ss, 0))
        return false;
    in->ss = x86_seg_from(sel, ss);
    return true;
}

/* The old state below `sp`; *sp is where it begins. */
static bool push_state(struct bt *bt, u64 rip, u64 *sp)
{
    const struct x86_cpu *c = bt_cpu(bt);
    const u64 values[] = {rip, c->seg[SEG_CS].sel, c->rflags, c->gpr[RSP], c->seg[SEG_SS].sel};
    unsigned item = x86_long_mode(c) ? 8 : 4, size = item * (unsigned)ARRAY_LEN(values);
    u64 la = *sp - size;
    u8 *to = *sp < size ? NULL : quick_system(bt, la, size, ACCESS_WRITE);
    if (!to)
        return false;
    for (unsigned n = 0; n < ARRAY_LEN(values); n++)
        host_store(to + n * item, item, values[n]);
    *sp = la;
    return true;
}

const void *quick_int(struct bt *bt, u64 number)
{
    struct x86_cpu *c = bt_cpu(bt);
    const struct site *site = &bt->sites[number];
    struct way_in in;
    if (!site->decoded || c->cpl != 3 ||
        !find_gate(bt, (u8)bt->decoded[site->decoded].imm, &in) || !find_stack(bt, &in))
        return NULL;
    bt_flags_take(bt);
    if (!push_state(bt, (u32)(site->rip + site->length), &in.sp))
        return NULL;
    c->seg[SEG_CS] = x86_seg_from(in.gate.sel, in.cs);
    c->seg[SEG_SS] = in.ss;
    c->gpr[RSP] = in.sp;
    u64 clear = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM;
    c->rflags &= ~(clear | (in.gate.type == DESC_INT ? FLAG_IF : 0));
    x86_derive(c);
    bt->hot->calls++;
    return enter(bt, site, in.gate.offset);
}

/* -- SYSENTER, SYSEXIT, and SYSCALL and SYSRET of 32-bit programs -------------------------- */

/* Would the simulator's semantics neither fault nor leave a mode that translations lack? */
static bool can_call(const struct bt *bt, const struct site *site)
{
    const struct x86_cpu *c = &bt->vcpu->cpu;
    bool away = c->model->amd && x86_long_mode(c);
    switch (site->mnemonic) {
    case ZYDIS_MNEMONIC_SYSENTER:
        return !away && !selector_is_null((u16)c->sysenter_cs);
    case ZYDIS_MNEMONIC_SYSEXIT:
        return !away && !selector_is_null((u16)c->sysenter_cs) && !c->cpl &&
               plain_flags(c->rflags, 3);
    case ZYDIS_MNEMONIC_SYSCALL:
        return c->model->amd && (c->efer & EFER_SCE);
    default:
        return (c->efer & EFER_SCE) && !c->cpl && x86_long_mode(c) &&
               plain_flags(c->gpr[R11], 3);
    }
}

const void *quick_syscall(struct bt *bt, u64 number)
{
    struct x86_cpu *c = bt_cpu(bt);
    const struct site *site = &bt->sites[number];
    bool returns =
        site->mnemonic == ZYDIS_MNEMONIC_SYSEXIT || site->mnemonic == ZYDIS_MNEMONIC_SYSRET;
    if (!site->decoded || bt_attention(bt) || (returns && bt->hot->returns) ||
        !can_call(bt, site))
        return NULL;
    bt_flags_take(bt);
    c->rip = site->rip;
    x86_execute(c, &bt->decoded[site->decoded]);
    bt_flags_give(bt);
    /* It may have asked for a look at IF, but nothing waits for that. */
    atomic_fetch_and_explicit(&c->attention, ~(u32)ATTN_STATE, memory_order_relaxed);
    bt->hot->calls += !returns;
    return enter(bt, site, c->rip);
}
