/*
 * Processor models: the words of -cpu, and that what CPUID says is consistent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "x86/cpu.h"
#include "x86/model.h"

struct machine {
    struct x86_model model;
    struct x86_cpu cpu;
};

static struct machine m;

static void model(const char *words, unsigned vcpus)
{
    struct error err = {""};
    if (!x86_model_init(&m.model, words, vcpus, 2000000000, &err))
        fail_msg("%s", err.text);
    memset(&m.cpu, 0, sizeof(m.cpu));
    m.cpu.model = &m.model;
    m.cpu.xcr0 = 1;
}

static void expect_error(const char *words, const char *part)
{
    struct error err = {""};
    struct x86_model broken;
    assert_false(x86_model_init(&broken, words, 1, 1000000000, &err));
    assert_non_null(strstr(err.text, part));
}

static u32 leaf(u32 number, u32 sub, unsigned reg)
{
    u32 out[4];
    x86_cpuid(&m.cpu, number, sub, out);
    return out[reg];
}

static void test_words(void **state)
{
    model("max,-smap,-sse4.2,invtsc=off", 1);
    assert_false(x86_has(&m.model, FEAT_SMAP));
    assert_false(x86_has(&m.model, FEAT_SSE4_2));
    assert_false(x86_has(&m.model, FEAT_INVARIANT_TSC));
    assert_true(x86_has(&m.model, FEAT_SSE4_1));
    model("host,-x2apic,+x2apic", 1);
    assert_true(x86_has(&m.model, FEAT_X2APIC));
    assert_string_equal(m.model.name, "host");
    model(NULL, 1);
    assert_string_equal(m.model.name, "host");
    expect_error("386", "386");
    expect_error("host,+frobnicate", "frobnicate");
    expect_error("host,sse=maybe", "'sse=maybe'");
    expect_error("host,", "''");
    expect_error("", "no such model");
    model("host,avx512f,+svm,-vmx,smap", 1);
    assert_string_equal(m.model.left_out, "avx512f svm");
    assert_true(x86_has(&m.model, FEAT_SMAP));
    expect_error("host,enforce,+avx512f", "avx512f");
}

static void test_dependencies(void **state)
{
    model("max,-xsave", 1);
    assert_false(x86_has(&m.model, FEAT_AVX));
    assert_false(x86_has(&m.model, FEAT_AVX2));
    assert_false(x86_has(&m.model, FEAT_FMA));
    assert_false(x86_has(&m.model, FEAT_XSAVEC));
    assert_int_equal(m.model.xcr0_mask, 3);
    assert_int_equal(leaf(0xd, 0, 0), 0);
    model("max,-sse", 1);
    assert_false(x86_has(&m.model, FEAT_SSE4_2));
    assert_false(x86_has(&m.model, FEAT_AES));
}

/* Mitigations that Linux leaves out when it reads these. */
static void test_speculation(void **state)
{
    u32 host[4];
    x86_host_cpuid(0x80000021, 0, host);
    model("host,vendor=GenuineIntel", 1);
    assert_int_equal(leaf(7, 0, 0), 2);           /* the last subleaf */
    assert_int_equal(leaf(7, 0, 3) >> 26 & 9, 9); /* SPEC_CTRL, ARCH_CAPABILITIES */
    assert_int_equal(leaf(7, 2, 3), 1 << 4);      /* BHI_CTRL */
    assert_false(x86_has(&m.model, FEAT_AUTOIBRS));
    assert_true(x86_has(&m.model, FEAT_RDCL_NO));
    model("host,vendor=GenuineIntel,rdctl-no=off", 1);
    assert_false(x86_has(&m.model, FEAT_RDCL_NO));
    assert_true(x86_has(&m.model, FEAT_ITS_NO));
    model("host,vendor=GenuineIntel,-spec_ctrl", 1);
    assert_false(x86_has(&m.model, FEAT_ITS_NO));
    assert_int_equal(leaf(7, 0, 3) >> 26 & 9, 0);
    assert_int_equal(leaf(7, 2, 3), 0);
    model("host,vendor=AuthenticAMD", 1);
    assert_int_equal(leaf(7, 0, 3) >> 26 & 9, 0);
    assert_int_equal(leaf(7, 2, 3), 0);
    assert_int_equal(leaf(0x80000021, 0, 0) >> 8 & 1, 1); /* AutomaticIBRS */
    assert_int_equal(leaf(0x80000021, 0, 0) >> 29 & 1, 1);
    assert_int_equal(leaf(0x80000021, 0, 2), host[2] & 6); /* TSA: the host's own */
    model("host,vendor=AuthenticAMD,-srso_no,-tsa_l1_no,-autoibrs", 1);
    assert_int_equal(leaf(0x80000021, 0, 0) >> 8 & 1, 0);
    assert_int_equal(leaf(0x80000021, 0, 0) >> 29 & 1, 0);
    assert_int_equal(leaf(0x80000021, 0, 2), host[2] & 2);
}

static void test_levels(void **state)
{
    model("x86-64-v2", 1);
    assert_true(x86_has(&m.model, FEAT_SSE4_2));
    assert_true(x86_has(&m.model, FEAT_CX16));
    assert_true(x86_has(&m.model, FEAT_NX));
    assert_false(x86_has(&m.model, FEAT_AVX));
    assert_false(x86_has(&m.model, FEAT_AES));
    assert_false(x86_has(&m.model, FEAT_BMI2));
    assert_int_equal(m.model.xcr0_mask & XCR0_AVX, 0);
}

/* QEMU's names for older processors lack what came later. */
static void test_named(void **state)
{
    model("qemu64,+x2apic,-invpcid", 1);
    assert_true(x86_has(&m.model, FEAT_X2APIC));
    assert_true(x86_has(&m.model, FEAT_CX16));
    assert_false(x86_has(&m.model, FEAT_SSE4_1));
    assert_false(x86_has(&m.model, FEAT_PCID));
    assert_false(x86_has(&m.model, FEAT_SMEP));
    assert_string_equal(m.model.left_out, "");
    model("qemu64,+invpcid", 1); /* of no use without PCIDs */
    assert_false(x86_has(&m.model, FEAT_INVPCID));
    model("Haswell-noTSX", 1);
    assert_true(x86_has(&m.model, FEAT_SMEP));
    model("Opteron_G5,mds-no=on,lbrv=off", 1); /* as libvirt says it */
    assert_false(x86_has(&m.model, FEAT_AVX2));
    model("qemu32", 1);
    assert_false(x86_has(&m.model, FEAT_LM));
    assert_true(x86_has(&m.model, FEAT_SSE3));
    model("486", 1);
    assert_false(x86_has(&m.model, FEAT_CX8));
    assert_false(x86_has(&m.model, FEAT_SSE2));
    assert_false(x86_has(&m.model, FEAT_PAE));
    model("max,phys-bits=36", 1);
    assert_int_equal(leaf(0x80000008, 0, 0) & 0xff, 36);
}

static void test_vendor(void **state)
{
    static const char *const vendors[] = {"GenuntelineI", "AuthcAMDenti"};
    for (unsigned amd = 0; amd < 2; amd++) {
        u32 out[4];
        model(amd ? "max,vendor=AuthenticAMD" : "max,vendor=GenuineIntel", 2);
        assert_int_equal(m.model.amd, amd);
        x86_cpuid(&m.cpu, 0, 0, out);
        assert_memory_equal(&out[1], vendors[amd], 12);
        x86_cpuid(&m.cpu, 0x80000000, 0, out);
        if (amd)
            assert_memory_equal(&out[1], vendors[amd], 12);
        assert_int_not_equal(leaf(amd ? 0x8000001d : 4, 0, 0) & 0x1f, 0); /* a cache */
        if (amd)                                                          /* 15 or later */
            assert_int_equal(leaf(1, 0, 0) >> 8 & 15, 15);
    }
    expect_error("max,vendor=Zilog", "vendor=Zilog");
}

/* An Intel's family and model stand for instructions: never for AVX-512, which the guest has
 * not. */
static void test_signature(void **state)
{
    static const u8 with_avx512[] = {0x55, 0x57, 0x66, 0x6a, 0x6c, 0x7d, 0x7e, 0x85,
                                     0x8c, 0x8d, 0x8f, 0xa7, 0xad, 0xae, 0xcf};
    u32 host[4];
    x86_host_cpuid(1, 0, host);
    model("host", 1);
    u32 shown = leaf(1, 0, 0), number = (shown >> 4 & 15) | (shown >> 12 & 0xf0);
    if (m.model.amd)
        assert_int_equal(shown, host[0]);
    for (unsigned n = 0; !m.model.amd && n < ARRAY_LEN(with_avx512); n++)
        assert_int_not_equal(number, with_avx512[n]);
}

/* The TSC's frequency as Linux finds it without the KVM clock: in 32 bits. */
static void test_frequencies(void **state)
{
    static const u32 frequencies[] = {300001,  1000000, 1800001, 1999998, 2000000,
                                      2295684, 2599998, 3407992, 4294968, 5700123};
    struct error err = {""};
    for (unsigned n = 0; n < ARRAY_LEN(frequencies); n++) {
        u32 khz = frequencies[n];
        assert_true(
            x86_model_init(&m.model, "max,vendor=GenuineIntel", 1, khz * 1000ull, &err));
        u32 found = leaf(0x15, 0, 2) / 1000 * leaf(0x15, 0, 1) / leaf(0x15, 0, 0);
        assert_in_range(found, khz - khz / 10000, khz + khz / 10000);
        assert_int_equal(leaf(0x16, 0, 0), (khz + 500) / 1000);
    }
}

/* Instructions that nothing here executes are never shown. */
static void test_hidden(void **state)
{
    model("max", 1);
    assert_int_equal(leaf(7, 0, 1) & (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31),
                     0);                                                  /* AVX512 */
    assert_int_equal(leaf(7, 0, 1) & (1u << 4 | 1u << 11 | 1u << 14), 0); /* HLE, RTM, MPX */
    assert_int_equal(leaf(7, 0, 2) & (1u << 3 | 1u << 7 | 1u << 16), 0);  /* PKU, CET, LA57 */
    assert_int_equal(leaf(7, 0, 3) & (1u << 20 | 7u << 22), 0);           /* IBT, AMX */
    assert_int_equal(leaf(1, 0, 2) & (1u << 3 | 1u << 5), 0);             /* MONITOR, VMX */
    assert_int_equal(leaf(0x80000001, 0, 2) & (1u << 2 | 1u << 11 | 1u << 16), 0); /* SVM.. */
    assert_int_equal(leaf(0x80000001, 0, 3) >> 30, 0);                             /* 3DNow */
    assert_int_equal(leaf(0x80000008, 0, 1) & (1u << 4), 0);                       /* RDPRU */
}

static void test_hypervisor(void **state)
{
    u32 out[4];
    model("max", 1);
    x86_cpuid(&m.cpu, 0x40000000, 0, out);
    assert_memory_equal(&out[1], "KVMKVMKVM\0\0\0", 12);
    assert_int_equal(leaf(0x40000001, 0, 0), 0x01000aea);
    assert_int_equal(leaf(0x40000010, 0, 0), 2000000);
    assert_true(leaf(1, 0, 2) >> 31);
    model("max,-hypervisor", 1);
    assert_int_equal(leaf(0x40000000, 0, 0), 0);
}

static void test_topology(void **state)
{
    static const unsigned counts[] = {1, 2, 3, 4, 6, 16};
    for (unsigned n = 0; n < ARRAY_LEN(counts); n++) {
        unsigned vcpus = counts[n], width = 0;
        while (1u << width < vcpus)
            width++;
        model("max", vcpus);
        m.cpu.apic_id = vcpus - 1;
        assert_int_equal(leaf(1, 0, 1) >> 24, vcpus - 1);
        assert_int_equal(leaf(1, 0, 3) >> 28 & 1, vcpus > 1);
        assert_int_equal(leaf(0xb, 0, 0), 0); /* one thread a core */
        assert_int_equal(leaf(0xb, 0, 1), 1);
        assert_int_equal(leaf(0xb, 1, 0), width);
        assert_int_equal(leaf(0xb, 1, 1), vcpus);
        assert_int_equal(leaf(0xb, 1, 3), vcpus - 1);
        assert_int_equal(leaf(0xb, 2, 1), 0);
        assert_int_equal(leaf(0xb, 2, 2), 2);
        if (m.model.amd) {
            assert_int_equal(leaf(0x80000008, 0, 2) & 0xff, vcpus - 1);
            assert_int_equal(leaf(0x80000008, 0, 2) >> 12 & 15, width);
            assert_int_equal(leaf(0x8000001e, 0, 0), vcpus - 1);
        } else {
            assert_int_equal(leaf(4, 0, 0) >> 26, (1u << width) - 1);
        }
    }
}

static void test_xsave(void **state)
{
    model("max", 1);
    if (!x86_has(&m.model, FEAT_AVX))
        skip();
    assert_int_equal(leaf(0xd, 0, 0), 7);
    assert_int_equal(leaf(0xd, 0, 2), 832);
    assert_int_equal(leaf(0xd, 0, 1), 576);
    m.cpu.xcr0 = 7;
    assert_int_equal(leaf(0xd, 0, 1), 832);
    assert_int_equal(leaf(0xd, 2, 0), 256);
    assert_int_equal(leaf(0xd, 2, 1), 576);
    assert_int_equal(leaf(0xd, 3, 0), 0);
    assert_int_equal(leaf(1, 0, 2) >> 27 & 1, 0);
    m.cpu.cr4 |= CR4_OSXSAVE;
    assert_int_equal(leaf(1, 0, 2) >> 27 & 1, 1);
}

static void test_out_of_range(void **state)
{
    model("max", 1);
    u32 last = leaf(0, 0, 0);
    m.model.amd = true;
    assert_int_equal(leaf(last + 1, 0, 0) | leaf(last + 1, 0, 1), 0);
    assert_int_equal(leaf(0x80001000, 0, 0), 0);
    m.model.amd = false;
    for (unsigned reg = 0; reg < 4; reg++) {
        assert_int_equal(leaf(last + 1, 0, reg), leaf(last, 0, reg));
        assert_int_equal(leaf(0x80001000, 0, reg), leaf(last, 0, reg));
        assert_int_equal(leaf(0xffffffff, 0, reg), leaf(last, 0, reg));
    }
}

/* Intel shows SYSCALL to 64-bit code alone. */
static void test_syscall_bit(void **state)
{
    model("max", 1);
    m.model.amd = false;
    m.cpu.code_size = 4;
    assert_int_equal(leaf(0x80000001, 0, 3) >> 11 & 1, 0);
    m.cpu.code_size = 8;
    assert_int_equal(leaf(0x80000001, 0, 3) >> 11 & 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),        cmocka_unit_test(test_dependencies),
        cmocka_unit_test(test_levels),       cmocka_unit_test(test_named),
        cmocka_unit_test(test_vendor),       cmocka_unit_test(test_signature),
        cmocka_unit_test(test_frequencies),  cmocka_unit_test(test_speculation),
        cmocka_unit_test(test_hidden),       cmocka_unit_test(test_hypervisor),
        cmocka_unit_test(test_topology),     cmocka_unit_test(test_xsave),
        cmocka_unit_test(test_out_of_range), cmocka_unit_test(test_syscall_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
