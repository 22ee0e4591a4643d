/*
 * CPUID's answers: a model's leaves from its features, the host's identity and the shape of the
 * machine (one socket, one core a vCPU), and what depends on a processor's present state.
 */
#include <cpuid.h>
#include <string.h>

#include "base/ensure.h"
#include "x86/cpu.h"
#include "x86/model.h"

#define LEAF_INTEL_CACHES 4
#define LEAF_KVM          0x40000000u
#define LEAF_KVM_MAX      0x40000010u
#define LEAF_AMD_CACHES   0x8000001du

#define XSAVE_HEADER_END 576
#define XSAVE_AVX_SIZE   256

/* -- The host ------------------------------------------------------------------------------ */

void x86_host_cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf <= (u32)__get_cpuid_max(leaf & 0x80000000, NULL))
        __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}

bool x86_host_is_amd(void)
{
    u32 out[4];
    x86_host_cpuid(0, 0, out);
    return out[2] == 0x444d4163 || out[2] == 0x656e6975; /* "cAMD", Hygon's "uine" */
}

/* -- Building the leaves ------------------------------------------------------------------- */

static struct x86_cpuid_leaf *add(struct x86_model *m, u32 leaf)
{
    ensure(m->n_leaves < X86_MAX_LEAVES);
    struct x86_cpuid_leaf *l = &m->leaves[m->n_leaves++];
    *l = (struct x86_cpuid_leaf){.leaf = leaf};
    return l;
}

static struct x86_cpuid_leaf *add_sub(struct x86_model *m, u32 leaf, u32 subleaf)
{
    struct x86_cpuid_leaf *l = add(m, leaf);
    l->subleaf = subleaf;
    l->subleaf_matters = true;
    return l;
}

static void set(struct x86_cpuid_leaf *l, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
    l->eax = eax;
    l->ebx = ebx;
    l->ecx = ecx;
    l->edx = edx;
}

static void from_host(struct x86_cpuid_leaf *l)
{
    u32 host[4];
    x86_host_cpuid(l->leaf, l->subleaf, host);
    set(l, host[0], host[1], host[2], host[3]);
}

/* Bits of an APIC id that number the cores of the socket. */
static unsigned core_bits(unsigned vcpus)
{
    unsigned n = 0;
    while ((1u << n) < vcpus)
        n++;
    return n;
}

/* A vendor that is not the host's is the user's wish (-cpu vendor=). */
static void add_vendor(const struct x86_model *m, struct x86_cpuid_leaf *l)
{
    from_host(l);
    if (m->amd == x86_host_is_amd())
        return;
    if (m->amd)
        set(l, 0, 0x68747541, 0x444d4163, 0x69746e65); /* "Auth" "cAMD" "enti" */
    else
        set(l, 0, 0x756e6547, 0x6c65746e, 0x49656e69); /* "Genu" "ntel" "ineI" */
}

/* What stands for a processor of no certain kind where the host's numbers mean something else,
 * under another vendor: QEMU's family 6, model 6, stepping 3, and of AMD's its family 15, model
 * 107, stepping 1, for an AMD of family 6 warns 32-bit Linux of several processors. */
#define OTHER_INTEL 0x663
#define OTHER_AMD   0x60fb1

/* Comet Lake, stepping 5: the last of Intel's with no vector instructions beyond AVX2. */
#define LAST_WITH_AVX2 0xa0655

/* AVX-512 or AVX-VNNI, which nothing here executes. */
static bool host_is_beyond_avx2(void)
{
    u32 seven[4], more[4];
    x86_host_cpuid(7, 0, seven);
    x86_host_cpuid(7, 1, more);
    return seven[1] >> 16 & 1 || (seven[0] && more[0] >> 4 & 1);
}

/*
 * Family, model and stepping. Programs choose code by them, and ask for no feature: GCC's
 * target_clones("arch=rocketlake") and its kind, by which Debian's stress-ng ends with SIGILL
 * where a guest is shown an Intel that has more than the guest.
 */
static u32 signature(const struct x86_model *m, u32 host)
{
    if (m->amd != x86_host_is_amd())
        return m->amd ? OTHER_AMD : OTHER_INTEL;
    return !m->amd && host_is_beyond_avx2() ? LAST_WITH_AVX2 : host;
}

static void add_identity(struct x86_model *m, unsigned vcpus)
{
    struct x86_cpuid_leaf *l = add(m, 0);
    add_vendor(m, l);
    l->eax = m->amd ? 0xd : 0x1f;
    l = add(m, 1);
    from_host(l);
    l->eax = signature(m, l->eax);
    l->ebx = (l->ebx & 0xff00) | (vcpus > 1 ? (1u << core_bits(vcpus)) << 16 : 0);
    l->ecx = m->features[CPUID_1_ECX];
    l->edx = m->features[CPUID_1_EDX] | (vcpus > 1 ? 1u << 28 : 0);
    if (!m->amd)
        from_host(add(m, 2));
}

/* Deterministic cache parameters: what the host says of each level, in its vendor's leaf, for
 * both have the same format; shared as here: private to a core but for the third. */
static void add_caches(struct x86_model *m, u32 leaf, unsigned vcpus)
{
    for (unsigned sub = 0; sub < 8; sub++) {
        struct x86_cpuid_leaf *l = add_sub(m, leaf, sub);
        u32 host[4];
        x86_host_cpuid(x86_host_is_amd() ? LEAF_AMD_CACHES : LEAF_INTEL_CACHES, sub, host);
        set(l, host[0], host[1], host[2], host[3]);
        if (!(l->eax & 0x1f)) {
            set(l, 0, 0, 0, 0);
            return;
        }
        unsigned level = l->eax >> 5 & 7;
        unsigned ids = 1u << core_bits(vcpus);
        l->eax &= 0x3fff;
        if (level >= 3)
            l->eax |= (ids - 1) << 14;
        if (!m->amd)
            l->eax |= (ids - 1) << 26;
    }
}

/* EDX, the x2APIC id, is filled in by x86_cpuid. */
static void add_topology(struct x86_model *m, u32 leaf, unsigned vcpus)
{
    set(add_sub(m, leaf, 0), 0, 1, 1 << 8 | 0, 0);
    set(add_sub(m, leaf, 1), core_bits(vcpus), vcpus, 2 << 8 | 1, 0);
}

static void add_features(struct x86_model *m)
{
    set(add(m, 6), 1 << 2, 0, 0, 0); /* ARAT: the APIC timer never stops */
    /* EBX 6 and 13: how the host's x87 keeps FDP, FCS and FDS, which guests run on. */
    u32 host[4];
    x86_host_cpuid(7, 0, host);
    set(add_sub(m, 7, 0), 2, m->features[CPUID_7_EBX] | (host[1] & (1 << 6 | 1 << 13)),
        m->features[CPUID_7_ECX], m->features[CPUID_7_EDX]);
    set(add_sub(m, 7, 2), 0, 0, 0, m->features[CPUID_7_2_EDX]);
}

/* EBX of the first two depends on XCR0. */
static void add_xsave(struct x86_model *m)
{
    if (!x86_has(m, FEAT_XSAVE))
        return;
    bool avx = x86_has(m, FEAT_AVX);
    set(add_sub(m, 0xd, 0), (u32)m->xcr0_mask, 0, XSAVE_HEADER_END + (avx ? XSAVE_AVX_SIZE : 0),
        0);
    set(add_sub(m, 0xd, 1), m->features[CPUID_D1_EAX], 0, 0, 0);
    if (avx)
        set(add_sub(m, 0xd, 2), XSAVE_AVX_SIZE, XSAVE_HEADER_END, 0, 0);
}

/* The nearest fraction to `of` / `to` whose terms are from 1 to the limit. */
static void approximate(u64 of, u64 to, u64 limit, u32 *numerator, u32 *denominator)
{
    u64 least = to, by = 1; /* the error is least / (by * to) */
    for (u64 d = 1; d <= limit; d++) {
        u64 n = (of * d + to / 2) / to;
        u64 error = n * to > of * d ? n * to - of * d : of * d - n * to;
        if (n == 0 || n > limit || error * by >= least * d)
            continue;
        least = error;
        by = d;
        *numerator = (u32)n;
        *denominator = (u32)d;
    }
}

/* Intel's frequency leaves: TSC = crystal * EBX / EAX. Linux takes the crystal for the APIC
 * timer's clock, and multiplies its kHz by EBX in 32 bits. */
static void add_frequencies(struct x86_model *m)
{
    u32 eax = 1, ebx = 0;
    approximate(m->tsc_hz / 1000, X86_APIC_BUS_KHZ, UINT32_MAX / X86_APIC_BUS_KHZ, &ebx, &eax);
    set(add(m, 0x15), eax, ebx, X86_APIC_BUS_KHZ * 1000u, 0);
    u32 mhz = (u32)((m->tsc_hz + 500000) / 1000000);
    set(add(m, 0x16), mhz, mhz, 100, 0);
}

static void add_hypervisor(struct x86_model *m)
{
    u32 signature[3];
    if (!x86_has(m, FEAT_KVM))
        return;
    memcpy(signature, "KVMKVMKVM\0\0\0", 12);
    set(add(m, LEAF_KVM), LEAF_KVM_MAX, signature[0], signature[1], signature[2]);
    set(add(m, LEAF_KVM + 1), m->features[CPUID_40000001_EAX] & ~(u32)BIT(FEAT_KVM & 31), 0, 0,
        0);
    set(add(m, LEAF_KVM_MAX), (u32)(m->tsc_hz / 1000), X86_APIC_BUS_KHZ, 0, 0);
}

/* AMD repeats these of leaf 1 in 80000001h. */
#define AMD_COMMON_EDX 0x0183f3ffu

static void add_extended(struct x86_model *m, unsigned vcpus)
{
    struct x86_cpuid_leaf *l = add(m, 0x80000000);
    if (m->amd)
        add_vendor(m, l);
    else
        from_host(l);
    l->eax = m->amd ? 0x80000021 : 0x80000008;
    l = add(m, 0x80000001);
    from_host(l);
    l->ecx = m->features[CPUID_80000001_ECX];
    l->edx = m->features[CPUID_80000001_EDX];
    if (m->amd) {
        l->edx |= m->features[CPUID_1_EDX] & AMD_COMMON_EDX;
        l->ecx |= 1 << 22 | (vcpus > 1 ? 1 << 1 : 0); /* TopologyExtensions, CmpLegacy */
    }
    for (u32 leaf = 0x80000002; leaf <= 0x80000006; leaf++)
        from_host(add(m, leaf));
    set(add(m, 0x80000007), 0, 0, 0, m->features[CPUID_80000007_EDX]);
    u32 cores = m->amd ? core_bits(vcpus) << 12 | (vcpus - 1) : 0;
    set(add(m, 0x80000008), m->phys_bits | 48 << 8, m->features[CPUID_80000008_EBX], cores, 0);
}

static void add_amd(struct x86_model *m, unsigned vcpus)
{
    from_host(add(m, 0x80000019));
    from_host(add(m, 0x8000001a));
    add_caches(m, LEAF_AMD_CACHES, vcpus);
    add(m, 0x8000001e); /* the APIC id, by x86_cpuid */
    /* LFENCE serializes; a null selector clears base and limit. */
    set(add(m, 0x80000021), m->features[CPUID_80000021_EAX] | 1 << 2 | 1 << 6, 0,
        m->features[CPUID_80000021_ECX], 0);
}

void x86_model_leaves(struct x86_model *m, unsigned vcpus)
{
    add_identity(m, vcpus);
    if (!m->amd)
        add_caches(m, LEAF_INTEL_CACHES, vcpus);
    add_features(m);
    add_topology(m, 0xb, vcpus);
    add_xsave(m);
    if (!m->amd) {
        add_frequencies(m);
        add_topology(m, 0x1f, vcpus);
    }
    add_hypervisor(m);
    add_extended(m, vcpus);
    if (m->amd)
        add_amd(m, vcpus);
}

/* -- Answering ----------------------------------------------------------------------------- */

static const struct x86_cpuid_leaf *find(const struct x86_model *m, u32 leaf, u32 subleaf)
{
    for (unsigned n = 0; n < m->n_leaves; n++) {
        const struct x86_cpuid_leaf *l = &m->leaves[n];
        if (l->leaf == leaf && (!l->subleaf_matters || l->subleaf == subleaf))
            return l;
    }
    return NULL;
}

/* Beyond the last leaf Intel repeats the highest basic one, AMD answers zeros. */
static u32 clamp(const struct x86_model *m, u32 leaf)
{
    if (m->amd || (leaf >= LEAF_KVM && leaf <= LEAF_KVM + 0xff))
        return leaf;
    u32 last = find(m, leaf & 0x80000000, 0)->eax;
    return leaf > last || (leaf & 0x7fffffff) > 0xffff ? find(m, 0, 0)->eax : leaf;
}

static u32 xsave_size(const struct x86_cpu *c)
{
    return XSAVE_HEADER_END + (c->xcr0 & XCR0_AVX ? XSAVE_AVX_SIZE : 0);
}

/* A local APIC that APIC_BASE switches off is not shown. */
static bool apic_is_off(struct x86_cpu *c)
{
    u64 base;
    return c->ops && c->ops->rdmsr(c, MSR_APIC_BASE, &base) && !(base & BIT(11));
}

/* What depends on this processor and its registers. */
static void adjust(struct x86_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
    switch (leaf) {
    case 1:
        out[1] |= c->apic_id << 24;
        if (c->apic_off)
            out[3] &= ~(1u << (FEAT_APIC & 31));
        if (c->cr4 & CR4_OSXSAVE)
            out[2] |= 1u << (FEAT_OSXSAVE & 31);
        if (apic_is_off(c))
            out[3] &= ~(1u << (FEAT_APIC & 31));
        break;
    case 0xb:
    case 0x1f:
        out[2] |= subleaf & 0xff;
        out[3] = c->apic_id;
        break;
    case 0xd:
        if (subleaf <= 1 && x86_has(c->model, FEAT_XSAVE))
            out[1] = xsave_size(c);
        break;
    case 0x80000001:
        /* Intel shows SYSCALL to 64-bit code only. */
        if (!c->model->amd && !x86_64bit(c))
            out[3] &= ~(1u << (FEAT_SYSCALL & 31));
        if (c->apic_off) /* AMD repeats the bit; Intel's is zero already */
            out[3] &= ~(1u << (FEAT_APIC & 31));
        break;
    case 0x8000001e:
        out[0] = c->apic_id;
        out[1] = c->apic_id & 0xff;
        break;
    default:
        break;
    }
}

void x86_cpuid(struct x86_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
    leaf = clamp(c->model, leaf);
    const struct x86_cpuid_leaf *l = find(c->model, leaf, subleaf);
    memset(out, 0, 4 * sizeof(out[0]));
    if (l) {
        out[0] = l->eax;
        out[1] = l->ebx;
        out[2] = l->ecx;
        out[3] = l->edx;
    }
    if (leaf <= find(c->model, leaf & 0x80000000, 0)->eax)
        adjust(c, leaf, subleaf, out);
}
