/* Copies of guest code for the annex, see annex.h. */
#include <string.h>

#include "engine/direct/annex.h"
#include "engine/direct/protocol.h"
#include "x86/decoder.h"

#define MAX_INSN 15
/* Instructions of a piece, and what one takes at most. */
#define MAX_PIECE 64
#define MAX_HOST  192

#define HLT     0xf4
#define PUSH_M  0xff /* /6 */
#define JMP     0xe9
#define JRCXZ   0xe3
#define MOV_TO  0x8b
#define MOV_OUT 0x89
#define LEA     0x8d

struct copying {
    struct annex *annex;
    struct emit *e;
    u64 rip, next; /* of the instruction in hand, and behind it */
    const u8 *bytes;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    unsigned first_edge; /* of this piece: they have no stubs yet */
    bool ends;
};

/* -- Pieces of host code ------------------------------------------------------------------- */

/* From here on a stop means this state of the original. */
static void origin(struct copying *t, u64 rip, unsigned undo)
{
    struct annex *annex = t->annex;
    if (annex->n_origins == ANNEX_ORIGINS)
        t->e->full = true;
    else
        annex->tables->origins[annex->n_origins++] =
            (struct origin){rip, annex_here(annex), (u16)undo};
}

/* An instruction on 64-bit memory of the block, without immediate: REX.W, opcode, ModRM with
 * `reg`, distance. */
static void on_block(struct copying *t, u8 opcode, unsigned reg, u64 address)
{
    emit_byte(t->e, (u8)(0x48 | (reg >> 3) << 2));
    emit_byte(t->e, opcode);
    emit_byte(t->e, (u8)((reg & 7) << 3 | 5));
    emit_u32(t->e, (u32)(address - (u64)(emit_here(t->e) + 4)));
}

static u64 slot(const struct copying *t, unsigned number)
{
    return t->annex->place.base + CELL_CONTROL_PAGE * PAGE_SIZE + CONTROL_SLOTS +
           number * sizeof(u64);
}

static u64 literal(struct copying *t, u64 value)
{
    u64 address = annex_literal(t->annex, value);
    t->e->full |= !address;
    return address;
}

static void save(struct copying *t, unsigned number, unsigned reg)
{
    on_block(t, MOV_OUT, reg, slot(t, number));
}

static void restore(struct copying *t, unsigned number, unsigned reg)
{
    on_block(t, MOV_TO, reg, slot(t, number));
}

static u32 add_edge(struct copying *t, u64 target, u32 field)
{
    struct annex *annex = t->annex;
    if (annex->n_edges == ANNEX_EDGES)
        t->e->full = true;
    else
        annex->tables->edges[annex->n_edges++] = (struct edge){target, 0, field};
    return field;
}

/* The distance of a jump to the original's `target`. */
static void to_target(struct copying *t, u64 target)
{
    u32 field = annex_here(t->annex), at = annex_find(t->annex, target);
    emit_u32(t->e, at ? at - (field + 4) : 0);
    if (!at)
        add_edge(t, target, field);
}

static void jump(struct copying *t, u64 target)
{
    origin(t, target, 0);
    emit_byte(t->e, JMP);
    to_target(t, target);
}

/* Stops the cell before the instruction. */
static void stop_here(struct copying *t)
{
    origin(t, t->rip, 0);
    emit_byte(t->e, HLT);
}

/* -- Indirect branches --------------------------------------------------------------------- */

static void load_target_from(struct copying *t, const ZydisDecodedOperand *o)
{
    struct emit *e = t->e;
    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        emit_move(e, RDX, (unsigned)ZydisRegisterGetId(o->reg.value));
    } else if (o->mem.base == ZYDIS_REGISTER_RIP) {
        on_block(t, MOV_TO, RDX, literal(t, t->next + (u64)o->mem.disp.value));
        emit_load(e, RDX, mem_at(RDX, 0));
    } else {
        /* With the same ModRM but for its reg field. */
        if (o->mem.segment == ZYDIS_REGISTER_FS || o->mem.segment == ZYDIS_REGISTER_GS)
            emit_byte(e, o->mem.segment == ZYDIS_REGISTER_FS ? 0x64 : 0x65);
        emit_byte(e, (u8)(0x48 | t->z.raw.rex.X << 1 | t->z.raw.rex.B));
        emit_byte(e, MOV_TO);
        const u8 *modrm = t->bytes + t->z.raw.modrm.offset;
        emit_byte(e, (u8)((modrm[0] & 0xc7) | RDX << 3));
        emit_bytes(e, modrm + 1, t->z.length - t->z.raw.modrm.offset - 1u);
    }
}

/* RAX: the entry of a way that RDX may be in; jumps if it is. PEXT and JRCXZ leave flags. */
static u8 *look_in(struct copying *t, unsigned way)
{
    static const u8 pext[] = {0xc4, 0xe2, 0xea, 0xf5, 0x05};
    const u64 table = t->annex->place.base + CELL_TABLE_PAGE * PAGE_SIZE;
    struct emit *e = t->e;
    emit_bytes(e, pext, sizeof(pext)); /* RAX := PEXT(RDX, mask) */
    emit_u32(e, (u32)(table + offsetof(struct targets, mask[way]) - (u64)(emit_here(e) + 4)));
    on_block(t, LEA, RCX, table + offsetof(struct targets, negated[way]));
    emit_lea(e, 8, RAX, (struct host_mem){.base = RCX, .index = RAX, .scale = 3});
    emit_load(e, RCX, mem_at(RAX, 0));
    emit_lea(e, 8, RCX, mem_sum(RCX, RDX, 0));
    return emit_short_jump(e, JRCXZ);
}

/* JMP, CALL and RET to what is in a register or memory: looked up in the table of targets.
 * `operand` NULL: RET. */
static void branch_to(struct copying *t, const ZydisDecodedOperand *operand, bool call)
{
    struct emit *e = t->e;
    origin(t, t->rip, 0);
    save(t, 0, RAX);
    save(t, 1, RCX);
    save(t, 2, RDX);
    origin(t, t->rip, UNDO_SAVED);
    if (operand)
        load_target_from(t, operand);
    else
        emit_load(e, RDX, mem_at(RSP, 0));
    u8 *first = look_in(t, 0);
    u8 *second = look_in(t, 1);
    emit_byte(e, HLT); /* the simulator runs the branch */
    emit_short_bind(e, first);
    emit_short_bind(e, second);
    emit_load(e, RAX, mem_at(RAX, offsetof(struct targets, copy)));
    save(t, SLOT_SCRATCH, RAX);
    save(t, SLOT_TARGET, RDX);
    restore(t, 0, RAX);
    restore(t, 1, RCX);
    restore(t, 2, RDX);
    if (call) {
        on_block(t, PUSH_M, 6, literal(t, t->next));
        add_edge(t, t->next, 0);
    } else if (!operand) {
        s32 more = t->z.operand_count_visible ? (s32)t->operands[0].imm.value.u : 0;
        emit_lea(e, 8, RSP, mem_at(RSP, 8 + more));
    }
    origin(t, 0, UNDO_TARGET);
    on_block(t, PUSH_M, 4, slot(t, SLOT_SCRATCH)); /* JMP */
    t->ends = true;
}

/* -- Direct branches ----------------------------------------------------------------------- */

static void call_to(struct copying *t, u64 target)
{
    origin(t, t->rip, 0);
    on_block(t, PUSH_M, 6, literal(t, t->next));
    jump(t, target);
    add_edge(t, t->next, 0);
    t->ends = true;
}

/* LOOP and JRCXZ reach too near for the copy: they jump to a jump. */
static void short_branch(struct copying *t, u64 target)
{
    origin(t, t->rip, 0);
    emit_bytes(t->e, t->bytes, t->z.length - 1u);
    emit_byte(t->e, 2);
    origin(t, t->next, 0);
    emit_byte(t->e, 0xeb);
    emit_byte(t->e, 5);
    jump(t, target);
}

static void branch_if(struct copying *t, u64 target)
{
    u8 opcode = t->z.opcode;
    origin(t, t->rip, 0);
    emit_byte(t->e, 0x0f);
    emit_byte(t->e, 0x80 | (opcode & 15));
    to_target(t, target);
}

static void copy_branch(struct copying *t)
{
    const ZydisDecodedOperand *o = &t->operands[0];
    bool direct = o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o->imm.is_relative;
    u64 target = t->next + o->imm.value.u;
    bool near = t->z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && t->z.operand_width != 16 &&
                !(o->type == ZYDIS_OPERAND_TYPE_MEMORY && t->z.address_width != 64);
    if (!near) {
        stop_here(t);
        return;
    }
    switch (t->z.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
        if (!direct) {
            branch_to(t, o, t->z.mnemonic == ZYDIS_MNEMONIC_CALL);
        } else if (t->z.mnemonic == ZYDIS_MNEMONIC_CALL) {
            call_to(t, target);
        } else {
            jump(t, target);
            t->ends = true;
        }
        break;
    case ZYDIS_MNEMONIC_RET:
        branch_to(t, NULL, false);
        break;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
        short_branch(t, target);
        break;
    default:
        if ((t->z.opcode & 0xf0) == 0x70 || (t->z.opcode & 0xf0) == 0x80) /* Jcc */
            branch_if(t, target);
        else
            stop_here(t);
    }
}

/* -- Other instructions -------------------------------------------------------------------- */

static const bool is_system[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define OP(name, handler, feat, flags) [ZYDIS_MNEMONIC_##name] = true,
#include "x86/exec_system.def"
#undef OP
};

/* Does the cell run it as the guest's processor would? What the scan knows is found later. */
static bool is_innocuous(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        return true;
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_FNSTENV: /* they show where the last instruction stood */
    case ZYDIS_MNEMONIC_FNSAVE:
        return false;
    default:
        return !is_system[z->mnemonic] && (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
                                           z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX);
    }
}

static bool names_segment(const struct copying *t)
{
    for (unsigned i = 0; i < t->z.operand_count; i++) {
        const ZydisDecodedOperand *o = &t->operands[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return true;
    }
    return false;
}

static const ZydisDecodedOperand *relative_operand(const struct copying *t)
{
    for (unsigned i = 0; i < t->z.operand_count; i++) {
        const ZydisDecodedOperand *o = &t->operands[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP))
            return o;
    }
    return NULL;
}

/* A register that the instruction does not use, of those that ModRM names without a prefix. */
static unsigned free_register(const struct copying *t)
{
    static const u8 choice[] = {RDI, RSI, RBX, RDX, RCX, RAX};
    unsigned used = 0, i = 0;
    for (unsigned k = 0; k < t->z.operand_count; k++) {
        const ZydisDecodedOperand *o = &t->operands[k];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegister whole =
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value);
        if (ZydisRegisterGetClass(whole) == ZYDIS_REGCLASS_GPR64)
            used |= 1u << ZydisRegisterGetId(whole);
    }
    while (used >> choice[i] & 1)
        i++;
    return choice[i];
}

/* The instruction with [RIP + distance] replaced by [reg]. */
static void put_with_base(struct copying *t, unsigned reg)
{
    u8 bytes[MAX_INSN];
    unsigned modrm = t->z.raw.modrm.offset, behind = modrm + 5u;
    memcpy(bytes, t->bytes, t->z.length);
    /* The extension of its base register counted for nothing. */
    if (t->z.attributes & ZYDIS_ATTRIB_HAS_REX)
        bytes[t->z.raw.rex.offset] &= (u8)~1;
    else if (t->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && t->z.raw.vex.size == 3)
        bytes[t->z.raw.vex.offset + 1] |= 0x20;
    bytes[modrm] = (u8)((bytes[modrm] & 0x38) | reg);
    emit_bytes(t->e, bytes, modrm + 1);
    emit_bytes(t->e, bytes + behind, t->z.length - behind);
}

static void copy_relative(struct copying *t, const ZydisDecodedOperand *o)
{
    u64 address = literal(t, t->next + (u64)o->mem.disp.value);
    origin(t, t->rip, 0);
    if (t->z.mnemonic == ZYDIS_MNEMONIC_LEA) {
        on_block(t, MOV_TO, (unsigned)ZydisRegisterGetId(t->operands[0].reg.value), address);
        return;
    }
    unsigned reg = free_register(t), undo = (reg + 1) * UNDO_SCRATCH;
    save(t, SLOT_SCRATCH, reg);
    origin(t, t->rip, undo);
    on_block(t, MOV_TO, reg, address);
    put_with_base(t, reg);
    origin(t, t->next, undo);
    restore(t, SLOT_SCRATCH, reg);
}

/* RDTSCP waits for what is before it, and shows the guest's number of its processor. */
static void copy_rdtscp(struct copying *t)
{
    static const u8 lfence_rdtsc[] = {0x0f, 0xae, 0xe8, 0x0f, 0x31};
    origin(t, t->rip, 0);
    emit_bytes(t->e, lfence_rdtsc, sizeof(lfence_rdtsc));
    emit_const(t->e, RCX, t->annex->tsc_aux);
}

static void copy_other(struct copying *t)
{
    const ZydisDecodedOperand *relative = relative_operand(t);
    bool whole_lea = t->z.mnemonic != ZYDIS_MNEMONIC_LEA || t->z.operand_width == 64;
    if (t->z.mnemonic == ZYDIS_MNEMONIC_RDTSCP && x86_has(t->annex->cpu->model, FEAT_RDTSCP)) {
        copy_rdtscp(t);
    } else if (!is_innocuous(&t->z) || names_segment(t)) {
        stop_here(t);
    } else if (!relative) {
        origin(t, t->rip, 0);
        emit_bytes(t->e, t->bytes, t->z.length);
    } else if (relative->mem.base == ZYDIS_REGISTER_RIP && whole_lea) {
        copy_relative(t, relative);
    } else {
        stop_here(t);
    }
}

/* -- Pieces -------------------------------------------------------------------------------- */

static bool is_branch(const ZydisDecodedInstruction *z)
{
    return z->meta.category == ZYDIS_CATEGORY_COND_BR ||
           z->meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
           z->meta.category == ZYDIS_CATEGORY_CALL || z->meta.category == ZYDIS_CATEGORY_RET;
}

/* The bytes from `rip` on, over the end of the page if there is more. Returns their number. */
static unsigned fetch(const struct annex_source *source, u64 rip, u8 *bytes)
{
    unsigned at = rip & ~PAGE_MASK, n = (unsigned)PAGE_SIZE - at;
    const u8 *page = source->page(source, rip & PAGE_MASK);
    if (!page)
        return 0;
    n = n < MAX_INSN ? n : MAX_INSN;
    memcpy(bytes, page + at, n);
    return n;
}

static unsigned fetch_rest(const struct annex_source *source, u64 rip, u8 *bytes, unsigned n)
{
    const u8 *page = source->page(source, (rip & PAGE_MASK) + PAGE_SIZE);
    if (!page)
        return n;
    memcpy(bytes + n, page, MAX_INSN - n);
    return MAX_INSN;
}

static bool decode(struct copying *t, const struct annex_source *source, u8 *bytes)
{
    unsigned n = fetch(source, t->rip, bytes);
    if (!n)
        return false;
    ZyanStatus status = x86_decoder_decode(&t->annex->decoder, bytes, n, &t->z, t->operands);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && n < MAX_INSN) {
        n = fetch_rest(source, t->rip, bytes, n);
        status = x86_decoder_decode(&t->annex->decoder, bytes, n, &t->z, t->operands);
    }
    t->next = t->rip + t->z.length;
    return ZYAN_SUCCESS(status);
}

static void copy_one(struct copying *t)
{
    struct annex *annex = t->annex;
    u32 from = annex_here(annex);
    unsigned origins = annex->n_origins, edges = annex->n_edges;
    if (is_branch(&t->z))
        copy_branch(t);
    else
        copy_other(t);
    if (t->e->full || annex_is_clean(annex, from, annex_here(annex)))
        return;
    t->e->at = annex->place.block + from;
    annex->n_origins = origins;
    annex->n_edges = edges;
    stop_here(t);
}

static void put_stubs(struct copying *t)
{
    struct annex *annex = t->annex;
    for (unsigned i = t->first_edge; i < annex->n_edges && !t->e->full; i++) {
        struct edge *edge = &annex->tables->edges[i];
        if (!edge->field)
            continue;
        edge->stub = annex_here(annex);
        origin(t, edge->target, UNDO_EDGE);
        emit_byte(t->e, HLT);
        annex_bind(annex, edge->field, edge->stub);
    }
}

bool annex_copy(struct annex *annex, const struct annex_source *source, u64 rip, u32 *at)
{
    struct copying t = {
        .annex = annex, .e = &annex->e, .rip = rip, .first_edge = annex->n_edges};
    u8 bytes[MAX_INSN];
    t.bytes = bytes;
    *at = 0;
    unsigned n = 0;
    for (; n < MAX_PIECE && !t.ends && !t.e->full; n++, t.rip = t.next) {
        if (n && annex_find(annex, t.rip))
            break;
        if (!decode(&t, source, bytes))
            break;
        annex_note(annex, t.rip, annex_here(annex));
        copy_one(&t);
    }
    if (!n)
        return !t.e->full;
    if (!t.ends)
        jump(&t, t.rip);
    put_stubs(&t);
    /* A piece whose last instruction cannot be decoded ends with an edge to nowhere. */
    *at = annex_find(annex, rip);
    t.e->full |= (u64)(t.e->end - t.e->at) < MAX_PIECE * MAX_HOST;
    return !t.e->full;
}
