/*
 * Memory for generated code, mapped twice: written through one mapping, executed through the
 * other (design 5.1: never writable and executable through one mapping).
 */
#pragma once

#include "base/error.h"

struct code_memory {
    u8 *write;
    const u8 *exec;
    u64 size;
};

/* `size` in bytes, rounded up to pages. `near`: where to run it, if there is room; NULL:
 * anywhere. */
bool code_memory_map(struct code_memory *code, u64 size, void *near, struct error *err);
void code_memory_unmap(struct code_memory *code);
