/* The latch between FERR#, IRQ 13 and IGNNE#, see fpu_error.h. */
#include "device/fpu_error.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

struct fpu_error {
    struct device device;
    struct board *board;
    struct bus_region port;
    struct irq_line line;
    u8 pending; /* IRQ 13 is requested */
    u8 ignored; /* IGNNE# */
};

static void fpu_error_drive(struct fpu_error *f)
{
    f->board->ignne = f->ignored;
    irq_set(&f->line, f->pending);
}

/* The processor's FERR#. */
static void fpu_error_ferr(void *opaque, unsigned pin, bool level)
{
    struct fpu_error *f = opaque;
    f->pending = level && !f->ignored;
    if (!level)
        f->ignored = false;
    fpu_error_drive(f);
}

static u64 fpu_error_read(void *opaque, u64 offset, unsigned size)
{
    return 0xff;
}

static void fpu_error_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct fpu_error *f = opaque;
    if (f->pending)
        f->ignored = true;
    f->pending = false;
    fpu_error_drive(f);
}

static const struct bus_ops fpu_error_ops = {fpu_error_read, fpu_error_write};

static void fpu_error_reset(void *device)
{
    struct fpu_error *f = device;
    f->pending = f->ignored = false;
    fpu_error_drive(f);
}

static bool fpu_error_post_load(void *device)
{
    fpu_error_drive(device);
    return true;
}

static void fpu_error_destroy(void *device)
{
    struct fpu_error *f = device;
    bus_remove(f->board, &f->port);
    f->board->ferr = (struct irq_line){0};
    free(f);
}

static const struct field fpu_error_fields[] = {
    FIELD(struct fpu_error, pending),
    FIELD(struct fpu_error, ignored),
};

static const struct device_class fpu_error_class = {
    .name = "fpu-error",
    .version = 1,
    .fields = fpu_error_fields,
    .n_fields = ARRAY_LEN(fpu_error_fields),
    .post_load = fpu_error_post_load,
    .reset = fpu_error_reset,
    .destroy = fpu_error_destroy,
};

void fpu_error_create(struct board *board, struct irq_line line)
{
    struct fpu_error *f = calloc(1, sizeof(*f));
    ensure(f);
    f->board = board;
    f->line = line;
    f->port = (struct bus_region){.name = "fpu-error",
                                  .ops = &fpu_error_ops,
                                  .opaque = f,
                                  .base = 0xf0,
                                  .size = 1,
                                  .max_size = 1,
                                  .space = BUS_PIO};
    board->ferr = (struct irq_line){.set = fpu_error_ferr, .opaque = f};
    bus_add(board, &f->port);
    device_add(board, &f->device, &fpu_error_class, f);
}
