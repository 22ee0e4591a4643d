/*
 * Multiplication, division, decimal adjustment, CRC32.
 */
#include "x86/model.h"
#include "x86/operand.h"

#include <Zydis/Zydis.h>

/* -- MUL and IMUL -------------------------------------------------------------------------- */

static void multiply_byte(struct x86_cpu *c, struct x86_insn *i)
{
    u8 b = (u8)operand_get(c, i, &i->opd[0], 1);
    u16 a = (u8)c->gpr[RAX];
    u16 product = i->mnemonic == ZYDIS_MNEMONIC_MUL ? alu_mul_1(a, b, &c->rflags)
                                                    : alu_imul_1(a, b, &c->rflags);
    x86_gpr_write(c, RAX, 2, product);
}

/* rDX:rAX = rAX * r/m */
#define MULTIPLY(n, type)                                                                      \
    {                                                                                          \
        type high;                                                                             \
        low = is_signed ? alu_imul_##n((type)a, (type)b, &high, &c->rflags)                    \
                        : alu_mul_##n((type)a, (type)b, &high, &c->rflags);                    \
        x86_gpr_write(c, RDX, n, high);                                                        \
        break;                                                                                 \
    }

void exec_mul(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    if (n == 1) {
        multiply_byte(c, i);
        return;
    }
    bool is_signed = i->mnemonic == ZYDIS_MNEMONIC_IMUL;
    u64 a = c->gpr[RAX], b = operand_get(c, i, &i->opd[0], n), low;
    switch (n) {
    case 2:
        MULTIPLY(2, u16)
    case 4:
        MULTIPLY(4, u32)
    default:
        MULTIPLY(8, u64)
    }
    x86_gpr_write(c, RAX, n, low);
}

/* One, two or three operands. */
void exec_imul(struct x86_cpu *c, struct x86_insn *i)
{
    if (i->opd[1].kind == OPD_NONE) {
        exec_mul(c, i);
        return;
    }
    unsigned n = i->opd[0].size;
    bool three = i->opd[2].kind != OPD_NONE;
    u64 b = operand_get(c, i, &i->opd[1], n);
    u64 a = three ? i->imm : operand_reg(c, &i->opd[0], n);
    operand_set_reg(c, &i->opd[0], n, alu_imul2(a, b, n, &c->rflags));
}

/* No flags; the high half wins when both destinations are one register (SDM vol. 2, MULX). */
void exec_mulx(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    u128 product = (u128)x86_gpr_read(c, RDX, n) * operand_get(c, i, &i->opd[2], n);
    operand_set_reg(c, &i->opd[1], n, (u64)product);
    operand_set_reg(c, &i->opd[0], n, (u64)(product >> 8 * n));
}

/* -- DIV and IDIV: #DE before the host would trap ------------------------------------------ */

static bool quotient_fits(u128 dividend, u64 divisor, unsigned n)
{
    return divisor && (u64)(dividend >> 8 * n) < divisor;
}

static u128 magnitude(s128 v)
{
    return v < 0 ? -(u128)v : (u128)v;
}

static bool signed_quotient_fits(s128 dividend, s64 divisor, unsigned n)
{
    if (!divisor)
        return false;
    if (dividend == (s64)dividend) { /* nearly always; 128-bit division is slow */
        if (dividend == INT64_MIN && divisor == -1)
            return false;
        u64 quotient = (u64)((s64)dividend / divisor);
        return sign_extend(quotient, n) == quotient;
    }
    u128 limit = (u128)1 << (8 * n - 1); /* of the quotient's magnitude, when it is negative */
    u128 quotient = magnitude(dividend) / magnitude(divisor);
    return (dividend < 0) != (divisor < 0) ? quotient <= limit : quotient < limit;
}

static void check_quotient(struct x86_cpu *c, bool is_signed, u128 dividend, u64 b, unsigned n)
{
    bool fits;
    if (is_signed) {
        unsigned shift = 128 - 16 * n;
        fits =
            signed_quotient_fits((s128)(dividend << shift) >> shift, (s64)sign_extend(b, n), n);
    } else {
        fits = quotient_fits(dividend, b, n);
    }
    if (!fits)
        x86_raise(c, VEC_DE);
}

#define DIVIDE(n, type)                                                                        \
    {                                                                                          \
        type high = (type)x86_gpr_read(c, RDX, n);                                             \
        quotient = is_signed ? alu_idiv_##n((type)c->gpr[RAX], &high, (type)b, &c->rflags)     \
                             : alu_div_##n((type)c->gpr[RAX], &high, (type)b, &c->rflags);     \
        x86_gpr_write(c, RDX, n, high);                                                        \
        break;                                                                                 \
    }

void exec_div(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[0].size;
    bool is_signed = i->mnemonic == ZYDIS_MNEMONIC_IDIV;
    u64 b = operand_get(c, i, &i->opd[0], n), quotient;
    u128 dividend = n == 1 ? (u16)c->gpr[RAX]
                           : (u128)x86_gpr_read(c, RDX, n) << 8 * n | x86_gpr_read(c, RAX, n);
    check_quotient(c, is_signed, dividend, b, n);
    switch (n) {
    case 1:
        x86_gpr_write(c, RAX, 2,
                      is_signed ? alu_idiv_1((u16)dividend, (u8)b, &c->rflags)
                                : alu_div_1((u16)dividend, (u8)b, &c->rflags));
        return;
    case 2:
        DIVIDE(2, u16)
    case 4:
        DIVIDE(4, u32)
    default:
        DIVIDE(8, u64)
    }
    x86_gpr_write(c, RAX, n, quotient);
}

/*
 * -- Decimal adjustment (SDM vol. 2, AAA to DAS); 64-bit hosts cannot execute these.
 *
 * The flags that the manuals leave undefined are those of the addition inside, or with
 * QUIRK_DECIMAL_RESULT those of AL: found by trying all operands.
 */

static void set_carries(u64 *flags, bool carry, bool adjust)
{
    *flags &= ~(FLAG_CF | FLAG_AF);
    *flags |= (carry ? FLAG_CF : 0) | (adjust ? FLAG_AF : 0);
}

static void adjusted_flags(struct x86_cpu *c, u8 al, bool carry, bool adjust)
{
    if (x86_quirk(c->model, QUIRK_DECIMAL_RESULT))
        alu_test_1(al, al, &c->rflags);
    set_carries(&c->rflags, carry, adjust);
}

/* AAA, AAS */
void exec_ascii_adjust(struct x86_cpu *c, struct x86_insn *i)
{
    u16 ax = (u16)c->gpr[RAX];
    bool adjust = (ax & 15) > 9 || (c->rflags & FLAG_AF);
    u16 by = adjust ? 0x106 : 0;
    if (i->mnemonic == ZYDIS_MNEMONIC_AAA)
        ax = alu_add_2(ax, by, &c->rflags);
    else
        ax = alu_sub_2(ax, by, &c->rflags);
    adjusted_flags(c, ax & 15, adjust, adjust);
    x86_gpr_write(c, RAX, 2, ax & 0xff0f);
}

/* DAA, DAS */
void exec_decimal_adjust(struct x86_cpu *c, struct x86_insn *i)
{
    bool add = i->mnemonic == ZYDIS_MNEMONIC_DAA;
    u8 old = (u8)c->gpr[RAX];
    bool carry = c->rflags & FLAG_CF;
    bool adjust = (old & 15) > 9 || (c->rflags & FLAG_AF), high = old > 0x99 || carry;
    u8 by = (adjust ? 6 : 0) + (high ? 0x60 : 0);
    bool carry_out = high || (adjust && (add ? old > 0xf9 : old < 6));
    u8 al = add ? alu_add_1(old, by, &c->rflags) : alu_sub_1(old, by, &c->rflags);
    adjusted_flags(c, al, carry_out, adjust);
    x86_gpr_write(c, RAX, 1, al);
}

void exec_aam(struct x86_cpu *c, struct x86_insn *i)
{
    u8 base = (u8)i->imm, al = (u8)c->gpr[RAX];
    if (!base)
        x86_raise(c, VEC_DE);
    u8 low = al % base;
    x86_gpr_write(c, RAX, 2, (u64)(al / base) << 8 | low);
    alu_test_1(low, low, &c->rflags);
    set_carries(&c->rflags, false, false);
}

void exec_aad(struct x86_cpu *c, struct x86_insn *i)
{
    u16 ax = (u16)c->gpr[RAX];
    u8 product = (u8)((ax >> 8) * (u8)i->imm);
    x86_gpr_write(c, RAX, 2, alu_add_1((u8)ax, product, &c->rflags));
}

void exec_crc32(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = i->opd[1].size;
    u64 data = operand_get(c, i, &i->opd[1], n);
    c->gpr[i->opd[0].reg] = alu_crc32((u32)c->gpr[i->opd[0].reg], data, n);
}
