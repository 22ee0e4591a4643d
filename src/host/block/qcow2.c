/* The data of a qcow2 image: reading, writing, space. See qcow2.h. */
#include "host/block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/ensure.h"
#include "host/block/parts.h"
#include "host/block/qcow2_state.h"

static struct qcow2 *qcow2_of(struct image *image)
{
    return container_of(image, struct qcow2, image);
}

/* -- Where the bytes are ------------------------------------------------------------------- */

enum kind {
    NONE,     /* in the backing file */
    ZERO,     /* all zeroes */
    PACKED,   /* compressed; one cluster */
    SHARED,   /* in the file, but a snapshot has it too */
    WRITABLE, /* in the file, ours alone */
};

struct extent {
    enum kind kind;
    u64 len;
    u64 host;  /* SHARED, WRITABLE: offset in the file */
    u64 entry; /* PACKED */
};

static enum kind kind_of(const struct qcow2 *q, u64 entry)
{
    if (entry & QCOW2_COMPRESSED)
        return PACKED;
    if (q->version >= 3 && (entry & QCOW2_ZERO))
        return ZERO;
    if (!(entry & QCOW2_OFFSET))
        return NONE;
    return entry & QCOW2_COPIED ? WRITABLE : SHARED;
}

/* What begins at `offset`, at most `len` bytes of one kind, in a row, and of one L2 table.
 * Under the lock. */
static int lookup(struct qcow2 *q, u64 offset, u64 len, struct extent *extent)
{
    u64 entry;
    int error = qcow2_l2_read(q, offset, &entry);
    if (error)
        return error;
    u64 in = qcow2_in_cluster(q, offset), cluster = qcow2_cluster_size(q);
    u64 table_end = align_up(offset + 1, cluster << q->l2_bits);
    if (len > table_end - offset)
        len = table_end - offset;
    *extent = (struct extent){.kind = kind_of(q, entry), .len = cluster - in, .entry = entry};
    bool placed = extent->kind == SHARED || extent->kind == WRITABLE;
    u64 next = entry & QCOW2_OFFSET;
    if (placed && qcow2_in_cluster(q, next))
        return EIO;
    extent->host = next + in;
    while (extent->len < len && extent->kind != PACKED) {
        next += cluster;
        error = qcow2_l2_read(q, offset + extent->len, &entry);
        if (error)
            return error;
        if (kind_of(q, entry) != extent->kind || (placed && (entry & QCOW2_OFFSET) != next))
            break;
        extent->len += cluster;
    }
    if (extent->len > len)
        extent->len = len;
    return 0;
}

/* -- Reading ------------------------------------------------------------------------------- */

static bool inflate_cluster(const u8 *packed, u64 len, u8 *data, u64 size)
{
    z_stream stream = {.next_in = (u8 *)packed,
                       .avail_in = (uInt)len,
                       .next_out = data,
                       .avail_out = (uInt)size};
    if (inflateInit2(&stream, -12) != Z_OK)
        return false;
    /* What follows the data in its last sector is none of it, so the end may come early. */
    int result = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    return (result == Z_STREAM_END || result == Z_BUF_ERROR) && !stream.avail_out;
}

static bool unzstd_cluster(const u8 *packed, u64 len, u8 *data, u64 size)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed, len, 0};
    ZSTD_outBuffer out = {data, size, 0};
    ensure(context);
    size_t left = 1;
    while (out.pos < out.size) {
        size_t before = in.pos + out.pos;
        left = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(left) || in.pos + out.pos == before)
            break;
    }
    ZSTD_freeDCtx(context);
    return out.pos == out.size && !ZSTD_isError(left);
}

/* Makes `unpacked` hold the cluster of a compressed entry. Under the lock. */
static int unpack(struct qcow2 *q, u64 entry)
{
    u64 offset, len, size = qcow2_cluster_size(q);
    if (q->unpacked_entry == entry)
        return 0;
    if (!q->unpacked)
        q->unpacked = malloc(size);
    qcow2_compressed_place(q, entry, &offset, &len);
    u8 *packed = malloc(len);
    ensure(q->unpacked && packed);
    q->unpacked_entry = 0;
    int error = image_read(q->file, offset, packed, len);
    if (!error) {
        bool good = q->zstd ? unzstd_cluster(packed, len, q->unpacked, size)
                            : inflate_cluster(packed, len, q->unpacked, size);
        error = good ? 0 : EIO;
    }
    free(packed);
    if (!error)
        q->unpacked_entry = entry;
    return error;
}

/* The backing file may be shorter: then it goes on with zeroes. */
static int read_backing(struct qcow2 *q, u64 offset, struct parts data, u64 len, bool now)
{
    u64 there = 0;
    if (q->backing && offset < q->backing->size)
        there = q->backing->size - offset < len ? q->backing->size - offset : len;
    int error = there ? parts_read(&data, q->backing, offset, there, now) : 0;
    parts_advance(&data, there);
    parts_clear(&data, len - there);
    return error;
}

/* PACKED needs the lock; the others need it or `moving`. */
static int read_extent(struct qcow2 *q, const struct extent *extent, u64 offset,
                       const struct parts *data, bool now)
{
    int error;
    switch (extent->kind) {
    case NONE:
        return read_backing(q, offset, *data, extent->len, now);
    case ZERO:
        parts_clear(data, extent->len);
        return 0;
    case PACKED:
        if (now && q->unpacked_entry != extent->entry)
            return EAGAIN;
        error = unpack(q, extent->entry);
        if (!error)
            parts_fill(data, q->unpacked + qcow2_in_cluster(q, offset), extent->len);
        return error;
    default:
        return parts_read(data, q->file, extent->host, extent->len, now);
    }
}

static int read_locked(struct qcow2 *q, u64 offset, struct parts data, u64 len, bool now)
{
    int error = 0;
    while (len && !error) {
        struct extent extent;
        error = lookup(q, offset, len, &extent);
        if (!error)
            error = read_extent(q, &extent, offset, &data, now);
        if (error)
            break;
        offset += extent.len;
        parts_advance(&data, extent.len);
        len -= extent.len;
    }
    return error;
}

static int read_some(struct qcow2 *q, u64 offset, const struct parts *data, u64 len, u64 *done)
{
    struct extent extent;
    pthread_mutex_lock(&q->lock);
    int error = lookup(q, offset, len, &extent);
    *done = extent.len;
    if (error || extent.kind == PACKED) {
        error = error ? error : read_extent(q, &extent, offset, data, false);
        pthread_mutex_unlock(&q->lock);
        return error;
    }
    pthread_rwlock_rdlock(&q->moving);
    pthread_mutex_unlock(&q->lock);
    error = read_extent(q, &extent, offset, data, false);
    pthread_rwlock_unlock(&q->moving);
    return error;
}

/* Whether the bytes lie within the image; what is beyond, in its last sector, reads as
 * zeroes. */
static u64 clip(const struct qcow2 *q, u64 offset, u64 len)
{
    u64 room = offset < q->image.size ? q->image.size - offset : 0;
    return len < room ? len : room;
}

static int read_parts(struct qcow2 *q, u64 offset, struct parts data, u64 len)
{
    u64 inside = clip(q, offset, len), beyond = len - inside, done;
    for (; inside; inside -= done) {
        int error = read_some(q, offset, &data, inside, &done);
        if (error)
            return error;
        offset += done;
        parts_advance(&data, done);
    }
    parts_clear(&data, beyond);
    return 0;
}

static int qcow2_read(struct image *image, u64 offset, void *buf, u64 len)
{
    struct iovec whole = {buf, len};
    return read_parts(qcow2_of(image), offset, (struct parts){&whole, 0}, len);
}

static bool l2_cached(struct qcow2 *q, u64 offset)
{
    u64 place = q->l1[offset >> (q->cluster_bits + q->l2_bits)] & QCOW2_OFFSET;
    return !place || qcow2_table_cached(q, place);
}

static int read_parts_now(struct qcow2 *q, u64 offset, struct parts data, u64 len)
{
    if (clip(q, offset, len) != len || !len || pthread_mutex_trylock(&q->lock))
        return EAGAIN;
    bool cached = l2_cached(q, offset) && l2_cached(q, offset + len - 1);
    int error = cached ? read_locked(q, offset, data, len, true) : EAGAIN;
    pthread_mutex_unlock(&q->lock);
    return error;
}

static int qcow2_read_now(struct image *image, u64 offset, void *buf, u64 len)
{
    struct iovec whole = {buf, len};
    return read_parts_now(qcow2_of(image), offset, (struct parts){&whole, 0}, len);
}

static int qcow2_read_parts(struct image *image, u64 offset, const struct iovec *parts,
                            unsigned n, u64 len, bool now)
{
    struct parts data = {parts, 0};
    return now ? read_parts_now(qcow2_of(image), offset, data, len)
               : read_parts(qcow2_of(image), offset, data, len);
}

/* -- Writing ------------------------------------------------------------------------------- */

/* Copies what the guest sees at `offset` now to a new place in the file. */
static int copy_old(struct qcow2 *q, u64 offset, u64 len, u64 host)
{
    u64 inside = clip(q, offset, len);
    if (!inside)
        return 0;
    u8 *data = malloc(inside);
    ensure(data);
    struct iovec whole = {data, inside};
    int error = read_locked(q, offset, (struct parts){&whole, 0}, inside, false);
    if (!error)
        error = image_write(q->file, host, data, inside);
    free(data);
    return error;
}

/* Makes the guest's clusters from `offset` on name the new ones. */
static int link_clusters(struct qcow2 *q, u64 offset, u64 host, u64 clusters)
{
    for (u64 i = 0; i < clusters; i++) {
        u64 old, step = i << q->cluster_bits;
        int error = qcow2_l2_read(q, offset + step, &old);
        if (!error)
            error = qcow2_l2_write(q, offset + step, (host + step) | QCOW2_COPIED);
        if (error) {
            qcow2_unalloc(q, host + step, clusters - i);
            return error;
        }
        qcow2_release(q, old);
    }
    return 0;
}

/* Writes at most `*len` bytes to new clusters: the data first, then the tables in memory. Under
 * the lock, so that two writes into one cluster follow each other. */
static int write_new(struct qcow2 *q, u64 offset, const struct parts *data, u64 *len)
{
    u64 in = qcow2_in_cluster(q, offset), cluster = qcow2_cluster_size(q), host, got;
    u64 want = (in + *len + cluster - 1) >> q->cluster_bits;
    int error = qcow2_alloc(q, want, &host, &got);
    if (error)
        return error;
    u64 room = (got << q->cluster_bits) - in;
    if (*len > room)
        *len = room;
    error = in ? copy_old(q, offset - in, in, host) : 0;
    if (!error)
        error = parts_write(data, q->file, host + in, *len);
    if (!error && *len < room)
        error = copy_old(q, offset + *len, room - *len, host + in + *len);
    if (error)
        qcow2_unalloc(q, host, got);
    return error ? error : link_clusters(q, offset - in, host, got);
}

static int write_some(struct qcow2 *q, u64 offset, const struct parts *data, u64 len, u64 *done)
{
    struct extent extent;
    pthread_mutex_lock(&q->lock);
    int error = q->failed ? q->failed : lookup(q, offset, len, &extent);
    if (error || extent.kind != WRITABLE) {
        if (!error) {
            *done = extent.len;
            error = write_new(q, offset, data, done);
        }
        pthread_mutex_unlock(&q->lock);
        return error;
    }
    *done = extent.len;
    pthread_rwlock_rdlock(&q->moving);
    pthread_mutex_unlock(&q->lock);
    error = parts_write(data, q->file, extent.host, extent.len);
    pthread_rwlock_unlock(&q->moving);
    return error;
}

static int write_parts(struct qcow2 *q, u64 offset, struct parts data, u64 len)
{
    u64 done;
    for (len = clip(q, offset, len); len; len -= done) {
        int error = write_some(q, offset, &data, len, &done);
        if (error)
            return error;
        offset += done;
        parts_advance(&data, done);
    }
    return 0;
}

static int qcow2_write(struct image *image, u64 offset, const void *buf, u64 len)
{
    struct iovec whole = {(void *)(uintptr_t)buf, len};
    return write_parts(qcow2_of(image), offset, (struct parts){&whole, 0}, len);
}

static int qcow2_write_parts(struct image *image, u64 offset, const struct iovec *parts,
                             unsigned n, u64 len)
{
    return write_parts(qcow2_of(image), offset, (struct parts){parts, 0}, len);
}

static int qcow2_flush(struct image *image)
{
    struct qcow2 *q = qcow2_of(image);
    if (q->temporary || image->read_only)
        return 0;
    pthread_mutex_lock(&q->lock);
    bool clean = qcow2_clean(q);
    int error = clean ? 0 : qcow2_commit(q);
    pthread_mutex_unlock(&q->lock);
    return clean ? image_flush(q->file) : error;
}

/* -- Space --------------------------------------------------------------------------------- */

/* Makes one whole cluster read as zeroes without writing it. False: the format cannot. */
static bool can_empty(const struct qcow2 *q)
{
    return q->version >= 3 || !q->backing;
}

static int empty_cluster(struct qcow2 *q, u64 offset)
{
    u64 old, zero = q->backing ? QCOW2_ZERO : 0;
    int error = q->failed ? q->failed : qcow2_l2_read(q, offset, &old);
    if (error || old == zero)
        return error;
    error = qcow2_l2_write(q, offset, zero);
    if (!error)
        qcow2_release(q, old);
    return error;
}

static int write_zero_bytes(struct qcow2 *q, u64 offset, u64 len)
{
    if (!len)
        return 0;
    u8 *zeroes = calloc(1, len);
    ensure(zeroes);
    int error = qcow2_write(&q->image, offset, zeroes, len);
    free(zeroes);
    return error;
}

/* The whole clusters in a range are emptied, its ends written if `ends` says so. */
static int empty_range(struct qcow2 *q, u64 offset, u64 len, bool ends)
{
    u64 cluster = qcow2_cluster_size(q);
    int error = 0;
    len = clip(q, offset, len);
    while (len && !error) {
        u64 in = qcow2_in_cluster(q, offset);
        u64 part = cluster - in < len ? cluster - in : len;
        bool whole = !in && (part == cluster || offset + part == q->image.size);
        if (whole && can_empty(q)) {
            pthread_mutex_lock(&q->lock);
            error = empty_cluster(q, offset);
            pthread_mutex_unlock(&q->lock);
        } else if (ends) {
            error = write_zero_bytes(q, offset, part);
        }
        offset += part;
        len -= part;
    }
    return error;
}

static int qcow2_discard(struct image *image, u64 offset, u64 len)
{
    return empty_range(qcow2_of(image), offset, len, false);
}

static int qcow2_write_zeroes(struct image *image, u64 offset, u64 len, bool unmap)
{
    return empty_range(qcow2_of(image), offset, len, true);
}

/* -- Life ---------------------------------------------------------------------------------- */

static void qcow2_free(struct qcow2 *q)
{
    image_close(q->backing);
    image_close(q->file);
    qcow2_tables_destroy(q);
    pthread_rwlock_destroy(&q->moving);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static void qcow2_break_off(struct image *image)
{
    struct qcow2 *q = qcow2_of(image);
    image_break_off(q->file);
    if (q->backing)
        image_break_off(q->backing);
}

static void qcow2_close(struct image *image)
{
    struct qcow2 *q = qcow2_of(image);
    qcow2_flush(image);
    qcow2_flush(image); /* the refcounts of what the first one freed */
    qcow2_free(q);
}

static const struct image_ops qcow2_ops = {
    .read = qcow2_read,
    .write = qcow2_write,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .write_zeroes = qcow2_write_zeroes,
    .read_now = qcow2_read_now,
    .read_parts = qcow2_read_parts,
    .write_parts = qcow2_write_parts,
    .break_off = qcow2_break_off,
    .close = qcow2_close,
};

static struct qcow2 *qcow2_new(struct image *file, bool read_only)
{
    struct qcow2 *q = calloc(1, sizeof(*q));
    ensure(q);
    q->image.ops = &qcow2_ops;
    q->image.read_only = read_only;
    q->file = file;
    pthread_mutex_init(&q->lock, NULL);
    pthread_rwlock_init(&q->moving, NULL);
    return q;
}

static u64 l1_needed(const struct qcow2 *q)
{
    unsigned covers = q->cluster_bits + q->l2_bits;
    return (q->image.size >> covers) + !!(q->image.size & bits_low(covers));
}

/* -- The header ---------------------------------------------------------------------------- */

struct header {
    u8 magic[4];
    u32 version;
    u64 backing_offset;
    u32 backing_len;
    u32 cluster_bits;
    u64 size;
    u32 crypt_method;
    u32 l1_entries;
    u64 l1_offset;
    u64 refcount_offset;
    u32 refcount_clusters;
    u32 snapshots;
    u64 snapshots_offset;
    /* Version 3: */
    u64 incompatible;
    u64 compatible;
    u64 autoclear;
    u32 refcount_order;
    u32 header_len;
    u8 compression;
    u8 padding[7];
};
_Static_assert(offsetof(struct header, autoclear) == QCOW2_HEADER_AUTOCLEAR, "spec");
_Static_assert(offsetof(struct header, refcount_offset) == QCOW2_HEADER_REFCOUNT_TABLE, "spec");

#define HEADER_V2 72

#define INCOMPATIBLE_DIRTY       BIT(0)
#define INCOMPATIBLE_CORRUPT     BIT(1)
#define INCOMPATIBLE_COMPRESSION BIT(3)
#define INCOMPATIBLE_KNOWN                                                                     \
    (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION)

#define EXTENSION_END            0
#define EXTENSION_BACKING_FORMAT 0xe2792aca

/* Turns the fields into host order; version 2 gets version 3's meanings. */
static void header_swap(struct header *h)
{
    u32 *words[] = {&h->version,    &h->backing_len,       &h->cluster_bits, &h->crypt_method,
                    &h->l1_entries, &h->refcount_clusters, &h->snapshots};
    u64 *longs[] = {&h->backing_offset, &h->size, &h->l1_offset, &h->refcount_offset};
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        *words[i] = be32toh(*words[i]);
    for (unsigned i = 0; i < ARRAY_LEN(longs); i++)
        *longs[i] = be64toh(*longs[i]);
    if (h->version < 3) {
        h->incompatible = h->compatible = h->autoclear = 0;
        h->refcount_order = 4;
        h->header_len = HEADER_V2;
        h->compression = 0;
        return;
    }
    h->incompatible = be64toh(h->incompatible);
    h->autoclear = be64toh(h->autoclear);
    h->refcount_order = be32toh(h->refcount_order);
    h->header_len = be32toh(h->header_len);
    if (h->header_len <= offsetof(struct header, compression))
        h->compression = 0;
}

static bool header_check(const struct header *h, const struct image_config *config,
                         struct error *err)
{
    const char *path = config->path;
    if (memcmp(h->magic, "QFI\xfb", 4))
        return error_set(err, "'%.300s' is no qcow2 image; is it format=raw?", path);
    if (h->version < 2 || h->version > 3)
        return error_set(err, "'%.300s': qcow2 version %u is not supported", path, h->version);
    if (h->crypt_method)
        return error_set(err, "'%.300s' is encrypted, which is not supported", path);
    if (h->incompatible & ~INCOMPATIBLE_KNOWN)
        return error_set(
            err,
            "'%.300s' uses features that are not supported (%#llx: an external data "
            "file, extended L2 entries or newer ones)",
            path, (unsigned long long)(h->incompatible & ~INCOMPATIBLE_KNOWN));
    if (!config->read_only && (h->incompatible & (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT)))
        return error_set(
            err, "'%.200s' is damaged or was not closed; run qemu-img check -r all", path);
    if (h->cluster_bits < 9 || h->cluster_bits > 21 || h->refcount_order > 6 ||
        h->compression > 1 || h->size > INT64_MAX ||
        (h->version >= 3 && h->header_len < offsetof(struct header, compression)))
        return error_set(err, "'%.300s': the qcow2 header is damaged", path);
    return true;
}

/* -- The backing file ---------------------------------------------------------------------- */

/* The header extension that names the backing file's format. */
static bool find_backing_format(struct qcow2 *q, const struct header *h, char *format,
                                size_t size)
{
    u64 at = h->header_len;
    u32 extension[2];
    while (at + sizeof(extension) <= qcow2_cluster_size(q)) {
        if (image_read(q->file, at, extension, sizeof(extension)))
            return false;
        u32 type = be32toh(extension[0]), len = be32toh(extension[1]);
        if (type == EXTENSION_END)
            return false;
        if (type == EXTENSION_BACKING_FORMAT && len < size) {
            memset(format, 0, size);
            return !image_read(q->file, at + sizeof(extension), format, len);
        }
        at += sizeof(extension) + align_up(len, 8);
    }
    return false;
}

/* A relative name counts from the image's folder. */
static bool backing_path(const char *image, const char *name, char *path, size_t size)
{
    const char *slash = strrchr(image, '/');
    int folder = name[0] == '/' || !slash ? 0 : (int)(slash - image + 1);
    return snprintf(path, size, "%.*s%s", folder, image, name) < (int)size;
}

static bool open_backing(struct qcow2 *q, const struct header *h,
                         const struct image_config *config, unsigned depth, struct error *err)
{
    char name[1024] = "", path[4096], format[16];
    struct image_config backing = {
        .path = path, .cache = config->cache, .read_only = true, .share = config->share};
    if (!h->backing_offset)
        return true;
    if (h->backing_len >= sizeof(name) || h->backing_offset > qcow2_cluster_size(q) ||
        image_read(q->file, h->backing_offset, name, h->backing_len) ||
        !backing_path(config->path, name, path, sizeof(path)))
        return error_set(err, "'%.300s': its backing file's name is damaged", config->path);
    if (!find_backing_format(q, h, format, sizeof(format)))
        return error_set(err,
                         "'%.150s' does not say which format its backing file has, and formats "
                         "are never guessed; run qemu-img rebase -u -b '%.150s' -F raw|qcow2",
                         config->path, name);
    if (!image_format_parse(&backing.format, format))
        return error_set(err, "'%.300s': its backing file's format '%.15s' is not supported",
                         config->path, format);
    q->backing = image_open_backing(&backing, depth + 1, err);
    return q->backing;
}

/* -- Opening ------------------------------------------------------------------------------- */

static u64 *read_table(struct qcow2 *q, u64 offset, u64 entries)
{
    u64 *table = calloc(entries + 1, sizeof(u64));
    ensure(table);
    if (image_read(q->file, offset, table, entries * sizeof(u64))) {
        free(table);
        return NULL;
    }
    for (u64 i = 0; i < entries; i++)
        table[i] = be64toh(table[i]);
    return table;
}

static bool load_tables(struct qcow2 *q, const struct header *h, const char *path,
                        struct error *err)
{
    q->l1_offset = h->l1_offset;
    q->l1_entries = h->l1_entries;
    q->refcount_offset = h->refcount_offset;
    q->refcount_entries = (u64)h->refcount_clusters << q->cluster_bits >> 3;
    if (q->l1_entries < l1_needed(q) || q->l1_entries * 8 > QCOW2_MAX_TABLE ||
        q->refcount_entries * 8 > QCOW2_MAX_TABLE || !q->refcount_entries ||
        qcow2_in_cluster(q, q->l1_offset) || qcow2_in_cluster(q, q->refcount_offset) ||
        !q->refcount_offset || (q->l1_entries && !q->l1_offset))
        return error_set(err, "'%.300s': the qcow2 header is damaged", path);
    q->l1 = read_table(q, q->l1_offset, q->l1_entries);
    q->refcount_table = read_table(q, q->refcount_offset, q->refcount_entries);
    if (!q->l1 || !q->refcount_table)
        return error_set(err, "'%.300s': its tables cannot be read", path);
    qcow2_tables_init(q);
    q->free_hint = 1; /* whatever a damaged table says, never the header */
    return true;
}

/* Bitmaps and such, which we do not keep up to date, are out of date from here on. */
static bool clear_autoclear(struct qcow2 *q, const struct header *h, const char *path,
                            struct error *err)
{
    u64 none = 0;
    if (q->image.read_only || !h->autoclear)
        return true;
    if (image_write(q->file, QCOW2_HEADER_AUTOCLEAR, &none, sizeof(none)) ||
        image_flush(q->file))
        return error_set(err, "'%.300s' cannot be written", path);
    return true;
}

struct image *qcow2_open(struct image *file, const struct image_config *config, unsigned depth,
                         struct error *err)
{
    struct qcow2 *q = qcow2_new(file, config->read_only);
    struct header header;
    int error = image_read(file, 0, &header, sizeof(header));
    header_swap(&header);
    if (error) {
        error_set(err, "cannot read '%.300s': %s", config->path, strerror(error));
    } else if (header_check(&header, config, err)) {
        q->version = header.version;
        q->cluster_bits = header.cluster_bits;
        q->l2_bits = header.cluster_bits - 3;
        q->refcount_order = header.refcount_order;
        q->zstd = header.compression == 1;
        q->image.size = header.size;
        if (load_tables(q, &header, config->path, err) &&
            open_backing(q, &header, config, depth, err) &&
            clear_autoclear(q, &header, config->path, err))
            return &q->image;
    }
    qcow2_free(q);
    return NULL;
}

struct image *qcow2_overlay(struct image *file, struct image *backing, struct error *err)
{
    struct qcow2 *q = qcow2_new(file, false);
    u64 got;
    q->backing = backing;
    q->version = 3;
    q->cluster_bits = 16;
    q->l2_bits = 13;
    q->refcount_order = 4;
    q->temporary = true;
    q->image.size = backing->size;
    q->l1_entries = l1_needed(q);
    q->refcount_entries = qcow2_cluster_size(q) / sizeof(u64);
    q->l1 = calloc(q->l1_entries + 1, sizeof(u64));
    q->refcount_table = calloc(q->refcount_entries, sizeof(u64));
    ensure(q->l1 && q->refcount_table);
    qcow2_tables_init(q);
    /* Nobody reads this file but us, so there is no header; the tables have places all the
     * same, for when there are more of them than memory holds. */
    q->free_hint = 1;
    u64 l1_clusters = (q->l1_entries * 8 >> q->cluster_bits) + 1;
    bool placed = !qcow2_alloc(q, 1, &q->refcount_offset, &got) &&
                  !qcow2_alloc(q, l1_clusters, &q->l1_offset, &got) && got == l1_clusters;
    if (placed)
        return &q->image;
    error_set(err, "the disk is too large for a snapshot");
    qcow2_free(q);
    return NULL;
}
