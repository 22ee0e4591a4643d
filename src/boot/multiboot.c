/*
 * Multiboot 1 (Multiboot Specification 0.6.96): test kernels and hobby systems. ELF images, or
 * images of any format by the header's address fields (the "a.out kludge").
 */
#include "boot/elf.h"

#define SEARCH_SIZE     8192 /* the header lies in the first 8 KiB (3.1) */
#define HEADER_MAGIC    0x1badb002u
#define LOADER_MAGIC    0x2badb002u
#define HEADER_ALIGN    BIT(0)  /* modules on page boundaries: ours always are */
#define HEADER_MEMORY   BIT(1)  /* wants memory information: always given */
#define HEADER_VIDEO    BIT(2)  /* wants a video mode: a wish that a headless PC cannot grant */
#define HEADER_REQUIRED 0xffffu /* bits that a loader must know or refuse */
#define HEADER_ADDRESS  BIT(16) /* address fields are valid */

#define INFO_MEMORY       BIT(0)
#define INFO_COMMAND_LINE BIT(2)
#define INFO_MODULES      BIT(3)
#define INFO_MAP          BIT(6)
#define INFO_LOADER_NAME  BIT(9)

struct multiboot_info {
    u32 flags;
    u32 mem_lower, mem_upper; /* KiB */
    u32 boot_device;
    u32 command_line;
    u32 n_modules, modules;
    u32 symbols[4];
    u32 map_length, map;
    u32 drives_length, drives;
    u32 config_table;
    u32 loader_name;
};

struct multiboot_module {
    u32 start, end;
    u32 command_line;
    u32 reserved;
};

/* `size` does not count itself. */
struct multiboot_map {
    u32 size;
    u64 addr, length;
    u32 type;
} __attribute__((packed));

#define MAX_MODULES 64
/* From LOW_MODULES on: the list, the loader's name, the modules' command lines. */
#define LOW_NAME    (LOW_MODULES + MAX_MODULES * sizeof(struct multiboot_module))
#define LOW_STRINGS (LOW_NAME + sizeof(LOADER_NAME))

static bool find_header(const struct boot_image *kernel, u64 *offset)
{
    for (u64 at = 0; at < SEARCH_SIZE && image_has(kernel, at, 12); at += 4) {
        if (image_u32(kernel, at) != HEADER_MAGIC)
            continue;
        u32 sum = HEADER_MAGIC + image_u32(kernel, at + 4) + image_u32(kernel, at + 8);
        if (!sum) {
            *offset = at;
            return true;
        }
    }
    return false;
}

bool multiboot_probe(const struct boot_image *kernel)
{
    u64 offset;
    return find_header(kernel, &offset);
}

static bool load_by_address(const struct boot_config *config, u64 header, u64 *entry,
                            struct elf_extent *extent, struct error *err)
{
    const struct boot_image *kernel = &config->kernel;
    if (!image_has(kernel, header, 32))
        return error_set(err, "-kernel '%s' is truncated within its multiboot header",
                         kernel->name);
    u64 header_addr = image_u32(kernel, header + 12);
    u64 load_addr = image_u32(kernel, header + 16);
    u64 load_end = image_u32(kernel, header + 20);
    u64 bss_end = image_u32(kernel, header + 24);
    *entry = image_u32(kernel, header + 28);
    if (load_addr > header_addr || header_addr - load_addr > header)
        return error_set(err,
                         "-kernel '%s': its multiboot header says that it lies at %#llx in an "
                         "image loaded at %#llx, which cannot be",
                         kernel->name, (unsigned long long)header_addr,
                         (unsigned long long)load_addr);
    struct load_part part = {.what = "multiboot image", .addr = load_addr};
    part.offset = header - (header_addr - load_addr);
    /* Zero: all of the file, and no zeros behind it (3.1.3). */
    if (load_end && load_end < load_addr)
        return error_set(err, "-kernel '%s': its multiboot load end is before its start",
                         kernel->name);
    part.file_size = load_end ? load_end - load_addr : kernel->size - part.offset;
    part.size = part.file_size;
    if (bss_end && bss_end < load_addr + part.file_size)
        return error_set(err, "-kernel '%s': its multiboot bss ends before its data",
                         kernel->name);
    if (bss_end)
        part.size = bss_end - load_addr;
    *extent = (struct elf_extent){part.addr, part.addr + part.size};
    return layout_load(config, &part, 0, err);
}

static bool load_kernel(const struct boot_config *config, u64 *entry, struct elf_extent *extent,
                        struct error *err)
{
    const struct boot_image *kernel = &config->kernel;
    struct elf elf;
    u64 header = 0;
    find_header(kernel, &header);
    u32 flags = image_u32(kernel, header + 4);
    u32 known = HEADER_ALIGN | HEADER_MEMORY | HEADER_VIDEO;
    if (flags & HEADER_REQUIRED & ~known)
        return error_set(err, "-kernel '%s' requires unknown multiboot features (flags %#x)",
                         kernel->name, flags);
    if (flags & HEADER_ADDRESS)
        return load_by_address(config, header, entry, extent, err);
    if (!elf_probe(kernel))
        return error_set(err,
                         "multiboot kernel '%s' is no ELF file and its header has no load "
                         "addresses",
                         kernel->name);
    if (!elf_open(&elf, kernel, err) || !elf_load(&elf, config, 0, extent, err))
        return false;
    *entry = elf_physical(&elf, elf.entry);
    if (*entry > UINT32_MAX)
        return error_set(err, "multiboot kernel '%s' has its entry above 4 GiB", kernel->name);
    return true;
}

/*
 * What we pass lies in low memory, as offsets LOW_... from the base that is chosen here: 0, the
 * end of conventional memory, or behind the kernel, whichever a kernel leaves free. False: it
 * leaves nothing.
 */
static bool choose_base(const struct boot_config *config, const struct elf_extent *kernel,
                        u64 *base, struct error *err)
{
    u64 top = align_down(EBDA_START - LOW_END, PAGE_SIZE);
    u64 above = align_up(kernel->end > HIGH_START ? kernel->end : HIGH_START, PAGE_MODULE);
    u64 end = layout_ram_end(config->board);
    *base = kernel->start >= LOW_END ? 0 : kernel->end <= top ? top : above;
    return above <= end - LOW_END || *base != above ||
           error_set(
               err,
               "-kernel '%s' leaves no room for its command line below %llu MiB; give the "
               "machine more with -m",
               config->kernel.name, (unsigned long long)(end / MiB));
}

/* Upwards from the kernel's end, in the order in which they were given. */
static bool load_modules(const struct boot_config *config, u64 base, u64 end, struct error *err)
{
    u64 string = base + LOW_STRINGS;
    if (config->n_modules > MAX_MODULES)
        return error_set(err, "%u multiboot modules are more than the %u that fit (-initrd)",
                         config->n_modules, MAX_MODULES);
    if (end < HIGH_START)
        end = HIGH_START;
    if (base >= end)
        end = base + LOW_END;
    for (unsigned i = 0; i < config->n_modules; i++) {
        const struct boot_module *module = &config->modules[i];
        u64 length = strlen(module->command_line) + 1;
        u64 at = align_up(end, PAGE_MODULE);
        u64 addr = 0;
        if (length > base + LOW_PML4 - string)
            return error_set(err, "the command lines of the multiboot modules are too long");
        if (!layout_module(config, &module->image, at, at + module->image.size, &addr, err))
            return false;
        struct multiboot_module entry = {
            .start = (u32)addr,
            .end = (u32)(addr + module->image.size),
            .command_line = (u32)string,
        };
        layout_write(config->board, base + LOW_MODULES + i * sizeof(entry), &entry,
                     sizeof(entry));
        layout_write(config->board, string, module->command_line, length);
        string += length;
        end = entry.end;
    }
    return true;
}

static u32 write_map(struct board *board, u64 base)
{
    struct map_entry map[MAP_ENTRIES];
    struct multiboot_map entries[MAP_ENTRIES];
    unsigned n = layout_map(board, map);
    for (unsigned i = 0; i < n; i++)
        entries[i] = (struct multiboot_map){
            .size = sizeof(entries[i]) - sizeof(entries[i].size),
            .addr = map[i].addr,
            .length = map[i].size,
            .type = map[i].type,
        };
    layout_write(board, base + LOW_MAP, entries, n * sizeof(entries[0]));
    return (u32)(n * sizeof(entries[0]));
}

bool multiboot_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err)
{
    struct board *board = config->board;
    struct elf_extent kernel;
    u64 entry = 0, base = 0;
    /* The kernel's file name is the first word, as with other loaders: Xen drops it unseen. */
    if (!load_kernel(config, &entry, &kernel, err) ||
        !choose_base(config, &kernel, &base, err) ||
        !layout_command_line(config, config->kernel.name, COMMAND_MAX - 1, base, err) ||
        !load_modules(config, base, kernel.end, err))
        return false;
    struct multiboot_info info = {
        .flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MAP | INFO_LOADER_NAME,
        .mem_lower = EBDA_START / KiB,
        .mem_upper = (u32)((layout_ram_end(board) - HIGH_START) / KiB),
        .command_line = (u32)(base + LOW_COMMAND),
        .n_modules = config->n_modules,
        .modules = (u32)(base + LOW_MODULES),
        .map = (u32)(base + LOW_MAP),
        .map_length = write_map(board, base),
        .loader_name = (u32)(base + LOW_NAME),
    };
    layout_write(board, base + LOW_NAME, LOADER_NAME, sizeof(LOADER_NAME));
    layout_write(board, base + LOW_INFO, &info, sizeof(info));

    layout_enter_32(board, cpu, (u32)entry, base);
    cpu->gpr[RAX] = LOADER_MAGIC;
    cpu->gpr[RBX] = base + LOW_INFO;
    return true;
}
