/* Promotion and demotion of address spaces, see policy.h. */
#include "engine/direct/policy.h"

/* What happens in a cell costs, us (measured, caches cold from the kernel's work). */
static const u8 costs[] = {[COST_STOP] = 10, [COST_MAPPING] = 35};

/* User time over which is judged, us. */
#define PROMOTE_WINDOW 2000
#define DEMOTE_WINDOW  3000
/* Charges that end a window in the cell however short it was, us. */
#define DEMOTE_CHARGES 1500
/* A new cell maps what the process uses. */
#define CREDIT 2500

/* Translated code saves 0.6 of its time by running directly; promotion asks for twice the
 * charges, so that a process on the edge does not go to and fro. Direct code would lose 1.5 of
 * its time under the translator. */
#define PROMOTE_FACTOR        3
#define DEMOTE_SHARE(charges) ((charges)*2 / 3)

#define BACKOFF     5000
#define MAX_BACKOFF 8

/* No stretch in a cell counts for more, us: the host may have run something else meanwhile, and
 * a cell may lie. */
#define MAX_STRETCH 1000

static void start_window(struct policy *p)
{
    p->user = 0;
    p->charges = 0;
}

void policy_demote(struct policy *p, u64 now, u64 tsc_hz)
{
    p->promoted = false;
    p->not_before = now + (tsc_hz / 1000000 * BACKOFF << p->backoff);
    if (p->backoff < MAX_BACKOFF)
        p->backoff++;
    start_window(p);
}

void policy_charge(struct policy *p, enum policy_cost cost, unsigned n)
{
    p->charges += (s64)n * costs[cost];
}

void policy_sample(struct policy *p, u64 us, bool user, u64 now, u64 tsc_hz)
{
    p->user += us;
    if (user && p->user < PROMOTE_WINDOW)
        return;
    p->promoted = user && now >= p->not_before && p->user > (u64)p->charges * PROMOTE_FACTOR;
    start_window(p);
    if (p->promoted)
        p->charges = -CREDIT;
}

void policy_direct(struct policy *p, u64 cycles, enum policy_cost cost, u64 now, u64 tsc_hz)
{
    u64 us = cycles / (tsc_hz / 1000000);
    p->user += us < MAX_STRETCH ? us : MAX_STRETCH;
    p->charges += costs[cost];
    if (p->user < DEMOTE_WINDOW && p->charges < DEMOTE_CHARGES)
        return;
    u64 lost = p->charges > 0 ? (u64)DEMOTE_SHARE(p->charges) : 0;
    if (p->user < lost)
        policy_demote(p, now, tsc_hz);
    else if (p->backoff && p->user > 4 * lost)
        p->backoff--;
    start_window(p);
}
