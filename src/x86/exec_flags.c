/*
 * RFLAGS as a whole and its interrupt flag: PUSHF, POPF, CLI, STI with IOPL and the virtual
 * interrupt flag (SDM vol. 3, 20.3 and 20.4), CLAC, STAC, HLT.
 */
#include "x86/mem.h"
#include "x86/privilege.h"

#define POPF_FLAGS (FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT)
#define POPF_WIDE  (FLAG_AC | FLAG_ID)

/* Virtual-8086 mode with IOPL < 3: only the extensions let 16-bit PUSHF and POPF through. */
static bool flags_are_virtual(struct x86_cpu *c, unsigned size)
{
    if (!x86_v86(c) || x86_iopl(c) == 3)
        return false;
    if (!(c->cr4 & CR4_VME) || size != 2)
        x86_raise_error(c, VEC_GP, 0);
    return true;
}

static void pushf(struct x86_cpu *c, unsigned size)
{
    u64 image = c->rflags & ~(FLAG_VM | FLAG_RF);
    if (flags_are_virtual(c, size))
        image = (image & ~FLAG_IF) | FLAG_IOPL | (image & FLAG_VIF ? FLAG_IF : 0);
    x86_push(c, size, image);
}

static u64 popf_mask(const struct x86_cpu *c, unsigned size)
{
    u64 mask = POPF_FLAGS | (size > 2 ? POPF_WIDE : 0);
    if (c->cpl <= x86_iopl(c))
        mask |= FLAG_IF;
    if (c->cpl == 0)
        mask |= FLAG_IOPL;
    return mask;
}

static void popf(struct x86_cpu *c, unsigned size)
{
    bool is_virtual = flags_are_virtual(c, size);
    u64 value = x86_peek(c, size, 0), mask = popf_mask(c, size);
    if (is_virtual) {
        if ((value & FLAG_TF) || ((value & FLAG_IF) && (c->rflags & FLAG_VIP)))
            x86_raise_error(c, VEC_GP, 0);
        mask |= FLAG_VIF;
        value = (value & ~FLAG_VIF) | (value & FLAG_IF ? FLAG_VIF : 0);
    }
    x86_set_sp(c, x86_sp(c) + size);
    x86_write_flags(c, value, mask);
}

void exec_pushf(struct x86_cpu *c, struct x86_insn *i)
{
    pushf(c, 2);
}
void exec_pushfd(struct x86_cpu *c, struct x86_insn *i)
{
    pushf(c, 4);
}
void exec_pushfq(struct x86_cpu *c, struct x86_insn *i)
{
    pushf(c, 8);
}
void exec_popf(struct x86_cpu *c, struct x86_insn *i)
{
    popf(c, 2);
}
void exec_popfd(struct x86_cpu *c, struct x86_insn *i)
{
    popf(c, 4);
}
void exec_popfq(struct x86_cpu *c, struct x86_insn *i)
{
    popf(c, 8);
}

/* The flag that CLI and STI work on: IF, VIF, or none (#GP(0)). */
static u64 interrupt_flag(struct x86_cpu *c)
{
    if (x86_real(c) || c->cpl <= x86_iopl(c))
        return FLAG_IF;
    if (c->cpl == 3 && (c->cr4 & (x86_v86(c) ? CR4_VME : CR4_PVI)))
        return FLAG_VIF;
    x86_raise_error(c, VEC_GP, 0);
}

void exec_cli(struct x86_cpu *c, struct x86_insn *i)
{
    x86_write_flags(c, 0, interrupt_flag(c));
}

void exec_sti(struct x86_cpu *c, struct x86_insn *i)
{
    u64 flag = interrupt_flag(c);
    if (flag == FLAG_VIF) {
        if (c->rflags & FLAG_VIP)
            x86_raise_error(c, VEC_GP, 0);
        c->rflags |= FLAG_VIF;
    } else if (!(c->rflags & FLAG_IF)) {
        x86_write_flags(c, FLAG_IF, FLAG_IF);
        c->sti_shadow = true;
    }
}

static void write_ac(struct x86_cpu *c, u64 value)
{
    if (c->cpl != 0)
        x86_raise(c, VEC_UD);
    x86_write_flags(c, value, FLAG_AC);
}

void exec_clac(struct x86_cpu *c, struct x86_insn *i)
{
    write_ac(c, 0);
}

void exec_stac(struct x86_cpu *c, struct x86_insn *i)
{
    write_ac(c, FLAG_AC);
}

void exec_hlt(struct x86_cpu *c, struct x86_insn *i)
{
    x86_need_cpl0(c);
    /* The step's trap, which is pending at once, ends the halt (SDM vol. 3, 26.7.2 and 27.7.2
     * have processors enter HLT with a pending trap so). */
    if (c->rflags & FLAG_TF)
        return;
    c->activity = CPU_HALTED;
    x86_attend(c);
}
