/*
 * Two-operand and one-operand arithmetic and logic: ADD to CMP, TEST, INC, DEC, NEG, NOT, the
 * shifts and rotates, bit tests of registers, and what LOCK makes of them.
 *
 * The commonest have a handler for each size and shape of operands, chosen when decoding
 * (x86_specialize); the others share exec_alu, with the operation in x86_insn.native.
 */
#include "x86/operand.h"
#include "x86/specialize.h"

#include <Zydis/Zydis.h>

/* -- Any operation on any operands --------------------------------------------------------- */

static alu_function *const alu_functions[] = {
#define F(mnemonic, name) [ZYDIS_MNEMONIC_##mnemonic] = alu_##name
    F(ADD, add),    F(OR, or),       F(AND, and),     F(SUB, sub),   F(XOR, xor),
    F(CMP, cmp),    F(TEST, test),   F(ADC, adc),     F(SBB, sbb),   F(INC, inc),
    F(DEC, dec),    F(NEG, neg),     F(NOT, not ),    F(ROL, rol),   F(ROR, ror),
    F(RCL, rcl),    F(RCR, rcr),     F(SHL, shl),     F(SHR, shr),   F(SAR, sar),
    F(BT, bt),      F(BTS, bts),     F(BTR, btr),     F(BTC, btc),   F(BSF, bsf),
    F(BSR, bsr),    F(TZCNT, tzcnt), F(LZCNT, lzcnt), F(ADCX, adcx), F(POPCNT, popcnt),
    F(ADOX, adox),  F(ANDN, andn),   F(BEXTR, bextr), F(BZHI, bzhi), F(PDEP, pdep),
    F(PEXT, pext),  F(BLSI, blsi),   F(BLSR, blsr),   F(XADD, add),  F(BLSMSK, blsmsk),
    F(IMUL, imul2),
#undef F
};

static alu_function *alu_of(const struct x86_insn *i)
{
    return (alu_function *)i->native;
}

void exec_alu(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0], *src = &i->opd[1];
    unsigned n = dst->size;
    u64 b = src->kind == OPD_NONE ? 0 : operand_get(c, i, src, src->size);
    u64 flags = c->rflags;
    if (dst->kind != OPD_MEM) {
        u64 value = alu_of(i)(operand_reg(c, dst, n), b, n, &flags);
        operand_set_reg(c, dst, n, value);
    } else if (i->flags & INSN_LOCK) {
        rmw_locked(c, operand_linear(c, i, n, ACCESS_WRITE), n, alu_of(i), b);
        return;
    } else {
        struct rmw m;
        u64 old = rmw_load_operand(c, &m, i, n);
        rmw_store(c, &m, n, alu_of(i)(old, b, n, &flags));
    }
    c->rflags = flags;
}

/* CMP and TEST, which only look. */
void exec_compare(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0], *src = &i->opd[1];
    u64 a = operand_get(c, i, dst, dst->size);
    alu_of(i)(a, operand_get(c, i, src, src->size), dst->size, &c->rflags);
}

/* BSF, BSR, TZCNT, LZCNT, POPCNT: register from r/m; see ALU_SCAN. */
void exec_scan(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    u64 src = operand_get(c, i, &i->opd[1], n);
    u64 value = alu_of(i)(c->gpr[i->opd[0].reg], src, n, &c->rflags);
    x86_gpr_write(c, i->opd[0].reg, n == 2 ? 2 : 8, value);
}

/* The VEX-encoded general-purpose ones; alu.h has their sources in AT&T order, last first. */
void exec_vex(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    const struct x86_operand *first = &i->opd[1];
    const struct x86_operand *last = i->opd[2].kind == OPD_NONE ? first : &i->opd[2];
    u64 b = operand_get(c, i, last, n), value = b;
    if (last != first)
        value = operand_get(c, i, first, n);
    operand_set_reg(c, &i->opd[0], n, alu_of(i)(b, value, n, &c->rflags));
}

/* SHLX, SHRX, SARX, RORX: no flags. */
void exec_shift_vex(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    u64 value = operand_get(c, i, &i->opd[1], n);
    unsigned count = operand_get(c, i, &i->opd[2], n) & (8 * n - 1);
    if (i->mnemonic == ZYDIS_MNEMONIC_SHLX)
        value <<= count;
    else if (i->mnemonic == ZYDIS_MNEMONIC_SHRX)
        value >>= count;
    else if (i->mnemonic == ZYDIS_MNEMONIC_SARX)
        value = (u64)((s64)sign_extend(value, n) >> count);
    else if (count)
        value = value >> count | value << (8 * n - count);
    operand_set_reg(c, &i->opd[0], n, value);
}

void exec_shift_double(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0];
    unsigned n = dst->size;
    u64 b = operand_reg(c, &i->opd[1], n), flags = c->rflags, value;
    u8 count = (u8)operand_get(c, i, &i->opd[2], 1);
    bool left = i->mnemonic == ZYDIS_MNEMONIC_SHLD;
    struct rmw m;
    bool memory = dst->kind == OPD_MEM;
    u64 a = memory ? rmw_load_operand(c, &m, i, n) : operand_reg(c, dst, n);
    if (n == 2)
        value = left ? alu_shld_2((u16)a, (u16)b, count, &flags)
                     : alu_shrd_2((u16)a, (u16)b, count, &flags);
    else if (n == 4)
        value = left ? alu_shld_4((u32)a, (u32)b, count, &flags)
                     : alu_shrd_4((u32)a, (u32)b, count, &flags);
    else
        value = left ? alu_shld_8(a, b, count, &flags) : alu_shrd_8(a, b, count, &flags);
    if (memory)
        rmw_store(c, &m, n, value);
    else
        operand_set_reg(c, dst, n, value);
    c->rflags = flags;
}

/*
 * BT, BTS, BTR, BTC. With a register for the bit, memory is a bit string of any length around
 * the address (SDM vol. 2, BT): the bit's offset is signed.
 */
void exec_bit_test(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0], *src = &i->opd[1];
    unsigned n = dst->size;
    /* BT writes no register: it keeps bits 63:32. */
    if (dst->kind != OPD_MEM) {
        (i->mnemonic == ZYDIS_MNEMONIC_BT ? exec_compare : exec_alu)(c, i);
        return;
    }
    u64 ea = x86_ea(c, i), bit = operand_get(c, i, src, n);
    if (src->kind == OPD_GPR) {
        s64 offset = (s64)sign_extend(bit, n);
        ea += (u64)(offset >> (n == 8 ? 6 : n == 4 ? 5 : 4)) * n;
        if (i->adsize != 8)
            ea &= bits_low(8 * i->adsize);
    }
    bit &= 8 * n - 1;
    if (i->mnemonic == ZYDIS_MNEMONIC_BT) {
        alu_bt(x86_load(c, i->seg, ea, n), bit, n, &c->rflags);
        return;
    }
    if (i->flags & INSN_LOCK) {
        rmw_locked(c, x86_linear(c, i->seg, ea, n, ACCESS_WRITE), n, alu_of(i), bit);
        return;
    }
    struct rmw m;
    u64 flags = c->rflags, old = rmw_load(c, &m, i->seg, ea, n);
    rmw_store(c, &m, n, alu_of(i)(old, bit, n, &flags));
    c->rflags = flags;
}

/* -- Exchanges ----------------------------------------------------------------------------- */

static u64 host_exchange(void *p, unsigned n, u64 value)
{
    switch (n) {
    case 1:
        __asm__ volatile("xchg %b0, %1" : "+r"(value), "+m"(*(u8 *)p) : : "memory");
        return value;
    case 2:
        __asm__ volatile("xchg %w0, %1" : "+r"(value), "+m"(*(u16_anywhere *)p) : : "memory");
        return value;
    case 4:
        __asm__ volatile("xchg %k0, %1" : "+r"(value), "+m"(*(u32_anywhere *)p) : : "memory");
        return value;
    default:
        __asm__ volatile("xchg %q0, %1" : "+r"(value), "+m"(*(u64_anywhere *)p) : : "memory");
        return value;
    }
}

static u64 second(u64 a, u64 b, unsigned n, u64 *flags)
{
    return b;
}

/* Memory forms are locked without being asked (SDM vol. 2, XCHG). */
void exec_xchg(struct x86_cpu *c, struct x86_insn *i)
{
    bool first = i->opd[0].kind == OPD_MEM;
    const struct x86_operand *a = &i->opd[first], *b = &i->opd[!first];
    unsigned n = a->size;
    u64 value = operand_reg(c, a, n), old;
    if (b->kind == OPD_MEM) {
        void *p = x86_flat_write(c, i->seg, x86_ea(c, i), n);
        if (likely(p))
            old = host_exchange(p, n, value);
        else
            old = rmw_locked(c, operand_linear(c, i, n, ACCESS_WRITE), n, second, value);
    } else {
        old = operand_reg(c, b, n);
        operand_set_reg(c, b, n, value);
    }
    operand_set_reg(c, a, n, old);
}

void exec_xadd(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0], *src = &i->opd[1];
    unsigned n = dst->size;
    u64 b = operand_reg(c, src, n), flags = c->rflags, old;
    if (dst->kind != OPD_MEM) {
        old = operand_reg(c, dst, n);
        u64 sum = alu_add(old, b, n, &c->rflags);
        /* The destination last: XADD AL, AL leaves the sum. */
        operand_set_reg(c, src, n, old);
        operand_set_reg(c, dst, n, sum);
        return;
    }
    if (i->flags & INSN_LOCK) {
        old = rmw_locked(c, operand_linear(c, i, n, ACCESS_WRITE), n, alu_add, b);
    } else {
        struct rmw m;
        old = rmw_load_operand(c, &m, i, n);
        rmw_store(c, &m, n, alu_add(old, b, n, &flags));
        c->rflags = flags;
    }
    operand_set_reg(c, src, n, old);
}

void exec_cmpxchg(struct x86_cpu *c, struct x86_insn *i)
{
    const struct x86_operand *dst = &i->opd[0];
    unsigned n = dst->size;
    u64 expected = x86_gpr_read(c, RAX, n), desired = operand_reg(c, &i->opd[1], n);
    u64 old, accumulator = expected;
    if (dst->kind != OPD_MEM) {
        old = operand_reg(c, dst, n);
    } else if (i->flags & INSN_LOCK) {
        old = expected;
        rmw_compare_exchange(c, operand_linear(c, i, n, ACCESS_WRITE), n, &old, &desired);
    } else {
        struct rmw m;
        old = rmw_load_operand(c, &m, i, n);
        rmw_store(c, &m, n, old == expected ? desired : old);
    }
    alu_cmp(accumulator, old, n, &c->rflags);
    if (old != expected)
        x86_gpr_write(c, RAX, n, old);
    else if (dst->kind != OPD_MEM)
        operand_set_reg(c, dst, n, desired);
}

/* CMPXCHG8B, CMPXCHG16B: ZF alone changes. Without LOCK they are done as with it: that too is
 * allowed, and one path to get right. */
void exec_cmpxchg_pair(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned half = i->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B ? 8 : 4;
    /* Misaligned is #GP, even where the address is #SS for another reason. */
    if (half == 8 && (c->flat_base[i->seg] + x86_ea(c, i)) & 15)
        x86_raise_error(c, VEC_GP, 0);
    struct gva la = operand_linear(c, i, 2 * half, ACCESS_WRITE);
    u64 expected[2] = {0}, desired[2] = {0};
    if (half == 8) {
        memcpy(expected, (u64[]){c->gpr[RAX], c->gpr[RDX]}, 16);
        memcpy(desired, (u64[]){c->gpr[RBX], c->gpr[RCX]}, 16);
    } else {
        expected[0] = (u32)c->gpr[RAX] | c->gpr[RDX] << 32;
        desired[0] = (u32)c->gpr[RBX] | c->gpr[RCX] << 32;
    }
    if (rmw_compare_exchange(c, la, 2 * half, expected, desired)) {
        c->rflags |= FLAG_ZF;
        return;
    }
    c->rflags &= ~FLAG_ZF;
    c->gpr[RAX] = half == 8 ? expected[0] : (u32)expected[0];
    c->gpr[RDX] = half == 8 ? expected[1] : expected[0] >> 32;
}

/* -- The hot ones, by size and operands ---------------------------------------------------- */

enum alu_shape { SHAPE_RR, SHAPE_RI, SHAPE_RM, SHAPE_MR, SHAPE_MI, SHAPES };

/* A handler that writes its destination; `b` is the expression for the second operand. */
#define HOT_REG(name, shape, n, b)                                                             \
    static void name##_##n##_##shape(struct x86_cpu *c, struct x86_insn *i)                    \
    {                                                                                          \
        u64 value = b;                                                                         \
        value = alu_##name##_##n(operand_reg(c, &i->opd[0], n), value, &c->rflags);            \
        operand_set_reg(c, &i->opd[0], n, value);                                              \
    }
#define HOT_MEM(name, shape, n, b)                                                             \
    static void name##_##n##_##shape(struct x86_cpu *c, struct x86_insn *i)                    \
    {                                                                                          \
        struct rmw m;                                                                          \
        u64 flags = c->rflags;                                                                 \
        u64 value = rmw_load_operand(c, &m, i, n);                                             \
        rmw_store(c, &m, n, alu_##name##_##n(value, b, &flags));                               \
        c->rflags = flags;                                                                     \
    }
/* A handler that only sets flags. */
#define HOT_LOOK(name, shape, n, a, b)                                                         \
    static void name##_##n##_##shape(struct x86_cpu *c, struct x86_insn *i)                    \
    {                                                                                          \
        u64 value = a;                                                                         \
        alu_##name##_##n(value, b, &c->rflags);                                                \
    }

#define HOT_WRITERS(name, n)                                                                   \
    HOT_REG(name, rr, n, operand_reg(c, &i->opd[1], n))                                        \
    HOT_REG(name, ri, n, i->imm)                                                               \
    HOT_REG(name, rm, n, operand_load(c, i, n))                                                \
    HOT_MEM(name, mr, n, operand_reg(c, &i->opd[1], n))                                        \
    HOT_MEM(name, mi, n, i->imm)
#define HOT_LOOKERS(name, n)                                                                   \
    HOT_LOOK(name, rr, n, operand_reg(c, &i->opd[0], n), operand_reg(c, &i->opd[1], n))        \
    HOT_LOOK(name, ri, n, operand_reg(c, &i->opd[0], n), i->imm)                               \
    HOT_LOOK(name, rm, n, operand_reg(c, &i->opd[0], n), operand_load(c, i, n))                \
    HOT_LOOK(name, mr, n, operand_load(c, i, n), operand_reg(c, &i->opd[1], n))                \
    HOT_LOOK(name, mi, n, operand_load(c, i, n), i->imm)
#define HOT_SIZES(M, name) M(name, 1) M(name, 2) M(name, 4) M(name, 8)

HOT_SIZES(HOT_WRITERS, add)
HOT_SIZES(HOT_WRITERS, or)
HOT_SIZES(HOT_WRITERS, and)
HOT_SIZES(HOT_WRITERS, sub)
HOT_SIZES(HOT_WRITERS, xor)
HOT_SIZES(HOT_WRITERS, adc)
HOT_SIZES(HOT_WRITERS, sbb)
HOT_SIZES(HOT_LOOKERS, cmp)
HOT_SIZES(HOT_LOOKERS, test)

#define HOT_UNARY(name, n)                                                                     \
    HOT_REG(name, r, n, 0)                                                                     \
    HOT_MEM(name, m, n, 0)
HOT_SIZES(HOT_UNARY, inc)
HOT_SIZES(HOT_UNARY, dec)
#define HOT_SHIFT(name, n)                                                                     \
    HOT_REG(name, rc, n, c->gpr[RCX])                                                          \
    HOT_REG(name, ri, n, i->imm)
HOT_SIZES(HOT_SHIFT, shl)
HOT_SIZES(HOT_SHIFT, shr)
HOT_SIZES(HOT_SHIFT, sar)

#define ROW_N(name, n)                                                                         \
    {                                                                                          \
        name##_##n##_rr, name##_##n##_ri, name##_##n##_rm, name##_##n##_mr, name##_##n##_mi    \
    }
#define ROW(mnemonic, name)                                                                    \
    {                                                                                          \
        ZYDIS_MNEMONIC_##mnemonic,                                                             \
        {                                                                                      \
            ROW_N(name, 1), ROW_N(name, 2), ROW_N(name, 4), ROW_N(name, 8)                     \
        }                                                                                      \
    }
#define ROW_UNARY(mnemonic, name)                                                              \
    {                                                                                          \
        ZYDIS_MNEMONIC_##mnemonic,                                                             \
        {                                                                                      \
            {name##_1_r, name##_1_m}, {name##_2_r, name##_2_m}, {name##_4_r, name##_4_m},      \
            {                                                                                  \
                name##_8_r, name##_8_m                                                         \
            }                                                                                  \
        }                                                                                      \
    }
#define ROW_SHIFT(mnemonic, name)                                                              \
    {                                                                                          \
        ZYDIS_MNEMONIC_##mnemonic,                                                             \
        {                                                                                      \
            {name##_1_rc, name##_1_ri}, {name##_2_rc, name##_2_ri},                            \
                {name##_4_rc, name##_4_ri},                                                    \
            {                                                                                  \
                name##_8_rc, name##_8_ri                                                       \
            }                                                                                  \
        }                                                                                      \
    }

struct hot_row {
    u16 mnemonic;
    x86_handler *exec[4][SHAPES]; /* by log2 of the size */
};
static const struct hot_row hot_rows[] = {
    ROW(ADD, add), ROW(OR, or),   ROW(AND, and), ROW(SUB, sub),   ROW(XOR, xor),
    ROW(ADC, adc), ROW(SBB, sbb), ROW(CMP, cmp), ROW(TEST, test),
};
/* Shapes r and m. */
static const struct hot_row hot_unary[] = {ROW_UNARY(INC, inc), ROW_UNARY(DEC, dec)};
/* Shapes: register by CL, register by immediate. */
static const struct hot_row hot_shifts[] = {
    ROW_SHIFT(SHL, shl),
    ROW_SHIFT(SHR, shr),
    ROW_SHIFT(SAR, sar),
};

/* IMUL with two operands. */
HOT_REG(imul2, rr, 4, operand_reg(c, &i->opd[1], 4))
HOT_REG(imul2, rm, 4, operand_load(c, i, 4))
HOT_REG(imul2, rr, 8, operand_reg(c, &i->opd[1], 8))
HOT_REG(imul2, rm, 8, operand_load(c, i, 8))

static void specialize_imul(struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    bool memory = i->opd[1].kind == OPD_MEM;
    if (i->opd[1].kind == OPD_NONE || i->opd[2].kind != OPD_NONE || n == 2)
        return;
    if (n == 4)
        i->exec = memory ? imul2_4_rm : imul2_4_rr;
    else
        i->exec = memory ? imul2_8_rm : imul2_8_rr;
}

static int alu_shape(const struct x86_insn *i)
{
    bool memory = i->opd[0].kind == OPD_MEM;
    switch (i->opd[1].kind) {
    case OPD_MEM:
        return SHAPE_RM;
    case OPD_IMM:
        return memory ? SHAPE_MI : SHAPE_RI;
    default:
        return memory ? SHAPE_MR : SHAPE_RR;
    }
}

static void take(struct x86_insn *i, const struct hot_row *rows, size_t n_rows, int shape)
{
    static const u8 log2_size[] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};
    for (size_t k = 0; k < n_rows; k++)
        if (rows[k].mnemonic == i->mnemonic)
            i->exec = rows[k].exec[log2_size[i->opd[0].size]][shape];
}

/* QUIRK_ROTATE_OF, by an immediate: the host is given the count in CL. */
#define ROTATE_KEEPING_OF(name)                                                                \
    static u64 name##_keeping_of(u64 a, u64 count, unsigned n, u64 *flags)                     \
    {                                                                                          \
        u64 before = *flags, value = alu_##name(a, count, n, flags);                           \
        if ((count & (n == 8 ? 63 : 31)) > 1)                                                  \
            *flags = (*flags & ~FLAG_OF) | (before & FLAG_OF);                                 \
        return value;                                                                          \
    }
ROTATE_KEEPING_OF(rol)
ROTATE_KEEPING_OF(ror)

static alu_function *alu_choose(const struct x86_insn *i, const struct x86_model *model)
{
    bool rotates = x86_quirk(model, QUIRK_ROTATE_OF) && i->opd[0].kind != OPD_MEM &&
                   i->opd[1].kind == OPD_IMM;
    if (rotates && i->mnemonic == ZYDIS_MNEMONIC_ROL)
        return rol_keeping_of;
    if (rotates && i->mnemonic == ZYDIS_MNEMONIC_ROR)
        return ror_keeping_of;
    return i->mnemonic < ARRAY_LEN(alu_functions) ? alu_functions[i->mnemonic] : NULL;
}

void specialize_alu(struct x86_insn *i, const struct x86_model *model)
{
    alu_function *operation = alu_choose(i, model);
    if (operation)
        i->native = (void *)operation;
    if (i->flags & INSN_LOCK)
        return;
    bool memory = i->opd[0].kind == OPD_MEM;
    take(i, hot_rows, ARRAY_LEN(hot_rows), alu_shape(i));
    take(i, hot_unary, ARRAY_LEN(hot_unary), memory);
    if (i->exec == exec_imul)
        specialize_imul(i);
    else if (i->exec == exec_bit_test && !memory)
        i->exec = i->mnemonic == ZYDIS_MNEMONIC_BT ? exec_compare : exec_alu;
    if (!memory)
        take(i, hot_shifts, ARRAY_LEN(hot_shifts), i->opd[1].kind == OPD_IMM);
}
