/* Kernel images for tests, see images.h. */
#include "images.h"

#include <string.h>

#include "base/bits.h"

#define SETUP_SECTORS 4
#define PAYLOAD       8192

void image_put(struct image_buffer *image, size_t offset, u64 value, unsigned size)
{
    memcpy(image->data + offset, &value, size);
}

void image_linux(struct image_buffer *image)
{
    size_t setup = (SETUP_SECTORS + 1) * 512;
    memset(image, 0, sizeof(*image));
    image->size = setup + PAYLOAD;
    memset(image->data + setup, 0x5a, PAYLOAD);
    image_put(image, 0x1f1, SETUP_SECTORS, 1);
    image_put(image, 0x1f4, PAYLOAD / 16, 4);
    image_put(image, 0x1fe, 0xaa55, 2);
    image_put(image, 0x200, 0x6aeb, 2); /* jump over a header of 6Ah bytes */
    memcpy(image->data + 0x202, "HdrS", 4);
    image_put(image, 0x206, 0x20f, 2);
    image_put(image, 0x211, 1, 1);          /* loads high */
    image_put(image, 0x22c, 0x7fffffff, 4); /* initrd_addr_max */
    image_put(image, 0x230, 2 * MiB, 4);    /* kernel_alignment */
    image_put(image, 0x234, 1, 1);          /* relocatable */
    image_put(image, 0x236, 1, 2);          /* XLF_KERNEL_64 */
    image_put(image, 0x238, 2047, 4);       /* cmdline_size */
    image_put(image, 0x258, 16 * MiB, 8);   /* pref_address */
    image_put(image, 0x260, 4 * MiB, 4);    /* init_size */
}

/* Headers at 0, program headers behind them, note at 400h, segment at 1000h. */
static void elf_header(struct image_buffer *image, bool is_64, unsigned n_segments)
{
    memset(image, 0, sizeof(*image));
    image->size = 0x1100;
    memcpy(image->data, "\177ELF", 4);
    image_put(image, 4, is_64 ? 2 : 1, 1);
    image_put(image, 5, 1, 1);
    image_put(image, 6, 1, 1);
    image_put(image, 16, 2, 2); /* executable */
    image_put(image, 18, is_64 ? 62 : 3, 2);
    image_put(image, 20, 1, 4);
    image_put(image, 24, 0x100010, is_64 ? 8 : 4);
    image_put(image, is_64 ? 32 : 28, 64, is_64 ? 8 : 4); /* e_phoff */
    image_put(image, is_64 ? 54 : 42, is_64 ? 56 : 32, 2);
    image_put(image, is_64 ? 56 : 44, n_segments, 2);
    memset(image->data + 0x1000, 0xa5, 0x100);
}

static void elf_segment(struct image_buffer *image, bool is_64, unsigned n, u32 type,
                        u64 offset, u64 addr, u64 file_size, u64 memory_size)
{
    size_t at = 64 + n * (is_64 ? 56u : 32u);
    image_put(image, at, type, 4);
    if (is_64) {
        image_put(image, at + 8, offset, 8);
        image_put(image, at + 16, addr, 8);
        image_put(image, at + 24, addr, 8);
        image_put(image, at + 32, file_size, 8);
        image_put(image, at + 40, memory_size, 8);
        image_put(image, at + 48, 4, 8);
    } else {
        image_put(image, at + 4, offset, 4);
        image_put(image, at + 8, addr, 4);
        image_put(image, at + 12, addr, 4);
        image_put(image, at + 16, file_size, 4);
        image_put(image, at + 20, memory_size, 4);
        image_put(image, at + 28, 4, 4);
    }
}

void image_pvh(struct image_buffer *image, bool is_64)
{
    elf_header(image, is_64, 2);
    elf_segment(image, is_64, 0, 1, 0x1000, 0x100000, 0x100, 0x200);
    elf_segment(image, is_64, 1, 4, 0x400, 0, 20, 20);
    image_put(image, 0x400, 4, 4); /* name size, payload size, type */
    image_put(image, 0x404, 4, 4);
    image_put(image, 0x408, 18, 4);
    memcpy(image->data + 0x40c, "Xen", 4);
    image_put(image, 0x410, 0x100010, 4);
}

static void multiboot_header(struct image_buffer *image, size_t at, u32 flags)
{
    image_put(image, at, 0x1badb002, 4);
    image_put(image, at + 4, flags, 4);
    image_put(image, at + 8, -(0x1badb002 + flags), 4);
}

void image_multiboot_elf(struct image_buffer *image)
{
    elf_header(image, false, 1);
    elf_segment(image, false, 0, 1, 0x1000, 0x100000, 0x100, 0x200);
    multiboot_header(image, 0x1000, 3);
}

void image_multiboot_raw(struct image_buffer *image)
{
    memset(image, 0, sizeof(*image));
    image->size = 0x400 + 0x20;
    memset(image->data + 0x20, 0x77, 0x400);
    multiboot_header(image, 0x30, 1 << 16);
    image_put(image, 0x3c, 0x200010, 4); /* header_addr */
    image_put(image, 0x40, 0x200000, 4); /* load_addr */
    image_put(image, 0x44, 0x200400, 4); /* load_end_addr */
    image_put(image, 0x48, 0x201000, 4); /* bss_end_addr */
    image_put(image, 0x4c, 0x200040, 4); /* entry_addr */
}
