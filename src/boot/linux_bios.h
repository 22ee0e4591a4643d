/*
 * A Linux kernel that starts through firmware: the boot protocol's oldest way, in which the
 * kernel's own set-up code runs in real mode and calls the BIOS. iPXE, GRUB, memdisk and old
 * kernels know no other.
 *
 * Firmware gets the parts through fw_cfg (SeaBIOS and OVMF know the keys), and an option ROM of
 * ours that SeaBIOS starts as a boot device: it has fw_cfg put the parts into memory and jumps
 * to the set-up code.
 */
#pragma once

#include "boot/boot.h"

#define LINUX_ROM_SIZE 512

/* A part that fw_cfg hands out, and where in memory it belongs. */
struct linux_bios_part {
    const void *data;
    u32 size, addr;
};

struct linux_bios {
    u8 setup[256 * 512]; /* the set-up code, filled in as a boot loader does */
    struct linux_bios_part parts[4];
    u8 rom[LINUX_ROM_SIZE];
};
enum { LINUX_SETUP, LINUX_KERNEL, LINUX_INITRD, LINUX_COMMAND };

/* The fw_cfg keys of each part's bytes. */
struct linux_bios_keys {
    u16 data[4];
};

/* Whether the kernel has no entry but that one. */
bool linux_bios_wanted(const struct boot_image *kernel);

/* Prepares everything; `initrd` may be NULL, `command_line` and the images must outlive `out`.
 * `ram_end`: of RAM below 4 GiB. False: *err says why this kernel cannot start so. */
bool linux_bios_prepare(struct linux_bios *out, const struct boot_image *kernel,
                        const struct boot_image *initrd, const char *command_line, u64 ram_end,
                        const struct linux_bios_keys *keys, struct error *err);
