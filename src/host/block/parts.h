/*
 * Data in parts of memory, as struct image_ops takes it, and a place within: a format cuts it
 * where its clusters end. What the parts hold may change meanwhile; nobody looks at it.
 */
#pragma once

#include "host/block/image.h"

/* Of one request. */
#define PARTS_MAX 256

struct parts {
    const struct iovec *iov; /* at most PARTS_MAX, whose lengths reach as far as is asked for */
    u64 skip;                /* bytes of the first one that are behind */
};

void parts_advance(struct parts *parts, u64 len);
/* The next `len` bytes become zeroes, or a copy of `from`; or are copied to `to`. */
void parts_clear(const struct parts *parts, u64 len);
void parts_fill(const struct parts *parts, const void *from, u64 len);
void parts_gather(const struct parts *parts, void *to, u64 len);

/* The next `len` bytes from or to an image of any kind; an image that does not take parts gets
 * them one by one. `now`: as image_ops.read_now. 0 or an errno value. */
int parts_read(const struct parts *parts, struct image *image, u64 offset, u64 len, bool now);
int parts_write(const struct parts *parts, struct image *image, u64 offset, u64 len);
