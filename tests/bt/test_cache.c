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
#include <time.h>

#include <cmocka.h>

#include "fixture.h"

#define FUNCTIONS 0x500000ull
#define SPACING   48
#define N         60000 /* across 700 pages */
#define ROUNDS    3

static struct guest *start(const struct engine *engine, const void *code, size_t size)
{
    struct guest *g = guest_create_with(engine, 1, ENGINE_CACHE(1));
    guest_write(g, CODE, code, size);
    return g;
}

struct counts {
    u64 evictions, pages, lines, units;
};

static struct counts run_both(const u8 *code, const u8 *end, void (*prepare)(struct guest *g))
{
    size_t size = (size_t)(end - code);
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
    struct counts counts = {
        guest_counter(bt, "cache_evictions"), guest_counter(bt, "code_pages_dropped"),
        guest_counter(bt, "code_lines_dropped"), guest_counter(bt, "translation_units_64bit")};
    guest_destroy(bt);
    guest_destroy(sim);
    return counts;
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

#define CODE_OF(name) extern const u8 start_##name[], end_##name[]
CODE_OF(calls);
CODE_OF(thrash);
CODE_OF(beside);
CODE_OF(leaves);
CODE_OF(ahead);
CODE_OF(undefined);
CODE_OF(aliases);
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
    /* Data beside code, in other lines of its page. */
    ".p2align 12; start_beside: mov $20000, %r12d; xor %eax, %eax\n"
    "1: mov %r12d, 3f(%rip); add %r12, 8+3f(%rip); lock incl 16+3f(%rip); call 2f;\n"
    "add %rcx, %rax; dec %r12d; jnz 1b; hlt\n"
    ".p2align 6; 2: mov 3f(%rip), %ecx; ret\n"
    ".p2align 6; 3: .quad 0, 0, 0\n"
    "end_beside:\n"
    /* A page with code that becomes one with data only, by a store to each of its words. */
    ".p2align 12; start_leaves: call 2f; mov $200, %r12d\n"
    "1: lea 2f(%rip), %rdi; mov $100, %ecx; mov %r12d, %eax\n"
    "3: mov %eax, (%rdi); add $4, %rdi; dec %ecx; jnz 3b; dec %r12d; jnz 1b; hlt\n"
    ".p2align 12; 2: mov $5, %ecx; ret; .skip 400, 0x90\n"
    "end_leaves:\n"
    /* Flags that are dead for what stands ahead, in another line, until that is written. The
     * function is as long as a TU. */
    ".p2align 12; start_ahead: mov $400, %r13d; mov $1, %r12; ror $1, %r12\n"
    "lea 2f(%rip), %rdi\n"
    "1: mov $0xc085, %eax; test $1, %r13b; mov $0x9066, %edx; cmovz %edx, %eax\n"
    "mov %ax, (%rdi); mov %r12, %rbp; call 3f; dec %r13d; jnz 1b; hlt; .p2align 6\n"
    "3: add %rbp, %rbp; mov (%rbx), %rax; .rept 46; lea 1(%rsi), %rsi; .endr; .p2align 6, "
    "0x90\n"
    "2: test %eax, %eax; setc %cl; movzx %cl, %ecx; add %rcx, %r14; ret\n"
    "end_ahead:\n"
    /* No instruction until a byte in the next line makes it one, which the handler of #UD does:
     * 0F 04 becomes BSWAP. */
    ".p2align 12; start_undefined: lea 1f(%rip), %rdi; mov $30, %r12d; xor %r13d, %r13d\n"
    "2: mov $0xc8, %ecx; mov $4, %eax; test $3, %r12b; cmovz %eax, %ecx; mov %cl, 1(%rdi)\n"
    "call 3f; add %rax, %r14; dec %r12d; jnz 2b; hlt\n"
    ".p2align 7; inc %r13d; cmp $100, %r13d; ja 4f; movb $0xc8, 1(%rdi); iretq; 4: hlt\n"
    ".p2align 6; 3: inc %ecx; .skip 61, 0x90; 1: .byte 0x0f, 0x04; ret\n"
    "end_undefined:\n"
    "start_aliases: mov $1, %ebx; shl $39, %rbx; mov $60000, %r12d\n"
    "1: call *%rbx; add $4096, %rbx; dec %r12d; jnz 1b; hlt\n"
    "end_aliases:\n"
    ".popsection\n");
_Static_assert(N == 60000 && SPACING == 48 && ROUNDS == 3 && FUNCTIONS == 0x500000,
               "the numbers in start_calls");

/* jmp to 128 bytes behind CODE, instead of the fixture's handler of #UD. */
static void set_handler(struct guest *g)
{
    const u64 at = 0xb000 + VEC_UD * 16;
    u8 code[5] = {0xe9};
    s32 rel = (s32)(CODE + 128 - (at + sizeof(code)));
    memcpy(code + 1, &rel, sizeof(rel));
    guest_write(g, at, code, sizeof(code));
}

static void test_evicts(void **state)
{
    assert_true(run_both(start_calls, end_calls, put_functions).evictions > N);
}

static void test_written_and_run_in_turns(void **state)
{
    run_both(start_thrash, end_thrash, NULL);
}

static void test_data_beside_code(void **state)
{
    struct counts counts = run_both(start_beside, end_beside, NULL);
    assert_in_range(counts.pages, 1, 100);
    assert_in_range(counts.units, 3, 1000);
}

static void test_code_becomes_data(void **state)
{
    struct counts counts = run_both(start_leaves, end_leaves, NULL);
    assert_in_range(counts.pages + counts.lines, 1, 40);
}

static void test_code_ahead_is_written(void **state)
{
    run_both(start_ahead, end_ahead, NULL);
}

static void test_becomes_an_instruction(void **state)
{
    run_both(start_undefined, end_undefined, set_handler);
}

/* One page at all the addresses from 512 GiB on, as libraries are at one in each process. */
static void put_aliases(struct guest *g)
{
    const u64 rights = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
    const u64 page = FUNCTIONS, table = page + PAGE_SIZE, directory = table + PAGE_SIZE,
              pointers = directory + PAGE_SIZE;
    const u8 ret = 0xc3;
    const u64 to_page = page | rights, to_table = table | rights,
              to_directory = directory | rights, to_pointers = pointers | rights;
    guest_write(g, page, &ret, 1);
    for (u64 i = 0; i < 512; i++) {
        guest_write(g, table + i * 8, &to_page, 8);
        guest_write(g, directory + i * 8, &to_table, 8);
    }
    guest_write(g, pointers, &to_directory, 8);
    guest_write(g, (g->vcpu->cpu.cr3 & PAGE_MASK) + 8, &to_pointers, 8);
}

static double seconds_of_aliases(u32 mebibytes)
{
    struct guest *g = guest_create_with(&bt_engine, 1, ENGINE_CACHE(mebibytes));
    guest_write(g, CODE, start_aliases, (size_t)(end_aliases - start_aliases));
    put_aliases(g);
    clock_t start = clock();
    assert_int_equal(guest_run(g), EXIT_HALTED);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    assert_true(guest_counter(g, "translation_units_64bit") >= 60000);
    assert_int_equal(guest_counter(g, "cache_evictions") > 0, mebibytes < 64);
    guest_destroy(g);
    return seconds;
}

/* However many translations a page has. */
static void test_evicts_quickly(void **state)
{
    double without = seconds_of_aliases(64);
    assert_true(seconds_of_aliases(4) < 4 * without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evicts),
        cmocka_unit_test(test_written_and_run_in_turns),
        cmocka_unit_test(test_data_beside_code),
        cmocka_unit_test(test_code_becomes_data),
        cmocka_unit_test(test_code_ahead_is_written),
        cmocka_unit_test(test_becomes_an_instruction),
        cmocka_unit_test(test_evicts_quickly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
