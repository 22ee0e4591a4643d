/* SMBIOS tables, see smbios.h. Numbers in the structures' rows are the standard's. */
#include "machine/smbios.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "machine/acpi.h"

#define HANDLE_CHASSIS 0x300
#define HANDLE_MEMORY  0x1000
#define NO_ERRORS      0xfffe
#define NO_HANDLE      0xffff
#define MAX_TEXTS      SMBIOS_MAX_OEM

const struct smbios_key smbios_keys[SMBIOS_TEXTS] = {
    [SMBIOS_BIOS_VENDOR] = {0, "vendor"},
    [SMBIOS_BIOS_VERSION] = {0, "version"},
    [SMBIOS_BIOS_DATE] = {0, "date"},
    [SMBIOS_SYSTEM_MANUFACTURER] = {1, "manufacturer"},
    [SMBIOS_SYSTEM_PRODUCT] = {1, "product"},
    [SMBIOS_SYSTEM_VERSION] = {1, "version"},
    [SMBIOS_SYSTEM_SERIAL] = {1, "serial"},
    [SMBIOS_SYSTEM_SKU] = {1, "sku"},
    [SMBIOS_SYSTEM_FAMILY] = {1, "family"},
    [SMBIOS_BOARD_MANUFACTURER] = {2, "manufacturer"},
    [SMBIOS_BOARD_PRODUCT] = {2, "product"},
    [SMBIOS_BOARD_VERSION] = {2, "version"},
    [SMBIOS_BOARD_SERIAL] = {2, "serial"},
    [SMBIOS_BOARD_ASSET] = {2, "asset"},
    [SMBIOS_BOARD_LOCATION] = {2, "location"},
    [SMBIOS_CHASSIS_MANUFACTURER] = {3, "manufacturer"},
    [SMBIOS_CHASSIS_VERSION] = {3, "version"},
    [SMBIOS_CHASSIS_SERIAL] = {3, "serial"},
    [SMBIOS_CHASSIS_ASSET] = {3, "asset"},
    [SMBIOS_CHASSIS_SKU] = {3, "sku"},
};

static const char *const defaults[SMBIOS_TEXTS] = {
    [SMBIOS_BIOS_VENDOR] = "Doppel",         [SMBIOS_BIOS_VERSION] = "1",
    [SMBIOS_BIOS_DATE] = "04/01/2014", /* SeaBIOS's: recent enough for all that Linux asks */
    [SMBIOS_SYSTEM_MANUFACTURER] = "Doppel", [SMBIOS_SYSTEM_PRODUCT] = "Standard PC",
    [SMBIOS_SYSTEM_VERSION] = "1",           [SMBIOS_BOARD_MANUFACTURER] = "Doppel",
    [SMBIOS_BOARD_PRODUCT] = "Standard PC",  [SMBIOS_CHASSIS_MANUFACTURER] = "Doppel",
    [SMBIOS_CHASSIS_VERSION] = "1",
};

struct builder {
    const struct smbios_config *config;
    u8 *tables;
    size_t used, largest;
    unsigned count;
    bool full;
    /* The structure under way. */
    size_t start;
    const char *texts[MAX_TEXTS];
    unsigned n_texts;
};

static void put(struct builder *b, const void *data, size_t size)
{
    if (size > SMBIOS_MAX_SIZE - b->used) {
        b->full = true;
        return;
    }
    memcpy(b->tables + b->used, data, size);
    b->used += size;
}

static void put8(struct builder *b, u8 value)
{
    put(b, &value, 1);
}

static void put16(struct builder *b, u16 value)
{
    value = htole16(value);
    put(b, &value, 2);
}

static void put32(struct builder *b, u32 value)
{
    value = htole32(value);
    put(b, &value, 4);
}

static void put64(struct builder *b, u64 value)
{
    value = htole64(value);
    put(b, &value, 8);
}

/* A text's number; the text itself follows the structure. */
static void put_text(struct builder *b, const char *text)
{
    bool there = text && *text && b->n_texts < MAX_TEXTS;
    if (there)
        b->texts[b->n_texts++] = text;
    put8(b, there ? (u8)b->n_texts : 0);
}

static void put_set(struct builder *b, enum smbios_text which)
{
    const char *own = b->config->text[which];
    put_text(b, own ? own : defaults[which]);
}

static void begin(struct builder *b, u8 type, u16 handle)
{
    b->start = b->used;
    b->n_texts = 0;
    put8(b, type);
    put8(b, 0); /* the length, at the end */
    put16(b, handle);
}

static void end(struct builder *b)
{
    if (!b->full)
        b->tables[b->start + 1] = (u8)(b->used - b->start);
    for (unsigned i = 0; i < b->n_texts; i++)
        put(b, b->texts[i], strlen(b->texts[i]) + 1);
    if (!b->n_texts)
        put8(b, 0);
    put8(b, 0);
    if (b->used - b->start > b->largest)
        b->largest = b->used - b->start;
    b->count++;
}

static void put_bios(struct builder *b)
{
    begin(b, 0, 0);
    put_set(b, SMBIOS_BIOS_VENDOR);
    put_set(b, SMBIOS_BIOS_VERSION);
    put16(b, 0xe800); /* its segment */
    put_set(b, SMBIOS_BIOS_DATE);
    put8(b, 0);           /* 64 KiB */
    put64(b, 0x08);       /* no characteristics given */
    put16(b, 0x1400);     /* but: a virtual machine */
    put32(b, 0xffff0000); /* no releases of BIOS (0.0) and embedded controller */
    end(b);
}

static void put_system(struct builder *b)
{
    const u8 *u = b->config->uuid;
    /* The first three parts are numbers, and little-endian. */
    const u8 uuid[16] = {u[3], u[2], u[1],  u[0],  u[5],  u[4],  u[7],  u[6],
                         u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]};
    begin(b, 1, 0x100);
    put_set(b, SMBIOS_SYSTEM_MANUFACTURER);
    put_set(b, SMBIOS_SYSTEM_PRODUCT);
    put_set(b, SMBIOS_SYSTEM_VERSION);
    put_set(b, SMBIOS_SYSTEM_SERIAL);
    put(b, uuid, sizeof(uuid));
    put8(b, 6); /* woken by the power switch */
    put_set(b, SMBIOS_SYSTEM_SKU);
    put_set(b, SMBIOS_SYSTEM_FAMILY);
    end(b);
}

static void put_board(struct builder *b)
{
    begin(b, 2, 0x200);
    put_set(b, SMBIOS_BOARD_MANUFACTURER);
    put_set(b, SMBIOS_BOARD_PRODUCT);
    put_set(b, SMBIOS_BOARD_VERSION);
    put_set(b, SMBIOS_BOARD_SERIAL);
    put_set(b, SMBIOS_BOARD_ASSET);
    put8(b, 1); /* hosts the processors */
    put_set(b, SMBIOS_BOARD_LOCATION);
    put16(b, HANDLE_CHASSIS);
    put8(b, 0x0a); /* motherboard */
    put8(b, 0);
    end(b);
}

static void put_chassis(struct builder *b)
{
    begin(b, 3, HANDLE_CHASSIS);
    put_set(b, SMBIOS_CHASSIS_MANUFACTURER);
    put8(b, 1); /* of another kind than those that have numbers */
    put_set(b, SMBIOS_CHASSIS_VERSION);
    put_set(b, SMBIOS_CHASSIS_SERIAL);
    put_set(b, SMBIOS_CHASSIS_ASSET);
    put32(b, 0x02030303); /* safe; security unknown */
    put32(b, 0);
    put32(b, 0); /* height, cords, nothing contained */
    put_set(b, SMBIOS_CHASSIS_SKU);
    end(b);
}

static void put_processor(struct builder *b)
{
    u8 cpus = (u8)b->config->cpus;
    begin(b, 4, 0x400);
    put_text(b, "CPU 0");
    put8(b, 3); /* central processor */
    put8(b, 1); /* other family */
    put_text(b, "Doppel");
    put32(b, b->config->cpu_id[0]);
    put32(b, b->config->cpu_id[1]);
    put_text(b, "1");
    put8(b, 0);
    put16(b, 0);    /* external clock unknown */
    put16(b, 2000); /* MHz, as QEMU says: at most, and now */
    put16(b, 2000);
    put8(b, 0x41); /* populated and enabled */
    put8(b, 1);
    for (unsigned cache = 0; cache < 3; cache++)
        put16(b, NO_HANDLE);
    put8(b, 0);
    put16(b, 0); /* serial number, asset, part */
    put8(b, cpus);
    put8(b, cpus);
    put8(b, cpus);  /* threads */
    put16(b, 0x02); /* unknown characteristics */
    put16(b, 1);
    end(b);
}

static void put_oem(struct builder *b)
{
    begin(b, 11, 0xe00);
    for (unsigned i = 0; i < b->config->n_oem; i++)
        b->texts[b->n_texts++] = b->config->oem[i];
    put8(b, (u8)b->config->n_oem);
    end(b);
}

static void put_memory(struct builder *b)
{
    u64 bytes = b->config->memory_below + b->config->memory_above;
    begin(b, 16, HANDLE_MEMORY);
    put8(b, 1); /* other location */
    put8(b, 3); /* system memory */
    put8(b, 6); /* multi-bit ECC */
    put32(b, (u32)(bytes / KiB));
    put16(b, NO_ERRORS);
    put16(b, 1);
    put64(b, 0);
    end(b);

    begin(b, 17, 0x1100);
    put16(b, HANDLE_MEMORY);
    put16(b, NO_ERRORS);
    put32(b, 0xffffffff); /* widths unknown */
    put16(b, (u16)(bytes / MiB));
    put8(b, 9); /* DIMM */
    put8(b, 0);
    put_text(b, "DIMM 0");
    put8(b, 0);
    put8(b, 7);  /* RAM */
    put16(b, 2); /* other detail */
    put16(b, 0);
    put_text(b, "Doppel");
    put32(b, 0); /* serial, asset, part, attributes */
    put32(b, 0); /* extended size: not needed */
    put64(b, 0); /* speed, voltages */
    end(b);
}

/* Where an area of it is mapped. */
static void put_range(struct builder *b, u16 handle, u64 first, u64 bytes)
{
    begin(b, 19, handle);
    bool small = first + bytes <= 4 * GiB;
    put32(b, small ? (u32)(first / KiB) : 0xffffffff);
    put32(b, small ? (u32)((first + bytes) / KiB - 1) : 0xffffffff);
    put16(b, HANDLE_MEMORY);
    put8(b, 1);
    put64(b, small ? 0 : first);
    put64(b, small ? 0 : first + bytes - 1);
    end(b);
}

static void put_last(struct builder *b)
{
    begin(b, 32, 0x2000);
    put32(b, 0);
    put16(b, 0);
    put8(b, 0); /* no errors at the last start */
    end(b);
    begin(b, 127, 0x7f00);
    end(b);
}

/* The 32-bit entry point (5.2.1). */
static void put_anchor(const struct builder *b, u32 base, u8 *anchor)
{
    u8 entry[SMBIOS_ANCHOR_SIZE] = {'_', 'S', 'M', '_', 0, SMBIOS_ANCHOR_SIZE, 2, 8};
    u32 address = htole32(base);
    u16 largest = htole16((u16)b->largest), length = htole16((u16)b->used),
        count = htole16((u16)b->count);
    memcpy(entry + 0x08, &largest, 2);
    memcpy(entry + 0x10, "_DMI_", 5);
    memcpy(entry + 0x16, &length, 2);
    memcpy(entry + 0x18, &address, 4);
    memcpy(entry + 0x1c, &count, 2);
    entry[0x1e] = 0x28;
    entry[0x15] = acpi_checksum(entry + 0x10, 15);
    entry[0x04] = acpi_checksum(entry, sizeof(entry));
    memcpy(anchor, entry, sizeof(entry));
}

size_t smbios_build(const struct smbios_config *config, u32 base, u8 *tables,
                    u8 anchor[SMBIOS_ANCHOR_SIZE])
{
    struct builder b = {.config = config, .tables = tables};
    put_bios(&b);
    put_system(&b);
    if (config->board)
        put_board(&b);
    put_chassis(&b);
    put_processor(&b);
    if (config->n_oem)
        put_oem(&b);
    put_memory(&b);
    put_range(&b, 0x1300, 0, config->memory_below);
    if (config->memory_above)
        put_range(&b, 0x1301, 4 * GiB, config->memory_above);
    put_last(&b);
    put_anchor(&b, base, anchor);
    return b.full ? 0 : b.used;
}
