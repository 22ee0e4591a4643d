/*
 * A disk image: a stack of formats over files. Synchronous; the threads of host/block/back.h
 * carry the requests of a machine to it.
 *
 * Threads: read, write, flush, discard and write_zeroes from several threads at once; a request
 * does not overlap another one's bytes unless the guest races with itself, and then any order
 * will do. Open and close from one.
 */
#pragma once

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

struct image;

/* Offsets and lengths are bytes; formats must take any, within the size. Each function returns
 * 0 or an errno value. */
struct image_ops {
    int (*read)(struct image *image, u64 offset, void *buf, u64 len);
    int (*write)(struct image *image, u64 offset, const void *buf, u64 len);
    /* What was written before is durable afterwards. */
    int (*flush)(struct image *image);
    /* The bytes are not needed any more: they read as before, or as zeroes. NULL: no-op. */
    int (*discard)(struct image *image, u64 offset, u64 len);
    /* `unmap`: the space may be given back. */
    int (*write_zeroes)(struct image *image, u64 offset, u64 len, bool unmap);
    /* As `read`, but EAGAIN instead of waiting for the disk. NULL: always waits. */
    int (*read_now)(struct image *image, u64 offset, void *buf, u64 len);
    /* As `read` and `write` with the `len` bytes in parts, which others may change meanwhile;
     * `now` as read_now. NULL, both: not that way. */
    int (*read_parts)(struct image *image, u64 offset, const struct iovec *parts, unsigned n,
                      u64 len, bool now);
    int (*write_parts)(struct image *image, u64 offset, const struct iovec *parts, unsigned n,
                       u64 len);
    /* Nobody wants to wait any longer: what is under way at a server that keeps silent fails
     * soon, and what follows, too. Any thread. NULL: it ends by itself. */
    void (*break_off)(struct image *image);
    /* Flushes, and frees the image. */
    void (*close)(struct image *image);
};

struct image {
    const struct image_ops *ops;
    u64 size; /* bytes */
    bool read_only;
};

enum image_format { IMAGE_RAW, IMAGE_QCOW2 };

/* QEMU's cache= words, as what they mean. */
struct image_cache {
    bool writeback; /* the guest sees a volatile cache, and flushes */
    bool direct;    /* O_DIRECT: past the host's page cache */
    bool no_flush;  /* "unsafe" */
};

struct image_config {
    const char *path;
    enum image_format format;
    struct image_cache cache;
    bool read_only;
    bool discard;  /* discard=unmap: give space back */
    bool snapshot; /* writes go to a temporary file, and are gone in the end */
    bool share;    /* no lock against other users */
};

/* Opens the stack that the configuration names. NULL: *err says why. */
struct image *image_open(const struct image_config *config, struct error *err);
/* The same as the backing file of `depth` others. */
struct image *image_open_backing(const struct image_config *config, unsigned depth,
                                 struct error *err);
void image_close(struct image *image);

/* "raw", "qcow2"; "writeback", "none", "writethrough", "directsync", "unsafe". False:
 * unknown. */
bool image_format_parse(enum image_format *format, const char *word);
bool image_cache_parse(struct image_cache *cache, const char *word);

static inline int image_read(struct image *image, u64 offset, void *buf, u64 len)
{
    return image->ops->read(image, offset, buf, len);
}
static inline int image_write(struct image *image, u64 offset, const void *buf, u64 len)
{
    return image->ops->write(image, offset, buf, len);
}
static inline int image_flush(struct image *image)
{
    return image->ops->flush(image);
}
static inline void image_break_off(struct image *image)
{
    if (image->ops->break_off)
        image->ops->break_off(image);
}
