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
    c->cr4 = CR4_SMAP | CR4_SMEP;
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

static void test_large_page_goes_whole(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result large = plain;
    large.page_shift = 21;
    fill(c, TLB_USER, 0x200000, large, RAM_FLAGS);
    fill(c, TLB_USER, 0x201000, large, RAM_FLAGS);
    tlb_flush_page(c, gva(0x3ff000));
    assert_int_equal(tags_of(c, TLB_USER, 0x200000).read, TAG_NONE);
    assert_int_equal(tags_of(c, TLB_USER, 0x201000).read, TAG_NONE);
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
    page.gpa = gpa(0x123456000);
    page.page_shift = 30;
    page.executable = false;
    stlb_enter(c, gva(0xffff888000005000), &page);
    assert_true(stlb_find(c, gva(0xffff888000005678), &out));
    assert_int_equal(out.gpa.v, 0x123456678);
    assert_int_equal(out.page_shift, 30);
    assert_true(out.user && out.writable && out.dirty && !out.executable && !out.global);
    assert_false(known(c, 0xffff888000006000));
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
    c->stlb.last_space = (1u << 28) - 3;
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

static void test_large_page_goes_whole_from_second_level(void **state)
{
    struct x86_cpu *c = *state;
    struct walk_result large = plain;
    large.page_shift = 21;
    stlb_enter(c, gva(0x200000), &large);
    stlb_enter(c, gva(0x3fe000), &large);
    stlb_enter(c, gva(0x400000), &plain);
    fill(c, TLB_USER, 0x200000, large, RAM_FLAGS);
    assert_int_equal(tlb_page_shift(c, gva(0x3ff000)), 21);
    assert_int_equal(tlb_page_shift(c, gva(0x400000)), 12);
    tlb_flush_page(c, gva(0x3ff000));
    assert_false(known(c, 0x200000));
    assert_false(known(c, 0x3fe000));
    assert_true(known(c, 0x400000));
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
        cmocka_unit_test_setup_teardown(test_large_page_goes_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_level_keeps_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pcids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_invpcid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_pcids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spaces_run_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_global_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_page_goes_whole_from_second_level, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
