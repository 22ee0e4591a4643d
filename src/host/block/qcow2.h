/*
 * The qcow2 image format, versions 2 and 3 (QEMU's docs/interop/qcow2.txt; "spec" below).
 *
 *   guest offset --L1 table--> L2 table --> host cluster (plain, compressed, all zeroes, or
 * none: then the backing file has it). Each host cluster is counted in refcount blocks, which a
 *   refcount table names.
 *
 * Metadata changes stay in memory until the guest flushes (or memory for them runs out), and
 * then go out in an order in which every prefix is a correct image, clusters leaked at worst:
 * refcounts; data and those durable; L2 tables; durable; L1 table; durable; only then are
 * clusters that nobody uses any more free for others.
 */
#pragma once

#include "host/block/image.h"

/* Takes `file` over, also when it fails. `depth`: how many images are above this one. */
struct image *qcow2_open(struct image *file, const struct image_config *config, unsigned depth,
                         struct error *err);

/* A new image in the empty `file`, over `backing`, whose size it has; takes both over. For
 * -snapshot: the header does not name the backing file. */
struct image *qcow2_overlay(struct image *file, struct image *backing, struct error *err);
