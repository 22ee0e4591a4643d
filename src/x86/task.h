/*
 * Hardware task switches (SDM vol. 3, chapter 7). Outside long mode only: there a task gate or
 * a TSS in a far transfer is #GP before it comes here.
 */
#pragma once

#include "x86/segment.h"

enum x86_task_source { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };

struct x86_task_switch {
    enum x86_task_source source;
    u32 ext;        /* or-ed into error codes */
    u64 rip, flags; /* what the old task is to go on with */
    bool has_error; /* TASK_EVENT: pushed on the new task's stack */
    u32 error;
};

/* To the TSS that a task gate or a far transfer names: `sel` must be an available one in the
 * GDT (#GP, #NP); DPL rules are the caller's. */
void x86_task_enter(struct x86_cpu *c, u16 sel, const struct x86_task_switch *how);
/* IRET with NT set: to the task of the back link, which must be busy (#TS, #NP). */
void x86_task_return(struct x86_cpu *c);
