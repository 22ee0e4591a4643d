/*
 * Segment descriptors and the loading of segment registers (SDM vol. 3, chapters 3 and 5), as
 * far transfers, interrupts and task switches share them.
 *
 * Error codes: `ext` is 1 while an event from outside the program is being delivered, else 0
 * (SDM vol. 3, 6.13); it is or-ed into the selector's error code.
 */
#pragma once

#include "x86/mem.h"

/* A descriptor read from GDT or LDT: its first eight bytes and where they were. */
struct x86_descriptor {
    u16 sel;
    struct gva at;
    u64 low;
};

static inline u32 descriptor_attr(u64 low)
{
    return (low >> 40) & 0xf0ff;
}
static inline unsigned descriptor_type(u64 low)
{
    return (low >> 40) & SEG_TYPE;
}
static inline unsigned descriptor_dpl(u64 low)
{
    return (low >> 45) & 3;
}
static inline bool descriptor_present(u64 low)
{
    return low >> 47 & 1;
}
/* Code and data, not system. */
static inline bool descriptor_is_segment(u64 low)
{
    return low >> 44 & 1;
}
static inline bool descriptor_is_code(u64 low)
{
    return (descriptor_attr(low) & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool descriptor_is_conforming(u64 low)
{
    return descriptor_attr(low) & SEG_CONFORM;
}
static inline bool descriptor_is_writable_data(u64 low)
{
    return (descriptor_attr(low) & (SEG_S | SEG_CODE | SEG_WRITE)) == (SEG_S | SEG_WRITE);
}
/* Data, or code that may be read. */
static inline bool descriptor_is_readable(u64 low)
{
    u32 attr = descriptor_attr(low);
    return (attr & SEG_S) && (attr & (SEG_CODE | SEG_READ)) != SEG_CODE;
}
static inline u64 descriptor_base(u64 low)
{
    return bits(low, 39, 16) | bits(low, 63, 56) << 24;
}
static inline u32 descriptor_limit(u64 low)
{
    u32 limit = (u32)(bits(low, 15, 0) | bits(low, 51, 48) << 16);
    return descriptor_attr(low) & SEG_G ? limit << 12 | 0xfff : limit;
}
static inline bool selector_is_null(u16 sel)
{
    return !(sel & ~3);
}
static inline u32 selector_error(u16 sel, u32 ext)
{
    return (sel & ~3u) | ext;
}
static inline unsigned selector_rpl(u16 sel)
{
    return sel & 3;
}

/* A call, interrupt, trap or task gate. */
struct x86_gate {
    unsigned type, dpl;
    bool present;
    u16 sel;
    u64 offset;
    unsigned ist;   /* 64-bit interrupt gates */
    unsigned count; /* call gates: parameters to copy */
};

/* `high`: the second eight bytes in long mode, else 0. */
static inline struct x86_gate x86_gate_from(u64 low, u64 high)
{
    struct x86_gate g = {.type = descriptor_type(low),
                         .dpl = descriptor_dpl(low),
                         .present = descriptor_present(low),
                         .sel = (u16)bits(low, 31, 16),
                         .offset = bits(low, 15, 0),
                         .ist = bits(low, 34, 32),
                         .count = bits(low, 36, 32)};
    if (g.type & 8)
        g.offset |= bits(low, 63, 48) << 16 | high << 32;
    return g;
}

/* Reads the descriptor of a selector that is not null; false: outside its table. Raises #PF. */
bool x86_descriptor_find(struct x86_cpu *c, u16 sel, struct x86_descriptor *d);
/* The same, or raises `vector` with the selector. */
void x86_descriptor_read(struct x86_cpu *c, u16 sel, enum x86_vector vector, u32 ext,
                         struct x86_descriptor *d);
/* In long mode system descriptors have 16 bytes: the second eight, or `vector` when they are
 * beyond the limit or their type field is not zero. */
u64 x86_descriptor_high(struct x86_cpu *c, const struct x86_descriptor *d,
                        enum x86_vector vector, u32 ext);
/* Sets the accessed bit in memory and in *d. */
void x86_descriptor_touch(struct x86_cpu *c, struct x86_descriptor *d);
/* Sets or clears the busy bit of a TSS descriptor in memory. */
void x86_descriptor_busy(struct x86_cpu *c, const struct x86_descriptor *d, bool busy);

/* What a register holds after its descriptor was loaded; the caller derives. */
struct x86_seg x86_seg_from(u16 sel, u64 low);
/* A null selector; `dpl` is what SS keeps as CPL, 0 for others. */
struct x86_seg x86_seg_null(u16 sel, unsigned dpl);
/* Code or data as SYSCALL and SYSENTER make them: flat, present, accessed; `attr` adds type,
 * DPL, L, D. */
struct x86_seg x86_seg_flat(u16 sel, u32 attr);
/* As loaded in virtual-8086 mode. */
struct x86_seg x86_seg_v86(u16 sel);

/* Real-address mode: a new base; limit and attributes stay ("unreal" mode). */
void x86_seg_load_real(struct x86_cpu *c, enum x86_seg_reg seg, u16 sel);

/* MOV, POP and LxS to ES, SS, DS, FS, GS in every mode; checks, then loads and derives. */
void x86_seg_load(struct x86_cpu *c, enum x86_seg_reg seg, u16 sel);

/*
 * The stack segment of a privilege level `cpl`, checked: `vector` is what a bad one raises
 * (#TS on the way in, #GP on the way out), #SS when it is not present. Not for null selectors.
 */
struct x86_seg x86_seg_read_stack(struct x86_cpu *c, u16 sel, unsigned cpl,
                                  enum x86_vector vector, u32 ext);

/* Drops ES, DS, FS and GS that a less privileged `cpl` may not have (after RET, IRET). */
void x86_seg_drop_inner(struct x86_cpu *c, unsigned cpl);

/* Whether `size` bytes at `offset` lie within a segment's limit; not for 64-bit mode. */
bool x86_seg_covers(const struct x86_seg *s, u64 offset, unsigned size);

/* Recomputes flat[] of one segment after its register changed. */
void x86_derive_segment(struct x86_cpu *c, enum x86_seg_reg seg);
