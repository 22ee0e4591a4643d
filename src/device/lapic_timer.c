/*
 * The local APIC's timer (Intel SDM vol. 3, 10.5.4). The count is a function of virtual time,
 * and only expiries that can interrupt arm a timer: a masked periodic timer costs nothing.
 */
#include "device/lapic_state.h"

/* Periodic interrupts come no faster: the guest could not follow, the host would spin. The
 * count register is not affected. */
#define LAPIC_MIN_PERIOD_NS 20000

static enum lapic_timer_mode lapic_timer_mode(const struct lapic *lapic)
{
    return (enum lapic_timer_mode)(lapic->lvt[LVT_TIMER] >> 17 & 3);
}

/* Divide configuration register bits 3, 1, 0: 0 divides by 2, 6 by 128, 7 by 1. */
static unsigned lapic_timer_shift(const struct lapic *lapic)
{
    unsigned code = (lapic->divide & 3) | (lapic->divide >> 1 & 4);
    return (code + 1) & 7;
}

/* Bus clocks are nanoseconds: LAPIC_BUS_HZ is 1 GHz. */
static u64 lapic_timer_period(const struct lapic *lapic)
{
    return (u64)lapic->initial_count << lapic_timer_shift(lapic);
}

static u64 lapic_host_tsc(const struct lapic *lapic)
{
    return lapic->vcpu->cpu.ops->tsc(&lapic->vcpu->cpu);
}

/* Virtual time of a guest TSC value, not before now. */
static u64 lapic_tsc_to_ns(const struct lapic *lapic, u64 deadline)
{
    u64 now = clock_now(&lapic->board->clock);
    u64 tsc = lapic_host_tsc(lapic) + lapic->tsc_offset;
    if (tsc >= deadline)
        return now;
    u64 ns = clock_ns(deadline - tsc, lapic->board->tsc_hz);
    return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

static bool lapic_timer_deadline_at(const struct lapic *lapic, u64 *deadline)
{
    u64 now = clock_now(&lapic->board->clock);
    u64 period = lapic->timer_runs ? lapic_timer_period(lapic) : 0;
    switch (lapic_timer_mode(lapic)) {
    case TIMER_ONE_SHOT:
        *deadline = lapic->timer_start + period;
        return period && *deadline > now;
    case TIMER_PERIODIC:
        if (!period || (lapic->lvt[LVT_TIMER] & LVT_MASKED))
            return false;
        *deadline = now + period - (now - lapic->timer_start) % period;
        if (*deadline < now + LAPIC_MIN_PERIOD_NS && period < LAPIC_MIN_PERIOD_NS)
            *deadline = now + LAPIC_MIN_PERIOD_NS;
        return true;
    case TIMER_TSC_DEADLINE:
        if (!lapic->tsc_deadline)
            return false;
        *deadline = lapic_tsc_to_ns(lapic, lapic->tsc_deadline);
        return true;
    default:
        return false;
    }
}

void lapic_timer_arm(struct lapic *lapic)
{
    u64 deadline;
    if (lapic_timer_deadline_at(lapic, &deadline))
        timer_arm(&lapic->board->clock, &lapic->timer, deadline);
    else
        timer_cancel(&lapic->board->clock, &lapic->timer);
}

static void lapic_timer_fire(void *opaque)
{
    struct lapic *lapic = opaque;
    if (lapic_timer_mode(lapic) == TIMER_TSC_DEADLINE) {
        /* Virtual time and TSC may run apart by a few parts in a million. */
        if (lapic_host_tsc(lapic) + lapic->tsc_offset < lapic->tsc_deadline) {
            lapic_timer_arm(lapic);
            return;
        }
        lapic->tsc_deadline = 0;
    } else if (lapic_timer_mode(lapic) == TIMER_PERIODIC) {
        lapic_timer_arm(lapic);
    }
    struct vcpu *vcpu = lapic->vcpu;
    if (vcpu->pv_ops)
        vcpu->pv_ops->tick(vcpu->pv);
    lapic_local(lapic, LVT_TIMER);
}

void lapic_timer_init(struct lapic *lapic)
{
    lapic->timer = (struct timer){.fire = lapic_timer_fire, .opaque = lapic};
}

/* Lets an expiry that is due happen before registers change. */
static void timer_sync(struct lapic *lapic)
{
    if (!lapic->timer.armed || lapic->timer.deadline > clock_now(&lapic->board->clock))
        return;
    timer_cancel(&lapic->board->clock, &lapic->timer);
    lapic_timer_fire(lapic);
}

/* Makes the start that of the present count, for another mode to go on from there: a count
 * that has reached zero stays there, a periodic one is not loaded anew (10.5.4). */
static void lapic_timer_settle(struct lapic *lapic)
{
    u64 period = lapic_timer_period(lapic);
    u64 elapsed = clock_now(&lapic->board->clock) - lapic->timer_start;
    if (!period || elapsed < period)
        return;
    if (lapic_timer_mode(lapic) == TIMER_PERIODIC)
        lapic->timer_start += elapsed - elapsed % period;
    else
        lapic->timer_runs = false;
}

void lapic_timer_set_lvt(struct lapic *lapic, u32 value)
{
    timer_sync(lapic);
    enum lapic_timer_mode old = lapic_timer_mode(lapic);
    lapic_timer_settle(lapic);
    lapic->lvt[LVT_TIMER] = value;
    enum lapic_timer_mode now = lapic_timer_mode(lapic);
    /* Into and out of TSC-deadline mode disarms (10.5.4.1). */
    if ((old == TIMER_TSC_DEADLINE) != (now == TIMER_TSC_DEADLINE)) {
        lapic->tsc_deadline = 0;
        lapic->initial_count = 0;
    }
    lapic_timer_arm(lapic);
}

void lapic_timer_set_count(struct lapic *lapic, u32 value)
{
    if (lapic_timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    timer_sync(lapic);
    lapic->initial_count = value;
    lapic->timer_start = clock_now(&lapic->board->clock);
    lapic->timer_runs = true;
    lapic_timer_arm(lapic);
}

u32 lapic_timer_count(const struct lapic *lapic)
{
    u64 period = lapic_timer_period(lapic);
    if (!period || !lapic->timer_runs || lapic_timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return 0;
    u64 elapsed = clock_now(&lapic->board->clock) - lapic->timer_start;
    if (lapic_timer_mode(lapic) == TIMER_PERIODIC)
        elapsed %= period;
    else if (elapsed >= period)
        return 0;
    return lapic->initial_count - (u32)(elapsed >> lapic_timer_shift(lapic));
}

void lapic_timer_set_divide(struct lapic *lapic, u32 value)
{
    timer_sync(lapic);
    /* The count goes on from where it is, at the new pace. */
    u64 done = lapic->initial_count - lapic_timer_count(lapic);
    lapic->divide = value;
    lapic->timer_start = clock_now(&lapic->board->clock) - (done << lapic_timer_shift(lapic));
    lapic_timer_arm(lapic);
}

u64 lapic_timer_deadline(const struct lapic *lapic)
{
    return lapic_timer_mode(lapic) == TIMER_TSC_DEADLINE ? lapic->tsc_deadline : 0;
}

void lapic_timer_set_deadline(struct lapic *lapic, u64 deadline)
{
    if (lapic_timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->tsc_deadline = deadline;
    lapic->tsc_offset = lapic->vcpu->cpu.tsc_offset;
    lapic_timer_arm(lapic);
    timer_sync(lapic); /* a deadline that is past interrupts at once */
}
