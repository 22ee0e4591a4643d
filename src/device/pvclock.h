/*
 * The KVM paravirtual clock (Linux: Documentation/virt/kvm/x86/msr.rst, cpuid.rst, and the
 * pvclock ABI): MSR_KVM_SYSTEM_TIME and MSR_KVM_WALL_CLOCK (4B564D01h and 4B564D00h). For CPUID
 * leaf 40000001h: KVM_FEATURE_CLOCKSOURCE2 (bit 3) and KVM_FEATURE_CLOCKSOURCE_STABLE_BIT (bit
 * 24).
 *
 * System time is virtual time, told as a linear function of the guest's TSC (board->tsc_hz). It
 * holds until virtual time stops; after that, pvclock_refresh.
 */
#pragma once

#include "platform/vcpu.h"

struct pvclock;

struct pvclock *pvclock_create(struct board *board);

/* The MSRs, from x86_ops.rdmsr and wrmsr in the vCPU's thread; they take the board lock. False:
 * not one of them, or a bad value: #GP(0). */
bool pvclock_read_msr(struct pvclock *pvclock, struct vcpu *vcpu, u32 index, u64 *value);
bool pvclock_write_msr(struct pvclock *pvclock, struct vcpu *vcpu, u32 index, u64 value);

/* Tells all vCPUs the time anew, after the machine stood still or its TSCs were moved. Under
 * the board lock, vCPUs outside guest code. */
void pvclock_refresh(struct pvclock *pvclock);
