/* What privileged instructions ask before they do anything (SDM vol. 3, 5.9). */
#pragma once

#include "x86/cpu.h"

static inline void x86_need_cpl0(struct x86_cpu *c)
{
    if (c->cpl != 0)
        x86_raise_error(c, VEC_GP, 0);
}

/* SGDT, SIDT, SLDT, STR, SMSW under user-mode instruction prevention. */
static inline void x86_need_no_umip(struct x86_cpu *c)
{
    if ((c->cr4 & CR4_UMIP) && c->cpl != 0)
        x86_raise_error(c, VEC_GP, 0);
}
