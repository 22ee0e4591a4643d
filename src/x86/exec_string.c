/*
 * String instructions: MOVS, STOS, LODS, SCAS, CMPS, with REP, in both directions.
 *
 * A repeated one may stop after any iteration, with RIP still at the instruction and the
 * registers telling how far it came: at attention, after a bounded number of bytes, at a fault.
 * Where the operands are in pages that the software TLB holds, all iterations that stay in
 * those pages are done at once; MOVS and STOS by the host's own repeated instruction, which has
 * the order, overlap and atomicity of the guest's.
 */
#include "x86/model.h"
#include "x86/operand.h"

enum string_op { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_SCAS, STRING_CMPS };

/* Bytes after which a repeated instruction lets the run loop look around. */
#define STRING_BUDGET (64 * KiB)

/* The host's DF is clear by the ABI and must be so again. */
#define HOST_REPEAT(insn, ...)                                                                 \
    do {                                                                                       \
        if (down)                                                                              \
            __asm__ volatile("std\n\trep " insn "\n\tcld" __VA_ARGS__);                        \
        else                                                                                   \
            __asm__ volatile("rep " insn __VA_ARGS__);                                         \
    } while (0)
#define HOST_REPEAT_SIZES(insn, ...)                                                           \
    do {                                                                                       \
        if (n == 1)                                                                            \
            HOST_REPEAT(insn "b", __VA_ARGS__);                                                \
        else if (n == 2)                                                                       \
            HOST_REPEAT(insn "w", __VA_ARGS__);                                                \
        else if (n == 4)                                                                       \
            HOST_REPEAT(insn "l", __VA_ARGS__);                                                \
        else                                                                                   \
            HOST_REPEAT(insn "q", __VA_ARGS__);                                                \
    } while (0)

static void host_movs(void *dst, const void *src, u64 count, unsigned n, bool down)
{
    HOST_REPEAT_SIZES("movs", : "+D"(dst), "+S"(src), "+c"(count) : : "memory", "cc");
}

static void host_stos(void *dst, u64 value, u64 count, unsigned n, bool down)
{
    HOST_REPEAT_SIZES("stos", : "+D"(dst), "+c"(count) : "a"(value) : "memory", "cc");
}

static const u8 *host_element(const void *base, u64 k, unsigned n, bool down)
{
    return down ? (const u8 *)base - k * n : (const u8 *)base + k * n;
}

static bool string_down(const struct x86_cpu *c)
{
    return c->rflags & FLAG_DF;
}

static void string_advance(struct x86_cpu *c, const struct x86_insn *i, unsigned reg, u64 count)
{
    u64 by = count * i->opsize, v = x86_gpr_read(c, reg, i->adsize);
    x86_gpr_write(c, reg, i->adsize, string_down(c) ? v - by : v + by);
}

/* Whether a comparing repetition ends after elements a and b. */
static bool string_ends(const struct x86_insn *i, u64 a, u64 b)
{
    return i->flags & INSN_REP ? a != b : (i->flags & INSN_REPNE) && a == b;
}

/*
 * How many elements from the address in `reg` on are in one page that the TLB holds for the
 * access, and before the offset wraps; *host: the first one. 0: none.
 */
static u64 string_span(struct x86_cpu *c, const struct x86_insn *i, unsigned seg, unsigned reg,
                       bool write, void **host)
{
    u64 n = i->opsize, offset = x86_gpr_read(c, reg, i->adsize);
    if (!(c->flat[seg] & (write ? FLAT_WRITE : FLAT_READ)))
        return 0;
    struct gva la = gva(offset + c->flat_base[seg]);
    *host = write ? x86_tlb_write(c, la, n) : x86_tlb_read(c, la, n);
    if (!*host)
        return 0;
    u64 page, wrap;
    if (string_down(c)) {
        page = (la.v & ~PAGE_MASK) / n + 1;
        wrap = offset / n + 1;
    } else {
        page = page_left(la.v) / n;
        wrap = i->adsize == 8 ? page : (bits_low(8 * i->adsize) - offset) / n + 1;
    }
    return page < wrap ? page : wrap;
}

struct string_result {
    u64 done;   /* iterations */
    bool ended; /* by the condition of REPE, REPNE */
    u64 flags;  /* of the last comparison */
};

/* As many of `count` iterations as the pages in the TLB allow; registers are the caller's. */
static inline struct string_result string_bulk(struct x86_cpu *c, const struct x86_insn *i,
                                               enum string_op op, u64 count)
{
    unsigned n = i->opsize;
    void *src = NULL, *dst = NULL;
    bool down = string_down(c);
    if (op == STRING_MOVS || op == STRING_LODS || op == STRING_CMPS) {
        u64 span = string_span(c, i, i->seg, RSI, false, &src);
        count = span < count ? span : count;
    }
    if (op != STRING_LODS && count) {
        bool write = op == STRING_MOVS || op == STRING_STOS;
        u64 span = string_span(c, i, SEG_ES, RDI, write, &dst);
        count = span < count ? span : count;
    }
    struct string_result result = {.done = count, .flags = c->rflags};
    if (!count)
        return result;
    if (op == STRING_MOVS) {
        host_movs(dst, src, count, n, down);
    } else if (op == STRING_STOS) {
        host_stos(dst, c->gpr[RAX], count, n, down);
    } else if (op == STRING_LODS) {
        x86_gpr_write(c, RAX, n, host_load(host_element(src, count - 1, n, down), n));
    } else {
        u64 a = x86_gpr_read(c, RAX, n), b = 0, k;
        for (k = 0; k < count && !result.ended; k++) {
            if (op == STRING_CMPS)
                a = host_load(host_element(src, k, n, down), n);
            b = host_load(host_element(dst, k, n, down), n);
            result.ended = string_ends(i, a, b);
        }
        alu_cmp(a, b, n, &result.flags);
        result.done = k;
    }
    return result;
}

/* One iteration with all checks. */
static inline struct string_result string_one(struct x86_cpu *c, const struct x86_insn *i,
                                              enum string_op op)
{
    unsigned n = i->opsize;
    u64 si = x86_gpr_read(c, RSI, i->adsize), di = x86_gpr_read(c, RDI, i->adsize);
    struct string_result result = {.done = 1, .flags = c->rflags};
    u64 a, b;
    switch (op) {
    case STRING_MOVS:
        x86_store(c, SEG_ES, di, n, x86_load(c, i->seg, si, n));
        break;
    case STRING_STOS:
        x86_store(c, SEG_ES, di, n, x86_gpr_read(c, RAX, n));
        break;
    case STRING_LODS:
        x86_gpr_write(c, RAX, n, x86_load(c, i->seg, si, n));
        break;
    default:
        b = x86_load(c, SEG_ES, di, n); /* CMPS faults at ES:rDI first */
        a = op == STRING_CMPS ? x86_load(c, i->seg, si, n) : x86_gpr_read(c, RAX, n);
        alu_cmp(a, b, n, &result.flags);
        result.ended = string_ends(i, a, b);
    }
    return result;
}

static inline struct string_result string_some(struct x86_cpu *c, const struct x86_insn *i,
                                               enum string_op op, u64 count)
{
    struct string_result result = {0};
    if (count > 1)
        result = string_bulk(c, i, op, count);
    if (!result.done)
        result = string_one(c, i, op);
    if (op == STRING_MOVS || op == STRING_LODS || op == STRING_CMPS)
        string_advance(c, i, RSI, result.done);
    if (op != STRING_LODS)
        string_advance(c, i, RDI, result.done);
    return result;
}

/* A count of zero does nothing else. */
static void string_extend(struct x86_cpu *c, const struct x86_insn *i, enum string_op op)
{
    if (!x86_quirk(c->model, QUIRK_REP_EXTENDS) || c->code_size != 8 || i->adsize != 4)
        return;
    c->gpr[RCX] = (u32)c->gpr[RCX];
    if (op == STRING_MOVS)
        c->gpr[RSI] = (u32)c->gpr[RSI];
    if (op == STRING_MOVS || op == STRING_STOS)
        c->gpr[RDI] = (u32)c->gpr[RDI];
}

static inline void string_execute(struct x86_cpu *c, struct x86_insn *i, enum string_op op)
{
    if (!(i->flags & (INSN_REP | INSN_REPNE))) {
        c->rflags = string_some(c, i, op, 1).flags;
        return;
    }
    u64 count = x86_gpr_read(c, RCX, i->adsize);
    string_extend(c, i, op);
    if (count == 0)
        return;
    /* TF traps after each iteration. */
    u64 budget = c->rflags & FLAG_TF ? 1 : STRING_BUDGET / i->opsize;
    struct string_result r;
    do {
        r = string_some(c, i, op, count < budget ? count : budget);
        count -= r.done;
        budget -= r.done;
        x86_gpr_write(c, RCX, i->adsize, count);
        if (x86_quirk(c->model, QUIRK_REP_FLAGS))
            c->rflags = r.flags;
    } while (count && !r.ended && budget && !c->pending_db &&
             !atomic_load_explicit(&c->attention, memory_order_relaxed));
    c->rflags = r.flags;
    if (count && !r.ended)
        x86_suspend(c);
}

void exec_movs(struct x86_cpu *c, struct x86_insn *i)
{
    string_execute(c, i, STRING_MOVS);
}

void exec_stos(struct x86_cpu *c, struct x86_insn *i)
{
    string_execute(c, i, STRING_STOS);
}

void exec_lods(struct x86_cpu *c, struct x86_insn *i)
{
    string_execute(c, i, STRING_LODS);
}

void exec_scas(struct x86_cpu *c, struct x86_insn *i)
{
    string_execute(c, i, STRING_SCAS);
}

void exec_cmps(struct x86_cpu *c, struct x86_insn *i)
{
    string_execute(c, i, STRING_CMPS);
}
