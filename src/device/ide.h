/*
 * An IDE controller as in Intel's PIIX3 (82371SB data sheet, 290550; bus master: SFF-8038i)
 * with two channels at the ports and interrupts that every PC has, and on each up to two
 * drives: ATA disks (ATA/ATAPI-7) and ATAPI CD-ROM drives (SFF-8020i, MMC-3).
 *
 * Nothing waits for the host's disk: a drive is busy until its back end answers.
 */
#pragma once

#include "device/pci.h"
#include "platform/block.h"
#include "platform/tray.h"

#define IDE_CHANNELS    2
#define IDE_DRIVES      2 /* on a channel: master and slave */
#define IDE_CHS_HEADS   16
#define IDE_CHS_SECTORS 63

struct ide_drive_config {
    struct block *block; /* NULL: no drive */
    bool cdrom;
    bool writeback;     /* a disk's write cache is on at power-on */
    const char *serial; /* NULL: one of our own */
};

struct ide;

/* Takes function 1 of the ISA bridge's slot. `irq`: ISA IRQs 14 and 15. */
struct ide *ide_create(struct board *board, struct pci_host *host,
                       const struct irq_line irq[IDE_CHANNELS],
                       const struct ide_drive_config drives[IDE_CHANNELS][IDE_DRIVES]);

/* Of a CD-ROM drive. */
struct tray *ide_tray(struct ide *ide, unsigned channel, unsigned drive);
