/*
 * The shadow of a guest address space: which of its pages are mapped in its cell, and why. Host
 * mappings are the cell's TLB, so they follow the guest's TLB rules (SDM vol. 3, 4.10.4): they
 * may stay while the guest changes its tables, until it says so by INVLPG or a load of CR3.
 *
 * INVLPG drops a page. After anything that flushes more, each mapped page is compared with the
 * guest's tables before the cell runs again, and dropped if its entry changed in a way that a
 * processor could tell: so a process switch costs a comparison, not its mappings.
 *
 * Threads: belongs to the vCPU's thread.
 */
#pragma once

#include "engine/direct/cell.h"
#include "engine/direct/scan.h"
#include "memory/pmap.h"

#define REGION_SHIFT 21
#define REGION_PAGES 512

/* The pages of one guest page table. */
struct region {
    u64 va;
    struct region *next;          /* of the hash chain */
    struct region *newer, *older; /* by age: the oldest is evicted */
    u64 path[3];                  /* PML4E, PDPTE, PDE as they were */
    u64 entry[REGION_PAGES];      /* PTEs as they were; not for large pages */
    u32 frame[REGION_PAGES];      /* gfn */
    u8 rights[REGION_PAGES];      /* PROT_*, SHADOW_COPIED; 0: not mapped */
    u16 mapped;                   /* pages */
    u16 copied;                   /* of them had SHADOW_COPIED at some time */
    u16 runs;                     /* mappings of the host at most, see shadow.c */
    u16 faults;                   /* how often it was asked for: prefetch grows */
};

/* In `rights`: the annex of the cell has copies of the page's code (annex.h). It may be mapped
 * with no other right then. */
#define SHADOW_COPIED 8

#define SHADOW_SLOTS 1024

struct shadow {
    struct region *slot[SHADOW_SLOTS];
    struct region *oldest, *newest;
    u64 pages;   /* mapped */
    u64 runs;    /* of all regions */
    bool huge;   /* ever held a piece of a page of 1 GiB */
    bool narrow; /* for 32-bit code too, which lies below 4 GiB */
};

struct shadow_world {
    struct x86_cpu *cpu;
    struct vcpu *vcpu;
    struct pmap *pmap;
    u16 *findings;     /* by gfn: what scan_page found; 0: not scanned */
    u64 *writable;     /* by gfn, a bit: may be mapped writable in some cell */
    bool faults_cpuid; /* the host's processor stops a cell at CPUID */
    struct {
        u64 faults, pages, dropped, evicted, compared, guarded;
        u64 refused_code[N_FINDINGS]; /* how often, for this */
    } stats;
};

enum shadow_answer {
    SHADOW_MAPPED,
    SHADOW_FAULT, /* the guest's own page fault */
    SHADOW_STEP,  /* no cell can do this access: device, code being changed, address */
    SHADOW_CODE,  /* the page holds what must not run directly */
    SHADOW_LOST,  /* the mapper does not answer */
};

/* Maps what an access at `va` by user code needs, and some around it. */
enum shadow_answer shadow_fault(struct shadow *shadow, struct shadow_world *world,
                                struct cell *cell, u64 va, enum x86_access access);

/* The code page at `va`, for copies: NULL if user code cannot execute it. */
const u8 *shadow_code(struct shadow *shadow, struct shadow_world *world, struct cell *cell,
                      u64 va);

/* INVLPG. The unmapping is ordered, and done before the cell runs again. */
void shadow_invalidate(struct shadow *shadow, struct shadow_world *world, struct cell *cell,
                       u64 va);

/* Compares everything with the guest's tables at CR3. Returns the pages dropped. */
u64 shadow_compare(struct shadow *shadow, struct shadow_world *world, struct cell *cell);

/* The pmap changed: what a frame no longer allows goes. */
void shadow_recheck(struct shadow *shadow, struct shadow_world *world, struct cell *cell);

/* A frame's pages lose `rights` (PROT_WRITE: code is watched on it; PROT_EXEC and
 * SHADOW_COPIED: it was written).
 */
void shadow_revoke(struct shadow *shadow, struct cell *cell, u64 frame, int rights);

/* Has the guest pages of its own where the cell's block stands? A block lies in one region. */
bool shadow_collides(const struct shadow_world *world, const struct cell *cell);

/* Forgets everything without unmapping: the cell is gone. */
void shadow_free(struct shadow *shadow);
