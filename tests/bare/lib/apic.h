/* The local APIC in both of its forms, and the IOAPIC. */
#pragma once
#include "types.h"
#include "cpu.h"

enum apic_register {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_APR = 0x90,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_THERMAL = 0x330,
    APIC_LVT_PERF = 0x340,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
    APIC_SELF_IPI = 0x3f0, /* x2APIC only */
};

enum {
    ICR_FIXED = 0,
    ICR_LOWEST = 0x100,
    ICR_SMI = 0x200,
    ICR_NMI = 0x400,
    ICR_INIT = 0x500,
    ICR_STARTUP = 0x600,
    ICR_LOGICAL = 0x800,
    ICR_PENDING = 0x1000,
    ICR_ASSERT = 0x4000,
    ICR_LEVEL = 0x8000,
    ICR_SELF = 0x40000,
    ICR_ALL = 0x80000,
    ICR_OTHERS = 0xc0000,

    LVT_MASKED = 0x10000,
    LVT_PERIODIC = 0x20000,
    LVT_DEADLINE = 0x40000,
    SVR_ENABLE = 0x100,
};

#define APIC_DEFAULT     0xfee00000ul
#define APIC_BASE_BSP    0x100ull
#define APIC_BASE_X2     0x400ull
#define APIC_BASE_ENABLE 0x800ull

/* Enables the APIC (software), everything in the local vector table masked, TPR 0. */
void apic_init(void);
bool apic_is_x2(void);
bool apic_has_x2(void);

/* Between disabled, xAPIC and x2APIC; checks nothing. */
void apic_enter_x2(void);
void apic_enter_x1(void);

/* By the form in use; the addresses are those of the xAPIC. */
u32 apic_read(unsigned reg);
void apic_write(unsigned reg, u32 value);
u32 apic_id(void);
void apic_eoi(void);

/* Sends an IPI; `destination` is an APIC id or logical id. Waits until it is sent. */
void apic_ipi(u32 destination, u32 command);

/* One bit of ISR, TMR or IRR. */
bool apic_bit(unsigned reg, u8 vector);

#define IOAPIC_DEFAULT 0xfec00000ul
enum { IOAPIC_ID, IOAPIC_VERSION, IOAPIC_ARB, IOAPIC_REDIRECT = 0x10 };
enum {
    RTE_LOWEST = 0x100,
    RTE_NMI = 0x400,
    RTE_EXTINT = 0x700,
    RTE_LOGICAL = 0x800,
    RTE_STATUS = 0x1000,
    RTE_LOW_ACTIVE = 0x2000,
    RTE_REMOTE_IRR = 0x4000,
    RTE_LEVEL = 0x8000,
    RTE_MASKED = 0x10000,
};

u32 ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, u32 value);
u64 ioapic_redirect(unsigned line);
void ioapic_set_redirect(unsigned line, u64 value);
