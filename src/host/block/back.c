/* A disk's back end, see back.h. */
#include "host/block/back.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "base/monotonic.h"
#include "base/spin.h"
#include "host/thread.h"
#include "platform/board.h"

/* Enough to keep a disk's queue busy; more only take turns. Started as they are needed. */
#define MAX_THREADS 8
/* Larger reads would keep the vCPU from running on for longer than a worker costs. */
#define INLINE_MAX (64 * KiB)

/*
 * A write into the host's page cache is a copy, and the host's kernel makes one at a time to a
 * file: more threads would only contend for the file and for the vCPU's processor. So one
 * thread does those that wait one after another, and delivers up to BATCH small ones at a time.
 * While writes take longer than SLOW_NS and a nanosecond a byte on the average (no cache, a
 * busy disk), and always for what waits for the disk (reads come here only then, flushes), each
 * request gets a thread. So it does when the one thread seems to be STUCK_NS too long in its
 * write.
 */
#define BATCH    8
#define SLOW_NS  50000u
#define STUCK_NS 500000u

/* How long a pause waits for requests that are under way, and how long what must end them
 * (a reset, the machine's end) waits before it breaks them off. */
#define SETTLE_S 3
#define DRAIN_S  10

struct queue {
    struct block_request *first, **last;
    _Atomic unsigned length; /* changes under the lock; threads that look read it without */
};

struct block_back {
    struct block block;
    struct board *board;
    struct image *image;
    struct block_policy policy;
    struct board_gate gate;
    struct block_stats stats; /* under the board lock */

    pthread_mutex_t lock; /* what follows; inside the board lock */
    pthread_cond_t work;  /* `wakes`, or `ending` */
    pthread_cond_t idle;  /* `running` fell to 0 with nothing waiting */
    struct queue waiting;
    struct queue completed; /* not delivered yet */
    struct queue held;      /* failed, and to be tried again when the machine goes on */
    unsigned running;       /* requests in the hands of a thread */
    unsigned quick;         /* those of them that should be done soon */
    unsigned looking;       /* threads that are awake, or woken, and about to look for work */
    unsigned sleeping;      /* threads */
    unsigned wakes;         /* of those that sleep, so many are to wake */
    unsigned n_threads;
    bool delivering; /* a thread waits for the board lock or has it; it takes what comes, too */
    u64 stuck_at;    /* when the quick request taken last should long be done, ns */
    u64 write_ns;    /* a moving average of how long writes take, see spent */
    _Atomic bool ending;
    pthread_t threads[MAX_THREADS];
};

/* -- Queues -------------------------------------------------------------------------------- */

static void queue_init(struct queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
    queue->length = 0;
}

static void queue_put(struct queue *queue, struct block_request *request)
{
    request->next = NULL;
    *queue->last = request;
    queue->last = &request->next;
    queue->length++;
}

static struct block_request *queue_take(struct queue *queue)
{
    struct block_request *request = queue->first;
    if (!request)
        return NULL;
    queue->first = request->next;
    if (!queue->first)
        queue->last = &queue->first;
    queue->length--;
    return request;
}

/* -- The work ------------------------------------------------------------------------------ */

static int image_do(struct image *image, const struct block_request *request)
{
    if (!image)
        return ENOMEDIUM;
    const struct image_ops *ops = image->ops;
    bool changes = request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
    if (changes && image->read_only)
        return EROFS;
    switch (request->op) {
    case BLOCK_READ:
        if (!request->data)
            return ops->read_parts(image, request->offset, request->parts, request->n_parts,
                                   request->len, false);
        return ops->read(image, request->offset, request->data, request->len);
    case BLOCK_WRITE:
        if (!request->data)
            return ops->write_parts(image, request->offset, request->parts, request->n_parts,
                                    request->len);
        return ops->write(image, request->offset, request->data, request->len);
    case BLOCK_FLUSH:
        return ops->flush(image);
    case BLOCK_DISCARD:
        return ops->discard ? ops->discard(image, request->offset, request->len) : 0;
    case BLOCK_WRITE_ZEROES:
        return ops->write_zeroes(image, request->offset, request->len, request->unmap);
    }
    ensure(!"a known operation");
    return EIO;
}

static bool is_write(const struct block_request *request)
{
    return request->op != BLOCK_READ;
}

/* A request failed: tells, and says what is to be done with it. Under the board lock. */
static enum block_action judge(struct block_back *back, struct block_request *request)
{
    const struct block_policy *policy = &back->policy;
    struct block_failure failure = {.write = is_write(request), .error = request->error};
    failure.action = failure.write ? policy->on_write : policy->on_read;
    if (failure.action == BLOCK_STOP_IF_FULL)
        failure.action = request->error == ENOSPC ? BLOCK_STOP : BLOCK_REPORT;
    if (policy->failed)
        policy->failed(policy->opaque, &failure);
    if (failure.action == BLOCK_IGNORE)
        request->error = 0;
    return failure.action;
}

static struct block_count *count_of(struct block_stats *stats, enum block_op op)
{
    switch (op) {
    case BLOCK_READ:
        return &stats->read;
    case BLOCK_FLUSH:
        return &stats->flush;
    case BLOCK_DISCARD:
        return &stats->discard;
    default:
        return &stats->write;
    }
}

/* A request is done with, one way or the other. Under the board lock. */
static void count(struct block_back *back, const struct block_request *request)
{
    struct block_stats *stats = &back->stats;
    struct block_count *of = count_of(stats, request->op);
    if (request->error) {
        of->failed++;
        return;
    }
    of->operations++;
    of->bytes += request->len;
    of->ns += monotonic_ns() - request->began;
    if (of == &stats->write && stats->highest < request->offset + request->len)
        stats->highest = request->offset + request->len;
}

const struct block_stats *block_back_stats(const struct block_back *back)
{
    return &back->stats;
}

/* Under the board lock: whoever has it delivers what is there. */
static void deliver(struct block_back *back)
{
    for (;;) {
        pthread_mutex_lock(&back->lock);
        struct block_request *request = queue_take(&back->completed);
        pthread_mutex_unlock(&back->lock);
        if (!request)
            return;
        count(back, request);
        if (request->error && judge(back, request) == BLOCK_STOP) {
            pthread_mutex_lock(&back->lock);
            queue_put(&back->held, request);
            pthread_mutex_unlock(&back->lock);
        } else {
            request->done(request);
        }
    }
}

/* -- Threads ------------------------------------------------------------------------------- */

static void *worker(void *opaque);

static void start_thread(struct block_back *back)
{
    if (thread_start(&back->threads[back->n_threads], worker, back)) {
        back->n_threads++;
        back->looking++;
    }
    /* One is enough to go on; none is the host out of threads at the start. */
    ensure(back->n_threads);
}

static void wake_thread(struct block_back *back)
{
    if (back->sleeping) {
        back->sleeping--;
        back->looking++;
        back->wakes++;
        pthread_cond_signal(&back->work);
    } else if (back->n_threads < MAX_THREADS) {
        start_thread(back);
    }
}

static bool is_quick(const struct block_back *back, const struct block_request *request)
{
    return request->op == BLOCK_WRITE && back->write_ns < SLOW_NS;
}

/* How long a write took, as if it had been a small one. */
static u64 spent(const struct block_request *request, u64 ns)
{
    return ns * SLOW_NS / (SLOW_NS + request->len);
}

/* Gives it to a worker; under back->lock. */
static void put_to_work(struct block_back *back, struct block_request *request)
{
    queue_put(&back->waiting, request);
    if (back->waiting.length <= back->looking)
        return;
    bool soon = back->looking || (back->quick && monotonic_ns() < back->stuck_at);
    if (!is_quick(back, request) || !soon)
        wake_thread(back);
}

/* Does one, and puts it among the completed. Under back->lock, but not meanwhile. */
static void carry_out(struct block_back *back, struct block_request *request)
{
    bool quick = is_quick(back, request);
    back->running++;
    back->quick += quick;
    back->stuck_at = monotonic_ns() + STUCK_NS + request->len;
    /* Those behind it were to wait for this thread. */
    if (!quick && back->waiting.first && !back->looking)
        wake_thread(back);
    pthread_mutex_unlock(&back->lock);
    u64 began = monotonic_ns();
    request->error = image_do(back->image, request);
    u64 took = monotonic_ns() - began;
    pthread_mutex_lock(&back->lock);
    if (request->op == BLOCK_WRITE)
        back->write_ns += spent(request, took) / 8 - back->write_ns / 8;
    back->quick -= quick;
    back->running--;
    queue_put(&back->completed, request);
    if (!back->running && !back->waiting.first)
        pthread_cond_broadcast(&back->idle);
}

/* Whether to do the next one before what is completed, `len` bytes at last, is delivered. */
static bool goes_on(const struct block_back *back, u64 len)
{
    const struct block_request *next = back->waiting.first;
    return next && is_quick(back, next) && len <= INLINE_MAX && back->completed.length < BATCH;
}

/* Only one thread waits for the board lock: block_back_settle has it while the others work.
 * Under back->lock, but not meanwhile. */
static void hand_over(struct block_back *back)
{
    struct board *board = back->board;
    bool stopped = false;
    if (back->delivering)
        return;
    back->delivering = true;
    while (back->completed.first && !stopped) {
        bool locked = board_trylock(board);
        if (!locked && back->waiting.first && !back->looking && !back->quick)
            wake_thread(back);
        pthread_mutex_unlock(&back->lock);
        if (!locked)
            board_lock(board);
        /* A machine that stands still takes nothing: gate_opened delivers. */
        stopped = board->stopped;
        if (!stopped)
            deliver(back);
        board_unlock(board);
        pthread_mutex_lock(&back->lock);
    }
    back->delivering = false;
}

static bool has_work(const void *opaque)
{
    const struct block_back *back = opaque;
    return atomic_load_explicit(&back->waiting.length, memory_order_relaxed) ||
           atomic_load_explicit(&back->ending, memory_order_relaxed);
}

/* Waits for work, awake at first. Under back->lock, but not meanwhile. */
static void rest(struct block_back *back, struct spin *spin)
{
    back->looking++;
    pthread_mutex_unlock(&back->lock);
    spin_look(spin, has_work, back);
    pthread_mutex_lock(&back->lock);
    back->looking--;
    if (has_work(back))
        return;
    back->sleeping++;
    while (!back->wakes && !back->ending)
        pthread_cond_wait(&back->work, &back->lock);
    if (back->wakes) {
        back->wakes--;
        back->looking--;
    }
    spin_slept(spin);
}

static void *worker(void *opaque)
{
    struct block_back *back = opaque;
    struct spin spin;
    spin_init(&spin);
    pthread_mutex_lock(&back->lock);
    back->looking--;
    for (;;) {
        struct block_request *request = queue_take(&back->waiting);
        if (!request) {
            if (back->ending)
                break;
            rest(back, &spin);
            continue;
        }
        u64 len = request->len; /* once completed it may be delivered by another thread */
        carry_out(back, request);
        if (!goes_on(back, len))
            hand_over(back);
    }
    pthread_mutex_unlock(&back->lock);
    return NULL;
}

/* -- The seam ------------------------------------------------------------------------------ */

static bool do_now(struct block_back *back, struct block_request *request)
{
    const struct image_ops *ops = back->image ? back->image->ops : NULL;
    if (!ops || request->op != BLOCK_READ || request->len > INLINE_MAX || !ops->read_now)
        return false;
    request->error =
        request->data ? ops->read_now(back->image, request->offset, request->data, request->len)
                      : ops->read_parts(back->image, request->offset, request->parts,
                                        request->n_parts, request->len, true);
    /* A failure is the worker's to meet, and then to be judged. */
    return !request->error;
}

static bool back_submit(void *opaque, struct block_request *request)
{
    struct block_back *back = opaque;
    request->error = 0;
    request->began = monotonic_ns();
    if (do_now(back, request)) {
        count(back, request);
        return true;
    }
    pthread_mutex_lock(&back->lock);
    put_to_work(back, request);
    pthread_mutex_unlock(&back->lock);
    return false;
}

/* The machine goes on: another try, and what came meanwhile. */
static void gate_opened(void *opaque)
{
    struct block_back *back = opaque;
    struct block_request *request;
    pthread_mutex_lock(&back->lock);
    while ((request = queue_take(&back->held)))
        put_to_work(back, request);
    pthread_mutex_unlock(&back->lock);
    deliver(back);
}

/* Waits until no thread has anything to do, at most until then (CLOCK_MONOTONIC). */
static bool wait_idle(struct block_back *back, const struct timespec *until)
{
    int error = 0;
    pthread_mutex_lock(&back->lock);
    while ((back->waiting.first || back->running) && error != ETIMEDOUT)
        error = pthread_cond_clockwait(&back->idle, &back->lock, CLOCK_MONOTONIC, until);
    bool idle = !back->waiting.first && !back->running;
    pthread_mutex_unlock(&back->lock);
    return idle;
}

/* A `done` may submit again (the next piece of a request), hence the loop. */
static bool settle(struct block_back *back, unsigned seconds)
{
    const struct timespec until = timespec_of(monotonic_ns() + seconds * NS_PER_S);
    bool again = true;
    while (again) {
        if (!wait_idle(back, &until))
            return false;
        deliver(back);
        pthread_mutex_lock(&back->lock);
        again = back->waiting.first || back->running || back->completed.first;
        pthread_mutex_unlock(&back->lock);
    }
    return true;
}

bool block_back_settle(struct block_back *back)
{
    return settle(back, SETTLE_S);
}

/* The device waits for its requests because it goes: those that are held end as they failed,
 * and those that do not end are broken off where the image can do that. */
static void back_drain(void *opaque)
{
    struct block_back *back = opaque;
    for (;;) {
        while (!settle(back, DRAIN_S))
            image_break_off(back->image);
        pthread_mutex_lock(&back->lock);
        struct block_request *request = queue_take(&back->held);
        pthread_mutex_unlock(&back->lock);
        if (!request)
            return;
        request->done(request);
    }
}

bool block_action_parse(enum block_action *action, const char *word)
{
    static const char *const words[] = {"report", "ignore", "stop", "enospc"};
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (!strcmp(word, words[i])) {
            *action = (enum block_action)i;
            return true;
        }
    }
    return false;
}

/* -- The image ----------------------------------------------------------------------------- */

/* What the device sees of it. */
static void show_image(struct block_back *back)
{
    const struct image *image = back->image;
    back->block.size = image ? align_up(image->size, BLOCK_SECTOR) : 0;
    back->block.read_only = image && image->read_only;
    back->block.takes_parts = image && image->ops->read_parts;
    back->block.discards = image && !image->read_only && image->ops->discard;
}

struct image *block_back_exchange(struct block_back *back, struct image *image)
{
    back_drain(back);
    struct image *old = back->image;
    back->image = image;
    show_image(back);
    return old;
}

/* -- Life ---------------------------------------------------------------------------------- */

struct block_back *block_back_create(struct board *board, struct image *image,
                                     const struct block_policy *policy)
{
    struct block_back *back = calloc(1, sizeof(*back));
    ensure(back);
    back->board = board;
    back->image = image;
    back->policy = *policy;
    back->block = (struct block){.submit = back_submit, .drain = back_drain, .back = back};
    show_image(back);
    pthread_mutex_init(&back->lock, NULL);
    pthread_cond_init(&back->work, NULL);
    pthread_cond_init(&back->idle, NULL);
    queue_init(&back->waiting);
    queue_init(&back->completed);
    queue_init(&back->held);
    back->gate = (struct board_gate){.opened = gate_opened, .opaque = back};
    board_add_gate(board, &back->gate);
    return back;
}

void block_back_destroy(struct block_back *back)
{
    if (!back)
        return;
    board_remove_gate(back->board, &back->gate);
    pthread_mutex_lock(&back->lock);
    back->ending = true;
    pthread_cond_broadcast(&back->work);
    pthread_mutex_unlock(&back->lock);
    for (unsigned i = 0; i < back->n_threads; i++)
        pthread_join(back->threads[i], NULL);
    image_close(back->image);
    pthread_cond_destroy(&back->idle);
    pthread_cond_destroy(&back->work);
    pthread_mutex_destroy(&back->lock);
    free(back);
}

struct block *block_back_block(struct block_back *back)
{
    return &back->block;
}
