/* Decodings remembered, see memo.h. */
#include "engine/bt/memo.h"

#include <string.h>

#include "x86/prefix.h"

/* -- The header ---------------------------------------------------------------------------- */

/* Opcodes with a ModRM byte (SDM vol. 2, A.3), by rows of 16. */
static const u16 modrm_one[16] = {
    0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a0c, 0, 0xffff, 0, 0, 0, 0x00f3, 0xff0f, 0, 0xc0c0,
};
static const u16 modrm_two[16] = {
    0xa00f, 0xffff, 0xff0f, 0,      0xffff, 0xffff, 0xffff, 0xff7f,
    0,      0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff,
};

static bool in_rows(const u16 rows[16], u8 opcode)
{
    return rows[opcode >> 4] >> (opcode & 15) & 1;
}

/* Behind ModRM at `at`, and SIB. */
static unsigned behind_modrm(const u8 *bytes, unsigned at, bool sixteen)
{
    bool sib = !sixteen && (bytes[at] & 0xc0) != 0xc0 && (bytes[at] & 7) == 4;
    return at + 1 + sib;
}

/* Behind the opcode at `at`, and ModRM. */
static unsigned behind_opcode(const u8 *bytes, unsigned at, bool sixteen)
{
    if (bytes[at] != 0x0f)
        return in_rows(modrm_one, bytes[at]) ? behind_modrm(bytes, at + 1, sixteen) : at + 1;
    u8 second = bytes[at + 1];
    if (second == 0x38 || second == 0x3a)
        return behind_modrm(bytes, at + 3, sixteen);
    return in_rows(modrm_two, second) ? behind_modrm(bytes, at + 2, sixteen) : at + 2;
}

#define LONGEST_PREFIXES 4

/* What of it is wrong, as opcodes that nobody uses are, is never kept (memo_keep). */
static unsigned header_of(const u8 bytes[16], unsigned code_size)
{
    unsigned at = 0;
    bool sixteen = code_size == 2;
    while (prefix_is_legacy(bytes[at])) {
        if (bytes[at] == 0x67)
            sixteen = code_size == 4;
        if (++at > LONGEST_PREFIXES)
            return 0;
    }
    if (code_size == 8 && prefix_is_rex(bytes[at]))
        at++;
    bool vex = bytes[at] == 0xc4 || bytes[at] == 0xc5;
    if (vex && (code_size == 8 || bytes[at + 1] >= 0xc0))
        return behind_modrm(bytes, at + (bytes[at] == 0xc4 ? 4 : 3), sixteen);
    return behind_opcode(bytes, at, sixteen);
}

void memo_key(struct memo_key *key, unsigned code_size, const u8 *bytes, unsigned size)
{
    key->size = size < GUEST_BYTES ? size : GUEST_BYTES;
    key->code_size = (u8)code_size;
    memset(key->bytes, 0, sizeof(key->bytes));
    memcpy(key->bytes, bytes, key->size);
    key->header = header_of(key->bytes, code_size);
}

/* -- The table ----------------------------------------------------------------------------- */

static u64 word_of(const u8 *bytes, unsigned n)
{
    u64 word;
    memcpy(&word, bytes, sizeof(word));
    return word & bits_low(n < 8 ? 8 * n : 64);
}

static unsigned slot_of(const struct memo_key *key)
{
    u64 hash = (word_of(key->bytes, key->header) ^ key->code_size) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(hash >> (64 - GUEST_MEMO_BITS));
}

static bool matches(const struct guest_memo *memo, const struct memo_key *key)
{
    return memo->header == key->header && memo->insn.code_size == key->code_size &&
           !memcmp(memo->insn.bytes, key->bytes, key->header);
}

/* `size` bytes, 0 to 8, as a number. */
static u64 number_at(const u8 *bytes, unsigned size, bool is_signed)
{
    u64 number = 0;
    memcpy(&number, bytes, size);
    unsigned unused = 64 - 8 * size;
    return !is_signed || !size ? number : (u64)((s64)(number << unused) >> unused);
}

static u64 immediate_of(const struct guest_memo *memo, const struct guest_insn *g)
{
    const u8 *at = g->bytes + g->length - memo->imm_size;
    u64 number = number_at(at, memo->imm_size, memo->imm_signed);
    return memo->relative ? guest_target(g, number) : number;
}

/* Does a shift like `g` by the last of these bytes shift at all? If not it leaves the flags. */
static bool shifts(const struct guest_insn *g, const u8 *bytes)
{
    return bytes[g->length - 1] & (g->opsize == 8 ? 63 : 31);
}

bool memo_find(const struct guest_decoder *d, const struct memo_key *key, u64 rip,
               struct guest_insn *g)
{
    const struct guest_memo *memo = &d->memo[slot_of(key)];
    if (!key->header || !matches(memo, key))
        return false;
    if (memo->shift && !shifts(&memo->insn, key->bytes))
        return false;
    *g = memo->insn;
    g->rip = rip;
    memcpy(g->bytes, key->bytes, GUEST_BYTES);
    if (memo->disp_size)
        g->disp = (s64)number_at(g->bytes + memo->header, memo->disp_size, true);
    if (memo->imm_size)
        g->imm = immediate_of(memo, g);
    return true;
}

/*
 * Does the header alone tell what the instruction is? Not with opcodes and registers behind
 * the displacement, nor with a shift by nothing; nor where the header was not understood.
 */
static bool is_plain(const struct memo_key *key, const ZydisDecodedInstruction *z)
{
    bool legacy = z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    unsigned disp = z->raw.disp.size / 8, imm = z->raw.imm[0].size / 8;
    if (!(legacy || (vex && !imm)) || z->raw.imm[1].size ||
        key->header + disp + imm != z->length)
        return false;
    return (!disp || (z->raw.disp.offset == key->header && z->raw.modrm.offset)) &&
           (!imm || z->raw.imm[0].offset == key->header + disp);
}

void memo_keep(struct guest_decoder *d, const struct memo_key *key,
               const ZydisDecodedInstruction *z, const struct guest_insn *g)
{
    struct guest_memo memo = {
        .header = (u8)key->header,
        .disp_size = z->raw.disp.size / 8,
        .imm_size = z->raw.imm[0].size / 8,
        .imm_signed = z->raw.imm[0].is_signed,
        .relative = z->raw.imm[0].is_relative,
        .shift = guest_is_shift(z) && z->raw.imm[0].size,
        .insn = *g,
    };
    if (key->header && is_plain(key, z) && (!memo.shift || shifts(g, key->bytes)))
        d->memo[slot_of(key)] = memo;
}
