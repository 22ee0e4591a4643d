/* The programmable attribute map, see pam.h. */
#include "device/pam.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "memory/pmap.h"
#include "memory/tlb.h"
#include "platform/device.h"
#include "platform/ram.h"
#include "platform/vcpu.h"

#define SEGMENTS   13
#define SEGMENT_F0 12
#define FIRST      0xc0000u
#define SEGMENT    (16 * KiB)
#define ALL        (256 * KiB)
#define MIRROR     (4 * GiB - MiB) /* E0000h and up show the same offsets below 4 GiB */
#define MIRRORED   0xe0000u

/* Attributes of a segment */
#define READ_RAM  BIT(0)
#define WRITE_RAM BIT(1)
#define ATTRIBUTE (READ_RAM | WRITE_RAM)

struct pam {
    struct device device;
    struct board *board;
    u8 attribute[SEGMENTS];
    u8 ram[ALL]; /* of segments that show ROM */
};

/* Segments 0 to 11 are PAM1 to PAM6, low half first; the last is the upper half of PAM0. */
static u8 pam_attribute(const u8 *registers, unsigned segment)
{
    if (segment == SEGMENT_F0)
        return registers[0] >> 4 & ATTRIBUTE;
    return registers[1 + segment / 2] >> (segment & 1 ? 4 : 0) & ATTRIBUTE;
}

static void pam_show_rom(struct pam *pam, u32 addr, u32 size)
{
    u8 rom[64 * KiB];
    ensure(size <= sizeof(rom));
    ram_read(pam->board, gpa(addr), pam->ram + (addr - FIRST), size);
    memset(rom, 0xff, size);
    if (addr >= MIRRORED)
        ram_read(pam->board, gpa(MIRROR + addr), rom, size);
    ram_write(pam->board, gpa(addr), rom, size);
}

static void pam_change(struct pam *pam, unsigned segment, u8 attribute)
{
    u32 addr = FIRST + segment * SEGMENT;
    u32 size = segment == SEGMENT_F0 ? 4 * SEGMENT : SEGMENT;
    u8 old = pam->attribute[segment];
    pam->attribute[segment] = attribute;
    /* Loads and stores of ours must pass, too. Plain RAM cannot run out. */
    pmap_set_rom(pam->board->pmap, gpa(addr), size, false);
    if ((old & READ_RAM) && !(attribute & READ_RAM))
        pam_show_rom(pam, addr, size);
    else if (!(old & ATTRIBUTE) && (attribute & READ_RAM))
        ram_write(pam->board, gpa(addr), pam->ram + (addr - FIRST), size);
    pmap_set_rom(pam->board->pmap, gpa(addr), size, !(attribute & WRITE_RAM));
}

static void flush_tlb(struct vcpu *vcpu, struct vcpu_work *work)
{
    tlb_drop(&vcpu->cpu);
}

void pam_apply(struct pam *pam, const u8 *registers)
{
    bool changed = false;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        u8 attribute = pam_attribute(registers, i);
        if (attribute == pam->attribute[i])
            continue;
        pam_change(pam, i, attribute);
        changed = true;
    }
    if (changed)
        vcpu_post_all(pam->board, flush_tlb, NULL);
}

/* Memory is loaded apart from devices; its ROM flags are ours. */
static bool pam_post_load(void *device)
{
    struct pam *pam = device;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        if (pam->attribute[i] & ~ATTRIBUTE)
            return false;
        pmap_set_rom(pam->board->pmap, gpa(FIRST + i * SEGMENT),
                     i == SEGMENT_F0 ? 4 * SEGMENT : SEGMENT, !(pam->attribute[i] & WRITE_RAM));
    }
    vcpu_post_all(pam->board, flush_tlb, NULL);
    return true;
}

static void pam_reset(void *device)
{
    u8 registers[PAM_REGISTERS];
    memset(registers, PAM_ALL_RAM, sizeof(registers));
    pam_apply(device, registers);
}

/* `ram` is guest memory, not a register: it goes where memory is saved. */
static const struct field pam_fields[] = {
    FIELD_BLOB(struct pam, attribute),
};

static const struct device_class pam_class = {
    .name = "pam",
    .version = 1,
    .fields = pam_fields,
    .n_fields = ARRAY_LEN(pam_fields),
    .reset = pam_reset,
    .post_load = pam_post_load,
    .destroy = free,
};

struct pam *pam_create(struct board *board)
{
    struct pam *pam = calloc(1, sizeof(*pam));
    ensure(pam);
    pam->board = board;
    memset(pam->attribute, ATTRIBUTE, sizeof(pam->attribute));
    device_add(board, &pam->device, &pam_class, pam);
    return pam;
}
