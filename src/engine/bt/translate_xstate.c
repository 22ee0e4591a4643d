/*
 * FXSAVE, FXRSTOR and the XSAVE family in 64-bit code. The guest's vector and x87 state is in
 * the host's registers, and cpu.fpu has no format of its own: so the instruction itself runs on
 * the guest's memory, with the components that the guest has enabled. XSAVES and XRSTORS are
 * privileged on the host too; without supervisor components (IA32_XSS is zero) they are XSAVEC
 * and XRSTOR.
 *
 * What the host's instruction refuses faults, and the simulator looks at it. What it would
 * accept and the guest's processor would not, because the host has more components, is looked
 * at before. XSAVEOPT stays the simulator's: the host remembers what it restored from where,
 * which C code's own use of the registers would confuse.
 */
#include "engine/bt/translate.h"

#define HEADER_BV   512
#define HEADER_COMP 520
#define ALIGN_XSAVE 63
#define ALIGN_FX    15

static const struct form {
    u16 mnemonic, feature;
    u16 opcode;
    u8 extension; /* ModRM.reg */
    bool write;
    bool legacy; /* FXSAVE, FXRSTOR: 512 bytes, no mask of components */
    bool supervisor;
} forms[] = {
    {ZYDIS_MNEMONIC_FXSAVE64, FEAT_FXSR, 0x0fae, 0, true, true, false},
    {ZYDIS_MNEMONIC_FXRSTOR64, FEAT_FXSR, 0x0fae, 1, false, true, false},
    {ZYDIS_MNEMONIC_XSAVE64, FEAT_XSAVE, 0x0fae, 4, true, false, false},
    {ZYDIS_MNEMONIC_XSAVEC64, FEAT_XSAVEC, 0x0fc7, 4, true, false, false},
    {ZYDIS_MNEMONIC_XSAVES64, FEAT_XSAVES, 0x0fc7, 4, true, false, true},
    {ZYDIS_MNEMONIC_XRSTOR64, FEAT_XSAVEC, 0x0fae, 5, false, false, false},
    {ZYDIS_MNEMONIC_XRSTORS64, FEAT_XSAVES, 0x0fae, 5, false, false, true},
};

static const struct form *form_of(const struct guest_insn *g)
{
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        if (forms[i].mnemonic == g->mnemonic)
            return &forms[i];
    }
    return NULL;
}

bool xstate_in_line(const struct x86_model *model, const struct guest_insn *g, u32 mode)
{
    const struct form *form = form_of(g);
    return form && mode_is_64bit(mode) && x86_has(model, form->feature) &&
           (!form->supervisor || !(mode & MODE_CPL(3)));
}

static unsigned area_size(const struct translation *t, const struct form *form)
{
    bool avx = t->bt->vcpu->cpu.model->xcr0_mask & XCR0_AVX;
    return form->legacy ? offsetof(struct x86_fpu, xstate_bv)
           : avx        ? sizeof(struct x86_fpu)
                        : offsetof(struct x86_fpu, ymm_hi);
}

/* The rules for the header in [r10] that the host, with components of its own, may not know. */
static void check_header(struct translation *t, const struct form *form,
                         const struct site *site)
{
    struct emit *e = &t->e;
    emit_load(e, R11, bt_mem(t->bt, &bt_cpu(t->bt)->xcr0));
    emit_rr(e, 8, 0xf7, 2, R11); /* not */
    emit_rm(e, 8, 0x85, R11, mem_at(R10, HEADER_BV));
    system_leave_if(t, CC_NE, site);
    emit_rr(e, 8, 0x0fba, 6, R11); /* btr: the compact form */
    emit_byte(e, 63);
    emit_rm(e, 8, 0x85, R11, mem_at(R10, HEADER_COMP));
    system_leave_if(t, CC_NE, site);
    if (!form->supervisor)
        return;
    emit_rm(e, 4, 0xf6, 0, mem_at(R10, HEADER_COMP + 7)); /* test byte */
    emit_byte(e, 0x80);
    system_leave_if(t, CC_E, site);
}

/* The host's instruction on [r10], with only the guest's components in EDX:EAX. */
static void run(struct translation *t, const struct form *form)
{
    struct emit *e = &t->e;
    struct host_mem rax = bt_mem(t->bt, &t->bt->hot->spill[0]);
    struct host_mem rdx = bt_mem(t->bt, &t->bt->hot->spill[1]);
    if (!form->legacy) {
        emit_store(e, rax, RAX);
        emit_store(e, rdx, RDX);
        emit_rm(e, 4, 0x23, RAX, bt_mem(t->bt, &bt_cpu(t->bt)->xcr0)); /* and */
        emit_const(e, RDX, 0);
    }
    site_here(t, SITE_ACCESS)->swapped = !form->legacy;
    emit_rm(e, 8, form->opcode, form->extension, mem_at(R10, 0));
    if (!form->legacy) {
        emit_load(e, RAX, rax);
        emit_load(e, RDX, rdx);
    }
}

/* The last x87 instruction was a translation: the simulator does it all again, with the guest's
 * address of it. */
static void check_pointers(struct translation *t, const struct site *site)
{
    struct emit *e = &t->e;
    emit_load(e, R11, mem_at(R10, offsetof(struct x86_fpu, fip)));
    emit_const(e, R10, (u64)t->bt->memory.exec);
    emit_rr(e, 8, 0x29, R10, R11); /* sub */
    emit_compare_imm(e, R11, CACHE_SIZE);
    system_leave_if(t, CC_B, site);
}

void translate_xstate(struct translation *t)
{
    const struct guest_insn *g = translation_insn(t);
    const struct form *form = form_of(g);
    struct x86_cpu *c = bt_cpu(t->bt);
    struct emit *e = &t->e;
    flags_clobber(t);
    const struct site *site = callout_site(t);
    if (!form->legacy) {
        system_test_mem(t, &c->cr4, CR4_OSXSAVE);
        system_leave_if(t, CC_E, site);
    } else if (!(t->tu->mode & MODE_CPL(3))) {
        /* Without XMM registers then, but the host's is no kernel. */
        system_test_mem(t, &c->efer, EFER_FFXSR);
        system_leave_if(t, CC_NE, site);
    }
    free_r11(t, check_operand(t, g, area_size(t, form), form->write));
    emit_test_imm(e, R10, form->legacy ? ALIGN_FX : ALIGN_XSAVE);
    system_leave_if(t, CC_NE, site);
    if (!form->legacy && !form->write)
        check_header(t, form, site);
    run(t, form);
    if (form->write)
        check_pointers(t, site);
}
