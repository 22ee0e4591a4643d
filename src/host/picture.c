/* Picture files, see picture.h. */
#include "host/picture.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

bool picture_format_named(enum picture_format *format, const char *name)
{
    if (strcmp(name, "ppm") && strcmp(name, "png"))
        return false;
    *format = strcmp(name, "png") ? PICTURE_PPM : PICTURE_PNG;
    return true;
}

static bool put(FILE *file, const void *data, size_t len)
{
    return fwrite(data, 1, len, file) == len;
}

static bool save_ppm(FILE *file, const struct screen_image *image)
{
    return fprintf(file, "P6\n%u %u\n255\n", image->width, image->height) > 0 &&
           put(file, image->rgb, 3ul * image->width * image->height);
}

/* Length, type, data, and the CRC of the last two (ISO/IEC 15948, 5.3). */
static bool put_chunk(FILE *file, const char *type, const void *data, u32 len)
{
    u32 big_len = htobe32(len);
    uLong crc = crc32(crc32(0, NULL, 0), (const Bytef *)type, 4);
    if (len)
        crc = crc32(crc, data, len);
    u32 big_crc = htobe32((u32)crc);
    return put(file, &big_len, 4) && put(file, type, 4) && put(file, data, len) &&
           put(file, &big_crc, 4);
}

/* Each row behind its filter type, here 0, none. */
static u8 *png_rows(const struct screen_image *image, size_t *len)
{
    size_t row = 3ul * image->width;
    *len = (row + 1) * image->height;
    u8 *rows = malloc(*len);
    if (!rows)
        return NULL;
    for (unsigned y = 0; y < image->height; y++) {
        rows[y * (row + 1)] = 0;
        memcpy(rows + y * (row + 1) + 1, image->rgb + y * row, row);
    }
    return rows;
}

static bool put_pixels(FILE *file, const struct screen_image *image)
{
    size_t len;
    u8 *rows = png_rows(image, &len);
    uLongf packed_len = compressBound(len);
    u8 *packed = malloc(packed_len);
    bool saved = rows && packed && compress(packed, &packed_len, rows, len) == Z_OK &&
                 put_chunk(file, "IDAT", packed, (u32)packed_len);
    free(packed);
    free(rows);
    return saved;
}

static bool save_png(FILE *file, const struct screen_image *image)
{
    static const u8 signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    const struct {
        u32 width, height;
        u8 depth, colour, compression, filter, interlace;
    } __attribute__((packed))
    header = {htobe32(image->width), htobe32(image->height), 8, 2, 0, 0, 0};
    return put(file, signature, sizeof(signature)) &&
           put_chunk(file, "IHDR", &header, sizeof(header)) && put_pixels(file, image) &&
           put_chunk(file, "IEND", "", 0);
}

bool picture_save(const struct screen_image *image, enum picture_format format,
                  const char *path, struct error *err)
{
    u8 black[3] = {0};
    const struct screen_image dot = {1, 1, black};
    if (image->width && image->height && !image->rgb)
        return error_set(err, "no memory for the picture");
    if (!image->width || !image->height)
        image = &dot;
    FILE *file = fopen(path, "we");
    if (!file)
        return error_errno(err, "cannot write '%s'", path);
    bool saved = format == PICTURE_PNG ? save_png(file, image) : save_ppm(file, image);
    /* Bytes may be lost as late as here. */
    saved = !fclose(file) && saved;
    return saved || error_errno(err, "cannot write '%s'", path);
}
