/* The list of forms: all opcodes of all maps, decoded in both modes, one entry for each
 * distinct mnemonic, encoding and operand shape. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

bool decode_one(unsigned code_size, const u8 *bytes, unsigned n, ZydisDecodedInstruction *z,
                ZydisDecodedOperand *operands)
{
    ZydisDecoder decoder;
    if (code_size == 8)
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, n, z, operands));
}

/* Instruction sets that both sides execute; the host is asked for each by CPUID in sim.c. */
static bool set_supported(const ZydisDecodedInstruction *z)
{
    switch (z->meta.isa_set) {
    case ZYDIS_ISA_SET_I86:
    case ZYDIS_ISA_SET_I186:
    case ZYDIS_ISA_SET_I386:
    case ZYDIS_ISA_SET_I486:
    case ZYDIS_ISA_SET_I486REAL:
    case ZYDIS_ISA_SET_I286REAL:
    case ZYDIS_ISA_SET_PENTIUMREAL:
    case ZYDIS_ISA_SET_PPRO:
    case ZYDIS_ISA_SET_CMOV:
    case ZYDIS_ISA_SET_FCMOV:
    case ZYDIS_ISA_SET_LONGMODE:
    case ZYDIS_ISA_SET_LAHF:
    case ZYDIS_ISA_SET_FAT_NOP:
    case ZYDIS_ISA_SET_PREFETCH_NOP:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
    case ZYDIS_ISA_SET_PAUSE:
    case ZYDIS_ISA_SET_CMPXCHG16B:
    case ZYDIS_ISA_SET_ADOX_ADCX:
    case ZYDIS_ISA_SET_BMI1:
    case ZYDIS_ISA_SET_BMI2:
    case ZYDIS_ISA_SET_LZCNT:
    case ZYDIS_ISA_SET_POPCNT:
    case ZYDIS_ISA_SET_MOVBE:
    case ZYDIS_ISA_SET_X87:
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSE3X87:
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX:
    case ZYDIS_ISA_SET_SSE4:
    case ZYDIS_ISA_SET_SSE42:
    case ZYDIS_ISA_SET_SSE4A:
    case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_AVXAES:
    case ZYDIS_ISA_SET_VAES:
    case ZYDIS_ISA_SET_PCLMULQDQ:
    case ZYDIS_ISA_SET_VPCLMULQDQ:
    case ZYDIS_ISA_SET_SHA:
    case ZYDIS_ISA_SET_GFNI:
    case ZYDIS_ISA_SET_AVX_GFNI:
    case ZYDIS_ISA_SET_AVX:
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVX2GATHER:
    case ZYDIS_ISA_SET_FMA:
    case ZYDIS_ISA_SET_F16C:
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT:
        return true;
    default:
        return false;
    }
}

/*
 * What cannot be compared: answers that differ by design or from run to run, and what would
 * enter the kernel, change segments, or let traps loose on the runner.
 */
static bool mnemonic_excluded(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_SMSW: /* emulated by Linux under UMIP */
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SALC: /* undocumented */
        return true;
    default:
        return false;
    }
}

/* What is compared only where the host is as x86/ was found to agree with. */
static bool host_differs(const ZydisDecodedInstruction *z)
{
    switch (z->meta.isa_set) {
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT: /* images with components that guests are not offered */
        return host_xcr0() & ~(u64)XCR0_COMPARED;
    case ZYDIS_ISA_SET_SSE4A: /* Intel's fault before their immediates are fetched */
        return !host_is_amd();
    default:
        break;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_UD0: /* AMD's fault before their operand is fetched from a next page */
    case ZYDIS_MNEMONIC_UD1:
        return host_is_amd();
    default:
        return false;
    }
}

bool form_excluded(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands)
{
    if (!set_supported(z) || mnemonic_excluded(z->mnemonic) || host_differs(z) ||
        z->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED ||
        z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return true;
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return true;
    for (unsigned k = 0; k < z->operand_count; k++) {
        const ZydisDecodedOperand *o = &operands[k];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
        if (class == ZYDIS_REGCLASS_CONTROL || class == ZYDIS_REGCLASS_DEBUG ||
            class == ZYDIS_REGCLASS_TEST) {
            if (o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
                return true;
        }
        if (class == ZYDIS_REGCLASS_SEGMENT && o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return true;
    }
    return false;
}

static u64 mix(u64 hash, u64 value)
{
    return (hash ^ value) * 0x9e3779b97f4a7c15ull + (hash >> 29);
}

u64 form_key(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
             unsigned code_size)
{
    u64 key = mix(code_size, z->mnemonic);
    key = mix(key, z->encoding);
    for (unsigned k = 0; k < z->operand_count; k++) {
        const ZydisDecodedOperand *o = &operands[k];
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            continue;
        key = mix(key, o->type << 16 | o->size);
        key = mix(key, o->encoding);
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER)
            key = mix(key, ZydisRegisterGetClass(o->reg.value));
    }
    return key;
}

bool form_is_gather(const struct form *f)
{
    return f->vex && f->map == 2 && f->opcode >= 0x90 && f->opcode <= 0x93;
}

unsigned form_assemble(const struct form *f, u8 *out)
{
    unsigned n = 0;
    if (f->vex) {
        out[n++] = 0xc4;
        out[n++] = (u8)(0xe0 | f->map);
        out[n++] =
            (u8)(f->wide << 7 | (form_is_gather(f) ? 0x70 : 0x78) | f->length << 2 | f->prefix);
    } else {
        if (f->prefix)
            out[n++] = f->prefix;
        if (f->wide)
            out[n++] = 0x48;
        if (f->map)
            out[n++] = 0x0f;
        if (f->map >= 2)
            out[n++] = f->map == 2 ? 0x38 : 0x3a;
    }
    out[n++] = f->opcode;
    out[n++] = f->modrm;
    if (form_is_gather(f))
        out[n++] = 0x10; /* three different registers, or it is no instruction */
    memset(out + n, 0, 15 - n);
    return n;
}

#define MAX_FORMS 16384u

/* An open hash of indices + 1. */
struct form_set {
    u16 slot[4 * MAX_FORMS];
};

static bool list_holds(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, ','), p += p != NULL)
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || !p[n]))
            return true;
    return false;
}

static void add(struct forms *forms, struct form_set *set, struct form *f, const char *only)
{
    u8 bytes[15];
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    form_assemble(f, bytes);
    if (!decode_one(f->code_size, bytes, 15, &z, operands))
        return;
    if (only && !list_holds(only, ZydisMnemonicGetString(z.mnemonic)))
        return;
    f->key = form_key(&z, operands, f->code_size);
    f->mnemonic = (u16)z.mnemonic;
    f->excluded = form_excluded(&z, operands);
    unsigned at = f->key % ARRAY_LEN(set->slot);
    for (; set->slot[at]; at = (at + 1) % ARRAY_LEN(set->slot))
        if (forms->list[set->slot[at] - 1].key == f->key)
            return;
    if (forms->count == MAX_FORMS)
        return;
    forms->list[forms->count++] = *f;
    set->slot[at] = (u16)forms->count;
}

/* Bytes of the one-byte map that begin something longer. */
static bool is_prefix(const struct form *f)
{
    if (f->code_size == 8 && ((f->opcode & 0xf0) == 0x40 || f->opcode == 0x62))
        return true;
    return memchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3\x0f\xc4\xc5", f->opcode, 14);
}

static void add_modrms(struct forms *forms, struct form_set *set, struct form f,
                       const char *only)
{
    bool escape = !f.vex && f.map == 0 && f.opcode >= 0xd8 && f.opcode <= 0xdf;
    bool group = !f.vex && f.map == 1 && (f.opcode == 0x01 || f.opcode == 0xae);
    if (!f.vex && f.map == 0 && is_prefix(&f))
        return;
    for (unsigned reg = 0; reg < 8; reg++) {
        f.modrm = (u8)(reg << 3 | (form_is_gather(&f) ? 4 : 0));
        add(forms, set, &f, only);
        for (unsigned rm = 0; rm < (escape || group ? 8 : 1); rm++) {
            f.modrm = (u8)(0xc0 | reg << 3 | rm);
            add(forms, set, &f, only);
        }
    }
}

void forms_init(struct forms *forms, const char *only)
{
    static const u8 prefixes[] = {0, 0x66, 0xf2, 0xf3};
    struct form_set *set = calloc(1, sizeof(*set));
    *forms = (struct forms){.list = calloc(MAX_FORMS, sizeof(struct form))};
    for (unsigned mode = 0; mode < 2; mode++) {
        struct form f = {.code_size = mode ? 4 : 8};
        for (unsigned all = 0; all < 4 * 256 * 4 * 2; all++) {
            f.opcode = (u8)all;
            f.map = (all >> 8) & 3;
            f.prefix = prefixes[(all >> 10) & 3];
            f.wide = (all >> 12) & 1;
            if (!f.wide || f.code_size == 8)
                add_modrms(forms, set, f, only);
        }
        f.vex = 0xc4;
        for (unsigned all = 0; all < 4 * 256 * 4 * 2 * 2; all++) {
            f.opcode = (u8)all;
            f.map = (all >> 8) & 3;
            f.prefix = (all >> 10) & 3;
            f.wide = (all >> 12) & 1;
            f.length = (all >> 13) & 1;
            if (f.map)
                add_modrms(forms, set, f, only);
        }
    }
    free(set);
}

void forms_free(struct forms *forms)
{
    free(forms->list);
}
