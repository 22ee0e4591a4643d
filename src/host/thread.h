/* Threads that serve the machine beside its vCPUs. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

/*
 * Starts a thread with all signals blocked: they are the main thread's and the vCPUs'. False:
 * the host has no more threads to give, and *thread is not to be joined.
 */
bool thread_start(pthread_t *thread, void *(*run)(void *), void *opaque);
