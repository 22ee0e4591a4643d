/* A VGA's registers, see vga.h. */
#include "device/vga.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/ensure.h"
#include "device/vga_state.h"
#include "memory/pmap.h"
#include "memory/tlb.h"
#include "platform/vcpu.h"

#define CR11_PROTECT BIT(7) /* of CR0..CR7 */
#define SR1_8_DOTS   BIT(0)
#define SR1_HALF     BIT(3) /* of the dot clock */
#define SR4_CHAIN4   BIT(3)

#define VBE_ID_FIRST 0xb0c0
#define VBE_ID_LAST  0xb0c5

#define BAR2_PORTS 0x400 /* 3C0h..3DFh */
#define BAR2_VBE   0x500
#define BAR2_SIZE  0x1000

/* Bits that exist. */
static const u8 sr_mask[SR_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const u8 gr_mask[GR_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const u8 ar_mask[AR_COUNT] = {0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                     0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                     0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f};

/* -- Bochs's registers --------------------------------------------------------------------- */

static u16 vbe_read(const struct vga *vga, unsigned index)
{
    static const u16 most[] = {
        [VBE_XRES] = VBE_MAX_XRES, [VBE_YRES] = VBE_MAX_YRES, [VBE_BPP] = VBE_MAX_BPP};
    if (index >= VBE_REGISTERS)
        return 0;
    bool caps = vga->vbe[VBE_ENABLE] & VBE_GETCAPS;
    return caps && index < ARRAY_LEN(most) && most[index] ? most[index] : vga->vbe[index];
}

static u16 clamp(u32 value, u32 low, u32 high)
{
    return (u16)(value < low ? low : value > high ? high : value);
}

/* Makes the geometry fit into the memory, whatever was written. */
static void vbe_settle(struct vga *vga)
{
    u16 *vbe = vga->vbe;
    switch (vbe[VBE_BPP]) {
    case 0:
        vbe[VBE_BPP] = 8;
        break;
    case 4:
    case 8:
    case 15:
    case 16:
    case 24:
    case 32:
        break;
    default:
        vbe[VBE_BPP] = 8;
        break;
    }
    u32 memory = vbe[VBE_BPP] == 4 ? VGA_RAM / 4 : VGA_RAM;
    vbe[VBE_XRES] = clamp(vbe[VBE_XRES] & ~7u, 8, VBE_MAX_XRES);
    vbe[VBE_VIRT_WIDTH] = clamp(vbe[VBE_VIRT_WIDTH] & ~7u, vbe[VBE_XRES], 0x3ff8);
    vbe[VBE_YRES] = clamp(vbe[VBE_YRES], 1, VBE_MAX_YRES);
    if (vga_vbe_pitch(vga) * vbe[VBE_YRES] > memory)
        vbe[VBE_VIRT_WIDTH] = vbe[VBE_XRES];
    u32 lines = memory / vga_vbe_pitch(vga);
    vbe[VBE_YRES] = clamp(vbe[VBE_YRES], 1, lines);
    vbe[VBE_VIRT_HEIGHT] = clamp(lines, 1, 0xffff);
    vbe[VBE_X_OFFSET] = clamp(vbe[VBE_X_OFFSET], 0, vbe[VBE_VIRT_WIDTH] - vbe[VBE_XRES]);
    vbe[VBE_Y_OFFSET] = clamp(vbe[VBE_Y_OFFSET], 0, vbe[VBE_VIRT_HEIGHT] - vbe[VBE_YRES]);
}

/* The standard registers follow, as far as a video BIOS relies on it. */
static void vbe_set_vga(struct vga *vga)
{
    u32 lines = vga->vbe[VBE_YRES] - 1u;
    bool planar = vga->vbe[VBE_BPP] == 4;
    vga->gr[6] = 0x05; /* graphics, 64 KiB at A0000h */
    vga->gr[5] = (vga->gr[5] & ~0x60) | (planar ? 0 : 0x40);
    vga->sr[1] &= ~SR1_HALF;
    if (!planar) {
        vga->sr[4] |= SR4_CHAIN4;
        vga->sr[2] |= 0x0f;
    }
    vga->cr[0x17] |= 3;
    vga->cr[0x13] = (u8)(vga_vbe_pitch(vga) >> 3);
    vga->cr[0x01] = (u8)(vga->vbe[VBE_XRES] / 8 - 1);
    vga->cr[0x12] = (u8)lines;
    vga->cr[0x07] = (u8)((vga->cr[0x07] & ~0x42) | (lines >> 7 & 2) | (lines >> 3 & 0x40));
    vga->cr[0x18] = 0xff;
    vga->cr[0x07] |= 0x10;
    vga->cr[0x09] = (u8)((vga->cr[0x09] & ~0x9f) | 0x40);
}

static void vbe_enable(struct vga *vga, u16 value)
{
    bool was_on = vga_vbe_on(vga);
    vga->vbe[VBE_ENABLE] =
        value & (VBE_ENABLED | VBE_GETCAPS | VBE_8BIT_DAC | VBE_LFB | VBE_NOCLEAR);
    if (!(value & VBE_ENABLED)) {
        vga->vbe[VBE_BANK] = 0;
        return;
    }
    if (was_on)
        return;
    vga->vbe[VBE_VIRT_WIDTH] = vga->vbe[VBE_X_OFFSET] = vga->vbe[VBE_Y_OFFSET] = 0;
    vbe_settle(vga);
    u32 size = vga_vbe_pitch(vga) * vga->vbe[VBE_YRES] * (vga->vbe[VBE_BPP] == 4 ? 4 : 1);
    if (!(value & VBE_NOCLEAR))
        memset(vga->ram, 0, size < vga->used ? size : vga->used);
    vbe_set_vga(vga);
}

static void vbe_write(struct vga *vga, unsigned index, u16 value)
{
    switch (index) {
    case VBE_ID:
        if (value >= VBE_ID_FIRST && value <= VBE_ID_LAST)
            vga->vbe[VBE_ID] = value;
        break;
    case VBE_XRES:
    case VBE_YRES:
    case VBE_BPP:
    case VBE_VIRT_WIDTH:
    case VBE_X_OFFSET:
    case VBE_Y_OFFSET:
        vga->vbe[index] = value;
        /* Until a mode is switched on they are only remembered. */
        if (vga_vbe_on(vga)) {
            vbe_settle(vga);
            vbe_set_vga(vga);
        }
        break;
    case VBE_ENABLE:
        vbe_enable(vga, value);
        break;
    case VBE_BANK:
        vga->vbe[VBE_BANK] = value & (VGA_RAM / 0x10000 - 1);
        break;
    default:
        break;
    }
}

/* The index at 1CEh, data at 1CFh and 1D0h, words only. */
static u64 vbe_port_read(void *opaque, u64 offset, unsigned size)
{
    const struct vga *vga = opaque;
    return offset == 0 ? vga->vbe_index : vbe_read(vga, vga->vbe_index);
}

static void vbe_port_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct vga *vga = opaque;
    if (size != 2)
        return;
    if (offset == 0)
        vga->vbe_index = (u16)value;
    else
        vbe_write(vga, vga->vbe_index, (u16)value);
}

/* -- What the beam does -------------------------------------------------------------------- */

/* Input status register 1: bit 0 while nothing is displayed, bit 3 in vertical retrace. */
static u8 read_status(struct vga *vga)
{
    const u8 *cr = vga->cr;
    u64 hz = vga->misc & BIT(2) ? 28322000 : 25175000;
    unsigned dots = vga->sr[1] & SR1_8_DOTS ? 8 : 9;
    unsigned columns = cr[0] + 5u, shown = cr[1] + 1u;
    unsigned overflow = cr[7];
    unsigned lines = (cr[6] | (overflow & 1) << 8 | (overflow & 0x20) << 4) + 2u;
    unsigned displayed = (cr[0x12] | (overflow & 2) << 7 | (overflow & 0x40) << 3) + 1u;
    unsigned retrace = cr[0x10] | (overflow & 4) << 6 | (overflow & 0x80) << 2;
    u64 clocks = clock_ticks(clock_now(&vga->board->clock), hz) /
                 (vga->sr[1] & SR1_HALF ? 2 * dots : dots);
    unsigned line = (unsigned)(clocks / columns % lines);
    unsigned column = (unsigned)(clocks % columns);
    bool in_retrace = line - retrace < ((cr[0x11] - retrace) & 15);
    vga->ar_data = false;
    return (u8)((line >= displayed || column >= shown ? BIT(0) : 0) |
                (in_retrace ? BIT(3) : 0));
}

/* -- Ports --------------------------------------------------------------------------------- */

static void attribute_write(struct vga *vga, u8 value)
{
    unsigned index = vga->ar_index & 0x1f;
    vga->ar_data = !vga->ar_data;
    if (vga->ar_data) {
        vga->ar_index = value & 0x3f;
        return;
    }
    /* While the screen shows it, the palette cannot be written. */
    if (index < AR_COUNT && (index >= 0x10 || !(vga->ar_index & AR_INDEX_PAS)))
        vga->ar[index] = value & ar_mask[index];
}

static void crtc_write(struct vga *vga, u8 value)
{
    u8 *cr = vga->cr;
    if (vga->cr_index >= CR_COUNT)
        return;
    if (vga->cr_index <= 7 && (cr[0x11] & CR11_PROTECT)) {
        /* Only the line compare bit. */
        if (vga->cr_index == 7)
            cr[7] = (u8)((cr[7] & ~0x10) | (value & 0x10));
        return;
    }
    cr[vga->cr_index] = value;
}

/* 6 bits of each part, unless VBE widened the DAC. */
static u8 dac_shift(const struct vga *vga)
{
    return vga->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? 0 : 2;
}

static u8 dac_read(struct vga *vga)
{
    u8 value = vga->dac[vga->dac_index][vga->dac_part];
    if (++vga->dac_part == 3) {
        vga->dac_part = 0;
        vga->dac_index++;
    }
    return value >> dac_shift(vga);
}

static void dac_write(struct vga *vga, u8 value)
{
    u8 wide = (u8)(value << dac_shift(vga));
    if (dac_shift(vga))
        wide |= wide >> 6; /* full white is FFh */
    vga->dac_latch[vga->dac_part++] = wide;
    if (vga->dac_part < 3)
        return;
    memcpy(vga->dac[vga->dac_index++], vga->dac_latch, 3);
    vga->dac_part = 0;
}

static u8 port_read(struct vga *vga, u16 port)
{
    switch (port) {
    case 0x3c0:
        return vga->ar_index;
    case 0x3c1:
        return (vga->ar_index & 0x1f) < AR_COUNT ? vga->ar[vga->ar_index & 0x1f] : 0;
    case 0x3c2: /* input status 0: a colour monitor's sense, while the blue one is selected */
        return 0x10;
    case 0x3c4:
        return vga->sr_index;
    case 0x3c5:
        return vga->sr_index < SR_COUNT ? vga->sr[vga->sr_index] : 0;
    case 0x3c6:
        return vga->pel_mask;
    case 0x3c7:
        return vga->dac_reads ? 3 : 0;
    case 0x3c8:
        return vga->dac_index;
    case 0x3c9:
        return dac_read(vga);
    case 0x3ca:
        return vga->feature;
    case 0x3cc:
        return vga->misc;
    case 0x3ce:
        return vga->gr_index;
    case 0x3cf:
        return vga->gr_index < GR_COUNT ? vga->gr[vga->gr_index] : 0;
    case 0x3d4:
        return vga->cr_index;
    case 0x3d5:
        return vga->cr_index < CR_COUNT ? vga->cr[vga->cr_index] : 0;
    case 0x3da:
        return read_status(vga);
    default:
        return 0xff;
    }
}

static void port_write(struct vga *vga, u16 port, u8 value)
{
    switch (port) {
    case 0x3c0:
        attribute_write(vga, value);
        break;
    case 0x3c2:
        vga->misc = value & ~0x10;
        break;
    case 0x3c4:
        vga->sr_index = value & 7;
        break;
    case 0x3c5:
        if (vga->sr_index < SR_COUNT)
            vga->sr[vga->sr_index] = value & sr_mask[vga->sr_index];
        break;
    case 0x3c6:
        vga->pel_mask = value;
        break;
    case 0x3c7:
    case 0x3c8:
        vga->dac_reads = port == 0x3c7;
        vga->dac_index = value;
        vga->dac_part = 0;
        break;
    case 0x3c9:
        dac_write(vga, value);
        break;
    case 0x3ce:
        vga->gr_index = value & 15;
        break;
    case 0x3cf:
        if (vga->gr_index < GR_COUNT)
            vga->gr[vga->gr_index] = value & gr_mask[vga->gr_index];
        break;
    case 0x3d4:
        vga->cr_index = value & 0x1f;
        break;
    case 0x3d5:
        crtc_write(vga, value);
        break;
    case 0x3da:
        vga->feature = value & 8;
        break;
    default:
        break;
    }
}

#define FIRST_PORT 0x3b0

/* The CRTC and its neighbours answer at 3Bxh or 3Dxh, as the miscellaneous register says;
 * *port becomes the colour one. */
static bool port_decodes(const struct vga *vga, u16 *port)
{
    if (*port >= 0x3c0 && *port < 0x3d0)
        return true;
    bool mono = *port < 0x3c0;
    if (mono)
        *port += 0x20;
    return mono == !(vga->misc & MISC_COLOUR);
}

static u64 ports_read(void *opaque, u64 offset, unsigned size)
{
    struct vga *vga = opaque;
    u16 port = (u16)(FIRST_PORT + offset);
    return port_decodes(vga, &port) ? port_read(vga, port) : 0xff;
}

static void ports_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct vga *vga = opaque;
    u16 port = (u16)(FIRST_PORT + offset);
    if (port_decodes(vga, &port))
        port_write(vga, port, (u8)value);
}

/* -- Registers in BAR 2 -------------------------------------------------------------------- */

static u64 bar2_read(void *opaque, u64 offset, unsigned size)
{
    struct vga *vga = opaque;
    u64 value = 0;
    if (offset >= BAR2_VBE && offset < BAR2_VBE + 2 * VBE_REGISTERS)
        return vbe_read(vga, (unsigned)(offset - BAR2_VBE) / 2);
    for (unsigned i = 0; i < size; i++) {
        u64 at = offset + i - BAR2_PORTS;
        value |= (u64)(at < 0x20 ? port_read(vga, (u16)(0x3c0 + at)) : 0xff) << 8 * i;
    }
    return value;
}

static void bar2_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct vga *vga = opaque;
    if (offset >= BAR2_VBE && offset < BAR2_VBE + 2 * VBE_REGISTERS) {
        vbe_write(vga, (unsigned)(offset - BAR2_VBE) / 2, (u16)value);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        if (offset + i - BAR2_PORTS < 0x20)
            port_write(vga, (u16)(0x3c0 + offset + i - BAR2_PORTS), (u8)(value >> 8 * i));
}

static const struct bus_ops ports_ops = {ports_read, ports_write};
static const struct bus_ops vbe_ports_ops = {vbe_port_read, vbe_port_write};
static const struct bus_ops bar2_ops = {bar2_read, bar2_write};

/* -- Life ---------------------------------------------------------------------------------- */

static void vga_reset(void *device)
{
    struct vga *vga = device;
    if (vga->shared)
        pmap_clear_device(vga->board->pmap, vga->file_offset, VGA_RAM);
    else
        memset(vga->ram, 0, vga->used);
    /* From the miscellaneous register to the last one; what comes before is not state. */
    memset(&vga->misc, 0, offsetof(struct vga, shared) - offsetof(struct vga, misc));
    vga->used = vga->shown ? VGA_RAM : 0;
    vga->misc = MISC_COLOUR | MISC_RAM;
    vga->pel_mask = 0xff;
    vga->vbe[VBE_ID] = VBE_ID_LAST;
    vga->vbe[VBE_BPP] = 8;
    vga->vbe[VBE_MEMORY] = VGA_RAM / 0x10000;
}

static bool vga_post_load(void *device)
{
    struct vga *vga = device;
    if (vga->dac_part > 2 || vga->vbe[VBE_BANK] >= VGA_RAM / 0x10000)
        return false;
    vga->vbe[VBE_MEMORY] = VGA_RAM / 0x10000;
    vga->used = VGA_RAM;
    if (vga_vbe_on(vga))
        vbe_settle(vga);
    return true;
}

static void vga_destroy(void *device)
{
    struct vga *vga = device;
    bus_remove(vga->board, &vga->ports);
    bus_remove(vga->board, &vga->vbe_ports);
    bus_remove(vga->board, &vga->window);
    pci_unplug(&vga->pci);
    munmap(vga, sizeof(*vga));
}

static const struct field vga_fields[] = {
    FIELD(struct vga, misc),      FIELD(struct vga, feature),
    FIELD(struct vga, cr_index),  FIELD(struct vga, sr_index),
    FIELD(struct vga, gr_index),  FIELD(struct vga, ar_index),
    FIELD_ARRAY(struct vga, cr),  FIELD_ARRAY(struct vga, sr),
    FIELD_ARRAY(struct vga, gr),  FIELD_ARRAY(struct vga, ar),
    FIELD(struct vga, ar_data),   FIELD(struct vga, pel_mask),
    FIELD(struct vga, dac_index), FIELD(struct vga, dac_part),
    FIELD(struct vga, dac_reads), FIELD_ARRAY(struct vga, dac_latch),
    FIELD_BLOB(struct vga, dac),  FIELD_ARRAY(struct vga, latch),
    FIELD(struct vga, vbe_index), FIELD_ARRAY(struct vga, vbe),
    FIELD_RAM(struct vga, ram),
};

static const struct device_class vga_class = {
    .name = "vga",
    .version = 1,
    .fields = vga_fields,
    .n_fields = ARRAY_LEN(vga_fields),
    .reset = vga_reset,
    .post_load = vga_post_load,
    .destroy = vga_destroy,
};

static void add_region(struct vga *vga, struct bus_region *region, const struct bus_ops *ops,
                       enum bus_space space, u64 base, u64 size, unsigned max_size)
{
    *region = (struct bus_region){.name = "vga",
                                  .ops = ops,
                                  .opaque = vga,
                                  .base = base,
                                  .size = size,
                                  .max_size = max_size,
                                  .space = space};
    bus_add(vga->board, region);
}

static void flush_tlb(struct vcpu *vcpu, struct vcpu_work *work)
{
    tlb_drop(&vcpu->cpu);
}

/* While BAR 0 answers, the guest has the frame buffer as memory; beneath it lies the bus
 * region, for where that cannot be. */
static void bar_moved(void *opaque, unsigned bar, u64 addr, bool answers)
{
    struct vga *vga = opaque;
    struct pmap *pmap = vga->board->pmap;
    if (bar != 0 || !vga->shared)
        return;
    if (answers) {
        vga->shown = pmap_show_device(pmap, gpa(addr), VGA_RAM, vga->file_offset);
        vga->used = vga->shown ? VGA_RAM : vga->used;
    } else if (vga->shown) {
        pmap_hide_device(pmap, gpa(addr), VGA_RAM);
        vcpu_post_all(vga->board, flush_tlb, NULL);
        vga->shown = false;
    }
}

static const struct pci_ops vga_pci_ops = {.bar_moved = bar_moved};

struct vga *vga_create(struct board *board, struct pci_host *host, const void *rom,
                       u32 rom_size, struct screen *screen)
{
    static const struct pci_ids ids = {.vendor = 0x1234,
                                       .device = 0x1111,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class = 0x030000,
                                       .revision = 2};
    struct vga *vga = mmap(NULL, sizeof(*vga), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ensure(vga != MAP_FAILED);
    vga->board = board;
    vga->shared =
        board->pmap && pmap_device_memory(board->pmap, vga->ram, VGA_RAM, &vga->file_offset);
    pci_init(&vga->pci, "vga", &ids, &vga_pci_ops, vga);
    pci_add_bar(&vga->pci, 0, PCI_BAR_MEM32, VGA_RAM, &vga_frame_buffer_ops, vga, 8);
    pci_add_bar(&vga->pci, 2, PCI_BAR_MEM32, BAR2_SIZE, &bar2_ops, vga, 8);
    if (rom)
        pci_add_rom(&vga->pci, rom, rom_size);
    device_add(board, &vga->device, &vga_class, vga);
    ensure(pci_plug(host, &vga->pci, -1));
    add_region(vga, &vga->ports, &ports_ops, BUS_PIO, FIRST_PORT, 0x30, 1);
    add_region(vga, &vga->vbe_ports, &vbe_ports_ops, BUS_PIO, 0x1ce, 3, 2);
    add_region(vga, &vga->window, &vga_window_ops, BUS_MMIO, VGA_WINDOW, VGA_WINDOW_SIZE, 1);
    vga_reset(vga);
    *screen =
        (struct screen){.text = vga_text, .image = vga_image, .size = vga_size, .opaque = vga};
    return vga;
}
