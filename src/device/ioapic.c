/*
 * An IOAPIC (Intel 82093AA data sheet, with the EOI register of version 20h as in the ICH
 * family). The polarity bit is kept and ignored: wires say "asserted", not volts.
 */
#include "device/ioapic.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

#define IOREGSEL 0x00
#define IOWIN    0x10
#define IOEOI    0x40

#define IOAPICID  0x00
#define IOAPICVER 0x01
#define IOAPICARB 0x02
#define IOREDTBL  0x10

#define VERSION 0x20

/* Redirection table entry. */
#define RTE_VECTOR     0xffull
#define RTE_MODE(rte)  ((enum apic_mode)((rte) >> 8 & 7))
#define RTE_LOGICAL    BIT(11)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL      BIT(15)
#define RTE_MASKED     BIT(16)
#define RTE_READ_ONLY  (BIT(12) | RTE_REMOTE_IRR)
#define RTE_WRITABLE   (0xff0000000001ffffull & ~RTE_READ_ONLY)

struct ioapic {
    struct device device;
    struct board *board;
    struct apic_bus *bus;
    struct bus_region region;
    u8 select;
    u8 id;
    u32 level; /* pins as they are */
    u32 irr;   /* edges that came while masked or not taken, levels that are up */
    u64 rte[IOAPIC_PINS];
};

static bool ioapic_send(struct ioapic *ioapic, u64 rte)
{
    u32 dest = (u32)(rte >> 56);
    struct apic_message message = {
        .dest = !(rte & RTE_LOGICAL) && dest == 0xff ? APIC_BROADCAST : dest,
        .logical = rte & RTE_LOGICAL,
        .level = rte & RTE_LEVEL,
        .mode = RTE_MODE(rte),
        .vector = (u8)(rte & RTE_VECTOR),
    };
    return apic_bus_send(ioapic->bus, &message);
}

/* Sends what pin `n` asks for, if it may now. */
static void ioapic_service(struct ioapic *ioapic, unsigned n)
{
    u64 rte = ioapic->rte[n];
    if (!(ioapic->irr & BIT(n)) || (rte & RTE_MASKED))
        return;
    if (!(rte & RTE_LEVEL)) {
        ioapic->irr &= ~BIT(n);
        ioapic_send(ioapic, rte);
        return;
    }
    /* One at a time, until its EOI. */
    if (!(rte & RTE_REMOTE_IRR) && ioapic_send(ioapic, rte))
        ioapic->rte[n] |= RTE_REMOTE_IRR;
}

static void ioapic_set(void *opaque, unsigned n, bool level)
{
    struct ioapic *ioapic = opaque;
    u32 bit = 1u << n;
    bool rise = level && !(ioapic->level & bit);
    ioapic->level = level ? ioapic->level | bit : ioapic->level & ~bit;
    if (ioapic->rte[n] & RTE_LEVEL)
        ioapic->irr = level ? ioapic->irr | bit : ioapic->irr & ~bit;
    /* An edge at a masked pin is lost (82093AA, 3.2.4, bit 16). */
    else if (rise && !(ioapic->rte[n] & RTE_MASKED))
        ioapic->irr |= bit;
    if (level)
        ioapic_service(ioapic, n);
}

struct irq_line ioapic_line(struct ioapic *ioapic, unsigned n)
{
    ensure(n < IOAPIC_PINS);
    return (struct irq_line){ioapic_set, ioapic, n};
}

static void ioapic_eoi(void *opaque, u8 vector)
{
    struct ioapic *ioapic = opaque;
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        u64 *rte = &ioapic->rte[n];
        if (!(*rte & RTE_REMOTE_IRR) || (*rte & RTE_VECTOR) != vector)
            continue;
        *rte &= ~RTE_REMOTE_IRR;
        ioapic_service(ioapic, n);
    }
}

/* Half of an entry: `shift` 0 or 32. */
static void ioapic_write_rte(struct ioapic *ioapic, unsigned n, unsigned shift, u32 value)
{
    u64 writable = RTE_WRITABLE & 0xffffffffull << shift;
    u64 rte = (ioapic->rte[n] & ~writable) | ((u64)value << shift & writable);
    /* Edge mode has no remote IRR: software clears a stuck one this way (Linux does, for
     * version 11h). */
    if (!(rte & RTE_LEVEL))
        rte &= ~RTE_REMOTE_IRR;
    ioapic->rte[n] = rte;
    /* A level is what the pin says now; an edge must come anew. */
    if (rte & RTE_LEVEL)
        ioapic->irr = (ioapic->irr & ~(u32)BIT(n)) | (ioapic->level & (u32)BIT(n));
    else
        ioapic->irr &= ~(u32)BIT(n);
    ioapic_service(ioapic, n);
}

static u32 ioapic_read_window(const struct ioapic *ioapic)
{
    unsigned n = (ioapic->select - IOREDTBL) / 2u;
    switch (ioapic->select) {
    case IOAPICID:
    case IOAPICARB:
        return (u32)ioapic->id << 24;
    case IOAPICVER:
        return VERSION | (IOAPIC_PINS - 1) << 16;
    default:
        if (ioapic->select < IOREDTBL || n >= IOAPIC_PINS)
            return 0;
        return (u32)(ioapic->rte[n] >> (ioapic->select & 1 ? 32 : 0));
    }
}

static void ioapic_write_window(struct ioapic *ioapic, u32 value)
{
    unsigned n = (ioapic->select - IOREDTBL) / 2u;
    if (ioapic->select == IOAPICID)
        ioapic->id = (u8)(value >> 24 & 0xf);
    else if (ioapic->select >= IOREDTBL && n < IOAPIC_PINS)
        ioapic_write_rte(ioapic, n, ioapic->select & 1 ? 32 : 0, value);
}

static u64 ioapic_read(void *opaque, u64 offset, unsigned size)
{
    const struct ioapic *ioapic = opaque;
    switch (offset) {
    case IOREGSEL:
        return ioapic->select;
    case IOWIN:
        return ioapic_read_window(ioapic);
    default:
        return 0;
    }
}

static void ioapic_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct ioapic *ioapic = opaque;
    switch (offset) {
    case IOREGSEL:
        ioapic->select = (u8)value;
        break;
    case IOWIN:
        ioapic_write_window(ioapic, (u32)value);
        break;
    case IOEOI:
        ioapic_eoi(ioapic, (u8)value);
        break;
    }
}

static const struct bus_ops ioapic_ops = {ioapic_read, ioapic_write};

static void ioapic_reset(void *device)
{
    struct ioapic *ioapic = device;
    ioapic->select = ioapic->id = 0;
    ioapic->irr = 0;
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        ioapic->rte[n] = RTE_MASKED;
}

static bool ioapic_post_load(void *device)
{
    const struct ioapic *ioapic = device;
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        if (ioapic->rte[n] & ~(RTE_WRITABLE | RTE_READ_ONLY))
            return false;
    return !((ioapic->irr | ioapic->level) >> IOAPIC_PINS);
}

static void ioapic_destroy(void *device)
{
    struct ioapic *ioapic = device;
    apic_bus_set_eoi(ioapic->bus, NULL, NULL);
    bus_remove(ioapic->board, &ioapic->region);
    free(ioapic);
}

static const struct field ioapic_fields[] = {
    FIELD(struct ioapic, select), FIELD(struct ioapic, id),        FIELD(struct ioapic, level),
    FIELD(struct ioapic, irr),    FIELD_ARRAY(struct ioapic, rte),
};

static const struct device_class ioapic_class = {
    .name = "ioapic",
    .version = 1,
    .fields = ioapic_fields,
    .n_fields = ARRAY_LEN(ioapic_fields),
    .reset = ioapic_reset,
    .post_load = ioapic_post_load,
    .destroy = ioapic_destroy,
};

struct ioapic *ioapic_create(struct board *board, struct apic_bus *bus)
{
    struct ioapic *ioapic = calloc(1, sizeof(*ioapic));
    ensure(ioapic);
    ioapic->board = board;
    ioapic->bus = bus;
    ioapic->region = (struct bus_region){.name = "ioapic",
                                         .ops = &ioapic_ops,
                                         .opaque = ioapic,
                                         .base = IOAPIC_ADDRESS,
                                         .size = 0x1000,
                                         .max_size = 4,
                                         .space = BUS_MMIO};
    apic_bus_set_eoi(bus, ioapic_eoi, ioapic);
    bus_add(board, &ioapic->region);
    device_add(board, &ioapic->device, &ioapic_class, ioapic);
    ioapic_reset(ioapic);
    return ioapic;
}
