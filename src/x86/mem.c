/*
 * Guest memory and near control flow, the parts of mem.h that need no inlining.
 */
#include "x86/mem.h"

u64 x86_load_slow(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size)
{
    return x86_load_linear(c, x86_linear(c, seg, offset, size, ACCESS_READ), size);
}

void x86_store_slow(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, unsigned size,
                    u64 value)
{
    x86_store_linear(c, x86_linear(c, seg, offset, size, ACCESS_WRITE), size, value);
}

void x86_load_bytes(struct x86_cpu *c, enum x86_seg_reg seg, u64 offset, void *buf,
                    unsigned size)
{
    struct gva la = x86_linear(c, seg, offset, size, ACCESS_READ);
    const void *p = x86_tlb_read(c, la, size);
    if (likely(p))
        memcpy(buf, p, size);
    else
        c->ops->read(c, la, buf, size, AS_CPL);
}
