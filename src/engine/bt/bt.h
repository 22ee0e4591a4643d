/*
 * The engine bt: same-ISA dynamic binary translation of guest code (design, section 5.1). This
 * header holds the state of one vCPU's translator and says which file does what:
 *
 *   guest.c      guest instructions decoded, with the flags they read and write; memo.c: once
 *                for all of a form
 *   emit.c       host instructions assembled; rewrite.c: guest instructions re-encoded
 *   translate*.c a run of guest instructions becomes a translation unit (TU)
 *   stubs.c      the generated entry, exit and callout sequences around translations
 *   cache.c      where TUs live and how they are found and forgotten
 *   link.c       TU to TU: patched jumps, cells, the indirect target cache
 *   dispatch.c   callouts: what happens outside translations
 *   quick.c      the frequent callouts' fast ways
 *   quick_gate.c those that change the mode
 *   string.c     repeated MOVS, STOS, CMPS and SCAS page by page
 *   bounce.c     accesses that no single host address can stand for
 *   breakpoints.c the debug registers
 *   adapt.c      sites that leave the fast path often, and are retranslated for it
 *   crossing.c   instructions on two pages
 *   ops.c        guest memory and the outside world for the simulator's semantics
 *   listing.c    TUs as text
 *   counters.c   what is counted, as rows
 *   fault.c      host faults inside translations become guest state
 *   precise.c    arithmetic flags where the guest sees them
 *
 * State in translated code: guest registers are in the host registers of their names (RSP
 * too), but r10 and r11, which are in cpu.gpr. Arithmetic flags are in the host's, or in
 * bt->flags where translated code had to save them. The host's DF, TF, AC, NT stay clear: DF is
 * part of a TU's mode, the others make the guest run on the simulator. All other RFLAGS bits
 * are current in cpu.rflags. Vector and x87 state is in the host's registers. GS base is the
 * vCPU.
 *
 * 16- and 32-bit code uses the lower halves of eight registers only. The upper ones, which the
 * manuals leave undefined there, fare as in 64-bit code, and as in the simulator: a 32-bit
 * write clears them, others keep them. No translation reads them: addresses are cut to their
 * size.
 *
 * Threads: all of it belongs to the vCPU's thread, but bt_kick.
 */
#pragma once

#include "engine/bt/emit.h"
#include "engine/bt/guest.h"
#include "engine/bt/watch.h"
#include "engine/sim/sim.h"
#include "host/code_memory.h"

/* -- Modes --------------------------------------------------------------------------------- */

/*
 * What a translation depends on beside the bytes and where they are: a word compared as a
 * whole.
 *
 * Of the segments a translation knows CS (its base is part of the place, see bt_place, its
 * limit is named here) and whether DS, ES and SS are flat, as they nearly always are in 32-bit
 * code: then accesses through them are not checked. All others read base and reach from struct
 * x86_cpu each time, so that a load of FS or GS, or of any segment in 16-bit code, changes no
 * mode.
 */
#define MODE_SET(tlb_index) ((u32)(tlb_index)) /* bits 1:0: enum x86_tlb_index */
#define MODE_SET_MASK       3u
/* Bits 3:2: size of the code, 0 for 64 bits, 1 for 32, 2 for 16. */
#define MODE_SIZE(code_size) ((code_size) == 8 ? 0 : (code_size) == 4 ? 4u : 8u)
#define MODE_SIZE_MASK       12u
#define MODE_CPL(cpl)        ((u32)(cpl) << 4)
#define MODE_X87             BIT(6) /* the guest enabled the unit */
#define MODE_SSE             BIT(7)
#define MODE_AVX             BIT(8)
#define MODE_TSC             BIT(9)  /* RDTSC is free */
#define MODE_PROTECTED       BIT(10) /* neither real nor virtual-8086 mode */
#define MODE_FLAT            BIT(11) /* ES, SS, DS reach all 4 GiB for reading and writing */
#define MODE_STACK16         BIT(12) /* SP is the stack pointer */
#define MODE_DOWN            BIT(13) /* ES, SS or DS expands down */
/* Bits 23:16: limit of CS, a number in bt->code_limit. */
#define MODE_LIMIT(number)  ((u32)(number) << 16)
#define MODE_LIMIT_OF(mode) ((mode) >> 16 & 0xff)
#define MODE_CAREFUL        BIT(24) /* of a TU: each access is checked by itself */
#define MODE_NONE           (~0u)   /* no translation: the simulator steps */

/* Tables that are looked into by translated code exist for each set and size, with flat and
 * with other segments, so that guests which go to and fro do not empty them. */
#define MODE_TABLE(mode)                                                                       \
    (((mode) & (MODE_SIZE_MASK | MODE_SET_MASK)) | ((mode)&MODE_FLAT ? 0 : 16u))
#define MODE_TABLES 28

/* Limits of CS seen, numbered; the first two are always there: none, and that of real mode. */
#define CODE_LIMITS 256

/* -- Translation units --------------------------------------------------------------------- */

/* Places in the code cache are offsets from its start, 0: none. TUs, links, cells and sites are
 * numbers in their tables, 0: none. */
struct tu {
    u64 rip;        /* as bt_place() has it; in links and cells too */
    const u8 *code; /* hva of the first guest byte: stands for the gpa */
    u32 mode;
    u32 start, end;     /* host code */
    u32 entry;          /* flags in the host's */
    u32 entry_saved;    /* flags in bt->flags */
    u32 entry_indirect; /* as entry_saved, and r10 = target, to be compared */
    u16 guest_size;     /* bytes */
    u16 insns;
    u16 flags_in; /* arithmetic flags it needs */
    bool dead;
    u8 cut;    /* number + 1 of the one where it begins, or 0 (breakpoints.c) */
    u64 lines; /* of its page, that it depends on (pmap_lines) */
    u32 next;  /* in its chain of the hash table */
    /* In its page's, which is long where many processes have the page: 0 is the end. */
    u32 page_next, page_before;
    u32 incoming; /* links that jump here */
};

/* A direct exit to the same page, patched to jump to its TU. */
struct link {
    u64 rip;
    u32 field; /* of the jump's displacement */
    u32 stub;  /* where it leads while it is not linked */
    u32 from, to;
    u32 next;   /* of the target's incoming */
    bool saved; /* wants entry_saved */
    u8 stale;   /* flags that may not be the guest's here (flags_pack) */
};

/*
 * A cell: a place for "the translation of `rip` in `mode` under the present translation of
 * addresses", jumped through by direct exits to other pages. Emptied when address translations
 * change; the number stays.
 */
struct cell {
    u64 rip;
    u32 mode;
    u32 next;   /* chain of the hash */
    bool saved; /* wants entry_saved */
};

/* A host instruction inside a TU at which the guest's state is known. */
struct site {
    u64 rip;    /* of the guest instruction whose beginning it is */
    u32 retry;  /* where a check begins again; 0: none */
    u32 host;   /* the host instruction that may fault; ascending in the table */
    u32 resume; /* where translated code goes on after the guest instruction */
    u32 tu;
    u8 length;   /* of the guest instruction */
    u8 kind;     /* enum site_kind */
    u8 stale;    /* dead arithmetic flags that were not kept (flags_pack) */
    u8 producer; /* how far back the instruction stands that makes them (precise.c); or 0 */
    u16 size;    /* ACCESS: bytes that the check covers; `write`: how they are accessed */
    bool write : 1;
    bool shared : 1;      /* ACCESS: beyond the operand, for other accesses too */
    bool constant : 1;    /* ACCESS: of a known address: r10 is its page behind the check */
    bool plain : 1;       /* ACCESS: of a load or store that cannot fault by itself */
    bool adapted : 1;     /* ACCESS: a store whose failed checks go to stubs.store */
    bool outdated : 1;    /* at `resume` earlier checks still count, which C code may outdate */
    bool flags_saved : 1; /* arithmetic flags are in bt->flags (or dead), else in the host's */
    bool settles : 1;     /* behind its instruction none is stale */
    u8 guard;             /* from `host` to the field of the jump that a failed check takes */
    u8 passed;            /* ACCESS: from `host` to what a good check of a load goes to; or 0 */
    u8 string;        /* CALLOUT: enum string_kind, a repeated one with elements of `size` */
    u8 seg, adsize;   /* of its source, or what it loads; of its addresses */
    u32 decoded;      /* CALLOUT: in bt->decoded; 0: the simulator decodes it */
    bool swapped : 1; /* RAX and RDX are in hot->spill */
    bool vectors : 1; /* CALLOUT: touches vector state, which must be home */
    u16 mnemonic;     /* ZydisMnemonic: the reason in the statistics */
    s32 stack;        /* SITE_EXIT: by how much RSP was moved; CALLOUT: is to be */
};
/* ACCESS: a check that failed or a copy that faulted; CALLOUT: an instruction that is always
 * simulated; CROSSING: one on two pages, the second of which is not known to be as it was. */
enum site_kind { SITE_ACCESS, SITE_CALLOUT, SITE_CROSSING, SITE_POLL, SITE_EXIT };

enum string_kind {
    STRING_NONE, /* no string instruction, or one that is the simulator's alone */
    STRING_MOVS,
    STRING_STOS,
    STRING_CMPS_E, /* while equal */
    STRING_CMPS_NE,
    STRING_SCAS_E,
    STRING_SCAS_NE
};

/* What is known of a guest instruction whose checks fail often (adapt.c). */
struct adapted {
    const u8 *code; /* hva of its first byte */
    u16 slow;       /* slow accesses since it was entered, or was plain again */
    u16 fills;      /* of an adapted one: fills since the last slow access */
    u8 patience;    /* slow accesses before it is adapted, as a shift; more each time */
    bool on;
};
#define ADAPTED 1024 /* slots of the table, a power of two */

#define MAX_DECODED    (1u << 18)
#define MAX_TUS        (1u << 19)
#define MAX_LINKS      (1u << 20)
#define MAX_CELLS      (1u << 18)
#define MAX_SITES      (1u << 22)
#define TU_SLOT_BITS   19
#define TU_SLOTS       (1u << TU_SLOT_BITS)
#define PAGE_CHAINS    (1u << 14)
#define CELL_SLOTS     (1u << 16)
#define INDIRECT_BITS  16 /* what MOVZX takes */
#define INDIRECT_SLOTS (1u << INDIRECT_BITS)
#define SECOND_BITS    14
#define SECOND_SLOTS   (1u << SECOND_BITS)
#define CACHE_SIZE     (128 * MiB) /* at most */
#define GENERATIONS    8           /* of TUs: when all is full, the oldest goes */
#define POINTERS       8           /* host addresses that a TU keeps at a time */
#define CUTS           64          /* breakpoints.c: the four that are set and earlier ones */

/*
 * Where the guest's vector and x87 state is. SAVED: in cpu.fpu, for C code, while the x87
 * registers are still the guest's; which of the other components are in their initial state is
 * known, and put back as such: XSAVE and its kind tell the guest (SDM vol. 1, 13.6).
 */
enum vectors_place {
    VECTORS_IN_PLACE,   /* in the registers */
    VECTORS_HOME,       /* in cpu.fpu, for who may change it */
    VECTORS_SAVED_ZERO, /* SSE and AVX are initial */
    VECTORS_SAVED_SSE,  /* AVX is */
    VECTORS_SAVED,
};

/* -- What translated code reaches through GS ----------------------------------------------- */

struct bt_hot {
    u64 *poll; /* read twice removed at each loop: bt_kick makes it point nowhere */
    u64 flags; /* saved arithmetic flags: AL = OF, AH = the rest as LAHF has them */
    u64 spill[2];
    u64 pointer[POINTERS];
    u64 host_rsp;  /* the monitor's stack while in the guest */
    u64 resume;    /* where the return stub jumps */
    u64 address;   /* what r10 holds on the way back */
    u64 argument;  /* r11 of the callout in progress */
    u64 exit_site; /* the indirect branch taken last: it may turn out to fault */
    u8 bounce[128] __attribute__((aligned(64))); /* bounce.c; aligned as the operand is */
    u64 replaced;                                /* what was where an indirect call pushed */
    u64 *cut[CUTS]; /* each as `poll`, for the TU that begins there (breakpoints.c) */
    u64 *poll_trap; /* an unmapped page */
    u64 poll_word;
    u8 vectors;   /* enum vectors_place */
    bool returns; /* bt_watch.returns */
    u32 calls;    /* bt_watch.calls */
    u64 callouts; /* stubs.c counts */
    u64 checks;   /* TLB checks, if bt->counts */
    const void *cell[MAX_CELLS];
    const void *indirect[MODE_TABLES][INDIRECT_SLOTS];
    /* A second look for 64-bit code, by another hash, where the first finds another target. */
    struct second {
        u64 rip;
        const void *entry; /* entry_saved; stubs.exit_indirect: none */
    } second[TLB_SETS][SECOND_SLOTS];
};

/* The generated sequences (stubs.c), executable addresses. */
struct stubs {
    void (*enter)(void); /* from C into the guest at hot->resume, until a callout
                          * answers NULL */
    /* Callouts by where the arithmetic flags are: [0] in the host's, [1] in bt->flags. */
    const void *exit_link[2]; /* r11 = link */
    const void *exit_cell[2]; /* r11 = cell */
    const void *access;      /* r11 = site, r10 = linear address; flags saved: a check failed */
    const void *simulate[2]; /* r11 = site: the simulator runs its instruction */
    const void *stop[2];     /* r11 = site: look for attention before its instruction */
    const void *exit_indirect;    /* r10 = target; flags saved */
    const void *second[TLB_SETS]; /* the same, after a look into that table */
    /* These do what they can and leave the rest to `simulate`; r11 = site, flags saved. */
    const void *store; /* r10 = linear address; the value is in hot->bounce */
    const void *string;
    const void *pause;
    const void *verw;    /* r10 = selector */
    const void *segment; /* r10 = selector, for the register that the site names */
    const void *iretq, *iretd, *interrupt, *syscall;
};

/* Places that are filled, and a filter of their pages for INVLPG. */
#define SECOND_PLACES (MAX_CELLS + (MODE_TABLES << INDIRECT_BITS)) /* the first of them */
#define LIVE_PLACES   (SECOND_PLACES + (TLB_SETS << SECOND_BITS))
#define LIVE_FILTER   256
struct live {
    u32 *place;
    u32 n;
    u64 pages[LIVE_FILTER];
};

/* Callouts are counted by ZydisMnemonic. */
#define BT_REASONS (ZYDIS_MNEMONIC_MAX_VALUE + 1)

struct bt {
    struct vcpu *vcpu;
    struct bt_hot *hot;
    struct stubs stubs;
    struct trap trap;
    struct guest_decoder decoder;
    struct x86_ops ops; /* access_ops, but links are forgotten with translations */
    enum engine_exit exit;
    struct bt_watch *watch; /* may be NULL */

    /* cache.c */
    struct code_memory memory;
    u32 used; /* bytes of it, from below: translations */
    u32 cold; /* where their cold parts begin, which grow down from its end */
    u32 stubs_end;
    struct tu *tus;
    struct link *links;
    struct cell *cells;
    struct site *sites;
    struct x86_insn *decoded;
    /* Where the present generation's next ones go; but n_cells, which is for all. */
    u32 n_decoded, n_tus, n_links, n_cells, n_sites;
    u32 generation;      /* the present one */
    u32 generation_size; /* bytes of code */
    struct {
        u32 tus, links, sites; /* behind the last one; 0: empty, or the present one */
    } closed[GENERATIONS];
    u64 epoch; /* counts what made numbers and addresses of TUs invalid */
    u32 tu_slot[TU_SLOTS], page_chain[PAGE_CHAINS], cell_slot[CELL_SLOTS];

    /* link.c: what depends on address translations, so that forgetting costs what was filled */
    struct live live[2]; /* [0] goes with CR3, [1] is global */
    u32 *live_page;      /* of each place: the page of what is there (linear, low bits) */
    u8 *live_in;         /* of each place: bit i: live[i] has it */
    u32 indirect_mode[MODE_TABLES]; /* of the TUs in each; 0: never used */
    u32 indirect_entered;           /* the mode of 64-bit code entered last by dispatch */
    u32 code_limit[CODE_LIMITS], n_code_limits;

    /* precise.c: while C code has the guest's state */
    u16 stale;          /* arithmetic flags in cpu.rflags that may not be the guest's */
    const u8 *producer; /* hva of the instruction that makes them again, or NULL */

    /* breakpoints.c: linear addresses; which are enabled breakpoints; the one replaced last */
    u64 cut[CUTS], cuts_set;
    unsigned n_cuts, next_cut;

    struct adapted adapted[ADAPTED]; /* by a hash of `code` */
    struct {
        u64 began, last; /* PAUSEs of one wait, by the TSC */
    } pause;
    struct {
        struct gfn frame;
        u64 lines; /* 0: there is nothing to be told */
    } untold;

    bool counts; /* translations count their checks (ENGINE_COUNTS) */
    struct {
        u64 tus[3]; /* of 16-, 32-, 64-bit code */
        u64 insns, guest_bytes, host_bytes;
        /* Of the host's TSC in translate(), and for how many instructions: without those TUs
         * in which the processor was given away. */
        u64 cycles, timed;
        struct {
            u64 tsc, ns;
        } began;
        u64 flushes, evictions, page_drops, line_drops, tus_dropped, steps;
        u64 bounced_loads, bounced_stores, adapted, unadapted, yields, host_faults;
        u64 flags_recovered, flags_settled, flags_unknown;
        /* Callouts: each is counted in one of these. */
        u64 link_misses, cell_misses, indirect_misses, fills, two_pages, beside_code,
            slow_accesses, careful, page_crossing, stops;
        u64 simulated[BT_REASONS], quick[BT_REASONS]; /* by instruction */
    } stats;
};

/* A set of arithmetic flags in a byte: OF takes the place of a bit that is always set. */
static inline u8 flags_pack(u16 flags)
{
    return (u8)((flags & FLAGS_STATUS & 0xff) | (flags & FLAG_OF ? 2 : 0));
}
static inline u16 flags_unpack(u8 packed)
{
    return (u16)((packed & FLAGS_STATUS) | (packed & 2 ? FLAG_OF : 0));
}

static inline struct bt *bt_of(struct vcpu *vcpu)
{
    return vcpu->engine_state;
}
/* Is no TU to reach another one without the watch being asked? */
static inline bool bt_watched_everywhere(const struct bt *bt)
{
    return unlikely(bt->watch) && bt->watch->everywhere;
}
static inline struct x86_cpu *bt_cpu(struct bt *bt)
{
    return &bt->vcpu->cpu;
}
/* A field of the vCPU or of bt->hot as translated code addresses it. */
/* Anything to attend to, also what waits for IF. */
static inline bool bt_attention(const struct bt *bt)
{
    return unlikely(atomic_load_explicit(&bt->vcpu->cpu.attention, memory_order_relaxed));
}
/* cpu.rflags := complete, from what a stub stored; and the other way round. */
static inline void bt_flags_take(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    u64 flags = bt->hot->flags >> 8 & (FLAGS_STATUS & 0xff);
    c->rflags = (c->rflags & ~FLAGS_STATUS) | flags | (bt->hot->flags & 1 ? FLAG_OF : 0);
}
static inline void bt_flags_give(struct bt *bt)
{
    u64 flags = bt_cpu(bt)->rflags;
    bt->hot->flags = (flags & 0xff) << 8 | (flags & FLAG_OF ? 1 : 0);
}
static inline struct host_mem bt_mem(const struct bt *bt, const volatile void *field)
{
    return mem_gs((const u8 *)field - (const u8 *)&bt->vcpu->cpu);
}
/* For struct emit: the GS base, if the whole code cache is near. */
static inline u64 bt_gs(const struct bt *bt)
{
    u64 gs = (u64)&bt->vcpu->cpu, code = (u64)bt->memory.exec;
    return (gs < code ? code - gs : gs - code) < GiB ? gs : 0;
}
static inline const void *bt_exec(const struct bt *bt, u32 offset)
{
    return bt->memory.exec + offset;
}
static inline u32 bt_offset(const struct bt *bt, const void *exec)
{
    return (u32)((const u8 *)exec - bt->memory.exec);
}

/* Is it an executable address in the code cache? */
static inline bool bt_is_code(const struct bt *bt, u64 address)
{
    return address - (u64)bt->memory.exec < CACHE_SIZE;
}

static inline bool bt_canonical(u64 rip)
{
    return (u64)((s64)(rip << 16) >> 16) == rip;
}

/* What of a TU's mode the guest's state decides. */
static inline u32 mode_of_guest(u32 mode)
{
    return mode & ~(u32)MODE_CAREFUL;
}

/* The present mode of the guest, or MODE_NONE. */
u32 bt_mode(const struct x86_cpu *c);

static inline unsigned mode_code_size(u32 mode)
{
    return 8 >> ((mode & MODE_SIZE_MASK) >> 2);
}
static inline bool mode_is_64bit(u32 mode)
{
    return !(mode & MODE_SIZE_MASK);
}
static inline unsigned mode_stack_size(u32 mode)
{
    return mode_is_64bit(mode) ? 8 : mode & MODE_STACK16 ? 2 : 4;
}

/*
 * Where code is, in one word: RIP in 64-bit mode, else EIP with the base of CS above it. So the
 * same bytes have a translation for each base, and nothing else needs to know of bases.
 */
static inline u64 bt_place(const struct x86_cpu *c)
{
    return c->code_size == 8 ? c->rip : c->seg[SEG_CS].base << 32 | (u32)c->rip;
}
static inline u64 place_rip(u32 mode, u64 place)
{
    return mode_is_64bit(mode) ? place : (u32)place;
}
static inline u64 place_linear(u32 mode, u64 place)
{
    return mode_is_64bit(mode) ? place : (u32)(place + (place >> 32));
}
/* The linear address of the page behind that of `place`. */
static inline u64 place_next_page(u32 mode, u64 place)
{
    u64 page = (place_linear(mode, place) & PAGE_MASK) + PAGE_SIZE;
    return mode_is_64bit(mode) ? page : (u32)page;
}
/* RIP within the code segment of `place`, as a place. */
static inline u64 place_beside(u32 mode, u64 place, u64 rip)
{
    return mode_is_64bit(mode) ? rip : (place & ~(u64)UINT32_MAX) | (u32)rip;
}

/* Can RIP be `rip`? As in 64-bit code an address that is not canonical, one beyond the limit of
 * CS makes the branch to it fault (#GP). */
static inline bool bt_may_jump(const struct bt *bt, u32 mode, u64 rip)
{
    return mode_is_64bit(mode) ? bt_canonical(rip) : rip <= bt->code_limit[MODE_LIMIT_OF(mode)];
}

/* -- stubs.c */
bool stubs_make(struct bt *bt);

/* -- cache.c */
bool cache_create(struct bt *bt, struct error *err);
void cache_destroy(struct bt *bt);
void cache_flush(struct bt *bt);
/* Makes room for a TU, by evicting the oldest generation if there is no empty one. */
void cache_make_room(struct bt *bt);
/* The first number of a generation in a table of `max`, and the one behind the present
 * generation's last. */
static inline u32 cache_first(u32 generation, u32 max)
{
    return generation ? generation * (max / GENERATIONS) : 1;
}
static inline u32 cache_end(const struct bt *bt, u32 max)
{
    return (bt->generation + 1) * (max / GENERATIONS);
}
struct tu *cache_find(struct bt *bt, const u8 *code, u64 rip, u32 mode);
/* Enters the TU just made (the table's last). */
void cache_add(struct bt *bt, struct tu *tu);
/* The TU dies: it will not be entered again. */
void cache_drop(struct bt *bt, struct tu *tu);
/* The TUs die that depend on those lines of the page at `hva`. */
void cache_drop_lines(struct bt *bt, const u8 *hva, u64 lines);
/* The TUs die that depend on the code at linear address `la`, in whatever page, and those that
 * begin at `cut`, if it is not 0. */
void cache_drop_cut(struct bt *bt, u64 la, unsigned cut);

/* -- translate.c: NULL: nothing translatable in this page from here (the instruction crosses
 * the page), or no room left (*full). */
struct tu *translate(struct bt *bt, struct gfn frame, const u8 *code, u64 rip, u32 mode,
                     bool *full);

/* -- link.c */
void link_set(struct bt *bt, struct link *link, struct tu *to);
/* Failed checks of the site go straight to `to`. */
void link_guard(struct bt *bt, const struct site *site, struct tu *to);
void link_drop_incoming(struct bt *bt, struct tu *tu);
/* Forgets the links whose jumps lie in that part of the cache. */
void link_drop_outgoing(struct bt *bt, u32 start, u32 end);
/* The number of the cell for this target, made when new; 0: the table is full. */
u32 cell_get(struct bt *bt, u64 rip, u32 mode, bool saved);
void cell_set(struct bt *bt, u32 cell, const struct tu *tu, bool global);
void indirect_set(struct bt *bt, const struct tu *tu, bool global);
/* Before translations of `mode` are entered from C code: makes the table of each set hold only
 * what translated code may reach from there. */
void indirect_enter_mode(struct bt *bt, u32 mode);
/* Forgets what depends on address translations: those that go with CR3, or all. */
void links_forget(struct bt *bt, bool global_too);

/* INVLPG: forgets what the page of 2^shift bytes has. */
void links_forget_page(struct bt *bt, struct gva la, unsigned shift);

/* -- dispatch.c: where to go on, an executable address, or NULL: leave, bt->exit says why.
 * Called by the stubs on the monitor's stack; vector state is still the guest's. */
const void *dispatch(struct bt *bt);
const void *dispatch_link(struct bt *bt, u64 link);
const void *dispatch_cell(struct bt *bt, u64 cell);
const void *dispatch_indirect(struct bt *bt, u64 unused, u64 target);
const void *dispatch_access(struct bt *bt, u64 site, u64 la);
const void *dispatch_store(struct bt *bt, u64 site, u64 la);
const void *dispatch_simulate(struct bt *bt, u64 site);
const void *dispatch_stop(struct bt *bt, u64 site);

/*
 * -- quick.c: the same for the frequent cases: what the stub's registers hold, and where to go
 * on with flags saved and r10 = hot->address; NULL: the dispatch function decides, nothing was
 * changed (a string operation may have advanced). RBX, RBP and R12 to R15 are not in cpu.gpr,
 * cpu.rip and the arithmetic flags of cpu.rflags are stale, and nothing may be called that
 * raises or leaves the guest's vector state.
 */
const void *quick_link(struct bt *bt, u64 link);
const void *quick_cell(struct bt *bt, u64 cell);
const void *quick_indirect(struct bt *bt, u64 unused, u64 target);
const void *quick_access(struct bt *bt, u64 site, u64 la);
const void *quick_store(struct bt *bt, u64 site, u64 la);
const void *quick_string(struct bt *bt, u64 site);
const void *quick_pause(struct bt *bt, u64 site);
const void *quick_verw(struct bt *bt, u64 site, u64 selector);
const void *quick_segment(struct bt *bt, u64 site, u64 selector);
/* quick_gate.c */
const void *quick_iretq(struct bt *bt, u64 site);
const void *quick_iretd(struct bt *bt, u64 site);
const void *quick_int(struct bt *bt, u64 site);
const void *quick_syscall(struct bt *bt, u64 site);

/* What they share: a callout that stayed a quick one goes on behind its instruction. */
const void *quick_done(struct bt *bt, const struct site *site);
/* `size` bytes of a system structure at `la`; NULL: the access faults, or
 * needs more. */
void *quick_system(struct bt *bt, u64 la, unsigned size, enum x86_access access);
/* A descriptor of the GDT. */
bool quick_descriptor(struct bt *bt, u16 sel, u64 *low);

/* Sends the guest's vector state to cpu.fpu, if it is in the registers, and gives C code its
 * own. C code does not use x87 registers, so they may stay the guest's: vectors_save() and the
 * way back from it take a quarter of what vectors_home() takes, which is for those who run x87
 * instructions, change cpu.fpu or leave the engine. */
void vectors_save(struct bt *bt);
void vectors_home(struct bt *bt);

/* Enters the page of `la` into the TLB for the present CPL; false: the access faults, or needs
 * more than RAM. Logs make all accesses slow, so that nothing is missed. */
bool bt_fill(struct bt *bt, struct gva la, enum x86_access access);
bool bt_fill_set(struct bt *bt, unsigned set, struct gva la, enum x86_access access);

/* Does the log want what the fast ways past C code would leave out? The listing of TUs does
 * not. */
static inline bool bt_logged(const struct bt *bt)
{
    return bt->vcpu->cpu.log->mask & ~(1u << LOG_IN_ASM | 1u << LOG_OUT_ASM);
}

/* -- bounce.c */
/* Where the byte at `la` is, if it is RAM and the access is allowed; else NULL. */
void *bounce_host(struct bt *bt, u64 la, bool write);
/* The load of a site whose operand lies on two pages: on behind its check with the operand in
 * hot->bounce. NULL: the simulator must look at it. */
const void *bounce_load(struct bt *bt, const struct site *site, u64 la);
/* hot->bounce to the two pages of an adapted store; false: nothing was stored. */
bool bounce_store(struct bt *bt, const struct site *site, u64 la);
/* The same to one watched page, beside the code in it; false: bt->untold says whether it was
 * stored all the same, and of which lines the engines must be told. */
bool bounce_store_beside_code(struct bt *bt, const struct site *site, u64 la);
/* hot->bounce as the operand at `la` is to lie in it. */
static inline u8 *bounce_at(struct bt *bt, u64 la)
{
    return bt->hot->bounce + (la & 63);
}
/* Where the check of `site` at `la` goes on with the operand in hot->bounce; hot->address is
 * set. */
u32 bounce_enter(struct bt *bt, const struct site *site, u64 la);

/* -- breakpoints.c */
/* Number + 1 of the cut at a linear address, or 0. */
unsigned breakpoint_cut(const struct bt *bt, u64 la);
/* Is an instruction breakpoint enabled there? */
bool breakpoint_is_set(const struct bt *bt, u64 la);
/* The debug registers may have changed. */
void breakpoints_update(struct bt *bt);

/* -- adapt.c */
/* Is the instruction at `code` to be translated for leaving the fast path? */
bool adapt_wanted(const struct bt *bt, const u8 *code);
/* The plain store of `site` was a slow one: when that is usual, its TU dies, to be made anew
 * for it. */
void adapt_slow(struct bt *bt, const struct site *site);
/* The check of an adapted site failed for want of a TLB entry only: when that is usual,
 * back. */
void adapt_filled(struct bt *bt, const struct site *site);

/* -- string.c: runs the site's string instruction as far as it goes without the simulator;
 * true: to its end. */
bool string_run(struct bt *bt, const struct site *site);

/* -- ops.c: the x86_ops of a vCPU under bt */
void ops_make(struct x86_ops *ops);

/*
 * -- precise.c: translations do not keep arithmetic flags that the code ahead overwrites before
 * it reads them. The guest can see them all the same, in the image that an exception or an
 * interrupt pushes.
 */
/* Flags that may be stale, of the state at a site. */
void flags_note(struct bt *bt, const struct site *site);
/* An exception is about to be delivered: makes the flags the guest's, if that can be done. */
void flags_expose(struct bt *bt);
/* Nothing was delivered yet: lets the guest go on to where its flags are known. */
void flags_settle(struct bt *bt);
/* Can flags_expose() make the flags again that this instruction has set? */
bool flags_reproducible(const struct guest_insn *g);

/* -- counters.c */
unsigned bt_counters(struct vcpu *vcpu, struct engine_counter *counters, unsigned max);

/* -- fault.c */
/* FIP is in the code cache: the guest's pointers to its last x87 instruction instead, as far as
 * they are known. Of its operand and opcode they are not, nor when the TU is gone: zero. */
void fault_x87_pointers(struct bt *bt, struct x86_fpu *fpu);
bool fault_handle(struct trap *trap, int signal, siginfo_t *info, ucontext_t *context);
