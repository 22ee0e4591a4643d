/*
 * What cells cost the host's kernel: an idle one, and a run of mapped pages. The kernel counts
 * this for the whole machine, where others come and go, so each is measured several times, and
 * one of the lower values counts; nothing is freed meanwhile, for the kernel keeps freed pieces
 * for the next. It has some from before, so runs may look cheaper than they are, 300 bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fixture.h"
#include "probe.h"

#define TRIES       9
#define CELLS       20    /* of a try */
#define RUNS        15000 /* of a try */
#define MAX_IDLE    (80 * KiB)
#define MAX_PER_RUN 350

/* Bytes that the kernel uses for tasks and address spaces. */
static s64 kernel_bytes(void)
{
    static const char *const kinds[] = {"KernelStack:", "PageTables:", "SUnreclaim:"};
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    s64 sum = 0;
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
            long long kib;
            if (!strncmp(line, kinds[i], strlen(kinds[i])) &&
                sscanf(line + strlen(kinds[i]), "%lld", &kib) == 1)
                sum += kib * 1024;
        }
    }
    fclose(file);
    return sum;
}

static s64 block_bytes(const struct cell *cell)
{
    struct stat block;
    assert_int_equal(fstat(cell->block_file, &block), 0);
    return block.st_blocks * 512;
}

static int compare(const void *a, const void *b)
{
    s64 x = *(const s64 *)a, y = *(const s64 *)b;
    return (x > y) - (x < y);
}

static s64 low_value(s64 used[TRIES], unsigned things)
{
    qsort(used, TRIES, sizeof(*used), compare);
    return used[TRIES / 4] / things;
}

static s64 idle_cell(void)
{
    static struct cell cells[TRIES][CELLS];
    struct fixture f;
    struct error err;
    s64 used[TRIES];
    fixture_start(&f);
    for (unsigned try = 0; try < TRIES; try++) {
        s64 before = kernel_bytes();
        for (unsigned i = 0; i < CELLS; i++) {
            if (!cell_create(&cells[try][i], &f.zygote, BASE + i * 2 * MiB, false, &err))
                fail_msg("%s", err.text);
        }
        used[try] = kernel_bytes() - before;
        for (unsigned i = 0; i < CELLS; i++)
            used[try] += block_bytes(&cells[try][i]);
    }
    for (unsigned i = 0; i < TRIES * CELLS; i++)
        cell_destroy(&cells[i / CELLS][i % CELLS]);
    fixture_finish(&f);
    return low_value(used, CELLS);
}

/* On a machine that is busy with other things all tries of a round can be wrong. */
#define ROUNDS 4

static void test_idle(void **state)
{
    s64 one = INT64_MAX;
    for (unsigned round = 0; round < ROUNDS && one > (s64)MAX_IDLE; round++) {
        one = idle_cell();
        print_message("an idle cell: %lld bytes\n", (long long)one);
    }
    assert_true(one <= (s64)MAX_IDLE);
}

/* Pages whose neighbours are others, of the same few frames. */
static void map_runs(struct mapper *mapper)
{
    for (u64 page = 0; page < RUNS;) {
        unsigned orders = 0;
        for (; orders < 200 && page < RUNS; orders++, page++)
            mapper_map(mapper, 0x10000000 + page * PAGE_SIZE, 1,
                       (page % 2 ? FIXED_PAGE : DATA_PAGE) * PAGE_SIZE, PROT_READ);
        assert_int_equal(mapper_run(mapper), orders);
    }
}

static void test_runs(void **state)
{
    static struct fixture fixtures[TRIES];
    s64 used[TRIES];
    for (unsigned try = 0; try < TRIES; try++) {
        fixture_start(&fixtures[try]);
        fixture_cell(&fixtures[try]);
        s64 before = kernel_bytes();
        map_runs(&fixtures[try].cell.mapper);
        used[try] = kernel_bytes() - before;
    }
    for (unsigned try = 0; try < TRIES; try++) {
        fixture_drop(&fixtures[try]);
        fixture_finish(&fixtures[try]);
    }
    s64 one = low_value(used, RUNS);
    print_message("a mapped run: %lld bytes\n", (long long)one);
    assert_true(one <= MAX_PER_RUN);
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
