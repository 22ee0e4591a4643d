/*
 * The script by which firmware places ACPI tables whose final address it chooses itself: QEMU's
 * "etc/table-loader" (docs of SeaBIOS, src/fw/romfile_loader.h). It allocates the files, adds
 * their addresses to the pointers in them, and sums the tables up again.
 */
#pragma once

#include "base/types.h"

#define ACPI_LOADER_RSDP   "etc/acpi/rsdp"
#define ACPI_LOADER_TABLES "etc/acpi/tables"
#define ACPI_LOADER_MAX    64

/* One command; all numbers are little-endian. */
struct acpi_loader_entry {
    u32 command;
    u8 operands[124];
};

/*
 * Writes the script for what acpi_build made with base -ACPI_FIRST, the RSDP being one file and
 * the bytes from ACPI_FIRST on the other. Returns the number of entries.
 */
unsigned acpi_loader_build(const u8 *tables, struct acpi_loader_entry *entries);

/* Clears the checksums that the script's `n` entries make: EDK2 adds up the old one too, and
 * then takes what does not sum up to zero for no table. After each building of the tables. */
void acpi_loader_clear_sums(u8 *tables, const struct acpi_loader_entry *entries, unsigned n);
