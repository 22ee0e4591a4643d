/*
 * Guest memory as instructions see it: segment:offset -> linear -> software TLB, or the ops.
 *
 * Order of events in a handler, which makes faults precise without undo: compute addresses,
 * load, compute, store, and only then change registers and flags. A handler that stores more
 * than once probes first.
 */
#pragma once

#include <string.h>

#include "x86/insn.h"

/* Bits 63:47 all alike (48-bit linear addresses: no model has LA57). */
static inline bool x86_canonical(u64 la)
{
    return (u64)((s64)(la << 16) >> 16) == la;
}

/*
 * The effective address of the memory operand, cut to the address size (SDM vol. 1, 3.7.5).
 * Base and index need no test: RIP and a zero stand behind the registers.
 */
static inline u64 x86_ea(const struct x86_cpu *c, const struct x86_insn *i)
{
    const u64 *regs = (const u64 *)c;
    u64 ea = (u64)i->disp + regs[i->base] + (regs[i->index] << i->scale);
    if (likely(i->adsize == 8))
        return ea;
    return i->adsize == 4 ? (u32)ea : (u16)ea;
}

_Static_assert(offsetof(struct x86_cpu, gpr) == 0, "x86_ea");
_Static_assert(offsetof(struct x86_cpu, rip) == 8 * BASE_RIP, "x86_ea");
_Static_assert(offsetof(struct x86_cpu, zero) == 8 * BASE_NONE, "x86_ea");

/*
 * Segment limit, type, null and canonical checks (#GP(0), #SS(0)), alignment check (#AC), data
 * breakpoints (noted in pending_db). `size` 1..64 bytes; `align`: what #AC demands, 1 for none.
 */
struct gva x86_linear_slow(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size,
                           enum x86_access access);

static inline struct gva x86_linear(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset,
                                    unsigned size, enum x86_access access)
{
    if (likely(c->flat[seg] & (access == ACCESS_WRITE ? FLAT_WRITE : FLAT_READ))) {
        u64 la = offset + c->flat_base[seg];
        /* The slow path knows which of #GP and #SS it is, and that 4 GiB segments end. */
        if (likely(x86_canonical(la)) && likely((u32)la < 0xffffffc0u))
            return gva(la);
    }
    return x86_linear_slow(c, seg, offset, size, access);
}

/* The hva when the set's `tags` hold the access, else NULL. Never spans pages. */
static inline void *tlb_hit(const struct x86_tlb *tlb, const u64 *tags, struct gva la,
                            unsigned size)
{
    unsigned slot = tlb_slot(la.v);
    u64 offset = la.v ^ tags[slot];
    if (unlikely(offset > PAGE_SIZE - size))
        return NULL;
    u64 host = tlb->page[slot] + offset;
    if (!host) /* never: saves the caller its test */
        __builtin_unreachable();
    return (void *)host;
}

static inline const struct x86_tlb *x86_tlb_as(const struct x86_cpu *c, enum x86_privilege as)
{
    return &c->tlb[as == AS_SUPERVISOR ? TLB_KERNEL : c->tlb_index];
}

static inline void *x86_tlb_read_as(struct x86_cpu *c, struct gva la, unsigned size,
                                    enum x86_privilege as)
{
    const struct x86_tlb *tlb = x86_tlb_as(c, as);
    return tlb_hit(tlb, tlb->read, la, size);
}
static inline void *x86_tlb_write_as(struct x86_cpu *c, struct gva la, unsigned size,
                                     enum x86_privilege as)
{
    const struct x86_tlb *tlb = x86_tlb_as(c, as);
    return tlb_hit(tlb, tlb->write, la, size);
}

static inline void *x86_tlb_read(struct x86_cpu *c, struct gva la, unsigned size)
{
    return x86_tlb_read_as(c, la, size, AS_CPL);
}
static inline void *x86_tlb_write(struct x86_cpu *c, struct gva la, unsigned size)
{
    return x86_tlb_write_as(c, la, size, AS_CPL);
}

/* Guests align as they like. */
typedef u16 __attribute__((aligned(1))) u16_anywhere;
typedef u32 __attribute__((aligned(1))) u32_anywhere;
typedef u64 __attribute__((aligned(1))) u64_anywhere;

/* One access of 1, 2, 4 or 8 bytes to host memory: other vCPUs see aligned ones whole. */
static inline u64 host_load(const void *p, unsigned size)
{
    switch (size) {
    case 1:
        return *(const volatile u8 *)p;
    case 2:
        return *(const volatile u16_anywhere *)p;
    case 4:
        return *(const volatile u32_anywhere *)p;
    default:
        return *(const volatile u64_anywhere *)p;
    }
}

static inline void host_store(void *p, unsigned size, u64 value)
{
    switch (size) {
    case 1:
        *(volatile u8 *)p = (u8)value;
        break;
    case 2:
        *(volatile u16_anywhere *)p = (u16)value;
        break;
    case 4:
        *(volatile u32_anywhere *)p = (u32)value;
        break;
    default:
        *(volatile u64_anywhere *)p = value;
    }
}

/* Loads and stores of 1, 2, 4, 8 bytes at a linear address with the CPL's rights. */
static inline u64 x86_load_linear(struct x86_cpu *c, struct gva la, unsigned size)
{
    u64 value = 0;
    const void *p = x86_tlb_read(c, la, size);
    if (likely(p))
        return host_load(p, size);
    c->ops->read(c, la, &value, size, AS_CPL);
    return value;
}

static inline void x86_store_linear(struct x86_cpu *c, struct gva la, unsigned size, u64 value)
{
    void *p = x86_tlb_write(c, la, size);
    if (likely(p))
        host_store(p, size, value);
    else
        c->ops->write(c, la, &value, size, AS_CPL);
}

/*
 * The same at segment:offset. The whole hit path is inline: a flat segment and a tag that
 * matches (which no address that is not canonical does); all else is behind one call.
 */
u64 x86_load_slow(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size);
void x86_store_slow(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size,
                    u64 value);

/* Where a flat access hits: host address, else NULL. */
static inline void *x86_flat_read(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset,
                                  unsigned size)
{
    if (unlikely(!(c->flat[seg] & FLAT_READ)))
        return NULL;
    return x86_tlb_read(c, gva(offset + c->flat_base[seg]), size);
}
static inline void *x86_flat_write(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset,
                                   unsigned size)
{
    if (unlikely(!(c->flat[seg] & FLAT_WRITE)))
        return NULL;
    return x86_tlb_write(c, gva(offset + c->flat_base[seg]), size);
}

static inline u64 x86_load(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size)
{
    const void *p = x86_flat_read(c, seg, offset, size);
    return likely(p) ? host_load(p, size) : x86_load_slow(c, seg, offset, size);
}
static inline void x86_store(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size,
                             u64 value)
{
    void *p = x86_flat_write(c, seg, offset, size);
    if (likely(p))
        host_store(p, size, value);
    else
        x86_store_slow(c, seg, offset, size, value);
}

/* Any size up to 64 bytes, for vectors, descriptors and state images. */
void x86_load_bytes(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, void *buf,
                    unsigned size);

/* Implicit supervisor accesses of the processor to its tables, by linear address. */
u64 x86_load_system(struct x86_cpu *c, struct gva la, unsigned size);
void x86_store_system(struct x86_cpu *c, struct gva la, unsigned size, u64 value);

/* -- Registers by operand size (SDM vol. 1, 3.4.1.1: 32-bit writes clear the upper half) --- */

static inline u64 x86_gpr_read(const struct x86_cpu *c, unsigned reg, unsigned size)
{
    switch (size) {
    case 1:
        return (u8)c->gpr[reg];
    case 2:
        return (u16)c->gpr[reg];
    case 4:
        return (u32)c->gpr[reg];
    default:
        return c->gpr[reg];
    }
}

static inline void x86_gpr_write(struct x86_cpu *c, unsigned reg, unsigned size, u64 value)
{
    switch (size) {
    case 1:
        c->gpr[reg] = (c->gpr[reg] & ~0xffull) | (u8)value;
        break;
    case 2:
        c->gpr[reg] = (c->gpr[reg] & ~0xffffull) | (u16)value;
        break;
    case 4:
        c->gpr[reg] = (u32)value;
        break;
    default:
        c->gpr[reg] = value;
    }
}

/* -- Stack --------------------------------------------------------------------------------- */

/* The stack pointer cut to the stack's width, and its update that keeps the bits above. */
static inline u64 x86_sp(const struct x86_cpu *c)
{
    return x86_gpr_read(c, RSP, c->stack_size);
}
static inline void x86_set_sp(struct x86_cpu *c, u64 value)
{
    if (c->stack_size == 2)
        x86_gpr_write(c, RSP, 2, value);
    else
        c->gpr[RSP] = c->stack_size == 4 ? (u32)value : value;
}

static inline void x86_push(struct x86_cpu *c, unsigned size, u64 value)
{
    u64 sp = x86_sp(c) - size;
    if (c->stack_size != 8)
        sp &= bits_low(8 * c->stack_size);
    x86_store(c, SEG_SS, sp, size, value);
    x86_set_sp(c, sp);
}

/* Reads the top without moving the pointer: POP to memory and far returns commit later. */
static inline u64 x86_peek(struct x86_cpu *c, unsigned size, unsigned above)
{
    u64 sp = x86_sp(c) + above;
    if (c->stack_size != 8)
        sp &= bits_low(8 * c->stack_size);
    return x86_load(c, SEG_SS, sp, size);
}

/* -- Near control flow --------------------------------------------------------------------- */

/* `target` cut to `opsize` after the limit or canonical check (#GP(0)): for those that store
 * before they jump. */
static inline u64 x86_jump_target(struct x86_cpu *c, u64 target, unsigned opsize)
{
    if (opsize == 8) {
        if (unlikely((u64)((s64)(target << 16) >> 16) != target))
            x86_raise_error(c, VEC_GP, 0);
        return target;
    }
    target &= opsize == 4 ? 0xffffffff : 0xffff;
    if (unlikely(c->code_size != 8 && target > c->seg[SEG_CS].limit))
        x86_raise_error(c, VEC_GP, 0);
    return target;
}

/* -- RFLAGS -------------------------------------------------------------------------------- */

/* Replaces the bits of `mask` by those of `value`; derives what depends on VM and AC and
 * attends to TF and IF. */
void x86_write_flags(struct x86_cpu *c, u64 value, u64 mask);

/* Leaves a repeated instruction between two of its turns, for what is to be attended to: RIP is
 * at it again, and it goes on later without meeting its own breakpoint. */
void x86_suspend(struct x86_cpu *c);
