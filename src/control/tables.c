/*
 * The guest's page tables as text: `info tlb` page by page, `info mem` as ranges of like
 * rights. Tables may be a guest's nonsense, such as one that contains itself: what is looked at
 * is bounded.
 */
#include <inttypes.h>

#include "control/inspect.h"
#include "platform/ram.h"

#define MAX_ENTRIES (4u << 20) /* looked at */
#define MAX_LINES   65536

/* A paging mode, from the root: where each level's index lies, and its width in bits. */
struct shape {
    unsigned levels;
    unsigned entry_size;
    struct {
        u8 shift, bits;
    } level[4];
};

static const struct shape shape_4 = {4, 8, {{39, 9}, {30, 9}, {21, 9}, {12, 9}}};
static const struct shape shape_pae = {3, 8, {{30, 2}, {21, 9}, {12, 9}}};
static const struct shape shape_32 = {2, 4, {{22, 10}, {12, 10}}};

struct leaf {
    u64 la, size, pa;
    u64 entry;
    u64 rights; /* U and W of all levels together */
};

struct look {
    struct vcpu *vcpu;
    const struct shape *shape;
    FILE *out;
    void (*leaf)(struct look *look, const struct leaf *leaf);
    unsigned entries, lines;
    struct leaf range; /* of inspect_ranges; size 0: none yet */
};

static u64 canonical(const struct look *look, u64 la)
{
    return look->shape == &shape_4 ? (u64)((s64)(la << 16) >> 16) : la;
}

static bool has_large(const struct look *look, u64 entry, unsigned shift)
{
    bool pdpte = look->shape == &shape_pae && shift == 30;
    bool pse = look->shape != &shape_32 || look->vcpu->cpu.cr4 & CR4_PSE;
    return entry & PTE_PS && shift > PAGE_SHIFT && shift < 39 && !pdpte && pse;
}

static u64 address(const struct look *look, u64 entry, unsigned shift)
{
    u64 low = entry & bits_low(52) & ~bits_low(shift);
    /* PSE-36: bits 39:32 of a 4 MiB page's address (SDM table 4-4). */
    return look->shape == &shape_32 && shift == 22 ? low | (entry >> 13 & 0xff) << 32 : low;
}

static void walk_table(struct look *look, unsigned level, u64 table, u64 la, u64 rights)
{
    const struct shape *shape = look->shape;
    unsigned shift = shape->level[level].shift;
    unsigned size = shape->entry_size;
    u64 words[PAGE_SIZE / sizeof(u64)];
    u64 n = 1ull << shape->level[level].bits;
    if (!ram_read(look->vcpu->board, gpa(table), words, n * size))
        return;
    for (u64 i = 0; i < n && look->entries < MAX_ENTRIES && look->lines < MAX_LINES; i++) {
        u64 entry = size == 8 ? words[i] : ((const u32 *)words)[i];
        u64 at = la | i << shift;
        /* PAE's first level has no rights of its own. */
        bool pdpte = shape == &shape_pae && !level;
        u64 both = pdpte ? rights : rights & entry;
        look->entries++;
        if (!(entry & PTE_P))
            continue;
        if (shift == PAGE_SHIFT || has_large(look, entry, shift)) {
            const struct leaf leaf = {.la = canonical(look, at),
                                      .size = 1ull << shift,
                                      .pa = address(look, entry, shift),
                                      .entry = entry,
                                      .rights = both};
            look->leaf(look, &leaf);
        } else {
            walk_table(look, level + 1, address(look, entry, PAGE_SHIFT), at, both);
        }
    }
}

static void walk_all(struct look *look)
{
    const struct x86_cpu *c = &look->vcpu->cpu;
    if (!(c->cr0 & CR0_PG)) {
        fputs("PG disabled\n", look->out);
        return;
    }
    look->shape = x86_long_mode(c) ? &shape_4 : c->cr4 & CR4_PAE ? &shape_pae : &shape_32;
    u64 root = c->cr3 & bits_low(52) & ~bits_low(look->shape == &shape_pae ? 5 : 12);
    walk_table(look, 0, root, 0, PTE_U | PTE_W);
    if (look->entries >= MAX_ENTRIES || look->lines >= MAX_LINES)
        fputs("(cut off)\n", look->out);
}

static void print_page(struct look *look, const struct leaf *leaf)
{
    static const struct {
        u64 bit;
        char letter;
    } flags[] = {{PTE_NX, 'X'},  {PTE_G, 'G'},   {PTE_PS, 'P'}, {PTE_D, 'D'}, {PTE_A, 'A'},
                 {PTE_PCD, 'C'}, {PTE_PWT, 'T'}, {PTE_U, 'U'},  {PTE_W, 'W'}};
    fprintf(look->out, "%016" PRIx64 ": %016" PRIx64 " ", leaf->la, leaf->pa);
    for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
        bool pat = flags[i].bit == PTE_PS && leaf->size == PAGE_SIZE; /* the bit is PAT's */
        fputc(leaf->entry & flags[i].bit && !pat ? flags[i].letter : '-', look->out);
    }
    fputc('\n', look->out);
    look->lines++;
}

void inspect_pages(struct vcpu *vcpu, FILE *out)
{
    struct look look = {.vcpu = vcpu, .out = out, .leaf = print_page};
    walk_all(&look);
}

static void print_range(struct look *look)
{
    const struct leaf *range = &look->range;
    if (!range->size)
        return;
    fprintf(look->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", range->la,
            range->la + range->size, range->size, range->rights & PTE_U ? 'u' : '-',
            range->rights & PTE_W ? 'w' : '-');
    look->lines++;
}

static void add_to_range(struct look *look, const struct leaf *leaf)
{
    struct leaf *range = &look->range;
    if (range->size && range->la + range->size == leaf->la && range->rights == leaf->rights) {
        range->size += leaf->size;
        return;
    }
    print_range(look);
    *range = *leaf;
}

void inspect_ranges(struct vcpu *vcpu, FILE *out)
{
    struct look look = {.vcpu = vcpu, .out = out, .leaf = add_to_range};
    walk_all(&look);
    print_range(&look);
}
