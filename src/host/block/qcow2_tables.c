/* The metadata of a qcow2 image: tables in memory, refcounts, allocation, and the order in
 * which changes go out. See qcow2.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "host/block/qcow2_state.h"

#define CACHE_BYTES (32 * MiB)
#define MIN_SETS    4
#define MAX_SETS    256

/* -- Tables in memory ---------------------------------------------------------------------- */

void qcow2_tables_init(struct qcow2 *q)
{
    u64 sets = CACHE_BYTES / qcow2_cluster_size(q) / QCOW2_WAYS;
    q->sets = (unsigned)(sets < MIN_SETS ? MIN_SETS : sets > MAX_SETS ? MAX_SETS : sets);
    q->tables = calloc((size_t)q->sets * QCOW2_WAYS, sizeof(*q->tables));
    ensure(q->tables);
    q->l1_dirty_first = q->refcount_dirty_first = UINT64_MAX;
}

void qcow2_tables_destroy(struct qcow2 *q)
{
    for (unsigned i = 0; q->tables && i < q->sets * QCOW2_WAYS; i++)
        free(q->tables[i].data);
    free(q->tables);
    free(q->l1);
    free(q->refcount_table);
    free(q->freed);
    free(q->unpacked);
}

static struct qcow2_table *set_of(struct qcow2 *q, u64 offset)
{
    return q->tables + (offset >> q->cluster_bits) % q->sets * QCOW2_WAYS;
}

struct qcow2_table *qcow2_table_cached(struct qcow2 *q, u64 offset)
{
    struct qcow2_table *set = set_of(q, offset);
    for (unsigned way = 0; way < QCOW2_WAYS; way++) {
        if (set[way].offset == offset) {
            set[way].used = ++q->clock;
            return &set[way];
        }
    }
    return NULL;
}

static struct qcow2_table *oldest_of(struct qcow2_table *set)
{
    struct qcow2_table *oldest = set;
    for (unsigned way = 1; way < QCOW2_WAYS; way++)
        if (set[way].used < oldest->used)
            oldest = &set[way];
    return oldest;
}

/* A slot for `offset`, the longest unused of its set, empty; or the one that it has got into
 * meanwhile. */
static int slot_take(struct qcow2 *q, u64 offset, struct qcow2_table **slot)
{
    struct qcow2_table *oldest = oldest_of(set_of(q, offset));
    /* A commit may itself load and change tables, in this set too: it frees clusters. */
    while (oldest->dirty) {
        int error = qcow2_commit(q);
        if (error)
            return error;
        oldest = oldest_of(set_of(q, offset));
    }
    *slot = qcow2_table_cached(q, offset);
    if (*slot)
        return 0;
    if (!oldest->data)
        oldest->data = malloc(qcow2_cluster_size(q));
    ensure(oldest->data);
    oldest->offset = 0;
    oldest->used = ++q->clock;
    *slot = oldest;
    return 0;
}

/* The metadata cluster at `offset`, read if need be. The pointer is good until the next
 * call. */
static int table_at(struct qcow2 *q, u64 offset, bool refcounts, struct qcow2_table **table)
{
    *table = qcow2_table_cached(q, offset);
    /* One cluster used as both: a broken image. */
    if (*table)
        return (*table)->refcounts == refcounts ? 0 : EIO;
    if (!offset || qcow2_in_cluster(q, offset))
        return EIO;
    int error = slot_take(q, offset, table);
    if (!error && !(*table)->offset)
        error = image_read(q->file, offset, (*table)->data, qcow2_cluster_size(q));
    if (error)
        return error;
    (*table)->offset = offset;
    (*table)->refcounts = refcounts;
    return 0;
}

/* A new one, all zeroes and dirty. */
static int table_new(struct qcow2 *q, u64 offset, bool refcounts, struct qcow2_table **table)
{
    *table = qcow2_table_cached(q, offset);
    int error = *table ? 0 : slot_take(q, offset, table);
    if (error)
        return error;
    memset((*table)->data, 0, qcow2_cluster_size(q));
    (*table)->offset = offset;
    (*table)->refcounts = refcounts;
    (*table)->dirty = true;
    return 0;
}

static void mark(u64 *first, u64 *end, u64 n)
{
    *first = n < *first ? n : *first;
    *end = n + 1 > *end ? n + 1 : *end;
}

/* -- Writing out --------------------------------------------------------------------------- */

static int write_tables(struct qcow2 *q, bool refcounts, bool *any)
{
    for (unsigned i = 0; i < q->sets * QCOW2_WAYS; i++) {
        struct qcow2_table *table = &q->tables[i];
        if (!table->dirty || table->refcounts != refcounts)
            continue;
        int error = image_write(q->file, table->offset, table->data, qcow2_cluster_size(q));
        if (error)
            return error;
        table->dirty = false;
        *any = true;
    }
    return 0;
}

/* The changed part of the L1 or refcount table, which are kept in host order. */
static int write_entries(struct qcow2 *q, u64 table_offset, const u64 *entries, u64 *first,
                         u64 *end)
{
    u64 big_endian[512];
    while (*first < *end) {
        u64 n = *end - *first < ARRAY_LEN(big_endian) ? *end - *first : ARRAY_LEN(big_endian);
        for (u64 i = 0; i < n; i++)
            big_endian[i] = htobe64(entries[*first + i]);
        int error = image_write(q->file, table_offset + 8 * *first, big_endian, 8 * n);
        if (error)
            return error;
        *first += n;
    }
    *first = UINT64_MAX;
    *end = 0;
    return 0;
}

static int write_refcounts(struct qcow2 *q)
{
    bool any = false;
    int error = write_tables(q, true, &any);
    if (error || q->refcount_dirty_first >= q->refcount_dirty_end)
        return error;
    /* The table must not name a block that is not there. */
    error = image_flush(q->file);
    return error ? error
                 : write_entries(q, q->refcount_offset, q->refcount_table,
                                 &q->refcount_dirty_first, &q->refcount_dirty_end);
}

static int write_l1(struct qcow2 *q)
{
    if (q->l1_dirty_first >= q->l1_dirty_end)
        return 0;
    int error = image_flush(q->file);
    return error ? error
                 : write_entries(q, q->l1_offset, q->l1, &q->l1_dirty_first, &q->l1_dirty_end);
}

static void free_released(struct qcow2 *q);

bool qcow2_clean(const struct qcow2 *q)
{
    for (unsigned i = 0; i < q->sets * QCOW2_WAYS; i++)
        if (q->tables[i].dirty)
            return false;
    return !q->n_freed && !q->l1_dirty_end && !q->refcount_dirty_end;
}

int qcow2_commit(struct qcow2 *q)
{
    bool any = false;
    int error = q->failed ? q->failed : write_refcounts(q);
    if (!error)
        error = image_flush(q->file); /* and the data that the L2 tables will name */
    if (!error)
        error = write_tables(q, false, &any);
    if (!error)
        error = write_l1(q);
    if (!error && any)
        error = image_flush(q->file);
    if (!error)
        free_released(q);
    return error;
}

/* -- Refcounts ----------------------------------------------------------------------------- */

static u64 per_block(const struct qcow2 *q)
{
    return BIT(q->cluster_bits + 3 - q->refcount_order);
}

static u64 refcount_max(const struct qcow2 *q)
{
    return bits_low(1u << q->refcount_order);
}

static u64 count_get(const struct qcow2 *q, const u8 *block, u64 n)
{
    unsigned order = q->refcount_order;
    if (order < 3)
        return block[n >> (3 - order)] >> ((n << order) & 7) & refcount_max(q);
    u64 value = 0;
    for (unsigned i = 0; i < BIT(order - 3); i++)
        value = value << 8 | block[(n << (order - 3)) + i];
    return value;
}

static void count_set(const struct qcow2 *q, u8 *block, u64 n, u64 value)
{
    unsigned order = q->refcount_order;
    if (order < 3) {
        unsigned shift = (unsigned)(n << order) & 7;
        u8 *byte = &block[n >> (3 - order)];
        *byte = (u8)((*byte & ~(refcount_max(q) << shift)) | value << shift);
        return;
    }
    unsigned bytes = (unsigned)BIT(order - 3);
    for (unsigned i = bytes; i-- > 0; value >>= 8)
        block[(n << (order - 3)) + i] = (u8)value;
}

/* A block of refcounts for `cluster`, at home in a cluster of its own range: in itself it is
 * counted, so making one needs no other. */
static int make_block(struct qcow2 *q, u64 cluster)
{
    struct qcow2_table *block;
    int error = table_new(q, cluster << q->cluster_bits, true, &block);
    if (error)
        return error;
    count_set(q, block->data, cluster % per_block(q), 1);
    u64 entry = cluster / per_block(q);
    q->refcount_table[entry] = cluster << q->cluster_bits;
    mark(&q->refcount_dirty_first, &q->refcount_dirty_end, entry);
    return 0;
}

static int refcount(struct qcow2 *q, u64 cluster, u64 *value)
{
    u64 entry = cluster / per_block(q);
    struct qcow2_table *block;
    *value = 0;
    if (entry >= q->refcount_entries || !q->refcount_table[entry])
        return 0;
    int error = table_at(q, q->refcount_table[entry], true, &block);
    if (!error)
        *value = count_get(q, block->data, cluster % per_block(q));
    return error;
}

/* One reference more or less to a cluster that has some. */
static int refcount_add(struct qcow2 *q, u64 cluster, int delta)
{
    u64 entry = cluster / per_block(q), value;
    struct qcow2_table *block;
    if (entry >= q->refcount_entries || !q->refcount_table[entry])
        return EIO;
    int error = table_at(q, q->refcount_table[entry], true, &block);
    if (error)
        return error;
    value = count_get(q, block->data, cluster % per_block(q));
    if (delta < 0 ? !value : value == refcount_max(q))
        return EIO;
    value += (u64)(s64)delta;
    count_set(q, block->data, cluster % per_block(q), value);
    block->dirty = true;
    if (!value && cluster < q->free_hint)
        q->free_hint = cluster;
    return 0;
}

/* -- A larger refcount table -----------------------------------------------------------------
 *
 * It lies at the first cluster that the old one could not count, after the blocks that count
 * it.
 */

struct growth {
    u64 first;            /* cluster */
    u64 blocks, clusters; /* of the new table */
    u64 entries;
};

static struct growth plan_growth(const struct qcow2 *q)
{
    struct growth plan = {.first = q->refcount_entries * per_block(q), .blocks = 1};
    u64 per_cluster = qcow2_cluster_size(q) / 8;
    for (;; plan.blocks++) {
        u64 need = 2 * (q->refcount_entries + plan.blocks);
        plan.clusters = (need + per_cluster - 1) / per_cluster;
        plan.entries = plan.clusters * per_cluster;
        if (plan.blocks * per_block(q) >= plan.blocks + plan.clusters)
            return plan;
    }
}

static int write_table_place(struct qcow2 *q, const struct growth *plan)
{
    struct {
        u64 offset;
        u32 clusters;
    } __attribute__((packed))
    place = {htobe64(q->refcount_offset), htobe32((u32)plan->clusters)};
    int error = image_flush(q->file);
    if (!error)
        error = image_write(q->file, QCOW2_HEADER_REFCOUNT_TABLE, &place, sizeof(place));
    return error ? error : image_flush(q->file);
}

static int grow_refcount_table_once(struct qcow2 *q)
{
    struct growth plan = plan_growth(q);
    u64 old_offset = q->refcount_offset, old_entries = q->refcount_entries;
    if (plan.entries * 8 > QCOW2_MAX_TABLE)
        return EFBIG;
    u64 *table = calloc(plan.entries, sizeof(u64));
    ensure(table);
    memcpy(table, q->refcount_table, old_entries * sizeof(u64));
    free(q->refcount_table);
    q->refcount_table = table;
    q->refcount_entries = plan.entries;
    for (u64 i = 0; i < plan.blocks; i++) {
        u64 first = plan.first + i * per_block(q);
        struct qcow2_table *block;
        int error = table_new(q, (plan.first + i) << q->cluster_bits, true, &block);
        if (error)
            return error;
        u64 used = plan.first + plan.blocks + plan.clusters;
        for (u64 n = 0; n < per_block(q) && first + n < used; n++)
            count_set(q, block->data, n, 1);
        table[old_entries + i] = (plan.first + i) << q->cluster_bits;
    }
    q->refcount_offset = (plan.first + plan.blocks) << q->cluster_bits;
    q->refcount_dirty_first = 0;
    q->refcount_dirty_end = plan.entries;
    int error = write_refcounts(q);
    if (!error)
        error = write_table_place(q, &plan);
    for (u64 i = 0; !error && i < old_entries * 8; i += qcow2_cluster_size(q))
        qcow2_release(q, old_offset + i);
    return error;
}

/* Half done it would leave clusters that nobody counts: then nothing is written any more. */
static int grow_refcount_table(struct qcow2 *q)
{
    int error = grow_refcount_table_once(q);
    if (error)
        q->failed = error;
    return error;
}

/* -- Allocation ---------------------------------------------------------------------------- */

/* Makes sure that a block counts `cluster`. `moved`: the block took the cluster for itself. */
static int cover(struct qcow2 *q, u64 cluster, bool *moved)
{
    *moved = false;
    if (cluster / per_block(q) >= q->refcount_entries) {
        *moved = true;
        return grow_refcount_table(q);
    }
    if (q->refcount_table[cluster / per_block(q)])
        return 0;
    *moved = true;
    return make_block(q, cluster);
}

static int find_free(struct qcow2 *q, u64 *cluster)
{
    for (u64 at = q->free_hint;; at++) {
        bool moved;
        u64 value;
        int error = cover(q, at, &moved);
        if (!error)
            error = refcount(q, at, &value);
        if (error)
            return error;
        if (!moved && !value) {
            *cluster = q->free_hint = at;
            return 0;
        }
    }
}

/* Takes a free cluster whose refcount is known to be 0. */
static int take(struct qcow2 *q, u64 cluster)
{
    int error = refcount_add(q, cluster, 1);
    if (!error && cluster == q->free_hint)
        q->free_hint++;
    return error;
}

int qcow2_alloc(struct qcow2 *q, u64 want, u64 *offset, u64 *got)
{
    u64 first, value;
    int error = find_free(q, &first);
    if (!error)
        error = take(q, first);
    if (error)
        return error;
    *offset = first << q->cluster_bits;
    *got = 1;
    /* As many as follow in the same block; an error there is only the end of the run. */
    while (*got < want && (first + *got) % per_block(q)) {
        if (refcount(q, first + *got, &value) || value || take(q, first + *got))
            break;
        ++*got;
    }
    return 0;
}

void qcow2_unalloc(struct qcow2 *q, u64 offset, u64 clusters)
{
    /* A cluster that cannot be given back leaks, which harms nobody. */
    for (u64 i = 0; i < clusters; i++)
        (void)refcount_add(q, (offset >> q->cluster_bits) + i, -1);
}

/* -- Freeing ------------------------------------------------------------------------------- */

static void release_cluster(struct qcow2 *q, u64 cluster)
{
    if (q->n_freed == q->max_freed) {
        q->max_freed = q->max_freed ? 2 * q->max_freed : 64;
        q->freed = realloc(q->freed, q->max_freed * sizeof(u64));
        ensure(q->freed);
    }
    q->freed[q->n_freed++] = cluster;
}

void qcow2_compressed_place(const struct qcow2 *q, u64 entry, u64 *offset, u64 *len)
{
    unsigned offset_bits = 62 - (q->cluster_bits - 8);
    *offset = entry & bits_low(offset_bits);
    u64 sectors = bits(entry, 61, offset_bits) + 1;
    *len = sectors * 512 - *offset % 512;
}

void qcow2_release(struct qcow2 *q, u64 entry)
{
    u64 offset = entry & QCOW2_OFFSET, len = 1;
    if (entry & QCOW2_COMPRESSED)
        qcow2_compressed_place(q, entry, &offset, &len);
    if (!offset)
        return;
    u64 last = (offset + len - 1) >> q->cluster_bits;
    for (u64 cluster = offset >> q->cluster_bits; cluster <= last; cluster++)
        release_cluster(q, cluster);
}

/* After nothing durable names them. Waits for data on its way into or out of them: a reader
 * that looked its cluster up before must not find another's data there. */
static void free_released(struct qcow2 *q)
{
    if (!q->n_freed)
        return;
    pthread_rwlock_wrlock(&q->moving);
    q->unpacked_entry = 0;
    size_t n = q->n_freed;
    q->n_freed = 0;
    for (size_t i = 0; i < n; i++) {
        u64 cluster = q->freed[i], value;
        if (refcount_add(q, cluster, -1) || refcount(q, cluster, &value) || value)
            continue;
        /* A cached table of that place is nobody's now. */
        struct qcow2_table *table = qcow2_table_cached(q, cluster << q->cluster_bits);
        if (table) {
            table->offset = 0;
            table->dirty = false;
        }
        if (q->file->ops->discard)
            (void)q->file->ops->discard(q->file, cluster << q->cluster_bits,
                                        qcow2_cluster_size(q));
    }
    pthread_rwlock_unlock(&q->moving);
}

/* -- L2 entries ---------------------------------------------------------------------------- */

static u64 l1_index(const struct qcow2 *q, u64 offset)
{
    return offset >> (q->cluster_bits + q->l2_bits);
}

static u64 l2_index(const struct qcow2 *q, u64 offset)
{
    return offset >> q->cluster_bits & bits_low(q->l2_bits);
}

int qcow2_l2_read(struct qcow2 *q, u64 offset, u64 *entry)
{
    u64 place = q->l1[l1_index(q, offset)] & QCOW2_OFFSET;
    struct qcow2_table *table;
    *entry = 0;
    if (!place)
        return 0;
    int error = table_at(q, place, false, &table);
    if (!error)
        *entry = be64toh(((const u64 *)(const void *)table->data)[l2_index(q, offset)]);
    return error;
}

/* An L2 table that may be written: a new one, or a copy of one that a snapshot shares. */
static int make_l2(struct qcow2 *q, u64 index)
{
    u64 old = q->l1[index] & QCOW2_OFFSET, place, got;
    struct qcow2_table *table = NULL;
    int error = qcow2_alloc(q, 1, &place, &got);
    if (error)
        return error;
    error = table_new(q, place, false, &table);
    if (!error && old)
        error = image_read(q->file, old, table->data, qcow2_cluster_size(q));
    if (error) {
        if (table) {
            table->offset = 0;
            table->dirty = false;
        }
        qcow2_unalloc(q, place, 1);
        return error;
    }
    qcow2_release(q, old);
    q->l1[index] = place | QCOW2_COPIED;
    mark(&q->l1_dirty_first, &q->l1_dirty_end, index);
    return 0;
}

int qcow2_l2_write(struct qcow2 *q, u64 offset, u64 entry)
{
    u64 index = l1_index(q, offset);
    struct qcow2_table *table;
    int error = q->l1[index] & QCOW2_COPIED ? 0 : make_l2(q, index);
    if (!error)
        error = table_at(q, q->l1[index] & QCOW2_OFFSET, false, &table);
    if (error)
        return error;
    ((u64 *)(void *)table->data)[l2_index(q, offset)] = htobe64(entry);
    table->dirty = true;
    return 0;
}
