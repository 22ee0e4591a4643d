/*
 * Which function executes a mnemonic, which feature it needs.
 */
#include "x86/opcodes.h"

#include <Zydis/Zydis.h>

#include "x86/model.h"

static const struct x86_opcode opcodes[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define OP(mnemonic, handler, feat, flag)                                                      \
    [ZYDIS_MNEMONIC_##mnemonic] = {exec_##handler, feat, flag},
#include "x86/exec_integer.def"
#include "x86/exec_system.def"
#include "x86/exec_vector.def"
#undef OP
};

const struct x86_opcode *x86_opcode(u16 mnemonic)
{
    return &opcodes[mnemonic];
}
