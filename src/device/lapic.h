/*
 * A local APIC: xAPIC and x2APIC (Intel SDM vol. 3, chapter 10).
 *
 * Its processor side is the apic_ops table that lapic_create puts into the vCPU; they take the
 * board lock themselves. All functions here are called under it.
 *
 * INIT and SIPI reach the vCPU as attention bits. The run loop takes INIT first: x86_init,
 * apic_ops->init, and the vCPU then waits for SIPI, unless MSR_APIC_BASE has the BSP bit: that
 * one starts at the reset vector. It then takes ATTN_SIPI only while it waits for it, with
 * vcpu->sipi_vector, and drops it otherwise. Each bit is lowered with vcpu_clear by the run
 * loop. NMI likewise; ATTN_INTR is lowered by the LAPIC alone.
 *
 * The timer counts bus clocks of 1 GHz, divided; in TSC-deadline mode it compares with the
 * guest's TSC, x86_ops.tsc + tsc_offset, which counts board->tsc_hz.
 */
#pragma once

#include "device/apic_bus.h"
#include "platform/irq.h"
#include "platform/vcpu.h"

#define LAPIC_BUS_HZ  1000000000ull
#define LAPIC_ADDRESS 0xfee00000ull

#define APIC_BASE_BSP    BIT(8)
#define APIC_BASE_EXTD   BIT(10)
#define APIC_BASE_ENABLE BIT(11)

struct lapic;

/* Makes the vCPU's LAPIC, sets vcpu->apic and vcpu->apic_ops. vCPU 0 is the bootstrap
 * processor. Initial APIC ids are the vCPUs' indices. */
struct lapic *lapic_create(struct apic_bus *bus, struct vcpu *vcpu);

/* The local interrupt pins. LINT0 of vCPU 0 takes the 8259's INT; LINT1 is NMI. After
 * power-on the bootstrap processor's LVTs are in virtual wire mode (LINT0 ExtINT, LINT1
 * NMI), as firmware would leave them. While the LAPIC is disabled in MSR_APIC_BASE, LINT0 is
 * the processor's INTR pin and LINT1 its NMI pin. */
enum { LAPIC_LINT0, LAPIC_LINT1 };
struct irq_line lapic_line(struct lapic *lapic, unsigned lint);

/* Whether a message's destination names this APIC. `dest` APIC_BROADCAST names all. */
bool lapic_matches(const struct lapic *lapic, u32 dest, bool logical);
/* Whether it takes fixed interrupts: enabled in MSR_APIC_BASE and in SVR. */
bool lapic_listens(const struct lapic *lapic);
/* MSR_KVM_PV_EOI_EN, in the vCPU's own thread; false: #GP(0). */
bool lapic_set_pv_eoi(struct lapic *lapic, u64 value);
u64 lapic_pv_eoi(const struct lapic *lapic);
/* Processor priority register. */
u8 lapic_ppr(const struct lapic *lapic);
/* Takes a message (not APIC_LOWEST); false: not enabled, or an illegal vector. */
bool lapic_accept(struct lapic *lapic, enum apic_mode mode, u8 vector, bool level);
