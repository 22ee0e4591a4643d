/*
 * Control and debug registers, and the instructions that manage translations: what may be
 * written where, and which mode the processor is in afterwards (SDM vol. 3, 2.5, 9.8.5, 17.2).
 */
#include "x86/control.h"

#include "x86/debug.h"
#include "x86/model.h"
#include "x86/native.h"
#include "x86/operand.h"
#include "x86/privilege.h"

#define CR3_KEEP BIT(63) /* with CR4.PCIDE: do not flush */

static _Noreturn void fail(struct x86_cpu *c)
{
    x86_raise_error(c, VEC_GP, 0);
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* -- CR0 ----------------------------------------------------------------------------------- */

/* Switching paging on or off may enter or leave IA-32e mode: the new EFER. */
static u64 efer_after_cr0(struct x86_cpu *c, u64 cr0)
{
    bool on = cr0 & CR0_PG, was_on = c->cr0 & CR0_PG;
    if (on == was_on)
        return c->efer;
    if (!on) {
        if (x86_64bit(c) || (c->cr4 & CR4_PCIDE))
            fail(c);
        return c->efer & ~EFER_LMA;
    }
    if (!(c->efer & EFER_LME))
        return c->efer;
    if (!(c->cr4 & CR4_PAE) || (c->seg[SEG_CS].attr & SEG_L))
        fail(c);
    return c->efer | EFER_LMA;
}

static void write_cr0(struct x86_cpu *c, u64 value)
{
    const u64 known =
        CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    if (value >> 32)
        fail(c);
    value = (value & known) | CR0_ET;
    if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
        fail(c);
    u64 efer = efer_after_cr0(c, value), changed = value ^ c->cr0;
    if (pae_paging(value, c->cr4, efer) && (changed & (CR0_PG | CR0_CD | CR0_NW)) &&
        !c->ops->load_pdptes(c, c->cr3))
        fail(c);
    c->cr0 = value;
    c->efer = efer;
    x86_derive(c);
    if (changed & (CR0_PE | CR0_PG | CR0_WP))
        c->ops->paging_changed(c);
    x86_attend(c);
}

/* -- CR3, CR4, CR8 ------------------------------------------------------------------------- */

static void write_cr3(struct x86_cpu *c, u64 value)
{
    bool keep = (c->cr4 & CR4_PCIDE) && (value & CR3_KEEP);
    if (keep)
        value &= ~CR3_KEEP;
    if (x86_long_mode(c) && (value & ~bits_low(c->model->phys_bits)))
        fail(c);
    if (!x86_long_mode(c))
        value = (u32)value;
    if (pae_paging(c->cr0, c->cr4, c->efer) && !c->ops->load_pdptes(c, value))
        fail(c);
    c->cr3 = value;
    c->ops->cr3_loaded(c, keep);
}

/* The bits that exist, by feature. */
static u64 cr4_known(const struct x86_model *m)
{
    static const struct {
        u64 bits;
        u16 feature;
    } rows[] = {
        {CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC},       {CR4_DE, FEAT_DE},
        {CR4_PSE, FEAT_PSE},           {CR4_PAE, FEAT_PAE},       {CR4_MCE, FEAT_MCE},
        {CR4_PGE, FEAT_PGE},           {CR4_PCE, FEAT_ALWAYS},    {CR4_OSFXSR, FEAT_FXSR},
        {CR4_OSXMMEXCPT, FEAT_SSE},    {CR4_UMIP, FEAT_UMIP},     {CR4_FSGSBASE, FEAT_FSGSBASE},
        {CR4_PCIDE, FEAT_PCID},        {CR4_OSXSAVE, FEAT_XSAVE}, {CR4_SMEP, FEAT_SMEP},
        {CR4_SMAP, FEAT_SMAP},
    };
    u64 known = 0;
    for (unsigned n = 0; n < ARRAY_LEN(rows); n++)
        if (x86_has(m, rows[n].feature))
            known |= rows[n].bits;
    return known;
}

static void write_cr4(struct x86_cpu *c, u64 value)
{
    const u64 pdpte_bits = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
    u64 changed = value ^ c->cr4;
    if ((value & ~cr4_known(c->model)) || (x86_long_mode(c) && !(value & CR4_PAE)))
        fail(c);
    if ((changed & value & CR4_PCIDE) && (!x86_long_mode(c) || (c->cr3 & 0xfff)))
        fail(c);
    if (pae_paging(c->cr0, value, c->efer) && (changed & pdpte_bits) &&
        !c->ops->load_pdptes(c, c->cr3))
        fail(c);
    c->cr4 = value;
    x86_derive(c);
    if (changed & (pdpte_bits | CR4_PCIDE | CR4_SMAP))
        c->ops->paging_changed(c);
    x86_attend(c);
}

static void write_cr8(struct x86_cpu *c, u64 value)
{
    if (value & ~15ull)
        fail(c);
    c->ops->write_cr8(c, value);
    x86_attend(c);
}

/* The operand is 64 bits wide in 64-bit mode and 32 elsewhere, whatever the prefixes. */
static unsigned control_size(const struct x86_cpu *c)
{
    return x86_64bit(c) ? 8 : 4;
}

void exec_mov_to_cr(struct x86_cpu *c, struct x86_insn *i)
{
    u64 value = x86_gpr_read(c, i->opd[1].reg, control_size(c));
    x86_need_cpl0(c);
    switch (i->opd[0].reg) {
    case 0:
        write_cr0(c, value);
        break;
    case 2:
        c->cr2 = value;
        break;
    case 3:
        write_cr3(c, value);
        break;
    case 4:
        write_cr4(c, value);
        break;
    case 8:
        write_cr8(c, value);
        break;
    default:
        x86_raise(c, VEC_UD);
    }
}

void exec_mov_from_cr(struct x86_cpu *c, struct x86_insn *i)
{
    u64 value;
    x86_need_cpl0(c);
    switch (i->opd[1].reg) {
    case 0:
        value = c->cr0;
        break;
    case 2:
        value = c->cr2;
        break;
    case 3:
        value = c->cr3;
        break;
    case 4:
        value = c->cr4;
        break;
    case 8:
        value = c->ops->read_cr8(c);
        break;
    default:
        x86_raise(c, VEC_UD);
    }
    x86_gpr_write(c, i->opd[0].reg, control_size(c), value);
}

/* -- Parts of CR0 -------------------------------------------------------------------------- */

void exec_clts(struct x86_cpu *c, struct x86_insn *i)
{
    x86_need_cpl0(c);
    c->cr0 &= ~CR0_TS;
}

void exec_lmsw(struct x86_cpu *c, struct x86_insn *i)
{
    const u64 low = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    x86_need_cpl0(c);
    u64 value = operand_get(c, i, &i->opd[0], 2) & low;
    value |= c->cr0 & CR0_PE; /* LMSW does not leave protected mode */
    write_cr0(c, (c->cr0 & ~low) | value);
}

void exec_smsw(struct x86_cpu *c, struct x86_insn *i)
{
    x86_need_no_umip(c);
    operand_set(c, i, &i->opd[0], i->opd[0].kind == OPD_MEM ? 2 : i->opsize, c->cr0);
}

/* -- Debug registers ----------------------------------------------------------------------- */

#define DR6_WRITABLE 0xe00full
#define DR7_WRITABLE 0xffff23ffull

/* DR4 and DR5 are DR6 and DR7, or nothing; then the checks in their order. */
static unsigned debug_register(struct x86_cpu *c, unsigned n)
{
    if (n > 7 || ((n == 4 || n == 5) && (c->cr4 & CR4_DE)))
        x86_raise(c, VEC_UD);
    x86_need_cpl0(c);
    if (c->dr7 & DR7_GD) {
        c->dr6 |= DR6_BD;
        x86_raise(c, VEC_DB);
    }
    return n == 4 || n == 5 ? n + 2 : n;
}

void exec_mov_to_dr(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = debug_register(c, i->opd[0].reg);
    u64 value = x86_gpr_read(c, i->opd[1].reg, control_size(c));
    if (n < 4) {
        c->dr[n] = value;
    } else {
        if (value >> 32)
            fail(c);
        if (n == 6)
            c->dr6 = (value & DR6_WRITABLE) | DR6_FIXED;
        else
            c->dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
    }
    x86_debug_changed(c);
    x86_attend(c);
}

void exec_mov_from_dr(struct x86_cpu *c, struct x86_insn *i)
{
    unsigned n = debug_register(c, i->opd[1].reg);
    u64 value = n < 4 ? c->dr[n] : n == 6 ? c->dr6 : c->dr7;
    x86_gpr_write(c, i->opd[0].reg, control_size(c), value);
}

/* -- Translations and caches --------------------------------------------------------------- */

/* INVLPG knows no limits or access rights; a non-canonical address is nothing to it. */
void exec_invlpg(struct x86_cpu *c, struct x86_insn *i)
{
    x86_need_cpl0(c);
    u64 la = x86_ea(c, i) + x86_seg_base(c, i->seg);
    if (!x86_64bit(c))
        la = (u32)la;
    if (x86_canonical(la))
        c->ops->invlpg(c, gva(la));
}

enum invpcid_type { INVPCID_ADDRESS, INVPCID_ONE, INVPCID_ALL, INVPCID_ALL_NON_GLOBAL };

void exec_invpcid(struct x86_cpu *c, struct x86_insn *i)
{
    u64 descriptor[2];
    if (c->cpl != 0 || x86_v86(c))
        fail(c);
    u64 type = x86_gpr_read(c, i->opd[0].reg, control_size(c));
    x86_load_bytes(c, i->seg, x86_ea(c, i), descriptor, 16);
    u64 pcid = descriptor[0], address = descriptor[1];
    if (type > INVPCID_ALL_NON_GLOBAL || pcid >> 12)
        fail(c);
    if (type <= INVPCID_ONE && pcid && !(c->cr4 & CR4_PCIDE))
        fail(c);
    switch (type) {
    case INVPCID_ADDRESS:
        if (!x86_canonical(address))
            fail(c);
        c->ops->invpcid(c, (u16)pcid, gva(address));
        break;
    case INVPCID_ONE:
        c->ops->flush(c, FLUSH_PCID, (u16)pcid);
        break;
    case INVPCID_ALL:
        c->ops->flush(c, FLUSH_ALL, 0);
        break;
    default:
        c->ops->flush(c, FLUSH_NON_GLOBAL, 0);
    }
}

/* Caches are coherent and memory types have no effect here: nothing to write back. WBNOINVD is
 * the same mnemonic with a prefix. */
void exec_wbinvd(struct x86_cpu *c, struct x86_insn *i)
{
    x86_need_cpl0(c);
}

/* -- XCR0 ---------------------------------------------------------------------------------- */

static void need_osxsave(struct x86_cpu *c)
{
    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(c, VEC_UD);
}

void exec_xgetbv(struct x86_cpu *c, struct x86_insn *i)
{
    need_osxsave(c);
    u32 index = (u32)c->gpr[RCX];
    if (index > 1 || (index == 1 && !x86_has(c->model, FEAT_XGETBV1)))
        fail(c);
    u64 value = index == 0 ? c->xcr0 : c->xcr0 & native_xinuse(c);
    c->gpr[RAX] = (u32)value;
    c->gpr[RDX] = value >> 32;
}

void exec_xsetbv(struct x86_cpu *c, struct x86_insn *i)
{
    need_osxsave(c);
    x86_need_cpl0(c);
    u64 value = c->gpr[RDX] << 32 | (u32)c->gpr[RAX];
    if ((u32)c->gpr[RCX] != 0 || (value & ~c->model->xcr0_mask) || !(value & XCR0_X87) ||
        ((value & XCR0_AVX) && !(value & XCR0_SSE)))
        fail(c);
    c->xcr0 = value;
}

/* -- EFER ---------------------------------------------------------------------------------- */

static u64 efer_known(const struct x86_model *m)
{
    u64 known = EFER_LMA;
    if (x86_has(m, FEAT_SYSCALL))
        known |= EFER_SCE;
    if (x86_has(m, FEAT_LM))
        known |= EFER_LME;
    if (x86_has(m, FEAT_NX))
        known |= EFER_NXE;
    if (x86_has(m, FEAT_FFXSR))
        known |= EFER_FFXSR;
    if (x86_has(m, FEAT_AUTOIBRS))
        known |= EFER_AIBRSE;
    return known;
}

bool x86_write_efer(struct x86_cpu *c, u64 value)
{
    u64 known = efer_known(c->model), changed = value ^ c->efer;
    if (value & ~known)
        return false;
    if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
        return false;
    c->efer = (value & ~EFER_LMA) | (c->efer & EFER_LMA);
    if (changed & EFER_NXE)
        c->ops->paging_changed(c);
    return true;
}
