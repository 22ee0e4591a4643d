/* See fixture.h. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/ensure.h"

#define PML4      0x1000ull
#define IDT       0x8000ull
#define GDT       0x9000ull
#define TSS       0xa000ull
#define HANDLERS  0xb000ull
#define LOW_PDPT  0x2000ull
#define LOW_PD    0x3000ull
#define HIGH_PDPT 0x4000ull
#define LOW_PT    0x10000ull /* four tables */

static u64 next_random(u64 *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed ^ *seed >> 29;
}

u8 *guest_page(struct guest *g, u64 gpa_)
{
    return pmap_page(g->board.pmap, gfn(gpa_ >> PAGE_SHIFT));
}

static void put64(struct guest *g, u64 at, u64 value)
{
    memcpy(guest_page(g, at) + (at & ~PAGE_MASK), &value, 8);
}

void guest_write(struct guest *g, u64 la, const void *bytes, u64 size)
{
    const u8 *from = bytes;
    if (la >= KERNEL)
        la -= KERNEL;
    for (; size; size--, la++)
        guest_page(g, la)[la & ~PAGE_MASK] = *from++;
}

static void make_tables(struct guest *g)
{
    const u64 rights = PTE_P | PTE_W | PTE_U | PTE_A;
    put64(g, PML4, LOW_PDPT | rights);
    put64(g, PML4 + 511 * 8, HIGH_PDPT | rights);
    put64(g, LOW_PDPT, LOW_PD | rights);
    put64(g, HIGH_PDPT + 510 * 8, LOW_PD | rights);
    for (u64 i = 0; i < RAM_SIZE >> 21; i++)
        put64(g, LOW_PD + i * 8, (LOW_PT + i * PAGE_SIZE) | rights);
    for (u64 page = 0; page < RAM_SIZE >> PAGE_SHIFT; page++) {
        bool hole = page == HOLE >> PAGE_SHIFT;
        put64(g, LOW_PT + page * 8, hole ? 0 : page << PAGE_SHIFT | rights | PTE_D);
    }
}

/* Each vector: a handler that keeps its number in memory and halts. */
static void make_handlers(struct guest *g)
{
    for (u64 v = 0; v < 32; v++) {
        u64 at = HANDLERS + v * 16;
        const u8 code[] = {0x6a, (u8)v, 0xf4}; /* push v; hlt */
        guest_write(g, at, code, sizeof(code));
        put64(g, IDT + v * 16, (at & 0xffff) | 8 << 16 | 0x8e01ull << 32 | (at >> 16) << 48);
        put64(g, IDT + v * 16 + 8, 0);
    }
    put64(g, GDT + 8, 0x00af9b000000ffffull);
    put64(g, GDT + 16, 0x00cf93000000ffffull);
    put64(g, GDT + USER_SS - 3, 0x00cff3000000ffffull);
    put64(g, GDT + USER_CS - 3, 0x00affb000000ffffull);
    put64(g, TSS + 4, STACK - 0x1000);
    put64(g, TSS + 36, STACK - 0x2000); /* IST1: faults of any RSP can be delivered */
}

static void make_state(struct guest *g, u64 *seed)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    x86_reset(c);
    c->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_MP | CR0_ET;
    c->cr3 = PML4;
    c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    c->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    c->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    c->gdtr = (struct x86_table){GDT, 47};
    c->idtr = (struct x86_table){IDT, 32 * 16 - 1};
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        c->seg[s] = (struct x86_seg){
            16, SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | SEG_DB | SEG_G, 0xffffffff, 0};
    c->seg[SEG_CS] = (struct x86_seg){
        8, SEG_P | SEG_S | SEG_CODE | SEG_READ | SEG_ACCESSED | SEG_L | SEG_G, 0xffffffff, 0};
    c->seg[SEG_TR] = (struct x86_seg){24, SEG_P | DESC_TSS_BUSY, 0x67, TSS};
    c->seg[SEG_FS].base = DATA + 0x1000;
    c->seg[SEG_GS].base = DATA + 0x2000;
    c->rflags = FLAG_FIXED | (next_random(seed) & FLAGS_STATUS);
    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] = next_random(seed);
    c->gpr[RSP] = STACK;
    c->gpr[RBX] = DATA + 0x100;
    c->gpr[RSI] = DATA + 0x1100;
    c->gpr[R10] = DATA + 0x2100;
    c->gpr[R11] = DATA + 0x3100;
    c->rip = CODE;
    x86_derive(c);
}

static void make_data(struct guest *g, u64 *seed)
{
    for (u64 at = DATA; at < DATA + 0x10000; at += 8)
        put64(g, at, next_random(seed));
}

/* The same for all: made once, for CPUID takes a virtual host a long time. */
static const struct x86_model *host_model(void)
{
    static struct x86_model model;
    static bool made;
    if (!made)
        ensure(x86_model_init(&model, NULL, 1, 1000000000, NULL));
    made = true;
    return &model;
}

struct guest *guest_create_with(const struct engine *engine, u64 seed, u32 options)
{
    struct error err;
    struct guest *g = calloc(1, sizeof(*g));
    g->engine = engine;
    board_init(&g->board, &g->log);
    g->board.pmap = pmap_create(RAM_SIZE, &err);
    ensure(g->board.pmap);
    g->vcpu = vcpu_create(&g->board, 0);
    g->board.vcpus = &g->vcpu;
    g->board.n_vcpus = 1;
    g->vcpu->cpu.model = host_model();
    g->vcpu->cpu.log = &g->log;
    g->vcpu->engine = engine;
    g->vcpu->engine_options = options;
    ensure(engine->attach(g->vcpu, &err));
    make_tables(g);
    make_handlers(g);
    make_data(g, &seed);
    make_state(g, &seed);
    return g;
}

struct guest *guest_create(const struct engine *engine, u64 seed)
{
    return guest_create_with(engine, seed, 0);
}

void guest_destroy(struct guest *g)
{
    g->engine->detach(g->vcpu);
    vcpu_destroy(g->vcpu);
    pmap_destroy(g->board.pmap);
    g->board.n_vcpus = 0;
    board_destroy(&g->board);
    free(g);
}

enum engine_exit guest_run(struct guest *g)
{
    vcpu_enter_guest(g->vcpu);
    enum engine_exit exit = g->engine->enter(g->vcpu);
    vcpu_leave_guest(g->vcpu);
    return exit;
}

u64 guest_counter(const struct guest *g, const char *name)
{
    struct engine_counter counters[64];
    unsigned n = g->engine->counters(g->vcpu, counters, ARRAY_LEN(counters));
    ensure(n <= ARRAY_LEN(counters));
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(counters[i].name, name))
            return counters[i].value;
    fprintf(stderr, "no counter %s\n", name);
    abort();
}

/* -- Comparing ----------------------------------------------------------------------------- */

static const char *differ(char *text, const char *what, u64 where, u64 a, u64 b)
{
    snprintf(text, 200, "%s %#llx: %#llx, %#llx", what, (unsigned long long)where,
             (unsigned long long)a, (unsigned long long)b);
    return text;
}

static bool same_segment(const struct x86_seg *a, const struct x86_seg *b)
{
    return a->sel == b->sel && a->attr == b->attr && a->limit == b->limit && a->base == b->base;
}

/* Which pages of RAM were ever touched: the others read as zeros, and asking does not touch
 * them. */
static void touched_pages(const struct guest *g, u8 *touched)
{
    ensure(!mincore(guest_page((struct guest *)g, 0), RAM_SIZE, touched));
}

static const char *compare_ram(const struct guest *a, const struct guest *b, char *text)
{
    u8 in_a[RAM_SIZE >> PAGE_SHIFT], in_b[RAM_SIZE >> PAGE_SHIFT];
    touched_pages(a, in_a);
    touched_pages(b, in_b);
    for (u64 at = 0; at < RAM_SIZE; at += PAGE_SIZE) {
        if (!((in_a[at >> PAGE_SHIFT] | in_b[at >> PAGE_SHIFT]) & 1))
            continue;
        const u8 *p = guest_page((struct guest *)a, at), *q = guest_page((struct guest *)b, at);
        for (unsigned i = 0; memcmp(p, q, PAGE_SIZE) && i < PAGE_SIZE; i++) {
            if (p[i] != q[i])
                return differ(text, "memory", at + i, p[i], q[i]);
        }
    }
    return NULL;
}

const char *guest_compare(const struct guest *a, const struct guest *b, u64 ignored)
{
    static _Thread_local char text[200];
    const struct x86_cpu *x = &a->vcpu->cpu, *y = &b->vcpu->cpu;
    for (unsigned i = 0; i < 16; i++) {
        if (x->gpr[i] != y->gpr[i])
            return differ(text, "register", i, x->gpr[i], y->gpr[i]);
    }
    if (x->rip != y->rip)
        return differ(text, "rip", 0, x->rip, y->rip);
    if ((x->rflags ^ y->rflags) & ~ignored)
        return differ(text, "rflags", 0, x->rflags, y->rflags);
    if (x->cr2 != y->cr2)
        return differ(text, "cr2", 0, x->cr2, y->cr2);
    for (unsigned s = SEG_ES; s <= SEG_GS; s++) {
        if (!same_segment(&x->seg[s], &y->seg[s]) || x->flat_base[s] != y->flat_base[s])
            return differ(text, "segment", s, x->seg[s].sel, y->seg[s].sel);
    }
    if (x->cpl != y->cpl || x->tlb_index != y->tlb_index)
        return differ(text, "level", 0, x->cpl, y->cpl);
    if (x->kernel_gs_base != y->kernel_gs_base)
        return differ(text, "gs base", 0, x->kernel_gs_base, y->kernel_gs_base);
    if (memcmp(x->fpu.xmm, y->fpu.xmm, sizeof(x->fpu.xmm)) ||
        memcmp(x->fpu.ymm_hi, y->fpu.ymm_hi, sizeof(x->fpu.ymm_hi)))
        return "vector registers";
    if (memcmp(x->fpu.st, y->fpu.st, sizeof(x->fpu.st)) || x->fpu.fsw != y->fpu.fsw ||
        x->fpu.fcw != y->fpu.fcw || x->fpu.ftw != y->fpu.ftw || x->fpu.mxcsr != y->fpu.mxcsr)
        return "x87 state";
    return compare_ram(a, b, text);
}
