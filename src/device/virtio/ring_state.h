/*
 * What the two forms of virtqueues share inside: ring.c has the split one and everything that
 * is the same for both, ring_packed.c the packed one (virtio 1.2, clauses 2.7 and 2.8).
 */
#pragma once

#include "device/virtio/ring.h"

/* Descriptor flags (2.7.5, 2.8.1). */
#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

/* Marks the queue as broken; false. */
bool ring_break(struct virtq *queue, const char *why);
/* Adds a buffer to the chain; false: the queue is broken now. */
bool ring_add_segment(struct virtq *queue, struct virtq_chain *chain, u64 addr, u32 len,
                      bool in);

/* As the functions of ring.h without "packed_", for a queue that is ready. */
void packed_start(struct virtq *queue);
bool packed_well_formed(const struct virtq *queue);
bool packed_waiting(const struct virtq *queue);
bool packed_pop(struct virtq *queue, struct virtq_chain *chain);
void packed_stage(const struct virtq_chain *chain, u16 n, u32 written);
void packed_publish(struct virtq *queue);
bool packed_wants_interrupt(struct virtq *queue);
void packed_want_notify(struct virtq *queue, bool want);
