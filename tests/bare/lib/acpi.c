/* ACPI 6.4, 5.2: from the RSDP to the tables. */
#include "acpi.h"

struct rsdp {
    char signature[8];
    u8 checksum;
    char oem[6];
    u8 revision;
    u32 rsdt;
    u32 length;
    u64 xsdt;
} __attribute__((packed));

static bool same(const char *a, const char *b, u32 n)
{
    while (n && *a == *b)
        a++, b++, n--;
    return !n;
}

bool acpi_sum_ok(const void *bytes, u32 length)
{
    const u8 *p = bytes;
    u8 sum = 0;

    while (length--)
        sum += *p++;
    return !sum;
}

static const struct rsdp *find_in(ulong from, ulong to)
{
    for (; from < to; from += 16) {
        const struct rsdp *r = (const struct rsdp *)from;

        if (same(r->signature, "RSD PTR ", 8) && acpi_sum_ok(r, 20))
            return r;
    }
    return NULL;
}

static const struct rsdp *find(void)
{
    ulong ebda = (ulong) * (const volatile u16 *)0x40e << 4;
    const struct rsdp *r = ebda ? find_in(ebda, ebda + 1024) : NULL;

    return r ? r : find_in(0xe0000, 0x100000);
}

const struct acpi_header *acpi_table(const char signature[4])
{
    const struct rsdp *r = find();
    const struct acpi_header *root;
    u32 width;

    if (!r)
        return NULL;
    width = r->revision >= 2 && r->xsdt ? 8 : 4;
    root = (const struct acpi_header *)(ulong)(width == 8 ? r->xsdt : r->rsdt);
    if (!acpi_sum_ok(root, root->length))
        return NULL;
    for (u32 at = sizeof(*root); at + width <= root->length; at += width) {
        const u8 *entry = (const u8 *)root + at;
        ulong address = *(const u32 *)entry;
        const struct acpi_header *table = (const struct acpi_header *)address;

        if (same(table->signature, signature, 4) && acpi_sum_ok(table, table->length))
            return table;
    }
    return NULL;
}

/* An AML integer: ZeroOp, OneOp, BytePrefix or WordPrefix. */
static int aml_integer(const u8 *p)
{
    switch (*p) {
    case 0:
    case 1:
        return *p;
    case 0x0a:
        return p[1];
    case 0x0b:
        return p[1] | p[2] << 8;
    default:
        return -1;
    }
}

int acpi_s5(const struct acpi_fadt *fadt)
{
    const struct acpi_header *dsdt = (const struct acpi_header *)(ulong)fadt->dsdt;
    const u8 *p = (const u8 *)dsdt, *end = p + dsdt->length;

    for (; p + 8 < end; p++) {
        if (!same((const char *)p, "_S5_", 4) || p[4] != 0x12)
            continue;
        p += 5;
        p += (*p >> 6) + 1; /* package length */
        return aml_integer(p + 1);
    }
    return -1;
}
