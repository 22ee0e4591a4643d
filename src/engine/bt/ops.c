/*
 * The x86_ops of a vCPU under bt: access_ops with two additions. What the guest does to its
 * address translations is told to link.c; and the guest's vector state, which may still be in
 * the registers, is saved before code is called that may use them: devices, libc.
 */
#include "engine/access.h"
#include "engine/bt/bt.h"
#include "memory/tlb.h"

static struct bt *bt_of_cpu(struct x86_cpu *c)
{
    return bt_of(container_of(c, struct vcpu, cpu));
}

static void save(struct x86_cpu *c)
{
    vectors_save(bt_of_cpu(c));
}

/* -- Address translations ------------------------------------------------------------------ */

static void forget_page(struct x86_cpu *c, struct gva la)
{
    unsigned shift = stlb_page_shift(c, la);
    if (shift == 64)
        links_forget(bt_of_cpu(c), true);
    else
        links_forget_page(bt_of_cpu(c), la, shift);
}

static void ops_invlpg(struct x86_cpu *c, struct gva la)
{
    forget_page(c, la);
    access_ops.invlpg(c, la);
}

static void ops_invpcid(struct x86_cpu *c, u16 pcid, struct gva la)
{
    forget_page(c, la);
    access_ops.invpcid(c, pcid, la);
}

/* Flushes change the space of the current PCID where its translations are concerned. */
static void ops_flush(struct x86_cpu *c, enum x86_flush what, u16 pcid)
{
    u32 space = c->stlb.space;
    access_ops.flush(c, what, pcid);
    if (c->stlb.space != space)
        links_forget(bt_of_cpu(c), what == FLUSH_ALL);
}

static void ops_cr3_loaded(struct x86_cpu *c, bool keep)
{
    u32 space = c->stlb.space;
    access_ops.cr3_loaded(c, keep);
    if (c->stlb.space != space)
        links_forget(bt_of_cpu(c), false);
}

static void ops_paging_changed(struct x86_cpu *c)
{
    access_ops.paging_changed(c);
    links_forget(bt_of_cpu(c), true);
}

static void ops_debug_changed(struct x86_cpu *c)
{
    access_ops.debug_changed(c);
    breakpoints_update(bt_of_cpu(c));
}

/* -- The world outside --------------------------------------------------------------------- */

static void ops_read(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                     enum x86_privilege as)
{
    save(c);
    access_ops.read(c, la, buf, size, as);
}

static void ops_write(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                      enum x86_privilege as)
{
    save(c);
    access_ops.write(c, la, buf, size, as);
}

static void *ops_atomic(struct x86_cpu *c, struct gva la, unsigned size)
{
    save(c);
    return access_ops.atomic(c, la, size);
}

static void ops_atomic_done(struct x86_cpu *c, struct gva la, unsigned size)
{
    save(c);
    access_ops.atomic_done(c, la, size);
}

static unsigned ops_fetch(struct x86_cpu *c, struct gva la, void *buf, unsigned size)
{
    save(c);
    return access_ops.fetch(c, la, buf, size);
}

static u32 ops_in(struct x86_cpu *c, u16 port, unsigned size)
{
    save(c);
    return access_ops.in(c, port, size);
}

static void ops_out(struct x86_cpu *c, u16 port, unsigned size, u32 value)
{
    save(c);
    access_ops.out(c, port, size, value);
}

static bool ops_rdmsr(struct x86_cpu *c, u32 index, u64 *value)
{
    save(c);
    return access_ops.rdmsr(c, index, value);
}

static bool ops_wrmsr(struct x86_cpu *c, u32 index, u64 value)
{
    save(c);
    return access_ops.wrmsr(c, index, value);
}

static u64 ops_read_cr8(struct x86_cpu *c)
{
    save(c);
    return access_ops.read_cr8(c);
}

static void ops_write_cr8(struct x86_cpu *c, u64 value)
{
    save(c);
    access_ops.write_cr8(c, value);
}

static bool ops_load_pdptes(struct x86_cpu *c, u64 cr3)
{
    save(c);
    return access_ops.load_pdptes(c, cr3);
}

static bool ops_native(struct x86_cpu *c, const void *code, void *mem)
{
    vectors_home(bt_of_cpu(c));
    return access_ops.native(c, code, mem);
}

static const void *ops_native_emit(struct x86_cpu *c, const void *bytes, unsigned size)
{
    save(c);
    return access_ops.native_emit(c, bytes, size);
}

static void ops_ferr(struct x86_cpu *c, bool level)
{
    save(c);
    access_ops.ferr(c, level);
}

static bool ops_hypercall(struct x86_cpu *c)
{
    save(c);
    return access_ops.hypercall(c);
}

void ops_make(struct x86_ops *ops)
{
    *ops = access_ops;
    ops->invlpg = ops_invlpg;
    ops->invpcid = ops_invpcid;
    ops->flush = ops_flush;
    ops->cr3_loaded = ops_cr3_loaded;
    ops->paging_changed = ops_paging_changed;
    ops->debug_changed = ops_debug_changed;
    ops->read = ops_read;
    ops->write = ops_write;
    ops->atomic = ops_atomic;
    ops->atomic_done = ops_atomic_done;
    ops->fetch = ops_fetch;
    ops->in = ops_in;
    ops->out = ops_out;
    ops->rdmsr = ops_rdmsr;
    ops->wrmsr = ops_wrmsr;
    ops->read_cr8 = ops_read_cr8;
    ops->write_cr8 = ops_write_cr8;
    ops->load_pdptes = ops_load_pdptes;
    ops->native = ops_native;
    ops->native_emit = ops_native_emit;
    ops->ferr = ops_ferr;
    ops->hypercall = ops_hypercall;
}
