/*
 * Decodings remembered: instructions that differ in displacement and immediate only are decoded
 * once. Code is made of a few thousand forms, and Zydis takes half of a translation's time.
 *
 * The key is all that stands before displacement and immediate (the header); nothing behind it
 * decides what an instruction is, but for the few kinds that are not kept here.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "engine/bt/guest.h"

/* The bytes that may be looked at, and how many of them are the header, if any instruction. */
struct memo_key {
    u8 bytes[16];
    unsigned size, header;
    u8 code_size;
};

void memo_key(struct memo_key *key, unsigned code_size, const u8 *bytes, unsigned size);
/* The instruction at `rip`, but for what is behind it; false: it is not known. */
bool memo_find(const struct guest_decoder *d, const struct memo_key *key, u64 rip,
               struct guest_insn *g);
/* Keeps what was decoded of that key. */
void memo_keep(struct guest_decoder *d, const struct memo_key *key,
               const ZydisDecodedInstruction *z, const struct guest_insn *g);
