/*
 * The inside of the IDE controller: ide.c (ports, PCI, bus master), ide_transfer.c (how data
 * moves), ide_ata.c (disks), ide_atapi.c (CD-ROM drives).
 */
#pragma once

#include "base/bits.h"
#include "device/ide.h"

#define IDE_BUFFER 65536u

#define IDE_DATA_SET_MANAGEMENT 0x06

enum ide_status {
    IDE_ERR = BIT(0), /* CHK for ATAPI */
    IDE_DRQ = BIT(3),
    IDE_DSC = BIT(4),
    IDE_DF = BIT(5),
    IDE_DRDY = BIT(6),
    IDE_BSY = BIT(7),
};
enum ide_error {
    IDE_ABRT = BIT(2),
    IDE_IDNF = BIT(4),
    IDE_UNC = BIT(6),
};

/* Device register */
#define IDE_SELECT_LBA   BIT(6)
#define IDE_SELECT_SLAVE BIT(4)

/* ATAPI's interrupt reason, in the sector count register. */
#define ATAPI_COD BIT(0) /* a command packet is wanted; with IO: the end */
#define ATAPI_IO  BIT(1) /* to the host */

/* What a drive does next. */
enum ide_stage {
    IDE_IDLE,
    IDE_FETCH,  /* fill the buffer from the disk */
    IDE_OFFER,  /* give the buffer to the guest */
    IDE_ASK,    /* fill the buffer from the guest */
    IDE_STORE,  /* write the buffer to the disk */
    IDE_TRIM,   /* discard the ranges that the buffer lists, from `pos` on */
    IDE_FLUSH,  /* make it durable */
    IDE_DONE,   /* finish the command */
    IDE_PACKET, /* wait for a command packet */
    IDE_STAGES
};

struct ide_regs {
    u8 feature, count, low, mid, high;
};

struct ide_drive {
    struct device device;
    struct ide_channel *channel;
    struct block *block;
    bool present, cdrom;
    bool writeback_default;
    char serial[20], model[40];

    struct ide_regs reg, hob; /* hob: as they were before the last write */
    u8 status, error;
    u8 command;
    u8 heads, sectors; /* CHS translation, as the host set it */
    u8 multiple;       /* sectors of READ MULTIPLE's blocks; 0: off */
    u8 mode;           /* of DMA, as in SET FEATURES */
    bool write_cache, smart;
    bool reset_wanted; /* once the back end has answered */

    u8 stage;
    bool dma, ext, to_disk, fua;
    bool quiet;    /* the first block of a write: no interrupt */
    u64 lba;       /* of the next sector; bytes are lba * sector size */
    u32 left;      /* sectors not yet fetched or stored */
    u32 drq_bytes; /* most of one data block by PIO */
    u32 pos, len;  /* in the buffer: what has moved, what there is */
    u32 block_end; /* of the data block that is on */

    u8 sense_key, asc, ascq;
    u8 attention; /* power-on or a new disc that was not yet reported: its ASC, or 0 */
    u8 event;     /* of the medium, for GET EVENT STATUS NOTIFICATION: its code, or 0 */
    bool tray_open, locked;
    struct tray tray;

    u8 buffer[IDE_BUFFER];

    struct block_request io;
    u32 io_sectors;
    bool in_flight;
};

struct ide_channel {
    struct device device;
    struct ide *ide;
    struct irq_line irq;
    struct bus_region command_ports, control_port;
    struct ide_drive drive[IDE_DRIVES];

    u8 select;  /* the device register */
    u8 control; /* HOB, SRST, nIEN */
    bool irq_pending;

    /* Bus master */
    u8 bm_command, bm_status;
    u32 prdt, prd_next; /* where the table is, and the next entry */
    u32 piece_addr, piece_left;
    bool piece_last;
};

struct ide {
    struct device device;
    struct board *board;
    struct pci_device pci;
    struct ide_channel channel[IDE_CHANNELS];
};

static inline u32 ide_sector_size(const struct ide_drive *drive)
{
    return drive->cdrom ? 2048 : 512;
}

/* ide.c */
void ide_interrupt(struct ide_channel *channel);
void ide_set_signature(struct ide_drive *drive);
/* Moves bytes between the buffer, from `pos` to `len`, and the bus master's memory. True: all
 * of them; false: there is no more memory, or it is not yet started. An error ends the
 * transfer. */
bool ide_dma_move(struct ide_drive *drive, bool to_memory);

/* ide_transfer.c */
void ide_run(struct ide_drive *drive);
/* Starts a stage and goes on from there. */
void ide_start(struct ide_drive *drive, enum ide_stage stage);
/* The guest moved bytes by PIO. */
u32 ide_pio_read(struct ide_drive *drive, unsigned size);
void ide_pio_write(struct ide_drive *drive, unsigned size, u32 value);
/* Ends the command, with an interrupt. */
void ide_finish(struct ide_drive *drive);
void ide_fail(struct ide_drive *drive, u8 error);

/* ide_ata.c */
void ide_ata_command(struct ide_drive *drive);
void ide_power_on(struct ide_drive *drive);
/* Puts text into IDENTIFY data: padded, and each word's first character in its high byte. */
void ide_put_text(u16 *words, unsigned n, const char *text, size_t size);

/* ide_atapi.c */
void ide_create_tray(struct ide_drive *drive);
void ide_atapi_power_on(struct ide_drive *drive);
void ide_identify_packet(struct ide_drive *drive);
void ide_start_packet(struct ide_drive *drive);
void ide_packet(struct ide_drive *drive);
void ide_atapi_fail(struct ide_drive *drive, u8 key, u8 asc, u8 ascq);
