/*
 * Segment registers: reading one, and loading one. In real and virtual-8086 mode the selector
 * is the base; in protected mode a quick callout reads the descriptor (quick.c).
 */
#include "engine/bt/translate.h"

#define ATTR_REAL (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)
#define ATTR_V86  (ATTR_REAL | 3 << 5)

/* MOV of a segment register to memory, or to a general one, which gets it zero-extended. */
void translate_from_segment(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    struct host_mem sel = bt_mem(t->bt, &bt_cpu(t->bt)->seg[g->segment].sel);
    if (g->memory) {
        struct host_mem at = free_r11(t, check_operand(t, g, 2, true));
        emit_load_zero(e, 2, R11, sel);
        emit_store_sized(e, 2, at, R11);
        return;
    }
    unsigned to = (unsigned)__builtin_ctz(g->regs_written);
    bool freed = to == R10 || to == R11;
    emit_load_zero(e, 2, R11, sel);
    if (freed)
        emit_store_sized(e, g->opsize == 2 ? 2 : 8, gpr_home(t, to), R11);
    else
        emit_move_sized(e, g->opsize, to, R11);
}

/*
 * Can a load be done in line? Not where it could make segments flat, which the mode tells; nor
 * of SS, behind which one instruction is shielded from interrupts.
 */
static bool is_easy(const struct translation *t, unsigned seg)
{
    return !(t->tu->mode & (MODE_PROTECTED | MODE_FLAT)) && seg != SEG_SS && seg != SEG_CS;
}

/* With the selector in r10. What a stay in protected mode may have left in the register,
 * another limit or type, is the simulator's. */
static void load_segment(struct translation *t, const struct site *site, unsigned seg)
{
    struct emit *e = &t->e;
    struct x86_seg *to = &bt_cpu(t->bt)->seg[seg];
    bool v86 = t->tu->mode & MODE_CPL(3);
    emit_load32(e, R11, bt_mem(t->bt, &to->attr));
    if (!v86)
        emit_and_imm(e, R11, (u32) ~(SEG_DB | SEG_G));
    emit_compare_imm(e, R11, v86 ? ATTR_V86 : ATTR_REAL);
    system_leave_if(t, CC_NE, site);
    emit_load32(e, R11, bt_mem(t->bt, &to->limit));
    emit_compare_imm(e, R11, UINT16_MAX);
    system_leave_if(t, CC_NE, site);
    emit_store_sized(e, 2, bt_mem(t->bt, &to->sel), R10);
    emit_shift(e, 4, SHIFT_LEFT, R10, 4);
    emit_store(e, bt_mem(t->bt, &to->base), R10);
}

/* r10 := the selector that MOV or POP loads. */
static void load_selector(struct translation *t, bool pop)
{
    const struct guest_insn *g = translation_insn(t);
    unsigned from = (g->bytes[g->modrm] & 7) | (g->rex & 1 ? 8 : 0);
    if (pop)
        emit_load_zero(&t->e, 2, R10, check_stack(t, RSP, 0, g->opsize, false));
    else if (g->memory)
        emit_load_zero(&t->e, 2, R10, check_operand(t, g, 2, false));
    else if (from == R10 || from == R11)
        emit_load_zero(&t->e, 2, R10, gpr_home(t, from));
    else
        emit_move_zero(&t->e, 2, R10, from);
}

static void load(struct translation *t, bool pop)
{
    const struct guest_insn *g = translation_insn(t);
    bool quick = (t->tu->mode & MODE_PROTECTED) && g->segment != SEG_SS;
    if (!is_easy(t, g->segment) && !quick) {
        translate_simulate(t);
        return;
    }
    flags_clobber(t);
    struct site *site = callout_site(t);
    load_selector(t, pop);
    if (quick) {
        site->seg = g->segment;
        site->stack = pop ? g->opsize : 0;
        emit_const(&t->e, R11, (u64)(site - t->bt->sites));
        emit_jump(&t->e, t->bt->stubs.segment);
        return;
    }
    load_segment(t, site, g->segment);
    if (pop)
        move_stack(t, g->opsize);
}

void translate_to_segment(struct translation *t)
{
    load(t, false);
}

void translate_pop_segment(struct translation *t)
{
    load(t, true);
}
