/*
 * ensure(cond): a bug of ours stops here, in release builds too (law 4). Never for what a
 * guest, an image or a user can bring about: those get an architectural answer or a struct
 * error.
 */
#pragma once

#include "base/types.h"

_Noreturn void ensure_failed(const char *cond, const char *file, int line);

#define ensure(cond)                                                                           \
    do {                                                                                       \
        if (unlikely(!(cond)))                                                                 \
            ensure_failed(#cond, __FILE__, __LINE__);                                          \
    } while (0)
