/*
 * What the translator tells the direct engine, noted down: it is called between translations,
 * with the guest's vector state in the registers, so it only writes integers, and is compiled
 * with -mgeneral-regs-only. The notes are served before a cell runs again.
 *
 * The one thing that cannot wait is whether a cell really stopped: once the guest's kernel has
 * told its processor to forget a translation it may use the page for something else.
 */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/time.h"
#include "engine/direct/compat.h"
#include "engine/direct/direct.h"
#include "memory/walk.h"
#include "x86/model.h"

#define ADDRESS_MASK (bits_low(52) & PAGE_MASK)
#define USER_ENTRIES 256

/* Interrupts that follow each other faster tell nothing, us. */
#define MIN_SAMPLE 500

/* -- Cells off the processor --------------------------------------------------------------- */

static void park(struct direct *d)
{
    struct space *s = d->space;
    if (!s || !s->has_cell || s->cell.parked)
        return;
    cell_verify(&s->cell);
    policy_switch(&s->policy);
}

/* -- Kernel entries ------------------------------------------------------------------------ */

/* The kernel was entered, `seen` times here: charged to the address space for what it would
 * cost in a cell. Page faults show in CR2; what translated code did by itself it has counted.
 */
static void note_entries(struct direct *d, const struct x86_cpu *c, unsigned seen)
{
    struct space *s = d->space;
    u32 calls = *d->watch.calls;
    unsigned n = calls - d->calls_seen + seen;
    bool fault = c->cr2 != d->fault_seen;
    d->calls_seen = calls;
    d->fault_seen = c->cr2;
    if (!s)
        return;
    if (s->policy.promoted) /* calls are what its timer counts itself */
        atomic_fetch_add_explicit(&d->rest.charges, policy_cost(COST_MAPPING, fault),
                                  memory_order_relaxed);
    else
        policy_charge(&s->policy, policy_cost(COST_MAPPING, fault) +
                                      policy_cost(COST_STOP, fault && n ? n - 1 : n));
}

/* -- Address translations ------------------------------------------------------------------ */

static void note_page(struct direct *d, u64 va)
{
    park(d);
    if (d->notes.n_pages < MAX_NOTES)
        d->notes.page[d->notes.n_pages++] = va;
    else
        d->generation++;
}

static void note_flush(struct direct *d)
{
    park(d);
    d->generation++;
}

static void ops_invlpg(struct x86_cpu *c, struct gva la)
{
    struct direct *d = direct_of(c);
    d->below->invlpg(c, la);
    note_page(d, la.v);
}

static void ops_invpcid(struct x86_cpu *c, u16 pcid, struct gva la)
{
    struct direct *d = direct_of(c);
    d->below->invpcid(c, pcid, la);
    note_flush(d);
}

static void ops_flush(struct x86_cpu *c, enum x86_flush what, u16 pcid)
{
    struct direct *d = direct_of(c);
    d->below->flush(c, what, pcid);
    note_flush(d);
}

/* Each load counts as a flush: the comparison that follows is cheap. */
static void ops_cr3_loaded(struct x86_cpu *c, bool keep)
{
    struct direct *d = direct_of(c);
    note_entries(d, c, 0); /* the old one's */
    d->below->cr3_loaded(c, keep);
    note_flush(d);
    d->space = NULL;
    notes_space(d, c);
}

static void ops_paging_changed(struct x86_cpu *c)
{
    struct direct *d = direct_of(c);
    d->below->paging_changed(c);
    note_flush(d);
}

/* -- Code ---------------------------------------------------------------------------------- */

static void note_frame(struct direct *d, struct gfn frame, int rights)
{
    struct notes *notes = &d->notes;
    bool writable = d->world.writable[frame.v / 64] >> (frame.v % 64) & 1;
    if (rights == PROT_WRITE && !writable)
        return;
    park(d); /* a cell that only says that it stopped could go on writing, or executing */
    if (notes->n_frames == MAX_NOTES) {
        notes->all_frames = true;
        return;
    }
    notes->frame[notes->n_frames].frame = frame.v;
    notes->frame[notes->n_frames++].rights = (u8)rights;
}

void notes_code_written(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    struct direct *d = direct_of(&vcpu->cpu);
    bt_engine.code_written(vcpu, frame, lines);
    if (!d->world.findings[frame.v])
        return;
    d->world.findings[frame.v] = 0;
    note_frame(d, frame, PROT_EXEC | SHADOW_COPIED);
}

void notes_code_watched(struct vcpu *vcpu, struct gfn frame)
{
    note_frame(direct_of(&vcpu->cpu), frame, PROT_WRITE);
}

/* -- Privilege ----------------------------------------------------------------------------- */

/*
 * Tells an address space from another that got the same CR3 later: the entries of the tables
 * that lead to its stack and its libraries. Their places are random where Linux randomizes, and
 * their frames are others more often than not.
 */
static u64 print_of(const struct direct *d)
{
    struct pmap *pmap = d->world.pmap;
    const u64 *upper = pmap_page(pmap, gpa_to_gfn(gpa(d->world.cpu->cr3 & ADDRESS_MASK)));
    u64 last = upper ? upper[USER_ENTRIES - 1] : 0, print = last & ADDRESS_MASK;
    const u64 *lower =
        last & PTE_P ? pmap_page(pmap, gpa_to_gfn(gpa(last & ADDRESS_MASK))) : NULL;
    for (unsigned i = 0; lower && i < 512; i++)
        print = (print ^ (lower[i] & ADDRESS_MASK)) * 0x9e3779b97f4a7c15;
    return print;
}

/* The record of `cr3`, or the least used one without a cell. */
static struct space *find_space(struct direct *d, u64 cr3)
{
    u8 *hint = &d->hints[cr3 >> PAGE_SHIFT & (MAX_SPACES - 1)];
    struct space *oldest = &d->spaces[*hint];
    if (oldest->used && oldest->cr3 == cr3)
        return oldest;
    oldest = NULL;
    for (unsigned i = 0; i < MAX_SPACES; i++) {
        struct space *s = &d->spaces[i];
        bool found = s->used && s->cr3 == cr3;
        if (found || (!s->has_cell && (!oldest || s->used < oldest->used))) {
            oldest = s;
            *hint = (u8)i;
        }
        if (found)
            break;
    }
    return oldest;
}

/* Another process, of which nothing is known. */
static void start_over(struct direct *d, struct space *s)
{
    /* The rest was the other's; whatever its timer says now is nobody's. */
    if (d->rest.space == s)
        __atomic_store_n(&d->rest.space, NULL, __ATOMIC_RELAXED);
    s->policy = (struct policy){0};
    s->copies = (struct copies){0};
}

struct space *notes_space(struct direct *d, const struct x86_cpu *c)
{
    u64 cr3 = c->cr3 & PAGE_MASK;
    if (d->space)
        return d->space;
    struct space *s = find_space(d, cr3);
    if (!s)
        return NULL;
    if (s->cr3 != cr3)
        start_over(d, s);
    if (s->policy.promoted && !d->always && s->print != print_of(d)) {
        start_over(d, s);
        d->stats.successors++;
    }
    s->cr3 = cr3;
    s->used = ++d->clock;
    d->space = s;
    notes_watch(d);
    return s;
}

static bool wants_cell(const struct direct *d, const struct space *s)
{
    return d->always || (s && s->policy.promoted && s != d->rest.space);
}

void notes_watch(struct direct *d)
{
    *d->watch.returns = wants_cell(d, d->space);
}

const char *const stay_names[N_STAYS] = {
    [STAY_MODE] = "stays_mode",       [STAY_SELECTORS] = "stays_selectors",
    [STAY_CONTROL] = "stays_control", [STAY_FEATURES] = "stays_features",
    [STAY_FLAGS] = "stays_flags",     [STAY_DEBUG] = "stays_breakpoints",
    [STAY_ADDRESS] = "stays_address", [STAY_SHADOW] = "stays_shadow",
    [STAY_HOST] = "stays_host",
};

static bool are_selectors_64(const struct x86_seg *seg)
{
    return seg[SEG_CS].sel == HOST_CS && seg[SEG_SS].sel == HOST_DS && !seg[SEG_DS].sel &&
           !seg[SEG_ES].sel && !seg[SEG_FS].sel && !seg[SEG_GS].sel;
}

/* Why user code at the processor's present state cannot run in a cell; N_STAYS: it can.
 * Selectors are visible to user code, so they must be those that a Linux host gives a cell, and
 * what VERR says of others must be true: a cell has no LDT. For the other conditions see design
 * 5.2. Alignment checks and TF belong to the simulator. */
static enum stay stay_of(const struct x86_cpu *c)
{
    const u64 cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_MP,
              cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_UMIP;
    const u64 no_flags = FLAG_TF | FLAG_AC | FLAG_VM | FLAG_IOPL;
    const struct x86_seg *seg = c->seg;
    if (c->code_size == 2 || !(c->efer & EFER_LMA))
        return STAY_MODE;
    if (!(c->code_size == 8 ? are_selectors_64(seg) : compat_has_segments(seg)) ||
        (seg[SEG_LDTR].sel & ~3u))
        return STAY_SELECTORS;
    if ((c->cr0 & cr0) != cr0 || c->cr0 & (CR0_TS | CR0_EM))
        return STAY_CONTROL;
    if ((c->cr4 & cr4) != cr4 || c->cr4 & CR4_TSD ||
        c->xcr0 != (XCR0_X87 | XCR0_SSE | XCR0_AVX))
        return STAY_FEATURES;
    if ((c->rflags & no_flags) || !(c->rflags & FLAG_IF))
        return STAY_FLAGS;
    if (c->dr7 & 0xff)
        return STAY_DEBUG;
    if (c->rip >= BIT(47))
        return STAY_ADDRESS;
    return c->sti_shadow || c->ss_shadow || c->pending_db ? STAY_SHADOW : N_STAYS;
}

void notes_demote(struct direct *d, struct space *s)
{
    policy_demote(&s->policy, __rdtsc(), d->world.cpu->model->tsc_hz);
    d->stats.demoted++;
    notes_watch(d);
}

bool notes_wanted(struct direct *d, const struct x86_cpu *c)
{
    if (c->cpl != 3 || d->hold || atomic_load_explicit(&c->attention, memory_order_relaxed))
        return false;
    struct space *s = notes_space(d, c);
    if (!wants_cell(d, s))
        return false;
    enum stay stay = d->no_narrow && c->code_size != 8 ? STAY_HOST : stay_of(c);
    if (likely(stay == N_STAYS))
        return true;
    d->stats.stays[stay]++;
    /* The other two pass. */
    if (!d->always && stay != STAY_CONTROL && stay != STAY_SHADOW)
        notes_demote(d, s);
    return false;
}

/* -- What the translator asks -------------------------------------------------------------- */

/* The timer has judged. */
static void end_rest(struct direct *d)
{
    struct space *s = d->rest.space;
    u32 verdict = atomic_exchange(&d->rest.verdict, REST_GOES_ON);
    __atomic_store_n(&d->rest.space, NULL, __ATOMIC_RELAXED);
    if (!s)
        return;
    s->policy.rested = d->rest.rested;
    if (verdict == REST_HOPELESS && s->policy.promoted)
        notes_demote(d, s);
    notes_watch(d);
}

/* Kernel code goes on, or user code: what changed? */
static bool leaves(struct bt_watch *watch, struct x86_cpu *c)
{
    struct direct *d = container_of(watch, struct direct, watch);
    if (unlikely(atomic_load_explicit(&d->rest.verdict, memory_order_acquire)))
        end_rest(d);
    if (c->cpl != 3 || d->hold_calls != *watch->calls) {
        d->hold = false;
        d->hold_calls = *watch->calls;
    }
    if (c->cpl != 3) {
        note_entries(d, c, d->in_user);
        d->in_user = false;
        return false;
    }
    d->in_user = true;
    return notes_wanted(d, c);
}

void notes_unpin(struct direct *d, u64 us)
{
    u64 cycles = d->world.cpu->model->tsc_hz / 1000000 * us;
    if (!d->pin.on || __rdtsc() - d->pin.used < cycles)
        return;
    syscall(SYS_sched_setaffinity, 0, sizeof(d->pin.allowed), d->pin.allowed);
    d->pin.on = false;
}

/* Microseconds of processor time that this thread has used: on a loaded host much else runs
 * between two interrupts. */
static u64 processor_time(void)
{
    return time_read(CLOCK_THREAD_CPUTIME_ID) / NS_PER_US;
}

static void interrupted(struct bt_watch *watch, struct x86_cpu *c)
{
    struct direct *d = container_of(watch, struct direct, watch);
    u64 tsc = __rdtsc();
    if (d->always || !(atomic_load_explicit(&c->attention, memory_order_relaxed) & ATTN_INTR) ||
        tsc - d->sampled_tsc < c->model->tsc_hz / 1000000 * MIN_SAMPLE)
        return;
    u64 now = processor_time(), us = now - d->sampled_at;
    struct space *s = notes_space(d, c);
    note_entries(d, c, 0);
    d->sampled_tsc = tsc;
    notes_unpin(d, PIN_US);
    d->sampled_at = now;
    if (!s || c->cpl != 3 || s->policy.promoted)
        return;
    u64 print = print_of(d);
    if (s->print != print) {
        d->stats.successors += s->policy.user != 0;
        start_over(d, s);
        s->print = print;
        return;
    }
    policy_sample(&s->policy, us, tsc, c->model->tsc_hz);
    d->stats.promoted += s->policy.promoted;
    notes_watch(d);
}

void notes_make(struct direct *d)
{
    d->watch.leaves = leaves;
    d->watch.interrupted = interrupted;
    d->sampled_at = processor_time();
    d->below = d->vcpu->cpu.ops;
    d->ops = *d->below;
    d->ops.invlpg = ops_invlpg;
    d->ops.invpcid = ops_invpcid;
    d->ops.flush = ops_flush;
    d->ops.cr3_loaded = ops_cr3_loaded;
    d->ops.paging_changed = ops_paging_changed;
}
