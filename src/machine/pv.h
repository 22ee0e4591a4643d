/*
 * What KVM offers to its guests and Doppel too: paravirtual clock, steal time, EOIs, and the
 * hypercalls that send interrupts and wake processors (Linux: Documentation/virt/kvm/x86).
 */
#pragma once

#include "device/apic_bus.h"
#include "device/pvclock.h"
#include "device/steal.h"

struct pv {
    struct pvclock *clock;
    struct steal *steal;
    struct apic_bus *apic_bus;
    struct vcpu *vcpu;
};

/* Wires the vCPU's paravirtual side, after its LAPIC; `pv` must outlive it. */
void pv_attach(struct pv *pv, struct vcpu *vcpu);
