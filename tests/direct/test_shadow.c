/*
 * Shadows of guest address spaces in real cells: guest code sees what its page tables say, and
 * no longer than until the TLB is told; the code that may run is what was scanned.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/ensure.h"
#include "engine/access.h"
#include "engine/direct/shadow.h"
#include "platform/board.h"
#include "platform/vcpu.h"
#include "probe.h"
#include "x86/model.h"

#define RAM_SIZE (512 * MiB)
#define BASE     0x123456789000ull

/* Frames: two sets of tables, code, data. */
#define TABLES  0x10000ull /* PML4, PDPT, PD, then page tables */
#define OTHERS  0x80000ull /* the same of the second address space */
#define CODE_PA 0x100000ull
#define DATA_PA 0x200000ull

#define CODE 0x400000ull
#define DATA 0x600000ull
#define FAR  0x800000ull /* regions without a page table yet */

/* In the code page. */
#define LOAD  (CODE + 0x000) /* mov rax, [rdi]; int3 */
#define STORE (CODE + 0x010) /* mov [rdi], rax; int3 */
#define CALL  (CODE + 0x020) /* call rdi; int3 */

struct guest {
    struct board board;
    struct log log;
    struct x86_model model;
    struct vcpu *vcpu;
    struct zygote zygote;
    struct cell cell;
    struct shadow shadow;
    struct shadow_world world;
    struct stop stop;
    enum shadow_answer answer; /* of the last fault */
    u64 tables, free;          /* of the present address space: its root, its next free table */
};

#define USER  (PTE_P | PTE_W | PTE_U)
#define CLEAN USER
#define ALL   (USER | PTE_A | PTE_D)

static u8 *at(struct guest *g, u64 pa)
{
    return (u8 *)pmap_page(g->board.pmap, gfn(pa >> PAGE_SHIFT)) + (pa & ~PAGE_MASK);
}

static u64 *entry_at(struct guest *g, u64 table, u64 va, unsigned shift)
{
    return (u64 *)at(g, table) + (va >> shift & 511);
}

/* The entry for `va` at a level, tables made as needed. */
static u64 *entry(struct guest *g, u64 va, unsigned level_shift)
{
    u64 table = g->tables;
    for (unsigned shift = 39; shift > level_shift; shift -= 9) {
        u64 *e = entry_at(g, table, va, shift);
        if (!(*e & PTE_P)) {
            g->free += PAGE_SIZE;
            *e = g->free | USER;
        }
        table = *e & PAGE_MASK & bits_low(52);
    }
    return entry_at(g, table, va, level_shift);
}

static void map(struct guest *g, u64 va, u64 pa_and_rights)
{
    *entry(g, va, 12) = pa_and_rights;
}

static void put_code(struct guest *g)
{
    static const u8 load[] = {0x48, 0x8b, 0x07, 0xcc}, store[] = {0x48, 0x89, 0x07, 0xcc},
                    call[] = {0xff, 0xd7, 0xcc};
    memcpy(at(g, CODE_PA + (LOAD - CODE)), load, sizeof(load));
    memcpy(at(g, CODE_PA + (STORE - CODE)), store, sizeof(store));
    memcpy(at(g, CODE_PA + (CALL - CODE)), call, sizeof(call));
}

static void use_space(struct guest *g, u64 root)
{
    g->tables = g->free = root;
    g->vcpu->cpu.cr3 = root;
    map(g, CODE, CODE_PA | ALL);
    map(g, DATA, DATA_PA | ALL);
}

static int setup(void **state)
{
    struct error err;
    struct guest *g = calloc(1, sizeof(*g));
    board_init(&g->board, &g->log);
    g->board.pmap = pmap_create(RAM_SIZE, &err);
    ensure(g->board.pmap);
    ensure(x86_model_init(&g->model, NULL, 1, 1000000000, &err));
    g->vcpu = vcpu_create(&g->board, 0);
    g->board.vcpus = &g->vcpu;
    g->board.n_vcpus = 1;
    struct x86_cpu *c = &g->vcpu->cpu;
    c->model = &g->model;
    c->log = &g->log;
    x86_reset(c);
    c->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_MP | CR0_ET;
    c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    c->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    c->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    c->seg[SEG_CS].attr |= SEG_L;
    x86_derive(c);
    c->code_size = 8;
    c->cpl = 3;
    c->rflags = FLAG_FIXED | FLAG_IF;
    g->world = (struct shadow_world){.cpu = c,
                                     .vcpu = g->vcpu,
                                     .pmap = g->board.pmap,
                                     .findings = calloc(RAM_SIZE >> PAGE_SHIFT, sizeof(u16)),
                                     .writable = calloc(RAM_SIZE >> PAGE_SHIFT, 1)};
    use_space(g, TABLES);
    put_code(g);
    if (!zygote_create(&g->zygote, pmap_file(g->board.pmap), &err) ||
        !cell_create(&g->cell, &g->zygote, BASE, false, &err))
        fail_msg("%s", err.text);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    struct guest *g = *state;
    shadow_free(&g->shadow);
    cell_destroy(&g->cell);
    zygote_destroy(&g->zygote);
    free(g->world.findings);
    free(g->world.writable);
    vcpu_destroy(g->vcpu);
    pmap_destroy(g->board.pmap);
    g->board.n_vcpus = 0;
    board_destroy(&g->board);
    free(g);
    return 0;
}

/* -- Running ------------------------------------------------------------------------------- */

/* As the engine does: false where a page fault is not for the shadow to serve. */
static bool run(struct guest *g, u64 rip, u64 rdi, u64 rax)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    c->rip = rip;
    c->gpr[RDI] = rdi;
    c->gpr[RAX] = rax;
    c->gpr[RSP] = DATA + PAGE_SIZE;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(mapper_run(&g->cell.mapper) >= 0, 1);
        assert_int_equal(cell_run(&g->cell, c, &g->stop), CELL_STOPPED);
        if (g->stop.signal != SIGSEGV || g->stop.trap != VEC_PF)
            return true;
        enum x86_access access = g->stop.error & PF_W   ? ACCESS_WRITE
                                 : g->stop.error & PF_I ? ACCESS_EXEC
                                                        : ACCESS_READ;
        g->answer = shadow_fault(&g->shadow, &g->world, &g->cell, g->stop.cr2, access);
        if (g->answer != SHADOW_MAPPED)
            return false;
    }
    fail_msg("no end of faults at %llx", (unsigned long long)g->stop.cr2);
    return false;
}

static void assert_loads(struct guest *g, u64 va, u64 value)
{
    assert_true(run(g, LOAD, va, 0));
    assert_int_equal(g->stop.signal, SIGTRAP);
    assert_int_equal(g->vcpu->cpu.gpr[RAX], value);
}

static void assert_refused(struct guest *g, u64 rip, u64 va, enum shadow_answer answer)
{
    assert_false(run(g, rip, va, ~0ull));
    assert_int_equal(g->answer, answer);
}

static void invlpg(struct guest *g, u64 va)
{
    assert_true(cell_verify(&g->cell));
    shadow_invalidate(&g->shadow, &g->world, &g->cell, va);
}

static void flush(struct guest *g)
{
    assert_true(cell_verify(&g->cell));
    shadow_compare(&g->shadow, &g->world, &g->cell);
}

static void put(struct guest *g, u64 pa, u64 value)
{
    memcpy(at(g, pa), &value, sizeof(value));
}

/* -- Tables -------------------------------------------------------------------------------- */

static void test_accessed_and_dirty(void **state)
{
    struct guest *g = *state;
    put(g, DATA_PA + 0x1000, 77);
    map(g, DATA + 0x1000, (DATA_PA + 0x1000) | CLEAN);
    assert_loads(g, DATA + 0x1000, 77);
    assert_int_equal(*entry(g, DATA + 0x1000, 12) & (PTE_A | PTE_D), PTE_A);
    assert_true(run(g, STORE, DATA + 0x1000, 78));
    assert_int_equal(*entry(g, DATA + 0x1000, 12) & (PTE_A | PTE_D), PTE_A | PTE_D);
    assert_int_equal(*(u64 *)at(g, DATA_PA + 0x1000), 78);
    /* The guest cleans the page: the next store must show again. */
    for (unsigned i = 0; i < 2; i++) {
        *entry(g, DATA + 0x1000, 12) &= ~(PTE_A | PTE_D);
        if (i)
            flush(g);
        else
            invlpg(g, DATA + 0x1000);
        assert_true(run(g, STORE, DATA + 0x1000, 79 + i));
        assert_int_equal(*entry(g, DATA + 0x1000, 12) & (PTE_A | PTE_D), PTE_A | PTE_D);
    }
}

static void test_rights(void **state)
{
    struct guest *g = *state;
    map(g, DATA + 0x1000, (DATA_PA + 0x1000) | (ALL & ~PTE_W));
    map(g, DATA + 0x2000, (DATA_PA + 0x2000) | (ALL & ~PTE_U));
    map(g, DATA + 0x3000, (DATA_PA + 0x3000) | ALL | PTE_NX);
    map(g, DATA + 0x4000, (RAM_SIZE + 0x10000000) | ALL); /* no RAM */
    assert_loads(g, DATA + 0x1000, 0);
    assert_refused(g, STORE, DATA + 0x1000, SHADOW_FAULT);
    assert_refused(g, LOAD, DATA + 0x2000, SHADOW_FAULT);
    assert_refused(g, STORE, DATA + 0x2000, SHADOW_FAULT);
    assert_loads(g, DATA + 0x3000, 0);
    assert_refused(g, CALL, DATA + 0x3000, SHADOW_FAULT);
    assert_refused(g, LOAD, DATA + 0x4000, SHADOW_STEP);
    assert_refused(g, LOAD, DATA + 0x5000, SHADOW_FAULT);
    assert_refused(g, LOAD, FAR, SHADOW_FAULT);
}

/* After INVLPG, a page that was freed cannot be reached, one that was moved is the new one. */
static void test_invalidated(void **state)
{
    struct guest *g = *state;
    const u64 va = DATA + 0x1000;
    put(g, DATA_PA + 0x1000, 1);
    put(g, DATA_PA + 0x2000, 2);
    map(g, va, (DATA_PA + 0x1000) | ALL);
    assert_true(run(g, STORE, va, 3));
    map(g, va, (DATA_PA + 0x2000) | ALL);
    invlpg(g, va);
    assert_loads(g, va, 2);
    map(g, va, 0);
    invlpg(g, va);
    assert_refused(g, LOAD, va, SHADOW_FAULT);
    assert_refused(g, STORE, va, SHADOW_FAULT);
    assert_int_equal(*(u64 *)at(g, DATA_PA + 0x1000), 3);
    assert_int_equal(*(u64 *)at(g, DATA_PA + 0x2000), 2);
}

/* The same by a load of CR3: entries, and the tables above them. */
static void test_flushed(void **state)
{
    struct guest *g = *state;
    for (u64 page = 1; page < 40; page++) {
        put(g, DATA_PA + page * PAGE_SIZE, page);
        map(g, DATA + page * PAGE_SIZE, (DATA_PA + page * PAGE_SIZE) | ALL);
        assert_loads(g, DATA + page * PAGE_SIZE, page);
    }
    for (u64 page = 1; page < 40; page += 2)
        map(g, DATA + page * PAGE_SIZE, (DATA_PA + (page + 1) * PAGE_SIZE) | ALL);
    map(g, DATA + 4 * PAGE_SIZE, (DATA_PA + 4 * PAGE_SIZE) | (ALL & ~PTE_W));
    flush(g);
    assert_loads(g, DATA + 3 * PAGE_SIZE, 4);
    assert_loads(g, DATA + 2 * PAGE_SIZE, 2);
    assert_refused(g, STORE, DATA + 4 * PAGE_SIZE, SHADOW_FAULT);
    *entry(g, DATA, 21) = 0;
    flush(g);
    assert_refused(g, LOAD, DATA + 3 * PAGE_SIZE, SHADOW_FAULT);
}

/* Another address space takes over the cell of one whose CR3 it has got. */
static void test_same_cr3(void **state)
{
    struct guest *g = *state;
    put(g, DATA_PA + 0x1000, 1);
    map(g, DATA + 0x1000, (DATA_PA + 0x1000) | ALL);
    assert_loads(g, DATA + 0x1000, 1);
    memset(at(g, TABLES), 0, PAGE_SIZE); /* as a kernel that makes a new PML4 there */
    g->free = OTHERS;
    map(g, CODE, CODE_PA | ALL);
    map(g, DATA, DATA_PA | ALL);
    map(g, DATA + 0x2000, (DATA_PA + 0x2000) | ALL);
    flush(g);
    assert_refused(g, LOAD, DATA + 0x1000, SHADOW_FAULT);
    assert_loads(g, DATA + 0x2000, 0);
}

/* The last region of user addresses, where Linux puts what its user probes need, goes with its
 * table, too: the host has a page less there. */
static void test_last_page(void **state)
{
    struct guest *g = *state;
    const u64 last = CELL_TASK_END - PAGE_SIZE;
    put(g, DATA_PA + 0x1000, 1);
    put(g, DATA_PA + 0x2000, 2);
    map(g, last, (DATA_PA + 0x1000) | ALL);
    assert_loads(g, last, 1);
    *entry(g, last, 21) = 0;
    flush(g);
    assert_refused(g, LOAD, last, SHADOW_FAULT);
    map(g, last, (DATA_PA + 0x2000) | ALL);
    assert_loads(g, last, 2);
}

/* Guest pages around the block go with their tables, the block stays. */
static void test_beside_the_block(void **state)
{
    struct guest *g = *state;
    const u64 before = BASE - PAGE_SIZE, behind = BASE + CELL_PAGES * PAGE_SIZE;
    assert_true(before >> 21 == behind >> 21);
    put(g, DATA_PA + 0x1000, 1);
    put(g, DATA_PA + 0x2000, 2);
    map(g, before, (DATA_PA + 0x1000) | ALL);
    map(g, behind, (DATA_PA + 0x2000) | ALL);
    assert_loads(g, before, 1);
    assert_loads(g, behind, 2);
    *entry(g, BASE, 21) = 0;
    flush(g);
    assert_refused(g, LOAD, before, SHADOW_FAULT);
    assert_refused(g, LOAD, behind, SHADOW_FAULT);
    assert_loads(g, CODE, *(u64 *)at(g, CODE_PA));
}

static void test_large_pages(void **state)
{
    struct guest *g = *state;
    const u64 large = 0x1000000;
    for (u64 page = 0; page < 512; page++)
        put(g, large + page * PAGE_SIZE, page);
    *entry(g, FAR, 21) = large | ALL | PTE_PS;
    for (u64 page = 0; page < 512; page += 7)
        assert_loads(g, FAR + page * PAGE_SIZE, page);
    assert_true(g->world.stats.faults < 10);
    /* INVLPG of one address drops all of it. */
    *entry(g, FAR, 21) = 0;
    invlpg(g, FAR + 0x5000);
    for (u64 page = 0; page < 512; page += 7)
        assert_refused(g, LOAD, FAR + page * PAGE_SIZE, SHADOW_FAULT);
    /* 1 GiB: a fragment of it here and there. */
    const u64 huge = 0x40000000;
    *entry(g, huge, 30) = 0 | ALL | PTE_PS;
    assert_loads(g, huge + large, 0);
    assert_loads(g, huge + large + 0x200000, 0);
    assert_loads(g, huge + large + 9 * PAGE_SIZE, 9);
    *entry(g, huge, 30) = 0;
    invlpg(g, huge);
    assert_refused(g, LOAD, huge + large + 9 * PAGE_SIZE, SHADOW_FAULT);
}

/* Regions are dropped when the host's table of mappings is full, and come back. */
static void test_eviction(void **state)
{
    struct guest *g = *state;
    const u64 pages = 65000, first = 0x8000000, frames = first >> PAGE_SHIFT;
    g->free = 0x2000000;
    for (u64 page = 0; page < pages; page++) {
        /* No two neighbours: each is a mapping of its own. */
        u64 frame = frames + page * 7 % pages;
        map(g, 0x10000000 + page * PAGE_SIZE, frame << PAGE_SHIFT | ALL);
        put(g, frame << PAGE_SHIFT, page);
    }
    for (u64 page = 0; page < pages; page += 16)
        assert_loads(g, 0x10000000 + page * PAGE_SIZE, page);
    assert_true(g->shadow.runs <= 60000);
    assert_true(g->world.stats.evicted > 0);
    assert_loads(g, 0x10000000, 0);
    assert_loads(g, 0x10000000 + (pages - 1) * PAGE_SIZE, pages - 1);
}

/* Neighbours in the guest's memory are one mapping of the host: more pages than it has
 * mappings. */
static void test_runs(void **state)
{
    struct guest *g = *state;
    const u64 pages = 65536, first = 0x8000000;
    g->free = 0x2000000;
    for (u64 page = 0; page < pages; page++) {
        map(g, 0x10000000 + page * PAGE_SIZE, (first + page * PAGE_SIZE) | ALL);
        put(g, first + page * PAGE_SIZE, page);
    }
    for (u64 page = 0; page < pages; page += 8)
        assert_loads(g, 0x10000000 + page * PAGE_SIZE, page);
    assert_int_equal(g->world.stats.evicted, 0);
    assert_true(g->shadow.pages >= pages && g->shadow.runs < 1000);
    /* A page of their middle moves: that makes two more. */
    u64 runs = g->shadow.runs;
    map(g, 0x10100000, (first + 77 * PAGE_SIZE) | ALL);
    invlpg(g, 0x10100000);
    assert_loads(g, 0x10100000, 77);
    assert_int_equal(g->shadow.runs, runs + 2);
}

static void test_collides(void **state)
{
    struct guest *g = *state;
    assert_false(shadow_collides(&g->world, &g->cell));
    map(g, BASE + 3 * PAGE_SIZE, DATA_PA | ALL);
    assert_true(shadow_collides(&g->world, &g->cell));
}

/* -- Code ---------------------------------------------------------------------------------- */

#define OWN_CODE (DATA + 0x8000)
#define OWN_PA   (DATA_PA + 0x8000)

/* What the engine does when somebody writes to a page that was scanned. */
static void rewrite(struct guest *g, u64 pa, const void *bytes, u64 size)
{
    u64 frame = pa >> PAGE_SHIFT;
    memcpy(at(g, pa), bytes, size);
    g->world.findings[frame] = 0;
    pmap_set_flags(g->board.pmap, gfn(frame), 0, PMAP_CODE);
    shadow_revoke(&g->shadow, &g->cell, frame, PROT_EXEC);
}

static void test_rewritten_code(void **state)
{
    static const u8 good[] = {0x90, 0x90, 0xc3}, bad[] = {0x0f, 0xa2, 0xc3};
    struct guest *g = *state;
    map(g, OWN_CODE, OWN_PA | ALL);
    rewrite(g, OWN_PA, good, sizeof(good));
    assert_true(run(g, CALL, OWN_CODE, 0));
    assert_int_equal(g->stop.signal, SIGTRAP);
    /* It is watched from now on, and the cell cannot write to it unseen. */
    assert_true(pmap_flags(g->board.pmap, gfn(OWN_PA >> PAGE_SHIFT)) & PMAP_CODE);
    assert_refused(g, STORE, OWN_CODE, SHADOW_STEP);
    rewrite(g, OWN_PA, bad, sizeof(bad));
    assert_refused(g, CALL, OWN_CODE, SHADOW_CODE);
    assert_int_equal(g->world.stats.refused_code[FOUND_CPUID], 1);
    assert_int_equal(g->vcpu->cpu.rip, OWN_CODE); /* nothing of it ran */
}

/* A page that was writable and turns out to be code loses that right before it is scanned. */
static void test_written_then_run(void **state)
{
    struct guest *g = *state;
    u64 code = 0xc39090; /* nop; nop; ret */
    map(g, OWN_CODE, OWN_PA | ALL);
    assert_true(run(g, STORE, OWN_CODE, code));
    access_watch_code(g->vcpu, gfn(OWN_PA >> PAGE_SHIFT));
    shadow_revoke(&g->shadow, &g->cell, OWN_PA >> PAGE_SHIFT, PROT_WRITE);
    assert_true(run(g, CALL, OWN_CODE, 0));
    assert_int_equal(g->stop.signal, SIGTRAP);
    assert_refused(g, STORE, OWN_CODE, SHADOW_STEP);
}

/* CPUID across two pages is found whichever page comes first, is written or is mapped anew. */
static void test_across(void **state)
{
    static const u8 ret = 0xc3, escape = 0x0f, nop = 0x90, cpuid[] = {0xa2, 0xc3};
    struct guest *g = *state;
    const u64 second = OWN_CODE + PAGE_SIZE, second_pa = OWN_PA + PAGE_SIZE;
    map(g, OWN_CODE, OWN_PA | ALL);
    for (unsigned order = 0; order < 4; order++) {
        map(g, second, second_pa | ALL);
        flush(g);
        rewrite(g, OWN_PA, &ret, 1);
        rewrite(g, OWN_PA + PAGE_SIZE - 1, &escape, 1);
        memset(at(g, second_pa), nop, 8);
        rewrite(g, second_pa, order < 2 ? cpuid : &ret, order < 2 ? 2 : 1);
        rewrite(g, second_pa + 4, &ret, 1);
        if (order == 0) {
            assert_true(run(g, CALL, OWN_CODE, 0));
            assert_refused(g, CALL, second + 4, SHADOW_CODE);
        } else if (order == 1) {
            assert_true(run(g, CALL, second + 4, 0));
            assert_refused(g, CALL, OWN_CODE, SHADOW_CODE);
        } else {
            assert_true(run(g, CALL, OWN_CODE, 0));
            assert_true(run(g, CALL, second + 4, 0));
            if (order == 2) {
                rewrite(g, second_pa, cpuid, 2);
            } else {
                memset(at(g, OWN_PA + 2 * PAGE_SIZE), nop, PAGE_SIZE);
                rewrite(g, OWN_PA + 2 * PAGE_SIZE, cpuid, 2);
                map(g, second, (second_pa + PAGE_SIZE) | ALL);
                invlpg(g, second);
            }
            assert_refused(g, CALL, OWN_CODE + PAGE_SIZE - 1, SHADOW_CODE);
            assert_int_equal(g->vcpu->cpu.rip, OWN_CODE + PAGE_SIZE - 1);
        }
    }
}

/* Neighbours that are mapped in one batch are judged beside each other. */
static void test_across_prefetched(void **state)
{
    static const u8 ret = 0xc3, escape = 0x0f, cpuid[] = {0xa2, 0xc3};
    struct guest *g = *state;
    map(g, OWN_CODE, OWN_PA | ALL);
    map(g, OWN_CODE + PAGE_SIZE, (OWN_PA + PAGE_SIZE) | ALL);
    for (unsigned wanted = 0; wanted < 2; wanted++) {
        rewrite(g, OWN_PA, &ret, 1);
        rewrite(g, OWN_PA + PAGE_SIZE - 1, &escape, 1);
        rewrite(g, OWN_PA + PAGE_SIZE, cpuid, 2);
        rewrite(g, OWN_PA + PAGE_SIZE + 8, &ret, 1);
        assert_true(run(g, CALL, wanted ? OWN_CODE + PAGE_SIZE + 8 : OWN_CODE, 0));
        assert_false(run(g, CALL, OWN_CODE + PAGE_SIZE - 1, 0));
        assert_int_equal(g->answer, SHADOW_CODE);
    }
}

/* -- Guards -------------------------------------------------------------------------------- */

#define GUARDED_PAGES (GUARDS + 2)
#define TRAPPED       0xa20f

static u64 guarded_page(unsigned i)
{
    return FAR + (u64)i * 16 * PAGE_SIZE;
}

/* mov eax, TRAPPED; int3: CPUID begins at its second byte. */
static void put_guarded(struct guest *g)
{
    static const u8 code[] = {0xb8, 0x0f, 0xa2, 0, 0, 0xcc};
    for (unsigned i = 0; i < GUARDED_PAGES; i++) {
        u64 pa = CODE_PA + (i + 1) * PAGE_SIZE;
        memcpy(at(g, pa) + 16, code, sizeof(code));
        map(g, guarded_page(i), pa | ALL);
    }
}

/* How often the page is refused before it is executed; at most 100. */
static unsigned visits(struct guest *g, unsigned i)
{
    unsigned n = 0;
    while (n < 100 && !run(g, guarded_page(i) + 16, 0, 0)) {
        assert_int_equal(g->answer, SHADOW_CODE);
        n++;
    }
    if (n < 100) {
        assert_int_equal(g->vcpu->cpu.gpr[RAX], TRAPPED);
        assert_int_equal(g->vcpu->cpu.rip, guarded_page(i) + 16 + 6);
    }
    return n;
}

/* Who jumps there stops before: the page is not executable, or a guard stands there. */
static void assert_stops(struct guest *g, u64 place)
{
    if (run(g, place, 0, 1)) {
        assert_int_equal(g->stop.signal, SIGTRAP);
        assert_int_equal(g->stop.code, 6);
    } else {
        assert_int_equal(g->answer, SHADOW_CODE);
    }
    assert_int_equal(g->vcpu->cpu.rip, place);
    assert_int_equal(g->vcpu->cpu.gpr[RAX], 1);
}

static void assert_guarded(struct guest *g, unsigned i)
{
    assert_stops(g, guarded_page(i) + 17);
}

/* Pages that are visited often are executed, a few at a time, and are no less safe. */
static void test_guards(void **state)
{
    struct guest *g = *state;
    put_guarded(g);
    assert_guarded(g, 0);
    unsigned first = visits(g, 0);
    if (g->cell.guards.refused) { /* by the host */
        assert_int_equal(first, 100);
        return;
    }
    assert_in_range(first, 2, 20);
    assert_int_equal(visits(g, 0), 0);
    for (unsigned i = 1; i < GUARDED_PAGES; i++)
        assert_in_range(visits(g, i), 2, 20);
    for (unsigned i = 0; i < GUARDED_PAGES; i++)
        assert_guarded(g, i);
    assert_int_equal(visits(g, GUARDED_PAGES - 1), 0);
    assert_true(visits(g, 0) > 0); /* its guard was another's meanwhile */
    invlpg(g, guarded_page(0));
    assert_int_equal(visits(g, 0), 0); /* it comes back at once */
    assert_guarded(g, 0);
}

/* Guards are of the code that they were placed for. */
static void test_guards_rewritten(void **state)
{
    static const u8 cpuid[] = {0x0f, 0xa2};
    const u64 pa = CODE_PA + PAGE_SIZE;
    struct guest *g = *state;
    put_guarded(g);
    visits(g, 0);
    memcpy(at(g, pa) + 64, cpuid, sizeof(cpuid));
    g->world.findings[pa >> PAGE_SHIFT] = 0;
    shadow_revoke(&g->shadow, &g->cell, pa >> PAGE_SHIFT, PROT_EXEC);
    visits(g, 0);
    assert_guarded(g, 0);
    assert_stops(g, guarded_page(0) + 64);
}

/* -- Copies -------------------------------------------------------------------------------- */

struct code_of {
    struct annex_source source;
    struct guest *guest;
};

static const u8 *code_page(const struct annex_source *source, u64 va)
{
    struct guest *g = ((const struct code_of *)source)->guest;
    return shadow_code(&g->shadow, &g->world, &g->cell, va);
}

/* RAX after a copy of mov eax, value; cpuid, which stops it; 0: there is none. */
static u64 run_copy(struct guest *g, u64 rip)
{
    const struct code_of of = {{code_page}, g};
    struct x86_cpu *c = &g->vcpu->cpu;
    u64 at = annex_enter(&g->cell.annex, &of.source, c, rip);
    if (!at)
        return 0;
    assert_true(mapper_run(&g->cell.mapper) >= 0);
    c->rip = at;
    assert_int_equal(cell_run(&g->cell, c, &g->stop), CELL_STOPPED);
    annex_take(&g->cell.annex, c, &g->stop);
    assert_int_equal(c->rip, rip + 5);
    return c->gpr[RAX];
}

static void put_copied(struct guest *g, u64 pa, u32 value)
{
    const u8 code[] = {0xb8, (u8)value, 0, 0, 0, 0x0f, 0xa2}; /* mov eax, value; cpuid */
    memcpy(at(g, pa), code, sizeof(code));
}

/* A page with both: guards stop its code, not the copies; who loses the guards loses both. */
static void test_guards_and_copies(void **state)
{
    const u64 pa = CODE_PA + PAGE_SIZE + 256, copied = guarded_page(0) + 256;
    struct guest *g = *state;
    if (!annex_works(&g->model))
        skip();
    put_guarded(g);
    put_copied(g, pa, 7);
    unsigned first = visits(g, 0);
    if (g->cell.guards.refused)
        skip();
    assert_in_range(first, 2, 20);
    assert_int_equal(run_copy(g, copied), 7);
    assert_int_equal(g->stop.signal, SIGSEGV); /* its HLT */
    assert_int_equal(visits(g, 0), 0);         /* the page runs, too */
    assert_guarded(g, 0);
    assert_stops(g, copied + 5);
    assert_false(g->cell.annex.stale);
    /* Other pages take its guards. */
    for (unsigned i = 1; i < GUARDED_PAGES; i++)
        assert_in_range(visits(g, i), 2, 20);
    assert_true(g->cell.annex.stale);
    assert_guarded(g, 0);
    assert_stops(g, copied + 5);
    assert_int_equal(run_copy(g, copied), 7);
    assert_int_equal(g->answer, SHADOW_CODE);
    /* It is written while it has both. */
    assert_true(visits(g, 0) < 100);
    assert_int_equal(run_copy(g, copied), 7);
    put_copied(g, pa, 9);
    g->world.findings[pa >> PAGE_SHIFT] = 0;
    shadow_revoke(&g->shadow, &g->cell, pa >> PAGE_SHIFT, PROT_EXEC | SHADOW_COPIED);
    assert_true(g->cell.annex.stale);
    assert_int_equal(run_copy(g, copied), 9);
    assert_guarded(g, 0);
}

/* A copy lives as long as the page it is of: until the guest's tables, or the page, change. */
static void test_copies(void **state)
{
    struct guest *g = *state;
    const u64 va = CODE + 0x1000, pa = CODE_PA + 0x1000;
    if (!annex_works(&g->model))
        skip();
    put_copied(g, pa, 1);
    put_copied(g, pa + 0x1000, 2);
    assert_int_equal(run_copy(g, va), 0); /* not there */
    map(g, va, pa | ALL | PTE_NX);
    assert_int_equal(run_copy(g, va), 0);
    map(g, va, (pa | ALL) & ~PTE_U);
    assert_int_equal(run_copy(g, va), 0);
    map(g, va, pa | ALL);
    assert_int_equal(run_copy(g, va), 1);
    /* Read as it is, while copies run. */
    u64 bytes;
    memcpy(&bytes, at(g, pa), sizeof(bytes));
    assert_loads(g, va, bytes);
    assert_false(g->cell.annex.stale);
    assert_int_equal(run_copy(g, va), 1);
    /* Another page, then none. */
    map(g, va, (pa + 0x1000) | ALL);
    invlpg(g, va);
    assert_true(g->cell.annex.stale);
    assert_int_equal(run_copy(g, va), 2);
    map(g, va, pa | ALL);
    flush(g);
    assert_int_equal(run_copy(g, va), 1);
    map(g, va, 0);
    flush(g);
    assert_int_equal(run_copy(g, va), 0);
    /* The page is written: the engine revokes it (notes_code_written). */
    map(g, va, pa | ALL);
    assert_int_equal(run_copy(g, va), 1);
    put_copied(g, pa, 3);
    assert_true(cell_verify(&g->cell));
    shadow_revoke(&g->shadow, &g->cell, pa >> PAGE_SHIFT, PROT_EXEC | SHADOW_COPIED);
    assert_int_equal(run_copy(g, va), 3);
    /* The tables above it. */
    *entry(g, va, 21) &= ~PTE_P;
    flush(g);
    assert_int_equal(run_copy(g, va), 0);
    assert_int_equal(run_copy(g, BASE), 0);
    assert_int_equal(run_copy(g, BIT(47)), 0);
}

int main(void)
{
    if (!probe_direct())
        return 77;
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_copies),
        CASE(test_accessed_and_dirty),
        CASE(test_rights),
        CASE(test_invalidated),
        CASE(test_flushed),
        CASE(test_same_cr3),
        CASE(test_last_page),
        CASE(test_beside_the_block),
        CASE(test_large_pages),
        CASE(test_eviction),
        CASE(test_runs),
        CASE(test_collides),
        CASE(test_rewritten_code),
        CASE(test_written_then_run),
        CASE(test_across),
        CASE(test_across_prefetched),
        CASE(test_guards),
        CASE(test_guards_rewritten),
        CASE(test_guards_and_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
