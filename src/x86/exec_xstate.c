/*
 * MXCSR, FXSAVE and the XSAVE family (SDM vol. 1, 10.5 and chapter 13). Components are x87, SSE
 * and AVX; there are no supervisor components (IA32_XSS is zero). The modified optimisation of
 * XSAVEOPT and XSAVES is not used; the init optimisation is exact.
 */
#include <string.h>

#include "x86/exec_native.h"
#include "x86/mem.h"

#define LEGACY_SIZE   512u
#define HEADER        512u /* XSTATE_BV, XCOMP_BV, 48 reserved bytes */
#define AVX_OFFSET    576u
#define XCOMP_COMPACT BIT(63)

/* 32-bit code has registers 0 to 7 and keeps its hands off the others. */
static unsigned vector_registers(const struct x86_cpu *c)
{
    return x86_64bit(c) ? 16 : 8;
}

static bool all_zero(const void *bytes, unsigned n)
{
    const u8 *p = bytes;
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

u64 native_xinuse(const struct x86_cpu *c)
{
    const struct x86_fpu *f = &c->fpu;
    u64 used = 0;
    if (f->fcw != FCW_DEFAULT || f->fsw || f->ftw || f->fop || f->fip || f->fdp ||
        !all_zero(f->st, sizeof(f->st)))
        used |= XCR0_X87;
    if (!all_zero(f->xmm, sizeof(f->xmm)))
        used |= XCR0_SSE;
    if (!all_zero(f->ymm_hi, sizeof(f->ymm_hi)))
        used |= XCR0_AVX;
    return used;
}

/* -- MXCSR --------------------------------------------------------------------------------- */

static void check_mxcsr(struct x86_cpu *c, u32 value)
{
    if (value & ~native_mxcsr_mask(c))
        x86_raise_error(c, VEC_GP, 0);
}

static void load_mxcsr(struct x86_cpu *c, struct x86_insn *i)
{
    u32 value = (u32)x86_load(c, i->seg, x86_ea(c, i), 4);
    check_mxcsr(c, value);
    c->fpu.mxcsr = value;
}

void exec_ldmxcsr(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_sse(c);
    load_mxcsr(c, i);
}

void exec_vldmxcsr(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_avx(c);
    load_mxcsr(c, i);
}

void exec_stmxcsr(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_sse(c);
    x86_store(c, i->seg, x86_ea(c, i), 4, c->fpu.mxcsr);
}

void exec_vstmxcsr(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_avx(c);
    x86_store(c, i->seg, x86_ea(c, i), 4, c->fpu.mxcsr);
}

void exec_vzeroupper(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_avx(c);
    memset(c->fpu.ymm_hi, 0, 16 * vector_registers(c));
}

void exec_vzeroall(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_avx(c);
    memset(c->fpu.ymm_hi, 0, 16 * vector_registers(c));
    memset(c->fpu.xmm, 0, 16 * vector_registers(c));
}

/* -- The legacy region --------------------------------------------------------------------- */

/* XSAVE's address is #GP when misaligned even where it is #SS or #GP for other reasons. */
static void check_alignment(struct x86_cpu *c, struct x86_insn *i, unsigned align)
{
    if ((x86_seg_base(c, i->seg) + x86_ea(c, i)) & (align - 1))
        x86_raise_error(c, VEC_GP, 0);
}

static bool hides_pointers(const struct x86_cpu *c)
{
    return x86_quirk(c->model, QUIRK_X87_HIDES_POINTERS) && !(c->fpu.fsw & FSW_ES);
}

/* With REX.W the pointers are 64 bits; else 32 bits and a selector, which reads as zero. */
static void pack_x87(const struct x86_cpu *c, const struct x86_insn *i, struct x86_fpu *to)
{
    memcpy(to, &c->fpu, offsetof(struct x86_fpu, mxcsr));
    to->reserved0 = 0;
    if (!(i->flags & INSN_REX_W)) {
        to->fip = (u32)to->fip | (u64)c->fcs << 32;
        to->fdp = (u32)to->fdp | (u64)c->fds << 32;
    }
    if (hides_pointers(c))
        to->fop = to->fip = to->fdp = 0;
    memcpy(to->st, c->fpu.st, sizeof(to->st));
    for (unsigned r = 0; r < 8; r++)
        memset(to->st[r] + 10, 0, 6);
}

/* Pointers to the last instruction and its operand as wide as the processor keeps them. */
static u64 kept_fip(const struct x86_cpu *c, u64 fip)
{
    unsigned above = x86_quirk(c->model, QUIRK_X87_FIP_57) ? 7 : 16;
    return (u64)((s64)(fip << above) >> above);
}

static u64 kept_fdp(const struct x86_cpu *c, u64 fdp)
{
    return x86_quirk(c->model, QUIRK_X87_FDP_64) ? fdp : (u64)((s64)(fdp << 16) >> 16);
}

static void unpack_x87(struct x86_cpu *c, const struct x86_insn *i, const struct x86_fpu *from)
{
    struct x86_fpu *f = &c->fpu;
    bool wide = i->flags & INSN_REX_W;
    f->fcw = (from->fcw & 0x1f3f) | 0x40;
    f->fsw = from->fsw & (u16) ~(FSW_ES | FSW_B);
    if (f->fsw & ~f->fcw & FSW_EXCEPTIONS)
        f->fsw |= FSW_ES | FSW_B;
    f->ftw = from->ftw;
    f->fop = from->fop & 0x7ff;
    f->fip = wide ? kept_fip(c, from->fip) : (u32)from->fip;
    f->fdp = wide ? kept_fdp(c, from->fdp) : (u32)from->fdp;
    bool none = wide || x86_quirk(c->model, QUIRK_X87_NO_SELECTORS);
    c->fcs = none ? 0 : (u16)(from->fip >> 32);
    c->fds = none ? 0 : (u16)(from->fdp >> 32);
    memcpy(f->st, from->st, sizeof(f->st));
    for (unsigned r = 0; r < 8; r++)
        memset(f->st[r] + 10, 0, 6);
}

static void init_x87(struct x86_cpu *c)
{
    memset(&c->fpu, 0, offsetof(struct x86_fpu, mxcsr));
    memset(c->fpu.st, 0, sizeof(c->fpu.st));
    c->fpu.fcw = FCW_DEFAULT;
    c->fcs = c->fds = 0;
}

/*
 * CR0.EM is #NM (APM vol. 4; SDM vol. 2 for FXRSTOR, while its page on FXSAVE says #UD). The
 * alignment is looked at before FXSAVE minds that a segment is read-only, as processors do.
 */
static void check_fxsr(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    x86_linear(c, i->seg, x86_ea(c, i), 4, ACCESS_READ);
    check_alignment(c, i, 16);
}

/* Fast FXSAVE leaves the XMM registers alone (AMD APM vol. 2, 11.4.4). */
static bool skips_xmm(const struct x86_cpu *c)
{
    return c->efer & EFER_FFXSR && c->cpl == 0 && x86_64bit(c);
}

void exec_fxsave(struct x86_cpu *c, struct x86_insn *i)
{
    struct x86_fpu image;
    check_fxsr(c, i);
    native_image_probe(c, i, LEGACY_SIZE, ACCESS_WRITE);
    pack_x87(c, i, &image);
    image.mxcsr = c->fpu.mxcsr;
    image.mxcsr_mask = native_mxcsr_mask(c);
    unsigned n = skips_xmm(c) ? 0 : 16 * vector_registers(c);
    memcpy(image.xmm, c->fpu.xmm, n);
    native_image_store(c, i, 0, &image, offsetof(struct x86_fpu, xmm) + n);
}

void exec_fxrstor(struct x86_cpu *c, struct x86_insn *i)
{
    struct x86_fpu image;
    check_fxsr(c, i);
    native_image_load(c, i, 0, &image, 16); /* where faults come first */
    native_image_load(c, i, 0, &image, LEGACY_SIZE);
    check_mxcsr(c, image.mxcsr);
    unpack_x87(c, i, &image);
    c->fpu.mxcsr = image.mxcsr;
    memcpy(c->fpu.xmm, image.xmm, skips_xmm(c) ? 0 : 16 * vector_registers(c));
}

/* -- XSAVE --------------------------------------------------------------------------------- */

static void check_xsave(struct x86_cpu *c, struct x86_insn *i, enum x86_access access)
{
    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(c, VEC_UD);
    if (c->cr0 & CR0_TS)
        x86_raise(c, VEC_NM);
    check_alignment(c, i, 64);
    x86_linear(c, i->seg, x86_ea(c, i), 1, access);
}

static u64 requested(const struct x86_cpu *c)
{
    return (u64)(u32)c->gpr[RDX] << 32 | (u32)c->gpr[RAX];
}

/* Stores the components of `which`; MXCSR goes with SSE and, in standard form, AVX. */
static void store_components(struct x86_cpu *c, struct x86_insn *i, u64 which, bool mxcsr)
{
    unsigned n = 16 * vector_registers(c);
    if (which & XCR0_X87) {
        struct x86_fpu image;
        pack_x87(c, i, &image);
        native_image_store(c, i, 0, &image, offsetof(struct x86_fpu, mxcsr));
        native_image_store(c, i, offsetof(struct x86_fpu, st), image.st, sizeof(image.st));
    }
    if (mxcsr) {
        u32 pair[2] = {c->fpu.mxcsr, native_mxcsr_mask(c)};
        native_image_store(c, i, offsetof(struct x86_fpu, mxcsr), pair, sizeof(pair));
    }
    if (which & XCR0_SSE)
        native_image_store(c, i, offsetof(struct x86_fpu, xmm), c->fpu.xmm, n);
    if (which & XCR0_AVX)
        native_image_store(c, i, AVX_OFFSET, c->fpu.ymm_hi, n);
}

static unsigned area_size(u64 components)
{
    return components & XCR0_AVX ? AVX_OFFSET + 256 : AVX_OFFSET;
}

static void save_standard(struct x86_cpu *c, struct x86_insn *i, bool optimise)
{
    check_xsave(c, i, ACCESS_WRITE);
    u64 rfbm = requested(c) & c->xcr0, used = native_xinuse(c), bv;
    native_image_probe(c, i, area_size(rfbm), ACCESS_WRITE);
    native_image_load(c, i, HEADER, &bv, sizeof(bv));
    store_components(c, i, optimise ? rfbm & used : rfbm, rfbm & (XCR0_SSE | XCR0_AVX));
    bv = (bv & ~rfbm) | (used & rfbm);
    native_image_store(c, i, HEADER, &bv, sizeof(bv));
}

void exec_xsave(struct x86_cpu *c, struct x86_insn *i)
{
    save_standard(c, i, false);
}

void exec_xsaveopt(struct x86_cpu *c, struct x86_insn *i)
{
    save_standard(c, i, true);
}

static void save_compact(struct x86_cpu *c, struct x86_insn *i, u64 allowed)
{
    u64 rfbm = requested(c) & allowed, used = native_xinuse(c);
    if (c->fpu.mxcsr != MXCSR_DEFAULT)
        used |= XCR0_SSE;
    native_image_probe(c, i, area_size(rfbm), ACCESS_WRITE);
    store_components(c, i, rfbm & used, rfbm & used & XCR0_SSE);
    u64 header[2] = {rfbm & used, rfbm | XCOMP_COMPACT};
    native_image_store(c, i, HEADER, header, sizeof(header));
}

void exec_xsavec(struct x86_cpu *c, struct x86_insn *i)
{
    check_xsave(c, i, ACCESS_WRITE);
    save_compact(c, i, c->xcr0);
}

static void check_supervisor(struct x86_cpu *c)
{
    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(c, VEC_UD);
    if (c->cpl != 0)
        x86_raise_error(c, VEC_GP, 0);
}

void exec_xsaves(struct x86_cpu *c, struct x86_insn *i)
{
    check_supervisor(c);
    check_xsave(c, i, ACCESS_WRITE);
    save_compact(c, i, c->xcr0 | c->xss);
}

/* -- XRSTOR -------------------------------------------------------------------------------- */

/* The header's rules (SDM vol. 1, 13.8 and 13.12): anything wrong is #GP(0). */
static void check_header(struct x86_cpu *c, const u64 header[8], u64 allowed, bool supervisor)
{
    u64 bv = header[0], comp = header[1];
    bool bad;
    if (comp & XCOMP_COMPACT && (supervisor || x86_has(c->model, FEAT_XSAVEC))) {
        u64 layout = comp & ~XCOMP_COMPACT;
        bad = layout & ~allowed || bv & ~layout || !all_zero(&header[2], 48);
    } else {
        bad = supervisor || bv & ~allowed || comp || header[2];
    }
    if (bad)
        x86_raise_error(c, VEC_GP, 0);
}

static void restore(struct x86_cpu *c, struct x86_insn *i, u64 allowed, bool supervisor)
{
    struct x86_fpu area;
    u64 header[8], rfbm = requested(c) & allowed;
    unsigned n = 16 * vector_registers(c);

    native_image_load(c, i, 0, &area, 16); /* where faults come first */
    native_image_load(c, i, HEADER, header, sizeof(header));
    check_header(c, header, allowed, supervisor);
    bool compact = header[1] & XCOMP_COMPACT;
    u64 load = rfbm & header[0];
    native_image_load(c, i, 0, &area, LEGACY_SIZE);
    if (load & XCR0_AVX)
        native_image_load(c, i, AVX_OFFSET, area.ymm_hi, n);

    bool mxcsr = compact ? load & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);
    bool late = compact && x86_quirk(c->model, QUIRK_XRSTOR_MXCSR);
    if (mxcsr && !late)
        check_mxcsr(c, area.mxcsr);
    if (load & XCR0_X87)
        unpack_x87(c, i, &area);
    else if (rfbm & XCR0_X87)
        init_x87(c);
    if (rfbm & XCR0_SSE) {
        if (!(load & XCR0_SSE))
            memset(area.xmm, 0, n);
        memcpy(c->fpu.xmm, area.xmm, n);
    }
    if (rfbm & ~load & XCR0_AVX)
        memset(c->fpu.ymm_hi, 0, n);
    if (mxcsr && late)
        check_mxcsr(c, area.mxcsr);
    if (mxcsr)
        c->fpu.mxcsr = area.mxcsr;
    else if (compact && rfbm & XCR0_SSE)
        c->fpu.mxcsr = MXCSR_DEFAULT;
    if (load & XCR0_AVX)
        memcpy(c->fpu.ymm_hi, area.ymm_hi, n);
}

void exec_xrstor(struct x86_cpu *c, struct x86_insn *i)
{
    check_xsave(c, i, ACCESS_READ);
    restore(c, i, c->xcr0, false);
}

void exec_xrstors(struct x86_cpu *c, struct x86_insn *i)
{
    check_supervisor(c);
    check_xsave(c, i, ACCESS_READ);
    restore(c, i, c->xcr0 | c->xss, true);
}
