/*
 * Linux bzImage: the 64-bit boot protocol where the kernel has it, else the 32-bit one
 * (Documentation/arch/x86/boot.rst and zero-page.rst, which name every field below).
 */
#include "boot/linux_header.h"

/* The zero page's other fields. */
#define ZERO_VIDEO_MODE    0x006
#define ZERO_VIDEO_COLUMNS 0x007
#define ZERO_VIDEO_EGA_BX  0x00a
#define ZERO_VIDEO_LINES   0x00e
#define ZERO_VIDEO_IS_VGA  0x00f
#define ZERO_VIDEO_POINTS  0x010
#define ZERO_ACPI_RSDP     0x070
#define ZERO_ALT_MEM_K     0x1e0
#define ZERO_E820_ENTRIES  0x1e8
#define ZERO_E820_TABLE    0x2d0

#define ENTRY_64 0x200

struct bzimage {
    u16 version;
    u64 setup_size;   /* of the real-mode part, which is not run */
    u64 payload_size; /* of the protected-mode part */
    u64 load_addr;
    u64 memory_size; /* what it needs from load_addr on until it has its own map */
    bool long_mode;
};

bool linux_probe(const struct boot_image *kernel)
{
    return image_has(kernel, 0, HDR_TYPE_OF_LOADER) &&
           image_u16(kernel, HDR_BOOT_FLAG) == LINUX_BOOT_FLAG &&
           image_u32(kernel, HDR_MAGIC) == LINUX_MAGIC;
}

/* Where the kernel goes: where it prefers, if that is RAM, else where it may be moved to. */
static bool place(const struct boot_image *kernel, struct bzimage *bz, u64 ram_end,
                  struct error *err)
{
    bool relocatable = linux_field(kernel, HDR_RELOCATABLE, 1, 0x205);
    u64 alignment = linux_field(kernel, HDR_ALIGNMENT, 4, 0x205);
    u64 preferred = linux_field(kernel, HDR_PREF_ADDRESS, 8, 0x20a);
    u64 init_size = linux_field(kernel, HDR_INIT_SIZE, 4, 0x20a);

    bz->memory_size = init_size > bz->payload_size ? init_size : bz->payload_size;
    if (relocatable && (!alignment || (alignment & (alignment - 1))))
        return error_set(err, "-kernel '%s': kernel_alignment %#llx is no power of two",
                         kernel->name, (unsigned long long)alignment);
    bz->load_addr = preferred ? preferred : HIGH_START;
    bool fits = bz->load_addr >= HIGH_START && bz->load_addr <= ram_end &&
                bz->memory_size <= ram_end - bz->load_addr;
    if (!fits && relocatable) {
        bz->load_addr = align_up(HIGH_START, alignment);
        fits = bz->load_addr <= ram_end && bz->memory_size <= ram_end - bz->load_addr;
    }
    if (!fits)
        return error_set(err,
                         "-kernel '%s' needs %llu MiB from address %#llx on and the machine's "
                         "memory ends at %llu MiB; give it more with -m",
                         kernel->name, (bz->memory_size + MiB - 1) / MiB,
                         (unsigned long long)bz->load_addr, ram_end / MiB);
    return true;
}

static bool parse(const struct boot_image *kernel, struct bzimage *bz, u64 ram_end,
                  struct error *err)
{
    bz->version = image_u16(kernel, HDR_VERSION);
    if (bz->version < 0x202)
        return error_set(err,
                         "-kernel '%s' speaks boot protocol %u.%02u; 2.02 is the oldest here",
                         kernel->name, bz->version >> 8, bz->version & 0xff);
    if (!(image_u8(kernel, HDR_LOADFLAGS) & LOADFLAG_HIGH))
        return error_set(err,
                         "-kernel '%s' is a zImage that loads low; only a bzImage can start",
                         kernel->name);
    bz->setup_size = linux_setup_size(kernel);
    u64 header_end = HDR_MAGIC + image_u8(kernel, HDR_JUMP + 1);
    if (!image_has(kernel, 0, bz->setup_size) || header_end > bz->setup_size)
        return error_set(err, "-kernel '%s' is truncated: its set-up part ends beyond the file",
                         kernel->name);
    bz->payload_size = kernel->size - bz->setup_size;
    /* syssize counts paragraphs, rounded up, and may count a checksum that is not there. */
    u64 system_size = (u64)linux_field(kernel, HDR_SYSSIZE, 4, 0x204) * 16;
    if (!bz->payload_size || system_size > align_up(bz->payload_size, 16) + 16)
        return error_set(err, "-kernel '%s' is truncated: it has %llu of %llu bytes",
                         kernel->name, (unsigned long long)kernel->size,
                         (unsigned long long)(bz->setup_size + system_size));
    bz->long_mode = linux_field(kernel, HDR_XLOADFLAGS, 2, 0x20c) & XLF_KERNEL_64;
    if (bz->long_mode && bz->payload_size <= ENTRY_64)
        return error_set(err, "-kernel '%s' is truncated before its 64-bit entry",
                         kernel->name);
    return place(kernel, bz, ram_end, err);
}

static bool load_initrd(const struct boot_config *config, const struct bzimage *bz, u32 *addr,
                        u32 *size, struct error *err)
{
    u64 max = linux_field(&config->kernel, HDR_INITRD_ADDR_MAX, 4, 0x203);
    u64 limit = (max ? max : 0x37ffffff) + 1;
    u64 at = 0;
    if (config->n_modules > 1)
        return error_set(err, "a Linux kernel takes one initial RAM disk, not %u (-initrd)",
                         config->n_modules);
    if (!config->n_modules || !config->modules->image.size)
        return true;
    if (!layout_module(config, &config->modules->image, bz->load_addr + bz->memory_size, limit,
                       &at, err))
        return false;
    *addr = (u32)at;
    *size = (u32)config->modules->image.size;
    return true;
}

static void put(u8 *page, u64 offset, u64 value, unsigned size)
{
    memcpy(page + offset, &value, size);
}

/* screen_info, of mode 3: its numbers, "is a VGA", 80 x 25 characters 16 lines high. */
static void put_screen(u8 *zero_page)
{
    zero_page[ZERO_VIDEO_MODE] = 3;
    zero_page[ZERO_VIDEO_COLUMNS] = 80;
    put(zero_page, ZERO_VIDEO_EGA_BX, 3, 2); /* 256 KiB */
    zero_page[ZERO_VIDEO_LINES] = 25;
    zero_page[ZERO_VIDEO_IS_VGA] = 1;
    put(zero_page, ZERO_VIDEO_POINTS, 16, 2);
}

static void put_e820(const struct boot_config *config, u8 *zero_page)
{
    struct map_entry map[MAP_ENTRIES];
    unsigned n = layout_map(config->board, map);
    for (unsigned i = 0; i < n; i++) {
        u8 *entry = zero_page + ZERO_E820_TABLE + i * 20;
        put(entry, 0, map[i].addr, 8);
        put(entry, 8, map[i].size, 8);
        put(entry, 16, map[i].type, 4);
    }
    zero_page[ZERO_E820_ENTRIES] = (u8)n;
    put(zero_page, ZERO_ALT_MEM_K, (layout_ram_end(config->board) - HIGH_START) / KiB, 4);
}

bool linux_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err)
{
    const struct boot_image *kernel = &config->kernel;
    struct bzimage bz;
    u8 zero_page[4096] = {0};
    u32 initrd_addr = 0;
    u32 initrd_size = 0;

    if (!parse(kernel, &bz, layout_ram_end(config->board), err))
        return false;
    u64 command_max = linux_field(kernel, HDR_CMDLINE_SIZE, 4, 0x206);
    if (!layout_command_line(config, NULL, command_max ? command_max : 255, 0, err))
        return false;
    const struct load_part payload = {
        .what = "protected-mode part",
        .addr = bz.load_addr,
        .size = bz.payload_size,
        .offset = bz.setup_size,
        .file_size = bz.payload_size,
    };
    if (!layout_load(config, &payload, LOW_END, err) ||
        !load_initrd(config, &bz, &initrd_addr, &initrd_size, err))
        return false;

    u64 header_end = HDR_MAGIC + image_u8(kernel, HDR_JUMP + 1);
    memcpy(zero_page + SETUP_HEADER, kernel->data + SETUP_HEADER, header_end - SETUP_HEADER);
    zero_page[HDR_TYPE_OF_LOADER] = LOADER_UNKNOWN;
    zero_page[HDR_LOADFLAGS] &= (u8) ~(LOADFLAG_QUIET | LOADFLAG_HEAP);
    put(zero_page, HDR_CODE32_START, bz.load_addr, 4);
    put(zero_page, HDR_RAMDISK_IMAGE, initrd_addr, 4);
    put(zero_page, HDR_RAMDISK_SIZE, initrd_size, 4);
    put(zero_page, HDR_CMD_LINE_PTR, LOW_COMMAND, 4);
    put(zero_page, ZERO_ACPI_RSDP, config->rsdp, 8);
    if (config->text_screen)
        put_screen(zero_page);
    put_e820(config, zero_page);
    layout_write(config->board, LOW_INFO, zero_page, sizeof(zero_page));

    if (bz.long_mode)
        layout_enter_64(config->board, cpu, bz.load_addr + ENTRY_64);
    else
        layout_enter_32(config->board, cpu, (u32)bz.load_addr, 0);
    cpu->gpr[RSI] = LOW_INFO;
    return true;
}
