/*
 * A qcow2 image whose bytes are an enemy's: a sound little image with the input's changes in
 * its header and tables is opened, read, written, emptied and closed. Errors are expected,
 * damage to ourselves is not.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "host/block/qcow2.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* -- A file in memory ---------------------------------------------------------------------- */

#define FILE_MAX (256 * KiB)

struct file {
    struct image image;
    u8 bytes[FILE_MAX];
};

static struct file *file_of(struct image *image)
{
    return container_of(image, struct file, image);
}

static int file_read(struct image *image, u64 offset, void *buf, u64 len)
{
    memset(buf, 0, len);
    if (offset < FILE_MAX)
        memcpy(buf, file_of(image)->bytes + offset,
               len < FILE_MAX - offset ? len : FILE_MAX - offset);
    return 0;
}

static int file_write(struct image *image, u64 offset, const void *buf, u64 len)
{
    if (offset > FILE_MAX || len > FILE_MAX - offset)
        return 28; /* ENOSPC */
    memcpy(file_of(image)->bytes + offset, buf, len);
    return 0;
}

static int file_flush(struct image *image)
{
    return 0;
}

static void file_close(struct image *image)
{
    free(file_of(image));
}

static const struct image_ops file_ops = {
    .read = file_read, .write = file_write, .flush = file_flush, .close = file_close};

/* -- A sound image ------------------------------------------------------------------------- */

#define CLUSTER_BITS 9
#define CLUSTER      512u

static void put32(struct file *file, u64 at, u32 value)
{
    value = htobe32(value);
    memcpy(file->bytes + at, &value, sizeof(value));
}

static void put64(struct file *file, u64 at, u64 value)
{
    value = htobe64(value);
    memcpy(file->bytes + at, &value, sizeof(value));
}

/* Clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 and 5 L2, 6.. data; 64
 * KiB. */
static void make_sound(struct file *file)
{
    memcpy(file->bytes, "QFI\xfb", 4);
    put32(file, 4, 3);
    put32(file, 20, CLUSTER_BITS);
    put64(file, 24, 64 * KiB);
    put32(file, 36, 2);
    put64(file, 40, 3 * CLUSTER);
    put64(file, 48, 1 * CLUSTER);
    put32(file, 56, 1);
    put32(file, 96, 4);
    put32(file, 100, 104);
    put64(file, 1 * CLUSTER, 2 * CLUSTER);
    for (unsigned i = 0; i < 16; i++)
        file->bytes[2 * CLUSTER + 2 * i + 1] = 1;
    put64(file, 3 * CLUSTER, 4 * CLUSTER | BIT(63));
    put64(file, 3 * CLUSTER + 8, 5 * CLUSTER | BIT(63));
    for (unsigned i = 0; i < 8; i++)
        put64(file, 4 * CLUSTER + 8 * i, (6 + i) * CLUSTER | BIT(63));
    put64(file, 5 * CLUSTER, BIT(62) | 14 * CLUSTER);
    put64(file, 5 * CLUSTER + 8, 1);
}

/* Three bytes a change: place and value; most of them where the metadata is. */
static void change(struct file *file, const u8 **data, size_t *size)
{
    size_t n = *size ? **data % 24 : 0;
    for (; n && *size >= 4; n--, *data += 4, *size -= 4) {
        unsigned at = (*data)[1] << 8 | (*data)[2];
        unsigned limit = (*data)[0] & 3 ? 128 : (*data)[0] & 4 ? 6 * CLUSTER : 16 * CLUSTER;
        file->bytes[at % limit] ^= (*data)[3];
    }
}

static void use(struct image *image, const u8 *data, size_t size)
{
    static u8 buf[32 * KiB];
    for (; size >= 4; data += 4, size -= 4) {
        u64 offset = (data[1] << 8 | data[2]) % 128 * 512ull, len = (data[3] % 64 + 1) * 512ull;
        if (offset >= image->size)
            continue;
        len = len < image->size - offset ? len : image->size - offset;
        switch (data[0] % 6) {
        case 0:
            image->ops->read_now(image, offset, buf, len);
            break;
        case 1:
            image_read(image, offset, buf, len);
            break;
        case 2:
        case 3:
            image_write(image, offset, buf, len);
            break;
        case 4:
            image->ops->write_zeroes(image, offset, len, data[0] & 64);
            image->ops->discard(image, offset, len);
            break;
        default:
            image_flush(image);
        }
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct file *file = calloc(1, sizeof(*file));
    struct image_config config = {.path = "fuzz", .format = IMAGE_QCOW2};
    struct error err;
    ensure(file);
    file->image = (struct image){.ops = &file_ops, .size = FILE_MAX};
    make_sound(file);
    change(file, &data, &size);
    struct image *image = qcow2_open(&file->image, &config, 0, &err);
    if (!image)
        return 0;
    use(image, data, size < 256 ? size : 256);
    image_close(image);
    return 0;
}
