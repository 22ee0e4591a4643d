/*
 * Instructions that lie on two pages belong to no TU: either page may be mapped or written anew
 * by itself. They are decoded once and run by the semantics of x86/; each time both pages are
 * looked up and the bytes compared, which makes watching them needless.
 */
#include "engine/bt/bt.h"

/* The code at `la` by the software TLB alone, or NULL. */
static const u8 *code_at(const struct x86_cpu *c, u64 la)
{
    const struct x86_tlb *tlb = &c->tlb[c->tlb_index];
    unsigned slot = tlb_slot(la);
    u64 offset = la ^ tlb->exec[slot];
    return offset < PAGE_SIZE ? (const u8 *)tlb->page[slot] + offset : NULL;
}

static u64 linear_rip(const struct x86_cpu *c)
{
    return c->code_size == 8 ? c->rip : (u32)(c->seg[SEG_CS].base + c->rip);
}

/* The bytes at RIP up to `size`, over the page's end; false: a page is not in the TLB. */
static bool read_bytes(const struct x86_cpu *c, u8 *bytes, unsigned size)
{
    u64 la = linear_rip(c);
    unsigned left = (unsigned)page_left(la);
    const u8 *first = code_at(c, la), *second = code_at(c, la + left);
    if (!first || !second)
        return false;
    for (unsigned i = 0; i < size; i++)
        bytes[i] = i < left ? first[i] : second[i - left];
    return true;
}

/* Close to the limit of CS it is left to the simulator. */
static bool may_cross(const struct x86_cpu *c)
{
    bool inside = c->code_size == 8 || c->rip + GUEST_BYTES <= c->seg[SEG_CS].limit;
    return inside && page_left(linear_rip(c)) < GUEST_BYTES;
}

static struct crossing_insn *slot_of(struct bt *bt)
{
    u64 rip = bt_cpu(bt)->rip;
    return &bt->crossings[(rip >> PAGE_SHIFT ^ rip >> 20) % CROSSING_INSNS];
}

struct x86_insn *crossing_find(struct bt *bt)
{
    const struct x86_cpu *c = bt_cpu(bt);
    struct crossing_insn *cached = slot_of(bt);
    u8 bytes[GUEST_BYTES];
    if (!may_cross(c) || !cached->length || cached->rip != bt_place(c) ||
        cached->code_size != c->code_size || !read_bytes(c, bytes, cached->length))
        return NULL;
    for (unsigned i = 0; i < cached->length; i++) {
        if (bytes[i] != cached->bytes[i])
            return NULL;
    }
    return &cached->insn;
}

void crossing_make(struct bt *bt)
{
    struct x86_cpu *c = bt_cpu(bt);
    struct crossing_insn *cached = slot_of(bt);
    struct guest_insn g;
    cached->length = 0;
    if (!may_cross(c) || !read_bytes(c, cached->bytes, GUEST_BYTES) ||
        !guest_decode(&bt->decoder, c->code_size, cached->bytes, GUEST_BYTES, c->rip, &g) ||
        g.length <= page_left(linear_rip(c)) || g.unit ||
        g.mnemonic == ZYDIS_MNEMONIC_INVPCID ||
        x86_decode(c, cached->bytes, g.length, c->code_size, &cached->insn) != DECODE_OK)
        return;
    cached->rip = bt_place(c);
    cached->code_size = c->code_size;
    cached->length = g.length;
}
