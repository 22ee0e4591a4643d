/*
 * Guest instructions that access memory. Each access is preceded by a check against the
 * software TLB (cpu.h says what its entries promise):
 *
 *     lea   r10, [address]
 *     rorx  r11d, r10d, 12; and r11d, 4095             slot (or by BEXTR)
 *     xor   r10, [tag + r11 * 8]                       offset in the page, if it is this page
 *     cmp   r10, 4096 - size
 *     ja    slow                                       other page, or beyond its end
 *     mov   r11, [page + r11 * 8]
 *
 * and is made at [r10 + r11]. Outside 64-bit code, where the segment is not known to be flat,
 * its reach is checked and its base added before that:
 *
 *     lea   r11, [r10 + size]
 *     cmp   r11, gs:[end]
 *     ja    simulate
 *     add   r10d, gs:[base]
 */
#include "engine/bt/translate.h"

#include "base/ensure.h"

#define TLB_BITS    12
#define ADD_REG_MEM 0x03
#define CMP_REG_MEM 0x3b

_Static_assert(TLB_SIZE == 1 << TLB_BITS, "the check takes a slot's bits");

/* The register that holds guest register `reg` for an address; r10 and r11 are fetched into
 * `scratch`. */
static unsigned address_reg(struct translation *t, unsigned reg, unsigned scratch)
{
    if (reg >= 16)
        return NO_REG;
    if ((reg != R10 && reg != R11) || t->cached >> reg & 1)
        return reg;
    emit_load(&t->e, scratch, gpr_home(t, reg));
    t->cached &= (u16)~BIT(scratch);
    return scratch;
}

/* Does the operand's address, without segment, consist of constants only? */
static bool is_constant(const struct guest_insn *g)
{
    return g->base == BASE_RIP || (g->base == BASE_NONE && g->index == BASE_NONE);
}

static u64 cut(const struct guest_insn *g, u64 address)
{
    return g->adsize == 8 ? address : address & bits_low(8 * g->adsize);
}

static u64 constant_address(const struct guest_insn *g)
{
    return cut(g, (u64)g->disp + (g->base == BASE_RIP ? g->rip + g->length : 0));
}

bool operand_is_constant(const struct guest_insn *g)
{
    return is_constant(g) && g->seg != SEG_FS && g->seg != SEG_GS;
}

u64 operand_constant(const struct guest_insn *g)
{
    return constant_address(g);
}

/* The operand's address as one of the host's, but for its size. */
static struct host_mem operand_mem(struct translation *t, const struct guest_insn *g)
{
    unsigned base = address_reg(t, g->base, R10);
    unsigned index = address_reg(t, g->index, base == R11 ? R10 : R11);
    return (struct host_mem){
        .base = (u8)base, .index = (u8)index, .scale = g->scale, .disp = (s32)g->disp};
}

/* r10 := mem, cut to `size`. */
static void put_sum(struct emit *e, struct host_mem mem, unsigned size)
{
    if (mem.index != NO_REG || mem.disp) {
        emit_lea(e, size == 8 ? 8 : 4, R10, mem);
        if (size == 2)
            emit_move_zero(e, 2, R10, R10);
    } else if (mem.base != R10 || size != 8) {
        emit_move_zero(e, size, R10, mem.base);
    }
}

/* r10 := the offset `by` bytes from g's operand in its segment. */
static void put_offset(struct translation *t, const struct guest_insn *g, s32 by)
{
    if (is_constant(g)) {
        emit_const(&t->e, R10, cut(g, constant_address(g) + (u64)(s64)by));
        return;
    }
    struct host_mem mem = operand_mem(t, g);
    mem.disp += by;
    put_sum(&t->e, mem, g->adsize);
}

/* -- Checks -------------------------------------------------------------------------------- */

static struct x86_tlb *tlb_of(const struct translation *t)
{
    return &bt_cpu(t->bt)->tlb[t->tu->mode & MODE_SET_MASK];
}

struct host_mem tlb_tags(const struct translation *t, bool write)
{
    struct x86_tlb *tlb = tlb_of(t);
    return mem_gs_index(R11, bt_mem(t->bt, write ? tlb->write : tlb->read).disp);
}

bool segment_is_checked(u32 mode, unsigned seg)
{
    bool data = seg == SEG_DS || seg == SEG_ES || seg == SEG_SS;
    return !mode_is_64bit(mode) && !(data && (mode & MODE_FLAT));
}

/*
 * r10 := the linear address of the offset there. Jumps of a failed check to the simulator,
 * which raises what is due, go to `slow` and are counted by the result.
 */
static unsigned put_segment(struct translation *t, unsigned seg, unsigned size, bool write,
                            u8 *slow[2])
{
    struct emit *e = &t->e;
    struct x86_cpu *c = bt_cpu(t->bt);
    u32 mode = t->tu->mode;
    unsigned n = 0;
    if (mode_is_64bit(mode) && (seg == SEG_FS || seg == SEG_GS))
        emit_add(e, R10, bt_mem(t->bt, &c->flat_base[seg]));
    if (!segment_is_checked(mode, seg))
        return 0;
    const struct x86_reach *reach = &c->reach[seg];
    if ((mode & MODE_DOWN) || seg >= SEG_FS) {
        emit_rm(e, 8, CMP_REG_MEM, R10, bt_mem(t->bt, &reach->first));
        slow[n++] = emit_jump_if_later(e, CC_B);
    }
    emit_lea(e, 8, R11, mem_at(R10, (s32)size));
    emit_rm(e, 8, CMP_REG_MEM, R11, bt_mem(t->bt, &reach->end[write]));
    slow[n++] = emit_jump_if_later(e, CC_A);
    emit_rm(e, 4, ADD_REG_MEM, R10, bt_mem(t->bt, &c->seg[seg].base));
    return n;
}

static struct site *check_site(struct translation *t, unsigned size, bool write, bool shared)
{
    const struct guest_insn *g = translation_insn(t);
    struct site *site = site_here(t, SITE_ACCESS);
    site->retry = site->host;
    site->plain = g->kind == GUEST_COPY && (g->moves || (!write && !g->faults));
    site->size = (u16)size;
    site->write = write;
    site->shared = shared;
    return site;
}

/* The jump of a failed check. */
static struct cold *put_guard(struct translation *t, struct site *site, unsigned condition,
                              enum cold_kind kind)
{
    u8 *field = emit_jump_if_later(&t->e, condition);
    site->guard = (u8)(bt_offset(t->bt, field + t->e.to_exec) - site->host);
    struct cold *cold = cold_add(t, field, kind, (u32)(site - t->bt->sites), true);
    site->adapted = site->write && !site->shared && translation_insn(t)->adapted;
    if (site->adapted)
        cold->store = (u8)(t->now + 1);
    return cold;
}

/* Behind the check: a load of this place alone may go on with the operand elsewhere. */
static void check_done(const struct translation *t, struct site *site)
{
    const struct guest_insn *g = translation_insn(t);
    bool once = g->kind == GUEST_COPY || g->kind == GUEST_POP || g->kind == GUEST_BIT ||
                g->kind == GUEST_LEAVE || g->kind == GUEST_STRING || g->kind >= GUEST_JUMP ||
                (g->kind == GUEST_PUSH && g->memory);
    if (once && !site->write && !site->shared)
        site->passed = (u8)(bt_offset(t->bt, emit_here(&t->e)) - site->host);
}

/* With the offset in r10. A failed check of the TLB recovers the linear address by the same
 * exclusive or, and begins again with it when the TLB has been filled. `shared`: r10 := the
 * host's address. */
static void put_check(struct translation *t, unsigned seg, unsigned size, bool write,
                      bool shared)
{
    struct emit *e = &t->e;
    u8 *outside[2];
    unsigned n_outside = put_segment(t, seg, size, write, outside);
    t->cached = 0;
    struct site *site = check_site(t, size, write, shared);
    for (unsigned i = 0; i < n_outside; i++)
        cold_add(t, outside[i], COLD_SIMULATE, (u32)(site - t->bt->sites), true);
    emit_bits(e, R11, R10, PAGE_SHIFT, TLB_BITS);
    emit_xor(e, R10, tlb_tags(t, write));
    emit_compare_imm(e, R10, (s32)(PAGE_SIZE - size));
    put_guard(t, site, CC_A, COLD_ACCESS);
    struct host_mem page = mem_gs_index(R11, bt_mem(t->bt, tlb_of(t)->page).disp);
    if (shared)
        emit_add(e, R10, page);
    else
        emit_load(e, R11, page);
    check_done(t, site);
}

/* The same for an address that is known, as is its slot. r10 := the host's address of its
 * page. */
static void put_constant_check(struct translation *t, u64 address, unsigned size, bool write,
                               bool shared)
{
    struct emit *e = &t->e;
    struct x86_tlb *tlb = tlb_of(t);
    unsigned slot = tlb_slot(address);
    u64 page = address & PAGE_MASK;
    struct host_mem tag = bt_mem(t->bt, write ? &tlb->write[slot] : &tlb->read[slot]);
    struct site *site = check_site(t, size, write, shared);
    t->cached = 0;
    if (page == (u64)(s64)(s32)page) {
        emit_compare_mem_imm(e, 8, tag, (s32)page);
    } else {
        emit_const(e, R10, page);
        emit_rm(e, 8, CMP_REG_MEM, R10, tag);
    }
    put_guard(t, site, CC_NE, COLD_CONSTANT)->address = address;
    emit_load(e, R10, bt_mem(t->bt, &tlb->page[slot]));
    site->constant = true;
    check_done(t, site);
}

static const struct host_mem checked = {.base = R10, .index = R11};

struct host_mem free_r11(struct translation *t, struct host_mem at)
{
    if (at.index == NO_REG)
        return at;
    emit_lea(&t->e, 8, R10, at);
    return mem_at(R10, 0);
}

/* -- Checks that serve several accesses (coalesce.c) --------------------------------------- */

/* The group of an access, if it has company. */
static const struct group *group_of(const struct translation *t, const struct access *access)
{
    const struct group *group = access->group ? &t->group[access->group - 1] : NULL;
    return group && (group->members > 1 || group->hoisted) ? group : NULL;
}

static struct host_mem pointer_home(const struct translation *t, const struct group *group)
{
    return bt_mem(t->bt, &t->bt->hot->pointer[group->slot - 1]);
}

/* The place of an access whose group's host address is in r10. */
static struct host_mem beside(const struct access *access, const struct group *group)
{
    u64 from = group->constant ? (u64)group->low & PAGE_MASK : (u64)group->low;
    return mem_at(R10, (s32)((u64)access->offset - from));
}

/* Has a check served this access already? Then the group's host address is put into r10. */
static bool is_served(struct translation *t, const struct access *access,
                      const struct group *group)
{
    if (!group)
        return false;
    if (t->held == access->group)
        return true;
    if (!group->slot || !(t->checked[access->group / 32] >> access->group % 32 & 1))
        return false;
    emit_load(&t->e, R10, pointer_home(t, group));
    t->held = access->group;
    t->cached &= (u16)~BIT(R10);
    return true;
}

/* Behind the group's check: r10 is its host address. */
static struct host_mem keep(struct translation *t, const struct access *access,
                            const struct group *group)
{
    t->held = access->group;
    t->checked[access->group / 32] |= 1u << access->group % 32;
    if (group->slot)
        emit_store(&t->e, pointer_home(t, group), R10);
    return beside(access, group);
}

/* With the offset of the group's first byte in r10. */
static struct host_mem check_group(struct translation *t, unsigned seg,
                                   const struct access *access, const struct group *group)
{
    put_check(t, seg, (unsigned)(group->high - group->low), group->write, true);
    return keep(t, access, group);
}

static struct host_mem check_constant(struct translation *t, const struct access *access,
                                      const struct group *group, unsigned size, bool write)
{
    u64 address = (u64)access->offset;
    if (!group) {
        put_constant_check(t, address, size, write, false);
        return mem_at(R10, (s32)(address & ~PAGE_MASK));
    }
    put_constant_check(t, (u64)group->low, (unsigned)(group->high - group->low), group->write,
                       true);
    return keep(t, access, group);
}

void check_hoisted(struct translation *t)
{
    for (unsigned n = 0; n < t->n_groups; n++) {
        const struct group *group = &t->group[n];
        if (!group->hoisted || group->first != t->now)
            continue;
        const struct guest_insn *g = &t->insn[group->owner];
        const struct access *access = &t->access[group->owner][ACCESS_OPERAND];
        flags_clobber(t);
        t->held = 0;
        if (group->constant) {
            check_constant(t, access, group, 0, false);
        } else {
            put_offset(t, g, (s32)(group->low - access->offset));
            check_group(t, g->seg, access, group);
        }
    }
}

struct host_mem check_operand(struct translation *t, const struct guest_insn *g, unsigned size,
                              bool write)
{
    const struct access *access = &t->access[t->now][ACCESS_OPERAND];
    const struct group *group = group_of(t, access);
    if (is_served(t, access, group))
        return beside(access, group);
    flags_clobber(t);
    t->held = 0;
    if (access->group && t->group[access->group - 1].constant)
        return check_constant(t, access, group, size, write);
    put_offset(t, g, group ? (s32)(group->low - access->offset) : 0);
    if (group)
        return check_group(t, g->seg, access, group);
    put_check(t, g->seg, size, write, false);
    return checked;
}

struct host_mem check_stack(struct translation *t, unsigned reg, s32 disp, unsigned size,
                            bool write)
{
    const struct access *access = &t->access[t->now][ACCESS_STACK];
    const struct group *group = group_of(t, access);
    if (is_served(t, access, group))
        return beside(access, group);
    flags_clobber(t);
    t->held = 0;
    if (group)
        disp += (s32)(group->low - access->offset);
    put_sum(&t->e, mem_at(reg, disp), mode_stack_size(t->tu->mode));
    if (group)
        return check_group(t, SEG_SS, access, group);
    put_check(t, SEG_SS, size, write, false);
    return checked;
}

struct host_mem check_at(struct translation *t, unsigned seg, unsigned reg, unsigned adsize,
                         unsigned size, bool write)
{
    flags_clobber(t);
    t->held = 0;
    put_sum(&t->e, mem_at(reg, 0), adsize);
    put_check(t, seg, size, write, false);
    return checked;
}

void move_stack(struct translation *t, s32 by)
{
    by += t->stack_by;
    t->stack_by = 0;
    unsigned width = mode_stack_size(t->tu->mode);
    if (width != 2) {
        emit_lea(&t->e, width, RSP, mem_at(RSP, by));
        return;
    }
    emit_lea(&t->e, 4, R11, mem_at(RSP, by));
    emit_move_sized(&t->e, 2, RSP, R11);
}

/* -- Copies -------------------------------------------------------------------------------- */

/* Flags that must be in the host's when the instruction itself runs. */
static u16 flags_needed(const struct translation *t)
{
    return guest_flags_needed(translation_insn(t), live_after(t));
}

static bool has_bit(u16 set, unsigned reg)
{
    return set >> reg & 1;
}

static void copy_registers(struct translation *t, const struct guest_insn *g)
{
    u16 in = g->regs_read | g->regs_partial;
    for (unsigned reg = R10; reg <= R11; reg++) {
        if (has_bit(in, reg) && !has_bit(t->cached, reg))
            emit_load(&t->e, reg, gpr_home(t, reg));
    }
    t->cached |= (in | g->regs_written) & (BIT(R10) | BIT(R11));
    if (g->faults)
        site_here(t, SITE_ACCESS);
    rewrite_copy(&t->e, g);
    for (unsigned reg = R10; reg <= R11; reg++) {
        if (has_bit(g->regs_written, reg))
            emit_store(&t->e, gpr_home(t, reg), reg);
    }
}

/* AH..BH cannot be named beside r10: another register lends itself. */
static void copy_high8(struct translation *t, const struct guest_insn *g, struct host_mem at)
{
    static const u8 lenders[] = {RSI, RDI, RBP, RBX};
    unsigned i = 0;
    while (has_bit(g->regs_read | g->regs_written, lenders[i]))
        i++;
    ensure(i < ARRAY_LEN(lenders));
    unsigned lent = lenders[i];
    at = free_r11(t, at);
    t->cached = 0;
    emit_move(&t->e, R11, lent);
    emit_move(&t->e, lent, R10);
    rewrite_memory(&t->e, g, mem_at(lent, at.disp), NO_REG, NO_REG);
    emit_move(&t->e, lent, R11);
}

static void copy_memory(struct translation *t, const struct guest_insn *g)
{
    struct host_mem at = check_operand(t, g, g->mem_size, g->mem_write);
    flags_restore(t, flags_needed(t));
    u16 used = g->regs_read | g->regs_written;
    unsigned freed = has_bit(used, R10) ? R10 : has_bit(used, R11) ? R11 : NO_REG;
    if (g->high8) {
        copy_high8(t, g, at);
        return;
    }
    if (freed == NO_REG) {
        if (g->faults)
            site_here(t, SITE_ACCESS);
        rewrite_memory(&t->e, g, at, NO_REG, NO_REG);
        return;
    }
    /* The value goes to r11; an instruction that only writes it may use it for the address
     * too. */
    if (has_bit(g->regs_read | g->regs_partial, freed)) {
        at = free_r11(t, at);
        emit_load(&t->e, R11, gpr_home(t, freed));
    }
    if (g->faults)
        site_here(t, SITE_ACCESS);
    rewrite_memory(&t->e, g, at, freed, R11);
    if (has_bit(g->regs_written, freed))
        emit_store(&t->e, gpr_home(t, freed), R11);
    t->cached &= (u16) ~(BIT(R10) | BIT(R11));
    if (freed == R11)
        t->cached |= BIT(R11);
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
    flags_written(t);
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
    put_offset(t, g, 0);
    if (freed)
        emit_load(e, R11, gpr_home(t, reg));
    emit_rr(e, 8, wide ? 0x8b : 0x63, R11, freed ? R11 : reg); /* mov, movsxd */
    emit_rr(e, 8, 0xc1, 7, R11);                               /* sar */
    emit_byte(e, wide ? 6 : 5);
    emit_lea(e, g->adsize, R10,
             (struct host_mem){.base = R10, .index = R11, .scale = wide ? 3 : 2});
    put_check(t, g->seg, g->opsize, g->mem_write, false);
    free_r11(t, checked);
    if (freed)
        emit_load(e, R11, gpr_home(t, reg));
    else
        emit_move(e, R11, reg);
    emit_and_imm(e, R11, wide ? 63 : 31);
    flags_restore(t, flags_needed(t));
    rewrite_memory(e, g, mem_at(R10, 0), reg, R11);
    flags_written(t);
}

void translate_address(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    unsigned to = (unsigned)__builtin_ctz(g->regs_written);
    bool freed = to == R10 || to == R11;
    unsigned at = freed || g->opsize == 2 || g->adsize == 2 ? R10 : to;
    if (is_constant(g))
        emit_const(e, at, constant_address(g) & bits_low(8 * g->opsize));
    else
        emit_lea(e, g->opsize == 8 ? g->adsize : 4, at, operand_mem(t, g));
    if (g->adsize == 2)
        emit_move_zero(e, 2, R10, R10);
    if (freed)
        emit_store_sized(e, g->opsize == 2 ? 2 : 8, gpr_home(t, to), R10);
    else if (at != to)
        emit_move_sized(e, g->opsize, to, R10);
}

/* -- Stack --------------------------------------------------------------------------------- */

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

bool names_rsp(const struct guest_insn *g)
{
    u8 byte = g->bytes[g->modrm ? g->modrm : g->opcode];
    return !g->memory && (byte & 7) == RSP && !(g->rex & 1) &&
           (g->modrm || (byte & 0xf0) == 0x50);
}

/* r11 := what PUSH pushes, when no register or constant stands for it. */
static void load_pushed(struct translation *t, const struct guest_insn *g, unsigned reg)
{
    struct emit *e = &t->e;
    if (g->segment < SEG_COUNT)
        emit_load_zero(e, 2, R11, bt_mem(t->bt, &bt_cpu(t->bt)->seg[g->segment].sel));
    else
        emit_load(e, R11, g->memory ? bt_mem(t->bt, &t->bt->hot->spill[0]) : gpr_home(t, reg));
}

/* Is the next instruction another push or pop, whose place on the stack is known without RSP?
 * Nothing can stop the guest between the two. */
static bool stack_moves_later(const struct translation *t)
{
    if (translation_last(t))
        return false;
    const struct guest_insn *g = &t->insn[t->now + 1];
    const struct access *next = &t->access[t->now + 1][ACCESS_STACK];
    const struct group *group = group_of(t, next);
    if ((g->kind != GUEST_PUSH && g->kind != GUEST_POP) || g->memory || names_rsp(g) || !group)
        return false;
    return (t->held == next->group && keeps_r10(translation_insn(t))) ||
           (group->slot && (t->checked[next->group / 32] >> next->group % 32 & 1));
}

/* The same as move_stack, at the end of a push or pop. */
static void move_stack_once(struct translation *t, s32 by)
{
    if (stack_moves_later(t))
        t->stack_by += by;
    else
        move_stack(t, by);
}

void translate_push(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    unsigned size = g->opsize;
    bool segment = g->segment < SEG_COUNT;
    unsigned reg = names_rsp(g) ? RSP : register_operand(g, g->regs_read & (u16)~BIT(RSP));
    if (g->memory) {
        emit_load_zero(e, size, R10, check_operand(t, g, size, false));
        emit_store(e, bt_mem(t->bt, &t->bt->hot->spill[0]), R10);
        t->held = 0;
    }
    struct host_mem at = check_stack(t, RSP, -(s32)size, size, true);
    if (g->memory || segment || freed_reg(reg)) {
        at = free_r11(t, at);
        load_pushed(t, g, reg);
        bool half = segment && size == 4 && x86_quirk(bt_cpu(t->bt)->model, QUIRK_PUSH_SEG_16);
        emit_store_sized(e, half ? 2 : size, at, R11);
    } else if (reg == NO_REG) {
        emit_store_imm(e, size, at, (s32)g->imm);
    } else {
        emit_store_sized(e, size, at, reg);
    }
    move_stack_once(t, -(s32)size);
}

static void pop_to_memory(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    struct host_mem spill = bt_mem(t->bt, &t->bt->hot->spill[0]);
    emit_load_zero(e, g->opsize, R10, check_stack(t, RSP, 0, g->opsize, false));
    emit_store(e, spill, R10);
    t->held = 0;
    struct host_mem at = free_r11(t, check_operand(t, g, g->opsize, true));
    emit_load(e, R11, spill);
    emit_store_sized(e, g->opsize, at, R11);
    move_stack(t, g->opsize);
}

void translate_pop(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    unsigned size = g->opsize;
    if (g->memory) {
        pop_to_memory(t);
        return;
    }
    struct host_mem at = check_stack(t, RSP, 0, size, false);
    if (names_rsp(g)) {
        emit_load_zero(e, size, R10, at);
        t->held = 0;
        move_stack(t, (s32)size);
        emit_move_sized(e, size, RSP, R10);
        return;
    }
    unsigned reg = register_operand(g, g->regs_written);
    emit_load_sized(e, size, reg, at);
    if (freed_reg(reg))
        emit_store(e, gpr_home(t, reg), reg);
    move_stack_once(t, (s32)size);
}

void translate_leave(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    unsigned width = mode_stack_size(t->tu->mode);
    emit_load_zero(e, g->opsize, R10, check_stack(t, RBP, 0, g->opsize, false));
    emit_lea(e, width == 8 ? 8 : 4, R11, mem_at(RBP, g->opsize));
    emit_move_sized(e, width, RSP, R11);
    emit_move_sized(e, g->opsize, RBP, R10);
}
