/*
 * What a VGA's registers and memory make of the screen. Dots that the hardware doubles, in
 * either direction, come out once: mode 13h is a picture of 320 x 200.
 */
#include <stdlib.h>
#include <string.h>

#include "device/vga_state.h"

#define SR1_8_DOTS BIT(0)
#define SR1_OFF    BIT(5)

#define GR5_INTERLEAVE BIT(5) /* CGA's 2 bits a dot */
#define GR5_256        BIT(6)
#define GR6_GRAPHICS   BIT(0)

#define AR10_LINE_GRAPHICS BIT(2)
#define AR10_BLINK         BIT(3)
#define AR10_PAN_SPLIT     BIT(5) /* no panning below the split */
#define AR10_P54           BIT(7) /* two palette bits come from AR14 */

#define CR9_DOUBLE  BIT(7)
#define CR14_DWORD  BIT(6)
#define CR17_RA_A13 BIT(0) /* 0: address bit 13 is the row's bit 0 */
#define CR17_RA_A14 BIT(1)
#define CR17_WRAP15 BIT(5)
#define CR17_BYTE   BIT(6)

static bool is_off(const struct vga *vga)
{
    return (vga->sr[1] & SR1_OFF) || !(vga->ar_index & AR_INDEX_PAS);
}

static unsigned displayed_lines(const struct vga *vga)
{
    const u8 *cr = vga->cr;
    return (cr[0x12] | (cr[7] & 2u) << 7 | (cr[7] & 0x40u) << 3) + 1;
}

static unsigned split_line(const struct vga *vga)
{
    const u8 *cr = vga->cr;
    return cr[0x18] | (cr[7] & 0x10u) << 4 | (cr[9] & 0x40u) << 3;
}

static unsigned columns(const struct vga *vga)
{
    return vga->cr[1] + 1u;
}

static unsigned cell_height(const struct vga *vga)
{
    return (vga->cr[9] & 31) + 1u;
}

/* The memory address of the CRTC's address counter `ma` in a character row's line `ra`. */
static u32 address(const struct vga *vga, u32 ma, unsigned ra)
{
    u8 mode = vga->cr[0x17];
    u32 at = ma;
    if (vga->cr[0x14] & CR14_DWORD)
        at = ma << 2 | (ma >> 12 & 3);
    else if (!(mode & CR17_BYTE))
        at = ma << 1 | (ma >> (mode & CR17_WRAP15 ? 15 : 13) & 1);
    if (!(mode & CR17_RA_A13))
        at = (at & ~0x2000u) | (ra & 1) << 13;
    if (!(mode & CR17_RA_A14))
        at = (at & ~0x4000u) | (ra >> 1 & 1) << 14;
    return at & 0xffff;
}

static const u8 *quad(const struct vga *vga, u32 ma, unsigned ra)
{
    return vga->ram + 4 * address(vga, ma, ra);
}

/* -- Colours ------------------------------------------------------------------------------- */

static void put_dac(const struct vga *vga, u8 index, u8 *rgb)
{
    memcpy(rgb, vga->dac[index & vga->pel_mask], 3);
}

/* A 4-bit colour, through the palette. */
static u8 palette(const struct vga *vga, unsigned colour)
{
    u8 value = vga->ar[colour & vga->ar[0x12] & 15];
    if (vga->ar[0x10] & AR10_P54)
        value = (u8)((value & 15) | (vga->ar[0x14] & 3) << 4);
    return (u8)((value & 0x3f) | (vga->ar[0x14] & 12) << 4);
}

/* -- Text ---------------------------------------------------------------------------------- */

static bool is_text(const struct vga *vga)
{
    return !vga_vbe_on(vga) && !(vga->gr[6] & GR6_GRAPHICS);
}

static unsigned text_rows(const struct vga *vga)
{
    unsigned scan = vga->cr[9] & CR9_DOUBLE ? 2 : 1;
    unsigned rows = displayed_lines(vga) / (cell_height(vga) * scan);
    return rows > SCREEN_MAX_ROWS ? SCREEN_MAX_ROWS : rows;
}

/* A row's first address; below the split they count from 0 again. */
static u32 text_row(const struct vga *vga, unsigned row)
{
    unsigned scan = vga->cr[9] & CR9_DOUBLE ? 2 : 1;
    unsigned height = cell_height(vga) * scan, pitch = vga->cr[0x13] * 2u;
    unsigned above = split_line(vga) / height + 1;
    if (split_line(vga) + 1 < displayed_lines(vga) && row >= above)
        return (row - above) * pitch;
    return (u32)(vga->cr[0xc] << 8 | vga->cr[0xd]) + row * pitch;
}

static struct screen_cell cell(const struct vga *vga, u32 ma)
{
    const u8 *bytes = quad(vga, ma, 0);
    u8 attribute = bytes[1];
    bool blink = vga->ar[0x10] & AR10_BLINK;
    return (struct screen_cell){
        .character = bytes[0],
        .foreground = attribute & 15,
        .background = attribute >> 4 & (blink ? 7 : 15),
        .blinks = blink && (attribute & 0x80),
    };
}

static bool cursor_at(const struct vga *vga, u32 ma)
{
    const u8 *cr = vga->cr;
    unsigned first = cr[0xa] & 31, last = cr[0xb] & 31;
    return !(cr[0xa] & 0x20) && first <= last && first < cell_height(vga) &&
           (ma & 0xffff) == (u32)(cr[0xe] << 8 | cr[0xf]);
}

bool vga_text(void *opaque, struct screen_text *text)
{
    const struct vga *vga = opaque;
    if (is_off(vga) || !is_text(vga))
        return false;
    text->columns = columns(vga);
    text->rows = text_rows(vga);
    text->cursor = false;
    for (unsigned y = 0; y < text->rows; y++) {
        u32 ma = text_row(vga, y);
        for (unsigned x = 0; x < text->columns; x++, ma++) {
            text->cells[y][x] = cell(vga, ma);
            if (!cursor_at(vga, ma))
                continue;
            text->cursor = true;
            text->cursor_column = x;
            text->cursor_row = y;
        }
    }
    return true;
}

/* The 9 dots of line `ra` of a character, the first in bit 8. */
static unsigned glyph(const struct vga *vga, u8 character, bool font_a, unsigned ra)
{
    /* Map select bits: A is 5, 3, 2, and B is 4, 1, 0. They are the same as a rule. */
    unsigned sr3 = vga->sr[3];
    unsigned map = font_a ? (sr3 >> 3 & 4) | (sr3 >> 2 & 3) : (sr3 >> 2 & 4) | (sr3 & 3);
    /* 0, 16, 32, 48, then 8, 24, 40, 56 KiB */
    u32 base = (map & 3) * 0x4000 + (map >> 2) * 0x2000;
    unsigned dots = vga->ram[4 * (base + character * 32u + ra) + 2];
    bool joins = (vga->ar[0x10] & AR10_LINE_GRAPHICS) && (character & 0xe0) == 0xc0;
    return dots << 1 | (joins ? dots & 1 : 0);
}

static void draw_text_line(const struct vga *vga, unsigned y, u8 *rgb)
{
    unsigned height = cell_height(vga), row = y / height, ra = y % height;
    unsigned width = vga->sr[1] & SR1_8_DOTS ? 8 : 9;
    u32 ma = text_row(vga, row);
    for (unsigned x = 0; x < columns(vga); x++, ma++) {
        const u8 *bytes = quad(vga, ma, 0);
        struct screen_cell shown = cell(vga, ma);
        unsigned dots = glyph(vga, bytes[0], bytes[1] & 8, ra);
        /* Underlined: attribute x001 on the underline's line. */
        if ((bytes[1] & 7) == 1 && ra == (vga->cr[0x14] & 31))
            dots = 0x1ff;
        if (cursor_at(vga, ma) && ra >= (vga->cr[0xa] & 31u) && ra <= (vga->cr[0xb] & 31u))
            dots = 0x1ff;
        for (unsigned dot = 0; dot < width; dot++, rgb += 3)
            put_dac(vga,
                    palette(vga, dots & BIT(8 - dot) ? shown.foreground : shown.background),
                    rgb);
    }
}

/* -- Graphics ------------------------------------------------------------------------------ */

/* The dots of one character clock, as DAC indices; returns how many. */
static unsigned shift_out(const struct vga *vga, const u8 *planes, u8 *dots)
{
    if (vga->gr[5] & GR5_256) {
        memcpy(dots, planes, 4);
        return 4;
    }
    for (unsigned i = 0; i < 8; i++) {
        unsigned colour = 0;
        if (vga->gr[5] & GR5_INTERLEAVE) {
            unsigned from = i / 4, shift = 6 - 2 * (i % 4);
            colour = (planes[from] >> shift & 3) | (planes[from + 2] >> shift & 3) << 2;
        } else {
            for (unsigned p = 0; p < 4; p++)
                colour |= (planes[p] >> (7 - i) & 1u) << p;
        }
        dots[i] = palette(vga, colour);
    }
    return 8;
}

static unsigned dots_a_clock(const struct vga *vga)
{
    return vga->gr[5] & GR5_256 ? 4 : 8;
}

/* How many scan lines show the same: doubled ones, and a row's where its number is not part
 * of the address. */
static unsigned repeats(const struct vga *vga)
{
    u8 addressed = ~vga->cr[0x17] & (CR17_RA_A13 | CR17_RA_A14);
    unsigned doubled = vga->cr[9] & CR9_DOUBLE ? 2 : 1;
    return addressed ? doubled : doubled * cell_height(vga);
}

/* One line of a picture that starts at address `ma`, `pan` dots in. */
static void draw_dots(const struct vga *vga, u32 ma, unsigned ra, unsigned pan, u8 *rgb)
{
    unsigned width = columns(vga) * dots_a_clock(vga);
    u8 dots[8];
    for (unsigned x = 0; x < width + pan; ma++) {
        unsigned n = shift_out(vga, quad(vga, ma, ra), dots);
        for (unsigned i = 0; i < n; i++, x++)
            if (x >= pan && x < width + pan)
                put_dac(vga, dots[i], rgb + 3 * (x - pan));
    }
}

static void draw_graphics_line(const struct vga *vga, unsigned y, u8 *rgb)
{
    const u8 *cr = vga->cr;
    unsigned scan = y * repeats(vga), split = split_line(vga);
    unsigned pan = vga->ar[0x13] & 7u, doubled = cr[9] & CR9_DOUBLE ? 2 : 1;
    u32 start = (u32)(cr[0xc] << 8 | cr[0xd]) + (cr[8] >> 5 & 3);
    if (scan > split) {
        scan -= split + 1;
        start = 0;
        pan = vga->ar[0x10] & AR10_PAN_SPLIT ? 0 : pan;
    } else {
        scan += (cr[8] & 31) * doubled;
    }
    unsigned line = scan / doubled, height = cell_height(vga);
    if (vga->gr[5] & GR5_256)
        pan /= 2;
    draw_dots(vga, start + line / height * cr[0x13] * 2, line % height, pan, rgb);
}

/* -- VBE modes ----------------------------------------------------------------------------- */

static void put_rgb(u8 *rgb, u32 red, u32 green, u32 blue)
{
    rgb[0] = (u8)red;
    rgb[1] = (u8)green;
    rgb[2] = (u8)blue;
}

static u32 widen(u32 value, unsigned bits_have)
{
    value <<= 8 - bits_have;
    return value | value >> bits_have;
}

static void put_vbe_dot(const struct vga *vga, const u8 *at, u8 *rgb)
{
    u16 word = 0;
    if (vga->vbe[VBE_BPP] > 8)
        memcpy(&word, at, sizeof(word));
    switch (vga->vbe[VBE_BPP]) {
    case 8:
        put_dac(vga, at[0], rgb);
        break;
    case 15:
        put_rgb(rgb, widen(word >> 10 & 31, 5), widen(word >> 5 & 31, 5), widen(word & 31, 5));
        break;
    case 16:
        put_rgb(rgb, widen(word >> 11, 5), widen(word >> 5 & 63, 6), widen(word & 31, 5));
        break;
    default:
        put_rgb(rgb, at[2], at[1], at[0]);
        break;
    }
}

/* vbe_settle keeps all of it within the memory. */
static void draw_vbe_line(const struct vga *vga, unsigned y, u8 *rgb)
{
    const u16 *vbe = vga->vbe;
    u32 pitch = vga_vbe_pitch(vga), line = (y + vbe[VBE_Y_OFFSET]) * pitch;
    unsigned size = (vbe[VBE_BPP] + 7u) / 8;
    for (unsigned x = 0; x < vbe[VBE_XRES]; x++) {
        u32 column = x + vbe[VBE_X_OFFSET];
        if (vbe[VBE_BPP] != 4) {
            put_vbe_dot(vga, vga->ram + line + column * size, rgb + 3 * x);
            continue;
        }
        const u8 *planes = vga->ram + 4 * (line + column / 8);
        unsigned colour = 0;
        for (unsigned p = 0; p < 4; p++)
            colour |= (planes[p] >> (7 - column % 8) & 1u) << p;
        put_dac(vga, palette(vga, colour), rgb + 3 * x);
    }
}

/* -- The picture --------------------------------------------------------------------------- */

bool vga_size(void *opaque, unsigned *width, unsigned *height)
{
    const struct vga *vga = opaque;
    if (is_off(vga))
        return false;
    if (vga_vbe_on(vga)) {
        *width = vga->vbe[VBE_XRES];
        *height = vga->vbe[VBE_YRES];
    } else if (is_text(vga)) {
        *width = columns(vga) * (vga->sr[1] & SR1_8_DOTS ? 8 : 9);
        *height = text_rows(vga) * cell_height(vga);
    } else {
        *width = columns(vga) * dots_a_clock(vga);
        *height = displayed_lines(vga) / repeats(vga);
    }
    return true;
}

void vga_image(void *opaque, struct screen_image *image)
{
    const struct vga *vga = opaque;
    if (!vga_size(opaque, &image->width, &image->height))
        return;
    image->rgb = calloc(3ul * image->width, image->height);
    if (!image->rgb)
        return;
    for (unsigned y = 0; y < image->height; y++) {
        u8 *rgb = image->rgb + 3ul * image->width * y;
        if (vga_vbe_on(vga))
            draw_vbe_line(vga, y, rgb);
        else if (is_text(vga))
            draw_text_line(vga, y, rgb);
        else
            draw_graphics_line(vga, y, rgb);
    }
}
