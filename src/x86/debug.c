/*
 * Breakpoints of the debug registers (SDM vol. 3, 17.2): which of DR0..DR3 an access meets.
 */
#include "x86/interrupt.h"

/* The R/W field of DR7. */
enum dr7_kind { DR7_EXEC, DR7_WRITE, DR7_IO, DR7_ACCESS };

static bool enabled(const struct x86_cpu *c, unsigned n)
{
    return (c->dr7 >> (2 * n)) & 3;
}

static enum dr7_kind kind(const struct x86_cpu *c, unsigned n)
{
    return (c->dr7 >> (16 + 4 * n)) & 3;
}

/* Whether `size` bytes at `address` overlap breakpoint n, aligned to its own length. */
static bool overlaps(const struct x86_cpu *c, unsigned n, u64 address, unsigned size)
{
    static const u8 lengths[] = {1, 2, 8, 4};
    u64 length = lengths[(c->dr7 >> (18 + 4 * n)) & 3];
    u64 first = align_down(c->dr[n], length);
    return address < first + length && first < address + size;
}

u64 x86_insn_breakpoints(const struct x86_cpu *c, struct gva la)
{
    u64 hits = 0;
    for (unsigned n = 0; n < 4; n++)
        if (enabled(c, n) && kind(c, n) == DR7_EXEC && c->dr[n] == la.v)
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
    if (likely(!(c->dr7 & 0xff)))
        return;
    for (unsigned n = 0; n < 4; n++) {
        enum dr7_kind k = kind(c, n);
        if (enabled(c, n) && (k == DR7_ACCESS || (k == DR7_WRITE && access == ACCESS_WRITE)) &&
            overlaps(c, n, la.v, size))
            hits |= BIT(n);
    }
    note_hits(c, hits);
}

void x86_io_breakpoints(struct x86_cpu *c, u16 port, unsigned size)
{
    u64 hits = 0;
    if (likely(!(c->dr7 & 0xff)) || !(c->cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++)
        if (enabled(c, n) && kind(c, n) == DR7_IO && overlaps(c, n, port, size))
            hits |= BIT(n);
    note_hits(c, hits);
}
