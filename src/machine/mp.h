/*
 * The MultiProcessor tables (Intel's MultiProcessor Specification 1.4, chapter 4): for systems
 * older than ACPI, or told to do without it. They say what the ACPI tables say.
 */
#pragma once

#include "machine/acpi.h"

struct mp_config {
    const struct acpi_config *board;
    u32 cpu_signature; /* CPUID.1:EAX */
    u32 cpu_features;  /* CPUID.1:EDX */
};

#define MP_MAX_SIZE 0x1000

/*
 * Builds the floating pointer and the configuration table behind it for address `base` (16-byte
 * aligned, below 1 MiB) into `buf` of MP_MAX_SIZE bytes. Returns the size.
 */
size_t mp_build(const struct mp_config *config, u32 base, u8 *buf);
