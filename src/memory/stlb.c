/* The second level of the software TLB, see stlb.h. */
#include "memory/stlb.h"

#define PAGE_BITS  36
#define MAX_SPACES (1u << 27)

#define DATA_USER          BIT(0)
#define DATA_WRITE         BIT(1)
#define DATA_EXEC          BIT(2)
#define DATA_GLOBAL        BIT(3)
#define DATA_DIRTY         BIT(4)
#define DATA_SIZE(n)       ((u64)(n) << 5) /* bits 6:5: which of `shifts` */
#define DATA_SIZE_OF(data) ((data) >> 5 & 3)

static const u8 shifts[] = {12, 21, 22, 30};

/* -- Large pages --------------------------------------------------------------------------- */

static unsigned region_shift(const struct x86_cpu *c)
{
    return c->cr4 & CR4_PAE ? 21 : 22;
}

/* Where `regions` has the bit of the region of `la`. */
static unsigned region_of(const struct x86_cpu *c, struct gva la)
{
    u64 region = la.v >> region_shift(c);
    return (region ^ region >> 14) % STLB_REGIONS;
}

static bool may_be_large(const struct x86_cpu *c, struct gva la)
{
    unsigned region = region_of(c, la);
    return c->stlb.regions[region / 64] & BIT(region % 64);
}

unsigned stlb_page_shift(const struct x86_cpu *c, struct gva la)
{
    unsigned half = la.v >> 63;
    if (la.v >= c->stlb.huge[half].first && la.v <= c->stlb.huge[half].last)
        return 64;
    return may_be_large(c, la) ? region_shift(c) : PAGE_SHIFT;
}

static void note_large(struct x86_cpu *c, struct gva la, unsigned shift)
{
    unsigned region = region_of(c, la), half = la.v >> 63;
    c->stlb.regions[region / 64] |= BIT(region % 64);
    if (shift == region_shift(c))
        return;
    u64 first = align_down(la.v, BIT(shift)), last = first | bits_low(shift);
    if (first < c->stlb.huge[half].first)
        c->stlb.huge[half].first = first;
    if (last > c->stlb.huge[half].last)
        c->stlb.huge[half].last = last;
}

void stlb_forget_large(struct x86_cpu *c)
{
    for (unsigned i = 0; i < ARRAY_LEN(c->stlb.regions); i++)
        c->stlb.regions[i] = 0;
    for (unsigned half = 0; half < 2; half++) {
        c->stlb.huge[half].first = UINT64_MAX;
        c->stlb.huge[half].last = 0;
    }
}

/* -- Entries ------------------------------------------------------------------------------- */

/* Where the translation of the 2^shift bytes around `la` may be: PAGE_SHIFT, or a region's. */
struct place {
    unsigned set;
    u64 tag;
};

/* Programs lie at the same addresses in many spaces; the upper half is the kernel's in all. */
static struct place place_of(u64 la, unsigned shift, u32 space)
{
    u64 number = bits(la, PAGE_SHIFT + PAGE_BITS - 1, shift);
    u64 mix = la >> 63 ? 0 : space * 0x9e3779b1u >> 8;
    u64 kind = (u64)(shift != PAGE_SHIFT) << PAGE_BITS;
    return (struct place){
        .set = (unsigned)((number ^ number >> 10 ^ mix) % STLB_SETS),
        .tag = number | kind | (u64)space << (PAGE_BITS + 1),
    };
}

static bool find_in(const struct x86_stlb *s, u64 la, unsigned shift, u32 space, u64 *data)
{
    struct place at = place_of(la, shift, space);
    for (unsigned way = 0; way < STLB_WAYS; way++) {
        if (s->set[at.set].tag[way] == at.tag) {
            *data = s->set[at.set].data[way];
            return true;
        }
    }
    return false;
}

static bool find(const struct x86_stlb *s, u64 la, unsigned shift, u64 *data)
{
    return find_in(s, la, shift, s->space, data) ||
           find_in(s, la, shift, s->global_space, data);
}

bool stlb_find(const struct x86_cpu *c, struct gva la, struct walk_result *out)
{
    u64 data;
    bool large = may_be_large(c, la) && find(&c->stlb, la.v, region_shift(c), &data);
    if (!large && !find(&c->stlb, la.v, PAGE_SHIFT, &data))
        return false;
    unsigned shift = large ? region_shift(c) : PAGE_SHIFT;
    *out = (struct walk_result){
        .gpa = gpa((data & PAGE_MASK) | (la.v & bits_low(shift))),
        .page_shift = shifts[DATA_SIZE_OF(data)],
        .user = data & DATA_USER,
        .writable = data & DATA_WRITE,
        .executable = data & DATA_EXEC,
        .global = data & DATA_GLOBAL,
        .dirty = data & DATA_DIRTY,
    };
    return true;
}

static u64 data_of(const struct walk_result *page, unsigned shift)
{
    unsigned size = 0;
    while (shifts[size] != page->page_shift)
        size++;
    return align_down(page->gpa.v, BIT(shift)) | DATA_SIZE(size) |
           (page->user ? DATA_USER : 0) | (page->writable ? DATA_WRITE : 0) |
           (page->executable ? DATA_EXEC : 0) | (page->global ? DATA_GLOBAL : 0) |
           (page->dirty ? DATA_DIRTY : 0);
}

static void clear_in(struct x86_stlb *s, u64 la, unsigned shift, u32 space)
{
    struct place at = place_of(la, shift, space);
    for (unsigned way = 0; way < STLB_WAYS; way++) {
        if (s->set[at.set].tag[way] == at.tag)
            s->set[at.set].tag[way] = 0;
    }
}

/* Both kinds: what was a large page may be small ones now, or the other way round. */
static void clear(struct x86_cpu *c, struct gva la, u32 space)
{
    clear_in(&c->stlb, la.v, PAGE_SHIFT, space);
    if (may_be_large(c, la))
        clear_in(&c->stlb, la.v, region_shift(c), space);
}

void stlb_enter(struct x86_cpu *c, struct gva la, const struct walk_result *page)
{
    struct x86_stlb *s = &c->stlb;
    unsigned shift = PAGE_SHIFT;
    if (page->page_shift > PAGE_SHIFT) {
        shift = region_shift(c);
        note_large(c, la, page->page_shift);
    }
    /* One translation at most: an old one of another kind would be found first, or later. */
    clear(c, la, s->space);
    clear(c, la, s->global_space);
    struct place at = place_of(la.v, shift, page->global ? s->global_space : s->space);
    unsigned way = 0;
    while (way < STLB_WAYS && s->set[at.set].tag[way])
        way++;
    if (way == STLB_WAYS)
        way = s->next_way++ % STLB_WAYS;
    s->set[at.set].tag[way] = at.tag;
    s->set[at.set].data[way] = data_of(page, shift);
}

/* -- Spaces -------------------------------------------------------------------------------- */

static void start_over(struct x86_stlb *s)
{
    for (unsigned set = 0; set < STLB_SETS; set++) {
        for (unsigned way = 0; way < STLB_WAYS; way++)
            s->set[set].tag[way] = 0;
    }
    for (unsigned pcid = 0; pcid < ARRAY_LEN(s->space_of); pcid++)
        s->space_of[pcid] = 0;
    s->oldest_space = s->last_space = s->global_space = 1;
}

static u32 new_space(struct x86_stlb *s)
{
    if (s->last_space + 2 >= MAX_SPACES)
        start_over(s);
    return ++s->last_space;
}

void stlb_choose(struct x86_cpu *c)
{
    struct x86_stlb *s = &c->stlb;
    u32 *space = &s->space_of[stlb_pcid(c)];
    if (*space < s->oldest_space)
        *space = new_space(s);
    s->space = *space;
}

void stlb_forget_page(struct x86_cpu *c, struct gva la, u16 pcid, bool global)
{
    if (c->stlb.space_of[pcid] >= c->stlb.oldest_space)
        clear(c, la, c->stlb.space_of[pcid]);
    if (global)
        clear(c, la, c->stlb.global_space);
}

void stlb_forget_pcid(struct x86_cpu *c, u16 pcid)
{
    c->stlb.space_of[pcid] = 0;
    stlb_choose(c);
}

void stlb_forget_local(struct x86_cpu *c)
{
    c->stlb.oldest_space = new_space(&c->stlb);
    stlb_choose(c);
}

void stlb_forget_all(struct x86_cpu *c)
{
    c->stlb.global_space = new_space(&c->stlb);
    stlb_forget_local(c);
}
