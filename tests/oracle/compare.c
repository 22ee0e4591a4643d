/* Do two results agree, and if not, in what? */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "oracle.h"

/* RF is in the image of flags that a fault pushes, not among the results of instructions. */
#define FLAGS_COMPARED (FLAGS_STATUS | FLAG_DF | FLAG_IF | FLAG_FIXED | FLAG_AC | FLAG_ID)

#define MAX_LINES 40 /* of a report */

/* Counts one, and notes what it is in: each word once. */
static void note(struct difference *d, const char *what)
{
    size_t used = strlen(d->in);
    d->count++;
    if (!strstr(d->in, what))
        snprintf(d->in + used, sizeof(d->in) - used, " %s", what);
}

static void differ(struct difference *d, const char *what, unsigned index, u64 a, u64 b)
{
    if (a == b)
        return;
    note(d, what);
    if (d->print)
        printf("  %s%u: cpu %016llx, %016llx\n", what, index, (unsigned long long)a,
               (unsigned long long)b);
}

static void differ_bytes(struct difference *d, const char *what, unsigned index, const void *a,
                         const void *b, unsigned n)
{
    const u8 *x = a, *y = b;
    if (memcmp(a, b, n) == 0)
        return;
    note(d, what);
    if (d->count > MAX_LINES || !d->print)
        return;
    printf("  %s%u: cpu ", what, index);
    for (unsigned k = n; k-- > 0;)
        printf("%02x", x[k]);
    printf(", ");
    for (unsigned k = n; k-- > 0;)
        printf("%02x", y[k]);
    printf("\n");
}

static void differ_fpu(struct difference *d, const struct x86_fpu *a, const struct x86_fpu *b)
{
    differ(d, "fcw", 0, a->fcw, b->fcw);
    differ(d, "fsw", 0, a->fsw, b->fsw);
    differ(d, "ftw", 0, a->ftw, b->ftw);
    differ(d, "mxcsr", 0, a->mxcsr, b->mxcsr);
    for (unsigned k = 0; k < 8; k++)
        differ_bytes(d, "st", k, a->st[k], b->st[k], 10);
    for (unsigned k = 0; k < 16; k++) {
        differ_bytes(d, "xmm", k, a->xmm[k], b->xmm[k], 16);
        differ_bytes(d, "ymm_hi", k, a->ymm_hi[k], b->ymm_hi[k], 16);
    }
}

static bool has_error(u8 vector)
{
    return vector == VEC_GP || vector == VEC_SS || vector == VEC_NP || vector == VEC_PF ||
           vector == VEC_AC;
}

static void code_bytes(const u8 code[CODE_SIZE], u64 at, u8 bytes[15])
{
    memset(bytes, 0xcc, 15);
    memcpy(bytes, code + at, CODE_SIZE - at < 15 ? CODE_SIZE - at : 15);
}

/* The instruction at `rip` as the sequence has left it. */
static bool decode_at(const struct sequence *q, const struct state *s, u64 rip,
                      ZydisDecodedInstruction *z, ZydisDecodedOperand *operands)
{
    u8 bytes[15];
    if (rip - CODE_BASE >= CODE_SIZE)
        return false;
    code_bytes(s->code, rip - CODE_BASE, bytes);
    return decode_one(q->code_size, bytes, 15, z, operands);
}

/* Images of state, 80-bit numbers and masked stores are many accesses whose order is the
 * processor's own: which of them faults first is not compared. */
static bool is_image(const struct sequence *q, const struct state *s, u64 rip)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!decode_at(q, s, rip, &z, operands))
        return false;
    switch (z.meta.isa_set) {
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT:
        return true;
    default:
        return operands[0].size == 80 || operands[1].size == 80 ||
               z.mnemonic == ZYDIS_MNEMONIC_FNSTENV || z.mnemonic == ZYDIS_MNEMONIC_FLDENV ||
               z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ||
               z.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
               z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU ||
               z.mnemonic == ZYDIS_MNEMONIC_FNSAVE || z.mnemonic == ZYDIS_MNEMONIC_FRSTOR;
    }
}

/* Which element of a VEX-encoded masked move faults first, or is named of those in the missing
 * page, is the processor's own, too. */
static bool is_masked(const struct sequence *q, const struct state *s)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    return decode_at(q, s, s->rip, &z, operands) &&
           (z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS ||
            z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD ||
            z.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD || z.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ);
}

/* POPA and PUSHA that fault have done a part of their work, or none: it is not said which. */
static bool is_partial(const struct sequence *q, const struct state *s)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    return s->outcome == OUTCOME_FAULT && decode_at(q, s, s->rip, &z, operands) &&
           (z.mnemonic == ZYDIS_MNEMONIC_POPA || z.mnemonic == ZYDIS_MNEMONIC_POPAD ||
            z.mnemonic == ZYDIS_MNEMONIC_PUSHA || z.mnemonic == ZYDIS_MNEMONIC_PUSHAD);
}

/* Such an operand across 4 GiB or the end of the lower half: the limit, or the parts before and
 * behind it, may fault first.
 */
static bool at_4g(const struct sequence *q, const struct state *a, const struct state *b)
{
    bool near = a->vector == VEC_PF ? (u32)(a->cr2 + 0x200) < 0x400
                                    : a->vector == VEC_GP || a->vector == VEC_SS;
    return near && a->rip == b->rip && (is_image(q, a, a->rip) || is_masked(q, a));
}

/*
 * An operand of 32-bit code across 4 GiB: with that limit an access beyond it may or may not be
 * an exception, and another time not (SDM vol. 3, 5.3). Where it is none, the alignment may be
 * wrong, and the page is missing.
 */
static bool beyond_4g(const struct sequence *q, const struct state *a, const struct state *b)
{
    bool other = a->vector == VEC_AC || (a->vector == VEC_PF && (u32)(a->cr2 + 64) < 128);
    return q->code_size == 4 && other && (b->vector == VEC_GP || b->vector == VEC_SS) &&
           a->rip == b->rip;
}

static void differ_outcome(struct difference *d, const struct sequence *q,
                           const struct state *a, const struct state *b)
{
    differ(d, "outcome", 0, a->outcome, b->outcome);
    if (a->outcome != OUTCOME_FAULT || b->outcome != OUTCOME_FAULT)
        return;
    if (at_4g(q, a, b) || beyond_4g(q, a, b))
        return;
    differ(d, "vector", 0, a->vector, b->vector);
    if (a->vector == VEC_PF && is_image(q, a, a->rip))
        return;
    if (has_error(a->vector))
        differ(d, "error", 0, a->error, b->error);
    if (a->vector == VEC_PF) {
        u64 known = is_masked(q, a) ? PAGE_MASK : ~0ull;
        differ(d, "cr2_", 0, a->cr2 & known, b->cr2 & known);
    }
}

/* Flags that the instruction overwrites: AND and its kind and shifts write AF, too, with a
 * value that the manuals do not promise. */
static u32 overwritten(const ZydisDecodedInstruction *z)
{
    const ZydisAccessedFlags *f = z->cpu_flags;
    u32 sure = f->modified | f->set_0 | f->set_1;
    bool all =
        z->meta.category == ZYDIS_CATEGORY_LOGICAL || z->meta.category == ZYDIS_CATEGORY_SHIFT;
    return all ? sure | f->undefined : sure;
}

/*
 * Flags that the code from `rip` on overwrites before anything reads them. Where it faults on
 * the way, the translator pushes whatever the check of the access left in them: saving dead
 * flags at each access would cost more than the access itself, and only a debugger could tell.
 */
static u32 dead_flags(const u8 code[CODE_SIZE], unsigned code_size, u64 rip, unsigned branches)
{
    u32 open = FLAGS_STATUS, dead = 0;
    u8 bytes[15];
    for (u64 at = rip - CODE_BASE; at < CODE_SIZE && open;) {
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        code_bytes(code, at, bytes);
        if (bytes[0] == 0xcc || !decode_one(code_size, bytes, 15, &z, operands))
            break;
        if (z.cpu_flags) {
            open &= ~z.cpu_flags->tested;
            dead |= open & overwritten(&z);
            open &= ~dead;
        }
        at += z.length;
        if (z.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE)
            continue;
        if (!z.raw.imm[0].is_relative || !branches)
            break;
        u64 taken = CODE_BASE + at + z.raw.imm[0].value.u;
        u32 next = dead_flags(code, code_size, taken, branches - 1);
        if (z.mnemonic != ZYDIS_MNEMONIC_JMP && z.mnemonic != ZYDIS_MNEMONIC_CALL)
            next &= dead_flags(code, code_size, CODE_BASE + at, branches - 1);
        return dead | (open & next);
    }
    return dead;
}

/* The translation may be older than the last change to the code. */
static u32 dead_flags_ever(const struct sequence *q, const struct state *s)
{
    u8 before[CODE_SIZE];
    sequence_place(q, before);
    return dead_flags(before, q->code_size, s->rip, 4) |
           dead_flags(s->code, q->code_size, s->rip, 4);
}

/* Does the sequence store images of state, or load them? */
static bool stores_image(const struct sequence *q, const struct state *s)
{
    for (unsigned k = 0, at = 0; k < q->n; at += q->length[k++])
        if (is_image(q, s, q->start + at))
            return true;
    return false;
}

static bool is_zero(const u8 *bytes, unsigned n)
{
    while (n && !bytes[n - 1])
        n--;
    return !n;
}

/* Are these components (XSTATE_BV) in their initial state in an image? */
static bool is_initial(const u8 *image, u64 components)
{
    struct x86_fpu fpu;
    memcpy(&fpu, image, sizeof(fpu));
    bool x87 = fpu.fcw == 0x37f && !fpu.fsw && !fpu.ftw && is_zero(fpu.st[0], sizeof(fpu.st));
    return (!(components & XCR0_X87) || x87) &&
           (!(components & XCR0_SSE) || is_zero(fpu.xmm[0], sizeof(fpu.xmm))) &&
           (!(components & XCR0_AVX) || is_zero(fpu.ymm_hi[0], sizeof(fpu.ymm_hi)));
}

/*
 * Takes over from `a` what XSTATE_BV says of components that are in their initial state: a
 * processor may track that or not (SDM vol. 1, 13.6).
 */
static void settle_initial(const u8 *a, u8 *b)
{
    const unsigned field = offsetof(struct x86_fpu, xstate_bv);
    for (unsigned at = 0; at + sizeof(struct x86_fpu) <= WINDOW_SIZE; at += 64) {
        u64 x, y;
        memcpy(&x, a + at + field, sizeof(x));
        memcpy(&y, b + at + field, sizeof(y));
        u64 other = x ^ y;
        if (other && !(other & ~(u64)(XCR0_X87 | XCR0_SSE | XCR0_AVX)) &&
            is_initial(a + at, other) && is_initial(b + at, other))
            memcpy(b + at + field, &x, sizeof(x));
    }
}

static void differ_memory(struct difference *d, const struct sequence *q, const struct state *s,
                          const u8 *a, const u8 *b)
{
    u8 settled[WINDOW_SIZE];
    if (!memcmp(a, b, WINDOW_SIZE))
        return;
    memcpy(settled, b, WINDOW_SIZE);
    if (stores_image(q, s))
        settle_initial(a, settled);
    for (unsigned at = 0; at < WINDOW_SIZE; at += 16)
        differ_bytes(d, "memory+", at, a + at, settled + at, 16);
}

bool states_agree(const struct sequence *q, const struct state *a, const struct state *b,
                  bool translated, struct difference *d)
{
    d->count = 0;
    if (a->outcome == OUTCOME_LOST || b->outcome == OUTCOME_LOST)
        return true;
    if (is_partial(q, a) && a->rip == b->rip && a->vector == b->vector)
        return true;
    /* Where x87 instructions run as they are, the translator does not know where the last one
     * and its operand were. */
    if (translated && stores_image(q, a))
        return true;
    differ_outcome(d, q, a, b);
    for (unsigned k = 0; k < (q->code_size == 8 ? 16 : 8); k++)
        differ(d, "gpr", k, a->gpr[k], b->gpr[k]);
    differ(d, "rip", 0, a->rip, b->rip);
    u32 compared = FLAGS_COMPARED;
    if (translated && b->flags_unknown && a->outcome == OUTCOME_FAULT)
        compared &= ~dead_flags_ever(q, a);
    differ(d, "rflags", 0, a->rflags & compared, b->rflags & compared);
    differ_fpu(d, &a->fpu, &b->fpu);
    differ_memory(d, q, a, a->memory, b->memory);
    for (unsigned at = 0; at < CODE_SIZE && memcmp(a->code, b->code, CODE_SIZE); at += 16)
        differ_bytes(d, "code+", at, a->code + at, b->code + at, 16);
    return d->count == 0;
}

void sequence_place(const struct sequence *q, u8 code[CODE_SIZE])
{
    u64 at = q->start - CODE_BASE;
    u64 room = CODE_SIZE - at;
    memset(code, 0xcc, CODE_SIZE);
    memcpy(code + at, q->code, q->bytes < room ? q->bytes : room);
}

void sequence_print(const struct sequence *q)
{
    ZydisFormatter formatter;
    unsigned at = 0;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned k = 0; k < q->n; at += q->length[k++]) {
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        char text[128] = "?";
        u8 bytes[15] = {0};
        memcpy(bytes, q->code + at, q->length[k]);
        if (decode_one(q->code_size, bytes, 15, &z, operands))
            ZydisFormatterFormatInstruction(&formatter, &z, operands, z.operand_count_visible,
                                            text, sizeof(text), q->start + at, NULL);
        printf("  %llx:", (unsigned long long)(q->start + at));
        for (unsigned b = 0; b < q->length[k]; b++)
            printf(" %02x", q->code[at + b]);
        printf("%*s %s\n", 46 - 3 * q->length[k], "", text);
    }
}

void sequence_mnemonics(const struct sequence *q, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (unsigned k = 0, at = 0; k < q->n && used < size; at += q->length[k++]) {
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        u8 bytes[15] = {0};
        memcpy(bytes, q->code + at, q->length[k]);
        if (bytes[0] != 0x90 && decode_one(q->code_size, bytes, 15, &z, operands))
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? " " : "",
                                     ZydisMnemonicGetString(z.mnemonic));
    }
}
