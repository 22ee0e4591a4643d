/*
 * Breakpoints of the debug registers (SDM vol. 3, 17.2): which of DR0..DR3 an access meets. Who
 * runs instructions calls these where the architecture says; interrupt.h has the order.
 */
#pragma once

#include "x86/cpu.h"
#include "x86/ops.h"

/* The R/W field of DR7; NONE: not enabled. */
enum x86_break { BREAK_EXEC, BREAK_WRITE, BREAK_IO, BREAK_ACCESS, BREAK_NONE };

/* Is any of the four enabled? */
static inline bool x86_breakpoints_on(const struct x86_cpu *c)
{
    return c->dr7 & 0xff;
}

/* What breakpoint n (0..3) is for. */
enum x86_break x86_breakpoint(const struct x86_cpu *c, unsigned n);

/* Instruction breakpoints of DR0..DR3 at linear address `la`; raises nothing: returns the DR6
 * bits. RF is honoured by the caller. */
u64 x86_insn_breakpoints(const struct x86_cpu *c, struct gva la);
/* Data and I/O breakpoints; note hits in c->pending_db. */
void x86_data_breakpoints(struct x86_cpu *c, struct gva la, unsigned size,
                          enum x86_access access);
void x86_io_breakpoints(struct x86_cpu *c, u16 port, unsigned size);

/* What the enabled ones are for, enum x86_break by bit. */
unsigned x86_breakpoint_kinds(const struct x86_cpu *c);

/* Does a data breakpoint for such accesses lie in the page of `la`? None spans pages. */
bool x86_breakpoint_in_page(const struct x86_cpu *c, struct gva la, enum x86_access access);
static inline bool x86_page_watched(const struct x86_cpu *c, struct gva la,
                                    enum x86_access access)
{
    return unlikely(x86_breakpoints_on(c)) && x86_breakpoint_in_page(c, la, access);
}

/* After DR0..DR3 or the enabling bits of DR7 were written: derives the state that follows from
 * them, and tells the engine. */
void x86_debug_changed(struct x86_cpu *c);
