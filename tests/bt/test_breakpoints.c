/*
 * The debug registers under translation: enabled breakpoints must not take code out of it that
 * does not meet them, and must be met by code that was translated, and chained, before. What
 * they report is tests/bare/break64.c's business.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/bt/bt.h"
#include "fixture.h"
#include "x86/debug.h"

#define ROUNDS    10000
#define WATCHED   (DATA + 0x5000) /* of no round */
#define ON_EXEC_0 0x2ull
#define ON_DATA_1 (0x8ull | 15ull << 20)

/* DR0 := R12, DR1 := R13, DR7 := R14, then the rounds; `met` is one of their instructions. */
extern const u8 start_rounds[], met[], end_rounds[];
__asm__(".pushsection .rodata\n"
        "start_rounds:\n"
        "mov %r12, %dr0; mov %r13, %dr1; mov %r14, %dr7\n"
        "mov $10000, %ecx\n"
        "1: mov %rcx, (%rdi); add 8(%rdi), %rax\n"
        "met: xor %rcx, %rax; call 2f; dec %ecx; jnz 1b; hlt\n"
        "2: push %rax; pop 16(%rdi); ret\n"
        "end_rounds:\n"
        ".popsection\n");

#define MET (CODE + (u64)(met - start_rounds))

static struct guest *rounds(void)
{
    struct guest *g = guest_create(&bt_engine, 1);
    guest_write(g, CODE, start_rounds, (u64)(end_rounds - start_rounds));
    g->vcpu->cpu.gpr[RDI] = DATA;
    g->vcpu->cpu.gpr[R12] = g->vcpu->cpu.gpr[R13] = 0;
    g->vcpu->cpu.gpr[R14] = DR7_FIXED;
    return g;
}

/* The vector of the exception that ended the rounds, whose frame says where; 0: none. */
static u64 end_of(struct guest *g, u64 *rip)
{
    assert_int_equal(guest_run(g), EXIT_HALTED);
    const struct x86_cpu *c = &g->vcpu->cpu;
    if (c->rip < CODE + (u64)(end_rounds - start_rounds) && c->rip >= CODE)
        return 0;
    const u64 *frame = (const u64 *)(guest_page(g, c->gpr[RSP]) + (c->gpr[RSP] & ~PAGE_MASK));
    *rip = frame[1];
    return frame[0];
}

static void test_others_stay_translated(void **state)
{
    (void)state;
    u64 rip, plain;
    struct guest *g = rounds();
    assert_int_equal(end_of(g, &rip), 0);
    plain = guest_counter(g, "callouts");
    guest_destroy(g);
    g = rounds();
    g->vcpu->cpu.gpr[R12] = MET + 1; /* within an instruction */
    g->vcpu->cpu.gpr[R13] = WATCHED;
    g->vcpu->cpu.gpr[R14] = DR7_FIXED | ON_EXEC_0 | ON_DATA_1;
    assert_int_equal(end_of(g, &rip), 0);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RCX], 0);
    assert_true(guest_counter(g, "callouts") < plain + 20);
    assert_in_range(guest_counter(g, "steps"), 0, 10);
    guest_destroy(g);
}

/* In a page with a watched field each access is looked at, but nothing else is. */
static void test_page_is_watched(void **state)
{
    (void)state;
    u64 rip;
    struct guest *g = rounds();
    g->vcpu->cpu.gpr[R13] = DATA + 64;
    g->vcpu->cpu.gpr[R14] = DR7_FIXED | ON_DATA_1;
    assert_int_equal(end_of(g, &rip), 0);
    assert_in_range(guest_counter(g, "simulated_callouts"), 0, 20);
    assert_in_range(guest_counter(g, "slow_accesses"), 3 * ROUNDS, 3 * ROUNDS + 20);
    assert_in_range(guest_counter(g, "steps"), 0, 10);
    guest_destroy(g);
}

/* From C, as after a reset, where no instruction writes them. */
static void enable(struct guest *g, u64 where)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    c->dr[0] = where;
    c->dr7 = DR7_FIXED | ON_EXEC_0;
    x86_debug_changed(c);
    c->rip = CODE;
    c->activity = CPU_RUNNING; /* after the HLT */
    c->gpr[R12] = where;
    c->gpr[R14] = c->dr7;
}

/* More addresses than there are cuts, with the code chained before each. */
static void test_met_by_chained_code(void **state)
{
    (void)state;
    u64 rip = 0;
    struct guest *g = rounds();
    const u64 sp = g->vcpu->cpu.gpr[RSP];
    assert_int_equal(end_of(g, &rip), 0);
    for (unsigned n = 0; n < 3 * CUTS; n++) {
        u64 where = n % 3 ? CODE + 0x100 + n : MET;
        enable(g, where);
        g->vcpu->cpu.gpr[RSP] = sp;
        assert_int_equal(end_of(g, &rip), where == MET ? VEC_DB : 0);
        if (where == MET)
            assert_int_equal(rip, MET);
    }
    guest_destroy(g);
}

/* Another engine left them enabled. */
static void test_attached_with_breakpoints(void **state)
{
    (void)state;
    struct error err;
    u64 rip = 0;
    struct guest *g = rounds();
    struct x86_cpu *c = &g->vcpu->cpu;
    g->engine->detach(g->vcpu);
    g->engine = g->vcpu->engine = &sim_engine;
    assert_true(g->engine->attach(g->vcpu, &err));
    enable(g, MET);
    g->engine->detach(g->vcpu);
    g->engine = g->vcpu->engine = &bt_engine;
    assert_true(g->engine->attach(g->vcpu, &err));
    c->rip = CODE + 12; /* behind the writes */
    assert_int_equal(end_of(g, &rip), VEC_DB);
    assert_int_equal(rip, MET);
    guest_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others_stay_translated),
        cmocka_unit_test(test_page_is_watched),
        cmocka_unit_test(test_met_by_chained_code),
        cmocka_unit_test(test_attached_with_breakpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
