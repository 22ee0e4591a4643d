/*
 * The PC's wiring, see pc.h: which device stands at which port and which interrupt, as every PC
 * since the AT has them.
 */
#include "machine/pc.h"

#include "base/ensure.h"
#include "device/apic_bus.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/pic.h"
#include "device/pit.h"
#include "machine/acpi.h"
#include "memory/pmap.h"
#include "platform/ram.h"

#define IRQ_PIT     0
#define IRQ_COM1    4
#define IRQ_COM2    3
#define IRQ_RTC     8
#define IRQ_SCI     9
#define ACPI_TABLES 0xe0000u /* where guests look for the RSDP (ACPI 6.4, 5.2.5.1) */

static const struct {
    u16 base;
    unsigned irq;
} com[VM_MAX_SERIAL] = {{0x3f8, IRQ_COM1}, {0x2f8, IRQ_COM2}};

static struct apic_bus *create_apics(struct board *board, unsigned phys_bits)
{
    struct apic_bus *bus = apic_bus_create(board, phys_bits);
    struct lapic *first = NULL;
    for (unsigned i = 0; i < board->n_vcpus; i++) {
        struct lapic *lapic = lapic_create(bus, board->vcpus[i]);
        if (!i)
            first = lapic;
    }
    struct pic *pic = pic_create(board, lapic_line(first, LAPIC_LINT0));
    apic_bus_set_intack(bus, pic);
    return bus;
}
