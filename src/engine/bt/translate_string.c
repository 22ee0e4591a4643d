/*
 * String instructions. Without a repeat prefix, as C libraries and kernels for i386 use them by
 * the million, they are loads, stores and comparisons through RSI and RDI: done in line,
 * upwards, as DF is clear in every translation. Repeated ones are callouts, most with
 * a way of their own (string.c).
 */
#include "engine/bt/translate.h"

/* Opcodes of the forms for bytes; those for words are the next. */
enum string_opcode {
    OP_MOVS = 0xa4,
    OP_CMPS = 0xa6,
    OP_STOS = 0xaa,
    OP_LODS = 0xac,
    OP_SCAS = 0xae
};

/* Of REPE and REPNE the last one counts. */
static bool repeats_while_equal(const struct guest_insn *g)
{
    bool equal = false;
    for (unsigned i = 0; i < g->prefixes; i++) {
        if (g->bytes[i] == 0xf2 || g->bytes[i] == 0xf3)
            equal = g->bytes[i] == 0xf3;
    }
    return equal;
}

void string_site(struct site *site, const struct guest_insn *g)
{
    u8 op = g->bytes[g->opcode] & 0xfe;
    /* With a count of zero, processors differ in what 32-bit addresses do to the registers of
     * 64-bit code: the simulator knows. */
    if (g->code_size == 8 && g->adsize == 4)
        return;
    bool equal = repeats_while_equal(g);
    switch (op) {
    case OP_MOVS:
        site->string = STRING_MOVS;
        break;
    case OP_STOS:
        site->string = STRING_STOS;
        break;
    case OP_CMPS:
        site->string = equal ? STRING_CMPS_E : STRING_CMPS_NE;
        break;
    case OP_SCAS:
        site->string = equal ? STRING_SCAS_E : STRING_SCAS_NE;
        break;
    }
    site->size = g->mem_size;
    site->seg = g->seg;
    site->adsize = g->adsize;
}

/* `op` with a register and the checked operand, in the form for the instruction's size. */
static void with_size(struct translation *t, u8 op, unsigned reg, struct host_mem mem)
{
    unsigned size = translation_insn(t)->mem_size;
    if (size == 2)
        emit_byte(&t->e, 0x66);
    emit_rm(&t->e, size == 8 ? 8 : 4, size == 1 ? op : op + 1u, reg, mem);
}
#define MOV_STORE 0x88
#define MOV_LOAD  0x8a
#define CMP_TO    0x38 /* cmp mem, reg */
#define CMP_WITH  0x3a /* cmp reg, mem */

static struct host_mem check_source(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    return check_at(t, g->seg, RSI, g->adsize, g->mem_size, false);
}

static struct host_mem check_destination(struct translation *t, bool write)
{
    const struct guest_insn *g = translation_insn(t);
    return check_at(t, SEG_ES, RDI, g->adsize, g->mem_size, write);
}

/* The checked element to bt->spill, as the next check needs r10 and r11. */
static void keep(struct translation *t, struct host_mem at)
{
    with_size(t, MOV_LOAD, R11, at);
    emit_store(&t->e, bt_mem(t->bt, &t->bt->hot->spill[0]), R11);
}

/* `op` with the kept element and the other one. */
static void with_kept(struct translation *t, u8 op, struct host_mem at)
{
    at = free_r11(t, at);
    emit_load(&t->e, R11, bt_mem(t->bt, &t->bt->hot->spill[0]));
    with_size(t, op, R11, at);
}

/* Flags stay. */
static void advance(struct translation *t, unsigned reg)
{
    const struct guest_insn *g = translation_insn(t);
    struct host_mem next = mem_at(reg, g->mem_size);
    if (g->adsize > 2) {
        emit_lea(&t->e, g->adsize, reg, next);
        return;
    }
    emit_lea(&t->e, 4, R11, next);
    emit_move_sized(&t->e, 2, reg, R11);
}

void translate_string(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    enum string_opcode op = g->bytes[g->opcode] & 0xfe;
    switch (op) {
    case OP_MOVS:
        keep(t, check_source(t));
        with_kept(t, MOV_STORE, check_destination(t, true));
        break;
    case OP_STOS:
        with_size(t, MOV_STORE, RAX, check_destination(t, true));
        break;
    case OP_LODS:
        with_size(t, MOV_LOAD, RAX, check_source(t));
        break;
    case OP_SCAS:
        with_size(t, CMP_WITH, RAX, check_destination(t, false));
        break;
    case OP_CMPS:
        /* The processor reads ES:RDI first, and compares with it. */
        keep(t, check_destination(t, false));
        with_kept(t, CMP_TO, check_source(t));
        break;
    }
    if (op == OP_MOVS || op == OP_LODS || op == OP_CMPS)
        advance(t, RSI);
    if (op != OP_LODS)
        advance(t, RDI);
    flags_written(t);
}
