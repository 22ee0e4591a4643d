/*
 * Instructions on segment registers, descriptors and descriptor-table registers.
 */
#include "x86/model.h"
#include "x86/operand.h"
#include "x86/privilege.h"
#include "x86/segment.h"

/* Those that mean nothing without protected-mode segmentation. */
static void need_protected(struct x86_cpu *c)
{
    if (x86_real(c) || x86_v86(c))
        x86_raise(c, VEC_UD);
}

/* -- MOV, PUSH, POP, LxS ------------------------------------------------------------------- */

/* After a load of SS one instruction runs undisturbed: the one that loads SP (SDM vol. 3,
 * 6.8.3). */
static void shadow_after_ss(struct x86_cpu *c, unsigned seg)
{
    if (seg != SEG_SS)
        return;
    c->ss_shadow = true;
    x86_attend(c);
}

void exec_mov_to_seg(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned seg = i->opd[0].reg;
    if (seg == SEG_CS)
        x86_raise(c, VEC_UD);
    x86_seg_load(c, seg, (u16)operand_get(c, i, &i->opd[1], 2));
    shadow_after_ss(c, seg);
}

void exec_mov_from_seg(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned size = i->opd[0].kind == OPD_MEM ? 2 : i->opsize;
    operand_set(c, i, &i->opd[0], size, c->seg[i->opd[1].reg].sel);
}

void exec_push_seg(struct x86_cpu *c, struct x86_insn *i)
{
    u16 sel = c->seg[i->opd[0].reg].sel;
    if (i->opsize != 4 || !x86_quirk(c->model, QUIRK_PUSH_SEG_16)) {
        x86_push(c, i->opsize, sel);
        return;
    }
    u64 sp = (x86_sp(c) - 4) & bits_low(8 * c->stack_size);
    x86_store(c, SEG_SS, sp, 2, sel);
    x86_set_sp(c, sp);
}

void exec_pop_seg(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned seg = i->opd[0].reg, width = c->stack_size;
    u16 sel = (u16)x86_peek(c, i->opsize, 0);
    u64 sp = x86_sp(c) + i->opsize;
    x86_seg_load(c, seg, sel);
    x86_gpr_write(c, RSP, width, sp);
    shadow_after_ss(c, seg);
}

static void load_far_pointer(struct x86_cpu *c, struct x86_insn *i, enum x86_seg_reg seg)
{
    if (i->opd[1].kind != OPD_MEM)
        x86_raise(c, VEC_UD);
    unsigned size = i->opsize == 8 && c->model->amd ? 4 : i->opsize;
    u64 ea = x86_ea(c, i), sel_at = ea + size;
    if (i->adsize != 8)
        sel_at &= bits_low(8 * i->adsize);
    u64 offset = x86_load(c, i->seg, ea, size);
    x86_seg_load(c, seg, (u16)x86_load(c, i->seg, sel_at, 2));
    x86_gpr_write(c, i->opd[0].reg, size, offset);
}

void exec_lds(struct x86_cpu *c, struct x86_insn *i)
{
    load_far_pointer(c, i, SEG_DS);
}
void exec_les(struct x86_cpu *c, struct x86_insn *i)
{
    load_far_pointer(c, i, SEG_ES);
}
void exec_lfs(struct x86_cpu *c, struct x86_insn *i)
{
    load_far_pointer(c, i, SEG_FS);
}
void exec_lgs(struct x86_cpu *c, struct x86_insn *i)
{
    load_far_pointer(c, i, SEG_GS);
}
void exec_lss(struct x86_cpu *c, struct x86_insn *i)
{
    load_far_pointer(c, i, SEG_SS);
}

/* -- LAR, LSL, VERR, VERW, ARPL ------------------------------------------------------------ */

/* One bit a system descriptor type (SDM vol. 2, LAR and LSL). */
#define TYPES_LAR      0x1a3eu
#define TYPES_LSL      0x0a0eu
#define TYPES_LAR_LONG 0x1a04u
#define TYPES_LSL_LONG 0x0a04u

/* Reads the descriptor if the program may know of it. */
static bool descriptor_visible(struct x86_cpu *c, u16 sel, unsigned types, u64 *low)
{
    struct x86_descriptor d;
    if (selector_is_null(sel) || !x86_descriptor_find(c, sel, &d))
        return false;
    *low = d.low;
    if (!descriptor_is_segment(d.low) && !(types >> descriptor_type(d.low) & 1))
        return false;
    if (descriptor_is_code(d.low) && descriptor_is_conforming(d.low))
        return true;
    unsigned dpl = descriptor_dpl(d.low);
    return c->cpl <= dpl && selector_rpl(sel) <= dpl;
}

static void set_zf(struct x86_cpu *c, bool zf)
{
    c->rflags = (c->rflags & ~FLAG_ZF) | (zf ? FLAG_ZF : 0);
}

static u16 selector_operand(struct x86_cpu *c, struct x86_insn *i, unsigned n)
{
    need_protected(c);
    return (u16)operand_get(c, i, &i->opd[n], 2);
}

void exec_lar(struct x86_cpu *c, struct x86_insn *i)
{
    u64 low;
    u16 sel = selector_operand(c, i, 1);
    bool known =
        descriptor_visible(c, sel, x86_long_mode(c) ? TYPES_LAR_LONG : TYPES_LAR, &low);
    if (known)
        x86_gpr_write(c, i->opd[0].reg, i->opsize, (low >> 32) & 0x00f0ff00);
    set_zf(c, known);
}

void exec_lsl(struct x86_cpu *c, struct x86_insn *i)
{
    u64 low;
    u16 sel = selector_operand(c, i, 1);
    bool known =
        descriptor_visible(c, sel, x86_long_mode(c) ? TYPES_LSL_LONG : TYPES_LSL, &low);
    if (known)
        x86_gpr_write(c, i->opd[0].reg, i->opsize, descriptor_limit(low));
    set_zf(c, known);
}

void exec_verr(struct x86_cpu *c, struct x86_insn *i)
{
    u64 low;
    u16 sel = selector_operand(c, i, 0);
    set_zf(c, descriptor_visible(c, sel, 0, &low) && descriptor_is_readable(low));
}

void exec_verw(struct x86_cpu *c, struct x86_insn *i)
{
    u64 low;
    u16 sel = selector_operand(c, i, 0);
    set_zf(c, descriptor_visible(c, sel, 0, &low) && descriptor_is_writable_data(low));
}

void exec_arpl(struct x86_cpu *c, struct x86_insn *i)
{
    u16 to = selector_operand(c, i, 0);
    u16 from = (u16)operand_get(c, i, &i->opd[1], 2);
    bool raise = selector_rpl(to) < selector_rpl(from);
    if (raise)
        operand_set(c, i, &i->opd[0], 2, (to & ~3u) | selector_rpl(from));
    set_zf(c, raise);
}

/* -- GDTR, IDTR ---------------------------------------------------------------------------- */

static u64 after_limit(const struct x86_insn *i, u64 ea)
{
    ea += 2;
    return i->adsize == 8 ? ea : ea & bits_low(8 * i->adsize);
}

static void load_table(struct x86_cpu *c, struct x86_insn *i, struct x86_table *table)
{
    x86_need_cpl0(c);
    u64 ea = x86_ea(c, i);
    u16 limit = (u16)x86_load(c, i->seg, ea, 2);
    u64 base = x86_load(c, i->seg, after_limit(i, ea), x86_64bit(c) ? 8 : 4);
    if (x86_64bit(c) && !x86_canonical(base))
        x86_raise_error(c, VEC_GP, 0);
    if (!x86_64bit(c) && i->opsize == 2)
        base &= 0xffffff;
    *table = (struct x86_table){base, limit};
}

static void store_table(struct x86_cpu *c, struct x86_insn *i, const struct x86_table *table)
{
    x86_need_no_umip(c);
    u64 ea = x86_ea(c, i);
    unsigned size = x86_64bit(c) ? 8 : 4;
    struct gva base = x86_linear(c, i->seg, after_limit(i, ea), size, ACCESS_WRITE);
    c->ops->probe(c, base, size, ACCESS_WRITE, AS_CPL);
    x86_store(c, i->seg, ea, 2, table->limit);
    x86_store_linear(c, base, size, table->base);
}

void exec_lgdt(struct x86_cpu *c, struct x86_insn *i)
{
    load_table(c, i, &c->gdtr);
}
void exec_lidt(struct x86_cpu *c, struct x86_insn *i)
{
    load_table(c, i, &c->idtr);
}
void exec_sgdt(struct x86_cpu *c, struct x86_insn *i)
{
    store_table(c, i, &c->gdtr);
}
void exec_sidt(struct x86_cpu *c, struct x86_insn *i)
{
    store_table(c, i, &c->idtr);
}

/* -- LDTR, TR ------------------------------------------------------------------------------ */

/* A system segment of the GDT as the register will hold it; 16 bytes in long mode. */
static struct x86_seg read_system(struct x86_cpu *c, const struct x86_descriptor *d)
{
    struct x86_seg s = x86_seg_from(d->sel, d->low);
    if (!x86_long_mode(c))
        return s;
    s.base |= x86_descriptor_high(c, d, VEC_GP, 0) << 32;
    if (!x86_canonical(s.base))
        x86_raise_error(c, VEC_GP, selector_error(d->sel, 0));
    return s;
}

static void read_gdt_only(struct x86_cpu *c, u16 sel, struct x86_descriptor *d)
{
    if (sel & 4)
        x86_raise_error(c, VEC_GP, selector_error(sel, 0));
    x86_descriptor_read(c, sel, VEC_GP, 0, d);
}

void exec_lldt(struct x86_cpu *c, struct x86_insn *i)
{
    struct x86_descriptor d;
    need_protected(c);
    x86_need_cpl0(c);
    u16 sel = selector_operand(c, i, 0);
    if (selector_is_null(sel)) {
        c->seg[SEG_LDTR] = x86_seg_null(sel, 0);
        return;
    }
    read_gdt_only(c, sel, &d);
    if (descriptor_is_segment(d.low) || descriptor_type(d.low) != DESC_LDT)
        x86_raise_error(c, VEC_GP, selector_error(sel, 0));
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, selector_error(sel, 0));
    c->seg[SEG_LDTR] = read_system(c, &d);
}

void exec_ltr(struct x86_cpu *c, struct x86_insn *i)
{
    struct x86_descriptor d;
    need_protected(c);
    x86_need_cpl0(c);
    u16 sel = selector_operand(c, i, 0);
    if (selector_is_null(sel))
        x86_raise_error(c, VEC_GP, 0);
    read_gdt_only(c, sel, &d);
    unsigned type = descriptor_type(d.low);
    if (descriptor_is_segment(d.low) ||
        (type != DESC_TSS_AVAIL && (type != DESC_TSS16_AVAIL || x86_long_mode(c))))
        x86_raise_error(c, VEC_GP, selector_error(sel, 0));
    if (!descriptor_present(d.low))
        x86_raise_error(c, VEC_NP, selector_error(sel, 0));
    struct x86_seg s = read_system(c, &d);
    x86_descriptor_busy(c, &d, true);
    s.attr |= 2;
    c->seg[SEG_TR] = s;
}

static void store_selector(struct x86_cpu *c, struct x86_insn *i, enum x86_seg_reg seg)
{
    need_protected(c);
    x86_need_no_umip(c);
    unsigned size = i->opd[0].kind == OPD_MEM ? 2 : i->opsize;
    operand_set(c, i, &i->opd[0], size, c->seg[seg].sel);
}

void exec_sldt(struct x86_cpu *c, struct x86_insn *i)
{
    store_selector(c, i, SEG_LDTR);
}
void exec_str(struct x86_cpu *c, struct x86_insn *i)
{
    store_selector(c, i, SEG_TR);
}

/* -- FS and GS bases ----------------------------------------------------------------------- */

static void need_fsgsbase(struct x86_cpu *c)
{
    if (!x86_64bit(c) || !(c->cr4 & CR4_FSGSBASE))
        x86_raise(c, VEC_UD);
}

static void read_base(struct x86_cpu *c, struct x86_insn *i, enum x86_seg_reg seg)
{
    need_fsgsbase(c);
    operand_set(c, i, &i->opd[0], i->opsize, c->seg[seg].base);
}

static void write_base(struct x86_cpu *c, struct x86_insn *i, enum x86_seg_reg seg)
{
    need_fsgsbase(c);
    u64 base = operand_get(c, i, &i->opd[0], i->opsize);
    if (!x86_canonical(base))
        x86_raise_error(c, VEC_GP, 0);
    c->seg[seg].base = base;
    x86_derive_segment(c, seg);
}

void exec_rdfsbase(struct x86_cpu *c, struct x86_insn *i)
{
    read_base(c, i, SEG_FS);
}
void exec_rdgsbase(struct x86_cpu *c, struct x86_insn *i)
{
    read_base(c, i, SEG_GS);
}
void exec_wrfsbase(struct x86_cpu *c, struct x86_insn *i)
{
    write_base(c, i, SEG_FS);
}
void exec_wrgsbase(struct x86_cpu *c, struct x86_insn *i)
{
    write_base(c, i, SEG_GS);
}

void exec_swapgs(struct x86_cpu *c, struct x86_insn *i)
{
    if (!x86_64bit(c))
        x86_raise(c, VEC_UD);
    x86_need_cpl0(c);
    u64 base = c->seg[SEG_GS].base;
    c->seg[SEG_GS].base = c->kernel_gs_base;
    c->kernel_gs_base = base;
    x86_derive_segment(c, SEG_GS);
}
