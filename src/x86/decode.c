/*
 * From bytes to struct x86_insn: Zydis finds the instruction and its operands; here they are
 * lowered to what handlers want, the handler is chosen, and what this processor model does not
 * have becomes #UD.
 */
#include <Zydis/Zydis.h>

#include "base/ensure.h"
#include "x86/decoder.h"
#include "x86/insn.h"
#include "x86/model.h"
#include "x86/native.h"
#include "x86/opcodes.h"
#include "x86/specialize.h"

/* More than 15 bytes (SDM vol. 2, 2.3.11). */
static void exec_too_long(struct x86_cpu *c, struct x86_insn *i)
{
    x86_raise_error(c, VEC_GP, 0);
}

/* -- Zydis --------------------------------------------------------------------------------- */

void x86_decoder_init(ZydisDecoder *d, const struct x86_model *model, unsigned code_size)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } modes[] = {
        [2] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [4] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [8] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    const struct {
        ZydisDecoderMode mode;
        bool on;
    } settings[] = {
        {ZYDIS_DECODER_MODE_AMD_BRANCHES, x86_quirk(model, QUIRK_BRANCH_16)},
        /* Hints to processors without these: NOP, or the instruction without its prefix. */
        {ZYDIS_DECODER_MODE_MPX, false},
        {ZYDIS_DECODER_MODE_CET, false},
        {ZYDIS_DECODER_MODE_CLDEMOTE, false},
        {ZYDIS_DECODER_MODE_LZCNT, x86_has(model, FEAT_ABM)},
        {ZYDIS_DECODER_MODE_TZCNT, x86_has(model, FEAT_BMI1)},
        {ZYDIS_DECODER_MODE_WBNOINVD, x86_has(model, FEAT_WBNOINVD)},
    };
    ZydisDecoderInit(d, modes[code_size].mode, modes[code_size].stack);
    for (size_t k = 0; k < ARRAY_LEN(settings); k++)
        ZydisDecoderEnableMode(d, settings[k].mode, settings[k].on);
}

/* SIB without a base but with a 32-bit displacement; Zydis 4.0 takes R13D for the base there
 * when the address size is 32 in 64-bit code. */
static bool sib_has_no_base(const ZydisDecodedInstruction *z)
{
    return z->attributes & ZYDIS_ATTRIB_HAS_SIB && z->raw.modrm.mod == 0 &&
           z->raw.sib.base == 5;
}

ZyanStatus x86_decoder_decode(const ZydisDecoder *d, const u8 *bytes, unsigned size,
                              ZydisDecodedInstruction *z,
                              ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT])
{
    ZyanStatus status = ZydisDecoderDecodeFull(d, bytes, size, z, operands);
    if (!ZYAN_SUCCESS(status) || !sib_has_no_base(z))
        return status;
    for (unsigned k = 0; k < z->operand_count; k++) {
        if (operands[k].type != ZYDIS_OPERAND_TYPE_MEMORY ||
            operands[k].encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        operands[k].mem.base = ZYDIS_REGISTER_NONE;
        operands[k].mem.disp.value = z->raw.disp.value;
    }
    return status;
}

/* -- Operands ------------------------------------------------------------------------------ */

/* Register families of Zydis that are numbered without gaps, as kinds of operands. */
static const struct reg_range {
    u16 first, last;
    u8 kind, reg;
} reg_ranges[] = {
    {ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15, OPD_GPR, RAX},
    {ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D, OPD_GPR, RAX},
    {ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W, OPD_GPR, RAX},
    {ZYDIS_REGISTER_AL, ZYDIS_REGISTER_BL, OPD_GPR, RAX},
    {ZYDIS_REGISTER_AH, ZYDIS_REGISTER_BH, OPD_HIGH8, RAX},
    {ZYDIS_REGISTER_SPL, ZYDIS_REGISTER_DIL, OPD_GPR, RSP},
    {ZYDIS_REGISTER_R8B, ZYDIS_REGISTER_R15B, OPD_GPR, R8},
    {ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS, OPD_SEG, SEG_ES},
    {ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15, OPD_CR, 0},
    {ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15, OPD_DR, 0},
    {ZYDIS_REGISTER_XMM0, ZYDIS_REGISTER_XMM15, OPD_XMM, 0},
    {ZYDIS_REGISTER_YMM0, ZYDIS_REGISTER_YMM15, OPD_YMM, 0},
    {ZYDIS_REGISTER_MM0, ZYDIS_REGISTER_MM7, OPD_MMX, 0},
    {ZYDIS_REGISTER_ST0, ZYDIS_REGISTER_ST7, OPD_ST, 0},
};

/* The range that holds `reg`; NULL: none of ours. */
static const struct reg_range *reg_range(ZydisRegister reg)
{
    for (size_t k = 0; k < ARRAY_LEN(reg_ranges); k++)
        if (reg >= reg_ranges[k].first && reg <= reg_ranges[k].last)
            return &reg_ranges[k];
    return NULL;
}

static u8 address_reg(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return BASE_RIP;
    const struct reg_range *range = reg_range(reg);
    if (!range || range->kind != OPD_GPR)
        return BASE_NONE;
    return (u8)(reg - range->first + range->reg);
}

static void lower_memory(struct x86_insn *i, const ZydisDecodedOperand *o)
{
    i->disp = o->mem.disp.value;
    i->base = address_reg(o->mem.base);
    i->index = address_reg(o->mem.index);
    i->scale = o->mem.scale ? (u8)__builtin_ctz(o->mem.scale) : 0;
    if (o->mem.segment != ZYDIS_REGISTER_NONE)
        i->seg = (u8)(o->mem.segment - ZYDIS_REGISTER_ES);
}

static void lower_immediate(struct x86_insn *i, const ZydisDecodedOperand *o, bool first)
{
    if (first)
        i->imm = o->imm.value.u;
    else
        i->imm2 = (u16)o->imm.value.u;
}

static void lower_operands(struct x86_insn *i, const ZydisDecodedInstruction *z,
                           const ZydisDecodedOperand *ops)
{
    unsigned immediates = 0;
    unsigned n = z->operand_count_visible;
    for (unsigned k = 0; k < n && k < ARRAY_LEN(i->opd); k++) {
        const ZydisDecodedOperand *o = &ops[k];
        struct x86_operand *out = &i->opd[k];
        out->size = (u8)(o->size / 8);
        switch (o->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER: {
            const struct reg_range *range = reg_range(o->reg.value);
            if (range) {
                out->kind = range->kind;
                out->reg = (u8)(o->reg.value - range->first + range->reg);
            }
            break;
        }
        case ZYDIS_OPERAND_TYPE_MEMORY:
            out->kind = OPD_MEM;
            lower_memory(i, o);
            break;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            out->kind = OPD_IMM;
            out->size = k ? i->opd[0].size : i->opsize;
            lower_immediate(i, o, immediates++ == 0);
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            out->kind = OPD_IMM;
            i->imm = o->ptr.offset;
            i->imm2 = o->ptr.segment;
            break;
        default:
            break;
        }
    }
}

/* QUIRK_BRANCH_16, unless REX.W is there too. Zydis knows only those with a 32-bit
 * displacement. */
static void lower_branch_16(struct x86_insn *i, const ZydisDecodedInstruction *z)
{
    bool near = z->meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
                z->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
    if (near && (z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) && !z->raw.rex.W) {
        i->opsize = 2;
        i->opd[0].size = 2;
    }
}

/* -- String instructions ------------------------------------------------------------------- */

/*
 * The last of F2 and F3 counts; where the instruction compares nothing they mean the same. The
 * one operand that a segment prefix changes is that at rSI.
 */
static void lower_string(struct x86_insn *i, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *ops)
{
    u8 repeat = 0;
    for (unsigned k = 0; k < z->raw.prefix_count; k++) {
        if (z->raw.prefixes[k].value == 0xf3)
            repeat = INSN_REP;
        else if (z->raw.prefixes[k].value == 0xf2)
            repeat = INSN_REPNE;
    }
    if (repeat)
        i->flags |= repeat | INSN_ENDS;
    for (unsigned k = 0; k < z->operand_count; k++) {
        if (ops[k].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        i->opsize = (u8)(ops[k].size / 8);
        if (address_reg(ops[k].mem.base) == RSI)
            i->seg = (u8)(ops[k].mem.segment - ZYDIS_REGISTER_ES);
    }
}

static void lower_xlat(struct x86_insn *i, const ZydisDecodedInstruction *z,
                       const ZydisDecodedOperand *ops)
{
    for (unsigned k = 0; k < z->operand_count; k++)
        if (ops[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
            lower_memory(i, &ops[k]);
}

/* -- Handlers ------------------------------------------------------------------------------ */

static x86_handler *system_mov(u8 to, u8 from)
{
    if (to == OPD_SEG || from == OPD_SEG)
        return to == OPD_SEG ? exec_mov_to_seg : exec_mov_from_seg;
    if (to == OPD_CR || from == OPD_CR)
        return to == OPD_CR ? exec_mov_to_cr : exec_mov_from_cr;
    if (to == OPD_DR || from == OPD_DR)
        return to == OPD_DR ? exec_mov_to_dr : exec_mov_from_dr;
    return NULL;
}

/* Forms with a handler of their own among those that share a mnemonic; NULL: the row's. */
static x86_handler *variant_handler(const struct x86_insn *i, const ZydisDecodedInstruction *z)
{
    bool far = z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return system_mov(i->opd[0].kind, i->opd[1].kind);
    case ZYDIS_MNEMONIC_PUSH:
        return i->opd[0].kind == OPD_SEG ? exec_push_seg : NULL;
    case ZYDIS_MNEMONIC_POP:
        return i->opd[0].kind == OPD_SEG ? exec_pop_seg : NULL;
    case ZYDIS_MNEMONIC_JMP:
        return far ? exec_jmp_far : NULL;
    case ZYDIS_MNEMONIC_CALL:
        return far ? exec_call_far : NULL;
    case ZYDIS_MNEMONIC_RET:
        return far ? exec_ret_far : NULL;
    default:
        return NULL;
    }
}

static void choose_handler(const struct x86_model *model, const ZydisDecodedInstruction *z,
                           const struct x86_opcode *row, unsigned code_size, struct x86_insn *i)
{
    x86_handler *variant = variant_handler(i, z);
    i->flags |= row->flags;
    i->exec = variant ? variant : row->exec;
    if (variant) {
        i->flags |= INSN_ENDS;
    } else if (i->exec == exec_alu || i->exec == exec_compare || i->exec == exec_scan ||
               i->exec == exec_vex || i->exec == exec_bit_test || i->exec == exec_imul) {
        specialize_alu(i, model);
    } else if (i->exec == exec_jcc || i->exec == exec_cmov || i->exec == exec_set) {
        i->imm2 = z->opcode & 15;
        specialize_branch(i, code_size);
    } else {
        specialize_move(i);
        specialize_branch(i, code_size);
    }
}

/* MOVSD and CMPSD are also SSE2's; these are the strings'. */
static const struct x86_opcode string_movsd = {exec_movs, FEAT_ALWAYS, 0};
static const struct x86_opcode string_cmpsd = {exec_cmps, FEAT_ALWAYS, 0};

static const struct x86_opcode *find_row(const ZydisDecodedInstruction *z, bool string)
{
    if (string && z->mnemonic == ZYDIS_MNEMONIC_MOVSD)
        return &string_movsd;
    if (string && z->mnemonic == ZYDIS_MNEMONIC_CMPSD)
        return &string_cmpsd;
    return x86_opcode(z->mnemonic);
}

bool x86_decoder_xchg_r8(const struct x86_model *model, const ZydisDecodedInstruction *z)
{
    return x86_quirk(model, QUIRK_PAUSE_R8) && z->mnemonic == ZYDIS_MNEMONIC_PAUSE &&
           z->raw.rex.B;
}

static void lower_xchg_r8(struct x86_insn *i)
{
    i->mnemonic = ZYDIS_MNEMONIC_XCHG;
    i->exec = exec_xchg;
    i->opd[0] = (struct x86_operand){OPD_GPR, R8, i->opsize};
    i->opd[1] = (struct x86_operand){OPD_GPR, RAX, i->opsize};
}

bool x86_decoder_bad_prefetch(const struct x86_model *model, const ZydisDecodedInstruction *z)
{
    return x86_quirk(model, QUIRK_PREFETCH_MEMORY) && z->opcode_map == ZYDIS_OPCODE_MAP_0F &&
           z->opcode == 0x0d && z->raw.modrm.mod == 3;
}

static enum x86_decode_result decode_fault(struct x86_insn *i, x86_handler *exec)
{
    *i = (struct x86_insn){.exec = exec, .length = 1, .opsize = 4, .adsize = 4};
    i->flags = INSN_ENDS;
    i->base = i->index = BASE_NONE;
    return DECODE_OK;
}

static enum x86_decode_result lower(struct x86_cpu *c, const ZydisDecodedInstruction *z,
                                    const ZydisDecodedOperand *ops, const u8 *bytes,
                                    unsigned code_size, struct x86_insn *i)
{
    *i = (struct x86_insn){
        .mnemonic = (u16)z->mnemonic,
        .length = z->length,
        .opsize = z->operand_width / 8,
        .adsize = z->address_width / 8,
        .seg = SEG_DS,
        .base = BASE_NONE,
        .index = BASE_NONE,
    };
    if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        i->flags |= INSN_LOCK;
    lower_operands(i, z, ops);
    bool string = z->meta.category == ZYDIS_CATEGORY_STRINGOP ||
                  z->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
    if (string)
        lower_string(i, z, ops);
    else if (z->mnemonic == ZYDIS_MNEMONIC_XLAT)
        lower_xlat(i, z, ops);
    else if (x86_quirk(c->model, QUIRK_BRANCH_16) && code_size == 8)
        lower_branch_16(i, z);
    if (z->mnemonic == ZYDIS_MNEMONIC_MOVSXD && i->opsize == 2 &&
        x86_quirk(c->model, QUIRK_MOVSXD_16))
        i->opd[1].size = 2;
    const struct x86_opcode *row = find_row(z, string);
    if (!row->exec)
        return native_lower(c, z, ops, bytes, i);
    if (x86_decoder_xchg_r8(c->model, z)) {
        lower_xchg_r8(i);
        return DECODE_OK;
    }
    if (!x86_has(c->model, row->feature) || x86_decoder_bad_prefetch(c->model, z))
        return decode_fault(i, exec_ud);
    choose_handler(c->model, z, row, code_size, i);
    return DECODE_OK;
}

enum x86_decode_result x86_decode(struct x86_cpu *c, const u8 *bytes, unsigned size,
                                  unsigned code_size, struct x86_insn *i)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ensure(code_size == 2 || code_size == 4 || code_size == 8);
    x86_decoder_init(&decoder, c->model, code_size);
    ZyanStatus status = x86_decoder_decode(&decoder, bytes, size, &z, ops);
    if (status == ZYDIS_STATUS_NO_MORE_DATA)
        return DECODE_SHORT;
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        return decode_fault(i, exec_too_long);
    if (!ZYAN_SUCCESS(status))
        return decode_fault(i, exec_ud);
    return lower(c, &z, ops, bytes, code_size, i);
}
