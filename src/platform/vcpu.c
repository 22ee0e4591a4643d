/* Getting a vCPU's attention, see vcpu.h. */
#include "platform/vcpu.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/ensure.h"

#define VCPU_SIZE (COLOR_ROOM_AT + VCPU_ENGINE_ROOM)

static void *map(void *at, u64 size, int rights, int flags)
{
    void *found =
        mmap(at, size, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    return found == MAP_FAILED ? NULL : found;
}

/* Where a displacement reaches it without a segment; NULL: the first 2 GiB are full. */
static void *map_low(void)
{
    for (u64 low = COLOR_SPAN; low < 2 * GiB; low += COLOR_SPAN) {
        void *want = (void *)low;
        void *at = map(want, VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
        if (at == want)
            return at;
        if (at)
            munmap(at, VCPU_SIZE);
    }
    return NULL;
}

static void *map_anywhere(void)
{
    u8 *room = map(NULL, COLOR_SPAN + VCPU_SIZE, PROT_NONE, 0);
    ensure(room);
    u8 *at = (u8 *)align_up((u64)room, COLOR_SPAN);
    munmap(at + VCPU_SIZE, (u64)(room + COLOR_SPAN - at));
    if (at != room)
        munmap(room, (u64)(at - room));
    ensure(!mprotect(at, VCPU_SIZE, PROT_READ | PROT_WRITE));
    return at;
}

/*
 * Memory of the colours that guest memory leaves alone (color.h), which children do not get:
 * cells for 32-bit code have places among the low ones. Low, because on Intel's processors a
 * load through GS takes two cycles more than one without, if its base is not 0.
 */
static void *vcpu_map(void)
{
    void *at = map_low();
    if (!at)
        at = map_anywhere();
    ensure(!madvise(at, VCPU_SIZE, MADV_DONTFORK));
    return at;
}

struct vcpu *vcpu_create(struct board *board, unsigned index)
{
    struct vcpu *vcpu = vcpu_map();
    ensure(color_taken((u64)vcpu) && color_taken((u64)vcpu_engine_room(vcpu)));
    vcpu->board = board;
    vcpu->index = index;
    vcpu->cpu.apic_id = index;
    atomic_init(&vcpu->apic_page, ~0ull);
    pthread_mutex_init(&vcpu->wait_lock, NULL);
    pthread_cond_init(&vcpu->wait_cond, NULL);
    spin_init(&vcpu->spin);
    return vcpu;
}

void vcpu_clear_room(struct vcpu *vcpu)
{
    madvise(vcpu_engine_room(vcpu), VCPU_ENGINE_ROOM, MADV_DONTNEED);
}

void vcpu_destroy(struct vcpu *vcpu)
{
    while (vcpu->work) { /* posted, and never run */
        struct vcpu_work *work = vcpu->work;
        vcpu->work = work->next;
        free(work);
    }
    pthread_cond_destroy(&vcpu->wait_cond);
    pthread_mutex_destroy(&vcpu->wait_lock);
    munmap(vcpu, VCPU_SIZE);
}

void vcpu_signal(struct vcpu *vcpu, u32 attention)
{
    /* Sequentially consistent against vcpu_wait, which says `waiting` before it looks at
     * `attention`: one of the two sees the other. */
    u32 old = atomic_fetch_or(&vcpu->cpu.attention, attention);
    if (atomic_load(&vcpu->waiting)) {
        pthread_mutex_lock(&vcpu->wait_lock);
        pthread_cond_broadcast(&vcpu->wait_cond);
        pthread_mutex_unlock(&vcpu->wait_lock);
    }
    if ((old & attention) == attention || !atomic_load(&vcpu->in_guest))
        return;
    pthread_mutex_lock(&vcpu->wait_lock);
    if (vcpu->kick)
        vcpu->kick(vcpu);
    pthread_mutex_unlock(&vcpu->wait_lock);
}

void vcpu_nmi(struct vcpu *vcpu)
{
    atomic_fetch_add(&vcpu->nmis, 1);
    vcpu_signal(vcpu, ATTN_NMI);
}

void vcpu_nmi_hold(struct vcpu *vcpu)
{
    if (atomic_load(&vcpu->nmis) > 1)
        atomic_store(&vcpu->nmis, 1);
}

bool vcpu_nmi_take(struct vcpu *vcpu)
{
    vcpu_clear(vcpu, ATTN_NMI);
    /* Whoever adds one from here on raises the bit after that. */
    u32 nmis = atomic_exchange(&vcpu->nmis, 0);
    if (nmis > 1)
        vcpu_nmi(vcpu);
    return nmis;
}

void vcpu_set_kick(struct vcpu *vcpu, void (*kick)(struct vcpu *vcpu))
{
    pthread_mutex_lock(&vcpu->wait_lock);
    vcpu->kick = kick;
    pthread_mutex_unlock(&vcpu->wait_lock);
}

void vcpu_clear(struct vcpu *vcpu, u32 attention)
{
    atomic_fetch_and(&vcpu->cpu.attention, ~attention);
}

void vcpu_unhalt(struct vcpu *vcpu)
{
    atomic_store(&vcpu->unhalted, true);
    if (atomic_load(&vcpu->waiting)) {
        pthread_mutex_lock(&vcpu->wait_lock);
        pthread_cond_broadcast(&vcpu->wait_cond);
        pthread_mutex_unlock(&vcpu->wait_lock);
    }
}

struct wait {
    const struct vcpu *vcpu;
    u32 mask;
};

static bool woken(const void *opaque)
{
    const struct wait *wait = opaque;
    return atomic_load(&wait->vcpu->cpu.attention) & wait->mask ||
           atomic_load(&wait->vcpu->unhalted);
}

void vcpu_wait(struct vcpu *vcpu, u32 mask)
{
    const struct wait wait = {vcpu, mask};
    if (spin_look(&vcpu->spin, woken, &wait))
        return;
    pthread_mutex_lock(&vcpu->wait_lock);
    atomic_store(&vcpu->waiting, true);
    while (!woken(&wait))
        pthread_cond_wait(&vcpu->wait_cond, &vcpu->wait_lock);
    atomic_store(&vcpu->waiting, false);
    pthread_mutex_unlock(&vcpu->wait_lock);
    spin_slept(&vcpu->spin);
}

/* Runs all that is queued on `target`. Called and returns with work_lock held; not while
 * work_busy. */
static void vcpu_drain(struct board *board, struct vcpu *target)
{
    target->work_busy = true;
    while (target->work) {
        struct vcpu_work *work = target->work;
        target->work = work->next;
        pthread_mutex_unlock(&board->work_lock);
        work->run(target, work);
        pthread_mutex_lock(&board->work_lock);
        if (work->posted)
            free(work);
        else
            work->done = true;
    }
    vcpu_clear(target, ATTN_WORK);
    target->work_busy = false;
    pthread_cond_broadcast(&board->work_cond);
}

void vcpu_run_work(struct vcpu *vcpu)
{
    struct board *board = vcpu->board;
    pthread_mutex_lock(&board->work_lock);
    while (vcpu->work_busy)
        pthread_cond_wait(&board->work_cond, &board->work_lock);
    vcpu_drain(board, vcpu);
    pthread_mutex_unlock(&board->work_lock);
}

static bool vcpu_has_work(struct vcpu *vcpu)
{
    return atomic_load(&vcpu->cpu.attention) & ATTN_WORK;
}

void vcpu_enter_guest(struct vcpu *vcpu)
{
    atomic_store(&vcpu->in_guest, true);
    while (unlikely(vcpu_has_work(vcpu))) {
        atomic_store(&vcpu->in_guest, false);
        vcpu_run_work(vcpu);
        atomic_store(&vcpu->in_guest, true);
    }
}

void vcpu_leave_guest(struct vcpu *vcpu)
{
    atomic_store(&vcpu->in_guest, false);
    if (unlikely(vcpu_has_work(vcpu)))
        vcpu_run_work(vcpu);
}

static void vcpu_queue(struct vcpu *target, struct vcpu_work *work)
{
    struct vcpu_work **tail = &target->work;
    while (*tail)
        tail = &(*tail)->next;
    *tail = work;
    vcpu_signal(target, ATTN_WORK);
}

enum request_state { REQUEST_DONE, REQUEST_MOVED, REQUEST_WAIT };

/* Does what it can for `self` and for the targets outside guest code. */
static enum request_state vcpu_request_step(struct board *board, struct vcpu *self,
                                            struct vcpu_work *works)
{
    bool waiting = false;
    if (self && self->work && !self->work_busy) {
        vcpu_drain(board, self);
        return REQUEST_MOVED;
    }
    for (unsigned i = 0; i < board->n_vcpus; i++) {
        struct vcpu *target = board->vcpus[i];
        if (target == self || works[i].done)
            continue;
        if (!target->work_busy && !atomic_load(&target->in_guest)) {
            vcpu_drain(board, target);
            return REQUEST_MOVED;
        }
        waiting = true;
    }
    return waiting ? REQUEST_WAIT : REQUEST_DONE;
}

void vcpu_request_all(struct board *board, struct vcpu *self,
                      void (*run)(struct vcpu *target, struct vcpu_work *work), void *opaque)
{
    struct vcpu_work *works = calloc(board->n_vcpus, sizeof(*works));
    ensure(works || !board->n_vcpus);
    pthread_mutex_lock(&board->work_lock);
    for (unsigned i = 0; i < board->n_vcpus; i++) {
        if (board->vcpus[i] == self)
            continue;
        works[i] = (struct vcpu_work){.run = run, .opaque = opaque};
        vcpu_queue(board->vcpus[i], &works[i]);
    }
    pthread_cond_broadcast(&board->work_cond);
    /* A step that ran something let go of the lock meanwhile, so only a step that ran nothing
     * may sleep. */
    enum request_state state;
    while ((state = vcpu_request_step(board, self, works)) != REQUEST_DONE)
        if (state == REQUEST_WAIT)
            pthread_cond_wait(&board->work_cond, &board->work_lock);
    pthread_mutex_unlock(&board->work_lock);
    free(works);
}

void vcpu_post_all(struct board *board,
                   void (*run)(struct vcpu *target, struct vcpu_work *work), void *opaque)
{
    pthread_mutex_lock(&board->work_lock);
    for (unsigned i = 0; i < board->n_vcpus; i++) {
        struct vcpu_work *work = calloc(1, sizeof(*work));
        ensure(work);
        *work = (struct vcpu_work){.run = run, .opaque = opaque, .posted = true};
        vcpu_queue(board->vcpus[i], work);
    }
    pthread_cond_broadcast(&board->work_cond);
    pthread_mutex_unlock(&board->work_lock);
}

static bool vcpu_is_apic(struct vcpu *vcpu, struct gpa addr)
{
    return (addr.v & PAGE_MASK) == atomic_load_explicit(&vcpu->apic_page, memory_order_relaxed);
}

u64 vcpu_mmio_read(struct vcpu *vcpu, struct gpa addr, unsigned size)
{
    if (vcpu_is_apic(vcpu, addr))
        return vcpu->apic_ops->read(vcpu->apic, addr.v & ~PAGE_MASK, size);
    return bus_read(vcpu->board, BUS_MMIO, addr.v, size);
}

void vcpu_mmio_write(struct vcpu *vcpu, struct gpa addr, unsigned size, u64 value)
{
    if (vcpu_is_apic(vcpu, addr))
        vcpu->apic_ops->write(vcpu->apic, addr.v & ~PAGE_MASK, size, value);
    else
        bus_write(vcpu->board, BUS_MMIO, addr.v, size, value);
}
