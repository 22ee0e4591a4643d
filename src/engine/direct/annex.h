/*
 * The annex: pages at the end of a cell's block from which copies of guest code run that must
 * not run where it stands. A page with an instruction that must be intercepted cannot be
 * executable in a cell, and x86 has no right to execute without one to read, so it cannot be
 * patched there either: who reads it would read the patch. So the page stays readable as it is,
 * and its code runs from a copy: instruction by instruction the same bytes, but
 *
 *   - what must be intercepted is a HLT, which stops the cell before that instruction,
 *   - CALL pushes the return address of the original, and addresses relative to RIP are those
 *     of the original, so the guest sees no address of the annex,
 *   - branches go to other copies, indirect ones through a table of known targets.
 *
 * Code that calls such a page often runs from the annex too, until the cell stops: else each
 * call and return would be a stop. Any boundary of instructions in the copies has one state of
 * the original, which annex_take restores (registers in use are kept in slots of the control
 * page); so a stop is told as if the original had stopped.
 *
 * The annex adds nothing to what a cell can do: it holds instructions that the guest could have
 * in its own pages, and none, at any alignment, that a page is refused for. What its slots say
 * is the guest's word about its own registers.
 *
 * A copy is good while the page it came from is: whoever hands pages out (annex_source) calls
 * annex_drop when one changes or goes.
 *
 * Threads: belongs to the cell's vCPU.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "engine/bt/emit.h"
#include "engine/direct/frame.h"
#include "x86/cpu.h"

/* Where code comes from: the bytes of the page of `va` that user code may execute now, or
 * NULL. */
struct annex_source {
    const u8 *(*page)(const struct annex_source *source, u64 va);
};

/* What lies at a place of the copies: `undo` says how the original's state comes back. */
struct origin {
    u64 rip;
    u32 at;
    u16 undo;
};

/* A jump whose target has no copy yet: it leads to the HLT at `stub`. */
struct edge {
    u64 target;
    u32 stub, field; /* of the jump: its 32-bit distance; 0: a return address */
};

#define ANNEX_PIECES  32768 /* a power of two; places of a hash table */
#define ANNEX_ORIGINS 40960
#define ANNEX_EDGES   8192

/* Its tables, made when they are needed. */
struct annex_tables {
    struct piece {
        u64 rip;
        u32 at; /* 0: free */
    } pieces[ANNEX_PIECES];
    struct origin origins[ANNEX_ORIGINS];
    struct edge edges[ANNEX_EDGES];
};

struct annex {
    struct annex_tables *tables; /* NULL: nothing was copied yet */
    const struct x86_cpu *cpu;
    struct frame_place place;
    ZydisDecoder decoder;
    struct emit e;
    unsigned n_pieces, n_origins, n_edges, n_literals;
    u32 edge;       /* the stub of the last stop; 0: it was none */
    u64 tsc_offset; /* of the processor when it was filled; and so its TSC_AUX */
    u32 tsc_aux;
    bool stale; /* a page changed: everything goes before anything runs */
    struct {
        u64 pieces, resets;
    } stats;
};

/* Can this host's processor run copies? They need BMI2, to find a target without changing
 * flags. */
bool annex_works(const struct x86_model *model);

void annex_init(struct annex *annex, const struct frame_place *place);
void annex_free(struct annex *annex);

/* The address in the cell of the copy of 64-bit code at `rip`, made if need be, with some of
 * what it leads to; 0: there is none, as its page cannot be executed. */
u64 annex_enter(struct annex *annex, const struct annex_source *source,
                const struct x86_cpu *cpu, u64 rip);

/* A page that was handed out is not any more what it was. */
static inline void annex_drop(struct annex *annex)
{
    annex->stale = true;
}

/* The processor stopped as *c and *stop say. If that is in the copies, *c becomes the state of
 * the original. True: it is at a jump to code that has no copy yet, and *c is its target. */
bool annex_take(struct annex *annex, struct x86_cpu *c, const struct stop *stop);

/* -- copy.c */
/* Copies code from `rip` on. False: no room. *at: where it is, 0: it cannot be had. */
bool annex_copy(struct annex *annex, const struct annex_source *source, u64 rip, u32 *at);
/* -- of annex.c, for copy.c */
u32 annex_find(const struct annex *annex, u64 rip);
void annex_note(struct annex *annex, u64 rip, u32 at);
/* Makes the jump with the distance at `field` lead to `at`, if no instruction that must be
 * intercepted comes to be of it. */
void annex_bind(struct annex *annex, u32 field, u32 at);
/* The address in the cell of a constant; 0: no room. */
u64 annex_literal(struct annex *annex, u64 value);
bool annex_is_clean(const struct annex *annex, u32 from, u32 to);

static inline u32 annex_here(const struct annex *annex)
{
    return (u32)(annex->e.at - annex->place.block);
}

/* Undoing: these registers are in slots 0 to 2; RIP is in slot 4; one register, by its number,
 * is in slot 3; a HLT of an edge. */
enum {
    UNDO_SAVED = 1,
    UNDO_TARGET = 2,
    UNDO_EDGE = 4,
    UNDO_SCRATCH = 16, /* times its number + 1 */
};
#define SLOT_SCRATCH 3
#define SLOT_TARGET  4

/*
 * The table of known targets: negated targets, then where their copies are. A target has one
 * place in each of two ways, named by the bits of its address that PEXT takes out by the way's
 * mask; what it drives out of one way goes to the other (cuckoo hashing: Pagh and Rodler 2001).
 * Entries of functions end in zeros, so either mask has few of the low bits.
 */
#define TARGETS 2048
struct targets {
    u64 negated[2][TARGETS], copy[2][TARGETS];
    u64 mask[2];
};
