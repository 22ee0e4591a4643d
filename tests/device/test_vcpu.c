/* Attention, waiting and cross-vCPU work, with real threads. */
#include "fixture.h"

#include <sched.h>
#include <unistd.h>

#define CPUS   4
#define ROUNDS 3000

static void *waiter(void *opaque)
{
    struct vcpu *vcpu = opaque;
    for (unsigned i = 0; i < ROUNDS; i++) {
        vcpu_wait(vcpu, ATTN_INTR);
        vcpu_clear(vcpu, ATTN_INTR);
        vcpu_signal(vcpu->board->vcpus[1], ATTN_INTR);
    }
    return NULL;
}

/* Each signal answers the last: one lost wake-up and nobody goes on. */
static void test_no_lost_wake_up(void **state)
{
    struct fixture *f = fixture_create(2);
    pthread_t thread;
    alarm(600);
    pthread_create(&thread, NULL, waiter, f->vcpus[0]);
    for (unsigned i = 0; i < ROUNDS; i++) {
        vcpu_signal(f->vcpus[0], ATTN_INTR);
        vcpu_wait(f->vcpus[1], ATTN_INTR);
        vcpu_clear(f->vcpus[1], ATTN_INTR);
    }
    pthread_join(thread, NULL);
    alarm(0);
    fixture_destroy(f);
}

static void test_wait_looks_at_its_mask(void **state)
{
    struct fixture *f = fixture_create(1);
    vcpu_signal(f->vcpus[0], ATTN_KICK);
    vcpu_wait(f->vcpus[0], ATTN_KICK | ATTN_NMI); /* returns */
    assert_int_equal(atomic_load(&f->vcpus[0]->cpu.attention), ATTN_KICK);
    fixture_destroy(f);
}

static void kick(struct vcpu *vcpu)
{
    (*(unsigned *)vcpu->engine_state)++;
}

static void test_kick_only_inside(void **state)
{
    struct fixture *f = fixture_create(1);
    unsigned kicks = 0;
    f->vcpus[0]->kick = kick;
    f->vcpus[0]->engine_state = &kicks;
    vcpu_signal(f->vcpus[0], ATTN_NMI);
    assert_int_equal(kicks, 0);
    vcpu_clear(f->vcpus[0], ATTN_NMI);
    vcpu_enter_guest(f->vcpus[0]);
    vcpu_signal(f->vcpus[0], ATTN_NMI);
    assert_int_equal(kicks, 1);
    vcpu_signal(f->vcpus[0], ATTN_NMI); /* was up: once is enough */
    assert_int_equal(kicks, 1);
    vcpu_leave_guest(f->vcpus[0]);
    fixture_destroy(f);
}

/* What work runs on: it must never see its target inside guest code. */
struct runner {
    struct vcpu *vcpu;
    _Atomic bool *stop;
    _Atomic u64 done;     /* work items run for this vCPU */
    _Atomic bool running; /* "guest code", by the thread itself */
    _Atomic u64 violations;
    u64 asked;
    pthread_t thread;
};

static void count_work(struct vcpu *target, struct vcpu_work *work)
{
    struct runner *runners = work->opaque;
    struct runner *r = &runners[target->index];
    if (atomic_load(&r->running))
        atomic_fetch_add(&r->violations, 1);
    atomic_fetch_add(&r->done, 1);
}

static void *run_guest(void *opaque)
{
    struct runner *r = opaque;
    struct vcpu *vcpu = r->vcpu;
    for (unsigned round = 0; !atomic_load(r->stop); round++) {
        vcpu_enter_guest(vcpu);
        atomic_store(&r->running, true);
        while (!(atomic_load(&vcpu->cpu.attention) & ATTN_WORK) && round % 8)
            if (atomic_load(r->stop))
                break;
        atomic_store(&r->running, false);
        vcpu_leave_guest(vcpu);
        if (round % 16 == 0) { /* ask, as from an exit */
            vcpu_request_all(vcpu->board, vcpu, count_work, r - vcpu->index);
            r->asked++;
        }
        sched_yield();
    }
    return NULL;
}

static void test_requests(void **state)
{
    struct fixture *f = fixture_create(CPUS);
    struct runner runners[CPUS] = {0};
    _Atomic bool stop = false;
    alarm(600);
    for (unsigned i = 0; i < CPUS; i++) {
        runners[i].vcpu = f->vcpus[i];
        runners[i].stop = &stop;
        pthread_create(&runners[i].thread, NULL, run_guest, &runners[i]);
    }
    const u64 outside = 300;
    for (u64 i = 0; i < outside; i++) /* a thread that is no vCPU asks, too */
        vcpu_request_all(&f->board, NULL, count_work, runners);
    atomic_store(&stop, true);
    u64 asked = outside;
    for (unsigned i = 0; i < CPUS; i++)
        pthread_join(runners[i].thread, NULL);
    for (unsigned i = 0; i < CPUS; i++)
        asked += runners[i].asked;
    for (unsigned i = 0; i < CPUS; i++) {
        assert_int_equal(runners[i].done, asked - runners[i].asked);
        assert_int_equal(runners[i].violations, 0);
        assert_int_equal(atomic_load(&f->vcpus[i]->cpu.attention) & ATTN_WORK, 0);
    }
    alarm(0);
    fixture_destroy(f);
}

/* Targets outside guest code, with no thread at all: the asker does the work. */
static void test_request_without_threads(void **state)
{
    struct fixture *f = fixture_create(CPUS);
    struct runner runners[CPUS] = {0};
    vcpu_request_all(&f->board, f->vcpus[2], count_work, runners);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(runners[i].done, i != 2);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_lost_wake_up),  cmocka_unit_test(test_wait_looks_at_its_mask),
        cmocka_unit_test(test_kick_only_inside), cmocka_unit_test(test_request_without_threads),
        cmocka_unit_test(test_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
