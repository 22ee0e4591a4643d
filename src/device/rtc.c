/*
 * An MC146818A real-time clock (Motorola data sheet; register and bit names are its) with the
 * PC's 128 bytes of CMOS memory and the century in byte 32h.
 *
 * The time is a function of virtual time: seconds since 1970 at a moment of virtual time. The
 * host's clock is asked once, at power-on, so that a replay needs no more; a guest that sets
 * the clock moves the base. Timers run only for interrupts that are enabled; flags that nobody
 * is interrupted for are found out when they are read. The alarm is looked up once a second.
 */
#include "device/rtc.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

enum rtc_register {
    RTC_SECONDS,
    RTC_SECONDS_ALARM,
    RTC_MINUTES,
    RTC_MINUTES_ALARM,
    RTC_HOURS,
    RTC_HOURS_ALARM,
    RTC_WEEKDAY,
    RTC_DAY,
    RTC_MONTH,
    RTC_YEAR,
    RTC_A,
    RTC_B,
    RTC_C,
    RTC_D,
    RTC_CENTURY = 0x32,
};

#define A_UIP        BIT(7)
#define A_DV         0x70
#define A_DV_RUN     0x20 /* the 32,768 Hz crystal */
#define A_RS         0x0f
#define B_SET        BIT(7)
#define B_PIE        BIT(6)
#define B_AIE        BIT(5)
#define B_UIE        BIT(4)
#define B_DM         BIT(2) /* binary */
#define B_24H        BIT(1)
#define C_IRQF       BIT(7)
#define C_PF         BIT(6)
#define C_AF         BIT(5)
#define C_UF         BIT(4)
#define D_VRT        BIT(7)
#define HOUR_PM      BIT(7)
#define ALARM_ANY(v) (((v)&0xc0) == 0xc0)

#define UIP_NS (8 * NS_PER_S / 32768) /* UIP rises eight ticks before the update */

struct rtc {
    struct device device;
    struct board *board;
    struct irq_line irq, nmi_mask;
    struct bus_region region;
    struct timer periodic, second;

    u8 index;
    u8 cmos[128]; /* the time registers are current only while B.SET stops the clock */
    s64 base_s;   /* seconds since 1970-01-01 at `base_ns` */
    u64 base_ns;  /* virtual; the second begins here */
    void (*set)(void *opaque, s64 offset); /* may be NULL */
    void *set_opaque;
    u64 periodic_at; /* virtual ns of the next periodic interrupt */
    u64 second_at;   /* virtual ns of the next update that sets UF, and AF maybe */
};

struct rtc_time {
    s64 year;                                           /* with the century */
    unsigned month, day, weekday, hour, minute, second; /* month 1..12, Sunday 1 */
};

/* -- Calendar: days are counted from 1970-01-01, in eras of 400 years of 146,097 days ------ */

/* Years begin in March here, so that the leap day is the last. */
static s64 days_from_date(s64 year, unsigned month, unsigned day)
{
    year -= month <= 2;
    s64 era = (year >= 0 ? year : year - 399) / 400;
    unsigned of_era = (unsigned)(year - era * 400);
    unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_from_days(s64 days, struct rtc_time *t)
{
    t->weekday = (unsigned)(((days + 4) % 7 + 7) % 7) + 1;
    days += 719468;
    s64 era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned of_era = (unsigned)(days - era * 146097);
    unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
    unsigned march = (5 * of_year + 2) / 153;
    t->day = of_year - (153 * march + 2) / 5 + 1;
    t->month = march < 10 ? march + 3 : march - 9;
    t->year = year + era * 400 + (t->month <= 2);
}

static struct rtc_time time_from_seconds(s64 seconds)
{
    s64 days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    struct rtc_time t = {.hour = (unsigned)rest / 3600,
                         .minute = (unsigned)rest / 60 % 60,
                         .second = (unsigned)rest % 60};
    date_from_days(days, &t);
    return t;
}

/* -- Register encoding --------------------------------------------------------------------- */

static u8 rtc_encode(const struct rtc *rtc, unsigned value)
{
    return (u8)(rtc->cmos[RTC_B] & B_DM ? value : value / 10 << 4 | value % 10);
}

static unsigned rtc_decode(const struct rtc *rtc, u8 value)
{
    return rtc->cmos[RTC_B] & B_DM ? value : (value >> 4) * 10u + (value & 15);
}

static u8 rtc_encode_hour(const struct rtc *rtc, unsigned hour)
{
    if (rtc->cmos[RTC_B] & B_24H)
        return rtc_encode(rtc, hour);
    unsigned twelve = hour % 12 ? hour % 12 : 12;
    return (u8)(rtc_encode(rtc, twelve) | (hour >= 12 ? HOUR_PM : 0));
}

static unsigned rtc_decode_hour(const struct rtc *rtc, u8 value)
{
    if (rtc->cmos[RTC_B] & B_24H)
        return rtc_decode(rtc, value);
    return rtc_decode(rtc, value & ~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* -- Time ---------------------------------------------------------------------------------- */

static u64 rtc_now(const struct rtc *rtc)
{
    return clock_now(&rtc->board->clock);
}

static s64 rtc_seconds(const struct rtc *rtc)
{
    return rtc->base_s + (s64)((rtc_now(rtc) - rtc->base_ns) / NS_PER_S);
}

/* PIIX calls the codes of other crystals, 00h and 10h, invalid: they count as the PC's. Those
 * above rest the divider or are for tests. */
static bool rtc_divider_runs(const struct rtc *rtc)
{
    return (rtc->cmos[RTC_A] & A_DV) <= A_DV_RUN;
}

static bool rtc_running(const struct rtc *rtc)
{
    return !(rtc->cmos[RTC_B] & B_SET) && rtc_divider_runs(rtc);
}

/* Writes the present time into the registers. */
static void rtc_show(struct rtc *rtc)
{
    struct rtc_time t = time_from_seconds(rtc_seconds(rtc));
    rtc->cmos[RTC_SECONDS] = rtc_encode(rtc, t.second);
    rtc->cmos[RTC_MINUTES] = rtc_encode(rtc, t.minute);
    rtc->cmos[RTC_HOURS] = rtc_encode_hour(rtc, t.hour);
    rtc->cmos[RTC_WEEKDAY] = rtc_encode(rtc, t.weekday);
    rtc->cmos[RTC_DAY] = rtc_encode(rtc, t.day);
    rtc->cmos[RTC_MONTH] = rtc_encode(rtc, t.month);
    rtc->cmos[RTC_YEAR] = rtc_encode(rtc, (unsigned)(t.year % 100));
    /* The century is the BIOS's byte, in BCD whatever DM says on most boards; here as DM says,
     * which is what Linux expects of it. */
    rtc->cmos[RTC_CENTURY] = rtc_encode(rtc, (unsigned)(t.year / 100 % 100));
}

/* Takes the time from the registers; the second begins now. */
static void rtc_take(struct rtc *rtc)
{
    unsigned month = rtc_decode(rtc, rtc->cmos[RTC_MONTH]);
    s64 year =
        rtc_decode(rtc, rtc->cmos[RTC_CENTURY]) * 100 + rtc_decode(rtc, rtc->cmos[RTC_YEAR]);
    s64 days = days_from_date(year, month >= 1 && month <= 12 ? month : 1,
                              rtc_decode(rtc, rtc->cmos[RTC_DAY]));
    rtc->base_s = days * 86400 + rtc_decode_hour(rtc, rtc->cmos[RTC_HOURS]) * 3600 +
                  rtc_decode(rtc, rtc->cmos[RTC_MINUTES]) * 60 +
                  rtc_decode(rtc, rtc->cmos[RTC_SECONDS]);
    rtc->base_ns = rtc_now(rtc);
    if (rtc->set)
        rtc->set(rtc->set_opaque, rtc->base_s - clock_wall(&rtc->board->clock));
}

/* -- Interrupts ---------------------------------------------------------------------------- */

static void rtc_update_irq(struct rtc *rtc)
{
    u8 *c = &rtc->cmos[RTC_C];
    /* The enables in B stand at the bits of their flags in C. */
    if (*c & rtc->cmos[RTC_B] & (C_PF | C_AF | C_UF))
        *c |= C_IRQF;
    else
        *c &= ~C_IRQF;
    irq_set(&rtc->irq, *c & C_IRQF);
}

/* Half the crystal's 65,536ths of a second: rate r is 2^(r-1) ticks of 32,768 Hz, rates 1 and 2
 * are as 8 and 9. */
static u64 rtc_period_ticks(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[RTC_A] & A_RS;
    if (!rate || !rtc_divider_runs(rtc))
        return 0;
    return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
}

/* The first multiple of the period after now, counted from the base as the divider does; far
 * away while the rate is 0 or the divider rests. */
static u64 rtc_next_period(const struct rtc *rtc)
{
    u64 ticks = rtc_period_ticks(rtc);
    if (!ticks)
        return UINT64_MAX;
    u64 done = clock_ticks(rtc_now(rtc) - rtc->base_ns, 32768);
    return rtc->base_ns + clock_ns((done / ticks + 1) * ticks, 32768);
}

/* A period that ended while no timer watched. */
static void rtc_latch_period(struct rtc *rtc)
{
    if (!rtc->periodic.armed && rtc_now(rtc) >= rtc->periodic_at)
        rtc->cmos[RTC_C] |= C_PF;
}

static void rtc_arm_periodic(struct rtc *rtc)
{
    rtc_latch_period(rtc);
    rtc->periodic_at = rtc_next_period(rtc);
    if (rtc->periodic_at != UINT64_MAX && (rtc->cmos[RTC_B] & B_PIE))
        timer_arm(&rtc->board->clock, &rtc->periodic, rtc->periodic_at);
    else
        timer_cancel(&rtc->board->clock, &rtc->periodic);
}

/* The digits of the time of day that an alarm names, lowest first. */
static const struct digit {
    u8 alarm;
    unsigned seconds, count; /* in one of it; of it */
    u8 (*encode)(const struct rtc *rtc, unsigned value);
    unsigned (*decode)(const struct rtc *rtc, u8 value);
} digits[] = {
    {RTC_SECONDS_ALARM, 1, 60, rtc_encode, rtc_decode},
    {RTC_MINUTES_ALARM, 60, 60, rtc_encode, rtc_decode},
    {RTC_HOURS_ALARM, 3600, 24, rtc_encode_hour, rtc_decode_hour},
};

/* Whether the alarm was met at one of the updates of the last `seconds`, the last of them just
 * now or less than a second ago. Each digit that the alarm names takes the latest time that
 * fits the digits below back to the latest that fits it, too. */
static bool rtc_alarm_met(const struct rtc *rtc, u64 seconds)
{
    s64 now = rtc_seconds(rtc) % 86400 + 2 * 86400; /* nothing below wants it negative */
    s64 met = now;
    for (unsigned i = 0; i < ARRAY_LEN(digits); i++) {
        const struct digit *d = &digits[i];
        u8 alarm = rtc->cmos[d->alarm];
        if (ALARM_ANY(alarm))
            continue;
        unsigned value = d->decode(rtc, alarm);
        if (value >= d->count || d->encode(rtc, value) != alarm)
            return false;
        s64 back = (met / d->seconds + d->count - value) % d->count;
        met -= back * d->seconds;
        for (const struct digit *below = digits; back && below < d; below++)
            if (ALARM_ANY(rtc->cmos[below->alarm]))
                met +=
                    (below->count - 1 - met / below->seconds % below->count) * below->seconds;
    }
    return (u64)(now - met) < seconds;
}

/* Updates that ended while no timer watched. */
static void rtc_latch_updates(struct rtc *rtc)
{
    if (rtc->second.armed || !rtc_running(rtc) || rtc_now(rtc) < rtc->second_at)
        return;
    u64 ended = (rtc_now(rtc) - rtc->second_at) / NS_PER_S + 1;
    rtc->cmos[RTC_C] |= C_UF | (rtc_alarm_met(rtc, ended) ? C_AF : 0);
    rtc->second_at += ended * NS_PER_S;
}

static void rtc_arm_second(struct rtc *rtc)
{
    u64 since = (rtc_now(rtc) - rtc->base_ns) % NS_PER_S;
    rtc->second_at = rtc_now(rtc) - since + NS_PER_S;
    if (rtc_running(rtc) && (rtc->cmos[RTC_B] & (B_AIE | B_UIE)))
        timer_arm(&rtc->board->clock, &rtc->second, rtc->second_at);
    else
        timer_cancel(&rtc->board->clock, &rtc->second);
}

static void rtc_fire_periodic(void *opaque)
{
    struct rtc *rtc = opaque;
    rtc->cmos[RTC_C] |= C_PF;
    rtc_arm_periodic(rtc);
    rtc_update_irq(rtc);
}

static void rtc_fire_second(void *opaque)
{
    struct rtc *rtc = opaque;
    rtc->cmos[RTC_C] |= C_UF;
    if (rtc_alarm_met(rtc, 1))
        rtc->cmos[RTC_C] |= C_AF;
    rtc_arm_second(rtc);
    rtc_update_irq(rtc);
}

/* -- Ports --------------------------------------------------------------------------------- */

static u8 rtc_read_a(const struct rtc *rtc)
{
    u8 a = rtc->cmos[RTC_A];
    u64 since = (rtc_now(rtc) - rtc->base_ns) % NS_PER_S;
    return (u8)(rtc_running(rtc) && since >= NS_PER_S - UIP_NS ? a | A_UIP : a);
}

/* Reading C takes its flags. They show even with their interrupts off, when no timer sets
 * them: software polls them so. */
static u8 rtc_read_c(struct rtc *rtc)
{
    rtc_latch_period(rtc);
    rtc_latch_updates(rtc);
    u8 c = rtc->cmos[RTC_C];
    if (!rtc->periodic.armed)
        rtc->periodic_at = rtc_next_period(rtc);
    rtc->cmos[RTC_C] = 0;
    rtc_update_irq(rtc);
    return c;
}

static bool rtc_is_time(u8 index)
{
    return index == RTC_SECONDS || index == RTC_MINUTES ||
           (index >= RTC_HOURS && index <= RTC_YEAR && index != RTC_HOURS_ALARM) ||
           index == RTC_CENTURY;
}

static u8 rtc_read_cmos(struct rtc *rtc, u8 index)
{
    if (index == RTC_A)
        return rtc_read_a(rtc);
    if (index == RTC_C)
        return rtc_read_c(rtc);
    if (rtc_is_time(index) && rtc_running(rtc))
        rtc_show(rtc);
    return rtc->cmos[index];
}

static void rtc_write_a(struct rtc *rtc, u8 value)
{
    bool ran = rtc_divider_runs(rtc), clock_ran = rtc_running(rtc);
    if (clock_ran)
        rtc_show(rtc);
    rtc->cmos[RTC_A] = value & (A_DV | A_RS);
    /* A divider let go starts its second anew; the first update comes half a second later (data
     * sheet, "divider control"). */
    if (!ran && rtc_divider_runs(rtc)) {
        rtc_take(rtc);
        rtc->base_ns -= NS_PER_S / 2;
    }
}

static void rtc_write_b(struct rtc *rtc, u8 value)
{
    bool ran = rtc_running(rtc);
    u64 phase = (rtc_now(rtc) - rtc->base_ns) % NS_PER_S;
    if (ran)
        rtc_show(rtc);
    if (value & B_SET)
        value &= ~B_UIE;
    u8 modes = (rtc->cmos[RTC_B] ^ value) & (B_DM | B_24H);
    rtc->cmos[RTC_B] = value;
    if (rtc_running(rtc) && !ran) {
        rtc_take(rtc);
        /* SET stops the registers, not the divider. */
        rtc->base_ns -= phase;
    } else if (ran && modes) {
        rtc_show(rtc);
    }
}

static void rtc_write_time(struct rtc *rtc, u8 index, u8 value)
{
    bool running = rtc_running(rtc);
    u64 phase = (rtc_now(rtc) - rtc->base_ns) % NS_PER_S;
    if (running)
        rtc_show(rtc);
    rtc->cmos[index] = value;
    if (running) {
        rtc_take(rtc);
        rtc->base_ns -= phase;
    }
}

static void rtc_write_cmos(struct rtc *rtc, u8 index, u8 value)
{
    rtc_latch_updates(rtc);
    switch (index) {
    case RTC_A:
        rtc_write_a(rtc, value);
        break;
    case RTC_B:
        rtc_write_b(rtc, value);
        break;
    case RTC_C:
    case RTC_D:
        return;
    default:
        if (rtc_is_time(index))
            rtc_write_time(rtc, index, value);
        else
            rtc->cmos[index] = value;
        return;
    }
    rtc_arm_periodic(rtc);
    rtc_arm_second(rtc);
    rtc_update_irq(rtc);
}

static u64 rtc_read(void *opaque, u64 offset, unsigned size)
{
    struct rtc *rtc = opaque;
    return offset ? rtc_read_cmos(rtc, rtc->index) : 0xff;
}

static void rtc_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct rtc *rtc = opaque;
    if (offset) {
        rtc_write_cmos(rtc, rtc->index, (u8)value);
        return;
    }
    rtc->index = value & 0x7f;
    irq_set(&rtc->nmi_mask, value & 0x80);
}

static const struct bus_ops rtc_ops = {rtc_read, rtc_write};

void rtc_set_cmos(struct rtc *rtc, u8 index, u8 value)
{
    ensure(index > RTC_D && index < sizeof(rtc->cmos));
    rtc->cmos[index] = value;
}

static void rtc_set_cmos16(struct rtc *rtc, u8 index, u64 value)
{
    rtc_set_cmos(rtc, index, (u8)value);
    rtc_set_cmos(rtc, index + 1, (u8)(value >> 8));
}

static u64 at_most(u64 value, u64 limit)
{
    return value < limit ? value : limit;
}

void rtc_set_memory(struct rtc *rtc, u64 below_4g, u64 above_4g)
{
    u64 extended = below_4g > MiB ? (below_4g - MiB) / KiB : 0;
    u64 above_16m = below_4g > 16 * MiB ? (below_4g - 16 * MiB) / (64 * KiB) : 0;
    rtc_set_cmos16(rtc, 0x15, 640);
    rtc_set_cmos16(rtc, 0x17, at_most(extended, 0xffff));
    rtc_set_cmos16(rtc, 0x30, at_most(extended, 0xffff));
    rtc_set_cmos16(rtc, 0x34, at_most(above_16m, 0xffff));
    rtc_set_cmos16(rtc, 0x5b, above_4g / (64 * KiB));
    rtc_set_cmos(rtc, 0x5d, (u8)(above_4g / (64 * KiB) >> 16));
}

/* The battery keeps time and memory; RESET clears enables and flags (data sheet, "RESET"). */
static void rtc_reset(void *device)
{
    struct rtc *rtc = device;
    rtc->cmos[RTC_B] &= ~(B_PIE | B_AIE | B_UIE);
    rtc->index = 0;
    rtc_arm_periodic(rtc);
    rtc_arm_second(rtc);
    rtc->cmos[RTC_C] = 0;
    rtc_update_irq(rtc);
}

static bool rtc_post_load(void *device)
{
    struct rtc *rtc = device;
    if (rtc->index > 0x7f || rtc->base_s > (s64)1 << 40 || rtc->base_s < -((s64)1 << 40) ||
        rtc_now(rtc) - rtc->base_ns > INT64_MAX) /* it may be before the clock began */
        return false;
    /* For the times that were saved: what has ended since the flags were last read counts. */
    timer_cancel(&rtc->board->clock, &rtc->periodic);
    timer_cancel(&rtc->board->clock, &rtc->second);
    if (rtc->periodic_at != UINT64_MAX && (rtc->cmos[RTC_B] & B_PIE))
        timer_arm(&rtc->board->clock, &rtc->periodic, rtc->periodic_at);
    if (rtc_running(rtc) && (rtc->cmos[RTC_B] & (B_AIE | B_UIE)))
        timer_arm(&rtc->board->clock, &rtc->second, rtc->second_at);
    rtc_update_irq(rtc);
    return true;
}

static void rtc_destroy(void *device)
{
    struct rtc *rtc = device;
    timer_cancel(&rtc->board->clock, &rtc->periodic);
    timer_cancel(&rtc->board->clock, &rtc->second);
    bus_remove(rtc->board, &rtc->region);
    free(rtc);
}

static const struct field rtc_fields[] = {
    FIELD(struct rtc, index),   FIELD_BLOB(struct rtc, cmos),   FIELD(struct rtc, base_s),
    FIELD(struct rtc, base_ns), FIELD(struct rtc, periodic_at), FIELD(struct rtc, second_at),
};

static const struct device_class rtc_class = {
    .name = "rtc",
    .version = 1,
    .fields = rtc_fields,
    .n_fields = ARRAY_LEN(rtc_fields),
    .reset = rtc_reset,
    .post_load = rtc_post_load,
    .destroy = rtc_destroy,
};

struct rtc *rtc_create(struct board *board, struct irq_line irq, struct irq_line nmi_mask)
{
    struct rtc *rtc = calloc(1, sizeof(*rtc));
    ensure(rtc);
    rtc->board = board;
    rtc->irq = irq;
    rtc->nmi_mask = nmi_mask;
    rtc->periodic = (struct timer){.fire = rtc_fire_periodic, .opaque = rtc};
    rtc->second = (struct timer){.fire = rtc_fire_second, .opaque = rtc};
    rtc->region = (struct bus_region){.name = "rtc",
                                      .ops = &rtc_ops,
                                      .opaque = rtc,
                                      .base = 0x70,
                                      .size = 2,
                                      .max_size = 1,
                                      .space = BUS_PIO};
    rtc->cmos[RTC_A] = A_DV_RUN | 6; /* 1,024 Hz */
    rtc->cmos[RTC_B] = B_24H;
    rtc->cmos[RTC_D] = D_VRT;
    rtc->base_ns = rtc_now(rtc);
    rtc->base_s = clock_wall(&board->clock);
    rtc->second_at = rtc->base_ns + NS_PER_S;
    bus_add(board, &rtc->region);
    device_add(board, &rtc->device, &rtc_class, rtc);
    rtc_reset(rtc);
    return rtc;
}

void rtc_watch(struct rtc *rtc, void (*set)(void *opaque, s64 offset), void *opaque)
{
    rtc->set = set;
    rtc->set_opaque = opaque;
}
