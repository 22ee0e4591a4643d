/*
 * The code cache when it is small: generations are evicted while the guest goes round and round
 * through more code than fits, by direct and by indirect calls; and code that is written and
 * run in turns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

#define FUNCTIONS 0x500000ull
#define SPACING   48
#define N         60000 /* across 700 pages */
#define ROUNDS    3

static u64 counter(struct guest *g, const char *name)
{
    struct engine_counter counters[64];
    unsigned n = g->engine->counters(g->vcpu, counters, ARRAY_LEN(counters));
    for (unsigned i = 0; i < n && i < ARRAY_LEN(counters); i++)
        if (!strcmp(counters[i].name, name))
            return counters[i].value;
    fail_msg("no counter %s", name);
    return 0;
}

static struct guest *start(const struct engine *engine, const void *code, size_t size)
{
    struct guest *g = guest_create_with(engine, 1, ENGINE_CACHE(1));
    guest_write(g, CODE, code, size);
    return g;
}

static void run_both(const u8 *code, size_t size, void (*prepare)(struct guest *g),
                     u64 *evictions)
{
    struct guest *sim = start(&sim_engine, code, size), *bt = start(&bt_engine, code, size);
    if (prepare) {
        prepare(sim);
        prepare(bt);
    }
    assert_int_equal(guest_run(sim), EXIT_HALTED);
    assert_int_equal(guest_run(bt), EXIT_HALTED);
    const char *difference = guest_compare(sim, bt, 0);
    if (difference)
        fail_msg("%s", difference);
    *evictions = counter(bt, "cache_evictions");
    guest_destroy(bt);
    guest_destroy(sim);
}

/* add $i, %rax; jmp 1f; 1: rol $3, %rax; ret */
static void put_functions(struct guest *g)
{
    for (u32 i = 0; i < N; i++) {
        u8 code[] = {0x48, 0x05, 0,    0,    0,    0,    0xeb, 0x08, 0x90, 0x90, 0x90,
                     0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0xc1, 0xc0, 0x03, 0xc3};
        memcpy(code + 2, &i, 4);
        guest_write(g, FUNCTIONS + (u64)i * SPACING, code, sizeof(code));
    }
}

extern const u8 start_calls[], end_calls[], start_thrash[], end_thrash[];
__asm__(
    ".pushsection .rodata\n"
    "start_calls: xor %eax, %eax; mov $3, %r13d\n"
    "1: mov $0x500000, %ebx; mov $60000, %r12d\n"
    "2: call *%rbx; add $48, %rbx; dec %r12d; jnz 2b; dec %r13d; jnz 1b; hlt\n"
    "end_calls:\n"
    /* A function whose immediate is changed before each call, and data beside it. */
    "start_thrash: mov $20000, %r12d; xor %eax, %eax; lea 3f(%rip), %rbx\n"
    "1: mov %r12d, 1(%rbx); incl 64(%rbx); call 3f; add %rcx, %rax; dec %r12d; jnz 1b; hlt\n"
    ".p2align 6\n"
    "3: mov $0, %ecx; ret\n"
    ".p2align 6\n"
    ".long 0\n"
    "end_thrash:\n"
    ".popsection\n");
_Static_assert(N == 60000 && SPACING == 48 && ROUNDS == 3 && FUNCTIONS == 0x500000,
               "the numbers in start_calls");

static void test_evicts(void **state)
{
    u64 evictions;
    run_both(start_calls, (size_t)(end_calls - start_calls), put_functions, &evictions);
    assert_true(evictions > N);
}

static void test_written_and_run_in_turns(void **state)
{
    u64 evictions;
    run_both(start_thrash, (size_t)(end_thrash - start_thrash), NULL, &evictions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evicts),
        cmocka_unit_test(test_written_and_run_in_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
