/* Which code pages may run directly, at every alignment; and who gets a cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"
#include "engine/direct/policy.h"
#include "engine/direct/scan.h"

static u8 page[PAGE_SIZE];

static enum scan_verdict scan_at(u64 at, const u8 *bytes, u64 size)
{
    memset(page, 0x90, sizeof(page));
    memcpy(page + at, bytes, size < PAGE_SIZE - at ? size : PAGE_SIZE - at);
    return scan_page(page);
}

static void test_verdicts(void **state)
{
    static const struct {
        u8 size, bytes[4];
        enum scan_verdict verdict;
    } cases[] = {
        {2, {0x0f, 0xa2}, SCAN_BAD},             /* cpuid */
        {3, {0x0f, 0x01, 0xd0}, SCAN_BAD},       /* xgetbv */
        {3, {0x0f, 0x01, 0xf9}, SCAN_BAD},       /* rdtscp */
        {3, {0x0f, 0x01, 0xd9}, SCAN_BAD},       /* vmmcall */
        {4, {0xf3, 0x0f, 0xc7, 0xf8}, SCAN_BAD}, /* rdpid */
        {3, {0x0f, 0xc7, 0x27}, SCAN_BAD},       /* xsavec [rdi] */
        {3, {0x0f, 0xae, 0x27}, SCAN_BAD},       /* xsave [rdi] */
        {3, {0x0f, 0x03, 0xc1}, SCAN_BAD},       /* lsl eax, ecx */
        {2, {0x0f, 0x31}, SCAN_COUNTER},         /* rdtsc */
        {3, {0x0f, 0xae, 0xe8}, SCAN_GOOD},      /* lfence */
        {3, {0x0f, 0xc7, 0xf0}, SCAN_GOOD},      /* rdrand eax */
        {3, {0x0f, 0xb6, 0xc0}, SCAN_GOOD},      /* movzx */
        {2, {0x0f, 0x05}, SCAN_GOOD},            /* syscall */
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (u64 at = 0; at <= 64; at++)
            assert_int_equal(scan_at(at, cases[i].bytes, cases[i].size), cases[i].verdict);
        u64 last = PAGE_SIZE - cases[i].size;
        assert_int_equal(scan_at(last, cases[i].bytes, cases[i].size), cases[i].verdict);
    }
}

/* An instruction across the end of the page is found with the bytes behind it. */
static void test_joints(void **state)
{
    static const u8 cpuid[] = {0x0f, 0xa2}, xgetbv[] = {0x0f, 0x01, 0xd0};
    assert_int_equal(scan_at(PAGE_SIZE - 1, cpuid, 2), SCAN_CUT);
    assert_int_equal(scan_at(PAGE_SIZE - 1, xgetbv, 3), SCAN_CUT);
    assert_int_equal(scan_at(PAGE_SIZE - 2, xgetbv, 3), SCAN_CUT);
    assert_false(scan_joint((const u8[]){0x90, 0x0f, 0xa2, 0x90}));
    assert_false(scan_joint((const u8[]){0x90, 0x0f, 0x01, 0xd0}));
    assert_false(scan_joint((const u8[]){0x0f, 0x01, 0xd0, 0x90}));
    assert_true(scan_joint((const u8[]){0x90, 0x0f, 0xb6, 0xc0}));
    assert_true(scan_joint((const u8[]){0x0f, 0x01, 0xc0, 0x90}));
}

#define HZ 2000000000ull
#define US (HZ / 1000000)

/* Stretches of so many us, each ended by `cost`. */
static void stretches(struct policy *p, unsigned n, u64 us, enum policy_cost cost, u64 *now)
{
    for (unsigned i = 0; i < n; i++) {
        *now += us * US;
        if (p->promoted)
            policy_direct(p, us * US, cost, *now, HZ);
        else
            policy_translated(p, us * US, cost, *now, HZ);
    }
}

static void test_promotion(void **state)
{
    struct policy p = {0};
    u64 now = 0;
    stretches(&p, 100000, 2, COST_STOP, &now);
    assert_false(p.promoted); /* short stretches never get a cell */
    stretches(&p, 20000, 50, COST_MAPPING, &now);
    assert_false(p.promoted); /* nor who takes a page fault each time */
    for (unsigned i = 0; i < 1000; i++) {
        stretches(&p, 100, 2, COST_STOP, &now);
        stretches(&p, 1, 5000, COST_STOP, &now);
    }
    assert_false(p.promoted); /* nor who lost the host's processor a while */
    stretches(&p, 40, 200, COST_STOP, &now);
    assert_true(p.promoted);
    stretches(&p, 10000, 50, COST_MAPPING, &now);
    assert_true(p.promoted); /* between the two thresholds it stays as it is */
}

static void test_demotion(void **state)
{
    static const struct {
        u64 us;
        enum policy_cost cost;
    } losses[] = {{3, COST_STOP}, {10, COST_MAPPING}};
    for (unsigned i = 0; i < ARRAY_LEN(losses); i++) {
        struct policy p = {0};
        u64 now = 0;
        stretches(&p, 20, 200, COST_STOP, &now);
        assert_true(p.promoted);
        stretches(&p, 20, losses[i].us, losses[i].cost, &now);
        assert_true(p.promoted); /* what a new cell maps is not held against it */
        unsigned n = 0;
        for (; n < 10000 && p.promoted; n++)
            stretches(&p, 1, losses[i].us, losses[i].cost, &now);
        assert_in_range(n, 50, 500);
    }
}

/* A process that goes to and fro waits longer each time. */
static void test_backoff(void **state)
{
    struct policy p = {0};
    u64 now = 0, before = 0;
    for (unsigned i = 0; i < 6; i++) {
        u64 start = now;
        while (!p.promoted)
            stretches(&p, 1, 200, COST_STOP, &now);
        if (i > 1)
            assert_true(now - start > before * 3 / 2);
        before = now - start;
        while (p.promoted)
            stretches(&p, 1, 1, COST_STOP, &now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),  cmocka_unit_test(test_joints),
        cmocka_unit_test(test_promotion), cmocka_unit_test(test_demotion),
        cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
