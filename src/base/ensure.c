/* The end of a program that found a bug in itself. */
#include "base/ensure.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void ensure_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "doppel: internal error: '%s' does not hold at %s:%d\n", cond, file, line);
    abort();
}
