/* The paravirtual side of a vCPU, see pv.h. */
#include "machine/pv.h"

#define KVM_ENOSYS ((u64)-1000) /* include/uapi/linux/kvm_para.h */

static bool pv_read_msr(void *opaque, u32 index, u64 *value)
{
    struct pv *pv = opaque;
    return pvclock_read_msr(pv->clock, pv->vcpu, index, value);
}

static bool pv_write_msr(void *opaque, u32 index, u64 value)
{
    struct pv *pv = opaque;
    return pvclock_write_msr(pv->clock, pv->vcpu, index, value);
}

static bool pv_hypercall(void *opaque)
{
    struct pv *pv = opaque;
    pv->vcpu->cpu.gpr[RAX] = KVM_ENOSYS;
    return true;
}

static const struct pv_ops ops = {pv_read_msr, pv_write_msr, pv_hypercall};

void pv_attach(struct pv *pv, struct pvclock *clock, struct vcpu *vcpu)
{
    *pv = (struct pv){.clock = clock, .vcpu = vcpu};
    vcpu->pv_ops = &ops;
    vcpu->pv = pv;
}
