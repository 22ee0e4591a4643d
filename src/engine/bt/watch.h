/*
 * How another engine takes user code over from the translator. Its functions are called with
 * the guest's vector state still in the registers: compile them with -mgeneral-regs-only.
 */
#pragma once

#include "platform/vcpu.h"

struct bt_watch {
    /* Asked each time that the translator is outside of translated code and about to go on.
     * True: bt_engine.enter returns EXIT_USER, with canonical state. */
    bool (*leaves)(struct bt_watch *watch, struct x86_cpu *c);
    /* Something wants the vCPU's attention; asked before it is served. */
    void (*interrupted)(struct bt_watch *watch, struct x86_cpu *c);
    /* Asked at the end of each TU too: none is linked to another. Slow: for tests. */
    bool everywhere;
    /* Set by bt_set_watch, in memory of the translator's: */
    bool *returns; /* the watch wants to be asked at each return to user code, and sets it;
                      else translated code may do that by itself */
    const u32
        *calls; /* counts the kernel entries of translated code that nobody was asked at */
};

/* `watch` NULL: nobody asks. In the vCPU's thread, outside enter. */
void bt_set_watch(struct vcpu *vcpu, struct bt_watch *watch);
