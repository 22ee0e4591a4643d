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
    static const char *const names[] = {"callouts.link", "callouts.cell", "callouts.indirect"};
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

/*
 * 1000 indirect calls by turns to two functions whose addresses are alike in what the table of
 * targets goes by; then the second one is written anew, which the next call must see.
 */
extern const u8 start_turns[], end_turns[];
__asm__(".pushsection .rodata\n"
        "start_turns:\n"
        "mov $0x140000, %esi\n mov $0x150000, %edi\n xor %eax, %eax\n mov $1000, %ecx\n"
        "1: call *%rsi\n xchg %rsi, %rdi\n dec %ecx\n jnz 1b\n"
        "movb $5, 0x150002\n"
        "call *0x80(%rbx)\n hlt\n"
        "end_turns:\n"
        ".popsection\n");

static void test_alike_targets(void **state)
{
    (void)state;
    static const u8 add_one[] = {0x83, 0xc0, 1, 0xc3}, add_two[] = {0x83, 0xc0, 2, 0xc3};
    const u64 second = CODE + 0x50000;
    struct guest *g = guest_create(&bt_engine, 1);
    guest_write(g, CODE, start_turns, (u64)(end_turns - start_turns));
    guest_write(g, CODE + 0x40000, add_one, sizeof(add_one));
    guest_write(g, second, add_two, sizeof(add_two));
    guest_write(g, DATA + 0x80, &second, sizeof(second));
    g->vcpu->cpu.rip = CODE;
    g->vcpu->cpu.gpr[RBX] = DATA;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RAX], 500 + 500 * 2 + 5);
    assert_true(guest_counter(g, "callouts.indirect") < 100);
    guest_destroy(g);
}

/*
 * The same for a target that is mapped elsewhere: behind INVLPG the code of the new page runs.
 */
extern const u8 start_remap[], end_remap[];
__asm__(".pushsection .rodata\n"
        "start_remap:\n"
        "mov $0x140000, %esi\n mov $0x150000, %edi\n xor %eax, %eax\n mov $100, %ecx\n"
        "1: call *%rsi\n xchg %rsi, %rdi\n dec %ecx\n jnz 1b\n"
        "mov %rdx, (%rbx)\n invlpg 0x150000\n"
        "call *%rdi\n hlt\n"
        "end_remap:\n"
        ".popsection\n");

/* gpa of the entry of `la` in the table whose entries stand for 2^last bytes each. */
static u64 entry_of(struct guest *g, u64 la, unsigned last)
{
    u64 table = g->vcpu->cpu.cr3 & PAGE_MASK;
    for (unsigned shift = 39; shift > last; shift -= 9) {
        u64 entry;
        memcpy(&entry, guest_page(g, table) + (la >> shift & 511) * 8, 8);
        table = entry & PAGE_MASK & bits_low(52);
    }
    return table + (la >> last & 511) * 8;
}

static void test_alike_remapped(void **state)
{
    (void)state;
    static const u8 add_one[] = {0x83, 0xc0, 1, 0xc3}, add_two[] = {0x83, 0xc0, 2, 0xc3},
                    add_seven[] = {0x83, 0xc0, 7, 0xc3};
    struct guest *g = guest_create(&bt_engine, 1);
    guest_write(g, CODE, start_remap, (u64)(end_remap - start_remap));
    guest_write(g, CODE + 0x40000, add_one, sizeof(add_one));
    guest_write(g, CODE + 0x50000, add_two, sizeof(add_two));
    guest_write(g, CODE + 0x60000, add_seven, sizeof(add_seven));
    u64 at = entry_of(g, CODE + 0x50000, PAGE_SHIFT), other;
    memcpy(&other,
           guest_page(g, entry_of(g, CODE + 0x60000, PAGE_SHIFT) & PAGE_MASK) +
               (entry_of(g, CODE + 0x60000, PAGE_SHIFT) & ~PAGE_MASK),
           8);
    g->vcpu->cpu.rip = CODE;
    g->vcpu->cpu.gpr[RBX] = at;
    g->vcpu->cpu.gpr[RDX] = other;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RAX], 50 + 50 * 2 + 7);
    guest_destroy(g);
}

/* The same within a large page, of which INVLPG names another part. */
extern const u8 start_large[], end_large[];
__asm__(".pushsection .rodata\n"
        "start_large:\n"
        "mov $0x940000, %edi\n xor %eax, %eax\n mov $100, %ecx\n"
        "1: call *%rdi\n dec %ecx\n jnz 1b\n"
        "mov %rdx, (%rbx)\n invlpg 0x801000\n"
        "call *%rdi\n hlt\n"
        "end_large:\n"
        ".popsection\n");

static void test_large_remapped(void **state)
{
    (void)state;
    static const u8 add_one[] = {0x83, 0xc0, 1, 0xc3}, add_seven[] = {0x83, 0xc0, 7, 0xc3};
    const u64 rights = PTE_P | PTE_W | PTE_A | PTE_D | PTE_PS;
    struct guest *g = guest_create(&bt_engine, 1);
    u64 at = entry_of(g, RAM_SIZE, 21);
    guest_write(g, CODE, start_large, (u64)(end_large - start_large));
    guest_write(g, CODE + 0x40000, add_one, sizeof(add_one));
    guest_write(g, 0x740000, add_seven, sizeof(add_seven));
    guest_write(g, at, &rights, 8); /* of gpa 0 */
    g->vcpu->cpu.rip = CODE;
    g->vcpu->cpu.gpr[RBX] = at;
    g->vcpu->cpu.gpr[RDX] = rights | 0x600000;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RAX], 100 + 7);
    assert_true(guest_counter(g, "callouts.indirect") < 10);
    guest_destroy(g);
}

/* The last large page there is: looking through its small ones ends. */
static void test_large_last(void **state)
{
    (void)state;
    static const u8 code[] = {0x8a, 0x06, 0x0f,
                              0x01, 0x3e, 0xf4}; /* al := [rsi]; invlpg; hlt */
    const u64 last = ~bits_low(21), rights = PTE_P | PTE_W | PTE_A | PTE_D | PTE_PS;
    struct guest *g = guest_create(&bt_engine, 1);
    for (unsigned shift = 39; shift > 21; shift -= 9) {
        u64 first = entry_of(g, 0, shift), to = entry_of(g, last, shift), entry;
        memcpy(&entry, guest_page(g, first & PAGE_MASK) + (first & ~PAGE_MASK), 8);
        guest_write(g, to, &entry, 8);
    }
    guest_write(g, entry_of(g, last, 21), &rights, 8);
    guest_write(g, CODE, code, sizeof(code));
    g->vcpu->cpu.rip = CODE;
    g->vcpu->cpu.gpr[RSI] = last;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    guest_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet),          cmocka_unit_test(test_interrupt_waits),
        cmocka_unit_test(test_alike_targets),  cmocka_unit_test(test_alike_remapped),
        cmocka_unit_test(test_large_remapped), cmocka_unit_test(test_large_last)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
