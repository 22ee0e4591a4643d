/*
 * Model-specific registers (SDM vol. 4; AMD APM vol. 2, appendix A). The processor's own are
 * here, all others go to x86_ops.rdmsr and wrmsr.
 */
#pragma once

#include "x86/cpu.h"

/* False: no such MSR, a read-only one, or reserved bits: #GP(0), logged as a guest error. */
bool x86_rdmsr(struct x86_cpu *c, u32 index, u64 *value);
bool x86_wrmsr(struct x86_cpu *c, u32 index, u64 value);

/* The guest's time-stamp counter now. */
static inline u64 x86_tsc(struct x86_cpu *c)
{
    return c->ops->tsc(c) + c->tsc_offset;
}
