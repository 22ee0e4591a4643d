/* The second level of the software TLB, see stlb.h. */
#include "memory/stlb.h"

#define PAGE_BITS  36
#define MAX_SPACES (1u << 28)

#define DATA_USER          BIT(0)
#define DATA_WRITE         BIT(1)
#define DATA_EXEC          BIT(2)
#define DATA_GLOBAL        BIT(3)
#define DATA_DIRTY         BIT(4)
#define DATA_SIZE(n)       ((u64)(n) << 5) /* bits 6:5: which of `shifts` */
#define DATA_SIZE_OF(data) ((data) >> 5 & 3)

static const u8 shifts[] = {12, 21, 22, 30};

static u64 tag_of(u64 la, u32 space)
{
    return bits(la, PAGE_SHIFT + PAGE_BITS - 1, PAGE_SHIFT) | (u64)space << PAGE_BITS;
}

/* Programs lie at the same addresses in many spaces; the upper half is the kernel's in all. */
static unsigned set_of(u64 la, u32 space)
{
    u64 page = la >> PAGE_SHIFT;
    u64 mix = la >> 63 ? 0 : space * 0x9e3779b1u >> 8;
    return (unsigned)((page ^ page >> 10 ^ mix) % STLB_SETS);
}

/* -- Entries ------------------------------------------------------------------------------- */

static bool find_in(const struct x86_stlb *s, u64 la, u32 space, u64 *data)
{
    unsigned set = set_of(la, space);
    u64 tag = tag_of(la, space);
    for (unsigned way = 0; way < STLB_WAYS; way++) {
        if (s->set[set].tag[way] == tag) {
            *data = s->set[set].data[way];
            return true;
        }
    }
    return false;
}

bool stlb_find(const struct x86_cpu *c, struct gva la, struct walk_result *out)
{
    const struct x86_stlb *s = &c->stlb;
    u64 data;
    if (!find_in(s, la.v, s->space, &data) && !find_in(s, la.v, s->global_space, &data))
        return false;
    *out = (struct walk_result){
        .gpa = gpa((data & PAGE_MASK) | (la.v & ~PAGE_MASK)),
        .page_shift = shifts[DATA_SIZE_OF(data)],
        .user = data & DATA_USER,
        .writable = data & DATA_WRITE,
        .executable = data & DATA_EXEC,
        .global = data & DATA_GLOBAL,
        .dirty = data & DATA_DIRTY,
    };
    return true;
}

static u64 data_of(const struct walk_result *page)
{
    unsigned size = 0;
    while (shifts[size] != page->page_shift)
        size++;
    return (page->gpa.v & PAGE_MASK) | DATA_SIZE(size) | (page->user ? DATA_USER : 0) |
           (page->writable ? DATA_WRITE : 0) | (page->executable ? DATA_EXEC : 0) |
           (page->global ? DATA_GLOBAL : 0) | (page->dirty ? DATA_DIRTY : 0);
}

static void clear(struct x86_stlb *s, u64 la, u32 space)
{
    unsigned set = set_of(la, space);
    u64 tag = tag_of(la, space);
    for (unsigned way = 0; way < STLB_WAYS; way++) {
        if (s->set[set].tag[way] == tag)
            s->set[set].tag[way] = 0;
    }
}

void stlb_enter(struct x86_cpu *c, struct gva la, const struct walk_result *page)
{
    struct x86_stlb *s = &c->stlb;
    /* One translation at most: an old one of the other kind would be found first, or later. */
    clear(s, la.v, s->space);
    clear(s, la.v, s->global_space);
    u32 space = page->global ? s->global_space : s->space;
    unsigned set = set_of(la.v, space), way = 0;
    while (way < STLB_WAYS && s->set[set].tag[way])
        way++;
    if (way == STLB_WAYS)
        way = s->next_way++ % STLB_WAYS;
    s->set[set].tag[way] = tag_of(la.v, space);
    s->set[set].data[way] = data_of(page);
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
    struct x86_stlb *s = &c->stlb;
    if (s->space_of[pcid] >= s->oldest_space)
        clear(s, la.v, s->space_of[pcid]);
    if (global)
        clear(s, la.v, s->global_space);
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
