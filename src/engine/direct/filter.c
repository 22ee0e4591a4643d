/* The seccomp programs of cells and mappers, see filter.h. */
#include "engine/direct/filter.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/ensure.h"
#include "engine/direct/protocol.h"

/* In the 32-bit table. */
#define LEGACY_SET_THREAD_AREA 243

/* The host's vsyscall page makes these. */
static const u32 vsyscalls[] = {SYS_gettimeofday, SYS_time, SYS_getcpu};

static void add(struct filter *f, u16 code, u32 k, u8 jt, u8 jf)
{
    ensure(f->n < FILTER_MAX);
    f->code[f->n++] = (struct sock_filter){code, jt, jf, k};
}

static void load(struct filter *f, size_t offset)
{
    add(f, BPF_LD | BPF_W | BPF_ABS, (u32)offset, 0, 0);
}

static void answer(struct filter *f, u32 what)
{
    add(f, BPF_RET | BPF_K, what, 0, 0);
}

/* Kills unless the loaded word is `k`. */
static void need(struct filter *f, u32 k)
{
    add(f, BPF_JMP | BPF_JEQ | BPF_K, k, 1, 0);
    answer(f, SECCOMP_RET_KILL_PROCESS);
}

/* Answers `what` if the loaded word is `k`. */
static void on(struct filter *f, u32 k, u32 what)
{
    add(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
    answer(f, what);
}

/* What follows until the matching end() is for the loaded word being `k`. */
static u16 when(struct filter *f, u32 k)
{
    add(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0);
    return (u16)(f->n - 1);
}

static void end(struct filter *f, u16 begin)
{
    f->code[begin].jf = (u8)(f->n - begin - 1);
}

/* The low half of an argument: all that counts where the kernel's parameter is an int. */
static void load_low(struct filter *f, unsigned argument)
{
    load(f, offsetof(struct seccomp_data, args) + 8 * argument);
}

static void need_value(struct filter *f, unsigned argument, u64 value)
{
    load_low(f, argument);
    need(f, (u32)value);
    load(f, offsetof(struct seccomp_data, args) + 8 * argument + 4);
    need(f, (u32)(value >> 32));
}

static void start_calls(struct filter *f)
{
    load(f, offsetof(struct seccomp_data, arch));
    need(f, AUDIT_ARCH_X86_64);
    load(f, offsetof(struct seccomp_data, nr));
}

/* The calls of the 32-bit table. Numbers mean something else there. */
static void filter_legacy(struct filter *f, u64 tls)
{
    load(f, offsetof(struct seccomp_data, arch));
    u16 legacy = when(f, AUDIT_ARCH_I386);
    load(f, offsetof(struct seccomp_data, nr));
    need(f, LEGACY_SET_THREAD_AREA);
    load_low(f, 0);
    for (unsigned i = 0; i < TLS_MAX; i++)
        on(f, (u32)tls + i * TLS_SIZE, SECCOMP_RET_ALLOW);
    answer(f, SECCOMP_RET_KILL_PROCESS);
    end(f, legacy);
}

void filter_cell(struct filter *f, u64 turn, u64 mturn, u64 tls)
{
    f->n = 0;
    if (tls)
        filter_legacy(f, tls);
    start_calls(f);
    on(f, SYS_rt_sigreturn, SECCOMP_RET_ALLOW);
    for (unsigned i = 0; i < ARRAY_LEN(vsyscalls); i++)
        on(f, vsyscalls[i], SECCOMP_RET_TRAP);
    need(f, SYS_futex);
    load_low(f, 1);
    u16 wait = when(f, FUTEX_WAIT);
    need_value(f, 0, turn);
    need_value(f, 2, 0);
    need_value(f, 3, 0);
    answer(f, SECCOMP_RET_ALLOW);
    end(f, wait);
    need(f, FUTEX_WAKE);
    need_value(f, 0, mturn);
    answer(f, SECCOMP_RET_ALLOW);
}

static void filter_mmap(struct filter *f)
{
    load_low(f, 3);
    need(f, MAP_SHARED | MAP_FIXED | MAP_POPULATE);
    load_low(f, 4);
    u16 write = when(f, MAPPER_WRITE);
    load_low(f, 2);
    need(f, PROT_READ | PROT_WRITE);
    answer(f, SECCOMP_RET_ALLOW);
    end(f, write);
    need(f, MAPPER_READ);
    load_low(f, 2);
    on(f, PROT_READ, SECCOMP_RET_ALLOW);
    need(f, PROT_READ | PROT_EXEC);
    answer(f, SECCOMP_RET_ALLOW);
}

void filter_mapper(struct filter *f, u64 sequence, u64 turn)
{
    f->n = 0;
    start_calls(f);
    on(f, SYS_munmap, SECCOMP_RET_ALLOW);
    u16 map = when(f, SYS_mmap);
    filter_mmap(f);
    end(f, map);
    u16 report = when(f, SYS_write);
    load_low(f, 0);
    need(f, MAPPER_REPORT);
    answer(f, SECCOMP_RET_ALLOW);
    end(f, report);
    need(f, SYS_futex);
    load_low(f, 1);
    u16 wait = when(f, FUTEX_WAIT);
    need_value(f, 0, sequence);
    answer(f, SECCOMP_RET_ALLOW);
    end(f, wait);
    need(f, FUTEX_WAKE);
    need_value(f, 0, turn);
    answer(f, SECCOMP_RET_ALLOW);
}
