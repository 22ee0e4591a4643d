/*
 * The zygote, see zygote.h. What runs in the child is a copy of one thread of a process with
 * several, so it makes system calls and nothing else: no allocation, no locks, no output.
 */
#include "engine/direct/zygote.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rseq.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/direct/protocol.h"
#include "x86/model.h"

enum request_kind { REQUEST_FORK, REQUEST_REAP };

struct request {
    u64 kind;
    u64 base;
    s64 pid;
};

/* Descriptors of the zygote, out of the way of those that a cell's mapper gets. */
enum { FD_SOCKET = 10, FD_WRITE, FD_READ, FD_END };

/* -- In the cell: from the fork to the stub ------------------------------------------------ */

/* One page range of the block. */
static bool map_part(int block, u64 base, unsigned first, unsigned last, int rights)
{
    u64 size = (last - first) * PAGE_SIZE;
    void *want = (void *)(base + first * PAGE_SIZE);
    return mmap(want, size, rights, MAP_SHARED | MAP_FIXED_NOREPLACE, block,
                (off_t)(first * PAGE_SIZE)) == want;
}

static bool map_block(int block, u64 base)
{
    return map_part(block, base, CELL_STUB_PAGE, CELL_ORDERS_PAGE, PROT_READ | PROT_EXEC) &&
           map_part(block, base, CELL_ORDERS_PAGE, CELL_CONTROL_PAGE, PROT_READ) &&
           map_part(block, base, CELL_CONTROL_PAGE, CELL_TABLE_PAGE, PROT_READ | PROT_WRITE) &&
           map_part(block, base, CELL_TABLE_PAGE, CELL_CODE_PAGE, PROT_READ) &&
           map_part(block, base, CELL_CODE_PAGE, CELL_PAGES, PROT_READ | PROT_EXEC);
}

/* The stub's script does the rest: it unmaps this code. */
static _Noreturn void become_cell(int block, int event, u64 base)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int moved = fcntl(block, F_DUPFD, FD_END);
    int report = fcntl(event, F_DUPFD, FD_END);
    bool good = moved >= 0 && report >= 0 && map_block(moved, base) &&
                dup2(report, MAPPER_REPORT) >= 0 && dup2(FD_WRITE, MAPPER_WRITE) >= 0 &&
                dup2(FD_READ, MAPPER_READ) >= 0 &&
                syscall(SYS_close_range, MAPPER_READ + 1, ~0u, 0) == 0;
    if (!good)
        _exit(1);
    void (*start)(void);
    u64 address = base + (u64)(cell_stub_start - cell_stub);
    memcpy(&start, &address, sizeof(start));
    start();
    _exit(1);
}

/* -- In the zygote ------------------------------------------------------------------------- */

/* Two descriptors come with a request to fork; they get the lowest numbers. */
static bool receive(struct request *request, int fds[2])
{
    struct iovec part = {request, sizeof(*request)};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(FD_SOCKET, &message, 0);
    while (n < 0 && errno == EINTR);
    if (n != sizeof(*request))
        return false;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    fds[0] = fds[1] = -1;
    if (rights && rights->cmsg_len == CMSG_LEN(2 * sizeof(int)))
        memcpy(fds, CMSG_DATA(rights), 2 * sizeof(int));
    return true;
}

static s64 serve(const struct request *request, const int fds[2])
{
    if (request->kind == REQUEST_REAP)
        return waitpid((pid_t)request->pid, NULL, __WALL);
    if (fds[0] < 0 || fds[1] < 0)
        return -EBADF;
    /* _Fork would be the word; as the system call it needs no newer libc. */
    long pid = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (pid == 0)
        become_cell(fds[0], fds[1], request->base);
    s64 result = pid < 0 ? -errno : pid;
    close(fds[0]);
    close(fds[1]);
    return result;
}

/* The libc's registrations with the kernel point into memory that cells do not have. */
static void unregister(void)
{
#ifdef RSEQ_SIG
    if (__rseq_size) {
        u8 *area = (u8 *)__builtin_thread_pointer() + __rseq_offset;
        unsigned size = __rseq_size > 32 ? __rseq_size : 32;
        syscall(SYS_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
    }
#endif
    syscall(SYS_set_robust_list, NULL, 24);
}

static void reset_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
}

/* Guest memory must not get into core files; 1 also silences a core handler behind a pipe. */
static void forbid_cores(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1});
}

static bool keep_descriptors(int socket, int memory, int memory_read)
{
    const int keep[] = {socket, memory, memory_read};
    int moved[ARRAY_LEN(keep)];
    for (unsigned i = 0; i < ARRAY_LEN(keep); i++) {
        moved[i] = fcntl(keep[i], F_DUPFD, FD_END);
        if (moved[i] < 0)
            return false;
    }
    for (unsigned i = 0; i < ARRAY_LEN(keep); i++)
        if (dup2(moved[i], FD_SOCKET + (int)i) < 0)
            return false;
    return syscall(SYS_close_range, 0, FD_SOCKET - 1, 0) == 0 &&
           syscall(SYS_close_range, FD_END, ~0u, 0) == 0;
}

static _Noreturn void zygote_main(int socket, int memory, int memory_read, bool faults_cpuid)
{
    struct request request;
    int fds[2];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "doppel-zygote");
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* a mapper is a child of its cell */
    reset_signals();
    unregister();
    forbid_cores();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        (faults_cpuid && syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) ||
        !keep_descriptors(socket, memory, memory_read))
        _exit(1);
    while (receive(&request, fds)) {
        s64 answer = serve(&request, fds);
        if (send(FD_SOCKET, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
            break;
    }
    _exit(0);
}

/* -- In the monitor ------------------------------------------------------------------------ */

/*
 * CPUID faulting is a bit of MSR_MISC_FEATURES, which the host's kernel writes whenever it
 * switches between a cell and another task. Under a hypervisor each such write leaves the
 * virtual machine: 13 us of the 15 us that a switch took then (Linux 6.18 as a guest, Intel).
 * CPUID is found by the scan there, as on processors without it.
 */
static bool can_fault_cpuid(void)
{
    u32 out[4];
    x86_host_cpuid(1, 0, out);
    bool hypervisor = out[2] >> 31;
    return !hypervisor && !syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1); /* as it is here */
}

bool zygote_create(struct zygote *zygote, int memory, struct error *err)
{
    char path[40];
    int sockets[2];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    int memory_read = open(path, O_RDONLY | O_CLOEXEC);
    if (memory_read < 0)
        return error_errno(err, "cannot open guest memory for reading through /proc");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
        close(memory_read);
        return error_errno(err, "cannot make a socket pair");
    }
    zygote->faults_cpuid = can_fault_cpuid();
    zygote->pid = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (zygote->pid == 0)
        zygote_main(sockets[1], memory, memory_read, zygote->faults_cpuid);
    if (zygote->pid < 0)
        error_errno(err, "cannot fork");
    close(memory_read);
    close(sockets[1]);
    zygote->socket = sockets[0];
    if (zygote->pid < 0)
        close(sockets[0]);
    return zygote->pid > 0;
}

void zygote_destroy(struct zygote *zygote)
{
    close(zygote->socket);
    kill(zygote->pid, SIGKILL);
    while (waitpid(zygote->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static bool ask(struct zygote *zygote, struct request *request, const int *fds, s64 *answer)
{
    struct iovec part = {request, sizeof(*request)};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fds) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, 2 * sizeof(int));
    }
    ssize_t n;
    if (sendmsg(zygote->socket, &message, MSG_NOSIGNAL) != sizeof(*request))
        return false;
    do
        n = recv(zygote->socket, answer, sizeof(*answer), 0);
    while (n < 0 && errno == EINTR);
    return n == sizeof(*answer);
}

pid_t zygote_fork(struct zygote *zygote, int block, int event, u64 base, struct error *err)
{
    struct request request = {.kind = REQUEST_FORK, .base = base};
    s64 answer;
    if (!ask(zygote, &request, (const int[]){block, event}, &answer)) {
        error_set(err, "the maker of cells is gone");
        return -1;
    }
    if (answer < 0) {
        errno = (int)-answer;
        error_errno(err, "cannot fork a cell");
        return -1;
    }
    return (pid_t)answer;
}

void zygote_reap(struct zygote *zygote, pid_t pid)
{
    struct request request = {.kind = REQUEST_REAP, .pid = pid};
    s64 answer;
    ask(zygote, &request, NULL, &answer);
}
