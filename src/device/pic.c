/*
 * Two cascaded 8259A interrupt controllers (Intel data sheet 231468), with the edge/level
 * control registers of the PIIX (ports 4D0h and 4D1h). Word and bit names are the data sheet's.
 *
 * An edge is latched: an input that falls before its INTA still gives its own vector, where the
 * real chip would give the spurious one. Timers here pulse their lines and nobody depends on
 * losing such an interrupt. The MCS-80 mode (ICW4.uPM = 0) is not built; vectors are always
 * those of the 8086 mode.
 */
#include "device/pic.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

#define ICW1_IC4  BIT(0)
#define ICW1_SNGL BIT(1)
#define ICW1_LTIM BIT(3)
#define ICW1      BIT(4) /* tells ICW1 from OCW2 and OCW3 */
#define ICW4_AEOI BIT(1)
#define ICW4_SFNM BIT(4)
#define OCW3      BIT(3) /* tells OCW3 from OCW2 */
#define OCW3_RIS  BIT(0)
#define OCW3_RR   BIT(1)
#define OCW3_P    BIT(2)
#define OCW3_SMM  BIT(5)
#define OCW3_ESMM BIT(6)

#define CASCADE 2 /* the master's input that the slave drives */

enum pic_init { INIT_NONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

struct chip {
    u8 irr, imr, isr;
    u8 level; /* inputs as they are */
    u8 elcr;
    u8 vector_base;
    u8 lowest; /* input with the lowest priority; 7 at first */
    u8 init;   /* enum pic_init: the next ICW expected */
    bool single, need_icw4, ltim;
    bool auto_eoi, rotate_on_aeoi;
    bool special_mask, special_nested;
    bool read_isr, poll;
};

/* The two ports of one chip. */
struct chip_ports {
    struct pic *pic;
    unsigned index;
    struct bus_region region;
};

struct pic {
    struct device device;
    struct board *board;
    struct irq_line intr;
    struct chip_ports ports[2];
    struct bus_region elcr;
    struct chip chip[2]; /* master, slave */
};

static bool chip_level_triggered(const struct chip *chip, unsigned n)
{
    return chip->ltim || (chip->elcr & BIT(n));
}

/* How far `n` is from the highest priority, 0..7. */
static unsigned chip_rank(const struct chip *chip, unsigned n)
{
    return (n - chip->lowest - 1) & 7;
}

/* The set bit with the highest priority, or 8. */
static unsigned chip_first(const struct chip *chip, u8 set)
{
    for (unsigned rank = 0; rank < 8; rank++) {
        unsigned n = (chip->lowest + 1 + rank) & 7;
        if (set & BIT(n))
            return n;
    }
    return 8;
}

/* The request that drives INT now, or -1: better than everything in service. */
static int chip_pending(const struct chip *chip, bool master)
{
    unsigned n = chip_first(chip, chip->irr & ~chip->imr);
    if (n == 8 || chip->init)
        return -1;
    u8 service = chip->isr;
    if (chip->special_mask) /* a masked level in service holds nobody back */
        service &= ~chip->imr;
    /* Special fully nested: the slave may interrupt its own service. */
    if (chip->special_nested && master)
        service &= ~BIT(CASCADE);
    unsigned busy = chip_first(chip, service);
    if (busy < 8 && chip_rank(chip, busy) <= chip_rank(chip, n))
        return -1;
    return (int)n;
}

static void chip_set(struct chip *chip, unsigned n, bool level)
{
    bool rise = level && !(chip->level & BIT(n));
    chip->level = (u8)((chip->level & ~BIT(n)) | (level ? BIT(n) : 0));
    if (chip_level_triggered(chip, n))
        chip->irr = (u8)((chip->irr & ~BIT(n)) | (level ? BIT(n) : 0));
    else if (rise)
        chip->irr |= BIT(n);
}

static void pic_update(struct pic *pic)
{
    /* The slave's INT is no edge to be latched: when its request goes away, so does this
     * one. */
    u8 *irr = &pic->chip[0].irr;
    bool slave = chip_pending(&pic->chip[1], false) >= 0;
    *irr = (u8)((*irr & ~BIT(CASCADE)) | (slave ? BIT(CASCADE) : 0));
    irq_set(&pic->intr, chip_pending(&pic->chip[0], true) >= 0);
}

static void pic_set(void *opaque, unsigned n, bool level)
{
    struct pic *pic = opaque;
    if (n == CASCADE)
        return;
    chip_set(&pic->chip[n / 8], n % 8, level);
    pic_update(pic);
}

struct irq_line pic_line(struct pic *pic, unsigned n)
{
    ensure(n < 16);
    return (struct irq_line){pic_set, pic, n};
}

/* An INTA cycle of one chip: the input it grants, 7 if none. */
static unsigned chip_acknowledge(struct chip *chip, bool master)
{
    int n = chip_pending(chip, master);
    if (n < 0)
        return 7; /* spurious: no ISR bit is set */
    if (!chip_level_triggered(chip, (unsigned)n))
        chip->irr &= ~BIT(n);
    if (!chip->auto_eoi)
        chip->isr |= BIT(n);
    else if (chip->rotate_on_aeoi)
        chip->lowest = (u8)n;
    return (unsigned)n;
}

int pic_acknowledge(struct pic *pic)
{
    struct chip *chip = &pic->chip[0];
    bool spurious = chip_pending(chip, true) < 0;
    unsigned n = chip_acknowledge(chip, true);
    if (n == CASCADE && !spurious) {
        chip = &pic->chip[1];
        n = chip_acknowledge(chip, false);
    }
    int vector = chip->vector_base + (int)n;
    pic_update(pic);
    return vector;
}

static void chip_icw1(struct chip *chip, u8 value)
{
    u8 level = chip->level, elcr = chip->elcr;
    *chip = (struct chip){.level = level, .elcr = elcr, .lowest = 7, .init = INIT_ICW2};
    chip->ltim = value & ICW1_LTIM;
    chip->single = value & ICW1_SNGL;
    chip->need_icw4 = value & ICW1_IC4;
    /* Edge sense is reset: an edge input that stands high must fall first; a level one counts
     * at once. */
    for (unsigned n = 0; n < 8; n++)
        if (chip_level_triggered(chip, n))
            chip->irr |= level & BIT(n);
}

/* OCW2: R, SL and EOI in bits 7:5, the level in 2:0. */
static void chip_ocw2(struct chip *chip, u8 value)
{
    unsigned named = value & 7;
    bool rotate = value & BIT(7), specific = value & BIT(6), eoi = value & BIT(5);
    if (!eoi) {
        if (specific && rotate)
            chip->lowest = (u8)named; /* set priority */
        else if (!specific)
            chip->rotate_on_aeoi = rotate;
        return;
    }
    u8 service = chip->isr;
    if (chip->special_mask)
        service &= ~chip->imr; /* a non-specific EOI leaves masked ones alone */
    unsigned n = specific ? named : chip_first(chip, service);
    if (n == 8)
        return;
    chip->isr &= ~BIT(n);
    if (rotate)
        chip->lowest = (u8)n;
}

static void chip_ocw3(struct chip *chip, u8 value)
{
    if (value & OCW3_P)
        chip->poll = true;
    if (value & OCW3_RR)
        chip->read_isr = value & OCW3_RIS;
    if (value & OCW3_ESMM)
        chip->special_mask = value & OCW3_SMM;
}

static void chip_write_data(struct chip *chip, u8 value)
{
    switch (chip->init) {
    case INIT_NONE:
        chip->imr = value; /* OCW1 */
        return;
    case INIT_ICW2:
        chip->vector_base = value & 0xf8;
        chip->init = !chip->single ? INIT_ICW3 : chip->need_icw4 ? INIT_ICW4 : INIT_NONE;
        return;
    case INIT_ICW3: /* the cascade is wired, not programmed */
        chip->init = chip->need_icw4 ? INIT_ICW4 : INIT_NONE;
        return;
    case INIT_ICW4:
        chip->auto_eoi = value & ICW4_AEOI;
        chip->special_nested = value & ICW4_SFNM;
        chip->init = INIT_NONE;
        return;
    }
}

static void pic_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    const struct chip_ports *ports = opaque;
    struct chip *chip = &ports->pic->chip[ports->index];
    if (offset)
        chip_write_data(chip, (u8)value);
    else if (value & ICW1)
        chip_icw1(chip, (u8)value);
    else if (value & OCW3)
        chip_ocw3(chip, (u8)value);
    else
        chip_ocw2(chip, (u8)value);
    pic_update(ports->pic);
}

/* A read after the poll command is an INTA: bit 7 says whether there was a request. */
static u8 pic_poll(struct pic *pic, unsigned index)
{
    struct chip *chip = &pic->chip[index];
    chip->poll = false;
    if (chip_pending(chip, index == 0) < 0)
        return 0;
    u8 answer = (u8)(0x80 | chip_acknowledge(chip, index == 0));
    pic_update(pic);
    return answer;
}

static u64 pic_read(void *opaque, u64 offset, unsigned size)
{
    const struct chip_ports *ports = opaque;
    const struct chip *chip = &ports->pic->chip[ports->index];
    if (chip->poll)
        return pic_poll(ports->pic, ports->index);
    if (offset)
        return chip->imr;
    return chip->read_isr ? chip->isr : chip->irr;
}

static const struct bus_ops pic_ops = {pic_read, pic_write};

/* IRQ 0, 1, 2, 8 and 13 are edge only (PIIX3 data sheet, ELCR1 and ELCR2). */
static const u8 elcr_writable[2] = {0xf8, 0xde};

static void pic_write_elcr(struct pic *pic, unsigned index, u8 value)
{
    struct chip *chip = &pic->chip[index];
    chip->elcr = value & elcr_writable[index];
    for (unsigned n = 0; n < 8; n++)
        if (chip->elcr & BIT(n))
            chip->irr = (u8)((chip->irr & ~BIT(n)) | (chip->level & BIT(n)));
    pic_update(pic);
}

static u64 pic_elcr_read(void *opaque, u64 offset, unsigned size)
{
    const struct pic *pic = opaque;
    return pic->chip[offset].elcr;
}

static void pic_elcr_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    pic_write_elcr(opaque, (unsigned)offset, (u8)value);
}

static const struct bus_ops pic_elcr_ops = {pic_elcr_read, pic_elcr_write};

void pic_set_elcr(struct pic *pic, u16 elcr)
{
    pic_write_elcr(pic, 0, (u8)elcr);
    pic_write_elcr(pic, 1, (u8)(elcr >> 8));
}

/* Inputs belong to those who drive them, so they outlive a reset. */
static void pic_reset(void *device)
{
    struct pic *pic = device;
    for (unsigned i = 0; i < 2; i++) {
        u8 level = pic->chip[i].level;
        pic->chip[i] = (struct chip){.level = level, .lowest = 7};
    }
    pic_update(pic);
}

static bool pic_post_load(void *device)
{
    struct pic *pic = device;
    for (unsigned i = 0; i < 2; i++)
        if (pic->chip[i].lowest > 7 || pic->chip[i].init > INIT_ICW4 ||
            (pic->chip[i].vector_base & 7))
            return false;
    pic_update(pic);
    return true;
}

static void pic_destroy(void *device)
{
    struct pic *pic = device;
    for (unsigned i = 0; i < 2; i++)
        bus_remove(pic->board, &pic->ports[i].region);
    bus_remove(pic->board, &pic->elcr);
    free(pic);
}

#define CHIP_FIELD(i, member) FIELD(struct pic, chip[i].member)
#define CHIP_FIELDS(i)                                                                         \
    CHIP_FIELD(i, irr), CHIP_FIELD(i, imr), CHIP_FIELD(i, isr), CHIP_FIELD(i, level),          \
        CHIP_FIELD(i, elcr), CHIP_FIELD(i, vector_base), CHIP_FIELD(i, lowest),                \
        CHIP_FIELD(i, init), CHIP_FIELD(i, single), CHIP_FIELD(i, need_icw4),                  \
        CHIP_FIELD(i, ltim), CHIP_FIELD(i, auto_eoi), CHIP_FIELD(i, rotate_on_aeoi),           \
        CHIP_FIELD(i, special_mask), CHIP_FIELD(i, special_nested), CHIP_FIELD(i, read_isr),   \
        CHIP_FIELD(i, poll)

static const struct field pic_fields[] = {CHIP_FIELDS(0), CHIP_FIELDS(1)};

static const struct device_class pic_class = {
    .name = "pic",
    .version = 1,
    .fields = pic_fields,
    .n_fields = ARRAY_LEN(pic_fields),
    .reset = pic_reset,
    .post_load = pic_post_load,
    .destroy = pic_destroy,
};

struct pic *pic_create(struct board *board, struct irq_line intr)
{
    struct pic *pic = calloc(1, sizeof(*pic));
    ensure(pic);
    pic->board = board;
    pic->intr = intr;
    for (unsigned i = 0; i < 2; i++) {
        struct chip_ports *ports = &pic->ports[i];
        ports->pic = pic;
        ports->index = i;
        ports->region = (struct bus_region){.name = "pic",
                                            .ops = &pic_ops,
                                            .opaque = ports,
                                            .base = i ? 0xa0 : 0x20,
                                            .size = 2,
                                            .max_size = 1,
                                            .space = BUS_PIO};
        bus_add(board, &ports->region);
    }
    pic->elcr = (struct bus_region){.name = "elcr",
                                    .ops = &pic_elcr_ops,
                                    .opaque = pic,
                                    .base = 0x4d0,
                                    .size = 2,
                                    .max_size = 1,
                                    .space = BUS_PIO};
    bus_add(board, &pic->elcr);
    device_add(board, &pic->device, &pic_class, pic);
    pic_reset(pic);
    return pic;
}
