/* What a BIOS would have left, see bios_rest.h. Addresses are those of IBM's BIOS, which others
 * keep: Ralf Brown's interrupt list, MEMORY.LST. */
#include "machine/bios_rest.h"

#include "base/bits.h"
#include "platform/bus.h"
#include "platform/ram.h"

#define BASE_KIB     639
#define EBDA_SEGMENT 0x9fc0u
#define COM_WORDS    0x400
#define LPT_WORDS    0x408
#define EBDA_WORD    0x40e
#define EQUIPMENT    0x410
#define BASE_WORD    0x413
#define VIDEO        0x449

/* Bits of the equipment word; serial lines are counted from bit 9, printers from bit 14. */
#define HAS_FPU   BIT(1)
#define HAS_MOUSE BIT(2)
#define HAS_COLOR BIT(5) /* the first mode has 80 columns and colour */

#define BIOS_SEGMENT 0xf000u
#define CODE         0xff00u /* of the segment */

#define IRQ0_VECTOR   0x08 /* to 0Fh */
#define IRQ8_VECTOR   0x70 /* to 77h */
#define FIRST_SERVICE 0x10
#define MEMORY_SIZE   0x12

/* Real-mode code, one after the other from CODE on. */
static const u8 nothing[] = {0xcf /* iret */};
static const u8 refuse[] = {
    0x55,                   /* push bp */
    0x89, 0xe5,             /* mov bp, sp */
    0x80, 0x4e, 0x06, 0x01, /* or byte [bp + 6], 1: CF of the caller */
    0x5d,                   /* pop bp */
    0xb4, 0x86,             /* mov ah, 86h: no such function */
    0xcf,
};
static const u8 memory_size[] = {0xb8, BASE_KIB & 0xff, BASE_KIB >> 8, 0xcf};
static const u8 dismiss[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf}; /* EOI to port 20h */
static const u8 dismiss_both[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf};

enum { NOTHING, REFUSE, MEMORY, DISMISS, DISMISS_BOTH, HANDLERS };

static const struct {
    const u8 *code;
    u16 size;
} handlers[HANDLERS] = {
    [NOTHING] = {nothing, sizeof(nothing)},
    [REFUSE] = {refuse, sizeof(refuse)},
    [MEMORY] = {memory_size, sizeof(memory_size)},
    [DISMISS] = {dismiss, sizeof(dismiss)},
    [DISMISS_BOTH] = {dismiss_both, sizeof(dismiss_both)},
};

static unsigned handler_of(unsigned vector)
{
    if (vector == MEMORY_SIZE)
        return MEMORY;
    if (vector >= IRQ8_VECTOR && vector < IRQ8_VECTOR + 8)
        return DISMISS_BOTH;
    if (vector >= FIRST_SERVICE)
        return REFUSE;
    return vector >= IRQ0_VECTOR ? DISMISS : NOTHING;
}

static void write_vectors(struct board *board)
{
    u16 at[HANDLERS], next = CODE;
    for (unsigned i = 0; i < HANDLERS; i++) {
        at[i] = next;
        ram_write(board, gpa((BIOS_SEGMENT << 4) + next), handlers[i].code, handlers[i].size);
        next += handlers[i].size;
    }
    u32 table[256];
    for (unsigned vector = 0; vector < ARRAY_LEN(table); vector++)
        table[vector] = BIOS_SEGMENT << 16 | at[handler_of(vector)];
    ram_write(board, gpa(0), table, sizeof(table));
}

/* Text mode 3: 80 columns, 25 lines, characters of 16 lines. */
static void write_video(struct board *board)
{
    const struct {
        u8 mode;
        u16 columns, page_size, page_start;
        u8 cursors[8][2];
        u8 cursor_end, cursor_start;
        u8 page;
        u16 crtc;
    } __attribute__((packed)) video = {3, 80, 4096, .cursor_end = 7, 6, .crtc = 0x3d4};
    const struct {
        u8 last_row;
        u16 height;
    } __attribute__((packed)) rows = {24, 16};
    ram_write(board, gpa(VIDEO), &video, sizeof(video));
    ram_write(board, gpa(0x484), &rows, sizeof(rows));
}

static u16 count(const u16 *ports, unsigned n)
{
    u16 found = 0;
    for (unsigned i = 0; i < n; i++)
        found += ports[i] != 0;
    return found;
}

static void write_equipment(struct board *board, const struct bios_equipment *equipment)
{
    u16 word = HAS_FPU | HAS_MOUSE;
    word |= equipment->vga ? HAS_COLOR : 0;
    word |= (u16)(count(equipment->com, ARRAY_LEN(equipment->com)) << 9);
    word |= (u16)(count(equipment->lpt, ARRAY_LEN(equipment->lpt)) << 14);
    ram_write(board, gpa(EQUIPMENT), &word, sizeof(word));
    ram_write(board, gpa(COM_WORDS), equipment->com, sizeof(equipment->com));
    ram_write(board, gpa(LPT_WORDS), equipment->lpt, sizeof(equipment->lpt));
    if (equipment->vga)
        write_video(board);
}

void bios_rest_write(struct board *board, const struct bios_equipment *equipment)
{
    /* The extended data area's segment, whose first byte is its size in KiB; the KiB below. */
    const u16 ebda_segment = EBDA_SEGMENT, base_kib = BASE_KIB;
    const u8 ebda_kib = 1;
    ram_write(board, gpa(EBDA_WORD), &ebda_segment, sizeof(ebda_segment));
    ram_write(board, gpa(BASE_WORD), &base_kib, sizeof(base_kib));
    ram_write(board, gpa(EBDA_SEGMENT << 4), &ebda_kib, sizeof(ebda_kib));
    write_equipment(board, equipment);
    write_vectors(board);
}

/* The 8259s' vectors, the lines that a BIOS listens to (clock, keyboard, cascade, diskette;
 * alarm, mouse, FPU, disk), and the 18.2 ticks a second of the 8254's counter 0. */
void bios_rest_interrupts(struct board *board)
{
    static const struct {
        u16 port;
        u8 value;
    } writes[] = {
        {0x20, 0x11}, {0x21, IRQ0_VECTOR}, {0x21, 1 << 2}, {0x21, 1}, {0x21, 0xb8},
        {0xa0, 0x11}, {0xa1, IRQ8_VECTOR}, {0xa1, 2},      {0xa1, 1}, {0xa1, 0x8e},
        {0x43, 0x34}, {0x40, 0},           {0x40, 0},
    };
    for (unsigned i = 0; i < ARRAY_LEN(writes); i++)
        bus_write(board, BUS_PIO, writes[i].port, 1, writes[i].value);
}
