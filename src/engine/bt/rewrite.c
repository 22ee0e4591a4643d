/* Instruction encodings taken apart and put together again (SDM vol. 2, chapter 2), see
 * rewrite.h. */
#include "engine/bt/rewrite.h"

/* Segment overrides and the address size are settled by the translation, the operand size by
 * the decoder. */
static bool prefix_stays(u8 prefix)
{
    return prefix == 0xf2 || prefix == 0xf3 || prefix == 0xf0;
}

static void put_prefixes(struct emit *e, const struct guest_insn *g)
{
    for (unsigned i = 0; i < g->prefixes; i++) {
        if (prefix_stays(g->bytes[i]))
            emit_byte(e, g->bytes[i]);
    }
    if (g->size_prefix)
        emit_byte(e, 0x66);
}

/* INC and DEC of a register in one byte: REX in 64-bit code. */
static bool is_short_inc(const struct guest_insn *g)
{
    return g->code_size != 8 && !g->modrm && (g->bytes[g->opcode] & 0xf0) == 0x40;
}

/* MOV between the accumulator and a plain offset. */
static bool is_moffs(const struct guest_insn *g)
{
    return !g->modrm && (g->bytes[g->opcode] & 0xfc) == 0xa0;
}

/* What stands before the ModRM byte, as 64-bit code has it. */
static void put_opcode(struct emit *e, const struct guest_insn *g)
{
    u8 first = g->bytes[g->opcode];
    if (is_moffs(g)) {
        emit_byte(e, 0x88 | (first & 1) | (first & 2 ? 0 : 2));
    } else if (first == 0x82 && !g->vex) {
        emit_byte(e, 0x80); /* its old twin */
    } else {
        emit_bytes(e, g->bytes + g->opcode, g->modrm - g->opcode);
    }
}

void rewrite_copy(struct emit *e, const struct guest_insn *g)
{
    put_prefixes(e, g);
    if (is_short_inc(g)) {
        /* FF /0 and /1 */
        emit_byte(e, 0xff);
        emit_byte(e, 0xc0 | (g->bytes[g->opcode] & 15));
    } else if (g->modrm) {
        emit_bytes(e, g->bytes + g->prefixes, g->opcode - g->prefixes);
        put_opcode(e, g);
        emit_bytes(e, g->bytes + g->modrm, g->length - g->modrm);
    } else {
        emit_bytes(e, g->bytes + g->prefixes, g->length - g->prefixes);
    }
}

static unsigned replaced(unsigned reg, bool is_gpr, unsigned from, unsigned to)
{
    return is_gpr && reg == from ? to : reg;
}

static unsigned extension(unsigned reg)
{
    return reg == NO_REG ? 0 : reg >> 3 & 1;
}

struct fields {
    unsigned reg; /* ModRM.reg with its extension */
    unsigned x, b;
};

static void put_vex(struct emit *e, const struct guest_insn *g, struct fields f, unsigned from,
                    unsigned to)
{
    const u8 *vex = g->bytes + g->opcode - g->vex;
    u8 map = g->vex == 2 ? 1 : vex[1] & 0x1f;
    u8 rest = vex[g->vex - 1]; /* W vvvv L pp; in the short form bit 7 is R */
    if (g->vex == 2)
        rest &= 0x7f;
    unsigned vvvv = ~rest >> 3 & 15;
    vvvv = replaced(vvvv, g->vvvv, from, to);
    rest = (u8)((rest & 0x87) | (~vvvv & 15) << 3);
    emit_byte(e, 0xc4);
    emit_byte(e, (u8)(!extension(f.reg) << 7 | !f.x << 6 | !f.b << 5 | map));
    emit_byte(e, rest);
}

static void put_rex(struct emit *e, const struct guest_insn *g, struct fields f)
{
    u8 rex = (u8)((g->rex & 8) | extension(f.reg) << 2 | f.x << 1 | f.b);
    if (rex || g->rex)
        emit_byte(e, 0x40 | rex);
}

void rewrite_memory(struct emit *e, const struct guest_insn *g, struct host_mem mem,
                    unsigned from, unsigned to)
{
    bool r = g->vex ? !(g->bytes[g->opcode - g->vex + 1] & 0x80) : g->rex & 4;
    unsigned reg = is_moffs(g) ? RAX : (g->bytes[g->modrm] >> 3 & 7) | (r ? 8u : 0);
    struct fields f = {
        .reg = replaced(reg, g->reg_field, from, to),
        .x = extension(mem.index),
        .b = extension(mem.base),
    };
    put_prefixes(e, g);
    if (g->vex)
        put_vex(e, g, f, from, to);
    else
        put_rex(e, g, f);
    put_opcode(e, g);
    emit_modrm(e, f.reg, mem);
    emit_bytes(e, g->bytes + g->tail, g->length - g->tail);
}
