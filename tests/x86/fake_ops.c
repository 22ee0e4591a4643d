/* What instructions of tests reach in place of a machine, see fake_ops.h. */
#include "fake_ops.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/ensure.h"

static struct fake *fake_of(struct x86_cpu *c)
{
    return container_of(c, struct fake, cpu);
}

void *fake_at(struct fake *f, u64 la)
{
    return &f->memory[la - FAKE_BASE];
}

static void check(struct x86_cpu *c, u64 la, enum x86_access access)
{
    struct fake *f = fake_of(c);
    u64 page = (la - FAKE_BASE) / PAGE_SIZE;
    bool write = access == ACCESS_WRITE;
    if (la < FAKE_BASE || page >= FAKE_PAGES || f->absent[page])
        x86_raise_pf(c, gva(la), write ? PF_W : 0);
    if (write && f->read_only[page])
        x86_raise_pf(c, gva(la), PF_W | PF_P);
}

static void fake_probe(struct x86_cpu *c, struct gva la, unsigned size, enum x86_access access,
                       enum x86_privilege as)
{
    check(c, la.v, access);
    if ((la.v ^ (la.v + size - 1)) & PAGE_MASK)
        check(c, (la.v + size - 1) & PAGE_MASK, access);
}

static void fake_read(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                      enum x86_privilege as)
{
    fake_probe(c, la, size, ACCESS_READ, as);
    memcpy(buf, fake_at(fake_of(c), la.v), size);
}

static void fake_write(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                       enum x86_privilege as)
{
    fake_probe(c, la, size, ACCESS_WRITE, as);
    memcpy(fake_at(fake_of(c), la.v), buf, size);
}

static void *fake_atomic(struct x86_cpu *c, struct gva la, unsigned size)
{
    struct fake *f = fake_of(c);
    fake_probe(c, la, size, ACCESS_WRITE, AS_CPL);
    return f->refuse_atomic || page_left(la.v) < size ? NULL : fake_at(f, la.v);
}

static void fake_atomic_done(struct x86_cpu *c, struct gva la, unsigned size) {}

static void fake_lock_begin(struct x86_cpu *c)
{
    fake_of(c)->locks++;
    fake_of(c)->lock_calls++;
}

static void fake_lock_end(struct x86_cpu *c)
{
    fake_of(c)->locks--;
}

static unsigned fake_fetch(struct x86_cpu *c, struct gva la, void *buf, unsigned size)
{
    u64 end = FAKE_BASE + FAKE_SIZE;
    check(c, la.v, ACCESS_EXEC);
    unsigned n = end - la.v < size ? (unsigned)(end - la.v) : size;
    memcpy(buf, fake_at(fake_of(c), la.v), n);
    return n;
}

static u32 fake_in(struct x86_cpu *c, u16 port, unsigned size)
{
    return port * 0x01010101u;
}

static void fake_out(struct x86_cpu *c, u16 port, unsigned size, u32 value) {}

static bool fake_rdmsr(struct x86_cpu *c, u32 index, u64 *value)
{
    *value = 0;
    return index == MSR_APIC_BASE;
}

static bool fake_wrmsr(struct x86_cpu *c, u32 index, u64 value)
{
    return index == MSR_APIC_BASE;
}

static u64 fake_read_cr8(struct x86_cpu *c)
{
    return 0;
}

static void fake_write_cr8(struct x86_cpu *c, u64 value) {}

static u64 fake_tsc(struct x86_cpu *c)
{
    return 1000;
}

static void fake_invlpg(struct x86_cpu *c, struct gva la) {}

static void fake_invpcid(struct x86_cpu *c, u16 pcid, struct gva la) {}

static void fake_flush(struct x86_cpu *c, enum x86_flush what, u16 pcid) {}

static void fake_cr3_loaded(struct x86_cpu *c, bool keep) {}

static void fake_paging_changed(struct x86_cpu *c) {}

static bool fake_load_pdptes(struct x86_cpu *c, u64 cr3)
{
    return true;
}

static bool fake_native(struct x86_cpu *c, const void *code, void *mem)
{
    return ((bool (*)(struct x86_cpu *, void *))code)(c, mem);
}

static const void *fake_native_emit(struct x86_cpu *c, const void *bytes, unsigned size)
{
    struct fake *f = fake_of(c);
    if (f->native_used + size > FAKE_NATIVE_SIZE)
        return NULL;
    void *at = f->native + f->native_used;
    memcpy(at, bytes, size);
    f->native_used += (size + 15) & ~15u;
    return at;
}

static void fake_ferr(struct x86_cpu *c, bool level)
{
    fake_of(c)->ferr_calls += level;
}

static bool fake_ignne(struct x86_cpu *c)
{
    return fake_of(c)->ignne;
}

static bool fake_hypercall(struct x86_cpu *c)
{
    return false;
}

static const struct x86_ops fake_ops = {
    .read = fake_read,
    .write = fake_write,
    .probe = fake_probe,
    .atomic = fake_atomic,
    .atomic_done = fake_atomic_done,
    .lock_begin = fake_lock_begin,
    .lock_end = fake_lock_end,
    .fetch = fake_fetch,
    .in = fake_in,
    .out = fake_out,
    .rdmsr = fake_rdmsr,
    .wrmsr = fake_wrmsr,
    .read_cr8 = fake_read_cr8,
    .write_cr8 = fake_write_cr8,
    .tsc = fake_tsc,
    .invlpg = fake_invlpg,
    .invpcid = fake_invpcid,
    .flush = fake_flush,
    .cr3_loaded = fake_cr3_loaded,
    .paging_changed = fake_paging_changed,
    .load_pdptes = fake_load_pdptes,
    .native = fake_native,
    .native_emit = fake_native_emit,
    .ferr = fake_ferr,
    .ignne = fake_ignne,
    .hypercall = fake_hypercall,
};

static void fill_tlb(struct fake *f, bool use_tlb)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        struct x86_tlb *tlb = &f->cpu.tlb[set];
        for (unsigned n = 0; n < TLB_SIZE; n++)
            tlb->read[n] = tlb->write[n] = tlb->exec[n] = tlb_invalid(n);
        for (unsigned page = 0; use_tlb && page < FAKE_PAGES; page++) {
            u64 la = FAKE_BASE + page * PAGE_SIZE;
            unsigned n = tlb_slot(la);
            tlb->read[n] = tlb->write[n] = tlb->exec[n] = la;
            tlb->page[n] = (u64)fake_at(f, la);
        }
    }
}

static void set_segments(struct x86_cpu *c, unsigned code_size)
{
    u32 size = code_size == 8 ? SEG_L : code_size == 4 ? SEG_DB : 0;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        c->seg[s] = (struct x86_seg){.sel = 16,
                                     .attr = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | SEG_G |
                                             (code_size == 2 ? 0 : SEG_DB),
                                     .limit = 0xffffffff};
    c->seg[SEG_CS].sel = 8;
    c->seg[SEG_CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_READ | SEG_ACCESSED | SEG_G | size;
}

struct fake *fake_new(unsigned code_size, bool use_tlb)
{
    struct fake *f = aligned_alloc(4096, align_up(sizeof(*f), 4096));
    ensure(f);
    memset(f, 0, sizeof(*f));
    struct x86_cpu *c = &f->cpu;
    c->ops = &fake_ops;
    c->model = &f->model;
    c->log = &f->log;
    struct error err;
    ensure(x86_model_init(&f->model, "max", 1, 1000000000, &err));
    f->model.amd = false;
    f->model.quirks = QUIRKS_INTEL;
    f->native = mmap(NULL, FAKE_NATIVE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ensure(f->native != MAP_FAILED);

    x86_reset(c);
    c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    c->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    if (code_size == 8) {
        c->cr0 |= CR0_PG;
        c->cr4 |= CR4_PAE;
        c->efer = EFER_LME | EFER_LMA;
    }
    c->rflags = FLAG_FIXED;
    set_segments(c, code_size);
    x86_derive(c);
    c->gpr[RSP] = FAKE_STACK;
    fill_tlb(f, use_tlb);
    return f;
}

void fake_free(struct fake *f)
{
    munmap(f->native, FAKE_NATIVE_SIZE);
    free(f);
}

void fake_protect(struct fake *f, u64 la, bool absent, bool read_only)
{
    u64 page = (la - FAKE_BASE) / PAGE_SIZE;
    f->absent[page] = absent;
    f->read_only[page] = read_only;
    for (unsigned set = 0; set < TLB_SETS; set++) {
        struct x86_tlb *tlb = &f->cpu.tlb[set];
        unsigned n = tlb_slot(la);
        if (absent)
            tlb->read[n] = tlb->exec[n] = tlb_invalid(n);
        tlb->write[n] = tlb_invalid(n);
    }
}

int fake_run(struct fake *f, const void *bytes, unsigned size)
{
    struct x86_cpu *c = &f->cpu;
    struct x86_insn insn;
    jmp_buf unwind;
    u8 code[15] = {0};
    memcpy(code, bytes, size);
    memcpy(fake_at(f, FAKE_CODE), code, sizeof(code));
    if (x86_decode(c, code, sizeof(code), c->code_size, &insn) != DECODE_OK) {
        f->native_used = 0;
        ensure(x86_decode(c, code, sizeof(code), c->code_size, &insn) == DECODE_OK);
    }
    c->rip = FAKE_CODE;
    c->unwind = &unwind;
    if (setjmp(unwind))
        return c->fault.vector;
    x86_execute(c, &insn);
    return -1;
}
