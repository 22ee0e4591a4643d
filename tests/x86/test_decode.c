/* What x86_decode makes of bytes: operands, sizes, prefixes, and what is no instruction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "fake_ops.h"

static struct x86_insn decode(struct fake *f, const u8 *bytes, unsigned size)
{
    struct x86_insn i;
    u8 code[15] = {0};
    memcpy(code, bytes, size);
    assert_int_equal(x86_decode(&f->cpu, code, sizeof(code), f->cpu.code_size, &i), DECODE_OK);
    return i;
}
#define DECODE(f, ...) decode(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void test_operands(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_insn i = DECODE(f, 0x66, 0x83, 0x44, 0xcd, 0xf0, 0xff); /* add [rbp+rcx*8-16] */
    assert_int_equal(i.mnemonic, ZYDIS_MNEMONIC_ADD);
    assert_int_equal(i.length, 6);
    assert_int_equal(i.opsize, 2);
    assert_int_equal(i.adsize, 8);
    assert_int_equal(i.opd[0].kind, OPD_MEM);
    assert_int_equal(i.opd[0].size, 2);
    assert_int_equal(i.opd[1].kind, OPD_IMM);
    assert_int_equal(i.opd[2].kind, OPD_NONE);
    assert_true(i.imm == ~0ull);
    assert_int_equal(i.seg, SEG_SS);
    assert_int_equal(i.base, RBP);
    assert_int_equal(i.index, RCX);
    assert_int_equal(i.scale, 3);
    assert_int_equal(i.disp, -16);

    i = DECODE(f, 0x88, 0xe7); /* mov bh, ah */
    assert_int_equal(i.opd[0].kind, OPD_HIGH8);
    assert_int_equal(i.opd[0].reg, RBX);
    assert_int_equal(i.opd[1].kind, OPD_HIGH8);
    assert_int_equal(i.opd[1].reg, RAX);

    i = DECODE(f, 0x40, 0x88, 0xe7); /* mov dil, spl */
    assert_int_equal(i.opd[0].kind, OPD_GPR);
    assert_int_equal(i.opd[0].reg, RDI);
    assert_int_equal(i.opd[1].reg, RSP);

    i = DECODE(f, 0x65, 0x48, 0x8b, 0x05, 0x78, 0x56, 0x34, 0x12); /* mov rax, gs:[rip+x] */
    assert_int_equal(i.seg, SEG_GS);
    assert_int_equal(i.base, BASE_RIP);
    assert_int_equal(i.disp, 0x12345678);

    i = DECODE(f, 0xa0, 1, 2, 3, 4, 5, 6, 7, 8); /* mov al, [moffs64] */
    assert_int_equal(i.base, BASE_NONE);
    assert_true(i.disp == 0x0807060504030201);

    /* mov r14d, [edx + disp32]: SIB without a base whatever REX.B says */
    i = DECODE(f, 0x67, 0x45, 0x8b, 0x34, 0x15, 0x10, 0x0e, 0xaa, 0x45);
    assert_int_equal(i.base, BASE_NONE);
    assert_int_equal(i.index, RDX);
    assert_int_equal(i.disp, 0x45aa0e10);

    i = DECODE(f, 0xc8, 0x34, 0x12, 0x05); /* enter */
    assert_int_equal(i.imm, 0x1234);
    assert_int_equal(i.imm2, 5);
    fake_free(f);
}

static void test_strings(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_insn i = DECODE(f, 0x64, 0xf2, 0xf3, 0x48, 0xa7); /* repe cmpsq fs:[rsi] */
    assert_ptr_equal(i.exec, exec_cmps);
    assert_int_equal(i.flags, INSN_REP | INSN_ENDS);
    assert_int_equal(i.opsize, 8);
    assert_int_equal(i.seg, SEG_FS);
    i = DECODE(f, 0xf2, 0x67, 0xa5); /* movsd, not SSE2's */
    assert_ptr_equal(i.exec, exec_movs);
    assert_int_equal(i.flags, INSN_REPNE | INSN_ENDS);
    assert_int_equal(i.opsize, 4);
    assert_int_equal(i.adsize, 4);
    assert_int_equal(i.seg, SEG_DS);
    i = DECODE(f, 0x65, 0xd7); /* xlat */
    assert_int_equal(i.seg, SEG_GS);
    fake_free(f);
}

static void expect_vector(struct fake *f, int vector, const u8 *bytes, unsigned size)
{
    if (fake_run(f, bytes, size) != vector)
        fail_msg("%02x %02x %02x ...", bytes[0], bytes[1], bytes[2]);
}
#define EXPECT(f, vector, ...)                                                                 \
    expect_vector(f, vector, (const u8[]){__VA_ARGS__, 0, 0}, sizeof((const u8[]){__VA_ARGS__}))

static void test_invalid(void **state)
{
    struct fake *f = fake_new(8, true);
    static const u8 not_in_64bit[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f,
                                      0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82,
                                      0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea};
    for (size_t k = 0; k < sizeof(not_in_64bit); k++)
        EXPECT(f, VEC_UD, not_in_64bit[k]);
    EXPECT(f, VEC_UD, 0x0f, 0x0b);             /* ud2 */
    EXPECT(f, VEC_UD, 0x0f, 0xff, 0xc0);       /* ud0 */
    EXPECT(f, VEC_UD, 0xf0, 0x01, 0xc0);       /* lock add eax, eax */
    EXPECT(f, VEC_UD, 0xf0, 0x3b, 0x01);       /* lock cmp */
    EXPECT(f, VEC_UD, 0xf0, 0x89, 0x01);       /* lock mov */
    EXPECT(f, VEC_UD, 0xf0, 0x90);             /* lock nop */
    EXPECT(f, VEC_UD, 0xf0, 0x0f, 0xa3, 0x01); /* lock bt */
    EXPECT(f, VEC_UD, 0x8d, 0xc0);             /* lea with a register */
    EXPECT(f, VEC_UD, 0x0f, 0xc7, 0xc8);       /* cmpxchg8b with a register */
    EXPECT(f, -1, 0xf3, 0x0f, 0x1e, 0xfa);     /* endbr64: a hint */
    EXPECT(f, -1, 0x0f, 0x1a, 0xc0);           /* MPX: a hint */
    EXPECT(f, -1, 0x0f, 0x1c, 0xc0);
    EXPECT(f, -1, 0x0f, 0x1f, 0x44, 0x00, 0x00);
    fake_free(f);
}

static void test_length(void **state)
{
    struct fake *f = fake_new(8, true);
    u8 bytes[15];
    memset(bytes, 0x66, sizeof(bytes));
    bytes[14] = 0x90;
    EXPECT(f, -1, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
           0x66, 0x90);
    bytes[14] = 0x66;
    assert_int_equal(fake_run(f, bytes, 15), VEC_GP);
    bytes[14] = 0x05; /* add eax, imm32: 19 bytes */
    assert_int_equal(fake_run(f, bytes, 15), VEC_GP);

    static const u8 whole[] = {0x66, 0x81, 0x84, 0xcd, 1, 2, 3, 4, 5, 6};
    struct x86_insn i;
    for (unsigned n = 1; n < sizeof(whole); n++)
        assert_int_equal(x86_decode(&f->cpu, whole, n, 8, &i), DECODE_SHORT);
    assert_int_equal(x86_decode(&f->cpu, whole, sizeof(whole), 8, &i), DECODE_OK);
    assert_int_equal(i.length, sizeof(whole));
    fake_free(f);
}

static void drop(struct fake *f, enum x86_feature feature)
{
    f->model.features[feature >> 5] &= ~(1u << (feature & 31));
}

static void test_features(void **state)
{
    struct fake *f = fake_new(8, true);
    EXPECT(f, -1, 0xf3, 0x0f, 0xb8, 0xc1);
    drop(f, FEAT_POPCNT);
    EXPECT(f, VEC_UD, 0xf3, 0x0f, 0xb8, 0xc1);
    drop(f, FEAT_MOVBE);
    EXPECT(f, VEC_UD, 0x0f, 0x38, 0xf0, 0x01);
    drop(f, FEAT_BMI2);
    EXPECT(f, VEC_UD, 0xc4, 0xe2, 0x79, 0xf7, 0xc1); /* shlx */

    /* Without BMI1 and LZCNT the prefix means nothing: BSF, BSR. */
    f->cpu.gpr[RCX] = 0x10;
    FAKE_RUN(f, 0xf3, 0x0f, 0xbd, 0xc1);
    assert_int_equal(f->cpu.gpr[RAX], 27);
    drop(f, FEAT_ABM);
    drop(f, FEAT_BMI1);
    FAKE_RUN(f, 0xf3, 0x0f, 0xbd, 0xc1);
    assert_int_equal(f->cpu.gpr[RAX], 4);
    assert_int_equal(DECODE(f, 0xf3, 0x0f, 0xbc, 0xc1).mnemonic, ZYDIS_MNEMONIC_BSF);
    fake_free(f);
}

/* The prefix that vendors differ about, and the two bytes that may not mean PAUSE. */
static void test_vendors(void **state)
{
    struct fake *f = fake_new(8, true);
    FAKE_RUN(f, 0x66, 0xeb, 0x10);
    assert_int_equal(f->cpu.rip, FAKE_CODE + 0x13);
    EXPECT(f, -1, 0x0f, 0x0d, 0xc0);
    f->cpu.gpr[RAX] = 1;
    f->cpu.gpr[R8] = 2;
    FAKE_RUN(f, 0xf3, 0x41, 0x90);
    assert_int_equal(f->cpu.gpr[RAX], 1);
    f->model.quirks = QUIRKS_AMD;
    FAKE_RUN(f, 0x66, 0xeb, 0x10);
    assert_int_equal(f->cpu.rip, (FAKE_CODE + 0x13) & 0xffff);
    FAKE_RUN(f, 0x66, 0x48, 0xeb, 0x10);
    assert_int_equal(f->cpu.rip, FAKE_CODE + 0x14);
    EXPECT(f, VEC_UD, 0x0f, 0x0d, 0xc0);
    FAKE_RUN(f, 0xf3, 0x41, 0x90);
    assert_int_equal(f->cpu.gpr[RAX], 2);
    fake_free(f);
}

static void test_modes(void **state)
{
    struct fake *f = fake_new(2, true);
    struct x86_insn i = DECODE(f, 0x8b, 0x42, 0xfe); /* mov ax, [bp+si-2] */
    assert_int_equal(i.opsize, 2);
    assert_int_equal(i.adsize, 2);
    assert_int_equal(i.seg, SEG_SS);
    assert_int_equal(i.base, RBP);
    assert_int_equal(i.index, RSI);
    i = DECODE(f, 0x66, 0x67, 0x8b, 0x04, 0x24);
    assert_int_equal(i.opsize, 4);
    assert_int_equal(i.adsize, 4);
    i = DECODE(f, 0xea, 0x34, 0x12, 0x78, 0x56); /* jmp far */
    assert_ptr_equal(i.exec, exec_jmp_far);
    assert_int_equal(i.imm, 0x1234);
    assert_int_equal(i.imm2, 0x5678);
    i = DECODE(f, 0x8e, 0xd8);
    assert_ptr_equal(i.exec, exec_mov_to_seg);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operands), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_invalid),  cmocka_unit_test(test_length),
        cmocka_unit_test(test_features), cmocka_unit_test(test_vendors),
        cmocka_unit_test(test_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
