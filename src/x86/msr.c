/*
 * The processor's own model-specific registers: a table of those that are fields of struct
 * x86_cpu, with what may be written to each; a table of those that always read the same; and
 * the few that do something.
 */
#include "x86/msr.h"

#include "base/log.h"
#include "x86/control.h"
#include "x86/mem.h"
#include "x86/model.h"
#include "x86/segment.h"

#define MSR_P5_MC_ADDR      0x0
#define MSR_EBL_CR_POWERON  0x2a
#define MSR_SMI_COUNT       0x34
#define MSR_UCODE_WRITE     0x79
#define MSR_P6_PERFCTR0     0xc1
#define MSR_FSB_FREQ        0xcd
#define MSR_BBL_CR_CTL3     0x11e
#define MSR_MCU_OPT_CTRL    0x123
#define MSR_P6_EVNTSEL0     0x186
#define MSR_PERF_STATUS     0x198
#define MSR_LAST_BRANCH     0x1db
#define MSR_POWER_CTL       0x1fc
#define MSR_RAPL_UNIT       0x606
#define MSR_PKG_ENERGY      0x611
#define MSR_DRAM_ENERGY     0x619
#define MSR_PP0_ENERGY      0x639
#define MSR_PP1_ENERGY      0x641
#define MSR_AMD_EVNTSEL0    0xc0010000
#define MSR_AMD_TOP_MEM     0xc001001a
#define MSR_AMD_CLK_CTL     0xc001001b
#define MSR_AMD_TOP_MEM2    0xc001001d
#define MSR_AMD_NB_CFG      0xc001001f
#define MSR_AMD_PATCH_LOAD  0xc0010020
#define MSR_AMD_MC_MASK     0xc0010044
#define MSR_AMD_INT_PENDING 0xc0010055
#define MSR_AMD_MMIO_CONF   0xc0010058
#define MSR_AMD_PSTATE      0xc0010061
#define MSR_AMD_SMM_ADDR    0xc0010112
#define MSR_AMD_VM_CR       0xc0010114
#define MSR_AMD_IGNNE       0xc0010115
#define MSR_AMD_HSAVE_PA    0xc0010117
#define MSR_AMD_LS_CFG      0xc0011020
#define MSR_AMD_DE_CFG      0xc0011029

#define MTRR_VARIABLE 8
#define MC_BANKS      8

/* -- What may be written ------------------------------------------------------------------- */

typedef bool msr_check(const struct x86_cpu *c, u32 index, u64 value);

static bool anything(const struct x86_cpu *c, u32 index, u64 value)
{
    return true;
}

static bool canonical(const struct x86_cpu *c, u32 index, u64 value)
{
    return x86_canonical(value);
}

static bool low_half(const struct x86_cpu *c, u32 index, u64 value)
{
    return !(value >> 32);
}

static bool zero(const struct x86_cpu *c, u32 index, u64 value)
{
    return value == 0;
}

/* Memory types 0, 1, 4, 5, 6, and in the PAT 7 (SDM vol. 3, 11.11.2.1 and 11.12.2). */
static bool memory_type(u8 type, u32 valid)
{
    return type < 8 && (valid >> type & 1);
}
#define TYPES_MTRR 0x73u
#define TYPES_PAT  0xf3u

static bool memory_types(u64 value, u32 valid)
{
    for (unsigned n = 0; n < 8; n++)
        if (!memory_type((u8)(value >> (8 * n)), valid))
            return false;
    return true;
}

static bool pat(const struct x86_cpu *c, u32 index, u64 value)
{
    return memory_types(value, TYPES_PAT);
}

static bool mtrr_fixed(const struct x86_cpu *c, u32 index, u64 value)
{
    return memory_types(value, TYPES_MTRR);
}

static bool mtrr_variable(const struct x86_cpu *c, u32 index, u64 value)
{
    if (value & ~bits_low(c->model->phys_bits))
        return false;
    if (index & 1)
        return !(value & 0x7ff);
    return !(value & 0xf00) && memory_type((u8)value, TYPES_MTRR);
}

static bool mtrr_default(const struct x86_cpu *c, u32 index, u64 value)
{
    return !(value & ~0xcffull) && memory_type((u8)value, TYPES_MTRR);
}

/* Last branch records are accepted and stay empty; so do performance pins of AMD. */
static bool debugctl(const struct x86_cpu *c, u32 index, u64 value)
{
    return !(value & ~(c->model->amd ? 0x3full : 0x3ull));
}

static bool all_or_nothing(const struct x86_cpu *c, u32 index, u64 value)
{
    return value == 0 || value == ~0ull;
}

static bool mcg_status(const struct x86_cpu *c, u32 index, u64 value)
{
    return !(value & ~7ull);
}

static bool cpuid_faulting(const struct x86_cpu *c, u32 index, u64 value)
{
    return !(value & ~MISC_FEATURES_CPUID_FAULTING);
}

static bool spec_ctrl(const struct x86_cpu *c, u32 index, u64 value)
{
    u64 known = SPEC_CTRL_IBRS | (x86_has(c->model, FEAT_BHI_CTRL) ? SPEC_CTRL_BHI_DIS_S : 0);
    return !(value & ~known);
}

/* -- Fields -------------------------------------------------------------------------------- */

enum msr_vendor { BOTH, INTEL, AMD };

struct msr_field {
    u32 index;
    u16 count; /* consecutive registers, consecutive fields */
    u16 vendor;
    u16 feature;
    size_t field;
    msr_check *good;
};

#define FIELD(name) offsetof(struct x86_cpu, name)

static const struct msr_field msr_fields[] = {
    {MSR_SYSENTER_CS, 1, BOTH, FEAT_SEP, FIELD(sysenter_cs), anything},
    {MSR_SYSENTER_ESP, 1, BOTH, FEAT_SEP, FIELD(sysenter_esp), canonical},
    {MSR_SYSENTER_EIP, 1, BOTH, FEAT_SEP, FIELD(sysenter_eip), canonical},
    {MSR_MCG_STATUS, 1, BOTH, FEAT_MCA, FIELD(mcg_status), mcg_status},
    {MSR_MCG_CTL, 1, BOTH, FEAT_MCA, FIELD(mcg_ctl), all_or_nothing},
    {MSR_MISC_ENABLE, 1, BOTH, FEAT_ALWAYS, FIELD(misc_enable), anything}, /* KVM: AMD, too */
    {MSR_SPEC_CTRL, 1, BOTH, FEAT_SPEC_CTRL, FIELD(spec_ctrl), spec_ctrl},
    {MSR_MISC_FEATURES, 1, INTEL, FEAT_ALWAYS, FIELD(misc_features), cpuid_faulting},
    {MSR_DEBUGCTL, 1, BOTH, FEAT_ALWAYS, FIELD(debugctl), debugctl},
    {MSR_MTRR_PHYSBASE0, 2 * MTRR_VARIABLE, BOTH, FEAT_MTRR, FIELD(mtrr_var), mtrr_variable},
    {MSR_MTRR_FIX64K, 1, BOTH, FEAT_MTRR, FIELD(mtrr_fixed[0]), mtrr_fixed},
    {MSR_MTRR_FIX16K_80000, 2, BOTH, FEAT_MTRR, FIELD(mtrr_fixed[1]), mtrr_fixed},
    {MSR_MTRR_FIX4K_C0000, 8, BOTH, FEAT_MTRR, FIELD(mtrr_fixed[3]), mtrr_fixed},
    {MSR_PAT, 1, BOTH, FEAT_PAT, FIELD(pat), pat},
    {MSR_MTRR_DEF_TYPE, 1, BOTH, FEAT_MTRR, FIELD(mtrr_def_type), mtrr_default},
    {MSR_XSS, 1, BOTH, FEAT_XSAVES, FIELD(xss), zero},
    {MSR_STAR, 1, BOTH, FEAT_SYSCALL, FIELD(star), anything},
    {MSR_LSTAR, 1, BOTH, FEAT_LM, FIELD(lstar), canonical},
    {MSR_CSTAR, 1, BOTH, FEAT_LM, FIELD(cstar), canonical},
    {MSR_SFMASK, 1, BOTH, FEAT_LM, FIELD(sfmask), low_half},
    {MSR_KERNEL_GS_BASE, 1, BOTH, FEAT_LM, FIELD(kernel_gs_base), canonical},
    {MSR_TSC_AUX, 1, BOTH, FEAT_RDTSCP, FIELD(tsc_aux), low_half},
    {MSR_SYSCFG, 1, AMD, FEAT_ALWAYS, FIELD(syscfg), anything},
    {MSR_HWCR, 1, AMD, FEAT_ALWAYS, FIELD(hwcr), low_half},
};

static bool vendor_has(const struct x86_cpu *c, enum msr_vendor vendor)
{
    return vendor == BOTH || (vendor == AMD) == c->model->amd;
}

static const struct msr_field *find_field(const struct x86_cpu *c, u32 index)
{
    for (unsigned n = 0; n < ARRAY_LEN(msr_fields); n++) {
        const struct msr_field *f = &msr_fields[n];
        if (index - f->index < f->count && vendor_has(c, f->vendor) &&
            x86_has(c->model, f->feature))
            return f;
    }
    return NULL;
}

static u64 *field_of(struct x86_cpu *c, const struct msr_field *f, u32 index)
{
    return (u64 *)((char *)c + f->field) + (index - f->index);
}

/* -- Constants ----------------------------------------------------------------------------- */

/*
 * Registers that systems and firmware look at; writes are dropped unless read_only. Many do so
 * without a handler for #GP, because their makers' processors have them: OpenBSD and NetBSD ask
 * AMD's for the frequency of P-state 0, Windows for L2 caches and energies. What there is none
 * of reads as zero: no P-state is valid, no counter counts.
 */
static const struct msr_constant {
    u32 index;
    u16 count;
    u8 vendor;
    bool read_only;
    u64 value;
} msr_constants[] = {
    {MSR_P5_MC_ADDR, 2, BOTH, false, 0}, /* and its type */
    {MSR_PLATFORM_ID, 1, INTEL, true, 0},
    {MSR_EBL_CR_POWERON, 1, BOTH, false, 0},
    {MSR_SMI_COUNT, 1, INTEL, true, 0},
    {MSR_FEATURE_CONTROL, 1, INTEL, true, 1}, /* locked, VMX off */
    {MSR_PLATFORM_INFO, 1, INTEL, true, PLATFORM_CPUID_FAULTING},
    {MSR_UCODE_WRITE, 1, INTEL, false, 0},
    {MSR_UCODE_REV, 1, INTEL, false, 1ull << 32},
    {MSR_UCODE_REV, 1, AMD, false, 0x01000065},
    {MSR_P6_PERFCTR0, 2, INTEL, false, 0},
    {MSR_FSB_FREQ, 1, INTEL, true, 3}, /* 166.67 MHz */
    {MSR_MTRRCAP, 1, BOTH, true, MTRR_VARIABLE | BIT(8) | BIT(10)},
    {MSR_BBL_CR_CTL3, 1, INTEL, false, BIT(0) | BIT(8)}, /* an L2 cache, and enabled */
    {MSR_MCU_OPT_CTRL, 1, INTEL, false, 0},
    {MSR_MCG_CAP, 1, BOTH, true, MC_BANKS | BIT(8)},
    {MSR_P6_EVNTSEL0, 2, INTEL, false, 0},
    {MSR_PERF_STATUS, 2, INTEL, false, 0}, /* and what asks for another */
    {MSR_LAST_BRANCH, 4, BOTH, false, 0},
    {MSR_POWER_CTL, 1, INTEL, false, 0},
    {MSR_RAPL_UNIT, 1, INTEL, true, 0},
    {MSR_PKG_ENERGY, 1, INTEL, true, 0},
    {MSR_DRAM_ENERGY, 1, INTEL, true, 0},
    {MSR_PP0_ENERGY, 1, INTEL, true, 0},
    {MSR_PP1_ENERGY, 1, INTEL, true, 0},
    {MSR_AMD_EVNTSEL0, 8, AMD, false, 0},
    {MSR_AMD_TOP_MEM, 1, AMD, false, 0},
    {MSR_AMD_CLK_CTL, 1, AMD, false, 0},
    {MSR_AMD_TOP_MEM2, 1, AMD, false, 0},
    {MSR_AMD_NB_CFG, 1, AMD, false, 0},
    {MSR_AMD_PATCH_LOAD, 1, AMD, false, 0},
    {MSR_AMD_MC_MASK, MC_BANKS, AMD, false, 0},
    {MSR_AMD_INT_PENDING, 1, AMD, false, 0},
    {MSR_AMD_MMIO_CONF, 1, AMD, false, 0},
    {MSR_AMD_PSTATE, 11, AMD, false, 0},    /* limit, control, status, eight definitions */
    {MSR_AMD_SMM_ADDR, 2, AMD, false, 0},   /* and its mask: no TSEG */
    {MSR_AMD_VM_CR, 1, AMD, false, BIT(4)}, /* SVM disabled */
    {MSR_AMD_IGNNE, 1, AMD, false, 0},
    {MSR_AMD_HSAVE_PA, 1, AMD, false, 0},
    {MSR_AMD_DE_CFG, 1, AMD, false, BIT(1)}, /* LFENCE serializes */
    {MSR_AMD_LS_CFG, 16, AMD, false, 0},     /* the parts of a core: LS, IC, DC, ... */
};

static const struct msr_constant *find_constant(const struct x86_cpu *c, u32 index)
{
    for (unsigned n = 0; n < ARRAY_LEN(msr_constants); n++) {
        const struct msr_constant *k = &msr_constants[n];
        if (index - k->index < k->count && vendor_has(c, k->vendor))
            return k;
    }
    return NULL;
}

/* -- Registers that do something ----------------------------------------------------------- */

static void set_tsc(struct x86_cpu *c, u64 offset)
{
    c->tsc_adjust += offset - c->tsc_offset;
    c->tsc_offset = offset;
}

static bool set_base(struct x86_cpu *c, enum x86_seg_reg seg, u64 base)
{
    if (!x86_canonical(base))
        return false;
    c->seg[seg].base = base;
    x86_derive_segment(c, seg);
    return true;
}

/* Machine-check banks: four registers each. There are no errors, so STATUS is zero, and only
 * zero may be written to it; ADDR and MISC keep what is written (SDM vol. 3, 15.3.2). */
#define MC_CTL 0 /* the first of them */

static bool is_bank(u32 index)
{
    return index - MSR_MC0_CTL < 4 * MC_BANKS;
}

/* NULL: STATUS */
static u64 *bank_field(struct x86_cpu *c, u32 index)
{
    unsigned n = index - MSR_MC0_CTL;
    u64 *const fields[] = {c->mc_ctl, NULL, c->mc_addr, c->mc_misc};
    return fields[n % 4] ? &fields[n % 4][n / 4] : NULL;
}

static u64 read_bank(struct x86_cpu *c, u32 index)
{
    const u64 *field = bank_field(c, index);
    return field ? *field : 0;
}

/* CTL takes all ones or zeros; Linux leaves out bit 0 or 10 on some processors of AMD's. */
static bool write_bank(struct x86_cpu *c, u32 index, u64 value)
{
    u64 *field = bank_field(c, index);
    if (!field)
        return value == 0;
    if ((index - MSR_MC0_CTL) % 4 == MC_CTL && value && (value | BIT(0) | BIT(10)) != ~0ull)
        return false;
    *field = value;
    return true;
}

static u64 arch_capabilities(const struct x86_model *m)
{
    return (u64)m->features[ARCH_CAPABILITIES_HIGH] << 32 | m->features[ARCH_CAPABILITIES_LOW] |
           m->leaks_not;
}

static bool read_special(struct x86_cpu *c, u32 index, u64 *value)
{
    switch (index) {
    case MSR_TSC:
        *value = x86_tsc(c);
        return true;
    case MSR_TSC_ADJUST:
        *value = c->tsc_adjust;
        return x86_has(c->model, FEAT_TSC_ADJUST);
    case MSR_EFER:
        *value = c->efer;
        return true;
    case MSR_ARCH_CAPABILITIES:
        *value = arch_capabilities(c->model);
        return x86_has(c->model, FEAT_ARCH_CAPABILITIES);
    case MSR_PRED_CMD:
        return false; /* write only */
    case MSR_FS_BASE:
        *value = c->seg[SEG_FS].base;
        return true;
    case MSR_GS_BASE:
        *value = c->seg[SEG_GS].base;
        return true;
    default:
        *value = is_bank(index) ? read_bank(c, index) : 0;
        return is_bank(index);
    }
}

static bool is_special(u32 index)
{
    return index == MSR_TSC || index == MSR_TSC_ADJUST || index == MSR_EFER ||
           index == MSR_FS_BASE || index == MSR_GS_BASE || index == MSR_ARCH_CAPABILITIES ||
           index == MSR_PRED_CMD || is_bank(index);
}

static bool write_special(struct x86_cpu *c, u32 index, u64 value)
{
    switch (index) {
    case MSR_TSC:
        set_tsc(c, value - c->ops->tsc(c));
        return true;
    case MSR_TSC_ADJUST:
        if (!x86_has(c->model, FEAT_TSC_ADJUST))
            return false;
        set_tsc(c, c->tsc_offset + (value - c->tsc_adjust));
        return true;
    case MSR_EFER:
        return x86_write_efer(c, value);
    case MSR_ARCH_CAPABILITIES:
        return false;
    case MSR_PRED_CMD: /* nothing to do: no prediction is the guest's own */
        return x86_has(c->model, FEAT_SPEC_CTRL) && !(value & ~PRED_CMD_IBPB);
    case MSR_FS_BASE:
        return set_base(c, SEG_FS, value);
    case MSR_GS_BASE:
        return set_base(c, SEG_GS, value);
    default:
        return write_bank(c, index, value);
    }
}

/* -- RDMSR and WRMSR ----------------------------------------------------------------------- */

/* The local APIC's, which interrupts make the most frequent ones: no look into the tables. */
static bool is_apic(u32 index)
{
    return (index >> 8) == MSR_X2APIC >> 8 || index == MSR_TSC_DEADLINE;
}

/* There is no deadline register without the feature, and bit 10 of MSR_APIC_BASE is reserved
 * without x2APIC (SDM vol. 3, 10.5.4.1 and 10.12.1). */
static bool apic_offers(const struct x86_cpu *c, u32 index, u64 value)
{
    if (index == MSR_TSC_DEADLINE)
        return x86_has(c->model, FEAT_TSC_DEADLINE);
    return index != MSR_APIC_BASE || !(value & BIT(10)) || x86_has(c->model, FEAT_X2APIC);
}

static bool rdmsr(struct x86_cpu *c, u32 index, u64 *value)
{
    if (is_apic(index))
        return apic_offers(c, index, 0) && c->ops->rdmsr(c, index, value);
    if (is_special(index))
        return read_special(c, index, value);
    const struct msr_field *f = find_field(c, index);
    const struct msr_constant *k = f ? NULL : find_constant(c, index);
    if (f)
        *value = *field_of(c, f, index);
    else if (k)
        *value = k->value;
    else
        return c->ops->rdmsr(c, index, value);
    return true;
}

static bool wrmsr(struct x86_cpu *c, u32 index, u64 value)
{
    if (is_apic(index))
        return apic_offers(c, index, value) && c->ops->wrmsr(c, index, value);
    if (is_special(index))
        return write_special(c, index, value);
    const struct msr_field *f = find_field(c, index);
    const struct msr_constant *k = f ? NULL : find_constant(c, index);
    if (k)
        return !k->read_only;
    if (!f)
        return apic_offers(c, index, value) && c->ops->wrmsr(c, index, value);
    if (!f->good(c, index, value))
        return false;
    *field_of(c, f, index) = value;
    return true;
}

bool x86_rdmsr(struct x86_cpu *c, u32 index, u64 *value)
{
    bool known = rdmsr(c, index, value);
    if (!known && c->log)
        log_to(c->log, LOG_GUEST_ERRORS, "rdmsr %x: #GP", index);
    return known;
}

bool x86_wrmsr(struct x86_cpu *c, u32 index, u64 value)
{
    bool known = wrmsr(c, index, value);
    if (!known && c->log)
        log_to(c->log, LOG_GUEST_ERRORS, "wrmsr %x := %llx: #GP", index,
               (unsigned long long)value);
    return known;
}
