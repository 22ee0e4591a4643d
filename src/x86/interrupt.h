/*
 * Delivery of exceptions and interrupts through the IVT or IDT (SDM vol. 3, chapter 6), in
 * every mode, with task gates, and what happens when delivery itself faults (table 6-5: double
 * and triple fault). These do not unwind: whatever goes wrong ends in a delivered exception or
 * in CPU_SHUTDOWN.
 */
#pragma once

#include "x86/cpu.h"

/* Delivers c->fault, left by x86_raise, with c->rip = c->insn_rip. */
void x86_deliver_fault(struct x86_cpu *c);

/* #DB after an instruction: folds c->pending_db into DR6 and delivers it as a trap. */
void x86_deliver_debug(struct x86_cpu *c);

/* An external interrupt that the LAPIC or 8259 acknowledged; RFLAGS.IF is set. Wakes from HLT.
 */
void x86_deliver_interrupt(struct x86_cpu *c, u8 vector);
void x86_deliver_nmi(struct x86_cpu *c);

/* Instruction breakpoints of DR0..DR3 at linear address `la`; raises nothing: returns the DR6
 * bits. RF is honoured by the caller. */
u64 x86_insn_breakpoints(const struct x86_cpu *c, struct gva la);
/* Data and I/O breakpoints; note hits in c->pending_db. */
void x86_data_breakpoints(struct x86_cpu *c, struct gva la, unsigned size,
                          enum x86_access access);
void x86_io_breakpoints(struct x86_cpu *c, u16 port, unsigned size);
