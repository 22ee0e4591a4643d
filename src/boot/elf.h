/* ELF executables, 32- and 64-bit little-endian x86, as a loader reads them (System V gABI,
 * chapters 4 and 5). Private to boot/. */
#pragma once

#include "boot/layout.h"

struct elf {
    const struct boot_image *image;
    bool is_64;
    u64 entry;     /* e_entry, virtual */
    u64 ph_offset; /* program headers: all inside the image */
    unsigned ph_count;
    unsigned ph_size;
};

/* Whether the image begins like an ELF file at all. */
bool elf_probe(const struct boot_image *image);

/* Checks the file header and finds the program headers. */
bool elf_open(struct elf *elf, const struct boot_image *image, struct error *err);

/* [start, end): where a kernel lies, with everything between its parts. */
struct elf_extent {
    u64 start, end;
};

/* Loads every PT_LOAD segment at its physical address; none may lie below `floor`. */
bool elf_load(const struct elf *elf, const struct boot_config *config, u64 floor,
              struct elf_extent *extent, struct error *err);

/* The physical address of a virtual one in some PT_LOAD segment; itself when in none. */
u64 elf_physical(const struct elf *elf, u64 vaddr);

/* The payload of the first note of this owner and type: its offset in the image and size. */
bool elf_note(const struct elf *elf, const char *owner, u32 type, u64 *offset, u64 *size);
