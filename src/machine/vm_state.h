/* The inside of a struct vm, for the files of machine/. */
#pragma once

#include <pthread.h>

#include "host/clock.h"
#include "machine/kernel.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "platform/device.h"
#include "platform/vcpu.h"
#include "x86/model.h"

struct vm_thread {
    struct vm *vm;
    struct vcpu *vcpu;
    pthread_t thread;
    pid_t tid;                 /* written before `attached` */
    int delay_fd;              /* run_delay_open's; likewise */
    bool parked;               /* under run_lock */
    bool attached;             /* under run_lock: the engine has its state */
    bool failed;               /* under run_lock: the engine refused, see vm->attach_error */
    const struct engine *next; /* under run_lock: to be exchanged for, while parked */
    bool exchanged;            /* under run_lock: the last one was attached */
    u64 halts, exits;
};

struct vm {
    struct vm_config config;
    const struct engine *engine;
    struct error passed; /* why not one of those before it; empty: it was the first */
    struct x86_model model;
    struct board board;
    struct loop loop;
    struct host_clock clock;
    struct kernel kernel;
    struct pc pc;
    struct plugs plugs;
    unsigned starts; /* vm_reset's */
    bool asleep;     /* in S3: vCPUs stand still, devices go on; main thread */

    enum board_request request; /* under the board lock */
    int exit_status;            /* under the board lock */
    bool left;                  /* main thread */

    /* runstate.c's; main thread. */
    enum vm_state state;
    const char *asked; /* the reason of a request that is not the guest's, or NULL */
    struct vm_watcher *watchers;
    struct loop_work disk_work, clock_work;
    s64 clock_offset; /* under the board lock: as the guest set it last */
    s64 clock_told;   /* main thread: what watchers know of that */
    unsigned holds;   /* vm_hold without its vm_release */

    /* The vCPU threads, see run.h. Lock order: board lock, run_lock, a vCPU's wait_lock. */
    pthread_mutex_t run_lock;
    pthread_cond_t run_cond;
    bool running, ending;
    struct vm_thread threads[VM_MAX_CPUS];
    unsigned n_threads;
    struct error attach_error;
};
