/*
 * A parallel port in the standard mode (IEEE 1284-1994, compatibility mode; IBM's PC/AT
 * Technical Reference, Printer Adapter), and a printer that takes each byte at once: the
 * strobe's rising edge prints, and the acknowledge pulse is over when the guest looks twice.
 */
#include "device/parallel.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

enum { DATA, STATUS, CONTROL };

#define STATUS_READY  BIT(7) /* the printer's BUSY, inverted */
#define STATUS_ACK    BIT(6) /* inverted, too: 0 while it acknowledges */
#define STATUS_SELECT BIT(4)
#define STATUS_ERROR  BIT(3) /* inverted: 1 is no error */
#define STATUS_IDLE   (STATUS_READY | STATUS_ACK | STATUS_SELECT | STATUS_ERROR)

#define CONTROL_STROBE BIT(0)
#define CONTROL_INIT   BIT(2) /* inverted: 0 resets the printer */
#define CONTROL_SELECT BIT(3)
#define CONTROL_IRQ    BIT(4)
#define CONTROL_HIGH   0xc0 /* not driven */

struct parallel {
    struct device device;
    struct board *board;
    struct chardev *chardev;
    struct irq_line irq;
    struct bus_region region;
    u8 data, status, control;
    bool interrupt; /* since a byte was taken, until the status is read */
};

static void parallel_update(struct parallel *p)
{
    irq_set(&p->irq, p->interrupt && (p->control & CONTROL_IRQ));
}

static u8 parallel_status(struct parallel *p)
{
    u8 status = p->status;
    p->interrupt = false;
    parallel_update(p);
    /* Busy with the byte, then acknowledging it, then ready again, a step at each look. */
    if (!(status & STATUS_READY) && !(p->control & CONTROL_STROBE) &&
        (p->control & CONTROL_INIT))
        p->status = status & STATUS_ACK ? status & (u8)~STATUS_ACK : STATUS_IDLE;
    return status;
}

static u64 parallel_read(void *opaque, u64 offset, unsigned size)
{
    struct parallel *p = opaque;
    switch (offset) {
    case DATA:
        return p->data;
    case STATUS:
        return parallel_status(p);
    case CONTROL:
        return p->control;
    default:
        return 0xff; /* the registers of later modes */
    }
}

static void parallel_control(struct parallel *p, u8 value)
{
    bool strobe = (value & ~p->control) & CONTROL_STROBE;
    p->control = value | CONTROL_HIGH;
    if (!(value & CONTROL_INIT)) {
        p->status = STATUS_IDLE & (u8)~STATUS_READY;
    } else if (strobe && (value & CONTROL_SELECT)) {
        p->status &= (u8)~STATUS_READY;
        chardev_write(p->chardev, &p->data, 1);
        p->interrupt = true;
    }
    parallel_update(p);
}

static void parallel_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct parallel *p = opaque;
    if (offset == DATA)
        p->data = (u8)value;
    else if (offset == CONTROL)
        parallel_control(p, (u8)value);
}

static const struct bus_ops parallel_ops = {parallel_read, parallel_write};

static void parallel_reset(void *device)
{
    struct parallel *p = device;
    p->data = 0;
    p->status = STATUS_IDLE;
    p->control = CONTROL_HIGH | CONTROL_SELECT | CONTROL_INIT;
    p->interrupt = false;
    parallel_update(p);
}

static bool parallel_post_load(void *device)
{
    parallel_update(device);
    return true;
}

static void parallel_destroy(void *device)
{
    struct parallel *p = device;
    bus_remove(p->board, &p->region);
    free(p);
}

static const struct field parallel_fields[] = {
    FIELD(struct parallel, data),
    FIELD(struct parallel, status),
    FIELD(struct parallel, control),
    FIELD(struct parallel, interrupt),
};

static const struct device_class parallel_class = {
    .name = "parallel",
    .version = 1,
    .fields = parallel_fields,
    .n_fields = ARRAY_LEN(parallel_fields),
    .reset = parallel_reset,
    .post_load = parallel_post_load,
    .destroy = parallel_destroy,
};

struct parallel *parallel_create(struct board *board, u16 base, struct irq_line irq,
                                 struct chardev *chardev)
{
    struct parallel *p = calloc(1, sizeof(*p));
    ensure(p);
    p->board = board;
    p->chardev = chardev;
    p->irq = irq;
    p->region = (struct bus_region){.name = "parallel",
                                    .ops = &parallel_ops,
                                    .opaque = p,
                                    .base = base,
                                    .size = 8,
                                    .max_size = 1,
                                    .space = BUS_PIO};
    bus_add(board, &p->region);
    device_add(board, &p->device, &parallel_class, p);
    parallel_reset(p);
    return p;
}
