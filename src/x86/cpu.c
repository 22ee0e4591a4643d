/*
 * The processor's state as a whole: reset, INIT and start-up IPI, the values derived from it,
 * and how an instruction ends with an exception.
 */
#include "x86/cpu.h"

#include <string.h>

#include "base/ensure.h"
#include "x86/debug.h"
#include "x86/mem.h"
#include "x86/model.h"
#include "x86/segment.h"

#define ATTR_DATA (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)
#define ATTR_CODE (ATTR_DATA | SEG_CODE)

/* -- Faults -------------------------------------------------------------------------------- */

/* The exceptions that push an error code, SDM vol. 3, table 6-1. */
static bool vector_has_error(enum x86_vector vector)
{
    return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}

_Noreturn void x86_raise_error(struct x86_cpu *c, enum x86_vector vector, u32 error)
{
    ensure(c->unwind);
    c->fault.vector = vector;
    c->fault.has_error = vector_has_error(vector);
    c->fault.error = error;
    c->rip = c->insn_rip;
    longjmp(*c->unwind, 1);
}

_Noreturn void x86_raise(struct x86_cpu *c, enum x86_vector vector)
{
    x86_raise_error(c, vector, 0);
}

_Noreturn void x86_raise_pf(struct x86_cpu *c, struct gva la, u32 error)
{
    c->fault.cr2 = la.v;
    x86_raise_error(c, VEC_PF, error);
}

_Noreturn void x86_retry(struct x86_cpu *c)
{
    ensure(c->unwind);
    c->fault.vector = X86_FAULT_RETRY;
    c->rip = c->insn_rip;
    longjmp(*c->unwind, 1);
}

/* -- Derived values ------------------------------------------------------------------------ */

static u8 derive_cpl(const struct x86_cpu *c)
{
    if (x86_real(c))
        return 0;
    return x86_v86(c) ? 3 : SEG_DPL(c->seg[SEG_SS].attr);
}

static void derive_tlb_index(struct x86_cpu *c)
{
    if (c->cpl == 3)
        c->tlb_index = TLB_USER;
    else
        c->tlb_index =
            (c->cr4 & CR4_SMAP) && !(c->rflags & FLAG_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
}

void x86_derive(struct x86_cpu *c)
{
    u32 cs = c->seg[SEG_CS].attr;
    if (x86_long_mode(c) && (cs & SEG_L))
        c->code_size = 8;
    else
        c->code_size = cs & SEG_DB ? 4 : 2;
    c->stack_size = c->code_size == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
    c->cpl = derive_cpl(c);
    derive_tlb_index(c);
    for (unsigned seg = SEG_ES; seg <= SEG_GS; seg++)
        x86_derive_segment(c, seg);
}

void x86_write_flags(struct x86_cpu *c, u64 value, u64 mask)
{
    u64 old = c->rflags;
    c->rflags = (old & ~mask) | (value & mask) | FLAG_FIXED;
    u64 changed = old ^ c->rflags;
    /* Below CPL 3 AC is SMAP's alone, and STAC and CLAC are frequent. */
    if ((changed & FLAG_VM) || ((changed & FLAG_AC) && c->cpl == 3))
        x86_derive(c);
    else if (changed & FLAG_AC)
        derive_tlb_index(c);
    if (changed & c->rflags & (FLAG_TF | FLAG_IF | FLAG_RF))
        x86_attend(c);
}

void x86_suspend(struct x86_cpu *c)
{
    c->rip = c->insn_rip;
    if (x86_breakpoints_on(c))
        x86_write_flags(c, FLAG_RF, FLAG_RF);
}

/* -- Reset, INIT, SIPI --------------------------------------------------------------------- */

static void reset_segments(struct x86_cpu *c)
{
    for (unsigned seg = SEG_ES; seg < SEG_COUNT; seg++)
        c->seg[seg] = (struct x86_seg){.attr = ATTR_DATA, .limit = 0xffff};
    c->seg[SEG_CS] = (struct x86_seg){0xf000, ATTR_CODE, 0xffff, 0xffff0000};
    c->seg[SEG_LDTR].attr = SEG_P | DESC_LDT;
    c->seg[SEG_TR].attr = SEG_P | DESC_TSS_BUSY;
    c->gdtr = c->idtr = (struct x86_table){0, 0xffff};
}

/* What RESET and INIT have in common (SDM vol. 3, table 9-1). */
static void reset_common(struct x86_cpu *c)
{
    u32 signature[4];
    memset(c->gpr, 0, sizeof(c->gpr));
    c->zero = 0;
    c->rip = c->insn_rip = 0xfff0;
    c->rflags = FLAG_FIXED;
    reset_segments(c);
    c->cr2 = c->cr3 = c->cr4 = 0;
    memset(c->pdpte, 0, sizeof(c->pdpte));
    memset(c->dr, 0, sizeof(c->dr));
    c->dr6 = DR6_FIXED;
    c->dr7 = DR7_FIXED;
    c->efer = 0;
    c->nmi_blocked = c->sti_shadow = c->ss_shadow = c->smi_blocked = c->no_step = false;
    c->pending_db = 0;
    if (c->model) {
        x86_cpuid(c, 1, 0, signature);
        c->gpr[RDX] = signature[0];
    }
    x86_debug_changed(c);
    if (c->ops && c->ops->paging_changed)
        c->ops->paging_changed(c);
}

static void reset_fpu(struct x86_cpu *c)
{
    memset(&c->fpu, 0, sizeof(c->fpu));
    c->fpu.fcw = 0x40;
    c->fpu.ftw = 0xff; /* tag word 5555h: all valid, all zero */
    c->fpu.mxcsr = 0x1f80;
    c->fpu.mxcsr_mask = c->model && x86_has(c->model, FEAT_MISALIGNSSE) ? 0x2ffff : 0xffff;
    c->fpu.xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
}

static void reset_msrs(struct x86_cpu *c)
{
    c->xcr0 = XCR0_X87;
    c->star = c->lstar = c->cstar = c->sfmask = c->kernel_gs_base = 0;
    c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
    c->pat = 0x0007040600070406;
    c->tsc_aux = c->tsc_adjust = c->xss = c->misc_features = c->debugctl = 0;
    c->spec_ctrl = 0;
    c->misc_enable = BIT(0); /* fast strings */
    c->syscfg = c->mcg_status = c->mcg_ctl = 0;
    c->hwcr = BIT(24); /* the TSC counts at P0 frequency, as Linux insists on */
    memset(c->mc_ctl, 0, sizeof(c->mc_ctl));
    memset(c->mc_addr, 0, sizeof(c->mc_addr));
    memset(c->mc_misc, 0, sizeof(c->mc_misc));
    c->mtrr_def_type = 0;
    memset(c->mtrr_fixed, 0, sizeof(c->mtrr_fixed));
    memset(c->mtrr_var, 0, sizeof(c->mtrr_var));
}

void x86_reset(struct x86_cpu *c)
{
    c->cr0 = CR0_CD | CR0_NW | CR0_ET;
    reset_fpu(c);
    reset_msrs(c);
    reset_common(c);
    c->activity = CPU_RUNNING;
}

void x86_init(struct x86_cpu *c)
{
    c->cr0 = (c->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    reset_common(c);
    c->activity = CPU_WAIT_SIPI;
    x86_attend(c);
}

void x86_sipi(struct x86_cpu *c, u8 vector)
{
    c->seg[SEG_CS].sel = (u16)(vector << 8);
    c->seg[SEG_CS].base = (u64)vector << 12;
    c->rip = c->insn_rip = 0;
    c->activity = CPU_RUNNING;
    x86_derive(c);
    x86_attend(c);
}
