/* Data in parts of memory, see parts.h. */
#include "host/block/parts.h"

#include <errno.h>
#include <string.h>

#include "base/ensure.h"

/* Cuts the next run of at most `len` bytes that lie in a row. */
static struct iovec take(struct parts *parts, u64 len)
{
    while (parts->iov->iov_len == parts->skip) {
        parts->iov++;
        parts->skip = 0;
    }
    u64 left = parts->iov->iov_len - parts->skip;
    struct iovec run = {(u8 *)parts->iov->iov_base + parts->skip, left < len ? left : len};
    parts->skip += run.iov_len;
    return run;
}

void parts_advance(struct parts *parts, u64 len)
{
    while (len)
        len -= take(parts, len).iov_len;
}

void parts_clear(const struct parts *parts, u64 len)
{
    struct parts at = *parts;
    while (len) {
        struct iovec run = take(&at, len);
        memset(run.iov_base, 0, run.iov_len);
        len -= run.iov_len;
    }
}

void parts_fill(const struct parts *parts, const void *from, u64 len)
{
    struct parts at = *parts;
    while (len) {
        struct iovec run = take(&at, len);
        memcpy(run.iov_base, from, run.iov_len);
        from = (const u8 *)from + run.iov_len;
        len -= run.iov_len;
    }
}

void parts_gather(const struct parts *parts, void *to, u64 len)
{
    struct parts at = *parts;
    while (len) {
        struct iovec run = take(&at, len);
        memcpy(to, run.iov_base, run.iov_len);
        to = (u8 *)to + run.iov_len;
        len -= run.iov_len;
    }
}

static unsigned cut(const struct parts *parts, u64 len, struct iovec *runs)
{
    struct parts at = *parts;
    unsigned n = 0;
    while (len) {
        ensure(n < PARTS_MAX);
        runs[n] = take(&at, len);
        len -= runs[n++].iov_len;
    }
    return n;
}

int parts_read(const struct parts *parts, struct image *image, u64 offset, u64 len, bool now)
{
    const struct image_ops *ops = image->ops;
    struct iovec runs[PARTS_MAX];
    unsigned n = cut(parts, len, runs);
    if (n > 1 && ops->read_parts)
        return ops->read_parts(image, offset, runs, n, len, now);
    int error = now && !ops->read_now ? EAGAIN : 0;
    for (unsigned i = 0; i < n && !error; i++) {
        error = now ? ops->read_now(image, offset, runs[i].iov_base, runs[i].iov_len)
                    : ops->read(image, offset, runs[i].iov_base, runs[i].iov_len);
        offset += runs[i].iov_len;
    }
    return error;
}

int parts_write(const struct parts *parts, struct image *image, u64 offset, u64 len)
{
    const struct image_ops *ops = image->ops;
    struct iovec runs[PARTS_MAX];
    unsigned n = cut(parts, len, runs);
    if (n > 1 && ops->write_parts)
        return ops->write_parts(image, offset, runs, n, len);
    int error = 0;
    for (unsigned i = 0; i < n && !error; i++) {
        error = ops->write(image, offset, runs[i].iov_base, runs[i].iov_len);
        offset += runs[i].iov_len;
    }
    return error;
}
