/* Do two results agree, and if not, in what? */
#include <stdio.h>
#include <string.h>

#include "oracle.h"

/* RF is in the image of flags that a fault pushes, not among the results of instructions. */
#define FLAGS_COMPARED (FLAGS_STATUS | FLAG_DF | FLAG_IF | FLAG_FIXED | FLAG_AC | FLAG_ID)

struct difference {
    bool print;
    unsigned count;
};

static void differ(struct difference *d, const char *what, unsigned index, u64 a, u64 b)
{
    if (a == b)
        return;
    d->count++;
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
    d->count++;
    if (!d->print)
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

/* Images of state and 80-bit numbers are many accesses whose order is the processor's own:
 * which of them faults first is not compared. */
static bool is_image(const struct sequence *q, u64 rip)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    u8 bytes[15] = {0};
    u64 at = rip - CODE_BASE;
    if (at >= q->bytes)
        return false;
    memcpy(bytes, q->code + at, q->bytes - at < 15 ? q->bytes - at : 15);
    if (!decode_one(q->code_size, bytes, 15, &z, operands))
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
               z.mnemonic == ZYDIS_MNEMONIC_FNSAVE || z.mnemonic == ZYDIS_MNEMONIC_FRSTOR;
    }
}

/* Such an operand across 4 GiB: the limit, or the parts before and behind it, may fault first.
 */
static bool at_4g(const struct sequence *q, const struct state *a, const struct state *b)
{
    bool near = a->vector == VEC_PF ? (u32)(a->cr2 + 0x200) < 0x400
                                    : a->vector == VEC_GP || a->vector == VEC_SS;
    return q->code_size == 4 && near && a->rip == b->rip && is_image(q, a->rip);
}

static void differ_outcome(struct difference *d, const struct sequence *q,
                           const struct state *a, const struct state *b)
{
    differ(d, "outcome", 0, a->outcome, b->outcome);
    if (a->outcome != OUTCOME_FAULT || b->outcome != OUTCOME_FAULT)
        return;
    if (at_4g(q, a, b))
        return;
    differ(d, "vector", 0, a->vector, b->vector);
    if (a->vector == VEC_PF && is_image(q, a->rip))
        return;
    if (has_error(a->vector))
        differ(d, "error", 0, a->error, b->error);
    if (a->vector == VEC_PF)
        differ(d, "cr2_", 0, a->cr2, b->cr2);
}

bool states_agree(const struct sequence *q, const struct state *a, const struct state *b,
                  bool print)
{
    struct difference d = {.print = print};
    if (a->outcome == OUTCOME_LOST || b->outcome == OUTCOME_LOST)
        return true;
    differ_outcome(&d, q, a, b);
    for (unsigned k = 0; k < (q->code_size == 8 ? 16 : 8); k++)
        differ(&d, "gpr", k, a->gpr[k], b->gpr[k]);
    differ(&d, "rip", 0, a->rip, b->rip);
    differ(&d, "rflags", 0, a->rflags & FLAGS_COMPARED, b->rflags & FLAGS_COMPARED);
    differ_fpu(&d, &a->fpu, &b->fpu);
    for (unsigned at = 0; at < WINDOW_SIZE && memcmp(a->memory, b->memory, WINDOW_SIZE);
         at += 16)
        differ_bytes(&d, "memory+", at, a->memory + at, b->memory + at, 16);
    return d.count == 0;
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
                                            text, sizeof(text), CODE_BASE + at, NULL);
        printf("  %llx:", CODE_BASE + at);
        for (unsigned b = 0; b < q->length[k]; b++)
            printf(" %02x", q->code[at + b]);
        printf("%*s %s\n", 46 - 3 * q->length[k], "", text);
    }
}
