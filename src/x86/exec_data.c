/*
 * Data movement: MOV and its extensions, exchanges of byte order, conditional moves and sets,
 * LEA, the stack, XLAT.
 */
#include "x86/operand.h"
#include "x86/specialize.h"

#include <Zydis/Zydis.h>

void exec_mov(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    operand_set(c, i, &i->opd[0], n, operand_get(c, i, &i->opd[1], n));
}

void exec_movzx(struct x86_cpu *c, struct x86_insn *i)
{
    u64 value = operand_get(c, i, &i->opd[1], i->opd[1].size);
    operand_set_reg(c, &i->opd[0], i->opd[0].size, value);
}

void exec_movsx(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[1].size;
    u64 value = sign_extend(operand_get(c, i, &i->opd[1], n), n);
    operand_set_reg(c, &i->opd[0], i->opd[0].size, value);
}

static u64 swap_bytes(u64 value, unsigned n)
{
    switch (n) {
    case 2:
        return __builtin_bswap16((u16)value);
    case 4:
        return __builtin_bswap32((u32)value);
    default:
        return __builtin_bswap64(value);
    }
}

void exec_movbe(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    operand_set(c, i, &i->opd[0], n, swap_bytes(operand_get(c, i, &i->opd[1], n), n));
}

void exec_bswap(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    u64 value = operand_reg(c, &i->opd[0], n);
    if (n == 2)
        /* Undefined (SDM vol. 2, BSWAP): what this processor makes of it. */
        __asm__(".byte 0x66\n\tbswap %k0" : "+r"(value));
    else
        value = swap_bytes(value, n);
    operand_set_reg(c, &i->opd[0], n, value);
}

/* The source is read, and a 32-bit destination extended, whether or not the condition holds. */
void exec_cmov(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    u64 value = operand_get(c, i, &i->opd[1], n);
    if (!condition_met(c->rflags, i->imm2))
        value = operand_reg(c, &i->opd[0], n);
    operand_set_reg(c, &i->opd[0], n, value);
}

void exec_set(struct x86_cpu *c, struct x86_insn *i)
{
    operand_set(c, i, &i->opd[0], 1, condition_met(c->rflags, i->imm2));
}

void exec_lea(struct x86_cpu *c, struct x86_insn *i)
{
    operand_set_reg(c, &i->opd[0], i->opd[0].size, x86_ea(c, i));
}

void exec_xlat(struct x86_cpu *c, struct x86_insn *i)
{
    u64 offset = c->gpr[RBX] + (u8)c->gpr[RAX];
    offset &= bits_low(8 * i->adsize);
    x86_gpr_write(c, RAX, 1, x86_load(c, i->seg, offset, 1));
}

/* CBW, CWDE, CDQE: the accumulator from its lower half. */
void exec_cbw(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize;
    x86_gpr_write(c, RAX, n, sign_extend(c->gpr[RAX], n / 2));
}

/* CWD, CDQ, CQO: rDX from the sign of rAX. */
void exec_cwd(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize;
    u64 sign = (u64)((s64)sign_extend(c->gpr[RAX], n) >> 63);
    x86_gpr_write(c, RDX, n, sign);
}

/* -- Stack --------------------------------------------------------------------------------- */

static u64 sp_cut(const struct x86_cpu *c, u64 sp)
{
    return sp & bits_low(8 * c->stack_size);
}

void exec_push(struct x86_cpu *c, struct x86_insn *i)
{
    x86_push(c, i->opsize, operand_get(c, i, &i->opd[0], i->opsize));
}

void exec_pop(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0];
    unsigned n = i->opsize;
    u64 value = x86_peek(c, n, 0), sp = x86_sp(c) + n;
    if (dst->kind != OPD_MEM) {
        x86_set_sp(c, sp);
        operand_set_reg(c, dst, n, value);
        return;
    }
    /* An address based on RSP is that after the increment (SDM vol. 2, POP). */
    u64 old = c->gpr[RSP];
    x86_set_sp(c, sp);
    u64 ea = x86_ea(c, i);
    c->gpr[RSP] = old;
    x86_store(c, i->seg, ea, n, value);
    x86_set_sp(c, sp);
}

void exec_pusha(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize;
    u64 sp = x86_sp(c);
    for (unsigned reg = RAX; reg <= RDI; reg++) {
        sp = sp_cut(c, sp - n);
        x86_store(c, SEG_SS, sp, n, c->gpr[reg]);
    }
    x86_set_sp(c, sp);
}

void exec_popa(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize;
    u64 value[8];
    for (unsigned k = 0; k < 8; k++)
        value[k] = x86_peek(c, n, k * n);
    x86_set_sp(c, x86_sp(c) + 8 * n);
    for (unsigned k = 0; k < 8; k++)
        if (RDI - k != RSP)
            x86_gpr_write(c, RDI - k, n, value[k]);
}

void exec_enter(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize, level = i->imm2 & 31;
    u64 sp = sp_cut(c, x86_sp(c) - n), frame = sp;
    u64 bp = x86_gpr_read(c, RBP, c->stack_size);
    x86_store(c, SEG_SS, sp, n, c->gpr[RBP]);
    for (unsigned k = 1; k < level; k++) {
        bp = sp_cut(c, bp - n);
        sp = sp_cut(c, sp - n);
        x86_store(c, SEG_SS, sp, n, x86_load(c, SEG_SS, bp, n));
    }
    if (level) {
        sp = sp_cut(c, sp - n);
        x86_store(c, SEG_SS, sp, n, frame);
    }
    /* A page that the new stack pointer could not be written at faults already here. */
    sp = sp_cut(c, sp - (u16)i->imm);
    c->ops->probe(c, x86_linear(c, SEG_SS, sp, n, ACCESS_WRITE), n, ACCESS_WRITE, AS_CPL);
    x86_gpr_write(c, RBP, n, frame);
    x86_set_sp(c, sp);
}

void exec_leave(struct x86_cpu *c, struct x86_insn *i)
{
    u64 bp = x86_gpr_read(c, RBP, c->stack_size);
    u64 value = x86_load(c, SEG_SS, bp, i->opsize);
    x86_set_sp(c, bp + i->opsize);
    x86_gpr_write(c, RBP, i->opsize, value);
}

/* -- The hot ones, by size and operands ---------------------------------------------------- */

#define MOVES(n)                                                                               \
    static void mov_##n##_rr(struct x86_cpu *c, struct x86_insn *i)                            \
    {                                                                                          \
        operand_set_reg(c, &i->opd[0], n, operand_reg(c, &i->opd[1], n));                      \
    }                                                                                          \
    static void mov_##n##_ri(struct x86_cpu *c, struct x86_insn *i)                            \
    {                                                                                          \
        operand_set_reg(c, &i->opd[0], n, i->imm);                                             \
    }                                                                                          \
    static void mov_##n##_rm(struct x86_cpu *c, struct x86_insn *i)                            \
    {                                                                                          \
        operand_set_reg(c, &i->opd[0], n, operand_load(c, i, n));                              \
    }                                                                                          \
    static void mov_##n##_mr(struct x86_cpu *c, struct x86_insn *i)                            \
    {                                                                                          \
        operand_store(c, i, n, operand_reg(c, &i->opd[1], n));                                 \
    }                                                                                          \
    static void mov_##n##_mi(struct x86_cpu *c, struct x86_insn *i)                            \
    {                                                                                          \
        operand_store(c, i, n, i->imm);                                                        \
    }
MOVES(1)
MOVES(2)
MOVES(4)
MOVES(8)

/* [log2 size][shape] as alu_shape: rr, ri, rm, mr, mi. */
static x86_handler *const hot_moves[4][5] = {
    {mov_1_rr, mov_1_ri, mov_1_rm, mov_1_mr, mov_1_mi},
    {mov_2_rr, mov_2_ri, mov_2_rm, mov_2_mr, mov_2_mi},
    {mov_4_rr, mov_4_ri, mov_4_rm, mov_4_mr, mov_4_mi},
    {mov_8_rr, mov_8_ri, mov_8_rm, mov_8_mr, mov_8_mi},
};

#define MOVZX(n)                                                                               \
    static void movzx_##n##_r(struct x86_cpu *c, struct x86_insn *i)                           \
    {                                                                                          \
        c->gpr[i->opd[0].reg] = operand_reg(c, &i->opd[1], n);                                 \
    }                                                                                          \
    static void movzx_##n##_m(struct x86_cpu *c, struct x86_insn *i)                           \
    {                                                                                          \
        c->gpr[i->opd[0].reg] = operand_load(c, i, n);                                         \
    }
MOVZX(1)
MOVZX(2)

static void movsxd_r(struct x86_cpu *c, struct x86_insn *i)
{
    c->gpr[i->opd[0].reg] = sign_extend((u32)c->gpr[i->opd[1].reg], 4);
}

static void movsxd_m(struct x86_cpu *c, struct x86_insn *i)
{
    c->gpr[i->opd[0].reg] = sign_extend(operand_load(c, i, 4), 4);
}

static void lea_8(struct x86_cpu *c, struct x86_insn *i)
{
    c->gpr[i->opd[0].reg] = x86_ea(c, i);
}

/* 64-bit operand size exists only in 64-bit mode, where the stack is 64 bits wide too. */
static void push_8_r(struct x86_cpu *c, struct x86_insn *i)
{
    u64 sp = c->gpr[RSP] - 8;
    x86_store(c, SEG_SS, sp, 8, c->gpr[i->opd[0].reg]);
    c->gpr[RSP] = sp;
}

static void pop_8_r(struct x86_cpu *c, struct x86_insn *i)
{
    u64 value = x86_load(c, SEG_SS, c->gpr[RSP], 8);
    c->gpr[RSP] += 8;
    c->gpr[i->opd[0].reg] = value;
}

static void specialize_mov(struct x86_insn *i)
{
    unsigned n = i->opd[0].size, row = n == 1 ? 0 : n == 2 ? 1 : n == 4 ? 2 : 3;
    bool memory = i->opd[0].kind == OPD_MEM;
    switch (i->opd[1].kind) {
    case OPD_MEM:
        i->exec = hot_moves[row][2];
        break;
    case OPD_IMM:
        i->exec = hot_moves[row][memory ? 4 : 1];
        break;
    default:
        i->exec = hot_moves[row][memory ? 3 : 0];
    }
}

void specialize_move(struct x86_insn *i)
{
    bool reg = i->opd[0].kind == OPD_GPR;
    if (i->exec == exec_mov)
        specialize_mov(i);
    else if (i->exec == exec_movzx && i->opd[0].size >= 4 && i->opd[1].size <= 2)
        i->exec = i->opd[1].size == 1 ? i->opd[1].kind == OPD_MEM ? movzx_1_m : movzx_1_r
                  : i->opd[1].kind == OPD_MEM ? movzx_2_m
                                              : movzx_2_r;
    else if (i->exec == exec_movsx && i->opd[0].size == 8 && i->opd[1].size == 4)
        i->exec = i->opd[1].kind == OPD_MEM ? movsxd_m : movsxd_r;
    else if (i->exec == exec_lea && i->opd[0].size == 8 && i->adsize == 8)
        i->exec = lea_8;
    else if (i->exec == exec_push && i->opsize == 8 && reg)
        i->exec = push_8_r;
    else if (i->exec == exec_pop && i->opsize == 8 && reg)
        i->exec = pop_8_r;
}
