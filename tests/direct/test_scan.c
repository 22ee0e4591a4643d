/* Which code pages may run directly, at every alignment; and who gets a cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/bits.h"
#include "engine/direct/policy.h"
#include "engine/direct/scan.h"

static u8 page[PAGE_SIZE];

static u16 scan_at(u64 at, const u8 *bytes, u64 size)
{
    memset(page, 0x90, sizeof(page));
    memcpy(page + at, bytes, size < PAGE_SIZE - at ? size : PAGE_SIZE - at);
    u16 found = scan_page(page);
    assert_true(found & BIT(SCAN_DONE));
    return found & ~BIT(SCAN_DONE);
}

static void test_findings(void **state)
{
    static const struct {
        u8 size, bytes[4];
        u16 found;
    } cases[] = {
        {2, {0x0f, 0xa2}, BIT(FOUND_CPUID)},
        {3, {0x0f, 0x01, 0xd0}, BIT(FOUND_XGETBV)},
        {3, {0x0f, 0x01, 0xfd}, BIT(FOUND_XGETBV)}, /* rdpru */
        {3, {0x0f, 0x01, 0xf9}, BIT(FOUND_RDTSCP)},
        {3, {0x0f, 0x01, 0xd9}, BIT(FOUND_VMMCALL)},
        {4, {0xf3, 0x0f, 0xc7, 0xf8}, BIT(FOUND_RDTSCP)}, /* rdpid */
        {3, {0x0f, 0xc7, 0x27}, BIT(FOUND_XSAVE)},        /* xsavec [rdi] */
        {3, {0x0f, 0xae, 0x27}, BIT(FOUND_XSAVE)},
        {3, {0x0f, 0xae, 0x37}, BIT(FOUND_XSAVE)}, /* xsaveopt [rdi] */
        {3, {0x0f, 0x03, 0xc1}, BIT(FOUND_LSL)},   /* lsl eax, ecx */
        {2, {0x0f, 0x31}, BIT(FOUND_RDTSC)},
        {2, {0x0f, 0x05}, BIT(FOUND_SYSENTER)}, /* syscall */
        {2, {0x0f, 0x34}, BIT(FOUND_SYSENTER)},
        {3, {0x0f, 0xae, 0xe8}, 0}, /* lfence */
        {3, {0x0f, 0xc7, 0xf0}, 0}, /* rdrand eax */
        {3, {0x0f, 0xb6, 0xc0}, 0}, /* movzx */
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (u64 at = 0; at <= 64; at++)
            assert_int_equal(scan_at(at, cases[i].bytes, cases[i].size), cases[i].found);
        u64 last = PAGE_SIZE - cases[i].size;
        assert_int_equal(scan_at(last, cases[i].bytes, cases[i].size), cases[i].found);
    }
}

/* An instruction across the end of the page is found with the bytes behind it. */
static void test_joints(void **state)
{
    static const u8 cpuid[] = {0x0f, 0xa2}, xgetbv[] = {0x0f, 0x01, 0xd0};
    assert_int_equal(scan_at(PAGE_SIZE - 1, cpuid, 2), BIT(SCAN_CUT));
    assert_int_equal(scan_at(PAGE_SIZE - 1, xgetbv, 3), BIT(SCAN_CUT));
    assert_int_equal(scan_at(PAGE_SIZE - 2, xgetbv, 3), BIT(SCAN_CUT));
    assert_int_equal(scan_joint((const u8[]){0x90, 0x0f, 0xa2, 0x90}), BIT(FOUND_CPUID));
    assert_int_equal(scan_joint((const u8[]){0x90, 0x0f, 0x01, 0xd0}), BIT(FOUND_XGETBV));
    assert_int_equal(scan_joint((const u8[]){0x0f, 0x01, 0xd0, 0x90}), BIT(FOUND_XGETBV));
    assert_int_equal(scan_joint((const u8[]){0x90, 0x0f, 0xb6, 0xc0}), 0);
    assert_int_equal(scan_joint((const u8[]){0x0f, 0x01, 0xc0, 0x90}), 0);
}

#define HZ 2000000000ull
#define US (HZ / 1000000)

/* Stretches of so many us, each ended by `cost`; a timer interrupts every 4 ms. */
static void stretches(struct policy *p, unsigned n, u64 us, enum policy_cost cost, u64 *now)
{
    const u64 tick = 4000 * US;
    for (unsigned i = 0; i < n; i++) {
        u64 before = *now;
        *now += us * US;
        if (p->promoted) {
            policy_direct(p, us * US, cost, *now, HZ);
            continue;
        }
        policy_charge(p, cost, 1);
        if (before / tick != *now / tick)
            policy_sample(p, 4000, true, *now, HZ);
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
    for (unsigned i = 0; i < 100; i++)
        policy_sample(&p, 4000, false, now += 4000 * US, HZ);
    assert_false(p.promoted); /* nor who is found in the kernel */
    stretches(&p, 60, 200, COST_STOP, &now);
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
        stretches(&p, 60, 200, COST_STOP, &now);
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
        if (i > 2)
            assert_true(now - start > before * 3 / 2);
        before = now - start;
        while (p.promoted)
            stretches(&p, 1, 1, COST_STOP, &now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_findings),  cmocka_unit_test(test_joints),
        cmocka_unit_test(test_promotion), cmocka_unit_test(test_demotion),
        cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
