/*
 * The software TLB's upkeep: filling from a walk, and dropping by the guest's rules (SDM vol.
 * 3, 4.10.4) or because the pmap changed. The arrays are in struct x86_cpu, as every engine's
 * fast path reads them; the rules that make an entry valid are stated there.
 *
 * Threads: a TLB belongs to its vCPU's thread.
 */
#pragma once

#include "memory/walk.h"

/* An empty TLB; an all-zero one is not (page 0 would hit). */
void tlb_init(struct x86_cpu *c);

/* How an access through one of the TLB's sets is checked by the walk. */
struct walk_access tlb_access(const struct x86_cpu *c, enum x86_tlb_index set,
                              enum x86_access access);

/* Enters the page of `la`, which is RAM at `hva` (its first byte) with pmap flags `flags`. Only
 * tags that hold the invariants are set. */
void tlb_fill(struct x86_cpu *c, enum x86_tlb_index set, struct gva la,
              const struct walk_result *page, void *hva, u64 flags);

/* INVLPG: the page of `la`, global or not, large or not. */
void tlb_flush_page(struct x86_cpu *c, struct gva la);
/* What goes with a CR3 load. */
void tlb_flush_local(struct x86_cpu *c);
void tlb_flush_all(struct x86_cpu *c);

/* Drops the right to write without a slow path to the machine page at `hva`, under every
 * address. */
void tlb_watch(struct x86_cpu *c, const void *hva);
