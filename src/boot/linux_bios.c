/* A Linux kernel that starts through firmware, see linux_bios.h. */
#include "boot/linux_bios.h"

#include <endian.h>
#include <stddef.h>

#include "base/ensure.h"
#include "boot/linux_header.h"

/* The set-up code, and its stack and heap up to the command line. A zImage lies at 64 KiB. */
#define SETUP_ADDR       0x10000u
#define COMMAND_ADDR     0x20000u
#define LOW_SETUP        0x90000u
#define LOW_COMMAND_ADDR 0x98000u
#define LOW_KERNEL       0x10000u
#define ENTRY            0x20 /* paragraphs behind the set-up code's first one */

/* Firmware's tables are at the end of memory. */
#define FIRMWARE_RESERVE (1 * MiB)

/* Before 2.02 the command line is told in the old way. */
#define OLD_COMMAND_MAGIC_AT 0x20
#define OLD_COMMAND_MAGIC    0xa33f
#define OLD_COMMAND_AT       0x22

/* -- Which kernels ------------------------------------------------------------------------- */

/* The 32-bit protocol came with 2.06; who has no 32-bit entry says so by an address of none. */
bool linux_bios_wanted(const struct boot_image *kernel)
{
    bool has_64 = linux_field(kernel, HDR_XLOADFLAGS, 2, 0x20c) & XLF_KERNEL_64;
    return linux_probe(kernel) && !has_64 &&
           (image_u16(kernel, HDR_VERSION) < 0x206 ||
            !(image_u8(kernel, HDR_LOADFLAGS) & LOADFLAG_HIGH) ||
            image_u32(kernel, HDR_CODE32_START) < HIGH_START);
}

/* -- The option ROM --------------------------------------------------------------------------
 *
 * A ROM with a Plug and Play header and a bootstrap entry vector (BIOS Boot Specification 1.01,
 * 3.3 and appendix A; Plug and Play BIOS Specification 1.0A, 3.2).
 */

#define FW_CFG_DMA_PORT 0x514
#define DMA_SELECT_READ 0x0a

struct dma { /* fw_cfg's, big-endian */
    u32 control, len;
    u64 addr;
};

struct pnp_header {
    char signature[4];
    u8 revision, paragraphs;
    u16 next;
    u8 reserved0, checksum;
    u32 device;
    u16 manufacturer, product;
    u8 class[3], indicators;
    u16 boot_connection, disconnect, bootstrap, reserved1, resources;
} __attribute__((packed));
_Static_assert(sizeof(struct pnp_header) == 32, "Plug and Play BIOS Specification 1.0A, 3.2");

struct rom {
    u8 signature[2];
    u8 blocks;
    u8 init; /* RETF: there is nothing to do before the start */
    u8 reserved[0x1a - 4];
    u16 pnp_at;
    u8 padding[4];
    struct pnp_header pnp;
    char product[48];
    struct dma dma[4];
    u8 code[LINUX_ROM_SIZE - 0x70 - 4 * sizeof(struct dma) - 1];
    u8 checksum;
} __attribute__((packed));
_Static_assert(sizeof(struct rom) == LINUX_ROM_SIZE, "one block");
_Static_assert(offsetof(struct rom, dma) == 0x70, "as the code has it");

/* Real-mode code; the words marked are filled in. */
static const u8 bootstrap[] = {
    0xfa,                               /* cli */
    0x66, 0x31, 0xed,                   /* xor ebp, ebp */
    0x8c, 0xcd,                         /* mov bp, cs */
    0x66, 0xc1, 0xe5, 0x04,             /* shl ebp, 4 */
    0x66, 0x83, 0xc5, 0x70,             /* add ebp, 70h: the first of the DMA commands */
    0xb9, 0,    0,                      /* mov cx, how many [15] */
    0x66, 0x31, 0xc0,                   /* next: xor eax, eax */
    0xba, 0x14, 0x05,                   /* mov dx, 514h */
    0x66, 0xef,                         /* out dx, eax: the address's high half */
    0x66, 0x89, 0xe8,                   /* mov eax, ebp */
    0x66, 0x0f, 0xc8,                   /* bswap eax */
    0xb2, 0x18,                         /* mov dl, 18h */
    0x66, 0xef,                         /* out dx, eax: does the transfer */
    0x66, 0x83, 0xc5, 0x10,             /* add ebp, 16 */
    0xe2, 0xe8,                         /* loop next */
    0xb8, 0,    0,                      /* mov ax, the set-up code's segment [42] */
    0x8e, 0xd8, 0x8e, 0xc0,             /* mov ds, ax; mov es, ax */
    0x8e, 0xe0, 0x8e, 0xe8, 0x8e, 0xd0, /* mov fs, ax; mov gs, ax; mov ss, ax */
    0x66, 0xbc, 0,    0,    0,    0,    /* mov esp, the heap's end [56] */
    0xea, 0,    0,    0,    0,          /* jmp far the segment + 20h : 0 [61] */
};
enum { COUNT_AT = 15, SEGMENT_AT = 42, STACK_AT = 56, ENTRY_AT = 61 };

static void put(u8 *at, u64 value, unsigned size)
{
    memcpy(at, &value, size);
}

static u8 sum(const void *data, size_t size)
{
    u8 all = 0;
    for (size_t i = 0; i < size; i++)
        all += ((const u8 *)data)[i];
    return all;
}

static void make_rom(struct linux_bios *out, const struct linux_bios_keys *keys, u32 stack)
{
    struct rom *rom = (struct rom *)out->rom;
    u16 segment = (u16)(out->parts[LINUX_SETUP].addr >> 4), n = 0;
    *rom = (struct rom){.signature = {0x55, 0xaa},
                        .blocks = LINUX_ROM_SIZE / 512,
                        .init = 0xcb,
                        .pnp_at = offsetof(struct rom, pnp),
                        .pnp = {.signature = "$PnP",
                                .revision = 1,
                                .paragraphs = 2,
                                .product = offsetof(struct rom, product),
                                .bootstrap = offsetof(struct rom, code)},
                        .product = "Linux kernel"};
    rom->pnp.checksum = (u8)-sum(&rom->pnp, sizeof(rom->pnp));
    for (unsigned i = 0; i < ARRAY_LEN(out->parts); i++) {
        const struct linux_bios_part *part = &out->parts[i];
        if (part->size)
            rom->dma[n++] = (struct dma){htobe32((u32)keys->data[i] << 16 | DMA_SELECT_READ),
                                         htobe32(part->size), htobe64(part->addr)};
    }
    memcpy(rom->code, bootstrap, sizeof(bootstrap));
    put(rom->code + COUNT_AT, n, 2);
    put(rom->code + SEGMENT_AT, segment, 2);
    put(rom->code + STACK_AT, stack, 4);
    put(rom->code + ENTRY_AT + 2, segment + ENTRY, 2);
    rom->checksum = (u8)-sum(rom, sizeof(*rom));
}

/* -- The parts ----------------------------------------------------------------------------- */

/* What a boot loader fills in (boot.rst, "Details of header fields"). */
static void fill_header(struct linux_bios *out, const struct boot_image *kernel, u32 heap)
{
    u16 version = image_u16(kernel, HDR_VERSION);
    u32 command = out->parts[LINUX_COMMAND].addr;
    u8 *setup = out->setup;
    if (version < 0x200)
        return;
    setup[HDR_TYPE_OF_LOADER] = LOADER_UNKNOWN;
    put(setup + HDR_RAMDISK_IMAGE, out->parts[LINUX_INITRD].addr, 4);
    put(setup + HDR_RAMDISK_SIZE, out->parts[LINUX_INITRD].size, 4);
    if (version >= 0x201) {
        setup[HDR_LOADFLAGS] |= LOADFLAG_HEAP;
        put(setup + HDR_HEAP_END_PTR, heap - 0x200, 2);
    }
    if (version >= 0x202) {
        put(setup + HDR_CMD_LINE_PTR, command, 4);
    } else {
        put(setup + OLD_COMMAND_MAGIC_AT, OLD_COMMAND_MAGIC, 2);
        put(setup + OLD_COMMAND_AT, command - out->parts[LINUX_SETUP].addr, 2);
    }
}

static bool place_initrd(struct linux_bios *out, const struct boot_image *kernel,
                         const struct boot_image *initrd, u64 ram_end, struct error *err)
{
    u64 max = linux_field(kernel, HDR_INITRD_ADDR_MAX, 4, 0x203);
    u64 limit = (max ? max : 0x37ffffff) + 1;
    u64 end = ram_end > FIRMWARE_RESERVE ? ram_end - FIRMWARE_RESERVE : 0;
    const struct linux_bios_part *code = &out->parts[LINUX_KERNEL];
    u64 floor = align_up((u64)code->addr + code->size, PAGE_SIZE);
    if (limit > end)
        limit = end;
    if (floor < HIGH_START)
        floor = HIGH_START;
    if (floor > limit || (initrd && initrd->size > limit - floor))
        return error_set(
            err,
            "-kernel '%s' and its initial RAM disk need more than %llu MiB of memory; "
            "give the machine more with -m",
            kernel->name, (unsigned long long)(ram_end / MiB));
    if (!initrd || !initrd->size)
        return true;
    out->parts[LINUX_INITRD] = (struct linux_bios_part){
        initrd->data, (u32)initrd->size, (u32)align_down(limit - initrd->size, PAGE_SIZE)};
    return true;
}

bool linux_bios_prepare(struct linux_bios *out, const struct boot_image *kernel,
                        const struct boot_image *initrd, const char *command_line, u64 ram_end,
                        const struct linux_bios_keys *keys, struct error *err)
{
    u64 setup_size = linux_setup_size(kernel);
    bool high = image_u8(kernel, HDR_LOADFLAGS) & LOADFLAG_HIGH;
    u32 at = high ? SETUP_ADDR : LOW_SETUP, command = high ? COMMAND_ADDR : LOW_COMMAND_ADDR;
    u32 heap = command - at < 0x10000 ? command - at : 0xfe00;
    size_t length = strlen(command_line) + 1;
    if (!linux_probe(kernel))
        return error_set(err,
                         "-kernel '%s' is no Linux kernel image; others start without firmware",
                         kernel->name);
    if (!image_has(kernel, 0, setup_size) || kernel->size == setup_size)
        return error_set(err, "-kernel '%s' is truncated: its set-up part ends beyond the file",
                         kernel->name);
    if (kernel->size - setup_size > (high ? ram_end : LOW_SETUP - LOW_KERNEL) ||
        setup_size > heap || length > (high ? 0x10000u : 0x4000u))
        return error_set(err,
                         "-kernel '%s' or its command line is too large to start through "
                         "firmware",
                         kernel->name);
    memset(out, 0, sizeof(*out));
    memcpy(out->setup, kernel->data, setup_size);
    out->parts[LINUX_SETUP] = (struct linux_bios_part){out->setup, (u32)setup_size, at};
    out->parts[LINUX_KERNEL] =
        (struct linux_bios_part){kernel->data + setup_size, (u32)(kernel->size - setup_size),
                                 high ? (u32)HIGH_START : LOW_KERNEL};
    out->parts[LINUX_COMMAND] = (struct linux_bios_part){command_line, (u32)length, command};
    if (!place_initrd(out, kernel, initrd, ram_end, err))
        return false;
    fill_header(out, kernel, heap);
    make_rom(out, keys, heap);
    return true;
}
