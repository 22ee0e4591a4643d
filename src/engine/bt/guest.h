/*
 * Guest instructions as the translator sees them: what Zydis found, boiled down to what decides
 * a translation, and which of the arithmetic flags each one reads and writes.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "x86/insn.h"
#include "x86/model.h"

/* How an instruction is translated. */
enum guest_kind {
    GUEST_COPY,     /* innocuous: copied, memory operand and r10/r11 replaced */
    GUEST_SKIP,     /* no effect at all: NOP, prefetch hints */
    GUEST_ADDRESS,  /* LEA */
    GUEST_INLINE,   /* sensitive, done on virtual state (translate_system.c) */
    GUEST_BIT,      /* BT and its kind with a register offset into memory */
    GUEST_SIMULATE, /* a callout to the simulator; RIP goes on to the next instruction */
    GUEST_SYSTEM,   /* the same, but RIP may go elsewhere: ends the TU */
    GUEST_PUSH,     /* of a register, an immediate or memory */
    GUEST_POP,      /* into a register or memory */
    GUEST_LEAVE,
    GUEST_FROM_SEGMENT, /* MOV of a segment register to a general one or memory */
    GUEST_TO_SEGMENT,   /* and back */
    GUEST_POP_SEGMENT,
    GUEST_STRING,  /* MOVS and its kind, not repeated */
    GUEST_JUMP,    /* direct */
    GUEST_JUMP_IF, /* Jcc */
    GUEST_LOOP,    /* LOOPcc, JrCXZ */
    GUEST_CALL,    /* direct */
    GUEST_JUMP_TO, /* indirect: register or memory */
    GUEST_CALL_TO,
    GUEST_RETURN,
    GUEST_GATE, /* to another mode, in line (translate_gate.c) */
};

/* Which state an instruction touches beside the GPRs: it runs in place only where the guest has
 * enabled that state, as else it raises #UD or #NM. */
enum guest_unit { UNIT_NONE, UNIT_X87, UNIT_SSE, UNIT_AVX };

#define GUEST_BYTES 15

struct guest_insn {
    u64 rip; /* an offset in CS */
    u8 bytes[GUEST_BYTES];
    u8 length;
    u8 kind;      /* enum guest_kind */
    u8 unit;      /* enum guest_unit */
    u8 code_size; /* 2, 4, 8: of the code that it stands in */
    u16 mnemonic;

    /* Arithmetic flags (FLAGS_STATUS): read; surely overwritten; perhaps overwritten. */
    u16 flags_read, flags_kill, flags_write;
    u16 regs_read, regs_written; /* GPRs by bit; explicit and implicit, without addressing */
    u16 regs_partial;            /* written, but not as a whole: the old value stays in part */

    /* Shape of the encoding, as offsets into bytes. */
    u8 prefixes; /* legacy prefixes: bytes[0, prefixes) */
    u8 rex;      /* 0: none */
    u8 vex;      /* size of the VEX prefix: 0, 2 or 3; it stands after the legacy prefixes */
    u8 opcode;   /* first opcode byte (after VEX) */
    u8 modrm;    /* 0: none */
    u8 tail;     /* immediates: bytes[tail, length) */
    bool size_prefix; /* 64-bit code needs the prefix 66 for the same operation */

    /* Memory operand of the ModRM byte (or moffs). String instructions: `seg` of the source,
     * `mem_size` and `adsize` only. */
    bool memory, mem_write;
    u8 mem_size;                        /* 1..64 */
    u8 seg, base, index, scale, adsize; /* as in struct x86_insn; `adsize` without one too */
    bool reg_field;                     /* ModRM.reg names a GPR */
    bool vvvv;                          /* VEX.vvvv names a GPR */
    bool faults;  /* may raise #DE, #MF, #XM or an alignment #GP by itself */
    bool moves;   /* loads or stores a register or constant, and can do no other harm */
    bool adapted; /* a store that the translator knows to leave the fast path often */
    bool string;  /* MOVS, STOS, LODS, SCAS, CMPS, repeated or not */
    bool high8;   /* names AH, CH, DH or BH: no REX allowed */
    u8 opsize;    /* 2, 4, 8; 1 of byte forms */
    u8 segment;   /* the segment register read or loaded, else SEG_COUNT */
    s64 disp;
    u64 imm; /* of PUSH and RET n; of a direct branch: the target */
};

/* An instruction as it was decoded, and what of it others of the same form have (memo.h). */
struct guest_memo {
    u8 header; /* bytes before displacement and immediate; 0: an empty slot */
    u8 disp_size, imm_size;
    bool imm_signed, relative;
    bool shift; /* by an immediate, which was not zero */
    struct guest_insn insn;
};
#define GUEST_MEMO_BITS 13

struct guest_decoder {
    ZydisDecoder zydis[3]; /* 16-, 32-, 64-bit code */
    const struct x86_model *model;
    struct guest_memo memo[1 << GUEST_MEMO_BITS];
};

void guest_decoder_init(struct guest_decoder *d, const struct x86_model *model);

/* Decodes code of `code_size` 2, 4 or 8 at `bytes`, of which `size` may be looked at; false:
 * the instruction does not end in them. What cannot be translated is GUEST_SIMULATE or
 * GUEST_SYSTEM. */
bool guest_decode(struct guest_decoder *d, unsigned code_size, const u8 *bytes, unsigned size,
                  u64 rip, struct guest_insn *g);
/* The same by Zydis, whatever is remembered. */
bool guest_decode_anew(struct guest_decoder *d, unsigned code_size, const u8 *bytes,
                       unsigned size, u64 rip, struct guest_insn *g);

/* Where a direct branch by that displacement goes. */
u64 guest_target(const struct guest_insn *g, u64 displacement);
/* Shifts and rotates leave all flags alone when the masked count is zero. */
bool guest_is_shift(const ZydisDecodedInstruction *z);

/* Where code goes on behind the instruction: EIP wraps. */
static inline u64 guest_next(const struct guest_insn *g)
{
    u64 next = g->rip + g->length;
    return g->code_size == 8 ? next : (u32)next;
}

/* The registers that ModRM names: its reg field, and its r/m field where that is a register. */
static inline unsigned guest_reg(const struct guest_insn *g)
{
    return (g->bytes[g->modrm] >> 3 & 7) | (g->rex & 4 ? 8 : 0);
}

static inline unsigned guest_rm(const struct guest_insn *g)
{
    return (g->bytes[g->modrm] & 7) | (g->rex & 1 ? 8 : 0);
}

static inline bool guest_ends(const struct guest_insn *g)
{
    return g->kind == GUEST_SYSTEM || g->kind >= GUEST_JUMP;
}
/* Flags that are needed before `g` when those of `live` are needed after it. */
static inline u16 guest_flags_live(const struct guest_insn *g, u16 live)
{
    return g->flags_read | (live & (u16)~g->flags_kill);
}
/* Those that must be the guest's when `g` itself runs: what it reads, and what it may leave as
 * it was. */
static inline u16 guest_flags_needed(const struct guest_insn *g, u16 after)
{
    return g->flags_read | (g->flags_write ? after & (u16)~g->flags_kill : 0);
}
