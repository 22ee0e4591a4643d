/* The geometry of IDE disks, see disk_geometry.h. */
#include "machine/disk_geometry.h"

#include "device/ide.h"

/* CMOS memory */
#define CMOS_DISK_TYPES  0x12 /* drive C: in bits 7:4, D: in 3:0; 15: see the next */
#define CMOS_MORE_TYPES  0x19
#define CMOS_GEOMETRY    0x1b /* nine bytes a drive */
#define CMOS_TRANSLATION 0x39
#define GEOMETRY_BYTES   9
#define TYPE_BY_USER     47

#define MBR_PARTITIONS  0x1be
#define MBR_ENTRY       16
#define MAX_CYLINDERS   16383
#define BIOS_CYLINDERS  1024
#define LARGE_CYLINDERS (BIOS_CYLINDERS * 8) /* times 16 heads: 128 of 1024 */

/* How many heads the BIOS had that a partition was made under: it ends on a full cylinder, so
 * with the last head. 0: nothing says so. */
static unsigned heads_of_partition(const u8 *entry, u64 all)
{
    bool used = entry[12] | entry[13] | entry[14] | entry[15];
    unsigned heads = entry[5] + 1u, sectors = entry[6] & 63;
    if (!used || heads == 1 || !sectors)
        return 0;
    u64 cylinders = all / (heads * sectors);
    return cylinders && cylinders <= MAX_CYLINDERS ? heads : 0;
}

static unsigned heads_of_bios(const u8 *sector, u64 all)
{
    unsigned heads = 0;
    if (sector[510] != 0x55 || sector[511] != 0xaa)
        return 0;
    for (unsigned i = 0; i < 4 && !heads; i++)
        heads = heads_of_partition(sector + MBR_PARTITIONS + i * MBR_ENTRY, all);
    return heads;
}

struct disk_geometry disk_geometry_of(u64 size, const u8 first_sector[512])
{
    u64 all = size / BLOCK_SECTOR, cylinders = all / (IDE_CHS_HEADS * IDE_CHS_SECTORS);
    struct disk_geometry g = {.heads = IDE_CHS_HEADS, .sectors = IDE_CHS_SECTORS};
    g.cylinders = (u16)(cylinders > MAX_CYLINDERS ? MAX_CYLINDERS : cylinders ? cylinders : 1);
    unsigned heads = heads_of_bios(first_sector, all);
    /* More heads than a drive can have were a BIOS's invention, fewer the drive's own. */
    if (heads > IDE_CHS_HEADS)
        g.translation =
            g.cylinders <= LARGE_CYLINDERS ? DISK_TRANSLATION_LARGE : DISK_TRANSLATION_LBA;
    else if (!heads && g.cylinders > BIOS_CYLINDERS)
        g.translation = DISK_TRANSLATION_LBA;
    return g;
}

static void tell_drive(const struct disk_geometry *g, unsigned drive, struct rtc *rtc)
{
    const u8 low = (u8)g->cylinders, high = (u8)(g->cylinders >> 8);
    const u8 bytes[GEOMETRY_BYTES] = {
        low,
        high,
        g->heads,
        0xff,
        0xff,                             /* no write precompensation */
        (u8)(0xc0 | (g->heads > 8) << 3), /* no retries */
        low,
        high,
        g->sectors, /* the landing zone is the last cylinder */
    };
    for (unsigned i = 0; i < GEOMETRY_BYTES; i++)
        rtc_set_cmos(rtc, (u8)(CMOS_GEOMETRY + drive * GEOMETRY_BYTES + i),
                     g->cylinders ? bytes[i] : 0);
    rtc_set_cmos(rtc, (u8)(CMOS_MORE_TYPES + drive), g->cylinders ? TYPE_BY_USER : 0);
}

void disk_geometry_tell(const struct disk_geometry drives[DISK_GEOMETRY_DRIVES],
                        struct rtc *rtc)
{
    u8 translations = 0;
    for (unsigned i = 0; i < DISK_GEOMETRY_DRIVES; i++)
        translations |= (u8)(drives[i].translation << 2 * i);
    rtc_set_cmos(rtc, CMOS_TRANSLATION, translations);
    rtc_set_cmos(rtc, CMOS_DISK_TYPES,
                 (u8)((drives[0].cylinders ? 0xf0 : 0) | (drives[1].cylinders ? 0x0f : 0)));
    tell_drive(&drives[0], 0, rtc);
    tell_drive(&drives[1], 1, rtc);
}
