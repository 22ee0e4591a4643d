/*
 * Identification, time stamps, hypercalls, and MSRs as instructions.
 */
#include "x86/model.h"
#include "x86/msr.h"
#include "x86/operand.h"
#include "x86/privilege.h"

/* EDX:EAX, upper halves cleared. */
static void return_pair(struct x86_cpu *c, u64 value)
{
    c->gpr[RAX] = (u32)value;
    c->gpr[RDX] = value >> 32;
}

void exec_cpuid(struct x86_cpu *c, struct x86_insn *i)
{
    u32 out[4];
    if (c->cpl && c->misc_features & MISC_FEATURES_CPUID_FAULTING)
        x86_raise_error(c, VEC_GP, 0);
    x86_cpuid(c, (u32)c->gpr[RAX], (u32)c->gpr[RCX], out);
    c->gpr[RAX] = out[0];
    c->gpr[RBX] = out[1];
    c->gpr[RCX] = out[2];
    c->gpr[RDX] = out[3];
}

void exec_rdtsc(struct x86_cpu *c, struct x86_insn *i)
{
    if ((c->cr4 & CR4_TSD) && c->cpl != 0)
        x86_raise_error(c, VEC_GP, 0);
    return_pair(c, x86_tsc(c));
}

void exec_rdtscp(struct x86_cpu *c, struct x86_insn *i)
{
    exec_rdtsc(c, i);
    c->gpr[RCX] = (u32)c->tsc_aux;
}

void exec_rdpid(struct x86_cpu *c, struct x86_insn *i)
{
    x86_gpr_write(c, i->opd[0].reg, x86_64bit(c) ? 8 : 4, (u32)c->tsc_aux);
}

/* There are no counters, but AMD's four cannot be denied: they read as zero. */
void exec_rdpmc(struct x86_cpu *c, struct x86_insn *i)
{
    if ((!(c->cr4 & CR4_PCE) && c->cpl != 0) || !c->model->amd || (u32)c->gpr[RCX] >= 4)
        x86_raise_error(c, VEC_GP, 0);
    return_pair(c, 0);
}

void exec_rdmsr(struct x86_cpu *c, struct x86_insn *i)
{
    u64 value;
    x86_need_cpl0(c);
    if (!x86_rdmsr(c, (u32)c->gpr[RCX], &value))
        x86_raise_error(c, VEC_GP, 0);
    return_pair(c, value);
}

void exec_wrmsr(struct x86_cpu *c, struct x86_insn *i)
{
    x86_need_cpl0(c);
    if (!x86_wrmsr(c, (u32)c->gpr[RCX], c->gpr[RDX] << 32 | (u32)c->gpr[RAX]))
        x86_raise_error(c, VEC_GP, 0);
    x86_attend(c);
}

/* Either vendor's instruction, as KVM's guests may use: */
void exec_vmcall(struct x86_cpu *c, struct x86_insn *i)
{
    if (!c->ops->hypercall(c))
        x86_raise(c, VEC_UD);
}
