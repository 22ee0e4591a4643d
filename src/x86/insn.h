/*
 * A decoded instruction, as small as the simulator's cache wants it, and the decoder's entry.
 *
 * Zydis decodes; `x86_decode` lowers its answer to this form: which function executes it, where
 * its operands are. Everything that depends only on the bytes and the code size is settled
 * here, once.
 */
#pragma once

#include "x86/cpu.h"

enum x86_operand_kind {
    OPD_NONE,
    OPD_GPR,   /* reg: enum x86_gpr; size 1: the low byte */
    OPD_HIGH8, /* AH, CH, DH, BH: reg RAX..RBX */
    OPD_MEM,   /* the instruction's one memory operand */
    OPD_IMM,   /* insn->imm */
    OPD_SEG,   /* reg: enum x86_seg_reg */
    OPD_CR,
    OPD_DR,
    OPD_XMM, /* 128-bit or scalar within */
    OPD_YMM,
    OPD_MMX,
    OPD_ST,
};

struct x86_operand {
    u8 kind; /* enum x86_operand_kind */
    u8 reg;
    u8 size; /* bytes: 1..32; for OPD_IMM that of the destination it is extended to */
};

/* x86_insn.flags */
#define INSN_LOCK  BIT(0)
#define INSN_REP   BIT(1) /* F3 on a string instruction (REPE/REP) */
#define INSN_REPNE BIT(2)
#define INSN_ENDS  BIT(3) /* may set RIP or change the mode: ends a block */
#define INSN_ALIGN BIT(4) /* vector memory operand must be aligned to its size: #GP(0) */
#define INSN_VEX   BIT(5)
#define INSN_REX_W BIT(6)

/* Beyond the registers, as words of struct x86_cpu, see x86_ea. */
#define BASE_RIP  16
#define BASE_NONE 18

struct x86_insn;
typedef void x86_handler(struct x86_cpu *c, struct x86_insn *i);

struct x86_insn {
    x86_handler *exec;
    u64 imm;  /* immediate sign-extended as the operation demands; relative displacement; far
                 offset */
    s64 disp; /* of the memory operand; 64-bit for moffs */
    void *native;              /* vector, x87: host code (native.h); else alu_function */
    u16 mnemonic;              /* ZydisMnemonic */
    u16 imm2;                  /* far selector; ENTER's nesting level */
    u8 length;                 /* bytes, 1..15 */
    u8 opsize;                 /* effective operand size in bytes: 2, 4, 8 (1 for byte forms) */
    u8 adsize;                 /* effective address size: 2, 4, 8 */
    u8 flags;                  /* INSN_* */
    u8 seg;                    /* of the memory operand, default applied */
    u8 base;                   /* enum x86_gpr, BASE_NONE, BASE_RIP */
    u8 index;                  /* enum x86_gpr or BASE_NONE */
    u8 scale;                  /* 0..3: shift */
    u8 mem_size;               /* native.h: bytes at the memory operand, 0 for none */
    u8 native_flags;           /* NATIVE_*, native.h */
    struct x86_operand opd[4]; /* the visible ones in Intel order, then none; implicit operands
                                  are the handler's */
};

enum x86_decode_result {
    DECODE_OK,
    DECODE_SHORT, /* the bytes end inside the instruction */
    DECODE_FULL, /* ops->native_emit had no room: drop all decoded instructions and try again */
};

/*
 * Decodes the instruction at `bytes` (`size` 1..15 are readable) for CS mode `code_size` (2, 4,
 * 8). What is no instruction, or one that the model lacks, or one longer than 15 bytes decodes
 * to a handler that raises #UD (#GP for length). Depends on `c` only for model, fpu layout and
 * ops.
 */
enum x86_decode_result x86_decode(struct x86_cpu *c, const u8 *bytes, unsigned size,
                                  unsigned code_size, struct x86_insn *i);

/*
 * The opcode lists: one row for each mnemonic that x86/ executes,
 *     OP(MNEMONIC, handler, feature, flags)
 * in exec_integer.def, exec_system.def, exec_vector.def; handlers are x86_handler functions
 * exec_<handler> in the exec_*.c files of the same group. A mnemonic without a row is #UD.
 */
#define OP(mnemonic, handler, feature, flags) x86_handler exec_##handler;
#include "x86/exec_integer.def"
#include "x86/exec_system.def"
#include "x86/exec_vector.def"
#undef OP

/* Raises #UD. */
x86_handler exec_ud;

/*
 * Forms that share their mnemonic with integer instructions; x86_decode picks them by operands
 * (opd[] in Intel order as ever). A direct far branch has its selector in imm2, its offset in
 * imm and opd[0] = OPD_IMM; an indirect one opd[0] = OPD_MEM; RET far pops imm more bytes.
 */
x86_handler exec_jmp_far, exec_call_far, exec_ret_far;
x86_handler exec_mov_to_seg, exec_mov_from_seg, exec_push_seg, exec_pop_seg;
x86_handler exec_mov_to_cr, exec_mov_from_cr, exec_mov_to_dr, exec_mov_from_dr;

/*
 * Executes one decoded instruction at c->rip. On return c->rip is the next instruction; on a
 * fault it does not return but unwinds to c->unwind with c->rip = c->insn_rip, the faulting
 * one.
 */
static inline void x86_execute(struct x86_cpu *c, struct x86_insn *i)
{
    c->insn_rip = c->rip;
    c->rip += i->length;
    if (c->code_size != 8)
        c->rip = (u32)c->rip;
    i->exec(c, i);
}
