/* The thread behind a shared directory, see share.h. */
#include "host/share/share.h"

#include <stdlib.h>

#include "base/ensure.h"
#include "host/thread.h"
#include "platform/board.h"

struct share_back {
    struct share share;
    struct board *board;
    struct p9 *p9; /* the thread's */
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* what follows; inside the board lock */
    pthread_cond_t work;  /* a request waits, or `ending` */
    pthread_cond_t idle;  /* nothing waits and nothing is being answered */
    struct share_request *waiting, **last;
    struct share_request *answered, **last_answered; /* not delivered yet */
    bool busy;
    bool ending;
};

/* Under the board lock: whoever has it delivers what is there. */
static void deliver(struct share_back *back)
{
    for (;;) {
        pthread_mutex_lock(&back->lock);
        struct share_request *request = back->answered;
        if (request)
            back->answered = request->next;
        if (!back->answered)
            back->last_answered = &back->answered;
        pthread_mutex_unlock(&back->lock);
        if (!request)
            return;
        request->done(request);
    }
}

/* With the lock held, which it lets go of meanwhile. */
static void answer(struct share_back *back, struct share_request *request)
{
    back->waiting = request->next;
    if (!back->waiting)
        back->last = &back->waiting;
    back->busy = true;
    pthread_mutex_unlock(&back->lock);
    request->out_len =
        p9_serve(back->p9, request->in, request->in_len, request->out, request->out_size);
    pthread_mutex_lock(&back->lock);
    request->next = NULL;
    *back->last_answered = request;
    back->last_answered = &request->next;
    back->busy = false;
    if (!back->waiting)
        pthread_cond_broadcast(&back->idle);
    pthread_mutex_unlock(&back->lock);

    board_lock(back->board);
    deliver(back);
    board_unlock(back->board);
    pthread_mutex_lock(&back->lock);
}

static void *worker(void *opaque)
{
    struct share_back *back = opaque;
    pthread_mutex_lock(&back->lock);
    while (back->waiting || !back->ending) {
        if (back->waiting)
            answer(back, back->waiting);
        else
            pthread_cond_wait(&back->work, &back->lock);
    }
    pthread_mutex_unlock(&back->lock);
    return NULL;
}

static void share_submit(void *opaque, struct share_request *request)
{
    struct share_back *back = opaque;
    pthread_mutex_lock(&back->lock);
    request->next = NULL;
    *back->last = request;
    back->last = &request->next;
    pthread_cond_signal(&back->work);
    pthread_mutex_unlock(&back->lock);
}

static void share_drain(void *opaque)
{
    struct share_back *back = opaque;
    pthread_mutex_lock(&back->lock);
    while (back->waiting || back->busy)
        pthread_cond_wait(&back->idle, &back->lock);
    pthread_mutex_unlock(&back->lock);
    deliver(back);
}

struct share_back *share_create(const struct p9_config *config, struct board *board,
                                struct error *err)
{
    struct p9 *p9 = p9_create(config, err);
    if (!p9)
        return NULL;
    struct share_back *back = calloc(1, sizeof(*back));
    ensure(back);
    back->board = board;
    back->p9 = p9;
    back->share = (struct share){.submit = share_submit, .drain = share_drain, .back = back};
    back->last = &back->waiting;
    back->last_answered = &back->answered;
    pthread_mutex_init(&back->lock, NULL);
    pthread_cond_init(&back->work, NULL);
    pthread_cond_init(&back->idle, NULL);
    back->started = thread_start(&back->thread, worker, back);
    if (back->started)
        return back;
    share_destroy(back);
    error_set(err, "cannot start a thread for '%s'", config->path);
    return NULL;
}

void share_destroy(struct share_back *back)
{
    if (!back)
        return;
    pthread_mutex_lock(&back->lock);
    back->ending = true;
    pthread_cond_broadcast(&back->work);
    pthread_mutex_unlock(&back->lock);
    if (back->started)
        pthread_join(back->thread, NULL);
    p9_destroy(back->p9);
    pthread_cond_destroy(&back->idle);
    pthread_cond_destroy(&back->work);
    pthread_mutex_destroy(&back->lock);
    free(back);
}

struct share *share_share(struct share_back *back)
{
    return &back->share;
}
