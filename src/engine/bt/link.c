/*
 * How TUs reach each other without leaving translated code. Links within a guest page are
 * patched jumps: as long as one of its TUs runs, the page is where it was. Cells and the table
 * of indirect targets stand for address translations too, so they are filled on first use and
 * forgotten with the software TLB's entries; two lists remember what was filled.
 */
#include "engine/bt/bt.h"

/* -- Links
 * --------------------------------------------------------------------------------------
 */

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
                          .saved = true};
    link_set(bt, link, to);
}

static u32 cell_find(const struct bt *bt, u64 rip, u32 mode, bool saved);

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

/* -- What goes with address translations
 * ------------------------------------------------------------
 */

#define LIVE_CELL BIT(31)

static u64 *page_bit(struct bt *bt, u64 la, u64 *bit)
{
    u64 page = la >> PAGE_SHIFT;
    *bit = BIT(page & 63);
    return &bt->live_pages[(page >> 6 ^ page >> 18) & 63];
}

static void note_live(struct bt *bt, u32 entry, u64 rip, bool global)
{
    u64 bit;
    u64 *word = page_bit(bt, rip, &bit);
    *word |= bit;
    if (bt->live[global].n == MAX_LIVE)
        bt->live[global].overflow = true;
    else
        bt->live[global].entry[bt->live[global].n++] = entry;
}

static void forget_entry(struct bt *bt, u32 entry)
{
    if (entry & LIVE_CELL) {
        u32 cell = entry & ~(u32)LIVE_CELL;
        bt->hot->cell[cell] = bt->stubs.exit_cell[bt->cells[cell].saved];
    } else {
        bt->hot->indirect[entry >> INDIRECT_BITS][entry & (INDIRECT_SLOTS - 1)] =
            bt->stubs.exit_indirect;
    }
}

static void forget_table(struct bt *bt, unsigned set)
{
    for (unsigned slot = 0; slot < INDIRECT_SLOTS; slot++)
        bt->hot->indirect[set][slot] = bt->stubs.exit_indirect;
}

static void forget_everything(struct bt *bt)
{
    for (unsigned set = 0; set < MODE_TABLES; set++) {
        if (bt->indirect_mode[set]) /* else it was never used */
            forget_table(bt, set);
    }
    for (u32 cell = 0; cell < bt->n_cells; cell++)
        bt->hot->cell[cell] = bt->stubs.exit_cell[bt->cells[cell].saved];
}

void links_forget(struct bt *bt, bool global_too)
{
    unsigned lists = global_too ? 2 : 1;
    bool overflow = bt->live[0].overflow || (global_too && bt->live[1].overflow);
    if (overflow) {
        forget_everything(bt);
        lists = 2;
    } else {
        for (unsigned list = 0; list < lists; list++) {
            for (u32 i = 0; i < bt->live[list].n; i++)
                forget_entry(bt, bt->live[list].entry[i]);
        }
    }
    for (unsigned list = 0; list < lists; list++) {
        bt->live[list].n = 0;
        bt->live[list].overflow = false;
    }
    if (lists == 2) {
        for (unsigned i = 0; i < ARRAY_LEN(bt->live_pages); i++)
            bt->live_pages[i] = 0;
    }
}

void links_forget_page(struct bt *bt, struct gva la)
{
    u64 bit;
    u64 *word = page_bit(bt, la.v, &bit);
    if (*word & bit)
        links_forget(bt, true);
}

/* -- Cells
 * --------------------------------------------------------------------------------------
 */

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
    note_live(bt, cell | (u32)LIVE_CELL, place_linear(tu->mode, tu->rip), global);
}

/* -- Indirect targets
 * -----------------------------------------------------------------------------
 */

void indirect_set(struct bt *bt, const struct tu *tu, bool global)
{
    unsigned set = MODE_TABLE(tu->mode);
    unsigned slot = tu->rip & (INDIRECT_SLOTS - 1);
    bt->hot->indirect[set][slot] = bt_exec(bt, tu->entry_indirect);
    note_live(bt, set << INDIRECT_BITS | slot, place_linear(tu->mode, tu->rip), global);
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
    if (bt->indirect_mode[table] != mode)
        forget_table(bt, table);
    bt->indirect_mode[table] = mode;
}

void indirect_enter_mode(struct bt *bt, u32 mode)
{
    if (likely(bt->indirect_entered == mode))
        return;
    bt->indirect_entered = mode;
    if (!mode_is_64bit(mode)) {
        give_table(bt, mode);
        return;
    }
    for (unsigned set = 0; set < TLB_SETS; set++)
        give_table(bt, gate_mode(mode, set));
}
