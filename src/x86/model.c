/*
 * Processor models by the user's words: which features a guest sees. A feature is offered only
 * if x86/ executes it and the host has it too, so that every engine can honour the model.
 */
#include "x86/model.h"

#include <stdio.h>
#include <string.h>

#include "x86/regs.h"

/* -- Feature names ------------------------------------------------------------------------- */

/* Where a feature comes from, and from which level on it belongs to x86-64-vN. RECENT ones are
 * for the system, too, and came with the processors of level 2 and later. */
enum level { V1 = 1, V2, V3, BEYOND, SYSTEM, RECENT };

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
    {"pcid", FEAT_PCID, RECENT, true, FEAT_ALWAYS},
    {"sse4_1 sse4.1", FEAT_SSE4_1, V2, false, FEAT_SSSE3},
    {"sse4_2 sse4.2", FEAT_SSE4_2, V2, false, FEAT_SSE4_1},
    {"x2apic", FEAT_X2APIC, RECENT, true, FEAT_APIC},
    {"movbe", FEAT_MOVBE, V3, false, FEAT_ALWAYS},
    {"popcnt", FEAT_POPCNT, V2, false, FEAT_ALWAYS},
    {"tsc_deadline_timer tsc_deadline", FEAT_TSC_DEADLINE, RECENT, true, FEAT_APIC},
    {"aes", FEAT_AES, BEYOND, false, FEAT_SSE2},
    {"xsave", FEAT_XSAVE, V3, false, FEAT_FXSR},
    {"avx", FEAT_AVX, V3, false, FEAT_XSAVE},
    {"f16c", FEAT_F16C, V3, false, FEAT_AVX},
    {"rdrand", FEAT_RDRAND, BEYOND, false, FEAT_ALWAYS},
    {"hypervisor", FEAT_HYPERVISOR, SYSTEM, true, FEAT_ALWAYS},
    {"fsgsbase", FEAT_FSGSBASE, RECENT, false, FEAT_LM},
    {"tsc_adjust", FEAT_TSC_ADJUST, RECENT, true, FEAT_TSC},
    {"bmi1", FEAT_BMI1, V3, false, FEAT_ALWAYS},
    {"avx2", FEAT_AVX2, V3, false, FEAT_AVX},
    {"smep", FEAT_SMEP, RECENT, true, FEAT_ALWAYS},
    {"bmi2", FEAT_BMI2, V3, false, FEAT_ALWAYS},
    {"erms", FEAT_ERMS, BEYOND, false, FEAT_ALWAYS},
    {"invpcid", FEAT_INVPCID, RECENT, true, FEAT_PCID},
    {"rdseed", FEAT_RDSEED, BEYOND, false, FEAT_ALWAYS},
    {"adx", FEAT_ADX, BEYOND, false, FEAT_ALWAYS},
    {"smap", FEAT_SMAP, RECENT, true, FEAT_ALWAYS},
    {"clflushopt", FEAT_CLFLUSHOPT, BEYOND, false, FEAT_CLFLUSH},
    {"clwb", FEAT_CLWB, BEYOND, false, FEAT_CLFLUSH},
    {"sha_ni", FEAT_SHA, BEYOND, false, FEAT_SSE2},
    {"umip", FEAT_UMIP, RECENT, true, FEAT_ALWAYS},
    {"gfni", FEAT_GFNI, BEYOND, false, FEAT_SSE2},
    {"vaes", FEAT_VAES, BEYOND, false, FEAT_AVX},
    {"vpclmulqdq", FEAT_VPCLMULQDQ, BEYOND, false, FEAT_AVX},
    {"rdpid", FEAT_RDPID, RECENT, false, FEAT_ALWAYS},
    {"fsrm", FEAT_FSRM, BEYOND, false, FEAT_ERMS},
    {"xsaveopt", FEAT_XSAVEOPT, V3, false, FEAT_XSAVE},
    {"xsavec", FEAT_XSAVEC, V3, false, FEAT_XSAVE},
    {"xgetbv1", FEAT_XGETBV1, V3, false, FEAT_XSAVE},
    {"xsaves", FEAT_XSAVES, V3, false, FEAT_XSAVEC},
    {"syscall", FEAT_SYSCALL, SYSTEM, true, FEAT_ALWAYS},
    {"nx xd", FEAT_NX, SYSTEM, true, FEAT_PAE},
    {"mmxext", FEATURE(CPUID_80000001_EDX, 22), V1, false, FEAT_MMX},
    {"fxsr_opt ffxsr", FEAT_FFXSR, SYSTEM, false, FEAT_FXSR},
    {"pdpe1gb", FEAT_PDPE1GB, RECENT, true, FEAT_LM},
    {"rdtscp", FEAT_RDTSCP, RECENT, false, FEAT_TSC},
    {"lm", FEAT_LM, V1, false, FEAT_PAE},
    {"lahf_lm", FEAT_LAHF_LM, V2, false, FEAT_ALWAYS},
    {"abm lzcnt", FEAT_ABM, V3, false, FEAT_ALWAYS},
    {"sse4a", FEAT_SSE4A, BEYOND, false, FEAT_SSE3},
    {"misalignsse", FEAT_MISALIGNSSE, BEYOND, false, FEAT_SSE},
    {"3dnowprefetch", FEAT_PREFETCHW, V1, false, FEAT_ALWAYS},
    {"invtsc constant_tsc nonstop_tsc", FEAT_INVARIANT_TSC, SYSTEM, true, FEAT_TSC},
    {"wbnoinvd", FEAT_WBNOINVD, RECENT, true, FEAT_ALWAYS},
    /* A guest's kernel executes no indirect jump, call or RET of its own on the processor: they
     * are interpreted, or translated to jumps behind a look-up. Its mitigations are translated
     * the same way and would protect nothing (SECURITY.md). With these bits Linux leaves out
     * retpolines, aligned thunks and a detour for each return. */
    {"spec_ctrl", FEAT_SPEC_CTRL, RECENT, true, FEAT_ALWAYS},
    {"arch_capabilities", FEAT_ARCH_CAPABILITIES, RECENT, true, FEAT_SPEC_CTRL},
    /* User code never runs while pages of the kernel are mapped for it: no page tables of their
     * own for the two. */
    {"rdctl_no", FEAT_RDCL_NO, RECENT, true, FEAT_ARCH_CAPABILITIES},
    {"ibrs_all", FEAT_IBRS_ALL, RECENT, true, FEAT_ARCH_CAPABILITIES},
    {"skip_l1dfl_vmentry", FEAT_SKIP_L1DFL_VMENTRY, RECENT, true, FEAT_ARCH_CAPABILITIES},
    {"bhi_no", FEAT_BHI_NO, RECENT, true, FEAT_ARCH_CAPABILITIES},
    {"pbrsb_no", FEAT_PBRSB_NO, RECENT, true, FEAT_ARCH_CAPABILITIES},
    {"its_no", FEAT_ITS_NO, RECENT, true, FEAT_ARCH_CAPABILITIES},
    {"bhi_ctrl", FEAT_BHI_CTRL, RECENT, true, FEAT_SPEC_CTRL},
    {"autoibrs auto_ibrs", FEAT_AUTOIBRS, RECENT, true, FEAT_ALWAYS},
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
    } sources[CPUID_40000001_EAX] = {
        [CPUID_1_EDX] = {1, 0, 3},
        [CPUID_1_ECX] = {1, 0, 2},
        [CPUID_7_EBX] = {7, 0, 1},
        [CPUID_7_ECX] = {7, 0, 2},
        [CPUID_7_EDX] = {7, 0, 3},
        [CPUID_7_2_EDX] = {7, 2, 3},
        [CPUID_D1_EAX] = {0xd, 1, 0},
        [CPUID_80000001_EDX] = {0x80000001, 0, 3},
        [CPUID_80000001_ECX] = {0x80000001, 0, 2},
        [CPUID_80000007_EDX] = {0x80000007, 0, 3},
        [CPUID_80000008_EBX] = {0x80000008, 0, 1},
        [CPUID_80000021_EAX] = {0x80000021, 0, 0},
        [CPUID_80000021_ECX] = {0x80000021, 0, 2},
    };
    /* The words behind are ours, on any host. */
    for (unsigned n = 0; n < CPUID_40000001_EAX; n++) {
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

/* More than there can be RAM for does harm: OVMF makes page tables for the whole address space,
 * with 48 bits half a GiB of them. QEMU's processors have 40 bits, too. */
#define MAX_PHYS_BITS 40

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

/* What -cpu has been told besides the features themselves. */
struct words {
    u32 host[FEATURE_WORDS];
    bool enforce; /* what cannot be had is an error */
    unsigned phys_bits;
    int amd; /* -1: the host's vendor */
};

/* Notes a feature that was asked for and cannot be had, as QEMU does: the guest looks at CPUID
 * anyway. */
static void leave_out(struct x86_model *m, const char *name, size_t len)
{
    size_t used = strlen(m->left_out);
    if (used + len + 2 > sizeof(m->left_out))
        return;
    snprintf(m->left_out + used, sizeof(m->left_out) - used, "%s%.*s", used ? " " : "",
             (int)len, name);
}

#define NO_64     "-lm -syscall -nx"
#define BEFORE_P6 NO_64 " -fxsr -cmov -clflush -sep -mtrr -pge -mca -pat -pse36 -pae"

/*
 * Models of certain processors, by QEMU's names: a level and what they have beyond it. The
 * vendor is the host's as under KVM, since it decides what instructions do. All have MSRs:
 * SeaBIOS uses them unasked.
 */
static const struct base {
    const char *name;
    u8 level; /* 0: everything */
    bool strict;
    const char *more; /* or, with a '-', less */
} bases[] = {
    {"host", 0, false, ""},
    {"max", 0, false, ""},
    {"x86-64-v2", V2, true, ""},
    {"x86-64-v3", V3, true, ""},
    {"486", V1, false, BEFORE_P6 " -mmx -apic -cx8 -tsc -mce -de"},
    {"pentium", V1, false, BEFORE_P6},
    {"pentium2", V1, false, NO_64 " -sse -clflush"},
    {"pentium3", V1, false, NO_64 " -sse2 -clflush"},
    {"athlon", V1, false, NO_64 " -sse2"},
    {"qemu32", V1, false, NO_64 " pni"},
    {"kvm32", V1, false, NO_64},
    {"coreduo", V1, false, NO_64 " pni"},
    {"n270", V1, false, NO_64 " pni ssse3 movbe"},
    {"core2duo", V1, false, "pni ssse3 cx16 lahf_lm"},
    {"phenom", V1, false, "pni cx16 lahf_lm rdtscp popcnt abm sse4a misalignsse"},
    {"qemu64", V1, false, "pni cx16"},
    {"kvm64", V1, false, "pni cx16"},
    {"Opteron_G1", V1, false, "pni"},
    {"Opteron_G2", V1, false, "pni cx16 lahf_lm rdtscp"},
    {"Opteron_G3", V1, false, "pni cx16 lahf_lm rdtscp popcnt abm sse4a misalignsse"},
    {"Opteron_G4", V2, false, "aes pclmulqdq xsave avx abm sse4a misalignsse"},
    {"Opteron_G5", V2, false, "aes pclmulqdq xsave avx f16c fma abm bmi1 sse4a misalignsse"},
    {"Conroe", V1, false, "pni ssse3 lahf_lm"},
    {"Penryn", V1, false, "pni ssse3 cx16 sse4_1 lahf_lm"},
    {"Nehalem", V2, false, ""},
    {"Westmere", V2, false, "aes pclmulqdq"},
    {"SandyBridge", V2, false, "aes pclmulqdq xsave xsaveopt avx"},
    {"IvyBridge", V2, false, "aes pclmulqdq xsave xsaveopt avx f16c rdrand erms"},
    {"Haswell", V3, false, "aes pclmulqdq rdrand erms"},
    {"Broadwell", V3, false, "aes pclmulqdq rdrand erms rdseed adx"},
    {"Skylake", V3, false, "aes pclmulqdq rdrand erms rdseed adx clflushopt"},
    {"Cascadelake", V3, false, "aes pclmulqdq rdrand erms rdseed adx clflushopt clwb"},
    {"Cooperlake", V3, false, "aes pclmulqdq rdrand erms rdseed adx clflushopt clwb"},
    {"KnightsMill", V3, false, "aes pclmulqdq rdrand erms rdseed adx"},
    {"Denverton", V2, false, "aes pclmulqdq rdrand erms rdseed clflushopt sha_ni xsave"},
    {"Snowridge", V2, false,
     "aes pclmulqdq rdrand erms rdseed clflushopt clwb sha_ni gfni xsave"},
    {"Icelake", 0, false, ""},
    {"SapphireRapids", 0, false, ""},
    {"GraniteRapids", 0, false, ""},
    {"SierraForest", 0, false, ""},
    {"Dhyana", 0, false, ""},
    {"EPYC", 0, false, ""},
};

/* A variant ("Haswell-noTSX", "EPYC-v4") counts as the model that it is a variant of. */
static const struct base *find_base(const char *word, size_t len)
{
    for (unsigned b = 0; b < ARRAY_LEN(bases); b++) {
        size_t n = strlen(bases[b].name);
        if (same_word(bases[b].name, n, word, len) ||
            (len > n && word[n] == '-' && same_word(bases[b].name, n, word, n)))
            return &bases[b];
    }
    return NULL;
}

void x86_model_list(void (*print)(const char *name))
{
    for (unsigned b = 0; b < ARRAY_LEN(bases); b++)
        print(bases[b].name);
}

/* What QEMU knows and nothing here executes; a final '*' stands for anything. */
static const char unoffered[] =
    "vmx vmx-* svm npt nrip-save svm-* vgif vnmi hv-* monitor pku pks ospke la57 rdpru "
    "clzero perfctr-core perfmon-v2 pmu pdcm hle rtm mpx sgx* avx512* avx-* amx-* cet-* "
    "shstk ibt lam lass fred waitpkg movdiri movdir64b cldemote enqcmd serialize "
    "tsx-ldtrk xfd xop fma4 tbm 3dnow 3dnowext ibs stibp ssbd amd-ssbd ibpb "
    "md-clear flush-l1d core-capability ibrs amd-stibp "
    "amd-no-ssb virt-ssbd stibp-always-on ibpb-brtype sbpb rsba rrsba-ctrl ipred-ctrl mcdt-no "
    "ddpd-u ssb-no mds-no taa-no pschange-mc-no tsx-ctrl sbdr-ssdp-no fbsdp-no psdp-no "
    "fb-clear gds-no rfds-no rfds-clear arat nodeid-msr null-sel-clr-base no-nested-data-bp "
    "lfence-always-serializing succor overflow-recov perfctr-nb tce fsrs fsrc fzrm prefetchi "
    "sha512 sm3 sm4 cmpccxadd pcommit full-width-write intel-pt-lip ace2* phe* pmm* "
    "xcrypt* xstore* lbrv tsc-scale vmcb-clean flushbyasid decodeassists pause-filter "
    "pfthreshold avic v-vmsave-vmload svme-addr-chk split-lock-detect "
    "bus-lock-detect arch-lbr intel-pt ss ht vmware-* kvm-asyncpf* kvm-mmu "
    "kvm-poll-control kvm-pv-sched-yield kvm-hint-dedicated kvm-msi-ext-dest-id xtpr "
    "dtes64 ds ds-cpl acpi tm tm2 est pbe smx cid dca pn ia64 cmp-legacy extapic "
    "cr8legacy osvw skinit wdt lwp topoext xsaveerptr x-*";

static bool is_unoffered(const char *word, size_t len)
{
    size_t n;
    for (const char *name = unoffered; *name; name += n + strspn(name + n, " ")) {
        n = strcspn(name, " ");
        bool open = name[n - 1] == '*';
        if (same_word(name, n, word, len) ||
            (open && len >= n - 1 && same_word(name, n - 1, word, n - 1)))
            return true;
    }
    return false;
}

static bool switch_feature(struct x86_model *m, const struct words *words, const char *name,
                           size_t len, bool on, struct error *err)
{
    const struct feature_row *row = find_feature(name, len);
    if (!row && !is_unoffered(name, len))
        return error_set(err, "-cpu: unknown feature '%.*s'", (int)len, name);
    bool offered = row && is_offered(row, words->host);
    if (on && !offered && words->enforce)
        return error_set(err, "-cpu: '%.*s' cannot be had here (enforce)", (int)len, name);
    if (on && !offered)
        leave_out(m, name, len);
    if (row)
        set_feature(m, row->feature, on && offered);
    return true;
}

/* The base model: all that is offered, or what belongs to a level. */
static bool apply_base(struct x86_model *m, const char *word, size_t len,
                       const struct words *words, struct error *err)
{
    const struct base *base = find_base(word, len);
    if (!base)
        return error_set(err, "-cpu %.*s: no such model; -cpu help lists them", (int)len, word);
    memcpy(m->name, base->name, strlen(base->name) + 1);
    for (unsigned n = 0; n < N_FEATURES; n++) {
        const struct feature_row *row = &feature_rows[n];
        bool offered = is_offered(row, words->host);
        bool wanted = !base->level || row->level <= base->level || row->level == SYSTEM ||
                      (row->level == RECENT && base->level > V1);
        bool required = base->strict && row->level >= V2 && row->level <= base->level &&
                        row->feature >> 5 != CPUID_D1_EAX;
        if (required && !offered)
            return error_set(err, "-cpu %s: this host lacks %s", m->name, row->names);
        set_feature(m, row->feature, wanted && offered);
    }
    for (const char *more = base->more; *more; more += strspn(more, " ")) {
        bool less = *more == '-';
        more += less;
        size_t n = strcspn(more, " ");
        const struct feature_row *row = find_feature(more, n);
        if (row && is_offered(row, words->host))
            set_feature(m, row->feature, !less);
        more += n;
    }
    return true;
}

static bool set_phys_bits(struct words *words, const char *value, size_t len, struct error *err)
{
    unsigned bits = 0;
    for (size_t n = 0; n < len && bits < 100; n++)
        bits =
            value[n] >= '0' && value[n] <= '9' ? 10 * bits + (unsigned)(value[n] - '0') : 100;
    if (bits < 32 || bits > MAX_PHYS_BITS)
        return error_set(err, "-cpu: phys-bits=%.*s is not from 32 to %d", (int)len, value,
                         MAX_PHYS_BITS);
    words->phys_bits = bits;
    return true;
}

static bool set_vendor(struct words *words, const char *value, size_t len, struct error *err)
{
    words->amd = same_word("AuthenticAMD", 12, value, len);
    return words->amd || same_word("GenuineIntel", 12, value, len) ||
           error_set(err, "-cpu: vendor=%.*s is neither GenuineIntel nor AuthenticAMD",
                     (int)len, value);
}

/* KEY=VALUE, QEMU's properties that are no features; *taken says whether it is one. */
static bool apply_property(struct words *words, const char *key, size_t n, const char *value,
                           size_t len, bool *taken, struct error *err)
{
    static const char *const as_it_is[] = {"host-phys-bits", "migratable",
                                           "check",          "host-cache-info",
                                           "l3-cache",       "kvm-no-smi-migration"};
    *taken = true;
    if (same_word("phys-bits", 9, key, n))
        return set_phys_bits(words, value, len, err);
    if (same_word("vendor", 6, key, n))
        return set_vendor(words, value, len, err);
    if (same_word("enforce", 7, key, n)) {
        words->enforce = !same_word("off", 3, value, len);
        return true;
    }
    for (unsigned i = 0; i < ARRAY_LEN(as_it_is); i++)
        if (same_word(as_it_is[i], strlen(as_it_is[i]), key, n))
            return true;
    *taken = false;
    return true;
}

/* A word of the list after the base: +name, -name, name, or name=on, name=off as QEMU has
 * it. */
static bool apply_word(struct x86_model *m, const char *word, size_t len, struct words *words,
                       struct error *err)
{
    if (len && (*word == '+' || *word == '-'))
        return switch_feature(m, words, word + 1, len - 1, *word == '+', err);
    const char *equals = memchr(word, '=', len);
    size_t n = equals ? (size_t)(equals - word) : len;
    const char *value = equals ? equals + 1 : "on";
    size_t value_len = equals ? len - n - 1 : 2;
    bool taken = false;
    if (!apply_property(words, word, n, value, value_len, &taken, err))
        return false;
    if (taken)
        return true;
    bool off = same_word("off", 3, value, value_len) || same_word("no", 2, value, value_len);
    if (!off && !same_word("on", 2, value, value_len) && !same_word("yes", 3, value, value_len))
        return error_set(err, "-cpu: '%.*s' is neither +feature nor -feature", (int)len, word);
    return switch_feature(m, words, word, n, !off, err);
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

/* Features that mean something in one vendor's leaves only. */
static void hide_foreign(struct x86_model *m)
{
    static const u16 intel[] = {FEAT_SPEC_CTRL, FEAT_ARCH_CAPABILITIES, FEAT_BHI_CTRL},
                     amd[] = {FEAT_AUTOIBRS};
    const u16 *foreign = m->amd ? intel : amd;
    unsigned count = m->amd ? ARRAY_LEN(intel) : ARRAY_LEN(amd);
    for (unsigned n = 0; n < count; n++)
        set_feature(m, foreign[n], false);
}

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
    struct words told = {.phys_bits = phys_bits(), .amd = -1};
    host_features(told.host);
    memset(model, 0, sizeof(*model));
    words = words ? words : "host";
    size_t len = strcspn(words, ",");
    if (!apply_base(model, words, len, &told, err))
        return false;
    while (words[len]) {
        words += len + 1;
        len = strcspn(words, ",");
        if (!apply_word(model, words, len, &told, err))
            return false;
    }
    model->amd = told.amd < 0 ? x86_host_is_amd() : told.amd;
    model->quirks = x86_host_quirks();
    hide_foreign(model);
    hide_dependents(model);
    model->phys_bits = told.phys_bits;
    model->tsc_hz = tsc_hz;
    model->xcr0_mask = XCR0_X87 | XCR0_SSE | (x86_has(model, FEAT_AVX) ? XCR0_AVX : 0);
    x86_model_leaves(model, vcpus);
    return true;
}
