/* How Zydis is set up for a processor model: one answer for every engine, so that they agree on
 * what each byte sequence is. */
#pragma once

#include <Zydis/Zydis.h>

#include "x86/model.h"

/* `code_size` 2, 4 or 8, as struct x86_cpu has it. */
void x86_decoder_init(ZydisDecoder *d, const struct x86_model *model, unsigned code_size);
