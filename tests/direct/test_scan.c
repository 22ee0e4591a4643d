/* Which code pages may run directly, at every alignment; and who gets a cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <Zydis/Zydis.h>
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
        {3, {0x0f, 0x02, 0xc1}, BIT(FOUND_LAR)},   /* lar eax, ecx */
        {2, {0x0f, 0x31}, BIT(FOUND_RDTSC)},
        {3, {0x0f, 0x01, 0xef}, BIT(FOUND_HIDDEN)}, /* wrpkru */
        {3, {0x0f, 0x01, 0xfa}, BIT(FOUND_HIDDEN)}, /* monitorx */
        {2, {0x0f, 0x05}, BIT(FOUND_SYSENTER)},     /* syscall */
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

/* RDSEED is RDPID without F3. */
static void test_rdseed(void **state)
{
    static const u8 rdseed[] = {0x0f, 0xc7, 0xf8}, rdpid[] = {0xf3, 0x48, 0x0f, 0xc7, 0xf8};
    assert_int_equal(scan_at(1, rdseed, 3), 0);
    assert_int_equal(scan_at(0, rdseed, 3),
                     BIT(FOUND_RDTSCP)); /* F3 may be in the page before */
    assert_int_equal(scan_at(9, rdpid, 5), BIT(FOUND_RDTSCP));
}

/* Where those instructions could begin. */
static void test_places(void **state)
{
    static const u8 inside[] = {0xb8, 0x0f, 0xa2, 0, 0},
                    prefixed[] = {0x90, 0x66, 0x48, 0x0f, 0xa2};
    u16 places[4];
    scan_at(100, inside, 5);
    assert_int_equal(scan_places(page, BIT(FOUND_CPUID), places, 4), 1);
    assert_int_equal(places[0], 101);
    assert_int_equal(scan_places(page, BIT(FOUND_XGETBV), places, 4), 0);
    scan_at(100, prefixed, 5);
    assert_int_equal(scan_places(page, BIT(FOUND_CPUID), places, 4), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(places[i], 101 + i);
    assert_int_equal(scan_places(page, BIT(FOUND_CPUID), places, 2), 0); /* too many */
    scan_at(0, prefixed + 1, 4);
    assert_int_equal(scan_places(page, BIT(FOUND_CPUID), places, 4), 0); /* or one before */
}

/* What the scan must know, by the decoder's names. */
static const ZydisMnemonic sensitive[] = {
    ZYDIS_MNEMONIC_CPUID,    ZYDIS_MNEMONIC_XGETBV,   ZYDIS_MNEMONIC_RDPRU,
    ZYDIS_MNEMONIC_RDTSCP,   ZYDIS_MNEMONIC_RDPID,    ZYDIS_MNEMONIC_VMMCALL,
    ZYDIS_MNEMONIC_XSAVE,    ZYDIS_MNEMONIC_XSAVEC,   ZYDIS_MNEMONIC_XSAVEOPT,
    ZYDIS_MNEMONIC_XSAVE64,  ZYDIS_MNEMONIC_XSAVEC64, ZYDIS_MNEMONIC_XSAVEOPT64,
    ZYDIS_MNEMONIC_RDTSC,    ZYDIS_MNEMONIC_RDPKRU,   ZYDIS_MNEMONIC_WRPKRU,
    ZYDIS_MNEMONIC_MONITORX, ZYDIS_MNEMONIC_MWAITX,   ZYDIS_MNEMONIC_CLZERO,
    ZYDIS_MNEMONIC_ENCLU,    ZYDIS_MNEMONIC_SYSENTER, ZYDIS_MNEMONIC_SYSCALL,
};

static bool is_sensitive(const ZydisDecodedInstruction *i)
{
    if (i->mnemonic == ZYDIS_MNEMONIC_LSL || i->mnemonic == ZYDIS_MNEMONIC_LAR)
        return i->raw.modrm.mod == 3;
    for (unsigned n = 0; n < ARRAY_LEN(sensitive); n++)
        if (i->mnemonic == sensitive[n])
            return true;
    return false;
}

/* Every opcode of one and two bytes with every ModRM, behind prefixes and as both modes decode
 * it: 40H to 4FH are prefixes in one and instructions in the other, C4H, C5H and 62H too. */
static void test_all_opcodes(void **state)
{
    static const u8 prefixes[] = {0, 0x66, 0xf2, 0xf3, 0x48, 0x2e};
    unsigned found = 0;
    for (unsigned mode = 0; mode < 2; mode++) {
        ZydisDecoder decoder;
        ZydisDecoderInit(&decoder,
                         mode ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
                         mode ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
        for (u32 n = 0; n < ARRAY_LEN(prefixes) << 17; n++) {
            u8 bytes[16] = {prefixes[n >> 17]}, *p = bytes + (bytes[0] != 0);
            ZydisDecodedInstruction i;
            if (n & BIT(16))
                *p++ = 0x0f;
            *p++ = (u8)(n >> 8);
            *p = (u8)n;
            if (!ZYAN_SUCCESS(
                    ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, sizeof(bytes), &i)) ||
                !is_sensitive(&i))
                continue;
            found++;
            assert_int_not_equal(scan_at(100, bytes, i.length), 0);
        }
    }
    assert_true(found > 1000);
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

/* An address space that computes; a timer interrupts it every 4 ms. */
struct life {
    struct policy policy;
    u64 now;
    bool resting;
    u32 left, charges; /* of the rest that goes on, us */
    struct rest_tally tally;
    u32 kernel; /* us in the kernel behind each stretch */
    u64 extra;  /* us that each stop of the cell costs more */
};

static void under_translator(struct life *l, u64 us, enum policy_cost cost)
{
    const u64 tick = 4000 * US;
    policy_charge(&l->policy, policy_cost(cost, 1));
    if (l->now / tick != (l->now + us * US) / tick)
        policy_sample(&l->policy, 4000, l->now, HZ);
}

static void at_rest(struct life *l, u64 us, enum policy_cost cost)
{
    struct policy *p = &l->policy;
    l->charges += policy_cost(cost, 1);
    if (us < l->left) {
        l->left -= (u32)us;
        return;
    }
    /* The period ends within this stretch, or in the kernel behind it. */
    enum rest_sight sight = l->left <= us - l->kernel ? SIGHT_USER : SIGHT_OTHER;
    enum rest_verdict verdict =
        policy_judge_rest(&l->tally, &p->rested, policy_rest(p->rested), l->charges, sight);
    if (verdict == REST_HOPELESS)
        policy_demote(p, l->now, HZ);
    l->resting = verdict == REST_GOES_ON;
    l->left = policy_rest(p->rested);
    l->charges = 0;
}

/* Stretches of so many us native time, each ended by `cost`. */
static void stretches(struct life *l, unsigned n, u64 us, enum policy_cost cost)
{
    struct policy *p = &l->policy;
    for (unsigned i = 0; i < n; i++, l->now += (us + l->kernel) * US) {
        if (!p->promoted) {
            under_translator(l, us, cost);
        } else if (l->resting) {
            at_rest(l, us + l->kernel, cost);
        } else if (policy_direct(p, (us + 3) * US, policy_cost(cost, 1) + l->extra, HZ)) {
            if (policy_is_lost(p)) {
                policy_demote(p, l->now, HZ);
                continue;
            }
            l->resting = true;
            l->left = policy_rest(p->rested);
            l->charges = 0;
            l->tally = (struct rest_tally){0};
        }
    }
}

static void test_promotion(void **state)
{
    struct life l = {0};
    stretches(&l, 100000, 2, COST_STOP);
    assert_false(l.policy.promoted); /* short stretches never get a cell */
    stretches(&l, 20000, 50, COST_MAPPING);
    assert_false(l.policy.promoted); /* nor who takes a page fault each time */
    stretches(&l, 60, 200, COST_STOP);
    assert_true(l.policy.promoted);
    stretches(&l, 10000, 50, COST_MAPPING);
    assert_true(l.policy.promoted); /* between the two thresholds it stays as it is */
    assert_false(l.resting);
}

static const struct {
    u64 us;
    enum policy_cost cost;
} losses[] = {{1, COST_STOP}, {10, COST_MAPPING}};

/* A burst of short stretches makes it rest, at once but for the credit of a new cell; after it
 * the cell is soon used again. */
static void test_rest(void **state)
{
    for (unsigned i = 0; i < ARRAY_LEN(losses); i++) {
        struct life l = {0};
        stretches(&l, 60, 200, COST_STOP);
        assert_true(l.policy.promoted);
        stretches(&l, 20, losses[i].us, losses[i].cost);
        assert_false(l.resting);
        stretches(&l, 500, losses[i].us, losses[i].cost);
        assert_true(l.resting);
        for (unsigned burst = 0; burst < 20; burst++) {
            stretches(&l, 20, 300, COST_STOP);
            assert_false(l.resting);
            unsigned n = 0;
            for (; n < 1000 && !l.resting; n++)
                stretches(&l, 1, losses[i].us, losses[i].cost);
            assert_in_range(n, 2, 25);
        }
        assert_true(l.policy.promoted);
    }
}

/* One that does nothing else is demoted, after 20 to 30 ms. */
static void test_demotion(void **state)
{
    for (unsigned i = 0; i < ARRAY_LEN(losses); i++) {
        struct life l = {0};
        stretches(&l, 60, 200, COST_STOP);
        u64 start = l.now;
        while (l.policy.promoted && l.now < start + 100000 * US)
            stretches(&l, 1, losses[i].us, losses[i].cost);
        assert_in_range((l.now - start) / US, 15000, 30000);
    }
}

/* Stops that cost more than what follows gains: code that is copied again and again. Under the
 * translator it seems to pay each time. */
static void test_extra(void **state)
{
    struct life l = {.extra = 300};
    stretches(&l, 200, 200, COST_STOP);
    u64 start = l.now, in_cell = 0;
    while (l.now - start < 10000000 * US) {
        u64 before = l.now;
        bool was = l.policy.promoted && !l.resting;
        stretches(&l, 1, 200, COST_STOP);
        in_cell += was ? (l.now - before) / US : 0;
    }
    assert_in_range(in_cell, 1, 10000000 / 30);
}

/* One whose calls take the kernel long makes few of them, and still gains nothing: fio. */
static void test_kernel_time(void **state)
{
    struct life l = {0};
    stretches(&l, 60, 200, COST_STOP);
    assert_true(l.policy.promoted);
    unsigned in_cell = 0;
    for (unsigned i = 0; i < 2000 && l.policy.promoted; i++) {
        in_cell += !l.resting;
        l.kernel = 40 + i * 7 % 27; /* no beat with the rest's periods */
        stretches(&l, 1, 4, COST_STOP);
    }
    assert_false(l.policy.promoted);
    assert_in_range(in_cell, 1, 300); /* the credit of a new cell, mostly */
}

/* While the vCPU sleeps nothing is learnt, and soon nothing asked. */
static void test_idle_rest(void **state)
{
    struct rest_tally tally = {0};
    u32 rested = 0;
    unsigned n = 1;
    while (policy_judge_rest(&tally, &rested, 100, 0, SIGHT_IDLE) == REST_GOES_ON)
        n++;
    assert_in_range(n, 2, 10);
    assert_int_equal(rested, 0);
}

/* A process that goes to and fro waits longer each time. */
static void test_backoff(void **state)
{
    struct life l = {0};
    u64 before = 0;
    for (unsigned i = 0; i < 6; i++) {
        u64 start = l.now;
        while (!l.policy.promoted)
            stretches(&l, 1, 200, COST_STOP);
        if (i > 2)
            assert_true(l.now - start > before * 3 / 2);
        before = l.now - start;
        while (l.policy.promoted)
            stretches(&l, 1, 1, COST_STOP);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_findings),  cmocka_unit_test(test_all_opcodes),
        cmocka_unit_test(test_joints),    cmocka_unit_test(test_rdseed),
        cmocka_unit_test(test_places),    cmocka_unit_test(test_promotion),
        cmocka_unit_test(test_rest),      cmocka_unit_test(test_demotion),
        cmocka_unit_test(test_backoff),   cmocka_unit_test(test_kernel_time),
        cmocka_unit_test(test_idle_rest), cmocka_unit_test(test_extra),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
