/*
 * What the makers' processors do differently (x86/quirks.h), both ways of each: the oracle sees
 * only those of the host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fake_ops.h"
#include "x86/native.h"

#define ABSENT (FAKE_DATA + PAGE_SIZE)

static struct fake *fake_with(unsigned code_size, u32 quirks)
{
    struct fake *f = fake_new(code_size, true);
    f->model.quirks = quirks;
    fake_protect(f, ABSENT, true, false);
    return f;
}

static u64 load(struct fake *f, u64 la, unsigned size)
{
    return host_load(fake_at(f, la), size);
}

static void check_alignment(struct fake *f)
{
    f->cpu.cpl = 3;
    f->cpu.cr0 |= CR0_AM;
    f->cpu.rflags |= FLAG_AC;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        f->cpu.flat[s] = 0;
}

static void ac_vectors(struct fake *f, bool has)
{
    check_alignment(f);
    f->cpu.gpr[RBX] = FAKE_DATA + 8;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x10, 0x03), has ? VEC_AC : -1); /* movups */
    assert_int_equal(FAKE_RUN(f, 0x48, 0x8b, 0x43, 1), VEC_AC);
}

static void ac_at_end(struct fake *f, bool has)
{
    check_alignment(f);
    f->cpu.gpr[RBX] = BIT(47) - 2;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), has ? VEC_AC : VEC_GP); /* mov eax, [rbx] */
    f->cpu.gpr[RBX] = BIT(47) + 2;
    assert_int_equal(FAKE_RUN(f, 0x8b, 0x03), VEC_GP);
}

static void half(struct fake *f, bool has)
{
    if (!x86_has(&f->model, FEAT_F16C))
        return;
    check_alignment(f);
    f->cpu.gpr[RBX] = FAKE_DATA + 1;
    /* vcvtph2ps xmm0, [rbx] */
    assert_int_equal(FAKE_RUN(f, 0xc4, 0xe2, 0x79, 0x13, 0x03), has ? -1 : VEC_AC);
    f->cpu.gpr[RBX] = ABSENT;
    memset(f->cpu.fpu.xmm[0], 0x11, 16); /* too small for half precision */
    /* vcvtps2ph [rbx], xmm0, 0 */
    assert_int_equal(FAKE_RUN(f, 0xc4, 0xe3, 0x79, 0x1d, 0x03, 0), VEC_PF);
    assert_int_equal(f->cpu.fpu.mxcsr & 0x3f, has ? 0x30 : 0);
}

static void bound_early(struct fake *f, bool has)
{
    f->cpu.gpr[RBX] = ABSENT - 4;
    f->cpu.gpr[RCX] = ~0u;
    assert_int_equal(FAKE_RUN(f, 0x62, 0x0b), has ? VEC_BR : VEC_PF); /* bound ecx, [rbx] */
}

static void call_stores(struct fake *f, bool has)
{
    u64 sp = f->cpu.gpr[RSP];
    f->cpu.gpr[RAX] = BIT(47);
    assert_int_equal(FAKE_RUN(f, 0xff, 0xd0), VEC_GP);
    assert_int_equal(load(f, sp - 8, 8), has ? FAKE_CODE + 2 : 0);
    assert_int_equal(f->cpu.gpr[RSP], sp);
}

static void call_probes(struct fake *f, bool has)
{
    f->cpu.gpr[RSP] = ABSENT + 16;
    f->cpu.gpr[RAX] = BIT(47);
    assert_int_equal(FAKE_RUN(f, 0xff, 0xd0), has ? VEC_PF : VEC_GP);
}

static void push_seg_16(struct fake *f, bool has)
{
    u64 sp = f->cpu.gpr[RSP] - 4;
    memset(fake_at(f, sp), 0xff, 4);
    assert_int_equal(FAKE_RUN(f, 0x1e), -1); /* push ds */
    assert_int_equal(f->cpu.gpr[RSP], sp);
    assert_int_equal(load(f, sp, 4), (has ? 0xffff0000 : 0) | f->cpu.seg[SEG_DS].sel);
}

static void movsxd_16(struct fake *f, bool has)
{
    f->cpu.gpr[RBX] = ABSENT - 2;
    /* movsxd ax, [rbx] */
    assert_int_equal(FAKE_RUN(f, 0x66, 0x63, 0x03), has ? -1 : VEC_PF);
}

static void rep_extends(struct fake *f, bool has)
{
    f->cpu.gpr[RCX] = BIT(40) | 1;
    f->cpu.gpr[RDI] = BIT(40) | ABSENT;
    assert_int_equal(FAKE_RUN(f, 0x67, 0xf3, 0xaa), VEC_PF); /* rep stosb */
    assert_int_equal(f->cpu.gpr[RCX] >> 32, has ? 0 : 0x100);
    assert_int_equal(f->cpu.gpr[RDI] >> 32, has ? 0 : 0x100);
    f->cpu.gpr[RCX] = BIT(40);
    assert_int_equal(FAKE_RUN(f, 0x67, 0xf3, 0xaa), -1);
    assert_int_equal(f->cpu.gpr[RCX] >> 32, has ? 0 : 0x100);
}

static void rep_flags(struct fake *f, bool has)
{
    f->cpu.gpr[RCX] = 8;
    f->cpu.gpr[RDI] = ABSENT - 4;
    assert_int_equal(FAKE_RUN(f, 0xf3, 0xae), VEC_PF); /* repe scasb */
    assert_int_equal(f->cpu.gpr[RCX], 4);
    assert_int_equal(f->cpu.rflags & FLAG_ZF, has ? FLAG_ZF : 0);
}

static void rotate_of(struct fake *f, bool has)
{
    f->cpu.gpr[RBX] = FAKE_DATA;
    for (unsigned of = 0; of < 2; of++) {
        u64 before = of ? FLAG_OF : 0, by_cl;
        f->cpu.gpr[RCX] = 4;
        f->cpu.gpr[RAX] = 0x87654321;
        f->cpu.rflags = FLAG_FIXED | before;
        assert_int_equal(FAKE_RUN(f, 0xd3, 0xc0), -1); /* rol eax, cl */
        by_cl = f->cpu.rflags;
        f->cpu.gpr[RAX] = 0x87654321;
        f->cpu.rflags = FLAG_FIXED | before;
        assert_int_equal(FAKE_RUN(f, 0xc1, 0xc0, 4), -1); /* rol eax, 4 */
        assert_int_equal(f->cpu.gpr[RAX], 0x76543218);
        assert_int_equal(f->cpu.rflags, has ? (by_cl & ~FLAG_OF) | before : by_cl);
        host_store(fake_at(f, FAKE_DATA), 4, 0x87654321);
        f->cpu.rflags = FLAG_FIXED | before;
        assert_int_equal(FAKE_RUN(f, 0xc1, 0x03, 4), -1); /* rol dword [rbx], 4 */
        assert_int_equal(f->cpu.rflags, by_cl);
    }
}

static void decimal_result(struct fake *f, bool has)
{
    f->cpu.gpr[RAX] = 10;
    assert_int_equal(FAKE_RUN(f, 0x37), -1); /* aaa */
    assert_int_equal(f->cpu.gpr[RAX], 0x100);
    assert_int_equal(f->cpu.rflags & (FLAG_ZF | FLAG_CF | FLAG_AF),
                     FLAG_CF | FLAG_AF | (has ? FLAG_ZF : 0));
}

static void sha_unaligned(struct fake *f, bool has)
{
    if (has || !x86_has(&f->model, FEAT_SHA)) /* the host's instruction runs */
        return;
    f->cpu.gpr[RBX] = FAKE_DATA + 1;
    /* sha1msg1 xmm0, [rbx] */
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x38, 0xc9, 0x03), VEC_GP);
}

static void gather_whole(struct fake *f, bool has)
{
    if (!x86_has(&f->model, FEAT_AVX2))
        return;
    u32 index[4] = {0, PAGE_SIZE}, mask[4] = {BIT(31), BIT(31), 1, BIT(31)};
    const u32 extended[4] = {0, ~0u, 0, ~0u}, plain[4] = {0, BIT(31), 1, BIT(31)};
    memcpy(f->cpu.fpu.xmm[1], index, 16);
    memcpy(f->cpu.fpu.xmm[2], mask, 16);
    memset(f->cpu.fpu.ymm_hi[0], 0xff, 16);
    memset(f->cpu.fpu.ymm_hi[2], 0xff, 16);
    f->cpu.gpr[RBX] = FAKE_DATA;
    /* vpgatherdd xmm0, [rbx + xmm1], xmm2 */
    assert_int_equal(FAKE_RUN(f, 0xc4, 0xe2, 0x69, 0x90, 0x04, 0x0b), VEC_PF);
    assert_memory_equal(f->cpu.fpu.xmm[2], has ? extended : plain, 16);
    assert_int_equal(f->cpu.fpu.ymm_hi[2][0], has ? 0 : 0xff);
    assert_int_equal(f->cpu.fpu.ymm_hi[0][0], has ? 0 : 0xff);
}

static void mask_wraps(struct fake *f, bool has)
{
    if (!x86_has(&f->model, FEAT_AVX))
        return;
    /* What lies at offset 10000h of a 16-bit operand's segment is RAM, at 0 there is none. */
    f->cpu.gpr[RBX] = 0xfffc;
    host_store(fake_at(f, 0x10000), 4, 5);
    memset(f->cpu.fpu.xmm[1], 0, 16);
    f->cpu.fpu.xmm[1][7] = 0x80;
    /* vmaskmovps xmm0, xmm1, [bx] */
    assert_int_equal(FAKE_RUN(f, 0x67, 0xc4, 0xe2, 0x71, 0x2c, 0x07), has ? VEC_PF : -1);
}

static void mmx_top(struct fake *f, bool has)
{
    f->cpu.fpu.fcw = 0x37f;
    f->cpu.fpu.fsw = 3 << 11;
    f->cpu.fpu.ftw = 0;
    f->cpu.gpr[RBX] = ABSENT;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x7f, 0x03), VEC_PF); /* movq [rbx], mm0 */
    assert_int_equal(f->cpu.fpu.fsw, has ? 0 : 3 << 11);
    assert_int_equal(f->cpu.fpu.ftw, 0);
}

static void x87_stores_last(struct fake *f, bool has)
{
    f->cpu.gpr[RBX] = ABSENT - 9;
    FAKE_RUN(f, 0xdb, 0xe3);                           /* fninit */
    FAKE_RUN(f, 0xd9, 0xe8);                           /* fld1 */
    assert_int_equal(FAKE_RUN(f, 0xdb, 0x3b), VEC_PF); /* fstp tbyte [rbx] */
    assert_int_equal(load(f, ABSENT - 9, 8), has ? BIT(63) : 0);
    assert_int_equal(f->cpu.fpu.ftw, 0x80);
    f->cpu.fpu.fcw = 0x37e;
    f->cpu.gpr[RBX] = ABSENT;
    FAKE_RUN(f, 0xdd, 0xc0); /* ffree st */
    /* fst dword [rbx]: the stack is empty */
    assert_int_equal(FAKE_RUN(f, 0xd9, 0x13), has ? -1 : VEC_PF);
    assert_int_equal(!!(f->cpu.fpu.fsw & FSW_ES), has);
}

/* FLD of a number at FAKE_DATA, and what FXSAVE tells of it. */
static struct x86_fpu pointers_after_load(struct fake *f, u16 fcw)
{
    struct x86_fpu image;
    FAKE_RUN(f, 0xdb, 0xe3); /* fninit */
    f->cpu.fpu.fcw = fcw;
    f->cpu.gpr[RBX] = FAKE_DATA;
    host_store(fake_at(f, FAKE_DATA), 4, 0x7f800001);    /* a signalling NaN */
    assert_int_equal(FAKE_RUN(f, 0xd9, 0x03), -1);       /* fld dword [rbx] */
    assert_int_equal(FAKE_RUN(f, 0x0f, 0xae, 0x03), -1); /* fxsave [rbx] */
    memcpy(&image, fake_at(f, FAKE_DATA), 512);
    return image;
}

static void x87_hides_pointers(struct fake *f, bool has)
{
    struct x86_fpu masked = pointers_after_load(f, 0x37f);
    assert_int_equal((u32)masked.fip, has ? 0 : FAKE_CODE);
    assert_int_equal((u32)masked.fdp, has ? 0 : FAKE_DATA);
    assert_int_equal(masked.fop, has ? 0 : 0x103);
    struct x86_fpu pending = pointers_after_load(f, 0x37e);
    assert_int_equal((u32)pending.fip, FAKE_CODE);
    assert_int_equal((u32)pending.fdp, FAKE_DATA);
}

static void x87_fop_unmasked(struct fake *f, bool has)
{
    assert_int_equal(pointers_after_load(f, 0x37f).fop, has ? 0 : 0x103);
    assert_int_equal(pointers_after_load(f, 0x37e).fop, 0x103);
}

static void x87_fdp_unmasked(struct fake *f, bool has)
{
    assert_int_equal((u32)pointers_after_load(f, 0x37f).fdp, has ? 0 : FAKE_DATA);
    assert_int_equal((u32)pointers_after_load(f, 0x37e).fdp, FAKE_DATA);
}

static void x87_no_selectors(struct fake *f, bool has)
{
    struct x86_fpu image = pointers_after_load(f, 0x37f);
    assert_int_equal(image.fip >> 32, has ? 0 : f->cpu.seg[SEG_CS].sel);
    assert_int_equal(image.fdp >> 32, has ? 0 : f->cpu.seg[SEG_DS].sel);
}

static void x87_fip_57(struct fake *f, bool has)
{
    struct x86_fpu image = {.fcw = 0x37f, .fip = 0x0123456789abcdef, .mxcsr = MXCSR_DEFAULT};
    image.fdp = image.fip;
    memcpy(fake_at(f, FAKE_DATA), &image, 512);
    f->cpu.gpr[RBX] = FAKE_DATA;
    assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0xae, 0x0b), -1); /* fxrstor64 [rbx] */
    assert_int_equal(f->cpu.fpu.fip, has ? 0xff23456789abcdef : 0x456789abcdef);
    assert_int_equal(f->cpu.fpu.fdp, has ? image.fdp : 0x456789abcdef);
}

static void xrstor_mxcsr(struct fake *f, bool has)
{
    if (!x86_has(&f->model, FEAT_XSAVEC) || !x86_has(&f->model, FEAT_AVX))
        return;
    struct x86_fpu image = {.fcw = 0x27f, .mxcsr = 0x10000 | MXCSR_DEFAULT};
    image.xstate_bv = XCR0_X87 | XCR0_SSE;
    image.xcomp_bv = BIT(63) | image.xstate_bv | XCR0_AVX;
    memset(image.xmm, 0x22, sizeof(image.xmm));
    memcpy(fake_at(f, FAKE_DATA), &image, sizeof(image));
    memset(f->cpu.fpu.ymm_hi, 0x33, sizeof(image.ymm_hi));
    f->cpu.gpr[RBX] = FAKE_DATA;
    f->cpu.gpr[RAX] = 7;
    f->cpu.gpr[RDX] = 0;
    assert_int_equal(FAKE_RUN(f, 0x48, 0x0f, 0xae, 0x2b), VEC_GP); /* xrstor64 [rbx] */
    assert_int_equal(f->cpu.fpu.fcw == 0x27f, has);
    assert_int_equal(f->cpu.fpu.xmm[15][0], has ? 0x22 : 0);
    assert_int_equal(f->cpu.fpu.ymm_hi[15][0], has ? 0 : 0x33);
    assert_int_not_equal(f->cpu.fpu.mxcsr, image.mxcsr);
}

/* What a guest is told of its vendor does not change what the host does. */
static void test_model(void **state)
{
    struct x86_model model;
    struct error err;
    for (unsigned amd = 0; amd < 2; amd++) {
        const char *words = amd ? "max,vendor=AuthenticAMD" : "max,vendor=GenuineIntel";
        assert_true(x86_model_init(&model, words, 1, 1000000000, &err));
        assert_int_equal(model.quirks, x86_host_quirks());
    }
}

#define ROW(code_size, quirk, check)                                                           \
    {                                                                                          \
#check, code_size, quirk, check                                                        \
    }

static const struct row {
    const char *name;
    unsigned code_size;
    u32 quirk;
    void (*check)(struct fake *f, bool has);
} rows[] = {
    ROW(8, QUIRK_AC_VECTORS, ac_vectors),
    ROW(8, QUIRK_AC_AT_END, ac_at_end),
    ROW(8, QUIRK_HALF, half),
    ROW(4, QUIRK_BOUND_EARLY, bound_early),
    ROW(8, QUIRK_CALL_STORES, call_stores),
    ROW(8, QUIRK_CALL_PROBES, call_probes),
    ROW(4, QUIRK_PUSH_SEG_16, push_seg_16),
    ROW(8, QUIRK_MOVSXD_16, movsxd_16),
    ROW(8, QUIRK_REP_EXTENDS, rep_extends),
    ROW(8, QUIRK_REP_FLAGS, rep_flags),
    ROW(8, QUIRK_ROTATE_OF, rotate_of),
    ROW(4, QUIRK_DECIMAL_RESULT, decimal_result),
    ROW(8, QUIRK_SHA_UNALIGNED, sha_unaligned),
    ROW(8, QUIRK_GATHER_WHOLE, gather_whole),
    ROW(4, QUIRK_MASK_WRAPS, mask_wraps),
    ROW(8, QUIRK_MMX_TOP, mmx_top),
    ROW(8, QUIRK_X87_STORES_LAST, x87_stores_last),
    ROW(8, QUIRK_X87_HIDES_POINTERS, x87_hides_pointers),
    ROW(8, QUIRK_X87_FOP_UNMASKED, x87_fop_unmasked),
    ROW(8, QUIRK_X87_FDP_UNMASKED, x87_fdp_unmasked),
    ROW(8, QUIRK_X87_NO_SELECTORS, x87_no_selectors),
    ROW(8, QUIRK_X87_FIP_57 | QUIRK_X87_FDP_64, x87_fip_57),
    ROW(8, QUIRK_XRSTOR_MXCSR, xrstor_mxcsr),
};

static void test_row(void **state)
{
    const struct row *row = *state;
    for (unsigned has = 0; has < 2; has++) {
        struct fake *f = fake_with(row->code_size, has ? row->quirk : 0);
        row->check(f, has);
        fake_free(f);
    }
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(rows) + 1];
    for (unsigned k = 0; k < ARRAY_LEN(rows); k++)
        tests[k] = (struct CMUnitTest){
            .name = rows[k].name, .test_func = test_row, .initial_state = (void *)&rows[k]};
    tests[ARRAY_LEN(rows)] = (struct CMUnitTest)cmocka_unit_test(test_model);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
