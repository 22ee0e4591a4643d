/* A disk's back end, see back.h. */
#include "host/block/back.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "host/thread.h"
#include "platform/board.h"

/* Enough to keep a disk's queue busy; more only take turns. Started as they are needed. */
#define MAX_THREADS 8
/* Larger reads would keep the vCPU from running on for longer than a worker costs. */
#define INLINE_MAX (64 * KiB)

struct queue {
    struct block_request *first, **last;
    unsigned length;
};

struct block_back {
    struct block block;
    struct board *board;
    struct image *image;
    struct block_policy policy;
    struct board_gate gate;

    pthread_mutex_t lock; /* what follows; inside the board lock */
    pthread_cond_t work;  /* a request waits, or `ending` */
    pthread_cond_t idle;  /* `running` fell to 0 with nothing waiting */
    struct queue waiting;
    struct queue completed; /* not delivered yet */
    struct queue held;      /* failed, and to be tried again when the machine goes on */
    unsigned running;       /* requests in the hands of a thread */
    unsigned sleeping;      /* threads */
    unsigned n_threads;
    bool ending;
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
    const struct image_ops *ops = image->ops;
    bool changes = request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
    if (changes && image->read_only)
        return EROFS;
    switch (request->op) {
    case BLOCK_READ:
        return ops->read(image, request->offset, request->data, request->len);
    case BLOCK_WRITE:
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

/* Under the board lock: whoever has it delivers what is there. */
static void deliver(struct block_back *back)
{
    for (;;) {
        pthread_mutex_lock(&back->lock);
        struct block_request *request = queue_take(&back->completed);
        pthread_mutex_unlock(&back->lock);
        if (!request)
            return;
        if (request->error && judge(back, request) == BLOCK_STOP) {
            pthread_mutex_lock(&back->lock);
            queue_put(&back->held, request);
            pthread_mutex_unlock(&back->lock);
        } else {
            request->done(request);
        }
    }
}

static void *worker(void *opaque)
{
    struct block_back *back = opaque;
    pthread_mutex_lock(&back->lock);
    for (;;) {
        struct block_request *request = queue_take(&back->waiting);
        if (!request) {
            if (back->ending)
                break;
            back->sleeping++;
            pthread_cond_wait(&back->work, &back->lock);
            back->sleeping--;
            continue;
        }
        back->running++;
        pthread_mutex_unlock(&back->lock);
        request->error = image_do(back->image, request);
        pthread_mutex_lock(&back->lock);
        back->running--;
        queue_put(&back->completed, request);
        if (!back->running && !back->waiting.first)
            pthread_cond_broadcast(&back->idle);
        pthread_mutex_unlock(&back->lock);

        board_lock(back->board);
        deliver(back);
        board_unlock(back->board);
        pthread_mutex_lock(&back->lock);
    }
    pthread_mutex_unlock(&back->lock);
    return NULL;
}

static void start_thread(struct block_back *back)
{
    if (thread_start(&back->threads[back->n_threads], worker, back))
        back->n_threads++;
    /* One is enough to go on; none is the host out of threads at the start. */
    ensure(back->n_threads);
}

/* -- The seam ------------------------------------------------------------------------------ */

static bool do_now(struct block_back *back, struct block_request *request)
{
    const struct image_ops *ops = back->image->ops;
    if (request->op != BLOCK_READ || request->len > INLINE_MAX || !ops->read_now)
        return false;
    request->error = ops->read_now(back->image, request->offset, request->data, request->len);
    /* A failure is the worker's to meet, and then to be judged. */
    return !request->error;
}

/* Gives it to a worker; under back->lock. */
static void put_to_work(struct block_back *back, struct block_request *request)
{
    queue_put(&back->waiting, request);
    if (back->waiting.length > back->sleeping && back->n_threads < MAX_THREADS)
        start_thread(back);
    else
        pthread_cond_signal(&back->work);
}

static bool back_submit(void *opaque, struct block_request *request)
{
    struct block_back *back = opaque;
    request->error = 0;
    if (do_now(back, request))
        return true;
    pthread_mutex_lock(&back->lock);
    put_to_work(back, request);
    pthread_mutex_unlock(&back->lock);
    return false;
}

/* The machine goes on: another try. */
static void gate_opened(void *opaque)
{
    struct block_back *back = opaque;
    struct block_request *request;
    pthread_mutex_lock(&back->lock);
    while ((request = queue_take(&back->held)))
        put_to_work(back, request);
    pthread_mutex_unlock(&back->lock);
}

/* A `done` may submit again (the next piece of a request), hence the loop. */
void block_back_settle(struct block_back *back)
{
    bool again = true;
    while (again) {
        pthread_mutex_lock(&back->lock);
        while (back->waiting.first || back->running)
            pthread_cond_wait(&back->idle, &back->lock);
        pthread_mutex_unlock(&back->lock);
        deliver(back);
        pthread_mutex_lock(&back->lock);
        again = back->waiting.first || back->running || back->completed.first;
        pthread_mutex_unlock(&back->lock);
    }
}

/* The device waits for its requests because it goes: those that are held end as they failed. */
static void back_drain(void *opaque)
{
    struct block_back *back = opaque;
    for (;;) {
        block_back_settle(back);
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

/* -- Life ---------------------------------------------------------------------------------- */

struct block_back *block_back_create(struct board *board, struct image *image,
                                     const struct block_policy *policy)
{
    struct block_back *back = calloc(1, sizeof(*back));
    ensure(back);
    back->board = board;
    back->image = image;
    back->policy = *policy;
    back->block = (struct block){
        .size = align_up(image->size, BLOCK_SECTOR),
        .read_only = image->read_only,
        .discards = !image->read_only && image->ops->discard,
        .submit = back_submit,
        .drain = back_drain,
        .back = back,
    };
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
