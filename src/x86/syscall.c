/*
 * Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT, where Intel and AMD differ (SDM vol.
 * 2; AMD APM vol. 3): AMD has SYSCALL outside 64-bit mode and no SYSENTER in long mode, and
 * does not check RCX in SYSRET.
 */
#include "x86/interrupt.h"
#include "x86/model.h"
#include "x86/segment.h"

#define ATTR_CODE32 (SEG_CODE | SEG_DB)
#define ATTR_CODE64 (SEG_CODE | SEG_L)
#define ATTR_STACK  SEG_DB

static void load_flat(struct x86_cpu *c, u16 cs, u32 cs_attr, u16 ss, unsigned cpl)
{
    u32 dpl = cpl << 5;
    c->seg[SEG_CS] = x86_seg_flat((u16)((cs & ~3) | cpl), cs_attr | dpl);
    c->seg[SEG_SS] = x86_seg_flat((u16)((ss & ~3) | cpl), ATTR_STACK | dpl);
}

/* -- SYSCALL, SYSRET ----------------------------------------------------------------------- */

static void need_syscall(struct x86_cpu *c)
{
    if (!(c->efer & EFER_SCE) || !x86_protected(c) || (!c->model->amd && !x86_64bit(c)))
        x86_raise(c, VEC_UD);
}

void exec_syscall(struct x86_cpu *c, struct x86_insn *i)
{
    need_syscall(c);
    u16 cs = (u16)(c->star >> 32);
    u64 flags = c->rflags & ~FLAG_RF;
    bool stepped = c->rflags & FLAG_TF;
    c->gpr[RCX] = c->rip;
    if (x86_long_mode(c)) {
        c->rip = x86_64bit(c) ? c->lstar : c->cstar;
        c->gpr[R11] = flags;
        load_flat(c, cs, ATTR_CODE64, (u16)(cs + 8), 0);
        c->rflags = (flags & ~c->sfmask) | FLAG_FIXED;
    } else {
        c->rip = (u32)c->star;
        load_flat(c, cs, ATTR_CODE32, (u16)(cs + 8), 0);
        c->rflags = flags & ~(FLAG_VM | FLAG_IF);
    }
    c->no_step = stepped && !(c->rflags & FLAG_TF);
    x86_derive(c);
}

/* Unlike IRET it traps at once when it sets TF, before the first instruction of ring 3: as if
 * the SYSCALL had been stepped over. */
static void step_sysret(struct x86_cpu *c)
{
    c->no_step = true;
    if (!(c->rflags & FLAG_TF))
        return;
    c->pending_db |= DR6_BS;
    x86_attend(c);
}

void exec_sysret(struct x86_cpu *c, struct x86_insn *i)
{
    /* What R11 may bring: all but RF and VM. */
    const u64 mask = FLAGS_STATUS | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT |
                     FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID;
    need_syscall(c);
    bool wide = i->opsize == 8;
    u64 rip = c->gpr[RCX], flags = c->rflags | FLAG_IF;
    if (c->cpl != 0 || (wide && !c->model->amd && !x86_canonical(rip)))
        x86_raise_error(c, VEC_GP, 0);
    u16 base = (u16)(c->star >> 48);
    if (x86_long_mode(c))
        flags = c->gpr[R11] & ~(FLAG_RF | FLAG_VM);
    load_flat(c, (u16)(base + (wide ? 16 : 0)), wide ? ATTR_CODE64 : ATTR_CODE32,
              (u16)(base + 8), 3);
    c->rip = wide ? rip : (u32)rip;
    x86_derive(c);
    x86_write_flags(c, flags, mask);
    step_sysret(c);
}

/* -- SYSENTER, SYSEXIT --------------------------------------------------------------------- */

static void need_sysenter(struct x86_cpu *c)
{
    if (c->model->amd && x86_long_mode(c))
        x86_raise(c, VEC_UD);
    if (!x86_protected(c) || selector_is_null((u16)c->sysenter_cs))
        x86_raise_error(c, VEC_GP, 0);
}

void exec_sysenter(struct x86_cpu *c, struct x86_insn *i)
{
    need_sysenter(c);
    bool wide = x86_long_mode(c);
    u16 cs = (u16)c->sysenter_cs & 0xfffc;
    load_flat(c, cs, wide ? ATTR_CODE64 : ATTR_CODE32, (u16)(cs + 8), 0);
    c->gpr[RSP] = wide ? c->sysenter_esp : (u32)c->sysenter_esp;
    c->rip = wide ? c->sysenter_eip : (u32)c->sysenter_eip;
    x86_write_flags(c, 0, FLAG_VM | FLAG_IF | FLAG_RF);
    x86_derive(c);
}

void exec_sysexit(struct x86_cpu *c, struct x86_insn *i)
{
    need_sysenter(c);
    bool wide = i->opsize == 8;
    u64 rip = c->gpr[RDX], sp = c->gpr[RCX];
    if (c->cpl != 0 || (wide && (!x86_canonical(rip) || !x86_canonical(sp))))
        x86_raise_error(c, VEC_GP, 0);
    u16 cs = (u16)(c->sysenter_cs + (wide ? 32 : 16));
    load_flat(c, cs, wide ? ATTR_CODE64 : ATTR_CODE32, (u16)(cs + 8), 3);
    c->rip = wide ? rip : (u32)rip;
    c->gpr[RSP] = wide ? sp : (u32)sp;
    x86_derive(c);
}
