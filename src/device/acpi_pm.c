/* ACPI fixed hardware, see acpi_pm.h. Bit names are those of ACPI 6.4, 4.8.3. */
#include "device/acpi_pm.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

#define TMR_STS      BIT(0)
#define GBL_STS      BIT(5)
#define PWRBTN_STS   BIT(8)
#define RTC_STS      BIT(10)
#define WAK_STS      BIT(15)
#define PM1_STS_ALL  (TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS | WAK_STS)
#define PM1_EN_ALL   (TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS)
#define SCI_EN       BIT(0)
#define BM_RLD       BIT(1)
#define SLP_TYP(cnt) ((cnt) >> 10 & 7)
#define SLP_EN       BIT(13)

/* Registers as 16-bit words from the base; the timer lies between. */
enum { WORD_PM1_STS = 0, WORD_PM1_EN = 1, WORD_PM1_CNT = 2, WORD_GPE_STS = 6, WORD_GPE_EN = 7 };

struct acpi_pm {
    struct device device;
    struct board *board;
    struct irq_line sci;
    struct bus_region registers, timer_region;
    struct timer timer;

    u16 sts, en, cnt;
    u16 gpe_sts, gpe_en;
    bool asleep;
    u64 carry; /* how often bit 31 of the timer has changed, as far as TMR_STS knows */
};

static u64 acpi_pm_ticks(const struct acpi_pm *pm)
{
    return clock_ticks(clock_now(&pm->board->clock), ACPI_PM_TIMER_HZ);
}

/* TMR_STS follows each change of the timer's highest bit; the host's timer runs only where it
 * interrupts. */
static void acpi_pm_carry(struct acpi_pm *pm)
{
    u64 carry = acpi_pm_ticks(pm) >> 31;
    if (carry != pm->carry)
        pm->sts |= TMR_STS;
    pm->carry = carry;
    if (pm->en & TMR_STS)
        timer_arm(&pm->board->clock, &pm->timer, clock_ns((carry + 1) << 31, ACPI_PM_TIMER_HZ));
    else
        timer_cancel(&pm->board->clock, &pm->timer);
}

static void acpi_pm_update(struct acpi_pm *pm)
{
    bool up = (pm->sts & pm->en) || (pm->gpe_sts & pm->gpe_en);
    irq_set(&pm->sci, up);
    if (up && pm->asleep) {
        pm->asleep = false;
        board_ask(pm->board, BOARD_WAKE, 0);
    }
}

static void acpi_pm_fire(void *opaque)
{
    struct acpi_pm *pm = opaque;
    acpi_pm_carry(pm);
    acpi_pm_update(pm);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pm->sts |= PWRBTN_STS;
    acpi_pm_update(pm);
}

static void acpi_pm_rtc(void *opaque, unsigned n, bool level)
{
    struct acpi_pm *pm = opaque;
    if (level)
        pm->sts |= RTC_STS;
    acpi_pm_update(pm);
}

struct irq_line acpi_pm_rtc_line(struct acpi_pm *pm)
{
    return (struct irq_line){acpi_pm_rtc, pm, 0};
}

void acpi_pm_slept(struct acpi_pm *pm)
{
    pm->asleep = true;
    acpi_pm_update(pm);
}

void acpi_pm_woken(struct acpi_pm *pm)
{
    pm->sts |= WAK_STS;
}

void acpi_pm_gpe(struct acpi_pm *pm, unsigned n)
{
    ensure(n < 16);
    pm->gpe_sts |= BIT(n);
    acpi_pm_update(pm);
}

static void acpi_pm_write_cnt(struct acpi_pm *pm, u16 value)
{
    pm->cnt = value & (BM_RLD | 7u << 10);
    if (!(value & SLP_EN))
        return;
    if (SLP_TYP(value) == ACPI_SLP_TYP_S5) {
        board_ask(pm->board, BOARD_POWER_OFF, 0);
    } else if (SLP_TYP(value) == ACPI_SLP_TYP_S3) {
        board_ask(pm->board, BOARD_SLEEP, 0);
    } else {
        log_to(pm->board->log, LOG_GUEST_ERRORS, "acpi: sleep type %u does not exist",
               (unsigned)SLP_TYP(value));
    }
}

static u16 acpi_pm_read_word(const struct acpi_pm *pm, unsigned word)
{
    switch (word) {
    case WORD_PM1_STS:
        return pm->sts;
    case WORD_PM1_EN:
        return pm->en;
    case WORD_PM1_CNT:
        return pm->cnt | SCI_EN;
    case WORD_GPE_STS:
        return pm->gpe_sts;
    case WORD_GPE_EN:
        return pm->gpe_en;
    default:
        return 0;
    }
}

/* `value` holds the bytes that are written at their place; `mask` says which. */
static void acpi_pm_write_word(struct acpi_pm *pm, unsigned word, u16 value, u16 mask)
{
    switch (word) {
    case WORD_PM1_STS: /* write one to clear */
        pm->sts &= ~value;
        break;
    case WORD_PM1_EN:
        pm->en = ((pm->en & ~mask) | value) & PM1_EN_ALL;
        acpi_pm_carry(pm);
        break;
    case WORD_PM1_CNT:
        acpi_pm_write_cnt(pm, (u16)((pm->cnt & ~mask) | value));
        break;
    case WORD_GPE_STS:
        pm->gpe_sts &= ~value;
        break;
    case WORD_GPE_EN:
        pm->gpe_en = (u16)((pm->gpe_en & ~mask) | value);
        break;
    }
}

static u64 acpi_pm_read(void *opaque, u64 offset, unsigned size)
{
    struct acpi_pm *pm = opaque;
    acpi_pm_carry(pm);
    acpi_pm_update(pm);
    return acpi_pm_read_word(pm, (unsigned)offset / 2) >> (offset & 1 ? 8 : 0);
}

static void acpi_pm_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct acpi_pm *pm = opaque;
    unsigned shift = offset & 1 ? 8 : 0;
    acpi_pm_carry(pm);
    acpi_pm_write_word(pm, (unsigned)offset / 2, (u16)(value << shift), (u16)(0xff << shift));
    acpi_pm_update(pm);
}

static const struct bus_ops acpi_pm_ops = {acpi_pm_read, acpi_pm_write};

/* Its own region, for a read must be of one moment, whereas the words above go by bytes. */
static u64 acpi_pm_timer_read(void *opaque, u64 offset, unsigned size)
{
    const struct acpi_pm *pm = opaque;
    return (acpi_pm_ticks(pm) & 0xffffffff) >> 8 * offset;
}

static const struct bus_ops acpi_pm_timer_ops = {.read = acpi_pm_timer_read};

static void acpi_pm_reset(void *device)
{
    struct acpi_pm *pm = device;
    pm->sts = pm->en = pm->cnt = pm->gpe_sts = pm->gpe_en = 0;
    pm->asleep = false;
    pm->carry = acpi_pm_ticks(pm) >> 31;
    acpi_pm_carry(pm);
    acpi_pm_update(pm);
}

static bool acpi_pm_post_load(void *device)
{
    struct acpi_pm *pm = device;
    if ((pm->sts & ~PM1_STS_ALL) || (pm->en & ~PM1_EN_ALL))
        return false;
    acpi_pm_carry(pm);
    acpi_pm_update(pm);
    return true;
}

static void acpi_pm_destroy(void *device)
{
    struct acpi_pm *pm = device;
    timer_cancel(&pm->board->clock, &pm->timer);
    acpi_pm_place(pm, 0);
    free(pm);
}

void acpi_pm_place(struct acpi_pm *pm, u16 base)
{
    u16 before = acpi_pm_base(pm);
    if (base == before)
        return;
    if (before) {
        bus_remove(pm->board, &pm->registers);
        bus_remove(pm->board, &pm->timer_region);
    }
    pm->registers.base = base;
    pm->timer_region.base = base + (ACPI_PM_TMR - ACPI_PM_BASE);
    if (base) {
        bus_add(pm->board, &pm->registers);
        bus_add(pm->board, &pm->timer_region);
    }
}

u16 acpi_pm_base(const struct acpi_pm *pm)
{
    return (u16)pm->registers.base;
}

static const struct field acpi_pm_fields[] = {
    FIELD(struct acpi_pm, sts),     FIELD(struct acpi_pm, en),     FIELD(struct acpi_pm, cnt),
    FIELD(struct acpi_pm, gpe_sts), FIELD(struct acpi_pm, gpe_en), FIELD(struct acpi_pm, carry),
    FIELD(struct acpi_pm, asleep),
};

static const struct device_class acpi_pm_class = {
    .name = "acpi-pm",
    .version = 2,
    .fields = acpi_pm_fields,
    .n_fields = ARRAY_LEN(acpi_pm_fields),
    .reset = acpi_pm_reset,
    .post_load = acpi_pm_post_load,
    .destroy = acpi_pm_destroy,
};

struct acpi_pm *acpi_pm_create(struct board *board, struct irq_line sci)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));
    ensure(pm);
    pm->board = board;
    pm->sci = sci;
    pm->timer = (struct timer){.fire = acpi_pm_fire, .opaque = pm};
    pm->registers = (struct bus_region){.name = "acpi-pm",
                                        .ops = &acpi_pm_ops,
                                        .opaque = pm,
                                        .base = ACPI_PM_BASE,
                                        .size = 16,
                                        .max_size = 1,
                                        .space = BUS_PIO};
    pm->timer_region = (struct bus_region){.name = "acpi-pm-timer",
                                           .ops = &acpi_pm_timer_ops,
                                           .opaque = pm,
                                           .base = ACPI_PM_TMR,
                                           .size = 4,
                                           .max_size = 4,
                                           .space = BUS_PIO};
    bus_add(board, &pm->registers);
    bus_add(board, &pm->timer_region);
    device_add(board, &pm->device, &acpi_pm_class, pm);
    acpi_pm_reset(pm);
    return pm;
}
