/* The inside of a VGA, for vga.c (registers), vga_memory.c (the window) and vga_screen.c (what
 * is seen). Registers have the manual's names: CR is the CRT controller, SR the sequencer, GR
 * the graphics, AR the attribute controller. */
#pragma once

#include "base/bits.h"
#include "device/vga.h"

#define VGA_RAM (16 * MiB)

enum { CR_COUNT = 0x19, SR_COUNT = 5, GR_COUNT = 9, AR_COUNT = 0x15 };

/* Bochs's registers. */
enum vbe_register {
    VBE_ID,
    VBE_XRES,
    VBE_YRES,
    VBE_BPP,
    VBE_ENABLE,
    VBE_BANK,
    VBE_VIRT_WIDTH,
    VBE_VIRT_HEIGHT,
    VBE_X_OFFSET,
    VBE_Y_OFFSET,
    VBE_MEMORY, /* in 64 KiB, read-only */
    VBE_REGISTERS
};

#define VBE_ENABLED  BIT(0)
#define VBE_GETCAPS  BIT(1)
#define VBE_8BIT_DAC BIT(5)
#define VBE_LFB      BIT(6)
#define VBE_NOCLEAR  BIT(7)
#define VBE_MAX_XRES 2560u
#define VBE_MAX_YRES 1600u
#define VBE_MAX_BPP  32u

#define MISC_COLOUR  BIT(0) /* CRTC at 3D4h, not 3B4h */
#define MISC_RAM     BIT(1)
#define AR_INDEX_PAS BIT(5) /* palette address source: the screen is on */

struct vga {
    struct device device;
    struct pci_device pci;
    struct board *board;
    struct bus_region ports, vbe_ports, window;

    u8 misc, feature;
    u8 cr_index, sr_index, gr_index, ar_index;
    u8 cr[CR_COUNT], sr[SR_COUNT], gr[GR_COUNT], ar[AR_COUNT];
    bool ar_data; /* the flip-flop: the next write to 3C0h is data */
    u8 pel_mask, dac_index, dac_part;
    bool dac_reads;
    u8 dac_latch[3]; /* a colour is written as a whole */
    u8 dac[256][3];
    u8 latch[4];
    u16 vbe_index;
    u16 vbe[VBE_REGISTERS];

    /* The memory is the guest's own while BAR 0 answers: it needs no exit then, and nobody sees
     * its writes. `shared`: there is such memory, at `file_offset` of the pmap's file. */
    bool shared, shown;
    u64 file_offset;

    /* Byte `a` of plane p is ram[4 * a + p]. Nothing was ever written from `used` on. */
    u32 used;
    u8 ram[VGA_RAM] __attribute__((aligned(PAGE_SIZE)));
};

static inline bool vga_vbe_on(const struct vga *vga)
{
    return vga->vbe[VBE_ENABLE] & VBE_ENABLED;
}

/* Bytes from one line of a VBE mode to the next; planes for 4 bits a dot. */
static inline u32 vga_vbe_pitch(const struct vga *vga)
{
    u32 bpp = vga->vbe[VBE_BPP], width = vga->vbe[VBE_VIRT_WIDTH];
    return bpp == 4 ? width / 8 : width * ((bpp + 7) / 8);
}

static inline void vga_use(struct vga *vga, u32 end)
{
    if (end > vga->used)
        vga->used = end;
}

/* vga_memory.c */
extern const struct bus_ops vga_window_ops;
extern const struct bus_ops vga_frame_buffer_ops;

/* vga_screen.c */
bool vga_text(void *opaque, struct screen_text *text);
void vga_image(void *opaque, struct screen_image *image);
bool vga_size(void *opaque, unsigned *width, unsigned *height);
