/* The ACPI loader script, see acpi_loader.h: made by walking the tables as a guest would. */
#include "machine/acpi_loader.h"

#include <string.h>

#include "base/ensure.h"
#include "machine/acpi.h"

#define NAME_SIZE 56

enum { COMMAND_ALLOCATE = 1, COMMAND_POINTER = 2, COMMAND_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct script {
    const u8 *tables; /* from ACPI_FIRST on: the file */
    struct acpi_loader_entry *entries;
    unsigned n;
};

static struct acpi_loader_entry *next_entry(struct script *script, u32 command,
                                            const char *file)
{
    ensure(script->n < ACPI_LOADER_MAX);
    struct acpi_loader_entry *entry = &script->entries[script->n++];
    memset(entry, 0, sizeof(*entry));
    entry->command = command;
    strcpy((char *)entry->operands, file);
    return entry;
}

static void allocate(struct script *script, const char *file, u32 alignment, u8 zone)
{
    struct acpi_loader_entry *entry = next_entry(script, COMMAND_ALLOCATE, file);
    memcpy(entry->operands + NAME_SIZE, &alignment, 4);
    entry->operands[NAME_SIZE + 4] = zone;
}

/* At `offset` of `file` there are `size` bytes of a pointer into the tables. */
static void add_pointer(struct script *script, const char *file, u32 offset, u8 size)
{
    struct acpi_loader_entry *entry = next_entry(script, COMMAND_POINTER, file);
    strcpy((char *)entry->operands + NAME_SIZE, ACPI_LOADER_TABLES);
    memcpy(entry->operands + 2 * NAME_SIZE, &offset, 4);
    entry->operands[2 * NAME_SIZE + 4] = size;
}

static void add_checksum(struct script *script, const char *file, u32 offset, u32 start,
                         u32 length)
{
    const u32 numbers[] = {offset, start, length};
    struct acpi_loader_entry *entry = next_entry(script, COMMAND_CHECKSUM, file);
    memcpy(entry->operands + NAME_SIZE, numbers, sizeof(numbers));
}

static u32 get32(const u8 *at)
{
    u32 value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static void sum_table(struct script *script, u32 at)
{
    add_checksum(script, ACPI_LOADER_TABLES, at + 9, at, get32(script->tables + at + 4));
}

static void link_fadt(struct script *script, u32 at)
{
    static const struct {
        u8 offset, size;
    } pointers[] = {{36, 4}, {40, 4}, {132, 8}, {140, 8}};
    for (unsigned i = 0; i < ARRAY_LEN(pointers); i++)
        add_pointer(script, ACPI_LOADER_TABLES, at + pointers[i].offset, pointers[i].size);
    sum_table(script, at);
}

/* An RSDT or XSDT, whose entries are `width` bytes. */
static void link_root(struct script *script, u32 at, u8 width)
{
    u32 length = get32(script->tables + at + 4);
    for (u32 entry = 36; entry < length; entry += width)
        add_pointer(script, ACPI_LOADER_TABLES, at + entry, width);
    sum_table(script, at);
}

unsigned acpi_loader_build(const u8 *tables, struct acpi_loader_entry *entries)
{
    struct script script = {.tables = tables + ACPI_FIRST, .entries = entries};
    u32 rsdt = get32(tables + 16), xsdt = get32(tables + 24);
    u32 length = get32(script.tables + rsdt + 4);
    allocate(&script, ACPI_LOADER_RSDP, 16, ZONE_FSEG);
    allocate(&script, ACPI_LOADER_TABLES, 64, ZONE_HIGH);
    for (u32 entry = 36; entry < length; entry += 4) {
        u32 at = get32(script.tables + rsdt + entry);
        if (!memcmp(script.tables + at, "FACP", 4))
            link_fadt(&script, at);
    }
    link_root(&script, rsdt, 4);
    link_root(&script, xsdt, 8);
    add_pointer(&script, ACPI_LOADER_RSDP, 16, 4);
    add_pointer(&script, ACPI_LOADER_RSDP, 24, 8);
    add_checksum(&script, ACPI_LOADER_RSDP, 8, 0, 20);
    add_checksum(&script, ACPI_LOADER_RSDP, 32, 0, ACPI_RSDP_SIZE);
    return script.n;
}

void acpi_loader_clear_sums(u8 *tables, const struct acpi_loader_entry *entries, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct acpi_loader_entry *entry = &entries[i];
        bool rsdp = !strcmp((const char *)entry->operands, ACPI_LOADER_RSDP);
        if (entry->command == COMMAND_CHECKSUM)
            tables[(rsdp ? 0 : ACPI_FIRST) + get32(entry->operands + NAME_SIZE)] = 0;
    }
}
