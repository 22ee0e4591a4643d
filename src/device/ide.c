/* The IDE controller's ports, PCI function and bus master, see ide.h. */
#include "device/ide.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/ide_state.h"
#include "platform/ram.h"

#define CONTROL_NIEN BIT(1)
#define CONTROL_SRST BIT(2)
#define CONTROL_HOB  BIT(7)

#define BM_START      BIT(0)
#define BM_TO_MEMORY  BIT(3)
#define BM_ACTIVE     BIT(0)
#define BM_ERROR      BIT(1)
#define BM_INTERRUPT  BIT(2)
#define BM_DRIVES_DMA 0x60
#define BM_SIZE       16

#define PRD_LAST BIT(31)

#define IDETIM        0x40 /* PIIX3: a word for each channel, bit 15 switches its ports on */
#define IDETIM_DECODE 0x8000

static const struct {
    u16 command, control;
} ports[IDE_CHANNELS] = {{0x1f0, 0x3f6}, {0x170, 0x376}};

enum {
    PORT_DATA,
    PORT_ERROR,
    PORT_COUNT,
    PORT_LOW,
    PORT_MID,
    PORT_HIGH,
    PORT_SELECT,
    PORT_STATUS
};

/* -- Interrupts ---------------------------------------------------------------------------- */

static void update_irq(struct ide_channel *channel)
{
    irq_set(&channel->irq, channel->irq_pending && !(channel->control & CONTROL_NIEN));
}

void ide_interrupt(struct ide_channel *channel)
{
    channel->irq_pending = true;
    if (!(channel->control & CONTROL_NIEN))
        channel->bm_status |= BM_INTERRUPT;
    update_irq(channel);
}

/* -- Drives -------------------------------------------------------------------------------- */

static struct ide_drive *selected(struct ide_channel *channel)
{
    return &channel->drive[!!(channel->select & IDE_SELECT_SLAVE)];
}

static bool is_empty(const struct ide_channel *channel)
{
    return !channel->drive[0].present && !channel->drive[1].present;
}

/* What a drive shows after a reset (ATA/ATAPI-7, 5.16): its kind. */
void ide_set_signature(struct ide_drive *drive)
{
    drive->stage = IDE_IDLE;
    drive->reg = (struct ide_regs){
        .count = 1, .low = 1, .mid = drive->cdrom ? 0x14 : 0, .high = drive->cdrom ? 0xeb : 0};
    drive->error = 1; /* no error found */
    drive->status = drive->cdrom ? 0 : IDE_DRDY | IDE_DSC;
}

/* One that waits for its back end is busy until the answer is there. */
static void reset_drive(struct ide_drive *drive)
{
    if (drive->in_flight) {
        drive->status = IDE_BSY;
        drive->reset_wanted = true;
        return;
    }
    ide_set_signature(drive);
}

static void reset_channel(struct ide_channel *channel)
{
    for (unsigned i = 0; i < IDE_DRIVES; i++)
        reset_drive(&channel->drive[i]);
    channel->select = 0;
    channel->irq_pending = false;
    channel->bm_command &= ~BM_START;
    channel->bm_status &= ~BM_ACTIVE;
    update_irq(channel);
}

/* -- The bus master ------------------------------------------------------------------------ */

static void dma_stop(struct ide_channel *channel, bool error)
{
    channel->bm_status &= ~BM_ACTIVE;
    if (error)
        channel->bm_status |= BM_ERROR;
}

/* The next piece of memory; false: there is none. */
static bool next_piece(struct ide_channel *channel)
{
    u32 entry[2];
    if (channel->piece_last ||
        !ram_read(channel->ide->board, gpa(channel->prd_next), entry, sizeof(entry)))
        return false;
    channel->prd_next += sizeof(entry);
    channel->piece_addr = entry[0] & ~1u;
    channel->piece_left = entry[1] & 0xfffe;
    if (!channel->piece_left)
        channel->piece_left = 0x10000;
    channel->piece_last = entry[1] & PRD_LAST;
    return true;
}

static bool move_piece(struct ide_drive *drive, u32 bytes, bool to_memory)
{
    struct ide_channel *channel = drive->channel;
    struct board *board = channel->ide->board;
    struct gpa at = gpa(channel->piece_addr);
    u8 *data = drive->buffer + drive->pos;
    bool moved =
        to_memory ? ram_write(board, at, data, bytes) : ram_read(board, at, data, bytes);
    channel->piece_addr += bytes;
    channel->piece_left -= bytes;
    drive->pos += bytes;
    return moved;
}

bool ide_dma_move(struct ide_drive *drive, bool to_memory)
{
    struct ide_channel *channel = drive->channel;
    bool started = (channel->bm_command & BM_START) && (channel->bm_status & BM_ACTIVE);
    if (!started || !(channel->bm_command & BM_TO_MEMORY) == to_memory ||
        !pci_bus_master(&channel->ide->pci))
        return false;
    while (drive->pos < drive->len) {
        if (!channel->piece_left && !next_piece(channel)) {
            /* Less memory than data: the drive keeps waiting (SFF-8038i, 3.1). */
            dma_stop(channel, !channel->piece_last);
            return false;
        }
        u32 left = drive->len - drive->pos;
        if (!move_piece(drive, left < channel->piece_left ? left : channel->piece_left,
                        to_memory)) {
            dma_stop(channel, true);
            ide_fail(drive, IDE_ABRT);
            return false;
        }
    }
    /* All the memory was used: the end, of the bus master's part. */
    if (channel->piece_last && !channel->piece_left)
        dma_stop(channel, false);
    return true;
}

static void bm_write_command(struct ide_channel *channel, u8 value)
{
    bool was_on = channel->bm_command & BM_START;
    channel->bm_command = value & (BM_START | BM_TO_MEMORY);
    if (!(value & BM_START)) {
        dma_stop(channel, false);
        return;
    }
    if (was_on)
        return;
    channel->bm_status |= BM_ACTIVE;
    channel->prd_next = channel->prdt;
    channel->piece_left = 0;
    channel->piece_last = false;
    struct ide_drive *drive = selected(channel);
    if (drive->present && drive->dma)
        ide_run(drive);
}

static u8 bm_read(const struct ide_channel *channel, unsigned reg)
{
    switch (reg) {
    case 0:
        return channel->bm_command;
    case 2:
        return channel->bm_status;
    case 4 ... 7:
        return (u8)(channel->prdt >> 8 * (reg - 4));
    default:
        return 0;
    }
}

static void bm_write(struct ide_channel *channel, unsigned reg, u8 value)
{
    switch (reg) {
    case 0:
        bm_write_command(channel, value);
        break;
    case 2:
        channel->bm_status =
            (u8)((channel->bm_status & ~BM_DRIVES_DMA & ~(value & (BM_ERROR | BM_INTERRUPT))) |
                 (value & BM_DRIVES_DMA));
        break;
    case 4 ... 7:
        channel->prdt &= ~(0xffu << 8 * (reg - 4));
        channel->prdt |= (u32)value << 8 * (reg - 4) & ~3u;
        break;
    default:
        break;
    }
}

static u64 bm_port_read(void *opaque, u64 offset, unsigned size)
{
    const struct ide *ide = opaque;
    return bm_read(&ide->channel[offset / 8], offset % 8);
}

static void bm_port_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct ide *ide = opaque;
    bm_write(&ide->channel[offset / 8], offset % 8, (u8)value);
}

static const struct bus_ops bm_ops = {bm_port_read, bm_port_write};

/* -- Command block ------------------------------------------------------------------------- */

/* Both drives find out what they are; the master answers for both. */
static void diagnose(struct ide_channel *channel)
{
    for (unsigned i = 0; i < IDE_DRIVES; i++)
        reset_drive(&channel->drive[i]);
    channel->select &= ~IDE_SELECT_SLAVE;
    ide_interrupt(channel);
}

static void write_command(struct ide_channel *channel, u8 command)
{
    struct ide_drive *drive = selected(channel);
    channel->irq_pending = false;
    update_irq(channel);
    if (command == 0x90) {
        diagnose(channel);
        return;
    }
    bool reset = command == 0x08 && drive->cdrom;
    if (!drive->present || ((drive->status & (IDE_BSY | IDE_DRQ)) && !reset))
        return;
    if (drive->in_flight) {
        reset_drive(drive);
        return;
    }
    drive->command = command;
    drive->error = 0;
    drive->dma = false;
    ide_ata_command(drive);
}

static u8 read_register(struct ide_channel *channel, unsigned reg)
{
    struct ide_drive *drive = selected(channel);
    const struct ide_regs *regs = channel->control & CONTROL_HOB ? &drive->hob : &drive->reg;
    /* A cable that nobody drives is pulled up, but for the busy bit's. A master answers for a
     * slave that is not there. */
    if (is_empty(channel))
        return 0x7f;
    if (!drive->present)
        return reg == PORT_SELECT ? channel->select : 0;
    switch (reg) {
    case PORT_ERROR:
        return drive->error;
    case PORT_COUNT:
        return regs->count;
    case PORT_LOW:
        return regs->low;
    case PORT_MID:
        return regs->mid;
    case PORT_HIGH:
        return regs->high;
    case PORT_SELECT:
        return channel->select | 0xa0;
    default:
        return drive->status;
    }
}

/* Both drives listen. */
static void write_register(struct ide_channel *channel, unsigned reg, u8 value)
{
    static const u8 offset[] = {
        [PORT_ERROR] = offsetof(struct ide_regs, feature),
        [PORT_COUNT] = offsetof(struct ide_regs, count),
        [PORT_LOW] = offsetof(struct ide_regs, low),
        [PORT_MID] = offsetof(struct ide_regs, mid),
        [PORT_HIGH] = offsetof(struct ide_regs, high),
    };
    channel->control &= ~CONTROL_HOB;
    if (reg == PORT_SELECT) {
        channel->select = value;
        return;
    }
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        struct ide_drive *drive = &channel->drive[i];
        u8 *now = (u8 *)&drive->reg + offset[reg], *before = (u8 *)&drive->hob + offset[reg];
        if (drive->status & IDE_BSY)
            continue;
        *before = *now;
        *now = value;
    }
}

static u64 command_read(void *opaque, u64 offset, unsigned size)
{
    struct ide_channel *channel = opaque;
    if (offset == PORT_DATA)
        return selected(channel)->present ? ide_pio_read(selected(channel), size) : ~0ull;
    if (offset == PORT_STATUS) {
        channel->irq_pending = false;
        update_irq(channel);
    }
    return read_register(channel, (unsigned)offset);
}

static void command_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct ide_channel *channel = opaque;
    if (offset == PORT_DATA)
        ide_pio_write(selected(channel), size, (u32)value);
    else if (offset == PORT_STATUS)
        write_command(channel, (u8)value);
    else
        write_register(channel, (unsigned)offset, (u8)value);
}

static u64 control_read(void *opaque, u64 offset, unsigned size)
{
    return read_register(opaque, PORT_STATUS);
}

static void control_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct ide_channel *channel = opaque;
    u8 old = channel->control;
    channel->control = (u8)value;
    update_irq(channel);
    if ((value & CONTROL_SRST) && !(old & CONTROL_SRST))
        for (unsigned i = 0; i < IDE_DRIVES; i++)
            channel->drive[i].status = IDE_BSY;
    if (!(value & CONTROL_SRST) && (old & CONTROL_SRST))
        reset_channel(channel);
}

/* Only the data port is wider than a byte. */
static const struct bus_ops command_ops = {command_read, command_write};
static const struct bus_ops control_ops = {control_read, control_write};

/* -- Life ---------------------------------------------------------------------------------- */

static void drive_reset(void *device)
{
    struct ide_drive *drive = device;
    if (!drive->present)
        return;
    if (drive->in_flight) {
        drive->reset_wanted = true;
        block_drain(drive->block);
        ensure(!drive->in_flight);
    }
    memset(drive->buffer, 0, sizeof(drive->buffer));
    ide_power_on(drive);
}

static bool drive_post_load(void *device)
{
    struct ide_drive *drive = device;
    u64 sectors = drive->block ? drive->block->size / ide_sector_size(drive) : 0;
    if (drive->in_flight || drive->stage >= IDE_STAGES || drive->len > IDE_BUFFER ||
        drive->pos > drive->len || drive->block_end > drive->len || !drive->heads ||
        !drive->sectors || drive->heads > 16 || drive->multiple > 16 ||
        drive->drq_bytes > IDE_BUFFER)
        return false;
    bool waits = drive->stage == IDE_OFFER || drive->stage == IDE_ASK;
    if ((waits && (drive->drq_bytes < 2 || drive->drq_bytes % 2)) ||
        (drive->stage == IDE_ASK &&
         (drive->cdrom || drive->block->read_only || drive->drq_bytes % BLOCK_SECTOR ||
          drive->len % BLOCK_SECTOR || !drive->left ||
          drive->len / BLOCK_SECTOR > drive->left)))
        return false;
    /* The stages that ask the back end last no longer than that. */
    if (!waits && drive->stage != IDE_IDLE && drive->stage != IDE_PACKET)
        return false;
    return !waits || !drive->left ||
           (drive->lba <= sectors && drive->left <= sectors - drive->lba);
}

static const struct field drive_fields[] = {
    FIELD(struct ide_drive, reg.feature), FIELD(struct ide_drive, reg.count),
    FIELD(struct ide_drive, reg.low),     FIELD(struct ide_drive, reg.mid),
    FIELD(struct ide_drive, reg.high),    FIELD(struct ide_drive, hob.feature),
    FIELD(struct ide_drive, hob.count),   FIELD(struct ide_drive, hob.low),
    FIELD(struct ide_drive, hob.mid),     FIELD(struct ide_drive, hob.high),
    FIELD(struct ide_drive, status),      FIELD(struct ide_drive, error),
    FIELD(struct ide_drive, command),     FIELD(struct ide_drive, heads),
    FIELD(struct ide_drive, sectors),     FIELD(struct ide_drive, multiple),
    FIELD(struct ide_drive, mode),        FIELD(struct ide_drive, write_cache),
    FIELD(struct ide_drive, smart),       FIELD(struct ide_drive, stage),
    FIELD(struct ide_drive, dma),         FIELD(struct ide_drive, ext),
    FIELD(struct ide_drive, to_disk),     FIELD(struct ide_drive, fua),
    FIELD(struct ide_drive, quiet),       FIELD(struct ide_drive, lba),
    FIELD(struct ide_drive, left),        FIELD(struct ide_drive, drq_bytes),
    FIELD(struct ide_drive, pos),         FIELD(struct ide_drive, len),
    FIELD(struct ide_drive, block_end),   FIELD(struct ide_drive, sense_key),
    FIELD(struct ide_drive, asc),         FIELD(struct ide_drive, ascq),
    FIELD(struct ide_drive, attention),   FIELD(struct ide_drive, event),
    FIELD(struct ide_drive, tray_open),   FIELD(struct ide_drive, locked),
    FIELD_RAM(struct ide_drive, buffer),
};

/* Their memory is the controller's. */
static const struct device_class drive_class = {
    .name = "ide-drive",
    .version = 2,
    .fields = drive_fields,
    .n_fields = ARRAY_LEN(drive_fields),
    .reset = drive_reset,
    .post_load = drive_post_load,
};

static void channel_reset(void *device)
{
    struct ide_channel *channel = device;
    channel->select = channel->control = 0;
    channel->irq_pending = false;
    channel->bm_command = channel->bm_status = 0;
    channel->prdt = channel->prd_next = channel->piece_addr = channel->piece_left = 0;
    channel->piece_last = false;
    update_irq(channel);
}

static bool channel_post_load(void *device)
{
    update_irq(device);
    return true;
}

static const struct field channel_fields[] = {
    FIELD(struct ide_channel, select),      FIELD(struct ide_channel, control),
    FIELD(struct ide_channel, irq_pending), FIELD(struct ide_channel, bm_command),
    FIELD(struct ide_channel, bm_status),   FIELD(struct ide_channel, prdt),
    FIELD(struct ide_channel, prd_next),    FIELD(struct ide_channel, piece_addr),
    FIELD(struct ide_channel, piece_left),  FIELD(struct ide_channel, piece_last),
};

static const struct device_class channel_class = {
    .name = "ide-channel",
    .version = 1,
    .fields = channel_fields,
    .n_fields = ARRAY_LEN(channel_fields),
    .reset = channel_reset,
    .post_load = channel_post_load,
};

static void ide_destroy(void *device)
{
    struct ide *ide = device;
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *channel = &ide->channel[i];
        for (unsigned d = 0; d < IDE_DRIVES; d++)
            if (channel->drive[d].in_flight)
                block_drain(channel->drive[d].block);
        bus_remove(ide->board, &channel->command_ports);
        bus_remove(ide->board, &channel->control_port);
    }
    pci_unplug(&ide->pci);
    free(ide);
}

/* What it has of state is its parts'. */
static const struct device_class ide_class = {
    .name = "ide", .version = 1, .destroy = ide_destroy};

static void create_drive(struct ide *ide, unsigned c, unsigned d,
                         const struct ide_drive_config *config)
{
    struct ide_drive *drive = &ide->channel[c].drive[d];
    drive->channel = &ide->channel[c];
    drive->block = config->block;
    drive->cdrom = config->cdrom;
    drive->present = config->block;
    drive->writeback_default = config->writeback;
    if (!drive->present)
        return;
    char serial[sizeof(drive->serial) + 1];
    snprintf(serial, sizeof(serial), "DP%05u", c * IDE_DRIVES + d + 1);
    const char *name = config->serial ? config->serial : serial;
    memcpy(drive->serial, name, strnlen(name, sizeof(drive->serial)));
    const char *model = config->cdrom ? "DOPPEL CD-ROM" : "DOPPEL HARDDISK";
    memcpy(drive->model, model, strlen(model));
    ide_create_tray(drive);
    device_add(ide->board, &drive->device, &drive_class, drive);
    ide_power_on(drive);
}

static void create_channel(struct ide *ide, unsigned c, struct irq_line irq,
                           const struct ide_drive_config *drives)
{
    struct ide_channel *channel = &ide->channel[c];
    channel->ide = ide;
    channel->irq = irq;
    channel->command_ports = (struct bus_region){.name = "ide",
                                                 .ops = &command_ops,
                                                 .opaque = channel,
                                                 .base = ports[c].command,
                                                 .size = 8,
                                                 .max_size = 4,
                                                 .space = BUS_PIO};
    channel->control_port = (struct bus_region){.name = "ide-control",
                                                .ops = &control_ops,
                                                .opaque = channel,
                                                .base = ports[c].control,
                                                .size = 1,
                                                .max_size = 1,
                                                .space = BUS_PIO};
    bus_add(ide->board, &channel->command_ports);
    bus_add(ide->board, &channel->control_port);
    device_add(ide->board, &channel->device, &channel_class, channel);
    for (unsigned d = 0; d < IDE_DRIVES; d++)
        create_drive(ide, c, d, &drives[d]);
}

struct ide *ide_create(struct board *board, struct pci_host *host,
                       const struct irq_line irq[IDE_CHANNELS],
                       const struct ide_drive_config drives[IDE_CHANNELS][IDE_DRIVES])
{
    static const struct pci_ids ids = {0x8086, 0x7010, 0x1af4, 0x1100, 0x010180, 0};
    struct ide *ide = calloc(1, sizeof(*ide));
    ensure(ide);
    ide->board = board;
    device_add(board, &ide->device, &ide_class, ide);
    pci_init(&ide->pci, "ide", &ids, NULL, ide);
    for (unsigned c = 0; c < IDE_CHANNELS; c++) {
        pci_set16(&ide->pci, IDETIM + 2 * c, IDETIM_DECODE);
        memset(ide->pci.writable + IDETIM + 2 * c, 0xff, 2);
    }
    pci_add_bar(&ide->pci, 4, PCI_BAR_IO, BM_SIZE, &bm_ops, ide, 1);
    ensure(pci_plug_function(host, &ide->pci, PCI_ISA_SLOT, 1));
    for (unsigned c = 0; c < IDE_CHANNELS; c++)
        create_channel(ide, c, irq[c], drives[c]);
    return ide;
}

struct tray *ide_tray(struct ide *ide, unsigned channel, unsigned drive)
{
    return &ide->channel[channel].drive[drive].tray;
}
