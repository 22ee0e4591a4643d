/* Breakpoints of the debug registers, see debug.h. */
#include "x86/debug.h"

enum x86_break x86_breakpoint(const struct x86_cpu *c, unsigned n)
{
    bool enabled = (c->dr7 >> (2 * n)) & 3;
    return enabled ? (c->dr7 >> (16 + 4 * n)) & 3 : BREAK_NONE;
}

/* Whether `size` bytes at `address` overlap breakpoint n, aligned to its own length. */
static bool overlaps(const struct x86_cpu *c, unsigned n, u64 address, unsigned size)
{
    static const u8 lengths[] = {1, 2, 8, 4};
    u64 length = lengths[(c->dr7 >> (18 + 4 * n)) & 3];
    u64 first = align_down(c->dr[n], length);
    return address < first + length && first < address + size;
}

/* Is breakpoint n for data accessed that way? */
static bool watches(const struct x86_cpu *c, unsigned n, enum x86_access access)
{
    enum x86_break what = x86_breakpoint(c, n);
    return (what == BREAK_ACCESS && access != ACCESS_EXEC) ||
           (what == BREAK_WRITE && access == ACCESS_WRITE);
}

u64 x86_insn_breakpoints(const struct x86_cpu *c, struct gva la)
{
    u64 hits = 0;
    for (unsigned n = 0; n < 4; n++)
        if (x86_breakpoint(c, n) == BREAK_EXEC && c->dr[n] == la.v)
            hits |= BIT(n);
    return hits;
}

static void note_hits(struct x86_cpu *c, u64 hits)
{
    if (!hits)
        return;
    c->pending_db |= hits;
    x86_attend(c);
}

void x86_data_breakpoints(struct x86_cpu *c, struct gva la, unsigned size,
                          enum x86_access access)
{
    u64 hits = 0;
    if (likely(!x86_breakpoints_on(c)))
        return;
    for (unsigned n = 0; n < 4; n++)
        if (watches(c, n, access) && overlaps(c, n, la.v, size))
            hits |= BIT(n);
    note_hits(c, hits);
}

void x86_io_breakpoints(struct x86_cpu *c, u16 port, unsigned size)
{
    u64 hits = 0;
    if (likely(!x86_breakpoints_on(c)) || !(c->cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++)
        if (x86_breakpoint(c, n) == BREAK_IO && overlaps(c, n, port, size))
            hits |= BIT(n);
    note_hits(c, hits);
}

unsigned x86_breakpoint_kinds(const struct x86_cpu *c)
{
    unsigned kinds = 0;
    for (unsigned n = 0; n < 4; n++)
        kinds |= 1u << x86_breakpoint(c, n);
    return kinds & ~(1u << BREAK_NONE);
}

bool x86_breakpoint_in_page(const struct x86_cpu *c, struct gva la, enum x86_access access)
{
    for (unsigned n = 0; n < 4; n++)
        if (watches(c, n, access) && !((c->dr[n] ^ la.v) & PAGE_MASK))
            return true;
    return false;
}

void x86_debug_changed(struct x86_cpu *c)
{
    x86_derive(c);
    if (c->ops && c->ops->debug_changed)
        c->ops->debug_changed(c);
}
