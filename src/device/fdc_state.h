/*
 * The inside of the floppy controller: fdc.c (ports, commands, doors), fdc_data.c (sectors on
 * their way between host and disk).
 */
#pragma once

#include "base/bits.h"
#include "device/fdc.h"
#include "platform/device.h"

#define DOR_GATE BIT(3) /* digital output register: interrupt and DMA reach the bus */

/* Status registers, the result of a command. */
#define ST0_ABNORMAL 0x40
#define ST0_INVALID  0x80
#define ST0_READY    0xc0 /* its state changed: after a reset */
#define ST0_SEEK_END BIT(5)
#define ST0_CHECK    BIT(4)
#define ST1_END      BIT(7) /* beyond the last sector */
#define ST1_OVERRUN  BIT(4) /* the host did not take or bring data in time */
#define ST1_NO_DATA  BIT(2)
#define ST1_PROTECT  BIT(1)
#define ST1_NO_ID    BIT(0)
#define ST2_WRONG    BIT(4) /* cylinder */
#define ST2_NO_DATA  BIT(0)
#define ST3_PROTECT  BIT(6)
#define ST3_READY    BIT(5)
#define ST3_TRACK0   BIT(4)
#define ST3_TWO      BIT(3)

enum phase { PHASE_COMMAND, PHASE_EXECUTE, PHASE_RESULT };
enum what { NOTHING, READ, WRITE, FORMAT, VERIFY };

struct geometry {
    u32 kib;
    u8 tracks, heads, sectors, type;
};

#define EMPTY 0xffff /* of `pos`: the sector is still to be fetched */

struct fdc {
    struct device device;
    struct board *board;
    struct isa_dma *dma;
    struct irq_line irq;
    struct bus_region ports, dir_port;
    struct timer timer;
    struct block *disk[FDC_DRIVES];
    const struct geometry *geometry[FDC_DRIVES]; /* of the disk; NULL: there is none */
    struct fdc_door {
        struct fdc *fdc;
        bool open;
        struct tray tray;
    } door[FDC_DRIVES];

    u8 dor, tdr, rate;
    u8 phase; /* enum phase */
    u8 fifo[16];
    u8 fifo_pos, fifo_len; /* while results leave: what there is; before: what is wanted */
    bool irq_pending;
    u8 config[3], specify[2], perpendicular;
    bool locked;
    u8 track[4]; /* where the heads are */
    bool changed[4];

    /* Interrupts that SENSE INTERRUPT STATUS tells of. */
    bool sense[4];
    u8 sense_st0[4];
    u64 due;    /* a seek's or reset's end; UINT64_MAX: none */
    u8 seeking; /* drives, a bit each */
    bool resetting;

    /* A data command. */
    u8 what; /* enum what */
    u8 drive, c, h, r, n, eot, fill;
    bool multi_track;
    bool last; /* the sector on its way to the disk is the last one */
    u32 pos;   /* in `sector` */
    u32 left;  /* sectors to format or verify */
    u8 sector[512];

    struct block_request io;
    bool in_flight, reset_wanted;
};

static inline bool fdc_has_drive(const struct fdc *fdc, unsigned drive)
{
    return drive < FDC_DRIVES && fdc->disk[drive];
}

static inline bool fdc_has_disk(const struct fdc *fdc, unsigned drive)
{
    return fdc_has_drive(fdc, drive) && fdc->geometry[drive];
}

/* The interrupt follows what the controller waits for. */
void fdc_update_irq(struct fdc *fdc);
/* The seven bytes after a data command, and its interrupt. */
void fdc_finish_data(struct fdc *fdc, u8 st0, u8 st1, u8 st2);
/* Ready for the next command. */
void fdc_want_command(struct fdc *fdc);

/* Data commands, their bytes in `fifo`. */
void fdc_read_data(struct fdc *fdc);
void fdc_read_track(struct fdc *fdc);
void fdc_write_data(struct fdc *fdc);
void fdc_verify(struct fdc *fdc);
void fdc_format(struct fdc *fdc);

bool fdc_uses_dma(const struct fdc *fdc);
/* Whether the host moves data bytes itself now. */
bool fdc_wants_data(const struct fdc *fdc);
/* Goes on with the data command, as far as the host's data and the disk let it. */
void fdc_run(struct fdc *fdc);
