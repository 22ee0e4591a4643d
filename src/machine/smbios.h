/*
 * SMBIOS tables (DMTF DSP0134 2.8): who the machine says it is. cloud-init, dmidecode and
 * systemd read them.
 */
#pragma once

#include "base/types.h"

#define SMBIOS_MAX_SIZE    (16 * KiB)
#define SMBIOS_ANCHOR_SIZE 31
#define SMBIOS_MAX_OEM     64

/* Texts that the user may set (-smbios). */
enum smbios_text {
    SMBIOS_BIOS_VENDOR,
    SMBIOS_BIOS_VERSION,
    SMBIOS_BIOS_DATE,
    SMBIOS_SYSTEM_MANUFACTURER,
    SMBIOS_SYSTEM_PRODUCT,
    SMBIOS_SYSTEM_VERSION,
    SMBIOS_SYSTEM_SERIAL,
    SMBIOS_SYSTEM_SKU,
    SMBIOS_SYSTEM_FAMILY,
    SMBIOS_BOARD_MANUFACTURER,
    SMBIOS_BOARD_PRODUCT,
    SMBIOS_BOARD_VERSION,
    SMBIOS_BOARD_SERIAL,
    SMBIOS_BOARD_ASSET,
    SMBIOS_BOARD_LOCATION,
    SMBIOS_CHASSIS_MANUFACTURER,
    SMBIOS_CHASSIS_VERSION,
    SMBIOS_CHASSIS_SERIAL,
    SMBIOS_CHASSIS_ASSET,
    SMBIOS_CHASSIS_SKU,
    SMBIOS_TEXTS
};

/* The row of -smbios type=TYPE,KEY=... */
struct smbios_key {
    u8 type;
    const char *key;
};
extern const struct smbios_key smbios_keys[SMBIOS_TEXTS];

struct smbios_config {
    const char *text[SMBIOS_TEXTS]; /* NULL: the default */
    const char *oem[SMBIOS_MAX_OEM];
    unsigned n_oem;
    bool board;  /* there is a type 2 */
    u8 uuid[16]; /* as it is written */
    unsigned cpus;
    u32 cpu_id[2];                  /* CPUID 1: EAX, EDX */
    u64 memory_below, memory_above; /* 4 GiB, bytes */
};

/* Writes the structures for address `base` into `tables` (SMBIOS_MAX_SIZE bytes) and their
 * entry point into `anchor`; returns the structures' size, 0 when the texts do not fit. */
size_t smbios_build(const struct smbios_config *config, u32 base, u8 *tables,
                    u8 anchor[SMBIOS_ANCHOR_SIZE]);
