/*
 * Moves between vector registers, memory and general registers, in C: they are the bulk of
 * vector instructions in kernels and C libraries, and cost less than a thunk. Legacy encodings
 * keep bits 128 and up of the destination, VEX encodings clear them (SDM vol. 1, 14.1.3).
 */
#include "x86/exec_native.h"

#include <string.h>

#include "x86/mem.h"

static inline void check(struct x86_cpu *c, const struct x86_insn *i)
{
    if (i->flags & INSN_VEX)
        native_check_avx(c);
    else
        native_check_sse(c);
}

static inline void clear_high(struct x86_cpu *c, const struct x86_insn *i, unsigned reg)
{
    if (i->flags & INSN_VEX)
        memset(c->fpu.ymm_hi[reg], 0, 16);
}

/* Copies 4, 8 or 16 bytes; a size known to the compiler makes it one move. */
static inline void copy_datum(void *to, const void *from, unsigned size)
{
    if (size == 16)
        memcpy(to, from, 16);
    else if (size == 8)
        memcpy(to, from, 8);
    else
        memcpy(to, from, 4);
}

static void exec_vec_load(struct x86_cpu *c, struct x86_insn *i)
{
    check(c, i);
    unsigned size = i->mem_size, reg = i->opd[0].reg;
    struct gva la = native_address(c, i, size, ACCESS_READ);
    u8 copy[32];
    const u8 *p = x86_tlb_read(c, la, size);
    if (unlikely(!p)) {
        c->ops->read(c, la, copy, size, AS_CPL);
        p = copy;
    }
    if (size == 32) {
        memcpy(c->fpu.xmm[reg], p, 16);
        memcpy(c->fpu.ymm_hi[reg], p + 16, 16);
        return;
    }
    u8 datum[16] = {0};
    copy_datum(datum, p, size);
    memcpy(c->fpu.xmm[reg], datum, 16);
    clear_high(c, i, reg);
}

static void exec_vec_store(struct x86_cpu *c, struct x86_insn *i)
{
    check(c, i);
    unsigned size = i->mem_size, reg = i->opd[1].reg;
    struct gva la = native_address(c, i, size, ACCESS_WRITE);
    u8 *p = x86_tlb_write(c, la, size);
    u8 copy[32];
    u8 *to = likely(p) ? p : copy;
    if (size == 32) {
        memcpy(to, c->fpu.xmm[reg], 16);
        memcpy(to + 16, c->fpu.ymm_hi[reg], 16);
    } else {
        copy_datum(to, c->fpu.xmm[reg], size);
    }
    if (unlikely(!p))
        c->ops->write(c, la, copy, size, AS_CPL);
}

static void exec_vec_copy(struct x86_cpu *c, struct x86_insn *i)
{
    check(c, i);
    unsigned to = i->opd[0].reg, from = i->opd[1].reg;
    if (i->native_flags & NATIVE_ZERO) {
        u8 datum[16] = {0};
        memcpy(datum, c->fpu.xmm[from], 8);
        memcpy(c->fpu.xmm[to], datum, 16);
    } else {
        memmove(c->fpu.xmm[to], c->fpu.xmm[from], 16);
    }
    if (i->opd[0].kind == OPD_YMM)
        memmove(c->fpu.ymm_hi[to], c->fpu.ymm_hi[from], 16);
    else
        clear_high(c, i, to);
}

/* XOR of a register with itself, the idiom for zero. */
static void exec_vec_zero(struct x86_cpu *c, struct x86_insn *i)
{
    check(c, i);
    memset(c->fpu.xmm[i->opd[0].reg], 0, 16);
    clear_high(c, i, i->opd[0].reg);
}

static void exec_vec_from_gpr(struct x86_cpu *c, struct x86_insn *i)
{
    check(c, i);
    u64 datum[2] = {x86_gpr_read(c, i->opd[1].reg, i->opd[1].size), 0};
    memcpy(c->fpu.xmm[i->opd[0].reg], datum, 16);
    clear_high(c, i, i->opd[0].reg);
}

static void exec_vec_to_gpr(struct x86_cpu *c, struct x86_insn *i)
{
    check(c, i);
    u64 datum;
    memcpy(&datum, c->fpu.xmm[i->opd[1].reg], 8);
    x86_gpr_write(c, i->opd[0].reg, i->opd[0].size, datum);
}

/* MOVQ, MOVD and MOVNTQ from MMX to memory: the change to MMX state comes after the store,
 * which may fault, but for QUIRK_MMX_TOP; so MMi is found where TOP has it. */
static void exec_mmx_store(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_mmx(c);
    unsigned top = (c->fpu.fsw >> 11) & 7;
    u64 datum;
    memcpy(&datum, c->fpu.st[(i->opd[1].reg - top) & 7], 8);
    if (x86_quirk(c->model, QUIRK_MMX_TOP))
        native_set_top(c, 0);
    x86_store(c, i->seg, x86_ea(c, i), i->mem_size, datum);
    native_enter_mmx(c);
}

/* MOVNTI */
static void exec_gpr_store(struct x86_cpu *c, struct x86_insn *i)
{
    x86_store(c, i->seg, x86_ea(c, i), i->mem_size,
              x86_gpr_read(c, i->opd[1].reg, i->mem_size));
}

/* -- Choice -------------------------------------------------------------------------------- */

static x86_handler *choose_move(const struct x86_insn *i)
{
    if (i->opd[0].kind == OPD_MEM)
        return exec_vec_store;
    return i->opd[1].kind == OPD_MEM ? exec_vec_load : exec_vec_copy;
}

/* MOVD and MOVQ between everything. */
static x86_handler *choose_movd(struct x86_insn *i)
{
    u8 to = i->opd[0].kind, from = i->opd[1].kind;
    if (from == OPD_MMX && to == OPD_MEM)
        return exec_mmx_store;
    if (from == OPD_MMX || to == OPD_MMX)
        return NULL;
    if (from == OPD_GPR)
        return exec_vec_from_gpr;
    if (to == OPD_GPR)
        return exec_vec_to_gpr;
    i->native_flags |= NATIVE_ZERO;
    return choose_move(i);
}

x86_handler *native_move_handler(const ZydisDecodedInstruction *z, struct x86_insn *i)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
        i->native_flags |= NATIVE_ALIGN;
        return choose_move(i);
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU:
        return choose_move(i);
    case ZYDIS_MNEMONIC_MOVSS:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_VMOVSS:
    case ZYDIS_MNEMONIC_VMOVSD:
        return i->mem_size ? choose_move(i) : NULL;
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
        return choose_movd(i);
    case ZYDIS_MNEMONIC_MOVNTQ:
        return exec_mmx_store;
    case ZYDIS_MNEMONIC_MOVNTI:
        return exec_gpr_store;
    case ZYDIS_MNEMONIC_PXOR:
    case ZYDIS_MNEMONIC_XORPS:
    case ZYDIS_MNEMONIC_XORPD:
        if (i->opd[0].kind == OPD_XMM && i->opd[1].kind == OPD_XMM &&
            i->opd[0].reg == i->opd[1].reg)
            return exec_vec_zero;
        return NULL;
    case ZYDIS_MNEMONIC_VPXOR:
    case ZYDIS_MNEMONIC_VXORPS:
    case ZYDIS_MNEMONIC_VXORPD:
        if (i->opd[2].kind != OPD_MEM && i->opd[1].reg == i->opd[2].reg)
            return exec_vec_zero;
        return NULL;
    default:
        return NULL;
    }
}
