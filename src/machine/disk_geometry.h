/*
 * How a BIOS counts an IDE disk's cylinders, and the CMOS bytes that tell it (Phoenix, "CMOS
 * memory map": 12h, 19h to 2Ch; 39h as QEMU's and Bochs's machines have it, which SeaBIOS asks
 * how to translate).
 */
#pragma once

#include "device/rtc.h"

#define DISK_GEOMETRY_DRIVES 4

/* As byte 39h has them, two bits for each drive. */
enum disk_translation {
    DISK_TRANSLATION_NONE,
    DISK_TRANSLATION_LBA,
    DISK_TRANSLATION_LARGE,
};

struct disk_geometry {
    u16 cylinders; /* 1 to 16383; 0: no disk */
    u8 heads, sectors;
    u8 translation; /* enum disk_translation */
};

/* Of a disk of so many bytes, whose first sector says what it was partitioned under. */
struct disk_geometry disk_geometry_of(u64 size, const u8 first_sector[512]);

void disk_geometry_tell(const struct disk_geometry drives[DISK_GEOMETRY_DRIVES],
                        struct rtc *rtc);
