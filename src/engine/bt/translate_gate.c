/*
 * Instructions behind which another mode's translations run: system calls and the returns from
 * them, and STAC and CLAC, which choose the other set of the software TLB. The frequent cases
 * change the virtual state in line and go straight to the target's translation; the simulator
 * gets the rare ones (a flag that makes the guest run there, attention, an address that faults)
 * before anything was changed.
 *
 * Those of 64-bit code may jump into another mode's table of indirect targets because
 * indirect_enter_mode keeps all tables to modes that differ only in set and CPL; the others are
 * quick callouts, which see to it.
 */
#include "engine/bt/translate.h"

#include "base/ensure.h"
#include "x86/model.h"

#define ATTR_FLAT   (SEG_P | SEG_S | SEG_G | SEG_ACCESSED | SEG_WRITE)
#define ATTR_CODE64 (ATTR_FLAT | SEG_CODE | SEG_L)
#define ATTR_STACK  (ATTR_FLAT | SEG_DB)
#define DPL(cpl)    ((u32)(cpl) << 5)

/* -- Segments ------------------------------------------------------------------------------ */

/* A flat segment as SYSCALL and SYSRET make it, but for its selector, which is in `sel`. */
static void put_flat(struct translation *t, enum x86_seg_reg seg, unsigned sel, u32 attr)
{
    struct emit *e = &t->e;
    const struct x86_seg *s = &bt_cpu(t->bt)->seg[seg];
    emit_store16(e, bt_mem(t->bt, &s->sel), sel);
    emit_store_imm(e, 4, bt_mem(t->bt, &s->attr), (s32)attr);
    emit_store_imm(e, 4, bt_mem(t->bt, &s->limit), -1);
    emit_store_imm(e, 8, bt_mem(t->bt, &s->base), 0);
}

/* CS and SS from the selectors in r10 (RPL settled) and r11. */
static void put_segments(struct translation *t, unsigned cpl)
{
    put_flat(t, SEG_CS, R10, ATTR_CODE64 | DPL(cpl));
    put_flat(t, SEG_SS, R11, ATTR_STACK | DPL(cpl));
    emit_store8_imm(&t->e, bt_mem(t->bt, &bt_cpu(t->bt)->cpl), (u8)cpl);
}

static void need_syscall(struct translation *t, const struct site *site)
{
    system_test_mem(t, &bt_cpu(t->bt)->efer, EFER_SCE);
    system_leave_if(t, CC_E, site);
}

/* The RFLAGS image in `image` become the guest's; `scratch` and `image` are lost. */
static void put_rflags(struct translation *t, unsigned image, unsigned scratch)
{
    struct emit *e = &t->e;
    emit_store(e, bt_mem(t->bt, &bt_cpu(t->bt)->rflags), image);
    emit_rr(e, 4, 0x89, image, scratch);
    emit_shift(e, 4, SHIFT_RIGHT, scratch, 11);
    emit_and_imm(e, scratch, 1);
    emit_shift(e, 4, SHIFT_LEFT, image, 8);
    emit_rr(e, 4, 0x09, image, scratch);
    emit_store32(e, bt_mem(t->bt, &t->bt->hot->flags), scratch);
}

/* -- SYSCALL, SYSRET ----------------------------------------------------------------------- */

/* RCX is free until it gets the return address: a third scratch register. */
static void enter_kernel(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct bt *bt = t->bt;
    struct x86_cpu *c = bt_cpu(bt);
    struct emit *e = &t->e;
    flags_clobber(t);
    need_syscall(t, callout_site(t));
    if (bt->watch)
        emit_rm(e, 4, 0xff, 0, bt_mem(bt, &bt->hot->calls)); /* inc */
    system_rflags(t, R10, R11);
    emit_store(e, gpr_home(t, R11), R10);
    emit_load32(e, R11, bt_mem(bt, &c->sfmask));
    emit_rr(e, 4, 0xf7, 2, R11); /* not */
    emit_rr(e, 4, 0x21, R11, R10);
    emit_rr(e, 4, 0x83, 1, R10); /* or r10d, FLAG_FIXED */
    emit_byte(e, FLAG_FIXED);
    /* RCX := TLB_KERNEL (0) with CR4.SMAP and without AC, else TLB_KERNEL_AC (2). */
    _Static_assert(TLB_KERNEL == 0 && TLB_KERNEL_AC == 2 && CR4_SMAP == FLAG_AC << 3, "");
    emit_rr(e, 4, 0x89, R10, RCX);
    emit_rr(e, 4, 0xf7, 2, RCX);
    emit_shift(e, 4, SHIFT_LEFT, RCX, 3);
    emit_rm(e, 4, 0x23, RCX, bt_mem(bt, &c->cr4));
    emit_and_imm(e, RCX, CR4_SMAP);
    emit_shift(e, 4, SHIFT_RIGHT, RCX, 20);
    emit_rr(e, 4, 0x83, 6, RCX); /* xor ecx, 2 */
    emit_byte(e, 2);
    emit_store8(e, bt_mem(bt, &c->tlb_index), RCX);
    put_rflags(t, R10, R11);
    emit_load32(e, R10, bt_mem(bt, (u8 *)&c->star + 4));
    emit_and_imm(e, R10, 0xfffc);
    emit_lea(e, 4, R11, mem_at(R10, 8));
    put_segments(t, 0);
    emit_load(e, R10, bt_mem(bt, &c->lstar));
    emit_move_zero(e, INDIRECT_BITS / 8, R11, R10);
    emit_shift(e, 4, SHIFT_LEFT, RCX, INDIRECT_BITS);
    emit_rr(e, 4, 0x09, RCX, R11);
    emit_const(e, RCX, g->rip + g->length);
    emit_jump_mem(e, mem_gs_index(R11, bt_mem(bt, bt->hot->indirect).disp));
}

/* To 64-bit code below the hole of addresses that are not canonical. */
static void leave_kernel(struct translation *t)
{
    const u32 plain = FLAGS_STATUS | FLAG_IF | FLAG_IOPL | FLAG_ID;
    const u32 rare = FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_VIF | FLAG_VIP;
    struct bt *bt = t->bt;
    struct x86_cpu *c = bt_cpu(bt);
    struct emit *e = &t->e;
    flags_clobber(t);
    const struct site *site = callout_site(t);
    need_syscall(t, site);
    if (bt->watch) {
        emit_compare_memory(e, 1, bt_mem(bt, &bt->hot->returns), 0);
        system_leave_if(t, CC_NE, site);
    }
    emit_move(e, R10, RCX);
    emit_shift(e, 8, SHIFT_RIGHT, R10, 47);
    system_leave_if(t, CC_NE, site);
    emit_load32(e, R10, gpr_home(t, R11));
    emit_test_imm(e, R10, rare);
    system_leave_if(t, CC_NE, site);
    system_leave_if_attention(t, site);
    emit_and_imm(e, R10, plain);
    emit_rr(e, 4, 0x83, 1, R10); /* or r10d, FLAG_FIXED */
    emit_byte(e, FLAG_FIXED);
    put_rflags(t, R10, R11);
    emit_load32(e, R11, bt_mem(bt, (u8 *)&c->star + 4));
    emit_shift(e, 4, SHIFT_RIGHT, R11, 16);
    emit_rr(e, 4, 0x83, 1, R11); /* or r11d, 3: 8 and 16 more do not change it */
    emit_byte(e, 3);
    emit_lea(e, 4, R10, mem_at(R11, 16));
    emit_lea(e, 4, R11, mem_at(R11, 8));
    put_segments(t, 3);
    emit_store8_imm(e, bt_mem(bt, &c->tlb_index), TLB_USER);
    emit_move(e, R10, RCX);
    emit_move_zero(e, INDIRECT_BITS / 8, R11, R10);
    emit_jump_mem(e, mem_gs_index(R11, bt_mem(bt, bt->hot->indirect[TLB_USER]).disp));
}

/* -- Quick callouts (quick_gate.c) --------------------------------------------------------- */

static void call_quickly(struct translation *t, const void *stub)
{
    flags_clobber(t);
    emit_const(&t->e, R11, (u64)(callout_site(t) - t->bt->sites));
    emit_jump(&t->e, stub);
}

/* -- STAC, CLAC ---------------------------------------------------------------------------- */

/* To the instruction behind, in the mode with TLB set `set`, whose translations may be on the
 * same page: never by a patched link, which stays in its mode. */
static void go_on_with(struct translation *t, enum x86_tlb_index set)
{
    const struct guest_insn *g = translation_insn(t);
    struct bt *bt = t->bt;
    u32 mode = (mode_of_guest(t->tu->mode) & ~(u32)MODE_SET_MASK) | MODE_SET(set);
    u32 cell = cell_get(bt, place_of(t, guest_next(g)), mode, true);
    emit_store8_imm(&t->e, bt_mem(bt, &bt_cpu(bt)->tlb_index), (u8)set);
    emit_const(&t->e, R11, cell);
    emit_jump_mem(&t->e, bt_mem(bt, &bt->hot->cell[cell]));
}

/* The set without AC holds only while SMAP is on. */
static void stac(struct translation *t)
{
    flags_clobber(t);
    system_or_mem(t, &bt_cpu(t->bt)->rflags, FLAG_AC);
    go_on_with(t, TLB_KERNEL_AC);
}

static void clac(struct translation *t)
{
    flags_clobber(t);
    const struct site *site = callout_site(t);
    system_test_mem(t, &bt_cpu(t->bt)->cr4, CR4_SMAP);
    system_leave_if(t, CC_E, site);
    system_and_mem(t, &bt_cpu(t->bt)->rflags, (u32)~FLAG_AC);
    go_on_with(t, TLB_KERNEL);
}

/* -- All of them --------------------------------------------------------------------------- */

/* Those of 64-bit code only. */
static bool long_gate_in_line(const struct x86_model *model, const struct guest_insn *g,
                              bool kernel, bool user)
{
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        return user && x86_has(model, FEAT_SYSCALL);
    case ZYDIS_MNEMONIC_SYSRET:
        return kernel && x86_has(model, FEAT_SYSCALL);
    default:
        return g->mnemonic == ZYDIS_MNEMONIC_IRETQ && kernel;
    }
}

/* Those of 32-bit code in protected mode. */
static bool compat_gate_in_line(const struct x86_model *model, const struct guest_insn *g,
                                bool kernel, bool user)
{
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        return user && x86_has(model, FEAT_SYSCALL);
    case ZYDIS_MNEMONIC_SYSENTER:
        return user;
    case ZYDIS_MNEMONIC_INT:
        return user;
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_IRETD:
        return kernel;
    default:
        return false;
    }
}

bool gate_in_line(const struct bt *bt, const struct guest_insn *g, u32 mode)
{
    const struct x86_model *model = bt->vcpu->cpu.model;
    bool kernel = !(mode & MODE_CPL(3)), user = (mode & MODE_CPL(3)) == MODE_CPL(3);
    if (g->mnemonic == ZYDIS_MNEMONIC_STAC || g->mnemonic == ZYDIS_MNEMONIC_CLAC)
        return kernel && x86_has(model, FEAT_SMAP);
    if (mode_is_64bit(mode))
        return long_gate_in_line(model, g, kernel, user);
    return mode_code_size(mode) == 4 && (mode & MODE_PROTECTED) && !(mode & MODE_STACK16) &&
           g->opsize == 4 && compat_gate_in_line(model, g, kernel, user);
}

void translate_gate(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    const struct stubs *stubs = &t->bt->stubs;
    bool wide = mode_is_64bit(t->tu->mode);
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        if (wide)
            enter_kernel(t);
        else
            call_quickly(t, stubs->syscall);
        break;
    case ZYDIS_MNEMONIC_SYSRET:
        if (g->opsize == 8)
            leave_kernel(t);
        else
            call_quickly(t, stubs->syscall);
        break;
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
        call_quickly(t, stubs->syscall);
        break;
    case ZYDIS_MNEMONIC_INT:
        call_quickly(t, stubs->interrupt);
        break;
    case ZYDIS_MNEMONIC_IRETQ:
        call_quickly(t, stubs->iretq);
        break;
    case ZYDIS_MNEMONIC_IRETD:
        call_quickly(t, stubs->iretd);
        break;
    case ZYDIS_MNEMONIC_STAC:
        stac(t);
        break;
    default:
        ensure(g->mnemonic == ZYDIS_MNEMONIC_CLAC);
        clac(t);
    }
}
