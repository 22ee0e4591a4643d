/* The inside of a local APIC, shared by lapic.c (registers, delivery) and lapic_timer.c. */
#pragma once

#include "device/lapic.h"
#include "platform/device.h"

/* LVT entries in the order of their registers 320h, 330h, ... */
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_VECTOR     0xffu
#define LVT_MODE(lvt)  ((enum apic_mode)((lvt) >> 8 & 7))
#define LVT_REMOTE_IRR BIT(14)
#define LVT_LEVEL      BIT(15)
#define LVT_MASKED     BIT(16)

enum lapic_timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE, TIMER_RESERVED };

struct lapic {
    struct device device;
    struct apic_bus *bus;
    struct board *board;
    struct vcpu *vcpu;
    struct timer timer;

    u64 apic_base; /* MSR_APIC_BASE */
    u8 xapic_id;   /* bits 31:24 of the id register in xAPIC mode, where it can be written */
    u8 tpr;
    u8 ldr; /* xAPIC, bits 31:24; x2APIC derives it */
    u8 dfr; /* xAPIC, bits 31:28: 15 flat, 0 cluster */
    u32 svr;
    u32 irr[8], isr[8], tmr[8];
    u32 esr, esr_pending;
    u32 lvt[LVT_COUNT];
    u64 icr;
    bool lint[2];        /* levels of the pins */
    bool extint_latch;   /* an ExtINT message (IOAPIC) waits for its INTA */
    u32 initial_count;   /* of the timer */
    u32 divide;          /* the divide configuration register */
    u64 timer_start;     /* virtual ns at which initial_count was loaded */
    bool timer_runs;     /* since then, until a one-shot count has reached zero */
    u64 tsc_deadline;    /* MSR_TSC_DEADLINE, in guest TSC; 0 disarmed */
    u64 tsc_offset;      /* guest TSC - host TSC when the deadline was written */
    u64 pv_eoi;          /* MSR_KVM_PV_EOI_EN */
    bool pv_eoi_offered; /* lapic_pv.c: what is in ISR may be over */
};

/* An interrupt of the LAPIC's own: what the LVT entry says, if it is not masked. */
void lapic_local(struct lapic *lapic, enum lapic_lvt entry);

/* The end of the interrupt in service. */
void lapic_eoi(struct lapic *lapic);

/* lapic_pv.c's: what the vCPU's own thread does before it looks at ISR or the priorities, and
 * after it took an interrupt. */
void lapic_pv_sync(struct lapic *lapic);
void lapic_pv_offer(struct lapic *lapic, u8 vector);

void lapic_timer_init(struct lapic *lapic);
/* Arms or disarms the host's timer for what the registers say. */
void lapic_timer_arm(struct lapic *lapic);
/* The registers. */
void lapic_timer_set_lvt(struct lapic *lapic, u32 value);
void lapic_timer_set_count(struct lapic *lapic, u32 value);
void lapic_timer_set_divide(struct lapic *lapic, u32 value);
u32 lapic_timer_count(const struct lapic *lapic);
u64 lapic_timer_deadline(const struct lapic *lapic);
void lapic_timer_set_deadline(struct lapic *lapic, u64 deadline);
