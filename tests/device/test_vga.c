/* The VGA: registers, memory through its write and read modes, text, graphics, VBE,
 * pictures. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/vga.h"
#include "memory/pmap.h"
#include "host/picture.h"

#define WINDOW 0xa0000u
#define VBE(t, index, value)                                                                   \
    do {                                                                                       \
        out16((t)->f, 0x1ce, index);                                                           \
        out16((t)->f, 0x1cf, value);                                                           \
    } while (0)

enum { XRES = 1, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY };

struct vga_test {
    struct fixture *f;
    struct full_board full;
    struct screen_text text;
};

static int setup(void **state)
{
    struct vga_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(1);
    fixture_add_ram(t->f, 2 * MiB);
    full_board_init(&t->full, t->f);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct vga_test *t = *state;
    fixture_destroy(t->f);
    full_board_destroy(&t->full);
    test_free(t);
    return 0;
}

static void indexed(struct vga_test *t, u16 port, u8 index, u8 value)
{
    out16(t->f, port, (u16)(value << 8 | index));
}

static u8 read_indexed(struct vga_test *t, u16 port, u8 index)
{
    out8(t->f, port, index);
    return in8(t->f, port + 1);
}

static void attribute(struct vga_test *t, u8 index, u8 value)
{
    in8(t->f, 0x3da);
    out8(t->f, 0x3c0, index);
    out8(t->f, 0x3c0, value);
}

static u8 peek(struct vga_test *t, u32 addr)
{
    return (u8)bus_read(&t->f->board, BUS_MMIO, addr, 1);
}

static void poke(struct vga_test *t, u32 addr, u8 value)
{
    bus_write(&t->f->board, BUS_MMIO, addr, 1, value);
}

/* A mode as IBM's BIOS sets it: miscellaneous, SR1..4, CR0..18h, GR0..8, and AR10h..13h behind
 * a palette of all colours. */
struct mode {
    u8 misc, sr[4], cr[25], gr[9], ar[4];
};

static const struct mode mode_3 = {
    0x67,
    {0x00, 0x03, 0x00, 0x02},
    {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff},
    {0x0c, 0x00, 0x0f, 0x08},
};
static const struct mode mode_12 = {
    0xe3,
    {0x01, 0x0f, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff},
    {0x01, 0x00, 0x0f, 0x00},
};
static const struct mode mode_13 = {
    0x63,
    {0x01, 0x0f, 0x00, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff},
    {0x41, 0x00, 0x0f, 0x00},
};
static const struct mode mode_4 = {
    0x63,
    {0x09, 0x03, 0x00, 0x02},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x00, 0xff},
    {0x01, 0x00, 0x03, 0x00},
};

static void set_mode(struct vga_test *t, const struct mode *mode)
{
    out8(t->f, 0x3c2, mode->misc);
    for (u8 i = 0; i < 4; i++)
        indexed(t, 0x3c4, i + 1, mode->sr[i]);
    indexed(t, 0x3d4, 0x11, 0);
    for (u8 i = 0; i < 25; i++)
        indexed(t, 0x3d4, i, mode->cr[i]);
    for (u8 i = 0; i < 9; i++)
        indexed(t, 0x3ce, i, mode->gr[i]);
    for (u8 i = 0; i < 16; i++)
        attribute(t, i, i);
    for (u8 i = 0; i < 4; i++)
        attribute(t, 0x10 + i, mode->ar[i]);
    out8(t->f, 0x3c0, 0x20); /* the screen is on */
    /* Colour n is (n, 2n, 3n) in 6 bits. */
    out8(t->f, 0x3c8, 0);
    for (unsigned i = 0; i < 256; i++)
        for (unsigned part = 1; part <= 3; part++)
            out8(t->f, 0x3c9, (u8)(i * part & 0x3f));
}

static u8 wide(unsigned value)
{
    value &= 0x3f;
    return (u8)(value << 2 | value >> 4);
}

/* The picture's dot is that colour of the DAC above. */
static void expect_dot(const struct screen_image *image, unsigned x, unsigned y,
                       unsigned colour)
{
    const u8 *dot = image->rgb + 3 * (y * image->width + x);
    assert_int_equal(dot[0], wide(colour));
    assert_int_equal(dot[1], wide(2 * colour));
    assert_int_equal(dot[2], wide(3 * colour));
}

static struct screen_image image(struct vga_test *t, unsigned width, unsigned height)
{
    struct screen_image image;
    assert_true(screen_image(&t->full.screen, &image));
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    return image;
}

static void test_registers(void **state)
{
    struct vga_test *t = *state;
    indexed(t, 0x3c4, 1, 0xff);
    assert_int_equal(read_indexed(t, 0x3c4, 1), 0x3d);
    indexed(t, 0x3ce, 5, 0xff);
    assert_int_equal(read_indexed(t, 0x3ce, 5), 0x7b);
    assert_int_equal(read_indexed(t, 0x3ce, 12), 0);
    attribute(t, 0x13, 0xff);
    assert_int_equal(in8(t->f, 0x3c1), 0x0f);
    attribute(t, 0x02, 0x15);
    out8(t->f, 0x3c0, 0x22); /* while the palette is shown it is not written */
    out8(t->f, 0x3c0, 0x2a);
    assert_int_equal(in8(t->f, 0x3c1), 0x15);
    /* The CRTC's protection leaves but one bit. */
    indexed(t, 0x3d4, 7, 0x00);
    indexed(t, 0x3d4, 0x11, 0x80);
    indexed(t, 0x3d4, 7, 0xff);
    indexed(t, 0x3d4, 0, 0x5f);
    assert_int_equal(read_indexed(t, 0x3d4, 7), 0x10);
    assert_int_equal(read_indexed(t, 0x3d4, 0), 0);
    indexed(t, 0x3d4, 8, 0x77);
    assert_int_equal(read_indexed(t, 0x3d4, 8), 0x77);
    /* It moves to 3B4h with the miscellaneous register. */
    assert_int_equal(in8(t->f, 0x3b5), 0xff);
    out8(t->f, 0x3c2, in8(t->f, 0x3cc) & ~1);
    assert_int_equal(in8(t->f, 0x3d5), 0xff);
    assert_int_equal(in8(t->f, 0x3b5), 0x77);
}

static void test_dac(void **state)
{
    struct vga_test *t = *state;
    out8(t->f, 0x3c8, 5);
    for (u8 i = 0; i < 6; i++)
        out8(t->f, 0x3c9, 0x30 + i);
    assert_int_equal(in8(t->f, 0x3c7), 0);
    out8(t->f, 0x3c7, 5);
    assert_int_equal(in8(t->f, 0x3c7), 3);
    for (u8 i = 0; i < 6; i++)
        assert_int_equal(in8(t->f, 0x3c9), 0x30 + i);
    assert_int_equal(in8(t->f, 0x3c8), 7);
    out8(t->f, 0x3c8, 5); /* two thirds of a colour change nothing */
    out8(t->f, 0x3c9, 1);
    out8(t->f, 0x3c9, 1);
    out8(t->f, 0x3c7, 5);
    assert_int_equal(in8(t->f, 0x3c9), 0x30);
}

/* The beam: about 70 frames a second, in retrace for two of 449 lines. */
static void test_status(void **state)
{
    struct vga_test *t = *state;
    unsigned retraces = 0, blanks = 0;
    bool was = true;
    set_mode(t, &mode_3);
    for (unsigned i = 0; i < 100000; i++) {
        u8 status = in8(t->f, 0x3da);
        retraces += (status & 8) && !was;
        was = status & 8;
        blanks += status & 1;
        fixture_step(t->f, 10000);
    }
    assert_in_range(retraces, 69, 71);
    assert_in_range(blanks, 20000, 40000);
}

static void test_windows(void **state)
{
    static const struct {
        u8 map;
        u32 first, end;
    } windows[] = {{0, 0xa0000, 0xc0000},
                   {1, 0xa0000, 0xb0000},
                   {2, 0xb0000, 0xb8000},
                   {3, 0xb8000, 0xc0000}};
    struct vga_test *t = *state;
    set_mode(t, &mode_12);
    for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
        indexed(t, 0x3ce, 6, (u8)(windows[i].map << 2 | 1));
        for (u32 at = 0xa0000; at < 0xc0000; at += 0x4000) {
            poke(t, at, (u8)(i + 1));
            bool in = at >= windows[i].first && at < windows[i].end;
            assert_int_equal(peek(t, at), in ? i + 1 : 0xff);
        }
    }
    out8(t->f, 0x3c2, in8(t->f, 0x3cc) & ~2); /* memory off */
    assert_int_equal(peek(t, 0xb8000), 0xff);
}

static void test_write_modes(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_12);
    /* Mode 0: rotated, set/reset on plane 1, plane 3 masked off, 4 bits of the latches. */
    poke(t, WINDOW, 0xff);
    poke(t, WINDOW + 1, 0x00);
    indexed(t, 0x3c4, 2, 0x07);
    indexed(t, 0x3ce, 3, 0x04);
    indexed(t, 0x3ce, 0, 0x02);
    indexed(t, 0x3ce, 1, 0x02);
    indexed(t, 0x3ce, 8, 0x3c);
    peek(t, WINDOW); /* latches: all ones */
    poke(t, WINDOW + 1, 0x61);
    static const u8 planes[] = {0xd7, 0xff, 0xd7, 0x00};
    for (u8 p = 0; p < 4; p++) {
        indexed(t, 0x3ce, 4, p);
        assert_int_equal(peek(t, WINDOW + 1), planes[p]);
    }
    /* Mode 1: the latches. */
    indexed(t, 0x3c4, 2, 0x0f);
    indexed(t, 0x3ce, 5, 0x01);
    peek(t, WINDOW + 1);
    poke(t, WINDOW + 2, 0x99);
    for (u8 p = 0; p < 4; p++) {
        indexed(t, 0x3ce, 4, p);
        assert_int_equal(peek(t, WINDOW + 2), planes[p]);
    }
    /* Mode 2: a colour, here xor'ed. */
    indexed(t, 0x3ce, 5, 0x02);
    indexed(t, 0x3ce, 3, 0x18);
    indexed(t, 0x3ce, 8, 0xf0);
    peek(t, WINDOW + 2);
    poke(t, WINDOW + 2, 0x0a);
    for (u8 p = 0; p < 4; p++) {
        indexed(t, 0x3ce, 4, p);
        assert_int_equal(peek(t, WINDOW + 2), (p & 1) ? planes[p] ^ 0xf0 : planes[p]);
    }
    /* Mode 3: the byte is one more mask over set/reset. */
    indexed(t, 0x3ce, 5, 0x03);
    indexed(t, 0x3ce, 3, 0x00);
    indexed(t, 0x3ce, 0, 0x05);
    poke(t, WINDOW + 3, 0);
    peek(t, WINDOW + 4); /* latches: zeroes */
    poke(t, WINDOW + 3, 0x3c);
    for (u8 p = 0; p < 4; p++) {
        indexed(t, 0x3ce, 4, p);
        assert_int_equal(peek(t, WINDOW + 3), (p & 1) ? 0x00 : 0x30);
    }
}

static void test_read_compare(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_12);
    for (u8 p = 0; p < 4; p++) {
        indexed(t, 0x3c4, 2, (u8)(1 << p));
        poke(t, WINDOW, (u8)(0x11 << p));
    }
    indexed(t, 0x3ce, 5, 0x08);
    indexed(t, 0x3ce, 2, 0x04); /* the colour of dots 2 and 6 */
    assert_int_equal(peek(t, WINDOW), 0x44);
    indexed(t, 0x3ce, 7, 0x03); /* planes 2 and 3 do not matter */
    assert_int_equal(peek(t, WINDOW), 0xcc);
}

static void test_text(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_3);
    poke(t, 0xb8000 + 2 * (3 * 80 + 7), 'A');
    poke(t, 0xb8001 + 2 * (3 * 80 + 7), 0x9e);
    indexed(t, 0x3d4, 0x0e, 0);
    indexed(t, 0x3d4, 0x0f, 3 * 80 + 8);
    assert_true(screen_text(&t->full.screen, &t->text));
    assert_int_equal(t->text.columns, 80);
    assert_int_equal(t->text.rows, 25);
    const struct screen_cell *cell = &t->text.cells[3][7];
    assert_int_equal(cell->character, 'A');
    assert_int_equal(cell->foreground, 14);
    assert_int_equal(cell->background, 1);
    assert_true(cell->blinks);
    assert_true(t->text.cursor);
    assert_int_equal(t->text.cursor_column, 8);
    assert_int_equal(t->text.cursor_row, 3);
    /* Scrolled by hardware: the start address moves the picture and the cursor. */
    indexed(t, 0x3d4, 0x0d, 160);
    assert_true(screen_text(&t->full.screen, &t->text));
    assert_int_equal(t->text.cells[1][7].character, 'A');
    assert_int_equal(t->text.cursor_row, 1);
    indexed(t, 0x3d4, 0x0a, 0x20);
    attribute(t, 0x10, 0x04);
    out8(t->f, 0x3c0, 0x20);
    assert_true(screen_text(&t->full.screen, &t->text));
    assert_false(t->text.cursor);
    assert_int_equal(t->text.cells[1][7].background, 9);
    /* Split at line 200: below it row 0 of the memory. */
    indexed(t, 0x3d4, 0x11, 0);
    indexed(t, 0x3d4, 0x07, 0x0f);
    indexed(t, 0x3d4, 0x09, 0x0f);
    indexed(t, 0x3d4, 0x18, 191);
    poke(t, 0xb8000, 'Z');
    assert_true(screen_text(&t->full.screen, &t->text));
    assert_int_equal(t->text.cells[12][0].character, 'Z');
    indexed(t, 0x3c4, 1, 0x20);
    assert_false(screen_text(&t->full.screen, &t->text)); /* off */
}

static void test_text_picture(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_3);
    /* A font: plane 2, in sequential order. */
    indexed(t, 0x3c4, 4, 0x06);
    indexed(t, 0x3c4, 2, 0x04);
    indexed(t, 0x3ce, 5, 0x00);
    indexed(t, 0x3ce, 6, 0x05);
    poke(t, WINDOW + 'A' * 32 + 2, 0x81);
    poke(t, WINDOW + 0xc4 * 32 + 5, 0xff); /* joins its neighbour */
    set_mode(t, &mode_3);
    poke(t, 0xb8000, 'A');
    poke(t, 0xb8001, 0x1e);
    poke(t, 0xb8002, 0xc4);
    poke(t, 0xb8003, 0x07);
    struct screen_image shown = image(t, 720, 400);
    expect_dot(&shown, 0, 2, 14);
    expect_dot(&shown, 1, 2, 1);
    expect_dot(&shown, 7, 2, 14);
    expect_dot(&shown, 8, 2, 1);
    expect_dot(&shown, 0, 3, 1);
    expect_dot(&shown, 9, 5, 7);
    expect_dot(&shown, 17, 5, 7);
    expect_dot(&shown, 18, 5, 0);
    free(shown.rgb);
}

static void test_planar(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_12);
    indexed(t, 0x3c4, 2, 0x05);
    poke(t, WINDOW + 10 * 80 + 3, 0x42);
    struct screen_image shown = image(t, 640, 480);
    expect_dot(&shown, 24, 10, 0);
    expect_dot(&shown, 25, 10, 5);
    expect_dot(&shown, 30, 10, 5);
    free(shown.rgb);
    attribute(t, 0x13, 1); /* panned by a dot */
    out8(t->f, 0x3c0, 0x20);
    shown = image(t, 640, 480);
    expect_dot(&shown, 24, 10, 5);
    free(shown.rgb);
}

static void test_256(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_13);
    for (unsigned x = 0; x < 320; x++)
        poke(t, WINDOW + 100 * 320 + x, (u8)x);
    struct screen_image shown = image(t, 320, 200);
    for (unsigned x = 0; x < 320; x++)
        expect_dot(&shown, x, 100, x & 255);
    expect_dot(&shown, 7, 99, 0);
    free(shown.rgb);
    assert_int_equal(peek(t, WINDOW + 100 * 320 + 77), 77);
    /* Mode X: planes for themselves, the same width in bytes, other pages. */
    indexed(t, 0x3c4, 4, 0x06);
    indexed(t, 0x3d4, 0x14, 0x00);
    indexed(t, 0x3d4, 0x17, 0xe3);
    indexed(t, 0x3c4, 2, 0x02);
    poke(t, WINDOW + 0x4000 + 80 * 3 + 5, 9);
    indexed(t, 0x3d4, 0x0c, 0x40);
    shown = image(t, 320, 200);
    expect_dot(&shown, 21, 3, 9);
    expect_dot(&shown, 20, 3, 0);
    free(shown.rgb);
}

/* CGA's 4 colours: even and odd lines in two banks, two bits a dot. */
static void test_cga(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_4);
    poke(t, 0xb8000 + 1, 0x1b);
    poke(t, 0xba000 + 2, 0xe4);
    struct screen_image shown = image(t, 320, 200);
    for (unsigned i = 0; i < 4; i++) {
        expect_dot(&shown, 4 + i, 0, i);
        expect_dot(&shown, 8 + i, 1, 3 - i);
    }
    free(shown.rgb);
}

static u64 frame_buffer(struct vga_test *t)
{
    out32(t->f, 0xcf8, 0x80000000 | 2 << 11 | 0x10);
    return in32(t->f, 0xcfc) & ~15u;
}

static void test_vbe(void **state)
{
    struct vga_test *t = *state;
    set_mode(t, &mode_3);
    out16(t->f, 0x1ce, 0);
    assert_int_equal(in16(t->f, 0x1cf), 0xb0c5);
    out16(t->f, 0x1ce, MEMORY);
    assert_int_equal(in16(t->f, 0x1cf), 256);
    VBE(t, XRES, 800);
    VBE(t, YRES, 600);
    VBE(t, BPP, 32);
    VBE(t, ENABLE, 0x41);
    out16(t->f, 0x1ce, VIRT_WIDTH);
    assert_int_equal(in16(t->f, 0x1cf), 800);
    bus_write(&t->f->board, BUS_MMIO, frame_buffer(t) + 4 * (800 * 20 + 3), 4, 0x00112233);
    struct screen_image shown = image(t, 800, 600);
    static const u8 dot[] = {0x11, 0x22, 0x33};
    assert_memory_equal(shown.rgb + 3 * (800 * 20 + 3), dot, 3);
    free(shown.rgb);
    VBE(t, Y_OFFSET, 20);
    VBE(t, X_OFFSET, 8);
    shown = image(t, 800, 600);
    assert_memory_equal(shown.rgb + 3 * (800 - 5), "\0\0\0", 3); /* nothing to move to */
    free(shown.rgb);
    /* 16 bits a dot, through the banked window. */
    VBE(t, ENABLE, 0);
    VBE(t, BPP, 16);
    VBE(t, ENABLE, 0x41);
    VBE(t, BANK, 1);
    bus_write(&t->f->board, BUS_MMIO, WINDOW + 2, 2, 0xf81f);
    shown = image(t, 800, 600);
    assert_memory_equal(shown.rgb + 3 * (0x8000 + 1), "\xff\0\xff", 3);
    free(shown.rgb);
    /* Nonsense becomes something that fits. */
    VBE(t, ENABLE, 0);
    VBE(t, XRES, 0xffff);
    VBE(t, YRES, 0xffff);
    VBE(t, BPP, 77);
    VBE(t, ENABLE, 1);
    VBE(t, VIRT_WIDTH, 0xffff);
    shown = image(t, 2560, 1600);
    free(shown.rgb);
    VBE(t, ENABLE, 0);
    set_mode(t, &mode_3);
    assert_true(screen_text(&t->full.screen, &t->text));
}

/* The expansion ROM is where its BAR says, while that is enabled. */
static void test_rom(void **state)
{
    struct vga_test *t = *state;
    u32 config = 0x80000000 | 2 << 11;
    out32(t->f, 0xcf8, config | 0x30);
    out32(t->f, 0xcfc, 0xfffff800);
    assert_int_equal(in32(t->f, 0xcfc), 0xffffe000);
    out32(t->f, 0xcfc, 0xe8000000);
    assert_int_equal(peek(t, 0xe8000000), 0xff);
    out32(t->f, 0xcfc, 0xe8000001);
    assert_int_equal(bus_read(&t->f->board, BUS_MMIO, 0xe8000000, 4), 0x000aaa55);
    assert_int_equal(peek(t, 0xe8000000 + 4999), 0x77);
    assert_int_equal(peek(t, 0xe8000000 + 5000), 0xff);
    poke(t, 0xe8000000, 1);
    assert_int_equal(peek(t, 0xe8000000), 0x55);
}

static u32 get32(const u8 *at)
{
    return (u32)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static void test_pictures(void **state)
{
    static u8 rgb[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const struct screen_image small = {2, 2, rgb}, off = {0};
    char path[] = "/tmp/doppel-picture-XXXXXX";
    u8 bytes[256];
    struct error err;
    close(mkstemp(path));
    assert_true(picture_save(&small, PICTURE_PPM, path, &err));
    FILE *file = fopen(path, "r");
    assert_int_equal(fread(bytes, 1, sizeof(bytes), file), 23);
    assert_memory_equal(bytes, "P6\n2 2\n255\n\1\2\3", 14);
    fclose(file);
    assert_true(picture_save(&small, PICTURE_PNG, path, &err));
    file = fopen(path, "r");
    size_t len = fread(bytes, 1, sizeof(bytes), file);
    assert_in_range(len, 60, 120);
    assert_memory_equal(bytes, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
    assert_int_equal(get32(bytes + 16), 2);
    assert_memory_equal(bytes + 24, "\x08\x02\0\0\0", 5);
    assert_memory_equal(bytes + len - 12, "\0\0\0\0IEND\xae\x42\x60\x82", 12);
    fclose(file);
    assert_true(picture_save(&off, PICTURE_PNG, path, &err));
    unlink(path);
    assert_false(picture_save(&small, PICTURE_PPM, "/nowhere/x", &err));
}

/* The frame buffer is memory where BAR 0 answers, and goes with it. */
static void test_frame_buffer_is_memory(void **state)
{
    struct vga_test *t = *state;
    struct board *board = &t->f->board;
    const u32 word = 0x12345678;
    u32 bar;
    for (u32 slot = 1;; slot++) {
        out32(t->f, 0xcf8, 0x80000000 | slot << 11);
        if (in32(t->f, 0xcfc) == 0x11111234)
            break;
        assert_true(slot < PCI_SLOTS);
    }
    u32 config = 0x80000000 | (in32(t->f, 0xcf8) & 0xf800);
    out32(t->f, 0xcf8, config | 0x10);
    bar = in32(t->f, 0xcfc) & ~15u;
    assert_non_null(pmap_page(board->pmap, gpa_to_gfn(gpa(bar))));
    assert_true(ram_write(board, gpa(bar + 0x123450), &word, 4));
    assert_int_equal(bus_read(board, BUS_MMIO, bar + 0x123450, 4), word);
    out32(t->f, 0xcfc, bar + 16 * MiB);
    assert_null(pmap_page(board->pmap, gpa_to_gfn(gpa(bar))));
    u32 found = 0;
    assert_true(ram_read(board, gpa(bar + 16 * MiB + 0x123450), &found, 4));
    assert_int_equal(found, word);
    /* A balloon cannot have it. */
    pmap_release(board->pmap, gpa_to_gfn(gpa(bar + 16 * MiB)), 4096);
    assert_true(ram_read(board, gpa(bar + 16 * MiB + 0x123450), &found, 4));
    assert_int_equal(found, word);
    board_lock(board);
    devices_reset(board);
    board_unlock(board);
    assert_null(pmap_page(board->pmap, gpa_to_gfn(gpa(bar + 16 * MiB))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dac, setup, teardown),
        cmocka_unit_test_setup_teardown(test_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_modes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_compare, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_picture, setup, teardown),
        cmocka_unit_test_setup_teardown(test_planar, setup, teardown),
        cmocka_unit_test_setup_teardown(test_256, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cga, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vbe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rom, setup, teardown),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test_setup_teardown(test_frame_buffer_is_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
