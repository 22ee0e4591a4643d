/*
 * The translator as a runner: a vCPU with page tables that give user code what the bare
 * process has, in a thread of its own. Exceptions go through an IDT whose handlers halt: what
 * the processor pushed tells where the sequence ended. As under Linux all of the upper half
 * belongs to the kernel, and the last page of the lower one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/ensure.h"
#include "engine/bt/bt.h"
#include "engine/engine.h"
#include "memory/pmap.h"
#include "oracle.h"
#include "x86/model.h"

#define PATIENCE_MS 500 /* for one sequence */

/* Guest memory. */
#define RAM_SIZE  (2 * MiB)
#define PML4      0x1000ull
#define LOW_PDPT  0x2000ull
#define LOW_PD    0x3000ull
#define CODE_PT   0x4000ull
#define WINDOW_PT 0x5000ull
#define HIGH_PDPT 0x6000ull
#define HIGH_PD   0x7000ull
#define TOP_PDPT  0x8000ull
#define TOP_PD    0x9000ull
#define TOP_PT    0xa000ull
#define IDT       0xb000ull
#define GDT       0xc000ull
#define TSS       0xd000ull
#define HANDLERS  0xe000ull /* 16 bytes for each vector */
#define STACK     0xf000ull /* one page */
#define CODE      0x20000ull
#define WINDOW    0x24000ull
#define KERNEL    0xffffffff80000000ull

#define KERNEL_CS 0x10
#define TSS_SEL   0x40

struct bt_runner {
    struct board board;
    struct x86_model model;
    struct log log;
    struct vcpu *vcpu;
    bool writable; /* the code pages are, at present */

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *jobs; /* under lock, all of these: NULL: nothing to do */
    unsigned count, now;
    bool ending;
};

/* -- The guest ----------------------------------------------------------------------------- */

static u8 *ram(struct bt_runner *b, u64 at)
{
    return pmap_page(b->board.pmap, gfn(at >> PAGE_SHIFT)) + (at & ~PAGE_MASK);
}

static void put64(struct bt_runner *b, u64 at, u64 value)
{
    memcpy(ram(b, at), &value, 8);
}

static void put_entry(struct bt_runner *b, u64 table, unsigned index, u64 entry)
{
    put64(b, table + index * 8, entry | PTE_P | PTE_A | PTE_D);
}

static void make_tables(struct bt_runner *b)
{
    put_entry(b, PML4, 0, LOW_PDPT | PTE_W | PTE_U);
    put_entry(b, LOW_PDPT, 0, LOW_PD | PTE_W | PTE_U);
    put_entry(b, LOW_PD, CODE_BASE >> 21, CODE_PT | PTE_W | PTE_U);
    put_entry(b, LOW_PD, WINDOW_BASE >> 21, WINDOW_PT | PTE_W | PTE_U);
    for (unsigned k = 0; k < CODE_PAGES; k++)
        put_entry(b, CODE_PT, k, (CODE + k * PAGE_SIZE) | PTE_U);
    for (unsigned k = 0; k < WINDOW_PAGES; k++)
        put_entry(b, WINDOW_PT, k,
                  (WINDOW + k * PAGE_SIZE) | PTE_U | PTE_NX |
                      (k < WINDOW_PAGES - 1 ? PTE_W : 0));
    put_entry(b, PML4, 255, TOP_PDPT | PTE_W);
    put_entry(b, TOP_PDPT, 511, TOP_PD | PTE_W);
    put_entry(b, TOP_PD, 511, TOP_PT | PTE_W);
    put_entry(b, TOP_PT, 511, STACK | PTE_W);
    for (unsigned k = 256; k < 512; k++)
        put_entry(b, PML4, k, HIGH_PDPT | PTE_W);
    for (unsigned k = 0; k < 512; k++) {
        put_entry(b, HIGH_PDPT, k, HIGH_PD | PTE_W);
        put_entry(b, HIGH_PD, k, PTE_W | PTE_PS);
    }
}

static void make_system(struct bt_runner *b)
{
    for (u64 v = 0; v < 32; v++) {
        u64 at = KERNEL + HANDLERS + v * 16;
        u64 dpl = v == VEC_BP ? 3 : 0;
        *ram(b, HANDLERS + v * 16) = 0xf4; /* hlt */
        put64(b, IDT + v * 16,
              (at & 0xffff) | KERNEL_CS << 16 | (0x8e01 | dpl << 13) << 32 |
                  (at >> 16 & 0xffff) << 48);
        put64(b, IDT + v * 16 + 8, at >> 32);
    }
    put64(b, GDT + KERNEL_CS, 0x00af9b000000ffffull);
    put64(b, GDT + (USER_CS32 & ~7), 0x00cffb000000ffffull);
    put64(b, GDT + (USER_DS & ~7), 0x00cff3000000ffffull);
    put64(b, GDT + (USER_CS64 & ~7), 0x00affb000000ffffull);
    put64(b, TSS + 4, KERNEL + STACK + PAGE_SIZE);
    put64(b, TSS + 36, KERNEL + STACK + PAGE_SIZE); /* IST1 */
}

#define ATTR_DATA (SEG_P | 3 << 5 | SEG_S | SEG_WRITE | SEG_ACCESSED | SEG_DB | SEG_G)
#define ATTR_CODE (SEG_P | 3 << 5 | SEG_S | SEG_READ | SEG_ACCESSED | SEG_CODE | SEG_G)

static void enter_user(struct bt_runner *b, const struct job *job)
{
    struct x86_cpu *c = &b->vcpu->cpu;
    bool wide = job->sequence.code_size == 8;
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    c->cr4 =
        CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE;
    c->cr3 = PML4;
    c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    c->xcr0 = host_xcr0() & XCR0_COMPARED;
    c->gdtr = (struct x86_table){KERNEL + GDT, TSS_SEL + 15};
    c->idtr = (struct x86_table){KERNEL + IDT, 32 * 16 - 1};
    for (unsigned k = SEG_ES; k <= SEG_GS; k++)
        c->seg[k] = (struct x86_seg){USER_DS, ATTR_DATA, 0xffffffff, 0};
    c->seg[SEG_CS].sel = wide ? USER_CS64 : USER_CS32;
    c->seg[SEG_CS].attr = ATTR_CODE | (wide ? SEG_L : SEG_DB);
    c->seg[SEG_FS] = (struct x86_seg){0, SEG_NULL, 0, FS_BASE};
    c->seg[SEG_GS] = (struct x86_seg){0, SEG_NULL, 0, GS_BASE};
    c->seg[SEG_TR] = (struct x86_seg){TSS_SEL, SEG_P | DESC_TSS_BUSY, 0x67, KERNEL + TSS};
    c->activity = CPU_RUNNING;
    memcpy(c->gpr, job->in.gpr, sizeof(c->gpr));
    c->rip = job->in.rip;
    c->rflags = job->in.rflags;
    c->fpu = job->in.fpu;
    c->fpu.xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    c->fcs = c->fds = 0;
    x86_derive(c);
}

/* -- Jobs ---------------------------------------------------------------------------------- */

static void allow_writes(struct bt_runner *b, bool writable)
{
    struct x86_cpu *c = &b->vcpu->cpu;
    if (b->writable == writable)
        return;
    for (unsigned k = 0; k < CODE_PAGES; k++) {
        put_entry(b, CODE_PT, k, (CODE + k * PAGE_SIZE) | PTE_U | (writable ? PTE_W : 0));
        c->ops->invlpg(c, gva(CODE_BASE + k * PAGE_SIZE));
    }
    b->writable = writable;
}

static void place_job(struct bt_runner *b, const struct job *job)
{
    u8 code[CODE_SIZE];
    sequence_place(&job->sequence, code);
    for (unsigned k = 0; k < CODE_PAGES; k++) {
        struct gfn frame = gfn((CODE >> PAGE_SHIFT) + k);
        memcpy(ram(b, CODE + k * PAGE_SIZE), code + k * PAGE_SIZE, PAGE_SIZE);
        if (pmap_set_flags(b->board.pmap, frame, 0, PMAP_CODE) & PMAP_CODE)
            b->vcpu->engine->code_written(b->vcpu, frame, UINT64_MAX);
    }
    for (unsigned k = 0; k < WINDOW_PAGES; k++)
        memcpy(ram(b, WINDOW + k * PAGE_SIZE), job->in.memory + k * PAGE_SIZE, PAGE_SIZE);
}

static void take_memory(struct bt_runner *b, struct state *out)
{
    for (unsigned k = 0; k < CODE_PAGES; k++)
        memcpy(out->code + k * PAGE_SIZE, ram(b, CODE + k * PAGE_SIZE), PAGE_SIZE);
    for (unsigned k = 0; k < WINDOW_PAGES; k++)
        memcpy(out->memory + k * PAGE_SIZE, ram(b, WINDOW + k * PAGE_SIZE), PAGE_SIZE);
}

static bool pushes_error(unsigned vector)
{
    return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}

/* From what the exception pushed: (error), RIP, CS, RFLAGS, RSP, SS. */
static void take_state(struct bt_runner *b, struct state *out)
{
    const struct x86_cpu *c = &b->vcpu->cpu;
    u64 frame[6];
    unsigned vector = (unsigned)(c->rip - 1 - KERNEL - HANDLERS) / 16;
    bool error = pushes_error(vector);
    ensure(vector < 32);
    memcpy(frame, ram(b, STACK + PAGE_SIZE - sizeof(frame)), sizeof(frame));
    memcpy(out->gpr, c->gpr, sizeof(out->gpr));
    out->rip = frame[1];
    out->rflags = frame[3];
    out->gpr[RSP] = frame[4];
    out->fpu = c->fpu;
    out->outcome = vector == VEC_BP ? OUTCOME_END : OUTCOME_FAULT;
    out->vector = (u8)vector;
    out->error = error ? (u32)frame[0] : 0;
    out->cr2 = c->cr2;
}

static void run_job(struct bt_runner *b, struct job *job)
{
    struct vcpu *vcpu = b->vcpu;
    struct state *out = &job->out[BT];
    u64 unknown = bt_of(vcpu)->stats.flags_unknown;
    allow_writes(b, job->sequence.modifies);
    place_job(b, job);
    enter_user(b, job);
    vcpu_enter_guest(vcpu);
    enum engine_exit exit = vcpu->engine->enter(vcpu);
    vcpu_leave_guest(vcpu);
    if (exit == EXIT_HALTED)
        take_state(b, out);
    else
        out->outcome = OUTCOME_LOST;
    out->flags_unknown = bt_of(vcpu)->stats.flags_unknown != unknown;
    take_memory(b, out);
}

/* -- The thread ---------------------------------------------------------------------------- */

static void *bt_main(void *opaque)
{
    struct bt_runner *b = opaque;
    struct error err;
    ensure(b->vcpu->engine->attach(b->vcpu, &err));
    pthread_mutex_lock(&b->lock);
    while (!b->ending) {
        if (!b->jobs) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        struct job *job = &b->jobs[b->now];
        vcpu_clear(b->vcpu, ATTN_KICK); /* one for the job before may have come late */
        pthread_mutex_unlock(&b->lock);
        run_job(b, job);
        pthread_mutex_lock(&b->lock);
        if (++b->now == b->count) {
            b->jobs = NULL;
            pthread_cond_broadcast(&b->changed);
        }
    }
    pthread_mutex_unlock(&b->lock);
    b->vcpu->engine->detach(b->vcpu);
    return NULL;
}

static void bt_start(void *opaque, struct job *jobs, unsigned count)
{
    struct bt_runner *b = opaque;
    pthread_mutex_lock(&b->lock);
    b->jobs = jobs;
    b->count = count;
    b->now = 0;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* A job that takes too long is kicked out of the guest. */
static void bt_finish(void *opaque)
{
    struct bt_runner *b = opaque;
    struct timespec until;
    pthread_mutex_lock(&b->lock);
    while (b->jobs) {
        unsigned before = b->now;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += PATIENCE_MS * 1000000l;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&b->changed, &b->lock, &until) == ETIMEDOUT && b->jobs &&
            b->now == before)
            vcpu_signal(b->vcpu, ATTN_KICK);
    }
    pthread_mutex_unlock(&b->lock);
}

static void bt_free(struct runner *r)
{
    struct bt_runner *b = r->opaque;
    pthread_mutex_lock(&b->lock);
    b->ending = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    vcpu_destroy(b->vcpu);
    pmap_destroy(b->board.pmap);
    board_destroy(&b->board);
    free(b);
    free(r);
}

struct runner *bt_runner(const char **why)
{
    static struct error err;
    *why = err.text;
    if (!bt_engine.probe(&err))
        return NULL;
    struct bt_runner *b = calloc(1, sizeof(*b));
    struct runner *r = calloc(1, sizeof(*r));
    b->log.fd = 2;
    board_init(&b->board, &b->log);
    b->board.pmap = pmap_create(RAM_SIZE, &err);
    ensure(b->board.pmap);
    ensure(x86_model_init(&b->model, NULL, 1, 1000000000, &err));
    b->vcpu = vcpu_create(&b->board, 0);
    b->board.vcpus = &b->vcpu;
    b->board.n_vcpus = 1;
    b->vcpu->cpu.model = &b->model;
    b->vcpu->cpu.log = &b->log;
    b->vcpu->engine = &bt_engine;
    x86_reset(&b->vcpu->cpu);
    make_tables(b);
    make_system(b);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    ensure(pthread_create(&b->thread, NULL, bt_main, b) == 0);
    *r = (struct runner){"bt", bt_start, bt_finish, bt_free, b};
    return r;
}
