/*
 * Privileged and sensitive instructions that are frequent enough to be done in line, on the
 * virtual state in struct x86_cpu. What they cannot decide here, as an interrupt that waits for
 * the IF that STI sets, goes to the simulator before anything was changed.
 */
#include "engine/bt/translate.h"

#include "base/ensure.h"

/* Opcode and /n of the immediate group 1 with a 32-bit immediate. */
enum group1 { G1_OR = 1, G1_AND = 4, G1_CMP = 7 };

static void group1_mem(struct translation *t, enum group1 op, const volatile void *field,
                       u32 value)
{
    emit_rm(&t->e, 4, 0x81, op, bt_mem(t->bt, field));
    emit_u32(&t->e, value);
}

static void group1_reg(struct translation *t, enum group1 op, unsigned reg, u32 value)
{
    emit_rr(&t->e, 4, 0x81, op, reg);
    emit_u32(&t->e, value);
}

static void shift(struct translation *t, unsigned size, unsigned op, unsigned reg,
                  unsigned count)
{
    emit_rr(&t->e, size, 0xc1, op, reg);
    emit_byte(&t->e, (u8)count);
}
#define SHL 4
#define SHR 5

static void or_reg(struct translation *t, unsigned size, unsigned to, unsigned from)
{
    emit_rr(&t->e, size, 0x09, from, to);
}

/* Where the simulator takes the instruction over when the host's condition holds. */
static void leave_if(struct translation *t, unsigned condition, const struct site *site)
{
    u8 *field = emit_jump_if_later(&t->e, condition);
    cold_add(t, field, COLD_SIMULATE, (u32)(site - t->bt->sites), true);
}

static void leave_if_attention(struct translation *t, const struct site *site)
{
    group1_mem(t, G1_CMP, &bt_cpu(t->bt)->attention, 0);
    leave_if(t, CC_NE, site);
}

/* -- Interrupt flag
 * -----------------------------------------------------------------------------
 */

static void cli(struct translation *t)
{
    flags_clobber(t);
    group1_mem(t, G1_AND, &bt_cpu(t->bt)->rflags, (u32)~FLAG_IF);
}

/* While nothing waits, the shadow of STI has nothing to hold back. */
static void sti(struct translation *t)
{
    flags_clobber(t);
    leave_if_attention(t, callout_site(t));
    group1_mem(t, G1_OR, &bt_cpu(t->bt)->rflags, FLAG_IF);
}

static void pushfq(struct translation *t)
{
    struct emit *e = &t->e;
    struct host_mem spill = bt_mem(t->bt, &t->bt->hot->spill[0]);
    flags_clobber(t);
    emit_load32(e, R10, bt_mem(t->bt, &t->bt->hot->flags));
    emit_move(e, R11, R10);
    shift(t, 4, SHR, R10, 8);
    group1_reg(t, G1_AND, R10, FLAGS_STATUS & 0xff);
    group1_reg(t, G1_AND, R11, 1);
    shift(t, 4, SHL, R11, 11);
    or_reg(t, 4, R10, R11);
    emit_load32(e, R11, bt_mem(t->bt, &bt_cpu(t->bt)->rflags));
    group1_reg(t, G1_AND, R11, (u32) ~(FLAGS_STATUS | FLAG_RF | FLAG_VM));
    or_reg(t, 4, R10, R11);
    emit_store(e, spill, R10);
    struct host_mem at = free_r11(t, check_stack(t, RSP, -8, 8, true));
    emit_load(e, R11, spill);
    emit_store(e, at, R11);
    emit_lea(e, 8, RSP, mem_at(RSP, -8));
}

/* Only the arithmetic flags and IF may change here. */
static void popfq(struct translation *t)
{
    struct emit *e = &t->e;
    struct x86_cpu *c = bt_cpu(t->bt);
    bool kernel = !(t->tu->mode & MODE_CPL(3));
    u64 rare = FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_IOPL;
    flags_clobber(t);
    const struct site *site = callout_site(t);
    emit_load(e, R10, check_stack(t, RSP, 0, 8, false));
    emit_move(e, R11, R10);
    emit_xor(e, R11, bt_mem(t->bt, &c->rflags));
    emit_rr(e, 4, 0xf7, 0, R11); /* test r11d, imm32 */
    emit_u32(e, (u32)(kernel ? rare : rare | FLAG_IF));
    leave_if(t, CC_NE, site);
    if (kernel) {
        emit_rr(e, 4, 0xf7, 0, R10);
        emit_u32(e, FLAG_IF);
        u8 *off = emit_jump_if_later(e, CC_E);
        leave_if_attention(t, site);
        emit_bind(e, off, emit_here(e));
        emit_move(e, R11, R10);
        group1_reg(t, G1_AND, R11, FLAG_IF);
        group1_mem(t, G1_AND, &c->rflags, (u32)~FLAG_IF);
        emit_rm(e, 4, 0x09, R11, bt_mem(t->bt, &c->rflags));
    }
    emit_move(e, R11, R10);
    shift(t, 4, SHR, R11, 11);
    group1_reg(t, G1_AND, R11, 1);
    shift(t, 4, SHL, R10, 8);
    or_reg(t, 4, R10, R11);
    emit_store32(e, bt_mem(t->bt, &t->bt->hot->flags), R10);
    emit_lea(e, 8, RSP, mem_at(RSP, 8));
}

/* -- Others
 * -------------------------------------------------------------------------------------
 */

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
    static const u8 code[] = {0x0f, 0x31};
    struct emit *e = &t->e;
    flags_clobber(t);
    emit_bytes(e, code, sizeof(code));
    shift(t, 8, SHL, RDX, 32);
    or_reg(t, 8, RAX, RDX);
    emit_add(e, RAX, bt_mem(t->bt, &bt_cpu(t->bt)->tsc_offset));
    emit_move(e, RDX, RAX);
    shift(t, 8, SHR, RDX, 32);
    emit_rr(e, 4, 0x89, RAX, RAX);
}

bool system_in_line(const struct guest_insn *g, u32 mode)
{
    bool kernel = !(mode & MODE_CPL(3));
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_SWAPGS:
        return kernel;
    case ZYDIS_MNEMONIC_RDTSC:
        return kernel || (mode & MODE_TSC);
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPFQ:
        return true;
    default:
        return false;
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
        rdtsc(t);
        break;
    case ZYDIS_MNEMONIC_PUSHFQ:
        pushfq(t);
        break;
    default:
        ensure(translation_insn(t)->mnemonic == ZYDIS_MNEMONIC_POPFQ);
        popfq(t);
    }
}
