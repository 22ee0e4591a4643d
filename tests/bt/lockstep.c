/* See lockstep.h. */
#include "lockstep.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "engine/bt/bt.h"
#include "engine/bt/translate.h"
#include "memory/tlb.h"
#include "memory/walk.h"
#include "x86/print.h"

/* A TU whose shared check fails goes on in its careful twin. */
#define MAX_STEPS  (2 * TU_INSNS + 8)
#define MAX_WRITES 512

/* The state before each instruction of a trial, and after the last. */
struct step {
    u64 gpr[16];
    u64 rip, rflags, cr2;
    u8 cpl;
    struct x86_seg seg[SEG_COUNT];
    struct x86_fpu fpu;
    unsigned writes; /* of those before it */
    u64 faults;      /* delivered before it */
    const u8 *code;  /* hva of the instruction; NULL: not in RAM */
    const u8 *rest;  /* of the page behind it, where it may go on; or NULL */
};

struct write {
    u8 *at; /* hva */
    unsigned size;
    unsigned step;
    u8 before[64], after[64];
};

/* A slot of the TLB that was filled. */
struct slot {
    u64 read, write, exec, page;
    u16 set, number;
};

struct lockstep {
    struct vcpu *vcpu;
    struct x86_ops ops;
    const struct x86_ops *inner;
    struct bt_watch watch;
    unsigned asked;
    pthread_t thread;
    jmp_buf stop; /* a trial goes no further */
    bool trial;
    bool whole;            /* the trial did all its steps */
    bool unknown;          /* the translator delivered a fault without knowing all flags */
    struct x86_cpu *saved; /* but for its TLB: */
    struct slot slot[TLB_SETS * TLB_SIZE];
    unsigned n_slots;
    struct step step[MAX_STEPS + 1];
    unsigned n;
    struct write write[MAX_WRITES];
    unsigned n_writes;
    struct gfn watched[MAX_STEPS]; /* pages whose code a trial was the first to decode */
    unsigned n_watched;
    struct guest_decoder decoder;
    struct lockstep_counts counts;
};

static struct lockstep *lockstep_of(struct x86_cpu *c)
{
    return container_of(c->ops, struct lockstep, ops);
}

const struct lockstep_counts *lockstep_counts(struct vcpu *vcpu)
{
    return &lockstep_of(&vcpu->cpu)->counts;
}

/* -- What a trial may do ------------------------------------------------------------------- */

/* Devices' timers ask for the processor's time too, from another thread. */
static void end_trial(struct x86_cpu *c)
{
    struct lockstep *l = lockstep_of(c);
    if (pthread_equal(pthread_self(), l->thread) && l->trial)
        longjmp(l->stop, 1);
}

/* No write may be missed: those that the TLB allows come here too. */
static void hide(struct x86_cpu *c, u64 la)
{
    if (!lockstep_of(c)->trial)
        return;
    for (unsigned set = 0; set < TLB_SETS; set++)
        c->tlb[set].write[tlb_slot(la)] = tlb_invalid(tlb_slot(la));
}

static void note_write(struct x86_cpu *c, u8 *at, unsigned size)
{
    struct lockstep *l = lockstep_of(c);
    if (l->n_writes == MAX_WRITES)
        end_trial(c);
    ensure(size <= sizeof(l->write[0].before));
    struct write *w = &l->write[l->n_writes++];
    *w = (struct write){.at = at, .size = size, .step = l->n};
    memcpy(w->before, at, size);
}

/* RAM that may be written without anybody noticing; else the trial ends. */
static u8 *plain_ram(struct x86_cpu *c, u64 la)
{
    struct pmap *pmap = lockstep_of(c)->vcpu->board->pmap;
    struct gpa where;
    if (!walk_peek(c, pmap, gva(la), &where))
        end_trial(c);
    u64 flags = pmap_flags(pmap, gpa_to_gfn(where));
    u8 *page = pmap_page(pmap, gpa_to_gfn(where));
    if (!page || (flags & (PMAP_CODE | PMAP_ROM)))
        end_trial(c);
    return page + (where.v & ~PAGE_MASK);
}

static void op_write(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                     enum x86_privilege as)
{
    struct lockstep *l = lockstep_of(c);
    if (!l->trial) {
        l->inner->write(c, la, buf, size, as);
        return;
    }
    unsigned left = (unsigned)page_left(la.v), first = left < size ? left : size;
    l->inner->probe(c, la, size, ACCESS_WRITE, as);
    hide(c, la.v);
    hide(c, la.v + size - 1);
    u8 *at = plain_ram(c, la.v), *rest = first < size ? plain_ram(c, la.v + first) : NULL;
    note_write(c, at, first);
    memcpy(at, buf, first);
    if (rest) {
        note_write(c, rest, size - first);
        memcpy(rest, (const u8 *)buf + first, size - first);
    }
}

static void op_read(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                    enum x86_privilege as)
{
    struct lockstep *l = lockstep_of(c);
    if (l->trial) {
        struct gpa where;
        l->inner->probe(c, la, size, ACCESS_READ, as);
        for (unsigned k = 0; k < size; k += size - 1 ? size - 1 : 1) {
            if (!walk_peek(c, l->vcpu->board->pmap, gva(la.v + k), &where) ||
                !pmap_page(l->vcpu->board->pmap, gpa_to_gfn(where)))
                end_trial(c); /* a device */
        }
    }
    l->inner->read(c, la, buf, size, as);
    hide(c, la.v);
    hide(c, la.v + size - 1);
}

static void op_probe(struct x86_cpu *c, struct gva la, unsigned size, enum x86_access access,
                     enum x86_privilege as)
{
    lockstep_of(c)->inner->probe(c, la, size, access, as);
    hide(c, la.v);
    hide(c, la.v + size - 1);
}

static void *op_atomic(struct x86_cpu *c, struct gva la, unsigned size)
{
    struct lockstep *l = lockstep_of(c);
    void *at = l->inner->atomic(c, la, size);
    hide(c, la.v);
    if (l->trial && at) {
        plain_ram(c, la.v);
        note_write(c, at, size);
    }
    return at;
}

static void op_atomic_done(struct x86_cpu *c, struct gva la, unsigned size)
{
    lockstep_of(c)->inner->atomic_done(c, la, size);
    hide(c, la.v);
}

/* Everything else that reaches beyond registers and RAM ends a trial. */
#define OUTSIDE(result, name, parameters, ...)                                                 \
    static result op_##name parameters                                                         \
    {                                                                                          \
        end_trial(c);                                                                          \
        return lockstep_of(c)->inner->name(__VA_ARGS__);                                       \
    }
OUTSIDE(u32, in, (struct x86_cpu * c, u16 port, unsigned size), c, port, size)
OUTSIDE(void, out, (struct x86_cpu * c, u16 port, unsigned size, u32 value), c, port, size,
        value)
OUTSIDE(bool, rdmsr, (struct x86_cpu * c, u32 index, u64 *value), c, index, value)
OUTSIDE(bool, wrmsr, (struct x86_cpu * c, u32 index, u64 value), c, index, value)
OUTSIDE(u64, read_cr8, (struct x86_cpu * c), c)
OUTSIDE(void, write_cr8, (struct x86_cpu * c, u64 value), c, value)
OUTSIDE(u64, tsc, (struct x86_cpu * c), c)
OUTSIDE(void, invlpg, (struct x86_cpu * c, struct gva la), c, la)
OUTSIDE(void, invpcid, (struct x86_cpu * c, u16 pcid, struct gva la), c, pcid, la)
OUTSIDE(void, flush, (struct x86_cpu * c, enum x86_flush what, u16 pcid), c, what, pcid)
OUTSIDE(void, cr3_loaded, (struct x86_cpu * c, bool keep), c, keep)
OUTSIDE(void, paging_changed, (struct x86_cpu * c), c)
OUTSIDE(void, ferr, (struct x86_cpu * c, bool level), c, level)
OUTSIDE(bool, hypercall, (struct x86_cpu * c), c)

static void make_ops(struct lockstep *l)
{
    l->ops = *l->inner;
    l->ops.read = op_read;
    l->ops.write = op_write;
    l->ops.probe = op_probe;
    l->ops.atomic = op_atomic;
    l->ops.atomic_done = op_atomic_done;
    l->ops.in = op_in;
    l->ops.out = op_out;
    l->ops.rdmsr = op_rdmsr;
    l->ops.wrmsr = op_wrmsr;
    l->ops.read_cr8 = op_read_cr8;
    l->ops.write_cr8 = op_write_cr8;
    l->ops.tsc = op_tsc;
    l->ops.invlpg = op_invlpg;
    l->ops.invpcid = op_invpcid;
    l->ops.flush = op_flush;
    l->ops.cr3_loaded = op_cr3_loaded;
    l->ops.paging_changed = op_paging_changed;
    l->ops.ferr = op_ferr;
    l->ops.hypercall = op_hypercall;
}

/* -- Trials -------------------------------------------------------------------------------- */

/* All of the state but what other threads write, and the TLB, whose size counts here. */
static void copy_state(struct x86_cpu *to, const struct x86_cpu *from)
{
    const size_t word = offsetof(struct x86_cpu, attention), end = word + sizeof(to->attention);
    const size_t tlb = offsetof(struct x86_cpu, tlb), rest = offsetof(struct x86_cpu, tlb_use);
    memcpy(to, from, word);
    memcpy((u8 *)to + end, (const u8 *)from + end, tlb - end);
    memcpy((u8 *)to + rest, (const u8 *)from + rest, sizeof(*to) - rest);
}

/* Calls `visit` for each slot that may be filled. */
static void visit_slots(struct lockstep *l,
                        void (*visit)(struct lockstep *l, unsigned set, unsigned number))
{
    const struct x86_tlb_use *use = &l->vcpu->cpu.tlb_use;
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned word = 0; word < TLB_SIZE / 64; word++) {
            u64 bits = use->local[set][word] | use->global[set][word];
            for (; bits; bits &= bits - 1)
                visit(l, set, word * 64 + (unsigned)__builtin_ctzll(bits));
        }
    }
}

/* Keeps a slot, and lets writes through it be seen. */
static void save_slot(struct lockstep *l, unsigned set, unsigned number)
{
    struct x86_tlb *tlb = &l->vcpu->cpu.tlb[set];
    l->slot[l->n_slots++] = (struct slot){.read = tlb->read[number],
                                          .write = tlb->write[number],
                                          .exec = tlb->exec[number],
                                          .page = tlb->page[number],
                                          .set = (u16)set,
                                          .number = (u16)number};
    tlb->write[number] = tlb_invalid(number);
}

static void clear_slot(struct lockstep *l, unsigned set, unsigned number)
{
    struct x86_tlb *tlb = &l->vcpu->cpu.tlb[set];
    tlb->read[number] = tlb->write[number] = tlb->exec[number] = tlb_invalid(number);
}

static void put_back_slots(struct lockstep *l)
{
    visit_slots(l, clear_slot);
    for (unsigned k = 0; k < l->n_slots; k++) {
        const struct slot *slot = &l->slot[k];
        struct x86_tlb *tlb = &l->vcpu->cpu.tlb[slot->set];
        tlb->read[slot->number] = slot->read;
        tlb->write[slot->number] = slot->write;
        tlb->exec[slot->number] = slot->exec;
        tlb->page[slot->number] = slot->page;
    }
}

/* The hva of what is `ahead` bytes behind RIP. */
static const u8 *code_now(struct lockstep *l, u64 ahead)
{
    struct x86_cpu *c = &l->vcpu->cpu;
    struct pmap *pmap = l->vcpu->board->pmap;
    struct gpa where;
    u64 la = c->code_size == 8 ? c->rip + ahead : (u32)(c->seg[SEG_CS].base + c->rip + ahead);
    if (!walk_peek(c, pmap, gva(la), &where))
        return NULL;
    const u8 *page = pmap_page(pmap, gpa_to_gfn(where));
    return page ? page + (where.v & ~PAGE_MASK) : NULL;
}

/* The bytes of an instruction, as many as there may be; returns their number. */
static unsigned code_bytes(const struct step *s, u8 bytes[GUEST_BYTES])
{
    if (!s->code)
        return 0;
    unsigned left = (unsigned)page_left((u64)s->code);
    if (left >= GUEST_BYTES)
        left = GUEST_BYTES;
    memcpy(bytes, s->code, left);
    if (!s->rest)
        return left;
    memcpy(bytes + left, s->rest, GUEST_BYTES - left);
    return GUEST_BYTES;
}

/*
 * Instructions whose result is the processor's own, without prefixes but REX or 66: RDRAND and
 * RDSEED; the XSAVE family, which may leave out what is initial but need not know that it is
 * (SDM vol. 1, 13.6).
 */
static bool is_free(const struct step *s)
{
    u8 bytes[GUEST_BYTES];
    const u8 *code = bytes;
    if (code_bytes(s, bytes) < GUEST_BYTES)
        return false;
    while (code < bytes + GUEST_BYTES - 3 && (*code == 0x66 || (*code & 0xf0) == 0x40))
        code++;
    if (code[0] != 0x0f)
        return false;
    bool memory = code[2] < 0xc0;
    unsigned extension = code[2] >> 3 & 7;
    if (code[1] == 0xae)
        return memory && (extension == 4 || extension == 6); /* XSAVE, XSAVEOPT */
    return code[1] == 0xc7 && (memory ? extension == 4 || extension == 5 : extension >= 6);
}

static void take_step(struct lockstep *l)
{
    const struct x86_cpu *c = &l->vcpu->cpu;
    struct step *s = &l->step[l->n];
    memcpy(s->gpr, c->gpr, sizeof(s->gpr));
    memcpy(s->seg, c->seg, sizeof(s->seg));
    s->rip = c->rip;
    s->rflags = c->rflags;
    s->cr2 = c->cr2;
    s->cpl = c->cpl;
    s->fpu = c->fpu;
    s->writes = l->n_writes;
    s->faults = l->vcpu->sim->faults;
    s->code = code_now(l, 0);
    s->rest = NULL;
    if (s->code && page_left((u64)s->code) < GUEST_BYTES)
        s->rest = code_now(l, page_left((u64)s->code));
}

static void note_results(struct lockstep *l)
{
    for (unsigned k = l->n_writes; k-- && l->write[k].step == l->n;)
        memcpy(l->write[k].after, l->write[k].at, l->write[k].size);
}

static void take_back(struct lockstep *l)
{
    for (unsigned k = l->n_writes; k--;)
        memcpy(l->write[k].at, l->write[k].before, l->write[k].size);
}

static bool pending_own(const struct x86_cpu *c)
{
    return atomic_load(&c->attention) & ATTN_STATE;
}

static void run_trial(struct lockstep *l)
{
    struct x86_cpu *c = &l->vcpu->cpu;
    l->n = l->n_writes = l->n_watched = 0;
    l->whole = false;
    if (c->activity != CPU_RUNNING || pending_own(c) || l->counts.failures >= LOCKSTEP_FAILURES)
        return;
    copy_state(l->saved, c);
    l->n_slots = 0;
    visit_slots(l, save_slot);
    l->trial = true;
    take_step(l);
    /* The first half of an instruction that ends the trial is taken back with the rest. */
    if (!setjmp(l->stop)) {
        bool rounds = false;
        while (l->n < MAX_STEPS && !pending_own(c) && !is_free(&l->step[l->n])) {
            sim_step(l->vcpu);
            note_results(l);
            l->n++;
            take_step(l);
            rounds |= l->step[l->n].rip == l->step[l->n - 1].rip;
        }
        /* With something pending, a REP does one round in a step, and the steps may be used up
         * before the TU's end. */
        l->whole = l->n == MAX_STEPS && !rounds;
    }
    l->trial = false;
    take_back(l);
    put_back_slots(l);
    copy_state(c, l->saved);
    for (unsigned k = 0; k < l->n_watched; k++)
        tlb_watch(c, pmap_page(l->vcpu->board->pmap, l->watched[k]));
    atomic_fetch_and(&c->attention, ~(u32)ATTN_STATE);
}

/* -- Comparing ----------------------------------------------------------------------------- */

static bool same_place(const struct step *s, const struct x86_cpu *c)
{
    return s->rip == c->rip && s->cpl == c->cpl && !memcmp(s->gpr, c->gpr, sizeof(s->gpr));
}

static bool same_vectors(const struct x86_fpu *a, const struct x86_fpu *b)
{
    bool same = a->fcw == b->fcw && a->fsw == b->fsw && a->ftw == b->ftw &&
                a->mxcsr == b->mxcsr && !memcmp(a->xmm, b->xmm, sizeof(a->xmm)) &&
                !memcmp(a->ymm_hi, b->ymm_hi, sizeof(a->ymm_hi));
    for (unsigned k = 0; k < 8; k++)
        same &= !memcmp(a->st[k], b->st[k], 10);
    return same;
}

static bool same_segments(const struct step *s, const struct x86_cpu *c)
{
    for (unsigned k = 0; k < SEG_COUNT; k++) {
        const struct x86_seg *a = &s->seg[k], *b = &c->seg[k];
        if (a->sel != b->sel || a->base != b->base || a->attr != b->attr ||
            a->limit != b->limit)
            return false;
    }
    return true;
}

/*
 * Is byte `at` of the write in a pushed RFLAGS image that differs in arithmetic flags only,
 * where the translator owns up that it did not know them? Frames of exceptions are written
 * whole, in slots of 8 or 4 bytes.
 */
static bool is_flags_image(const struct write *w, unsigned at)
{
    for (unsigned slot = 4; slot <= 8; slot += 4) {
        u64 pushed = 0, present = 0;
        unsigned start = at - at % slot;
        if (start + slot > w->size)
            continue;
        memcpy(&pushed, w->after + start, slot);
        memcpy(&present, w->at + start, slot);
        if ((pushed & FLAG_FIXED) && pushed < BIT(22) &&
            !((pushed ^ present) & ~(u64)FLAGS_STATUS))
            return true;
    }
    return false;
}

/* The last write of the steps before `k` to a byte that is not so now, or NULL. */
static const struct write *wrong_write(const struct lockstep *l, unsigned k)
{
    for (unsigned i = 0; i < l->step[k].writes; i++) {
        const struct write *w = &l->write[i];
        for (unsigned byte = 0; byte < w->size; byte++) {
            const u8 *at = w->at + byte;
            bool later = false;
            for (unsigned j = i + 1; j < l->step[k].writes && !later; j++)
                later = at >= l->write[j].at && at < l->write[j].at + l->write[j].size;
            if (!later && *at != w->after[byte] && !(l->unknown && is_flags_image(w, byte)))
                return w;
        }
    }
    return NULL;
}

static const char *difference(const struct lockstep *l, unsigned k)
{
    const struct x86_cpu *c = &l->vcpu->cpu;
    const struct step *s = &l->step[k];
    if ((s->rflags ^ c->rflags) & ~(u64)(FLAG_RF | (l->unknown ? FLAGS_STATUS : 0)))
        return "flags";
    if (s->cr2 != c->cr2)
        return "CR2";
    if (!same_segments(s, c))
        return "segments";
    if (!same_vectors(&s->fpu, &c->fpu))
        return "vector state";
    return wrong_write(l, k) ? "memory" : NULL;
}

static void print_registers(const char *who, const u64 gpr[16], u64 rip, u64 rflags)
{
    fprintf(stderr, "%s: rip %016llx rflags %llx", who, (unsigned long long)rip,
            (unsigned long long)rflags);
    for (unsigned k = 0; k < 16; k++)
        fprintf(stderr, "%s%2u %016llx", k % 4 ? " " : "\n  ", k, (unsigned long long)gpr[k]);
    fprintf(stderr, "\n");
}

static void print_bytes(const char *who, const u8 *bytes, unsigned size)
{
    fprintf(stderr, "%s:", who);
    for (unsigned i = 0; i < size; i++)
        fprintf(stderr, " %02x", bytes[i]);
    fprintf(stderr, "\n");
}

static void fail(struct lockstep *l, const char *what, unsigned k)
{
    const struct x86_cpu *c = &l->vcpu->cpu;
    l->counts.failures++;
    fprintf(stderr, "lockstep: %s differ(s) after %u of %u instructions of a TU\n", what, k,
            l->n);
    for (unsigned i = 0; i < (what[0] == 'p' ? l->n : k); i++) {
        char text[96] = "?";
        u8 bytes[GUEST_BYTES];
        unsigned n = code_bytes(&l->step[i], bytes);
        if (n)
            x86_print_insn(bytes, n, l->saved->code_size, l->step[i].rip, text, sizeof(text));
        fprintf(stderr, "  %016llx: %s\n", (unsigned long long)l->step[i].rip, text);
    }
    print_registers("before", l->saved->gpr, l->saved->rip, l->saved->rflags);
    print_registers("sim", l->step[k].gpr, l->step[k].rip, l->step[k].rflags);
    print_registers("bt", c->gpr, c->rip, c->rflags);
    const struct write *w = wrong_write(l, k);
    if (w) {
        fprintf(stderr, "written by instruction %u, ", w->step);
        print_bytes("before", w->before, w->size);
        print_bytes("sim", w->after, w->size);
        print_bytes("bt", w->at, w->size);
    }
}

/* The translator stopped somewhere on the way of the trial. */
static void compare(struct lockstep *l)
{
    const char *what = "place";
    unsigned last = 0;
    for (unsigned k = 0; k <= l->n; k++) {
        if (!same_place(&l->step[k], &l->vcpu->cpu))
            continue;
        last = k;
        what = difference(l, k);
        if (!what) {
            l->counts.compared++;
            l->counts.insns += k;
            return;
        }
    }
    if (what[0] == 'p' && !l->whole)
        l->counts.skipped++;
    else
        fail(l, what, last);
}

/* -- The engine ---------------------------------------------------------------------------- */

/* What else than one TU, or less, may have run. */
struct others {
    u64 interrupts, steps;
};

static struct others others_now(struct vcpu *vcpu)
{
    return (struct others){vcpu->sim->interrupts, bt_of(vcpu)->stats.steps};
}

static enum engine_exit lockstep_enter(struct vcpu *vcpu)
{
    struct lockstep *l = lockstep_of(&vcpu->cpu);
    while (true) {
        run_trial(l);
        struct others before = others_now(vcpu);
        u64 unknown = bt_of(vcpu)->stats.flags_unknown;
        l->asked = 0;
        enum engine_exit exit = bt_engine.enter(vcpu);
        l->unknown = bt_of(vcpu)->stats.flags_unknown != unknown;
        struct others after = others_now(vcpu);
        if (!l->n || exit != EXIT_USER || memcmp(&before, &after, sizeof(before)))
            l->counts.skipped++;
        else
            compare(l);
        if (exit != EXIT_USER)
            return exit;
    }
}

/* Once before the TU, and then after it. The guest's vectors are in the registers here. */
__attribute__((target("general-regs-only"))) static bool leaves(struct bt_watch *watch,
                                                                struct x86_cpu *c)
{
    return container_of(watch, struct lockstep, watch)->asked++ > 0;
}

static void interrupted(struct bt_watch *watch, struct x86_cpu *c) {}

static bool lockstep_probe(struct error *why)
{
    return bt_engine.probe(why);
}

static bool lockstep_attach(struct vcpu *vcpu, struct error *err)
{
    if (!bt_engine.attach(vcpu, err))
        return false;
    struct lockstep *l = aligned_alloc(64, align_up(sizeof(*l), 64));
    ensure(l);
    memset(l, 0, sizeof(*l));
    l->saved = aligned_alloc(64, align_up(sizeof(*l->saved), 64));
    ensure(l->saved);
    l->vcpu = vcpu;
    l->thread = pthread_self();
    l->inner = vcpu->cpu.ops;
    make_ops(l);
    vcpu->cpu.ops = &l->ops;
    guest_decoder_init(&l->decoder, vcpu->cpu.model);
    l->watch =
        (struct bt_watch){.leaves = leaves, .interrupted = interrupted, .everywhere = true};
    bt_set_watch(vcpu, &l->watch);
    return true;
}

static void lockstep_detach(struct vcpu *vcpu)
{
    struct lockstep *l = lockstep_of(&vcpu->cpu);
    bt_engine.detach(vcpu);
    free(l->saved);
    free(l);
}

static void lockstep_code_written(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    bt_engine.code_written(vcpu, frame, lines);
}

static void lockstep_code_watched(struct vcpu *vcpu, struct gfn frame)
{
    struct lockstep *l = lockstep_of(&vcpu->cpu);
    if (l->trial) {
        ensure(l->n_watched < MAX_STEPS);
        l->watched[l->n_watched++] = frame;
    }
}

static unsigned lockstep_counters(struct vcpu *vcpu, struct engine_counter *counters,
                                  unsigned max)
{
    return bt_engine.counters(vcpu, counters, max);
}

const struct engine lockstep_engine = {
    .name = "lockstep",
    .probe = lockstep_probe,
    .attach = lockstep_attach,
    .detach = lockstep_detach,
    .enter = lockstep_enter,
    .code_written = lockstep_code_written,
    .code_watched = lockstep_code_watched,
    .counters = lockstep_counters,
};
