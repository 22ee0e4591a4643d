/*
 * Outside translations: finding the next one, and handing single instructions to the simulator.
 *
 * The functions that stubs call start with vector state still the guest's, in registers. This
 * file, cache.c and link.c are compiled with -mgeneral-regs-only and touch none of it; before
 * anything else is called, vectors_save() or vectors_home() saves it, and the way back restores
 * it.
 */
#include "engine/bt/bt.h"

#include "base/ensure.h"
#include "engine/access.h"
#include "memory/tlb.h"
#include "x86/debug.h"
#include "x86/interrupt.h"
#include "x86/mem.h"
#include "x86/native.h"

/* -- State --------------------------------------------------------------------------------- */

void vectors_save(struct bt *bt)
{
    struct x86_fpu *fpu = &bt_cpu(bt)->fpu;
    u32 mxcsr = MXCSR_DEFAULT;
    if (bt->hot->vectors != VECTORS_IN_PLACE)
        return;
    __asm__ volatile("xsave64 %0\n\t"
                     "vzeroupper\n\t"
                     "ldmxcsr %1"
                     : "+m"(*fpu)
                     : "m"(mxcsr), "a"(XCR0_X87 | XCR0_SSE | XCR0_AVX), "d"(0)
                     : "memory");
    bt->hot->vectors = fpu->xstate_bv & XCR0_AVX   ? VECTORS_SAVED
                       : fpu->xstate_bv & XCR0_SSE ? VECTORS_SAVED_SSE
                                                   : VECTORS_SAVED_ZERO;
    fpu->xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    if (bt_is_code(bt, fpu->fip))
        fault_x87_pointers(bt, fpu);
}

void vectors_home(struct bt *bt)
{
    vectors_save(bt);
    if (bt->hot->vectors != VECTORS_HOME)
        __asm__ volatile("fninit");
    bt->hot->vectors = VECTORS_HOME;
}

/* cpu.rflags := complete, from what the stub stored. */
static void flags_in(struct bt *bt)
{
    bt_flags_take(bt);
    bt->stale = 0;
}

/* The same, of the state at a site. */
static void flags_in_at(struct bt *bt, const struct site *site)
{
    flags_in(bt);
    flags_note(bt, site);
}

/* The way back: what the stub loads. */
static const void *go(struct bt *bt, u32 place)
{
    bt_flags_give(bt);
    return bt_exec(bt, place);
}

static bool pending(const struct bt *bt, u32 mask)
{
    return atomic_load_explicit(&bt->vcpu->cpu.attention, memory_order_relaxed) & mask;
}

/* Is there something to attend to now? An interrupt that waits for IF is not: it stays up
 * through whole guest phases (boot loaders, decompressors) in which links must still be made.
 * What sets IF looks again. */
static bool attention(const struct bt *bt)
{
    bool open = bt->vcpu->cpu.rflags & FLAG_IF;
    return unlikely(pending(bt, open ? ~0u : ~(u32)ATTN_INTR));
}

/* Does every access, or the very next instruction, need a look that translations do not
 * take? Of breakpoints they know (breakpoints.c). */
static bool watched(const struct x86_cpu *c)
{
    return (c->rflags & (FLAG_TF | FLAG_RF | FLAG_DF)) || c->sti_shadow || c->ss_shadow ||
           c->pending_db || ((c->rflags & FLAG_AC) && (c->cr0 & CR0_AM) && c->cpl == 3);
}

static u32 mode_of_units(const struct x86_cpu *c)
{
    if (c->cr0 & (CR0_EM | CR0_TS))
        return 0;
    bool protected = x86_protected(c) && !x86_v86(c);
    bool avx = protected && (c->cr4 & CR4_OSXSAVE) && (c->xcr0 & XCR0_AVX);
    return (c->cr0 & CR0_NE ? (u32)MODE_X87 : 0) | (c->cr4 & CR4_OSFXSR ? (u32)MODE_SSE : 0) |
           (avx ? (u32)MODE_AVX : 0);
}

static unsigned code_limit_find(const struct bt *bt, u32 limit)
{
    unsigned number = 0;
    while (number < bt->n_code_limits && bt->code_limit[number] != limit)
        number++;
    return number;
}

/* What the mode of 16- and 32-bit code says of segments. */
static u32 mode_of_segments(const struct x86_cpu *c)
{
    const struct bt *bt = bt_of(container_of(c, struct vcpu, cpu));
    unsigned limit = code_limit_find(bt, c->seg[SEG_CS].limit);
    if (unlikely(limit == bt->n_code_limits))
        return MODE_NONE;
    u32 mode = MODE_SIZE(c->code_size) | MODE_LIMIT(limit) |
               (c->stack_size == 2 ? (u32)MODE_STACK16 : 0);
    unsigned flat = c->reach[SEG_DS].flat & c->reach[SEG_ES].flat & c->reach[SEG_SS].flat;
    if (flat == (FLAT_READ | FLAT_WRITE))
        mode |= MODE_FLAT;
    if (c->reach[SEG_DS].first | c->reach[SEG_ES].first | c->reach[SEG_SS].first)
        mode |= MODE_DOWN;
    return mode;
}

u32 bt_mode(const struct x86_cpu *c)
{
    u32 mode = MODE_SET(c->tlb_index) | MODE_CPL(c->cpl) | mode_of_units(c) |
               (c->cr4 & CR4_TSD ? 0 : (u32)MODE_TSC) |
               (x86_protected(c) && !x86_v86(c) ? (u32)MODE_PROTECTED : 0);
    if (unlikely(watched(c)))
        return MODE_NONE;
    return mode | (c->code_size == 8 ? (u32)MODE_FLAT : mode_of_segments(c));
}

/* Numbers the limit of CS, where bt_mode will look for it. */
static void code_limit_learn(struct bt *bt)
{
    const struct x86_cpu *c = bt_cpu(bt);
    u32 limit = c->seg[SEG_CS].limit;
    if (likely(c->code_size == 8) || code_limit_find(bt, limit) < bt->n_code_limits)
        return;
    if (bt->n_code_limits == CODE_LIMITS) {
        cache_flush(bt);
        bt->n_code_limits = 2;
    }
    bt->code_limit[bt->n_code_limits++] = limit;
}

/* One instruction on the simulator; `vectors`: it may touch vector state. */
static void step(struct bt *bt, bool vectors)
{
    if (vectors || bt_logged(bt) || !sim_ready(bt->vcpu))
        vectors_home(bt);
    sim_step(bt->vcpu);
}

/* What unwound is delivered. */
static void deliver_fault(struct bt *bt)
{
    flags_expose(bt);
    x86_deliver_fault(bt_cpu(bt));
}

/* The same for an instruction that was decoded with its TU, in a mode that bt_mode allows:
 * neither traps nor shadows; a breakpoint that it meets is left pending. */
static void execute(struct bt *bt, struct x86_insn *insn)
{
    struct x86_cpu *c = bt_cpu(bt);
    jmp_buf unwind;
    c->unwind = &unwind;
    if (setjmp(unwind)) {
        c->pending_db = 0;
        deliver_fault(bt);
        return;
    }
    x86_execute(c, insn);
}

/* -- Finding ------------------------------------------------------------------------------- */

/* The code at RIP through the page tables; NULL: a fault was delivered instead, or it is no
 * RAM. */
static const u8 *walk_to_code(struct bt *bt, u64 la, struct gfn *frame)
{
    struct x86_cpu *c = bt_cpu(bt);
    jmp_buf unwind;
    vectors_save(bt);
    c->unwind = &unwind;
    c->insn_rip = c->rip;
    if (setjmp(unwind)) {
        deliver_fault(bt);
        return NULL;
    }
    return access_code(c, gva(la), frame);
}

static struct tu *make_tu(struct bt *bt, u32 mode, u64 place)
{
    struct gfn frame;
    const u8 *code = walk_to_code(bt, place_linear(mode, place), &frame);
    if (!code || bt_place(bt_cpu(bt)) != place)
        return NULL;
    struct tu *tu = cache_find(bt, code, place, mode);
    if (tu)
        return tu;
    access_watch_code(bt->vcpu, frame);
    bool full;
    tu = translate(bt, frame, code, place, mode, &full);
    if (full) {
        cache_make_room(bt);
        tu = translate(bt, frame, code, place, mode, &full);
        ensure(!full);
    }
    if (tu)
        cache_add(bt, tu);
    return tu;
}

/* The TU at RIP, found or made. NULL: RIP stands where no TU begins, or at a breakpoint; or a
 * fault changed it. */
static struct tu *find_tu(struct bt *bt, u32 mode)
{
    struct x86_cpu *c = bt_cpu(bt);
    const struct x86_tlb *tlb = &c->tlb[c->tlb_index];
    u64 place = bt_place(c), la = place_linear(mode, place);
    unsigned slot = tlb_slot(la);
    u64 offset = la ^ tlb->exec[slot];
    if (unlikely(breakpoint_is_set(bt, la)))
        return NULL;
    if (likely(offset < PAGE_SIZE)) {
        struct tu *tu = cache_find(bt, (const u8 *)tlb->page[slot] + offset, place, mode);
        if (likely(tu))
            return tu;
    }
    return bt_may_jump(bt, mode, c->rip) ? make_tu(bt, mode, place) : NULL;
}

/* Does the translation of RIP's page survive CR3 loads? */
static bool is_global(const struct bt *bt, u32 mode)
{
    const struct x86_cpu *c = &bt->vcpu->cpu;
    unsigned slot = tlb_slot(place_linear(mode, bt_place(c)));
    return c->tlb_use.global[c->tlb_index][slot / 64] >> (slot % 64) & 1;
}

/* Where no TU begins, as where the limit of CS is near, or an instruction goes on in a page
 * that was not fetched from. */
static void step_untranslated(struct bt *bt, u32 mode)
{
    vectors_home(bt);
    if (mode == MODE_NONE)
        sim_run(bt->vcpu);
    else
        sim_step(bt->vcpu);
}

/* Is there nothing to attend to but what a look at the vCPU's own state tells, and interrupts
 * that it does not take? */
static bool attended(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    if (likely(!attention(bt)))
        return true;
    if (pending(bt, ~(u32)(ATTN_STATE | ATTN_INTR)) || c->activity != CPU_RUNNING ||
        (pending(bt, ATTN_INTR) && (c->rflags & FLAG_IF)))
        return false;
    atomic_fetch_and_explicit(&c->attention, ~(u32)ATTN_STATE, memory_order_relaxed);
    return true;
}

const void *dispatch(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    while (true) {
        if (unlikely(bt->stale) && (bt->watch || !attended(bt)))
            flags_settle(bt);
        if (!attended(bt)) {
            vectors_home(bt);
            /* First the poll, then the look: a kick in between only costs another look. */
            __atomic_store_n(&bt->hot->poll, &bt->hot->poll_word, __ATOMIC_SEQ_CST);
            if (unlikely(bt->watch))
                bt->watch->interrupted(bt->watch, c);
            if (!sim_attend(bt->vcpu, &bt->exit))
                return NULL;
        }
        if (unlikely(bt->watch) && bt->watch->leaves(bt->watch, c)) {
            vectors_home(bt);
            bt->exit = EXIT_USER;
            return NULL;
        }
        code_limit_learn(bt);
        u32 mode = bt_mode(c);
        struct tu *tu = mode == MODE_NONE ? NULL : find_tu(bt, mode);
        /* What the vCPU has done to itself comes first. What others want and could not be
         * served just now, as an interrupt while IF is clear, waits. */
        if (unlikely(pending(bt, ATTN_STATE)))
            continue;
        if (unlikely(bt->stale) && (!tu || bt->stale & tu->flags_in)) {
            flags_settle(bt);
            continue;
        }
        if (likely(tu)) {
            indirect_enter_mode(bt, mode);
            return go(bt, tu->entry);
        }
        bt->stats.steps++;
        step_untranslated(bt, mode);
    }
}

bool bt_fill_set(struct bt *bt, unsigned set, struct gva la, enum x86_access access)
{
    struct x86_cpu *c = bt_cpu(bt);
    if (!bt_canonical(la.v) || bt_logged(bt) || x86_page_watched(c, la, access))
        return false;
    struct pmap *pmap = bt->vcpu->board->pmap;
    struct walk_result page;
    u32 error;
    if (!tlb_walk(c, pmap, la, tlb_access(c, set, access), &page, &error))
        return false;
    struct gfn frame = gpa_to_gfn(page.gpa);
    u64 flags = pmap_flags(pmap, frame);
    if (!(flags & PMAP_PRESENT) || !(flags & PMAP_RAM))
        return false;
    if (access == ACCESS_WRITE) {
        if (flags & (PMAP_ROM | PMAP_CODE))
            return false;
        if (!(flags & PMAP_DIRTY))
            flags = pmap_set_flags(pmap, frame, PMAP_DIRTY, 0) | PMAP_DIRTY;
    }
    tlb_fill(c, set, gva(la.v & PAGE_MASK), &page, pmap_page(pmap, frame), flags);
    return true;
}

bool bt_fill(struct bt *bt, struct gva la, enum x86_access access)
{
    return bt_fill_set(bt, bt_cpu(bt)->tlb_index, la, access);
}

/* -- Callouts ------------------------------------------------------------------------------ */

/* A place reached from translated code: the TU there, if nothing stands against entering it. */
static struct tu *follow(struct bt *bt, u64 place, u32 mode, u8 stale)
{
    flags_in(bt);
    bt->stale = flags_unpack(stale);
    bt->producer = NULL;
    bt_cpu(bt)->rip = place_rip(mode, place);
    if (attention(bt) || bt_watched_everywhere(bt))
        return NULL;
    return find_tu(bt, mode);
}

/*
 * Does `tu` want flags that TU `from` did not keep? Each knows of the code ahead what there was
 * to see when it was made; then `from` is to be made anew.
 */
static bool needs_more_flags(struct bt *bt, u32 from, const struct tu *tu)
{
    if (likely(!(bt->stale & tu->flags_in)))
        return false;
    if (!bt->tus[from].dead)
        cache_drop(bt, &bt->tus[from]);
    return true;
}

const void *dispatch_link(struct bt *bt, u64 number)
{
    struct link *link = &bt->links[number];
    u64 epoch = bt->epoch;
    const struct tu *from = &bt->tus[link->from];
    bt->stats.link_misses++;
    struct tu *tu = follow(bt, link->rip, mode_of_guest(from->mode), link->stale);
    if (!tu || attention(bt) || needs_more_flags(bt, link->from, tu))
        return dispatch(bt);
    if (bt->epoch == epoch && !from->dead && !tu->dead)
        link_set(bt, link, tu);
    return go(bt, tu->entry);
}

const void *dispatch_cell(struct bt *bt, u64 number)
{
    struct cell cell = bt->cells[number];
    u64 epoch = bt->epoch;
    bt->stats.cell_misses++;
    struct tu *tu = follow(bt, cell.rip, cell.mode, 0);
    if (!tu || attention(bt))
        return dispatch(bt);
    if (bt->epoch == epoch)
        cell_set(bt, (u32)number, tu, is_global(bt, cell.mode));
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
    u64 top = c->code_size == 8 ? x86_sp(c) : (u32)(c->seg[SEG_SS].base + x86_sp(c));
    x86_set_sp(c, x86_sp(c) - (u64)(s64)site->stack);
    vectors_home(bt);
    /* A call has pushed, through the TLB, which may have another page there by now. */
    void *pushed = site->stack < 0 ? bounce_host(bt, top, true) : NULL;
    if (pushed)
        __builtin_memcpy(pushed, &bt->hot->replaced, (size_t)-site->stack);
    sim_step(bt->vcpu);
    return dispatch(bt);
}

const void *dispatch_indirect(struct bt *bt, u64 unused, u64 target)
{
    bt->stats.indirect_misses++;
    u32 mode = bt_mode(bt_cpu(bt));
    if (!bt_may_jump(bt, mode, place_rip(mode, target)))
        return refuse_target(bt);
    struct tu *tu = follow(bt, target, mode, 0);
    if (!tu || attention(bt))
        return dispatch(bt);
    indirect_enter_mode(bt, mode);
    indirect_set(bt, tu, is_global(bt, mode));
    return go(bt, tu->entry);
}

/* Does the page that the TU is from stand where it was? Not after the guest has mapped another
 * one there, nor after it has dropped the translation to look again. */
static bool still_mapped(const struct x86_cpu *c, const struct tu *tu)
{
    const struct x86_tlb *tlb = &c->tlb[tu->mode & MODE_SET_MASK];
    u64 la = place_linear(tu->mode, tu->rip);
    unsigned slot = tlb_slot(la);
    return tlb->exec[slot] == (la & PAGE_MASK) &&
           tlb->page[slot] == ((u64)tu->code & PAGE_MASK);
}

/* On behind the site's instruction, which C code has run since `epoch`, if nothing came up. */
static const void *go_on(struct bt *bt, const struct site *site, u64 epoch)
{
    const struct x86_cpu *c = bt_cpu(bt);
    const struct tu *tu = &bt->tus[site->tu];
    bool stays = site->resume && !site->outdated && c->rip == site->rip + site->length &&
                 attended(bt) && bt->epoch == epoch && !tu->dead && still_mapped(c, tu) &&
                 bt_mode(c) == mode_of_guest(tu->mode);
    return stays ? go(bt, site->resume) : dispatch(bt);
}

/* What is stale behind the site's instruction; nothing, if it has faulted. */
static void flags_behind(struct bt *bt, const struct site *site)
{
    bt->producer = NULL;
    if (site->settles)
        bt->stale = 0;
}

/* Runs the site's instruction on the simulator. */
static const void *simulate(struct bt *bt, const struct site *at)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct site site = *at;
    u64 epoch = bt->epoch;
    flags_in_at(bt, &site);
    c->rip = site.rip;
    /* It may meet one for data or a port. */
    if (unlikely(x86_breakpoints_on(c)) && x86_breakpoint_kinds(c) != 1u << BREAK_EXEC)
        flags_expose(bt);
    if (site.decoded && !site.vectors && !bt_logged(bt))
        execute(bt, &bt->decoded[site.decoded]);
    else
        step(bt, site.vectors);
    flags_behind(bt, &site);
    return go_on(bt, &site, epoch);
}

/* The check of an instruction on two pages failed: true if that was because the TLB had not the
 * second one, and has it now. */
static bool fill_second_page(struct bt *bt, const struct site *site)
{
    const struct x86_cpu *c = bt_cpu(bt);
    const struct tu *tu = &bt->tus[site->tu];
    u64 second = place_next_page(tu->mode, tu->rip);
    return c->tlb[c->tlb_index].exec[tlb_slot(second)] != second &&
           bt_fill(bt, gva(second), ACCESS_EXEC);
}

const void *dispatch_simulate(struct bt *bt, u64 number)
{
    const struct site *site = &bt->sites[number];
    if (site->kind == SITE_CROSSING) {
        bt->stats.page_crossing++;
        if (fill_second_page(bt, site))
            return bt_exec(bt, site->retry);
    } else {
        bt->stats.simulated[site->mnemonic]++;
    }
    return simulate(bt, site);
}

/* The check of a whole group does not hold, which says nothing of the present access: on in the
 * careful TU of the instruction, and from now on without coming here. */
static const void *enter_careful(struct bt *bt, u64 number)
{
    struct site site = bt->sites[number];
    struct x86_cpu *c = bt_cpu(bt);
    u64 epoch = bt->epoch;
    u32 mode = mode_of_guest(bt->tus[site.tu].mode);
    flags_in_at(bt, &site);
    c->rip = site.rip;
    bt->stats.careful++;
    struct tu *tu = find_tu(bt, mode | (u32)MODE_CAREFUL);
    /* Attention must not lead back to the check that fails; but what the vCPU has done to
     * itself comes first, as a fault of the fetch. */
    if (!tu || pending(bt, ATTN_STATE) || c->rip != site.rip ||
        needs_more_flags(bt, site.tu, tu))
        return dispatch(bt);
    if (bt->epoch == epoch && !bt->tus[site.tu].dead)
        link_guard(bt, &site, tu);
    return go(bt, tu->entry);
}

/* Has the operand one page, at an address that is one, without a data breakpoint? Then what
 * the access raises, if it does, is a page fault. */
static bool on_one_page(const struct bt *bt, const struct site *site, u64 la)
{
    return bt_canonical(la) && page_left(la) >= site->size &&
           !x86_page_watched(&bt->vcpu->cpu, gva(la), site->write ? ACCESS_WRITE : ACCESS_READ);
}

/* A load from what is no RAM, through hot->bounce. */
static const void *load_slowly(struct bt *bt, const struct site *site, u64 la)
{
    struct x86_cpu *c = bt_cpu(bt);
    jmp_buf unwind;
    flags_in_at(bt, site);
    c->rip = c->insn_rip = site->rip;
    c->unwind = &unwind;
    if (setjmp(unwind)) {
        deliver_fault(bt);
        return dispatch(bt);
    }
    c->ops->read(c, gva(la), bounce_at(bt, la), site->size, AS_CPL);
    bt->stats.bounced_loads++;
    return go(bt, bounce_enter(bt, site, la));
}

/* An adapted store, whose value is in hot->bounce, or was stored and must be told of. */
static const void *store_slowly(struct bt *bt, const struct site *at, u64 la)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct site site = *at;
    u64 epoch = bt->epoch;
    jmp_buf unwind;
    flags_in_at(bt, &site);
    c->rip = c->insn_rip = site.rip;
    c->unwind = &unwind;
    if (setjmp(unwind)) {
        deliver_fault(bt);
        return dispatch(bt);
    }
    if (bt->untold.lines) {
        vectors_home(bt);
        access_tell_written(bt->vcpu, bt->untold.frame, bt->untold.lines);
        bt->untold.lines = 0;
    } else {
        c->ops->write(c, gva(la), bt->hot->bounce, site.size, AS_CPL);
    }
    c->rip += site.length;
    if (c->code_size != 8)
        c->rip = (u32)c->rip;
    flags_behind(bt, &site);
    bt->stats.bounced_stores++;
    return go_on(bt, &site, epoch);
}

const void *dispatch_store(struct bt *bt, u64 number, u64 la)
{
    const struct site *site = &bt->sites[number];
    bt->stats.slow_accesses++;
    adapt_slow(bt, site);
    if (!bt->untold.lines && (bt_logged(bt) || !on_one_page(bt, site, la)))
        return simulate(bt, site);
    return store_slowly(bt, site, la);
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
    if (site->shared)
        return enter_careful(bt, number);
    bt->stats.slow_accesses++;
    if (site->passed && site->plain && site->resume && !site->outdated && !bt_logged(bt) &&
        on_one_page(bt, site, la))
        return load_slowly(bt, site, la);
    if (site->plain && site->write)
        adapt_slow(bt, site);
    return simulate(bt, site);
}

const void *dispatch_stop(struct bt *bt, u64 number)
{
    const struct site *site = &bt->sites[number];
    bt->stats.stops++;
    flags_in_at(bt, site);
    bt_cpu(bt)->rip = site->rip;
    /* The kick is answered even if its attention bits are down again by now. */
    __atomic_store_n(&bt->hot->poll, &bt->hot->poll_word, __ATOMIC_SEQ_CST);
    return dispatch(bt);
}
