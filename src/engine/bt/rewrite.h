/*
 * Guest instructions put into host code: copied as they are, or encoded anew with another
 * memory operand and another register in place of r10 or r11, which hold addresses in host
 * code.
 */
#pragma once

#include "engine/bt/emit.h"
#include "engine/bt/guest.h"

/* The instruction's own bytes, without segment overrides. */
void rewrite_copy(struct emit *e, const struct guest_insn *g);

/*
 * With its memory operand at `mem` and the guest register `from` (R10 or R11, or NO_REG), where
 * the instruction names it, replaced by the host register `to`. With g->high8 no register of
 * `mem` may be above RDI.
 */
void rewrite_memory(struct emit *e, const struct guest_insn *g, struct host_mem mem,
                    unsigned from, unsigned to);
