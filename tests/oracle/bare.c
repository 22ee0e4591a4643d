/*
 * The processor as a runner. A child process maps code and window at their addresses, enters a
 * sequence by IRETQ, which sets all of RIP, CS, RSP and RFLAGS at once, and leaves it by the
 * signal that its end or a fault raises. Sequences may wreck the child or loop: the parent
 * watches, gives the job up and starts another child.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/ensure.h"
#include "oracle.h"

#define PATIENCE_MS 500 /* without progress: the sequence loops */

struct order {
    struct job *jobs;
    unsigned from, to;
};

struct bare {
    pid_t child;
    int orders, reports;       /* pipe ends of the parent */
    _Atomic unsigned *current; /* shared: the job in hand */
    struct order order;
};

/* The child's own; a signal handler finds it only here. */
static struct child {
    struct job *job;
    u64 host_rsp, fs_base;
    bool avx, writable; /* the code pages are, at present */
    u8 *window, *code;  /* writable aliases */
} child;

_Static_assert(offsetof(struct state, rip) == 128 && offsetof(struct state, rflags) == 136 &&
                   offsetof(struct state, fpu) == 192,
               "the offsets in bare_enter");

/* Runs from *s with code segment `cs`; returns when bare_leave is called with *host_rsp. */
void bare_enter(const struct state *s, u64 cs, u64 *host_rsp);
_Noreturn void bare_leave(u64 host_rsp);
__asm__(".text\n"
        "bare_enter:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, (%rdx)\n"
        "mov %rsi, %rcx\n"
        "mov $7, %eax; xor %edx, %edx\n"
        "xrstor64 192(%rdi)\n"
        "push $0x2b; push 32(%rdi); push 136(%rdi); push %rcx; push 128(%rdi)\n"
        "mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
        "mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
        "mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
        "mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
        "mov 56(%rdi), %rdi\n"
        "iretq\n"
        "bare_leave:\n"
        "mov %rdi, %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "cld\n"
        "ret\n");

/* No libc here: errno lives where FS points. */
static inline void set_fs_base(u64 base)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_arch_prctl), "D"(ARCH_SET_FS), "S"(base)
                     : "rcx", "r11", "memory");
}

static void read_context(struct state *out, const ucontext_t *u)
{
    static const u8 order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                 REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                 REG_R12, REG_R13, REG_R14, REG_R15};
    const greg_t *g = u->uc_mcontext.gregs;
    for (unsigned k = 0; k < 16; k++)
        out->gpr[k] = (u64)g[order[k]];
    out->rip = (u64)g[REG_RIP];
    out->rflags = (u64)g[REG_EFL];
    out->vector = (u8)g[REG_TRAPNO];
    out->error = (u32)g[REG_ERR];
    out->cr2 = (u64)g[REG_CR2];
    memset(&out->fpu, 0, sizeof(out->fpu));
    memcpy(&out->fpu, u->uc_mcontext.fpregs,
           child.avx ? sizeof(out->fpu) : offsetof(struct x86_fpu, xstate_bv));
}

__attribute__((no_sanitize("address", "undefined", "thread"))) static void
child_signal(int signal, siginfo_t *info, void *context)
{
    /* The sequence's AC is still on, and C code need not be aligned. */
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" : : : "memory", "cc");
    set_fs_base(child.fs_base);
    struct state *out = &child.job->out[BARE];
    read_context(out, context);
    bool end = out->vector == VEC_BP;
    out->outcome = end ? OUTCOME_END : OUTCOME_FAULT;
    bare_leave(child.host_rsp);
}

static void child_allow_writes(bool writable)
{
    int rights = PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0);
    if (child.writable == writable)
        return;
    ensure(mprotect((void *)CODE_BASE, CODE_SIZE, rights) == 0);
    child.writable = writable;
}

static void child_run(struct job *job)
{
    child.job = job;
    sequence_place(&job->sequence, child.code);
    child_allow_writes(job->sequence.modifies);
    memcpy(child.window, job->in.memory, WINDOW_SIZE);
    u64 cs = job->sequence.code_size == 8 ? USER_CS64 : USER_CS32;
    set_fs_base(FS_BASE);
    bare_enter(&job->in, cs, &child.host_rsp);
    memcpy(job->out[BARE].memory, child.window, WINDOW_SIZE);
    memcpy(job->out[BARE].code, child.code, CODE_SIZE);
}

static void map_at(u64 at, u64 size, int rights, int fd, u64 offset)
{
    ensure(mmap((void *)at, size, rights, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd,
                (off_t)offset) == (void *)at);
}

/* What the parent has below 4 GiB, such as the translator's vCPU, is not there for sequences.
 */
static void child_map(void)
{
    const u64 lowest = 64 * KiB;
    ensure(munmap((void *)lowest, 4 * GiB - lowest) == 0);
    int fd = memfd_create("oracle", 0);
    ensure(ftruncate(fd, (off_t)(WINDOW_SIZE + CODE_SIZE)) == 0);
    child.window =
        mmap(NULL, WINDOW_SIZE + CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    child.code = child.window + WINDOW_SIZE;
    map_at(WINDOW_BASE, WINDOW_SIZE - PAGE_SIZE, PROT_READ | PROT_WRITE, fd, 0);
    map_at(WINDOW_BASE + WINDOW_SIZE - PAGE_SIZE, PAGE_SIZE, PROT_READ, fd,
           WINDOW_SIZE - PAGE_SIZE);
    map_at(CODE_BASE, CODE_SIZE, PROT_READ | PROT_EXEC, fd, WINDOW_SIZE);
}

_Noreturn static void child_main(int orders, int reports, _Atomic unsigned *current)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    u8 *stack = malloc(64 * KiB);
    struct order order;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = 64 * KiB}, NULL);
    struct sigaction action = {.sa_sigaction = child_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    for (unsigned k = 0; k < ARRAY_LEN(signals); k++)
        sigaction(signals[k], &action, NULL);
    child_map();
    child.avx = host_xcr0() & XCR0_AVX;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &child.fs_base);
    syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_DS));
    while (read(orders, &order, sizeof(order)) == sizeof(order)) {
        for (unsigned k = order.from; k < order.to; k++) {
            atomic_store(current, k);
            child_run(&order.jobs[k]);
        }
        atomic_store(current, order.to);
        if (write(reports, "d", 1) != 1)
            break;
    }
    _exit(0);
}

/* -- The parent ---------------------------------------------------------------------------- */

void *bare_alloc(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ensure(p != MAP_FAILED);
    return p;
}

static void child_start(struct bare *b)
{
    int orders[2], reports[2];
    ensure(pipe(orders) == 0 && pipe(reports) == 0);
    fflush(stdout);
    b->child = fork();
    ensure(b->child >= 0);
    if (b->child == 0) {
        close(orders[1]);
        close(reports[0]);
        child_main(orders[0], reports[1], b->current);
    }
    close(orders[0]);
    close(reports[1]);
    b->orders = orders[1];
    b->reports = reports[0];
}

static void child_stop(struct bare *b)
{
    kill(b->child, SIGKILL);
    waitpid(b->child, NULL, 0);
    close(b->orders);
    close(b->reports);
}

static void bare_order(struct bare *b)
{
    struct order order = b->order;
    atomic_store(b->current, order.from);
    ensure(write(b->orders, &order, sizeof(order)) == sizeof(order));
}

static void bare_start(void *opaque, struct job *jobs, unsigned count)
{
    struct bare *b = opaque;
    if (!b->child)
        child_start(b);
    b->order = (struct order){jobs, 0, count};
    bare_order(b);
}

/* True: the child reports the end of its order. */
static bool reported(struct bare *b)
{
    struct pollfd p = {.fd = b->reports, .events = POLLIN};
    u8 byte;
    unsigned before;
    do {
        before = atomic_load(b->current);
        int n = poll(&p, 1, PATIENCE_MS);
        if (n > 0)
            return read(b->reports, &byte, 1) == 1;
    } while (atomic_load(b->current) != before);
    return false;
}

static void bare_finish(void *opaque)
{
    struct bare *b = opaque;
    while (!reported(b)) {
        unsigned lost = atomic_load(b->current);
        child_stop(b);
        child_start(b);
        if (lost >= b->order.to)
            return;
        b->order.jobs[lost].out[BARE].outcome = OUTCOME_LOST;
        b->order.from = lost + 1;
        bare_order(b);
    }
}

static void bare_free(struct runner *r)
{
    struct bare *b = r->opaque;
    if (b->child)
        child_stop(b);
    munmap((void *)b->current, sizeof(*b->current));
    free(b);
    free(r);
}

struct runner *bare_runner(void)
{
    struct bare *b = calloc(1, sizeof(*b));
    struct runner *r = calloc(1, sizeof(*r));
    b->current = bare_alloc(sizeof(*b->current));
    *r = (struct runner){"bare", bare_start, bare_finish, bare_free, b};
    return r;
}
