/*
 * Delivery of exceptions and interrupts through the IVT or IDT (SDM vol. 3, chapter 6), in
 * every mode, with task gates, and what happens when delivery itself faults (table 6-5: double
 * and triple fault). The x86_deliver_* do not unwind: whatever goes wrong ends in a delivered
 * exception or in CPU_SHUTDOWN.
 *
 * The run loop's part in debugging and shadows (SDM vol. 3, 17.3), around each instruction:
 *
 *  - Before it: with RFLAGS.RF clear, x86_insn_breakpoints() (debug.h) of its first byte; when
 * not zero, pending_db = that, x86_deliver_debug(), and the instruction does not run. With RF
 * set no breakpoint counts and the loop clears RF before executing: a fault pushes RF = 1
 * anyway, and IRET may set it anew. A repeated string instruction that stops early sets RF
 * itself. It remembers TF (RFLAGS.TF now), and that a shadow (sti_shadow, ss_shadow) was up.
 *  - After it, if it did not fault: when TF was set and neither no_step nor ss_shadow is set
 *    now, pending_db |= DR6_BS. no_step is cleared. (INT n, INT3, INTO, INT1, task switches,
 * and SYSCALL that masks TF set no_step: the handler they enter is not stepped into. POPF and
 *    IRET that clear TF still trap; those that set TF do not yet. SYSRET sets no_step and, when
 *    TF is set after it, pending_db itself.)
 *    A shadow that was up before the instruction ends now; one that the instruction raised
 *    holds until after the next: pending_db waits with ss_shadow.
 *    A load of SS in the shadow of another casts none.
 *  - If it faulted: x86_deliver_fault(), which also drops pending_db and the shadows.
 *  - Then pending_db unless ss_shadow, NMI unless nmi_blocked or ss_shadow, interrupts if IF
 *    and no shadow.
 *
 * Handlers call x86_attend() whenever one of these comes up: TF, IF or RF set, a shadow,
 * pending_db, HLT, NMI unblocked, modes changed.
 */
#pragma once

#include "x86/cpu.h"

/* Delivers c->fault, left by x86_raise, with c->rip = c->insn_rip. */
void x86_deliver_fault(struct x86_cpu *c);

/* #DB after an instruction, or for an instruction breakpoint before it: folds c->pending_db
 * into DR6 and delivers at c->rip. Wakes from HLT. */
void x86_deliver_debug(struct x86_cpu *c);

/* An external interrupt that the LAPIC or 8259 acknowledged; RFLAGS.IF is set. Wakes from
 * HLT. */
void x86_deliver_interrupt(struct x86_cpu *c, u8 vector);
void x86_deliver_nmi(struct x86_cpu *c);
