/* How Zydis is set up for a processor model and asked: one answer for every engine, so that
 * they agree on what each byte sequence is. */
#pragma once

#include <Zydis/Zydis.h>

#include "x86/model.h"

/* `code_size` 2, 4 or 8, as struct x86_cpu has it. */
void x86_decoder_init(ZydisDecoder *d, const struct x86_model *model, unsigned code_size);

/* ZydisDecoderDecodeFull, with what Zydis 4.0 gets wrong put right. */
ZyanStatus x86_decoder_decode(const ZydisDecoder *d, const u8 *bytes, unsigned size,
                              ZydisDecodedInstruction *z,
                              ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT]);

/* A PAUSE to Zydis that exchanges RAX and R8, as wide as the operand (QUIRK_PAUSE_R8). */
bool x86_decoder_xchg_r8(const struct x86_model *model, const ZydisDecodedInstruction *z);

/* A prefetch to Zydis that is #UD (QUIRK_PREFETCH_MEMORY). */
bool x86_decoder_bad_prefetch(const struct x86_model *model, const ZydisDecodedInstruction *z);
