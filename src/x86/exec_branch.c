/*
 * Near control flow: JMP, CALL, RET, Jcc, LOOP, JrCXZ. Targets are checked before registers
 * change.
 */
#include "x86/model.h"
#include "x86/operand.h"
#include "x86/specialize.h"

#include <Zydis/Zydis.h>

/* Faults as a push of `size` bytes would. */
static void stack_probe(struct x86_cpu *c, unsigned size)
{
    u64 sp = (x86_sp(c) - size) & bits_low(8 * c->stack_size);
    struct gva la = x86_linear(c, SEG_SS, sp, size, ACCESS_WRITE);
    if (!x86_tlb_write(c, la, size))
        c->ops->probe(c, la, size, ACCESS_WRITE, AS_CPL);
}

/* Direct and indirect. */
static u64 branch_target(struct x86_cpu *c, const struct x86_insn *i)
{
    if (i->opd[0].kind == OPD_IMM)
        return x86_jump_target(c, c->rip + i->imm, i->opsize);
    return x86_jump_target(c, operand_get(c, i, &i->opd[0], i->opsize), i->opsize);
}

void exec_jmp(struct x86_cpu *c, struct x86_insn *i)
{
    c->rip = branch_target(c, i);
}

void exec_call(struct x86_cpu *c, struct x86_insn *i)
{
    u64 target =
        i->opd[0].kind == OPD_IMM ? c->rip + i->imm : operand_get(c, i, &i->opd[0], i->opsize);
    if (x86_quirk(c->model, QUIRK_CALL_STORES)) {
        u64 sp = (x86_sp(c) - i->opsize) & bits_low(8 * c->stack_size);
        x86_store(c, SEG_SS, sp, i->opsize, c->rip);
        c->rip = x86_jump_target(c, target, i->opsize);
        x86_set_sp(c, sp);
        return;
    }
    if (x86_quirk(c->model, QUIRK_CALL_PROBES))
        stack_probe(c, i->opsize);
    target = x86_jump_target(c, target, i->opsize);
    x86_push(c, i->opsize, c->rip);
    c->rip = target;
}

/* RET with imm16 releases that many bytes more. */
void exec_ret(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize;
    c->rip = x86_jump_target(c, x86_peek(c, n, 0), n);
    x86_set_sp(c, x86_sp(c) + n + (u16)i->imm);
}

void exec_jcc(struct x86_cpu *c, struct x86_insn *i)
{
    if (condition_met(c->rflags, i->imm2))
        c->rip = x86_jump_target(c, c->rip + i->imm, i->opsize);
}

/* JCXZ, JECXZ, JRCXZ: the counter has the address size. */
void exec_jcxz(struct x86_cpu *c, struct x86_insn *i)
{
    if (x86_gpr_read(c, RCX, i->adsize) == 0)
        c->rip = x86_jump_target(c, c->rip + i->imm, i->opsize);
}

void exec_loop(struct x86_cpu *c, struct x86_insn *i)
{
    u64 count = x86_gpr_read(c, RCX, i->adsize) - 1;
    bool taken = count & bits_low(8 * i->adsize);
    if (i->mnemonic == ZYDIS_MNEMONIC_LOOPE)
        taken = taken && (c->rflags & FLAG_ZF);
    else if (i->mnemonic == ZYDIS_MNEMONIC_LOOPNE)
        taken = taken && !(c->rflags & FLAG_ZF);
    if (taken)
        c->rip = x86_jump_target(c, c->rip + i->imm, i->opsize);
    x86_gpr_write(c, RCX, i->adsize, count);
}

/* -- The hot ones of 64-bit code ----------------------------------------------------------- */

#define JCC(cc)                                                                                \
    static void jcc_##cc(struct x86_cpu *c, struct x86_insn *i)                                \
    {                                                                                          \
        if (condition_met(c->rflags, cc))                                                      \
            c->rip = x86_jump_target(c, c->rip + i->imm, 8);                                   \
    }
JCC(0)
JCC(1)
JCC(2)
JCC(3)
JCC(4)
JCC(5)
JCC(6)
JCC(7)
JCC(8)
JCC(9)
JCC(10)
JCC(11)
JCC(12)
JCC(13)
JCC(14)
JCC(15)

static x86_handler *const hot_jcc[16] = {
    jcc_0, jcc_1, jcc_2,  jcc_3,  jcc_4,  jcc_5,  jcc_6,  jcc_7,
    jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15,
};

static void jmp_direct(struct x86_cpu *c, struct x86_insn *i)
{
    c->rip = x86_jump_target(c, c->rip + i->imm, 8);
}

static void call_direct(struct x86_cpu *c, struct x86_insn *i)
{
    u64 target = x86_jump_target(c, c->rip + i->imm, 8), sp = c->gpr[RSP] - 8;
    x86_store(c, SEG_SS, sp, 8, c->rip);
    c->gpr[RSP] = sp;
    c->rip = target;
}

static void ret_plain(struct x86_cpu *c, struct x86_insn *i)
{
    c->rip = x86_jump_target(c, x86_load(c, SEG_SS, c->gpr[RSP], 8), 8);
    c->gpr[RSP] += 8 + (u16)i->imm;
}

void specialize_branch(struct x86_insn *i, unsigned code_size)
{
    if (code_size != 8 || i->opsize != 8)
        return;
    bool direct = i->opd[0].kind == OPD_IMM;
    if (i->exec == exec_jcc)
        i->exec = hot_jcc[i->imm2];
    else if (i->exec == exec_jmp && direct)
        i->exec = jmp_direct;
    else if (i->exec == exec_call && direct)
        i->exec = call_direct;
    else if (i->exec == exec_ret)
        i->exec = ret_plain;
}
