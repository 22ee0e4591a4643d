/*
 * How a VGA's memory is read and written through its windows. Four planes of 64 KiB answer at
 * once; the sequencer says which are written, the graphics controller what is written to them.
 */
#include <string.h>

#include "device/vga_state.h"

#define SR4_SEQUENTIAL BIT(2) /* not odd/even */
#define SR4_CHAIN4     BIT(3)

#define GR5_READ_COMPARE BIT(3)
#define GR5_ODD_EVEN     BIT(4)

#define BANK 0x10000u

/* The windows of GR6's memory map field. */
static const struct {
    u32 first, size;
} maps[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};

/* Whether the window's byte is decoded; it then is at *addr of the memory map. */
static bool decode(const struct vga *vga, u64 offset, u32 *addr)
{
    unsigned map = bits(vga->gr[6], 3, 2);
    if (!(vga->misc & MISC_RAM) || offset < maps[map].first ||
        offset - maps[map].first >= maps[map].size)
        return false;
    *addr = (u32)offset - maps[map].first;
    return true;
}

static bool vbe_linear(const struct vga *vga)
{
    return vga_vbe_on(vga) && vga->vbe[VBE_BPP] != 4;
}

static u32 bank(const struct vga *vga)
{
    return vga_vbe_on(vga) ? vga->vbe[VBE_BANK] * BANK : 0;
}

/* Where the four bytes of a plane address are. */
static u32 quad(const struct vga *vga, u32 addr)
{
    u32 planes = vga_vbe_on(vga) ? VGA_RAM / 4 : 0x10000;
    return 4 * ((bank(vga) + addr) % planes);
}

/* Chained, the lowest bits choose the plane, and two high ones take their place: as the CRTC's
 * doubleword mode has it. */
static u32 chain4(u32 addr)
{
    return (addr & ~3u) | (addr >> 14 & 3);
}

/* -- Reading ------------------------------------------------------------------------------- */

static u8 compare_colours(const struct vga *vga)
{
    u8 differs = 0;
    for (unsigned p = 0; p < 4; p++)
        if (vga->gr[7] & BIT(p))
            differs |= vga->latch[p] ^ (vga->gr[2] & BIT(p) ? 0xff : 0);
    return (u8)~differs;
}

static u64 window_read(void *opaque, u64 offset, unsigned size)
{
    struct vga *vga = opaque;
    u32 addr;
    if (!decode(vga, offset, &addr))
        return 0xff;
    if (vbe_linear(vga))
        return vga->ram[(bank(vga) + addr) % VGA_RAM];
    unsigned plane = vga->gr[4] & 3;
    if (vga->sr[4] & SR4_CHAIN4) {
        plane = addr & 3;
        addr = chain4(addr);
    } else if (vga->gr[5] & GR5_ODD_EVEN) {
        plane = (plane & 2) | (addr & 1);
        addr &= ~1u;
    }
    memcpy(vga->latch, vga->ram + quad(vga, addr), 4);
    return vga->gr[5] & GR5_READ_COMPARE ? compare_colours(vga) : vga->latch[plane];
}

/* -- Writing ------------------------------------------------------------------------------- */

static u8 rotate(u8 value, unsigned by)
{
    return (u8)(value >> by | value << (8 - by));
}

static u8 combine(unsigned function, u8 value, u8 latch)
{
    switch (function) {
    case 1:
        return value & latch;
    case 2:
        return value | latch;
    case 3:
        return value ^ latch;
    default:
        return value;
    }
}

/* What plane `p` gets for a written byte. */
static u8 plane_value(const struct vga *vga, unsigned p, u8 value)
{
    const u8 *gr = vga->gr;
    u8 mask = gr[8], rotated = rotate(value, gr[3] & 7);
    u8 set = gr[0] & BIT(p) ? 0xff : 0, latch = vga->latch[p];
    switch (gr[5] & 3) {
    case 0:
        value = gr[1] & BIT(p) ? set : rotated;
        break;
    case 1:
        return latch;
    case 2:
        value = value & BIT(p) ? 0xff : 0;
        break;
    default:
        mask &= rotated;
        value = set;
        break;
    }
    value = combine(bits(gr[3], 4, 3), value, latch);
    return (u8)((value & mask) | (latch & ~mask));
}

static void window_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct vga *vga = opaque;
    u8 planes = vga->sr[2];
    u32 addr;
    if (!decode(vga, offset, &addr))
        return;
    if (vbe_linear(vga)) {
        vga->ram[(bank(vga) + addr) % VGA_RAM] = (u8)value;
        vga_use(vga, (bank(vga) + addr) % VGA_RAM + 1);
        return;
    }
    if (vga->sr[4] & SR4_CHAIN4) {
        planes &= BIT(addr & 3);
        addr = chain4(addr);
    } else if (!(vga->sr[4] & SR4_SEQUENTIAL)) {
        planes &= addr & 1 ? 0xa : 0x5;
        addr &= ~1u;
    }
    u8 *ram = vga->ram + quad(vga, addr);
    vga_use(vga, quad(vga, addr) + 4);
    for (unsigned p = 0; p < 4; p++)
        if (planes & BIT(p))
            ram[p] = plane_value(vga, p, (u8)value);
}

const struct bus_ops vga_window_ops = {window_read, window_write};

/* -- The linear frame buffer --------------------------------------------------------------- */

static u64 frame_buffer_read(void *opaque, u64 offset, unsigned size)
{
    const struct vga *vga = opaque;
    u64 value = 0;
    memcpy(&value, vga->ram + offset, size);
    return value;
}

static void frame_buffer_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct vga *vga = opaque;
    memcpy(vga->ram + offset, &value, size);
    vga_use(vga, (u32)offset + size);
}

const struct bus_ops vga_frame_buffer_ops = {frame_buffer_read, frame_buffer_write};
