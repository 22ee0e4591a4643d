/*
 * Decode time of x87, MMX, SSE and AVX: which feature an instruction needs, which handler
 * executes it, and the thunk that runs it on the host (native.h).
 *
 * The instruction is taken over byte by byte: prefixes, opcode, ModRM and immediates stay;
 * only the memory operand becomes [rsi] and general registers become rax (ModRM.reg) and rcx
 * (ModRM.rm). Vector, MMX and x87 registers keep their numbers.
 */
#include "x86/native.h"

#include <string.h>

#include "base/ensure.h"
#include "x86/exec_native.h"
#include "x86/prefix.h"

struct emitter {
    u8 bytes[384] __attribute__((aligned(16)));
    unsigned size;
};

enum { TMP_RAX = 0, TMP_RCX = 1, TMP_RDX = 2, TMP_R8 = 8 };

static void emit(struct emitter *e, const void *bytes, unsigned n)
{
    ensure(e->size + n <= sizeof(e->bytes));
    memcpy(e->bytes + e->size, bytes, n);
    e->size += n;
}
#define EMIT(e, ...) emit(e, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* ModRM of [rdi + offset], where a field of struct x86_cpu is. */
static void emit_state(struct emitter *e, unsigned reg, size_t offset)
{
    u32 disp = (u32)offset;
    EMIT(e, (u8)(0x80 | (reg & 7) << 3 | RDI));
    emit(e, &disp, sizeof(disp));
}

static void emit_gpr_load(struct emitter *e, unsigned reg, size_t offset)
{
    EMIT(e, reg >= 8 ? 0x4c : 0x48, 0x8b);
    emit_state(e, reg, offset);
}

static void emit_gpr_store(struct emitter *e, unsigned reg, size_t offset)
{
    EMIT(e, reg >= 8 ? 0x4c : 0x48, 0x89);
    emit_state(e, reg, offset);
}

static size_t gpr_offset(unsigned reg)
{
    return offsetof(struct x86_cpu, gpr) + 8 * reg;
}

#define FPU_OFFSET(field) (offsetof(struct x86_cpu, fpu) + offsetof(struct x86_fpu, field))

/* MOVAPS (28h loads, 29h stores) of an XMM register's low half of the state. */
static void emit_xmm(struct emitter *e, u8 opcode, unsigned reg, bool vex)
{
    if (vex)
        EMIT(e, 0xc5, reg >= 8 ? 0x78 : 0xf8, opcode);
    else if (reg >= 8)
        EMIT(e, 0x44, 0x0f, opcode);
    else
        EMIT(e, 0x0f, opcode);
    emit_state(e, reg, FPU_OFFSET(xmm) + 16 * reg);
}

/* VINSERTF128 ymm, ymm, [ymm_hi], 1 and VEXTRACTF128 [ymm_hi], ymm, 1. */
static void emit_ymm_hi(struct emitter *e, bool store, unsigned reg)
{
    u8 vvvv = store ? 15 : ~reg & 15;
    EMIT(e, 0xc4, reg >= 8 ? 0x63 : 0xe3, (u8)(vvvv << 3 | 5), store ? 0x19 : 0x18);
    emit_state(e, reg, FPU_OFFSET(ymm_hi) + 16 * reg);
    EMIT(e, 1);
}

static void emit_mmx(struct emitter *e, bool store, unsigned reg)
{
    EMIT(e, 0x0f, store ? 0x7f : 0x6f);
    emit_state(e, reg, FPU_OFFSET(st) + 16 * reg);
    if (!store)
        return;
    /* A write to an MMX register sets sign and exponent to ones (SDM vol. 1, 9.2.1). */
    EMIT(e, 0x66, 0xc7);
    emit_state(e, 0, FPU_OFFSET(st) + 16 * reg + 8);
    EMIT(e, 0xff, 0xff);
}

static void emit_mxcsr(struct emitter *e, bool store)
{
    EMIT(e, 0x0f, 0xae);
    emit_state(e, store ? 3 : 2, FPU_OFFSET(mxcsr));
}

static void emit_host_mxcsr(struct emitter *e)
{
    u32 disp = (u32)(offsetof(struct native_head, host_mxcsr) - (e->size + 7));
    EMIT(e, 0x0f, 0xae, 0x15); /* ldmxcsr [rip + disp] */
    emit(e, &disp, sizeof(disp));
}

/* Status flags of the guest to the host: push r8; popfq. */
static void emit_flags_load(struct emitter *e)
{
    emit_gpr_load(e, TMP_R8, offsetof(struct x86_cpu, rflags));
    EMIT(e, 0x41, 0x81, 0xe0, 0xd5, 0x08, 0, 0); /* and r8d, FLAGS_STATUS */
    EMIT(e, 0x41, 0x50, 0x9d);
}

static void emit_flags_store(struct emitter *e)
{
    EMIT(e, 0x9c, 0x41, 0x58);                   /* pushfq; pop r8 */
    EMIT(e, 0x41, 0x81, 0xe0, 0xd5, 0x08, 0, 0); /* and r8d, FLAGS_STATUS */
    EMIT(e, 0x48, 0x81, 0xa7);                   /* and qword [rdi + rflags], ~... */
    u32 operands[] = {offsetof(struct x86_cpu, rflags), ~(u32)FLAGS_STATUS};
    emit(e, operands, sizeof(operands));
    EMIT(e, 0x4c, 0x09); /* or [rdi + rflags], r8 */
    emit_state(e, TMP_R8, offsetof(struct x86_cpu, rflags));
}

/* -- What an instruction names ------------------------------------------------------------- */

struct shape {
    u16 vec_read, vec_write, ymm; /* one bit a register */
    u8 mmx_read, mmx_write;
    bool vex, x87, mxcsr, flags_read, flags_write;
    bool reg_is_gpr, rm_is_gpr;
    const ZydisDecodedOperand *gpr_reg, *gpr_rm; /* explicit general registers */
    u16 gpr_read, gpr_write;                     /* implicit ones, in place */
    const ZydisDecodedOperand *mem;
};

/* The escape opcodes, whatever set they came with: FISTTP is SSE3's, FCOMI the Pentium
 * Pro's. */
static bool is_x87(const ZydisDecodedInstruction *z)
{
    return z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (z->opcode & 0xf8) == 0xd8;
}

/*
 * Can it raise #XM or does it look at MXCSR? Classes 1, 4 to 8 and 12 cannot (SDM vol. 2,
 * 2.4); the forms with MMX operands have no class in the decoder's tables.
 */
static bool uses_mxcsr(const ZydisDecodedInstruction *z)
{
    switch (z->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11:
        return true;
    default:
        break;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
        return true;
    default:
        return false;
    }
}

static void shape_register(struct shape *s, const ZydisDecodedOperand *o)
{
    unsigned id = (unsigned)ZydisRegisterGetId(o->reg.value);
    bool reads = o->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
    bool writes = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

    switch (ZydisRegisterGetClass(o->reg.value)) {
    case ZYDIS_REGCLASS_YMM:
        s->ymm |= (u16)BIT(id);
        /* fall through */
    case ZYDIS_REGCLASS_XMM:
        /* Legacy writes may keep part of the register, whatever the tables call it. */
        if (reads || !s->vex)
            s->vec_read |= (u16)BIT(id);
        if (writes)
            s->vec_write |= (u16)BIT(id);
        break;
    case ZYDIS_REGCLASS_MMX:
        s->mmx_read |= (u8)BIT(id);
        if (writes)
            s->mmx_write |= (u8)BIT(id);
        break;
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
            s->gpr_reg = o;
        } else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
            s->gpr_rm = o;
        } else {
            id = (unsigned)ZydisRegisterGetId(
                ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value));
            if (reads)
                s->gpr_read |= (u16)BIT(id);
            if (writes)
                s->gpr_write |= (u16)BIT(id);
        }
        break;
    default:
        break;
    }
}

static void shape_init(struct shape *s, const ZydisDecodedInstruction *z,
                       const ZydisDecodedOperand *operands)
{
    memset(s, 0, sizeof(*s));
    s->vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    s->x87 = is_x87(z);
    s->mxcsr = uses_mxcsr(z);
    for (unsigned k = 0; k < z->operand_count; k++) {
        const ZydisDecodedOperand *o = &operands[k];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER)
            shape_register(s, o);
        else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
            s->mem = o;
    }
    if (z->cpu_flags && (s->vec_read || s->x87)) {
        const ZydisAccessedFlags *f = z->cpu_flags;
        s->flags_read = f->tested & FLAGS_STATUS;
        s->flags_write = (f->modified | f->set_0 | f->set_1 | f->undefined) & FLAGS_STATUS;
    }
}

/* The general register (of AH and so on: the low one) behind an operand. */
static unsigned gpr_number(const ZydisDecodedOperand *o)
{
    return (unsigned)ZydisRegisterGetId(
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value));
}

static size_t gpr_byte_offset(const ZydisDecodedOperand *o)
{
    bool high = o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH;
    return gpr_offset(gpr_number(o)) + high;
}

/* -- The instruction itself ---------------------------------------------------------------- */

/* W decides the width of a general operand in 64-bit code only; elsewhere it is ignored. */
static bool drops_w(const struct shape *s, const ZydisDecodedInstruction *z, bool mode64)
{
    if (mode64)
        return false;
    if (s->gpr_reg || s->gpr_rm)
        return true;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
        return true;
    default:
        return false;
    }
}

/* Segment and address size are the memory operand's, which becomes [rsi]. */
static bool keeps_prefix(const struct shape *s, const ZydisDecodedInstruction *z, u8 byte)
{
    switch (byte) {
    case 0x66: /* CRC32's width follows the code's default; thunks are 64-bit code. */
        return z->mnemonic != ZYDIS_MNEMONIC_CRC32;
    case 0xf2:
    case 0xf3:
        return !s->x87;
    default:
        return false;
    }
}

/* Emits the legacy prefixes that stay; returns how many bytes stand before VEX or the opcode.
 * *rex: 0 but for a REX prefix that counts, which is the last byte of them. */
static unsigned emit_prefixes(struct emitter *e, const struct shape *s,
                              const ZydisDecodedInstruction *z, const u8 *bytes, bool mode64,
                              u8 *rex)
{
    unsigned pos = 0;
    *rex = 0;
    for (;; pos++) {
        bool legacy = prefix_is_legacy(bytes[pos]);
        if (!legacy && !(mode64 && prefix_is_rex(bytes[pos])))
            break;
        *rex = legacy ? 0 : bytes[pos];
        if (keeps_prefix(s, z, bytes[pos]))
            EMIT(e, bytes[pos]);
    }
    if (z->mnemonic == ZYDIS_MNEMONIC_CRC32 && z->operand_width == 16)
        EMIT(e, 0x66);
    return pos;
}

/* A VEX prefix of three bytes with the same meaning; returns where the opcode is. */
static unsigned emit_vex(struct emitter *e, const struct shape *s,
                         const ZydisDecodedInstruction *z, const u8 *bytes, unsigned pos,
                         bool mode64)
{
    u8 rxb, map, last;
    if (bytes[pos] == 0xc5) {
        rxb = (bytes[pos + 1] & 0x80) | 0x60;
        map = 1;
        last = bytes[pos + 1] & 0x7f;
        pos += 2;
    } else {
        rxb = bytes[pos + 1] & 0xe0;
        map = bytes[pos + 1] & 0x1f;
        last = bytes[pos + 2];
        pos += 3;
    }
    /* In 32-bit code there are eight registers, and the bits that would name more are free. */
    if (!mode64) {
        rxb = 0xe0;
        last |= 0x40;
    }
    if (s->gpr_reg)
        rxb |= 0x80;
    if (s->gpr_rm || s->mem)
        rxb |= 0x60;
    if (drops_w(s, z, mode64))
        last &= 0x7f;
    EMIT(e, 0xc4, rxb | map, last);
    return pos;
}

static void emit_rex(struct emitter *e, const struct shape *s, u8 rex)
{
    if (s->gpr_reg)
        rex &= ~4;
    if (s->gpr_rm || s->mem)
        rex &= ~3;
    if (rex & 0xf)
        EMIT(e, rex);
}

static void emit_insn(struct emitter *e, const struct shape *s,
                      const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                      const u8 *bytes, bool mode64)
{
    u8 rex;
    unsigned pos = emit_prefixes(e, s, z, bytes, mode64, &rex);
    if (s->vex)
        pos = emit_vex(e, s, z, bytes, pos, mode64);
    else
        emit_rex(e, s, rex);
    ensure(z->attributes & ZYDIS_ATTRIB_HAS_MODRM);
    emit(e, bytes + pos, z->raw.modrm.offset - pos);

    u8 reg = s->gpr_reg ? TMP_RAX : z->raw.modrm.reg;
    u8 rm = s->gpr_rm ? TMP_RCX : z->raw.modrm.rm;
    if (s->mem)
        EMIT(e, (u8)(reg << 3 | RSI));
    else
        EMIT(e, (u8)(0xc0 | reg << 3 | rm));

    for (unsigned k = 0; k < 2; k++) {
        unsigned size = z->raw.imm[k].size / 8;
        if (!size)
            continue;
        u8 imm[8];
        memcpy(imm, bytes + z->raw.imm[k].offset, size);
        for (unsigned o = 0; o < z->operand_count && !mode64; o++)
            if (operands[o].encoding == ZYDIS_OPERAND_ENCODING_IS4)
                imm[0] &= 0x7f;
        emit(e, imm, size);
    }
}

/* -- The thunk around it ------------------------------------------------------------------- */

static void emit_loads(struct emitter *e, const struct shape *s)
{
    if (s->x87) {
        EMIT(e, 0x48, 0x0f, 0xae); /* fxrstor64 */
        emit_state(e, 1, FPU_OFFSET(fcw));
    }
    for (unsigned r = 0; r < 16; r++) {
        if (s->vec_read & BIT(r)) {
            emit_xmm(e, 0x28, r, s->vex);
            if (s->ymm & BIT(r))
                emit_ymm_hi(e, false, r);
        }
        if (s->gpr_read & BIT(r))
            emit_gpr_load(e, r, gpr_offset(r));
    }
    for (unsigned r = 0; r < 8; r++)
        if (s->mmx_read & BIT(r))
            emit_mmx(e, false, r);
    if (s->gpr_reg)
        emit_gpr_load(e, TMP_RAX, gpr_offset(gpr_number(s->gpr_reg)));
    if (s->gpr_rm) {
        bool byte = s->gpr_rm->size == 8;
        EMIT(e, 0x48, byte ? 0x0f : 0x8b);
        if (byte)
            EMIT(e, 0xb6);
        emit_state(e, TMP_RCX,
                   byte ? gpr_byte_offset(s->gpr_rm) : gpr_offset(gpr_number(s->gpr_rm)));
    }
    if (s->flags_read)
        emit_flags_load(e);
    if (s->mxcsr)
        emit_mxcsr(e, false);
}

static void emit_stores(struct emitter *e, const struct shape *s)
{
    if (s->flags_write)
        emit_flags_store(e);
    if (s->x87) {
        EMIT(e, 0x48, 0x0f, 0xae); /* fxsave64 */
        emit_state(e, 0, FPU_OFFSET(fcw));
    }
    for (unsigned r = 0; r < 16; r++) {
        if (s->vec_write & BIT(r)) {
            emit_xmm(e, 0x29, r, s->vex);
            if (s->vex)
                emit_ymm_hi(e, true, r);
        }
        if (s->gpr_write & BIT(r))
            emit_gpr_store(e, r, gpr_offset(r));
    }
    for (unsigned r = 0; r < 8; r++)
        if (s->mmx_write & BIT(r))
            emit_mmx(e, true, r);
    if (s->gpr_reg && s->gpr_reg->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        emit_gpr_store(e, TMP_RAX, gpr_offset(gpr_number(s->gpr_reg)));
    if (s->gpr_rm && s->gpr_rm->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        emit_gpr_store(e, TMP_RCX, gpr_offset(gpr_number(s->gpr_rm)));
}

/* Leaves the units as the ABI wants them: x87 empty, upper halves clean, the host's MXCSR. */
static void emit_return(struct emitter *e, const struct shape *s, bool result)
{
    if (s->mxcsr)
        emit_mxcsr(e, true);
    if (s->mxcsr || s->x87)
        emit_host_mxcsr(e);
    if (s->mmx_read | s->mmx_write)
        EMIT(e, 0x0f, 0x77); /* emms */
    if (s->x87)
        EMIT(e, 0xdb, 0xe3); /* fninit: also drops what the guest left pending */
    if (s->ymm)
        EMIT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
    EMIT(e, 0xb8, result, 0, 0, 0, 0xc3);
}

static enum x86_decode_result publish(struct x86_cpu *c, const struct shape *s,
                                      const ZydisDecodedInstruction *z,
                                      const ZydisDecodedOperand *operands, const u8 *bytes,
                                      struct x86_insn *i)
{
    bool mode64 = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    struct native_head head = {.host_mxcsr = MXCSR_DEFAULT};
    struct emitter e = {.size = sizeof(head)};

    emit_loads(&e, s);
    emit_insn(&e, s, z, operands, bytes, mode64);
    emit_stores(&e, s);
    emit_return(&e, s, true);
    if (s->mxcsr) {
        head.fault_exit = e.size - (u32)sizeof(head);
        emit_return(&e, s, false);
    }
    memcpy(e.bytes, &head, sizeof(head));
    const u8 *code = c->ops->native_emit(c, e.bytes, e.size);
    if (!code)
        return DECODE_FULL;
    i->native = (void *)(code + sizeof(head));
    return DECODE_OK;
}

/* -- Features ------------------------------------------------------------------------------ */

enum x86_feature native_feature(const ZydisDecodedInstruction *z)
{
    if (z->meta.isa_set == ZYDIS_ISA_SET_PPRO && is_x87(z))
        return FEAT_CMOV; /* FCOMI, FUCOMI */
    switch (z->meta.isa_set) {
    case ZYDIS_ISA_SET_X87:
        return FEAT_FPU;
    case ZYDIS_ISA_SET_FCMOV:
        return FEAT_CMOV;
    case ZYDIS_ISA_SET_PENTIUMMMX:
        return FEAT_MMX;
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSEMXCSR:
        return FEAT_SSE;
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
        return FEAT_SSE2;
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSE3X87:
        return FEAT_SSE3;
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX:
        return FEAT_SSSE3;
    case ZYDIS_ISA_SET_SSE4:
        return FEAT_SSE4_1;
    case ZYDIS_ISA_SET_SSE42:
        return FEAT_SSE4_2;
    case ZYDIS_ISA_SET_SSE4A:
        return FEAT_SSE4A;
    case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_AVXAES:
        return FEAT_AES;
    case ZYDIS_ISA_SET_PCLMULQDQ:
        return FEAT_PCLMULQDQ;
    case ZYDIS_ISA_SET_SHA:
        return FEAT_SHA;
    case ZYDIS_ISA_SET_GFNI:
    case ZYDIS_ISA_SET_AVX_GFNI:
        return FEAT_GFNI;
    case ZYDIS_ISA_SET_AVX:
        return FEAT_AVX;
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVX2GATHER:
        return FEAT_AVX2;
    case ZYDIS_ISA_SET_FMA:
        return FEAT_FMA;
    case ZYDIS_ISA_SET_F16C:
        return FEAT_F16C;
    case ZYDIS_ISA_SET_VAES:
        return FEAT_VAES;
    case ZYDIS_ISA_SET_VPCLMULQDQ:
        return FEAT_VPCLMULQDQ;
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
        return FEAT_FXSR;
    case ZYDIS_ISA_SET_XSAVE:
        return FEAT_XSAVE;
    case ZYDIS_ISA_SET_XSAVEC:
        return FEAT_XSAVEC;
    case ZYDIS_ISA_SET_XSAVEOPT:
        return FEAT_XSAVEOPT;
    case ZYDIS_ISA_SET_XSAVES:
        return FEAT_XSAVES;
    default:
        return FEAT_NEVER;
    }
}

static bool available(const struct x86_cpu *c, const ZydisDecodedInstruction *z)
{
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        if (!x86_has(c->model, FEAT_AVX))
            return false;
    } else if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
        return false;
    }
    return x86_has(c->model, native_feature(z));
}

/* -- Operand rules ------------------------------------------------------------------------- */

/* Must a 16- or 32-byte memory operand be aligned? SDM vol. 2, 2.4. */
static bool must_align(const struct x86_cpu *c, const ZydisDecodedInstruction *z,
                       const struct shape *s, unsigned size)
{
    if (z->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX1)
        return true;
    if (s->vex || s->x87 || size != 16)
        return false;
    if (z->meta.isa_set == ZYDIS_ISA_SET_SHA)
        return !x86_quirk(c->model, QUIRK_SHA_UNALIGNED);
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        return false;
    default:
        return true;
    }
}

static void lower_memory(const struct x86_cpu *c, const ZydisDecodedInstruction *z,
                         const struct shape *s, struct x86_insn *i)
{
    if (!s->mem)
        return;
    i->mem_size = (u8)(s->mem->size / 8);
    if (s->mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        i->native_flags |= NATIVE_LOAD;
    if (s->mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        i->native_flags |= NATIVE_STORE;
    if (must_align(c, z, s, i->mem_size))
        i->flags |= INSN_ALIGN;
    if (z->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX11 &&
        x86_quirk(c->model, QUIRK_HALF))
        i->native_flags |= NATIVE_HALF;
}

/* opd[] for the handlers in C, whatever x86_decode made of it. */
static void lower_operands(const ZydisDecodedInstruction *z,
                           const ZydisDecodedOperand *operands, struct x86_insn *i)
{
    for (unsigned k = 0; k < z->operand_count_visible && k < 4; k++) {
        const ZydisDecodedOperand *o = &operands[k];
        struct x86_operand *opd = &i->opd[k];
        opd->size = (u8)(o->size / 8);
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            opd->kind = OPD_MEM;
            continue;
        }
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        opd->reg = (u8)ZydisRegisterGetId(o->reg.value);
        switch (ZydisRegisterGetClass(o->reg.value)) {
        case ZYDIS_REGCLASS_XMM:
            opd->kind = OPD_XMM;
            break;
        case ZYDIS_REGCLASS_YMM:
            opd->kind = OPD_YMM;
            break;
        case ZYDIS_REGCLASS_MMX:
            opd->kind = OPD_MMX;
            break;
        default:
            opd->kind = OPD_GPR;
            opd->reg = (u8)gpr_number(o);
        }
    }
}

static x86_handler *thunk_handler(const struct shape *s, const ZydisDecodedInstruction *z)
{
    if (s->x87)
        return exec_native_x87;
    if (s->mmx_read | s->mmx_write)
        return s->vec_read | s->vec_write ? exec_native_mmx_sse : exec_native_mmx;
    if (s->vex)
        return exec_native_avx;
    return s->vec_read | s->vec_write ? exec_native_sse : exec_native_plain;
}

enum x86_decode_result native_lower(struct x86_cpu *c, const ZydisDecodedInstruction *z,
                                    const ZydisDecodedOperand *operands, const u8 *bytes,
                                    struct x86_insn *i)
{
    struct shape s;

    i->mem_size = 0;
    i->native_flags = 0;
    if (!available(c, z)) {
        i->exec = exec_ud;
        return DECODE_OK;
    }
    shape_init(&s, z, operands);
    if (s.vex)
        i->flags |= INSN_VEX;
    lower_memory(c, z, &s, i);
    lower_operands(z, operands, i);
    if (s.mmx_read | s.mmx_write)
        i->native_flags |= NATIVE_MMX;

    i->exec = native_move_handler(z, i);
    if (!i->exec)
        i->exec = native_mask_handler(z, operands, i);
    if (i->exec)
        return DECODE_OK;
    i->exec = thunk_handler(&s, z);
    if (s.mxcsr)
        i->native_flags |= NATIVE_MXCSR;
    if (s.x87) /* FOP, SDM vol. 1, 8.1.9 */
        i->imm2 = (u16)((z->opcode & 7) << 8 | bytes[z->raw.modrm.offset]);
    return publish(c, &s, z, operands, bytes, i);
}
