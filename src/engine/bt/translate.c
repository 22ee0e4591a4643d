/*
 * A run of guest instructions becomes a translation unit. In this file: finding the run, the
 * life of its arithmetic flags, and the order of things; translate_mem.c and translate_flow.c
 * have the instructions that access memory and that end a TU.
 *
 * A TU lies in one guest page: a run that is left by conditional branches and goes on where
 * they are not taken, until an instruction sets RIP otherwise or may change the mode. Each
 * instruction changes guest state only after everything in it that can fault has been checked,
 * so that the simulator can run it from its beginning instead.
 */
#include "engine/bt/translate.h"

#include <string.h>
#include <x86intrin.h>

#include "base/ensure.h"
#include "engine/access.h"
#include "memory/pmap.h"

/* Host code of one TU at most; checked once, before it is made. */
#define TU_ROOM (24 * KiB)

/* -- Flags --------------------------------------------------------------------------------- */

static struct host_mem saved_flags(const struct translation *t)
{
    return bt_mem(t->bt, &t->bt->hot->flags);
}

/* For stubs that take them from bt->flags. `scratch`: a register that may be lost. */
static void flags_save(struct translation *t, unsigned scratch)
{
    if (t->flags != FLAGS_HOST)
        return;
    t->cached &= (u16)~BIT(scratch);
    emit_move(&t->e, scratch, RAX);
    emit_flags_to_ax(&t->e);
    emit_store32(&t->e, saved_flags(t), RAX);
    emit_move(&t->e, RAX, scratch);
    t->flags = FLAGS_BOTH;
}

void flags_clobber(struct translation *t)
{
    if (live_before(t))
        flags_save(t, R11);
    else if (t->flags == FLAGS_HOST)
        t->stale = FLAGS_STATUS;
    t->flags = FLAGS_SAVED;
}

void flags_written(struct translation *t)
{
    if (!translation_insn(t)->flags_write)
        return;
    /* Those that it leaves were something else's. */
    if (t->flags == FLAGS_SAVED)
        t->stale = FLAGS_STATUS;
    t->flags = FLAGS_HOST;
}

/* Does the instruction write no registers but those it is known to write? */
static bool writes_known(const struct guest_insn *g)
{
    return g->kind == GUEST_COPY || g->kind == GUEST_SKIP || g->kind == GUEST_ADDRESS ||
           g->kind == GUEST_JUMP || g->kind == GUEST_JUMP_IF;
}

/* Behind the present instruction: which flags are stale, and what could make them again. */
static void flags_follow(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    t->stale &= (u16)~g->flags_kill;
    if (g->flags_write || !writes_known(g) || (g->regs_written & t->producer_regs))
        t->producer = 0;
    if (g->flags_kill == FLAGS_STATUS && flags_reproducible(g)) {
        t->producer = (u8)(t->now + 1);
        t->producer_regs = g->regs_read | g->regs_written;
    }
}

/* How far before the present instruction the producer stands, if that can be said. */
static u8 producer_distance(const struct translation *t)
{
    if (!t->producer || !t->stale)
        return 0;
    u64 distance = translation_insn(t)->rip - t->insn[t->producer - 1].rip;
    return distance <= UINT8_MAX ? (u8)distance : 0;
}

void flags_restore(struct translation *t, u16 needed)
{
    if (!needed || t->flags != FLAGS_SAVED)
        return;
    struct host_mem spill = bt_mem(t->bt, &t->bt->hot->spill[0]);
    emit_store(&t->e, spill, RAX);
    emit_load32(&t->e, RAX, saved_flags(t));
    emit_flags_from_ax(&t->e);
    emit_load(&t->e, RAX, spill);
    t->flags = FLAGS_BOTH;
}

/* -- Liveness ------------------------------------------------------------------------------ */

#define AHEAD 8

/* Other processors may be writing there: so each line is read once, and once more at the
 * end. */
const u8 *translation_look(struct translation *t, unsigned offset, unsigned size)
{
    const u8 *now = (const u8 *)((u64)t->tu->code & PAGE_MASK);
    u64 lines = pmap_lines(offset, size) & ~t->looked;
    for (u64 left = lines; left; left &= left - 1) {
        unsigned at = (unsigned)__builtin_ctzll(left) * PMAP_LINE;
        memcpy(t->page + at, now + at, PMAP_LINE);
    }
    t->looked |= lines;
    return t->page + offset;
}

/* The instruction at `rip` of the TU's page; false: it does not end in it, or not within the
 * limit of CS. */
static bool decode_at(struct translation *t, u64 rip, struct guest_insn *g)
{
    u32 mode = t->tu->mode;
    unsigned offset = (unsigned)(linear_of(t, rip) & ~PAGE_MASK);
    u64 left = PAGE_SIZE - offset;
    if (!bt_may_jump(t->bt, mode, rip))
        return false;
    if (!mode_is_64bit(mode)) {
        u64 inside = t->bt->code_limit[MODE_LIMIT_OF(mode)] - rip + 1;
        left = inside < left ? inside : left;
    }
    left = left < GUEST_BYTES ? left : GUEST_BYTES;
    const u8 *bytes = translation_look(t, offset, (unsigned)left);
    if (!guest_decode(&t->bt->decoder, mode_code_size(mode), bytes, (unsigned)left, rip, g))
        return false;
    /* What is no instruction counts as one byte: the simulator looks at it each time. */
    t->tu->lines |= pmap_lines(offset, g->length);
    return true;
}

/* Number + 1 of the cut at `rip`, or 0. */
static unsigned cut_at(const struct translation *t, u64 rip)
{
    return likely(!t->bt->n_cuts) ? 0 : breakpoint_cut(t->bt, linear_of(t, rip));
}

/* The TU at `rip`, which lies in this page, if there is one. */
static const struct tu *tu_at(const struct translation *t, u64 rip)
{
    const u8 *page = (const u8 *)((u64)t->tu->code & PAGE_MASK);
    return cache_find(t->bt, page + (linear_of(t, rip) & ~PAGE_MASK), place_of(t, rip),
                      mode_of_guest(t->tu->mode));
}

/* Flags needed at `rip`, as far as a look at the same page tells. The page is watched, so its
 * TUs die when what was seen changes. TUs are looked for where branches lead: each look costs
 * as much as decoding an instruction, for it finds nothing in the processor's caches. */
static u16 look_ahead(struct translation *t, u64 rip)
{
    u16 need = 0, open = FLAGS_STATUS;
    bool target = true;
    for (unsigned i = 0; i < AHEAD && open; i++) {
        struct guest_insn g;
        if (!same_page(t, rip) || cut_at(t, rip))
            break;
        const struct tu *tu = target ? tu_at(t, rip) : NULL;
        if (tu) {
            t->tu->lines |= tu->lines;
            return need | (open & tu->flags_in);
        }
        if (!decode_at(t, rip, &g))
            break;
        need |= g.flags_read & open;
        open &= (u16)~g.flags_kill;
        target = g.kind == GUEST_JUMP;
        if (target)
            rip = g.imm;
        else if (guest_ends(&g))
            break;
        else
            rip = guest_next(&g);
    }
    return need | open;
}

static u16 live_at(struct translation *t, u64 rip)
{
    unsigned slot = (unsigned)(rip ^ rip >> 4) % TU_TARGETS;
    if (t->target[slot].known && t->target[slot].rip == rip)
        return t->target[slot].flags;
    u16 flags = look_ahead(t, rip);
    t->target[slot].known = true;
    t->target[slot].rip = rip;
    t->target[slot].flags = flags;
    return flags;
}

static u16 live_at_end(struct translation *t)
{
    const struct guest_insn *last = &t->insn[t->n - 1];
    u64 next = guest_next(last);
    switch (last->kind) {
    case GUEST_JUMP:
    case GUEST_CALL:
        return live_at(t, last->imm);
    case GUEST_JUMP_IF:
    case GUEST_LOOP:
        return live_at(t, last->imm) | live_at(t, next);
    case GUEST_JUMP_TO:
    case GUEST_CALL_TO:
    case GUEST_RETURN:
    case GUEST_SYSTEM:
    case GUEST_GATE:
        return FLAGS_STATUS;
    default:
        return live_at(t, next);
    }
}

static void find_live(struct translation *t)
{
    t->live[t->n] = live_at_end(t);
    for (unsigned i = t->n; i--;) {
        const struct guest_insn *g = &t->insn[i];
        u16 after = t->live[i + 1];
        if (g->kind == GUEST_JUMP_IF && i + 1 < t->n)
            after |= live_at(t, t->taken[i] ? guest_next(g) : g->imm);
        t->live[i] = guest_flags_live(g, after);
    }
    if (t->tu->cut)
        t->live[0] = FLAGS_STATUS;
}

/* -- Sites and cold code ------------------------------------------------------------------- */

struct site *site_here(struct translation *t, enum site_kind kind)
{
    const struct guest_insn *g = translation_insn(t);
    struct bt *bt = t->bt;
    struct site *site = &bt->sites[bt->n_sites++];
    *site = (struct site){
        .rip = g->rip,
        .host = bt_offset(bt, emit_here(&t->e)),
        .tu = t->tu_number,
        .length = g->length,
        .kind = (u8)kind,
        .stale = flags_pack(t->stale),
        .producer = producer_distance(t),
        .flags_saved = t->flags == FLAGS_SAVED,
        .settles = !(t->stale & ~g->flags_kill),
        .mnemonic = g->mnemonic,
        /* INVPCID copies its descriptor with libc. */
        .vectors = g->unit || g->mnemonic == ZYDIS_MNEMONIC_INVPCID,
    };
    return site;
}

struct cold *cold_add(struct translation *t, u8 *field, enum cold_kind kind, u32 number,
                      bool saved)
{
    ensure(t->n_cold < TU_COLD);
    struct cold *cold = &t->cold[t->n_cold++];
    *cold = (struct cold){.field = field, .kind = (u8)kind, .number = number, .saved = saved};
    return cold;
}

/* The value of an adapted store to hot->bounce; r10 stays. */
static void store_to_bounce(const struct translation *t, struct emit *e,
                            const struct guest_insn *g)
{
    struct host_mem address = bt_mem(t->bt, &t->bt->hot->address);
    u16 named = g->regs_read & (u16)(BIT(R10) | BIT(R11));
    unsigned freed = named ? (unsigned)__builtin_ctz(named) : NO_REG;
    emit_store(e, address, R10);
    emit_const(e, R10, (u64)t->bt->hot->bounce);
    if (named)
        emit_load(e, R11, gpr_home(t, freed));
    rewrite_memory(e, g, mem_at(R10, 0), freed, R11);
    emit_load(e, R10, address);
}

static void put_cold_one(struct translation *t, struct emit *e, const struct cold *cold)
{
    struct bt *bt = t->bt;
    const u8 *here = emit_here(e);
    emit_bind(&t->e, cold->field, here);
    if (cold->kind == COLD_ACCESS)
        emit_xor(e, R10, tlb_tags(t, bt->sites[cold->number].write));
    else if (cold->kind == COLD_CONSTANT)
        emit_const(e, R10, cold->address);
    const struct guest_insn *g = cold->store ? &t->insn[cold->store - 1] : NULL;
    if (g)
        store_to_bounce(t, e, g);
    emit_const(e, R11, cold->number);
    switch (cold->kind) {
    case COLD_ACCESS:
    case COLD_CONSTANT:
        emit_jump(e, g ? bt->stubs.store : bt->stubs.access);
        break;
    case COLD_SIMULATE:
        emit_jump(e, bt->stubs.simulate[1]);
        break;
    case COLD_LINK:
        bt->links[cold->number].stub = bt_offset(bt, here);
        emit_jump(e, bt->stubs.exit_link[cold->saved]);
        break;
    case COLD_CELL:
        emit_jump_mem(e, bt_mem(bt, &bt->hot->cell[cold->number]));
        break;
    }
}

/* The most that put_cold_one makes of one, and how much more of an adapted store. */
#define COLD_SIZE  24
#define STORE_SIZE 56

static void put_cold(struct translation *t)
{
    struct bt *bt = t->bt;
    u32 size = 0;
    for (unsigned i = 0; i < t->n_cold; i++)
        size += COLD_SIZE + (t->cold[i].store ? STORE_SIZE : 0);
    t->cold_start = bt->cold - size;
    struct emit e = {
        .at = bt->memory.write + t->cold_start,
        .end = bt->memory.write + bt->cold,
        .to_exec = t->e.to_exec,
        .gs = t->e.gs,
    };
    for (unsigned i = 0; i < t->n_cold; i++)
        put_cold_one(t, &e, &t->cold[i]);
    ensure(!e.full);
    t->cold_end = bt_offset(bt, emit_here(&e));
    bt->cold = t->cold_start;
}

/* -- Instructions -------------------------------------------------------------------------- */

struct host_mem gpr_home(const struct translation *t, unsigned reg)
{
    return bt_mem(t->bt, &bt_cpu(t->bt)->gpr[reg]);
}

struct site *callout_site(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct bt *bt = t->bt;
    struct site *site = site_here(t, SITE_CALLOUT);
    if (g->string)
        string_site(site, g);
    /* Decoded once, here; vector instructions are left to the simulator's own cache, which
     * holds their host code. */
    if (!g->unit && bt->n_decoded < cache_end(bt, MAX_DECODED) &&
        x86_decode(bt_cpu(bt), g->bytes, g->length, g->code_size,
                   &bt->decoded[bt->n_decoded]) == DECODE_OK)
        site->decoded = bt->n_decoded++;
    return site;
}

void translate_simulate(struct translation *t)
{
    flags_save(t, R11);
    struct site *site = callout_site(t);
    emit_const(&t->e, R11, (u64)(site - t->bt->sites));
    bool string = site->string != STRING_NONE;
    emit_jump(&t->e, string ? t->bt->stubs.string : t->bt->stubs.simulate[1]);
    /* The simulator comes back with the flags in both places, a quick callout does not. */
    t->flags = string ? FLAGS_SAVED : FLAGS_BOTH;
}

static void translate_one(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    switch (g->kind) {
    case GUEST_SKIP:
        break;
    case GUEST_COPY:
        translate_copy(t);
        break;
    case GUEST_ADDRESS:
        translate_address(t);
        break;
    case GUEST_PUSH:
        translate_push(t);
        break;
    case GUEST_POP:
        translate_pop(t);
        break;
    case GUEST_LEAVE:
        translate_leave(t);
        break;
    case GUEST_FROM_SEGMENT:
        translate_from_segment(t);
        break;
    case GUEST_TO_SEGMENT:
        translate_to_segment(t);
        break;
    case GUEST_POP_SEGMENT:
        translate_pop_segment(t);
        break;
    case GUEST_STRING:
        translate_string(t);
        break;
    case GUEST_INLINE:
        translate_system(t);
        break;
    case GUEST_BIT:
        translate_bit(t);
        break;
    case GUEST_SIMULATE:
        translate_simulate(t);
        break;
    case GUEST_SYSTEM:
        translate_simulate(t);
        t->ended = true;
        break;
    case GUEST_GATE:
        translate_gate(t);
        t->ended = true;
        break;
    default:
        translate_flow(t);
        t->ended = translation_last(t);
    }
}

/* Slow paths of the instruction go on behind it, but where what a check found might be outdated
 * by then. */
static void set_resume(struct translation *t, u32 first_site)
{
    bool outdated = coalesce_reaches_over(t);
    for (u32 i = first_site; i < t->bt->n_sites; i++) {
        t->bt->sites[i].resume = t->ended ? 0 : bt_offset(t->bt, emit_here(&t->e));
        t->bt->sites[i].outdated = outdated;
    }
}

/* -- Entries ------------------------------------------------------------------------------- */

#define JMP_SHORT 0xeb

/*
 * Are the flags that the TU gets wanted in bt->flags first? So it is where they are only passed
 * on, as far as anybody knows, and the first access would save them: behind most calls.
 */
static bool starts_saved(const struct translation *t)
{
    for (unsigned i = 0; i < t->n && t->live[i]; i++) {
        const struct guest_insn *g = &t->insn[i];
        bool jumps = g->kind == GUEST_JUMP || g->kind == GUEST_JUMP_IF || g->kind == GUEST_LOOP;
        bool copies =
            g->kind == GUEST_COPY || g->kind == GUEST_SKIP || g->kind == GUEST_ADDRESS;
        if (g->memory && g->kind == GUEST_COPY)
            return true;
        if (!copies && !jumps)
            return true;
        if (guest_flags_needed(g, t->live[i + 1]))
            return false;
    }
    return false;
}

/* In front of a TU that starts with its flags saved: the entry of those who have them in the
 * host's. */
static void put_saving_entry(struct translation *t)
{
    t->tu->entry = bt_offset(t->bt, emit_here(&t->e));
    t->flags = FLAGS_HOST;
    flags_save(t, R11);
}

static void put_entries(struct translation *t)
{
    struct bt *bt = t->bt;
    struct emit *e = &t->e;
    struct tu *tu = t->tu;
    bool saved = starts_saved(t);
    u8 *over = NULL;
    if (saved) {
        put_saving_entry(t);
        over = emit_short_jump(e, JMP_SHORT);
    }
    tu->entry_indirect = bt_offset(bt, emit_here(e));
    if (tu->rip == (u64)(s64)(s32)tu->rip) {
        emit_compare_imm(e, R10, (s32)tu->rip);
    } else {
        emit_const(e, R11, tu->rip);
        emit_rr(e, 8, 0x39, R11, R10);
    }
    emit_jump_if(e, CC_NE,
                 mode_is_64bit(tu->mode) ? bt->stubs.second[tu->mode & MODE_SET_MASK]
                                         : bt->stubs.exit_indirect);
    tu->entry_saved = bt_offset(bt, emit_here(e));
    t->flags = FLAGS_SAVED;
    if (saved) {
        emit_short_bind(e, over);
        return;
    }
    flags_restore(t, tu->flags_in);
    tu->entry = bt_offset(bt, emit_here(e));
    t->flags = FLAGS_HOST;
}

/* Behind the entries, where the TU is counted: adds what count_checks() finds. Flags stay. */
static u8 *put_count(struct translation *t)
{
    struct emit *e = &t->e;
    struct host_mem checks = bt_mem(t->bt, &t->bt->hot->checks);
    emit_load(e, R11, checks);
    emit_lea(e, 8, R11, mem_at(R11, INT32_MAX));
    u8 *field = e->at - sizeof(s32);
    emit_store(e, checks, R11);
    return field;
}

/* TLB checks in the TU: as if it always ran through to its end. */
static void count_checks(const struct translation *t, u32 first_site, u8 *field)
{
    u32 n = 0;
    for (u32 i = first_site; i < t->bt->n_sites; i++)
        n += t->bt->sites[i].kind == SITE_ACCESS && t->bt->sites[i].guard;
    memcpy(field, &n, sizeof(n));
}

/* -- The whole ----------------------------------------------------------------------------- */

/* An instruction of a unit that the guest has not enabled raises #UD or #NM: the simulator
 * knows which. */
static bool unit_enabled(const struct guest_insn *g, u32 mode)
{
    static const u32 needs[] = {
        [UNIT_X87] = MODE_X87, [UNIT_SSE] = MODE_SSE, [UNIT_AVX] = MODE_AVX};
    if (g->vex && !(mode & MODE_PROTECTED))
        return false;
    return !g->unit || (mode & needs[g->unit]);
}

/* Flags of a system instruction that is done in line. */
static void set_flags(struct guest_insn *g, u16 read, u16 kill)
{
    g->flags_read = read;
    g->flags_write = g->flags_kill = kill;
}

static void system_flags(struct guest_insn *g)
{
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        set_flags(g, FLAGS_STATUS, FLAGS_STATUS); /* a fault pushes them */
        break;
    case ZYDIS_MNEMONIC_VERW:
        set_flags(g, FLAGS_STATUS, FLAG_ZF);
        break;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        set_flags(g, FLAGS_STATUS, 0);
        break;
    default:
        set_flags(g, g->memory ? FLAGS_STATUS : 0, 0);
    }
}

static void make_inline(struct translation *t, struct guest_insn *g)
{
    if (pause_in_line(t->bt, g))
        g->kind = GUEST_INLINE;
    if (g->kind != GUEST_SYSTEM && g->kind != GUEST_SIMULATE)
        return;
    if (gate_in_line(t->bt, g, t->tu->mode)) {
        g->kind = GUEST_GATE;
        bool keeps = g->mnemonic == ZYDIS_MNEMONIC_STAC || g->mnemonic == ZYDIS_MNEMONIC_CLAC;
        set_flags(g, keeps ? 0 : FLAGS_STATUS, keeps ? 0 : FLAGS_STATUS);
    } else if (system_in_line(t->bt, g, t->tu->mode)) {
        g->kind = GUEST_INLINE;
        system_flags(g);
    }
}

/* What follows STI belongs to the same TU, see there. */
static void end_shadow(struct guest_insn *last)
{
    if (last->kind != GUEST_INLINE || last->mnemonic != ZYDIS_MNEMONIC_STI)
        return;
    last->kind = GUEST_SYSTEM;
    set_flags(last, FLAGS_STATUS, FLAGS_STATUS);
}

static bool contains(const struct translation *t, u64 rip)
{
    for (unsigned i = 0; i < t->n; i++) {
        if (t->insn[i].rip == rip)
            return true;
    }
    return false;
}

static bool leads_to_beginning(const struct translation *t, const struct guest_insn *g)
{
    return (g->kind == GUEST_JUMP_IF || g->kind == GUEST_JUMP) &&
           place_of(t, g->imm) == t->tu->rip;
}

/* A loop that is one TU comes several times, so that one check may serve several rounds. */
static void unroll(struct translation *t)
{
    unsigned body = t->n;
    const struct guest_insn *last = &t->insn[body - 1];
    if (!leads_to_beginning(t, last) || t->crosses || t->tu->cut ||
        (t->tu->mode & MODE_CAREFUL))
        return;
    for (unsigned exits = t->branches; t->n + body <= TU_INSNS; exits += t->branches) {
        if (exits + t->branches > TU_EXITS)
            return;
        memcpy(&t->insn[t->n], t->insn, body * sizeof(t->insn[0]));
        memcpy(&t->taken[t->n], t->taken, body * sizeof(t->taken[0]));
        t->taken[t->n - 1] = last->kind == GUEST_JUMP_IF;
        t->n += body;
        t->taken[t->n - 1] = false;
    }
}

/*
 * Does the TU go on behind the branch `g`, its last instruction so far? Where it does, *rip is
 * set: a conditional branch is expected not to be taken, a jump within the page is followed.
 * Also into code that other TUs have: 4 % more of it is translated, for which accesses share
 * more checks.
 */
static bool goes_on(const struct translation *t, const struct guest_insn *g, u64 *rip)
{
    if (t->branches > TU_BRANCHES || leads_to_beginning(t, g) ||
        (g->kind != GUEST_JUMP_IF && g->kind != GUEST_JUMP) ||
        !bt_may_jump(t->bt, t->tu->mode, g->imm))
        return false;
    if (g->kind == GUEST_JUMP_IF)
        return !contains(t, *rip);
    if (!same_page(t, g->imm) || contains(t, g->imm))
        return false;
    *rip = g->imm;
    return true;
}

static void find_run(struct translation *t)
{
    u64 rip = place_rip(t->tu->mode, t->tu->rip);
    const u8 *page = (const u8 *)((u64)t->tu->code & PAGE_MASK);
    t->tu->cut = (u8)cut_at(t, rip);
    while (t->n < TU_INSNS && same_page(t, rip) && !(t->n && cut_at(t, rip))) {
        struct guest_insn *g = &t->insn[t->n];
        t->taken[t->n] = false;
        if (!decode_at(t, rip, g)) {
            t->crosses = !t->n && crossing_decode(t, g);
            if (!t->crosses)
                break;
        }
        make_inline(t, g);
        g->adapted = g->moves && g->mem_write && !t->crosses &&
                     adapt_wanted(t->bt, page + (linear_of(t, g->rip) & ~PAGE_MASK));
        if (!unit_enabled(g, t->tu->mode)) {
            g->kind = GUEST_SYSTEM;
            g->flags_read = FLAGS_STATUS;
        }
        t->n++;
        t->tu->guest_size += g->length;
        rip = guest_next(g);
        if (t->crosses)
            break;
        if (!guest_ends(g))
            continue;
        t->branches++;
        if (!goes_on(t, g, &rip))
            break;
    }
    if (t->n)
        end_shadow(&t->insn[t->n - 1]);
    t->next = rip;
    if (t->n)
        unroll(t);
    t->tu->insns = (u16)t->n;
}

static bool has_room(const struct bt *bt)
{
    return bt->used + TU_ROOM + TU_COLD * COLD_SIZE + TU_INSNS * STORE_SIZE <= bt->cold &&
           bt->n_tus + 1 < cache_end(bt, MAX_TUS) &&
           bt->n_links + TU_EXITS + 2 < cache_end(bt, MAX_LINKS) &&
           bt->n_sites + 4 * TU_INSNS < cache_end(bt, MAX_SITES) &&
           bt->n_cells + TU_EXITS + 2 < MAX_CELLS;
}

/* Does translate_mem.c keep track of r10 and r11 in the instruction? Not where C code may come
 * back: that is, where a site is. */
static bool keeps_cached(const struct guest_insn *g)
{
    return g->kind == GUEST_COPY || g->kind == GUEST_SKIP || g->kind == GUEST_JUMP_IF;
}

static void put_code(struct translation *t)
{
    coalesce(t);
    t->held = t->cached = 0;
    t->stack_by = 0;
    t->tu->flags_in = t->live[0];
    t->stale = FLAGS_STATUS & (u16)~t->live[0];
    t->producer = 0;
    put_entries(t);
    u32 first = t->bt->n_sites;
    u8 *checks = t->bt->counts ? put_count(t) : NULL;
    for (t->now = 0; t->now < t->n; t->now++) {
        u32 first_site = t->bt->n_sites;
        t->host[t->now] = bt_offset(t->bt, emit_here(&t->e));
        if (!t->now)
            translate_cut(t);
        if (t->crosses)
            crossing_check(t);
        check_hoisted(t);
        translate_one(t);
        if (!keeps_r10(translation_insn(t)))
            t->held = 0;
        if (!keeps_cached(translation_insn(t)) || t->bt->n_sites != first_site)
            t->cached = 0;
        set_resume(t, first_site);
        flags_follow(t);
    }
    if (!t->ended) {
        t->now = t->n - 1;
        translate_end(t, t->next);
    }
    t->host[t->n] = bt_offset(t->bt, emit_here(&t->e));
    if (checks)
        count_checks(t, first, checks);
    put_cold(t);
}

/* The run, and what is needed of it: decided by bytes that are noted as code, and were not
 * written before that by another processor. */
static void find_code(struct translation *t, struct gfn frame)
{
    const u8 *now = (const u8 *)((u64)t->tu->code & PAGE_MASK);
    bool same;
    do {
        t->looked = 0;
        memset(t->target, 0, sizeof(t->target));
        t->n = t->branches = t->tu->guest_size = 0;
        t->crosses = false;
        t->tu->lines = 0;
        find_run(t);
        if (!t->n)
            return;
        find_live(t);
        access_note_code(t->bt->vcpu, frame, t->tu->lines);
        same = true;
        for (u64 left = t->tu->lines & t->looked; left && same; left &= left - 1) {
            unsigned at = (unsigned)__builtin_ctzll(left) * PMAP_LINE;
            same = !memcmp(t->page + at, now + at, PMAP_LINE);
        }
    } while (!same);
}

/* TSC cycles: what takes longer had lost its processor meanwhile. */
#define TU_CYCLES (1u << 19)

static void count_time(struct bt *bt, u64 cycles, unsigned insns)
{
    if (cycles > TU_CYCLES)
        return;
    bt->stats.cycles += cycles;
    bt->stats.timed += insns;
}

struct tu *translate(struct bt *bt, struct gfn frame, const u8 *code, u64 rip, u32 mode,
                     bool *full)
{
    struct translation t;
    u8 page[PAGE_SIZE];
    u64 start = __rdtsc();
    *full = !has_room(bt);
    if (*full)
        return NULL;
    t.bt = bt;
    t.page = page;
    t.n_cold = 0;
    t.ended = t.polled = false;
    t.tu_number = bt->n_tus;
    t.tu = &bt->tus[t.tu_number];
    *t.tu = (struct tu){.rip = rip, .code = code, .mode = mode, .start = bt->used};
    t.e = (struct emit){
        .at = bt->memory.write + bt->used,
        .end = bt->memory.write + bt->used + TU_ROOM,
        .to_exec = bt->memory.exec - bt->memory.write,
        .gs = bt_gs(bt),
    };
    find_code(&t, frame);
    if (!t.n)
        return NULL;
    put_code(&t);
    ensure(!t.e.full);
    bt->used = bt_offset(bt, emit_here(&t.e));
    t.tu->end = bt->used;
    listing_print(&t);
    bt->stats.tus[mode_code_size(mode) / 4]++;
    bt->stats.insns += t.n;
    bt->stats.guest_bytes += t.tu->guest_size;
    bt->stats.host_bytes += t.tu->end - t.tu->start + (t.cold_end - t.cold_start);
    count_time(bt, __rdtsc() - start, t.n);
    bt->n_tus++;
    return t.tu;
}
