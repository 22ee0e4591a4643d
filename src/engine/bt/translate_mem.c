/*
 * Guest instructions that access memory. Each access is preceded by a check against the
 * software TLB (cpu.h says what its entries promise):
 *
 *     lea   r10, [address]
 *     mov   r11d, control; bextr r11d, r10d, r11d     slot
 *     xor   r10, gs:[tag + r11 * 8]                    offset in the page, if it is this page
 *     cmp   r10, 4096 - size
 *     ja    slow                                       other page, or beyond its end
 *     mov   r11, gs:[page + r11 * 8]
 *
 * and is made at [r10 + r11].
 */
#include "engine/bt/translate.h"

#include "base/ensure.h"

#define TLB_BITS 10
_Static_assert(TLB_SIZE == 1 << TLB_BITS, "the check takes a slot's bits");

/* The register that holds guest register `reg` for an address; r10 and r11 are fetched into
 * `scratch`. */
static unsigned address_reg(struct translation *t, unsigned reg, unsigned scratch)
{
    if (reg >= 16)
        return NO_REG;
    if (reg != R10 && reg != R11)
        return reg;
    emit_load(&t->e, scratch, gpr_home(t, reg));
    return scratch;
}

/* r10 := the linear address of g's operand. */
static void put_address(struct translation *t, const struct guest_insn *g)
{
    struct emit *e = &t->e;
    if (g->base == BASE_RIP || (g->base == BASE_NONE && g->index == BASE_NONE)) {
        u64 address = (u64)g->disp + (g->base == BASE_RIP ? g->rip + g->length : 0);
        emit_const(e, R10, g->adsize == 4 ? (u32)address : address);
    } else {
        unsigned base = address_reg(t, g->base, R10);
        unsigned index = address_reg(t, g->index, R11);
        struct host_mem mem = {
            .base = (u8)base, .index = (u8)index, .scale = g->scale, .disp = (s32)g->disp};
        unsigned size = g->adsize == 4 ? 4 : 8;
        if (index == NO_REG && !g->disp && size == 8) {
            if (base != R10)
                emit_move(e, R10, base);
        } else {
            emit_lea(e, size, R10, mem);
        }
    }
    if (g->seg == SEG_FS || g->seg == SEG_GS)
        emit_add(e, R10, bt_mem(t->bt, &bt_cpu(t->bt)->flat_base[g->seg]));
}

static struct x86_tlb *tlb_of(const struct translation *t)
{
    return &bt_cpu(t->bt)->tlb[t->tu->mode & MODE_SET_MASK];
}

struct host_mem tlb_tags(const struct translation *t, bool write)
{
    struct x86_tlb *tlb = tlb_of(t);
    return mem_gs_index(R11, bt_mem(t->bt, write ? tlb->write : tlb->read).disp);
}

/* With the address in r10. A failed check recovers it by the same exclusive or, and begins
 * again with it when the TLB has been filled. */
static void put_check(struct translation *t, unsigned size, bool write)
{
    struct emit *e = &t->e;
    struct bt *bt = t->bt;
    struct site *site = site_here(t, SITE_ACCESS);
    site->retry = site->host;
    site->size = (u8)size;
    site->write = write;
    emit_bits(e, R11, R10, PAGE_SHIFT, TLB_BITS);
    emit_xor(e, R10, tlb_tags(t, write));
    emit_compare_imm(e, R10, (s32)(PAGE_SIZE - size));
    u8 *slow = emit_jump_if_later(e, CC_A);
    cold_add(t, slow, COLD_ACCESS, (u32)(site - bt->sites), true);
    emit_load(e, R11, mem_gs_index(R11, bt_mem(bt, tlb_of(t)->page).disp));
}

void check_operand(struct translation *t, const struct guest_insn *g, unsigned size, bool write)
{
    put_address(t, g);
    put_check(t, size, write);
}

void check_stack(struct translation *t, unsigned reg, s32 disp, bool write)
{
    if (disp)
        emit_lea(&t->e, 8, R10, mem_at(reg, disp));
    else
        emit_move(&t->e, R10, reg);
    put_check(t, 8, write);
}

static const struct host_mem checked = {.base = R10, .index = R11};

/* Folds the checked address into r10, so that r11 is free. */
static void fold(struct translation *t)
{
    emit_lea(&t->e, 8, R10, checked);
}

/* -- Copies -------------------------------------------------------------------------------- */

/* Flags that must be in the host's when the instruction itself runs. */
static u16 flags_needed(const struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    return g->flags_read | (g->flags_write ? live_after(t) & (u16)~g->flags_kill : 0);
}

static bool has_bit(u16 set, unsigned reg)
{
    return set >> reg & 1;
}

static void copy_registers(struct translation *t, const struct guest_insn *g)
{
    u16 in = g->regs_read | g->regs_partial;
    for (unsigned reg = R10; reg <= R11; reg++) {
        if (has_bit(in, reg))
            emit_load(&t->e, reg, gpr_home(t, reg));
    }
    if (g->faults)
        site_here(t, SITE_ACCESS);
    rewrite_copy(&t->e, g);
    for (unsigned reg = R10; reg <= R11; reg++) {
        if (has_bit(g->regs_written, reg))
            emit_store(&t->e, gpr_home(t, reg), reg);
    }
}

/* AH..BH cannot be named beside r10: another register lends itself. */
static void copy_high8(struct translation *t, const struct guest_insn *g)
{
    static const u8 lenders[] = {RSI, RDI, RBP, RBX};
    unsigned i = 0;
    while (has_bit(g->regs_read | g->regs_written, lenders[i]))
        i++;
    ensure(i < ARRAY_LEN(lenders));
    unsigned lent = lenders[i];
    fold(t);
    emit_move(&t->e, R11, lent);
    emit_move(&t->e, lent, R10);
    rewrite_memory(&t->e, g, mem_at(lent, 0), NO_REG, NO_REG);
    emit_move(&t->e, lent, R11);
}

static void copy_memory(struct translation *t, const struct guest_insn *g)
{
    flags_clobber(t);
    check_operand(t, g, g->mem_size, g->mem_write);
    flags_restore(t, flags_needed(t));
    u16 used = g->regs_read | g->regs_written;
    unsigned freed = has_bit(used, R10) ? R10 : has_bit(used, R11) ? R11 : NO_REG;
    if (g->high8) {
        copy_high8(t, g);
        return;
    }
    if (freed == NO_REG) {
        if (g->faults)
            site_here(t, SITE_ACCESS);
        rewrite_memory(&t->e, g, checked, NO_REG, NO_REG);
        return;
    }
    /* The value goes to r11; an instruction that only writes it may use it for the address
     * too. */
    struct host_mem mem = checked;
    if (has_bit(g->regs_read | g->regs_partial, freed)) {
        fold(t);
        mem = mem_at(R10, 0);
        emit_load(&t->e, R11, gpr_home(t, freed));
    }
    if (g->faults)
        site_here(t, SITE_ACCESS);
    rewrite_memory(&t->e, g, mem, freed, R11);
    if (has_bit(g->regs_written, freed))
        emit_store(&t->e, gpr_home(t, freed), R11);
}

void translate_copy(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    if (g->memory) {
        copy_memory(t, g);
    } else {
        flags_restore(t, flags_needed(t));
        copy_registers(t, g);
    }
    if (g->flags_write)
        t->flags = FLAGS_HOST;
}

/* BT, BTS, BTR, BTC with the bit in a register: it may lie anywhere around the operand. The
 * address of its word is checked, then the instruction runs with the rest of the number. */
void translate_bit(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    unsigned reg = (g->bytes[g->modrm] >> 3 & 7) | (g->rex & 4 ? 8 : 0);
    bool wide = g->opsize == 8;
    bool freed = reg == R10 || reg == R11;
    flags_clobber(t);
    put_address(t, g);
    if (freed)
        emit_load(e, R11, gpr_home(t, reg));
    emit_rr(e, 8, wide ? 0x8b : 0x63, R11, freed ? R11 : reg); /* mov, movsxd */
    emit_rr(e, 8, 0xc1, 7, R11);                               /* sar */
    emit_byte(e, wide ? 6 : 5);
    emit_lea(e, 8, R10, (struct host_mem){.base = R10, .index = R11, .scale = wide ? 3 : 2});
    put_check(t, g->opsize, g->mem_write);
    fold(t);
    if (freed)
        emit_load(e, R11, gpr_home(t, reg));
    else
        emit_move(e, R11, reg);
    emit_and_imm(e, R11, wide ? 63 : 31);
    flags_restore(t, flags_needed(t));
    rewrite_memory(e, g, mem_at(R10, 0), reg, R11);
    t->flags = FLAGS_HOST;
}

void translate_address(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    unsigned to = (unsigned)__builtin_ctz(g->regs_written);
    emit_const(&t->e, to, g->imm);
    if (to == R10 || to == R11)
        emit_store(&t->e, gpr_home(t, to), to);
}

/* -- Stack
 * --------------------------------------------------------------------------------------
 */

static bool freed_reg(unsigned reg)
{
    return reg == R10 || reg == R11;
}

/* The pushed register, or NO_REG. */
static unsigned register_operand(const struct guest_insn *g, u16 set)
{
    u16 others = set & (u16)~BIT(RSP);
    if (others)
        return (unsigned)__builtin_ctz(others);
    return has_bit(set, RSP) ? RSP : NO_REG;
}

/* Is RSP the operand of PUSH or POP itself, beside being the stack pointer? */
static bool names_rsp(const struct guest_insn *g)
{
    u8 byte = g->bytes[g->modrm ? g->modrm : g->opcode];
    return !g->memory && (byte & 7) == RSP && !(g->rex & 1) &&
           (g->modrm || (byte & 0xf0) == 0x50);
}

void translate_push(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    struct host_mem spill = bt_mem(t->bt, &t->bt->hot->spill[0]);
    unsigned reg = names_rsp(g) ? RSP : register_operand(g, g->regs_read & (u16)~BIT(RSP));
    bool immediate = !g->memory && reg == NO_REG;
    flags_clobber(t);
    if (g->memory) {
        check_operand(t, g, 8, false);
        emit_load(e, R10, checked);
        emit_store(e, spill, R10);
    }
    check_stack(t, RSP, -8, true);
    if (immediate) {
        emit_store_imm(e, 8, checked, (s32)g->imm);
    } else if (g->memory || freed_reg(reg)) {
        fold(t);
        emit_load(e, R11, g->memory ? spill : gpr_home(t, reg));
        emit_store(e, mem_at(R10, 0), R11);
    } else {
        emit_store(e, checked, reg);
    }
    emit_lea(e, 8, RSP, mem_at(RSP, -8));
}

void translate_pop(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    flags_clobber(t);
    check_stack(t, RSP, 0, false);
    if (names_rsp(g)) {
        emit_load(e, RSP, checked);
        return;
    }
    unsigned reg = register_operand(g, g->regs_written);
    emit_load(e, reg, checked);
    if (freed_reg(reg))
        emit_store(e, gpr_home(t, reg), reg);
    emit_lea(e, 8, RSP, mem_at(RSP, 8));
}

void translate_leave(struct translation *t)
{
    flags_clobber(t);
    check_stack(t, RBP, 0, false);
    emit_load(&t->e, R10, checked);
    emit_lea(&t->e, 8, RSP, mem_at(RBP, 8));
    emit_move(&t->e, RBP, R10);
}
