/*
 * The workloads of the benches: one static program that runs natively and in the guest, so that
 * both sides run the same instructions.
 *
 *     workloads [-x N] [NAME...]     each prints "NAME SECONDS CHECKSUM", in real time
 *     workloads -l                   lists the names
 *
 * Each has a fixed amount of work, about 0.2 to 0.8 s on a processor of 2021; with -x the
 * compute kernels do N times as much, and SECONDS is an Nth of their time. The checksum keeps
 * the compiler honest and shows that both sides computed the same.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_SQLITE
#include <sqlite3.h>
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static unsigned factor = 1; /* -x */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    return x;
}

/* -- Compute ------------------------------------------------------------------------------- */

/* A bytecode interpreter: indirect jumps and short dependent runs. */
static uint64_t interpreter(void)
{
    enum { PUSH, ADD, MUL, XOR, DUP, LOOP, HALT };
    static const uint8_t program[] = {PUSH, 7,    ADD, DUP, PUSH, 13, MUL,
                                      XOR,  PUSH, 3,   ADD, LOOP, 2,  HALT};
    uint64_t stack[16] = {1}, left = 6000000;
    unsigned sp = 0;
    const uint8_t *pc = program;
    while (1) {
        switch (*pc++) {
        case PUSH:
            stack[++sp] = *pc++;
            break;
        case ADD:
            sp--;
            stack[sp] += stack[sp + 1];
            break;
        case MUL:
            sp--;
            stack[sp] *= stack[sp + 1];
            break;
        case XOR:
            sp--;
            stack[sp] ^= stack[sp + 1];
            break;
        case DUP:
            sp++;
            stack[sp] = stack[sp - 1];
            break;
        case LOOP:
            if (--left) {
                stack[sp] = mix(stack[sp]);
                stack[++sp] = *pc;
                sp--;
                pc = program;
            } else {
                pc++;
            }
            break;
        case HALT:
            return stack[sp];
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t quicksort(void)
{
    enum { N = 1500000 };
    uint32_t *v = malloc(N * sizeof(*v));
    for (uint32_t i = 0; i < N; i++)
        v[i] = (uint32_t)mix(i + 1);
    qsort(v, N, sizeof(*v), compare);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < N; i += 1000)
        sum = mix(sum + v[i]);
    free(v);
    return sum;
}

struct link {
    struct link *next;
    uint64_t key, value;
};

static uint64_t hash_chains(void)
{
    enum { BUCKETS = 1 << 14, N = 60000, LOOKUPS = 6000000 };
    struct link **table = calloc(BUCKETS, sizeof(*table));
    struct link *links = malloc(N * sizeof(*links));
    for (uint64_t i = 0; i < N; i++) {
        struct link **bucket = &table[mix(i) % BUCKETS];
        links[i] = (struct link){*bucket, i, mix(i * 3)};
        *bucket = &links[i];
    }
    uint64_t sum = 0;
    for (uint64_t i = 0; i < LOOKUPS; i++) {
        uint64_t key = (i * 2654435761u) % N;
        struct link *link = table[mix(key) % BUCKETS];
        while (link->key != key)
            link = link->next;
        sum += link->value;
    }
    free(links);
    free(table);
    return sum;
}

/* LZ-like compression: byte compares, table of last positions, copies. */
static uint64_t lz(void)
{
    enum { N = 12 << 20 };
    uint8_t *in = malloc(N + 8), *out = malloc(2 * N);
    uint32_t *last = calloc(1 << 16, sizeof(*last));
    for (uint32_t i = 0; i < N; i++)
        in[i] = (uint8_t)("the quick brown fox jumps"[mix(i / 40) % 25] + (mix(i) % 50 == 0));
    uint32_t o = 0;
    for (uint32_t i = 0; i + 8 < N;) {
        uint32_t word;
        memcpy(&word, in + i, 4);
        uint32_t *slot = &last[(word * 2654435761u) >> 16], from = *slot;
        *slot = i;
        uint32_t length = 0;
        while (from < i && i + length + 8 < N && in[from + length] == in[i + length] &&
               length < 255)
            length++;
        if (length >= 4) {
            out[o++] = 0xff;
            out[o++] = (uint8_t)length;
            memcpy(out + o, &from, 4);
            o += 4;
            i += length;
        } else {
            out[o++] = in[i++];
        }
    }
    uint64_t sum = o;
    for (uint32_t i = 0; i < o; i += 4096)
        sum = mix(sum + out[i]);
    free(in);
    free(out);
    free(last);
    return sum;
}

/* The rounds of MD5 over a buffer: rotates and adds in registers. */
static uint64_t md5_rounds(void)
{
    static const uint8_t shift[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t k[64], block[16], s[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    for (unsigned i = 0; i < 64; i++)
        k[i] = (uint32_t)mix(i + 77);
    for (unsigned i = 0; i < 16; i++)
        block[i] = (uint32_t)mix(i);
    for (unsigned n = 0; n < 700000; n++) {
        uint32_t a = s[0], b = s[1], c = s[2], d = s[3];
        for (unsigned i = 0; i < 64; i++) {
            uint32_t f = i < 16   ? (b & c) | (~b & d)
                         : i < 32 ? (d & b) | (~d & c)
                         : i < 48 ? b ^ c ^ d
                                  : c ^ (b | ~d);
            unsigned g = i < 16 ? i : i < 32 ? 5 * i + 1 : i < 48 ? 3 * i + 5 : 7 * i;
            f += a + k[i] + block[g & 15];
            unsigned r = shift[i >> 4][i & 3];
            a = d, d = c, c = b, b += f << r | f >> (32 - r);
        }
        s[0] += a, s[1] += b, s[2] += c, s[3] += d;
        block[n & 15] ^= a;
    }
    return s[0] ^ (uint64_t)s[1] << 32;
}

enum { M = 300 };
static double ma[M][M], mb[M][M], mc[M][M];

static uint64_t matrix_sum(void)
{
    double sum = 0;
    for (unsigned i = 0; i < M; i++)
        sum += mc[i][(i * 7) % M];
    uint64_t out;
    memcpy(&out, &sum, 8);
    return out;
}

static void matrix_fill(void)
{
    for (unsigned i = 0; i < M * M; i++) {
        ma[i / M][i % M] = (double)(mix(i) % 1000) / 7;
        mb[i / M][i % M] = (double)(mix(i + 99) % 1000) / 3;
        mc[i / M][i % M] = 0;
    }
}

__attribute__((optimize("no-tree-vectorize"))) static uint64_t matrix_scalar(void)
{
    matrix_fill();
    for (unsigned n = 0; n < 8; n++) {
        for (unsigned i = 0; i < M; i++) {
            for (unsigned j = 0; j < M; j++) {
                double sum = 0;
                for (unsigned k = 0; k < M; k++)
                    sum += ma[i][k] * mb[k][j];
                mc[i][j] += sum;
            }
        }
    }
    return matrix_sum();
}

__attribute__((optimize("O3"), target("avx2,fma"))) static uint64_t matrix_vector(void)
{
    matrix_fill();
    for (unsigned n = 0; n < 40; n++) {
        for (unsigned i = 0; i < M; i++) {
            for (unsigned k = 0; k < M; k++) {
                double a = ma[i][k];
                for (unsigned j = 0; j < M; j++)
                    mc[i][j] += a * mb[k][j];
            }
        }
    }
    return matrix_sum();
}

/* 256 MiB of pointers in random order: each step misses caches and TLBs. */
static uint64_t pointer_chase(void)
{
    enum { N = 64 << 20, STEPS = 3000000 };
    uint32_t *next = malloc(N * sizeof(*next));
    for (uint32_t i = 0; i < N; i++)
        next[i] = i;
    for (uint32_t i = N - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(mix(i) % i), t = next[i];
        next[i] = next[j];
        next[j] = t;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < STEPS; i++)
        at = next[at];
    free(next);
    return at;
}

#ifdef WITH_SQLITE
static uint64_t sqlite(void)
{
    sqlite3 *db;
    sqlite3_stmt *insert, *select;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        abort();
    sqlite3_exec(
        db, "create table t(id integer primary key, k integer, s text); create index i on t(k)",
        NULL, NULL, NULL);
    sqlite3_exec(db, "begin", NULL, NULL, NULL);
    sqlite3_prepare_v2(db, "insert into t(k, s) values(?, ?)", -1, &insert, NULL);
    for (int i = 0; i < 60000; i++) {
        char text[32];
        snprintf(text, sizeof(text), "row %d", i);
        sqlite3_bind_int64(insert, 1, (sqlite3_int64)(mix((uint64_t)i) % 100000));
        sqlite3_bind_text(insert, 2, text, -1, SQLITE_TRANSIENT);
        sqlite3_step(insert);
        sqlite3_reset(insert);
    }
    sqlite3_exec(db, "commit", NULL, NULL, NULL);
    sqlite3_prepare_v2(db, "select id, length(s) from t where k between ? and ?", -1, &select,
                       NULL);
    uint64_t sum = 0;
    for (int i = 0; i < 8000; i++) {
        sqlite3_bind_int(select, 1, i * 10);
        sqlite3_bind_int(select, 2, i * 10 + 20);
        while (sqlite3_step(select) == SQLITE_ROW)
            sum += (uint64_t)(sqlite3_column_int(select, 0) + sqlite3_column_int(select, 1));
        sqlite3_reset(select);
    }
    sqlite3_finalize(insert);
    sqlite3_finalize(select);
    sqlite3_close(db);
    return sum;
}
#endif

/* -- System -------------------------------------------------------------------------------- */

static uint64_t null_calls(void)
{
    for (unsigned i = 0; i < 2000000; i++)
        syscall(SYS_getppid);
    return 0;
}

static uint64_t pipe_ping_pong(void)
{
    enum { N = 20000 };
    int to[2], from[2];
    char byte = 0;
    if (pipe(to) || pipe(from))
        abort();
    pid_t child = fork();
    if (!child) {
        while (read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1 && byte != 'q')
            ;
        _exit(0);
    }
    for (unsigned i = 0; i < N; i++) {
        byte = i + 1 == N ? 'q' : 'x';
        if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1)
            abort();
    }
    waitpid(child, NULL, 0);
    close(to[0]), close(to[1]), close(from[0]), close(from[1]);
    return 0;
}

static void stay_on(unsigned processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* The same between two processors: each round wakes both. */
static uint64_t pipe_apart(void)
{
    cpu_set_t before;
    int to[2], from[2];
    char byte = 0;
    if (sched_getaffinity(0, sizeof(before), &before) || pipe(to) || pipe(from))
        abort();
    pid_t child = fork();
    if (!child) {
        stay_on(1);
        close(to[1]);
        while (read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1)
            ;
        _exit(0);
    }
    stay_on(0);
    for (unsigned i = 0; i < 20000; i++) {
        if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1)
            abort();
    }
    close(to[0]), close(to[1]), close(from[0]), close(from[1]);
    waitpid(child, NULL, 0);
    sched_setaffinity(0, sizeof(before), &before);
    return 0;
}

static void *map_and_unmap(void *processor)
{
    enum { BYTES = 65536 };
    stay_on((unsigned)(uintptr_t)processor);
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *p =
            mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (unsigned k = 0; k < BYTES; k += 4096)
            p[k] = 1;
        mprotect(p, BYTES / 2, PROT_READ);
        munmap(p, BYTES);
    }
    return NULL;
}

/* Two threads in one address space: they wait for its lock, and each unmapping for both. */
static uint64_t map_contended(void)
{
    pthread_t thread[2];
    for (uintptr_t i = 0; i < 2; i++) {
        if (pthread_create(&thread[i], NULL, map_and_unmap, (void *)i))
            abort();
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    return 0;
}

static uint64_t touch_memory(void)
{
    enum { BYTES = 256 << 20 };
    uint8_t *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    madvise(p, BYTES, MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < BYTES; i += 4096)
        p[i] = 1;
    munmap(p, BYTES);
    return 0;
}

static uint64_t map_unmap(void)
{
    for (unsigned i = 0; i < 60000; i++) {
        uint8_t *p =
            mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        p[0] = 1;
        munmap(p, 16384);
    }
    return 0;
}

static uint64_t fork_exec_wait(void)
{
    for (unsigned i = 0; i < 1000; i++) {
        pid_t child = fork();
        if (!child) {
            execl("/proc/self/exe", "workloads", "-t", (char *)NULL);
            _exit(127);
        }
        waitpid(child, NULL, 0);
    }
    return 0;
}

/* A command of the shell that is on both sides. */
static uint64_t shell(const char *command)
{
    const char *busybox = getenv("BUSYBOX");
    pid_t child = fork();
    if (!child) {
        execl(busybox ? busybox : "/bin/busybox", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    return (uint64_t)status;
}

static uint64_t ash_loop(void)
{
    char command[80];
    snprintf(command, sizeof(command), "i=0; while [ $i -lt %u ]; do i=$((i+1)); done",
             200000 * factor);
    return shell(command);
}

static uint64_t dd_md5(void)
{
    return shell("${BUSYBOX:-/bin/busybox} dd if=/dev/zero bs=1M count=200 2>/dev/null |"
                 " ${BUSYBOX:-/bin/busybox} md5sum >/dev/null");
}

/* The same compute in two processes at once, for machines with two processors. */
static uint64_t parallel_two(void)
{
    pid_t child = fork();
    if (!child)
        _exit(md5_rounds() == 0);
    uint64_t sum = md5_rounds();
    waitpid(child, NULL, 0);
    return sum;
}

/* The compute kernels repeat until they take most of a second on the bare machine: what an
 * engine pays to get going is the other workloads' business. */
static const struct workload {
    const char *name;
    uint64_t (*run)(void);
    unsigned times;
    unsigned lengthens; /* with -x N: N times this; 0: not at all */
    int by_itself;      /* it looks at `factor` */
} workloads[] = {
    {"interpreter", interpreter, 8, 1},
    {"quicksort", quicksort, 4, 1},
    {"hash_chains", hash_chains, 5, 1},
    {"lz", lz, 10, 1},
    {"md5_rounds", md5_rounds, 7, 1},
    {"matrix_scalar", matrix_scalar, 4, 1},
    {"matrix_vector", matrix_vector, 1, 5}, /* TCG takes 200 times native */
#ifdef WITH_SQLITE
    {"sqlite", sqlite, 5, 1},
#endif
    {"pointer_chase", pointer_chase, 1, 0},
    {"ash_loop", ash_loop, 1, 1, 1},
    {"dd_md5", dd_md5, 1, 0},
    {"null_calls", null_calls, 1, 0},
    {"pipe_ping_pong", pipe_ping_pong, 1, 0},
    {"touch_memory", touch_memory, 1, 0},
    {"map_unmap", map_unmap, 1, 0},
    {"fork_exec_wait", fork_exec_wait, 1, 0},
    {"parallel_two", parallel_two, 5, 0},
    {"pipe_apart", pipe_apart, 1, 0},
    {"map_contended", map_contended, 1, 0},
};

static int wanted(char **names, const char *name)
{
    for (char **n = names; *n; n++) {
        if (!strcmp(*n, name))
            return 1;
    }
    return !*names;
}

static void measure(const struct workload *w)
{
    unsigned longer = factor > 1 && w->lengthens ? factor * w->lengthens : 1;
    unsigned times = w->by_itself ? w->times : w->times * longer;
    double start = now();
    uint64_t sum = 0;
    for (unsigned n = 0; n < times; n++) {
        uint64_t result = w->run();
        sum += n < w->times ? result : 0;
    }
    printf("%s %.4f %016llx\n", w->name, (now() - start) / longer, (unsigned long long)sum);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "-t"))
        return 0;
    int list = argc == 2 && !strcmp(argv[1], "-l");
    if (argc > 2 && !strcmp(argv[1], "-x")) {
        factor = (unsigned)atoi(argv[2]);
        argv += 2;
    }
    for (size_t i = 0; i < COUNT(workloads); i++) {
        if (list)
            puts(workloads[i].name);
        else if (wanted(argv + 1, workloads[i].name))
            measure(&workloads[i]);
    }
    return 0;
}
