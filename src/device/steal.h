/*
 * Steal time (Linux: Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME): how long a vCPU
 * wanted to run and the host did not let it, told in a structure of the guest's; and whether
 * the vCPU runs at all, so that others need not wait for it (PV TLB flush).
 */
#pragma once

#include "platform/vcpu.h"

struct steal;

/* `run_delay` gives the ns that the thread of vCPU `index` has waited for a processor. */
struct steal *steal_create(struct board *board, u64 (*run_delay)(void *opaque, unsigned index),
                           void *opaque);

/* The MSR, in the vCPU's thread; the board lock is taken. False: #GP(0). */
u64 steal_read_msr(struct steal *steal, const struct vcpu *vcpu);
bool steal_write_msr(struct steal *steal, const struct vcpu *vcpu, u64 value);

/* Tells the guest the time stolen so far. Under the board lock, any thread. */
void steal_update(struct steal *steal, const struct vcpu *vcpu);

/* The vCPU goes to sleep; it runs again. Both in its thread, without the board lock.
 * steal_wakes: true when somebody left a flush of its TLB for now. */
void steal_sleeps(struct steal *steal, const struct vcpu *vcpu);
bool steal_wakes(struct steal *steal, const struct vcpu *vcpu);
