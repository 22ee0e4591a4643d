/*
 * What the parts of the translator share while they make one TU: the guest instructions, the
 * host code so far, and where the arithmetic flags are at this point of it.
 */
#pragma once

#include "engine/bt/bt.h"
#include "engine/bt/rewrite.h"

#define TU_INSNS 48
#define TU_COLD  (6 * TU_INSNS + 64)
/* Branches in one TU, beside its last: followed ones, and all with those of unrolled loops. */
#define TU_BRANCHES 6
#define TU_EXITS    24
#define TU_TARGETS  16

/* Where the guest's arithmetic flags are. BOTH: the saved copy is valid too. SAVED: only there,
 * if they are live at all: the host's were used for something else. */
enum flags_place { FLAGS_HOST, FLAGS_BOTH, FLAGS_SAVED };

enum cold_kind { COLD_ACCESS, COLD_CONSTANT, COLD_SIMULATE, COLD_LINK, COLD_CELL };

/* Code to be put behind the TU: jumped to from `field`. */
struct cold {
    u8 *field;
    u8 kind;
    bool saved;  /* flags are in bt->flags there */
    u8 store;    /* COLD_ACCESS, COLD_CONSTANT: the adapted store's number + 1, or 0 */
    u32 number;  /* of the site, link or cell */
    u64 address; /* COLD_CONSTANT */
};

/* The accesses that an instruction may make: of its operand, of the stack. */
enum access_index { ACCESS_OPERAND, ACCESS_STACK };

struct access {
    bool made;
    u8 group;   /* its number + 1, or 0 */
    s64 offset; /* of its first byte, as group.low counts */
};

/* Accesses that one check may serve (coalesce.c): where addresses count from, and which bytes
 * from there. */
#define TU_GROUPS (2 * TU_INSNS)
struct group {
    u16 base, index; /* values of registers, by number; 0: none */
    u8 scale, seg, adsize;
    bool constant; /* the address is known: `low` and `high` are addresses */
    bool write;
    u8 first, last; /* instructions */
    u8 owner;       /* the instruction whose operand is checked */
    bool hoisted;   /* the check stands before `first`, which is before `owner` */
    u8 members;
    u8 slot; /* 0: none, else the host address goes to hot->pointer[slot - 1] */
    u16 exits;
    s64 low, high;
};

struct translation {
    struct bt *bt;
    struct emit e;
    struct tu *tu;
    u32 tu_number;
    u8 *page;   /* a copy of the guest page: of the lines that were looked at, each read once */
    u64 looked; /* pmap_lines */
    /* What live_at() found, by a hash of the place: unrolled loops ask again and again. */
    struct {
        u64 rip;
        u16 flags;
        bool known;
    } target[TU_TARGETS];
    struct guest_insn insn[TU_INSNS];
    u16 live[TU_INSNS + 1]; /* flags needed before each; the last: after the end */
    u32 host[TU_INSNS + 1]; /* where the code of each begins; the last: its end */
    u32 cold_start, cold_end;
    u64 next;        /* RIP behind the last instruction */
    unsigned n, now; /* instructions; the one in progress */
    unsigned branches;
    bool taken[TU_INSNS]; /* conditional branches that the TU follows when they are taken */
    enum flags_place flags;
    u16 stale;         /* arithmetic flags that may be neither here nor there */
    u8 producer;       /* number + 1 of the instruction that can make them again, or 0 */
    u16 producer_regs; /* what it takes for that */
    struct access access[TU_INSNS][2];
    struct group group[TU_GROUPS];
    unsigned n_groups;
    u32 checked[TU_GROUPS / 32 + 1]; /* groups by number + 1: their address is in its slot */
    u16 cached;    /* R10 and R11 by bit: the host's register holds the guest's */
    unsigned held; /* number + 1 of the group whose host address is in r10; 0: none */
    struct cold cold[TU_COLD];
    unsigned n_cold;
    s32 stack_by; /* what is still to be added to RSP, for the pushes and pops so far */
    bool crosses; /* its only instruction lies on two pages */
    bool ended;   /* control does not reach the code behind */
    bool polled;
};

static inline const struct guest_insn *translation_insn(const struct translation *t)
{
    return &t->insn[t->now];
}
/* Control leaves the TU with this instruction in any case. */
static inline bool translation_last(const struct translation *t)
{
    return t->now + 1 == t->n;
}
static inline u16 live_before(const struct translation *t)
{
    return t->live[t->now];
}
static inline u16 live_after(const struct translation *t)
{
    return t->live[t->now + 1];
}

/* RIP of the TU's code segment as a place, and the page offset that it stands for. */
static inline u64 place_of(const struct translation *t, u64 rip)
{
    return place_beside(t->tu->mode, t->tu->rip, rip);
}
static inline u64 linear_of(const struct translation *t, u64 rip)
{
    return place_linear(t->tu->mode, place_of(t, rip));
}
static inline bool same_page(const struct translation *t, u64 rip)
{
    u64 here = place_linear(t->tu->mode, t->tu->rip);
    return ((linear_of(t, rip) ^ here) & PAGE_MASK) == 0;
}

/* -- listing.c: the finished TU to the log, if it wants it */
void listing_print(const struct translation *t);

/* -- Flags (translate.c) */
/* Before host code that changes flags. */
void flags_clobber(struct translation *t);
/* Behind host code that has set the host's flags as the present instruction does. */
void flags_written(struct translation *t);
/* Makes the host's flags the guest's, if any of `needed` counts. */
void flags_restore(struct translation *t, u16 needed);

/* -- Guest registers r10 and r11 (translate.c) */
struct host_mem gpr_home(const struct translation *t, unsigned reg);

/* -- Sites and cold code (translate.c) */
struct site *site_here(struct translation *t, enum site_kind kind);
struct cold *cold_add(struct translation *t, u8 *field, enum cold_kind kind, u32 number,
                      bool saved);
/* A site for handing the present instruction to the simulator, decoded for it. */
struct site *callout_site(struct translation *t);
/* Up to `size` bytes of the TU's page at `offset`, from the copy. */
const u8 *translation_look(struct translation *t, unsigned offset, unsigned size);
/* A callout to the simulator for the present instruction. */
void translate_simulate(struct translation *t);

/* -- Instructions on two pages (crossing.c) */
/* Decodes the one where the TU begins, if the TLB has its second page. */
bool crossing_decode(struct translation *t, struct guest_insn *g);
/* Leaves for the simulator unless the bytes in the second page are still those. */
void crossing_check(struct translation *t);

/* -- Shared checks (coalesce.c) */
void coalesce(struct translation *t);
/* Is a host address kept over the present instruction? */
bool coalesce_reaches_over(const struct translation *t);
/* Makes the checks that are to stand before the present instruction. */
void check_hoisted(struct translation *t);
/* Does the host's r10 survive the instruction, but for its checks? */
bool keeps_r10(const struct guest_insn *g);

/* -- Memory (translate_mem.c) */
/* Is the linear address of the operand the same each time? */
bool operand_is_constant(const struct guest_insn *g);
/* The offset in its segment of an operand without registers, or with RIP alone. */
u64 operand_constant(const struct guest_insn *g);
/* Must an access through the segment be checked, and its base added? */
bool segment_is_checked(u32 mode, unsigned seg);
/* Is RSP the operand of PUSH or POP itself, beside being the stack pointer? */
bool names_rsp(const struct guest_insn *g);
/* The tag of the slot in r11. */
struct host_mem tlb_tags(const struct translation *t, bool write);
/*
 * The check of the memory operand `g` names: where its `size` bytes are, as long as r10 and
 * r11 stay, or the slow path was taken. Flags are clobbered, unless an earlier check served.
 */
struct host_mem check_operand(struct translation *t, const struct guest_insn *g, unsigned size,
                              bool write);
/* The same for [reg + disp] through SS, cut to the stack's width. */
struct host_mem check_stack(struct translation *t, unsigned reg, s32 disp, unsigned size,
                            bool write);
/* The same place without r11, which is free then. */
struct host_mem free_r11(struct translation *t, struct host_mem at);
/* Adds to the stack pointer, within the stack's width, and what was left for later; flags stay,
 * r11 is lost. */
void move_stack(struct translation *t, s32 by);
/* The same for the address in a register, cut to `adsize`. */
struct host_mem check_at(struct translation *t, unsigned seg, unsigned reg, unsigned adsize,
                         unsigned size, bool write);
void translate_copy(struct translation *t);
void translate_address(struct translation *t);
void translate_push(struct translation *t);
void translate_pop(struct translation *t);
void translate_leave(struct translation *t);

void translate_bit(struct translation *t);

/* -- Segment registers (translate_segment.c) */
void translate_from_segment(struct translation *t);
void translate_to_segment(struct translation *t);
void translate_pop_segment(struct translation *t);

/* -- String instructions (translate_string.c) */
void translate_string(struct translation *t);
/* What string.c must know of a repeated one. */
void string_site(struct site *site, const struct guest_insn *g);

/* -- Privileged and sensitive instructions (translate_system.c) */
bool system_in_line(const struct bt *bt, const struct guest_insn *g, u32 mode);
/* The same for PAUSE, which several processors have reason to use. */
bool pause_in_line(const struct bt *bt, const struct guest_insn *g);
void translate_system(struct translation *t);
/* Host instructions on a 32-bit field of the vCPU or of bt->hot. */
void system_or_mem(struct translation *t, const volatile void *field, u32 value);
void system_and_mem(struct translation *t, const volatile void *field, u32 value);
void system_test_mem(struct translation *t, const volatile void *field, u32 value);
/* The simulator takes the instruction over when the host's condition holds; flags are saved. */
void system_leave_if(struct translation *t, unsigned condition, const struct site *site);
void system_leave_if_attention(struct translation *t, const struct site *site);
/* `to` := RFLAGS without RF and VM; flags are saved. */
void system_rflags(struct translation *t, unsigned to, unsigned scratch);

/* -- FXSAVE and the XSAVE family (translate_xstate.c) */
bool xstate_in_line(const struct x86_model *model, const struct guest_insn *g, u32 mode);
void translate_xstate(struct translation *t);

/* -- Changes of mode (translate_gate.c) */
bool gate_in_line(const struct bt *bt, const struct guest_insn *g, u32 mode);
void translate_gate(struct translation *t);

/* -- Control flow (translate_flow.c) */
void translate_flow(struct translation *t);
/* In front of a TU that begins at a cut (breakpoints.c). */
void translate_cut(struct translation *t);
/* Goes on at `rip`: the end of a TU that is no branch. */
void translate_end(struct translation *t, u64 rip);
