/*
 * The firmware configuration device (QEMU's docs/specs/fw_cfg): how SeaBIOS learns what the
 * machine is and gets kernel, tables and option ROMs. Selector 510h, data 511h, DMA 514h..51Bh.
 */
#pragma once

#include "platform/board.h"

/* Keys below the files, as far as somebody uses them. */
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
};

#define FW_CFG_FILES    64
#define FW_CFG_NAME_MAX 55

struct fw_cfg;

struct fw_cfg *fw_cfg_create(struct board *board);

/* Items are read-only to the guest. `data` is not copied and must outlive the device. A key or
 * a name that is there already gets the new bytes. */
void fw_cfg_add(struct fw_cfg *fw, u16 key, const void *data, u32 len);
/* A small little-endian integer of `len` bytes, at most 8: this one is copied. */
void fw_cfg_add_int(struct fw_cfg *fw, u16 key, u64 value, u32 len);
/* A named file, as in "etc/e820"; false: the name is too long or there are too many. */
bool fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, u32 len);
