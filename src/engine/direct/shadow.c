/* Shadows of guest address spaces, see shadow.h. */
#include "engine/direct/shadow.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/ensure.h"
#include "engine/access.h"
#include "memory/walk.h"
#include "platform/vcpu.h"

#define ADDRESS_MASK (bits_low(52) & PAGE_MASK)

/* Runs of pages that fit the host's table of mappings (vm.max_map_count is 65530) with some to
 * spare. */
#define MAX_RUNS 60000

/* -- Regions ------------------------------------------------------------------------------- */

static unsigned slot_of(u64 va)
{
    u64 number = va >> REGION_SHIFT;
    return (unsigned)((number ^ number >> 10 ^ number >> 19) % SHADOW_SLOTS);
}

static struct region *find(const struct shadow *shadow, u64 va)
{
    u64 first = align_down(va, BIT(REGION_SHIFT));
    struct region *r = shadow->slot[slot_of(va)];
    while (r && r->va != first)
        r = r->next;
    return r;
}

static struct region *make(struct shadow *shadow, u64 va)
{
    struct region *r = calloc(1, sizeof(*r));
    ensure(r);
    struct region **slot = &shadow->slot[slot_of(va)];
    r->va = align_down(va, BIT(REGION_SHIFT));
    r->next = *slot;
    *slot = r;
    r->older = shadow->newest;
    if (r->older)
        r->older->newer = r;
    else
        shadow->oldest = r;
    shadow->newest = r;
    return r;
}

static void forget(struct shadow *shadow, struct region *r)
{
    struct region **link = &shadow->slot[slot_of(r->va)];
    while (*link != r)
        link = &(*link)->next;
    *link = r->next;
    if (r->older)
        r->older->newer = r->newer;
    else
        shadow->oldest = r->newer;
    if (r->newer)
        r->newer->older = r->older;
    else
        shadow->newest = r->older;
    shadow->pages -= r->mapped;
    shadow->runs -= r->runs;
    free(r);
}

void shadow_free(struct shadow *shadow)
{
    while (shadow->oldest)
        forget(shadow, shadow->oldest);
}

static u64 address_of(const struct region *r, unsigned page)
{
    return r->va + page * PAGE_SIZE;
}

/* -- Unmapping ----------------------------------------------------------------------------- */

/* Orders that find no room go at once; a mapper that does not answer is noticed by whoever runs
 * the cell next, for then the cell is dead. */
static void order_unmap(struct cell *cell, u64 va, u64 pages)
{
    if (!mapper_room(&cell->mapper) && mapper_run(&cell->mapper) < 0)
        cell->dead = true;
    mapper_unmap(&cell->mapper, va, pages);
}

static void drop_page(struct shadow *shadow, struct cell *cell, struct region *r, unsigned page)
{
    if (!r->rights[page])
        return;
    order_unmap(cell, address_of(r, page), 1);
    if (r->rights[page] & SHADOW_COPIED)
        annex_drop(&cell->annex);
    r->rights[page] = 0;
    r->mapped--;
    shadow->pages--;
    r->runs++; /* it may have been in the middle */
    shadow->runs++;
}

/* The host merges neighbours of equal rights whose places in the memory file continue, as those
 * of frames that continue do but for some ends of 2 MiB. */
static void count_runs(struct shadow *shadow, struct region *r)
{
    unsigned runs = 0;
    for (unsigned page = 0; page < REGION_PAGES; page++) {
        bool joins = page && r->rights[page] == r->rights[page - 1] &&
                     r->frame[page] == r->frame[page - 1] + 1;
        runs += r->rights[page] && !joins;
    }
    shadow->runs = shadow->runs - r->runs + runs;
    r->runs = (u16)runs;
}

/* All of a region but for the cell's own block, which may stand in it beside guest pages. */
static void order_unmap_region(struct cell *cell, u64 va)
{
    u64 base = cell->place.base, block = (base - va) >> PAGE_SHIFT;
    if (block >= REGION_PAGES) {
        u64 room = (CELL_TASK_END - va) >> PAGE_SHIFT; /* the last region has a page less */
        order_unmap(cell, va, room < REGION_PAGES ? room : REGION_PAGES);
        return;
    }
    u64 behind = block + CELL_PAGES;
    if (block)
        order_unmap(cell, va, block);
    if (behind < REGION_PAGES)
        order_unmap(cell, va + behind * PAGE_SIZE, REGION_PAGES - behind);
}

static void drop_region(struct shadow *shadow, struct cell *cell, struct region *r)
{
    order_unmap_region(cell, r->va);
    if (r->copied)
        annex_drop(&cell->annex);
    forget(shadow, r);
}

static bool is_large(const struct region *r)
{
    return (r->path[1] & PTE_PS) || (r->path[2] & PTE_PS);
}

void shadow_invalidate(struct shadow *shadow, struct shadow_world *w, struct cell *cell, u64 va)
{
    struct region *r = find(shadow, va);
    if (shadow->huge)
        shadow_compare(shadow, w, cell); /* it drops all fragments of a page of 1 GiB */
    else if (r && is_large(r))
        drop_region(shadow, cell, r);
    else if (r)
        drop_page(shadow, cell, r, (unsigned)(va >> PAGE_SHIFT) % REGION_PAGES);
}

/* A frame keeps its place in the memory file (pmap.h), so only its flags count. */
static bool is_allowed(const struct pmap *pmap, u64 frame, int rights)
{
    const u64 there = PMAP_PRESENT | PMAP_RAM;
    u64 flags = pmap_flags(pmap, gfn(frame));
    return (flags & there) == there && !(rights & PROT_WRITE && flags & (PMAP_ROM | PMAP_CODE));
}

void shadow_recheck(struct shadow *shadow, struct shadow_world *w, struct cell *cell)
{
    for (struct region *r = shadow->oldest; r; r = r->newer) {
        for (unsigned page = 0; page < REGION_PAGES; page++) {
            if (r->rights[page] && !is_allowed(w->pmap, r->frame[page], r->rights[page]))
                drop_page(shadow, cell, r, page);
        }
    }
}

void shadow_revoke(struct shadow *shadow, struct cell *cell, u64 frame, int rights)
{
    for (struct region *r = shadow->oldest; r; r = r->newer) {
        for (unsigned page = 0; page < REGION_PAGES; page++) {
            if (r->rights[page] & rights && r->frame[page] == frame)
                drop_page(shadow, cell, r, page);
        }
    }
}

/* -- Comparing ----------------------------------------------------------------------------- */

static const u64 *table_at(struct pmap *pmap, u64 address)
{
    return pmap_page(pmap, gpa_to_gfn(gpa(address & ADDRESS_MASK)));
}

static u64 load(const u64 *entry)
{
    return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

/* The entries above the page table of `va`; the page table, or NULL for a large page or
 * none. */
static const u64 *read_path(const struct shadow_world *w, u64 va, u64 path[3])
{
    static const u8 shifts[3] = {39, 30, 21};
    u64 table = w->cpu->cr3;
    path[0] = path[1] = path[2] = 0;
    for (unsigned i = 0; i < 3; i++) {
        const u64 *entries = table_at(w->pmap, table);
        path[i] = entries ? load(&entries[va >> shifts[i] & 511]) : 0;
        if (!(path[i] & PTE_P) || (i && path[i] & PTE_PS))
            return NULL;
        table = path[i];
    }
    return table_at(w->pmap, table);
}

/* Would a processor that walks now see something else than one that walked then? A and D that
 * were set since do not count; those cleared since must be set again by the next access. */
static bool differs(u64 then, u64 now)
{
    const u64 marks = PTE_A | PTE_D;
    return ((then ^ now) & ~marks) || (then & ~now & marks);
}

static bool path_differs(const u64 then[3], const u64 now[3])
{
    return differs(then[0], now[0]) || differs(then[1], now[1]) || differs(then[2], now[2]);
}

static void compare_region(struct shadow *shadow, struct shadow_world *w, struct cell *cell,
                           struct region *r)
{
    u64 path[3];
    const u64 *table = read_path(w, r->va, path);
    w->stats.compared++;
    if (path_differs(r->path, path)) {
        drop_region(shadow, cell, r);
        return;
    }
    u16 before = r->mapped;
    for (unsigned page = 0; table && page < REGION_PAGES; page++) {
        if (r->rights[page] && differs(r->entry[page], load(&table[page])))
            drop_page(shadow, cell, r, page);
    }
    if (r->mapped != before)
        count_runs(shadow, r);
}

u64 shadow_compare(struct shadow *shadow, struct shadow_world *w, struct cell *cell)
{
    u64 before = shadow->pages;
    for (struct region *r = shadow->oldest, *next; r; r = next) {
        next = r->newer;
        compare_region(shadow, w, cell, r);
    }
    w->stats.dropped += before - shadow->pages;
    return before - shadow->pages;
}

bool shadow_collides(const struct shadow_world *w, const struct cell *cell)
{
    u64 path[3], base = cell->place.base;
    const u64 *table = read_path(w, base, path);
    if (!table)
        return (path[1] & PTE_P && path[1] & PTE_PS) || (path[2] & PTE_P);
    for (unsigned page = 0; page < CELL_PAGES; page++) {
        if (load(&table[(base >> PAGE_SHIFT) % REGION_PAGES + page]) & PTE_P)
            return true;
    }
    return false;
}

/* -- Mapping ------------------------------------------------------------------------------- */

/* A page to be mapped. */
struct page {
    u64 entry;
    struct gfn frame;
    u64 offset; /* in the memory file */
    int rights;
};

/* The findings that matter to code at `va`. SYSCALL and SYSENTER in 32-bit code do not leave
 * the host's kernel where they were, so no state could be made of their stop. */
static u16 refused_findings(const struct shadow *shadow, const struct shadow_world *w, u64 va)
{
    u16 refused = BIT(FOUND_XGETBV) | BIT(FOUND_RDTSCP) | BIT(FOUND_VMMCALL) | BIT(FOUND_LSL) |
                  BIT(FOUND_LAR) | BIT(FOUND_XSAVE) | BIT(FOUND_HIDDEN);
    if (!w->faults_cpuid)
        refused |= BIT(FOUND_CPUID);
    if (w->cpu->tsc_offset)
        refused |= BIT(FOUND_RDTSC);
    if (shadow->narrow && va < NARROW_END)
        refused |= BIT(FOUND_SYSENTER);
    return refused;
}

/* The page at `va` if the cell may execute it. */
static const u8 *executable(const struct shadow *shadow, const struct shadow_world *w, u64 va)
{
    const struct region *r = find(shadow, va);
    unsigned number = (unsigned)(va >> PAGE_SHIFT) % REGION_PAGES;
    if (!r || !(r->rights[number] & PROT_EXEC))
        return NULL;
    return pmap_page(w->pmap, gfn(r->frame[number]));
}

/*
 * What lies across the two ends of a page of code. Only what the cell may execute on both sides
 * counts, and whichever side comes second is judged with the other: a page that is written or
 * mapped anew loses its right to execute first.
 */
static u16 find_across(const struct shadow *shadow, const struct shadow_world *w, u64 va,
                       const u8 *page)
{
    va &= PAGE_MASK;
    const u8 *before = executable(shadow, w, va - PAGE_SIZE);
    const u8 *behind = executable(shadow, w, va + PAGE_SIZE), *last = page + PAGE_SIZE - 2;
    u16 found = 0;
    if (before)
        found |= scan_joint(
            (const u8[]){before[PAGE_SIZE - 2], before[PAGE_SIZE - 1], page[0], page[1]});
    if (behind)
        found |= scan_joint((const u8[]){last[0], last[1], behind[0], behind[1]});
    return found;
}

static u16 findings_of(struct shadow_world *w, struct gfn frame)
{
    u16 found = w->findings[frame.v];
    if (!found) {
        access_watch_page(w->vcpu, frame); /* first: whoever writes from here on tells us */
        found = w->findings[frame.v] = scan_page(pmap_page(w->pmap, frame));
    }
    return found;
}

/* What speaks against executing the page. */
static u16 code_refused(const struct shadow *shadow, struct shadow_world *w, struct gfn frame,
                        u64 va)
{
    const u8 *page = pmap_page(w->pmap, frame);
    u16 found = findings_of(w, frame);
    return (found | find_across(shadow, w, va, page)) & refused_findings(shadow, w, va);
}

/* What the cell may do with the page that the walk found, beside what it asked for. */
static enum shadow_answer judge(const struct shadow *shadow, struct shadow_world *w,
                                const struct walk_result *found, u64 va, enum x86_access access,
                                struct page *page)
{
    page->frame = gpa_to_gfn(found->gpa);
    u64 flags = pmap_flags(w->pmap, page->frame);
    if (!(flags & PMAP_RAM))
        return SHADOW_STEP;
    page->offset = pmap_file_offset(w->pmap, pmap_page(w->pmap, page->frame));
    page->rights = PROT_READ;
    if (access == ACCESS_EXEC) {
        if (code_refused(shadow, w, page->frame, va))
            return SHADOW_CODE;
        page->rights |= PROT_EXEC;
        return SHADOW_MAPPED;
    }
    bool plain = !(flags & (PMAP_ROM | PMAP_CODE));
    if (access == ACCESS_WRITE && !plain)
        return SHADOW_STEP;
    if (plain && found->writable && found->dirty) {
        pmap_set_flags(w->pmap, page->frame, PMAP_DIRTY, 0);
        w->writable[page->frame.v / 64] |= BIT(page->frame.v % 64);
        page->rights |= PROT_WRITE;
    }
    return SHADOW_MAPPED;
}

/* A run of pages that one mapping can hold. */
struct run {
    u64 va, offset;
    unsigned pages;
    int rights;
};

static void order_run(struct cell *cell, struct run *run)
{
    if (run->pages)
        mapper_map(&cell->mapper, run->va, run->pages, run->offset, run->rights);
    run->pages = 0;
}

static void add_to_run(struct cell *cell, struct run *run, u64 va, const struct page *page)
{
    bool joins = run->pages && run->va + run->pages * PAGE_SIZE == va &&
                 run->offset + run->pages * PAGE_SIZE == page->offset &&
                 run->rights == page->rights;
    if (!joins) {
        order_run(cell, run);
        *run = (struct run){.va = va, .offset = page->offset, .rights = page->rights};
    }
    run->pages++;
}

static void note(struct shadow *shadow, struct region *r, unsigned number,
                 const struct page *page)
{
    if (!r->rights[number]) {
        r->mapped++;
        shadow->pages++;
    }
    r->rights[number] = (u8)(page->rights | (r->rights[number] & SHADOW_COPIED));
    r->entry[number] = page->entry;
    r->frame[number] = (u32)page->frame.v;
}

/* Of small pages: each may be an order of its own. A whole region, which is asked for often,
 * has as many as find room. */
#define MAX_WINDOW 128

/* The pages around a fault: more of them each time the region is asked for. A large page is one
 * run. */
static void choose_window(const struct region *r, unsigned number, enum x86_access access,
                          unsigned *first, unsigned *last)
{
    unsigned size = access == ACCESS_EXEC ? 8
                    : is_large(r)         ? (r->faults ? REGION_PAGES : 64)
                    : r->faults < 2       ? 16
                    : r->faults < 3       ? 64
                    : r->faults < 4       ? MAX_WINDOW
                                          : REGION_PAGES;
    *first = (unsigned)align_down(number, size);
    *last = *first + size;
}

static bool is_mapped(const struct region *r, unsigned page, enum x86_access access)
{
    static const u8 needs[] = {
        [ACCESS_READ] = PROT_READ, [ACCESS_WRITE] = PROT_WRITE, [ACCESS_EXEC] = PROT_EXEC};
    return r->rights[page] & needs[access];
}

/*
 * Walks for one page, and reads its entry in the table before and after: what another processor
 * changed in between makes `entry` one that differs from whatever stands there later.
 */
static bool look_up(struct shadow_world *w, const u64 *table, u64 va, enum x86_access access,
                    struct walk_result *found, u64 *entry)
{
    const struct walk_access as = {.access = access, .user = true};
    unsigned number = (unsigned)(va >> PAGE_SHIFT) % REGION_PAGES;
    u32 error;
    u64 before = table ? load(&table[number]) : 0;
    if (!walk(w->cpu, w->pmap, gva(va), as, found, &error))
        return false;
    *entry = table ? load(&table[number]) : 0;
    if ((*entry ^ before) & ~(PTE_A | PTE_D))
        *entry = 0;
    return true;
}

/* A page beside the one that faulted: only if nothing has to be changed or asked for it but its
 * A bit, which a processor may set by speculation. */
static bool is_worth(const struct shadow *shadow, struct shadow_world *w, struct region *r,
                     const u64 *table, unsigned page, enum x86_access access, struct page *out)
{
    struct walk_result found;
    if (r->rights[page] || (table && !(load(&table[page]) & PTE_P)))
        return false;
    access = access == ACCESS_EXEC ? ACCESS_EXEC : ACCESS_READ;
    if (!look_up(w, table, address_of(r, page), access, &found, &out->entry))
        return false;
    if (!(pmap_flags(w->pmap, gpa_to_gfn(found.gpa)) & PMAP_PRESENT))
        return false;
    return judge(shadow, w, &found, address_of(r, page), access, out) == SHADOW_MAPPED;
}

/* Room for a region more in the host's table: the oldest ones go. */
static void make_room(struct shadow *shadow, struct shadow_world *w, struct cell *cell,
                      const struct region *keep)
{
    while (shadow->runs > MAX_RUNS - REGION_PAGES && shadow->oldest != keep) {
        w->stats.evicted += shadow->oldest->mapped;
        drop_region(shadow, cell, shadow->oldest);
    }
}

/* Runs what was ordered, after `before` orders of something else, unless it may go with the
 * cell's turn. The host refused a mapping (its limits, its lowest or last page): what the
 * region holds is then unknown, so all of it goes.
 */
static enum shadow_answer run_orders(struct shadow *shadow, struct cell *cell, struct region *r,
                                     int before)
{
    struct mapper *m = &cell->mapper;
    bool refused = m->refused;
    if (mapper_only_adds(m))
        return SHADOW_MAPPED;
    int orders = (int)m->n, done = mapper_run(m);
    if (done == orders)
        return SHADOW_MAPPED;
    if (done < before)
        return SHADOW_LOST;
    m->refused = refused;
    drop_region(shadow, cell, r);
    orders = (int)m->n;
    return mapper_run(m) == orders ? SHADOW_STEP : SHADOW_LOST;
}

/* Takes the guards of the oldest pages until `n` are nobody's; first those pages lose their
 * mappings, or a cell that goes on running could use both. */
static bool free_guards(struct shadow *shadow, struct cell *cell, unsigned n)
{
    u64 victim;
    while ((victim = guards_victim(&cell->guards, n))) {
        struct region *r = find(shadow, victim);
        if (r)
            drop_page(shadow, cell, r, (unsigned)(victim >> PAGE_SHIFT) % REGION_PAGES);
        guards_release(&cell->guards, victim);
    }
    int orders = (int)cell->mapper.n;
    return !orders || mapper_run(&cell->mapper) == orders;
}

/* A page that must not be executed as it is may be with guards, if it is wanted often. */
static enum shadow_answer guard_code(struct shadow *shadow, struct shadow_world *w,
                                     struct cell *cell, u64 va, struct page *page)
{
    const u8 *bytes = pmap_page(w->pmap, page->frame);
    u64 address = va & PAGE_MASK;
    u16 places[GUARDS], refused = code_refused(shadow, w, page->frame, va);
    for (unsigned i = 0; i < N_FINDINGS; i++)
        w->stats.refused_code[i] += refused >> i & 1;
    if (!guards_wanted(&cell->guards, address) ||
        find_across(shadow, w, va, bytes) & refused_findings(shadow, w, va))
        return SHADOW_CODE;
    unsigned n = scan_places(bytes, refused, places, GUARDS);
    if (!n) {
        guards_never(&cell->guards, address);
        return SHADOW_CODE;
    }
    guards_release(&cell->guards, address); /* of what stood there before */
    if (!free_guards(shadow, cell, n))
        return SHADOW_LOST;
    if (!guards_place(&cell->guards, cell->pid, address, places, n))
        return SHADOW_CODE;
    w->stats.guarded++;
    page->rights |= PROT_EXEC;
    return SHADOW_MAPPED;
}

/* The region of `va`, made new if the tables above it changed. */
static struct region *region_for(struct shadow *shadow, struct shadow_world *w,
                                 struct cell *cell, u64 va, const u64 path[3])
{
    struct region *r = find(shadow, va);
    if (r && path_differs(r->path, path)) {
        drop_region(shadow, cell, r);
        r = NULL;
    }
    if (!r)
        r = make(shadow, va);
    memcpy(r->path, path, sizeof(r->path));
    shadow->huge |= path[1] & PTE_PS;
    make_room(shadow, w, cell, r);
    return r;
}

static void order_around(struct shadow *shadow, struct shadow_world *w, struct cell *cell,
                         struct region *r, const u64 *table, unsigned number,
                         enum x86_access access, const struct page *wanted)
{
    struct run run = {0};
    unsigned first, last;
    choose_window(r, number, access, &first, &last);
    note(shadow, r, number, wanted); /* first: its neighbours are judged beside it */
    r->faults += r->faults < 100;
    for (unsigned page = first; page < last; page++) {
        struct page other;
        u64 va = address_of(r, page);
        bool room = cell->mapper.n + 3 < ORDERS_MAX; /* for two, and the cell's turn */
        if (cell_owns(cell, va) || (page != number && !room))
            continue;
        if (page != number && !is_worth(shadow, w, r, table, page, access, &other))
            continue;
        add_to_run(cell, &run, va, page == number ? wanted : &other);
        if (page != number)
            note(shadow, r, page, &other);
        w->stats.pages++;
    }
    order_run(cell, &run);
    count_runs(shadow, r);
}

/* What a later walk found is not what is noted. */
static bool is_other(const struct region *r, unsigned number, const struct page *page)
{
    return r->frame[number] != page->frame.v || differs(r->entry[number], page->entry);
}

/* The tables above a page changed while it was looked up: the next comparison drops all. */
static void settle_path(const struct shadow_world *w, struct region *r, u64 va,
                        const u64 path[3])
{
    u64 later[3];
    read_path(w, va, later);
    if (path_differs(path, later))
        memset(r->path, 0, sizeof(r->path));
    else
        memcpy(r->path, later, sizeof(r->path));
}

const u8 *shadow_code(struct shadow *shadow, struct shadow_world *w, struct cell *cell, u64 va)
{
    struct region *r = find(shadow, va);
    unsigned number = (unsigned)(va >> PAGE_SHIFT) % REGION_PAGES;
    if (r && r->rights[number] & SHADOW_COPIED)
        return pmap_page(w->pmap, gfn(r->frame[number]));
    struct walk_result found;
    struct page page;
    u64 path[3];
    if (va >= BIT(47) || cell_owns(cell, va))
        return NULL;
    const u64 *table = read_path(w, va, path);
    if (!look_up(w, table, va, ACCESS_EXEC, &found, &page.entry))
        return NULL;
    page.frame = gpa_to_gfn(found.gpa);
    page.rights = SHADOW_COPIED;
    if (!(pmap_flags(w->pmap, page.frame) & PMAP_RAM))
        return NULL;
    findings_of(w, page.frame);
    r = region_for(shadow, w, cell, va, path);
    if (r->rights[number] && is_other(r, number, &page))
        drop_page(shadow, cell, r, number);
    page.rights |= r->rights[number];
    note(shadow, r, number, &page);
    r->copied++;
    count_runs(shadow, r);
    settle_path(w, r, va, path);
    return pmap_page(w->pmap, page.frame);
}

enum shadow_answer shadow_fault(struct shadow *shadow, struct shadow_world *w,
                                struct cell *cell, u64 va, enum x86_access access)
{
    struct walk_result found;
    struct page page;
    u64 path[3];
    w->stats.faults++;
    if (va >= BIT(47) || cell_owns(cell, va))
        return SHADOW_STEP;
    const u64 *table = read_path(w, va, path);
    if (!look_up(w, table, va, access, &found, &page.entry))
        return SHADOW_FAULT;
    enum shadow_answer answer = judge(shadow, w, &found, va, access, &page);
    if (answer == SHADOW_CODE)
        answer = guard_code(shadow, w, cell, va, &page);
    if (answer != SHADOW_MAPPED)
        return answer;
    struct region *r = region_for(shadow, w, cell, va, path);
    unsigned number = (unsigned)(va >> PAGE_SHIFT) % REGION_PAGES;
    bool other = is_other(r, number, &page);
    if (r->rights[number] & SHADOW_COPIED && other)
        drop_page(shadow, cell, r, number);
    /* Already there as it should be: the guest's word about the fault was wrong. */
    if ((r->rights[number] & ~SHADOW_COPIED) == page.rights && !other &&
        is_mapped(r, number, access))
        return SHADOW_STEP;
    /* What is to be unmapped goes with it, if both fit. */
    if (cell->mapper.n > ORDERS_MAX - MAX_WINDOW && mapper_run(&cell->mapper) < 0)
        return SHADOW_LOST;
    int before = (int)cell->mapper.n;
    order_around(shadow, w, cell, r, table, number, access, &page);
    settle_path(w, r, va, path);
    return run_orders(shadow, cell, r, before);
}
