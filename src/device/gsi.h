/*
 * Where a board's interrupt wires end: each global system interrupt (ACPI's word) goes to its
 * IOAPIC pin, and those below 16, the ISA IRQs, to the 8259 pair as well. ISA IRQ 0 comes in at
 * IOAPIC pin 2, as the MADT's interrupt source override says; pin 0 is not connected, for the
 * 8259's INT goes to LINT0 (apic_bus.h).
 */
#pragma once

#include "device/ioapic.h"
#include "device/pic.h"

struct gsi {
    struct irq_line pic[16];
    struct irq_line ioapic[IOAPIC_PINS];
};

void gsi_init(struct gsi *gsi, struct pic *pic, struct ioapic *ioapic);

/* The wire for interrupt `n`: an ISA IRQ for 0..15, an IOAPIC pin above. `gsi` must outlive
 * it. */
struct irq_line gsi_line(struct gsi *gsi, unsigned n);
