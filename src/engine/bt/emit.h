/*
 * A small assembler for host code: only what translations and their stubs are made of. Guest
 * instructions themselves are copied or re-encoded (rewrite.h), not assembled.
 *
 * Code is written through one mapping of the code cache and runs in another; `at` is the
 * former, emit_here() the latter. A buffer that runs full drops what follows and says so once,
 * at the end: callers check `full` before they use the code.
 */
#pragma once

#include "base/types.h"
#include "x86/regs.h"

struct emit {
    u8 *at, *end; /* where the next byte is written; first byte beyond the room */
    s64 to_exec;  /* what to add to `at` for the executable address */
    u64 gs;       /* the host's GS base, if all code here reaches it relative to RIP; or 0 */
    bool full;
};

/* Index and base registers are enum x86_gpr or NO_REG. `gs`: relative to the vCPU block. */
#define NO_REG 0xff
struct host_mem {
    u8 base, index;
    u8 scale; /* shift, 0..3 */
    bool gs;
    s32 disp;
};

/* The /n of the shift group. */
enum host_shift { SHIFT_LEFT = 4, SHIFT_RIGHT = 5 };

/* Condition codes as in Jcc and SETcc (SDM vol. 2, B.1.4.7). */
enum host_condition { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A };

static inline const u8 *emit_here(const struct emit *e)
{
    return e->at + e->to_exec;
}

static inline struct host_mem mem_gs(s64 offset)
{
    return (struct host_mem){.base = NO_REG, .index = NO_REG, .gs = true, .disp = (s32)offset};
}
static inline struct host_mem mem_gs_index(unsigned index, s64 offset)
{
    return (struct host_mem){
        .base = NO_REG, .index = (u8)index, .scale = 3, .gs = true, .disp = (s32)offset};
}
static inline struct host_mem mem_at(unsigned base, s32 disp)
{
    return (struct host_mem){.base = (u8)base, .index = NO_REG, .disp = disp};
}
static inline struct host_mem mem_sum(unsigned base, unsigned index, s32 disp)
{
    return (struct host_mem){.base = (u8)base, .index = (u8)index, .disp = disp};
}

static inline void emit_bytes(struct emit *e, const void *bytes, unsigned n)
{
    if (unlikely((u64)(e->end - e->at) < n)) {
        e->full = true;
        return;
    }
    __builtin_memcpy(e->at, bytes, n);
    e->at += n;
}
static inline void emit_byte(struct emit *e, u8 byte)
{
    emit_bytes(e, &byte, 1);
}
static inline void emit_u32(struct emit *e, u32 value)
{
    emit_bytes(e, &value, 4);
}

/* ModRM, SIB and displacement for `mem`, with `reg` in the reg field; REX is the caller's. */
void emit_modrm(struct emit *e, unsigned reg, struct host_mem mem);

/* Instructions of the one-byte (op) or two-byte (0x0f00 | op) map. `size` is 4 or 8. `tail`:
 * how many bytes of an immediate follow. */
void emit_rm_imm(struct emit *e, unsigned size, unsigned op, unsigned reg, struct host_mem mem,
                 unsigned tail);
static inline void emit_rm(struct emit *e, unsigned size, unsigned op, unsigned reg,
                           struct host_mem mem)
{
    emit_rm_imm(e, size, op, reg, mem, 0);
}
void emit_rr(struct emit *e, unsigned size, unsigned op, unsigned reg, unsigned rm);

static inline void emit_load(struct emit *e, unsigned reg, struct host_mem mem)
{
    emit_rm(e, 8, 0x8b, reg, mem);
}
static inline void emit_load32(struct emit *e, unsigned reg, struct host_mem mem)
{
    emit_rm(e, 4, 0x8b, reg, mem);
}
static inline void emit_store(struct emit *e, struct host_mem mem, unsigned reg)
{
    emit_rm(e, 8, 0x89, reg, mem);
}
static inline void emit_store32(struct emit *e, struct host_mem mem, unsigned reg)
{
    emit_rm(e, 4, 0x89, reg, mem);
}
static inline void emit_lea(struct emit *e, unsigned size, unsigned reg, struct host_mem mem)
{
    emit_rm(e, size, 0x8d, reg, mem);
}
static inline void emit_move(struct emit *e, unsigned to, unsigned from)
{
    emit_rr(e, 8, 0x89, from, to);
}
static inline void emit_add(struct emit *e, unsigned reg, struct host_mem mem)
{
    emit_rm(e, 8, 0x03, reg, mem);
}
static inline void emit_xor(struct emit *e, unsigned reg, struct host_mem mem)
{
    emit_rm(e, 8, 0x33, reg, mem);
}

/* By operand size, 2, 4 or 8. A load or move of 4 clears the upper half of the register, one of
 * 2 leaves the rest of it; emit_load_zero clears what is above for all sizes. */
void emit_load_sized(struct emit *e, unsigned size, unsigned reg, struct host_mem mem);
void emit_load_zero(struct emit *e, unsigned size, unsigned reg, struct host_mem mem);
void emit_store_sized(struct emit *e, unsigned size, struct host_mem mem, unsigned reg);
void emit_move_sized(struct emit *e, unsigned size, unsigned to, unsigned from);
void emit_move_zero(struct emit *e, unsigned size, unsigned to, unsigned from);

/* The shortest form; flags stay. */
void emit_const(struct emit *e, unsigned reg, u64 value);
/* The value is sign-extended to `size`, 2, 4 or 8. */
void emit_store_imm(struct emit *e, unsigned size, struct host_mem mem, s32 value);
void emit_compare_mem_imm(struct emit *e, unsigned size, struct host_mem mem, s32 value);
/* `size` bytes, 1, 2 or 4. */
void emit_compare_memory(struct emit *e, unsigned size, struct host_mem mem, u32 value);
void emit_store16(struct emit *e, struct host_mem mem, unsigned reg);
void emit_store8(struct emit *e, struct host_mem mem, unsigned reg); /* not of RSP to RDI */
void emit_store8_imm(struct emit *e, struct host_mem mem, u8 value);
void emit_shift(struct emit *e, unsigned size, enum host_shift kind, unsigned reg,
                unsigned count);
void emit_test_imm(struct emit *e, unsigned reg, u32 value); /* 32-bit */
void emit_compare_imm(struct emit *e, unsigned reg, s32 value);
/* `count` bits of `from` from bit `first` on, of its lower 32; sets flags. BEXTR takes a cycle
 * on AMD's processors; on Intel's it is two operations, like the RORX and AND that stand for it
 * there, and needs a third for its control word. */
void emit_bits(struct emit *e, unsigned to, unsigned from, unsigned first, unsigned count);
void emit_and_imm(struct emit *e, unsigned reg, u32 value); /* 32-bit */

/* Jumps to an executable address, always in the 32-bit form: the field can be patched. */
void emit_jump(struct emit *e, const void *to);
void emit_jump_if(struct emit *e, unsigned condition, const void *to);
void emit_jump_mem(struct emit *e, struct host_mem mem);
/* The same with the target to come: returns the place of the 32-bit field for emit_bind. */
u8 *emit_jump_later(struct emit *e);
u8 *emit_jump_if_later(struct emit *e, unsigned condition);
/* Makes the field at `field` lead to the executable address `to`. */
void emit_bind(const struct emit *e, u8 *field, const void *to);
/* A forward jump of two bytes, by its opcode; bound to the place where the code is now. */
u8 *emit_short_jump(struct emit *e, u8 opcode);
void emit_short_bind(const struct emit *e, u8 *from);

/* AH, AL := SF ZF AF PF CF, OF, the form in which flags are kept in memory; and back. RAX is
 * lost. */
void emit_flags_to_ax(struct emit *e);
void emit_flags_from_ax(struct emit *e);
