/* The firmware configuration device, see fw_cfg.h. Multi-byte numbers of its own are
 * big-endian.
 */
#include "device/fw_cfg.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"
#include "platform/ram.h"

#define ID_TRADITIONAL BIT(0)
#define ID_DMA         BIT(1)

#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */
#define DMA_ERROR     BIT(0)
#define DMA_READ      BIT(1)
#define DMA_SKIP      BIT(2)
#define DMA_SELECT    BIT(3)
#define DMA_WRITE     BIT(4)

#define ITEMS (FW_CFG_FILES + 32)

struct fw_cfg_item {
    u16 key;
    const u8 *data;
    u32 len;
    u8 small[8]; /* of fw_cfg_add_int */
};

struct fw_cfg_file {
    u32 size;
    u16 select;
    u16 reserved;
    char name[FW_CFG_NAME_MAX + 1];
};

struct fw_cfg_directory {
    u32 count;
    struct fw_cfg_file file[FW_CFG_FILES];
};

struct fw_cfg_dma {
    u32 control;
    u32 length;
    u64 address;
};

struct fw_cfg {
    struct device device;
    struct board *board;
    struct bus_region ports, dma_region;
    struct fw_cfg_item items[ITEMS];
    unsigned n_items;
    struct fw_cfg_directory directory;

    u16 key;         /* selected */
    u32 offset;      /* of the next byte in it */
    u64 dma_address; /* as far as it is written */
};

static struct fw_cfg_item *fw_cfg_find(struct fw_cfg *fw, u16 key)
{
    for (unsigned i = 0; i < fw->n_items; i++)
        if (fw->items[i].key == key)
            return &fw->items[i];
    return NULL;
}

static struct fw_cfg_item *fw_cfg_item(struct fw_cfg *fw, u16 key)
{
    struct fw_cfg_item *item = fw_cfg_find(fw, key);
    if (!item) {
        ensure(fw->n_items < ITEMS);
        item = &fw->items[fw->n_items++];
        item->key = key;
    }
    return item;
}

void fw_cfg_add(struct fw_cfg *fw, u16 key, const void *data, u32 len)
{
    struct fw_cfg_item *item = fw_cfg_item(fw, key);
    item->data = data;
    item->len = len;
}

void fw_cfg_add_int(struct fw_cfg *fw, u16 key, u64 value, u32 len)
{
    struct fw_cfg_item *item = fw_cfg_item(fw, key);
    memcpy(item->small, &value, sizeof(item->small));
    item->data = item->small;
    item->len = len;
}

bool fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, u32 len)
{
    struct fw_cfg_directory *directory = &fw->directory;
    unsigned count = be32toh(directory->count), i = 0;
    while (i < count && strcmp(directory->file[i].name, name) != 0)
        i++;
    if (i == FW_CFG_FILES || strlen(name) > FW_CFG_NAME_MAX)
        return false;
    struct fw_cfg_file *file = &directory->file[i];
    u16 key = (u16)(FW_CFG_FILE_FIRST + i);
    file->size = htobe32(len);
    file->select = htobe16(key);
    strcpy(file->name, name);
    if (i == count)
        directory->count = htobe32(count + 1);
    fw_cfg_add(fw, key, data, len);
    fw_cfg_add(fw, FW_CFG_FILE_DIR, directory,
               (u32)(sizeof(directory->count) +
                     sizeof(directory->file[0]) * be32toh(directory->count)));
    return true;
}

static void fw_cfg_select(struct fw_cfg *fw, u16 key)
{
    fw->key = key;
    fw->offset = 0;
}

/* How many bytes the selected item still has, and where they are. */
static u32 fw_cfg_rest(struct fw_cfg *fw, const u8 **data)
{
    const struct fw_cfg_item *item = fw_cfg_find(fw, fw->key);
    if (!item || fw->offset >= item->len)
        return 0;
    *data = item->data + fw->offset;
    return item->len - fw->offset;
}

static u8 fw_cfg_next(struct fw_cfg *fw)
{
    const u8 *data;
    if (!fw_cfg_rest(fw, &data))
        return 0;
    fw->offset++;
    return *data;
}

static u64 fw_cfg_read(void *opaque, u64 offset, unsigned size)
{
    struct fw_cfg *fw = opaque;
    return offset == 1 ? fw_cfg_next(fw) : 0;
}

static void fw_cfg_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct fw_cfg *fw = opaque;
    if (offset == 0)
        fw_cfg_select(fw, (u16)value);
}

static const struct bus_ops fw_cfg_ops = {fw_cfg_read, fw_cfg_write};

/* -- DMA ----------------------------------------------------------------------------------- */

/* Bytes beyond the item read as zero. */
static bool fw_cfg_dma_read(struct fw_cfg *fw, struct gpa to, u32 len)
{
    static const u8 zeros[4096];
    const u8 *data = NULL;
    u32 part = fw_cfg_rest(fw, &data);
    if (part > len)
        part = len;
    if (part && !ram_write(fw->board, to, data, part))
        return false;
    fw->offset += part;
    for (u32 done = part; done < len; done += part) {
        part = len - done < sizeof(zeros) ? len - done : (u32)sizeof(zeros);
        if (!ram_write(fw->board, gpa(to.v + done), zeros, part))
            return false;
    }
    return true;
}

static bool fw_cfg_dma_run(struct fw_cfg *fw, const struct fw_cfg_dma *dma)
{
    u32 control = be32toh(dma->control), len = be32toh(dma->length);
    const u8 *data;
    if (control & DMA_SELECT)
        fw_cfg_select(fw, (u16)(control >> 16));
    if (control & DMA_READ)
        return fw_cfg_dma_read(fw, gpa(be64toh(dma->address)), len);
    if (control & DMA_WRITE) /* nothing here can be written */
        return false;
    if (control & DMA_SKIP) {
        u32 rest = fw_cfg_rest(fw, &data);
        fw->offset += len < rest ? len : rest;
    }
    return true;
}

static void fw_cfg_dma_start(struct fw_cfg *fw, struct gpa at)
{
    struct fw_cfg_dma dma;
    if (!ram_read(fw->board, at, &dma, sizeof(dma)))
        return;
    u32 control = fw_cfg_dma_run(fw, &dma) ? 0 : htobe32((u32)DMA_ERROR);
    ram_write(fw->board, at, &control, sizeof(control));
}

static u64 fw_cfg_dma_port_read(void *opaque, u64 offset, unsigned size)
{
    u64 big_endian = htobe64(DMA_SIGNATURE);
    return big_endian >> 8 * offset & bits_low(8 * size);
}

/* The low half, written last, starts. */
static void fw_cfg_dma_port_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct fw_cfg *fw = opaque;
    if (size != 4 || offset % 4)
        return;
    if (offset == 0) {
        fw->dma_address = (u64)be32toh((u32)value) << 32;
        return;
    }
    u64 address = fw->dma_address | be32toh((u32)value);
    fw->dma_address = 0;
    fw_cfg_dma_start(fw, gpa(address));
}

static const struct bus_ops fw_cfg_dma_ops = {fw_cfg_dma_port_read, fw_cfg_dma_port_write};

/* -- The device ---------------------------------------------------------------------------- */

static void fw_cfg_reset(void *device)
{
    struct fw_cfg *fw = device;
    fw_cfg_select(fw, FW_CFG_SIGNATURE);
    fw->dma_address = 0;
}

static void fw_cfg_destroy(void *device)
{
    struct fw_cfg *fw = device;
    bus_remove(fw->board, &fw->ports);
    bus_remove(fw->board, &fw->dma_region);
    free(fw);
}

/* The items are the machine's configuration, not state. */
static const struct field fw_cfg_fields[] = {
    FIELD(struct fw_cfg, key),
    FIELD(struct fw_cfg, offset),
    FIELD(struct fw_cfg, dma_address),
};

static const struct device_class fw_cfg_class = {
    .name = "fw_cfg",
    .version = 1,
    .fields = fw_cfg_fields,
    .n_fields = ARRAY_LEN(fw_cfg_fields),
    .reset = fw_cfg_reset,
    .destroy = fw_cfg_destroy,
};

struct fw_cfg *fw_cfg_create(struct board *board)
{
    struct fw_cfg *fw = calloc(1, sizeof(*fw));
    ensure(fw);
    fw->board = board;
    fw->ports = (struct bus_region){.name = "fw_cfg",
                                    .ops = &fw_cfg_ops,
                                    .opaque = fw,
                                    .base = 0x510,
                                    .size = 2,
                                    .max_size = 2,
                                    .space = BUS_PIO};
    fw->dma_region = (struct bus_region){.name = "fw_cfg-dma",
                                         .ops = &fw_cfg_dma_ops,
                                         .opaque = fw,
                                         .base = 0x514,
                                         .size = 8,
                                         .max_size = 4,
                                         .space = BUS_PIO};
    bus_add(board, &fw->ports);
    bus_add(board, &fw->dma_region);
    fw_cfg_add(fw, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_int(fw, FW_CFG_ID, ID_TRADITIONAL | ID_DMA, 4);
    fw_cfg_add(fw, FW_CFG_FILE_DIR, &fw->directory, sizeof(fw->directory.count));
    device_add(board, &fw->device, &fw_cfg_class, fw);
    return fw;
}
