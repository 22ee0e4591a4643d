/* Access to the local APIC and the IOAPIC. */
#include "apic.h"

bool apic_is_x2(void)
{
    return rdmsr(MSR_APIC_BASE) & APIC_BASE_X2;
}

bool apic_has_x2(void)
{
    return cpuid(1, 0).c & BIT(21);
}

u32 apic_read(unsigned reg)
{
    if (apic_is_x2())
        return rdmsr(0x800 + reg / 16);
    return *(volatile u32 *)(APIC_DEFAULT + reg);
}

void apic_write(unsigned reg, u32 value)
{
    if (apic_is_x2())
        wrmsr(0x800 + reg / 16, value);
    else
        *(volatile u32 *)(APIC_DEFAULT + reg) = value;
}

u32 apic_id(void)
{
    u32 id = apic_read(APIC_ID);

    return apic_is_x2() ? id : id >> 24;
}

void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

void apic_ipi(u32 destination, u32 command)
{
    if (apic_is_x2()) {
        wrmsr(0x800 + APIC_ICR / 16, (u64)destination << 32 | command);
        return;
    }
    apic_write(APIC_ICR_HIGH, destination << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & ICR_PENDING)
        cpu_relax();
}

bool apic_bit(unsigned reg, u8 vector)
{
    return apic_read(reg + (vector >> 5) * 16) >> (vector & 31) & 1;
}

void apic_init(void)
{
    if (!apic_is_x2())
        wrmsr(MSR_APIC_BASE,
              APIC_DEFAULT | APIC_BASE_ENABLE | (rdmsr(MSR_APIC_BASE) & APIC_BASE_BSP));
    apic_write(APIC_SVR, SVR_ENABLE | 0xff);
    apic_write(APIC_LVT_TIMER, LVT_MASKED | 0xf0);
    apic_write(APIC_LVT_LINT0, LVT_MASKED | 0xf0);
    apic_write(APIC_LVT_LINT1, LVT_MASKED | 0xf0);
    apic_write(APIC_LVT_ERROR, LVT_MASKED | 0xf0);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
}

void apic_enter_x2(void)
{
    u64 base = rdmsr(MSR_APIC_BASE);

    wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE);
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2);
}

void apic_enter_x1(void)
{
    u64 base = rdmsr(MSR_APIC_BASE) & ~(APIC_BASE_ENABLE | APIC_BASE_X2);

    wrmsr(MSR_APIC_BASE, base);
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE);
}

u32 ioapic_read(unsigned reg)
{
    volatile u32 *window = (volatile u32 *)IOAPIC_DEFAULT;

    window[0] = reg;
    return window[4];
}

void ioapic_write(unsigned reg, u32 value)
{
    volatile u32 *window = (volatile u32 *)IOAPIC_DEFAULT;

    window[0] = reg;
    window[4] = value;
}

u64 ioapic_redirect(unsigned line)
{
    return ioapic_read(IOAPIC_REDIRECT + 2 * line) |
           (u64)ioapic_read(IOAPIC_REDIRECT + 2 * line + 1) << 32;
}

void ioapic_set_redirect(unsigned line, u64 value)
{
    ioapic_write(IOAPIC_REDIRECT + 2 * line, RTE_MASKED);
    ioapic_write(IOAPIC_REDIRECT + 2 * line + 1, value >> 32);
    ioapic_write(IOAPIC_REDIRECT + 2 * line, value);
}
