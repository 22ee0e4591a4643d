/* The run loop of a vCPU's thread, see run.h. */
#include "machine/run.h"

#include <unistd.h>

#include "base/ensure.h"
#include "host/run_delay.h"
#include "machine/vm_state.h"

/* Under run_lock, which it drops meanwhile. */
static void exchange(struct vm_thread *thread)
{
    struct vm *vm = thread->vm;
    struct error err = {{0}};
    pthread_mutex_unlock(&vm->run_lock);
    bool exchanged = engine_exchange(thread->vcpu, thread->next, &err);
    pthread_mutex_lock(&vm->run_lock);
    thread->exchanged = exchanged;
    thread->next = NULL;
    if (!exchanged)
        vm->attach_error = err;
    pthread_cond_broadcast(&vm->run_cond);
}

/* Waits until the machine runs; false: it ends. */
static bool park(struct vm_thread *thread)
{
    struct vm *vm = thread->vm;
    pthread_mutex_lock(&vm->run_lock);
    while (!vm->running && !vm->ending) {
        if (thread->next) {
            exchange(thread);
            continue;
        }
        thread->parked = true;
        pthread_cond_broadcast(&vm->run_cond);
        pthread_cond_wait(&vm->run_cond, &vm->run_lock);
    }
    thread->parked = false;
    vcpu_clear(thread->vcpu, ATTN_KICK);
    bool ending = vm->ending;
    pthread_mutex_unlock(&vm->run_lock);
    return !ending;
}

/* What wakes a vCPU that sits in HLT or waits for its start-up IPI. */
static u32 wake_mask(const struct x86_cpu *cpu)
{
    u32 mask = ATTN_INIT | ATTN_KICK | ATTN_WORK;
    if (cpu->activity == CPU_WAIT_SIPI)
        return mask | ATTN_SIPI;
    if (cpu->rflags & FLAG_IF)
        mask |= ATTN_INTR;
    if (!cpu->nmi_blocked)
        mask |= ATTN_NMI;
    return mask;
}

static void shut_down(struct vm_thread *thread)
{
    struct board *board = thread->vcpu->board;
    board_lock(board);
    board_ask(board, BOARD_SHUTDOWN, 0);
    board_unlock(board);
}

static void halt(struct vcpu *vcpu)
{
    if (vcpu->pv_ops)
        vcpu->pv_ops->sleeps(vcpu->pv);
    vcpu_wait(vcpu, wake_mask(&vcpu->cpu));
    if (vcpu->pv_ops)
        vcpu->pv_ops->wakes(vcpu->pv);
    if (atomic_exchange(&vcpu->unhalted, false) && vcpu->cpu.activity == CPU_HALTED)
        vcpu->cpu.activity = CPU_RUNNING;
}

static void run(struct vm_thread *thread)
{
    struct vcpu *vcpu = thread->vcpu;
    const struct engine *engine = vcpu->engine;
    /* Engines look at what the processor is doing only when something wants attention. */
    if (vcpu->cpu.activity != CPU_RUNNING)
        x86_attend(&vcpu->cpu);
    vcpu_enter_guest(vcpu);
    enum engine_exit exit = engine->enter(vcpu);
    vcpu_leave_guest(vcpu);
    thread->exits++;
    switch (exit) {
    case EXIT_STOPPED:
        break;
    case EXIT_HALTED:
        thread->halts++;
        halt(vcpu);
        break;
    case EXIT_SHUTDOWN:
        shut_down(thread);
        break;
    case EXIT_DEBUG:
    case EXIT_USER:
    case EXIT_UNSUPPORTED:
        ensure(!"an exit that nobody asked for");
    }
}

/* Tells run_create how attaching went. */
static void report(struct vm_thread *thread, bool attached, const struct error *err)
{
    struct vm *vm = thread->vm;
    pthread_mutex_lock(&vm->run_lock);
    thread->attached = attached;
    thread->failed = !attached;
    if (!attached)
        vm->attach_error = *err;
    pthread_cond_broadcast(&vm->run_cond);
    pthread_mutex_unlock(&vm->run_lock);
}

static void *vcpu_main(void *opaque)
{
    struct vm_thread *thread = opaque;
    struct vcpu *vcpu = thread->vcpu;
    struct error err = {{0}};
    thread->tid = gettid();
    thread->delay_fd = run_delay_open(thread->tid);
    bool attached = vcpu->engine->attach(vcpu, &err);
    report(thread, attached, &err);
    while (attached && park(thread))
        run(thread);
    if (attached)
        vcpu->engine->detach(vcpu);
    if (thread->delay_fd >= 0)
        close(thread->delay_fd);
    return NULL;
}

bool run_create(struct vm *vm, struct error *err)
{
    pthread_mutex_init(&vm->run_lock, NULL);
    pthread_cond_init(&vm->run_cond, NULL);
    for (unsigned i = 0; i < vm->board.n_vcpus; i++) {
        struct vm_thread *thread = &vm->threads[i];
        thread->vm = vm;
        thread->vcpu = vm->board.vcpus[i];
        if (pthread_create(&thread->thread, NULL, vcpu_main, thread))
            return error_set(err, "cannot make a thread for processor %u", i);
        vm->n_threads++;
    }
    bool failed = false;
    pthread_mutex_lock(&vm->run_lock);
    for (unsigned i = 0; i < vm->n_threads; i++) {
        while (!vm->threads[i].attached && !vm->threads[i].failed)
            pthread_cond_wait(&vm->run_cond, &vm->run_lock);
        failed |= vm->threads[i].failed;
    }
    if (failed)
        *err = vm->attach_error;
    pthread_mutex_unlock(&vm->run_lock);
    return !failed;
}

bool run_exchange(struct vm *vm, unsigned cpu, const struct engine *engine, struct error *err)
{
    struct vm_thread *thread = &vm->threads[cpu];
    pthread_mutex_lock(&vm->run_lock);
    thread->next = engine;
    pthread_cond_broadcast(&vm->run_cond);
    while (thread->next)
        pthread_cond_wait(&vm->run_cond, &vm->run_lock);
    bool exchanged = thread->exchanged;
    if (!exchanged)
        *err = vm->attach_error;
    pthread_mutex_unlock(&vm->run_lock);
    return exchanged;
}

void run_resume(struct vm *vm)
{
    pthread_mutex_lock(&vm->run_lock);
    vm->running = true;
    pthread_cond_broadcast(&vm->run_cond);
    pthread_mutex_unlock(&vm->run_lock);
}

void run_hold(struct vm *vm)
{
    pthread_mutex_lock(&vm->run_lock);
    vm->running = false;
    for (unsigned i = 0; i < vm->n_threads; i++)
        vcpu_signal(vm->threads[i].vcpu, ATTN_KICK);
    pthread_mutex_unlock(&vm->run_lock);
}

void run_stop(struct vm *vm)
{
    run_hold(vm);
    pthread_mutex_lock(&vm->run_lock);
    for (unsigned i = 0; i < vm->n_threads; i++)
        while (!vm->threads[i].parked)
            pthread_cond_wait(&vm->run_cond, &vm->run_lock);
    pthread_mutex_unlock(&vm->run_lock);
}

void run_destroy(struct vm *vm)
{
    if (!vm->n_threads)
        return;
    pthread_mutex_lock(&vm->run_lock);
    vm->ending = true;
    for (unsigned i = 0; i < vm->n_threads; i++)
        vcpu_signal(vm->threads[i].vcpu, ATTN_KICK);
    pthread_cond_broadcast(&vm->run_cond);
    pthread_mutex_unlock(&vm->run_lock);
    for (unsigned i = 0; i < vm->n_threads; i++)
        pthread_join(vm->threads[i].thread, NULL);
    pthread_cond_destroy(&vm->run_cond);
    pthread_mutex_destroy(&vm->run_lock);
}
