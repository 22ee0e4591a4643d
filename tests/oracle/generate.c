/*
 * Random sequences and states. Values are drawn from what makes arithmetic interesting, and
 * memory operands mostly reach the window, so that most sequences run to their end and the rest
 * fault in all the ways there are.
 */
#include <string.h>

#include "base/ensure.h"
#include "oracle.h"

void random_seed(struct random *r, u64 seed)
{
    for (unsigned k = 0; k < 2; k++) { /* splitmix64 */
        u64 z = (seed += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        r->s[k] = z ^ (z >> 31);
    }
}

u64 random_next(struct random *r)
{
    u64 a = r->s[0], b = r->s[1];
    r->s[0] = b;
    a ^= a << 23;
    r->s[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return r->s[1] + b;
}

/* -- State --------------------------------------------------------------------------------- */

static u64 random_integer(struct random *r)
{
    static const u64 special[] = {0,
                                  1,
                                  2,
                                  ~0ull,
                                  0x7f,
                                  0x80,
                                  0xff,
                                  0x7fff,
                                  0x8000,
                                  0xffff,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  BIT(63),
                                  BIT(63) - 1,
                                  0x100000000ull,
                                  0x123456789abcdef0ull};
    switch (random_below(r, 4)) {
    case 0:
        return special[random_below(r, ARRAY_LEN(special))];
    case 1:
        return random_below(r, 256);
    case 2:
        return random_next(r) >> random_below(r, 64);
    default:
        return random_next(r);
    }
}

/* Where pages end, or what only the kernel may touch, or what is no address. */
static u64 wild_pointer(struct random *r)
{
    static const u64 edges[] = {
        0,
        WINDOW_BASE,
        WINDOW_BASE + WINDOW_SIZE - PAGE_SIZE, /* from here: read-only */
        WINDOW_BASE + WINDOW_SIZE,
        CODE_BASE + CODE_SIZE,
        0x100000000ull,
        0x7ffffffff000ull,
        0x800000000000ull,
        0xffff900000000000ull, /* below 0xffff8...: with FS, AMD's want the offset canonical */
        0xffffffff80001000ull,
    };
    u64 edge = edges[random_below(r, ARRAY_LEN(edges))];
    if (r->tame && edge == CODE_BASE + CODE_SIZE)
        edge = WINDOW_BASE;
    return random_percent(r, 70) ? edge - random_below(r, 72) : edge + random_below(r, 4000);
}

static u64 random_pointer(struct random *r)
{
    if (r->wild && random_percent(r, 50))
        return wild_pointer(r);
    /* Mostly the writable pages; near the ends of pages now and then. */
    u64 offset = random_below(r, random_percent(r, 85) ? 2 * PAGE_SIZE - 256 : WINDOW_SIZE);
    if (random_percent(r, 5))
        offset = align_down(offset, PAGE_SIZE) + PAGE_SIZE - random_below(r, 32);
    if (random_percent(r, 40))
        offset = align_down(offset, 64);
    else if (random_percent(r, 50))
        offset = align_down(offset, 8);
    return WINDOW_BASE + offset;
}

static u32 random_float(struct random *r)
{
    static const u32 special[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x00000001,
                                  0x807fffff, 0x00800000, 0x7f7fffff, 0x7f800000, 0xff800000,
                                  0x7fc00000, 0x7fa00000, 0xffc12345, 0x4f000000, 0x5f000000,
                                  0x3f000000, 0x4b7fffff};
    if (random_percent(r, 40))
        return special[random_below(r, ARRAY_LEN(special))];
    if (random_percent(r, 50)) /* near one: results stay finite */
        return 0x3c000000u + (u32)random_next(r) % 0x08000000u + (random_below(r, 2) << 31);
    return (u32)random_next(r);
}

static u64 random_double(struct random *r)
{
    static const u64 special[] = {0,
                                  BIT(63),
                                  0x3ff0000000000000ull,
                                  0xbff0000000000000ull,
                                  1,
                                  0x800fffffffffffffull,
                                  0x0010000000000000ull,
                                  0x7fefffffffffffffull,
                                  0x7ff0000000000000ull,
                                  0xfff0000000000000ull,
                                  0x7ff8000000000000ull,
                                  0x7ff4000000000000ull,
                                  0x41dfffffffc00000ull,
                                  0x43e0000000000000ull,
                                  0x36a0000000000000ull};
    if (random_percent(r, 40))
        return special[random_below(r, ARRAY_LEN(special))];
    if (random_percent(r, 50))
        return 0x3f80000000000000ull + random_next(r) % 0x0100000000000000ull +
               ((u64)random_below(r, 2) << 63);
    return random_next(r);
}

/* Fills 16 bytes with lanes of one kind. */
static void random_vector(struct random *r, u8 out[16])
{
    u32 f[4];
    u64 d[2] = {random_next(r), random_next(r)};
    switch (random_below(r, 5)) {
    case 0:
        for (unsigned k = 0; k < 4; k++)
            f[k] = random_float(r);
        memcpy(out, f, 16);
        return;
    case 1:
        d[0] = random_double(r);
        d[1] = random_double(r);
        break;
    case 2: /* small integers: indices for gathers */
        for (unsigned k = 0; k < 4; k++)
            f[k] = random_below(r, 64);
        memcpy(out, f, 16);
        return;
    case 3:
        d[0] = random_integer(r);
        d[1] = random_integer(r);
        break;
    default:
        break;
    }
    memcpy(out, d, 16);
}

static void random_extended(struct random *r, u8 out[16])
{
    static const u16 exponents[] = {0,      1,      0x3ffe, 0x3fff, 0x4000,
                                    0x403e, 0x7ffe, 0x7fff, 0x3c00};
    static const u64 mantissas[] = {0,     BIT(63), BIT(63) | 1,          BIT(63) | BIT(62),
                                    ~0ull, 1,       0x8000000000000800ull};
    u64 mantissa = random_percent(r, 40) ? mantissas[random_below(r, ARRAY_LEN(mantissas))]
                                         : random_next(r) | BIT(63);
    u16 exponent = random_percent(r, 50) ? exponents[random_below(r, ARRAY_LEN(exponents))]
                                         : (u16)(0x3fff - 40 + random_below(r, 80));
    if (random_percent(r, 5))
        exponent = (u16)random_next(r);
    exponent |= (u16)(random_below(r, 2) << 15);
    memset(out, 0, 16);
    memcpy(out, &mantissa, 8);
    memcpy(out + 8, &exponent, 2);
}

static void generate_fpu(struct random *r, struct x86_fpu *f)
{
    memset(f, 0, sizeof(*f));
    f->fcw = (u16)(0x40 | random_below(r, 16) << 8 | 0x3f);
    if (random_percent(r, 15))
        f->fcw &= (u16)random_next(r) | 0xffc0;
    f->fsw = (u16)(random_next(r) & 0x7f7f);
    if (random_percent(r, 70))
        f->fsw &= 0x4700;
    if (random_percent(r, 80)) /* else some error is pending */
        f->fsw &= (u16)(~0x3f | f->fcw);
    if (f->fsw & ~f->fcw & 0x3f)
        f->fsw |= 0x8080;
    f->ftw = random_percent(r, 60) ? (u8)random_next(r) | (u8)random_next(r) : 0xff;
    for (unsigned k = 0; k < 8; k++)
        random_extended(r, f->st[k]);
    f->mxcsr = 0x1f80 | (random_percent(r, 50) ? random_below(r, 4) << 13 : 0);
    if (random_percent(r, 30))
        f->mxcsr |= (u32)random_next(r) & 0x803f;
    if (random_percent(r, 20))
        f->mxcsr |= 0x40;
    if (random_percent(r, 12))
        f->mxcsr &= ~((u32)random_next(r) & 0x1f80);
    for (unsigned k = 0; k < 16; k++) {
        random_vector(r, f->xmm[k]);
        random_vector(r, f->ymm_hi[k]);
    }
    if (random_percent(r, 20))
        memset(f->ymm_hi, 0, sizeof(f->ymm_hi));
    f->xstate_bv = host_xcr0() & XCR0_COMPARED;
    if (!(f->xstate_bv & XCR0_AVX))
        memset(f->ymm_hi, 0, sizeof(f->ymm_hi));
}

static void generate_memory(struct random *r, u8 *memory)
{
    for (unsigned at = 0; at < WINDOW_SIZE; at += 16)
        if (at % 512 < 256) {
            random_vector(r, memory + at);
        } else {
            u64 v[2] = {random_next(r), random_next(r)};
            memcpy(memory + at, v, 16);
        }
}

void generate_state(struct random *r, struct state *s, unsigned code_size)
{
    for (unsigned k = 0; k < 16; k++) {
        s->gpr[k] = random_percent(r, 50) ? random_pointer(r) : random_integer(r);
        if (code_size == 4)
            s->gpr[k] = k < 8 ? (u32)s->gpr[k] : 0;
    }
    s->gpr[RSP] = WINDOW_BASE + 0x800 + random_below(r, 0x1000);
    if (random_percent(r, 80))
        s->gpr[RSP] &= ~7ull;
    if (r->wild && random_percent(r, 30))
        s->gpr[RSP] = code_size == 8 ? wild_pointer(r) : (u32)wild_pointer(r);
    if (random_percent(r, 60)) /* counts of REP and LOOP */
        s->gpr[RCX] = random_below(r, 20);
    s->rflags = FLAG_FIXED | FLAG_IF | (random_next(r) & FLAGS_STATUS);
    if (random_percent(r, 15))
        s->rflags |= FLAG_DF;
    if (random_percent(r, 5))
        s->rflags |= FLAG_AC;
    generate_fpu(r, &s->fpu);
    generate_memory(r, s->memory);
}

/* -- Instructions -------------------------------------------------------------------------- */

struct writer {
    u8 bytes[32];
    unsigned n;
};

static void put(struct writer *w, u8 byte)
{
    w->bytes[w->n++] = byte;
}

static bool is_pointer(const struct state *s, unsigned reg)
{
    return s->gpr[reg] - WINDOW_BASE < WINDOW_SIZE;
}

static unsigned pick_base(struct random *r, const struct state *s, unsigned code_size)
{
    unsigned reg = 0, n = code_size == 8 ? 16 : 8;
    for (unsigned tries = 0; tries < 8; tries++) {
        reg = random_below(r, n);
        if (is_pointer(s, reg))
            break;
    }
    return reg;
}

/* ModRM, SIB and displacement of a memory operand; sets REX.X and B in *rex. */
static void put_memory(struct writer *w, struct random *r, const struct form *f,
                       const struct state *s, unsigned reg, u8 *rex)
{
    unsigned base = pick_base(r, s, f->code_size), mod = random_below(r, 3);
    unsigned index = random_below(r, f->code_size == 8 ? 16 : 8);
    bool sib = form_is_gather(f) || (base & 7) == 4 || random_percent(r, 15);
    s32 disp = (s32)random_below(r, 128) - 64;

    if (!form_is_gather(f) && random_percent(r, 10)) {
        /* [rip + disp32] in 64-bit code, [disp32] in 32-bit; the target is patched in later. */
        put(w, (u8)(reg << 3 | 5));
        for (unsigned k = 0; k < 4; k++)
            put(w, 0);
        return;
    }
    if (!form_is_gather(f) && random_percent(r, 3)) {
        /* [index * scale + disp32] */
        *rex |= (u8)((f->code_size == 8 ? random_below(r, 2) : 0) | (index >> 3) << 1);
        put(w, (u8)(reg << 3 | 4));
        put(w, (u8)(random_below(r, 4) << 6 | (index & 7) << 3 | 5));
        for (unsigned k = 0; k < 4; k++)
            put(w, 0);
        return;
    }
    if ((base & 7) == 5 && mod == 0)
        mod = 1;
    if (sib && !form_is_gather(f) && random_percent(r, 60))
        index = 4; /* none */
    *rex |= (u8)(base >> 3 | (sib ? (index >> 3) << 1 : 0));
    put(w, (u8)(mod << 6 | reg << 3 | (sib ? 4 : base & 7)));
    if (sib)
        put(w, (u8)(random_below(r, 4) << 6 | (index & 7) << 3 | (base & 7)));
    for (unsigned k = 0; k < (mod == 0 ? 0 : mod == 1 ? 1 : 4); k++)
        put(w, (u8)(disp >> (8 * k)));
}

static bool is_string(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
        return true;
    default:
        return false;
    }
}

static void put_prefixes(struct writer *w, struct random *r, const struct form *f)
{
    static const u8 segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    if (random_percent(r, 5))
        put(w, segments[random_below(r, ARRAY_LEN(segments))]);
    if (random_percent(r, f->code_size == 8 ? 4 : 1))
        put(w, 0x67);
    if (f->vex)
        return;
    if (is_string(f->mnemonic) && random_percent(r, 60))
        put(w, random_below(r, 2) ? 0xf2 : 0xf3);
    bool may_lock = (f->modrm >> 6) != 3 && f->map < 2;
    if (may_lock && random_percent(r, 8))
        put(w, 0xf0);
    if (f->prefix)
        put(w, f->prefix);
}

/* One attempt; it may well be another form, or nothing: the caller decodes it. */
static void attempt(struct writer *w, struct random *r, const struct form *f,
                    const struct state *s, bool plain)
{
    struct writer tail = {.n = 0};
    bool mode64 = f->code_size == 8, memory = (f->modrm >> 6) != 3;
    u8 rex = mode64 ? (u8)(random_below(r, 2) << 2) : 0;
    unsigned reg = random_below(r, 8);
    u8 opcode = f->opcode;

    if (plain || (!f->vex && random_percent(r, 10)))
        reg = (f->modrm >> 3) & 7;
    if (memory) {
        put_memory(&tail, r, f, s, reg, &rex);
    } else {
        unsigned rm = plain ? f->modrm & 7 : random_below(r, 8);
        rex |= mode64 ? (u8)random_below(r, 2) : 0;
        put(&tail, (u8)(0xc0 | reg << 3 | rm));
    }
    if (!f->vex && !plain && random_percent(r, 30))
        opcode ^= (u8)random_below(r, 8);
    bool small = random_below(r, 2);
    while (tail.n < 16)
        put(&tail, small && tail.n % 4 ? 0 : (u8)random_next(r));

    w->n = 0;
    put_prefixes(w, r, f);
    if (f->vex) {
        u8 vvvv = plain ? 15 : (u8)random_below(r, mode64 ? 16 : 8) | (mode64 ? 0 : 8);
        put(w, 0xc4);
        put(w, (u8)((~rex & 7) << 5 | f->map));
        put(w, (u8)(f->wide << 7 | vvvv << 3 | f->length << 2 | f->prefix));
    } else {
        rex |= (u8)(f->wide << 3);
        if (rex || (mode64 && random_percent(r, 20)))
            put(w, 0x40 | rex);
        if (f->map)
            put(w, 0x0f);
        if (f->map >= 2)
            put(w, f->map == 2 ? 0x38 : 0x3a);
    }
    put(w, opcode);
    memcpy(w->bytes + w->n, tail.bytes, 15);
}

static void patch(u8 *bytes, unsigned offset, unsigned bits, s64 value)
{
    memcpy(bytes + offset, &value, bits / 8);
}

/* Absolute and RIP-relative operands are pointed at the window. */
static void aim(struct random *r, const ZydisDecodedInstruction *z, u8 *bytes, u64 rip)
{
    bool modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    if (!r->tame && random_percent(r, 5))
        return;
    if (modrm && z->raw.modrm.mod == 0 && z->raw.disp.size == 32) {
        bool relative = z->raw.modrm.rm == 5 && z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
        u64 target = random_pointer(r);
        patch(bytes, z->raw.disp.offset, 32, (s64)(target - (relative ? rip + z->length : 0)));
    } else if (!modrm && z->raw.disp.size >= 32) { /* MOV with moffs */
        patch(bytes, z->raw.disp.offset, z->raw.disp.size, (s64)random_pointer(r));
    }
}

static bool generate_insn(struct random *r, const struct form *f, const struct state *s,
                          u64 rip, u8 *out, ZydisDecodedInstruction *z)
{
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    for (unsigned tries = 0; tries < 12; tries++) {
        struct writer w;
        attempt(&w, r, f, s, tries >= 6);
        if (!decode_one(f->code_size, w.bytes, 15, z, operands) ||
            form_key(z, operands, f->code_size) != f->key || form_excluded(z, operands))
            continue;
        aim(r, z, w.bytes, rip);
        memcpy(out, w.bytes, z->length);
        return true;
    }
    return false;
}

/* Branches go forward to the start of an instruction, or behind the last. */
static void link_branches(struct random *r, struct sequence *q,
                          const ZydisDecodedInstruction *insns)
{
    unsigned at = 0;
    for (unsigned k = 0; k < q->n; k++) {
        unsigned end = at + q->length[k], hops = random_below(r, q->n - k), to = end;
        for (unsigned j = 0; j < hops; j++)
            to += q->length[k + 1 + j];
        if (insns[k].raw.imm[0].is_relative)
            patch(q->code + at, insns[k].raw.imm[0].offset, insns[k].raw.imm[0].size,
                  (s64)to - end);
        at = end;
    }
}

/*
 * What FXRSTOR and XRSTOR accept is rare among random bytes: good images begin at multiples of
 * 1 KiB, and pointers mostly point there.
 */
static void plant_images(struct random *r, struct state *s, unsigned code_size)
{
    for (unsigned at = 0; at < WINDOW_SIZE; at += 1024) {
        u32 mxcsr = (u32)random_next(r) & (random_percent(r, 10) ? 0x2ffffu : 0xffff);
        u64 header[8] = {random_below(r, 8)};
        if (random_percent(r, 40))
            header[1] = BIT(63) | header[0] | random_below(r, 8);
        if (random_percent(r, 20))
            header[random_below(r, 8)] ^= BIT(random_below(r, 64));
        if (random_percent(r, 95))
            memcpy(s->memory + at + 24, &mxcsr, 4);
        memcpy(s->memory + at + 512, header, sizeof(header));
    }
    for (unsigned k = 0; k < (code_size == 8 ? 16 : 8); k++)
        if (is_pointer(s, k) && k != RSP && random_percent(r, 80))
            s->gpr[k] = align_down(s->gpr[k], 1024);
    if (random_percent(r, 80)) { /* XRSTOR's request */
        s->gpr[RAX] = random_below(r, 8);
        s->gpr[RDX] = 0;
    }
}

static bool is_restore(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_XRSTOR || m == ZYDIS_MNEMONIC_XRSTOR64;
}

/* Which components are in use after XRSTOR, the processor may see larger than they are: what
 * XSAVE answers then is its own. */
static bool is_save(const ZydisDecodedInstruction *z)
{
    return (z->meta.category == ZYDIS_CATEGORY_XSAVE ||
            z->meta.category == ZYDIS_CATEGORY_XSAVEOPT) &&
           !is_restore(z->mnemonic);
}

static bool fits(const ZydisDecodedInstruction *insns, unsigned n,
                 const ZydisDecodedInstruction *z)
{
    for (unsigned k = 0; k < n; k++)
        if ((is_restore(insns[k].mnemonic) && is_save(z)) ||
            (is_restore(z->mnemonic) && is_save(&insns[k])))
            return false;
    return true;
}

static bool restores_state(const ZydisDecodedInstruction *insns, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (is_restore(insns[k].mnemonic) || insns[k].mnemonic == ZYDIS_MNEMONIC_FXRSTOR ||
            insns[k].mnemonic == ZYDIS_MNEMONIC_FXRSTOR64)
            return true;
    return false;
}

static bool saves_state(const ZydisDecodedInstruction *insns, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (is_save(&insns[k]))
            return true;
    return false;
}

/* -- Sequences that rewrite themselves ----------------------------------------------------- */

enum { STORE_MOV, STORE_ADD, STORE_SUB };

static void put_known(struct sequence *q, const u8 *bytes, ZydisDecodedInstruction *z)
{
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    ensure(decode_one(q->code_size, bytes, 15, z, operands));
    memcpy(q->code + q->bytes, bytes, z->length);
    q->form[q->n] = NO_FORM;
    q->length[q->n] = z->length;
    q->bytes += q->length[q->n++];
}

/*
 * ADD, LOCK SUB or MOV of four bytes of code and an immediate: target and operand come later.
 *
 * What the translator takes for dead depends on the code ahead, and a store that changes that
 * code comes too late to bring it back: so flags are never dead over one here. ADD and SUB set
 * them all, and PUSHF behind MOV reads them all.
 */
static void put_storer(struct random *r, struct sequence *q, ZydisDecodedInstruction *z)
{
    static const u8 storers[][15] = {[STORE_MOV] = {0xc7, 0x05},
                                     [STORE_ADD] = {0x81, 0x05},
                                     [STORE_SUB] = {0xf0, 0x81, 0x2d}};
    static const u8 pushf[15] = {0x9c};
    unsigned which = random_below(r, ARRAY_LEN(storers));
    put_known(q, storers[which], z);
    if (which == STORE_MOV)
        put_known(q, pushf, z + 1);
}

static void code_bytes(const struct sequence *q, unsigned at, u8 out[4])
{
    for (unsigned k = 0; k < 4; k++)
        out[k] = at + k < q->bytes ? q->code[at + k] : 0xcc;
}

/*
 * The storer at `k` is to write the beginning of one of the instructions behind it, in whose
 * place a jump over it stands before; without any, its own, unchanged.
 */
static void aim_storer(struct random *r, struct sequence *q, unsigned k,
                       const ZydisDecodedInstruction *z)
{
    unsigned first = k + (z->mnemonic == ZYDIS_MNEMONIC_MOV ? 2 : 1);
    unsigned victim = first < q->n ? first + random_below(r, q->n - first) : k;
    unsigned storer = 0, at = 0;
    u8 real[4], before[4];
    for (unsigned j = 0; j < victim; j++) {
        storer += j < k ? q->length[j] : 0;
        at += q->length[j];
    }
    u64 target = q->start + at;
    patch(q->code + storer, z->raw.disp.offset, 32,
          (s64)(target - (q->code_size == 8 ? q->start + storer + z->length : 0)));
    code_bytes(q, at, real);
    memcpy(before, real, 4);
    if (victim != k && q->length[victim] == 1) {
        before[0] = 0x90;
    } else if (victim != k) {
        before[0] = 0xeb;
        before[1] = (u8)(q->length[victim] - 2);
    }
    for (unsigned b = 0; b < 4; b++)
        if (at + b < q->bytes)
            q->code[at + b] = before[b];
    u32 wanted, present;
    memcpy(&wanted, real, 4);
    memcpy(&present, before, 4);
    u32 value = z->mnemonic == ZYDIS_MNEMONIC_MOV   ? wanted
                : z->mnemonic == ZYDIS_MNEMONIC_ADD ? wanted - present
                                                    : present - wanted;
    patch(q->code + storer, z->raw.imm[0].offset, 32, (s64)value);
}

/* -- The whole ----------------------------------------------------------------------------- */

static u64 pick_start(struct random *r)
{
    if (random_percent(r, 75))
        return CODE_BASE;
    u64 end = random_percent(r, 70) ? PAGE_SIZE : CODE_SIZE;
    return CODE_BASE + end - 1 - random_below(r, 64);
}

void generate(struct forms *forms, struct random *r, struct job *job)
{
    struct sequence *q = &job->sequence;
    ZydisDecodedInstruction insns[MAX_INSNS];
    unsigned want = 1 + random_below(r, random_percent(r, 50) ? 4 : MAX_INSNS);

    unsigned storer = MAX_INSNS;

    memset(q, 0, sizeof(*q));
    q->start = pick_start(r);
    q->modifies = random_percent(r, 15);
    r->wild = random_percent(r, 15);
    /* Where code can be written, only the storer does it: what else came of it might be a call
     * of the host's system. */
    r->tame = q->modifies;
    while (q->n < want) {
        unsigned k = random_below(r, forms->count);
        struct form *f = &forms->list[k];
        if (f->excluded || (q->code_size && f->code_size != q->code_size))
            continue;
        if (!q->code_size) {
            q->code_size = f->code_size;
            generate_state(r, &job->in, q->code_size);
            job->in.rip = q->start;
        }
        if (q->modifies && storer == MAX_INSNS && q->n + 2u <= want && random_percent(r, 50)) {
            storer = q->n;
            put_storer(r, q, &insns[q->n]);
            continue;
        }
        if (!generate_insn(r, f, &job->in, q->start + q->bytes, q->code + q->bytes,
                           &insns[q->n]) ||
            !fits(insns, q->n, &insns[q->n])) {
            want -= want > 1;
            if (!q->n)
                q->code_size = 0;
            continue;
        }
        q->form[q->n] = (u16)k;
        q->length[q->n] = insns[q->n].length;
        q->bytes += q->length[q->n++];
    }
    link_branches(r, q, insns);
    if (storer != MAX_INSNS)
        aim_storer(r, q, storer, &insns[storer]);
    if (restores_state(insns, q->n))
        plant_images(r, &job->in, q->code_size);
    /* An AVX state of zeroes may or may not be in use. */
    bool avx = job->in.fpu.xstate_bv & XCR0_AVX;
    for (unsigned k = 0; k < 16 && avx && saves_state(insns, q->n); k++)
        job->in.fpu.ymm_hi[k][0] |= 1;
}
