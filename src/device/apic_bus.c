/* Interrupt messages between APICs, see apic_bus.h. */
#include "device/apic_bus.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "device/lapic.h"
#include "device/pic.h"
#include "platform/device.h"

struct apic_bus {
    struct device device;
    struct board *board;
    unsigned phys_bits;
    struct pic *pic;
    void (*eoi)(void *opaque, u8 vector);
    void *eoi_opaque;
    struct lapic *lapic[APIC_MAX_CPUS];
    unsigned count;
    bool renumbered; /* since the reset an APIC has or had another id than its place here */
};

void apic_bus_set_intack(struct apic_bus *bus, struct pic *pic)
{
    bus->pic = pic;
}

void apic_bus_set_eoi(struct apic_bus *bus, void (*eoi)(void *opaque, u8 vector), void *opaque)
{
    bus->eoi = eoi;
    bus->eoi_opaque = opaque;
}

void apic_bus_attach(struct apic_bus *bus, struct lapic *lapic)
{
    ensure(bus->count < APIC_MAX_CPUS);
    bus->lapic[bus->count++] = lapic;
}

struct board *apic_bus_board(const struct apic_bus *bus)
{
    return bus->board;
}

unsigned apic_bus_phys_bits(const struct apic_bus *bus)
{
    return bus->phys_bits;
}

void apic_bus_renumber(struct apic_bus *bus)
{
    bus->renumbered = true;
}

void apic_bus_eoi(struct apic_bus *bus, u8 vector)
{
    if (bus->eoi)
        bus->eoi(bus->eoi_opaque, vector);
}

int apic_bus_intack(struct apic_bus *bus)
{
    return bus->pic ? pic_acknowledge(bus->pic) : -1;
}

void apic_bus_broadcast(struct apic_bus *bus, const struct apic_message *message,
                        const struct lapic *except)
{
    for (unsigned i = 0; i < bus->count; i++)
        if (bus->lapic[i] != except)
            lapic_accept(bus->lapic[i], message->mode, message->vector, message->level);
}

/* Lowest priority goes to the one whose processor priority is least, the first among equals
 * (SDM vol. 3, 10.6.2.4). */
static bool apic_bus_send_lowest(struct apic_bus *bus, const struct apic_message *message)
{
    struct lapic *best = NULL;
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *lapic = bus->lapic[i];
        if (lapic_listens(lapic) && lapic_matches(lapic, message->dest, message->logical) &&
            (!best || lapic_ppr(lapic) < lapic_ppr(best)))
            best = lapic;
    }
    return best && lapic_accept(best, APIC_FIXED, message->vector, message->level);
}

bool apic_bus_send(struct apic_bus *bus, const struct apic_message *message)
{
    if (message->mode == APIC_LOWEST)
        return apic_bus_send_lowest(bus, message);
    /* One physical destination is what nearly all messages have, and the n-th APIC's id is n
     * unless the guest renumbered them: then several may have it. */
    if (!message->logical && message->dest < bus->count && !bus->renumbered)
        return lapic_accept(bus->lapic[message->dest], message->mode, message->vector,
                            message->level);
    bool taken = false;
    for (unsigned i = 0; i < bus->count; i++)
        if (lapic_matches(bus->lapic[i], message->dest, message->logical) &&
            lapic_accept(bus->lapic[i], message->mode, message->vector, message->level))
            taken = true;
    return taken;
}

bool apic_msi(struct apic_bus *bus, u64 addr, u32 data)
{
    if (addr >> 20 != 0xfee)
        return false;
    u32 dest = (u32)bits(addr, 19, 12);
    /* The redirection hint makes a logical destination lowest-priority (10.11.1). */
    bool hint = addr & BIT(3), logical = addr & BIT(2);
    struct apic_message message = {
        .dest = !logical && dest == 0xff ? APIC_BROADCAST : dest,
        .logical = logical,
        .level = data & BIT(15),
        .mode = (enum apic_mode)bits(data, 10, 8),
        .vector = (u8)data,
    };
    if (hint && logical && message.mode == APIC_FIXED)
        message.mode = APIC_LOWEST;
    return apic_bus_send(bus, &message);
}

static void apic_bus_reset(void *device)
{
    struct apic_bus *bus = device;
    bus->renumbered = false;
}

static void apic_bus_destroy(void *device)
{
    free(device);
}

static const struct device_class apic_bus_class = {
    .name = "apic-bus",
    .version = 1,
    .reset = apic_bus_reset,
    .destroy = apic_bus_destroy,
};

struct apic_bus *apic_bus_create(struct board *board, unsigned phys_bits)
{
    struct apic_bus *bus = calloc(1, sizeof(*bus));
    ensure(bus);
    bus->board = board;
    bus->phys_bits = phys_bits;
    device_add(board, &bus->device, &apic_bus_class, bus);
    return bus;
}
