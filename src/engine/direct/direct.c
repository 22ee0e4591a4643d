/* The engine's table, and the loop that runs cells and serves their stops. See direct.h. */
#include "engine/direct/direct.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/ensure.h"
#include "engine/direct/compat.h"
#include "engine/sim/sim.h"
#include "memory/walk.h"
#include "x86/interrupt.h"
#include "x86/model.h"
#include "x86/segment.h"

#ifndef TRAP_PERF
#define TRAP_PERF 6 /* asm-generic/siginfo.h */
#endif

/* How many instructions in a row the simulator does for a cell before the translator takes
 * over until the next kernel entry. */
#define MAX_STEPS 8

/* A run through a page of code that must not run directly: how many blocks of instructions,
 * some 100 us of the simulator, before the translator takes over for a while. */
#define MAX_EXCURSION 3000
#define BLOCKS_A_US   30

/* What a trace of copied code takes, us. */
#define PIECE_US 2

/* So much of it shows that copies do not pay, us, for they pause for so many kicks; so much of
 * what they saved that they do.
 */
#define MAX_SPENT   4000
#define MAX_SAVED   1000
#define FIRST_PAUSE 32
#define MAX_TRIES   7

/* Taking rights from the mappings of a frame, us: a cell is verified, all regions are
 * searched. */
#define REVOKE_US 20

/* Every gfn that a pmap can have, see pmap.h. */
#define MAX_FRAMES ((PMAP_MAX_RAM + 4 * GiB) / PAGE_SIZE)

/* -- Cells of address spaces --------------------------------------------------------------- */

static void drop_cell(struct space *s)
{
    if (!s->has_cell)
        return;
    shadow_free(&s->shadow);
    cell_destroy(&s->cell);
    s->has_cell = false;
}

/* Where no usual program has anything: above heaps, below libraries and stacks; and the block
 * within one region. */
static u64 choose_base(bool narrow)
{
    u64 random = 0;
    ensure(getrandom(&random, sizeof(random), 0) == sizeof(random));
    u64 first = narrow ? 0x20000000 : 0x100000000000;
    u64 size = narrow ? 0x30000000 : 0x400000000000;
    u64 region = first + (random % size & ~(BIT(REGION_SHIFT) - 1));
    return region + (random >> 48) % (REGION_PAGES - CELL_PAGES) * PAGE_SIZE;
}

static unsigned count_cells(const struct direct *d, struct space **oldest)
{
    unsigned n = 0;
    *oldest = NULL;
    for (unsigned i = 0; i < MAX_SPACES; i++) {
        const struct space *s = &d->spaces[i];
        if (!s->has_cell)
            continue;
        n++;
        if (!*oldest || s->used < (*oldest)->used)
            *oldest = (struct space *)s;
    }
    return n;
}

/*
 * A partner on another, idle processor costs 30-60 us a switch, one on the same 5: so the
 * thread, its cells and their mappers share one while they run, each vCPU another. Without
 * cells the thread goes where the host likes (notes_unpin).
 */
static void pin(struct direct *d)
{
    cpu_set_t all, one;
    int cpu = 0;
    if (d->pin.on || sched_getaffinity(0, sizeof(all), &all))
        return;
    _Static_assert(sizeof(all) == sizeof(d->pin.allowed), "as the kernel wants it");
    unsigned want = ((unsigned)getpid() + d->vcpu->index) % (unsigned)CPU_COUNT(&all);
    while (!CPU_ISSET(cpu, &all) || want--)
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    memcpy(d->pin.allowed, &all, sizeof(all));
    d->pin.on = !sched_setaffinity(0, sizeof(one), &one);
}

/* The new cell's tasks stay with this thread, and do not push away who wakes them, for he is
 * about to sleep: three switches a page fault instead of four. */
static void pin_cell(const struct cell *cell)
{
    const pid_t tasks[] = {cell->pid, cell->mapper.pid};
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof(one), &one))
        return;
    for (unsigned i = 0; i < ARRAY_LEN(tasks); i++) {
        sched_setaffinity(tasks[i], sizeof(one), &one);
        sched_setscheduler(tasks[i], SCHED_BATCH, &(struct sched_param){0});
    }
}

static bool try_cell(struct zygote *zygote, bool narrow, struct error *why);

/* Has the host cells for 32-bit code? It may lack the system calls of such programs. */
static bool has_narrow(struct direct *d)
{
    struct error why;
    if (!d->narrow_tried)
        d->no_narrow = !try_cell(&d->zygote, true, &why);
    d->narrow_tried = true;
    return !d->no_narrow;
}

static bool need_cell(struct direct *d, struct space *s)
{
    struct space *oldest;
    struct error err;
    s->narrow |= d->world.cpu->code_size != 8;
    if (s->has_cell && (s->cell.dead || s->cell.mapper.refused || s->cell.narrow < s->narrow))
        drop_cell(s);
    if (s->has_cell)
        return true;
    if (count_cells(d, &oldest) >= MAX_CELLS)
        drop_cell(oldest);
    if (s->narrow && !has_narrow(d))
        return false;
    if (!cell_create(&s->cell, &d->zygote, choose_base(s->narrow), s->narrow, &err))
        return false;
    s->shadow.narrow = s->narrow;
    s->cell.mapper.batches = &d->stats.batches;
    s->has_cell = true;
    s->generation = d->generation;
    d->stats.cells++;
    pin_cell(&s->cell);
    return true;
}

/* -- Notes --------------------------------------------------------------------------------- */

static void revoke_frame(struct direct *d, u64 frame, int rights)
{
    if (rights == PROT_WRITE)
        d->world.writable[frame / 64] &= ~BIT(frame % 64);
    for (unsigned i = 0; i < MAX_SPACES; i++) {
        struct space *s = &d->spaces[i];
        if (s->has_cell)
            shadow_revoke(&s->shadow, &s->cell, frame, rights);
    }
}

static void serve_frames(struct direct *d)
{
    struct notes *notes = &d->notes;
    if (notes->all_frames) {
        for (unsigned i = 0; i < MAX_SPACES; i++)
            drop_cell(&d->spaces[i]);
    }
    d->extra += (u64)notes->n_frames * REVOKE_US;
    for (unsigned i = 0; i < notes->n_frames; i++)
        revoke_frame(d, notes->frame[i].frame, notes->frame[i].rights);
    notes->n_frames = 0;
    notes->all_frames = false;
}

/* Whoever shares nothing with what is mapped may be the same process, which unmapped its
 * largest array: successors of the same CR3 are told by other means (notes.c). */
static void compare(struct direct *d, struct space *s)
{
    s->cell.tls_unknown = true; /* the last process may have changed them by itself */
    shadow_compare(&s->shadow, &d->world, &s->cell);
    s->generation = d->generation;
}

/* Frames were given back to the host, or became something else than RAM. */
static void serve_drops(struct direct *d)
{
    d->drops = d->world.cpu->tlb_use.drops;
    for (unsigned i = 0; i < MAX_SPACES; i++) {
        struct space *s = &d->spaces[i];
        if (s->has_cell && !s->cell.dead)
            shadow_recheck(&s->shadow, &d->world, &s->cell);
    }
}

/* Everything noted is done, and the cell exists. */
static bool prepare(struct direct *d, struct space *s)
{
    struct notes *notes = &d->notes;
    if (notes->n_frames || notes->all_frames)
        serve_frames(d);
    if (d->drops != d->world.cpu->tlb_use.drops)
        serve_drops(d);
    if (s->has_cell && !s->cell.dead) {
        if (s->generation != d->generation)
            compare(d, s);
        else
            for (unsigned i = 0; i < notes->n_pages; i++)
                shadow_invalidate(&s->shadow, &d->world, &s->cell, notes->page[i]);
    }
    notes->n_pages = 0;
    if (!need_cell(d, s))
        return false;
    if (shadow_collides(&d->world, &s->cell)) {
        drop_cell(s);
        return false;
    }
    if (s->cell.narrow && !compat_read_tls(d->world.cpu, d->world.pmap, s->cell.tls)) {
        d->stats.stays[STAY_SELECTORS]++;
        return false;
    }
    if (s->expected.due) {
        s->expected.due = false;
        /* The orders go with the rest; whatever else comes of it comes of the access too. */
        if (shadow_fault(&s->shadow, &d->world, &s->cell, s->expected.va, s->expected.access) ==
            SHADOW_LOST)
            cell_condemn(&s->cell);
    }
    return (mapper_only_adds(&s->cell.mapper) || mapper_run(&s->cell.mapper) >= 0) &&
           !s->cell.mapper.refused;
}

/* -- Copies -------------------------------------------------------------------------------- */

/* Visits between two kicks, which are some milliseconds apart, that cost more than copies. */
#define MANY_VISITS 32

struct code_of {
    struct annex_source source;
    struct direct *direct;
    struct space *space;
};

static const u8 *code_page(const struct annex_source *source, u64 va)
{
    const struct code_of *of = (const struct code_of *)source;
    struct space *s = of->space;
    return shadow_code(&s->shadow, &of->direct->world, &s->cell, va);
}

/* Code that must not run directly was met. From now on copies? */
static bool wants_copies(struct direct *d, struct space *s)
{
    const struct x86_cpu *c = d->world.cpu;
    s->copies.on = c->code_size == 8 && annex_works(c->model) && !s->copies.pause &&
                   ++s->copies.visits >= MANY_VISITS;
    return s->copies.on;
}

/* Copies cost where code calls and returns much: so now and then it is seen whether the code
 * that needs them is still met. */
static void try_without_copies(struct space *s)
{
    s->copies.visits = s->copies.on ? MANY_VISITS - 1 : 0;
    s->copies.on = false;
    s->copies.pause -= s->copies.pause != 0;
}

/* A run from copies ended, for which so many pieces were made. Programs whose code does not fit
 * into the annex, or changes, are copied again and again: compilers, and what they make. */
static void judge_copies(struct space *s, u64 pieces, u64 us)
{
    s->copies.spent += (s64)(pieces * PIECE_US) - (s64)us / 4;
    if (s->copies.spent > MAX_SPENT) {
        s->copies.on = false;
        s->copies.spent = 0;
        s->copies.pause = FIRST_PAUSE << s->copies.tries;
        s->copies.tries += s->copies.tries < MAX_TRIES;
    } else if (s->copies.spent < -MAX_SAVED) {
        s->copies.spent = -MAX_SAVED;
        s->copies.tries = 0;
    }
}

static bool has_notes(const struct direct *d, const struct space *s)
{
    return d->notes.n_frames || d->notes.all_frames || !mapper_only_adds(&s->cell.mapper);
}

/* The address in the cell of the copy to go on with; 0: with the code itself. */
static u64 find_copy(struct direct *d, struct space *s)
{
    struct x86_cpu *c = d->world.cpu;
    const struct code_of of = {{code_page}, d, s};
    struct annex *annex = &s->cell.annex;
    if (!(s->copies.on || d->copies) || c->code_size != 8 || !annex_works(c->model))
        return 0;
    u64 pieces = annex->stats.pieces, resets = annex->stats.resets;
    u64 at = annex_enter(annex, &of.source, c, c->rip);
    d->stats.pieces += annex->stats.pieces - pieces;
    d->stats.resets += annex->stats.resets - resets;
    d->stats.copies += at != 0;
    return at;
}

/* Ready to run, from *copy if that is not 0. Copying may have changed what has to be done
 * before. */
static bool prepare_copy(struct direct *d, struct space *s, u64 *copy)
{
    *copy = 0;
    if (!prepare(d, s))
        return false;
    *copy = find_copy(d, s);
    if (!has_notes(d, s))
        return true;
    if (!prepare(d, s))
        return false;
    if (!s->cell.annex.tables || s->cell.annex.stale)
        *copy = 0;
    return true;
}

/* -- Stops --------------------------------------------------------------------------------- */

/* The instruction at RIP, on the simulator: it raises what is due. */
static void step(struct direct *d)
{
    d->stats.steps++;
    sim_step(d->vcpu);
}

static u8 code_byte(struct direct *d, u64 address)
{
    struct gpa where;
    if (!x86_canonical(address) ||
        !walk_peek(d->world.cpu, d->world.pmap, gva(address), &where))
        return 0;
    const u8 *page = pmap_page(d->world.pmap, gpa_to_gfn(where));
    return page ? page[where.v & ~PAGE_MASK] : 0;
}

/* So many bytes before the instruction pointer. */
static u64 rip_less(const struct x86_cpu *c, unsigned bytes)
{
    u64 at = c->rip - bytes;
    return c->code_size == 8 ? at : (u32)at;
}

/* Back to the beginning of a system call, if there is one: SYSCALL, INT n and SYSENTER have two
 * bytes. */
static void serve_syscall(struct direct *d)
{
    struct x86_cpu *c = d->world.cpu;
    u64 at = rip_less(c, 2);
    u8 first = code_byte(d, at), second = code_byte(d, at + 1);
    bool call = (first == 0x0f && (second == 0x05 || second == 0x34)) || first == 0xcd;
    d->stats.syscalls++;
    if (!call)
        return;
    c->rip = at;
    step(d);
}

static void serve_debug(struct direct *d, const struct stop *stop)
{
    struct x86_cpu *c = d->world.cpu;
    if (stop->trap == VEC_BP) {
        /* An INT3 may be gone by now, taken back by another vCPU: then the instruction that
         * stood there before runs. */
        bool two = code_byte(d, rip_less(c, 2)) == 0xcd && code_byte(d, rip_less(c, 1)) == 3;
        c->rip = rip_less(c, two ? 2 : 1);
        step(d);
    } else if (code_byte(d, c->rip) == 0xf1) {
        step(d); /* INT1, on hosts that report it as a fault */
    } else if (code_byte(d, rip_less(c, 1)) == 0xf1) {
        c->rip = rip_less(c, 1);
        step(d);
    } else if (c->rflags & FLAG_TF) {
        c->pending_db |= DR6_BS;
        x86_deliver_debug(c);
    }
}

/* Code that must not run directly, in a few calls of the simulator if that is all there is of
 * it. False: the translator has to. */
static bool step_off_page(struct direct *d)
{
    struct x86_cpu *c = d->world.cpu;
    u64 page = c->rip & PAGE_MASK;
    d->stats.excursions++;
    unsigned i = 0;
    bool off = false;
    while (!off && i++ < MAX_EXCURSION) {
        sim_run(d->vcpu);
        off = c->cpl != 3 || (c->rip & PAGE_MASK) != page || atomic_load(&c->attention);
    }
    d->extra += i / BLOCKS_A_US;
    return off;
}

static bool serve_page_fault(struct direct *d, struct space *s, const struct stop *stop)
{
    enum x86_access access = stop->error & PF_W   ? ACCESS_WRITE
                             : stop->error & PF_I ? ACCESS_EXEC
                                                  : ACCESS_READ;
    d->stats.faults++;
    switch (shadow_fault(&s->shadow, &d->world, &s->cell, stop->cr2, access)) {
    case SHADOW_MAPPED:
        return true;
    case SHADOW_FAULT:
        s->expected.due = true;
        s->expected.va = stop->cr2;
        s->expected.access = access;
        step(d);
        return true;
    case SHADOW_STEP:
        step(d);
        return true;
    case SHADOW_CODE:
        return wants_copies(d, s) || step_off_page(d);
    case SHADOW_LOST:
        cell_condemn(&s->cell);
        return false;
    }
    return false;
}

/* False: the translator must go on. */
static bool serve(struct direct *d, struct space *s, const struct stop *stop)
{
    struct x86_cpu *c = d->world.cpu;
    switch (stop->signal) {
    case SIGUSR1:
        d->stats.kicks++;
        try_without_copies(s);
        return true;
    case SIGSYS:
        if (stop->code == 1) { /* by seccomp: the host's vsyscall page; back to its call */
            c->rip = stop->call_address;
            c->gpr[RSP] -= 8;
            step(d);
        } else {
            serve_syscall(d);
        }
        return true;
    case SIGTRAP:
        if (stop->code == TRAP_PERF) /* a guard, be it one that is not needed any more */
            step(d);
        else
            serve_debug(d, stop);
        return true;
    case SIGSEGV:
        if (stop->trap == VEC_PF)
            return serve_page_fault(d, s, stop);
        if (stop->trap == VEC_OF) /* a trap: INTO, INT 4 */
            c->rip = rip_less(c, code_byte(d, rip_less(c, 2)) == 0xcd ? 2 : 1);
        step(d);
        return true;
    default:
        step(d);
        return true;
    }
}

/* A cell that did what none may do: its process gets a page fault at the stub. */
static void serve_death(struct direct *d, struct space *s)
{
    struct x86_cpu *c = d->world.cpu;
    jmp_buf unwind;
    u64 base = s->cell.place.base;
    drop_cell(s);
    d->stats.lost++;
    notes_demote(d, s);
    c->unwind = &unwind;
    c->insn_rip = c->rip;
    if (setjmp(unwind))
        x86_deliver_fault(c);
    else
        x86_raise_pf(c, gva(base), PF_U);
}

/* -- Running ------------------------------------------------------------------------------- */

static void set_running(struct direct *d, struct cell *cell)
{
    pthread_mutex_lock(&d->kick_lock);
    d->running = cell;
    pthread_mutex_unlock(&d->kick_lock);
}

static bool is_death(struct space *s, enum cell_end end)
{
    return end == CELL_DEAD || s->cell.dead;
}

/* The cell ran, its stop is served: does it pay to go on? */
static bool pays(struct direct *d, struct space *s, const struct stop *stop, u64 batches)
{
    enum policy_cost cost = d->stats.batches != batches ? COST_MAPPING : COST_STOP;
    u64 us = policy_cost(cost, 1) + d->extra;
    d->extra = 0;
    return d->always ||
           !policy_direct(&s->policy, stop->cycles, us, d->world.cpu->model->tsc_hz);
}

/* One run of the cell, and what follows from its stop. False: the translator goes on. */
static bool run_once(struct direct *d, struct space *s)
{
    struct x86_cpu *c = d->world.cpu;
    struct stop stop;
    u64 batches = d->stats.batches, pieces = d->stats.pieces, copy, rip;
    if (!prepare_copy(d, s, &copy)) {
        notes_demote(d, s);
        return false;
    }
    set_running(d, &s->cell);
    /* A kick between this look and the run finds the cell. */
    if (atomic_load(&c->attention)) {
        set_running(d, NULL);
        return true;
    }
    d->stats.runs++;
    c->rflags &= ~FLAG_RF; /* no breakpoint is set, so the next instruction would clear it */
    rip = c->rip;
    c->rip = copy ? copy : rip;
    enum cell_end end = cell_run(&s->cell, c, &stop);
    set_running(d, NULL);
    if (is_death(s, end)) {
        if (end == CELL_DEAD)
            c->rip = rip;
        serve_death(d, s);
        return true;
    }
    compat_take(c, &stop);
    if (copy)
        judge_copies(s, d->stats.pieces - pieces, stop.cycles / (c->model->tsc_hz / 1000000));
    /* Or a jump that leads to no copy yet. */
    bool goes_on = annex_take(&s->cell.annex, c, &stop) || serve(d, s, &stop);
    if (pays(d, s, &stop, batches) && goes_on)
        return true;
    if (d->always)
        return false;
    if (policy_is_lost(&s->policy))
        notes_demote(d, s);
    else
        rest_begin(d, s);
    return true;
}

static void run_user(struct direct *d)
{
    struct x86_cpu *c = d->world.cpu;
    unsigned in_a_row = 0;
    pin(d);
    while (notes_wanted(d, c)) {
        u64 steps = d->stats.steps, pieces = d->stats.pieces;
        if (!run_once(d, d->space))
            d->hold = true;
        bool stepped = d->stats.steps == steps + 1 && d->stats.pieces == pieces;
        in_a_row = stepped ? in_a_row + 1 : 0;
        if (in_a_row <= MAX_STEPS)
            continue;
        if (d->always)
            d->hold = true;
        else
            rest_begin(d, d->space);
    }
    d->stats.holds += d->hold;
    d->in_user = false;
    d->pin.used = __rdtsc();
    d->calls_seen = d->hold_calls = *d->watch.calls;
    d->fault_seen = c->cr2;
}

static enum engine_exit direct_enter(struct vcpu *vcpu)
{
    struct direct *d = direct_of(&vcpu->cpu);
    while (true) {
        enum engine_exit exit = bt_engine.enter(vcpu);
        if (exit != EXIT_USER) {
            notes_unpin(d, PIN_US);
            return exit;
        }
        run_user(d);
    }
}

static void direct_kick(struct vcpu *vcpu)
{
    struct direct *d = direct_of(&vcpu->cpu);
    bt_engine.kick(vcpu);
    pthread_mutex_lock(&d->kick_lock);
    if (d->running)
        cell_kick(d->running);
    pthread_mutex_unlock(&d->kick_lock);
}

/* -- Life ---------------------------------------------------------------------------------- */

/* A whole cell, made and run: about a millisecond. */
static bool try_cell(struct zygote *zygote, bool narrow, struct error *why)
{
    const u16 selector = narrow ? TLS_FIRST << 3 | 3 : 0;
    const u32 thread = 0x12345000;
    struct cell cell;
    struct stop stop;
    if (!cell_create(&cell, zygote, choose_base(narrow), narrow, why))
        return false;
    cell.tls[0] = (struct tls){TLS_FIRST, thread, 0xfffff, TLS_DATA};
    struct x86_cpu *c = aligned_alloc(64, align_up(sizeof(*c), 64));
    ensure(c);
    memset(c, 0, sizeof(*c));
    c->rip = PAGE_SIZE;
    c->code_size = narrow ? 4 : 8;
    c->seg[SEG_GS] = (struct x86_seg){.sel = selector, .base = thread};
    c->fpu.xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    c->fpu.mxcsr = 0x1f80;
    bool good = cell_run(&cell, c, &stop) == CELL_STOPPED && stop.signal == SIGSEGV &&
                stop.cr2 == PAGE_SIZE && cell_verify(&cell) &&
                stop.cs == (narrow ? HOST_CS32 : HOST_CS) && stop.selector[3] == selector &&
                c->seg[SEG_GS].base == thread;
    if (!good)
        error_set(why, "a cell does not report as it should");
    free(c);
    cell_destroy(&cell);
    return good;
}

static bool direct_probe(struct error *why)
{
    struct zygote zygote;
    if (!bt_engine.probe(why))
        return false;
    int memory = memfd_create("doppel-probe", MFD_CLOEXEC);
    if (memory < 0)
        return error_errno(why, "cannot make a memory file");
    bool good = zygote_create(&zygote, memory, why);
    if (good) {
        good = try_cell(&zygote, false, why);
        zygote_destroy(&zygote);
    }
    close(memory);
    return good;
}

static void *map_table(u64 bytes)
{
    void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return table == MAP_FAILED ? NULL : table;
}

static void free_tables(struct direct *d)
{
    if (d->world.findings)
        munmap(d->world.findings, MAX_FRAMES * sizeof(*d->world.findings));
    if (d->world.writable)
        munmap(d->world.writable, MAX_FRAMES / 8);
    pthread_mutex_destroy(&d->kick_lock);
    free(d);
}

static struct direct *make(struct vcpu *vcpu, struct error *err)
{
    struct direct *d = calloc(1, sizeof(*d));
    ensure(d);
    pthread_mutex_init(&d->kick_lock, NULL);
    d->vcpu = vcpu;
    d->always = vcpu->engine_options & ENGINE_ALWAYS;
    d->copies = vcpu->engine_options & ENGINE_COPIES;
    d->world = (struct shadow_world){.cpu = &vcpu->cpu,
                                     .vcpu = vcpu,
                                     .pmap = vcpu->board->pmap,
                                     .findings = map_table(MAX_FRAMES * sizeof(u16)),
                                     .writable = map_table(MAX_FRAMES / 8)};
    bool good = d->world.findings && d->world.writable;
    if (!good)
        error_set(err, "no memory for the tables of cells");
    else
        good = zygote_create(&d->zygote, pmap_file(vcpu->board->pmap), err);
    if (!good) {
        free_tables(d);
        return NULL;
    }
    d->world.faults_cpuid = d->zygote.faults_cpuid;
    return d;
}

static bool direct_attach(struct vcpu *vcpu, struct error *err)
{
    if (!bt_engine.attach(vcpu, err))
        return false;
    struct direct *d = make(vcpu, err);
    if (!d) {
        bt_engine.detach(vcpu);
        return false;
    }
    notes_make(d);
    rest_make(d);
    vcpu->cpu.ops = &d->ops;
    vcpu_set_kick(vcpu, direct_kick);
    bt_set_watch(vcpu, &d->watch);
    notes_watch(d);
    return true;
}

static void direct_detach(struct vcpu *vcpu)
{
    struct direct *d = direct_of(&vcpu->cpu);
    for (unsigned i = 0; i < MAX_SPACES; i++)
        drop_cell(&d->spaces[i]);
    notes_unpin(d, 0);
    rest_stop(d);
    zygote_destroy(&d->zygote);
    vcpu->cpu.ops = d->below;
    bt_engine.detach(vcpu);
    free_tables(d);
}

static unsigned count_each(const char *const *names, const u64 *values, unsigned n,
                           struct engine_counter *counters, unsigned max)
{
    unsigned i = 0;
    for (; i < n && i < max; i++) {
        snprintf(counters[i].name, sizeof(counters[i].name), "%s", names[i]);
        counters[i].value = values[i];
    }
    return i;
}

static unsigned direct_counters(struct vcpu *vcpu, struct engine_counter *counters,
                                unsigned max)
{
    const struct direct *d = direct_of(&vcpu->cpu);
    const struct engine_counter all[] = {
        {"runs", d->stats.runs},
        {"kicks", d->stats.kicks},
        {"syscalls", d->stats.syscalls},
        {"faults", d->stats.faults},
        {"steps", d->stats.steps},
        {"excursions", d->stats.excursions},
        {"holds", d->stats.holds},
        {"cells", d->stats.cells},
        {"cells_lost", d->stats.lost},
        {"promoted", d->stats.promoted},
        {"demoted", d->stats.demoted},
        {"rests", d->stats.rests},
        {"successors", d->stats.successors},
        {"copy_runs", d->stats.copies},
        {"copied_pieces", d->stats.pieces},
        {"annex_resets", d->stats.resets},
        {"mapper_batches", d->stats.batches},
        {"pages_mapped", d->world.stats.pages},
        {"pages_dropped", d->world.stats.dropped},
        {"pages_evicted", d->world.stats.evicted},
        {"regions_compared", d->world.stats.compared},
        {"pages_guarded", d->world.stats.guarded},
    };
    unsigned n = 0;
    for (; n < ARRAY_LEN(all) && n < max; n++)
        counters[n] = all[n];
    n += count_each(stay_names, d->stats.stays, N_STAYS, counters + n, max - n);
    n += count_each(scan_names, d->world.stats.refused_code, N_FINDINGS, counters + n, max - n);
    return n + bt_engine.counters(vcpu, counters + n, max - n);
}

const struct engine direct_engine = {
    .name = "direct",
    .probe = direct_probe,
    .attach = direct_attach,
    .detach = direct_detach,
    .enter = direct_enter,
    .kick = direct_kick,
    .code_written = notes_code_written,
    .code_watched = notes_code_watched,
    .counters = direct_counters,
};
