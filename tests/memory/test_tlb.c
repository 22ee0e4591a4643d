/* The software TLB: which tags a fill sets, and what each flush drops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "memory/tlb.h"
#include "x86/model.h"

static const struct x86_model model = {.phys_bits = 40};
static _Alignas(4096) u8 page_bytes[4096];

#define RAM_FLAGS (PMAP_RAM | PMAP_PRESENT | PMAP_DIRTY)

static int setup(void **state)
{
    struct x86_cpu *c = calloc(1, sizeof(*c));
    c->model = &model;
    c->cr4 = CR4_PAE | CR4_SMAP | CR4_SMEP;
    c->cr0 = CR0_PE | CR0_PG | CR0_WP;
    tlb_init(c);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static const struct walk_result plain = {
    .page_shift = 12, .user = true, .writable = true, .executable = true, .dirty = true};
static const struct walk_result global = {.page_shift = 12,
                                          .user = true,
                                          .writable = true,
                                          .executable = true,
                                          .dirty = true,
                                          .global = true};

/* What a slot holds, with TAG_NONE for a tag that matches nothing. */
#define TAG_NONE 1ull
struct tags {
    u64 read, write, exec, page;
};

static u64 tag(u64 value, u64 la)
{
    return tlb_slot(value) == tlb_slot(la) ? value : TAG_NONE;
}

static struct tags tags_of(struct x86_cpu *c, enum x86_tlb_index set, u64 la)
{
    const struct x86_tlb *tlb = &c->tlb[set];
    unsigned slot = tlb_slot(la);
    return (struct tags){tag(tlb->read[slot], la), tag(tlb->write[slot], la),
                         tag(tlb->exec[slot], la), tlb->page[slot]};
}

static void fill(struct x86_cpu *c, enum x86_tlb_index set, u64 la, struct walk_result page,
                 u64 flags)
{
    tlb_fill(c, set, gva(la), &page, page_bytes, flags);
}

static void test_empty_misses_page_zero(void **state)
{
    struct x86_cpu *c = *state;
    assert_int_equal(tags_of(c, TLB_USER, 0).read, TAG_NONE);
}

static void test_rights(void **state)
{
    struct x86_cpu *c = *state;
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS);
    struct tags e = tags_of(c, TLB_USER, 0x5000);
    assert_int_equal(e.read, 0x5000);
    assert_int_equal(e.write, 0x5000);
    assert_int_equal(e.exec, 0x5000);
    assert_int_equal(e.page, (u64)page_bytes);
    /* SMAP and SMEP: the kernel has nothing to do on a user page... */
    fill(c, TLB_KERNEL, 0x5000, plain, RAM_FLAGS);
    e = tags_of(c, TLB_KERNEL, 0x5000);
    assert_int_equal(e.read, TAG_NONE);
    assert_int_equal(e.write, TAG_NONE);
    assert_int_equal(e.exec, TAG_NONE);
    /* ...but to move data with EFLAGS.AC. */
    fill(c, TLB_KERNEL_AC, 0x5000, plain, RAM_FLAGS);
    e = tags_of(c, TLB_KERNEL_AC, 0x5000);
    assert_int_equal(e.read, 0x5000);
    assert_int_equal(e.exec, TAG_NONE);
}

/* Without paging there are no user pages, whatever CR4 says. */
static void test_unpaged(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result page;
    u32 error;
    c->cr0 = 0;
    const struct walk_access read = tlb_access(c, TLB_KERNEL, ACCESS_READ);
    assert_true(tlb_walk(c, NULL, gva(0x5000), read, &page, &error));
    fill(c, TLB_KERNEL, 0x5000, page, RAM_FLAGS);
    struct tags e = tags_of(c, TLB_KERNEL, 0x5000);
    assert_int_equal(e.read, 0x5000);
    assert_int_equal(e.write, 0x5000);
    assert_int_equal(e.exec, 0x5000);
}

static void test_write_needs_the_slow_path_once(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result clean = plain;
    clean.dirty = false;
    fill(c, TLB_USER, 0x5000, clean, RAM_FLAGS);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).write, TAG_NONE);
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS | PMAP_CODE);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).write, TAG_NONE);
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS | PMAP_ROM);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).write, TAG_NONE);
    fill(c, TLB_USER, 0x5000, plain, PMAP_RAM | PMAP_PRESENT);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).write, TAG_NONE);
}

static void test_flushes(void **state)
{
    struct x86_cpu *c = *state;
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS);
    fill(c, TLB_USER, 0x6000, global, RAM_FLAGS);
    fill(c, TLB_USER, 0x7000, plain, RAM_FLAGS);
    tlb_flush_page(c, gva(0x7123));
    assert_int_equal(tags_of(c, TLB_USER, 0x7000).read, TAG_NONE);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).read, 0x5000);
    tlb_flush_local(c);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).read, TAG_NONE);
    assert_int_equal(tags_of(c, TLB_USER, 0x6000).read, 0x6000);
    tlb_flush_page(c, gva(0x6000));
    assert_int_equal(tags_of(c, TLB_USER, 0x6000).read, TAG_NONE);
    fill(c, TLB_USER, 0x6000, global, RAM_FLAGS);
    tlb_flush_all(c);
    assert_int_equal(tags_of(c, TLB_USER, 0x6000).read, TAG_NONE);
}

/* A slot that a local entry took from a global one goes with CR3. */
static void test_slot_changes_hands(void **state)
{
    struct x86_cpu *c = *state;
    u64 other = 0x5000 + TLB_SIZE * PAGE_SIZE;
    fill(c, TLB_USER, 0x5000, global, RAM_FLAGS);
    fill(c, TLB_USER, other, plain, RAM_FLAGS);
    tlb_flush_local(c);
    assert_int_equal(tags_of(c, TLB_USER, other).read, TAG_NONE);
}

static void test_watch(void **state)
{
    struct x86_cpu *c = *state;
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS);
    fill(c, TLB_KERNEL_AC, 0x9000, plain, RAM_FLAGS);
    tlb_watch(c, page_bytes);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).write, TAG_NONE);
    assert_int_equal(tags_of(c, TLB_KERNEL_AC, 0x9000).write, TAG_NONE);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).read, 0x5000);
}

/* -- The second level ---------------------------------------------------------------------- */

static bool known(struct x86_cpu *c, u64 la)
{
    struct walk_result out;
    return stlb_find(c, gva(la), &out);
}

static void load_cr3(struct x86_cpu *c, u64 value, bool keep)
{
    c->cr3 = value;
    tlb_cr3_loaded(c, keep);
}

static void test_second_level_keeps_all(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result page = plain, out;
    page.gpa = gpa(0x140005000);
    page.page_shift = 30;
    page.executable = false;
    stlb_enter(c, gva(0xffff888000005000), &page);
    assert_true(stlb_find(c, gva(0xffff888000005678), &out));
    assert_int_equal(out.gpa.v, 0x140005678);
    assert_int_equal(out.page_shift, 30);
    assert_true(out.user && out.writable && out.dirty && !out.executable && !out.global);
    /* Of a page of 1 GiB a region is known. */
    assert_true(stlb_find(c, gva(0xffff888000006789), &out));
    assert_int_equal(out.gpa.v, 0x140006789);
    assert_false(known(c, 0xffff888000200000));
}

static void test_pcids(void **state)
{
    struct x86_cpu *c = *state;
    c->cr4 |= CR4_PCIDE;
    load_cr3(c, 0x1001, false);
    stlb_enter(c, gva(0x5000), &plain);
    stlb_enter(c, gva(0x6000), &global);
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS);
    load_cr3(c, 0x1001, true);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).read, 0x5000);
    load_cr3(c, 0x2002, true);
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).read, TAG_NONE);
    assert_false(known(c, 0x5000));
    assert_true(known(c, 0x6000));
    load_cr3(c, 0x1001, true);
    assert_true(known(c, 0x5000));
    /* Without bit 63 the PCID loaded is flushed, and only that. */
    load_cr3(c, 0x2002, false);
    load_cr3(c, 0x1001, true);
    assert_true(known(c, 0x5000));
    load_cr3(c, 0x1001, false);
    assert_false(known(c, 0x5000));
    assert_true(known(c, 0x6000));
}

static void test_invpcid(void **state)
{
    struct x86_cpu *c = *state;
    c->cr4 |= CR4_PCIDE;
    load_cr3(c, 0x1001, false);
    stlb_enter(c, gva(0x5000), &plain);
    stlb_enter(c, gva(0x6000), &plain);
    stlb_enter(c, gva(0x7000), &global);
    load_cr3(c, 0x2002, false);
    tlb_flush_page_of(c, 3, gva(0x5000));
    tlb_flush_page_of(c, 1, gva(0x6000));
    tlb_flush_page(c, gva(0x5000));
    load_cr3(c, 0x1001, true);
    assert_true(known(c, 0x5000));
    assert_false(known(c, 0x6000));
    tlb_flush_pcid(c, 2);
    assert_true(known(c, 0x5000));
    tlb_flush_pcid(c, 1);
    assert_false(known(c, 0x5000));
    stlb_enter(c, gva(0x5000), &plain);
    load_cr3(c, 0x2002, true);
    tlb_flush_local(c);
    load_cr3(c, 0x1001, true);
    assert_false(known(c, 0x5000));
    assert_true(known(c, 0x7000));
    tlb_flush_page(c, gva(0x7000));
    assert_false(known(c, 0x7000));
}

/* CR3's low bits are no PCID while CR4.PCIDE is clear. */
static void test_no_pcids(void **state)
{
    struct x86_cpu *c = *state;
    load_cr3(c, 0x1018, false);
    stlb_enter(c, gva(0x5000), &plain);
    fill(c, TLB_USER, 0x5000, plain, RAM_FLAGS);
    tlb_flush_page_of(c, 0, gva(0x5000));
    assert_false(known(c, 0x5000));
    assert_int_equal(tags_of(c, TLB_USER, 0x5000).read, TAG_NONE);
    stlb_enter(c, gva(0x5000), &plain);
    load_cr3(c, 0x1018, false);
    assert_false(known(c, 0x5000));
}

static void test_spaces_run_out(void **state)
{
    struct x86_cpu *c = *state;
    stlb_enter(c, gva(0x5000), &plain);
    stlb_enter(c, gva(0x6000), &global);
    c->stlb.last_space = (1u << 27) - 3;
    load_cr3(c, 0x1000, false);
    assert_false(known(c, 0x5000));
    stlb_enter(c, gva(0x5000), &plain);
    assert_true(known(c, 0x5000));
    load_cr3(c, 0x1000, false);
    assert_false(known(c, 0x5000));
}

/* A page that becomes global, or no longer is, is found in one way only. */
static void test_global_changes(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result page = plain, out;
    page.global = true;
    page.gpa = gpa(0x1000);
    stlb_enter(c, gva(0x5000), &page);
    page.global = false;
    page.gpa = gpa(0x2000);
    stlb_enter(c, gva(0x5000), &page);
    assert_true(stlb_find(c, gva(0x5000), &out));
    assert_int_equal(out.gpa.v, 0x2000);
    load_cr3(c, 0x1000, false);
    assert_false(known(c, 0x5000));
}

/* -- Large pages --------------------------------------------------------------------------- */

static struct walk_result large_page(u8 shift, u64 at)
{
    struct walk_result page = plain;
    page.page_shift = shift;
    page.gpa = gpa(at);
    return page;
}

/* As an engine does what a walk found. */
static void enter(struct x86_cpu *c, enum x86_tlb_index set, u64 la, struct walk_result page)
{
    stlb_enter(c, gva(la), &page);
    fill(c, set, la, page, RAM_FLAGS);
}

static void assert_gone(struct x86_cpu *c, u64 la)
{
    assert_false(known(c, la));
    for (unsigned set = 0; set < TLB_SETS; set++)
        assert_int_equal(tags_of(c, set, la).read, TAG_NONE);
}

static void test_large_page_goes_whole(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result out;
    enter(c, TLB_USER, 0x200000, large_page(21, 0x40000000));
    enter(c, TLB_KERNEL_AC, 0x201000, large_page(21, 0x40001000));
    enter(c, TLB_USER, 0x3ff000, large_page(21, 0x401ff000));
    enter(c, TLB_USER, 0x1ff000, plain);
    enter(c, TLB_USER, 0x400000, plain);
    /* One entry knows it all. */
    assert_true(stlb_find(c, gva(0x345678), &out));
    assert_int_equal(out.gpa.v, 0x40145678);
    assert_int_equal(stlb_page_shift(c, gva(0x3fe000)), 21);
    assert_int_equal(stlb_page_shift(c, gva(0x400000)), 12);
    tlb_flush_page(c, gva(0x2fe123));
    assert_gone(c, 0x200000);
    assert_gone(c, 0x201000);
    assert_gone(c, 0x3ff000);
    assert_true(known(c, 0x1ff000));
    assert_true(known(c, 0x400000));
    assert_int_equal(tags_of(c, TLB_USER, 0x1ff000).read, 0x1ff000);
    assert_int_equal(tags_of(c, TLB_USER, 0x400000).read, 0x400000);
}

/* 32-bit paging has pages of 4 MiB. */
static void test_page_of_4_mib_goes_whole(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result out;
    c->cr4 &= ~(u64)CR4_PAE;
    enter(c, TLB_USER, 0x400000, large_page(22, 0x40000000));
    enter(c, TLB_USER, 0x7ff000, large_page(22, 0x403ff000));
    assert_true(stlb_find(c, gva(0x654321), &out));
    assert_int_equal(out.gpa.v, 0x40254321);
    assert_int_equal(stlb_page_shift(c, gva(0x600000)), 22);
    tlb_flush_page(c, gva(0x500000));
    assert_gone(c, 0x400000);
    assert_gone(c, 0x7ff000);
}

static void test_page_of_1_gib_goes_whole(void **state)
{
    struct x86_cpu *c = *state;
    enter(c, TLB_USER, 0x40000000, large_page(30, 0x80000000));
    enter(c, TLB_USER, 0x7ffff000, large_page(30, 0xbffff000));
    assert_int_equal(stlb_page_shift(c, gva(0x50000000)), 64);
    tlb_flush_page(c, gva(0x50000000));
    assert_gone(c, 0x40000000);
    assert_gone(c, 0x7ffff000);
}

/* A page of the other size takes the place of an old one that nobody flushed. */
static void test_page_size_changes(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result page = plain, out;
    page.gpa = gpa(0x5000);
    stlb_enter(c, gva(0x201000), &page);
    page = large_page(21, 0x40001000);
    page.global = true;
    stlb_enter(c, gva(0x201000), &page);
    assert_true(stlb_find(c, gva(0x201000), &out));
    assert_int_equal(out.gpa.v, 0x40001000);
    page = plain;
    page.gpa = gpa(0x6000);
    stlb_enter(c, gva(0x201000), &page);
    assert_true(stlb_find(c, gva(0x201000), &out));
    assert_int_equal(out.gpa.v, 0x6000);
    assert_int_equal(out.page_shift, 12);
    tlb_flush_page(c, gva(0x201000));
    assert_gone(c, 0x201000);
}

static void test_large_pages_of_pcids(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result page = large_page(21, 0x40000000);
    c->cr4 |= CR4_PCIDE;
    load_cr3(c, 0x1001, false);
    enter(c, TLB_USER, 0x200000, page);
    load_cr3(c, 0x2002, false);
    assert_gone(c, 0x200000);
    enter(c, TLB_USER, 0x200000, page);
    tlb_flush_page_of(c, 1, gva(0x3ff000));
    assert_true(known(c, 0x200000));
    assert_int_equal(tags_of(c, TLB_USER, 0x200000).read, 0x200000);
    load_cr3(c, 0x1001, true);
    assert_gone(c, 0x200000);
    page.global = true;
    enter(c, TLB_USER, 0x200000, page);
    tlb_flush_page_of(c, 1, gva(0x3ff000));
    assert_true(known(c, 0x200000));
    load_cr3(c, 0x2002, false);
    assert_true(known(c, 0x200000));
    tlb_flush_page(c, gva(0x3ff000));
    assert_gone(c, 0x200000);
    load_cr3(c, 0x1001, true);
    assert_gone(c, 0x200000);
}

/*
 * A guest at random that flushes what it must: whatever a level knows is what the page tables
 * say. The machine page of each page is its number in `frames`.
 */
#define GUEST_REGIONS 6
#define GUEST_BASE    0x7fff40000000 /* regions share slots of the first level beyond 8 only */
struct guest {
    struct x86_cpu *c;
    u64 random;
    unsigned pcid;
    struct {
        bool large, global;
        u64 frames[512];
    } region[2][GUEST_REGIONS]; /* by PCID; global pages are the same in both */
    u64 next_frame, hits[2];
};

static unsigned any(struct guest *g, unsigned below)
{
    g->random = g->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(g->random >> 33) % below;
}

static void map(struct guest *g, unsigned pcid, unsigned region, unsigned page, unsigned n)
{
    g->next_frame += 1024;
    for (unsigned i = 0; i < n; i++)
        g->region[pcid][region].frames[page + i] = align_down(g->next_frame, 512) + page + i;
    if (g->region[pcid][region].global)
        g->region[!pcid][region] = g->region[pcid][region];
}

static u64 address_of(unsigned region, unsigned page)
{
    /* Two of them in the same slots. */
    u64 at = region == 5 ? (u64)TLB_SIZE * PAGE_SIZE : (u64)region << 21;
    return GUEST_BASE + at + (u64)page * PAGE_SIZE;
}

static void touch(struct guest *g, unsigned region, unsigned page)
{
    static const enum x86_tlb_index sets[] = {TLB_USER, TLB_KERNEL_AC};
    unsigned set = sets[any(g, ARRAY_LEN(sets))];
    u64 la = address_of(region, page), frame = g->region[g->pcid][region].frames[page];
    struct tags tags = tags_of(g->c, set, la);
    if (tags.read == la) {
        assert_int_equal(tags.page, frame * PAGE_SIZE);
        g->hits[0]++;
        return;
    }
    struct walk_result at = plain;
    if (stlb_find(g->c, gva(la), &at)) {
        assert_int_equal(at.gpa.v, frame * PAGE_SIZE);
        g->hits[1]++;
    } else {
        at.page_shift = g->region[g->pcid][region].large ? 21 : 12;
        at.global = g->region[g->pcid][region].global;
        at.gpa = gpa(frame * PAGE_SIZE);
        stlb_enter(g->c, gva(la), &at);
    }
    tlb_fill(g->c, set, gva(la), &at, (void *)(frame * PAGE_SIZE), RAM_FLAGS);
}

/* Maps a page anew, or gives the region pages of the other size. */
static void change(struct guest *g, unsigned region, unsigned page)
{
    unsigned other = any(g, 4) == 0, n = 1;
    unsigned pcid = g->region[g->pcid][region].global ? g->pcid : g->pcid ^ any(g, 2);
    bool was_large = g->region[pcid][region].large;
    g->region[pcid][region].large ^= other;
    if (was_large || other)
        map(g, pcid, region, 0, 512);
    else
        map(g, pcid, region, page, 1);
    /* Small pages are flushed each; of a large one any address does. */
    if (!was_large && other) {
        n = 512;
        page = 0;
    }
    for (unsigned i = 0; i < n; i++) {
        struct gva la = gva(address_of(region, page + i));
        if (pcid == g->pcid)
            tlb_flush_page(g->c, la);
        else
            tlb_flush_page_of(g->c, (u16)pcid, la);
    }
}

static void test_nothing_is_stale(void **state)
{
    struct guest g = {.c = *state, .random = 1};
    g.c->cr4 |= CR4_PCIDE | CR4_PGE;
    load_cr3(g.c, 0x1000, false);
    for (unsigned region = 0; region < GUEST_REGIONS; region++) {
        for (unsigned pcid = 0; pcid < 2; pcid++) {
            g.region[pcid][region].large = region % 2;
            g.region[pcid][region].global = region >= 3;
            map(&g, pcid, region, 0, 512);
        }
    }
    for (unsigned i = 0; i < 300000; i++) {
        unsigned region = any(&g, GUEST_REGIONS), page = any(&g, 512), what = any(&g, 1000);
        if (what >= 20) {
            touch(&g, region, page);
        } else if (what >= 2) {
            change(&g, region, page);
        } else if (what == 1) {
            g.pcid ^= 1;
            load_cr3(g.c, 0x1000 | g.pcid, any(&g, 4));
        } else if (any(&g, 8) == 0) {
            tlb_flush_all(g.c);
        }
    }
    assert_true(g.hits[0] > 10000 && g.hits[1] > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_empty_misses_page_zero, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unpaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_needs_the_slow_path_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flushes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slot_changes_hands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_level_keeps_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pcids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_invpcid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_pcids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spaces_run_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_global_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_page_goes_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page_of_4_mib_goes_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page_of_1_gib_goes_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page_size_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_pages_of_pcids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_stale, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
