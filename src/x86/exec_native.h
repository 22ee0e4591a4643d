/* What native.c may choose for an instruction: the handlers that run thunks, by the checks they
 * make first, and the choice of those in C that need no thunk. */
#pragma once

#include "x86/native.h"

x86_handler exec_native_plain; /* general registers only: CRC32 */
x86_handler exec_native_sse, exec_native_avx;
x86_handler exec_native_mmx, exec_native_mmx_sse;
x86_handler exec_native_x87;

/* The handler in C for a move, or one that touches memory by elements, or NULL: a thunk is due.
 * May adjust *i. */
x86_handler *native_mask_handler(const ZydisDecodedInstruction *z,
                                 const ZydisDecodedOperand *operands, struct x86_insn *i);
x86_handler *native_move_handler(const ZydisDecodedInstruction *z, struct x86_insn *i);
