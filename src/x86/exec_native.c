/*
 * Running thunks (native.h): the checks that come before the instruction, its memory operand,
 * and what is left to do after it. Faults come first, so that a thunk that ran is committed.
 */
#include "x86/exec_native.h"

#include <string.h>

#include "x86/mem.h"

#define MXCSR_MASKS 0x1f80u /* all six exceptions masked */

void native_refuse_sse(struct x86_cpu *c)
{
    if (c->cr0 & CR0_EM || !(c->cr4 & CR4_OSFXSR))
        x86_raise(c, VEC_UD);
    x86_raise(c, VEC_NM);
}

void native_refuse_avx(struct x86_cpu *c)
{
    const u64 both = XCR0_SSE | XCR0_AVX;
    if (!x86_protected(c) || x86_v86(c) || !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & both) != both)
        x86_raise(c, VEC_UD);
    if (c->cr0 & CR0_TS)
        x86_raise(c, VEC_NM);
}

void native_refuse_mmx(struct x86_cpu *c)
{
    x86_raise(c, c->cr0 & CR0_EM ? VEC_UD : VEC_NM);
}

/*
 * With CR0.NE clear the processor raises FERR#, and freezes before the instruction until an
 * interrupt comes (SDM vol. 1, 8.7.1 and appendix D): it is tried again and again. With IGNNE#
 * given it runs, the error still pending.
 */
void native_refuse_mf(struct x86_cpu *c)
{
    if (c->cr0 & CR0_NE)
        x86_raise(c, VEC_MF);
    if (c->ops->ignne(c))
        return;
    c->ops->ferr(c, true);
    x86_retry(c);
}

void native_set_top(struct x86_cpu *c, unsigned top)
{
    struct x86_fpu *f = &c->fpu;
    unsigned by = (top - (f->fsw >> 11)) & 7;
    if (by) {
        u8 old[8][16];
        memcpy(old, f->st, sizeof(old));
        for (unsigned r = 0; r < 8; r++)
            memcpy(f->st[r], old[(r + by) & 7], 16);
    }
    f->fsw = (u16)((f->fsw & ~0x3800u) | top << 11);
}

void native_enter_mmx(struct x86_cpu *c)
{
    native_set_top(c, 0);
    c->fpu.ftw = 0xff;
}

static void check_misaligned(struct x86_cpu *c, const struct x86_insn *i)
{
    if (i->native_flags & NATIVE_ALIGN || i->flags & INSN_VEX || !(c->fpu.mxcsr & MXCSR_MM))
        x86_raise_error(c, VEC_GP, 0);
}

struct gva native_address(struct x86_cpu *c, struct x86_insn *i, unsigned size,
                          enum x86_access access)
{
    u64 ea = x86_ea(c, i);
    /* Before the other checks: an operand beyond #SS is #GP when it is also misaligned. */
    if (i->flags & INSN_ALIGN && unlikely((x86_seg_base(c, i->seg) + ea) & (size - 1)))
        check_misaligned(c, i);
    if (i->native_flags & NATIVE_HALF)
        return native_linear_any(c, i, ea, size, access);
    return x86_linear(c, i->seg, ea, size, access);
}

/* The memory operand of an instruction in progress: RAM itself, or the copy. */
struct operand {
    void *p;
    struct gva la;
    u8 copy[64] __attribute__((aligned(64)));
};

/* An operand both read and written does not occur in this group. */
static inline void operand_open(struct operand *o, struct x86_cpu *c, struct x86_insn *i)
{
    bool store = i->native_flags & NATIVE_STORE;
    o->la = native_address(c, i, i->mem_size, store ? ACCESS_WRITE : ACCESS_READ);
    o->p = store ? x86_tlb_write(c, o->la, i->mem_size) : x86_tlb_read(c, o->la, i->mem_size);
    /* With MXCSR.MM the guest may misalign what the host, without it, must not. */
    if (likely(o->p) && likely(!(i->flags & INSN_ALIGN) || !(o->la.v & 15)))
        return;
    o->p = o->copy;
    if (store)
        c->ops->probe(c, o->la, i->mem_size, ACCESS_WRITE, AS_CPL);
    else
        c->ops->read(c, o->la, o->copy, i->mem_size, AS_CPL);
}

static inline void operand_close(struct operand *o, struct x86_cpu *c, struct x86_insn *i)
{
    if (i->native_flags & NATIVE_STORE && o->p == o->copy)
        c->ops->write(c, o->la, o->copy, i->mem_size, AS_CPL);
}

/* Only unmasked exceptions can make the host's unit trap; then the trampoline must watch. */
static inline bool attempt(struct x86_cpu *c, struct x86_insn *i, void *mem)
{
    native_code *code = i->native;
    if (i->native_flags & NATIVE_MXCSR && unlikely((c->fpu.mxcsr & MXCSR_MASKS) != MXCSR_MASKS))
        return c->ops->native(c, i->native, mem);
    code(c, mem);
    return true;
}

static inline void run(struct x86_cpu *c, struct x86_insn *i, void *mem)
{
    if (unlikely(!attempt(c, i, mem)))
        x86_raise(c, c->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}

/*
 * For what uses x87 registers: under IGNNE# it runs even while an unmasked exception is pending
 * (native_refuse_mf). The host must not trap on that, so it sees all masked.
 */
static inline void run_x87(struct x86_cpu *c, struct x86_insn *i, void *mem)
{
    struct x86_fpu *f = &c->fpu;
    if (likely(!(f->fsw & FSW_ES))) {
        run(c, i, mem);
        return;
    }
    u16 fcw = f->fcw;
    f->fcw |= FSW_EXCEPTIONS;
    f->fsw &= (u16) ~(FSW_ES | FSW_B);
    bool done = attempt(c, i, mem);
    f->fcw = fcw;
    if (f->fsw & ~fcw & FSW_EXCEPTIONS)
        f->fsw |= FSW_ES | FSW_B;
    if (!done)
        x86_raise(c, c->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}

static inline void run_operand(struct x86_cpu *c, struct x86_insn *i)
{
    struct operand o;
    if (!i->mem_size) {
        run(c, i, NULL);
        return;
    }
    if (i->native_flags & NATIVE_HALF && i->native_flags & NATIVE_STORE) {
        run(c, i, o.copy);
        o.la = native_address(c, i, i->mem_size, ACCESS_WRITE);
        c->ops->write(c, o.la, o.copy, i->mem_size, AS_CPL);
        return;
    }
    operand_open(&o, c, i);
    run(c, i, o.p);
    operand_close(&o, c, i);
}

void exec_native_plain(struct x86_cpu *c, struct x86_insn *i)
{
    run_operand(c, i);
}

void exec_native_sse(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_sse(c);
    run_operand(c, i);
}

void exec_native_avx(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_avx(c);
    run_operand(c, i);
}

/* No thunk writes memory from an MMX register: exec_mmx_store does. */
static inline void run_mmx(struct x86_cpu *c, struct x86_insn *i)
{
    struct operand o = {0};
    if (i->mem_size)
        operand_open(&o, c, i);
    native_enter_mmx(c);
    run_x87(c, i, o.p);
}

void exec_native_mmx(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_mmx(c);
    run_mmx(c, i);
}

void exec_native_mmx_sse(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_sse(c);
    native_check_mf(c);
    run_mmx(c, i);
}

/* An unmasked invalid operation, overflow or underflow suppresses the store of FST, FIST and
 * the like (SDM vol. 1, 8.5). No such flag was set before, else #MF would have come. */
static bool x87_stored(const struct x86_cpu *c)
{
    const u16 suppress = 1 << 0 | 1 << 3 | 1 << 4;
    return !(c->fpu.fsw & ~c->fpu.fcw & suppress);
}

/* QUIRK_X87_STORES_LAST: memory sees nothing before the result is known, and the unit is as it
 * was if the store faults. */
static void store_x87_last(struct x86_cpu *c, struct x86_insn *i)
{
    struct x86_fpu before = c->fpu, after;
    struct operand o;
    run_x87(c, i, o.copy);
    if (!x87_stored(c))
        return;
    after = c->fpu;
    c->fpu = before;
    unsigned first = i->mem_size == 10 ? 8 : i->mem_size;
    o.la = native_address(c, i, i->mem_size, ACCESS_WRITE);
    c->ops->write(c, o.la, o.copy, first, AS_CPL);
    if (first < i->mem_size)
        c->ops->write(c, gva(o.la.v + first), o.copy + first, i->mem_size - first, AS_CPL);
    c->fpu = after;
}

/*
 * The pointers to the last instruction are the guest's, not the thunk's (SDM vol. 1, 8.1.8);
 * `ea` is its operand's address.
 */
static void keep_pointers(struct x86_cpu *c, const struct x86_insn *i, u64 ea)
{
    bool linear = !x86_protected(c) || x86_v86(c), raised = c->fpu.fsw & FSW_ES;
    bool selectors = !x86_quirk(c->model, QUIRK_X87_NO_SELECTORS);
    c->fpu.fip = c->insn_rip + (linear ? c->seg[SEG_CS].base : 0);
    if (selectors)
        c->fcs = c->seg[SEG_CS].sel;
    if (i->mem_size && (raised || !x86_quirk(c->model, QUIRK_X87_FDP_UNMASKED))) {
        c->fpu.fdp = ea + (linear ? c->seg[i->seg].base : 0);
        if (selectors)
            c->fds = c->seg[i->seg].sel;
    }
    if (raised || !x86_quirk(c->model, QUIRK_X87_FOP_UNMASKED))
        c->fpu.fop = i->imm2;
}

void exec_native_x87(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    native_check_mf(c);
    u64 fdp = c->fpu.fdp, ea = 0;
    u16 fop = c->fpu.fop;
    struct operand o;
    if (i->mem_size) {
        ea = x86_ea(c, i);
        if (i->native_flags & NATIVE_STORE && x86_quirk(c->model, QUIRK_X87_STORES_LAST)) {
            store_x87_last(c, i);
        } else {
            operand_open(&o, c, i);
            run_x87(c, i, o.p);
            if (x87_stored(c))
                operand_close(&o, c, i);
        }
    } else {
        run_x87(c, i, NULL);
    }
    c->fpu.fop = fop;
    c->fpu.fdp = fdp;
    keep_pointers(c, i, ea);
    c->fpu.mxcsr_mask = native_mxcsr_mask(c);
}

/* -- Images larger than one access --------------------------------------------------------- */

#define CHUNK 64u

static inline u64 image_at(const struct x86_insn *i, u64 base, unsigned offset)
{
    return (base + offset) & bits_low(8 * i->adsize);
}

struct gva native_linear_any(struct x86_cpu *c, const struct x86_insn *i, u64 ea, unsigned size,
                             enum x86_access access)
{
    if (i->adsize != 8 && ea + size - 1 > bits_low(8 * i->adsize))
        return x86_linear(c, i->seg, ea, size, access); /* beyond any limit */
    struct gva la = x86_linear(c, i->seg, ea, 1, access);
    x86_linear(c, i->seg, ea + size - 1, 1, access);
    return la;
}

void native_image_probe(struct x86_cpu *c, struct x86_insn *i, unsigned size,
                        enum x86_access access)
{
    u64 base = x86_ea(c, i);
    for (unsigned at = 0; at < size; at += CHUNK) {
        unsigned n = size - at < CHUNK ? size - at : CHUNK;
        struct gva la = native_linear_any(c, i, image_at(i, base, at), n, access);
        if (!(access == ACCESS_WRITE ? x86_tlb_write(c, la, n) : x86_tlb_read(c, la, n)))
            c->ops->probe(c, la, n, access, AS_CPL);
    }
}

void native_image_load(struct x86_cpu *c, struct x86_insn *i, unsigned offset, void *buf,
                       unsigned size)
{
    u64 base = x86_ea(c, i);
    for (unsigned at = 0; at < size; at += CHUNK) {
        unsigned n = size - at < CHUNK ? size - at : CHUNK;
        struct gva la = native_linear_any(c, i, image_at(i, base, offset + at), n, ACCESS_READ);
        const void *p = x86_tlb_read(c, la, n);
        if (p)
            memcpy((u8 *)buf + at, p, n);
        else
            c->ops->read(c, la, (u8 *)buf + at, n, AS_CPL);
    }
}

void native_image_store(struct x86_cpu *c, struct x86_insn *i, unsigned offset, const void *buf,
                        unsigned size)
{
    u64 base = x86_ea(c, i);
    for (unsigned at = 0; at < size; at += CHUNK) {
        unsigned n = size - at < CHUNK ? size - at : CHUNK;
        struct gva la =
            native_linear_any(c, i, image_at(i, base, offset + at), n, ACCESS_WRITE);
        void *p = x86_tlb_write(c, la, n);
        if (p)
            memcpy(p, (const u8 *)buf + at, n);
        else
            c->ops->write(c, la, (const u8 *)buf + at, n, AS_CPL);
    }
}
