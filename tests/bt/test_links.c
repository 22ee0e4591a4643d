/* Translations must be linked also while an interrupt waits for IF: boot loaders and kernels'
 * decompressors run for seconds like that. */
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/bits.h"
#include "engine/bt/bt.h"
#include "fixture.h"

#define ROUNDS 1000

/* 1000 rounds through a jump, a conditional jump, a call and its return, on two pages. */
extern const u8 start_rounds[], end_rounds[];
__asm__(".pushsection .rodata\n"
        "start_rounds:\n"
        "mov $1000, %ecx\n"
        "1: test $1, %cl\n jz 2f\n inc %rax\n"
        "2: call 3f\n dec %ecx\n jnz 1b\n hlt\n"
        "3: jmp 4f\n .skip 4096\n"
        "4: ret\n"
        "end_rounds:\n"
        ".popsection\n");

static void run_rounds(u32 attention)
{
    struct guest *g = guest_create(&bt_engine, 1);
    guest_write(g, CODE, start_rounds, (u64)(end_rounds - start_rounds));
    g->vcpu->cpu.rip = CODE;
    g->vcpu->cpu.rflags &= ~FLAG_IF;
    vcpu_signal(g->vcpu, attention);
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal(g->vcpu->cpu.gpr[RCX], 0);
    static const char *const names[] = {"callouts_link", "callouts_cell", "callouts_indirect"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        assert_true(guest_counter(g, names[i]) < ROUNDS / 10);
    guest_destroy(g);
}

static void test_quiet(void **state)
{
    (void)state;
    run_rounds(0);
}

static void test_interrupt_waits(void **state)
{
    (void)state;
    run_rounds(ATTN_INTR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quiet),
                                       cmocka_unit_test(test_interrupt_waits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
