/* What KVM offers to its guests and Doppel too: the paravirtual MSRs, and hypercalls, of which
 * there are none yet. */
#pragma once

#include "device/pvclock.h"

struct pv {
    struct pvclock *clock;
    struct vcpu *vcpu;
};

/* Wires the vCPU's paravirtual side; `pv` must outlive it. */
void pv_attach(struct pv *pv, struct pvclock *clock, struct vcpu *vcpu);
