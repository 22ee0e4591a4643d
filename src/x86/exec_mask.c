/*
 * Element-wise memory instructions, in C because only the elements whose mask is set may fault:
 * VMASKMOV, VPMASKMOV, MASKMOVDQU, MASKMOVQ and the AVX2 gathers.
 */
#include <string.h>

#include "x86/exec_native.h"
#include "x86/mem.h"

/* A whole vector register as one array. */
static void vector_get(const struct x86_cpu *c, unsigned reg, u8 out[32])
{
    memcpy(out, c->fpu.xmm[reg], 16);
    memcpy(out + 16, c->fpu.ymm_hi[reg], 16);
}

static void vector_put(struct x86_cpu *c, unsigned reg, const u8 in[32])
{
    memcpy(c->fpu.xmm[reg], in, 16);
    memcpy(c->fpu.ymm_hi[reg], in + 16, 16);
}

static bool selected(const u8 *mask, unsigned element, unsigned size)
{
    return mask[element * size + size - 1] & 0x80;
}

static u64 element_ea(const struct x86_insn *i, u64 ea, u64 offset)
{
    return (ea + offset) & bits_low(8 * i->adsize);
}

/* Elements are never checked for alignment (SDM vol. 2, VMASKMOV and VGATHERDPS). */
static u64 load_element(struct x86_cpu *c, const struct x86_insn *i, u64 ea, unsigned size)
{
    return x86_load_linear(c, native_linear_any(c, i, ea, size, ACCESS_READ), size);
}

/* Where an element of a masked move is, `offset` bytes from the operand's beginning. */
static struct gva masked_element(struct x86_cpu *c, const struct x86_insn *i, u64 ea,
                                 unsigned offset, unsigned size, enum x86_access access)
{
    if (x86_quirk(c->model, QUIRK_MASK_WRAPS))
        return native_linear_any(c, i, element_ea(i, ea, offset), size, access);
    u64 at = x86_64bit(c) ? ea + offset : (u32)(ea + offset);
    if (!x86_64bit(c) && at + size - 1 > UINT32_MAX)
        return x86_linear(c, i->seg, at, size, access); /* beyond any limit */
    struct gva la = x86_linear(c, i->seg, at, 1, access);
    x86_linear(c, i->seg, at + size - 1, 1, access);
    return la;
}

/* VMASKMOV load: destination, mask, memory; i->imm is the element size. */
static void exec_mask_load(struct x86_cpu *c, struct x86_insn *i)
{
    u8 mask[32], result[32] = {0};
    unsigned size = (unsigned)i->imm;
    native_check_avx(c);
    vector_get(c, i->opd[1].reg, mask);
    u64 ea = x86_ea(c, i);
    for (unsigned k = 0; k < i->mem_size / size; k++) {
        if (!selected(mask, k, size))
            continue;
        struct gva la = masked_element(c, i, ea, k * size, size, ACCESS_READ);
        u64 value = x86_load_linear(c, la, size);
        memcpy(result + k * size, &value, size);
    }
    vector_put(c, i->opd[0].reg, result);
}

static void store_selected(struct x86_cpu *c, struct x86_insn *i, const u8 *mask,
                           const u8 *source, unsigned size)
{
    u64 ea = x86_ea(c, i);
    for (unsigned k = 0; k < i->mem_size / size; k++) {
        if (!selected(mask, k, size))
            continue;
        struct gva la = masked_element(c, i, ea, k * size, size, ACCESS_WRITE);
        if (!x86_tlb_write(c, la, size))
            c->ops->probe(c, la, size, ACCESS_WRITE, AS_CPL);
    }
    for (unsigned k = 0; k < i->mem_size / size; k++) {
        u64 value = 0;
        if (!selected(mask, k, size))
            continue;
        memcpy(&value, source + k * size, size);
        struct gva la = masked_element(c, i, ea, k * size, size, ACCESS_WRITE);
        x86_store_linear(c, la, size, value);
    }
}

/* VMASKMOV store: memory, mask, source. */
static void exec_mask_store(struct x86_cpu *c, struct x86_insn *i)
{
    u8 mask[32], source[32];
    native_check_avx(c);
    vector_get(c, i->opd[1].reg, mask);
    vector_get(c, i->opd[2].reg, source);
    store_selected(c, i, mask, source, (unsigned)i->imm);
}

/* What a mask of zeroes may fault on is left to implementations (SDM vol. 2, MASKMOVDQU):
 * both makers' touch the whole range. */
static void check_range(struct x86_cpu *c, struct x86_insn *i)
{
    x86_linear(c, i->seg, x86_ea(c, i), 8, ACCESS_WRITE);
    native_image_probe(c, i, i->mem_size, ACCESS_WRITE);
}

/* MASKMOVDQU: source, mask; to DS:rDI. */
static void exec_maskmov(struct x86_cpu *c, struct x86_insn *i)
{
    if (i->flags & INSN_VEX)
        native_check_avx(c);
    else
        native_check_sse(c);
    check_range(c, i);
    store_selected(c, i, c->fpu.xmm[i->opd[1].reg], c->fpu.xmm[i->opd[0].reg], 1);
}

static void exec_maskmovq(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_mmx(c);
    native_enter_mmx(c); /* stays even when a store faults */
    check_range(c, i);
    store_selected(c, i, c->fpu.st[i->opd[1].reg], c->fpu.st[i->opd[0].reg], 1);
}

/*
 * Gathers commit element by element: a fault leaves the elements done, with their mask cleared,
 * and the instruction restarts with the rest (SDM vol. 2, VGATHERDPS). i->imm is the element
 * size, the size of an index in bits 15:8; i->imm2 the index register.
 */
static void exec_gather(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned size = i->imm & 0xff, index_size = (i->imm >> 8) & 0xff;
    unsigned length = (i->imm >> 16) & 0xff;
    unsigned n = length / (size > index_size ? size : index_size);
    unsigned to = i->opd[0].reg, by = i->opd[2].reg;
    u8 index[32], mask[32], result[32];

    native_check_avx(c);
    vector_get(c, i->imm2, index);
    vector_get(c, by, mask);
    vector_get(c, to, result);
    bool whole = x86_quirk(c->model, QUIRK_GATHER_WHOLE);
    if (whole) {
        for (unsigned k = 0; k < length / size; k++)
            memset(mask + k * size, selected(mask, k, size) ? 0xff : 0, size);
        memset(mask + length, 0, sizeof(mask) - length);
        vector_put(c, by, mask);
    }
    u64 base = x86_ea(c, i);
    for (unsigned k = 0; k < n; k++) {
        if (selected(mask, k, size)) {
            u64 offset = 0;
            memcpy(&offset, index + k * index_size, index_size);
            offset = sign_extend(offset, index_size) << i->scale;
            u64 value = load_element(c, i, element_ea(i, base, offset), size);
            memcpy(result + k * size, &value, size);
            if (whole)
                memset(result + length, 0, sizeof(result) - length);
        }
        memset(mask + k * size, 0, size);
        vector_put(c, to, result);
        vector_put(c, by, mask);
    }
    memset(mask, 0, sizeof(mask));
    memset(result + n * size, 0, sizeof(result) - n * size);
    vector_put(c, to, result);
    vector_put(c, by, mask);
}

/* -- Choice -------------------------------------------------------------------------------- */

static x86_handler *choose_masked(struct x86_insn *i, unsigned size)
{
    i->imm = size;
    return i->opd[0].kind == OPD_MEM ? exec_mask_store : exec_mask_load;
}

static x86_handler *choose_maskmov(const ZydisDecodedInstruction *z,
                                   const ZydisDecodedOperand *operands, struct x86_insn *i)
{
    i->flags &= (u8)~INSN_ALIGN;
    i->base = RDI;
    i->index = BASE_NONE;
    i->disp = 0;
    i->seg = SEG_DS;
    for (unsigned k = 0; k < z->operand_count; k++)
        if (operands[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
            i->seg = (u8)ZydisRegisterGetId(operands[k].mem.segment);
    return i->opd[0].kind == OPD_MMX ? exec_maskmovq : exec_maskmov;
}

static x86_handler *choose_gather(const ZydisDecodedInstruction *z,
                                  const ZydisDecodedOperand *operands, struct x86_insn *i,
                                  unsigned index_size, unsigned size)
{
    i->imm = size | index_size << 8 | (u64)(z->avx.vector_length / 8) << 16;
    i->imm2 = (u16)ZydisRegisterGetId(operands[1].mem.index);
    i->index = BASE_NONE;
    i->scale = z->raw.sib.scale;
    return exec_gather;
}

x86_handler *native_mask_handler(const ZydisDecodedInstruction *z,
                                 const ZydisDecodedOperand *operands, struct x86_insn *i)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
        return choose_masked(i, 4);
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        return choose_masked(i, 8);
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_MASKMOVQ:
        return choose_maskmov(z, operands, i);
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
        return choose_gather(z, operands, i, 4, 4);
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD:
        return choose_gather(z, operands, i, 8, 4);
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
        return choose_gather(z, operands, i, 4, 8);
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
        return choose_gather(z, operands, i, 8, 8);
    default:
        return NULL;
    }
}
