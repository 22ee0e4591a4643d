/* The ACPI tables: checksums, lengths and links as a guest's parser wants them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "machine/acpi.h"
#include "machine/aml.h"

#define BASE 0xe0000u

static u8 tables[ACPI_MAX_SIZE];

static size_t build(unsigned n_cpus)
{
    struct acpi_config config = {
        .n_cpus = n_cpus,
        .pm_base = 0x600,
        .sci = 9,
        .reset_port = 0xcf9,
        .reset_value = 6,
        .s3_type = 3,
        .s5_type = 5,
        .ioapic_base = 0xfec00000,
        .pci_mmio_first = 0xe0000000,
        .pci_mmio_last = 0xfebfffff,
        .n_com = 2,
    };
    memset(config.pci_irq, 10, sizeof(config.pci_irq));
    memset(config.pci_irq[3], 11, sizeof(config.pci_irq[3]));
    return acpi_build(&config, BASE, tables);
}

static u64 get(const u8 *at, unsigned size)
{
    u64 value = 0;
    memcpy(&value, at, size);
    return value;
}

static u8 sum(const u8 *data, size_t size)
{
    u8 total = 0;
    while (size--)
        total = (u8)(total + *data++);
    return total;
}

/* The table at a guest address, checked. */
static const u8 *table_at(u64 addr, size_t size, const char *signature)
{
    assert_true(addr >= BASE && addr + 36 <= BASE + size);
    const u8 *table = tables + (addr - BASE);
    assert_memory_equal(table, signature, 4);
    assert_true(get(table + 4, 4) <= BASE + size - addr);
    if (strcmp(signature, "FACS"))
        assert_int_equal(sum(table, get(table + 4, 4)), 0);
    return table;
}

static void test_links(void **state)
{
    size_t size = build(3);
    assert_true(size <= ACPI_MAX_SIZE);
    assert_memory_equal(tables, "RSD PTR ", 8);
    assert_int_equal(sum(tables, 20), 0);
    assert_int_equal(sum(tables, 36), 0);
    const u8 *rsdt = table_at(get(tables + 16, 4), size, "RSDT");
    const u8 *xsdt = table_at(get(tables + 24, 8), size, "XSDT");
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(get(rsdt + 36 + 4 * i, 4), get(xsdt + 36 + 8 * i, 8));
    const u8 *fadt = table_at(get(xsdt + 36, 8), size, "FACP");
    table_at(get(xsdt + 44, 8), size, "APIC");
    table_at(get(fadt + 40, 4), size, "DSDT");
    u64 facs = get(fadt + 36, 4);
    table_at(facs, size, "FACS");
    assert_int_equal(facs % 64, 0);
    assert_int_equal(get(fadt + 140, 8), get(fadt + 40, 4));
    assert_int_equal(get(fadt + 64, 4), 0x604);
    assert_int_equal(get(fadt + 120, 8), 0xcf9);
    assert_int_equal(fadt[220 + 3], 1);
}

static void test_madt(void **state)
{
    size_t size = build(5);
    const u8 *xsdt = table_at(get(tables + 24, 8), size, "XSDT");
    const u8 *madt = table_at(get(xsdt + 44, 8), size, "APIC");
    const u8 *end = madt + get(madt + 4, 4);
    unsigned cpus = 0;
    u32 level = 0;
    for (const u8 *at = madt + 44; at < end; at += at[1]) {
        assert_true(at[1] >= 2 && at + at[1] <= end);
        if (at[0] == 0)
            assert_int_equal(at[3], cpus++);
        if (at[0] == 2 && get(at + 8, 2) == 0xd)
            level |= 1u << at[3];
        if (at[0] == 2 && at[3] == 0)
            assert_int_equal(get(at + 4, 4), 2);
    }
    assert_int_equal(cpus, 5);
    assert_int_equal(level, 1 << 9 | 1 << 10 | 1 << 11);
}

/* A sleep state that the machine has is a package in the DSDT. */
static void test_sleep_states(void **state)
{
    size_t size = build(1);
    const u8 *fadt =
        table_at(get(table_at(get(tables + 24, 8), size, "XSDT") + 36, 8), size, "FACP");
    const u8 *dsdt = table_at(get(fadt + 40, 4), size, "DSDT");
    const u8 s3[] = {0x08, '\\', '_', 'S', '3', '_', 0x12, 0x89, 0, 0, 4, 0x0a, 3};
    const u8 s5[] = {0x08, '\\', '_', 'S', '5', '_', 0x12, 0x89, 0, 0, 4, 0x0a, 5};
    assert_non_null(memmem(dsdt, get(dsdt + 4, 4), s3, sizeof(s3)));
    assert_non_null(memmem(dsdt, get(dsdt + 4, 4), s5, sizeof(s5)));
}

/* As many processors as there can be still fit. */
static void test_largest(void **state)
{
    assert_true(build(255) <= ACPI_MAX_SIZE);
}

static void test_aml(void **state)
{
    u8 buf[64];
    struct aml aml = {.data = buf, .capacity = sizeof(buf)};
    aml_name_integer(&aml, "\\_S5_", 0x1234);
    const u8 name[] = {0x08, '\\', '_', 'S', '5', '_', 0x0b, 0x34, 0x12};
    assert_int_equal(aml.size, sizeof(name));
    assert_memory_equal(buf, name, sizeof(name));

    aml.size = 0;
    aml_name_eisa_id(&aml, "_HID", "PNP0A03");
    const u8 id[] = {0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x03};
    assert_memory_equal(buf, id, sizeof(id));

    aml.size = 0;
    size_t scope = aml_scope_begin(&aml, "\\_SB_");
    aml_end(&aml, scope);
    const u8 empty[] = {0x10, 0x88, 0, 0, '\\', '_', 'S', 'B', '_'};
    assert_memory_equal(buf, empty, sizeof(empty));
    for (unsigned i = 0; i < 100; i++)
        aml_integer(&aml, 7);
    assert_true(aml.overflow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),        cmocka_unit_test(test_madt),
        cmocka_unit_test(test_sleep_states), cmocka_unit_test(test_largest),
        cmocka_unit_test(test_aml),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
