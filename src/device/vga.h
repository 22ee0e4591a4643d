/*
 * A VGA (IBM Personal System/2 Hardware Interface Technical Reference, Video Subsystem) with
 * Bochs's VBE extensions (QEMU's docs/specs/standard-vga): ports 3B0h..3DFh and 1CEh..1CFh, the
 * window A0000h..BFFFFh, and as a PCI device (1234:1111) the linear frame buffer in BAR 0,
 * registers in BAR 2, and the video BIOS as expansion ROM.
 */
#pragma once

#include "device/pci.h"
#include "platform/screen.h"

struct vga;

#define VGA_WINDOW      0xa0000u
#define VGA_WINDOW_SIZE 0x20000u

/* `rom` is the video BIOS's image, which must outlive the device; NULL: none. Fills in *screen.
 * A PCI slot is free. Under the board lock. */
struct vga *vga_create(struct board *board, struct pci_host *host, const void *rom,
                       u32 rom_size, struct screen *screen);

/* Text mode 3 with an empty screen, as a video BIOS leaves it; the font is that of the ROM, if
 * it has one. After a reset, where no firmware starts; under the board lock. */
void vga_set_text_mode(struct vga *vga);
