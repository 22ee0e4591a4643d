/* The annex of a cell but for its code, see annex.h. */
#include "engine/direct/annex.h"

#include <immintrin.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "engine/direct/protocol.h"
#include "engine/direct/scan.h"
#include "x86/decoder.h"

#define CODE_FIRST   (CELL_CODE_PAGE * PAGE_SIZE)
#define CODE_END     (CELL_PAGES * PAGE_SIZE)
#define LITERALS     (CELL_TABLE_PAGE * PAGE_SIZE + sizeof(struct targets))
#define MAX_LITERALS ((CELL_CODE_PAGE * PAGE_SIZE - LITERALS) / sizeof(u64))

/* How many pieces more are copied with the one that is asked for: a stop costs as much. */
#define AHEAD 24

#define HLT 0xf4

/* Each takes eleven bits. */
static const u64 target_masks[2] = {0x3ff8, 0x3fc54};
/* No address of the guest's is that. */
#define NO_TARGET BIT(63)
#define MAX_MOVES 16

bool annex_works(const struct x86_model *model)
{
    return x86_has(model, FEAT_BMI2);
}

void annex_init(struct annex *annex, const struct frame_place *place)
{
    *annex = (struct annex){.place = *place};
}

void annex_free(struct annex *annex)
{
    free(annex->tables);
    annex->tables = NULL;
}

/* -- Tables -------------------------------------------------------------------------------- */

static struct piece *piece_of(const struct annex *annex, u64 rip)
{
    u64 slot = rip * 0x9e3779b97f4a7c15 >> 40;
    struct piece *piece;
    do
        piece = &annex->tables->pieces[slot++ % ANNEX_PIECES];
    while (piece->at && piece->rip != rip);
    return piece;
}

u32 annex_find(const struct annex *annex, u64 rip)
{
    return piece_of(annex, rip)->at;
}

void annex_note(struct annex *annex, u64 rip, u32 at)
{
    struct piece *piece = piece_of(annex, rip);
    if (piece->at)
        return;
    *piece = (struct piece){rip, at};
    annex->n_pieces++;
    annex->e.full |= annex->n_pieces > ANNEX_PIECES / 4 * 3;
}

u64 annex_literal(struct annex *annex, u64 value)
{
    if (annex->n_literals == MAX_LITERALS)
        return 0;
    u64 at = LITERALS + annex->n_literals++ * sizeof(value);
    memcpy(annex->place.block + at, &value, sizeof(value));
    return annex->place.base + at;
}

static struct targets *targets_of(const struct annex *annex)
{
    return (void *)(annex->place.block + CELL_TABLE_PAGE * PAGE_SIZE);
}

__attribute__((target("bmi2"))) static unsigned slot_of(u64 rip, unsigned way)
{
    return (unsigned)_pext_u64(rip, target_masks[way]);
}

static void note_target(struct annex *annex, u64 rip, u32 at)
{
    struct targets *targets = targets_of(annex);
    for (unsigned way = 0; way < 2; way++) {
        if (targets->negated[way][slot_of(rip, way)] == -rip)
            return;
    }
    u64 copy = annex->place.base + at;
    for (unsigned move = 0; move < MAX_MOVES && -rip != NO_TARGET; move++) {
        unsigned way = move & 1, slot = slot_of(rip, way);
        u64 driven = -targets->negated[way][slot], its_copy = targets->copy[way][slot];
        targets->negated[way][slot] = -rip;
        targets->copy[way][slot] = copy;
        rip = driven;
        copy = its_copy;
    }
}

static void reset(struct annex *annex, const struct x86_cpu *cpu)
{
    u8 *block = annex->place.block;
    if (!annex->tables) {
        annex->tables = calloc(1, sizeof(*annex->tables));
        ensure(annex->tables);
        x86_decoder_init(&annex->decoder, cpu->model, 8);
    } else {
        memset(annex->tables->pieces, 0, sizeof(annex->tables->pieces));
        annex->stats.resets++;
    }
    annex->cpu = cpu;
    annex->n_pieces = annex->n_origins = annex->n_edges = annex->n_literals = 0;
    annex->edge = 0;
    annex->stale = false;
    annex->tsc_offset = cpu->tsc_offset;
    annex->tsc_aux = (u32)cpu->tsc_aux;
    annex->e = (struct emit){.at = block + CODE_FIRST,
                             .end = block + CODE_END,
                             .to_exec = (s64)(annex->place.base - (u64)block)};
    /* What no entry of the table names: the target is in its slot. */
    annex->tables->origins[annex->n_origins++] = (struct origin){0, CODE_FIRST, UNDO_TARGET};
    emit_byte(&annex->e, HLT);
    struct targets *targets = targets_of(annex);
    for (unsigned way = 0; way < 2; way++) {
        for (unsigned i = 0; i < TARGETS; i++) {
            targets->negated[way][i] = NO_TARGET;
            targets->copy[way][i] = annex->place.base + CODE_FIRST;
        }
        targets->mask[way] = target_masks[way];
    }
}

/* -- Jumps --------------------------------------------------------------------------------- */

bool annex_is_clean(const struct annex *annex, u32 from, u32 to)
{
    /* What begins before may end within. */
    u32 first = from - 2 < CODE_FIRST ? CODE_FIRST : from - 2;
    u16 found = scan_bytes(annex->place.block + first, to - first);
    return !(found & ~(annex->tsc_offset ? 0 : BIT(FOUND_RDTSC)));
}

void annex_bind(struct annex *annex, u32 field, u32 at)
{
    u8 *to = annex->place.block + field;
    s32 before, distance = (s32)(at - (field + 4));
    memcpy(&before, to, 4);
    memcpy(to, &distance, 4);
    u32 end = field + 6, here = annex_here(annex);
    if (!annex_is_clean(annex, field, end < here ? end : here))
        memcpy(to, &before, 4);
}

/* -- Entering ------------------------------------------------------------------------------ */

static bool make_piece(struct annex *annex, const struct annex_source *source, u64 rip, u32 *at)
{
    *at = annex_find(annex, rip);
    if (*at)
        return true;
    annex->stats.pieces++;
    return annex_copy(annex, source, rip, at);
}

/* The jumps that were made since, and returns: to what they will probably want. */
static bool copy_ahead(struct annex *annex, const struct annex_source *source, unsigned first)
{
    u64 last = annex->stats.pieces + AHEAD;
    for (unsigned i = first; i < annex->n_edges && annex->stats.pieces < last; i++) {
        struct edge edge = annex->tables->edges[i];
        u32 at;
        if (!make_piece(annex, source, edge.target, &at))
            return false;
        if (at && edge.field)
            annex_bind(annex, edge.field, at);
        else if (at)
            note_target(annex, edge.target, at);
    }
    return true;
}

static const struct edge *edge_of(const struct annex *annex, u32 stub)
{
    for (unsigned i = annex->n_edges; i-- > 0;) {
        if (annex->tables->edges[i].stub == stub)
            return &annex->tables->edges[i];
    }
    return NULL;
}

static u32 try_enter(struct annex *annex, const struct annex_source *source, u64 rip)
{
    unsigned edges = annex->n_edges;
    const struct edge *edge = annex->edge ? edge_of(annex, annex->edge) : NULL;
    u32 at;
    annex->edge = 0;
    if (!make_piece(annex, source, rip, &at) || !at)
        return 0;
    if (edge && edge->target == rip)
        annex_bind(annex, edge->field, at);
    else
        note_target(annex, rip, at);
    return copy_ahead(annex, source, edges) ? at : 0;
}

u64 annex_enter(struct annex *annex, const struct annex_source *source,
                const struct x86_cpu *cpu, u64 rip)
{
    if (!annex->tables || annex->stale || annex->e.full ||
        annex->tsc_offset != cpu->tsc_offset || annex->tsc_aux != (u32)cpu->tsc_aux)
        reset(annex, cpu);
    u32 at = try_enter(annex, source, rip);
    /* Full: it begins anew, and what is asked for now finds room. */
    if (annex->e.full) {
        reset(annex, cpu);
        at = try_enter(annex, source, rip);
    }
    return at && !annex->stale ? annex->place.base + at : 0;
}

/* -- Stops --------------------------------------------------------------------------------- */

/* The last origin that is not behind `at`: places without one share that before them. */
static const struct origin *origin_of(const struct annex *annex, u32 at)
{
    unsigned low = 0, high = annex->n_origins;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (annex->tables->origins[middle].at <= at)
            low = middle;
        else
            high = middle;
    }
    return &annex->tables->origins[low];
}

bool annex_take(struct annex *annex, struct x86_cpu *c, const struct stop *stop)
{
    u64 at = c->rip - annex->place.base;
    annex->edge = 0;
    if (!annex->tables || at < CODE_FIRST || at >= annex_here(annex))
        return false;
    const struct control *control =
        (void *)(annex->place.block + CELL_CONTROL_PAGE * PAGE_SIZE);
    u64 slot[SLOTS];
    memcpy(slot, control->slot, sizeof(slot));
    struct origin origin = *origin_of(annex, (u32)at);
    if (origin.undo & UNDO_SAVED) {
        c->gpr[RAX] = slot[0];
        c->gpr[RCX] = slot[1];
        c->gpr[RDX] = slot[2];
    }
    if (origin.undo >= UNDO_SCRATCH)
        c->gpr[origin.undo / UNDO_SCRATCH - 1] = slot[SLOT_SCRATCH];
    c->rip = origin.undo & UNDO_TARGET ? slot[SLOT_TARGET] : origin.rip;
    if (!(origin.undo & UNDO_EDGE) || stop->trap != VEC_GP || stop->signal != SIGSEGV)
        return false;
    annex->edge = origin.at;
    return true;
}
