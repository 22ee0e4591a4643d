/* The assembler, see emit.h. */
#include "engine/bt/emit.h"

#include <string.h>

#include "base/ensure.h"

#define PREFIX_GS           0x65
#define PREFIX_OPERAND_SIZE 0x66

void emit_modrm(struct emit *e, unsigned reg, struct host_mem mem)
{
    u8 field = (u8)((reg & 7) << 3);
    if (mem.base == NO_REG) {
        /* SIB without base: [index * scale + disp32]. Without SIB it would be RIP-relative. */
        u8 index = mem.index == NO_REG ? 4 : mem.index & 7;
        emit_byte(e, field | 4);
        emit_byte(e, (u8)(mem.scale << 6 | index << 3 | 5));
        emit_u32(e, (u32)mem.disp);
        return;
    }
    bool sib = mem.index != NO_REG || (mem.base & 7) == RSP;
    /* mod 0 with base RBP or R13 means something else. */
    u8 mod = mem.disp == 0 && (mem.base & 7) != RBP ? 0 : mem.disp == (s8)mem.disp ? 1 : 2;
    emit_byte(e, (u8)(mod << 6 | field | (sib ? 4 : mem.base & 7)));
    if (sib) {
        u8 index = mem.index == NO_REG ? 4 : mem.index & 7;
        emit_byte(e, (u8)(mem.scale << 6 | index << 3 | (mem.base & 7)));
    }
    if (mod == 1)
        emit_byte(e, (u8)mem.disp);
    else if (mod == 2)
        emit_u32(e, (u32)mem.disp);
}

static void emit_opcode(struct emit *e, unsigned op)
{
    if (op > 0xff)
        emit_byte(e, (u8)(op >> 8));
    emit_byte(e, (u8)op);
}

static void emit_rex(struct emit *e, unsigned size, unsigned reg, unsigned index, unsigned base)
{
    u8 rex = (u8)((size == 8) << 3 | (reg >> 3 & 1) << 2);
    if (index != NO_REG)
        rex |= (u8)((index >> 3 & 1) << 1);
    if (base != NO_REG)
        rex |= base >> 3 & 1;
    if (rex)
        emit_byte(e, 0x40 | rex);
}

/* [RIP + disp32], for a place in the vCPU block: two bytes less than through GS, and large
 * programs wait for code more than for anything else. */
static void put_rip_relative(struct emit *e, unsigned reg, s32 disp, unsigned tail)
{
    emit_byte(e, (u8)((reg & 7) << 3 | 5));
    emit_u32(e, (u32)(e->gs + (u64)(s64)disp - ((u64)emit_here(e) + 4 + tail)));
}

void emit_rm_imm(struct emit *e, unsigned size, unsigned op, unsigned reg, struct host_mem mem,
                 unsigned tail)
{
    /* Places there are known, so GS is needed for those above 2 GiB only. */
    bool near = mem.gs && e->gs && mem.base == NO_REG && mem.index == NO_REG;
    bool low = mem.gs && e->gs && !near && e->gs + (u64)(s64)mem.disp <= INT32_MAX;
    if (low)
        mem.disp += (s32)e->gs;
    else if (mem.gs && !near)
        emit_byte(e, PREFIX_GS);
    emit_rex(e, size, reg, mem.index, mem.base);
    emit_opcode(e, op);
    if (near)
        put_rip_relative(e, reg, mem.disp, tail);
    else
        emit_modrm(e, reg, mem);
}

void emit_rr(struct emit *e, unsigned size, unsigned op, unsigned reg, unsigned rm)
{
    emit_rex(e, size, reg, NO_REG, rm);
    emit_opcode(e, op);
    emit_byte(e, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

/* Operands of 2 bytes are those of 4 with a prefix. */
static unsigned put_size(struct emit *e, unsigned size)
{
    if (size != 2)
        return size;
    emit_byte(e, PREFIX_OPERAND_SIZE);
    return 4;
}

#define MOVZX_16 0x0fb7

void emit_load_sized(struct emit *e, unsigned size, unsigned reg, struct host_mem mem)
{
    emit_rm(e, put_size(e, size), 0x8b, reg, mem);
}

void emit_load_zero(struct emit *e, unsigned size, unsigned reg, struct host_mem mem)
{
    if (size == 2)
        emit_rm(e, 4, MOVZX_16, reg, mem);
    else
        emit_rm(e, size, 0x8b, reg, mem);
}

void emit_store_sized(struct emit *e, unsigned size, struct host_mem mem, unsigned reg)
{
    emit_rm(e, put_size(e, size), 0x89, reg, mem);
}

void emit_move_sized(struct emit *e, unsigned size, unsigned to, unsigned from)
{
    emit_rr(e, put_size(e, size), 0x89, from, to);
}

void emit_move_zero(struct emit *e, unsigned size, unsigned to, unsigned from)
{
    if (size == 2)
        emit_rr(e, 4, MOVZX_16, to, from);
    else
        emit_rr(e, size, 0x89, from, to);
}

void emit_const(struct emit *e, unsigned reg, u64 value)
{
    if (value == (u32)value) {
        emit_rex(e, 4, 0, NO_REG, reg);
        emit_byte(e, (u8)(0xb8 | (reg & 7)));
        emit_u32(e, (u32)value);
    } else if (value == (u64)(s64)(s32)value) {
        emit_rr(e, 8, 0xc7, 0, reg);
        emit_u32(e, (u32)value);
    } else {
        emit_rex(e, 8, 0, NO_REG, reg);
        emit_byte(e, (u8)(0xb8 | (reg & 7)));
        emit_bytes(e, &value, 8);
    }
}

void emit_store_imm(struct emit *e, unsigned size, struct host_mem mem, s32 value)
{
    unsigned tail = size == 2 ? 2 : 4;
    emit_rm_imm(e, put_size(e, size), 0xc7, 0, mem, tail);
    emit_bytes(e, &value, tail);
}

void emit_compare_mem_imm(struct emit *e, unsigned size, struct host_mem mem, s32 value)
{
    emit_rm_imm(e, size, 0x81, 7, mem, 4);
    emit_u32(e, (u32)value);
}

void emit_compare_memory(struct emit *e, unsigned size, struct host_mem mem, u32 value)
{
    if (size == 2)
        emit_byte(e, 0x66);
    emit_rm_imm(e, 4, size == 1 ? 0x80 : 0x81, 7, mem, size);
    emit_bytes(e, &value, size);
}

void emit_store16(struct emit *e, struct host_mem mem, unsigned reg)
{
    emit_byte(e, 0x66);
    emit_rm(e, 4, 0x89, reg, mem);
}

void emit_store8(struct emit *e, struct host_mem mem, unsigned reg)
{
    ensure(reg < RSP || reg > RDI);
    emit_rm(e, 4, 0x88, reg, mem);
}

void emit_store8_imm(struct emit *e, struct host_mem mem, u8 value)
{
    emit_rm_imm(e, 4, 0xc6, 0, mem, 1);
    emit_byte(e, value);
}

void emit_shift(struct emit *e, unsigned size, enum host_shift kind, unsigned reg,
                unsigned count)
{
    emit_rr(e, size, 0xc1, kind, reg);
    emit_byte(e, (u8)count);
}

void emit_test_imm(struct emit *e, unsigned reg, u32 value)
{
    emit_rr(e, 4, 0xf7, 0, reg);
    emit_u32(e, value);
}

void emit_compare_imm(struct emit *e, unsigned reg, s32 value)
{
    bool small = value == (s8)value;
    emit_rr(e, 8, small ? 0x83 : 0x81, 7, reg);
    if (small)
        emit_byte(e, (u8)value);
    else
        emit_u32(e, (u32)value);
}

void emit_bits(struct emit *e, unsigned to, unsigned from, unsigned first, unsigned count)
{
    u8 extended = (u8)((to < 8) << 7 | 1 << 6 | (from < 8) << 5);
    u8 registers = (u8)(0xc0 | (to & 7) << 3 | (from & 7));
    if (__builtin_cpu_is("intel") && __builtin_cpu_supports("bmi2")) {
        /* RORX, VEX.LZ.F2.0F3A.W0 F0 /r ib */
        const u8 rorx[] = {0xc4, extended | 3, 0x7b, 0xf0, registers, (u8)first};
        emit_bytes(e, rorx, sizeof(rorx));
        emit_and_imm(e, to, (u32)bits_low(count));
        return;
    }
    /* BEXTR, VEX.LZ.0F38.W0 F7 /r: vvvv is the control word, here in the target itself. */
    const u8 bextr[] = {0xc4, extended | 2, (u8)((~to & 15) << 3), 0xf7, registers};
    emit_const(e, to, count << 8 | first);
    emit_bytes(e, bextr, sizeof(bextr));
}

void emit_and_imm(struct emit *e, unsigned reg, u32 value)
{
    emit_rr(e, 4, 0x81, 4, reg);
    emit_u32(e, value);
}

static u8 *emit_field(struct emit *e)
{
    u8 *field = e->at;
    emit_u32(e, 0);
    return field;
}

void emit_bind(const struct emit *e, u8 *field, const void *to)
{
    if (e->full)
        return;
    s64 distance = (const u8 *)to - (field + 4 + e->to_exec);
    ensure(distance == (s32)distance);
    s32 rel = (s32)distance;
    memcpy(field, &rel, 4);
}

u8 *emit_short_jump(struct emit *e, u8 opcode)
{
    emit_byte(e, opcode);
    emit_byte(e, 0);
    return e->at;
}

void emit_short_bind(const struct emit *e, u8 *from)
{
    if (!e->full)
        from[-1] = (u8)(e->at - from);
}

u8 *emit_jump_later(struct emit *e)
{
    emit_byte(e, 0xe9);
    return emit_field(e);
}

u8 *emit_jump_if_later(struct emit *e, unsigned condition)
{
    emit_byte(e, 0x0f);
    emit_byte(e, (u8)(0x80 | condition));
    return emit_field(e);
}

void emit_jump(struct emit *e, const void *to)
{
    u8 *field = emit_jump_later(e);
    emit_bind(e, field, to);
}

void emit_jump_if(struct emit *e, unsigned condition, const void *to)
{
    u8 *field = emit_jump_if_later(e, condition);
    emit_bind(e, field, to);
}

void emit_jump_mem(struct emit *e, struct host_mem mem)
{
    emit_rm(e, 4, 0xff, 4, mem);
}

void emit_flags_to_ax(struct emit *e)
{
    static const u8 lahf_seto[] = {0x9f, 0x0f, 0x90, 0xc0};
    emit_bytes(e, lahf_seto, sizeof(lahf_seto));
}

void emit_flags_from_ax(struct emit *e)
{
    /* AL is 0 or 1: adding 7fh overflows exactly for 1. SAHF leaves OF alone. */
    static const u8 add_sahf[] = {0x04, 0x7f, 0x9e};
    emit_bytes(e, add_sahf, sizeof(add_sahf));
}
