/*
 * The slow and the atomic ways to operate on memory.
 *
 * LOCK forms compare and exchange on the host address of the guest's RAM, so they are atomic
 * among vCPUs, devices and engines alike. What has no host address (MMIO) or crosses a page
 * goes under the machine's one bus lock, which excludes only other such accesses.
 */
#include "x86/operand.h"

u64 rmw_load_slow(struct x86_cpu *c, struct rmw *m, enum x86_seg_reg seg, u64 offset,
                  unsigned n)
{
    u64 value = 0;
    m->la = x86_linear(c, seg, offset, n, ACCESS_WRITE);
    m->host = x86_tlb_write(c, m->la, n);
    if (m->host)
        return host_load(m->host, n);
    c->ops->probe(c, m->la, n, ACCESS_WRITE, AS_CPL);
    c->ops->read(c, m->la, &value, n, AS_CPL);
    return value;
}

void rmw_store_slow(struct x86_cpu *c, const struct rmw *m, unsigned n, u64 value)
{
    c->ops->write(c, m->la, &value, n, AS_CPL);
}

/*
 * The Boolean of the host's LOCK CMPXCHG on `p`, which need not be aligned: the guest's operand
 * may be anywhere, and splits are as atomic as on the processor itself. (__atomic builtins may
 * assume alignment.)
 */
#define HOST_CMPXCHG(type, m)                                                                  \
    {                                                                                          \
        type old, new;                                                                         \
        memcpy(&old, expected, sizeof(old));                                                   \
        memcpy(&new, desired, sizeof(new));                                                    \
        __asm__ volatile("lock cmpxchg %" m "3, %1"                                            \
                         : "+a"(old), "+m"(*(type *)p), "=@ccz"(done)                          \
                         : "r"(new)                                                            \
                         : "memory", "cc");                                                    \
        memcpy(expected, &old, sizeof(old));                                                   \
        break;                                                                                 \
    }

static bool host_cmpxchg16(void *p, void *expected, const void *desired)
{
    u64 old[2], new[2];
    bool done;
    memcpy(old, expected, 16);
    memcpy(new, desired, 16);
    __asm__ volatile("lock cmpxchg16b %2"
                     : "+a"(old[0]), "+d"(old[1]), "+m"(*(u128 *)p), "=@ccz"(done)
                     : "b"(new[0]), "c"(new[1])
                     : "memory", "cc");
    memcpy(expected, old, 16);
    return done;
}

/* 1 to 8 bytes. */
static bool host_cmpxchg(void *p, unsigned n, void *expected, const void *desired)
{
    bool done;
    switch (n) {
    case 1:
        HOST_CMPXCHG(u8, "b")
    case 2:
        HOST_CMPXCHG(u16_anywhere, "w")
    case 4:
        HOST_CMPXCHG(u32_anywhere, "k")
    default:
        HOST_CMPXCHG(u64_anywhere, "q")
    }
    return done;
}

/* Where a LOCK form's bytes are in the host, or NULL; `direct`: through the TLB, nothing to be
 * told afterwards. */
static void *locked_host(struct x86_cpu *c, struct gva la, unsigned n, bool *direct)
{
    void *p = x86_tlb_write(c, la, n);
    *direct = p != NULL;
    return p ? p : c->ops->atomic(c, la, n);
}

/* Runs under the bus lock; a fault in the middle (another vCPU may have changed the page tables
 * since the check) must release it. */
static void bus_locked(struct x86_cpu *c, void (*access)(struct x86_cpu *c, void *arg),
                       void *arg)
{
    jmp_buf *const outer = c->unwind;
    jmp_buf here;
    c->ops->lock_begin(c);
    if (setjmp(here) == 0) {
        c->unwind = &here;
        access(c, arg);
        c->unwind = outer;
        c->ops->lock_end(c);
        return;
    }
    c->unwind = outer;
    c->ops->lock_end(c);
    longjmp(*outer, 1);
}

struct bus_exchange {
    struct gva la;
    unsigned n;
    void *expected;
    const void *desired;
    bool done;
};

static void bus_exchange(struct x86_cpu *c, void *arg)
{
    struct bus_exchange *x = arg;
    u8 found[16];
    c->ops->read(c, x->la, found, x->n, AS_CPL);
    x->done = memcmp(found, x->expected, x->n) == 0;
    /* The processor writes in any case (SDM vol. 2, CMPXCHG). */
    c->ops->write(c, x->la, x->done ? x->desired : found, x->n, AS_CPL);
    memcpy(x->expected, found, x->n);
}

bool rmw_compare_exchange(struct x86_cpu *c, struct gva la, unsigned n, void *expected,
                          const void *desired)
{
    bool direct;
    void *p = locked_host(c, la, n, &direct);
    if (p) {
        bool done = n == 16 ? host_cmpxchg16(p, expected, desired)
                            : host_cmpxchg(p, n, expected, desired);
        if (!direct)
            c->ops->atomic_done(c, la, n);
        return done;
    }
    struct bus_exchange x = {.la = la, .n = n, .expected = expected, .desired = desired};
    bus_locked(c, bus_exchange, &x);
    return x.done;
}

struct bus_modify {
    struct gva la;
    unsigned n;
    alu_function *op;
    u64 old, b, flags;
};

static void bus_modify(struct x86_cpu *c, void *arg)
{
    struct bus_modify *x = arg;
    c->ops->read(c, x->la, &x->old, x->n, AS_CPL);
    u64 new = x->op(x->old, x->b, x->n, &x->flags);
    c->ops->write(c, x->la, &new, x->n, AS_CPL);
}

u64 rmw_locked(struct x86_cpu *c, struct gva la, unsigned n, alu_function *op, u64 b)
{
    bool direct;
    void *p = locked_host(c, la, n, &direct);
    if (!p) {
        struct bus_modify x = {.la = la, .n = n, .op = op, .b = b, .flags = c->rflags};
        bus_locked(c, bus_modify, &x);
        c->rflags = x.flags;
        return x.old;
    }
    u64 old = host_load(p, n), new, flags;
    do {
        flags = c->rflags;
        new = op(old, b, n, &flags);
    } while (!host_cmpxchg(p, n, &old, &new));
    if (!direct)
        c->ops->atomic_done(c, la, n);
    c->rflags = flags;
    return old;
}
