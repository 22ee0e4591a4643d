/* From bytes to struct guest_insn, see guest.h. */
#include "engine/bt/guest.h"

#include <string.h>

#include "engine/bt/memo.h"
#include "x86/decoder.h"
#include "x86/native.h"

/* -- Which group an instruction belongs to ------------------------------------------------- */

/* What the groups of x86/ say about a mnemonic; the vector group is known by its ISA set. */
enum group { GROUP_NONE, GROUP_INTEGER, GROUP_SYSTEM };

struct rule {
    u8 group;
    u16 feature;
};

static const struct rule rules[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define OP(name, handler, feat, flags) [ZYDIS_MNEMONIC_##name] = {GROUP_INTEGER, feat},
#include "x86/exec_integer.def"
#undef OP
#define OP(name, handler, feat, flags) [ZYDIS_MNEMONIC_##name] = {GROUP_SYSTEM, feat},
#include "x86/exec_system.def"
#undef OP
};

/* Integer and vector instructions that are more than a copy: the kind, for every form. */
static u8 special_kind(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_CLD: /* DF is part of the mode, and clear in every translation */
        return GUEST_SKIP;
    case ZYDIS_MNEMONIC_PUSH:
        return GUEST_PUSH;
    case ZYDIS_MNEMONIC_POP:
        return GUEST_POP;
    case ZYDIS_MNEMONIC_LEAVE:
        return GUEST_LEAVE;
    case ZYDIS_MNEMONIC_JMP:
        return GUEST_JUMP;
    case ZYDIS_MNEMONIC_CALL:
        return GUEST_CALL;
    case ZYDIS_MNEMONIC_RET:
        return GUEST_RETURN;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JCXZ:
        return GUEST_LOOP;
    case ZYDIS_MNEMONIC_LEA:
        return GUEST_ADDRESS;
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
        return GUEST_SYSTEM;
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_CLFLUSH: /* needs the guest's right to read, not the line */
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_CLZERO:
    case ZYDIS_MNEMONIC_AAA: /* from here on: not in the host's 64-bit code */
    case ZYDIS_MNEMONIC_AAD:
    case ZYDIS_MNEMONIC_AAM:
    case ZYDIS_MNEMONIC_AAS:
    case ZYDIS_MNEMONIC_BOUND:
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
    case ZYDIS_MNEMONIC_SALC:
        return GUEST_SIMULATE;
    default:
        return GUEST_COPY;
    }
}

/* ISA sets of the vector group that store or load whole states. */
static bool moves_state(const ZydisDecodedInstruction *z)
{
    switch (z->meta.isa_set) {
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT:
    case ZYDIS_ISA_SET_XSAVES:
        return true;
    default:
        return false;
    }
}

static u8 unit_of(const ZydisDecodedInstruction *z)
{
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return UNIT_AVX;
    switch (z->meta.isa_set) {
    case ZYDIS_ISA_SET_X87:
    case ZYDIS_ISA_SET_FCMOV:
    case ZYDIS_ISA_SET_PPRO:
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSE3X87:
    case ZYDIS_ISA_SET_SSSE3MMX:
        return UNIT_X87;
    default:
        return UNIT_SSE;
    }
}

static u8 vector_kind(const struct guest_decoder *d, const ZydisDecodedInstruction *z)
{
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return GUEST_SYSTEM;
    enum x86_feature feature = native_feature(z);
    if (!x86_has(d->model, feature) ||
        (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && !x86_has(d->model, FEAT_AVX)))
        return GUEST_SYSTEM; /* #UD */
    if (moves_state(z) || z->meta.category == ZYDIS_CATEGORY_AVX2GATHER)
        return GUEST_SIMULATE;
    /* Outside 64-bit code they leave the upper eight registers alone. */
    if ((z->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || z->mnemonic == ZYDIS_MNEMONIC_VZEROALL) &&
        z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
        return GUEST_SIMULATE;
    return special_kind((u16)z->mnemonic);
}

static bool is_repeated(const ZydisDecodedInstruction *z)
{
    return z->attributes &
           (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* Forms of the integer group that the host would run otherwise than the guest's processor. */
static bool host_differs(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_BSF: /* F3 makes them TZCNT and LZCNT where the host has those */
    case ZYDIS_MNEMONIC_BSR:
        for (unsigned i = 0; i < z->raw.prefix_count; i++) {
            if (z->raw.prefixes[i].value == 0xf3)
                return true;
        }
        return is_repeated(z);
    default:
        return false;
    }
}

/* Of the system group: those behind which control goes on in sequence. What they have changed
 * of the mode and of translations is looked at then (dispatch.c). */
static bool goes_on(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_ARPL:
    case ZYDIS_MNEMONIC_CLTS:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LIDT:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_WBINVD:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_XGETBV:
        return true;
    default:
        return false;
    }
}

/* MOVSD and CMPSD are SSE2's too. */
static bool is_string(const ZydisDecodedInstruction *z)
{
    return z->meta.category == ZYDIS_CATEGORY_STRINGOP;
}

static u8 classify(const struct guest_decoder *d, const ZydisDecodedInstruction *z)
{
    const struct rule *rule = &rules[z->mnemonic];
    if (is_string(z))
        return is_repeated(z) ? GUEST_SIMULATE : GUEST_STRING;
    if (rule->group == GROUP_NONE)
        return vector_kind(d, z);
    if (!x86_has(d->model, (enum x86_feature)rule->feature) ||
        x86_decoder_bad_prefetch(d->model, z))
        return GUEST_SYSTEM; /* #UD */
    if (rule->group == GROUP_SYSTEM)
        return goes_on((u16)z->mnemonic) ? GUEST_SIMULATE : GUEST_SYSTEM;
    if (z->meta.category == ZYDIS_CATEGORY_COND_BR &&
        special_kind((u16)z->mnemonic) == GUEST_COPY)
        return GUEST_JUMP_IF;
    return host_differs(z) ? GUEST_SIMULATE : special_kind((u16)z->mnemonic);
}

/* -- Flags --------------------------------------------------------------------------------- */

bool guest_is_shift(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
        return true;
    default:
        return false;
    }
}

static bool shift_count_known(const ZydisDecodedInstruction *z,
                              const ZydisDecodedOperand *operands)
{
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        if (operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
            return operands[i].imm.value.u & (z->operand_width == 64 ? 63 : 31);
    }
    return false;
}

/*
 * Does the instruction overwrite the flags that its manual page calls undefined? Undefined may
 * mean unchanged: MUL and DIV of AMD's processors leave SF, ZF, AF and PF. AND, OR, XOR, TEST
 * and shifts by a constant write all six on every processor, AF with a value that the manuals
 * do not promise. It matters, as AF is else live nearly everywhere.
 */
static bool writes_undefined(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
        return true;
    default:
        return false;
    }
}

static void find_flags(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                       struct guest_insn *g)
{
    if (!z->cpu_flags)
        return;
    const ZydisAccessedFlags *f = z->cpu_flags;
    g->flags_read = (u16)(f->tested & FLAGS_STATUS);
    u32 sure = f->modified | f->set_0 | f->set_1;
    g->flags_write = (u16)((sure | f->undefined) & FLAGS_STATUS);
    g->flags_kill = writes_undefined(z) ? g->flags_write : (u16)(sure & FLAGS_STATUS);
    if (guest_is_shift(z) && !shift_count_known(z, operands))
        g->flags_kill = 0;
    else if (z->meta.category == ZYDIS_CATEGORY_ROTATE)
        g->flags_kill &= (u16)~FLAG_OF;
}

/* -- Operands ------------------------------------------------------------------------------ */

static u8 gpr_of(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return BASE_NONE;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return BASE_RIP;
    return (u8)ZydisRegisterGetId(
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg));
}

static void add_register(const ZydisDecodedOperand *o, struct guest_insn *g)
{
    ZydisRegister reg = o->reg.value;
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
        g->high8 |= reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
        break;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        break;
    default:
        return;
    }
    g->reg_field |= o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
    g->vvvv |= o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD;
    u16 bit = (u16)(1u << (gpr_of(reg) & 15));
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        g->regs_read |= bit;
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
        g->regs_written |= bit;
        if (o->size < 32 || (o->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
            g->regs_partial |= bit;
    }
}

static u8 seg_of(ZydisRegister reg)
{
    return reg == ZYDIS_REGISTER_NONE ? SEG_DS : (u8)(ZydisRegisterGetId(reg));
}

static void add_memory(const ZydisDecodedOperand *o, struct guest_insn *g)
{
    g->memory = true;
    g->mem_write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    g->mem_size = (u8)(o->size / 8);
    g->seg = seg_of(o->mem.segment);
    g->base = gpr_of(o->mem.base);
    g->index = gpr_of(o->mem.index);
    g->scale = o->mem.scale ? (u8)__builtin_ctz(o->mem.scale) : 0;
    g->disp = o->mem.disp.value;
}

/* Outside 64-bit code targets are cut to the operand size. */
u64 guest_target(const struct guest_insn *g, u64 displacement)
{
    u64 target = g->rip + g->length + displacement;
    if (g->code_size == 8)
        return target;
    return g->opsize == 2 ? (u16)target : (u32)target;
}

/* Operands; returns false for a memory operand that no plain access can replace. */
static bool find_operands(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                          struct guest_insn *g)
{
    bool plain = true;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *o = &operands[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            add_register(o, g);
        } else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            g->imm = o->imm.is_relative ? guest_target(g, o->imm.value.u) : o->imm.value.u;
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
                   o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
            add_memory(o, g);
            plain = o->mem.type == ZYDIS_MEMOP_TYPE_MEM && o->size >= 8 && o->size <= 512;
        }
    }
    return plain;
}

/* The segment that counts is that of the operand at RSI, which a prefix may change. */
static void lower_string(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                         struct guest_insn *g)
{
    g->string = true;
    g->memory = false;
    g->seg = SEG_DS;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *o = &operands[i];
        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        g->mem_size = (u8)(o->size / 8);
        if (gpr_of(o->mem.base) == RSI)
            g->seg = seg_of(o->mem.segment);
    }
}

/* -- Shape --------------------------------------------------------------------------------- */

/*
 * Does the host need 66 for this? In 16-bit code it means the opposite, but where it stands for
 * a part of the opcode: then it names no size.
 */
static bool needs_size_prefix(const ZydisDecodedInstruction *z,
                              const ZydisDecodedOperand *operands, unsigned code_size)
{
    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        if (z->raw.prefixes[i].value == 0x66 &&
            (code_size != 2 || z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY))
            return true;
    }
    if (code_size != 2 || rules[z->mnemonic].group != GROUP_INTEGER ||
        z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || z->operand_width != 16)
        return false;
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (operands[i].size == 16)
            return true;
    }
    return false;
}

static void find_shape(const ZydisDecodedInstruction *z, struct guest_insn *g)
{
    u8 at = z->raw.prefix_count;
    if (z->attributes & ZYDIS_ATTRIB_HAS_REX) {
        g->rex = g->bytes[z->raw.rex.offset];
        at = z->raw.rex.offset + 1;
        g->prefixes = z->raw.rex.offset;
    } else if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        g->vex = z->raw.vex.size;
        g->prefixes = z->raw.vex.offset;
        at = z->raw.vex.offset + z->raw.vex.size;
    } else {
        g->prefixes = at;
    }
    g->opcode = at;
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        g->modrm = z->raw.modrm.offset;
        g->tail = (u8)(g->modrm + 1 + ((z->attributes & ZYDIS_ATTRIB_HAS_SIB) ? 1 : 0) +
                       z->raw.disp.size / 8);
    } else {
        g->tail = z->length;
    }
}

/* May the host raise an exception on its own for this copy? Then its place must be known. */
static bool may_fault(const ZydisDecodedInstruction *z, u8 group)
{
    if (group == GROUP_NONE)
        return true;
    return z->mnemonic == ZYDIS_MNEMONIC_DIV || z->mnemonic == ZYDIS_MNEMONIC_IDIV ||
           z->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
}

/* Loads and stores that change no flags, and fault for nothing but the access itself. */
static bool is_move(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVBE:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
        return true;
    default:
        return false;
    }
}

/* -- Kinds that depend on the operands ----------------------------------------------------- */

/* MOV has forms for segment, control and debug registers: anything but plain registers. */
static u8 kind_of_move(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands)
{
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(operands[i].reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64:
            break;
        case ZYDIS_REGCLASS_SEGMENT:
            return i ? GUEST_FROM_SEGMENT : GUEST_TO_SEGMENT;
        default:
            return GUEST_SIMULATE; /* a control or debug register */
        }
    }
    return GUEST_COPY;
}

/* Outside 64-bit mode some bits of a VEX prefix count for nothing; the host would see registers
 * and sizes in them (SDM vol. 2, 2.3.5). */
static bool vex_differs(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                        const struct guest_insn *g)
{
    if (!g->vex || g->code_size == 8)
        return false;
    const u8 *vex = g->bytes + g->opcode - g->vex;
    if (!(vex[g->vex - 1] & 0x40) || (g->vex == 3 && !(vex[1] & 0x20)))
        return true;
    bool gpr = false;
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        const ZydisDecodedOperand *o = &operands[i];
        if (o->encoding == ZYDIS_OPERAND_ENCODING_IS4 && g->bytes[g->length - 1] & 0x80)
            return true;
        gpr |= o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR32;
    }
    return g->vex == 3 && (vex[2] & 0x80) && (gpr || g->opsize == 4);
}

static void refine(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                   struct guest_insn *g)
{
    bool any = z->operand_count_visible;
    bool memory = any && operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    bool segment = any && operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                   ZydisRegisterGetClass(operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
    bool near = z->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
    /* Smaller operands in 64-bit code are rare, and for branches the vendors' own. */
    bool usual = g->code_size != 8 || z->operand_width == 64;
    switch (g->kind) {
    case GUEST_PUSH:
        if (segment)
            g->segment = seg_of(operands[0].reg.value);
        if (!usual)
            g->kind = GUEST_SIMULATE;
        break;
    case GUEST_POP:
        if (segment)
            g->segment = seg_of(operands[0].reg.value);
        /* The address counts from the stack pointer behind it: a narrow one may wrap. */
        if (!usual || (memory && g->base == RSP && g->code_size == 2))
            g->kind = GUEST_SIMULATE;
        else if (segment)
            g->kind = GUEST_POP_SEGMENT;
        break;
    case GUEST_JUMP:
    case GUEST_CALL:
        if (!near || !usual)
            g->kind = GUEST_SYSTEM;
        else if (operands[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
            g->kind = g->kind == GUEST_JUMP ? GUEST_JUMP_TO : GUEST_CALL_TO;
        break;
    case GUEST_RETURN:
        if (!near || !usual)
            g->kind = GUEST_SYSTEM;
        break;
    case GUEST_JUMP_IF:
    case GUEST_LOOP:
        if (g->code_size == 8 && z->operand_width == 16)
            g->kind = GUEST_SYSTEM;
        break;
    case GUEST_LEAVE:
        if (!usual)
            g->kind = GUEST_SIMULATE;
        break;
    case GUEST_COPY:
        /* A register bit offset reaches beyond the operand. */
        if (z->meta.category == ZYDIS_CATEGORY_BITBYTE && memory &&
            operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
            g->kind = g->opsize == 2 || g->adsize == 2 ? GUEST_SIMULATE : GUEST_BIT;
        if (z->mnemonic == ZYDIS_MNEMONIC_MOV)
            g->kind = kind_of_move(z, operands);
        if (g->kind == GUEST_FROM_SEGMENT || g->kind == GUEST_TO_SEGMENT)
            g->segment = seg_of(operands[g->kind == GUEST_FROM_SEGMENT].reg.value);
        if (vex_differs(z, operands, g))
            g->kind = GUEST_SIMULATE;
        break;
    }
}

/* Two of the freed registers beside a memory operand leave nothing to address it with. */
static bool too_many_registers(const struct guest_insn *g)
{
    u16 both = BIT(R10) | BIT(R11);
    return g->memory && ((g->regs_read | g->regs_written) & both) == both;
}

/* LEA accesses nothing: its address registers are operands. */
static void lower_lea(struct guest_insn *g)
{
    g->memory = false;
    if (g->base < 16)
        g->regs_read |= (u16)BIT(g->base);
    if (g->index < 16)
        g->regs_read |= (u16)BIT(g->index);
}

void guest_decoder_init(struct guest_decoder *d, const struct x86_model *model)
{
    d->model = model;
    for (unsigned i = 0; i < ARRAY_LEN(d->zydis); i++)
        x86_decoder_init(&d->zydis[i], model, 2u << i);
}

static bool decode_anew(struct guest_decoder *d, const struct memo_key *key, u64 rip,
                        struct guest_insn *g)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    unsigned code_size = key->code_size;
    memset(g, 0, sizeof(*g));
    g->rip = rip;
    g->code_size = key->code_size;
    g->base = g->index = BASE_NONE;
    g->segment = SEG_COUNT;
    ZyanStatus status =
        x86_decoder_decode(&d->zydis[code_size / 4], key->bytes, key->size, &z, operands);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && key->size < GUEST_BYTES)
        return false;
    memcpy(g->bytes, key->bytes, GUEST_BYTES);
    if (!ZYAN_SUCCESS(status)) {
        g->kind = GUEST_SYSTEM; /* #UD, or #GP for the length: the simulator knows */
        g->length = 1;
        return true;
    }
    g->length = z.length;
    g->mnemonic = (u16)z.mnemonic;
    g->opsize = z.operand_width / 8;
    g->adsize = z.address_width / 8;
    g->kind = classify(d, &z);
    g->size_prefix = needs_size_prefix(&z, operands, code_size);
    find_shape(&z, g);
    find_flags(&z, operands, g);
    bool plain = find_operands(&z, operands, g);
    refine(&z, operands, g);
    if (x86_decoder_xchg_r8(d->model, &z))
        g->regs_read = g->regs_written = BIT(RAX) | BIT(R8);
    /* A source of zero leaves the destination, all 64 bits of it. */
    if (z.mnemonic == ZYDIS_MNEMONIC_BSF || z.mnemonic == ZYDIS_MNEMONIC_BSR)
        g->regs_partial |= g->regs_written;
    if (is_string(&z))
        lower_string(&z, operands, g);
    else if (z.mnemonic == ZYDIS_MNEMONIC_LEA)
        lower_lea(g);
    else if (g->kind == GUEST_COPY && g->memory && (!plain || too_many_registers(g)))
        g->kind = GUEST_SIMULATE;
    if (rules[z.mnemonic].group == GROUP_NONE && !is_string(&z))
        g->unit = unit_of(&z);
    g->faults = may_fault(&z, rules[z.mnemonic].group);
    /* Those of MMX registers make the x87 stack theirs. */
    g->moves = g->kind == GUEST_COPY && g->memory && !g->high8 && g->unit != UNIT_X87 &&
               is_move(g->mnemonic);
    /* What may be a callout needs all flags. */
    if (g->kind == GUEST_SIMULATE || g->kind == GUEST_SYSTEM || g->kind == GUEST_TO_SEGMENT ||
        g->kind == GUEST_POP_SEGMENT) {
        g->flags_read = FLAGS_STATUS;
        g->flags_kill = g->flags_write = FLAGS_STATUS;
    }
    memo_keep(d, key, &z, g);
    return true;
}

/* POP counts the address of its operand from the stack pointer behind it. Not remembered, as
 * displacements are not. */
static void lower_pop(struct guest_insn *g)
{
    if (g->kind == GUEST_POP && g->memory && g->base == RSP)
        g->disp += g->opsize;
}

bool guest_decode_anew(struct guest_decoder *d, unsigned code_size, const u8 *bytes,
                       unsigned size, u64 rip, struct guest_insn *g)
{
    struct memo_key key;
    memo_key(&key, code_size, bytes, size);
    bool whole = decode_anew(d, &key, rip, g);
    lower_pop(g);
    return whole;
}

bool guest_decode(struct guest_decoder *d, unsigned code_size, const u8 *bytes, unsigned size,
                  u64 rip, struct guest_insn *g)
{
    struct memo_key key;
    memo_key(&key, code_size, bytes, size);
    bool whole =
        memo_find(d, &key, rip, g) ? g->length <= key.size : decode_anew(d, &key, rip, g);
    lower_pop(g);
    return whole;
}
