/* Instruction encodings taken apart and put together again (SDM vol. 2, chapter 2), see
 * rewrite.h. */
#include "engine/bt/rewrite.h"

/* Segment overrides and the address size are settled by the translation. */
static bool prefix_stays(u8 prefix)
{
    return prefix == 0x66 || prefix == 0xf2 || prefix == 0xf3 || prefix == 0xf0;
}

static void put_prefixes(struct emit *e, const struct guest_insn *g)
{
    for (unsigned i = 0; i < g->prefixes; i++) {
        if (prefix_stays(g->bytes[i]))
            emit_byte(e, g->bytes[i]);
    }
}

void rewrite_copy(struct emit *e, const struct guest_insn *g)
{
    /* An address size may count without memory operand: LEA, JECXZ, LOOP. */
    for (unsigned i = 0; i < g->prefixes; i++) {
        if (prefix_stays(g->bytes[i]) || g->bytes[i] == 0x67)
            emit_byte(e, g->bytes[i]);
    }
    emit_bytes(e, g->bytes + g->prefixes, g->length - g->prefixes);
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
    unsigned reg = (g->bytes[g->modrm] >> 3 & 7) | (r ? 8 : 0);
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
    emit_bytes(e, g->bytes + g->opcode, g->modrm - g->opcode);
    emit_modrm(e, f.reg, mem);
    emit_bytes(e, g->bytes + g->tail, g->length - g->tail);
}
