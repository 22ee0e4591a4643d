/* A kernel of a few bytes, as Multiboot 1 has it. */
#pragma once

#include <stdio.h>

#include "base/types.h"

#define TINY_LOAD 0x200000 /* where it is put; the code follows a header of 32 bytes */

/* Writes it as a file for -kernel; it begins with the code's first byte. */
static inline void tiny_write(const char *path, const u8 *code, size_t size)
{
    const u32 header[8] = {0x1badb002, 1 << 16,       -(0x1badb002u + (1 << 16)),
                           TINY_LOAD,  TINY_LOAD,     0,
                           0,          TINY_LOAD + 32};
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(header, sizeof(header), 1, file), 1);
    assert_int_equal(fwrite(code, size, 1, file), 1);
    fclose(file);
}
