/*
 * A processor model (`-cpu`): what CPUID answers, and with it which instructions exist. A model
 * is a consistent subset of the host's processor, so that every engine can honour it (design,
 * section 4). Made once for a machine, then const and shared by its vCPUs and engines.
 */
#pragma once

#include "base/error.h"
#include "base/types.h"
#include "x86/quirks.h"

struct x86_cpu;

/* A feature is (word << 5 | bit), where the word names a CPUID register, or half of
 * MSR_ARCH_CAPABILITIES. */
enum x86_feature_word {
    CPUID_1_EDX,
    CPUID_1_ECX,
    CPUID_7_EBX,
    CPUID_7_ECX,
    CPUID_7_EDX,
    CPUID_7_2_EDX,
    CPUID_D1_EAX,
    CPUID_80000001_EDX,
    CPUID_80000001_ECX,
    CPUID_80000007_EDX,
    CPUID_80000008_EBX,
    CPUID_80000021_EAX,
    CPUID_80000021_ECX,
    CPUID_40000001_EAX, /* KVM's, see FEAT_KVM */
    ARCH_CAPABILITIES_LOW,
    ARCH_CAPABILITIES_HIGH,
    FEATURE_WORDS,
};
#define FEATURE(word, bit) ((word) << 5 | (bit))

enum x86_feature {
    FEAT_ALWAYS = 0xffff, /* no CPUID bit: part of every x86-64 */
    FEAT_NEVER = 0xfffe,  /* what Doppel lacks: #UD with every model */
    FEAT_FPU = FEATURE(CPUID_1_EDX, 0),
    FEAT_VME = FEATURE(CPUID_1_EDX, 1),
    FEAT_DE = FEATURE(CPUID_1_EDX, 2),
    FEAT_PSE = FEATURE(CPUID_1_EDX, 3),
    FEAT_TSC = FEATURE(CPUID_1_EDX, 4),
    FEAT_MSR = FEATURE(CPUID_1_EDX, 5),
    FEAT_PAE = FEATURE(CPUID_1_EDX, 6),
    FEAT_MCE = FEATURE(CPUID_1_EDX, 7),
    FEAT_CX8 = FEATURE(CPUID_1_EDX, 8),
    FEAT_APIC = FEATURE(CPUID_1_EDX, 9),
    FEAT_SEP = FEATURE(CPUID_1_EDX, 11),
    FEAT_MTRR = FEATURE(CPUID_1_EDX, 12),
    FEAT_PGE = FEATURE(CPUID_1_EDX, 13),
    FEAT_MCA = FEATURE(CPUID_1_EDX, 14),
    FEAT_CMOV = FEATURE(CPUID_1_EDX, 15),
    FEAT_PAT = FEATURE(CPUID_1_EDX, 16),
    FEAT_PSE36 = FEATURE(CPUID_1_EDX, 17),
    FEAT_CLFLUSH = FEATURE(CPUID_1_EDX, 19),
    FEAT_MMX = FEATURE(CPUID_1_EDX, 23),
    FEAT_FXSR = FEATURE(CPUID_1_EDX, 24),
    FEAT_SSE = FEATURE(CPUID_1_EDX, 25),
    FEAT_SSE2 = FEATURE(CPUID_1_EDX, 26),
    FEAT_HTT = FEATURE(CPUID_1_EDX, 28),
    FEAT_SSE3 = FEATURE(CPUID_1_ECX, 0),
    FEAT_PCLMULQDQ = FEATURE(CPUID_1_ECX, 1),
    FEAT_MONITOR = FEATURE(CPUID_1_ECX, 3),
    FEAT_SSSE3 = FEATURE(CPUID_1_ECX, 9),
    FEAT_FMA = FEATURE(CPUID_1_ECX, 12),
    FEAT_CX16 = FEATURE(CPUID_1_ECX, 13),
    FEAT_PCID = FEATURE(CPUID_1_ECX, 17),
    FEAT_SSE4_1 = FEATURE(CPUID_1_ECX, 19),
    FEAT_SSE4_2 = FEATURE(CPUID_1_ECX, 20),
    FEAT_X2APIC = FEATURE(CPUID_1_ECX, 21),
    FEAT_MOVBE = FEATURE(CPUID_1_ECX, 22),
    FEAT_POPCNT = FEATURE(CPUID_1_ECX, 23),
    FEAT_TSC_DEADLINE = FEATURE(CPUID_1_ECX, 24),
    FEAT_AES = FEATURE(CPUID_1_ECX, 25),
    FEAT_XSAVE = FEATURE(CPUID_1_ECX, 26),
    FEAT_OSXSAVE = FEATURE(CPUID_1_ECX, 27),
    FEAT_AVX = FEATURE(CPUID_1_ECX, 28),
    FEAT_F16C = FEATURE(CPUID_1_ECX, 29),
    FEAT_RDRAND = FEATURE(CPUID_1_ECX, 30),
    FEAT_HYPERVISOR = FEATURE(CPUID_1_ECX, 31),
    FEAT_FSGSBASE = FEATURE(CPUID_7_EBX, 0),
    FEAT_TSC_ADJUST = FEATURE(CPUID_7_EBX, 1),
    FEAT_BMI1 = FEATURE(CPUID_7_EBX, 3),
    FEAT_AVX2 = FEATURE(CPUID_7_EBX, 5),
    FEAT_SMEP = FEATURE(CPUID_7_EBX, 7),
    FEAT_BMI2 = FEATURE(CPUID_7_EBX, 8),
    FEAT_ERMS = FEATURE(CPUID_7_EBX, 9),
    FEAT_INVPCID = FEATURE(CPUID_7_EBX, 10),
    FEAT_RDSEED = FEATURE(CPUID_7_EBX, 18),
    FEAT_ADX = FEATURE(CPUID_7_EBX, 19),
    FEAT_SMAP = FEATURE(CPUID_7_EBX, 20),
    FEAT_CLFLUSHOPT = FEATURE(CPUID_7_EBX, 23),
    FEAT_CLWB = FEATURE(CPUID_7_EBX, 24),
    FEAT_SHA = FEATURE(CPUID_7_EBX, 29),
    FEAT_UMIP = FEATURE(CPUID_7_ECX, 2),
    FEAT_GFNI = FEATURE(CPUID_7_ECX, 8),
    FEAT_VAES = FEATURE(CPUID_7_ECX, 9),
    FEAT_VPCLMULQDQ = FEATURE(CPUID_7_ECX, 10),
    FEAT_RDPID = FEATURE(CPUID_7_ECX, 22),
    FEAT_FSRM = FEATURE(CPUID_7_EDX, 4),
    FEAT_SPEC_CTRL = FEATURE(CPUID_7_EDX, 26), /* IBRS and IBPB */
    FEAT_ARCH_CAPABILITIES = FEATURE(CPUID_7_EDX, 29),
    FEAT_BHI_CTRL = FEATURE(CPUID_7_2_EDX, 4),
    FEAT_XSAVEOPT = FEATURE(CPUID_D1_EAX, 0),
    FEAT_XSAVEC = FEATURE(CPUID_D1_EAX, 1),
    FEAT_XGETBV1 = FEATURE(CPUID_D1_EAX, 2),
    FEAT_XSAVES = FEATURE(CPUID_D1_EAX, 3),
    FEAT_SYSCALL = FEATURE(CPUID_80000001_EDX, 11),
    FEAT_NX = FEATURE(CPUID_80000001_EDX, 20),
    FEAT_FFXSR = FEATURE(CPUID_80000001_EDX, 25),
    FEAT_PDPE1GB = FEATURE(CPUID_80000001_EDX, 26),
    FEAT_RDTSCP = FEATURE(CPUID_80000001_EDX, 27),
    FEAT_LM = FEATURE(CPUID_80000001_EDX, 29),
    FEAT_LAHF_LM = FEATURE(CPUID_80000001_ECX, 0),
    FEAT_SVM = FEATURE(CPUID_80000001_ECX, 2),
    FEAT_ABM = FEATURE(CPUID_80000001_ECX, 5), /* LZCNT */
    FEAT_SSE4A = FEATURE(CPUID_80000001_ECX, 6),
    FEAT_MISALIGNSSE = FEATURE(CPUID_80000001_ECX, 7),
    FEAT_PREFETCHW = FEATURE(CPUID_80000001_ECX, 8),
    FEAT_INVARIANT_TSC = FEATURE(CPUID_80000007_EDX, 8),
    FEAT_CLZERO = FEATURE(CPUID_80000008_EBX, 0),
    FEAT_WBNOINVD = FEATURE(CPUID_80000008_EBX, 9),
    FEAT_AUTOIBRS = FEATURE(CPUID_80000021_EAX, 8),
    FEAT_SRSO_NO = FEATURE(CPUID_80000021_EAX, 29),
    FEAT_TSA_SQ_NO = FEATURE(CPUID_80000021_ECX, 1),
    FEAT_TSA_L1_NO = FEATURE(CPUID_80000021_ECX, 2),
    /* KVM_FEATURE_* (Linux: Documentation/virt/kvm/x86/cpuid.rst). */
    FEAT_KVM_NOP_IO_DELAY = FEATURE(CPUID_40000001_EAX, 1),
    FEAT_KVM_CLOCK = FEATURE(CPUID_40000001_EAX, 3),
    FEAT_KVM_STEAL_TIME = FEATURE(CPUID_40000001_EAX, 5),
    FEAT_KVM_PV_EOI = FEATURE(CPUID_40000001_EAX, 6),
    FEAT_KVM_PV_UNHALT = FEATURE(CPUID_40000001_EAX, 7),
    FEAT_KVM_PV_TLB_FLUSH = FEATURE(CPUID_40000001_EAX, 9),
    FEAT_KVM_PV_IPI = FEATURE(CPUID_40000001_EAX, 11),
    FEAT_KVM_CLOCK_STABLE = FEATURE(CPUID_40000001_EAX, 24),
    FEAT_KVM = FEATURE(CPUID_40000001_EAX, 31),       /* ours: whether there are such leaves */
    FEAT_RDCL_NO = FEATURE(ARCH_CAPABILITIES_LOW, 0), /* Meltdown and L1TF */
    FEAT_IBRS_ALL =
        FEATURE(ARCH_CAPABILITIES_LOW, 1), /* no write of IBRS at each kernel entry */
    FEAT_SKIP_L1DFL_VMENTRY = FEATURE(ARCH_CAPABILITIES_LOW, 3),
    FEAT_BHI_NO = FEATURE(ARCH_CAPABILITIES_LOW, 20),
    FEAT_PBRSB_NO = FEATURE(ARCH_CAPABILITIES_LOW, 24),
    FEAT_ITS_NO = FEATURE(ARCH_CAPABILITIES_HIGH, 30),
};

struct x86_cpuid_leaf {
    u32 leaf, subleaf;
    bool subleaf_matters;
    u32 eax, ebx, ecx, edx;
};

#define X86_MAX_LEAVES 64

struct x86_model {
    char name[32];
    char left_out[256]; /* features asked for that cannot be had, separated by blanks */
    u32 features[FEATURE_WORDS];
    u64 xcr0_mask;      /* components the guest may enable */
    unsigned phys_bits; /* MAXPHYADDR */
    bool amd;           /* vendor: AMD or Hygon; else Intel */
    u32 quirks;         /* enum x86_quirk: the host's, whatever the vendor */
    u64 leaks_not; /* more bits of MSR_ARCH_CAPABILITIES: what the host is free of, by machine/
                    */
    u64 tsc_hz;
    unsigned n_leaves;
    struct x86_cpuid_leaf leaves[X86_MAX_LEAVES];
};

static inline bool x86_has(const struct x86_model *model, enum x86_feature feature)
{
    if (feature >= FEAT_NEVER)
        return feature == FEAT_ALWAYS;
    return model->features[feature >> 5] >> (feature & 31) & 1;
}

static inline bool x86_quirk(const struct x86_model *model, enum x86_quirk quirk)
{
    return model->quirks & quirk;
}

/*
 * Fills the model from the host's CPUID and the user's words: a model ("host", "max",
 * "x86-64-v2", or one of QEMU's), followed by ",+feature", ",-feature", ",vendor=..." and
 * ",phys-bits=N" as often as wanted; NULL means the default. `vcpus` shapes the topology
 * leaves. False: *err names the word.
 */
bool x86_model_init(struct x86_model *model, const char *words, unsigned vcpus, u64 tsc_hz,
                    struct error *err);

/* Calls `print` with the name of each model. */
void x86_model_list(void (*print)(const char *name));

/* The host's own CPUID; zeros beyond its last leaf. */
void x86_host_cpuid(u32 leaf, u32 subleaf, u32 out[4]);
/* Whether it is by AMD or Hygon. */
bool x86_host_is_amd(void);

/* The second half of x86_model_init: leaves[] from the features (cpuid.c). */
void x86_model_leaves(struct x86_model *model, unsigned vcpus);

/* The frequency that LAPIC timers count at, as CPUID says: 1 GHz, KVM's figure. */
#define X86_APIC_BUS_KHZ 1000000

/* What CPUID answers on this processor now (OSXSAVE, APIC id, XCR0-dependent sizes,
 * out-of-range leaves). */
void x86_cpuid(struct x86_cpu *c, u32 leaf, u32 subleaf, u32 out[4]);
