/* The processor's state and instructions as text, for logs (`-d cpu,in_asm,exec`) and tests.
 * Pure. */
#pragma once

#include "x86/cpu.h"

/* Registers, segments, control registers: several lines, without a final newline. Returns what
 * snprintf would. */
int x86_print_state(const struct x86_cpu *c, char *buf, size_t size);

/* One instruction of code size 2, 4 or 8, which stands at `rip`, in Intel syntax. Returns its
 * length; 0: none, and the text says so. */
unsigned x86_print_insn(const u8 *bytes, unsigned available, unsigned code_size, u64 rip,
                        char *buf, size_t size);
