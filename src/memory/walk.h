/*
 * The guest's page tables, read as the processor reads them (SDM vol. 3, chapter 4): no paging,
 * 32-bit with PSE and PSE-36, PAE, 4-level with 2 MiB and 1 GiB pages. The walk serves every
 * engine.
 *
 * Threads: any vCPU on its own x86_cpu; A and D bits are set atomically, as other vCPUs and the
 * guest write the same tables.
 */
#pragma once

#include "memory/pmap.h"
#include "x86/cpu.h"

/* What an access is checked as. */
struct walk_access {
    enum x86_access access;
    bool user;     /* CPL 3, and not an implicit access */
    bool smap_off; /* supervisor with EFLAGS.AC: user pages may be touched */
};

struct walk_result {
    struct gpa gpa;  /* of the address itself, not of its page */
    u8 page_shift;   /* 12, 21, 22, 30: the guest's page size */
    bool user;       /* U in every level */
    bool writable;   /* W in every level */
    bool executable; /* no NX in any level (or NX not enabled) */
    bool global;     /* leaf G, with CR4.PGE */
    bool dirty;      /* leaf D is set now */
};

/*
 * Walks for `la`. True: *out is filled, A bits (and D for a write) are set. False: the access
 * faults, *error is the page-fault error code; A bits of the levels passed may be set, D is
 * not.
 */
bool walk(struct x86_cpu *c, struct pmap *pmap, struct gva la, struct walk_access access,
          struct walk_result *out, u32 *error);

/* Would this access be allowed on a page with these rights? Walk and TLB share the rule
 * (SDM 4.6.1). */
bool walk_allows(const struct x86_cpu *c, const struct walk_result *page,
                 struct walk_access access);

/* Translates without checking rights or changing anything, for debuggers: false: not mapped. */
bool walk_peek(struct x86_cpu *c, struct pmap *pmap, struct gva la, struct gpa *out);
