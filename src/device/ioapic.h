/* An IOAPIC with 24 pins at FEC00000h. */
#pragma once

#include "device/apic_bus.h"
#include "platform/irq.h"

#define IOAPIC_ADDRESS 0xfec00000ull
#define IOAPIC_PINS    24

struct ioapic;

/* Registers for the EOI broadcast of `bus`. Its id register starts at 0; MADT says the same. */
struct ioapic *ioapic_create(struct board *board, struct apic_bus *bus);

/* Pin `n`, 0..23. Wires are active high whatever the guest programs as polarity: a pin that is
 * programmed active low is asserted by level 1 too, as PCI wires here are positive logic. */
struct irq_line ioapic_line(struct ioapic *ioapic, unsigned n);
