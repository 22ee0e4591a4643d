/* The rows of exec_*.def as one table by Zydis mnemonic. */
#pragma once

#include "x86/insn.h"

struct x86_opcode {
    x86_handler *exec; /* NULL: no row */
    u16 feature;       /* enum x86_feature */
    u8 flags;          /* INSN_* that every form has */
};

const struct x86_opcode *x86_opcode(u16 mnemonic);
