/*
 * The host processor is the ALU: each function executes the very instruction on the operand
 * values and takes the flags from it, so that undefined flags too are those of this processor,
 * and the simulator agrees bit for bit with an engine that lets the guest's instruction run.
 *
 * Flags travel through AX: LAHF gives SF, ZF, AF, PF, CF in AH, SETO the OF in AL. PUSHFQ is
 * slower and would write below RSP, into the compiler's red zone.
 *
 * Functions are alu_<instruction>_<bytes>; `flags` is the RFLAGS image that they read and
 * update.
 */
#pragma once

#include "x86/regs.h"

static inline u64 alu_status(u16 ax)
{
    return (ax >> 8 & 0xd5) | (u64)(ax & 1) << 11;
}

static inline u16 alu_ax(u64 flags)
{
    return (u16)((flags & 0xd5) << 8 | (flags >> 11 & 1));
}

#define ALU_SAVE "\n\tlahf\n\tseto %%al"
/* AL is 0 or 1: adding 7fh overflows exactly for 1; SAHF leaves OF alone. */
#define ALU_LOAD "addb $0x7f, %%al\n\tsahf\n\t"

/* Expands M(name, instruction, bytes, type, suffix, operand modifier) for the sizes. */
#define ALU_EACH_WIDE(M, name, insn)                                                           \
    M(name, insn, 2, u16, "w", "w")                                                            \
    M(name, insn, 4, u32, "l", "k")                                                            \
    M(name, insn, 8, u64, "q", "q")
#define ALU_EACH(M, name, insn) M(name, insn, 1, u8, "b", "b") ALU_EACH_WIDE(M, name, insn)

/* a = a OP b, all status flags written, none read. */
#define ALU_PURE(name, insn, n, type, s, m)                                                    \
    static inline type alu_##name##_##n(type a, type b, u64 *flags)                            \
    {                                                                                          \
        u16 ax;                                                                                \
        __asm__(insn s " %" m "2, %" m "0" ALU_SAVE : "+r"(a), "=a"(ax) : "r"(b) : "cc");      \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/* As ALU_PURE with flags read, or kept where the instruction keeps them. */
#define ALU_FLAGS(name, insn, n, type, s, m)                                                   \
    static inline type alu_##name##_##n(type a, type b, u64 *flags)                            \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        __asm__(ALU_LOAD insn s " %" m "2, %" m "0" ALU_SAVE                                   \
                : "+&r"(a), "+&a"(ax)                                                          \
                : "r"(b)                                                                       \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/* One operand; `b` is there for the common shape. */
#define ALU_UNARY(name, insn, n, type, s, m)                                                   \
    static inline type alu_##name##_##n(type a, type b, u64 *flags)                            \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        (void)b;                                                                               \
        __asm__(ALU_LOAD insn s " %" m "0" ALU_SAVE : "+&r"(a), "+&a"(ax) : : "cc");           \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/* INC and DEC, which keep CF: quicker than loading it. */
#define ALU_KEEP_CF(name, insn, n, type, s, m)                                                 \
    static inline type alu_##name##_##n(type a, type b, u64 *flags)                            \
    {                                                                                          \
        const u64 written = FLAGS_STATUS & ~FLAG_CF;                                           \
        u16 ax;                                                                                \
        (void)b;                                                                               \
        __asm__(insn s " %" m "0" ALU_SAVE : "+r"(a), "=a"(ax) : : "cc");                      \
        *flags = (*flags & ~written) | (alu_status(ax) & written);                             \
        return a;                                                                              \
    }
/* Shift or rotate by CL: a count of zero keeps all flags, rotates keep four. */
#define ALU_SHIFT(name, insn, n, type, s, m)                                                   \
    static inline type alu_##name##_##n(type a, type b, u64 *flags)                            \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        __asm__(ALU_LOAD insn s " %%cl, %" m "0" ALU_SAVE                                      \
                : "+&r"(a), "+&a"(ax)                                                          \
                : "c"((u8)b)                                                                   \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/* SHLD, SHRD: bits come from b. */
#define ALU_SHIFT_DOUBLE(name, insn, n, type, s, m)                                            \
    static inline type alu_##name##_##n(type a, type b, u8 count, u64 *flags)                  \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        __asm__(ALU_LOAD insn s " %%cl, %" m "2, %" m "0" ALU_SAVE                             \
                : "+&r"(a), "+&a"(ax)                                                          \
                : "r"(b), "c"(count)                                                           \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/*
 * Scans: the whole 64-bit destination goes in and comes out, since a source of zero keeps it,
 * and how much of it is the processor's choice.
 */
#define ALU_SCAN(name, insn, n, type, s, m)                                                    \
    static inline u64 alu_##name##_##n(u64 a, type b, u64 *flags)                              \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        __asm__(ALU_LOAD insn s " %" m "2, %" m "0" ALU_SAVE                                   \
                : "+&r"(a), "+&a"(ax)                                                          \
                : "r"(b)                                                                       \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/* VEX forms: result from b and c (in the order of the AT&T operands), 4 and 8 bytes. */
#define ALU_VEX3(name, insn, n, type, s, m)                                                    \
    static inline type alu_##name##_##n(type b, type c, u64 *flags)                            \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        type a;                                                                                \
        __asm__(ALU_LOAD insn " %" m "2, %" m "3, %" m "0" ALU_SAVE                            \
                : "=&r"(a), "+&a"(ax)                                                          \
                : "r"(b), "r"(c)                                                               \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
#define ALU_VEX2(name, insn, n, type, s, m)                                                    \
    static inline type alu_##name##_##n(type b, type c, u64 *flags)                            \
    {                                                                                          \
        u16 ax = alu_ax(*flags);                                                               \
        type a;                                                                                \
        (void)c;                                                                               \
        __asm__(ALU_LOAD insn " %" m "2, %" m "0" ALU_SAVE                                     \
                : "=&r"(a), "+&a"(ax)                                                          \
                : "r"(b)                                                                       \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status(ax);                                    \
        return a;                                                                              \
    }
/* One-operand multiply: a * b into (*high, result). */
#define ALU_MULTIPLY(name, insn, n, type, s, m)                                                \
    static inline type alu_##name##_##n(type a, type b, type *high, u64 *flags)                \
    {                                                                                          \
        u64 ax = alu_ax(*flags), low;                                                          \
        __asm__(ALU_LOAD "mov %q3, %%rax\n\t" insn s " %" m "4\n\tmov %%rax, %q0" ALU_SAVE     \
                : "=&r"(low), "+&a"(ax), "=&d"(*high)                                          \
                : "r"(a), "r"(b)                                                               \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status((u16)ax);                               \
        return (type)low;                                                                      \
    }
/* high:low / b; the caller has excluded #DE. Returns the quotient. */
#define ALU_DIVIDE(name, insn, n, type, s, m)                                                  \
    static inline type alu_##name##_##n(type low, type *high, type b, u64 *flags)              \
    {                                                                                          \
        u64 ax = alu_ax(*flags), quotient;                                                     \
        __asm__(ALU_LOAD "mov %q3, %%rax\n\t" insn s " %" m "4\n\tmov %%rax, %q0" ALU_SAVE     \
                : "=&r"(quotient), "+&a"(ax), "+&d"(*high)                                     \
                : "r"(low), "r"(b)                                                             \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status((u16)ax);                               \
        return (type)quotient;                                                                 \
    }

ALU_EACH(ALU_PURE, add, "add")
ALU_EACH(ALU_PURE, or, "or")
ALU_EACH(ALU_PURE, and, "and")
ALU_EACH(ALU_PURE, sub, "sub")
ALU_EACH(ALU_PURE, xor, "xor")
ALU_EACH(ALU_PURE, cmp, "cmp")
ALU_EACH(ALU_PURE, test, "test")
ALU_EACH(ALU_FLAGS, adc, "adc")
ALU_EACH(ALU_FLAGS, sbb, "sbb")
ALU_EACH(ALU_KEEP_CF, inc, "inc")
ALU_EACH(ALU_KEEP_CF, dec, "dec")
ALU_EACH(ALU_UNARY, neg, "neg")
ALU_EACH(ALU_UNARY, not, "not")
ALU_EACH(ALU_SHIFT, rol, "rol")
ALU_EACH(ALU_SHIFT, ror, "ror")
ALU_EACH(ALU_SHIFT, rcl, "rcl")
ALU_EACH(ALU_SHIFT, rcr, "rcr")
ALU_EACH(ALU_SHIFT, shl, "shl")
ALU_EACH(ALU_SHIFT, shr, "shr")
ALU_EACH(ALU_SHIFT, sar, "sar")
ALU_EACH_WIDE(ALU_SHIFT_DOUBLE, shld, "shld")
ALU_EACH_WIDE(ALU_SHIFT_DOUBLE, shrd, "shrd")
ALU_EACH_WIDE(ALU_FLAGS, bt, "bt")
ALU_EACH_WIDE(ALU_FLAGS, bts, "bts")
ALU_EACH_WIDE(ALU_FLAGS, btr, "btr")
ALU_EACH_WIDE(ALU_FLAGS, btc, "btc")
ALU_EACH_WIDE(ALU_FLAGS, imul2, "imul")
ALU_EACH_WIDE(ALU_SCAN, bsf, "bsf")
ALU_EACH_WIDE(ALU_SCAN, bsr, "bsr")
ALU_EACH_WIDE(ALU_SCAN, tzcnt, "tzcnt")
ALU_EACH_WIDE(ALU_SCAN, lzcnt, "lzcnt")
ALU_EACH_WIDE(ALU_SCAN, popcnt, "popcnt")
ALU_EACH_WIDE(ALU_MULTIPLY, mul, "mul")
ALU_EACH_WIDE(ALU_MULTIPLY, imul, "imul")
ALU_EACH_WIDE(ALU_DIVIDE, div, "div")
ALU_EACH_WIDE(ALU_DIVIDE, idiv, "idiv")

#define ALU_EACH_VEX(M, name, insn)                                                            \
    M(name, insn, 4, u32, "l", "k")                                                            \
    M(name, insn, 8, u64, "q", "q")
ALU_EACH_VEX(ALU_FLAGS, adcx, "adcx")
ALU_EACH_VEX(ALU_FLAGS, adox, "adox")
ALU_EACH_VEX(ALU_VEX3, andn, "andn")
ALU_EACH_VEX(ALU_VEX3, bextr, "bextr")
ALU_EACH_VEX(ALU_VEX3, bzhi, "bzhi")
ALU_EACH_VEX(ALU_VEX3, pdep, "pdep")
ALU_EACH_VEX(ALU_VEX3, pext, "pext")
ALU_EACH_VEX(ALU_VEX2, blsi, "blsi")
ALU_EACH_VEX(ALU_VEX2, blsr, "blsr")
ALU_EACH_VEX(ALU_VEX2, blsmsk, "blsmsk")

/*
 * The byte forms of multiply and divide work in AX, which the flags travel through too: `ax` is
 * the dividend, or the multiplicand in AL; returns AX.
 */
#define ALU_BYTE_AX(name, insn)                                                                \
    static inline u16 alu_##name##_1(u16 ax_in, u8 b, u64 *flags)                              \
    {                                                                                          \
        u64 ax = alu_ax(*flags), out;                                                          \
        __asm__(ALU_LOAD "mov %q2, %%rax\n\t" insn " %b3\n\tmov %%rax, %q0" ALU_SAVE           \
                : "=&r"(out), "+&a"(ax)                                                        \
                : "r"((u64)ax_in), "r"(b)                                                      \
                : "cc");                                                                       \
        *flags = (*flags & ~FLAGS_STATUS) | alu_status((u16)ax);                               \
        return (u16)out;                                                                       \
    }
ALU_BYTE_AX(mul, "mulb")
ALU_BYTE_AX(imul, "imulb")
ALU_BYTE_AX(div, "divb")
ALU_BYTE_AX(idiv, "idivb")

/* CRC32 (polynomial 11EDC6F41h) of `n` bytes of `data`; keeps all flags. */
static inline u32 alu_crc32(u32 crc, u64 data, unsigned n)
{
    u64 sum = crc;
    if (n == 1)
        __asm__("crc32b %b1, %q0" : "+r"(sum) : "r"(data));
    else if (n == 2)
        __asm__("crc32w %w1, %k0" : "+r"(sum) : "r"(data));
    else if (n == 4)
        __asm__("crc32l %k1, %k0" : "+r"(sum) : "r"(data));
    else
        __asm__("crc32q %q1, %q0" : "+r"(sum) : "r"(data));
    return (u32)sum;
}

/*
 * Where the operation is chosen at run time: a OP b on the low `n` bytes. Only the low `n`
 * bytes of the result count.
 */
typedef u64 alu_function(u64 a, u64 b, unsigned n, u64 *flags);

#define ALU_SWITCH_WIDE(name, a, b, flags)                                                     \
    case 2:                                                                                    \
        return alu_##name##_2((u16)(a), (u16)(b), flags);                                      \
    case 4:                                                                                    \
        return alu_##name##_4((u32)(a), (u32)(b), flags);                                      \
    default:                                                                                   \
        return alu_##name##_8(a, b, flags);
#define ALU_ANY_WIDE(name)                                                                     \
    static inline u64 alu_##name(u64 a, u64 b, unsigned n, u64 *flags)                         \
    {                                                                                          \
        switch (n) {                                                                           \
            ALU_SWITCH_WIDE(name, a, b, flags)                                                 \
        }                                                                                      \
    }
#define ALU_ANY(name)                                                                          \
    static inline u64 alu_##name(u64 a, u64 b, unsigned n, u64 *flags)                         \
    {                                                                                          \
        switch (n) {                                                                           \
        case 1:                                                                                \
            return alu_##name##_1((u8)a, (u8)b, flags);                                        \
            ALU_SWITCH_WIDE(name, a, b, flags)                                                 \
        }                                                                                      \
    }
#define ALU_ANY_VEX(name)                                                                      \
    static inline u64 alu_##name(u64 a, u64 b, unsigned n, u64 *flags)                         \
    {                                                                                          \
        return n == 4 ? alu_##name##_4((u32)a, (u32)b, flags) : alu_##name##_8(a, b, flags);   \
    }

/* All of `a` goes in, and all of the result counts, see ALU_SCAN. */
#define ALU_ANY_SCAN(name)                                                                     \
    static inline u64 alu_##name(u64 a, u64 b, unsigned n, u64 *flags)                         \
    {                                                                                          \
        switch (n) {                                                                           \
        case 2:                                                                                \
            return alu_##name##_2(a, (u16)b, flags);                                           \
        case 4:                                                                                \
            return alu_##name##_4(a, (u32)b, flags);                                           \
        default:                                                                               \
            return alu_##name##_8(a, b, flags);                                                \
        }                                                                                      \
    }

ALU_ANY(add)
ALU_ANY(or)
ALU_ANY(and)
ALU_ANY(sub)
ALU_ANY(xor)
ALU_ANY(cmp)
ALU_ANY(test)
ALU_ANY(adc)
ALU_ANY(sbb)
ALU_ANY(inc)
ALU_ANY(dec)
ALU_ANY(neg)
ALU_ANY(not )
ALU_ANY(rol)
ALU_ANY(ror)
ALU_ANY(rcl)
ALU_ANY(rcr)
ALU_ANY(shl)
ALU_ANY(shr)
ALU_ANY(sar)
ALU_ANY_WIDE(bt)
ALU_ANY_WIDE(bts)
ALU_ANY_WIDE(btr)
ALU_ANY_WIDE(btc)
ALU_ANY_WIDE(imul2)
ALU_ANY_SCAN(bsf)
ALU_ANY_SCAN(bsr)
ALU_ANY_SCAN(tzcnt)
ALU_ANY_SCAN(lzcnt)
ALU_ANY_SCAN(popcnt)
ALU_ANY_VEX(adcx)
ALU_ANY_VEX(adox)
ALU_ANY_VEX(andn)
ALU_ANY_VEX(bextr)
ALU_ANY_VEX(bzhi)
ALU_ANY_VEX(pdep)
ALU_ANY_VEX(pext)
ALU_ANY_VEX(blsi)
ALU_ANY_VEX(blsr)
ALU_ANY_VEX(blsmsk)
