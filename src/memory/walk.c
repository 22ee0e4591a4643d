/* The page-table walk, see walk.h. */
#include "memory/walk.h"

#include "x86/model.h"

/* One level of a paging mode: where its index lies and which sizes its leaves may have. */
struct level {
    u8 shift;      /* lowest address bit of the index */
    u8 index_bits; /* 9, or 10 in 32-bit paging */
};

static const struct level levels_32[] = {{22, 10}, {12, 10}};
static const struct level levels_pae[] = {{21, 9}, {12, 9}};
static const struct level levels_4[] = {{39, 9}, {30, 9}, {21, 9}, {12, 9}};

struct mode {
    const struct level *levels;
    unsigned n;
    unsigned entry_size;
    u64 root; /* gpa of the first table */
};

/* Bits that must be zero in an entry of 8 bytes. */
static u64 reserved_bits(const struct x86_cpu *c, const struct mode *mode, unsigned shift,
                         bool leaf)
{
    u64 reserved = bits_low(52) & ~bits_low(c->model->phys_bits);
    if (!(c->efer & EFER_NXE))
        reserved |= PTE_NX;
    /* PAE without long mode has no ignored bits 62:52 (SDM table 4-9..4-11). */
    if (mode->levels == levels_pae)
        reserved |= bits_low(63) & ~bits_low(52);
    if (leaf && shift > PAGE_SHIFT)
        reserved |= bits_low(shift) & ~bits_low(13);
    if (!leaf && shift == 39)
        reserved |= PTE_PS;
    if (!leaf && shift == 30 && !x86_has(c->model, FEAT_PDPE1GB))
        reserved |= PTE_PS;
    return reserved;
}

static bool has_reserved(const struct x86_cpu *c, const struct mode *mode, u64 entry,
                         unsigned shift, bool leaf)
{
    if (mode->entry_size == 8)
        return entry & reserved_bits(c, mode, shift, leaf);
    /* A 4 MiB page: bit 21 is reserved, 20:13 are address bits 39:32 (PSE-36, SDM table
     * 4-4). */
    return leaf && shift == 22 && (entry & BIT(21));
}

static bool is_leaf(const struct x86_cpu *c, const struct mode *mode, u64 entry, unsigned shift)
{
    if (shift == PAGE_SHIFT)
        return true;
    if (!(entry & PTE_PS))
        return false;
    switch (shift) {
    case 21:
        return true;
    case 22:
        return c->cr4 & CR4_PSE;
    case 30:
        return x86_has(c->model, FEAT_PDPE1GB);
    default:
        return false;
    }
}

static u64 entry_address(u64 entry, unsigned entry_size, unsigned shift, bool leaf)
{
    if (entry_size == 4 && leaf && shift == 22)
        return bits(entry, 31, 22) << 22 | bits(entry, 20, 13) << 32;
    u64 address = entry & bits_low(52) & PAGE_MASK;
    return leaf ? align_down(address, BIT(shift)) : address;
}

/* Atomically sets bits in a page-table entry, if it still is what we read. */
static bool set_entry_bits(void *p, unsigned size, u64 old, u64 set)
{
    if (size == 8)
        return atomic_compare_exchange_strong((_Atomic u64 *)p, &old, old | set);
    u32 old32 = (u32)old;
    return atomic_compare_exchange_strong((_Atomic u32 *)p, &old32, (u32)(old | set));
}

static u64 load_entry(const void *p, unsigned size)
{
    if (size == 8)
        return atomic_load_explicit((const _Atomic u64 *)p, memory_order_relaxed);
    return atomic_load_explicit((const _Atomic u32 *)p, memory_order_relaxed);
}

/* The first table, or false when the PDPTE of PAE paging is not present. */
static bool choose_mode(const struct x86_cpu *c, struct gva la, struct mode *mode)
{
    if (c->efer & EFER_LMA) {
        *mode = (struct mode){levels_4, 4, 8, c->cr3 & bits_low(52) & PAGE_MASK};
    } else if (c->cr4 & CR4_PAE) {
        u64 pdpte = c->pdpte[bits(la.v, 31, 30)];
        *mode = (struct mode){levels_pae, 2, 8, pdpte & bits_low(52) & PAGE_MASK};
        return pdpte & PTE_P;
    } else {
        *mode = (struct mode){levels_32, 2, 4, c->cr3 & 0xfffff000};
    }
    return true;
}

bool walk_allows(const struct x86_cpu *c, const struct walk_result *page,
                 struct walk_access access)
{
    /* SMEP and SMAP are of paging (SDM vol. 3, 4.6): a kernel that wakes sets CR4 before. */
    if (!(c->cr0 & CR0_PG))
        return true;
    if (access.user && !page->user)
        return false;
    switch (access.access) {
    case ACCESS_EXEC:
        return page->executable && (access.user || !page->user || !(c->cr4 & CR4_SMEP));
    case ACCESS_WRITE:
        if (!page->writable && (access.user || (c->cr0 & CR0_WP)))
            return false;
        break;
    case ACCESS_READ:
        break;
    }
    return access.user || !page->user || access.smap_off || !(c->cr4 & CR4_SMAP);
}

static u32 error_code(const struct x86_cpu *c, struct walk_access access, u32 kind)
{
    u32 error = kind;
    if (access.access == ACCESS_WRITE)
        error |= PF_W;
    if (access.user)
        error |= PF_U;
    bool nx = (c->efer & EFER_NXE) && (c->cr4 & CR4_PAE);
    if (access.access == ACCESS_EXEC && (nx || (c->cr4 & CR4_SMEP)))
        error |= PF_I;
    return error;
}

static void unpaged(struct gva la, struct walk_result *out)
{
    *out = (struct walk_result){.gpa = gpa(la.v),
                                .page_shift = PAGE_SHIFT,
                                .user = true,
                                .writable = true,
                                .executable = true,
                                .dirty = true};
}

/* Where the entry for `la` of the table at `table` lies: *where its gpa; NULL outside RAM. */
static void *find_entry(struct pmap *pmap, const struct mode *mode, const struct level *level,
                        struct gva la, u64 table, u64 *where)
{
    u64 index = bits(la.v, level->shift + level->index_bits - 1, level->shift);
    *where = table + index * mode->entry_size;
    u8 *page = pmap_page(pmap, gpa_to_gfn(gpa(*where)));
    return page ? page + (*where & ~PAGE_MASK) : NULL;
}

enum step { STEP_DOWN, STEP_LEAF, STEP_FAULT, STEP_AGAIN };

/* One level: reads the entry, checks it, sets its A bit (and D of a leaf that is written). */
static enum step walk_step(struct x86_cpu *c, struct pmap *pmap, const struct mode *mode,
                           const struct level *level, struct gva la, struct walk_access access,
                           u64 *table, struct walk_result *out, u32 *error)
{
    u64 where;
    void *p = find_entry(pmap, mode, level, la, *table, &where);
    /* Outside RAM the bus answers all ones; a table there has every reserved bit set. */
    u64 entry = p ? load_entry(p, mode->entry_size) : bits_low(8 * mode->entry_size);
    if (!(entry & PTE_P)) {
        *error = error_code(c, access, 0);
        return STEP_FAULT;
    }
    bool leaf = is_leaf(c, mode, entry, level->shift);
    if (!p || has_reserved(c, mode, entry, level->shift, leaf)) {
        *error = error_code(c, access, PF_P | PF_RSVD);
        return STEP_FAULT;
    }
    out->user &= !!(entry & PTE_U);
    out->writable &= !!(entry & PTE_W);
    out->executable &= mode->entry_size == 4 || !(entry & PTE_NX);
    u64 set = PTE_A;
    if (leaf) {
        if (!walk_allows(c, out, access)) {
            *error = error_code(c, access, PF_P);
            return STEP_FAULT;
        }
        if (access.access == ACCESS_WRITE)
            set |= PTE_D;
        out->dirty = (entry | set) & PTE_D;
        out->global = (entry & PTE_G) && (c->cr4 & CR4_PGE);
        out->page_shift = level->shift;
        u64 base = entry_address(entry, mode->entry_size, level->shift, true);
        out->gpa = gpa(base | (la.v & bits_low(level->shift)));
    }
    if ((entry & set) != set) {
        /* Another processor changed it: read it again, as the hardware's locked update
         * would. */
        if (!set_entry_bits(p, mode->entry_size, entry, set))
            return STEP_AGAIN;
        pmap_set_flags(pmap, gpa_to_gfn(gpa(where)), PMAP_DIRTY, 0);
    }
    if (leaf)
        return STEP_LEAF;
    *table = entry_address(entry, mode->entry_size, level->shift, false);
    return STEP_DOWN;
}

bool walk(struct x86_cpu *c, struct pmap *pmap, struct gva la, struct walk_access access,
          struct walk_result *out, u32 *error)
{
    unpaged(la, out);
    if (!(c->cr0 & CR0_PG)) {
        out->gpa.v &= 0xffffffff;
        return true;
    }
    struct mode mode;
again:
    unpaged(la, out);
    if (!choose_mode(c, la, &mode)) {
        *error = error_code(c, access, 0);
        return false;
    }
    u64 table = mode.root;
    for (unsigned i = 0; i < mode.n; i++) {
        switch (walk_step(c, pmap, &mode, &mode.levels[i], la, access, &table, out, error)) {
        case STEP_DOWN:
            continue;
        case STEP_LEAF:
            return true;
        case STEP_FAULT:
            return false;
        case STEP_AGAIN:
            goto again;
        }
    }
    return false;
}

bool walk_peek(struct x86_cpu *c, struct pmap *pmap, struct gva la, struct gpa *out)
{
    if (!(c->cr0 & CR0_PG)) {
        *out = gpa(la.v & 0xffffffff);
        return true;
    }
    struct mode mode;
    if (!choose_mode(c, la, &mode))
        return false;
    u64 table = mode.root;
    for (unsigned i = 0; i < mode.n; i++) {
        const struct level *level = &mode.levels[i];
        u64 where;
        const void *p = find_entry(pmap, &mode, level, la, table, &where);
        u64 entry = p ? load_entry(p, mode.entry_size) : 0;
        if (!(entry & PTE_P))
            return false;
        bool leaf = is_leaf(c, &mode, entry, level->shift);
        table = entry_address(entry, mode.entry_size, level->shift, leaf);
        if (leaf) {
            *out = gpa(table | (la.v & bits_low(level->shift)));
            return true;
        }
    }
    return false;
}
