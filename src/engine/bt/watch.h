/*
 * How another engine takes user code over from the translator: asked each time that the
 * translator is outside of translated code and about to go on. Called with the guest's vector
 * state still in the registers: compile it with -mgeneral-regs-only.
 */
#pragma once

#include "platform/vcpu.h"

struct bt_watch {
    /* True: bt_engine.enter returns EXIT_USER, with canonical state. */
    bool (*leaves)(struct bt_watch *watch, struct x86_cpu *c);
};

/* `watch` NULL: nobody asks. In the vCPU's thread, outside enter. */
void bt_set_watch(struct vcpu *vcpu, struct bt_watch *watch);
