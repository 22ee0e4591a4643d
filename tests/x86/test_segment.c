/*
 * Segmentation: what may be loaded into which register, where accesses fault, and what programs
 * may ask of descriptors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tables.h"
#include "x86/segment.h"

/* mov SEG, ax */
static int load_seg(struct fake *f, enum x86_seg_reg seg, u16 sel)
{
    f->cpu.gpr[RAX] = sel;
    return FAKE_RUN(f, 0x8e, (u8)(0xc0 | seg << 3));
}

static void set_test(struct fake *f, u32 limit, u32 attr)
{
    tables_set(f, SEL_TEST, tables_segment(FAKE_DATA, limit, attr));
}

/* -- Loads --------------------------------------------------------------------------------- */

static void test_data_loads(void **state)
{
    static const struct {
        u8 attr;
        u8 cpl, rpl;
        int vector; /* for DS */
    } cases[] = {
        {0x93, 0, 0, -1},     {0x91, 0, 0, -1},     /* data, read-only data */
        {0x9b, 0, 0, -1},     {0x99, 0, 0, VEC_GP}, /* code, execute-only code */
        {0x89, 0, 0, VEC_GP},                       /* a TSS */
        {0x13, 0, 0, VEC_NP}, {0x93, 0, 3, VEC_GP}, {0x93, 3, 3, VEC_GP}, {0xf3, 3, 3, -1},
        {0xf3, 3, 0, -1},     {0xf3, 0, 3, -1},     {0x9f, 3, 3, -1}, /* conforming code: no
                                                                         level */
        {0xb3, 0, 1, -1},     {0xb3, 0, 2, VEC_GP},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(4);
        if (cases[n].cpl == 3)
            tables_user(f);
        set_test(f, 0xfff, cases[n].attr | ATTR_DB);
        struct x86_seg before = f->cpu.seg[SEG_DS];
        int vector = load_seg(f, SEG_DS, SEL_TEST | cases[n].rpl);
        assert_int_equal(vector, cases[n].vector);
        if (vector >= 0) {
            assert_int_equal(f->cpu.fault.error, SEL_TEST);
            assert_memory_equal(&f->cpu.seg[SEG_DS], &before, sizeof(before));
        } else {
            assert_int_equal(f->cpu.seg[SEG_DS].base, FAKE_DATA);
            assert_int_equal(f->cpu.seg[SEG_DS].limit, 0xfff);
            assert_int_equal(f->cpu.seg[SEG_DS].sel, SEL_TEST | cases[n].rpl);
        }
        fake_free(f);
    }
}

static void test_stack_loads(void **state)
{
    static const struct {
        u8 attr;
        u8 cpl, rpl;
        int vector;
    } cases[] = {
        {0x93, 0, 0, -1},     {0x91, 0, 0, VEC_GP}, {0x9b, 0, 0, VEC_GP}, {0x13, 0, 0, VEC_SS},
        {0x93, 0, 3, VEC_GP}, {0xf3, 0, 0, VEC_GP}, {0xf3, 3, 3, -1},     {0xf3, 3, 0, VEC_GP},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(4);
        if (cases[n].cpl == 3)
            tables_user(f);
        set_test(f, 0xfff, cases[n].attr);
        assert_int_equal(load_seg(f, SEG_SS, SEL_TEST | cases[n].rpl), cases[n].vector);
        assert_int_equal(f->cpu.ss_shadow, cases[n].vector < 0);
        assert_int_equal(f->cpu.stack_size, cases[n].vector < 0 ? 2 : 4);
        fake_free(f);
    }
}

static void test_accessed_bit(void **state)
{
    struct fake *f = tables_new(4);
    set_test(f, 0xfff, 0x92);
    assert_int_equal(load_seg(f, SEG_ES, SEL_TEST), -1);
    assert_int_equal(tables_get(f, SEL_TEST) >> 40 & 0xff, 0x93);
    set_test(f, 0xfff, 0x92);
    fake_protect(f, TABLE_GDT, false, true);
    assert_int_equal(load_seg(f, SEG_FS, SEL_TEST), VEC_PF);
    assert_int_equal(f->cpu.fault.error, PF_P | PF_W);
    assert_int_equal(f->cpu.seg[SEG_FS].sel, 16);
    fake_free(f);
}

static void test_limits_of_tables(void **state)
{
    struct fake *f = tables_new(4);
    assert_int_equal(load_seg(f, SEG_ES, GDT_LIMIT + 1), VEC_GP);
    assert_int_equal(f->cpu.fault.error, GDT_LIMIT + 1);
    assert_int_equal(load_seg(f, SEG_ES, 0x0c), VEC_GP); /* LDT, and there is none */
    assert_int_equal(f->cpu.fault.error, 0x0c);
    f->cpu.gpr[RAX] = SEL_LDT;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x00, 0xd0), -1); /* lldt ax */
    tables_store(f, TABLE_LDT + 8, 8, tables_segment(0x123, 0xff, ATTR_KDATA));
    assert_int_equal(load_seg(f, SEG_ES, 0x0c), -1);
    assert_int_equal(f->cpu.seg[SEG_ES].base, 0x123);
    fake_free(f);
}

static void test_null(void **state)
{
    struct fake *f = tables_new(4);
    assert_int_equal(load_seg(f, SEG_DS, 3), -1);
    assert_int_equal(load_seg(f, SEG_SS, 0), VEC_GP);
    assert_int_equal(f->cpu.fault.error, 0);
    f->cpu.gpr[RBX] = FAKE_DATA;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), VEC_GP); /* mov eax, [ebx] */
    assert_int_equal(FAKE_RUN(f, 0x26, 0x8b, 0x03), -1);
    fake_free(f);

    f = tables_new(8);
    assert_int_equal(load_seg(f, SEG_DS, 0), -1);
    assert_int_equal(load_seg(f, SEG_SS, 0), -1);
    assert_int_equal(load_seg(f, SEG_SS, 1), VEC_GP);
    f->cpu.gpr[RBX] = FAKE_DATA;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), -1);
    tables_user(f);
    assert_int_equal(load_seg(f, SEG_SS, 3), VEC_GP);
    fake_free(f);
}

/* POP moves the stack pointer only when the load succeeded; LxS likewise. */
static void test_pop_and_lxs(void **state)
{
    struct fake *f = tables_new(4);
    tables_store(f, FAKE_STACK, 4, 0xdead0000 | SEL_UCODE64);
    set_test(f, 0xfff, 0x13);
    tables_store(f, FAKE_STACK - 4, 4, SEL_TEST);
    f->cpu.gpr[RSP] = FAKE_STACK - 4;
    assert_int_equal(FAKE_RUN(f, 0x1f), VEC_NP); /* pop ds */
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK - 4);
    f->cpu.gpr[RSP] = FAKE_STACK;
    assert_int_equal(FAKE_RUN(f, 0x1f), -1);
    assert_int_equal(f->cpu.gpr[RSP], FAKE_STACK + 4);
    assert_int_equal(f->cpu.seg[SEG_DS].sel, SEL_UCODE64);

    f->cpu.gpr[RBX] = FAKE_DATA;
    f->cpu.gpr[RCX] = 7;
    tables_store(f, FAKE_DATA, 8, (u64)SEL_TEST << 32 | 0x11223344);
    assert_int_equal(FAKE_RUN(f, 0x26, 0x0f, 0xb5, 0x0b), VEC_NP); /* lgs ecx, es:[ebx] */
    assert_int_equal(f->cpu.gpr[RCX], 7);
    set_test(f, 0xfff, 0x93);
    assert_int_equal(FAKE_RUN(f, 0x26, 0x0f, 0xb5, 0x0b), -1);
    assert_int_equal(f->cpu.gpr[RCX], 0x11223344);
    assert_int_equal(f->cpu.seg[SEG_GS].sel, SEL_TEST);
    fake_free(f);
}

/* -- Accesses ------------------------------------------------------------------------------ */

/* mov eax, es:[ebx] and mov es:[ebx], eax at `offset` of the segment in ES. */
static int access_es(struct fake *f, u32 offset, bool write)
{
    f->cpu.gpr[RBX] = offset;
    return FAKE_RUN(f, 0x26, write ? 0x89 : 0x8b, 0x03);
}

static void test_limits(void **state)
{
    static const struct {
        u32 limit, attr, offset;
        int read, write;
    } cases[] = {
        {0xfff, 0x93, 0xffc, -1, -1},
        {0xfff, 0x93, 0xffd, VEC_GP, VEC_GP},
        {0xfff, 0x93, 0xfffffffd, VEC_GP, VEC_GP},
        {0xfff, 0x91, 0, -1, VEC_GP},
        {0xfff, 0x9b, 0, -1, VEC_GP},
        {0xff, 0x97, 0x100, -1, -1}, /* expand-down */
        {0xff, 0x97, 0xff, VEC_GP, VEC_GP},
        {0xff, 0x97, 0xfffd, VEC_GP, VEC_GP},
        {0xff, 0x97 | ATTR_DB, 0x1000, -1, -1},
        {0, 0x93 | ATTR_G, 0xffc, -1, -1},
        {0, 0x93 | ATTR_G, 0xffd, VEC_GP, VEC_GP},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(4);
        set_test(f, cases[n].limit, cases[n].attr);
        assert_int_equal(load_seg(f, SEG_ES, SEL_TEST), -1);
        assert_int_equal(access_es(f, cases[n].offset, false), cases[n].read);
        assert_int_equal(access_es(f, cases[n].offset, true), cases[n].write);
        fake_free(f);
    }
}

static void test_canonical(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.gpr[RBX] = 1ull << 47;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), VEC_GP); /* [rbx] */
    f->cpu.gpr[RBP] = 1ull << 47;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x45, 0x00), VEC_SS); /* [rbp] */
    assert_int_equal(f->cpu.fault.error, 0);
    f->cpu.gpr[RBX] = (1ull << 47) - 3;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), VEC_GP); /* its end */
    f->cpu.gpr[RSP] = 1ull << 47;
    assert_int_equal(FAKE_RUN(f, 0x50), VEC_PF); /* push: just below the boundary */
    f->cpu.gpr[RSP] = (1ull << 47) + 8;
    assert_int_equal(FAKE_RUN(f, 0x50), VEC_SS);
    fake_free(f);
}

static void test_fs_base(void **state)
{
    struct fake *f = tables_new(8);
    f->cpu.seg[SEG_FS].base = FAKE_DATA;
    x86_derive(&f->cpu);
    tables_store(f, FAKE_DATA + 0x20, 8, 0x55);
    assert_int_equal(FAKE_RUN(f, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x20, 0, 0, 0), -1);
    assert_int_equal(f->cpu.gpr[RAX], 0x55);
    f->cpu.cr4 |= CR4_FSGSBASE;
    f->cpu.gpr[RAX] = 1ull << 50;
    assert_int_equal(FAKE_RUN(f, 0xf3, 0x48, 0x0f, 0xae, 0xd0), VEC_GP); /* wrfsbase rax */
    f->cpu.gpr[RAX] = 0xffff800000000000;
    assert_int_equal(FAKE_RUN(f, 0xf3, 0x48, 0x0f, 0xae, 0xd0), -1);
    assert_int_equal(f->cpu.flat_base[SEG_FS], 0xffff800000000000);
    fake_free(f);
}

static void test_alignment_check(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.cr0 |= CR0_AM;
    x86_write_flags(&f->cpu, FLAG_AC, FLAG_AC);
    f->cpu.gpr[RBX] = FAKE_DATA + 1;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), -1); /* not at CPL 0 */
    tables_user(f);
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), VEC_AC);
    assert_int_equal(FAKE_RUN(f, 0x8a, 0x03), -1);
    f->cpu.gpr[RBX] = FAKE_DATA + 4;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), -1);
    fake_free(f);
}

/* Real mode keeps the limit that protected mode gave: "unreal" mode. */
static void test_unreal(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.cr0 &= ~CR0_PE;
    x86_derive(&f->cpu);
    assert_int_equal(load_seg(f, SEG_ES, 0x800), -1);
    assert_int_equal(f->cpu.seg[SEG_ES].base, 0x8000);
    assert_int_equal(f->cpu.seg[SEG_ES].limit, 0xffffffff);
    assert_int_equal(access_es(f, 0x10000, false), -1); /* beyond 64 KiB */
    fake_free(f);
}

/* -- Questions ----------------------------------------------------------------------------- */

static bool zf(const struct fake *f)
{
    return f->cpu.rflags & FLAG_ZF;
}

static void test_lar_lsl_ver(void **state)
{
    static const struct {
        u32 attr;
        bool lar, lsl, verr, verw;
    } cases[] = {
        {0x93, true, true, true, true},     {0x91, true, true, true, false},
        {0x9b, true, true, true, false},    {0x99, true, true, false, false},
        {0x13, true, true, true, true}, /* presence is not asked */
        {0x82, true, true, false, false},   {0x81, true, true, false, false},
        {0x84, true, false, false, false},  {0x85, true, false, false, false},
        {0x86, false, false, false, false}, {0x8e, false, false, false, false},
        {0x8c, true, false, false, false},  {0x80, false, false, false, false},
    };
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        struct fake *f = tables_new(4);
        tables_set(f, SEL_TEST, tables_segment(0, 0x12345, cases[n].attr | ATTR_DB));
        f->cpu.gpr[RBX] = SEL_TEST;
        f->cpu.gpr[RAX] = 0x77;
        assert_int_equal(FAKE_RUN(f, 0x0f, 0x02, 0xc3), -1);
        assert_int_equal(zf(f), cases[n].lar);
        assert_int_equal(f->cpu.gpr[RAX], cases[n].lar ? cases[n].attr << 8 | 0x400000 : 0x77);
        f->cpu.gpr[RAX] = 0x77;
        assert_int_equal(FAKE_RUN(f, 0x0f, 0x03, 0xc3), -1);
        assert_int_equal(zf(f), cases[n].lsl);
        assert_int_equal(f->cpu.gpr[RAX], cases[n].lsl ? 0x12345 : 0x77);
        assert_int_equal(FAKE_RUN(f, 0x0f, 0x00, 0xe3), -1);
        assert_int_equal(zf(f), cases[n].verr);
        assert_int_equal(FAKE_RUN(f, 0x0f, 0x00, 0xeb), -1);
        assert_int_equal(zf(f), cases[n].verw);
        fake_free(f);
    }
}

static void test_arpl(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.gpr[RAX] = 0x11110021;
    f->cpu.gpr[RBX] = 3;
    assert_int_equal(FAKE_RUN(f, 0x63, 0xd8), -1); /* arpl ax, bx */
    assert_int_equal(f->cpu.gpr[RAX], 0x11110023);
    assert_true(zf(f));
    f->cpu.gpr[RBX] = 1;
    assert_int_equal(FAKE_RUN(f, 0x63, 0xd8), -1);
    assert_int_equal(f->cpu.gpr[RAX], 0x11110023);
    assert_false(zf(f));
    f->cpu.cr0 &= ~CR0_PE;
    assert_int_equal(FAKE_RUN(f, 0x63, 0xd8), VEC_UD);
    fake_free(f);
}

/* -- System registers ---------------------------------------------------------------------- */

static void test_ltr(void **state)
{
    struct fake *f = tables_new(8);
    tables_set(f, SEL_TSS2, tables_segment(TABLE_TSS2, 0x67, SEG_P | DESC_TSS_AVAIL));
    tables_set(f, SEL_TSS2 + 8, 0xffff8000);
    f->cpu.gpr[RAX] = SEL_TSS2;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x00, 0xd8), -1);
    assert_int_equal(f->cpu.seg[SEG_TR].base, 0xffff800000000000 | TABLE_TSS2);
    assert_int_equal(tables_get(f, SEL_TSS2) >> 40 & 0x1f, DESC_TSS_BUSY);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x00, 0xd8), VEC_GP); /* busy now */
    assert_int_equal(f->cpu.fault.error, SEL_TSS2);
    f->cpu.gpr[RAX] = 0;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x00, 0xd8), VEC_GP);
    fake_free(f);
}

static void test_tables(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.gpr[RBX] = FAKE_DATA;
    tables_store(f, FAKE_DATA, 8, 0xaabbccdd1234);
    assert_int_equal(FAKE_RUN(f, 0x66, 0x0f, 0x01, 0x1b), -1); /* lidt, 16-bit: 24-bit base */
    assert_int_equal(f->cpu.idtr.base, 0xbbccdd);
    assert_int_equal(f->cpu.idtr.limit, 0x1234);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0x1b), -1);
    assert_int_equal(f->cpu.idtr.base, 0xaabbccdd);
    f->cpu.cr4 |= CR4_UMIP;
    tables_user(f);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0x0b), VEC_GP); /* sidt */
    f->cpu.cr4 &= ~CR4_UMIP;
    tables_store(f, FAKE_DATA, 8, 0);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0x0b), -1);
    assert_int_equal(tables_load(f, FAKE_DATA, 8), 0xaabbccdd1234);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0x1b), VEC_GP); /* lidt at CPL 3 */
    fake_free(f);

    f = tables_new(8);
    f->cpu.gpr[RBX] = FAKE_DATA;
    tables_store(f, FAKE_DATA + 2, 8, 1ull << 63);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0x13), VEC_GP); /* lgdt */
    assert_int_equal(f->cpu.gdtr.base, TABLE_GDT);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_loads),   cmocka_unit_test(test_stack_loads),
        cmocka_unit_test(test_accessed_bit), cmocka_unit_test(test_limits_of_tables),
        cmocka_unit_test(test_null),         cmocka_unit_test(test_pop_and_lxs),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_fs_base),      cmocka_unit_test(test_alignment_check),
        cmocka_unit_test(test_unreal),       cmocka_unit_test(test_lar_lsl_ver),
        cmocka_unit_test(test_arpl),         cmocka_unit_test(test_ltr),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
