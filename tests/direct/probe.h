/* What a test of cells asks first. */
#pragma once

#include <stdio.h>

#include "engine/engine.h"

/* False, and why on standard output: this host allows no cells; the test exits with 77. */
static inline bool probe_direct(void)
{
    struct error why;
    bool can = direct_engine.probe(&why);
    if (!can)
        printf("SKIP: %s\n", why.text);
    return can;
}
