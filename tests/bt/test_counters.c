/* The statistics: each callout has a row, checks are counted where that is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "engine/bt/bt.h"
#include "fixture.h"

/* Callouts of many kinds: simulated, quick, links, TLB entries, an access on two pages, one to
 * a page of code, one of a whole group of accesses, an instruction on two pages. */
extern const u8 start_mixture[], end_mixture[];
__asm__(".pushsection .rodata\n"
        "start_mixture:\n"
        "mov $100, %ebp\n"
        "1: xor %eax, %eax; cpuid; xor %ecx, %ecx; xgetbv; sgdt (%rdi); str %ax\n"
        "mov $64, %ecx; mov %rdi, %rsi; rep movsb; lea -64(%rsi), %rdi\n"
        "mov 0xffe(%rdi), %rax; mov %rax, 0xffe(%rdi); lock incq 0xffe(%rdi)\n"
        "mov %rax, 0x2000(%rdi); mov %rax, 0x5000(%rdi); mov %rax, start_mixture+0x800(%rip)\n"
        "test $3, %ebp; jnz 4f; invlpg 0x101000; 4: call 2f; mov $0x10, %eax; verw %ax; dec "
        "%ebp; jnz 1b; hlt\n"
        "2: jmp 3f; .skip 4096 - (. - start_mixture) - 2\n"
        "3: mov $0x12345678, %eax; ret\n"
        "end_mixture:\n"
        ".popsection\n");

static struct guest *run(u32 options)
{
    struct guest *g = guest_create_with(&bt_engine, 1, options);
    guest_write(g, CODE, start_mixture, (u64)(end_mixture - start_mixture));
    g->vcpu->cpu.gpr[RDI] = DATA;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RBP], 0);
    return g;
}

static unsigned get(struct guest *g, struct engine_counter *counters, unsigned max)
{
    unsigned n = g->engine->counters(g->vcpu, counters, max);
    assert_true(n <= max);
    return n;
}

static u64 find(const struct engine_counter *counters, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++) {
        if (!strcmp(counters[i].name, name))
            return counters[i].value;
    }
    return 0;
}

static u64 sum(const struct engine_counter *counters, unsigned n, const char *group)
{
    u64 sum = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!strncmp(counters[i].name, group, strlen(group)))
            sum += counters[i].value;
    }
    return sum;
}

/* Also where there is no room for all. */
static void test_rows_sum(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "callouts.link",          "callouts.cell",           "callouts.indirect",
        "callouts.tlb_fill",      "callouts.two_pages",      "callouts.slow_access",
        "callouts.page_crossing", "callouts.simulated.sgdt", "callouts.simulated.cpuid",
        "callouts.quick.movsb",   "callouts.quick.verw"};
    struct guest *g = run(0);
    struct engine_counter counters[100];
    unsigned n = get(g, counters, ARRAY_LEN(counters));
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        if (!find(counters, n, expected[i]))
            fail_msg("no %s", expected[i]);
    }
    u64 all = find(counters, n, "callouts");
    assert_int_equal(sum(counters, n, "callouts."), all);
    assert_int_equal(sum(counters, n, "callouts.quick."), find(counters, n, "quick_callouts"));
    assert_int_equal(sum(counters, n, "callouts.simulated."),
                     find(counters, n, "simulated_callouts"));
    n = get(g, counters, n - 1);
    assert_int_equal(sum(counters, n, "callouts."), all);
    assert_true(find(counters, n, "callouts.quick.others"));
    guest_destroy(g);
}

extern const u8 start_checks[], end_checks[];
__asm__(".pushsection .rodata\n"
        "start_checks:\n"
        "mov $10000, %ecx\n"
        "1: mov (%rdi), %rax; mov 0x3000(%rdi), %rdx; dec %ecx; jnz 1b; hlt\n"
        "end_checks:\n"
        ".popsection\n");

static void test_hits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct engine_counter counters[100];
        struct guest *g = guest_create_with(&bt_engine, 1, i ? ENGINE_COUNTS : 0);
        guest_write(g, CODE, start_checks, (u64)(end_checks - start_checks));
        g->vcpu->cpu.gpr[RDI] = DATA;
        assert_int_equal(guest_run(g), EXIT_HALTED);
        unsigned n = get(g, counters, ARRAY_LEN(counters));
        u64 hits = find(counters, n, "tlb_hits");
        /* Rounds of an unrolled loop share checks. */
        assert_in_range(hits, i ? 1000 : 0, i ? 20000 : 0);
        assert_in_range(find(counters, n, "tlb_misses"), 2, 20);
        assert_in_range(find(counters, n, "translation_ns_per_instruction"), 1, 10000000000);
        guest_destroy(g);
    }
}

extern const u8 start_sum[], end_sum[];
__asm__(".pushsection .rodata\n"
        "start_sum:\n"
        "mov $12000, %ecx\n"
        "1: mov (%rdi,%rsi), %rax; mov 8(%rsi,%rdi), %rdx; dec %ecx; jnz 1b; hlt\n"
        "end_sum:\n"
        ".popsection\n");

/* One check for both, in the twelve rounds of a TU. */
static void test_sum_either_way(void **state)
{
    (void)state;
    struct engine_counter counters[100];
    struct guest *g = guest_create_with(&bt_engine, 1, ENGINE_COUNTS);
    guest_write(g, CODE, start_sum, (u64)(end_sum - start_sum));
    g->vcpu->cpu.gpr[RDI] = DATA;
    g->vcpu->cpu.gpr[RSI] = 64;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    unsigned n = get(g, counters, ARRAY_LEN(counters));
    assert_in_range(find(counters, n, "tlb_hits"), 900, 1100);
    guest_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_sum),
        cmocka_unit_test(test_hits),
        cmocka_unit_test(test_sum_either_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
