/*
 * Flag operations, hints, fences, cache lines, random numbers, and the instructions that are
 * none.
 */
#include "x86/model.h"
#include "x86/operand.h"

#include <Zydis/Zydis.h>

void exec_ud(struct x86_cpu *c, struct x86_insn *i)
{
    x86_raise(c, VEC_UD);
}

void exec_nop(struct x86_cpu *c, struct x86_insn *i) {}

void exec_pause(struct x86_cpu *c, struct x86_insn *i)
{
    __builtin_ia32_pause();
}

/* LFENCE, MFENCE, SFENCE: the strongest serves all. */
void exec_fence(struct x86_cpu *c, struct x86_insn *i)
{
    __asm__ volatile("mfence" : : : "memory");
}

/* CLFLUSH, CLFLUSHOPT, CLWB: faults as a byte load would; caches are the host's business. */
void exec_clflush(struct x86_cpu *c, struct x86_insn *i)
{
    struct gva la = operand_linear(c, i, 1, ACCESS_READ);
    if (!x86_tlb_read(c, la, 1))
        c->ops->probe(c, la, 1, ACCESS_READ, AS_CPL);
}

void exec_clc(struct x86_cpu *c, struct x86_insn *i)
{
    c->rflags &= ~FLAG_CF;
}

void exec_stc(struct x86_cpu *c, struct x86_insn *i)
{
    c->rflags |= FLAG_CF;
}

void exec_cmc(struct x86_cpu *c, struct x86_insn *i)
{
    c->rflags ^= FLAG_CF;
}

void exec_cld(struct x86_cpu *c, struct x86_insn *i)
{
    c->rflags &= ~FLAG_DF;
}

void exec_std(struct x86_cpu *c, struct x86_insn *i)
{
    c->rflags |= FLAG_DF;
}

#define AH_FLAGS (FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF)

void exec_lahf(struct x86_cpu *c, struct x86_insn *i)
{
    u64 ah = (c->rflags & AH_FLAGS) | FLAG_FIXED;
    c->gpr[RAX] = (c->gpr[RAX] & ~0xff00ull) | ah << 8;
}

void exec_sahf(struct x86_cpu *c, struct x86_insn *i)
{
    c->rflags = (c->rflags & ~AH_FLAGS) | (c->gpr[RAX] >> 8 & AH_FLAGS);
}

/* Undocumented, but every processor has it outside 64-bit mode. */
void exec_salc(struct x86_cpu *c, struct x86_insn *i)
{
    x86_gpr_write(c, RAX, 1, c->rflags & FLAG_CF ? 0xff : 0);
}

/* RDRAND, RDSEED: CF says success; the other status flags are cleared. */
void exec_rdrand(struct x86_cpu *c, struct x86_insn *i)
{
    u64 value;
    unsigned n = i->opd[0].size;
    bool ok;
    if (i->mnemonic == ZYDIS_MNEMONIC_RDRAND)
        __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(ok));
    else
        __asm__ volatile("rdseed %0" : "=r"(value), "=@ccc"(ok));
    operand_set_reg(c, &i->opd[0], n, ok ? value : 0);
    c->rflags = (c->rflags & ~FLAGS_STATUS) | (ok ? FLAG_CF : 0);
}

/* Raises #BR when the signed index is outside the two bounds in memory. */
void exec_bound(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opsize;
    u64 ea = x86_ea(c, i), cut = bits_low(8 * i->adsize);
    s64 index = (s64)sign_extend(operand_reg(c, &i->opd[0], n), n);
    s64 lower = (s64)sign_extend(x86_load(c, i->seg, ea, n), n);
    if (index < lower && x86_quirk(c->model, QUIRK_BOUND_EARLY))
        x86_raise(c, VEC_BR);
    s64 upper = (s64)sign_extend(x86_load(c, i->seg, (ea + n) & cut, n), n);
    if (index < lower || index > upper)
        x86_raise(c, VEC_BR);
}
