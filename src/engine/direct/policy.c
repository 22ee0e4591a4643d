/* Promotion, rests and demotion of address spaces, see policy.h. */
#include "engine/direct/policy.h"

/* What happens in a cell costs more than under the translator, us (measured: null_calls,
 * touch_memory and pipe_ping_pong of the bench with always=on). */
static const u8 costs[] = {[COST_STOP] = 11, [COST_MAPPING] = 33, [COST_SWITCH] = 9};

/* User time over which is judged, us. */
#define PROMOTE_WINDOW 2000
#define MAX_SAMPLE     10000
/* A new cell maps what the process uses. */
#define CREDIT 2500

/* Translated code saves more than half of its time by running directly; promotion asks for
 * twice the charges, so that a process on the edge does not go to and fro. Direct code would
 * lose 1 (numeric kernels) to 3.5 (compilers, interpreters) of its time under the translator.
 */
#define PROMOTE_FACTOR  3
#define DIRECT_GAIN(us) ((us)*5 / 4)
#define REST_GAIN(us)   ((us)*3 / 10)

/* What the host itself does within a stretch, resuming and stopping, us. */
#define OVERHEAD 3
/* No stretch in a cell counts for more, us: the host may have run something else meanwhile, and
 * a cell may lie. */
#define MAX_STRETCH 1000

/* A balance between the two is normal, us: what is gained by a long stretch pays for a few
 * short ones only, so that a burst of them is noticed. */
#define BALANCE 100
/* So much user code without a rest shows that the cell pays, us. */
#define PROFIT 3000

/* What a cell may lose before it is given up, and how much it may have gained before, us:
 * bursts that rests end are paid for by what lies between them, or not. */
#define MAX_LOSS 5000
#define MAX_NET  10000

#define MIN_REST 100
#define MAX_REST 800
#define HOPELESS 20000
/* A vCPU that sleeps is asked so many times, then no more. */
#define MAX_IDLE 8

#define BACKOFF     5000
#define MAX_BACKOFF 8

u64 policy_cost(enum policy_cost cost, unsigned n)
{
    return (u64)n * costs[cost];
}

static void start_window(struct policy *p)
{
    p->user = 0;
    p->charges = 0;
}

void policy_demote(struct policy *p, u64 now, u64 tsc_hz)
{
    p->promoted = false;
    p->rested = 0;
    p->net = 0;
    p->not_before = now + (tsc_hz / 1000000 * BACKOFF << p->backoff);
    if (p->backoff < MAX_BACKOFF)
        p->backoff++;
    start_window(p);
}

void policy_charge(struct policy *p, u64 us)
{
    p->charges += us;
}

void policy_sample(struct policy *p, u64 us, u64 now, u64 tsc_hz)
{
    p->user += us < MAX_SAMPLE ? us : MAX_SAMPLE;
    if (p->user < PROMOTE_WINDOW)
        return;
    p->promoted = now >= p->not_before && p->user > p->charges * PROMOTE_FACTOR;
    start_window(p);
    p->balance = p->backoff ? BALANCE : CREDIT; /* it may have its cell still */
}

static void profit(struct policy *p)
{
    p->user = 0;
    p->rested = 0;
    if (p->backoff)
        p->backoff--;
}

void policy_switch(struct policy *p)
{
    p->balance -= costs[COST_SWITCH];
}

bool policy_direct(struct policy *p, u64 cycles, u64 charge, u64 tsc_hz)
{
    u64 us = cycles / (tsc_hz / 1000000);
    us = us < OVERHEAD ? 0 : us > MAX_STRETCH ? MAX_STRETCH : us - OVERHEAD;
    p->balance -= (s64)charge;
    p->net += (s64)DIRECT_GAIN(us) - (s64)charge;
    p->net = p->net < MAX_NET ? p->net : MAX_NET;
    if (p->balance < BALANCE) {
        p->balance += (s64)DIRECT_GAIN(us);
        p->balance = p->balance < BALANCE ? p->balance : BALANCE;
    }
    p->user += us;
    if (p->user >= PROFIT)
        profit(p);
    if (p->balance > -BALANCE)
        return false;
    p->balance = 0;
    p->user = 0;
    return true;
}

bool policy_is_lost(const struct policy *p)
{
    return p->net < -MAX_LOSS;
}

u32 policy_rest(u32 rested)
{
    u32 us = rested / 2;
    return us < MIN_REST ? MIN_REST : us > MAX_REST ? MAX_REST : us;
}

enum rest_verdict policy_judge_rest(struct rest_tally *tally, u32 *rested, u32 us, u64 charges,
                                    enum rest_sight sight)
{
    /* A burst counts for little more than what a cell gains, so that its end shows soon. */
    u64 most = REST_GAIN((u64)us) * 4 / 3;
    tally->charges = tally->charges * 3 / 4 + (u32)(charges < most ? charges : most);
    if (sight == SIGHT_IDLE)
        return ++tally->idle < MAX_IDLE ? REST_GOES_ON : REST_OVER;
    tally->idle = 0;
    tally->user = tally->user * 3 / 4 + (sight == SIGHT_USER ? us : 0);
    *rested += us;
    if (tally->user && tally->charges <= REST_GAIN((u64)tally->user))
        return REST_OVER;
    return *rested < HOPELESS ? REST_GOES_ON : REST_HOPELESS;
}
