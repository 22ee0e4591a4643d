/*
 * x87, SSE and AVX where the oracle cannot look: the control bits of CR0, CR4 and XCR0, pending
 * x87 errors in both ways of reporting, images in 16-bit and real mode, and the supervisor's
 * forms of XSAVE. Everything at CPL 3 is tests/oracle's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fake_ops.h"
#include "x86/native.h"

struct code {
    const char *name;
    u8 size;
    u8 bytes[8];
};

static const struct code addps = {"addps", 3, {0x0f, 0x58, 0xc1}};
static const struct code movaps = {"movaps", 3, {0x0f, 0x28, 0xc1}};
static const struct code movups_store = {"movups", 3, {0x0f, 0x11, 0x03}}; /* to [rbx] */
static const struct code vaddps = {"vaddps", 4, {0xc5, 0xf0, 0x58, 0xc2}};
static const struct code vmovaps = {"vmovaps", 4, {0xc5, 0xf8, 0x28, 0xc1}};
static const struct code paddb = {"paddb", 3, {0x0f, 0xfc, 0xc1}};
static const struct code cvtpi2ps = {"cvtpi2ps", 3, {0x0f, 0x2a, 0xc1}};
static const struct code fld1 = {"fld1", 2, {0xd9, 0xe8}};
static const struct code fnstsw = {"fnstsw ax", 2, {0xdf, 0xe0}};
static const struct code fnclex = {"fnclex", 2, {0xdb, 0xe2}};
static const struct code fwait = {"fwait", 1, {0x9b}};
static const struct code ldmxcsr = {"ldmxcsr [rbx]", 3, {0x0f, 0xae, 0x13}};
static const struct code fxsave = {"fxsave [rbx]", 3, {0x0f, 0xae, 0x03}};
static const struct code xsave = {"xsave [rbx]", 3, {0x0f, 0xae, 0x23}};
static const struct code xsaves = {"xsaves [rbx]", 3, {0x0f, 0xc7, 0x2b}};
static const struct code xrstors = {"xrstors [rbx]", 3, {0x0f, 0xc7, 0x1b}};
static const struct code crc32 = {"crc32", 5, {0xf2, 0x0f, 0x38, 0xf0, 0xc1}};

#define NONE -1

/* What each says to control bits set (or, for `without`, clear). */
static const struct rule {
    const struct code *code;
    u64 cr0;     /* set */
    u64 without; /* CR4 bits clear */
    u64 xcr0;    /* XCR0 bits clear */
    int vector;
} rules[] = {
    {&addps, CR0_TS, 0, 0, VEC_NM},
    {&addps, CR0_EM, 0, 0, VEC_UD},
    {&addps, CR0_EM | CR0_TS, 0, 0, VEC_UD},
    {&addps, 0, CR4_OSFXSR, 0, VEC_UD},
    {&addps, CR0_TS, CR4_OSFXSR, 0, VEC_UD},
    {&addps, 0, CR4_OSXSAVE, XCR0_AVX | XCR0_SSE, NONE},
    {&movaps, CR0_TS, 0, 0, VEC_NM},
    {&movaps, 0, CR4_OSFXSR, 0, VEC_UD},
    {&movups_store, CR0_TS, 0, 0, VEC_NM},
    {&vaddps, CR0_TS, 0, 0, VEC_NM},
    {&vaddps, CR0_EM, 0, 0, NONE},
    {&vaddps, 0, CR4_OSFXSR, 0, NONE},
    {&vaddps, 0, CR4_OSXSAVE, 0, VEC_UD},
    {&vaddps, CR0_TS, CR4_OSXSAVE, 0, VEC_UD},
    {&vaddps, 0, 0, XCR0_AVX, VEC_UD},
    {&vmovaps, 0, 0, XCR0_AVX, VEC_UD},
    {&vmovaps, CR0_TS, 0, 0, VEC_NM},
    {&paddb, CR0_TS, 0, 0, VEC_NM},
    {&paddb, CR0_EM, 0, 0, VEC_UD},
    {&paddb, 0, CR4_OSFXSR, 0, NONE},
    {&cvtpi2ps, 0, CR4_OSFXSR, 0, VEC_UD},
    {&fld1, CR0_TS, 0, 0, VEC_NM},
    {&fld1, CR0_EM, 0, 0, VEC_NM},
    {&fnstsw, CR0_EM, 0, 0, VEC_NM},
    {&fwait, CR0_TS | CR0_MP, 0, 0, VEC_NM},
    {&fwait, CR0_TS, 0, 0, NONE},
    {&fwait, CR0_EM, 0, 0, NONE},
    {&ldmxcsr, CR0_TS, 0, 0, VEC_NM},
    {&ldmxcsr, 0, CR4_OSFXSR, 0, VEC_UD},
    {&fxsave, CR0_TS, 0, 0, VEC_NM},
    {&fxsave, CR0_EM, 0, 0, VEC_NM},
    {&fxsave, 0, CR4_OSFXSR, 0, NONE},
    {&xsave, CR0_TS, 0, 0, VEC_NM},
    {&xsave, 0, CR4_OSXSAVE, 0, VEC_UD},
    {&xsave, CR0_TS, CR4_OSXSAVE, 0, VEC_UD},
    {&crc32, CR0_TS | CR0_EM, CR4_OSFXSR, 0, NONE},
};

static void prepare(struct fake *f)
{
    struct x86_cpu *c = &f->cpu;
    c->cr0 &= ~(CR0_TS | CR0_EM | CR0_MP);
    c->cr0 |= CR0_NE;
    c->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    c->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    memset(&c->fpu, 0, sizeof(c->fpu));
    c->fpu.fcw = FCW_DEFAULT;
    c->fpu.mxcsr = MXCSR_DEFAULT;
    c->gpr[RBX] = FAKE_DATA;
    c->gpr[RAX] = 7;
    c->gpr[RDX] = 0;
    memset(fake_at(f, FAKE_DATA), 0, 1024);
}

static int run(struct fake *f, const struct code *code)
{
    return fake_run(f, code->bytes, code->size);
}

static void test_control_bits(void **state)
{
    struct fake *f = fake_new(8, true);
    for (size_t k = 0; k < ARRAY_LEN(rules); k++) {
        const struct rule *r = &rules[k];
        prepare(f);
        f->cpu.cr0 |= r->cr0;
        f->cpu.cr4 &= ~r->without;
        f->cpu.xcr0 &= ~r->xcr0;
        int vector = run(f, r->code);
        if (vector != r->vector)
            fail_msg("%s (row %zu): vector %d, not %d", r->code->name, k, vector, r->vector);
    }
    fake_free(f);
}

static void pend(struct fake *f)
{
    f->cpu.fpu.fcw = FCW_DEFAULT & ~4; /* divide by zero unmasked, and met */
    f->cpu.fpu.fsw = 4 | FSW_ES | FSW_B;
}

/* A pending error: #MF for waiting instructions, or FERR# where CR0.NE is clear. */
static void test_pending_error(void **state)
{
    static const struct code *const waiting[] = {&fld1, &fwait, &paddb, &cvtpi2ps};
    static const struct code *const others[] = {&fnstsw, &addps, &fxsave, &fnclex};
    struct fake *f = fake_new(8, true);
    for (size_t k = 0; k < ARRAY_LEN(waiting); k++) {
        prepare(f);
        pend(f);
        assert_int_equal(run(f, waiting[k]), VEC_MF);
        assert_int_equal(f->cpu.fpu.fsw, 4 | FSW_ES | FSW_B);
        f->cpu.cr0 &= ~CR0_NE;
        f->ferr_calls = 0;
        assert_int_equal(run(f, waiting[k]), X86_FAULT_RETRY);
        assert_int_equal(f->ferr_calls, 1);
        f->ignne = true;
        assert_int_equal(run(f, waiting[k]), NONE);
        assert_int_equal(f->ferr_calls, 1);
        f->ignne = false;
    }
    for (size_t k = 0; k < ARRAY_LEN(others); k++) {
        prepare(f);
        pend(f);
        assert_int_equal(run(f, others[k]), NONE);
    }
    assert_int_equal(f->cpu.fpu.fsw, 0); /* FNCLEX was the last */
    fake_free(f);
}

/* An exception that FLDCW unmasks is pending from then on. */
static void test_unmasking(void **state)
{
    struct fake *f = fake_new(8, true);
    prepare(f);
    f->cpu.fpu.fsw = 4;
    *(u16 *)fake_at(f, FAKE_DATA) = 0x37b;
    assert_int_equal(FAKE_RUN(f, 0xd9, 0x2b), NONE); /* fldcw [rbx] */
    assert_int_equal(f->cpu.fpu.fsw, 4 | FSW_ES | FSW_B);
    assert_int_equal(run(f, &fld1), VEC_MF);
    fake_free(f);
}

static void check_env(struct fake *f, const u32 *expected, unsigned size, unsigned words)
{
    for (unsigned k = 0; k < words; k++) {
        u32 found = 0;
        memcpy(&found, fake_at(f, FAKE_DATA + size * k), size);
        assert_int_equal(found, expected[k]);
    }
}

/* FNSTENV's four formats (SDM vol. 1, figures 8-9 to 8-12), and FLDENV back. */
static void test_environment(void **state)
{
    static const struct {
        unsigned code_size, size;
        bool real, prefix;
        u32 words[7];
    } formats[] = {
        {4,
         4,
         false,
         false,
         {0xffff037f, 0xffff3800, 0xffffffff, 0x12345678, 0x05550023, 0x9abcdef0, 0xffff002b}},
        {4, 2, false, true, {0x037f, 0x3800, 0xffff, 0x5678, 0x0023, 0xdef0, 0x002b}},
        {2, 2, true, false, {0x037f, 0x3800, 0xffff, 0x5678, 0x4555, 0xdef0, 0xc000}},
        {2,
         4,
         true,
         true,
         {0xffff037f, 0xffff3800, 0xffffffff, 0xffff5678, 0x01234555, 0xffffdef0, 0x09abc000}},
    };
    for (size_t k = 0; k < ARRAY_LEN(formats); k++) {
        struct fake *f = fake_new(formats[k].code_size, true);
        struct x86_cpu *c = &f->cpu;
        prepare(f);
        if (formats[k].real) {
            c->cr0 &= ~CR0_PE;
            for (unsigned s = SEG_ES; s <= SEG_GS; s++)
                c->seg[s].limit = 0xffffffff;
            x86_derive(c);
        }
        f->model.features[CPUID_7_EBX] &= ~(u32)BIT(13); /* keeps selectors */
        c->fpu.fsw = 0x3800;
        c->fpu.fop = 0x555;
        c->fpu.fip = 0x12345678;
        c->fpu.fdp = 0x9abcdef0;
        c->fcs = 0x23;
        c->fds = 0x2b;
        const u8 store[] = {0x66, 0x67, 0xd9, 0x33}, load[] = {0x66, 0x67, 0xd9, 0x23};
        unsigned skip = formats[k].prefix ? 0 : 1;
        /* In 32-bit code [ebx] needs no prefix, in 16-bit code it does. */
        u8 code[2][4];
        unsigned n = 0;
        for (unsigned b = skip; b < 4; b++) {
            if (b == 1 && formats[k].code_size == 4)
                continue;
            code[0][n] = store[b];
            code[1][n++] = load[b];
        }
        assert_int_equal(fake_run(f, code[0], n), NONE);
        check_env(f, formats[k].words, formats[k].size, 7);
        assert_int_equal(c->fpu.fcw, 0x37f);

        c->fpu.fip = c->fpu.fdp = c->fpu.fop = 0;
        c->fpu.fsw = 0;
        c->fpu.ftw = 0xff;
        assert_int_equal(fake_run(f, code[1], n), NONE);
        assert_int_equal(c->fpu.fsw, 0x3800);
        assert_int_equal(c->fpu.ftw, 0);
        assert_int_equal((u16)c->fpu.fip, 0x5678);
        assert_int_equal((u16)c->fpu.fdp, 0xdef0);
        fake_free(f);
    }
}

/* Real and virtual-8086 mode know no VEX. */
static void test_vex_in_real_mode(void **state)
{
    struct fake *f = fake_new(2, true);
    prepare(f);
    f->cpu.cr0 &= ~CR0_PE;
    x86_derive(&f->cpu);
    assert_int_equal(run(f, &vaddps), VEC_UD);
    assert_int_equal(run(f, &addps), NONE);
    fake_free(f);
}

/* MXCSR's reserved bits, and its being there only with SSE. */
static void test_mxcsr(void **state)
{
    struct fake *f = fake_new(8, true);
    prepare(f);
    *(u32 *)fake_at(f, FAKE_DATA) = 0x9fc0;
    assert_int_equal(run(f, &ldmxcsr), NONE);
    assert_int_equal(f->cpu.fpu.mxcsr, 0x9fc0);
    *(u32 *)fake_at(f, FAKE_DATA) = 0x11f80;
    assert_int_equal(run(f, &ldmxcsr), VEC_GP);
    assert_int_equal(f->cpu.fpu.mxcsr, 0x9fc0);
    fake_free(f);
}

/* XSAVES compacts, is the kernel's, and XRSTORS takes nothing else. */
static void test_supervisor_save(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    prepare(f);
    c->fpu.ymm_hi[3][5] = 0x77;
    c->fpu.xmm[2][1] = 0x66;
    assert_int_equal(run(f, &xsaves), NONE);
    const u64 *header = fake_at(f, FAKE_DATA + 512);
    assert_true(header[0] == (XCR0_SSE | XCR0_AVX));
    assert_true(header[1] == (BIT(63) | 7));
    c->fpu.ymm_hi[3][5] = 0;
    c->fpu.fcw = 0x27f;
    assert_int_equal(run(f, &xrstors), NONE);
    assert_int_equal(c->fpu.ymm_hi[3][5], 0x77);
    assert_int_equal(c->fpu.fcw, FCW_DEFAULT); /* not in the image: initial */

    *(u64 *)fake_at(f, FAKE_DATA + 520) = 0;
    assert_int_equal(run(f, &xrstors), VEC_GP);
    c->seg[SEG_SS].attr |= 3 << 5;
    x86_derive(c);
    assert_int_equal(run(f, &xsaves), VEC_GP);
    assert_int_equal(run(f, &xrstors), VEC_GP);
    fake_free(f);
}

/* A store that faults leaves everything as it was: no pop, no flags. */
static void test_faulting_store(void **state)
{
    struct fake *f = fake_new(8, true);
    struct x86_cpu *c = &f->cpu;
    prepare(f);
    c->fpu.ftw = 0xff;
    c->fpu.st[0][9] = 0x3f;
    struct x86_fpu before = c->fpu;
    fake_protect(f, FAKE_DATA, false, true);
    assert_int_equal(FAKE_RUN(f, 0xdd, 0x1b), VEC_PF); /* fstp qword [rbx] */
    assert_memory_equal(&c->fpu, &before, sizeof(before));
    fake_free(f);
}

/* AMD's fast FXSAVE: in 64-bit kernels the XMM registers stay out. */
static void test_fast_fxsave(void **state)
{
    struct fake *f = fake_new(8, true);
    prepare(f);
    f->cpu.fpu.xmm[0][0] = 0x55;
    f->cpu.efer |= EFER_FFXSR;
    assert_int_equal(run(f, &fxsave), NONE);
    assert_int_equal(*(u8 *)fake_at(f, FAKE_DATA + 160), 0);
    f->cpu.efer &= ~EFER_FFXSR;
    assert_int_equal(run(f, &fxsave), NONE);
    assert_int_equal(*(u8 *)fake_at(f, FAKE_DATA + 160), 0x55);
    fake_free(f);
}

/* #AC comes before the #GP of a code segment, which nobody may write. */
static void test_misaligned_fxsave(void **state)
{
    struct fake *f = fake_new(4, true);
    struct x86_cpu *c = &f->cpu;
    prepare(f);
    c->seg[SEG_SS].attr |= 3 << 5; /* CPL 3 */
    c->cr0 |= CR0_AM;
    c->rflags |= FLAG_AC;
    x86_derive(c);
    assert_int_equal(FAKE_RUN(f, 0x2e, 0x0f, 0xae, 0x03), VEC_GP); /* fxsave cs:[ebx] */
    c->gpr[RBX]++;
    assert_int_equal(FAKE_RUN(f, 0x2e, 0x0f, 0xae, 0x03), VEC_AC);
    fake_free(f);
}

/* What the model lacks, and what nobody offers, is no instruction. */
static void test_features(void **state)
{
    struct fake *f = fake_new(8, true);
    prepare(f);
    f->model.features[CPUID_1_ECX] &= ~(u32)BIT(28); /* AVX */
    assert_int_equal(run(f, &vaddps), VEC_UD);
    f->model.features[CPUID_1_EDX] &= ~(u32)BIT(25); /* SSE */
    assert_int_equal(run(f, &addps), VEC_UD);
    assert_int_equal(FAKE_RUN(f, 0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2), VEC_UD); /* EVEX */
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x0f, 0xc1, 0x9e), VEC_UD); /* 3DNow! pfadd */
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_bits),     cmocka_unit_test(test_pending_error),
        cmocka_unit_test(test_unmasking),        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_vex_in_real_mode), cmocka_unit_test(test_mxcsr),
        cmocka_unit_test(test_supervisor_save),  cmocka_unit_test(test_faulting_store),
        cmocka_unit_test(test_fast_fxsave),      cmocka_unit_test(test_misaligned_fxsave),
        cmocka_unit_test(test_features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
