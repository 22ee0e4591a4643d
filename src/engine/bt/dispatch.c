/*
 * Outside translations: finding the next one, and handing single instructions to the simulator.
 *
 * The functions that stubs call start with vector state still the guest's, in registers. This
 * file, cache.c and link.c are compiled with -mgeneral-regs-only and touch none of it; before
 * anything else is called, vectors_home() saves it, and the way back restores it.
 */
#include "engine/bt/bt.h"

#include "base/ensure.h"
#include "engine/access.h"
#include "memory/tlb.h"
#include "x86/interrupt.h"
#include "x86/mem.h"

/* -- State --------------------------------------------------------------------------------- */

void vectors_home(struct bt *bt)
{
    if (bt->hot->vectors_home)
        return;
    struct x86_fpu *fpu = &bt_cpu(bt)->fpu;
    u32 mxcsr = 0x1f80;
    __asm__ volatile("xsave64 %0\n\t"
                     "vzeroupper\n\t"
                     "fninit\n\t"
                     "ldmxcsr %1"
                     : "+m"(*fpu)
                     : "m"(mxcsr), "a"(XCR0_X87 | XCR0_SSE | XCR0_AVX), "d"(0)
                     : "memory");
    fpu->xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    bt->hot->vectors_home = true;
}

/* cpu.rflags := complete, from what the stub stored. */
static void flags_in(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    u64 flags = bt->hot->flags >> 8 & (FLAGS_STATUS & 0xff);
    flags |= bt->hot->flags & 1 ? FLAG_OF : 0;
    c->rflags = (c->rflags & ~FLAGS_STATUS) | flags;
}

/* The way back: what the stub loads. */
static const void *go(struct bt *bt, u32 place)
{
    u64 rflags = bt_cpu(bt)->rflags;
    bt->hot->flags = (rflags & 0xff) << 8 | (rflags & FLAG_OF ? 1 : 0);
    return bt_exec(bt, place);
}

static bool pending(const struct bt *bt, u32 mask)
{
    return atomic_load_explicit(&bt->vcpu->cpu.attention, memory_order_relaxed) & mask;
}

static bool attention(const struct bt *bt)
{
    return unlikely(pending(bt, ~0u));
}

u32 bt_mode(const struct x86_cpu *c)
{
    u32 mode =
        MODE_SET(c->tlb_index) | MODE_CPL(c->cpl) | (c->cr4 & CR4_TSD ? 0 : (u32)MODE_TSC);
    bool flat = true;
    for (unsigned seg = SEG_ES; seg <= SEG_GS; seg++)
        flat &= c->flat[seg] == (FLAT_READ | FLAT_WRITE);
    if (c->code_size != 8 || !flat || (c->rflags & (FLAG_TF | FLAG_RF | FLAG_DF)) ||
        (c->dr7 & 0xff) || c->sti_shadow || c->ss_shadow || c->pending_db)
        return MODE_NONE;
    if (!(c->cr0 & (CR0_EM | CR0_TS))) {
        bool sse = c->cr4 & CR4_OSFXSR;
        bool avx = (c->cr4 & CR4_OSXSAVE) && (c->xcr0 & XCR0_AVX);
        mode |= (c->cr0 & CR0_NE ? (u32)MODE_X87 : 0) | (sse ? (u32)MODE_SSE : 0) |
                (avx ? (u32)MODE_AVX : 0);
    }
    return mode;
}

/* One instruction on the simulator; `vectors`: it may touch vector state. */
static void step(struct bt *bt, bool vectors)
{
    if (vectors || bt_cpu(bt)->log->mask || !sim_ready(bt->vcpu))
        vectors_home(bt);
    sim_step(bt->vcpu);
}

/* The same for an instruction that was decoded with its TU, in a mode that bt_mode allows:
 * neither traps nor breakpoints nor shadows. */
static void execute(struct bt *bt, struct x86_insn *insn)
{
    struct x86_cpu *c = bt_cpu(bt);
    jmp_buf unwind;
    c->unwind = &unwind;
    if (setjmp(unwind)) {
        c->pending_db = 0;
        x86_deliver_fault(c);
        return;
    }
    x86_execute(c, insn);
}

/* -- Finding
 * --------------------------------------------------------------------------------------
 */

/* The code at RIP through the page tables; NULL: a fault was delivered instead, or it is no
 * RAM. */
static const u8 *walk_to_code(struct bt *bt, struct gfn *frame)
{
    struct x86_cpu *c = bt_cpu(bt);
    jmp_buf unwind;
    vectors_home(bt);
    c->unwind = &unwind;
    c->insn_rip = c->rip;
    if (setjmp(unwind)) {
        x86_deliver_fault(c);
        return NULL;
    }
    return access_code(c, gva(c->rip), frame);
}

static struct tu *make_tu(struct bt *bt, u32 mode)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct gfn frame;
    u64 rip = c->rip;
    const u8 *code = walk_to_code(bt, &frame);
    if (!code || c->rip != rip)
        return NULL;
    struct tu *tu = cache_find(bt, code, rip, mode);
    if (tu)
        return tu;
    access_watch_code(bt->vcpu, frame);
    bool full;
    tu = translate(bt, code, rip, mode, &full);
    if (full) {
        cache_flush(bt);
        tu = translate(bt, code, rip, mode, &full);
        ensure(!full);
    }
    if (tu)
        cache_add(bt, tu);
    return tu;
}

/* The TU at RIP, found or made. NULL: RIP stands where no TU begins; or a fault changed it. */
static struct tu *find_tu(struct bt *bt, u32 mode)
{
    struct x86_cpu *c = bt_cpu(bt);
    const struct x86_tlb *tlb = &c->tlb[c->tlb_index];
    unsigned slot = tlb_slot(c->rip);
    u64 offset = c->rip ^ tlb->exec[slot];
    if (likely(offset < PAGE_SIZE)) {
        struct tu *tu = cache_find(bt, (const u8 *)tlb->page[slot] + offset, c->rip, mode);
        if (likely(tu))
            return tu;
    }
    return crossing_find(bt) ? NULL : make_tu(bt, mode);
}

/* Does the translation of RIP's page survive CR3 loads? */
static bool is_global(const struct bt *bt)
{
    const struct x86_cpu *c = &bt->vcpu->cpu;
    unsigned slot = tlb_slot(c->rip);
    return c->tlb_use.global[c->tlb_index][slot / 64] >> (slot % 64) & 1;
}

/* Where no TU begins. */
static void step_untranslated(struct bt *bt, u32 mode)
{
    struct x86_insn *crossing =
        mode == MODE_NONE || bt_cpu(bt)->log->mask ? NULL : crossing_find(bt);
    if (crossing) {
        execute(bt, crossing);
        return;
    }
    vectors_home(bt);
    if (mode == MODE_NONE) {
        sim_run(bt->vcpu);
    } else {
        crossing_make(bt);
        sim_step(bt->vcpu);
    }
}

const void *dispatch(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    while (true) {
        if (attention(bt)) {
            vectors_home(bt);
            /* First the poll, then the look: a kick in between only costs another look. */
            __atomic_store_n(&bt->hot->poll, &bt->hot->poll_word, __ATOMIC_SEQ_CST);
            if (!sim_attend(bt->vcpu, &bt->exit))
                return NULL;
        }
        if (unlikely(bt->watch) && bt->watch->leaves(bt->watch, c)) {
            vectors_home(bt);
            bt->exit = EXIT_USER;
            return NULL;
        }
        u32 mode = bt_mode(c);
        struct tu *tu = mode == MODE_NONE ? NULL : find_tu(bt, mode);
        /* What the vCPU has done to itself comes first. What others want and could not be
         * served just now, as an interrupt while IF is clear, waits. */
        if (unlikely(pending(bt, ATTN_STATE)))
            continue;
        if (likely(tu)) {
            indirect_enter_mode(bt, mode);
            return go(bt, tu->entry);
        }
        bt->stats.steps++;
        step_untranslated(bt, mode);
    }
}

bool bt_fill(struct bt *bt, struct gva la, enum x86_access access)
{
    if (!bt_canonical(la.v) || bt_cpu(bt)->log->mask)
        return false;
    struct x86_cpu *c = bt_cpu(bt);
    struct pmap *pmap = bt->vcpu->board->pmap;
    struct walk_result page;
    u32 error;
    if (!walk(c, pmap, la, tlb_access(c, c->tlb_index, access), &page, &error))
        return false;
    struct gfn frame = gpa_to_gfn(page.gpa);
    u64 flags = pmap_flags(pmap, frame);
    if (!(flags & PMAP_PRESENT))
        return false;
    if (access == ACCESS_WRITE) {
        if (flags & (PMAP_ROM | PMAP_CODE))
            return false;
        if (!(flags & PMAP_DIRTY))
            flags = pmap_set_flags(pmap, frame, PMAP_DIRTY, 0) | PMAP_DIRTY;
    }
    tlb_fill(c, c->tlb_index, gva(la.v & PAGE_MASK), &page, pmap_page(pmap, frame), flags);
    return true;
}

/* -- Callouts
 * -----------------------------------------------------------------------------------
 */

/* RIP reached from translated code: the TU there, if nothing stands against entering it. */
static struct tu *follow(struct bt *bt, u64 rip, u32 mode)
{
    flags_in(bt);
    bt_cpu(bt)->rip = rip;
    return attention(bt) ? NULL : find_tu(bt, mode);
}

const void *dispatch_link(struct bt *bt, u64 number)
{
    struct link *link = &bt->links[number];
    u64 flushes = bt->stats.flushes;
    const struct tu *from = &bt->tus[link->from];
    bt->stats.link_misses++;
    struct tu *tu = follow(bt, link->rip, from->mode);
    if (!tu || attention(bt))
        return dispatch(bt);
    if (bt->stats.flushes == flushes && !from->dead && !tu->dead)
        link_set(bt, link, tu);
    return go(bt, tu->entry);
}

const void *dispatch_cell(struct bt *bt, u64 number)
{
    struct cell cell = bt->cells[number];
    u64 flushes = bt->stats.flushes;
    bt->stats.cell_misses++;
    struct tu *tu = follow(bt, cell.rip, cell.mode);
    if (!tu || attention(bt))
        return dispatch(bt);
    if (bt->stats.flushes == flushes)
        cell_set(bt, (u32)number, tu, is_global(bt));
    return go(bt, tu->entry);
}

/* An indirect branch to an address that is none: back to its beginning, where the simulator
 * lets it fault. */
static const void *refuse_target(struct bt *bt)
{
    const struct site *site = &bt->sites[bt->hot->exit_site];
    struct x86_cpu *c = bt_cpu(bt);
    flags_in(bt);
    c->rip = site->rip;
    c->gpr[RSP] -= (u64)(s64)site->stack;
    /* A call, which has pushed: the check of that access has just succeeded. */
    u64 *pushed = site->stack < 0 ? x86_tlb_write(c, gva(c->gpr[RSP] - 8), 8) : NULL;
    if (pushed)
        *pushed = bt->hot->replaced;
    vectors_home(bt);
    sim_step(bt->vcpu);
    return dispatch(bt);
}

const void *dispatch_indirect(struct bt *bt, u64 unused, u64 target)
{
    bt->stats.indirect_misses++;
    if (!bt_canonical(target))
        return refuse_target(bt);
    u32 mode = bt_mode(bt_cpu(bt));
    struct tu *tu = follow(bt, target, mode);
    if (!tu || attention(bt))
        return dispatch(bt);
    indirect_set(bt, tu, is_global(bt));
    return go(bt, tu->entry);
}

/* Runs the site's instruction on the simulator and goes on behind it, if nothing came up. */
static const void *simulate(struct bt *bt, const struct site *at)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct site site = *at;
    const struct tu *tu = &bt->tus[site.tu];
    u64 flushes = bt->stats.flushes;
    flags_in(bt);
    c->rip = site.rip;
    if (site.decoded && !site.vectors && !c->log->mask)
        execute(bt, &bt->decoded[site.decoded]);
    else
        step(bt, site.vectors);
    bool stays = site.resume && c->rip == site.rip + site.length && !attention(bt) &&
                 bt->stats.flushes == flushes && !tu->dead && bt_mode(c) == tu->mode;
    return stays ? go(bt, site.resume) : dispatch(bt);
}

const void *dispatch_simulate(struct bt *bt, u64 number)
{
    const struct site *site = &bt->sites[number];
    bt->stats.callouts++;
    bt->stats.reasons[site->mnemonic]++;
    if (site->string && string_run(bt, site))
        return bt_exec(bt, site->resume);
    return simulate(bt, site);
}

const void *dispatch_access(struct bt *bt, u64 number, u64 la)
{
    const struct site *site = &bt->sites[number];
    if (page_left(la) >= site->size &&
        bt_fill(bt, gva(la), site->write ? ACCESS_WRITE : ACCESS_READ)) {
        bt->stats.fills++;
        bt->hot->address = la;
        return bt_exec(bt, site->retry);
    }
    bt->stats.slow_accesses++;
    return simulate(bt, site);
}

const void *dispatch_stop(struct bt *bt, u64 number)
{
    bt->stats.stops++;
    flags_in(bt);
    bt_cpu(bt)->rip = bt->sites[number].rip;
    /* The kick is answered even if its attention bits are down again by now. */
    __atomic_store_n(&bt->hot->poll, &bt->hot->poll_word, __ATOMIC_SEQ_CST);
    return dispatch(bt);
}
