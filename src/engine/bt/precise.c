/*
 * Arithmetic flags where the guest sees them. A translation does not keep flags that the code
 * ahead overwrites before it reads them: keeping them through every check of a memory access
 * would cost 7 to 14 % (boot, SQLite, ash). But an exception or an interrupt pushes them. So
 *
 *  - for an interrupt, or whatever else comes from outside, the guest goes on for the few
 *    instructions until all flags are known (flags_settle);
 *  - for a fault the instruction that made the flags is run again, where its operands are still
 *    in their registers, or can be had back from its result (flags_expose). Where they cannot,
 *    as the flags come from before the TU, from memory or from a shift, those in the pushed
 *    image may be older ones; they are counted.
 *
 * A site says which flags are stale there, and how far back their producer stands.
 */
#include "engine/bt/bt.h"

#include "memory/pmap.h"
#include "memory/walk.h"
#include "x86/mem.h"

/* More than any path on which flags are known to be dead. */
#define MOST_STEPS 256

/* The guest's code at a linear address, or NULL; nothing is raised or changed. */
static const u8 *code_at(struct bt *bt, u64 la)
{
    struct pmap *pmap = bt->vcpu->board->pmap;
    struct gpa where;
    if (!walk_peek(bt_cpu(bt), pmap, gva(la), &where))
        return NULL;
    const u8 *page = pmap_page(pmap, gpa_to_gfn(where));
    return page ? page + (where.v & ~PAGE_MASK) : NULL;
}

void flags_note(struct bt *bt, const struct site *site)
{
    const struct tu *tu = &bt->tus[site->tu];
    bt->stale = flags_unpack(site->stale);
    bt->producer = NULL;
    /* The bytes are those that were translated as long as the TU lives. */
    if (!site->producer || tu->dead)
        return;
    u64 la =
        place_linear(tu->mode, place_beside(tu->mode, tu->rip, site->rip - site->producer));
    bt->producer = (const u8 *)((u64)tu->code & PAGE_MASK) + (la & ~PAGE_MASK);
}

/* -- Making flags again -------------------------------------------------------------------- */

/* ADD to itself loses a bit. */
static bool adds_to_itself(const struct guest_insn *g)
{
    return (g->regs_read & (g->regs_read - 1)) == 0 && g->modrm && g->tail == g->length;
}

bool flags_reproducible(const struct guest_insn *g)
{
    if (g->kind != GUEST_COPY || g->memory)
        return false;
    switch (g->mnemonic) {
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_AND: /* the result and the source give the result again */
    case ZYDIS_MNEMONIC_OR:
        return true;
    case ZYDIS_MNEMONIC_ADD:
        return g->opsize >= 4 && !adds_to_itself(g);
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_NEG:
        return g->opsize >= 4;
    default:
        return false;
    }
}

/* The destination as it was before the instruction. */
static void undo(struct x86_cpu *c, const struct x86_insn *i)
{
    const struct x86_operand *to = &i->opd[0], *from = &i->opd[1];
    u64 now = x86_gpr_read(c, to->reg, to->size);
    u64 with = from->kind == OPD_GPR ? x86_gpr_read(c, from->reg, from->size) : i->imm;
    switch (i->mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
        now -= with;
        break;
    case ZYDIS_MNEMONIC_SUB:
        now += with;
        break;
    case ZYDIS_MNEMONIC_XOR:
        now ^= with;
        break;
    case ZYDIS_MNEMONIC_NEG:
        now = -now;
        break;
    default:
        return;
    }
    x86_gpr_write(c, to->reg, to->size, now);
}

/* All of what the producer changes but flags stays as it is. */
static void reproduce(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct x86_insn insn;
    u64 left = page_left((u64)bt->producer), rip = c->rip, insn_rip = c->insn_rip;
    vectors_save(bt);
    if (x86_decode(c, bt->producer, left < GUEST_BYTES ? (unsigned)left : GUEST_BYTES,
                   c->code_size, &insn) != DECODE_OK)
        return;
    u64 to = c->gpr[insn.opd[0].reg];
    undo(c, &insn);
    x86_execute(c, &insn);
    c->gpr[insn.opd[0].reg] = to;
    c->rip = rip;
    c->insn_rip = insn_rip;
    bt->stale = 0;
    bt->stats.flags_recovered++;
}

void flags_expose(struct bt *bt)
{
    if (likely(!bt->stale))
        return;
    if (bt->producer)
        reproduce(bt);
    bt->stats.flags_unknown += bt->stale != 0;
    bt->stale = 0;
}

/* -- Going on ------------------------------------------------------------------------------ */

/* The instruction at RIP; false: there is none to be seen. */
static bool at_rip(struct bt *bt, struct guest_insn *g)
{
    struct x86_cpu *c = bt_cpu(bt);
    u64 la = place_linear(c->code_size == 8 ? 0 : MODE_SIZE(c->code_size), bt_place(c));
    const u8 *code = code_at(bt, la);
    return code &&
           guest_decode(&bt->decoder, c->code_size, code, (unsigned)page_left(la), c->rip, g);
}

/* What may open or close the window for interrupts: one that waits must not miss it. */
static bool is_sensitive(const struct guest_insn *g)
{
    return g->kind == GUEST_INLINE || g->kind == GUEST_SIMULATE || g->kind == GUEST_SYSTEM ||
           g->kind == GUEST_GATE || g->kind == GUEST_TO_SEGMENT || g->kind == GUEST_POP_SEGMENT;
}

void flags_settle(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct guest_insn g;
    vectors_home(bt);
    if (bt->producer)
        reproduce(bt);
    else
        bt->stats.flags_settled++;
    bt->producer = NULL;
    for (unsigned n = 0; bt->stale && n < MOST_STEPS && c->activity == CPU_RUNNING; n++) {
        /* What the instruction before has asked of this vCPU, as to look at a device's pages
         * anew, does not wait for the flags. */
        if (atomic_load_explicit(&c->attention, memory_order_relaxed) & ATTN_WORK)
            vcpu_run_work(bt->vcpu);
        bool known = at_rip(bt, &g);
        if (known && is_sensitive(&g))
            break;
        sim_step(bt->vcpu);
        bt->stale &= (u16) ~(known ? g.flags_kill : 0);
    }
    flags_expose(bt);
}
