/*
 * Mode 3 as IBM's BIOS sets it (Personal System/2 and Personal Computer BIOS Interface, INT
 * 10h), for kernels that start without one: 80 x 25 characters of 9 x 16 dots, 16 colours.
 */
#include <string.h>

#include "device/vga_state.h"

#define FONT_HEIGHT 16
#define FONT_PLANE  2

static const u8 sr[SR_COUNT] = {0x03, 0x00, 0x03, 0x00, 0x02};
static const u8 cr[CR_COUNT] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
                                0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                                0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
static const u8 gr[GR_COUNT] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff};
static const u8 ar[AR_COUNT] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14,
                                0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
                                0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00};

/* EGA's 64 colours: two bits of each part, the high ones first. */
static void set_colours(struct vga *vga)
{
    for (unsigned i = 0; i < 64; i++)
        for (unsigned part = 0; part < 3; part++)
            vga->dac[i][part] =
                (u8)(0xaa * (i >> (2 - part) & 1) + 0x55 * (i >> (5 - part) & 1));
}

/* A video BIOS has its font somewhere: where its second character, the smiling face, is. */
static const u8 *find_font(const u8 *rom, u32 size)
{
    static const u8 face[FONT_HEIGHT] = {0x00, 0x00, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd,
                                         0x99, 0x81, 0x81, 0x7e, 0x00, 0x00, 0x00, 0x00};
    const u8 *at = rom ? memmem(rom, size, face, sizeof(face)) : NULL;
    bool whole = at && at - rom >= FONT_HEIGHT && size - (at - rom) >= 255 * FONT_HEIGHT;
    return whole ? at - FONT_HEIGHT : NULL;
}

static void set_font(struct vga *vga)
{
    const u8 *font = find_font(vga->pci.rom, vga->pci.rom_size);
    for (unsigned c = 0; font && c < 256; c++)
        for (unsigned y = 0; y < FONT_HEIGHT; y++)
            vga->ram[4 * (32 * c + y) + FONT_PLANE] = font[c * FONT_HEIGHT + y];
}

void vga_set_text_mode(struct vga *vga)
{
    vga->misc = 0x67;
    memcpy(vga->sr, sr, sizeof(sr));
    memcpy(vga->cr, cr, sizeof(cr));
    memcpy(vga->gr, gr, sizeof(gr));
    memcpy(vga->ar, ar, sizeof(ar));
    vga->ar_index = AR_INDEX_PAS;
    vga->pel_mask = 0xff;
    set_colours(vga);
    set_font(vga);
    /* Blanks, grey on black; in words of character and attribute at every other address. */
    for (unsigned at = 0; at < 0x8000; at += 2) {
        vga->ram[4 * at] = ' ';
        vga->ram[4 * at + 1] = 0x07;
    }
    vga_use(vga, 4 * 0x8000);
}
