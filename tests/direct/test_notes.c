/* What the engine makes of what the translator tells it: who is promoted at a timer interrupt,
 * who rests and for how long, and where the vCPU's thread may run. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "../bt/fixture.h"
#include "engine/direct/direct.h"
#include "platform/vcpu.h"
#include "probe.h"

static void spin_us(unsigned us)
{
    clock_t end = clock() + (clock_t)us * (CLOCKS_PER_SEC / 1000000);
    while (clock() < end)
        ;
}

static void spin(unsigned ms)
{
    spin_us(ms * 1000);
}

/* A timer interrupts user code after 5 ms in which translated code entered the kernel so
 * often. */
static bool promoted_after(u32 calls, u64 cpl)
{
    struct guest *g = guest_create(&direct_engine, 1);
    struct x86_cpu *c = &g->vcpu->cpu;
    struct direct *d = direct_of(c);
    for (unsigned i = 0; i < 3; i++) {
        c->cpl = (u8)cpl;
        atomic_fetch_or(&c->attention, ATTN_INTR);
        d->watch.interrupted(&d->watch, c);
        *(u32 *)(uintptr_t)d->watch.calls += calls;
        spin(5);
    }
    bool promoted = d->space->policy.promoted;
    assert_int_equal(*d->watch.returns, promoted);
    atomic_fetch_and(&c->attention, ~(u32)ATTN_INTR);
    c->cpl = 0;
    guest_destroy(g);
    return promoted;
}

static void test_samples(void **state)
{
    assert_true(promoted_after(0, 3));
    assert_true(promoted_after(20, 3));
    assert_false(promoted_after(0, 0));
    /* Calls that were made since the last look count before the sample is judged. */
    assert_false(promoted_after(5000, 3));
}

static u64 virtual_now(void *opaque)
{
    return *(u64 *)opaque;
}

/* A rest of the present address space, with so many kernel entries each 100 us, and the vCPU at
 * that privilege whenever the timer looks: how long it lasts, us. */
static u64 rest_with(struct guest *g, unsigned calls, u8 cpl)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    struct direct *d = direct_of(c);
    u64 now = 0, us = 0;
    g->board.clock = (struct clock){.now = virtual_now, .opaque = &now};
    struct space *s = notes_space(d, c);
    s->policy = (struct policy){.promoted = true};
    notes_watch(d);
    assert_true(*d->watch.returns);
    rest_begin(d, s);
    assert_false(*d->watch.returns);
    while (d->rest.space && us < 100000) {
        *(u32 *)(uintptr_t)d->watch.calls += calls;
        spin_us(100);
        now += 100000;
        us += 100;
        c->cpl = cpl;
        clock_run(&g->board.clock);
        c->cpl = 0;
        d->watch.leaves(&d->watch, c);
    }
    assert_int_equal(*d->watch.returns, s->policy.promoted);
    assert_null(g->board.clock.first);
    return us;
}

/* Who entered the kernel in a burst goes back to its cell soon after; who goes on, or mostly is
 * in the kernel, is demoted. */
static void test_rest(void **state)
{
    struct guest *g = guest_create(&direct_engine, 1);
    struct direct *d = direct_of(&g->vcpu->cpu);
    assert_int_equal(rest_with(g, 0, 3), 100);
    assert_true(d->space->policy.promoted);
    assert_in_range(rest_with(g, 20, 3), 20000, 21000);
    assert_false(d->space->policy.promoted);
    assert_in_range(rest_with(g, 0, 0), 20000, 21000);
    assert_false(d->space->policy.promoted);
    guest_destroy(g);
}

/* The present process, promoted, rests; the clock is `now` from here on. */
static struct space *begin_rest(struct guest *g, u64 *now)
{
    struct direct *d = direct_of(&g->vcpu->cpu);
    g->board.clock = (struct clock){.now = virtual_now, .opaque = now};
    struct space *s = notes_space(d, &g->vcpu->cpu);
    s->policy = (struct policy){.promoted = true};
    rest_begin(d, s);
    return s;
}

/* A vCPU that gets no processor shows nothing that its process could be demoted for. */
static void test_starved(void **state)
{
    struct guest *g = guest_create(&direct_engine, 1);
    struct x86_cpu *c = &g->vcpu->cpu;
    struct direct *d = direct_of(c);
    u64 now = 0;
    struct space *s = begin_rest(g, &now);
    for (; g->board.clock.first && now < 1000000000; now += 10000000)
        clock_run(&g->board.clock);
    d->watch.leaves(&d->watch, c);
    assert_null(d->rest.space);
    assert_true(s->policy.promoted);
    guest_destroy(g);
}

/* A process that got the CR3 of one that rested is judged by what it does itself. */
static void test_successor(void **state)
{
    struct guest *g = guest_create(&direct_engine, 1);
    struct x86_cpu *c = &g->vcpu->cpu;
    struct direct *d = direct_of(c);
    u64 now = 0;
    struct space *s = begin_rest(g, &now);
    s->print++;
    d->space = NULL;
    assert_ptr_equal(notes_space(d, c), s);
    assert_false(s->policy.promoted);
    s->policy.promoted = true;
    notes_watch(d);
    assert_true(*d->watch.returns);
    for (; g->board.clock.first && now < 100000000; now += 100000) {
        spin_us(100);
        clock_run(&g->board.clock);
    }
    d->watch.leaves(&d->watch, c);
    assert_true(s->policy.promoted);
    assert_int_equal(s->policy.rested, 0);
    guest_destroy(g);
}

static int processors(void)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    return CPU_COUNT(&set);
}

/* The thread is on one processor only while cells run. */
static void test_pinned(void **state)
{
    int before = processors();
    struct guest *g = guest_create(&direct_engine, 1);
    struct direct *d = direct_of(&g->vcpu->cpu);
    cpu_set_t one;
    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof(d->pin.allowed), (cpu_set_t *)d->pin.allowed);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one); /* as when a cell runs */
    d->pin.on = true;
    d->pin.used = __builtin_ia32_rdtsc();
    notes_unpin(d, 1000000000);
    assert_int_equal(processors(), 1);
    guest_destroy(g); /* detaching lets go of it */
    assert_int_equal(processors(), before);
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples), cmocka_unit_test(test_rest),
        cmocka_unit_test(test_starved), cmocka_unit_test(test_successor),
        cmocka_unit_test(test_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
