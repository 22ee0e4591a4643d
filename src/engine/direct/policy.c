/* Promotion and demotion of address spaces, see policy.h. */
#include "engine/direct/policy.h"

/* Microseconds. A stretch must last so long on average: at the translator's speed to be
 * promoted, at the processor's own not to be demoted. Between the two lies the hysteresis. */
#define PROMOTE_STRETCH 30
#define DEMOTE_STRETCH  9 /* 2.3 of them are the signal */
/* Of user time, over which is judged. */
#define PROMOTE_WINDOW 2000
#define DEMOTE_WINDOW  3000
/* Stops that end a window in the cell, however short they were. */
#define DEMOTE_STOPS 400
#define BACKOFF      20000
#define MAX_BACKOFF  8

static void start_window(struct policy *p)
{
    p->user = p->entries = 0;
}

void policy_demote(struct policy *p, u64 now, u64 tsc_hz)
{
    p->promoted = false;
    p->not_before = now + (tsc_hz / 1000000 * BACKOFF << p->backoff);
    if (p->backoff < MAX_BACKOFF)
        p->backoff++;
    start_window(p);
}

void policy_stretch(struct policy *p, u64 cycles, bool entry, u64 now, u64 tsc_hz)
{
    u64 us = tsc_hz / 1000000;
    p->user += cycles;
    p->entries += entry;
    if (p->promoted) {
        if (p->user < DEMOTE_WINDOW * us && p->entries < DEMOTE_STOPS)
            return;
        if (p->user < p->entries * DEMOTE_STRETCH * us)
            policy_demote(p, now, tsc_hz);
        else if (p->backoff && p->user > p->entries * PROMOTE_STRETCH * us)
            p->backoff--;
    } else {
        if (p->user < PROMOTE_WINDOW * us || now < p->not_before)
            return;
        p->promoted = p->user > p->entries * PROMOTE_STRETCH * us;
    }
    start_window(p);
}
