/*
 * The software TLB's upkeep: filling from a walk, and dropping by the guest's rules (SDM vol.
 * 3, 4.10.4) or because the pmap changed. The arrays are in struct x86_cpu, as every engine's
 * fast path reads them; the rules that make an entry valid are stated there.
 *
 * Threads: a TLB belongs to its vCPU's thread.
 */
#pragma once

#include "memory/stlb.h"

/* An empty TLB; an all-zero one is not (page 0 would hit). */
void tlb_init(struct x86_cpu *c);

/* How an access through one of the TLB's sets is checked by the walk. */
struct walk_access tlb_access(const struct x86_cpu *c, enum x86_tlb_index set,
                              enum x86_access access);

/* Enters the page of `la` as tlb_walk found it, which is RAM at `hva` (its first byte) with
 * pmap flags `flags`. Only tags that hold the invariants are set. */
void tlb_fill(struct x86_cpu *c, enum x86_tlb_index set, struct gva la,
              const struct walk_result *page, void *hva, u64 flags);

/* walk() through the second level: what a walk found is used until the guest makes the
 * processor forget it, where it allows the access and D needs not be set. */
bool tlb_walk(struct x86_cpu *c, struct pmap *pmap, struct gva la, struct walk_access access,
              struct walk_result *out, u32 *error);

/* INVLPG: the page of `la` under the current PCID or global, large or not. */
void tlb_flush_page(struct x86_cpu *c, struct gva la);
/* INVPCID of an address: the same under one PCID. */
void tlb_flush_page_of(struct x86_cpu *c, u16 pcid, struct gva la);
/* After a load of CR3; `keep`: nothing of the new PCID is forgotten. */
void tlb_cr3_loaded(struct x86_cpu *c, bool keep);
/* What is not global: of one PCID, of all. */
void tlb_flush_pcid(struct x86_cpu *c, u16 pcid);
void tlb_flush_local(struct x86_cpu *c);
void tlb_flush_all(struct x86_cpu *c);
/* Because the pmap changed: every entry, but what is known of large pages, whose users are told
 * of the guest's flushes only, stays. */
void tlb_drop(struct x86_cpu *c);

/* After a write to a debug register: drops the pages that hold data breakpoints now. */
void tlb_debug_changed(struct x86_cpu *c);

/* Drops the right to write without a slow path to the machine page at `hva`, under every
 * address. */
void tlb_watch(struct x86_cpu *c, const void *hva);
