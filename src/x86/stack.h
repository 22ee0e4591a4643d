/*
 * A stack frame that the processor pushes as a whole: by interrupts, far calls and through call
 * gates, on the present stack or on that of an inner privilege level. Values are gathered
 * first, then all are checked, then all written, so a fault leaves nothing half done.
 */
#pragma once

#include "x86/segment.h"

#define FRAME_MAX 40 /* a call gate copies 31 parameters, and four values of its own */

struct x86_frame {
    struct x86_seg ss;
    u8 width;              /* of SP: 2, 4, 8 */
    u8 item;               /* bytes a push: 2, 4, 8 */
    enum x86_privilege as; /* AS_SUPERVISOR on the stack of an inner level */
    u32 error;             /* what #SS pushes when there is no room */
    u64 sp;
    unsigned count;
    u64 values[FRAME_MAX];
};

/* A frame on the present stack. */
void x86_frame_here(const struct x86_cpu *c, struct x86_frame *f, unsigned item, u32 ext);
/*
 * A frame on the stack that the TSS names for `cpl` (SDM vol. 3, 5.8.5), with all checks; a
 * null SS in long mode. `ist` 1..7: that stack of the 64-bit TSS, whatever the level.
 */
void x86_frame_inner(struct x86_cpu *c, struct x86_frame *f, unsigned cpl, unsigned ist,
                     unsigned item, u32 ext);

static inline void x86_frame_push(struct x86_frame *f, u64 value)
{
    f->values[f->count++] = value;
}

/* Checks and writes; afterwards f->sp is the new stack pointer. */
void x86_frame_write(struct x86_cpu *c, struct x86_frame *f);
/* Moves the stack pointer there: in full when SS changes too, else to the stack's width. */
void x86_frame_commit(struct x86_cpu *c, const struct x86_frame *f);
