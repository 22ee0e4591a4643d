/* Interrupt wires of the board, see gsi.h. */
#include "device/gsi.h"

#include "base/ensure.h"

void gsi_init(struct gsi *gsi, struct pic *pic, struct ioapic *ioapic)
{
    for (unsigned n = 0; n < 16; n++)
        gsi->pic[n] = pic_line(pic, n);
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        gsi->ioapic[n] = ioapic_line(ioapic, n);
}

static void gsi_set(void *opaque, unsigned n, bool level)
{
    const struct gsi *gsi = opaque;
    if (n < 16)
        irq_set(&gsi->pic[n], level);
    irq_set(&gsi->ioapic[n == 0 ? 2 : n], level);
}

struct irq_line gsi_line(struct gsi *gsi, unsigned n)
{
    /* The cascade is no wire, and its pin is that of IRQ 0. */
    ensure(n < IOAPIC_PINS && n != 2);
    return (struct irq_line){gsi_set, gsi, n};
}
