/* The paravirtual side of a vCPU, see pv.h. */
#include "machine/pv.h"

#include "device/lapic.h"
#include "x86/model.h"

/* include/uapi/linux/kvm_para.h */
#define HC_KICK_CPU 5
#define HC_SEND_IPI 10
#define KVM_EPERM   1
#define KVM_EINVAL  22
#define KVM_ENOSYS  1000

static bool offered(const struct pv *pv, enum x86_feature feature)
{
    return x86_has(pv->vcpu->cpu.model, feature);
}

/* -- MSRs ---------------------------------------------------------------------------------- */

/* Asynchronous page faults, which no page of ours needs: KVM takes the register whether or not
 * it shows the feature, and test kernels write it unasked. */
static bool write_async_pf(struct pv *pv, u64 value)
{
    enum { RESERVED = 0x30 };
    return offered(pv, FEAT_KVM) && !(value & RESERVED);
}

static bool pv_read_msr(void *opaque, u32 index, u64 *value)
{
    struct pv *pv = opaque;
    switch (index) {
    case MSR_KVM_ASYNC_PF_EN:
        *value = 0;
        return offered(pv, FEAT_KVM);
    case MSR_KVM_STEAL_TIME:
        *value = steal_read_msr(pv->steal, pv->vcpu);
        return offered(pv, FEAT_KVM_STEAL_TIME);
    case MSR_KVM_PV_EOI_EN:
        *value = lapic_pv_eoi(pv->vcpu->apic);
        return offered(pv, FEAT_KVM_PV_EOI);
    default:
        return offered(pv, FEAT_KVM_CLOCK) &&
               pvclock_read_msr(pv->clock, pv->vcpu, index, value);
    }
}

static bool write_pv_eoi(struct pv *pv, u64 value)
{
    board_lock(pv->vcpu->board);
    bool good = lapic_set_pv_eoi(pv->vcpu->apic, value);
    board_unlock(pv->vcpu->board);
    return good;
}

static bool pv_write_msr(void *opaque, u32 index, u64 value)
{
    struct pv *pv = opaque;
    switch (index) {
    case MSR_KVM_ASYNC_PF_EN:
        return write_async_pf(pv, value);
    case MSR_KVM_STEAL_TIME:
        return offered(pv, FEAT_KVM_STEAL_TIME) && steal_write_msr(pv->steal, pv->vcpu, value);
    case MSR_KVM_PV_EOI_EN:
        return offered(pv, FEAT_KVM_PV_EOI) && write_pv_eoi(pv, value);
    default:
        return offered(pv, FEAT_KVM_CLOCK) &&
               pvclock_write_msr(pv->clock, pv->vcpu, index, value);
    }
}

/* -- Hypercalls ---------------------------------------------------------------------------- */

/* To the processors whose APIC ids are `first` and the bits set in two words of `width` bits.
 * Returns how many took it. */
static s64 send_ipi(struct pv *pv, const u64 bits[2], u64 first, u64 icr, unsigned width)
{
    struct apic_message message = {.mode = (enum apic_mode)(icr >> 8 & 7), .vector = (u8)icr};
    s64 taken = 0;
    /* Destinations and shorthands are the bits' affair. */
    if (icr >> 32 || icr & 0xc0000)
        return -KVM_EINVAL;
    if (message.mode != APIC_FIXED && message.mode != APIC_NMI)
        return -KVM_EINVAL;
    board_lock(pv->vcpu->board);
    for (unsigned word = 0; word < 2; word++) {
        for (u64 left = bits[word]; left; left &= left - 1) {
            u64 id = first + word * width + (unsigned)__builtin_ctzll(left);
            message.dest = (u32)id;
            taken += id >= first && id < pv->vcpu->board->n_vcpus &&
                     apic_bus_send(pv->apic_bus, &message);
        }
    }
    board_unlock(pv->vcpu->board);
    return taken;
}

static s64 kick(struct pv *pv, u64 apic_id)
{
    struct board *board = pv->vcpu->board;
    if (apic_id < board->n_vcpus)
        vcpu_unhalt(board->vcpus[apic_id]);
    return 0;
}

static bool pv_hypercall(void *opaque)
{
    struct pv *pv = opaque;
    struct x86_cpu *c = &pv->vcpu->cpu;
    bool is_64 = x86_64bit(c);
    u64 mask = is_64 ? ~0ull : 0xffffffff;
    u64 number = c->gpr[RAX] & mask;
    const u64 args[4] = {c->gpr[RBX] & mask, c->gpr[RCX] & mask, c->gpr[RDX] & mask,
                         c->gpr[RSI] & mask};
    s64 answer = -KVM_ENOSYS;
    if (c->cpl)
        answer = -KVM_EPERM;
    else if (number == HC_SEND_IPI && offered(pv, FEAT_KVM_PV_IPI))
        answer = send_ipi(pv, args, args[2], args[3], is_64 ? 64 : 32);
    else if (number == HC_KICK_CPU && offered(pv, FEAT_KVM_PV_UNHALT))
        answer = kick(pv, args[1]);
    c->gpr[RAX] = (u64)answer & mask;
    return true;
}

/* -- Sleep and ticks ----------------------------------------------------------------------- */

static void pv_sleeps(void *opaque)
{
    struct pv *pv = opaque;
    steal_sleeps(pv->steal, pv->vcpu);
}

static void pv_wakes(void *opaque)
{
    struct pv *pv = opaque;
    struct x86_cpu *c = &pv->vcpu->cpu;
    if (steal_wakes(pv->steal, pv->vcpu))
        c->ops->flush(c, FLUSH_ALL, 0);
}

static void pv_tick(void *opaque)
{
    struct pv *pv = opaque;
    steal_update(pv->steal, pv->vcpu);
}

static const struct pv_ops ops = {
    .read_msr = pv_read_msr,
    .write_msr = pv_write_msr,
    .hypercall = pv_hypercall,
    .sleeps = pv_sleeps,
    .wakes = pv_wakes,
    .tick = pv_tick,
};

void pv_attach(struct pv *pv, struct vcpu *vcpu)
{
    pv->vcpu = vcpu;
    vcpu->pv_ops = &ops;
    vcpu->pv = pv;
}
