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

static void test_policy(void **state)
{
    struct policy p = {0};
    u64 now = 0;
    /* Short stretches never get a cell. */
    for (unsigned i = 0; i < 100000; i++)
        policy_stretch(&p, 2 * US, true, now += 3 * US, HZ);
    assert_false(p.promoted);
    /* Long ones do, after 2 ms. */
    for (unsigned i = 0; i < 20 && !p.promoted; i++)
        policy_stretch(&p, 200 * US, true, now += 200 * US, HZ);
    assert_true(p.promoted);
    /* Page faults that the monitor serves do not count against it. */
    for (unsigned i = 0; i < 10000; i++)
        policy_stretch(&p, 3 * US, false, now += 20 * US, HZ);
    assert_true(p.promoted);
    /* System calls do. */
    for (unsigned i = 0; i < 10000 && p.promoted; i++)
        policy_stretch(&p, 3 * US, true, now += 10 * US, HZ);
    assert_false(p.promoted);
    /* And then it waits, longer each time. */
    for (unsigned i = 0; i < 20; i++)
        policy_stretch(&p, 500 * US, true, now += 500 * US, HZ);
    assert_false(p.promoted);
    for (unsigned i = 0; i < 40; i++)
        policy_stretch(&p, 500 * US, true, now += 500 * US, HZ);
    assert_true(p.promoted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_joints),
        cmocka_unit_test(test_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
