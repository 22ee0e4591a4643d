/*
 * The page-table walk against a brute-force model: random page tables full of random bits, and
 * a second reading of SDM vol. 3, chapter 4 that shares no code with memory/walk.c. Every
 * result, error code and accessed or dirty bit must agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memory/walk.h"
#include "x86/model.h"

#define FRAMES 64
#define ROUNDS 400000

static struct x86_model model = {.phys_bits = 40};

static u64 random_state = 0x9e3779b97f4a7c15;

static u64 random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static bool chance(unsigned percent)
{
    return random64() % 100 < percent;
}

/* -- The model ----------------------------------------------------------------------------- */

struct verdict {
    bool ok;
    u32 error;
    u64 gpa;
    /* The entries that get bits set: where, how wide, which bits. */
    unsigned n;
    struct {
        u64 where;
        u64 bits;
    } set[4];
};

static u64 read_ram(struct pmap *pmap, u64 where, unsigned size)
{
    u8 *page = pmap_page(pmap, gfn(where >> 12));
    u64 value = ~0ull;
    if (page)
        memcpy(&value, page + (where & 0xfff), size);
    if (size == 4)
        value &= 0xffffffff;
    return value;
}

static u32 code_of(struct x86_cpu *c, struct walk_access a, bool present, bool reserved)
{
    bool nx_or_smep = ((c->cr4 & CR4_PAE) && (c->efer & EFER_NXE)) || (c->cr4 & CR4_SMEP);
    return (present ? 1u : 0) | (a.access == ACCESS_WRITE ? 2u : 0) | (a.user ? 4u : 0) |
           (reserved ? 8u : 0) | (a.access == ACCESS_EXEC && nx_or_smep ? 16u : 0);
}

static bool rights(struct x86_cpu *c, struct walk_access a, bool u, bool w, bool nx)
{
    if (a.user) {
        if (!u)
            return false;
        if (a.access == ACCESS_WRITE)
            return w;
        if (a.access == ACCESS_EXEC)
            return !nx;
        return true;
    }
    if (a.access == ACCESS_EXEC)
        return !nx && !(u && (c->cr4 & CR4_SMEP));
    if (u && (c->cr4 & CR4_SMAP) && !a.smap_off)
        return false;
    return a.access == ACCESS_READ || w || !(c->cr0 & CR0_WP);
}

static struct verdict model_walk(struct x86_cpu *c, struct pmap *pmap, u64 la,
                                 struct walk_access a)
{
    struct verdict v = {0};
    bool long_mode = c->efer & EFER_LMA, pae = c->cr4 & CR4_PAE;
    bool nxe = c->efer & EFER_NXE;
    unsigned size = pae ? 8 : 4;
    unsigned shifts[4], n;
    u64 table;
    if (long_mode) {
        n = 4, table = c->cr3 & 0xffffffffff000;
        shifts[0] = 39, shifts[1] = 30, shifts[2] = 21, shifts[3] = 12;
    } else if (pae) {
        u64 pdpte = c->pdpte[la >> 30 & 3];
        if (!(pdpte & 1)) {
            v.error = code_of(c, a, false, false);
            return v;
        }
        n = 2, table = pdpte & 0xffffffffff000;
        shifts[0] = 21, shifts[1] = 12;
    } else {
        n = 2, table = c->cr3 & 0xfffff000;
        shifts[0] = 22, shifts[1] = 12;
    }
    bool u = true, w = true, nx = false;
    for (unsigned i = 0; i < n; i++) {
        u64 where =
            table + (pae ? (la >> shifts[i] & 0x1ff) * 8 : (la >> shifts[i] & 0x3ff) * 4);
        u64 e = read_ram(pmap, where, size);
        if (!(e & 1)) {
            v.error = code_of(c, a, false, false);
            return v;
        }
        bool ps = e & 0x80;
        bool leaf = shifts[i] == 12;
        bool bad = !pmap_page(pmap, gfn(where >> 12));
        if (shifts[i] == 39 && ps)
            bad = true;
        if (shifts[i] == 30 && ps) {
            leaf = x86_has(&model, FEAT_PDPE1GB);
            bad |= !leaf || (e & 0x3fffe000);
        }
        if (shifts[i] == 21 && ps) {
            leaf = true;
            bad |= (e & 0x1fe000) != 0;
        }
        if (shifts[i] == 22 && ps && (c->cr4 & CR4_PSE)) {
            leaf = true;
            bad |= (e & 0x200000) != 0;
        }
        if (size == 8) {
            bad |= (e >> 40 & 0xfff) != 0;
            bad |= !nxe && (e >> 63);
            bad |= !long_mode && (e >> 52 & 0x7ff) != 0;
        }
        if (bad) {
            v.error = code_of(c, a, true, true);
            return v;
        }
        u = u && (e & 4);
        w = w && (e & 2);
        nx = nx || (size == 8 && (e >> 63));
        if (!leaf) {
            v.set[v.n].where = where;
            v.set[v.n++].bits = 0x20;
            table = e & (size == 8 ? 0xffffffffff000 : 0xfffff000);
            continue;
        }
        if (!rights(c, a, u, w, nx)) {
            v.error = code_of(c, a, true, false);
            return v;
        }
        v.set[v.n].where = where;
        v.set[v.n++].bits = a.access == ACCESS_WRITE ? 0x60 : 0x20;
        u64 mask = (1ull << shifts[i]) - 1;
        u64 base = shifts[i] == 22 ? (e & 0xffc00000) | (e >> 13 & 0xff) << 32
                                   : e & 0xffffffffff000 & ~mask;
        v.ok = true;
        v.gpa = base | (la & mask);
        return v;
    }
    return v;
}

/* -- Random worlds ------------------------------------------------------------------------- */

static u64 random_entry(unsigned size)
{
    u64 e = (random64() % FRAMES) << 12 | (random64() & 0x17f);
    if (chance(90))
        e |= 1;
    if (chance(80))
        e |= 6;
    if (chance(15))
        e = (e | 0x80) & ~(chance(70) ? 0x3ff000ull : 0);
    if (chance(5))
        e |= 1ull << (random64() % 64);
    if (size == 8 && chance(10))
        e |= PTE_NX;
    return size == 8 ? e : (u32)e;
}

static void random_tables(struct pmap *pmap, unsigned size)
{
    for (unsigned f = 0; f < FRAMES; f++) {
        u8 *page = pmap_page(pmap, gfn(f));
        for (unsigned i = 0; i < PAGE_SIZE / size; i++) {
            u64 e = random_entry(size);
            memcpy(page + i * size, &e, size);
        }
    }
}

static void random_mode(struct x86_cpu *c)
{
    unsigned kind = random64() % 3;
    c->cr0 = CR0_PE | CR0_PG | (chance(50) ? CR0_WP : 0);
    c->cr4 = (kind ? CR4_PAE : 0) | (chance(70) ? CR4_PSE : 0) | (chance(50) ? CR4_SMEP : 0) |
             (chance(50) ? CR4_SMAP : 0) | (chance(50) ? CR4_PGE : 0);
    c->efer = (kind == 2 ? EFER_LME | EFER_LMA : 0) | (chance(70) ? EFER_NXE : 0);
    c->cr3 = (random64() % FRAMES) << 12;
    model.features[CPUID_80000001_EDX] = chance(70) ? 1u << (FEAT_PDPE1GB & 31) : 0;
    for (unsigned i = 0; i < 4; i++)
        c->pdpte[i] = (random64() % FRAMES) << 12 | (chance(90) ? 1 : 0);
}

static u64 random_la(const struct x86_cpu *c)
{
    u64 la = random64();
    return c->efer & EFER_LMA ? (u64)((s64)(la << 16) >> 16) : (u32)la;
}

static void check_one(struct x86_cpu *c, struct pmap *pmap)
{
    u64 la = random_la(c);
    struct walk_access a = {.access = random64() % 3, .user = chance(50)};
    a.smap_off = !a.user && chance(50);
    struct verdict want = model_walk(c, pmap, la, a);
    unsigned size = c->cr4 & CR4_PAE ? 8 : 4;
    u64 before[4];
    for (unsigned i = 0; i < want.n; i++)
        before[i] = read_ram(pmap, want.set[i].where, size);
    struct walk_result got;
    u32 error = 0;
    bool ok = walk(c, pmap, gva(la), a, &got, &error);
    assert_int_equal(ok, want.ok);
    if (!ok)
        assert_int_equal(error, want.error);
    else
        assert_int_equal(got.gpa.v, want.gpa);
    for (unsigned i = 0; i < want.n; i++) {
        /* Two levels may name one entry; then it has the bits of both. */
        u64 bits_set = 0;
        for (unsigned k = 0; k < want.n; k++)
            bits_set |= want.set[k].where == want.set[i].where ? want.set[k].bits : 0;
        assert_int_equal(read_ram(pmap, want.set[i].where, size), before[i] | bits_set);
    }
    struct gpa peeked;
    if (ok && walk_peek(c, pmap, gva(la), &peeked))
        assert_int_equal(peeked.v, want.gpa);
}

static void test_model(void **state)
{
    struct error err;
    struct pmap *pmap = pmap_create(FRAMES * PAGE_SIZE, &err);
    struct x86_cpu *c = calloc(1, sizeof(*c));
    assert_non_null(pmap);
    c->model = &model;
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (round % 4096 == 0)
            random_tables(pmap, round / 4096 % 3 ? 8 : 4);
        random_mode(c);
        check_one(c, pmap);
    }
    free(c);
    pmap_destroy(pmap);
}

static void test_unpaged(void **state)
{
    struct x86_cpu *c = calloc(1, sizeof(*c));
    struct walk_result got;
    u32 error;
    c->model = &model;
    assert_true(walk(c, NULL, gva(0x12345678), (struct walk_access){.access = ACCESS_WRITE},
                     &got, &error));
    assert_int_equal(got.gpa.v, 0x12345678);
    assert_true(got.writable && got.executable && got.dirty);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_unpaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
