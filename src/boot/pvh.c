/*
 * PVH: an ELF kernel with a Xen note that names a 32-bit entry point (Xen docs/misc/pvh.pandoc,
 * xen/include/public/arch-x86/hvm/start_info.h). Linux's vmlinux has one.
 */
#include "boot/elf.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC         0x336ec578
#define START_INFO_VERSION       1 /* with a memory map */

struct hvm_start_info {
    u32 magic;
    u32 version;
    u32 flags;
    u32 n_modules;
    u64 modules;
    u64 command_line;
    u64 rsdp;
    u64 memory_map;
    u32 n_memory_map;
    u32 reserved;
};

struct hvm_module {
    u64 addr, size;
    u64 command_line;
    u64 reserved;
};

struct hvm_memory {
    u64 addr, size;
    u32 type;
    u32 reserved;
};

static bool find_entry(const struct elf *elf, u32 *entry)
{
    u64 offset = 0;
    u64 size = 0;
    if (!elf_note(elf, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, &offset, &size) ||
        (size != 4 && size != 8))
        return false;
    u64 value = image_bytes(elf->image, offset, (unsigned)size);
    *entry = (u32)value;
    return value <= UINT32_MAX;
}

bool pvh_probe(const struct boot_image *kernel)
{
    /* Any ELF file: then the messages can be about what exactly is wrong with it. */
    return elf_probe(kernel);
}

static unsigned write_map(struct board *board)
{
    struct map_entry map[MAP_ENTRIES];
    struct hvm_memory memory[MAP_ENTRIES] = {0};
    unsigned n = layout_map(board, map);
    for (unsigned i = 0; i < n; i++) {
        memory[i].addr = map[i].addr;
        memory[i].size = map[i].size;
        memory[i].type = map[i].type;
    }
    layout_write(board, LOW_MAP, memory, n * sizeof(memory[0]));
    return n;
}

bool pvh_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err)
{
    struct elf elf;
    u32 entry = 0;
    struct elf_extent extent;
    struct hvm_start_info info = {
        .magic = START_INFO_MAGIC,
        .version = START_INFO_VERSION,
        .command_line = LOW_COMMAND,
        .rsdp = config->rsdp,
        .memory_map = LOW_MAP,
    };

    if (!elf_open(&elf, &config->kernel, err))
        return false;
    if (!find_entry(&elf, &entry))
        return error_set(
            err,
            "-kernel '%s' is an ELF file without a PVH entry note and without a "
            "multiboot header; a Linux kernel needs CONFIG_PVH, or give its bzImage",
            config->kernel.name);
    if (config->n_modules > 1)
        return error_set(err, "a PVH kernel takes one initial RAM disk, not %u (-initrd)",
                         config->n_modules);
    if (!layout_command_line(config, NULL, COMMAND_MAX - 1, 0, err) ||
        !elf_load(&elf, config, LOW_END, &extent, err))
        return false;
    if (config->n_modules) {
        struct hvm_module module = {.size = config->modules->image.size};
        if (!layout_module(config, &config->modules->image, extent.end, UINT32_MAX,
                           &module.addr, err))
            return false;
        layout_write(config->board, LOW_MODULES, &module, sizeof(module));
        info.modules = LOW_MODULES;
        info.n_modules = 1;
    }
    info.n_memory_map = write_map(config->board);
    layout_write(config->board, LOW_INFO, &info, sizeof(info));

    layout_enter_32(config->board, cpu, entry, 0);
    cpu->gpr[RBX] = LOW_INFO;
    return true;
}
