/*
 * How TUs reach each other without leaving translated code. Links within a guest page are
 * patched jumps: as long as one of its TUs runs, the page is where it was. Cells and the table
 * of indirect targets stand for address translations too, so they are filled on first use and
 * forgotten with the software TLB's entries; two lists remember what was filled, each place
 * once, so that forgetting costs what is there.
 */
#include "engine/bt/bt.h"

/* -- Links --------------------------------------------------------------------------------- */

static void patch(struct bt *bt, u32 field, u32 target)
{
    s32 rel = (s32)(target - (field + 4));
    __builtin_memcpy(bt->memory.write + field, &rel, 4);
}

void link_set(struct bt *bt, struct link *link, struct tu *to)
{
    link->to = (u32)(to - bt->tus);
    link->next = to->incoming;
    to->incoming = (u32)(link - bt->links);
    patch(bt, link->field, link->saved ? to->entry_saved : to->entry);
}

void link_guard(struct bt *bt, const struct site *site, struct tu *to)
{
    u32 field = site->host + site->guard;
    s32 rel;
    if (bt->n_links >= cache_end(bt, MAX_LINKS))
        return;
    struct link *link = &bt->links[bt->n_links++];
    __builtin_memcpy(&rel, bt->memory.write + field, 4);
    *link = (struct link){.rip = to->rip,
                          .field = field,
                          .stub = field + 4 + (u32)rel,
                          .from = site->tu,
                          .saved = true,
                          .stale = site->stale};
    link_set(bt, link, to);
}

static u32 cell_find(const struct bt *bt, u64 rip, u32 mode, bool saved);

/* As the stub does (stubs.c). NULL: its mode has no second table. */
static struct second *second_of(struct bt *bt, const struct tu *tu)
{
    unsigned slot = (unsigned)(tu->rip ^ tu->rip >> INDIRECT_BITS) & (SECOND_SLOTS - 1);
    return mode_is_64bit(tu->mode) ? &bt->hot->second[tu->mode & MODE_SET_MASK][slot] : NULL;
}

static struct second no_second(const struct bt *bt)
{
    return (struct second){.entry = bt->stubs.exit_indirect};
}

void link_drop_incoming(struct bt *bt, struct tu *tu)
{
    for (u32 i = tu->incoming; i;) {
        struct link *link = &bt->links[i];
        patch(bt, link->field, link->stub);
        link->to = 0;
        i = link->next;
    }
    tu->incoming = 0;
    for (unsigned saved = 0; saved < 2; saved++) {
        u32 cell = cell_find(bt, tu->rip, tu->mode, saved);
        if (cell)
            bt->hot->cell[cell] = bt->stubs.exit_cell[saved];
    }
    const void **slot =
        &bt->hot->indirect[MODE_TABLE(tu->mode)][tu->rip & (INDIRECT_SLOTS - 1)];
    if (*slot == bt_exec(bt, tu->entry_indirect))
        *slot = bt->stubs.exit_indirect;
    struct second *second = second_of(bt, tu);
    if (second && second->entry == bt_exec(bt, tu->entry_saved))
        *second = no_second(bt);
}

/* It is in the list of its target. */
static void remove_incoming(struct bt *bt, struct link *link)
{
    u32 number = (u32)(link - bt->links);
    u32 *at = &bt->tus[link->to].incoming;
    while (*at != number)
        at = &bt->links[*at].next;
    *at = link->next;
    link->to = 0;
}

void link_drop_outgoing(struct bt *bt, u32 start, u32 end)
{
    for (u32 g = 0; g < GENERATIONS; g++) {
        u32 behind = g == bt->generation ? bt->n_links : bt->closed[g].links;
        for (u32 i = cache_first(g, MAX_LINKS); i < behind; i++) {
            struct link *link = &bt->links[i];
            if (link->to && link->field >= start && link->field < end)
                remove_incoming(bt, link);
        }
    }
}

/* -- What goes with address translations --------------------------------------------------- */

/* Places that may stand for address translations are numbered: cells, then the slots of the
 * tables. */
static u32 place_of_slot(unsigned table, unsigned slot)
{
    return MAX_CELLS + (table << INDIRECT_BITS | slot);
}

static u64 *page_bit(struct live *live, u32 page, u64 *bit)
{
    *bit = BIT(page & 63);
    return &live->pages[(page >> 6 ^ page >> 16) % LIVE_FILTER];
}

static void note_live(struct bt *bt, u32 place, u64 la, bool global)
{
    struct live *live = &bt->live[global];
    u64 bit;
    u32 page = (u32)(la >> PAGE_SHIFT);
    u64 *word = page_bit(live, page, &bit);
    *word |= bit;
    bt->live_page[place] = page;
    if (bt->live_in[place] & 1 << global)
        return;
    bt->live_in[place] |= (u8)(1 << global);
    live->place[live->n++] = place;
}

static void forget_place(struct bt *bt, u32 place)
{
    u32 slot = place - MAX_CELLS;
    if (place < MAX_CELLS)
        bt->hot->cell[place] = bt->stubs.exit_cell[bt->cells[place].saved];
    else if (place >= SECOND_PLACES)
        bt->hot->second[0][place - SECOND_PLACES] = no_second(bt);
    else
        bt->hot->indirect[slot >> INDIRECT_BITS][slot & (INDIRECT_SLOTS - 1)] =
            bt->stubs.exit_indirect;
}

/* Fills a table that was never used. */
static void empty_table(struct bt *bt, unsigned table)
{
    for (unsigned slot = 0; slot < INDIRECT_SLOTS; slot++)
        bt->hot->indirect[table][slot] = bt->stubs.exit_indirect;
    for (unsigned slot = 0; table < TLB_SETS && slot < SECOND_SLOTS; slot++)
        bt->hot->second[table][slot] = no_second(bt);
}

/* Is the place a slot of that table, or of the second one of its set? */
static bool in_table(u32 place, unsigned table)
{
    if (place >= SECOND_PLACES)
        return (place - SECOND_PLACES) >> SECOND_BITS == table;
    return place >= MAX_CELLS && (place - MAX_CELLS) >> INDIRECT_BITS == table;
}

/* Firmware changes modes thousands of times: only what was filled is looked at. */
static void forget_table(struct bt *bt, unsigned table)
{
    for (unsigned list = 0; list < 2; list++) {
        struct live *live = &bt->live[list];
        for (u32 i = live->n; i--;) {
            u32 place = live->place[i];
            if (!in_table(place, table))
                continue;
            forget_place(bt, place);
            bt->live_in[place] &= (u8) ~(1 << list);
            live->place[i] = live->place[--live->n];
        }
    }
}

void links_forget(struct bt *bt, bool global_too)
{
    for (unsigned list = 0; list < (global_too ? 2 : 1); list++) {
        struct live *live = &bt->live[list];
        for (u32 i = 0; i < live->n; i++) {
            forget_place(bt, live->place[i]);
            bt->live_in[live->place[i]] &= (u8) ~(1 << list);
        }
        live->n = 0;
        for (unsigned i = 0; i < LIVE_FILTER; i++)
            live->pages[i] = 0;
    }
}

/* Is anything noted of those 2^order pages? */
static bool may_hold(struct live *live, u32 page, unsigned order)
{
    u64 bit;
    const u64 *word = page_bit(live, page, &bit);
    if (!order)
        return *word & bit;
    u64 found = 0;
    u32 first = page & ~(u32)bits_low(order);
    for (u32 n = 0; n < BIT(order); n += 64)
        found |= *page_bit(live, first + n, &bit);
    return found;
}

void links_forget_page(struct bt *bt, struct gva la, unsigned shift)
{
    u32 page = (u32)(la.v >> PAGE_SHIFT);
    for (unsigned list = 0; list < 2; list++) {
        struct live *live = &bt->live[list];
        if (!may_hold(live, page, shift - PAGE_SHIFT))
            continue;
        for (u32 i = live->n; i--;) {
            u32 place = live->place[i];
            if ((bt->live_page[place] ^ page) >> (shift - PAGE_SHIFT))
                continue;
            forget_place(bt, place);
            bt->live_in[place] &= (u8) ~(1 << list);
            live->place[i] = live->place[--live->n];
        }
    }
}

/* -- Cells --------------------------------------------------------------------------------- */

static unsigned cell_slot(u64 rip)
{
    return (unsigned)((rip ^ rip >> 14) & (CELL_SLOTS - 1));
}

static u32 cell_find(const struct bt *bt, u64 rip, u32 mode, bool saved)
{
    u32 i = bt->cell_slot[cell_slot(rip)];
    while (i && (bt->cells[i].rip != rip || bt->cells[i].mode != mode ||
                 bt->cells[i].saved != saved))
        i = bt->cells[i].next;
    return i;
}

u32 cell_get(struct bt *bt, u64 rip, u32 mode, bool saved)
{
    u32 i = cell_find(bt, rip, mode, saved);
    if (i)
        return i;
    u32 *slot = &bt->cell_slot[cell_slot(rip)];
    i = bt->n_cells++;
    bt->cells[i] = (struct cell){.rip = rip, .mode = mode, .saved = saved, .next = *slot};
    *slot = i;
    bt->hot->cell[i] = bt->stubs.exit_cell[saved];
    return i;
}

void cell_set(struct bt *bt, u32 cell, const struct tu *tu, bool global)
{
    bool saved = bt->cells[cell].saved;
    bt->hot->cell[cell] = bt_exec(bt, saved ? tu->entry_saved : tu->entry);
    note_live(bt, cell, place_linear(tu->mode, tu->rip), global);
}

/* -- Indirect targets ---------------------------------------------------------------------- */

void indirect_set(struct bt *bt, const struct tu *tu, bool global)
{
    unsigned set = MODE_TABLE(tu->mode);
    unsigned slot = tu->rip & (INDIRECT_SLOTS - 1);
    bt->hot->indirect[set][slot] = bt_exec(bt, tu->entry_indirect);
    note_live(bt, place_of_slot(set, slot), place_linear(tu->mode, tu->rip), global);
    struct second *second = second_of(bt, tu);
    if (!second)
        return;
    *second = (struct second){tu->rip, bt_exec(bt, tu->entry_saved)};
    note_live(bt, SECOND_PLACES + (u32)(second - bt->hot->second[0]), tu->rip, global);
}

/* The mode of 64-bit code that translated code enters through `set` from `mode`
 * (translate_gate.c). */
static u32 gate_mode(u32 mode, unsigned set)
{
    if (set == (mode & MODE_SET_MASK))
        return mode;
    mode &= ~(MODE_SET_MASK | MODE_CPL(3));
    return mode | MODE_SET(set) | MODE_CPL(set == TLB_USER ? 3 : 0);
}

static void give_table(struct bt *bt, u32 mode)
{
    unsigned table = MODE_TABLE(mode);
    if (!bt->indirect_mode[table])
        empty_table(bt, table);
    else if (bt->indirect_mode[table] != mode)
        forget_table(bt, table);
    bt->indirect_mode[table] = mode;
}

void indirect_enter_mode(struct bt *bt, u32 mode)
{
    if (likely(bt->indirect_entered == mode))
        return;
    bt->indirect_entered = mode;
    /* Of 16- and 32-bit code only STAC and CLAC go to another set in line. */
    if (!mode_is_64bit(mode)) {
        give_table(bt, mode);
        if (!(mode & MODE_CPL(3)))
            give_table(bt, mode ^ MODE_SET(TLB_KERNEL ^ TLB_KERNEL_AC));
        return;
    }
    for (unsigned set = 0; set < TLB_SETS; set++)
        give_table(bt, gate_mode(mode, set));
}
