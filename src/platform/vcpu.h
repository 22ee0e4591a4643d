/*
 * A virtual processor as engines and devices see it: the architectural state, its local APIC
 * behind a table (device/lapic.c fills it; engines never include it), and the ways to get its
 * attention.
 *
 * Threads: the vCPU's own thread runs it; anyone may call vcpu_signal, vcpu_clear and
 * vcpu_kick.
 */
#pragma once

#include <pthread.h>

#include "base/spin.h"
#include "memory/color.h"
#include "platform/board.h"
#include "x86/cpu.h"

struct vcpu;
struct engine;
struct sim;

/* The processor side of a local APIC. Each takes the board lock itself. */
struct apic_ops {
    /* INTA: the vector to deliver now (16..255 from the LAPIC, 0..255 from an 8259 by ExtINT),
     * moved from IRR to ISR; -1 when the line dropped meanwhile. */
    int (*acknowledge)(void *apic);
    u64 (*read_tpr)(void *apic); /* CR8: TPR bits 7:4 */
    void (*write_tpr)(void *apic, u64 cr8);
    /* MSR_APIC_BASE, MSR_X2APIC..8ffh, MSR_TSC_DEADLINE; false: #GP(0). */
    bool (*read_msr)(void *apic, u32 index, u64 *value);
    bool (*write_msr)(void *apic, u32 index, u64 value);
    /* The xAPIC page at vcpu->apic_page. */
    u64 (*read)(void *apic, u64 offset, unsigned size);
    void (*write)(void *apic, u64 offset, unsigned size, u64 value);
    /* After the processor took INIT. */
    void (*init)(void *apic);
};

/* The paravirtual MSRs (kvmclock) and hypercalls; false: #GP(0), #UD. They take the board lock
 * themselves. */
struct pv_ops {
    bool (*read_msr)(void *pv, u32 index, u64 *value);
    bool (*write_msr)(void *pv, u32 index, u64 value);
    bool (*hypercall)(
        void *pv); /* number and arguments in the vCPU's registers, answer in RAX */
    /* The processor goes to sleep in HLT, and is awake again; in its thread, without locks. */
    void (*sleeps)(void *pv);
    void (*wakes)(void *pv);
    /* The processor's timer ticks; under the board lock, any thread. */
    void (*tick)(void *pv);
};

struct vcpu {
    struct x86_cpu cpu; /* canonical state, owned by the machine (law 1) */
    unsigned index;     /* = initial APIC id */
    struct board *board;

    const struct apic_ops *apic_ops;
    void *apic;
    /* Where this vCPU's xAPIC answers, or ~0 while it is disabled or in x2APIC mode: the LAPIC
     * keeps it right. */
    _Atomic u64 apic_page;
    _Atomic u8 sipi_vector;
    _Atomic u32 nmis; /* sent and not yet taken, beside ATTN_NMI */

    const struct pv_ops *pv_ops; /* NULL: none */
    void *pv;

    const struct engine *engine;
    void *engine_state;
    u32 engine_options; /* ENGINE_*, see engine.h; before attach */
    /* The simulator's decoded code: every engine has it for what it leaves to the simulator
     * (law 2). */
    struct sim *sim;
    /* Makes the engine leave guest code soon; called under wait_lock, any thread. NULL: the
     * engine polls `attention`. */
    void (*kick)(struct vcpu *vcpu);

    /* Waiting in HLT, see vcpu_wait. */
    pthread_mutex_t wait_lock;
    pthread_cond_t wait_cond;
    struct spin spin;
    _Atomic bool waiting;
    _Atomic bool unhalted; /* the next HLT, or the one it sits in, ends at once */
    _Atomic bool in_guest; /* inside engine->enter; for cross-vCPU requests */

    /* Cross-vCPU work, see vcpu_request_all; under board->work_lock. */
    struct vcpu_work *work;
    bool work_busy; /* somebody runs this vCPU's work right now */
};

/* Work for a vCPU's thread: queued by another, done at its next attention (or at once by the
 * asker while the target is outside guest code). */
struct vcpu_work {
    void (*run)(struct vcpu *target, struct vcpu_work *work);
    void *opaque;
    bool done;   /* under board->work_lock */
    bool posted; /* nobody waits: freed when done */
    struct vcpu_work *next;
};

/* A vCPU in a mapping of its own, all zero but for what identifies it. */
struct vcpu *vcpu_create(struct board *board, unsigned index);
/* Its engine must be detached. */
void vcpu_destroy(struct vcpu *vcpu);

/* Memory behind the vCPU for its engine, page-aligned and zero when an engine attaches: code
 * that reaches the vCPU by a 32-bit displacement reaches this too. An engine that detaches
 * leaves it readable and writable, and says so by vcpu_clear_room. */
#define VCPU_ENGINE_ROOM (32 * MiB)
_Static_assert(sizeof(struct vcpu) <= COLOR_ROOM_AT, "a vCPU ends before the engine's room");
static inline void *vcpu_engine_room(struct vcpu *vcpu)
{
    return (u8 *)vcpu + COLOR_ROOM_AT;
}
void vcpu_clear_room(struct vcpu *vcpu);

/* Raises attention bits (ATTN_INTR, ATTN_NMI, ATTN_INIT, ATTN_SIPI, ATTN_KICK, ATTN_WORK),
 * wakes the vCPU from HLT and makes its engine notice within microseconds. */
void vcpu_signal(struct vcpu *vcpu, u32 attention);
/* An NMI. A processor that is in none takes one and keeps one more; one that is keeps one: two
 * that come at once are two, as with KVM. */
void vcpu_nmi(struct vcpu *vcpu);
/* By the vCPU's own thread: what is kept while NMIs are blocked; and takes one, if ATTN_NMI is
 * not the late signal of one that was taken already. */
void vcpu_nmi_hold(struct vcpu *vcpu);
bool vcpu_nmi_take(struct vcpu *vcpu);
/* Changes vcpu->kick in the vCPU's thread; NULL: nobody is in the old one any more. */
void vcpu_set_kick(struct vcpu *vcpu, void (*kick)(struct vcpu *vcpu));
/* Lowers level-like bits (ATTN_INTR). */
void vcpu_clear(struct vcpu *vcpu, u32 attention);

/* Ends the HLT that the vCPU sits in, or its next one, interrupts or not (KVM_HC_KICK_CPU). */
void vcpu_unhalt(struct vcpu *vcpu);

/* Sleeps until any of the bits in `mask` is up, or vcpu_unhalt. */
void vcpu_wait(struct vcpu *vcpu, u32 mask);

/* Every engine->enter stands between these two. vcpu_enter_guest runs queued work first, so
 * that none is left once the vCPU counts as inside; vcpu_leave_guest runs what came meanwhile.
 */
void vcpu_enter_guest(struct vcpu *vcpu);
void vcpu_leave_guest(struct vcpu *vcpu);

/* Does the work on every vCPU of the board but `self` (may be NULL) and returns when all have
 * done it; serves requests to `self` meanwhile, so two vCPUs may ask each other. Not under the
 * board lock.
 *
 * The protocol: the asker queues one piece of work on each target under board->work_lock and
 * raises ATTN_WORK there. A target inside guest code does it when it leaves (vcpu_leave_guest)
 * or when its engine calls vcpu_run_work between two instructions. For a target outside, the
 * asker does it itself: ATTN_WORK stays up until the work is done, and vcpu_enter_guest looks
 * at ATTN_WORK after it has said `in_guest`, so the target waits at that door. work_busy keeps
 * it to one runner for each target. `run` must not take the board lock nor ask in turn. */
void vcpu_request_all(struct board *board, struct vcpu *self,
                      void (*run)(struct vcpu *target, struct vcpu_work *work), void *opaque);
/* As vcpu_request_all on every vCPU, but returns at once: each does it before its next
 * instruction that follows an interrupt raised after this call. Any thread and lock. */
void vcpu_post_all(struct board *board,
                   void (*run)(struct vcpu *target, struct vcpu_work *work), void *opaque);
/* Runs the work queued for this vCPU; called by its own thread. */
void vcpu_run_work(struct vcpu *vcpu);

/* Guest-physical accesses that are no RAM: the vCPU's own xAPIC page, else the bus. */
u64 vcpu_mmio_read(struct vcpu *vcpu, struct gpa addr, unsigned size);
void vcpu_mmio_write(struct vcpu *vcpu, struct gpa addr, unsigned size, u64 value);
