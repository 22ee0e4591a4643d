/* Opening a stack of formats, see image.h. */
#include "host/block/image.h"

#include <string.h>

#include "base/bits.h"
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

struct image *image_open(const struct image_config *config, struct error *err)
{
    struct image *image = raw_open(config, err);
    return image;
}

void image_close(struct image *image)
{
    if (image)
        image->ops->close(image);
}
