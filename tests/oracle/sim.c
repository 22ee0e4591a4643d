/*
 * The semantics of x86/ as a runner: x86_decode and x86_execute at CPL 3 over an ops table
 * whose memory is the job's image, with Linux's user segments and the host's features.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "base/log.h"
#include "host/code_memory.h"
#include "host/trap.h"
#include "oracle.h"
#include "x86/mem.h"
#include "x86/model.h"
#include "x86/native.h"

#define MAX_STEPS 100000u
/* From here Linux reports each user fault as one of protection, to hide its mappings. */
#define KERNEL_START 0x7ffffffff000ull

struct sim {
    struct x86_cpu cpu;
    struct x86_model model;
    struct log log;
    struct code_memory thunks;
    u64 thunks_used;
    struct trap trap;
    const void *running;
    /* Of the job in hand: */
    u8 *memory, *code;
    bool modifies;
    struct job *jobs;
    unsigned count;
};

static struct sim *sim_of(struct x86_cpu *c)
{
    return container_of(c, struct sim, cpu);
}

/* The byte at `la` if the access is allowed, else NULL. */
static u8 *reach(struct sim *s, u64 la, enum x86_access access)
{
    u64 offset = la - WINDOW_BASE;
    if (offset < WINDOW_SIZE && access != ACCESS_EXEC &&
        (access == ACCESS_READ || offset < WINDOW_SIZE - PAGE_SIZE))
        return s->memory + offset;
    if (la - CODE_BASE < CODE_SIZE && (access != ACCESS_WRITE || s->modifies))
        return s->code + (la - CODE_BASE);
    return NULL;
}

static void check(struct x86_cpu *c, u64 la, unsigned size, enum x86_access access)
{
    struct sim *s = sim_of(c);
    for (u64 at = la;; at = align_down(at, PAGE_SIZE) + PAGE_SIZE) {
        if (at - la >= size)
            return;
        if (reach(s, at, access))
            continue;
        bool present =
            at - WINDOW_BASE < WINDOW_SIZE || at - CODE_BASE < CODE_SIZE || at >= KERNEL_START;
        x86_raise_pf(c, gva(at),
                     (u32)(PF_U | (access == ACCESS_WRITE ? PF_W : 0) |
                           (access == ACCESS_EXEC ? PF_I : 0) | (present ? PF_P : 0)));
    }
}

static void op_read(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                    enum x86_privilege as)
{
    check(c, la.v, size, ACCESS_READ);
    for (unsigned k = 0; k < size; k++)
        ((u8 *)buf)[k] = *reach(sim_of(c), la.v + k, ACCESS_READ);
}

static void op_write(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                     enum x86_privilege as)
{
    check(c, la.v, size, ACCESS_WRITE);
    for (unsigned k = 0; k < size; k++)
        *reach(sim_of(c), la.v + k, ACCESS_WRITE) = ((const u8 *)buf)[k];
}

static void op_probe(struct x86_cpu *c, struct gva la, unsigned size, enum x86_access access,
                     enum x86_privilege as)
{
    check(c, la.v, size, access);
}

static void *op_atomic(struct x86_cpu *c, struct gva la, unsigned size)
{
    check(c, la.v, size, ACCESS_WRITE);
    return page_left(la.v) >= size ? reach(sim_of(c), la.v, ACCESS_WRITE) : NULL;
}

static void op_atomic_done(struct x86_cpu *c, struct gva la, unsigned size) {}

static void op_lock(struct x86_cpu *c) {}

static bool op_native(struct x86_cpu *c, const void *code, void *mem)
{
    struct sim *s = sim_of(c);
    s->running = code;
    bool ok = ((native_code *)code)(c, mem);
    s->running = NULL;
    return ok;
}

static const void *op_native_emit(struct x86_cpu *c, const void *bytes, unsigned size)
{
    struct sim *s = sim_of(c);
    u64 at = align_up(s->thunks_used, 16);
    if (at + size > s->thunks.size)
        return NULL;
    memcpy(s->thunks.write + at, bytes, size);
    s->thunks_used = at + size;
    return s->thunks.exec + at;
}

static bool sim_trap(struct trap *trap, int signal, siginfo_t *info, ucontext_t *context)
{
    struct sim *s = container_of(trap, struct sim, trap);
    if (signal != SIGFPE || !s->running)
        return false;
    context->uc_mcontext.gregs[REG_RIP] =
        (greg_t)((u64)s->running + native_head(s->running)->fault_exit);
    return true;
}

static const struct x86_ops ops = {
    .read = op_read,
    .write = op_write,
    .probe = op_probe,
    .atomic = op_atomic,
    .atomic_done = op_atomic_done,
    .lock_begin = op_lock,
    .lock_end = op_lock,
    .native = op_native,
    .native_emit = op_native_emit,
};

/* -- The processor that Linux's user code sees --------------------------------------------- */

/* Not by CPUID here and now: under a hypervisor each costs microseconds. */
bool host_is_amd(void)
{
    return __builtin_cpu_is("amd");
}

u64 host_xcr0(void)
{
    u32 low, high;
    if (!__builtin_cpu_supports("avx"))
        return XCR0_X87 | XCR0_SSE;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (u64)high << 32 | low;
}

static void init_model(struct x86_model *m)
{
    u32 a, b, c, d;
    __cpuid_count(1, 0, a, b, c, d);
    m->features[CPUID_1_EDX] = d;
    m->features[CPUID_1_ECX] = c;
    __cpuid_count(7, 0, a, b, c, d);
    m->features[CPUID_7_EBX] = b;
    m->features[CPUID_7_ECX] = c;
    m->features[CPUID_7_EDX] = d;
    __cpuid_count(13, 1, a, b, c, d);
    m->features[CPUID_D1_EAX] = a;
    __cpuid(0x80000001, a, b, c, d);
    m->features[CPUID_80000001_EDX] = d;
    m->features[CPUID_80000001_ECX] = c;
    __cpuid(0x80000008, a, b, c, d);
    m->features[CPUID_80000008_EBX] = b;
    m->amd = host_is_amd();
    m->quirks = x86_host_quirks();
    m->xcr0_mask = host_xcr0() & XCR0_COMPARED;
    m->phys_bits = 48;
}

#define ATTR_DATA (SEG_P | 3 << 5 | SEG_S | SEG_WRITE | SEG_ACCESSED | SEG_DB | SEG_G)
#define ATTR_CODE (SEG_P | 3 << 5 | SEG_S | SEG_READ | SEG_ACCESSED | SEG_CODE | SEG_G)

static void init_cpu(struct sim *s, unsigned code_size)
{
    struct x86_cpu *c = &s->cpu;
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    c->cr4 = CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE |
             CR4_OSXSAVE | CR4_UMIP;
    c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    c->xcr0 = host_xcr0() & XCR0_COMPARED;
    c->dr6 = DR6_FIXED;
    c->dr7 = DR7_FIXED;
    for (unsigned k = SEG_ES; k <= SEG_GS; k++)
        c->seg[k] = (struct x86_seg){USER_DS, ATTR_DATA, 0xffffffff, 0};
    c->seg[SEG_FS] = (struct x86_seg){0, SEG_NULL, 0, FS_BASE};
    c->seg[SEG_GS] = (struct x86_seg){0, SEG_NULL, 0, GS_BASE};
    c->seg[SEG_CS].sel = code_size == 8 ? USER_CS64 : USER_CS32;
    c->seg[SEG_CS].attr = ATTR_CODE | (code_size == 8 ? SEG_L : SEG_DB);
    c->ops = &ops;
    c->model = &s->model;
    c->log = &s->log;
    c->attention = 0;
    x86_derive(c);
}

static void fill_tlb(struct sim *s)
{
    struct x86_tlb *t = &s->cpu.tlb[TLB_USER];
    for (unsigned k = 0; k < WINDOW_PAGES; k++) {
        u64 la = WINDOW_BASE + k * PAGE_SIZE;
        unsigned slot = tlb_slot(la);
        t->read[slot] = la;
        t->write[slot] = k < WINDOW_PAGES - 1 ? la : tlb_invalid(slot);
        t->page[slot] = (u64)(s->memory + k * PAGE_SIZE);
    }
}

/* -- Running ------------------------------------------------------------------------------- */

static void step(struct sim *s)
{
    struct x86_cpu *c = &s->cpu;
    struct x86_insn i;
    c->insn_rip = c->rip;
    check(c, c->rip, 1, ACCESS_EXEC);
    u64 offset = c->rip - CODE_BASE;
    unsigned left = (unsigned)(CODE_SIZE - offset);
    enum x86_decode_result result;
    while ((result = x86_decode(c, s->code + offset, left < 15 ? left : 15, c->code_size,
                                &i)) == DECODE_FULL)
        s->thunks_used = 0;
    if (result == DECODE_SHORT)
        check(c, CODE_BASE + CODE_SIZE, 1, ACCESS_EXEC);
    x86_execute(c, &i);
}

static void run_job(struct sim *s, struct job *job, struct state *out)
{
    struct x86_cpu *c = &s->cpu;
    const struct state *in = &job->in;
    static const u8 int3 = 0xcc;
    jmp_buf unwind;

    *out = *in;
    s->memory = out->memory;
    s->code = out->code;
    s->modifies = job->sequence.modifies;
    sequence_place(&job->sequence, out->code);
    s->thunks_used = 0;
    memcpy(c->gpr, in->gpr, sizeof(c->gpr));
    c->rip = in->rip;
    c->rflags = in->rflags;
    c->fpu = in->fpu;
    c->fcs = c->fds = 0;
    init_cpu(s, job->sequence.code_size);
    fill_tlb(s);
    c->unwind = &unwind;
    if (setjmp(unwind) == 0) {
        out->outcome = OUTCOME_LOST;
        for (unsigned n = 0; n < MAX_STEPS; n++) {
            if (c->rip - CODE_BASE < CODE_SIZE && s->code[c->rip - CODE_BASE] == int3) {
                c->rip++;
                out->outcome = OUTCOME_END;
                break;
            }
            step(s);
        }
    } else {
        out->outcome = OUTCOME_FAULT;
        out->vector = c->fault.vector;
        out->error = c->fault.has_error ? c->fault.error : 0;
        out->cr2 = c->fault.cr2;
    }
    memcpy(out->gpr, c->gpr, sizeof(out->gpr));
    out->rip = c->rip;
    out->rflags = c->rflags;
    out->fpu = c->fpu;
}

static void sim_start(void *opaque, struct job *jobs, unsigned count)
{
    struct sim *s = opaque;
    for (unsigned k = 0; k < count; k++)
        run_job(s, &jobs[k], &jobs[k].out[SIM]);
}

static void sim_finish(void *opaque) {}

static void sim_free(struct runner *r)
{
    struct sim *s = r->opaque;
    trap_leave();
    code_memory_unmap(&s->thunks);
    free(s);
    free(r);
}

struct runner *sim_runner(void)
{
    struct sim *s = aligned_alloc(64, align_up(sizeof(*s), 64));
    struct runner *r = calloc(1, sizeof(*r));
    struct error err;
    memset(s, 0, sizeof(*s));
    init_model(&s->model);
    for (unsigned set = 0; set < TLB_SETS; set++)
        for (unsigned slot = 0; slot < TLB_SIZE; slot++)
            s->cpu.tlb[set].read[slot] = s->cpu.tlb[set].write[slot] =
                s->cpu.tlb[set].exec[slot] = tlb_invalid(slot);
    ensure(code_memory_map(&s->thunks, 256 * KiB, NULL, &err));
    trap_install();
    s->trap.handle = sim_trap;
    ensure(trap_enter(&s->trap, &err));
    *r = (struct runner){"sim", sim_start, sim_finish, sim_free, s};
    return r;
}
