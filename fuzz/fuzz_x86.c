/*
 * Decode and execute with a world that lies: memory faults or answers whatever the input says,
 * ports, MSRs and thunks too. No input may crash, hang or trip a sanitizer, and the laws of
 * faults must hold (RIP at the instruction, locks released).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/ensure.h"
#include "base/log.h"
#include "x86/insn.h"
#include "x86/interrupt.h"
#include "x86/mem.h"
#include "x86/model.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define CODE_SIZE (64 * KiB)

struct liar {
    struct x86_cpu cpu;
    struct x86_model model;
    struct log log;
    const u8 *data; /* the input, taken from the front */
    size_t size;
    int locks;
    u8 page[2 * PAGE_SIZE] __attribute__((aligned(64))); /* what the software TLB finds */
    u8 *code; /* executable: thunks that cannot fault are run without ops->native */
    size_t code_used;
};

static struct liar *liar_of(struct x86_cpu *c)
{
    return container_of(c, struct liar, cpu);
}

/* The next `size` bytes of the input; zeros when it is used up. */
static void take(struct liar *l, void *buf, size_t size)
{
    size_t n = size < l->size ? size : l->size;
    memset(buf, 0, size);
    if (n)
        memcpy(buf, l->data, n);
    l->data += n;
    l->size -= n;
}

static u8 take_byte(struct liar *l)
{
    u8 v;
    take(l, &v, 1);
    return v;
}

/* One time in eight the guest's page tables say no. */
static void maybe_fault(struct x86_cpu *c, struct gva la, u32 error)
{
    if (take_byte(liar_of(c)) % 8 == 1)
        x86_raise_pf(c, la, error);
}

static void liar_read(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                      enum x86_privilege as)
{
    ensure(size >= 1 && size <= 64);
    maybe_fault(c, la, 0);
    take(liar_of(c), buf, size);
}

static void liar_write(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                       enum x86_privilege as)
{
    ensure(size >= 1 && size <= 64);
    maybe_fault(c, la, PF_W);
    u8 seen[64];
    memcpy(seen, buf, size); /* all of it must be there to read */
}

static void liar_probe(struct x86_cpu *c, struct gva la, unsigned size, enum x86_access access,
                       enum x86_privilege as)
{
    maybe_fault(c, la, access == ACCESS_WRITE ? PF_W : 0);
}

static void *liar_atomic(struct x86_cpu *c, struct gva la, unsigned size)
{
    maybe_fault(c, la, PF_W);
    return take_byte(liar_of(c)) & 1 ? NULL : liar_of(c)->page + (la.v & ~PAGE_MASK & ~15ull);
}

static void liar_atomic_done(struct x86_cpu *c, struct gva la, unsigned size) {}

static void liar_lock_begin(struct x86_cpu *c)
{
    liar_of(c)->locks++;
}

static void liar_lock_end(struct x86_cpu *c)
{
    liar_of(c)->locks--;
}

static unsigned liar_fetch(struct x86_cpu *c, struct gva la, void *buf, unsigned size)
{
    maybe_fault(c, la, PF_I);
    take(liar_of(c), buf, size);
    return size;
}

static u32 liar_in(struct x86_cpu *c, u16 port, unsigned size)
{
    return take_byte(liar_of(c)) * 0x01010101u;
}

static void liar_out(struct x86_cpu *c, u16 port, unsigned size, u32 value) {}

static bool liar_rdmsr(struct x86_cpu *c, u32 index, u64 *value)
{
    take(liar_of(c), value, sizeof(*value));
    return take_byte(liar_of(c)) & 1;
}

static bool liar_wrmsr(struct x86_cpu *c, u32 index, u64 value)
{
    return take_byte(liar_of(c)) & 1;
}

static u64 liar_read_cr8(struct x86_cpu *c)
{
    return take_byte(liar_of(c)) & 15;
}

static void liar_write_cr8(struct x86_cpu *c, u64 value) {}

static u64 liar_tsc(struct x86_cpu *c)
{
    u64 v;
    take(liar_of(c), &v, sizeof(v));
    return v;
}

static void liar_invlpg(struct x86_cpu *c, struct gva la) {}

static void liar_invpcid(struct x86_cpu *c, u16 pcid, struct gva la) {}

static void liar_flush(struct x86_cpu *c, enum x86_flush what, u16 pcid) {}

static void liar_cr3_loaded(struct x86_cpu *c, bool keep) {}

static void liar_paging_changed(struct x86_cpu *c) {}

static bool liar_bool(struct x86_cpu *c)
{
    return take_byte(liar_of(c)) & 1;
}

static bool liar_load_pdptes(struct x86_cpu *c, u64 cr3)
{
    return liar_bool(c);
}

static bool liar_native(struct x86_cpu *c, const void *code, void *mem)
{
    return liar_bool(c);
}

static const void *liar_native_emit(struct x86_cpu *c, const void *bytes, unsigned size)
{
    struct liar *l = liar_of(c);
    if (take_byte(l) % 8 == 1 || l->code_used + size > CODE_SIZE)
        return NULL;
    void *at = l->code + l->code_used;
    l->code_used += align_up(size, 16);
    return memcpy(at, bytes, size);
}

static void liar_ferr(struct x86_cpu *c, bool level) {}

static const struct x86_ops liar_ops = {
    .read = liar_read,
    .write = liar_write,
    .probe = liar_probe,
    .atomic = liar_atomic,
    .atomic_done = liar_atomic_done,
    .lock_begin = liar_lock_begin,
    .lock_end = liar_lock_end,
    .fetch = liar_fetch,
    .in = liar_in,
    .out = liar_out,
    .rdmsr = liar_rdmsr,
    .wrmsr = liar_wrmsr,
    .read_cr8 = liar_read_cr8,
    .write_cr8 = liar_write_cr8,
    .tsc = liar_tsc,
    .invlpg = liar_invlpg,
    .invpcid = liar_invpcid,
    .flush = liar_flush,
    .cr3_loaded = liar_cr3_loaded,
    .paging_changed = liar_paging_changed,
    .load_pdptes = liar_load_pdptes,
    .native = liar_native,
    .native_emit = liar_native_emit,
    .ferr = liar_ferr,
    .ignne = liar_bool,
    .hypercall = liar_bool,
};

/* The one page that the TLB holds, so that fast paths are taken as well. */
static void set_tlb(struct liar *l)
{
    u64 la = (u64)take_byte(l) << PAGE_SHIFT;
    for (unsigned set = 0; set < TLB_SETS; set++) {
        struct x86_tlb *tlb = &l->cpu.tlb[set];
        for (unsigned n = 0; n < TLB_SIZE; n++)
            tlb->read[n] = tlb->write[n] = tlb->exec[n] = tlb_invalid(n);
        unsigned n = tlb_slot(la);
        tlb->read[n] = tlb->write[n] = la;
        tlb->page[n] = (u64)l->page;
    }
}

static void set_state(struct liar *l, unsigned mode)
{
    struct x86_cpu *c = &l->cpu;
    x86_reset(c);
    take(l, c->gpr, sizeof(c->gpr));
    for (unsigned k = 0; k < 16; k++)
        if (take_byte(l) & 1)
            c->gpr[k] &= 0xfffff; /* where the TLB may hit */
    u64 flags;
    take(l, &flags, sizeof(flags));
    c->rflags = (flags & 0x3f7fd5 & ~FLAG_VM) | FLAG_FIXED;
    c->cr0 |= take_byte(l) & (CR0_MP | CR0_EM | CR0_TS | CR0_NE);
    c->cr4 = CR4_OSFXSR | CR4_OSXSAVE | (take_byte(l) & 1 ? CR4_UMIP : 0);
    c->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    if (mode >= 2) {
        c->cr0 |= CR0_PE;
        for (unsigned s = SEG_ES; s <= SEG_GS; s++)
            c->seg[s].attr |= SEG_P | SEG_S | SEG_WRITE | SEG_G | (mode == 2 ? 0 : SEG_DB);
        c->seg[SEG_CS].attr |= SEG_CODE;
        for (unsigned s = SEG_ES; s <= SEG_GS; s++)
            c->seg[s].limit = 0xffffffff;
    }
    if (mode == 4) {
        c->cr0 |= CR0_PG;
        c->cr4 |= CR4_PAE;
        c->efer = EFER_LME | EFER_LMA | EFER_SCE;
        c->seg[SEG_CS].attr = (c->seg[SEG_CS].attr & ~SEG_DB) | SEG_L;
    }
    if (mode == 1) {
        c->cr0 |= CR0_PE;
        c->rflags |= FLAG_VM;
    }
    c->seg[SEG_SS].attr |= mode == 1 || take_byte(l) & 1 ? 3 << 5 : 0;
    x86_derive(c);
    set_tlb(l);
}

/* What the run loop may do between two instructions. */
static void between(struct liar *l)
{
    struct x86_cpu *c = &l->cpu;
    switch (take_byte(l) % 16) {
    case 1:
        x86_deliver_interrupt(c, take_byte(l));
        break;
    case 2:
        x86_deliver_nmi(c);
        break;
    case 3:
        x86_deliver_debug(c);
        break;
    default:
        break;
    }
}

/* One instruction; false: the input makes no more. */
static bool step(struct liar *l)
{
    struct x86_cpu *c = &l->cpu;
    struct x86_insn insn;
    jmp_buf unwind;
    u8 bytes[15];
    if (!l->size)
        return false;
    take(l, bytes, sizeof(bytes));
    enum x86_decode_result r = x86_decode(c, bytes, sizeof(bytes), c->code_size, &insn);
    ensure(r != DECODE_SHORT);
    if (r == DECODE_FULL)
        return true;
    ensure(insn.exec && insn.length >= 1 && insn.length <= 15);
    c->unwind = &unwind;
    if (setjmp(unwind)) {
        ensure(c->rip == c->insn_rip);
        x86_deliver_fault(c);
    } else {
        x86_execute(c, &insn);
    }
    between(l);
    ensure(c->unwind == &unwind);
    ensure(l->locks == 0);
    ensure(c->rflags & FLAG_FIXED);
    return c->activity == CPU_RUNNING;
}

/* Large, so one for the process, with what no input changes. */
static struct liar *liar_new(void)
{
    struct error err;
    struct liar *l = aligned_alloc(64, align_up(sizeof(*l), 64));
    ensure(l);
    l->code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ensure(l->code != MAP_FAILED);
    ensure(x86_model_init(&l->model, "max", 1, 1000000000, &err));
    return l;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct liar *l;
    if (!l)
        l = liar_new();
    memset(&l->cpu, 0, sizeof(l->cpu));
    l->cpu.ops = &liar_ops;
    l->cpu.model = &l->model;
    l->cpu.log = &l->log;
    l->log.mask = 0;
    l->data = data;
    l->size = size;
    l->locks = 0;
    l->code_used = 0;
    l->model.amd = take_byte(l) & 1;
    set_state(l, take_byte(l) % 5);
    for (unsigned n = 0; n < 32 && step(l); n++)
        ;
    return 0;
}
