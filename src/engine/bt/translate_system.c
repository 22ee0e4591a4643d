/*
 * Privileged and sensitive instructions that are frequent enough to be done in line, on the
 * virtual state in struct x86_cpu. What they cannot decide here, as an interrupt that waits for
 * the IF that STI sets, goes to the simulator before anything was changed.
 */
#include "engine/bt/translate.h"

#include "x86/model.h"

/* Opcode and /n of the immediate group 1 with a 32-bit immediate. */
enum group1 { G1_OR = 1, G1_AND = 4, G1_CMP = 7 };

static void group1_mem(struct translation *t, enum group1 op, const volatile void *field,
                       u32 value)
{
    emit_rm_imm(&t->e, 4, 0x81, op, bt_mem(t->bt, field), 4);
    emit_u32(&t->e, value);
}

static void or_reg(struct translation *t, unsigned size, unsigned to, unsigned from)
{
    emit_rr(&t->e, size, 0x09, from, to);
}

void system_or_mem(struct translation *t, const volatile void *field, u32 value)
{
    group1_mem(t, G1_OR, field, value);
}

void system_and_mem(struct translation *t, const volatile void *field, u32 value)
{
    group1_mem(t, G1_AND, field, value);
}

void system_test_mem(struct translation *t, const volatile void *field, u32 value)
{
    emit_rm_imm(&t->e, 4, 0xf7, 0, bt_mem(t->bt, field), 4);
    emit_u32(&t->e, value);
}

void system_leave_if(struct translation *t, unsigned condition, const struct site *site)
{
    u8 *field = emit_jump_if_later(&t->e, condition);
    cold_add(t, field, COLD_SIMULATE, (u32)(site - t->bt->sites), true);
}

void system_leave_if_attention(struct translation *t, const struct site *site)
{
    group1_mem(t, G1_CMP, &bt_cpu(t->bt)->attention, 0);
    system_leave_if(t, CC_NE, site);
}

void system_rflags(struct translation *t, unsigned to, unsigned scratch)
{
    struct emit *e = &t->e;
    emit_load32(e, to, bt_mem(t->bt, &t->bt->hot->flags));
    emit_rr(e, 4, 0x89, to, scratch);
    emit_shift(e, 4, SHIFT_RIGHT, to, 8);
    emit_and_imm(e, to, FLAGS_STATUS & 0xff);
    emit_and_imm(e, scratch, 1);
    emit_shift(e, 4, SHIFT_LEFT, scratch, 11);
    or_reg(t, 4, to, scratch);
    emit_load32(e, scratch, bt_mem(t->bt, &bt_cpu(t->bt)->rflags));
    emit_and_imm(e, scratch, (u32) ~(FLAGS_STATUS | FLAG_RF | FLAG_VM));
    or_reg(t, 4, to, scratch);
}

/* -- Interrupt flag ------------------------------------------------------------------------ */

static void cli(struct translation *t)
{
    flags_clobber(t);
    group1_mem(t, G1_AND, &bt_cpu(t->bt)->rflags, (u32)~FLAG_IF);
}

/*
 * STI holds interrupts back until the next instruction is done. While nothing waits, it is
 * enough that nothing is looked for in between: that instruction is in this TU
 * (system_in_line), and its poll, if it has one, is left out (translate_flow.c).
 */
static void sti(struct translation *t)
{
    flags_clobber(t);
    system_leave_if_attention(t, callout_site(t));
    group1_mem(t, G1_OR, &bt_cpu(t->bt)->rflags, FLAG_IF);
}

/* PUSHF, PUSHFD, PUSHFQ */
static void push_flags(struct translation *t)
{
    struct emit *e = &t->e;
    unsigned size = translation_insn(t)->opsize;
    struct host_mem spill = bt_mem(t->bt, &t->bt->hot->spill[0]);
    flags_clobber(t);
    system_rflags(t, R10, R11);
    emit_store(e, spill, R10);
    struct host_mem at = free_r11(t, check_stack(t, RSP, -(s32)size, size, true));
    emit_load(e, R11, spill);
    emit_store_sized(e, size, at, R11);
    move_stack(t, -(s32)size);
}

/* Only the arithmetic flags and IF may change here. */
static void pop_flags(struct translation *t)
{
    struct emit *e = &t->e;
    struct x86_cpu *c = bt_cpu(t->bt);
    unsigned size = translation_insn(t)->opsize;
    bool kernel = !(t->tu->mode & MODE_CPL(3));
    u64 rare = FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_IOPL;
    rare &= bits_low(8 * size);
    flags_clobber(t);
    const struct site *site = callout_site(t);
    emit_load_zero(e, size, R10, check_stack(t, RSP, 0, size, false));
    emit_move(e, R11, R10);
    emit_xor(e, R11, bt_mem(t->bt, &c->rflags));
    emit_test_imm(e, R11, (u32)(kernel ? rare : rare | FLAG_IF));
    system_leave_if(t, CC_NE, site);
    if (kernel) {
        emit_test_imm(e, R10, FLAG_IF);
        u8 *off = emit_jump_if_later(e, CC_E);
        system_leave_if_attention(t, site);
        emit_bind(e, off, emit_here(e));
        emit_move(e, R11, R10);
        emit_and_imm(e, R11, FLAG_IF);
        group1_mem(t, G1_AND, &c->rflags, (u32)~FLAG_IF);
        emit_rm(e, 4, 0x09, R11, bt_mem(t->bt, &c->rflags));
    }
    emit_move(e, R11, R10);
    emit_shift(e, 4, SHIFT_RIGHT, R11, 11);
    emit_and_imm(e, R11, 1);
    emit_shift(e, 4, SHIFT_LEFT, R10, 8);
    or_reg(t, 4, R10, R11);
    emit_store32(e, bt_mem(t->bt, &t->bt->hot->flags), R10);
    move_stack(t, (s32)size);
}

/* -- Others -------------------------------------------------------------------------------- */

static void swapgs(struct translation *t)
{
    struct emit *e = &t->e;
    struct x86_cpu *c = bt_cpu(t->bt);
    emit_load(e, R10, bt_mem(t->bt, &c->seg[SEG_GS].base));
    emit_load(e, R11, bt_mem(t->bt, &c->kernel_gs_base));
    emit_store(e, bt_mem(t->bt, &c->kernel_gs_base), R10);
    emit_store(e, bt_mem(t->bt, &c->seg[SEG_GS].base), R11);
    emit_store(e, bt_mem(t->bt, &c->flat_base[SEG_GS]), R11);
}

static void rdtsc(struct translation *t)
{
    /* RDTSCP waits for what is before it: clocks that take turns under a lock rest on that. */
    static const u8 plain[] = {0x0f, 0x31}, ordered[] = {0x0f, 0x01, 0xf9};
    bool waits = translation_insn(t)->mnemonic == ZYDIS_MNEMONIC_RDTSCP;
    struct emit *e = &t->e;
    struct x86_cpu *c = bt_cpu(t->bt);
    flags_clobber(t);
    emit_bytes(e, waits ? ordered : plain, waits ? sizeof(ordered) : sizeof(plain));
    emit_shift(e, 8, SHIFT_LEFT, RDX, 32);
    or_reg(t, 8, RAX, RDX);
    emit_add(e, RAX, bt_mem(t->bt, &c->tsc_offset));
    emit_move(e, RDX, RAX);
    emit_shift(e, 8, SHIFT_RIGHT, RDX, 32);
    emit_rr(e, 4, 0x89, RAX, RAX);
    if (waits)
        emit_load32(e, RCX, bt_mem(t->bt, &c->tsc_aux));
}

/* -- Register moves ------------------------------------------------------------------------ */

/* The GPR in ModRM.rm. */
/* The GPR that is `reg` for the host, r10 where it has its home in memory. */
static unsigned host_register(unsigned reg)
{
    return reg == R11 ? R10 : reg;
}

static void put_home(struct translation *t, unsigned reg)
{
    if (reg == R10 || reg == R11)
        emit_store(&t->e, gpr_home(t, reg), R10);
}

/* Is it MOV r, CRn? CR8 is the local APIC's. */
static bool reads_control(const struct guest_insn *g)
{
    const u16 known = BIT(0) | BIT(2) | BIT(3) | BIT(4);
    return g->bytes[g->opcode] == 0x0f && g->bytes[g->opcode + 1] == 0x20 &&
           (known >> guest_reg(g) & 1);
}

static void read_control(struct translation *t)
{
    struct x86_cpu *c = bt_cpu(t->bt);
    const u64 *const registers[] = {&c->cr0, NULL, &c->cr2, &c->cr3, &c->cr4};
    const struct guest_insn *g = translation_insn(t);
    unsigned to = guest_rm(g);
    emit_rm(&t->e, mode_is_64bit(t->tu->mode) ? 8 : 4, 0x8b, host_register(to),
            bt_mem(t->bt, registers[guest_reg(g)]));
    put_home(t, to);
}

/* Is it MOV CR2, r? */
static bool writes_cr2(const struct guest_insn *g)
{
    return g->bytes[g->opcode] == 0x0f && g->bytes[g->opcode + 1] == 0x22 && guest_reg(g) == 2;
}

static void write_cr2(struct translation *t)
{
    unsigned from = guest_rm(translation_insn(t));
    if (from == R10 || from == R11)
        emit_load(&t->e, R10, gpr_home(t, from));
    emit_store(&t->e, bt_mem(t->bt, &bt_cpu(t->bt)->cr2), host_register(from));
}

/* -- FS and GS base ------------------------------------------------------------------------ */

static const struct site *need_fsgsbase(struct translation *t)
{
    flags_clobber(t);
    const struct site *site = callout_site(t);
    system_test_mem(t, &bt_cpu(t->bt)->cr4, CR4_FSGSBASE);
    system_leave_if(t, CC_E, site);
    return site;
}

static void read_base(struct translation *t, enum x86_seg_reg seg)
{
    const struct guest_insn *g = translation_insn(t);
    unsigned to = guest_rm(g);
    need_fsgsbase(t);
    emit_rm(&t->e, g->opsize, 0x8b, host_register(to),
            bt_mem(t->bt, &bt_cpu(t->bt)->seg[seg].base));
    put_home(t, to);
}

static void write_base(struct translation *t, enum x86_seg_reg seg)
{
    const struct guest_insn *g = translation_insn(t);
    struct x86_cpu *c = bt_cpu(t->bt);
    struct emit *e = &t->e;
    unsigned from = guest_rm(g);
    const struct site *site = need_fsgsbase(t);
    if (from == R10 || from == R11)
        emit_load(e, R10, gpr_home(t, from));
    emit_rr(e, g->opsize, 0x8b, R10, host_register(from));
    if (g->opsize == 8) {
        /* Bits 63:47 must be alike. */
        emit_move(e, R11, R10);
        emit_shift(e, 8, SHIFT_LEFT, R11, 16);
        emit_rr(e, 8, 0xc1, 7, R11); /* sar */
        emit_byte(e, 16);
        emit_rr(e, 8, 0x39, R11, R10);
        system_leave_if(t, CC_NE, site);
    }
    emit_store(e, bt_mem(t->bt, &c->seg[seg].base), R10);
    emit_store(e, bt_mem(t->bt, &c->flat_base[seg]), R10);
}

/* -- VERW ---------------------------------------------------------------------------------- */

/* Linux clears processor buffers with it on each way to user code. */
static void verw(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    struct emit *e = &t->e;
    flags_clobber(t);
    if (g->memory) {
        check_operand(t, g, 2, false);
        emit_rm(e, 4, 0x0fb7, R10, mem_sum(R10, R11, 0));
    } else if (guest_rm(g) == R10 || guest_rm(g) == R11) {
        emit_load(e, R10, gpr_home(t, guest_rm(g)));
    } else {
        emit_move(e, R10, guest_rm(g));
    }
    emit_const(e, R11, (u64)(callout_site(t) - t->bt->sites));
    emit_jump(e, t->bt->stubs.verw);
}

/* -- PAUSE --------------------------------------------------------------------------------- */

bool pause_in_line(const struct bt *bt, const struct guest_insn *g)
{
    /* With REX.B it is an exchange. */
    return g->mnemonic == ZYDIS_MNEMONIC_PAUSE && !g->regs_written &&
           bt->vcpu->board->n_vcpus > 1;
}

/* Somebody waits, perhaps for a vCPU whose thread has no processor just now. */
static void relax(struct translation *t)
{
    struct emit *e = &t->e;
    flags_clobber(t);
    emit_const(e, R11, (u64)(callout_site(t) - t->bt->sites));
    emit_jump(e, t->bt->stubs.pause);
}

/* -- All of them --------------------------------------------------------------------------- */

/* Those of 64-bit code. */
static bool long_in_line(const struct x86_model *model, const struct guest_insn *g, bool kernel)
{
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_SWAPGS:
        return kernel;
    case ZYDIS_MNEMONIC_VERW:
        return true;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        return x86_has(model, FEAT_FSGSBASE);
    default:
        return false;
    }
}

bool system_in_line(const struct bt *bt, const struct guest_insn *g, u32 mode)
{
    const struct x86_model *model = bt->vcpu->cpu.model;
    bool kernel = !(mode & MODE_CPL(3));
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
        return kernel;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        /* Virtual-8086 mode asks IOPL. */
        return kernel || (mode & MODE_PROTECTED);
    case ZYDIS_MNEMONIC_RDTSC:
        return kernel || (mode & MODE_TSC);
    case ZYDIS_MNEMONIC_RDTSCP:
        return (kernel || (mode & MODE_TSC)) && x86_has(model, FEAT_RDTSCP);
    case ZYDIS_MNEMONIC_MOV:
        return kernel && (reads_control(g) || (mode_is_64bit(mode) && writes_cr2(g)));
    default:
        return xstate_in_line(model, g, mode) ||
               (mode_is_64bit(mode) && long_in_line(model, g, kernel));
    }
}

void translate_system(struct translation *t)
{
    switch (translation_insn(t)->mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
        cli(t);
        break;
    case ZYDIS_MNEMONIC_STI:
        sti(t);
        break;
    case ZYDIS_MNEMONIC_SWAPGS:
        swapgs(t);
        break;
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
        rdtsc(t);
        break;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        push_flags(t);
        break;
    case ZYDIS_MNEMONIC_PAUSE:
        relax(t);
        break;
    case ZYDIS_MNEMONIC_VERW:
        verw(t);
        break;
    case ZYDIS_MNEMONIC_RDFSBASE:
        read_base(t, SEG_FS);
        break;
    case ZYDIS_MNEMONIC_RDGSBASE:
        read_base(t, SEG_GS);
        break;
    case ZYDIS_MNEMONIC_WRFSBASE:
        write_base(t, SEG_FS);
        break;
    case ZYDIS_MNEMONIC_WRGSBASE:
        write_base(t, SEG_GS);
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (writes_cr2(translation_insn(t)))
            write_cr2(t);
        else
            read_control(t);
        break;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        pop_flags(t);
        break;
    default:
        translate_xstate(t);
    }
}
