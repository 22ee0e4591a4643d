/*
 * Guest programs that a cell has to serve or to leave alone, compiled in the guest
 * (programs.py):
 *
 *     programs ldt         a segment of the process's own, which no cell can have
 *     programs resident    a gibibyte, written and read back
 *     programs many        200 processes that compute at once
 *     programs signals     faults, timers and system calls, with handlers that change registers
 *     programs threads     four threads of one address space that map, write and unmap
 *     programs jit         code that is written, run and rewritten
 *
 * Each prints one line that depends on nothing but the machine being right.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 29;
    return x;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *map(size_t size, int rights)
{
    void *p = mmap(NULL, size, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap");
    return p;
}

static uint64_t run_ldt(void)
{
    uint32_t *data = map(4096, PROT_READ | PROT_WRITE), sum = 0;
    struct user_desc entry = {.entry_number = 1,
                              .base_addr = (unsigned)(uintptr_t)data,
                              .limit = 1023,
                              .seg_32bit = 1,
                              .useable = 1};
    for (uint32_t i = 0; i < 1024; i++)
        data[i] = i * 3;
    if (syscall(SYS_modify_ldt, 1, &entry, sizeof(entry)))
        fail("modify_ldt");
    /* VERR, SETZ AL, MOVZX EAX, RET in a page that holds nothing else: one that cells take. */
    static const uint8_t code[] = {0x0f, 0x00, 0xe7, 0x0f, 0x94, 0xc0, 0x0f, 0xb6, 0xc0, 0xc3};
    unsigned (*is_readable)(unsigned) = map(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(is_readable, code, sizeof(code));
    unsigned selector = 1 << 3 | 7;
    for (unsigned n = 0; n < 3000000; n++) {
        uint32_t value;
        sum += is_readable(selector);
        if (n % 1000000 == 0)
            __asm__ volatile("mov %0, %%gs\n\tmov %%gs:400, %1\n\tmov %2, %%gs"
                             : "+r"(selector), "=r"(value)
                             : "r"(0));
        else
            value = data[n % 256];
        sum += value;
    }
    return sum;
}

static uint64_t run_resident(void)
{
    const size_t size = 1ul << 30, step = 4096 / sizeof(uint64_t);
    uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    if (p == MAP_FAILED)
        fail("mmap");
    madvise(p, size, MADV_NOHUGEPAGE);
    for (unsigned n = 0; n < 2; n++) {
        for (size_t i = 0; i < size / sizeof(*p); i += step)
            p[i] = n ? p[i] * 3 : mix(i);
    }
    /* In random order, so that every mapping is wanted again. */
    for (size_t i = 0; i < size / 4096; i++)
        sum += p[(i * 2654435761u) % (size / 4096) * step];
    return sum;
}

static uint64_t run_many(void)
{
    enum { CHILDREN = 200 };
    uint64_t *sums =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    for (unsigned i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (!child) {
            uint64_t x = i;
            for (unsigned n = 0; n < 3000000; n++)
                x = mix(x + n);
            sums[i] = x;
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
    for (unsigned i = 0; i < CHILDREN; i++)
        sum = mix(sum + sums[i]);
    return sum;
}

static volatile uint64_t ticks, traps;

static void on_alarm(int number)
{
    (void)number;
    ticks++;
}

/* Goes on behind UD2, with RAX doubled. */
static void on_illegal(int number, siginfo_t *info, void *opaque)
{
    (void)number, (void)info;
    greg_t *r = ((ucontext_t *)opaque)->uc_mcontext.gregs;
    r[REG_RIP] += 2;
    r[REG_RAX] *= 2;
    traps++;
}

static uint64_t run_signals(void)
{
    struct sigaction illegal = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    struct itimerval period = {{0, 1000}, {0, 1000}};
    uint64_t x = 1;
    sigaction(SIGILL, &illegal, NULL);
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &period, NULL);
    for (unsigned n = 0; n < 20000; n++) {
        uint64_t y = x & 0xffff;
        __asm__ volatile("ud2" : "+a"(y) : : "memory");
        for (unsigned i = 0; i < 1000; i++)
            x = mix(x + i);
        x += y;
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    return ticks > 5 && traps == 20000 ? x : 0;
}

static void *thread(void *opaque)
{
    uint64_t x = (uintptr_t)opaque;
    for (unsigned n = 0; n < 500; n++) {
        uint64_t *p = map(8 * 4096, PROT_READ | PROT_WRITE);
        for (unsigned i = 0; i < 8; i++) {
            if (p[i * 512])
                fail("a new page is not zero");
            p[i * 512] = x = mix(x + i);
        }
        for (unsigned i = 0; i < 2000; i++)
            x = mix(x);
        if (mprotect(p, 4096, PROT_READ) || munmap(p, 8 * 4096))
            fail("munmap");
    }
    return (void *)(uintptr_t)x;
}

static uint64_t run_threads(void)
{
    pthread_t threads[4];
    uint64_t sum = 0;
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, thread, (void *)(i + 1));
    for (unsigned i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum = mix(sum + (uintptr_t)result);
    }
    return sum;
}

static uint64_t run_jit(void)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3}; /* eax = imm + edi */
    uint8_t *page = map(2 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint64_t sum = 0;
    for (uint32_t n = 0; n < 20000; n++) {
        uint8_t *at = page + 4096 - 16 + n % 16; /* across the page's end, too */
        uint32_t (*function)(uint32_t);
        uint32_t value = (uint32_t)mix(n);
        memcpy(at, code, sizeof(code));
        memcpy(at + 1, &value, 4);
        memcpy(&function, &at, sizeof(at));
        for (uint32_t i = 0; i < 50; i++)
            sum = mix(sum + function(i));
    }
    return sum;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*run)(void);
    } programs[] = {{"ldt", run_ldt},         {"resident", run_resident}, {"many", run_many},
                    {"signals", run_signals}, {"threads", run_threads},   {"jit", run_jit}};
    for (unsigned i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        if (argc > 1 && !strcmp(argv[1], programs[i].name)) {
            printf("%s %016llx\n", argv[1], (unsigned long long)programs[i].run());
            return 0;
        }
    }
    return 2;
}
