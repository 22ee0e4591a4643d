/* Guest memory and I/O for the engines that run instructions in software, see access.h. */
#include "engine/access.h"

#include <x86intrin.h>

#include "engine/engine.h"
#include "engine/sim/thunk.h"
#include "memory/tlb.h"
#include "x86/mem.h"
#include "x86/model.h"

static struct vcpu *vcpu_of(struct x86_cpu *c)
{
    return container_of(c, struct vcpu, cpu);
}

/* -- Resolving one page -------------------------------------------------------------------- */

/* Where an access lands: RAM at `hva`, or a device at `gpa` (hva NULL). */
struct place {
    u8 *hva;
    struct gpa gpa;
    u64 flags; /* PMAP_* when RAM */
};

static enum x86_tlb_index set_of(const struct x86_cpu *c, enum x86_privilege as)
{
    return as == AS_SUPERVISOR ? TLB_KERNEL : c->tlb_index;
}

/* Walks, fills the TLB and raises #PF. */
static struct place resolve(struct x86_cpu *c, struct gva la, enum x86_access access,
                            enum x86_privilege as)
{
    struct pmap *pmap = vcpu_of(c)->board->pmap;
    enum x86_tlb_index set = set_of(c, as);
    struct walk_result page;
    u32 error;
    if (!x86_canonical(la.v))
        x86_raise_error(c, VEC_GP, 0);
    if (!tlb_walk(c, pmap, la, tlb_access(c, set, access), &page, &error))
        x86_raise_pf(c, la, error);
    struct gfn f = gpa_to_gfn(page.gpa);
    u8 *hva = pmap_page(pmap, f);
    if (!hva)
        return (struct place){.gpa = page.gpa};
    u64 flags = pmap_flags(pmap, f);
    if (access == ACCESS_WRITE && !(flags & (PMAP_DIRTY | PMAP_ROM)))
        flags = pmap_set_flags(pmap, f, PMAP_DIRTY, 0) | PMAP_DIRTY;
    tlb_fill(c, set, gva(la.v & PAGE_MASK), &page, hva, flags);
    return (struct place){.hva = hva + (la.v & ~PAGE_MASK), .gpa = page.gpa, .flags = flags};
}

/* Writes to a watched page before the watch ends, as shifts; code that is run again within
 * SOON units of 2^STAMP_SHIFT cycles of the TSC raises them. */
#define FIRST_PATIENCE 4
#define LAST_PATIENCE  10
#define STAMP_SHIFT    26
#define SOON           8

/* -- Code pages ---------------------------------------------------------------------------- */

/* What a vCPU is asked to forget. */
struct written {
    struct gfn frame;
    u64 lines;
};

static void forget_code(struct vcpu *vcpu, struct written w)
{
    if (vcpu->engine)
        vcpu->engine->code_written(vcpu, w.frame, w.lines);
}

static void forget_lines_work(struct vcpu *target, struct vcpu_work *work)
{
    forget_code(target, *(const struct written *)work->opaque);
}

static void forget_page_work(struct vcpu *target, struct vcpu_work *work)
{
    forget_code(target, (struct written){gfn((u64)work->opaque), UINT64_MAX});
}

static void forget_everywhere(struct vcpu *vcpu, struct written w)
{
    forget_code(vcpu, w);
    if (vcpu->board->n_vcpus > 1)
        vcpu_request_all(vcpu->board, vcpu, forget_lines_work, &w);
}

static u32 stamp_now(void)
{
    return (u32)(__rdtsc() >> STAMP_SHIFT);
}

/* First the flag, then the code: whoever translates meanwhile is asked after it. */
static void end_watch(struct pmap *pmap, struct gfn frame)
{
    struct pmap_code *code = pmap_code(pmap, frame);
    pmap_set_flags(pmap, frame, 0, PMAP_CODE);
    atomic_store(&code->lines, 0);
    atomic_store(&code->whole, false);
    atomic_store(&code->stamp, stamp_now());
}

/*
 * A page that is code and data at once must not thrash: a write beside code only counts, one to
 * code takes what was decoded from its lines. When there are too many of them, the page is data
 * by now: the watch ends. Should code be run from it again before long, more writes are put up
 * with. So what is spent on writes stays in proportion to what decoding anew costs.
 */
static void code_page_written(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    struct pmap *pmap = vcpu->board->pmap;
    struct pmap_code *code = pmap_code(pmap, frame);
    /* The bytes are written; a decoder notes its lines before it looks at them again. */
    atomic_thread_fence(memory_order_seq_cst);
    u64 hit = atomic_load(&code->lines) & lines;
    u8 patience = atomic_load(&code->patience);
    bool many = atomic_fetch_add(&code->writes, 1) >= 1u << patience;
    if (many || (hit && atomic_load(&code->whole))) {
        if (many && patience < LAST_PATIENCE)
            atomic_store(&code->patience, patience + 1);
        end_watch(pmap, frame);
        forget_everywhere(vcpu, (struct written){frame, UINT64_MAX});
    } else if (hit) {
        atomic_fetch_and(&code->lines, ~hit);
        forget_everywhere(vcpu, (struct written){frame, hit});
    }
}

void access_code_written(struct board *board, struct gfn frame)
{
    end_watch(board->pmap, frame);
    vcpu_post_all(board, forget_page_work, (void *)frame.v);
}

bool access_beside_code(struct vcpu *vcpu, struct gfn frame, u64 lines, bool again)
{
    struct pmap_code *code = pmap_code(vcpu->board->pmap, frame);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&code->lines) & lines)
        return false;
    return again || atomic_fetch_add(&code->writes, 1) < 1u << atomic_load(&code->patience);
}

void access_tell_written(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    code_page_written(vcpu, frame, lines);
}

static void watch(struct vcpu *vcpu, struct gfn frame)
{
    tlb_watch(&vcpu->cpu, pmap_page(vcpu->board->pmap, frame));
    if (vcpu->engine && vcpu->engine->code_watched)
        vcpu->engine->code_watched(vcpu, frame);
}

static void watch_work(struct vcpu *target, struct vcpu_work *work)
{
    watch(target, gfn((u64)work->opaque));
}

void access_watch_code(struct vcpu *vcpu, struct gfn frame)
{
    struct pmap *pmap = vcpu->board->pmap;
    struct pmap_code *code = pmap_code(pmap, frame);
    if (pmap_flags(pmap, frame) & PMAP_CODE)
        return;
    if (stamp_now() - atomic_load(&code->stamp) > SOON || !atomic_load(&code->patience))
        atomic_store(&code->patience, FIRST_PATIENCE);
    atomic_store(&code->writes, 0);
    if (pmap_set_flags(pmap, frame, PMAP_CODE, 0) & PMAP_CODE)
        return;
    watch(vcpu, frame);
    if (vcpu->board->n_vcpus > 1)
        vcpu_request_all(vcpu->board, vcpu, watch_work, (void *)frame.v);
}

void access_note_code(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    atomic_fetch_or(&pmap_code(vcpu->board->pmap, frame)->lines, lines);
}

void access_watch_page(struct vcpu *vcpu, struct gfn frame)
{
    access_watch_code(vcpu, frame);
    atomic_store(&pmap_code(vcpu->board->pmap, frame)->whole, true);
    access_note_code(vcpu, frame, UINT64_MAX);
}

const u8 *access_code(struct x86_cpu *c, struct gva la, struct gfn *frame)
{
    struct place place = resolve(c, la, ACCESS_EXEC, AS_CPL);
    *frame = gpa_to_gfn(place.gpa);
    return place.hva;
}

static u64 lines_of(struct gpa gpa, unsigned size)
{
    return pmap_lines((unsigned)(gpa.v & ~PAGE_MASK), size);
}

/* -- Moving bytes -------------------------------------------------------------------------- */

/* One host access for natural sizes: other processors must never see a torn value. */
static void copy(void *to, const void *from, unsigned size)
{
    if (size <= 8 && !(size & (size - 1)))
        host_store(to, size, host_load(from, size));
    else
        memcpy(to, from, size);
}

/* A device sees at most 8 bytes at a time, in powers of two. */
static unsigned device_part(unsigned size)
{
    return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static void read_place(struct x86_cpu *c, struct place place, void *buf, unsigned size)
{
    if (likely(place.hva)) {
        copy(buf, place.hva, size);
        return;
    }
    for (u8 *to = buf; size;) {
        unsigned part = device_part(size);
        u64 value = vcpu_mmio_read(vcpu_of(c), place.gpa, part);
        memcpy(to, &value, part);
        to += part;
        place.gpa.v += part;
        size -= part;
    }
}

static void write_place(struct x86_cpu *c, struct place place, const void *buf, unsigned size)
{
    /* A write to ROM reaches the bus: behind the pages of a flash chip there is a device. */
    if (likely(place.hva && !(place.flags & PMAP_ROM))) {
        copy(place.hva, buf, size);
        if (unlikely(place.flags & PMAP_CODE))
            code_page_written(vcpu_of(c), gpa_to_gfn(place.gpa), lines_of(place.gpa, size));
        return;
    }
    for (const u8 *from = buf; size;) {
        unsigned part = device_part(size);
        u64 value = 0;
        memcpy(&value, from, part);
        vcpu_mmio_write(vcpu_of(c), place.gpa, part, value);
        from += part;
        place.gpa.v += part;
        size -= part;
    }
}

/* The next page's first byte, in the width of the address space. */
static struct gva next_page(const struct x86_cpu *c, struct gva la)
{
    u64 next = (la.v & PAGE_MASK) + PAGE_SIZE;
    return gva(x86_64bit(c) ? next : (u32)next);
}

static void access_read(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                        enum x86_privilege as)
{
    struct place first = resolve(c, la, ACCESS_READ, as);
    unsigned left = (unsigned)page_left(la.v);
    if (likely(left >= size)) {
        read_place(c, first, buf, size);
        return;
    }
    struct place second = resolve(c, next_page(c, la), ACCESS_READ, as);
    read_place(c, first, buf, left);
    read_place(c, second, (u8 *)buf + left, size - left);
}

static void access_write(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                         enum x86_privilege as)
{
    struct place first = resolve(c, la, ACCESS_WRITE, as);
    unsigned left = (unsigned)page_left(la.v);
    if (likely(left >= size)) {
        write_place(c, first, buf, size);
        return;
    }
    struct place second = resolve(c, next_page(c, la), ACCESS_WRITE, as);
    write_place(c, first, buf, left);
    write_place(c, second, (const u8 *)buf + left, size - left);
}

static void access_probe(struct x86_cpu *c, struct gva la, unsigned size,
                         enum x86_access access, enum x86_privilege as)
{
    resolve(c, la, access, as);
    if (page_left(la.v) < size)
        resolve(c, next_page(c, la), access, as);
}

static unsigned access_fetch(struct x86_cpu *c, struct gva la, void *buf, unsigned size)
{
    struct place first = resolve(c, la, ACCESS_EXEC, AS_CPL);
    unsigned left = (unsigned)page_left(la.v);
    unsigned part = left < size ? left : size;
    read_place(c, first, buf, part);
    if (part == size)
        return size;
    struct pmap *pmap = vcpu_of(c)->board->pmap;
    struct gva next = next_page(c, la);
    struct walk_result page;
    u32 error;
    if (!tlb_walk(c, pmap, next, tlb_access(c, c->tlb_index, ACCESS_EXEC), &page, &error))
        return part;
    u8 *hva = pmap_page(pmap, gpa_to_gfn(page.gpa));
    read_place(c, (struct place){.hva = hva, .gpa = page.gpa}, (u8 *)buf + part, size - part);
    return size;
}

/* -- LOCK ---------------------------------------------------------------------------------- */

static void *access_atomic(struct x86_cpu *c, struct gva la, unsigned size)
{
    struct place first = resolve(c, la, ACCESS_WRITE, AS_CPL);
    if (page_left(la.v) < size) {
        resolve(c, next_page(c, la), ACCESS_WRITE, AS_CPL);
        return NULL;
    }
    return first.flags & PMAP_ROM ? NULL : first.hva;
}

static void access_atomic_done(struct x86_cpu *c, struct gva la, unsigned size)
{
    struct place place = resolve(c, la, ACCESS_WRITE, AS_CPL);
    if (unlikely(place.flags & PMAP_CODE))
        code_page_written(vcpu_of(c), gpa_to_gfn(place.gpa), lines_of(place.gpa, size));
}

static void access_lock_begin(struct x86_cpu *c)
{
    pthread_mutex_lock(&vcpu_of(c)->board->bus_lock);
}

static void access_lock_end(struct x86_cpu *c)
{
    pthread_mutex_unlock(&vcpu_of(c)->board->bus_lock);
}

/* -- Ports, MSRs, time --------------------------------------------------------------------- */

static u32 access_in(struct x86_cpu *c, u16 port, unsigned size)
{
    return (u32)bus_read(vcpu_of(c)->board, BUS_PIO, port, size);
}

static void access_out(struct x86_cpu *c, u16 port, unsigned size, u32 value)
{
    bus_write(vcpu_of(c)->board, BUS_PIO, port, size, value);
}

static bool access_rdmsr(struct x86_cpu *c, u32 index, u64 *value)
{
    struct vcpu *vcpu = vcpu_of(c);
    if (vcpu->apic_ops && vcpu->apic_ops->read_msr(vcpu->apic, index, value))
        return true;
    return vcpu->pv_ops && vcpu->pv_ops->read_msr(vcpu->pv, index, value);
}

static bool access_wrmsr(struct x86_cpu *c, u32 index, u64 value)
{
    struct vcpu *vcpu = vcpu_of(c);
    if (vcpu->apic_ops && vcpu->apic_ops->write_msr(vcpu->apic, index, value))
        return true;
    return vcpu->pv_ops && vcpu->pv_ops->write_msr(vcpu->pv, index, value);
}

static u64 access_read_cr8(struct x86_cpu *c)
{
    struct vcpu *vcpu = vcpu_of(c);
    return vcpu->apic_ops->read_tpr(vcpu->apic);
}

static void access_write_cr8(struct x86_cpu *c, u64 value)
{
    struct vcpu *vcpu = vcpu_of(c);
    vcpu->apic_ops->write_tpr(vcpu->apic, value);
}

static u64 access_tsc(struct x86_cpu *c)
{
    (void)c;
    /* Ordered, as RDTSCP and LFENCE before RDTSC want it. */
    asm volatile("lfence" ::: "memory");
    return __rdtsc();
}

/* -- Translations -------------------------------------------------------------------------- */

static void access_invlpg(struct x86_cpu *c, struct gva la)
{
    tlb_flush_page(c, la);
}

static void access_invpcid(struct x86_cpu *c, u16 pcid, struct gva la)
{
    tlb_flush_page_of(c, pcid, la);
}

static void access_flush(struct x86_cpu *c, enum x86_flush what, u16 pcid)
{
    switch (what) {
    case FLUSH_PCID:
        tlb_flush_pcid(c, pcid);
        break;
    case FLUSH_CR3:
        tlb_flush_pcid(c, stlb_pcid(c));
        break;
    case FLUSH_NON_GLOBAL:
        tlb_flush_local(c);
        break;
    case FLUSH_ALL:
        tlb_flush_all(c);
        break;
    }
}

static void access_cr3_loaded(struct x86_cpu *c, bool keep)
{
    tlb_cr3_loaded(c, keep);
}

static void access_paging_changed(struct x86_cpu *c)
{
    tlb_flush_all(c);
}

static void access_debug_changed(struct x86_cpu *c)
{
    tlb_debug_changed(c);
}

static bool access_load_pdptes(struct x86_cpu *c, u64 cr3)
{
    u64 pdptes[4];
    struct pmap *pmap = vcpu_of(c)->board->pmap;
    const u8 *page = pmap_page(pmap, gpa_to_gfn(gpa(cr3 & 0xfffff000)));
    if (page)
        memcpy(pdptes, page + (cr3 & 0xfe0), sizeof(pdptes));
    else
        memset(pdptes, 0xff, sizeof(pdptes));
    /* SDM vol. 3, table 4-8: bits 2:1, 8:5 and those above MAXPHYADDR. */
    u64 reserved = bits_low(64) & ~bits_low(c->model->phys_bits);
    reserved |= 0x1e6;
    for (unsigned i = 0; i < 4; i++) {
        if ((pdptes[i] & PTE_P) && (pdptes[i] & reserved))
            return false;
    }
    memcpy(c->pdpte, pdptes, sizeof(pdptes));
    return true;
}

/* -- Errors and calls ---------------------------------------------------------------------- */

static void access_ferr(struct x86_cpu *c, bool level)
{
    struct board *board = vcpu_of(c)->board;
    board_lock(board);
    irq_set(&board->ferr, level);
    board_unlock(board);
}

static bool access_ignne(struct x86_cpu *c)
{
    return vcpu_of(c)->board->ignne;
}

static bool access_hypercall(struct x86_cpu *c)
{
    struct vcpu *vcpu = vcpu_of(c);
    return vcpu->pv_ops && vcpu->pv_ops->hypercall(vcpu->pv);
}

const struct x86_ops access_ops = {
    .read = access_read,
    .write = access_write,
    .probe = access_probe,
    .atomic = access_atomic,
    .atomic_done = access_atomic_done,
    .lock_begin = access_lock_begin,
    .lock_end = access_lock_end,
    .fetch = access_fetch,
    .in = access_in,
    .out = access_out,
    .rdmsr = access_rdmsr,
    .wrmsr = access_wrmsr,
    .read_cr8 = access_read_cr8,
    .write_cr8 = access_write_cr8,
    .tsc = access_tsc,
    .invlpg = access_invlpg,
    .invpcid = access_invpcid,
    .flush = access_flush,
    .cr3_loaded = access_cr3_loaded,
    .paging_changed = access_paging_changed,
    .debug_changed = access_debug_changed,
    .load_pdptes = access_load_pdptes,
    .native = thunk_run,
    .native_emit = thunk_emit,
    .ferr = access_ferr,
    .ignne = access_ignne,
    .hypercall = access_hypercall,
};
