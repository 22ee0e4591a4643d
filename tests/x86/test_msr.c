/*
 * Control registers and MSRs: what may be written, and which mode follows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tables.h"
#include "x86/msr.h"

static int wrmsr(struct fake *f, u32 index, u64 value)
{
    f->cpu.gpr[RCX] = index;
    f->cpu.gpr[RAX] = (u32)value;
    f->cpu.gpr[RDX] = value >> 32;
    return FAKE_RUN(f, 0x0f, 0x30);
}

static int rdmsr(struct fake *f, u32 index)
{
    f->cpu.gpr[RCX] = index;
    f->cpu.gpr[RAX] = f->cpu.gpr[RDX] = ~0ull;
    return FAKE_RUN(f, 0x0f, 0x32);
}

static u64 value_of(struct fake *f, u32 index)
{
    assert_int_equal(rdmsr(f, index), -1);
    return f->cpu.gpr[RDX] << 32 | f->cpu.gpr[RAX];
}

/* mov crN, rax and mov drN, rax */
static int mov_cr(struct fake *f, unsigned n, u64 value)
{
    f->cpu.gpr[RAX] = value;
    return FAKE_RUN(f, 0x0f, 0x22, (u8)(0xc0 | n << 3));
}

static int mov_dr(struct fake *f, unsigned n, u64 value)
{
    f->cpu.gpr[RAX] = value;
    return FAKE_RUN(f, 0x0f, 0x23, (u8)(0xc0 | n << 3));
}

/* -- MSRs ---------------------------------------------------------------------------------- */

static void test_values(void **state)
{
    static const struct {
        u32 index;
        u64 good, bad; /* bad 0: nothing is */
    } cases[] = {
        {MSR_LSTAR, 0xffff800000001234, 0x800000000000},
        {MSR_CSTAR, 0x7fffffffffff, 0xffff000000000000},
        {MSR_SYSENTER_EIP, 0xffffffff80000000, 1ull << 63},
        {MSR_FS_BASE, 0x7fff00000000, 0x800000000000},
        {MSR_GS_BASE, 0xffff888000000000, 0x1000000000000},
        {MSR_KERNEL_GS_BASE, 0xffff888000000000, 0x800000000000},
        {MSR_SFMASK, 0x257fd5, 1ull << 32},
        {MSR_STAR, 0x1234567890abcdef, 0},
        {MSR_PAT, 0x0007010600070106, 0x0200000000000000},
        {MSR_PAT, 0, 0x08},
        {MSR_MTRR_DEF_TYPE, 0xc06, 0x1006},
        {MSR_MTRR_DEF_TYPE, 0, 0x02},
        {MSR_MTRR_FIX64K, 0x0606060606060606, 0x07},
        {MSR_MTRR_FIX4K_C0000 + 7, 0x05, 0x03},
        {MSR_MTRR_PHYSBASE0, 0x80000006, 0x80000106},
        {MSR_MTRR_PHYSBASE0 + 15, 0x80000800, 0x80000400},
        {MSR_MTRR_PHYSBASE0 + 15, 0, 1ull << 63},
        {MSR_DEBUGCTL, 0, 1ull << 20},
        {MSR_MCG_CTL, ~0ull, 1},
        {MSR_MC0_CTL, ~0ull, 0x1234},
        {MSR_XSS, 0, 0x100},
    };
    struct fake *f = tables_new(8);
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        assert_int_equal(wrmsr(f, cases[n].index, cases[n].good), -1);
        assert_int_equal(value_of(f, cases[n].index), cases[n].good);
        if (!cases[n].bad)
            continue;
        assert_int_equal(wrmsr(f, cases[n].index, cases[n].bad), VEC_GP);
        assert_int_equal(f->cpu.fault.error, 0);
        assert_int_equal(value_of(f, cases[n].index), cases[n].good);
    }
    assert_int_equal(f->cpu.flat_base[SEG_GS], 0xffff888000000000);
    assert_int_equal(rdmsr(f, 0x12345), VEC_GP);
    assert_int_equal(f->cpu.gpr[RAX], ~0ull);
    assert_int_equal(wrmsr(f, MSR_MTRRCAP, 0), VEC_GP);
    tables_user(f);
    assert_int_equal(rdmsr(f, MSR_STAR), VEC_GP);
    fake_free(f);
}

static void test_vendors(void **state)
{
    struct fake *f = tables_new(8);
    f->model.amd = true;
    assert_int_equal(rdmsr(f, MSR_HWCR), -1);
    assert_int_equal(rdmsr(f, MSR_MISC_ENABLE), -1);
    f->model.amd = false;
    assert_int_equal(rdmsr(f, MSR_HWCR), VEC_GP);
    assert_int_equal(rdmsr(f, MSR_MISC_ENABLE), -1);
    fake_free(f);
}

/* What systems read without a handler for #GP, on processors that they take this one for. */
static void test_unasked(void **state)
{
    static const struct {
        u32 index;
        bool amd, intel;
        u64 value;
    } cases[] = {
        {0x0, true, true, 0},        /* machine checks of the Pentium: address, type */
        {0x1, true, true, 0},        /* (Plan 9) */
        {0x2a, true, true, 0},       /* EBL_CR_POWERON */
        {0xcd, false, true, 3},      /* FSB_FREQ (OpenBSD) */
        {0x11e, false, true, 0x101}, /* BBL_CR_CTL3 (Windows XP) */
        {0x123, false, true, 0},     /* MCU_OPT_CTRL (Linux 5.10) */
        {0x198, false, true, 0},     /* PERF_STATUS */
        {0x1dc, true, true, 0},      /* LASTBRANCHTOIP */
        {0x606, false, true, 0},     /* RAPL's unit, and the package's energy (Windows 10) */
        {0x611, false, true, 0},      {0xc0010064, true, false, 0}, /* P-state 0 (OpenBSD) */
        {0xc0010112, true, false, 0}, {0xc0010115, true, false, 0}, /* TSEG; IGNNE (Windows) */
        {0xc0011028, true, false, 0}, {0xc0011029, true, false, 2}, /* FP_CFG; DE_CFG */
        {0xc001102a, true, false, 0},
    };
    struct fake *f = tables_new(8);
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        for (unsigned amd = 0; amd < 2; amd++) {
            f->model.amd = amd;
            if (amd ? cases[n].amd : cases[n].intel)
                assert_int_equal(value_of(f, cases[n].index), cases[n].value);
            else
                assert_int_equal(rdmsr(f, cases[n].index), VEC_GP);
        }
    }
    fake_free(f);
}

/* The local APIC's MSRs that come with features; the fake one takes MSR_APIC_BASE only. */
static void test_apic_features(void **state)
{
    const u64 x2apic = 0xfee00d00;
    struct fake *f = tables_new(8);
    assert_int_equal(wrmsr(f, MSR_APIC_BASE, x2apic), -1);
    f->model.features[FEAT_X2APIC >> 5] &= ~(1u << (FEAT_X2APIC & 31));
    assert_int_equal(wrmsr(f, MSR_APIC_BASE, x2apic), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_APIC_BASE, x2apic & ~BIT(10)), -1);
    assert_int_equal(rdmsr(f, MSR_APIC_BASE), -1);
    fake_free(f);
}

/* CPUID in user mode is the operating system's to answer once it says so. */
static void test_cpuid_faulting(void **state)
{
    struct fake *f = tables_new(8);
    assert_true(value_of(f, MSR_PLATFORM_INFO) & PLATFORM_CPUID_FAULTING);
    assert_int_equal(wrmsr(f, MSR_MISC_FEATURES, 2), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_MISC_FEATURES, MISC_FEATURES_CPUID_FAULTING), -1);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0xa2), -1);
    tables_user(f);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0xa2), VEC_GP);
    assert_int_equal(f->cpu.fault.error, 0);
    f->cpu.misc_features = 0;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0xa2), -1);
    f->model.amd = true;
    f->cpu.cpl = 0;
    assert_int_equal(rdmsr(f, MSR_PLATFORM_INFO), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_MISC_FEATURES, 0), VEC_GP);
    fake_free(f);
}

static void offer(struct fake *f, u16 feature, bool on)
{
    u32 bit = 1u << (feature & 31);
    f->model.features[feature >> 5] &= ~bit;
    f->model.features[feature >> 5] |= on ? bit : 0;
}

/* What tells Linux that it needs none of its detours (SDM vol. 4, 2.1; AMD APM vol. 2, 3.1.7).
 */
static void test_speculation(void **state)
{
    struct fake *f = tables_new(8);
    static const u16 features[] = {FEAT_SPEC_CTRL, FEAT_ARCH_CAPABILITIES, FEAT_BHI_CTRL,
                                   FEAT_AUTOIBRS,  FEAT_RDCL_NO,           FEAT_ITS_NO};
    for (unsigned n = 0; n < ARRAY_LEN(features); n++)
        offer(f, features[n], false);
    assert_int_equal(rdmsr(f, MSR_SPEC_CTRL), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_PRED_CMD, 0), VEC_GP);
    assert_int_equal(rdmsr(f, MSR_ARCH_CAPABILITIES), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_EFER, f->cpu.efer | EFER_AIBRSE), VEC_GP);
    for (unsigned n = 0; n < ARRAY_LEN(features); n++)
        offer(f, features[n], true);
    f->model.leaks_not = ARCH_CAP_MDS_NO;
    u64 caps = value_of(f, MSR_ARCH_CAPABILITIES);
    assert_true(caps & BIT(0) && caps & ARCH_CAP_MDS_NO && caps & BIT(62));
    assert_false(caps & ARCH_CAP_GDS_NO);
    offer(f, FEAT_RDCL_NO, false);
    assert_int_equal(value_of(f, MSR_ARCH_CAPABILITIES), caps & ~BIT(0));
    assert_int_equal(wrmsr(f, MSR_ARCH_CAPABILITIES, caps), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_SPEC_CTRL, SPEC_CTRL_IBRS | SPEC_CTRL_BHI_DIS_S), -1);
    assert_int_equal(value_of(f, MSR_SPEC_CTRL), SPEC_CTRL_IBRS | SPEC_CTRL_BHI_DIS_S);
    assert_int_equal(wrmsr(f, MSR_SPEC_CTRL, BIT(1)), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_PRED_CMD, PRED_CMD_IBPB), -1);
    assert_int_equal(wrmsr(f, MSR_PRED_CMD, BIT(1)), VEC_GP);
    assert_int_equal(rdmsr(f, MSR_PRED_CMD), VEC_GP);
    assert_int_equal(wrmsr(f, MSR_EFER, f->cpu.efer | EFER_AIBRSE), -1);
    fake_free(f);
}

/* CTL takes all or nothing, STATUS only zero, ADDR and MISC anything (SDM vol. 3, 15.3.2). */
static void test_banks(void **state)
{
    struct fake *f = tables_new(8);
    for (u32 n = 0; n < 8; n++) {
        u32 bank = MSR_MC0_CTL + 4 * n;
        const u64 odd = 0xaaaaaaaaaaaaaaaa + n;
        assert_int_equal(wrmsr(f, bank, ~0ull), -1);
        assert_int_equal(value_of(f, bank), ~0ull);
        assert_int_equal(wrmsr(f, bank, odd), VEC_GP);
        assert_int_equal(wrmsr(f, bank, 0), -1);
        assert_int_equal(wrmsr(f, bank + 1, 1), VEC_GP);
        assert_int_equal(wrmsr(f, bank + 1, 0), -1);
        assert_int_equal(wrmsr(f, bank + 2, odd), -1);
        assert_int_equal(wrmsr(f, bank + 3, ~odd), -1);
        assert_int_equal(value_of(f, bank + 2), odd);
        assert_int_equal(value_of(f, bank + 3), ~odd);
    }
    fake_free(f);
}

static void test_tsc(void **state)
{
    struct fake *f = tables_new(8);
    assert_int_equal(wrmsr(f, MSR_TSC, 5000), -1); /* the host's is 1000 */
    assert_int_equal(value_of(f, MSR_TSC_ADJUST), 4000);
    assert_int_equal(wrmsr(f, MSR_TSC_ADJUST, (u64)-100), -1);
    assert_int_equal(value_of(f, MSR_TSC), 900);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x31), -1);
    assert_int_equal(f->cpu.gpr[RAX], 900);
    f->cpu.cr4 |= CR4_TSD;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x31), -1);
    tables_user(f);
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x31), VEC_GP);
    fake_free(f);
}

static void test_efer(void **state)
{
    struct fake *f = tables_new(8);
    assert_int_equal(value_of(f, MSR_EFER), EFER_LME | EFER_LMA);
    assert_int_equal(wrmsr(f, MSR_EFER, EFER_LME | EFER_NXE | EFER_SCE), -1);
    assert_int_equal(value_of(f, MSR_EFER), EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
    assert_int_equal(wrmsr(f, MSR_EFER, EFER_NXE), VEC_GP); /* LME while paging */
    assert_int_equal(wrmsr(f, MSR_EFER, EFER_LME | BIT(12)), VEC_GP);
    fake_free(f);
}

/* -- Control registers --------------------------------------------------------------------- */

static void test_cr0(void **state)
{
    struct fake *f = tables_new(4);
    assert_int_equal(mov_cr(f, 0, CR0_PG), VEC_GP);
    assert_int_equal(mov_cr(f, 0, CR0_PE | CR0_NW), VEC_GP);
    assert_int_equal(mov_cr(f, 0, CR0_PE | CR0_TS | 0xff40), -1);
    assert_int_equal(f->cpu.cr0, CR0_PE | CR0_TS | CR0_ET);
    f->cpu.gpr[RAX] = 0;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0xf0), -1); /* lmsw ax: PE stays */
    assert_int_equal(f->cpu.cr0, CR0_PE | CR0_ET);
    assert_int_equal(mov_cr(f, 0, 0), -1);
    assert_true(x86_real(&f->cpu));
    tables_user(f);
    f->cpu.cr0 |= CR0_PE;
    x86_derive(&f->cpu);
    assert_int_equal(mov_cr(f, 0, CR0_PE), VEC_GP);
    fake_free(f);

    f = tables_new(8);
    assert_int_equal(mov_cr(f, 0, f->cpu.cr0 | 1ull << 32), VEC_GP);
    assert_int_equal(mov_cr(f, 0, f->cpu.cr0 & ~CR0_PG), VEC_GP); /* in 64-bit code */
    fake_free(f);
}

static void test_long_mode_entry(void **state)
{
    struct fake *f = tables_new(4);
    f->cpu.efer = EFER_LME;
    assert_int_equal(mov_cr(f, 0, CR0_PE | CR0_PG), VEC_GP); /* without PAE */
    f->cpu.cr4 |= CR4_PAE;
    f->cpu.seg[SEG_CS].attr |= SEG_L;
    assert_int_equal(mov_cr(f, 0, CR0_PE | CR0_PG), VEC_GP);
    f->cpu.seg[SEG_CS].attr &= ~SEG_L;
    assert_int_equal(mov_cr(f, 0, CR0_PE | CR0_PG), -1);
    assert_true(f->cpu.efer & EFER_LMA);
    assert_int_equal(f->cpu.code_size, 4); /* compatibility mode */
    assert_int_equal(mov_cr(f, 4, 0), VEC_GP);
    assert_int_equal(mov_cr(f, 0, CR0_PE), -1);
    assert_false(f->cpu.efer & EFER_LMA);
    fake_free(f);
}

static void test_cr3_cr4(void **state)
{
    struct fake *f = tables_new(8);
    u64 cr4 = f->cpu.cr4;
    assert_int_equal(mov_cr(f, 3, 1ull << f->model.phys_bits), VEC_GP);
    assert_int_equal(mov_cr(f, 3, 1ull << 63 | 0x1000), VEC_GP); /* without PCIDE */
    assert_int_equal(mov_cr(f, 3, 0x1005), -1);
    assert_int_equal(mov_cr(f, 4, cr4 | CR4_PCIDE), VEC_GP); /* CR3 has a PCID already */
    assert_int_equal(mov_cr(f, 3, 0x1000), -1);
    assert_int_equal(mov_cr(f, 4, cr4 | CR4_PCIDE), -1);
    assert_int_equal(mov_cr(f, 3, 1ull << 63 | 0x2003), -1);
    assert_int_equal(f->cpu.cr3, 0x2003);
    assert_int_equal(mov_cr(f, 4, cr4 | 1ull << 40), VEC_GP);
    assert_int_equal(mov_cr(f, 4, cr4 | BIT(13)), VEC_GP); /* VMXE */
    f->model.features[CPUID_7_EBX] &= ~(1u << (FEAT_SMAP & 31));
    assert_int_equal(mov_cr(f, 4, cr4 | CR4_SMAP), VEC_GP);
    fake_free(f);
}

static void test_debug_registers(void **state)
{
    struct fake *f = tables_new(8);
    assert_int_equal(mov_dr(f, 7, 0), -1);
    assert_int_equal(f->cpu.dr7, DR7_FIXED);
    assert_int_equal(mov_dr(f, 6, 0xffffffff), -1);
    assert_int_equal(f->cpu.dr6, 0xffffefff);
    assert_int_equal(mov_dr(f, 6, 0), -1);
    assert_int_equal(f->cpu.dr6, DR6_FIXED);
    assert_int_equal(mov_dr(f, 6, 1ull << 32), VEC_GP);
    assert_int_equal(mov_dr(f, 4, 1), -1); /* DR6 by another name */
    assert_int_equal(f->cpu.dr6, DR6_FIXED | 1);
    f->cpu.cr4 |= CR4_DE;
    assert_int_equal(mov_dr(f, 4, 1), VEC_UD);
    fake_free(f);
}

static void test_xsetbv(void **state)
{
    static const struct {
        u64 value;
        int vector;
    } cases[] = {{1, -1}, {3, -1}, {0, VEC_GP}, {2, VEC_GP}, {5, VEC_GP}, {1 | 1 << 9, VEC_GP}};
    struct fake *f = tables_new(8);
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        f->cpu.gpr[RCX] = f->cpu.gpr[RDX] = 0;
        f->cpu.gpr[RAX] = cases[n].value;
        assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0xd1), cases[n].vector);
    }
    assert_int_equal(f->cpu.xcr0, 3);
    f->cpu.cr4 &= ~CR4_OSXSAVE;
    assert_int_equal(FAKE_RUN(f, 0x0f, 0x01, 0xd1), VEC_UD);
    fake_free(f);
}

static void test_invpcid(void **state)
{
    static const struct {
        u64 type, pcid, address;
        int vector;
    } cases[] = {
        {0, 0, 0x1000, -1},    {0, 0, 1ull << 47, VEC_GP}, {0, 1, 0, VEC_GP},
        {1, 1, 0, VEC_GP},     {1, 0x1000, 0, VEC_GP},     {2, 0x1000, 0, VEC_GP},
        {2, 0xfff, ~0ull, -1}, {3, 0xfff, 1ull << 47, -1}, {3, ~0ull, ~0ull, VEC_GP},
        {4, 0, 0, VEC_GP},
    };
    struct fake *f = tables_new(8);
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        f->cpu.gpr[RAX] = cases[n].type;
        f->cpu.gpr[RBX] = FAKE_DATA;
        tables_store(f, FAKE_DATA, 8, cases[n].pcid);
        tables_store(f, FAKE_DATA + 8, 8, cases[n].address);
        assert_int_equal(FAKE_RUN(f, 0x66, 0x0f, 0x38, 0x82, 0x03), cases[n].vector);
    }
    fake_free(f);
}

/* -- Instructions of features that no model has -------------------------------------------- */

static void test_absent(void **state)
{
    static const u8 codes[][6] = {
        {0x0f, 0x01, 0xd8},             /* vmrun */
        {0x0f, 0x01, 0xda},             /* vmload */
        {0x0f, 0x01, 0xdc},             /* stgi */
        {0x0f, 0x01, 0xdf},             /* invlpga */
        {0x0f, 0x01, 0xc2},             /* vmlaunch */
        {0x0f, 0x78, 0xc8},             /* vmread */
        {0xf3, 0x0f, 0xc7, 0x30},       /* vmxon */
        {0x66, 0x0f, 0x38, 0x80, 0x03}, /* invept */
        {0x0f, 0xaa},                   /* rsm */
        {0x0f, 0x01, 0xc8},             /* monitor */
        {0x0f, 0x01, 0xc9},             /* mwait */
        {0x0f, 0x01, 0xfa},             /* monitorx */
        {0x0f, 0x01, 0xfc},             /* clzero */
        {0x0f, 0x01, 0xfd},             /* rdpru */
        {0x0f, 0x37},                   /* getsec */
        {0x0f, 0x01, 0xd7},             /* enclu */
        {0x0f, 0x01, 0xcf},             /* encls */
        {0xc7, 0xf8, 0, 0, 0, 0},       /* xbegin */
        {0x0f, 0x01, 0xd5},             /* xend */
        {0x0f, 0x01, 0xee},             /* rdpkru */
        {0x0f, 0x01, 0xe8},             /* serialize */
        {0x66, 0x0f, 0xae, 0xf1},       /* tpause */
        {0x0f, 0x01, 0xfe},             /* invlpgb */
        {0xf3, 0x0f, 0x01, 0xe8},       /* setssbsy */
        {0xf0, 0x0f, 0x20, 0xc0},       /* lock mov eax, cr0: CR8 on others */
        {0x0f, 0x20, 0xc8},             /* mov rax, cr1 */
    };
    struct fake *f = tables_new(8);
    for (unsigned n = 0; n < ARRAY_LEN(codes); n++)
        for (unsigned amd = 0; amd < 2; amd++) {
            f->model.amd = amd;
            f->cpu.gpr[RBX] = FAKE_DATA;
            int vector = fake_run(f, codes[n], sizeof(codes[n]));
            if (vector != VEC_UD)
                fail_msg("%02x %02x %02x: vector %d", codes[n][0], codes[n][1], codes[n][2],
                         vector);
        }
    fake_free(f);
}

/* -- Reset and INIT ------------------------------------------------------------------------ */

static void test_reset(void **state)
{
    struct fake *f = tables_new(8);
    struct x86_cpu *c = &f->cpu;
    c->cr0 |= CR0_CD;
    c->pat = 0x0606060606060606;
    c->fpu.xmm[3][5] = 7;
    x86_init(c);
    assert_int_equal(c->cr0, CR0_CD | CR0_ET);
    assert_int_equal(c->efer, 0);
    assert_int_equal(c->pat, 0x0606060606060606);
    assert_int_equal(c->fpu.xmm[3][5], 7);
    assert_int_equal(c->activity, CPU_WAIT_SIPI);
    assert_int_equal(c->seg[SEG_CS].base + c->rip, 0xfffffff0);
    assert_int_equal(c->code_size, 2);
    x86_sipi(c, 0x9a);
    assert_int_equal(c->activity, CPU_RUNNING);
    assert_int_equal(c->seg[SEG_CS].sel, 0x9a00);
    assert_int_equal(c->seg[SEG_CS].base + c->rip, 0x9a000);
    x86_reset(c);
    assert_int_equal(c->cr0, 0x60000010);
    assert_int_equal(c->pat, 0x0007040600070406);
    assert_int_equal(c->fpu.xmm[3][5], 0);
    assert_int_equal(c->activity, CPU_RUNNING);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_vendors),
        cmocka_unit_test(test_unasked),
        cmocka_unit_test(test_tsc),
        cmocka_unit_test(test_apic_features),
        cmocka_unit_test(test_banks),
        cmocka_unit_test(test_efer),
        cmocka_unit_test(test_cr0),
        cmocka_unit_test(test_long_mode_entry),
        cmocka_unit_test(test_cr3_cr4),
        cmocka_unit_test(test_debug_registers),
        cmocka_unit_test(test_xsetbv),
        cmocka_unit_test(test_invpcid),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_cpuid_faulting),
        cmocka_unit_test(test_speculation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
