/*
 * The second level of the software TLB: translations as walks found them, tagged by the space
 * they belong to (struct x86_stlb). It knows nothing of machine pages, so the pmap's changes do
 * not concern it; what the guest must do to make the processor forget is in SDM vol. 3, 4.10.4.
 *
 * Threads: it belongs to its vCPU's thread.
 */
#pragma once

#include "memory/walk.h"

/* The current PCID: 0 while CR4.PCIDE is clear. */
static inline u16 stlb_pcid(const struct x86_cpu *c)
{
    return c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0;
}

/* How much INVLPG of `la` drops, as a shift: 12; 21 or 22 where there may be a page of that
 * size; 64 for everything. */
unsigned stlb_page_shift(const struct x86_cpu *c, struct gva la);

/* What a walk for `la` found that may still be used; false: nothing. */
bool stlb_find(const struct x86_cpu *c, struct gva la, struct walk_result *out);
/* Enters what a walk for `la` found, with paging on. */
void stlb_enter(struct x86_cpu *c, struct gva la, const struct walk_result *page);

/* The page of `la`, large or not, but for those of 1 GiB: under `pcid` and, if `global`, as a
 * global one. */
void stlb_forget_page(struct x86_cpu *c, struct gva la, u16 pcid, bool global);
/* The translations of a PCID that are not global. */
void stlb_forget_pcid(struct x86_cpu *c, u16 pcid);
/* Those of all PCIDs; and global ones too. */
void stlb_forget_local(struct x86_cpu *c);
void stlb_forget_all(struct x86_cpu *c);
/* Where large pages may be: whoever has parts of them must have forgotten all. */
void stlb_forget_large(struct x86_cpu *c);
/* CR3 names another PCID, perhaps. */
void stlb_choose(struct x86_cpu *c);
