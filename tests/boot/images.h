/* Small valid kernel images, made in memory, to test and to corrupt. */
#pragma once

#include "base/types.h"

struct image_buffer {
    u8 data[32768];
    size_t size;
};

void image_put(struct image_buffer *image, size_t offset, u64 value, unsigned size);

/* A relocatable 64-bit bzImage of protocol 2.15, preferring 16 MiB, needing 4 MiB; its
 * protected-mode part is 8 KiB of bytes 5Ah. */
void image_linux(struct image_buffer *image);

/* An ELF file (32 or 64 bits wide) with a PVH entry at 1 MiB + 10h, one segment at 1 MiB of
 * 100h bytes A5h followed by 100h zeros. */
void image_pvh(struct image_buffer *image, bool is_64);

/* The same as a multiboot kernel: header in the segment. */
void image_multiboot_elf(struct image_buffer *image);

/* A multiboot image by address fields: loads at 2 MiB, entry 2 MiB + 40h, 1 KiB in the file,
 * bss to 4 KiB. */
void image_multiboot_raw(struct image_buffer *image);
