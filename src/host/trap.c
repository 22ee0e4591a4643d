/* The signal trampoline, see trap.h. Its pointers are the file-scope state that law 7
 * allows. */
#include "host/trap.h"

#include <stdlib.h>
#include <sys/mman.h>

/* The kernel's frame with AVX-512 state is about 3.5 KiB; handlers here are shallow. */
#define STACK_SIZE (64 * 1024)
/* linux/signal.h SS_AUTODISARM, which libc's headers lack. */
#define ALTSTACK_AUTODISARM (1u << 31)

static _Thread_local struct trap *current;
static _Thread_local void *stack;
static void (*last_words)(void);

static const int trapped[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

static void trap_signal(int signal, siginfo_t *info, void *context)
{
    if (current && current->handle(current, signal, info, context))
        return;
    if (last_words)
        last_words();
    /* Ours: let the instruction fault again, now with the default action. */
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    if (info->si_code <= 0) /* sent by somebody: no instruction will repeat it */
        raise(signal);
}

void trap_on_crash(void (*function)(void))
{
    last_words = function;
}

void trap_install(void)
{
    struct sigaction action = {.sa_sigaction = trap_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < ARRAY_LEN(trapped); i++)
        sigaction(trapped[i], &action, NULL);
}

bool trap_enter(struct trap *trap, struct error *err)
{
    stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return error_errno(err, "cannot allocate a signal stack");
    /* Auto-disarmed: else the kernel takes a stack pointer that lies in the alternate stack,
     * and in translated code that is the guest's to choose, for a handler already running
     * there. */
    stack_t alternate = {
        .ss_sp = stack, .ss_size = STACK_SIZE, .ss_flags = (int)ALTSTACK_AUTODISARM};
    if (sigaltstack(&alternate, NULL) != 0)
        return error_errno(err, "cannot set the signal stack");
    current = trap;
    return true;
}

void trap_leave(void)
{
    current = NULL;
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    munmap(stack, STACK_SIZE);
}
