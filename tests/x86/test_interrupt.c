/*
 * Delivery of events: frames, error codes, stack choice, and what becomes of an event whose
 * delivery faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tables.h"
#include "x86/debug.h"

static void fault(struct fake *f, enum x86_vector vector, u32 error)
{
    struct x86_cpu *c = &f->cpu;
    c->fault.vector = vector;
    c->fault.has_error = vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF);
    c->fault.error = error;
    c->fault.cr2 = 0x1234;
    x86_deliver_fault(c);
}

/* The handler that runs: its vector by where its gate leads. */
static unsigned entered(struct fake *f)
{
    return (unsigned)(f->cpu.rip - TABLE_CODE) / 16;
}

/* -- Frames -------------------------------------------------------------------------------- */

static void test_frame_same_level(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.rflags |= FLAG_IF | FLAG_CF;
    fault(f, VEC_GP, 0x48);
    assert_int_equal(entered(f), VEC_GP);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK - 16);
    assert_int_equal(tables_load(f, FAKE_STACK - 16, 4), 0x48);
    assert_int_equal(tables_load(f, FAKE_STACK - 12, 4), FAKE_CODE);
    assert_int_equal(tables_load(f, FAKE_STACK - 8, 4), SEL_KCODE);
    assert_int_equal(tables_load(f, FAKE_STACK - 4, 4),
                     FLAG_FIXED | FLAG_IF | FLAG_CF | FLAG_RF);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_CF);
    fake_free(f);
}

static void test_frame_inner(void **state)
{
    struct fake *f = tables_new(8);
    tables_user(f);
    f->cpu.rflags |= FLAG_IF;
    x86_deliver_interrupt(&f->cpu, 20);
    assert_int_equal(entered(f), 20);
    assert_int_equal(f->cpu.cpl, 0);
    assert_int_equal(f->cpu.gpr[RSP], TABLE_SP0 - 40);
    assert_int_equal(tables_load(f, TABLE_SP0 - 8, 8), SEL_UDATA | 3);
    assert_int_equal(tables_load(f, TABLE_SP0 - 16, 8), FAKE_STACK);
    assert_int_equal(tables_load(f, TABLE_SP0 - 24, 8), FLAG_FIXED | FLAG_IF);
    assert_int_equal(tables_load(f, TABLE_SP0 - 32, 8), SEL_UCODE64 | 3);
    assert_int_equal(f->cpu.seg[SEG_SS].sel, 0);
    assert_true(f->cpu.seg[SEG_SS].attr & SEG_NULL);
    fake_free(f);
}

/* Long mode aligns the stack even without a switch. */
static void test_long_mode_aligns(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.gpr[RSP] = FAKE_STACK - 3;
    fault(f, VEC_UD, 0);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK - 16 - 40);
    assert_int_equal(tables_load(f, FAKE_STACK - 32, 8), FAKE_STACK - 3);
    fake_free(f);
}

static void test_ist(void **state)
{
    struct fake *f = tables_new(8);
    tables_idt(f, VEC_NMI, DESC_INT, 0, SEL_KCODE, TABLE_CODE, 1);
    x86_deliver_nmi(&f->cpu);
    assert_int_equal(f->cpu.gpr[RSP], TABLE_IST - 40);
    assert_int_equal(f->cpu.seg[SEG_SS].sel, 16); /* the level did not change */
    assert_true(f->cpu.nmi_blocked);
    fake_free(f);
}

static void test_trap_gate_keeps_if(void **state)
{
    struct fake *f = tables_new(4);
    tables_idt(f, VEC_UD, DESC_TRAP, 0, SEL_KCODE, TABLE_CODE, 0);
    f->cpu.rflags |= FLAG_IF | FLAG_TF | FLAG_NT;
    fault(f, VEC_UD, 0);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_IF);
    fake_free(f);
}

static void test_16bit_gate(void **state)
{
    struct fake *f = tables_new(4);
    tables_idt(f, VEC_NP, DESC_INT16, 0, SEL_KCODE, 0x5678, 0);
    fault(f, VEC_NP, 0x58);
    assert_int_equal(f->cpu.rip, 0x5678);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK - 8);
    assert_int_equal(tables_load(f, FAKE_STACK - 8, 2), 0x58);
    fake_free(f);
}

static void test_real_mode(void **state)
{
    struct fake *f = fake_new(2, false);
    struct x86_cpu *c = &f->cpu;
    c->cr0 &= ~CR0_PE;
    c->idtr = (struct x86_table){FAKE_DATA, 0x3ff};
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        c->seg[s] = (struct x86_seg){0x1000, 0x93, 0xffff, 0x10000};
    x86_derive(c);
    c->gpr[RSP] = 0xabcd0002; /* wraps within the segment */
    c->rip = c->insn_rip = 0x123;
    c->rflags |= FLAG_IF;
    tables_store(f, FAKE_DATA + 4 * VEC_UD, 4, 0x20003456);
    fault(f, VEC_UD, 0);
    assert_int_equal(c->rip, 0x3456);
    assert_int_equal(c->seg[SEG_CS].base, 0x20000);
    assert_int_equal(c->gpr[RSP], 0xabcdfffc);
    assert_int_equal(tables_load(f, 0x10000, 2), FLAG_FIXED | FLAG_IF | 0);
    assert_int_equal(tables_load(f, 0x1fffe, 2), 0x1000);
    assert_int_equal(tables_load(f, 0x1fffc, 2), 0x123);
    assert_int_equal(c->rflags, FLAG_FIXED);
    fake_free(f);
}

/* -- Errors on the way --------------------------------------------------------------------- */

/* What the frame of the second event says: vector and error code. */
static void expect_second(struct fake *f, unsigned vector, u32 error)
{
    assert_int_equal(entered(f), vector);
    assert_int_equal(tables_load(f, f->cpu.gpr[RSP], 4), error);
}

static void absent(struct fake *f, unsigned vector)
{
    u64 at = TABLE_IDT + vector * (x86_long_mode(&f->cpu) ? 16 : 8);
    tables_store(f, at + 5, 1, tables_load(f, at + 5, 1) & 0x7f);
}

static void test_ext(void **state)
{
    struct fake *f = tables_new(4);
    absent(f, 20);
    absent(f, VEC_DB);
    x86_deliver_interrupt(&f->cpu, 20);
    expect_second(f, VEC_NP, 20 * 8 + 3);
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), VEC_NP); /* INT n is no external event */
    assert_int_equal(f->cpu.fault.error, 20 * 8 + 2);
    assert_int_equal(FAKE_RUN(f, 0xf1), VEC_NP); /* INT1 counts as one */
    assert_int_equal(f->cpu.fault.error, VEC_DB * 8 + 3);
    fake_free(f);
}

static void test_software_needs_dpl(void **state)
{
    struct fake *f = tables_new(4);
    tables_user(f);
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), VEC_GP);
    assert_int_equal(f->cpu.fault.error, 20 * 8 + 2);
    assert_int_equal(FAKE_RUN(f, 0xcc), VEC_GP);
    assert_int_equal(FAKE_RUN(f, 0xf1), -1);
    assert_int_equal(entered(f), VEC_DB);
    fake_free(f);
}

static void test_idt_limit(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.idtr.limit = 16 * 20 + 14;
    x86_deliver_interrupt(&f->cpu, 20);
    expect_second(f, VEC_GP, 20 * 8 + 3);
    fake_free(f);
}

static void test_handler_segment(void **state)
{
    static const struct {
        u64 descriptor;
        u16 sel;
        u8 vector;
        u32 error;
    } cases[] = {
        {0, 0, VEC_GP, 1},
        {0, 0x100, VEC_GP, 0x101},
        {0x00cf93000000ffff, SEL_TEST, VEC_GP, SEL_TEST | 1}, /* data */
        {0x00cffb000000ffff, SEL_TEST, VEC_GP, SEL_TEST | 1}, /* DPL 3 from CPL 0 */
        {0x00cf1b000000ffff, SEL_TEST, VEC_NP, SEL_TEST | 1}, /* not present */
        {0x004f9b000000000f, SEL_TEST, VEC_GP, 1},            /* beyond the limit */
        {0x00008b000000ffff, SEL_TEST, VEC_GP, SEL_TEST | 1}, /* a TSS */
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(4);
        u64 descriptor = cases[n].descriptor;
        if (descriptor == 0x004f9b000000000f)
            descriptor = tables_segment(0, 0xf, ATTR_KCODE | ATTR_DB);
        tables_set(f, SEL_TEST, descriptor);
        tables_idt(f, 20, DESC_INT, 0, cases[n].sel, TABLE_CODE, 0);
        x86_deliver_interrupt(&f->cpu, 20);
        expect_second(f, cases[n].vector, cases[n].error);
        fake_free(f);
    }
}

/* A bad inner stack is #TS with the selector; here from CPL 3, so that the handler of #TS needs
 * a stack as well: a task gate would; without one it ends in a double fault and shutdown. */
static void test_inner_stack_errors(void **state)
{
    struct fake *f = tables_new(4);
    tables_user(f);
    tables_idt(f, 20, DESC_INT, 3, SEL_KCODE, TABLE_CODE, 0);
    tables_store(f, TABLE_TSS + 8, 2, SEL_UDATA);
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), VEC_TS);
    assert_int_equal(f->cpu.fault.error, SEL_UDATA);
    tables_store(f, TABLE_TSS + 8, 2, 0);
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), VEC_TS);
    assert_int_equal(f->cpu.fault.error, 0);
    tables_store(f, TABLE_TSS + 8, 2, SEL_TEST);
    tables_set(f, SEL_TEST, tables_segment(0, 0xfffff, (ATTR_KDATA & ~SEG_P) | ATTR_G));
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), VEC_SS);
    assert_int_equal(f->cpu.fault.error, SEL_TEST);
    f->cpu.seg[SEG_TR].limit = 8;
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), VEC_TS);
    assert_int_equal(f->cpu.fault.error, SEL_TSS);
    x86_deliver_interrupt(&f->cpu, 20);
    assert_int_equal(f->cpu.activity, CPU_SHUTDOWN);
    fake_free(f);
}

/* Of a frame that crosses into an absent page the push that comes first is reported. */
static void test_first_push_faults(void **state)
{
    struct fake *f = tables_new(8);
    fake_protect(f, FAKE_DATA, true, false);
    f->cpu.gpr[RSP] = FAKE_DATA + 0x800;
    fault(f, VEC_UD, 0);
    assert_int_equal(f->cpu.cr2, FAKE_DATA + 0x800 - 8);
    assert_int_equal(f->cpu.activity, CPU_SHUTDOWN);
    f->cpu.gpr[RSP] = FAKE_DATA + PAGE_SIZE + 16;
    fault(f, VEC_UD, 0);
    assert_int_equal(f->cpu.cr2, FAKE_DATA + PAGE_SIZE - 8);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_DATA + PAGE_SIZE + 16);
    fake_free(f);
}

/* -- Double and triple faults (SDM vol. 3, table 6-5) -------------------------------------- */

/* Delivers `first`, the delivery of which meets `second`: #PF by an absent IDT page does not do
 * for all, so the gate of `first` is absent (#NP) or its stack is (#PF). */
static unsigned meet(enum x86_vector first, bool page_fault, bool external)
{
    struct fake *f = tables_new(8);
    if (page_fault) {
        tables_idt(f, first, DESC_INT, 0, SEL_KCODE, TABLE_CODE + 16 * first, 1);
        fake_protect(f, TABLE_IST - 1, true, false);
    } else {
        absent(f, first);
    }
    if (external)
        x86_deliver_interrupt(&f->cpu, first);
    else
        fault(f, first, 0);
    unsigned vector = f->cpu.activity == CPU_SHUTDOWN ? 0xff : entered(f);
    if (vector == VEC_DF)
        assert_int_equal(tables_load(f, f->cpu.gpr[RSP], 8), 0);
    fake_free(f);
    return vector;
}

static void test_double_fault(void **state)
{
    assert_int_equal(meet(VEC_UD, false, false), VEC_NP); /* benign */
    assert_int_equal(meet(VEC_UD, true, false), VEC_PF);
    assert_int_equal(meet(VEC_DE, false, false), VEC_DF);
    assert_int_equal(meet(VEC_DE, true, false), VEC_PF); /* contributory, then #PF */
    assert_int_equal(meet(VEC_GP, false, false), VEC_DF);
    assert_int_equal(meet(VEC_GP, true, false), VEC_PF);
    assert_int_equal(meet(VEC_PF, false, false), VEC_DF);
    assert_int_equal(meet(VEC_PF, true, false), VEC_DF);
    assert_int_equal(meet(VEC_DF, false, false), 0xff);
    assert_int_equal(meet(VEC_DF, true, false), 0xff);
    assert_int_equal(meet(VEC_GP, false, true), VEC_NP); /* vector 13 from outside is no #GP */
}

/* -- Debug --------------------------------------------------------------------------------- */

static void test_debug_trap(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.dr6 = DR6_FIXED | 0xf;
    f->cpu.dr7 = DR7_FIXED | DR7_GD;
    f->cpu.pending_db = DR6_BS | 2;
    f->cpu.activity = CPU_HALTED;
    f->cpu.rflags |= FLAG_TF;
    x86_deliver_debug(&f->cpu);
    assert_int_equal(entered(f), VEC_DB);
    assert_int_equal(f->cpu.dr6, DR6_FIXED | DR6_BS | 2);
    assert_int_equal(f->cpu.dr7, DR7_FIXED);
    assert_int_equal(f->cpu.activity, CPU_RUNNING);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED);
    assert_int_equal(tables_load(f, f->cpu.gpr[RSP] + 16, 8), FLAG_FIXED | FLAG_TF); /* no RF */
    fake_free(f);
}

static void test_general_detect(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.dr7 = DR7_FIXED | DR7_GD;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x21, 0xf0), VEC_DB); /* mov rax, dr6 */
    assert_int_equal(f->cpu.dr6, DR6_FIXED | DR6_BD);
    x86_deliver_fault(&f->cpu);
    assert_int_equal(f->cpu.dr7, DR7_FIXED);
    fake_free(f);
}

static void test_step_into_handler(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.rflags |= FLAG_TF;
    assert_int_equal(FAKE_RUN(f, 0xcd, 20), -1);
    assert_true(f->cpu.no_step);
    fake_free(f);
}

static void test_breakpoints(void **state)
{
    struct fake *f = tables_new(8);
    struct x86_cpu *c = &f->cpu;
    c->dr[0] = FAKE_DATA + 4;
    c->dr[1] = FAKE_DATA + 5; /* four bytes: aligned down */
    c->dr[2] = FAKE_CODE;
    /* 0: write, 1 byte; 1: access, 4 bytes; 2: execute */
    c->dr7 = DR7_FIXED | 0x2a | 1ull << 16 | 15ull << 20;
    x86_derive(c);
    c->gpr[RBX] = FAKE_DATA;
    assert_int_equal(FAKE_RUN(f, 0x8a, 0x03), -1); /* mov al, [rbx] */
    assert_int_equal(c->pending_db, 0);
    c->gpr[RBX] = FAKE_DATA + 7;
    assert_int_equal(FAKE_RUN(f, 0x8a, 0x03), -1);
    assert_int_equal(c->pending_db, 2);
    c->gpr[RBX] = FAKE_DATA + 1;
    assert_int_equal(FAKE_RUN(f, 0x89, 0x03), -1); /* mov [rbx], eax: bytes 1..4 */
    assert_int_equal(c->pending_db, 3);
    assert_int_equal(x86_insn_breakpoints(c, gva(FAKE_CODE)), 4);
    assert_int_equal(x86_insn_breakpoints(c, gva(FAKE_CODE + 1)), 0);
    assert_int_equal(x86_breakpoint_kinds(c),
                     1u << BREAK_WRITE | 1u << BREAK_ACCESS | 1u << BREAK_EXEC);
    assert_true(x86_page_watched(c, gva(FAKE_DATA + PAGE_SIZE - 1), ACCESS_READ));
    assert_false(x86_page_watched(c, gva(FAKE_DATA + PAGE_SIZE), ACCESS_WRITE));
    assert_false(x86_page_watched(c, gva(FAKE_DATA), ACCESS_EXEC));
    c->dr7 &= ~0x8ull; /* the write alone */
    assert_true(x86_page_watched(c, gva(FAKE_DATA), ACCESS_WRITE));
    assert_false(x86_page_watched(c, gva(FAKE_DATA), ACCESS_READ));
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_same_level),   cmocka_unit_test(test_frame_inner),
        cmocka_unit_test(test_long_mode_aligns),   cmocka_unit_test(test_ist),
        cmocka_unit_test(test_trap_gate_keeps_if), cmocka_unit_test(test_16bit_gate),
        cmocka_unit_test(test_real_mode),          cmocka_unit_test(test_ext),
        cmocka_unit_test(test_software_needs_dpl), cmocka_unit_test(test_idt_limit),
        cmocka_unit_test(test_handler_segment),    cmocka_unit_test(test_inner_stack_errors),
        cmocka_unit_test(test_first_push_faults),  cmocka_unit_test(test_double_fault),
        cmocka_unit_test(test_debug_trap),         cmocka_unit_test(test_general_detect),
        cmocka_unit_test(test_step_into_handler),  cmocka_unit_test(test_breakpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
