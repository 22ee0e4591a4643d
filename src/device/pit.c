/*
 * An 8254 programmable interval timer (Intel data sheet 231164), and the PC's port 61h: gate
 * and output of counter 2, and the refresh toggle that old delay loops count.
 *
 * A counter is a function of time: nothing runs, its value and OUT are computed from the tick
 * at which the count was loaded. All times here are absolute ticks of the 1.193182 MHz clock
 * since the machine was made, so that no rounding error adds up. Counter 0 arms a timer for its
 * next rising edge; its falling edges reach the wire together with the next rise, since the
 * inputs behind it are edge-triggered.
 */
#include "device/pit.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

/* A periodic counter 0 interrupts no faster: the guest could not follow, the host would
 * spin. */
#define PIT_MIN_PERIOD_NS 20000

enum pit_state {
    PIT_IDLE,     /* no count, or modes 1 and 5: no trigger yet */
    PIT_COUNTING, /* since `start` */
    PIT_HELD,     /* by the gate, `held` ticks after its start */
};

enum pit_rw { RW_LATCH, RW_LSB, RW_MSB, RW_BOTH };

struct counter {
    u8 mode;  /* 0..5 */
    u8 rw;    /* enum pit_rw */
    u8 state; /* enum pit_state */
    bool bcd, gate;
    bool written;    /* a whole count was written since the control word */
    bool write_msb;  /* RW_BOTH: the next byte written is the high one */
    bool read_msb;   /* RW_BOTH: the next byte read is the high one */
    bool has_latch;  /* `latch` holds a count not yet read */
    bool has_status; /* `status` likewise */
    bool has_next;   /* modes 2, 3: `next` is loaded when the current half-cycle ends */
    u8 write_lsb;
    u8 status;
    u16 latch;
    u32 count;  /* in the counting element: 1..65536, or 1..10000 in BCD */
    u32 reload; /* as written last, same range */
    u64 start;  /* tick at which `count` was loaded */
    u64 held;
    u64 next_at; /* with has_next: the tick at which `reload` is loaded */
};

struct pit {
    struct device device;
    struct board *board;
    struct irq_line irq;
    struct bus_region ports, port61;
    struct timer timer;
    struct counter counter[3];
    u8 control61;  /* bits 3:0 of port 61h as written */
    u64 irq_after; /* rises of counter 0 up to this tick are on the wire already */
};

static u64 pit_tick(const struct pit *pit)
{
    return clock_ticks(clock_now(&pit->board->clock), PIT_HZ);
}

static bool counter_periodic(const struct counter *counter)
{
    return counter->mode == 2 || counter->mode == 3;
}

static bool counter_triggered(const struct counter *counter)
{
    return counter->mode == 1 || counter->mode == 5;
}

/* Ticks since the count was loaded. It is loaded one tick after it was written; until then
 * 0. */
static u64 counter_elapsed(const struct counter *counter, u64 now)
{
    if (counter->state == PIT_HELD)
        return counter->held;
    return now > counter->start ? now - counter->start : 0;
}

/* Makes a count that waited for the end of a half-cycle the current one, if that has come. */
static void counter_settle(struct counter *counter, u64 now)
{
    if (!counter->has_next || now < counter->next_at)
        return;
    u64 phase = (counter->next_at - counter->start) % counter->count;
    counter->count = counter->reload;
    counter->start = counter->next_at;
    /* Mode 3 in mid-cycle goes on with the low half of the new count. */
    if (counter->mode == 3 && phase)
        counter->start -= (counter->count + 1) / 2;
    counter->has_next = false;
}

static bool counter_out(const struct counter *counter, u64 now)
{
    if (counter->state == PIT_IDLE)
        return counter->mode != 0;
    u64 elapsed = counter_elapsed(counter, now);
    switch (counter->mode) {
    case 0:
        return elapsed >= counter->count;
    case 1:
        /* Low at once, not a tick after the trigger: on a real bus the write lasts as long. */
        return elapsed >= counter->count;
    case 2:
        return counter->state == PIT_HELD || elapsed % counter->count != counter->count - 1;
    case 3:
        return counter->state == PIT_HELD ||
               elapsed % counter->count < (counter->count + 1) / 2;
    default: /* 4, 5: one tick low when the count reaches zero */
        return elapsed != counter->count;
    }
}

static u16 counter_to_guest(const struct counter *counter, u32 value)
{
    if (!counter->bcd)
        return (u16)value;
    value %= 10000;
    return (u16)(value / 1000 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 |
                 value % 10);
}

/* Mode 3 counts by twos, from an even number, twice a cycle. */
static u32 counter_square_value(const struct counter *counter, u64 elapsed)
{
    u32 phase = (u32)(elapsed % counter->count), half = (counter->count + 1) / 2;
    return (counter->count & ~1u) - 2 * (phase < half ? phase : phase - half);
}

/* What the counting element holds, as the guest reads it. */
static u16 counter_value(const struct counter *counter, u64 now)
{
    if (counter->state == PIT_IDLE)
        return counter_to_guest(counter, counter->count);
    u64 elapsed = counter_elapsed(counter, now);
    u32 modulus = counter->bcd ? 10000 : 65536;
    u32 value;
    if (counter->mode == 3)
        value = counter_square_value(counter, elapsed);
    else if (counter->mode == 2)
        value = counter->count - (u32)(elapsed % counter->count);
    else /* goes on below zero */
        value = (u32)((counter->count + modulus - elapsed % modulus) % modulus);
    return counter_to_guest(counter, value);
}

static u8 counter_status(const struct counter *counter, u64 now)
{
    bool null_count = !counter->written || counter->has_next ||
                      (counter->state == PIT_COUNTING && now < counter->start) ||
                      (counter_triggered(counter) && counter->count != counter->reload);
    return (u8)(counter_out(counter, now) << 7 | null_count << 6 | counter->rw << 4 |
                counter->mode << 1 | counter->bcd);
}

/* The next tick after `after` at which OUT rises, or UINT64_MAX. */
static u64 counter_next_rise(const struct counter *counter, u64 after)
{
    if (counter->state != PIT_COUNTING)
        return UINT64_MAX;
    u64 rise = counter->start + counter->count;
    if (counter->mode >= 4)
        rise++;
    if (rise > after)
        return rise;
    if (!counter_periodic(counter))
        return UINT64_MAX;
    return rise + ((after - rise) / counter->count + 1) * counter->count;
}

/* Arms the timer for counter 0's next rise, not before virtual time `earliest`. */
static void pit_arm(struct pit *pit, u64 earliest)
{
    u64 rise = counter_next_rise(&pit->counter[0], pit->irq_after);
    if (pit->counter[0].has_next && pit->counter[0].next_at < rise)
        rise = pit->counter[0].next_at;
    if (rise == UINT64_MAX) {
        timer_cancel(&pit->board->clock, &pit->timer);
        return;
    }
    u64 deadline = clock_ns(rise, PIT_HZ);
    timer_arm(&pit->board->clock, &pit->timer, deadline > earliest ? deadline : earliest);
}

/* After counter 0 was programmed: the wire shows OUT, and the timer its future. */
static void pit_update(struct pit *pit)
{
    u64 now = pit_tick(pit);
    pit->irq_after = now;
    irq_set(&pit->irq, counter_out(&pit->counter[0], now));
    pit_arm(pit, 0);
}

static void pit_fire(void *opaque)
{
    struct pit *pit = opaque;
    struct counter *counter = &pit->counter[0];
    u64 now = pit_tick(pit), ns = clock_now(&pit->board->clock);
    bool rose = counter_next_rise(counter, pit->irq_after) <= now;
    counter_settle(counter, now);
    if (rose) {
        irq_set(&pit->irq, false);
        irq_set(&pit->irq, true);
    }
    pit->irq_after = now;
    pit_arm(pit, counter_periodic(counter) ? ns + PIT_MIN_PERIOD_NS : 0);
}

/* Starts (or prepares) a counter whose count was just written whole. */
static void counter_load(struct counter *counter, u64 now)
{
    bool running = counter->written && counter->state != PIT_IDLE;
    counter->written = true;
    if (counter_triggered(counter)) {
        if (!running)
            counter->count = counter->reload;
        return; /* counts from the next trigger */
    }
    if (counter_periodic(counter) && running && counter->state == PIT_COUNTING &&
        now >= counter->start) {
        u32 half = counter->mode == 3 ? (counter->count + 1) / 2 : counter->count;
        u64 phase = (now - counter->start) % counter->count;
        counter->next_at = now - phase + (phase < half ? half : counter->count);
        counter->has_next = true;
        return;
    }
    counter->count = counter->reload;
    counter->start = now + 1;
    counter->held = 0;
    counter->state = counter->gate ? PIT_COUNTING : PIT_HELD;
}

static void counter_gate(struct counter *counter, bool gate, u64 now)
{
    bool rise = gate && !counter->gate;
    bool fall = !gate && counter->gate;
    counter->gate = gate;
    if (!counter->written || (!rise && !fall))
        return;
    if (rise && (counter_triggered(counter) || counter_periodic(counter))) {
        counter->count = counter->reload;
        counter->has_next = false;
        counter->start = now + 1;
        counter->state = PIT_COUNTING;
    } else if (rise && counter->state == PIT_HELD) {
        counter->start = now - counter->held;
        counter->state = PIT_COUNTING;
    } else if (fall && !counter_triggered(counter) && counter->state == PIT_COUNTING) {
        counter->held = counter_elapsed(counter, now);
        counter->state = PIT_HELD;
    }
}

static u32 counter_from_guest(const struct counter *counter, u16 value)
{
    if (!counter->bcd)
        return value ? value : 65536;
    u32 decimal = (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u +
                  (value & 15);
    /* Digits above nine count as they weigh; the chip leaves them undefined. */
    return decimal ? decimal > 10000 ? 10000 : decimal : 10000;
}

static void counter_write(struct counter *counter, u8 value, u64 now)
{
    u16 whole;
    switch (counter->rw) {
    case RW_LSB:
        whole = value;
        break;
    case RW_MSB:
        whole = (u16)(value << 8);
        break;
    default:
        counter->write_msb = !counter->write_msb;
        if (counter->write_msb) {
            counter->write_lsb = value;
            /* Mode 0: the first byte stops the count and takes OUT low. */
            if (counter->mode == 0)
                counter->state = PIT_IDLE;
            return;
        }
        whole = (u16)(value << 8 | counter->write_lsb);
    }
    counter->reload = counter_from_guest(counter, whole);
    /* Modes 2 and 3 take no count of 1 (data sheet, "minimum count"). */
    if (counter_periodic(counter) && counter->reload < 2)
        counter->reload = 2;
    counter_load(counter, now);
}

static u8 counter_read(struct counter *counter, u64 now)
{
    if (counter->has_status) {
        counter->has_status = false;
        return counter->status;
    }
    u16 value = counter->has_latch ? counter->latch : counter_value(counter, now);
    bool msb = counter->rw == RW_MSB;
    if (counter->rw == RW_BOTH) {
        msb = counter->read_msb;
        counter->read_msb = !counter->read_msb;
    }
    if (counter->rw != RW_BOTH || msb)
        counter->has_latch = false;
    return (u8)(msb ? value >> 8 : value);
}

static void counter_latch(struct counter *counter, u64 now)
{
    if (counter->has_latch)
        return;
    counter->latch = counter_value(counter, now);
    counter->has_latch = true;
}

static void counter_control(struct counter *counter, u8 value)
{
    bool gate = counter->gate;
    u32 count = counter->count;
    *counter = (struct counter){.gate = gate, .count = count, .reload = count};
    counter->rw = value >> 4 & 3;
    counter->mode = value >> 1 & 7;
    if (counter->mode > 5) /* x10 and x11 */
        counter->mode -= 4;
    counter->bcd = value & 1;
    counter->state = PIT_IDLE;
    if (counter_periodic(counter) && counter->reload < 2)
        counter->count = counter->reload = 2;
}

static void pit_read_back(struct pit *pit, u8 value, u64 now)
{
    for (unsigned i = 0; i < 3; i++) {
        struct counter *counter = &pit->counter[i];
        if (!(value & BIT(i + 1)))
            continue;
        if (!(value & BIT(5)))
            counter_latch(counter, now);
        if (!(value & BIT(4)) && !counter->has_status) {
            counter->status = counter_status(counter, now);
            counter->has_status = true;
        }
    }
}

static void pit_settle(struct pit *pit, u64 now)
{
    for (unsigned i = 0; i < 3; i++)
        counter_settle(&pit->counter[i], now);
}

static void pit_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pit *pit = opaque;
    u64 now = pit_tick(pit);
    pit_settle(pit, now);
    unsigned index = (unsigned)(offset < 3 ? offset : value >> 6 & 3);
    if (index == 3) {
        pit_read_back(pit, (u8)value, now);
        return;
    }
    if (offset < 3) {
        counter_write(&pit->counter[index], (u8)value, now);
    } else if (!(value >> 4 & 3)) {
        counter_latch(&pit->counter[index], now);
        return;
    } else {
        counter_control(&pit->counter[index], (u8)value);
    }
    if (index == 0)
        pit_update(pit);
}

static u64 pit_read(void *opaque, u64 offset, unsigned size)
{
    struct pit *pit = opaque;
    u64 now = pit_tick(pit);
    pit_settle(pit, now);
    return offset < 3 ? counter_read(&pit->counter[offset], now) : 0;
}

static const struct bus_ops pit_ops = {pit_read, pit_write};

static u64 pit_read61(void *opaque, u64 offset, unsigned size)
{
    struct pit *pit = opaque;
    u64 now = pit_tick(pit);
    pit_settle(pit, now);
    /* Counter 1 asks for a refresh every 18 ticks (15 us); bit 4 toggles with each. */
    return pit->control61 | (now / 18 & 1) << 4 | counter_out(&pit->counter[2], now) << 5;
}

static void pit_write61(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pit *pit = opaque;
    u64 now = pit_tick(pit);
    pit_settle(pit, now);
    pit->control61 = value & 0x0f;
    counter_gate(&pit->counter[2], value & 1, now);
}

static const struct bus_ops pit_ops61 = {pit_read61, pit_write61};

static void pit_reset(void *device)
{
    struct pit *pit = device;
    for (unsigned i = 0; i < 3; i++)
        pit->counter[i] =
            (struct counter){.rw = RW_BOTH, .gate = i != 2, .count = 65536, .reload = 65536};
    pit->control61 = 0;
    pit_update(pit);
}

static bool counter_valid(const struct counter *counter)
{
    u32 min = counter_periodic(counter) ? 2 : 1;
    return counter->mode <= 5 && counter->rw <= RW_BOTH && counter->state <= PIT_HELD &&
           counter->count >= min && counter->count <= 65536 && counter->reload >= min &&
           counter->reload <= 65536;
}

static bool pit_post_load(void *device)
{
    struct pit *pit = device;
    for (unsigned i = 0; i < 3; i++)
        if (!counter_valid(&pit->counter[i]))
            return false;
    irq_set(&pit->irq, counter_out(&pit->counter[0], pit_tick(pit)));
    pit_arm(pit, 0);
    return true;
}

static void pit_destroy(void *device)
{
    struct pit *pit = device;
    timer_cancel(&pit->board->clock, &pit->timer);
    bus_remove(pit->board, &pit->ports);
    bus_remove(pit->board, &pit->port61);
    free(pit);
}

#define COUNTER_FIELD(i, member) FIELD(struct pit, counter[i].member)
#define COUNTER_FIELDS(i)                                                                      \
    COUNTER_FIELD(i, mode), COUNTER_FIELD(i, rw), COUNTER_FIELD(i, state),                     \
        COUNTER_FIELD(i, bcd), COUNTER_FIELD(i, gate), COUNTER_FIELD(i, written),              \
        COUNTER_FIELD(i, write_msb), COUNTER_FIELD(i, read_msb), COUNTER_FIELD(i, has_latch),  \
        COUNTER_FIELD(i, has_status), COUNTER_FIELD(i, has_next), COUNTER_FIELD(i, write_lsb), \
        COUNTER_FIELD(i, status), COUNTER_FIELD(i, latch), COUNTER_FIELD(i, count),            \
        COUNTER_FIELD(i, reload), COUNTER_FIELD(i, start), COUNTER_FIELD(i, held),             \
        COUNTER_FIELD(i, next_at)

static const struct field pit_fields[] = {
    COUNTER_FIELDS(0),
    COUNTER_FIELDS(1),
    COUNTER_FIELDS(2),
    FIELD(struct pit, control61),
    FIELD(struct pit, irq_after),
};

static const struct device_class pit_class = {
    .name = "pit",
    .version = 1,
    .fields = pit_fields,
    .n_fields = ARRAY_LEN(pit_fields),
    .reset = pit_reset,
    .post_load = pit_post_load,
    .destroy = pit_destroy,
};

struct pit *pit_create(struct board *board, struct irq_line irq)
{
    struct pit *pit = calloc(1, sizeof(*pit));
    ensure(pit);
    pit->board = board;
    pit->irq = irq;
    pit->timer = (struct timer){.fire = pit_fire, .opaque = pit};
    pit->ports = (struct bus_region){.name = "pit",
                                     .ops = &pit_ops,
                                     .opaque = pit,
                                     .base = 0x40,
                                     .size = 4,
                                     .max_size = 1,
                                     .space = BUS_PIO};
    pit->port61 = (struct bus_region){.name = "port61",
                                      .ops = &pit_ops61,
                                      .opaque = pit,
                                      .base = 0x61,
                                      .size = 1,
                                      .max_size = 1,
                                      .space = BUS_PIO};
    bus_add(board, &pit->ports);
    bus_add(board, &pit->port61);
    device_add(board, &pit->device, &pit_class, pit);
    pit_reset(pit);
    return pit;
}
