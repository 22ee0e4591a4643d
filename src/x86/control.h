/* Control registers as MSR writes reach them. */
#pragma once

#include "x86/cpu.h"

/* WRMSR to EFER; false: reserved bits, or LME changed while paging: #GP(0). */
bool x86_write_efer(struct x86_cpu *c, u64 value);
