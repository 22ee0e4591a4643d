/* The inside of a qcow2 image, for qcow2.c and qcow2_tables.c. */
#pragma once

#include <endian.h>
#include <pthread.h>

#include "base/bits.h"
#include "host/block/image.h"

/* L1 and L2 entries. */
#define QCOW2_OFFSET     0x00fffffffffffe00ull
#define QCOW2_COPIED     BIT(63) /* its refcount is exactly one: may be written in place */
#define QCOW2_COMPRESSED BIT(62)
#define QCOW2_ZERO       BIT(0) /* version 3 */

/* What may be held in memory: bounds on what a hostile header can make us allocate. */
#define QCOW2_MAX_TABLE (32 * MiB)

#define QCOW2_WAYS 4

/* Offsets of header fields that change. */
#define QCOW2_HEADER_REFCOUNT_TABLE 48
#define QCOW2_HEADER_AUTOCLEAR      88

/* One cluster of metadata in memory: an L2 table or a refcount block, big-endian as in the
 * file. */
struct qcow2_table {
    u64 offset; /* in the file; 0: this slot is empty */
    u8 *data;
    u64 used; /* when, for replacement */
    bool dirty;
    bool refcounts; /* which of the two it is */
};

struct qcow2 {
    struct image image;
    struct image *file, *backing; /* backing may be NULL */
    unsigned version;
    unsigned cluster_bits;
    unsigned l2_bits;        /* log2 of the entries in an L2 table */
    unsigned refcount_order; /* log2 of the bits in a refcount */
    bool zstd;
    bool temporary; /* nobody reads it after us: nothing has to be durable */

    pthread_mutex_t lock; /* everything below */
    /* Held for reading while data moves to or from clusters without `lock`; for writing while
     * clusters become free. Inside `lock`. */
    pthread_rwlock_t moving;

    int failed; /* an errno value: metadata cannot be written any more */

    u64 l1_offset;
    u64 l1_entries;
    u64 *l1; /* in host order */
    u64 l1_dirty_first, l1_dirty_end;

    u64 refcount_offset;
    u64 refcount_entries;
    u64 *refcount_table; /* in host order */
    u64 refcount_dirty_first, refcount_dirty_end;
    u64 free_hint; /* no free cluster below this one */

    struct qcow2_table *tables; /* `sets` x QCOW2_WAYS */
    unsigned sets;
    u64 clock;

    /* Clusters with one reference less once the tables without it are durable. */
    u64 *freed;
    size_t n_freed, max_freed;

    /* The compressed cluster that was read last. */
    u64 unpacked_entry; /* its L2 entry; 0: none */
    u8 *unpacked;
};

static inline u64 qcow2_cluster_size(const struct qcow2 *q)
{
    return BIT(q->cluster_bits);
}
static inline u64 qcow2_in_cluster(const struct qcow2 *q, u64 offset)
{
    return offset & bits_low(q->cluster_bits);
}

/* -- qcow2_tables.c; all under `lock`; results are 0 or an errno value --------------------- */

void qcow2_tables_init(struct qcow2 *q);
void qcow2_tables_destroy(struct qcow2 *q);

/* The metadata cluster at `offset` if it is in memory; NULL: not. */
struct qcow2_table *qcow2_table_cached(struct qcow2 *q, u64 offset);

/* The L2 entry of a guest offset; 0 when there is no table. */
int qcow2_l2_read(struct qcow2 *q, u64 offset, u64 *entry);
int qcow2_l2_write(struct qcow2 *q, u64 offset, u64 entry);

/* Up to `want` free clusters in a row, now with a refcount of one. */
int qcow2_alloc(struct qcow2 *q, u64 want, u64 *offset, u64 *got);
/* Takes back what was never linked. */
void qcow2_unalloc(struct qcow2 *q, u64 offset, u64 clusters);
/* The L2 entry is not in use any more: its clusters lose a reference at the next commit. */
void qcow2_release(struct qcow2 *q, u64 entry);
/* Host bytes of a compressed cluster's entry. */
void qcow2_compressed_place(const struct qcow2 *q, u64 entry, u64 *offset, u64 *len);

/* Whether no metadata waits to be written. */
bool qcow2_clean(const struct qcow2 *q);
/* Makes everything durable, in order. */
int qcow2_commit(struct qcow2 *q);
