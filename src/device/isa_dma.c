/* Two 8237A and the page registers, see isa_dma.h. */
#include "device/isa_dma.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"
#include "platform/ram.h"

#define CHANNELS 4 /* of a controller */

#define COMMAND_DISABLE BIT(2)

#define MODE_TRANSFER(mode) ((mode) >> 2 & 3)
#define MODE_VERIFY         0
#define MODE_TO_MEMORY      1
#define MODE_FROM_MEMORY    2
#define MODE_AUTO           BIT(4)
#define MODE_DOWN           BIT(5)

/* Registers behind the channels' */
enum {
    REG_COMMAND = 8, /* read: status */
    REG_REQUEST,
    REG_MASK,
    REG_MODE,
    REG_FLIP_FLOP,
    REG_CLEAR, /* read: temporary */
    REG_CLEAR_MASK,
    REG_ALL_MASK
};

struct controller {
    u16 base_addr[CHANNELS], base_count[CHANNELS];
    u16 addr[CHANNELS], count[CHANNELS];
    u8 mode[CHANNELS];
    u8 command, status, mask, request;
    bool high; /* the flip-flop: the next byte is the high one */
};

struct isa_dma {
    struct device device;
    struct board *board;
    struct bus_region ports[2], page_ports;
    struct controller controller[2];
    u8 page[16];
};

static void clear(struct controller *c)
{
    c->command = c->status = c->request = 0;
    c->mask = 15;
    c->high = false;
}

/* -- Registers ----------------------------------------------------------------------------- */

static void set_half(u16 *base, u16 *now, bool high, u8 value)
{
    *base = high ? (u16)((*base & 0x00ff) | value << 8) : (u16)((*base & 0xff00) | value);
    *now = *base;
}

static void write_register(struct controller *c, unsigned reg, u8 value)
{
    unsigned channel = value & 3;
    switch (reg) {
    case 0 ... 7:
        channel = reg / 2;
        if (reg & 1)
            set_half(&c->base_count[channel], &c->count[channel], c->high, value);
        else
            set_half(&c->base_addr[channel], &c->addr[channel], c->high, value);
        c->high = !c->high;
        break;
    case REG_COMMAND:
        c->command = value;
        break;
    case REG_REQUEST:
        c->request = (u8)((c->request & ~BIT(channel)) | (value & 4 ? BIT(channel) : 0));
        break;
    case REG_MASK:
        c->mask = (u8)((c->mask & ~BIT(channel)) | (value & 4 ? BIT(channel) : 0));
        break;
    case REG_MODE:
        c->mode[channel] = value & ~3;
        break;
    case REG_FLIP_FLOP:
        c->high = false;
        break;
    case REG_CLEAR:
        clear(c);
        break;
    case REG_CLEAR_MASK:
        c->mask = 0;
        break;
    default:
        c->mask = value & 15;
        break;
    }
}

static u8 read_register(struct controller *c, unsigned reg)
{
    u8 value;
    switch (reg) {
    case 0 ... 7:
        value = (u8)((reg & 1 ? c->count : c->addr)[reg / 2] >> (c->high ? 8 : 0));
        c->high = !c->high;
        return value;
    case REG_COMMAND: /* reading takes the terminal counts */
        value = (u8)(c->status | c->request << 4);
        c->status = 0;
        return value;
    case REG_ALL_MASK:
        return c->mask | 0xf0;
    default:
        return 0;
    }
}

static u64 bytes_read(void *opaque, u64 offset, unsigned size)
{
    struct isa_dma *dma = opaque;
    return read_register(&dma->controller[0], (unsigned)offset);
}

static void bytes_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct isa_dma *dma = opaque;
    write_register(&dma->controller[0], (unsigned)offset, (u8)value);
}

/* The second one's address line 0 is the bus's line 1. */
static u64 words_read(void *opaque, u64 offset, unsigned size)
{
    struct isa_dma *dma = opaque;
    return read_register(&dma->controller[1], (unsigned)offset / 2);
}

static void words_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct isa_dma *dma = opaque;
    write_register(&dma->controller[1], (unsigned)offset / 2, (u8)value);
}

static u64 page_read(void *opaque, u64 offset, unsigned size)
{
    const struct isa_dma *dma = opaque;
    return dma->page[offset];
}

static void page_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct isa_dma *dma = opaque;
    dma->page[offset] = (u8)value;
}

static const struct bus_ops bytes_ops = {bytes_read, bytes_write};
static const struct bus_ops words_ops = {words_read, words_write};
static const struct bus_ops page_ops = {page_read, page_write};

/* -- Transfers ----------------------------------------------------------------------------- */

/* Where the current address points: bits 16 to 23 are the page's; a word channel's address
 * counts words. */
static struct gpa place(const struct isa_dma *dma, unsigned channel)
{
    static const u8 page_of[] = {7, 3, 1, 2, 15, 11, 9, 10};
    u32 page = dma->page[page_of[channel]];
    u16 addr = dma->controller[channel / CHANNELS].addr[channel % CHANNELS];
    return gpa(channel < CHANNELS ? page << 16 | addr : (page & 0xfe) << 16 | (u32)addr << 1);
}

/* One byte or word. Where there is no memory, reads give ones, writes vanish: as on the bus. */
static void move_one(const struct isa_dma *dma, unsigned channel, u8 *data, unsigned size,
                     unsigned transfer)
{
    if (transfer == MODE_TO_MEMORY)
        ram_write(dma->board, place(dma, channel), data, size);
    else if (transfer == MODE_FROM_MEMORY)
        ram_read(dma->board, place(dma, channel), data, size);
}

static void count_out(struct controller *c, unsigned i)
{
    c->status |= (u8)BIT(i);
    c->request &= (u8)~BIT(i);
    if (c->mode[i] & MODE_AUTO) {
        c->addr[i] = c->base_addr[i];
        c->count[i] = c->base_count[i];
    } else {
        c->mask |= (u8)BIT(i);
    }
}

u32 isa_dma_move(struct isa_dma *dma, unsigned channel, void *data, u32 len, bool to_memory,
                 bool *tc)
{
    ensure(channel < 2 * CHANNELS);
    struct controller *c = &dma->controller[channel / CHANNELS];
    unsigned i = channel % CHANNELS, size = channel < CHANNELS ? 1 : 2;
    unsigned transfer = MODE_TRANSFER(c->mode[i]);
    bool fits =
        transfer == MODE_VERIFY || transfer == (to_memory ? MODE_TO_MEMORY : MODE_FROM_MEMORY);
    u32 done = 0;
    *tc = false;
    if ((c->mask & BIT(i)) || (c->command & COMMAND_DISABLE) || !fits)
        return 0;
    while (done + size <= len && !*tc) {
        move_one(dma, channel, (u8 *)data + done, size, transfer);
        done += size;
        c->addr[i] += c->mode[i] & MODE_DOWN ? 0xffff : 1;
        *tc = c->count[i]-- == 0;
        if (*tc)
            count_out(c, i);
    }
    return done;
}

/* -- Life ---------------------------------------------------------------------------------- */

static void isa_dma_reset(void *device)
{
    struct isa_dma *dma = device;
    memset(dma->controller, 0, sizeof(dma->controller));
    memset(dma->page, 0, sizeof(dma->page));
    clear(&dma->controller[0]);
    clear(&dma->controller[1]);
}

static void isa_dma_destroy(void *device)
{
    struct isa_dma *dma = device;
    bus_remove(dma->board, &dma->ports[0]);
    bus_remove(dma->board, &dma->ports[1]);
    bus_remove(dma->board, &dma->page_ports);
    free(dma);
}

#define CONTROLLER_FIELDS(n)                                                                   \
    FIELD_ARRAY(struct isa_dma, controller[n].base_addr),                                      \
        FIELD_ARRAY(struct isa_dma, controller[n].base_count),                                 \
        FIELD_ARRAY(struct isa_dma, controller[n].addr),                                       \
        FIELD_ARRAY(struct isa_dma, controller[n].count),                                      \
        FIELD_ARRAY(struct isa_dma, controller[n].mode),                                       \
        FIELD(struct isa_dma, controller[n].command),                                          \
        FIELD(struct isa_dma, controller[n].status),                                           \
        FIELD(struct isa_dma, controller[n].mask),                                             \
        FIELD(struct isa_dma, controller[n].request),                                          \
        FIELD(struct isa_dma, controller[n].high)

static const struct field isa_dma_fields[] = {
    CONTROLLER_FIELDS(0),
    CONTROLLER_FIELDS(1),
    FIELD_ARRAY(struct isa_dma, page),
};

static const struct device_class isa_dma_class = {
    .name = "isa-dma",
    .version = 1,
    .fields = isa_dma_fields,
    .n_fields = ARRAY_LEN(isa_dma_fields),
    .reset = isa_dma_reset,
    .destroy = isa_dma_destroy,
};

static void add_ports(struct isa_dma *dma, struct bus_region *region, const struct bus_ops *ops,
                      u16 base, u16 size)
{
    *region = (struct bus_region){.name = "isa-dma",
                                  .ops = ops,
                                  .opaque = dma,
                                  .base = base,
                                  .size = size,
                                  .max_size = 1,
                                  .space = BUS_PIO};
    bus_add(dma->board, region);
}

struct isa_dma *isa_dma_create(struct board *board)
{
    struct isa_dma *dma = calloc(1, sizeof(*dma));
    ensure(dma);
    dma->board = board;
    add_ports(dma, &dma->ports[0], &bytes_ops, 0x00, 0x10);
    add_ports(dma, &dma->ports[1], &words_ops, 0xc0, 0x20);
    add_ports(dma, &dma->page_ports, &page_ops, 0x80, 0x10);
    device_add(board, &dma->device, &isa_dma_class, dma);
    isa_dma_reset(dma);
    return dma;
}
