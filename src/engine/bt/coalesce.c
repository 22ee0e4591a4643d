/*
 * Accesses of one TU that share a check. Accesses whose addresses differ by constants (the
 * fields of a struct, a stack frame, pushes in a row) form a group: the first of them checks
 * that all bytes of the group lie in one page that the guest may access, and keeps the host
 * address; the others use that. The registers that make up an address are followed through
 * additions of constants.
 *
 * A check that holds promises that no access of its group faults, so faults stay precise. One
 * that does not hold says nothing: then the TU's careful twin runs (dispatch.c), which checks
 * each access for itself. What the host address stands for cannot change before the TU is left:
 * only C code changes it, and no group reaches over a callout that comes back into the TU.
 */
#include "engine/bt/translate.h"

#include <string.h>

/* Bytes that one check may cover: the more, the likelier a page's end lies among them. */
#define MAX_SPAN 512
/* Displacements beyond are left alone, so that sums stay in 32 bits. */
#define MAX_DISP (1 << 30)

/* What a register holds: an unknown value by number, and what was added to it since. */
struct value {
    u16 number;
    s64 added;
};

struct scan {
    struct translation *t;
    struct value reg[16];
    u16 numbers;    /* given so far */
    unsigned open;  /* groups from here on may still grow */
    unsigned exits; /* conditional ones so far */
    unsigned slots; /* given so far */
    unsigned width; /* of registers that hold addresses */
};

static void renew(struct scan *s, unsigned reg)
{
    s->reg[reg] = (struct value){.number = ++s->numbers};
}

static void renew_set(struct scan *s, u16 regs)
{
    for (; regs; regs &= (u16)(regs - 1))
        renew(s, (unsigned)__builtin_ctz(regs));
}

/* -- Groups -------------------------------------------------------------------------------- */

static bool same_key(const struct group *a, const struct group *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale &&
           a->seg == b->seg && a->adsize == b->adsize && a->constant == b->constant;
}

/* May the access `with`, a group of its own so far, join `group`? A write does not join reads
 * from behind an exit: where it is never reached the page may well be read-only. */
static bool may_join(const struct scan *s, const struct group *group, const struct group *with)
{
    if (!same_key(group, with) || (with->write && !group->write && group->exits != s->exits))
        return false;
    if (group->constant)
        return ((u64)group->low & PAGE_MASK) == ((u64)with->low & PAGE_MASK);
    s64 low = group->low < with->low ? group->low : with->low;
    s64 high = group->high > with->high ? group->high : with->high;
    return high - low <= MAX_SPAN;
}

static void join(struct group *group, const struct group *with)
{
    if (with->low < group->low)
        group->low = with->low;
    if (with->high > group->high)
        group->high = with->high;
    group->write |= with->write;
    group->last = with->last;
    group->members++;
}

/* Notes the access `which` of the instruction `i`, which has the key, bytes and direction of
 * `one`. */
static void note(struct scan *s, unsigned i, enum access_index which, struct group one)
{
    struct translation *t = s->t;
    struct access *access = &t->access[i][which];
    one.first = one.last = one.owner = (u8)i;
    one.members = 1;
    one.exits = s->exits;
    access->offset = one.low;
    for (unsigned n = s->open; n < t->n_groups; n++) {
        if (may_join(s, &t->group[n], &one)) {
            join(&t->group[n], &one);
            access->group = (u8)(n + 1);
            return;
        }
    }
    if (t->n_groups == TU_GROUPS)
        return;
    t->group[t->n_groups++] = one;
    access->group = (u8)t->n_groups;
}

/* -- The accesses of an instruction -------------------------------------------------------- */

/* Accesses through segments that are checked, and 16-bit addresses, are left alone. */
static void note_operand(struct scan *s, unsigned i, unsigned size, bool write)
{
    const struct guest_insn *g = &s->t->insn[i];
    struct group one = {.scale = g->scale, .seg = g->seg, .adsize = g->adsize, .write = write};
    s->t->access[i][ACCESS_OPERAND].made = true;
    if (g->adapted || g->disp > MAX_DISP || g->disp < -MAX_DISP || g->adsize == 2 ||
        segment_is_checked(s->t->tu->mode, g->seg))
        return;
    one.seg = g->seg == SEG_FS || g->seg == SEG_GS ? g->seg : SEG_DS;
    if (operand_is_constant(g)) {
        u64 address = operand_constant(g);
        one.constant = true;
        one.low = (s64)address;
        if (page_left(address) < size)
            return;
    } else {
        /* A RIP-relative one in a segment with a base: RIP is another at each instruction. */
        one.low = g->base == BASE_RIP ? (s64)operand_constant(g) : g->disp;
        if (g->base < 16) {
            one.base = s->reg[g->base].number;
            one.low += s->reg[g->base].added;
        }
        if (g->index < 16) {
            one.index = s->reg[g->index].number;
            one.low += s->reg[g->index].added * (1 << g->scale);
        } else {
            one.scale = 0;
        }
        /* Compilers write a sum of two registers either way. */
        if (!one.scale && one.index > one.base) {
            u16 index = one.index;
            one.index = one.base;
            one.base = index;
        }
    }
    one.high = one.low + size;
    note(s, i, ACCESS_OPERAND, one);
}

static void note_stack(struct scan *s, unsigned i, unsigned reg, s64 disp, bool write)
{
    u32 mode = s->t->tu->mode;
    s64 low = s->reg[reg].added + disp;
    s->t->access[i][ACCESS_STACK].made = true;
    if (mode_stack_size(mode) == 2 || segment_is_checked(mode, SEG_SS))
        return;
    note(s, i, ACCESS_STACK,
         (struct group){.base = s->reg[reg].number,
                        .seg = SEG_DS,
                        .adsize = (u8)mode_stack_size(mode),
                        .low = low,
                        .high = low + s->t->insn[i].opsize,
                        .write = write});
}

static void note_accesses(struct scan *s, unsigned i)
{
    const struct guest_insn *g = &s->t->insn[i];
    switch (g->kind) {
    case GUEST_COPY:
        if (g->memory)
            note_operand(s, i, g->mem_size, g->mem_write);
        break;
    case GUEST_PUSH:
    case GUEST_CALL_TO:
        if (g->memory)
            note_operand(s, i, g->opsize, false);
        note_stack(s, i, RSP, -(s64)g->opsize, true);
        break;
    case GUEST_JUMP_TO:
        if (g->memory)
            note_operand(s, i, g->opsize, false);
        break;
    case GUEST_CALL:
        note_stack(s, i, RSP, -(s64)g->opsize, true);
        break;
    case GUEST_POP:
        if (g->memory)
            note_operand(s, i, g->opsize, true);
        note_stack(s, i, RSP, 0, false);
        break;
    case GUEST_RETURN:
        note_stack(s, i, RSP, 0, false);
        break;
    case GUEST_LEAVE:
        note_stack(s, i, RBP, 0, false);
        break;
    }
}

/* -- What registers hold afterwards -------------------------------------------------------- */

/* ADD, SUB, INC and DEC of a whole register by a constant. */
static bool adds_constant(const struct guest_insn *g, s64 *added)
{
    const u8 *tail = g->bytes + g->tail;
    unsigned extension = g->bytes[g->modrm] >> 3 & 7;
    s32 wide;
    switch (g->bytes[g->opcode]) {
    case 0x83:
        *added = (s8)tail[0];
        break;
    case 0x81:
        __builtin_memcpy(&wide, tail, 4);
        *added = wide;
        break;
    case 0xff:
        *added = extension ? -1 : 1;
        return extension < 2;
    default:
        return false;
    }
    if (extension == 5)
        *added = -*added;
    return extension == 0 || extension == 5;
}

static void follow_copy(struct scan *s, const struct guest_insn *g)
{
    u8 op = g->bytes[g->opcode];
    s64 added;
    if (g->vex || g->unit || !g->modrm || g->opsize != s->width || g->memory) {
        renew_set(s, g->regs_written);
    } else if (op == 0x8d && g->adsize == s->width && g->base < 16 && g->index >= 16) {
        s->reg[guest_reg(g)] =
            (struct value){s->reg[g->base].number, s->reg[g->base].added + g->disp};
    } else if (op == 0x89) {
        s->reg[guest_rm(g)] = s->reg[guest_reg(g)];
    } else if (op == 0x8b) {
        s->reg[guest_reg(g)] = s->reg[guest_rm(g)];
    } else if (adds_constant(g, &added)) {
        s->reg[guest_rm(g)].added += added;
    } else {
        renew_set(s, g->regs_written);
    }
}

static void follow(struct scan *s, unsigned i)
{
    const struct guest_insn *g = &s->t->insn[i];
    switch (g->kind) {
    case GUEST_COPY:
        follow_copy(s, g);
        break;
    case GUEST_PUSH:
        s->reg[RSP].added -= g->opsize;
        break;
    case GUEST_POP:
        s->reg[RSP].added += g->opsize;
        renew_set(s, g->regs_written & (u16)~BIT(RSP));
        if (names_rsp(g))
            renew(s, RSP);
        break;
    case GUEST_LEAVE:
        s->reg[RSP] = s->reg[RBP];
        s->reg[RSP].added += g->opsize;
        renew(s, RBP);
        break;
    case GUEST_SKIP:
    case GUEST_JUMP:
        break;
    case GUEST_JUMP_IF:
        s->exits++;
        break;
    case GUEST_ADDRESS:
    case GUEST_BIT:
        renew_set(s, g->regs_written);
        break;
    default: /* callouts: the monitor may change what addresses stand for */
        renew_set(s, UINT16_MAX);
        s->open = s->t->n_groups;
    }
}

/* -- Where the host addresses are kept ----------------------------------------------------- */

bool keeps_r10(const struct guest_insn *g)
{
    switch (g->kind) {
    case GUEST_SKIP:
    case GUEST_JUMP:
    case GUEST_JUMP_IF:
        return true;
    case GUEST_PUSH:
    case GUEST_POP:
        if (g->memory)
            return false;
        break;
    case GUEST_COPY:
        break;
    default:
        return false;
    }
    return !((g->regs_read | g->regs_written) >> R10 & 1);
}

/* Is the group's address wanted again after something else was in r10? */
static bool is_lost(const struct translation *t, unsigned group)
{
    const struct group *g = &t->group[group];
    for (unsigned i = g->first; i <= g->last; i++) {
        const struct access *access = t->access[i];
        if (!keeps_r10(&t->insn[i]))
            return true;
        for (unsigned which = 0; which < 2; which++) {
            if (access[which].made && access[which].group != group + 1)
                return true;
        }
    }
    return false;
}

/* May a check for the operand of `to` stand before `g`? */
static bool lets_check_pass(const struct guest_insn *g, const struct guest_insn *to)
{
    u32 address = (to->base < 16 ? 1u << to->base : 0) | (to->index < 16 ? 1u << to->index : 0);
    return g->kind == GUEST_COPY && !g->memory && !g->faults && keeps_r10(g) &&
           !(g->regs_written & address);
}

static bool is_taken(const struct translation *t, unsigned i)
{
    for (unsigned n = 0; n < t->n_groups; n++) {
        if (t->group[n].hoisted && t->group[n].first == i)
            return true;
    }
    return false;
}

/*
 * Where flags are needed beyond the first access (a compare, a load, a branch), its check goes
 * before the instruction that sets them: so they need not be saved. When it fails the careful
 * TU begins there.
 */
static void hoist(struct translation *t, unsigned number)
{
    struct group *group = &t->group[number];
    unsigned owner = group->owner;
    const struct guest_insn *to = &t->insn[owner];
    if (!t->live[owner] || to->kind != GUEST_COPY ||
        t->access[owner][ACCESS_OPERAND].group != number + 1)
        return;
    for (unsigned i = owner; i && owner - i < 4;) {
        if (!lets_check_pass(&t->insn[--i], to))
            return;
        if (!t->live[i]) {
            group->hoisted = !is_taken(t, i);
            group->first = group->hoisted ? (u8)i : group->first;
            return;
        }
    }
}

static void give_slots(struct scan *s)
{
    struct translation *t = s->t;
    for (unsigned n = 0; n < t->n_groups; n++) {
        struct group *group = &t->group[n];
        hoist(t, n);
        if (group->members > 1 && s->slots < POINTERS && is_lost(t, n))
            group->slot = (u8)++s->slots;
    }
}

void coalesce(struct translation *t)
{
    struct scan s = {.t = t, .width = mode_is_64bit(t->tu->mode) ? 8 : 4};
    t->n_groups = 0;
    memset(t->checked, 0, sizeof(t->checked));
    memset(t->access, 0, sizeof(t->access[0]) * t->n);
    if (t->tu->mode & MODE_CAREFUL)
        return;
    renew_set(&s, UINT16_MAX);
    for (unsigned i = 0; i < t->n; i++) {
        note_accesses(&s, i);
        follow(&s, i);
    }
    give_slots(&s);
}

bool coalesce_reaches_over(const struct translation *t)
{
    for (unsigned n = 0; n < t->n_groups; n++) {
        const struct group *group = &t->group[n];
        if ((group->members > 1 || group->hoisted) && group->first <= t->now &&
            t->now < group->last)
            return true;
    }
    return false;
}
