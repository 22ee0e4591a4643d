/*
 * x87 control instructions, which read or write the environment (SDM vol. 1, 8.1.10): in C,
 * because formats, pointers and pending exceptions belong to the guest, not to a thunk.
 */
#include <string.h>

#include "x86/exec_native.h"
#include "x86/mem.h"

#define TAG_VALID   0u
#define TAG_ZERO    1u
#define TAG_SPECIAL 2u
#define TAG_EMPTY   3u

/* ES and B follow from flags and masks whenever either is loaded (SDM vol. 1, 8.1.3). */
static void update_es(struct x86_fpu *f)
{
    f->fsw &= (u16) ~(FSW_ES | FSW_B);
    if (f->fsw & ~f->fcw & FSW_EXCEPTIONS)
        f->fsw |= FSW_ES | FSW_B;
}

static void init(struct x86_cpu *c)
{
    native_set_top(c, 0);
    c->fpu.fcw = FCW_DEFAULT;
    c->fpu.fsw = 0;
    c->fpu.ftw = 0;
    c->fpu.fop = 0;
    c->fpu.fip = 0;
    c->fpu.fdp = 0;
    c->fcs = c->fds = 0;
}

/* The full tag word; the abridged one tells only empty from not empty. */
static u16 full_tags(const struct x86_fpu *f)
{
    unsigned top = (f->fsw >> 11) & 7, tags = 0;
    for (unsigned r = 0; r < 8; r++) {
        const u8 *st = f->st[(r - top) & 7];
        u64 mantissa;
        u16 exponent;
        memcpy(&mantissa, st, 8);
        memcpy(&exponent, st + 8, 2);
        exponent &= 0x7fff;
        unsigned tag = TAG_VALID;
        if (!(f->ftw & BIT(r)))
            tag = TAG_EMPTY;
        else if (exponent == 0 && mantissa == 0)
            tag = TAG_ZERO;
        else if (exponent == 0 || exponent == 0x7fff || !(mantissa >> 63))
            tag = TAG_SPECIAL;
        tags |= tag << (2 * r);
    }
    return (u16)tags;
}

static u8 abridged_tags(u16 tags)
{
    u8 ftw = 0;
    for (unsigned r = 0; r < 8; r++)
        if (((tags >> (2 * r)) & 3) != TAG_EMPTY)
            ftw |= (u8)BIT(r);
    return ftw;
}

/*
 * The environment has seven words or doublewords: FCW, FSW, FTW, FIP, FCS and FOP, FDP, FDS. In
 * real and virtual-8086 mode pointers are linear addresses, split (SDM vol. 1, figures 8-9 to
 * 8-12).
 */
static bool linear_pointers(const struct x86_cpu *c)
{
    return !x86_protected(c) || x86_v86(c);
}

static unsigned env_size(const struct x86_insn *i)
{
    return i->opsize == 2 ? 14 : 28;
}

/* What is checked for alignment is the first word. */
static void env_check(struct x86_cpu *c, struct x86_insn *i, enum x86_access access)
{
    x86_linear(c, i->seg, x86_ea(c, i), env_size(i) / 7, access);
}

/* Words, as the processor moves them: faults come where its do. */
static void env_load(struct x86_cpu *c, struct x86_insn *i, u8 *buf)
{
    unsigned n = env_size(i);
    env_check(c, i, ACCESS_READ);
    for (unsigned at = 0; at < n; at += n / 7)
        native_image_load(c, i, at, buf + at, n / 7);
}

static void env_pack(const struct x86_cpu *c, const struct x86_insn *i, u8 *buf)
{
    const struct x86_fpu *f = &c->fpu;
    u32 word[7] = {f->fcw, f->fsw, full_tags(f), (u32)f->fip, c->fcs, (u32)f->fdp, c->fds};
    u32 fop = f->fop & 0x7ff;
    unsigned ones = 0x47; /* doublewords whose reserved upper half is written as ones */
    if (linear_pointers(c)) {
        ones = 0x2f;
        unsigned high = i->opsize == 2 ? 0xf : 0xffff;
        word[3] = (u16)f->fip;
        word[4] = ((u32)(f->fip >> 16) & high) << 12 | fop;
        word[5] = (u16)f->fdp;
        word[6] = ((u32)(f->fdp >> 16) & high) << 12;
    } else {
        word[4] |= fop << 16;
    }
    for (unsigned k = 0; k < 7; k++) {
        u16 half = (u16)word[k];
        if (i->opsize == 2) {
            memcpy(buf + 2 * k, &half, 2);
            continue;
        }
        if (ones & BIT(k))
            word[k] |= 0xffff0000;
        memcpy(buf + 4 * k, &word[k], 4);
    }
}

static void keep_selectors(struct x86_cpu *c, u16 fcs, u16 fds)
{
    bool none = x86_quirk(c->model, QUIRK_X87_NO_SELECTORS);
    c->fcs = none ? 0 : fcs;
    c->fds = none ? 0 : fds;
}

static void env_unpack(struct x86_cpu *c, const struct x86_insn *i, const u8 *buf)
{
    struct x86_fpu *f = &c->fpu;
    u32 word[7];
    for (unsigned k = 0; k < 7; k++) {
        u16 half;
        memcpy(&half, buf + 2 * k, 2);
        word[k] = half;
        if (i->opsize != 2)
            memcpy(&word[k], buf + 4 * k, 4);
    }
    f->fcw = (u16)((word[0] & 0x1f3f) | 0x40);
    native_set_top(c, (word[1] >> 11) & 7);
    f->fsw = (u16)word[1];
    f->ftw = abridged_tags((u16)word[2]);
    if (linear_pointers(c)) {
        f->fip = (u16)word[3] | (u32)(word[4] >> 12) << 16;
        f->fdp = (u16)word[5] | (u32)(word[6] >> 12) << 16;
        f->fop = word[4] & 0x7ff;
    } else {
        f->fip = word[3];
        f->fdp = word[5];
        f->fop = i->opsize == 2 ? 0 : (word[4] >> 16) & 0x7ff;
        keep_selectors(c, (u16)word[4], (u16)word[6]);
    }
    update_es(f);
}

/* FERR# falls with the last unmasked error. */
static void drop_ferr(struct x86_cpu *c)
{
    if (unlikely(!(c->cr0 & CR0_NE)))
        c->ops->ferr(c, false);
}

void exec_fninit(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    init(c);
    drop_ferr(c);
}

void exec_fnclex(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    c->fpu.fsw &= 0x7f00;
    drop_ferr(c);
}

/* The 8087's and 287's FENI, FDISI, FSETPM: nothing since the 387. */
void exec_x87_nop(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
}

void exec_fwait(struct x86_cpu *c, struct x86_insn *i)
{
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        x86_raise(c, VEC_NM);
    native_check_mf(c);
}

void exec_fnstsw(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    if (i->opd[0].kind == OPD_MEM)
        x86_store(c, i->seg, x86_ea(c, i), 2, c->fpu.fsw);
    else
        x86_gpr_write(c, RAX, 2, c->fpu.fsw);
}

void exec_fnstcw(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    x86_store(c, i->seg, x86_ea(c, i), 2, c->fpu.fcw);
}

void exec_fldcw(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_x87(c);
    native_check_mf(c);
    u16 fcw = (u16)x86_load(c, i->seg, x86_ea(c, i), 2);
    c->fpu.fcw = (fcw & 0x1f3f) | 0x40;
    update_es(&c->fpu);
}

void exec_fnstenv(struct x86_cpu *c, struct x86_insn *i)
{
    u8 env[28];
    native_check_x87(c);
    env_pack(c, i, env);
    env_check(c, i, ACCESS_WRITE);
    native_image_probe(c, i, env_size(i) / 7, ACCESS_WRITE);
    native_image_store(c, i, 0, env, env_size(i));
    c->fpu.fcw |= FSW_EXCEPTIONS;
    update_es(&c->fpu);
}

void exec_fldenv(struct x86_cpu *c, struct x86_insn *i)
{
    u8 env[28];
    native_check_x87(c);
    native_check_mf(c);
    env_load(c, i, env);
    env_unpack(c, i, env);
}

void exec_fnsave(struct x86_cpu *c, struct x86_insn *i)
{
    u8 image[28 + 80];
    unsigned n = env_size(i);
    native_check_x87(c);
    env_check(c, i, ACCESS_WRITE);
    native_image_probe(c, i, n / 7, ACCESS_WRITE);
    native_image_probe(c, i, n + 80, ACCESS_WRITE);
    env_pack(c, i, image);
    for (unsigned r = 0; r < 8; r++)
        memcpy(image + n + 10 * r, c->fpu.st[r], 10);
    native_image_store(c, i, 0, image, n + 80);
    init(c);
}

void exec_frstor(struct x86_cpu *c, struct x86_insn *i)
{
    u8 image[28 + 80];
    unsigned n = env_size(i);
    native_check_x87(c);
    native_check_mf(c);
    /* In the pieces that the processor loads: faults come as its do. */
    env_load(c, i, image);
    for (unsigned r = 0; r < 8; r++)
        native_image_load(c, i, n + 10 * r, image + n + 10 * r, 10);
    env_unpack(c, i, image);
    for (unsigned r = 0; r < 8; r++)
        memcpy(c->fpu.st[r], image + n + 10 * r, 10);
}

void exec_emms(struct x86_cpu *c, struct x86_insn *i)
{
    native_check_mmx(c);
    native_set_top(c, 0);
    c->fpu.ftw = 0;
}
