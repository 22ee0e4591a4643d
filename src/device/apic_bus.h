/*
 * What connects local APICs, IOAPICs and message-signalled interrupts: interrupt messages
 * (Intel SDM vol. 3, 10.6 and 10.11), the EOI broadcast, and the way from a LAPIC to the 8259
 * for ExtINT. All under the board lock.
 *
 * Wiring, in this order:
 *   bus = apic_bus_create(board, physical address bits);
 *   lapic_create(bus, vcpu) for each vCPU;                                       (lapic.h)
 *   pic = pic_create(board, lapic_line(lapic of vCPU 0, LAPIC_LINT0));
 *   apic_bus_set_intack(bus, pic);
 *   ioapic = ioapic_create(board, bus);
 */
#pragma once

#include "platform/board.h"

struct apic_bus;
struct lapic;
struct pic;

/* Delivery modes, as in ICR, LVTs, redirection entries and MSI data, bits 10:8. */
enum apic_mode {
    APIC_FIXED,
    APIC_LOWEST,
    APIC_SMI,
    APIC_RESERVED,
    APIC_NMI,
    APIC_INIT,
    APIC_SIPI,
    APIC_EXTINT,
};

#define APIC_MAX_CPUS  255
#define APIC_BROADCAST 0xffffffffu /* the physical destination that is everyone */

struct apic_message {
    u32 dest;
    bool logical;
    bool level; /* trigger mode */
    enum apic_mode mode;
    u8 vector;
};

/* `phys_bits`: MAXPHYADDR, for the reserved bits of MSR_APIC_BASE. */
struct apic_bus *apic_bus_create(struct board *board, unsigned phys_bits);

/* Where ExtINT cycles go; and who hears the EOI of a level-triggered vector. */
void apic_bus_set_intack(struct apic_bus *bus, struct pic *pic);
void apic_bus_set_eoi(struct apic_bus *bus, void (*eoi)(void *opaque, u8 vector), void *opaque);

/* Delivers to everyone the message names; false: nobody took it. */
bool apic_bus_send(struct apic_bus *bus, const struct apic_message *message);

/* A write of `data` to `addr` in FEExxxxxh (SDM vol. 3, 10.11): what PCI devices call for MSI
 * and MSI-X. False: not an interrupt address, or nobody took it. */
bool apic_msi(struct apic_bus *bus, u64 addr, u32 data);

/* For lapic.c. */
void apic_bus_attach(struct apic_bus *bus, struct lapic *lapic);
struct board *apic_bus_board(const struct apic_bus *bus);
unsigned apic_bus_phys_bits(const struct apic_bus *bus);
/* An APIC has another id than the one that it was made with. */
void apic_bus_renumber(struct apic_bus *bus);
void apic_bus_eoi(struct apic_bus *bus, u8 vector);
int apic_bus_intack(struct apic_bus *bus); /* the 8259's vector; -1: there is none */
/* Sends to all, but for `except` (may be NULL). */
void apic_bus_broadcast(struct apic_bus *bus, const struct apic_message *message,
                        const struct lapic *except);
