/*
 * EOI without leaving the guest (Linux: Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN).
 * When an edge interrupt that is alone is delivered, bit 0 of a byte of the guest's is set: the
 * guest then ends it by clearing that bit, which nobody notices at once. Until this file looks
 * again, `pv_eoi_offered`, the vector in ISR may be over.
 *
 * The guest clears the bit without a lock, so only its own vCPU may touch it: another thread
 * that has an interrupt for it raises the line, whatever ISR says, and the acknowledgement
 * looks here first.
 */
#include "device/lapic_state.h"
#include "platform/ram.h"

#define PV_EOI_ENABLE   BIT(0)
#define PV_EOI_RESERVED BIT(1)

static struct gpa pv_eoi_byte(const struct lapic *lapic)
{
    return gpa(lapic->pv_eoi & ~(PV_EOI_ENABLE | PV_EOI_RESERVED));
}

void lapic_pv_sync(struct lapic *lapic)
{
    u8 byte;
    if (!lapic->pv_eoi_offered)
        return;
    lapic->pv_eoi_offered = false;
    ram_read(lapic->board, pv_eoi_byte(lapic), &byte, sizeof(byte));
    if (!(byte & 1)) {
        lapic_eoi(lapic);
        return;
    }
    /* Still in service: its end is to be a real EOI, since something waits for it. */
    byte &= ~1;
    ram_write(lapic->board, pv_eoi_byte(lapic), &byte, sizeof(byte));
}

static bool is_alone(const struct lapic *lapic)
{
    unsigned in_service = 0;
    u32 waiting = 0;
    for (unsigned i = 0; i < 8; i++) {
        in_service += (unsigned)__builtin_popcount(lapic->isr[i]);
        waiting |= lapic->irr[i];
    }
    return in_service == 1 && !waiting;
}

void lapic_pv_offer(struct lapic *lapic, u8 vector)
{
    const u8 set = 1;
    bool level = lapic->tmr[vector / 32] >> vector % 32 & 1;
    if (lapic->pv_eoi & PV_EOI_ENABLE && !level && is_alone(lapic))
        lapic->pv_eoi_offered = ram_write(lapic->board, pv_eoi_byte(lapic), &set, sizeof(set));
}

bool lapic_set_pv_eoi(struct lapic *lapic, u64 value)
{
    if (value & PV_EOI_RESERVED)
        return false;
    lapic_pv_sync(lapic);
    lapic->pv_eoi = value;
    return true;
}

u64 lapic_pv_eoi(const struct lapic *lapic)
{
    return lapic->pv_eoi;
}
