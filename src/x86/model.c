/*
 * Processor models by the user's words: which features a guest sees. A feature is offered only
 * if x86/ executes it and the host has it too, so that every engine can honour the model.
 */
#include "x86/model.h"

#include <string.h>

#include "x86/regs.h"

/* -- Feature names ------------------------------------------------------------------------- */

/* Where a feature comes from, and from which level on it belongs to x86-64-vN. */
enum level { V1 = 1, V2, V3, BEYOND, SYSTEM };

static const struct feature_row {
    const char *names; /* as Linux and QEMU spell them, separated by blanks */
    u16 feature;
    u8 level;
    bool emulated; /* ours on any host */
    u16 needs;     /* hidden with that one; FEAT_ALWAYS: nothing */
} feature_rows[] = {
    {"fpu", FEAT_FPU, V1, false, FEAT_ALWAYS},
    {"vme", FEAT_VME, SYSTEM, true, FEAT_ALWAYS},
    {"de", FEAT_DE, SYSTEM, true, FEAT_ALWAYS},
    {"pse", FEAT_PSE, SYSTEM, true, FEAT_ALWAYS},
    {"tsc", FEAT_TSC, SYSTEM, true, FEAT_ALWAYS},
    {"msr", FEAT_MSR, SYSTEM, true, FEAT_ALWAYS},
    {"pae", FEAT_PAE, SYSTEM, true, FEAT_ALWAYS},
    {"mce", FEAT_MCE, SYSTEM, true, FEAT_ALWAYS},
    {"cx8", FEAT_CX8, V1, false, FEAT_ALWAYS},
    {"apic", FEAT_APIC, SYSTEM, true, FEAT_ALWAYS},
    {"sep", FEAT_SEP, SYSTEM, true, FEAT_ALWAYS},
    {"mtrr", FEAT_MTRR, SYSTEM, true, FEAT_ALWAYS},
    {"pge", FEAT_PGE, SYSTEM, true, FEAT_ALWAYS},
    {"mca", FEAT_MCA, SYSTEM, true, FEAT_MCE},
    {"cmov", FEAT_CMOV, V1, false, FEAT_ALWAYS},
    {"pat", FEAT_PAT, SYSTEM, true, FEAT_ALWAYS},
    {"pse36", FEAT_PSE36, SYSTEM, true, FEAT_PSE},
    {"clflush clfsh", FEAT_CLFLUSH, V1, false, FEAT_ALWAYS},
    {"mmx", FEAT_MMX, V1, false, FEAT_FPU},
    {"fxsr", FEAT_FXSR, V1, false, FEAT_FPU},
    {"sse", FEAT_SSE, V1, false, FEAT_FXSR},
    {"sse2", FEAT_SSE2, V1, false, FEAT_SSE},
    {"pni sse3", FEAT_SSE3, V2, false, FEAT_SSE2},
    {"pclmulqdq pclmul", FEAT_PCLMULQDQ, BEYOND, false, FEAT_SSE2},
    {"ssse3", FEAT_SSSE3, V2, false, FEAT_SSE3},
    {"fma", FEAT_FMA, V3, false, FEAT_AVX},
    {"cx16", FEAT_CX16, V2, false, FEAT_CX8},
    {"pcid", FEAT_PCID, SYSTEM, true, FEAT_ALWAYS},
    {"sse4_1 sse4.1", FEAT_SSE4_1, V2, false, FEAT_SSSE3},
    {"sse4_2 sse4.2", FEAT_SSE4_2, V2, false, FEAT_SSE4_1},
    {"x2apic", FEAT_X2APIC, SYSTEM, true, FEAT_APIC},
    {"movbe", FEAT_MOVBE, V3, false, FEAT_ALWAYS},
    {"popcnt", FEAT_POPCNT, V2, false, FEAT_ALWAYS},
    {"tsc_deadline_timer tsc_deadline", FEAT_TSC_DEADLINE, SYSTEM, true, FEAT_APIC},
    {"aes", FEAT_AES, BEYOND, false, FEAT_SSE2},
    {"xsave", FEAT_XSAVE, V3, false, FEAT_FXSR},
    {"avx", FEAT_AVX, V3, false, FEAT_XSAVE},
    {"f16c", FEAT_F16C, V3, false, FEAT_AVX},
    {"rdrand", FEAT_RDRAND, BEYOND, false, FEAT_ALWAYS},
    {"hypervisor", FEAT_HYPERVISOR, SYSTEM, true, FEAT_ALWAYS},
    {"fsgsbase", FEAT_FSGSBASE, SYSTEM, false, FEAT_LM},
    {"tsc_adjust", FEAT_TSC_ADJUST, SYSTEM, true, FEAT_TSC},
    {"bmi1", FEAT_BMI1, V3, false, FEAT_ALWAYS},
    {"avx2", FEAT_AVX2, V3, false, FEAT_AVX},
    {"smep", FEAT_SMEP, SYSTEM, true, FEAT_ALWAYS},
    {"bmi2", FEAT_BMI2, V3, false, FEAT_ALWAYS},
    {"erms", FEAT_ERMS, BEYOND, false, FEAT_ALWAYS},
    {"invpcid", FEAT_INVPCID, SYSTEM, true, FEAT_PCID},
    {"rdseed", FEAT_RDSEED, BEYOND, false, FEAT_ALWAYS},
    {"adx", FEAT_ADX, BEYOND, false, FEAT_ALWAYS},
    {"smap", FEAT_SMAP, SYSTEM, true, FEAT_ALWAYS},
    {"clflushopt", FEAT_CLFLUSHOPT, BEYOND, false, FEAT_CLFLUSH},
    {"clwb", FEAT_CLWB, BEYOND, false, FEAT_CLFLUSH},
    {"sha_ni", FEAT_SHA, BEYOND, false, FEAT_SSE2},
    {"umip", FEAT_UMIP, SYSTEM, true, FEAT_ALWAYS},
    {"gfni", FEAT_GFNI, BEYOND, false, FEAT_SSE2},
    {"vaes", FEAT_VAES, BEYOND, false, FEAT_AVX},
    {"vpclmulqdq", FEAT_VPCLMULQDQ, BEYOND, false, FEAT_AVX},
    {"rdpid", FEAT_RDPID, SYSTEM, false, FEAT_ALWAYS},
    {"fsrm", FEAT_FSRM, BEYOND, false, FEAT_ERMS},
    {"xsaveopt", FEAT_XSAVEOPT, V3, false, FEAT_XSAVE},
    {"xsavec", FEAT_XSAVEC, V3, false, FEAT_XSAVE},
    {"xgetbv1", FEAT_XGETBV1, V3, false, FEAT_XSAVE},
    {"xsaves", FEAT_XSAVES, V3, false, FEAT_XSAVEC},
    {"syscall", FEAT_SYSCALL, SYSTEM, true, FEAT_ALWAYS},
    {"nx xd", FEAT_NX, SYSTEM, true, FEAT_PAE},
    {"mmxext", FEATURE(CPUID_80000001_EDX, 22), V1, false, FEAT_MMX},
    {"fxsr_opt ffxsr", FEAT_FFXSR, SYSTEM, false, FEAT_FXSR},
    {"pdpe1gb", FEAT_PDPE1GB, SYSTEM, true, FEAT_LM},
    {"rdtscp", FEAT_RDTSCP, SYSTEM, false, FEAT_TSC},
    {"lm", FEAT_LM, V1, false, FEAT_PAE},
    {"lahf_lm", FEAT_LAHF_LM, V2, false, FEAT_ALWAYS},
    {"abm lzcnt", FEAT_ABM, V3, false, FEAT_ALWAYS},
    {"sse4a", FEAT_SSE4A, BEYOND, false, FEAT_SSE3},
    {"misalignsse", FEAT_MISALIGNSSE, BEYOND, false, FEAT_SSE},
    {"3dnowprefetch", FEAT_PREFETCHW, V1, false, FEAT_ALWAYS},
    {"invtsc constant_tsc nonstop_tsc", FEAT_INVARIANT_TSC, SYSTEM, true, FEAT_TSC},
    {"wbnoinvd", FEAT_WBNOINVD, SYSTEM, true, FEAT_ALWAYS},
    /* The guest's kernel executes no RET of the host's, whose prediction could be poisoned: its
     * returns are interpreted, or translated to jumps. Without the bit Linux sends each return
     * of its own through two more calls (AMD, "Technical update regarding SRSO"). */
    {"srso_no", FEAT_SRSO_NO, SYSTEM, true, FEAT_ALWAYS},
    {"tsa_sq_no", FEAT_TSA_SQ_NO, SYSTEM, false, FEAT_ALWAYS},
    {"tsa_l1_no", FEAT_TSA_L1_NO, SYSTEM, false, FEAT_ALWAYS},
    {"kvm", FEAT_KVM, SYSTEM, true, FEAT_HYPERVISOR},
    {"kvm_nopiodelay", FEAT_KVM_NOP_IO_DELAY, SYSTEM, true, FEAT_KVM},
    {"kvmclock", FEAT_KVM_CLOCK, SYSTEM, true, FEAT_KVM},
    {"kvmclock_stable_bit", FEAT_KVM_CLOCK_STABLE, SYSTEM, true, FEAT_KVM_CLOCK},
    {"kvm_steal_time", FEAT_KVM_STEAL_TIME, SYSTEM, true, FEAT_KVM},
    {"kvm_pv_eoi", FEAT_KVM_PV_EOI, SYSTEM, true, FEAT_KVM},
    {"kvm_pv_unhalt", FEAT_KVM_PV_UNHALT, SYSTEM, true, FEAT_KVM},
    {"kvm_pv_tlb_flush", FEAT_KVM_PV_TLB_FLUSH, SYSTEM, true, FEAT_KVM_STEAL_TIME},
    {"kvm_pv_ipi", FEAT_KVM_PV_IPI, SYSTEM, true, FEAT_KVM},
};

#define N_FEATURES ARRAY_LEN(feature_rows)

/* '-', '_' and '.' are one: both spellings are in use. */
static bool same_char(char a, char b)
{
    bool a_joins = a == '-' || a == '_' || a == '.', b_joins = b == '-' || b == '_' || b == '.';
    return a == b || (a_joins && b_joins);
}

static bool same_word(const char *a, size_t a_len, const char *b, size_t b_len)
{
    for (size_t n = 0; n < a_len; n++)
        if (a_len != b_len || !same_char(a[n], b[n]))
            return false;
    return a_len == b_len;
}

static bool is_named(const struct feature_row *row, const char *word, size_t len)
{
    const char *name = row->names;
    while (*name) {
        size_t n = strcspn(name, " ");
        if (same_word(name, n, word, len))
            return true;
        name += n + (name[n] == ' ');
    }
    return false;
}

static const struct feature_row *find_feature(const char *word, size_t len)
{
    for (unsigned n = 0; n < N_FEATURES; n++)
        if (is_named(&feature_rows[n], word, len))
            return &feature_rows[n];
    return NULL;
}

/* -- The host ------------------------------------------------------------------------------ */

static bool host_runs_avx(void)
{
    u32 out[4], low, high;
    x86_host_cpuid(1, 0, out);
    if (!(out[2] >> 27 & 1)) /* OSXSAVE */
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX);
}

static void host_features(u32 words[FEATURE_WORDS])
{
    static const struct {
        u32 leaf, subleaf;
        u8 reg; /* EAX..EDX */
    } sources[FEATURE_WORDS] = {
        [CPUID_1_EDX] = {1, 0, 3},
        [CPUID_1_ECX] = {1, 0, 2},
        [CPUID_7_EBX] = {7, 0, 1},
        [CPUID_7_ECX] = {7, 0, 2},
        [CPUID_7_EDX] = {7, 0, 3},
        [CPUID_D1_EAX] = {0xd, 1, 0},
        [CPUID_80000001_EDX] = {0x80000001, 0, 3},
        [CPUID_80000001_ECX] = {0x80000001, 0, 2},
        [CPUID_80000007_EDX] = {0x80000007, 0, 3},
        [CPUID_80000008_EBX] = {0x80000008, 0, 1},
        [CPUID_80000021_EAX] = {0x80000021, 0, 0},
        [CPUID_80000021_ECX] = {0x80000021, 0, 2},
        [CPUID_40000001_EAX] = {0x40000001, 0, 0}, /* all of it is ours, whatever it says */
    };
    for (unsigned n = 0; n < FEATURE_WORDS; n++) {
        u32 out[4];
        x86_host_cpuid(sources[n].leaf, sources[n].subleaf, out);
        words[n] = out[sources[n].reg];
    }
    if (!host_runs_avx())
        words[CPUID_1_ECX] &= ~(1u << (FEAT_AVX & 31));
}

static bool in_words(const u32 words[FEATURE_WORDS], u16 feature)
{
    return words[feature >> 5] >> (feature & 31) & 1;
}

/* -- Building the set ---------------------------------------------------------------------- */

static void set_feature(struct x86_model *m, u16 feature, bool on)
{
    u32 bit = 1u << (feature & 31);
    if (on)
        m->features[feature >> 5] |= bit;
    else
        m->features[feature >> 5] &= ~bit;
}

static bool is_offered(const struct feature_row *row, const u32 host[FEATURE_WORDS])
{
    return row->emulated || in_words(host, row->feature);
}

/* The base model: all that is offered, or what belongs to a level. */
static bool apply_base(struct x86_model *m, const char *word, size_t len,
                       const u32 host[FEATURE_WORDS], struct error *err)
{
    static const struct {
        const char *name;
        u8 level; /* 0: everything */
    } bases[] = {{"host", 0}, {"max", 0}, {"x86-64-v2", V2}, {"x86-64-v3", V3}};
    unsigned b = 0;
    while (b < ARRAY_LEN(bases) && !same_word(bases[b].name, strlen(bases[b].name), word, len))
        b++;
    if (b == ARRAY_LEN(bases))
        return error_set(err,
                         "-cpu %.*s: no such model; there are host, max, x86-64-v2 and "
                         "x86-64-v3",
                         (int)len, word);
    memcpy(m->name, bases[b].name, strlen(bases[b].name) + 1);
    for (unsigned n = 0; n < N_FEATURES; n++) {
        const struct feature_row *row = &feature_rows[n];
        bool wanted = !bases[b].level || row->level <= bases[b].level || row->level == SYSTEM;
        bool required = bases[b].level && row->level >= V2 && row->level <= bases[b].level &&
                        row->feature >> 5 != CPUID_D1_EAX;
        if (required && !is_offered(row, host))
            return error_set(err, "-cpu %s: this host lacks %s", m->name, row->names);
        set_feature(m, row->feature, wanted && is_offered(row, host));
    }
    return true;
}

/* A word of the list after the base: +name, -name, or name=on, name=off as QEMU has it. */
static bool apply_word(struct x86_model *m, const char *word, size_t len,
                       const u32 host[FEATURE_WORDS], struct error *err)
{
    const char *name = word;
    size_t n = len;
    bool on = true;
    if (n && (*name == '+' || *name == '-')) {
        on = *name == '+';
        name++;
        n--;
    } else if (n > 3 && !memcmp(name + n - 3, "=on", 3)) {
        n -= 3;
    } else if (n > 4 && !memcmp(name + n - 4, "=off", 4)) {
        on = false;
        n -= 4;
    } else {
        return error_set(err, "-cpu: '%.*s' is neither +feature nor -feature", (int)len, word);
    }
    const struct feature_row *row = find_feature(name, n);
    if (!row)
        return error_set(err, "-cpu: unknown feature '%.*s'", (int)n, name);
    if (on && !is_offered(row, host))
        return error_set(err, "-cpu: this host lacks '%.*s'", (int)n, name);
    set_feature(m, row->feature, on);
    return true;
}

/* What rests on a hidden feature is hidden too. The rows are not in an order that lets one pass
 * do. */
static void hide_dependents(struct x86_model *m)
{
    bool again = true;
    while (again) {
        again = false;
        for (unsigned n = 0; n < N_FEATURES; n++) {
            const struct feature_row *row = &feature_rows[n];
            if (!x86_has(m, row->feature) || x86_has(m, row->needs))
                continue;
            set_feature(m, row->feature, false);
            again = true;
        }
    }
}

static bool host_is_amd(void)
{
    u32 out[4];
    x86_host_cpuid(0, 0, out);
    return out[2] == 0x444d4163 || out[2] == 0x656e6975; /* "cAMD", Hygon's "uine" */
}

/* More than there can be RAM for does harm: OVMF makes page tables for the whole address space,
 * with 48 bits half a GiB of them. QEMU's processors have 40 bits, too. */
#define MAX_PHYS_BITS 40

static unsigned phys_bits(void)
{
    u32 out[4];
    x86_host_cpuid(0x80000008, 0, out);
    unsigned bits = out[0] ? out[0] & 0xff : 36;
    return bits < MAX_PHYS_BITS ? bits : MAX_PHYS_BITS;
}

bool x86_model_init(struct x86_model *model, const char *words, unsigned vcpus, u64 tsc_hz,
                    struct error *err)
{
    u32 host[FEATURE_WORDS];
    host_features(host);
    memset(model, 0, sizeof(*model));
    words = words ? words : "host";
    size_t len = strcspn(words, ",");
    if (!apply_base(model, words, len, host, err))
        return false;
    while (words[len]) {
        words += len + 1;
        len = strcspn(words, ",");
        if (!apply_word(model, words, len, host, err))
            return false;
    }
    hide_dependents(model);
    model->amd = host_is_amd();
    model->phys_bits = phys_bits();
    model->tsc_hz = tsc_hz;
    model->xcr0_mask = XCR0_X87 | XCR0_SSE | (x86_has(model, FEAT_AVX) ? XCR0_AVX : 0);
    x86_model_leaves(model, vcpus);
    return true;
}
