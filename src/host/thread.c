/* See thread.h. */
#include "host/thread.h"

#include <signal.h>

bool thread_start(pthread_t *thread, void *(*run)(void *), void *opaque)
{
    sigset_t all, old;
    sigfillset(&all);
    /* The new thread inherits the mask: no signal can come before it would set its own. */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(thread, NULL, run, opaque);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return !failed;
}
