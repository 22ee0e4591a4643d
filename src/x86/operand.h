/*
 * Operands of integer instructions: registers (with AH..BH), immediates, memory, and the
 * read-modify-write of memory with and without LOCK. Sizes are 1, 2, 4 or 8 bytes; where the
 * caller's is a constant all of this folds.
 */
#pragma once

#include "x86/alu.h"
#include "x86/mem.h"

/* AH..BH are bits 15:8 of their register. */
static inline unsigned operand_shift(const struct x86_operand *o)
{
    return o->kind == OPD_HIGH8 ? 8 : 0;
}

static inline u64 operand_reg(const struct x86_cpu *c, const struct x86_operand *o, unsigned n)
{
    if (n == 1)
        return (u8)(c->gpr[o->reg] >> operand_shift(o));
    return x86_gpr_read(c, o->reg, n);
}

static inline void operand_set_reg(struct x86_cpu *c, const struct x86_operand *o, unsigned n,
                                   u64 value)
{
    if (n == 1) {
        unsigned shift = operand_shift(o);
        c->gpr[o->reg] = (c->gpr[o->reg] & ~(0xffull << shift)) | (u64)(u8)value << shift;
    } else {
        x86_gpr_write(c, o->reg, n, value);
    }
}

static inline struct gva operand_linear(struct x86_cpu *c, const struct x86_insn *i, unsigned n,
                                        enum x86_access access)
{
    return x86_linear(c, i->seg, x86_ea(c, i), n, access);
}

static inline u64 operand_load(struct x86_cpu *c, const struct x86_insn *i, unsigned n)
{
    return x86_load(c, i->seg, x86_ea(c, i), n);
}

static inline void operand_store(struct x86_cpu *c, const struct x86_insn *i, unsigned n,
                                 u64 value)
{
    x86_store(c, i->seg, x86_ea(c, i), n, value);
}

/* The value of any integer operand; immediates are already extended. */
static inline u64 operand_get(struct x86_cpu *c, const struct x86_insn *i,
                              const struct x86_operand *o, unsigned n)
{
    if (o->kind == OPD_MEM)
        return operand_load(c, i, n);
    return o->kind == OPD_IMM ? i->imm : operand_reg(c, o, n);
}

static inline void operand_set(struct x86_cpu *c, const struct x86_insn *i,
                               const struct x86_operand *o, unsigned n, u64 value)
{
    if (o->kind == OPD_MEM)
        operand_store(c, i, n, value);
    else
        operand_set_reg(c, o, n, value);
}

/*
 * Read-modify-write without LOCK: the write is checked before the read (a read-only page
 * faults with W set), and one host access each way keeps aligned values whole.
 */
struct rmw {
    void *host; /* or NULL: through the ops */
    struct gva la;
};

u64 rmw_load_slow(struct x86_cpu *c, struct rmw *m, enum x86_seg_reg seg, u64 offset,
                  unsigned n);
void rmw_store_slow(struct x86_cpu *c, const struct rmw *m, unsigned n, u64 value);

static inline u64 rmw_load(struct x86_cpu *c, struct rmw *m, enum x86_seg_reg seg, u64 offset,
                           unsigned n)
{
    m->host = x86_flat_write(c, seg, offset, n);
    if (likely(m->host))
        return host_load(m->host, n);
    return rmw_load_slow(c, m, seg, offset, n);
}

static inline u64 rmw_load_operand(struct x86_cpu *c, struct rmw *m, const struct x86_insn *i,
                                   unsigned n)
{
    return rmw_load(c, m, i->seg, x86_ea(c, i), n);
}

static inline void rmw_store(struct x86_cpu *c, const struct rmw *m, unsigned n, u64 value)
{
    if (likely(m->host))
        host_store(m->host, n, value);
    else
        rmw_store_slow(c, m, n, value);
}

/*
 * The atomic read-modify-write of `n` bytes for LOCK forms: memory = op(memory, b). Returns the
 * old value; c->rflags holds the flags of the operation that was stored.
 */
u64 rmw_locked(struct x86_cpu *c, struct gva la, unsigned n, alu_function *op, u64 b);

/* Atomic compare and exchange of 1..16 bytes: `expected` is replaced by what was found; true:
 * `desired` was stored. */
bool rmw_compare_exchange(struct x86_cpu *c, struct gva la, unsigned n, void *expected,
                          const void *desired);

/*
 * Conditions as opcodes number them in their low four bits (SDM vol. 2, table B-1).
 */
static inline bool condition_met(u64 flags, unsigned cc)
{
    bool met;
    switch (cc >> 1) {
    case 0:
        met = flags & FLAG_OF;
        break;
    case 1:
        met = flags & FLAG_CF;
        break;
    case 2:
        met = flags & FLAG_ZF;
        break;
    case 3:
        met = flags & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        met = flags & FLAG_SF;
        break;
    case 5:
        met = flags & FLAG_PF;
        break;
    case 6:
        met = (flags >> 7 ^ flags >> 11) & 1;
        break;
    default:
        met = ((flags >> 7 ^ flags >> 11) & 1) || (flags & FLAG_ZF);
    }
    return met != (cc & 1);
}
