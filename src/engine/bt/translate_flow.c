/*
 * The ends of TUs. A direct exit to the same page is a jump that link.c patches; one to another
 * page jumps through a cell, which is emptied when translations of addresses change; an
 * indirect one jumps through the table of its mode's targets, and the TU found there compares
 * the target.
 *
 * Where a loop may close, that is at backward and indirect branches, stands a poll of two
 * loads: a kick makes the second one fault, and the guest stops before the branch. It costs
 * neither flags nor a branch.
 */
#include "engine/bt/translate.h"

#include "base/ensure.h"

/* Nothing is looked for behind an STI, which looked itself: its shadow. */
static bool in_shadow(const struct translation *t)
{
    const struct guest_insn *before = translation_insn(t) - 1;
    return t->now && before->kind == GUEST_INLINE && before->mnemonic == ZYDIS_MNEMONIC_STI;
}

/* The guest stops here while C code makes `pointer` point nowhere. */
static void poll_through(struct translation *t, u64 **pointer)
{
    t->cached &= (u16)~BIT(R11);
    emit_load(&t->e, R11, bt_mem(t->bt, pointer));
    site_here(t, SITE_POLL);
    emit_load32(&t->e, R11, mem_at(R11, 0));
}

/* One poll is enough on the way through a TU: any loop that passes here passes there. */
static void put_poll(struct translation *t)
{
    if (t->polled || in_shadow(t))
        return;
    t->polled = true;
    poll_through(t, &t->bt->hot->poll);
}

void translate_cut(struct translation *t)
{
    if (unlikely(t->tu->cut))
        poll_through(t, &t->bt->hot->cut[t->tu->cut - 1]);
}

/* -- Direct exits -------------------------------------------------------------------------- */

/* The jump whose displacement is at `field` leads to `rip`. */
static void exit_through(struct translation *t, u8 *field, u64 rip)
{
    struct bt *bt = t->bt;
    bool saved = t->flags == FLAGS_SAVED;
    if (same_page(t, rip)) {
        u32 number = bt->n_links++;
        bt->links[number] = (struct link){
            .rip = place_of(t, rip),
            .field = bt_offset(bt, field + t->e.to_exec),
            .from = t->tu_number,
            .saved = saved,
            .stale = flags_pack(t->stale),
        };
        cold_add(t, field, COLD_LINK, number, saved);
    } else {
        cold_add(t, field, COLD_CELL,
                 cell_get(bt, place_of(t, rip), mode_of_guest(t->tu->mode), saved), saved);
    }
}

static void exit_to(struct translation *t, u64 rip)
{
    if (same_page(t, rip)) {
        exit_through(t, emit_jump_later(&t->e), rip);
        return;
    }
    struct bt *bt = t->bt;
    u32 cell =
        cell_get(bt, place_of(t, rip), mode_of_guest(t->tu->mode), t->flags == FLAGS_SAVED);
    emit_const(&t->e, R11, cell);
    emit_jump_mem(&t->e, bt_mem(bt, &bt->hot->cell[cell]));
}

void translate_end(struct translation *t, u64 rip)
{
    exit_to(t, rip);
}

/* A branch back may close a loop without any other kind of exit in it. */
static bool closes_loop(const struct guest_insn *g)
{
    return g->imm <= g->rip;
}

static void jump(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    if (closes_loop(g))
        put_poll(t);
    if (translation_last(t))
        exit_to(t, g->imm);
}

static void jump_if(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    unsigned condition =
        g->bytes[g->opcode] == 0x0f ? g->bytes[g->opcode + 1] : g->bytes[g->opcode];
    condition &= 15;
    if (t->taken[t->now]) {
        /* Within an unrolled loop, whose last branch polls. */
        flags_restore(t, g->flags_read);
        exit_through(t, emit_jump_if_later(&t->e, condition ^ 1), guest_next(g));
        return;
    }
    if (closes_loop(g))
        put_poll(t);
    flags_restore(t, g->flags_read);
    exit_through(t, emit_jump_if_later(&t->e, condition), g->imm);
    if (translation_last(t))
        exit_to(t, guest_next(g));
}

#define JRCXZ 0xe3

/* LOOPcc and JCXZ on CX, which 64-bit code has not: CX alone goes to RCX for JRCXZ. */
static void loop_on_cx(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    u64 next = guest_next(g);
    u8 opcode = g->bytes[g->opcode];
    if (opcode != JRCXZ) {
        emit_lea(e, 4, R11, mem_at(RCX, -1));
        emit_move_sized(e, 2, RCX, R11);
    }
    emit_move(e, R11, RCX);
    emit_move_zero(e, 2, RCX, RCX);
    u8 *zero = emit_short_jump(e, JRCXZ);
    emit_move(e, RCX, R11);
    /* E0: LOOPNE, E1: LOOPE */
    if (opcode == 0xe0 || opcode == 0xe1)
        exit_through(t, emit_jump_if_later(e, opcode == 0xe0 ? CC_E : CC_NE), next);
    exit_to(t, opcode == JRCXZ ? next : g->imm);
    emit_short_bind(e, zero);
    emit_move(e, RCX, R11);
    exit_to(t, opcode == JRCXZ ? g->imm : next);
}

static void loop(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    if (closes_loop(g))
        put_poll(t);
    flags_restore(t, g->flags_read);
    if (g->adsize == 2) {
        loop_on_cx(t);
        return;
    }
    if (g->adsize == 4)
        emit_byte(e, 0x67);
    /* Over the exit that is not taken. */
    u8 *taken = emit_short_jump(e, g->bytes[g->opcode]);
    exit_to(t, guest_next(g));
    emit_short_bind(e, taken);
    exit_to(t, g->imm);
}

/* -- Calls, returns, indirect exits -------------------------------------------------------- */

/* Pushes the return address; RSP moves when nothing can fault any more. `refusable`: but for
 * the target, so that what was there is kept. */
static void push_return(struct translation *t, bool refusable)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    u64 next = guest_next(g);
    struct host_mem at = check_stack(t, RSP, -(s32)g->opsize, g->opsize, true);
    if (refusable) {
        at = free_r11(t, at);
        emit_load_sized(e, g->opsize, R11, at);
        emit_store(e, bt_mem(t->bt, &t->bt->hot->replaced), R11);
    }
    if (g->opsize < 8 || next == (u64)(s64)(s32)next) {
        emit_store_imm(e, g->opsize, at, (s32)next);
    } else {
        at = free_r11(t, at);
        emit_const(e, R11, next);
        emit_store(e, at, R11);
    }
    move_stack(t, -(s32)g->opsize);
}

static void call(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    if (closes_loop(g))
        put_poll(t);
    push_return(t, false);
    exit_to(t, g->imm);
}

/* To the target in r10; flags are saved. A target where RIP cannot go makes the branch itself
 * fault (#GP), which the miss finds out: it undoes the `stack` bytes that RSP was moved by, and
 * a push. */
static void exit_indirect(struct translation *t, s32 stack)
{
    struct bt *bt = t->bt;
    struct site *site = site_here(t, SITE_EXIT);
    site->stack = stack;
    emit_store_imm(&t->e, 4, bt_mem(bt, &bt->hot->exit_site), (s32)(site - bt->sites));
    u64 base = place_of(t, 0);
    if (base) {
        emit_const(&t->e, R11, base);
        emit_lea(&t->e, 8, R10, mem_sum(R10, R11, 0));
    }
    const void **table = bt->hot->indirect[MODE_TABLE(t->tu->mode)];
    emit_move_zero(&t->e, INDIRECT_BITS / 8, R11, R10);
    emit_jump_mem(&t->e, mem_gs_index(R11, bt_mem(bt, table).disp));
}

/* r10 := the target of an indirect jump or call. */
static void load_target(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    if (g->memory) {
        emit_load_zero(e, g->opsize, R10, check_operand(t, g, g->opsize, false));
        t->held = 0;
        return;
    }
    unsigned reg = (g->bytes[g->modrm] & 7) | (g->rex & 1 ? 8 : 0);
    if (reg == R10 || reg == R11)
        emit_load(e, R10, gpr_home(t, reg));
    else
        emit_move_zero(e, g->opsize, R10, reg);
    t->held = 0;
}

static void jump_to(struct translation *t)
{
    put_poll(t);
    flags_clobber(t);
    load_target(t);
    exit_indirect(t, 0);
}

static void call_to(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct host_mem spill = bt_mem(t->bt, &t->bt->hot->spill[1]);
    bool first = g->memory || names_rsp(g); /* what the push may change */
    put_poll(t);
    flags_clobber(t);
    if (first) {
        load_target(t);
        emit_store(&t->e, spill, R10);
    }
    push_return(t, true);
    if (first)
        emit_load(&t->e, R10, spill);
    else
        load_target(t);
    exit_indirect(t, -(s32)g->opsize);
}

static void ret(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    put_poll(t);
    flags_clobber(t);
    emit_load_zero(e, g->opsize, R10, check_stack(t, RSP, 0, g->opsize, false));
    s32 popped = g->opsize + (s32)(u16)g->imm;
    move_stack(t, popped);
    exit_indirect(t, popped);
}

void translate_flow(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    bool direct = g->kind == GUEST_JUMP || g->kind == GUEST_JUMP_IF || g->kind == GUEST_LOOP ||
                  g->kind == GUEST_CALL;
    if (direct && !bt_may_jump(t->bt, t->tu->mode, g->imm)) {
        translate_simulate(t); /* #GP(0) */
        return;
    }
    switch (g->kind) {
    case GUEST_JUMP:
        jump(t);
        break;
    case GUEST_JUMP_IF:
        jump_if(t);
        break;
    case GUEST_LOOP:
        loop(t);
        break;
    case GUEST_CALL:
        call(t);
        break;
    case GUEST_JUMP_TO:
        jump_to(t);
        break;
    case GUEST_CALL_TO:
        call_to(t);
        break;
    default:
        ensure(g->kind == GUEST_RETURN);
        ret(t);
    }
}
