/*
 * Port I/O: the permission check by IOPL and the TSS's bitmap (SDM vol. 1, 19.5), IN, OUT, and
 * the repeated INS and OUTS, which may stop after any element.
 */
#include "x86/debug.h"
#include "x86/mem.h"

/* #GP(0) unless all bits of the ports in the I/O permission bitmap are clear. */
static void check_bitmap(struct x86_cpu *c, u16 port, unsigned size)
{
    const struct x86_seg *tr = &c->seg[SEG_TR];
    bool wide = (tr->attr & (SEG_P | SEG_TYPE)) == (SEG_P | DESC_TSS_BUSY);
    if (!wide || tr->limit < 0x67)
        x86_raise_error(c, VEC_GP, 0);
    u64 mask = x86_long_mode(c) ? ~0ull : 0xffffffff;
    u64 at = x86_load_system(c, gva((tr->base + 0x66) & mask), 2) + port / 8;
    if (at + 1 > tr->limit)
        x86_raise_error(c, VEC_GP, 0);
    u64 map = x86_load_system(c, gva((tr->base + at) & mask), 2);
    if (map >> (port % 8) & bits_low(size))
        x86_raise_error(c, VEC_GP, 0);
}

static void check_port(struct x86_cpu *c, u16 port, unsigned size)
{
    if (x86_protected(c) && (x86_v86(c) || c->cpl > x86_iopl(c)))
        check_bitmap(c, port, size);
    x86_io_breakpoints(c, port, size);
}

static u16 port_operand(const struct x86_cpu *c, const struct x86_insn *i, unsigned n)
{
    return i->opd[n].kind == OPD_IMM ? (u8)i->imm : (u16)c->gpr[RDX];
}

void exec_in(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned size = i->opd[0].size;
    u16 port = port_operand(c, i, 1);
    check_port(c, port, size);
    x86_gpr_write(c, RAX, size, c->ops->in(c, port, size));
}

void exec_out(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned size = i->opd[1].size;
    u16 port = port_operand(c, i, 0);
    check_port(c, port, size);
    c->ops->out(c, port, size, (u32)x86_gpr_read(c, RAX, size));
}

/* -- Strings ------------------------------------------------------------------------------- */

static void advance(struct x86_cpu *c, const struct x86_insn *i, unsigned reg)
{
    u64 v = x86_gpr_read(c, reg, i->adsize);
    v = c->rflags & FLAG_DF ? v - i->opsize : v + i->opsize;
    x86_gpr_write(c, reg, i->adsize, v);
}

/* The port is read only once the store cannot fail: reading may change the device. */
static void ins_one(struct x86_cpu *c, const struct x86_insn *i, u16 port)
{
    struct gva la =
        x86_linear(c, SEG_ES, x86_gpr_read(c, RDI, i->adsize), i->opsize, ACCESS_WRITE);
    c->ops->probe(c, la, i->opsize, ACCESS_WRITE, AS_CPL);
    x86_store_linear(c, la, i->opsize, c->ops->in(c, port, i->opsize));
    advance(c, i, RDI);
}

static void outs_one(struct x86_cpu *c, const struct x86_insn *i, u16 port)
{
    u64 value = x86_load(c, i->seg, x86_gpr_read(c, RSI, i->adsize), i->opsize);
    c->ops->out(c, port, i->opsize, (u32)value);
    advance(c, i, RSI);
}

static void repeat(struct x86_cpu *c, const struct x86_insn *i,
                   void (*one)(struct x86_cpu *c, const struct x86_insn *i, u16 port))
{
    u16 port = (u16)c->gpr[RDX];
    check_port(c, port, i->opsize);
    if (!(i->flags & (INSN_REP | INSN_REPNE))) {
        one(c, i, port);
        return;
    }
    u64 count = x86_gpr_read(c, RCX, i->adsize);
    while (count) {
        one(c, i, port);
        x86_gpr_write(c, RCX, i->adsize, --count);
        if ((c->rflags & FLAG_TF) || c->pending_db ||
            atomic_load_explicit(&c->attention, memory_order_relaxed))
            break;
    }
    if (count)
        x86_suspend(c);
}

void exec_ins(struct x86_cpu *c, struct x86_insn *i)
{
    repeat(c, i, ins_one);
}

void exec_outs(struct x86_cpu *c, struct x86_insn *i)
{
    repeat(c, i, outs_one);
}
