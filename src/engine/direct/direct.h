/*
 * The engine direct: guest user code on the bare processor, in cells; guest kernel code under
 * the translator (design, section 5.2). This header holds the state of one vCPU and says which
 * file does what:
 *
 *   protocol.h stub.S   what monitor, cell and mapper share
 *   zygote.c            the process that makes cells
 *   cell.c park.c       one cell: made, run, kicked, verified
 *   filter.c            the system calls that are left to it
 *   frame.c             its registers
 *   mapper.c            its mappings, as orders
 *   shadow.c scan.c     which mappings, and which code
 *   guard.c             breakpoints where code is that must not run
 *   annex.c copy.c      copies of such code
 *   compat.c            32-bit code: segment registers
 *   policy.c rest.c     who gets a cell, and when it is left for a while
 *   notes.c             what the translator tells: privilege changes, TLB flushes, code changed
 *   direct.c            the engine: runs cells and serves their stops
 *
 * Every stop is served by putting the processor's state before the instruction that stopped and
 * letting the simulator execute that one: so exceptions and system calls are the architectural
 * ones by the guest's own tables, whatever the cell says about them.
 *
 * Threads: all of it belongs to the vCPU's thread, but direct_kick.
 */
#pragma once

#include <pthread.h>
#include <time.h>

#include "engine/bt/watch.h"
#include "engine/direct/policy.h"
#include "engine/direct/shadow.h"
#include "engine/engine.h"

/* Address spaces that are remembered, and how many of them may have a cell. */
#define MAX_SPACES 64
#define MAX_CELLS  24

/* Does an address space run from the annex of its cell, see direct.c. */
struct copies {
    bool on;         /* it runs from the annex where it can */
    unsigned visits; /* to code that must not run directly, since the last kick */
    s64 spent;       /* us: what copying took, less a part of what ran from copies */
    unsigned pause;  /* kicks until they are tried again */
    u8 tries;        /* that failed: each doubles the pause */
};

/* A guest address space, by its CR3. */
struct space {
    u64 cr3;
    u64 used;    /* when it was current last */
    bool narrow; /* it was seen to run 32-bit code: its cell has to be narrow */
    bool has_cell;
    struct cell cell;
    struct shadow shadow;
    u64 generation; /* direct->generation that its shadow was compared at */
    struct policy policy;
    struct copies copies;
    u64 print; /* of its upper tables as its window began: tells it from a successor */
    /* The guest's page fault that the cell had last, to be mapped as the user code goes on. */
    struct {
        bool due;
        u64 va;
        enum x86_access access;
    } expected;
};

/* What happened since a cell ran last, to be done before one runs again. */
#define MAX_NOTES 64
struct notes {
    unsigned n_pages, n_frames;
    u64 page[MAX_NOTES]; /* INVLPG in the present address space */
    struct {
        u64 frame;
        u8 rights; /* to be revoked */
    } frame[MAX_NOTES];
    bool all_frames; /* too many: all cells are emptied */
};

/* What keeps user code under the translator, whatever it would gain. */
enum stay {
    STAY_MODE,      /* 16-bit code; 32-bit code of a kernel without long mode, see compat.h */
    STAY_SELECTORS, /* others than Linux's */
    STAY_CONTROL,   /* CR0: lazy FPU */
    STAY_FEATURES,  /* CR4, XCR0: what user code could tell from the host's */
    STAY_FLAGS,     /* TF, AC, IOPL; IF clear */
    STAY_DEBUG,     /* breakpoints */
    STAY_ADDRESS,   /* not the lower half */
    STAY_SHADOW,    /* an instruction behind MOV SS or STI, a pending #DB */
    STAY_HOST,      /* 32-bit code, for which the host has no cells */
    N_STAYS,
};
extern const char *const stay_names[N_STAYS];

/*
 * User code that rests with the translator (policy.h). A timer judges the rest; it runs under
 * the board lock in any thread, so it tells the vCPU's thread by a word and a kick.
 */
struct rest {
    struct timer timer;
    struct space *space; /* whose; NULL: nobody rests. The vCPU's thread's */
    _Atomic u32 verdict; /* enum rest_verdict */
    _Atomic u64 charges; /* us, of page faults since it was judged last */
    u32 calls;           /* *watch.calls then */
    clockid_t clock;     /* of the vCPU's thread's processor time */
    u64 used;            /* ns of that, then */
    u32 rested, period;  /* us: all of it, and until it is judged next */
    struct rest_tally tally;
};

struct direct {
    struct vcpu *vcpu;
    struct bt_watch watch;
    struct x86_ops ops; /* the translator's, with ours before them */
    const struct x86_ops *below;
    struct zygote zygote;
    struct shadow_world world;
    struct space spaces[MAX_SPACES];
    u8 hints[MAX_SPACES]; /* by CR3: where its record may be */
    struct space *space;  /* of the present CR3; NULL: to be looked for */
    u64 clock;            /* counts changes of address space */
    u64 generation;       /* counts what invalidates more than a page */
    u64 drops; /* changes of the pmap that the cells know of, see struct x86_tlb_use */
    struct notes notes;
    bool always;                  /* -accel direct,always=on */
    bool copies;                  /* ...,copies=on: all 64-bit code runs from annexes */
    bool narrow_tried, no_narrow; /* the host's cells for 32-bit code: probed; none */
    struct {
        bool on;
        u64 used;        /* when a cell ran last, TSC */
        u64 allowed[16]; /* where the thread may run without, a cpu_set_t */
    } pin;
    bool in_user;   /* user code ran when the translator asked last */
    bool hold;      /* until the next kernel entry user code stays with the translator */
    u32 hold_calls; /* *watch.calls then */
    /* Kernel entries: CR2 and *watch.calls as they were at the last look. */
    u64 fault_seen;
    u32 calls_seen;
    u64 extra; /* us that cells cost beside crossings and mappings, to be charged */
    u64 sampled_at, sampled_tsc; /* the last sample of the policy, us of processor time */
    struct rest rest;

    pthread_mutex_t kick_lock;
    struct cell *running; /* under kick_lock */

    struct {
        u64 runs, kicks, syscalls, faults, steps, excursions, holds, cells, lost, promoted,
            demoted;
        u64 rests, batches, successors;
        u64 copies, pieces, resets; /* runs in annexes; what was copied; how often anew */
        u64 stays[N_STAYS];         /* user code that wanted a cell and could not have one */
    } stats;
};

static inline struct direct *direct_of(const struct x86_cpu *c)
{
    return (struct direct *)container_of(c->ops, struct direct, ops);
}

/* -- rest.c: not from inside the translator */
/* Attaching, in the vCPU's thread. */
void rest_make(struct direct *direct);
void rest_begin(struct direct *direct, struct space *space);
/* Detaching: the timer is not armed any more. */
void rest_stop(struct direct *direct);

/* -- notes.c */
void notes_make(struct direct *direct);
/* Should user code run in a cell now, from the processor's present state? */
bool notes_wanted(struct direct *direct, const struct x86_cpu *c);
/* engine->code_written, engine->code_watched */
void notes_code_written(struct vcpu *vcpu, struct gfn frame, u64 lines);
void notes_code_watched(struct vcpu *vcpu, struct gfn frame);
/* The record of the present CR3, new if need be; the least used goes, but never its cell: NULL
 * when every record has one. */
struct space *notes_space(struct direct *direct, const struct x86_cpu *c);
/* The present space's policy changed: does the translator have to ask at each return to it? */
void notes_watch(struct direct *direct);
/* Lets the thread run where it likes again if no cell ran for `us`. */
#define PIN_US 20000
void notes_unpin(struct direct *direct, u64 us);
/* policy_demote, counted. */
void notes_demote(struct direct *direct, struct space *space);
