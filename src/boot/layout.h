/*
 * Where the loaders put things in guest memory, and what they share: image bytes, the memory
 * map, the entry states of the processor. Private to boot/.
 *
 * Low memory is ours until the kernel has read what it wants; kernels go to 1 MiB and above, or
 * at least not into [0, LOW_END). A multiboot kernel may lie there, and what we pass moves.
 */
#pragma once

#include <string.h>

#include "boot/boot.h"

#define LOW_GDT     0x500ull   /* four descriptors */
#define LOW_INFO    0x1000ull  /* zero page, hvm_start_info or multiboot information */
#define LOW_MAP     0x2000ull  /* memory map, where it is not part of the above */
#define LOW_MODULES 0x3000ull  /* module list, then their command lines; to LOW_PML4 */
#define LOW_PML4    0x8000ull  /* identity map of the first 4 GiB: one page */
#define LOW_PDPT    0x9000ull  /* one page */
#define LOW_PD      0xa000ull  /* four pages */
#define LOW_COMMAND 0x10000ull /* the command line, at most COMMAND_MAX with its zero */
#define COMMAND_MAX 0x10000ull
#define LOW_END     0x20000ull
#define EBDA_START  0x9fc00ull /* conventional memory ends here */
#define EBDA_END    0xa0000ull
#define ROM_START   0xe0000ull /* ACPI tables, and firmware if there were one */
#define HIGH_START  (1 * MiB)
#define PAGE_MODULE 4096ull
#define LOADER_NAME "Doppel"

/* -- Image bytes --------------------------------------------------------------------------- */

/* Whether [offset, offset + size) is inside the image, for any values. */
static inline bool image_has(const struct boot_image *image, u64 offset, u64 size)
{
    return offset <= image->size && size <= image->size - offset;
}

/* Little-endian integers. The caller has asked image_has; beyond the end they are zero. */
static inline u64 image_bytes(const struct boot_image *image, u64 offset, unsigned size)
{
    u64 value = 0;
    if (image_has(image, offset, size))
        memcpy(&value, image->data + offset, size);
    return value;
}
static inline u8 image_u8(const struct boot_image *image, u64 offset)
{
    return (u8)image_bytes(image, offset, 1);
}
static inline u16 image_u16(const struct boot_image *image, u64 offset)
{
    return (u16)image_bytes(image, offset, 2);
}
static inline u32 image_u32(const struct boot_image *image, u64 offset)
{
    return (u32)image_bytes(image, offset, 4);
}
static inline u64 image_u64(const struct boot_image *image, u64 offset)
{
    return image_bytes(image, offset, 8);
}

/* -- The memory map ------------------------------------------------------------------------ */

enum map_type { MAP_RAM = 1, MAP_RESERVED = 2 }; /* as E820 numbers them */

struct map_entry {
    u64 addr, size;
    u32 type;
};

#define MAP_ENTRIES 5

/* Fills the map, sorted by address, and returns how many entries it has. */
unsigned layout_map(const struct board *board, struct map_entry map[MAP_ENTRIES]);

/* The end of RAM below 4 GiB. */
u64 layout_ram_end(const struct board *board);

/* -- Writing ------------------------------------------------------------------------------- */

/* RAM that we know to be there. */
void layout_write(struct board *board, u64 addr, const void *data, u64 size);

/*
 * A part of a kernel: `file_size` bytes of the image at `offset` go to `addr`, and zeros follow
 * up to `size`. False: outside the image or of RAM below 4 GiB, or below `floor`, where the
 * loader's own data lies. `what` names the part in the message.
 */
struct load_part {
    const char *what;
    u64 addr, size;
    u64 offset, file_size;
};
bool layout_load(const struct boot_config *config, const struct load_part *part, u64 floor,
                 struct error *err);

/*
 * Puts a module at the highest page that leaves it below `limit` and above `floor`; *addr says
 * where. False: no room.
 */
bool layout_module(const struct boot_config *config, const struct boot_image *module, u64 floor,
                   u64 limit, u64 *addr, struct error *err);

/*
 * The command line with its zero at `base` + LOW_COMMAND, behind `name` and a space unless that
 * is NULL. False: it is longer than `max` bytes without the zero.
 */
bool layout_command_line(const struct boot_config *config, const char *name, u64 max, u64 base,
                         struct error *err);

/* -- Entry states -------------------------------------------------------------------------- */

/* Flat 32-bit protected mode, paging off, interrupts off, at `entry`; its GDT lies at `base` +
 * LOW_GDT. */
void layout_enter_32(struct board *board, struct x86_cpu *cpu, u32 entry, u64 base);
/* 64-bit mode, the first 4 GiB mapped one to one, interrupts off, at `entry`. */
void layout_enter_64(struct board *board, struct x86_cpu *cpu, u64 entry);

/* -- The protocols ------------------------------------------------------------------------- */

bool linux_probe(const struct boot_image *kernel);
bool linux_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err);

bool multiboot_probe(const struct boot_image *kernel);
bool multiboot_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err);

bool pvh_probe(const struct boot_image *kernel);
bool pvh_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err);
