/*
 * What KVM's paravirtual features are for, measured in the guest: "NAME nanoseconds" a line for
 * each. Two processors.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096
#define CHURN 1000

static _Atomic int ending;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void *spin(void *unused)
{
    pin(1);
    while (!atomic_load(&ending))
        continue;
    return NULL;
}

/* Runs for a moment now and then, so that its TLB has to be thought of. */
static void *doze(void *unused)
{
    pin(1);
    while (!atomic_load(&ending))
        usleep(500);
    return NULL;
}

/* Pages taken away while the other thread runs, or sleeps: a shootdown each time. */
static void shoot(void *(*other)(void *), const char *name, unsigned count)
{
    pthread_t thread;
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    atomic_store(&ending, 0);
    pthread_create(&thread, NULL, other, NULL);
    usleep(20000);
    uint64_t start = now();
    for (unsigned i = 0; i < count; i++) {
        page[0] = 1;
        mprotect(page, PAGE, PROT_READ);
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    }
    printf("%s %llu\n", name, (unsigned long long)(now() - start) / count);
    atomic_store(&ending, 1);
    pthread_join(thread, NULL);
}

static int to[2], from[2];

static void *echo(void *unused)
{
    char byte;
    pin(1);
    while (read(to[0], &byte, 1) == 1 && byte)
        if (write(from[1], &byte, 1) != 1)
            break;
    return NULL;
}

/* Each message wakes a sleeping processor by an interrupt. */
static void ping(unsigned count)
{
    pthread_t thread;
    char byte = 1;
    if (pipe(to) || pipe(from))
        return;
    pthread_create(&thread, NULL, echo, NULL);
    uint64_t start = now();
    for (unsigned i = 0; i < count; i++)
        if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1)
            return;
    printf("wakeup %llu\n", (unsigned long long)(now() - start) / count);
    byte = 0;
    if (write(to[1], &byte, 1) == 1)
        pthread_join(thread, NULL);
}

static void *churn(void *cpu)
{
    pin((unsigned)(uintptr_t)cpu);
    for (unsigned i = 0; i < CHURN; i++) {
        /* The lock of the address space's counters and of the page allocator. */
        void *page = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        munmap(page, 16 * PAGE);
    }
    return NULL;
}

static void contend(void)
{
    pthread_t thread;
    uint64_t start = now();
    pthread_create(&thread, NULL, churn, (void *)(uintptr_t)1);
    churn(NULL);
    pthread_join(thread, NULL);
    printf("contention %llu\n", (unsigned long long)(now() - start) / CHURN);
}

int main(void)
{
    pin(0);
    shoot(spin, "shootdown", 300);
    shoot(doze, "shootdown-asleep", 3000);
    ping(1000);
    contend();
    return 0;
}
