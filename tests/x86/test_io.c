/*
 * Port I/O and RFLAGS by privilege: the bitmap, repetition, POPF, CLI, STI, and the virtual
 * interrupt flag.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tables.h"

/* -- Ports --------------------------------------------------------------------------------- */

static int in_al(struct fake *f, u16 port)
{
    f->cpu.gpr[RDX] = port;
    return FAKE_RUN(f, 0xec);
}

static int in_eax(struct fake *f, u16 port)
{
    f->cpu.gpr[RDX] = port;
    return FAKE_RUN(f, 0xed);
}

static void test_bitmap(void **state)
{
    struct fake *f = tables_new(4);
    tables_store(f, TABLE_TSS + 0x100 + 0x60 / 8, 2, 0x10); /* port 64h is denied */
    assert_int_equal(in_al(f, 0x64), -1);
    tables_user(f);
    assert_int_equal(in_al(f, 0x64), VEC_GP);
    assert_int_equal(f->cpu.fault.error, 0);
    assert_int_equal(in_al(f, 0x65), -1);
    assert_int_equal((u8)f->cpu.gpr[RAX], 0x65);
    assert_int_equal(in_eax(f, 0x61), VEC_GP);
    assert_int_equal(in_eax(f, 0x60), -1);
    assert_int_equal(in_eax(f, 0x5e), -1); /* across two bytes of the map */
    f->cpu.rflags |= FLAG_IOPL;
    assert_int_equal(in_al(f, 0x64), -1);
    f->cpu.rflags &= ~FLAG_IOPL;
    f->cpu.seg[SEG_TR].limit = 0x100 + 0x60 / 8; /* the second byte read is beyond */
    assert_int_equal(in_al(f, 0x60), VEC_GP);
    f->cpu.seg[SEG_TR].limit++;
    assert_int_equal(in_al(f, 0x60), -1);
    f->cpu.seg[SEG_TR].attr = SEG_P | DESC_TSS16_BUSY;
    assert_int_equal(in_al(f, 0x60), VEC_GP);
    fake_free(f);
}

/* In virtual-8086 mode the map counts whatever IOPL is. */
static void test_bitmap_v86(void **state)
{
    struct fake *f = tables_new(2);
    x86_write_flags(&f->cpu, FLAG_VM | FLAG_IOPL, FLAG_VM | FLAG_IOPL);
    tables_store(f, TABLE_TSS + 0x100 + 0x60 / 8, 1, 0x10);
    assert_int_equal(in_al(f, 0x64), VEC_GP);
    assert_int_equal(in_al(f, 0x60), -1);
    fake_free(f);
}

static unsigned reads;

static u32 counting_in(struct x86_cpu *c, u16 port, unsigned size)
{
    reads++;
    return 0x11223344;
}

static void test_ins(void **state)
{
    struct fake *f = tables_new(4);
    struct x86_ops ops = *f->cpu.ops;
    ops.in = counting_in;
    f->cpu.ops = &ops;
    reads = 0;
    /* The second element's page is absent: one read, and the instruction stands there. */
    fake_protect(f, FAKE_DATA + PAGE_SIZE, true, false);
    f->cpu.gpr[RDI] = FAKE_DATA + PAGE_SIZE - 4;
    f->cpu.gpr[RCX] = 3;
    assert_int_equal(FAKE_RUN(f, 0xf3, 0x6d), VEC_PF);
    assert_int_equal(reads, 1);
    assert_int_equal(f->cpu.gpr[RCX], 2);
    assert_int_equal(f->cpu.gpr[RDI], FAKE_DATA + PAGE_SIZE);
    assert_int_equal(f->cpu.rip, FAKE_CODE);
    assert_int_equal(tables_load(f, FAKE_DATA + PAGE_SIZE - 4, 4), 0x11223344);
    /* Attention stops it after an element. */
    f->cpu.gpr[RDI] = FAKE_DATA;
    f->cpu.gpr[RCX] = 3;
    atomic_store(&f->cpu.attention, ATTN_KICK);
    assert_int_equal(FAKE_RUN(f, 0xf3, 0x6d), -1);
    assert_int_equal(f->cpu.gpr[RCX], 2);
    assert_int_equal(f->cpu.rip, FAKE_CODE);
    f->cpu.gpr[RCX] = 0;
    assert_int_equal(FAKE_RUN(f, 0xf3, 0x6d), -1);
    assert_int_equal(reads, 2);
    assert_int_equal(f->cpu.rip, FAKE_CODE + 2);
    fake_free(f);
}

static void test_io_breakpoint(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.dr[3] = 0x60;
    f->cpu.dr7 = DR7_FIXED | 0x80 | 6ull << 28; /* I/O, two ports */
    assert_int_equal(in_al(f, 0x61), -1);
    assert_int_equal(f->cpu.pending_db, 0); /* not without CR4.DE */
    f->cpu.cr4 |= CR4_DE;
    assert_int_equal(in_al(f, 0x62), -1);
    assert_int_equal(f->cpu.pending_db, 0);
    assert_int_equal(in_al(f, 0x61), -1);
    assert_int_equal(f->cpu.pending_db, 8);
    fake_free(f);
}

/* -- Flags --------------------------------------------------------------------------------- */

static int popf(struct fake *f, u64 image)
{
    tables_store(f, FAKE_STACK, 4, image);
    f->cpu.gpr[RSP] = FAKE_STACK;
    return FAKE_RUN(f, 0x9d);
}

static void test_popf(void **state)
{
    const u64 all = FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF |
                    FLAG_VIP | FLAG_ID | FLAG_CF;
    struct fake *f = tables_new(4);
    assert_int_equal(popf(f, all), -1);
    assert_int_equal(f->cpu.rflags,
                     FLAG_FIXED | FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_CF);
    assert_int_equal(popf(f, 0), -1);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED);
    tables_user(f);
    assert_int_equal(popf(f, all), -1); /* IOPL 0: neither IF nor IOPL, and no fault */
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_CF);
    f->cpu.rflags = FLAG_FIXED | FLAG_IOPL;
    assert_int_equal(popf(f, FLAG_IF), -1);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_IOPL | FLAG_IF);
    fake_free(f);
}

static void test_cli_sti(void **state)
{
    struct fake *f = tables_new(4);
    assert_int_equal(FAKE_RUN(f, 0xfb), -1);
    assert_true(f->cpu.rflags & FLAG_IF);
    assert_true(f->cpu.sti_shadow);
    f->cpu.sti_shadow = false;
    assert_int_equal(FAKE_RUN(f, 0xfb), -1);
    assert_false(f->cpu.sti_shadow); /* IF was set already */
    tables_user(f);
    assert_int_equal(FAKE_RUN(f, 0xfa), VEC_GP);
    f->cpu.cr4 |= CR4_PVI;
    assert_int_equal(FAKE_RUN(f, 0xfb), -1);
    assert_true(f->cpu.rflags & FLAG_VIF);
    assert_int_equal(FAKE_RUN(f, 0xfa), -1);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_IF);
    f->cpu.rflags |= FLAG_VIP;
    assert_int_equal(FAKE_RUN(f, 0xfb), VEC_GP);
    assert_int_equal(FAKE_RUN(f, 0xf4), VEC_GP); /* hlt */
    fake_free(f);
}

static struct fake *v86_new(u64 iopl)
{
    struct fake *f = tables_new(2);
    struct x86_cpu *c = &f->cpu;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        c->seg[s] = (struct x86_seg){0x1000, 0xf3, 0xffff, 0x10000};
    x86_write_flags(c, FLAG_VM | iopl, FLAG_VM | FLAG_IOPL);
    c->gpr[RSP] = 0x8000;
    return f;
}

static void test_v86_flags(void **state)
{
    struct fake *f = v86_new(0);
    assert_int_equal(FAKE_RUN(f, 0x9c), VEC_GP); /* pushf */
    assert_int_equal(FAKE_RUN(f, 0xfa), VEC_GP);
    assert_int_equal(FAKE_RUN(f, 0xcd, 0x20), VEC_GP);
    assert_int_equal(f->cpu.fault.error, 0);
    f->cpu.cr4 |= CR4_VME;
    f->cpu.rflags |= FLAG_VIF;
    assert_int_equal(FAKE_RUN(f, 0x9c), -1);
    assert_int_equal(tables_load(f, 0x17ffe, 2), FLAG_FIXED | FLAG_IF | FLAG_IOPL);
    assert_int_equal(FAKE_RUN(f, 0xfa), -1);
    assert_false(f->cpu.rflags & FLAG_VIF);
    assert_int_equal(FAKE_RUN(f, 0x9d), -1);
    assert_int_equal(f->cpu.rflags, FLAG_FIXED | FLAG_VM | FLAG_VIF);
    assert_int_equal(FAKE_RUN(f, 0x66, 0x9c), VEC_GP); /* pushfd */
    fake_free(f);
    f = v86_new(FLAG_IOPL);
    assert_int_equal(FAKE_RUN(f, 0x66, 0x9c), -1);
    assert_int_equal(tables_load(f, 0x17ffc, 4), FLAG_FIXED | FLAG_IOPL); /* no VM */
    fake_free(f);
}

/* The mapping of linear 0 is not in the fake's memory: a redirected INT n faults there. */
static void test_v86_redirection(void **state)
{
    struct fake *f = v86_new(FLAG_IOPL);
    f->cpu.cr4 |= CR4_VME;
    assert_int_equal(FAKE_RUN(f, 0xcd, 0x20), VEC_PF);
    assert_int_equal(f->cpu.fault.cr2, 0x80);
    tables_store(f, TABLE_TSS + 0x100 - 32 + 4, 1, 1); /* INT 20h goes to the IDT */
    assert_int_equal(FAKE_RUN(f, 0xcd, 0x20), VEC_GP);
    assert_int_equal(f->cpu.fault.error, 0x20 * 8 + 2); /* whose gate is empty */
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bitmap),    cmocka_unit_test(test_bitmap_v86),
        cmocka_unit_test(test_ins),       cmocka_unit_test(test_io_breakpoint),
        cmocka_unit_test(test_popf),      cmocka_unit_test(test_cli_sti),
        cmocka_unit_test(test_v86_flags), cmocka_unit_test(test_v86_redirection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
