/*
 * Rests: user code with a cell stays under the translator while it enters the kernel in a
 * burst, see policy.h. A guest's timer interrupts it too seldom to notice the burst's end.
 */
#include "engine/direct/direct.h"

#include "base/ensure.h"
#include "base/time.h"

static void arm(struct direct *d)
{
    struct rest *rest = &d->rest;
    struct clock *clock = &d->vcpu->board->clock;
    rest->period = policy_rest(rest->rested);
    rest->calls = __atomic_load_n(d->watch.calls, __ATOMIC_RELAXED);
    rest->used = time_read(rest->clock);
    timer_arm(clock, &rest->timer, clock_now(clock) + (u64)rest->period * NS_PER_US);
}

/* Has it run for a quarter of the period? On a loaded host it may get no processor for tens of
 * milliseconds: it then shows what it happened to do as it lost it, and no kernel entries. */
static bool has_run(const struct rest *rest)
{
    return time_read(rest->clock) - rest->used >= (u64)rest->period * NS_PER_US / 4;
}

/* Looks at another thread's processor as it runs: one look may be wrong, all of them are
 * not. */
static enum rest_sight sight(const struct direct *d)
{
    const struct x86_cpu *c = &d->vcpu->cpu;
    if (__atomic_load_n(&c->activity, __ATOMIC_RELAXED) != CPU_RUNNING || !has_run(&d->rest))
        return SIGHT_IDLE;
    const struct space *space = __atomic_load_n(&d->rest.space, __ATOMIC_RELAXED);
    bool here = space && __atomic_load_n(&d->space, __ATOMIC_RELAXED) == space;
    return here && __atomic_load_n(&c->cpl, __ATOMIC_RELAXED) == 3 ? SIGHT_USER : SIGHT_OTHER;
}

static void judge(void *opaque)
{
    struct direct *d = opaque;
    struct rest *rest = &d->rest;
    u32 calls = __atomic_load_n(d->watch.calls, __ATOMIC_RELAXED) - rest->calls;
    u64 charges = atomic_exchange(&rest->charges, 0) + policy_cost(COST_STOP, calls);
    u32 verdict =
        policy_judge_rest(&rest->tally, &rest->rested, rest->period, charges, sight(d));
    if (verdict == REST_GOES_ON) {
        arm(d);
        return;
    }
    /* The kick makes it look at the word. */
    atomic_store(&rest->verdict, verdict);
    bt_engine.kick(d->vcpu);
}

void rest_make(struct direct *d)
{
    d->rest.timer = (struct timer){.fire = judge, .opaque = d};
    ensure(!pthread_getcpuclockid(pthread_self(), &d->rest.clock));
}

void rest_begin(struct direct *d, struct space *s)
{
    struct rest *rest = &d->rest;
    struct board *board = d->vcpu->board;
    board_lock(board);
    timer_cancel(&board->clock, &rest->timer);
    atomic_store(&rest->verdict, REST_GOES_ON);
    atomic_store(&rest->charges, 0);
    rest->space = s;
    rest->rested = s->policy.rested;
    rest->tally = (struct rest_tally){0};
    arm(d);
    board_unlock(board);
    s->expected.due = false;
    d->stats.rests++;
    notes_watch(d);
}

void rest_stop(struct direct *d)
{
    struct board *board = d->vcpu->board;
    board_lock(board);
    timer_cancel(&board->clock, &d->rest.timer);
    board_unlock(board);
}
