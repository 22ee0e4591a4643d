/*
 * The header of a Linux kernel image (Documentation/arch/x86/boot.rst, which names every
 * field). Private to boot/.
 */
#pragma once

#include "boot/layout.h"

/* Offsets into the image; those from SETUP_HEADER on are the same in the zero page. */
#define SETUP_HEADER        0x1f1ull
#define HDR_SETUP_SECTS     0x1f1
#define HDR_SYSSIZE         0x1f4
#define HDR_BOOT_FLAG       0x1fe
#define HDR_JUMP            0x200
#define HDR_MAGIC           0x202
#define HDR_VERSION         0x206
#define HDR_TYPE_OF_LOADER  0x210
#define HDR_LOADFLAGS       0x211
#define HDR_CODE32_START    0x214
#define HDR_RAMDISK_IMAGE   0x218
#define HDR_RAMDISK_SIZE    0x21c
#define HDR_HEAP_END_PTR    0x224
#define HDR_CMD_LINE_PTR    0x228
#define HDR_INITRD_ADDR_MAX 0x22c
#define HDR_ALIGNMENT       0x230
#define HDR_RELOCATABLE     0x234
#define HDR_XLOADFLAGS      0x236
#define HDR_CMDLINE_SIZE    0x238
#define HDR_PREF_ADDRESS    0x258
#define HDR_INIT_SIZE       0x260

#define LINUX_BOOT_FLAG 0xaa55
#define LINUX_MAGIC     0x53726448 /* "HdrS" */
#define LOADFLAG_HIGH   BIT(0)
#define LOADFLAG_QUIET  BIT(5)
#define LOADFLAG_HEAP   BIT(7)
#define XLF_KERNEL_64   BIT(0)
#define LOADER_UNKNOWN  0xff /* a loader without a number of its own */
#define SECTOR          512ull

/* A header field that exists only from `version` on. */
static inline u64 linux_field(const struct boot_image *kernel, u64 offset, unsigned size,
                              u16 version)
{
    return image_u16(kernel, HDR_VERSION) >= version ? image_bytes(kernel, offset, size) : 0;
}

/* Bytes of the part before the protected-mode code. */
static inline u64 linux_setup_size(const struct boot_image *kernel)
{
    unsigned sectors = image_u8(kernel, HDR_SETUP_SECTS);
    return ((sectors ? sectors : 4) + 1) * SECTOR;
}
