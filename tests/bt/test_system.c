/*
 * Which privileged and sensitive instructions the translator does by itself: pieces of code
 * that must not leave it for the simulator, but for the HLT at their end. That they do the
 * right thing is test_snippets.c's and test_modes.c's business.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/bt/bt.h"
#include "fixture.h"

#define PIECES(X)                                                                              \
    X(interrupt_flag, "cli; sti; nop; pushfq; popfq; cli")                                     \
    X(flag_words, "pushfw; popfw; push $0x46; popfq")                                          \
    X(segments,                                                                                \
      "mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov %eax, %gs; "          \
      "push %fs; pop %fs; xor %eax, %eax; mov %eax, %fs")                                      \
    X(control,                                                                                 \
      "mov %rax, %cr2; mov %cr0, %rax; mov %cr2, %rax; mov %cr3, %rax; mov %cr4, %rax")        \
    X(selectors, "mov %cs, %eax; mov %ss, %r10d; mov %ds, %rcx; mov %fs, %r11")                \
    X(bases, "swapgs; rdfsbase %rax; wrfsbase %rax; rdgsbase %r10; wrgsbase %r10")             \
    X(time, "rdtsc; rdtscp")                                                                   \
    X(vectors,                                                                                 \
      "mov $0x204200, %edi; xor %eax, %eax; mov $8, %ecx; rep stosq; vmovups (%rbx), %ymm1; "  \
      "mov $0x204000, %edi; mov $-1, %eax; mov %eax, %edx; "                                   \
      "xsaves64 (%rdi); xrstors64 (%rdi); xsavec64 (%rdi); xrstor64 (%rdi); fxsave64 "         \
      "1024(%rdi); fxrstor64 1024(%rdi)")                                                      \
    X(verify, "mov $0x10, %eax; verw %ax; lea 1f(%rip), %rdx; verw (%rdx); jmp 2f;"            \
              "1: .word 0x10; 2:")

#define DEFINE(name, text)                                                                     \
    extern const u8 start_##name[], end_##name[];                                              \
    __asm__(".pushsection .rodata\nstart_" #name ":\n mov $3, %ebp; 9:" text                   \
            "; dec %ebp; jnz 9b; hlt\nend_" #name ":\n.popsection\n");
PIECES(DEFINE)

static const struct piece {
    const char *name;
    const u8 *start, *end;
} pieces[] = {
#define ROW(name, text) {#name, start_##name, end_##name},
    PIECES(ROW)};

/* The first round may find a descriptor's page missing in the TLB. */
#define FIRST_ROUND 1

static void test_stays_in_translation(void **state)
{
    const struct piece *p = *state;
    struct guest *g = guest_create(&bt_engine, 1);
    guest_write(g, CODE, p->start, (u64)(p->end - p->start));
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RBP], 0);
    assert_in_range(guest_counter(g, "simulated_callouts"), 1, 1 + FIRST_ROUND);
    guest_destroy(g);
}

/* -- PAUSE --------------------------------------------------------------------------------- */

#define ROUNDS 100000

extern const u8 start_waits[], end_waits[];
__asm__(".pushsection .rodata\nstart_waits:\n mov $100000, %ecx; xor %edx, %edx;"
        "1: stc; pause; adc $0, %edx; clc; pause; adc $0, %edx; sub $1, %ecx; pause; jnz 1b;"
        "hlt\nend_waits:\n.popsection\n");

/* Long waits give the processor away where somebody else may need it; flags stay. */
static void test_waits(void **state)
{
    for (unsigned n = 1; n <= 2; n++) {
        struct guest *g = guest_create(&bt_engine, 1);
        struct vcpu *vcpus[] = {g->vcpu, g->vcpu};
        g->board.vcpus = vcpus;
        g->board.n_vcpus = n;
        guest_write(g, CODE, start_waits, (u64)(end_waits - start_waits));
        assert_int_equal(guest_run(g), EXIT_HALTED);
        assert_int_equal(g->vcpu->cpu.gpr[RCX], 0);
        assert_int_equal(g->vcpu->cpu.gpr[RDX], ROUNDS);
        assert_true(guest_counter(g, "simulated_callouts") <= 1 + FIRST_ROUND);
        assert_int_equal(guest_counter(g, "yields") > 0, n > 1);
        guest_destroy(g);
    }
}

/* -- RDTSCP -------------------------------------------------------------------------------- */

extern const u8 start_ordered[], end_ordered[];
__asm__(".pushsection .rodata\nstart_ordered:\n rdtscp; hlt\nend_ordered:\n.popsection\n");

/* RDTSCP waits for what is before it, so its translation must, too: where clocks take turns
 * under a lock, time went backwards now and then (Linux's selftest timers/threadtest). */
static void test_rdtscp_waits(void **state)
{
    char listing[4096] = "";
    FILE *file = tmpfile();
    assert_non_null(file);
    struct guest *g = guest_create(&bt_engine, 1);
    g->log.fd = fileno(file);
    g->log.mask = 1u << LOG_OUT_ASM;
    guest_write(g, CODE, start_ordered, (u64)(end_ordered - start_ordered));
    assert_int_equal(guest_run(g), EXIT_HALTED);
    rewind(file);
    assert_true(fread(listing, 1, sizeof(listing) - 1, file) > 0);
    assert_true(strstr(listing, "rdtscp") || strstr(listing, "lfence"));
    guest_destroy(g);
    fclose(file);
}

/* Behind C code, upper halves that are zero are not left loaded (put_uppers_test). */
extern const u8 start_uppers[], end_uppers[];
__asm__(".pushsection .rodata\n"
        "start_uppers:\n"
        "mov $0x204200, %edi\n xor %eax, %eax\n mov $8, %ecx\n rep stosq\n cpuid\n"
        "mov $0x204000, %edi\n mov $7, %eax\n xor %edx, %edx\n xsave64 (%rdi)\n hlt\n"
        "end_uppers:\n"
        ".popsection\n");

static void test_uppers(void **state)
{
    (void)state;
    for (unsigned loaded = 0; loaded < 2; loaded++) {
        struct guest *g = guest_create(&bt_engine, 1);
        struct x86_cpu *c = &g->vcpu->cpu;
        u64 present;
        guest_write(g, CODE, start_uppers, (u64)(end_uppers - start_uppers));
        c->fpu.ymm_hi[15][15] = (u8)loaded;
        assert_int_equal(guest_run(g), EXIT_HALTED);
        memcpy(&present, guest_page(g, 0x204000) + 512, sizeof(present));
        assert_int_equal(present & XCR0_AVX, loaded ? XCR0_AVX : 0);
        assert_int_equal(c->fpu.ymm_hi[15][15], loaded);
        guest_destroy(g);
    }
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(pieces) + 3];
    for (unsigned i = 0; i < ARRAY_LEN(pieces); i++)
        tests[i] = (struct CMUnitTest){.name = pieces[i].name,
                                       .test_func = test_stays_in_translation,
                                       .initial_state = (void *)&pieces[i]};
    tests[ARRAY_LEN(pieces)] = (struct CMUnitTest)cmocka_unit_test(test_waits);
    tests[ARRAY_LEN(pieces) + 1] = (struct CMUnitTest)cmocka_unit_test(test_rdtscp_waits);
    tests[ARRAY_LEN(pieces) + 2] = (struct CMUnitTest)cmocka_unit_test(test_uppers);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
