/*
 * After lowering, the decoder lets each group of integer instructions choose a quicker handler
 * for the operands at hand. Each is called only for rows of its own handlers.
 */
#pragma once

#include "x86/insn.h"
#include "x86/model.h"

/* ADD..TEST, INC, DEC, shifts: exec and native (the operation). */
void specialize_alu(struct x86_insn *i, const struct x86_model *model);
/* MOV, MOVZX, LEA, PUSH, POP. */
void specialize_move(struct x86_insn *i);
/* Jcc, JMP, CALL, RET of 64-bit code. */
void specialize_branch(struct x86_insn *i, unsigned code_size);
