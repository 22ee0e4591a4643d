/* Opening a stack of formats, see image.h. */
#include "host/block/image.h"

#include <string.h>

#include "base/bits.h"
#include "host/block/nbd.h"
#include "host/block/qcow2.h"
#include "host/block/raw.h"

static const struct {
    const char *word;
    struct image_cache cache;
} caches[] = {
    {"writeback", {.writeback = true}},
    {"none", {.writeback = true, .direct = true}},
    {"writethrough", {.writeback = false}},
    {"directsync", {.direct = true}},
    {"unsafe", {.writeback = true, .no_flush = true}},
};

bool image_cache_parse(struct image_cache *cache, const char *word)
{
    for (unsigned i = 0; i < ARRAY_LEN(caches); i++) {
        if (!strcmp(word, caches[i].word)) {
            *cache = caches[i].cache;
            return true;
        }
    }
    return false;
}

bool image_format_parse(enum image_format *format, const char *word)
{
    if (!strcmp(word, "raw"))
        *format = IMAGE_RAW;
    else if (!strcmp(word, "qcow2"))
        *format = IMAGE_QCOW2;
    else
        return false;
    return true;
}

#define MAX_DEPTH 64 /* of backing files: a loop ends here */

struct image *image_open_backing(const struct image_config *config, unsigned depth,
                                 struct error *err)
{
    if (depth > MAX_DEPTH) {
        error_set(err, "'%.300s': more than %d backing files", config->path, MAX_DEPTH);
        return NULL;
    }
    /* A name inside an image never leads into the network: images may be hostile. */
    bool remote = !depth && nbd_is_address(config->path);
    struct image *file = remote ? nbd_open(config, err) : raw_open(config, err);
    if (file && config->format == IMAGE_RAW && !file->size) {
        error_set(err, "'%.300s' is empty; give it the disk's size first, as in truncate -s 8G",
                  config->path);
        image_close(file);
        return NULL;
    }
    if (!file || config->format == IMAGE_RAW)
        return file;
    return qcow2_open(file, config, depth, err);
}

static struct image *open_snapshot(const struct image_config *config, struct error *err)
{
    struct image_config base = *config;
    base.read_only = true;
    struct image *backing = image_open_backing(&base, 0, err);
    if (!backing)
        return NULL;
    struct image *file = raw_temporary(err);
    if (!file) {
        image_close(backing);
        return NULL;
    }
    return qcow2_overlay(file, backing, err);
}

struct image *image_open(const struct image_config *config, struct error *err)
{
    return config->snapshot && !config->read_only ? open_snapshot(config, err)
                                                  : image_open_backing(config, 0, err);
}

void image_close(struct image *image)
{
    if (image)
        image->ops->close(image);
}
