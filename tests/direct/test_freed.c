/*
 * What must not outlive its reason, through the whole engine: guest user code forges its stop
 * and goes on writing to a page, while guest kernel code tells its TLB that the page is free; a
 * device writes code; a balloon gives memory back; a process leaves its cell to the next.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/direct/direct.h"
#include "../bt/fixture.h"
#include "engine/access.h"
#include "platform/ram.h"
#include "platform/vcpu.h"
#include "x86/segment.h"
#include "probe.h"

#define USER_CODE    CODE
#define USER_DATA    (DATA + 0x4000)
#define KERNEL_ENTRY (CODE + 0x800)
#define KERNEL_HALT  (CODE + 0xff0)

static struct guest *make_guest(const u8 *user, u64 user_size, const u8 *kernel, u64 size)
{
    struct guest *g = guest_create(&direct_engine, 1);
    struct x86_cpu *c = &g->vcpu->cpu;
    direct_of(c)->always = true;
    notes_watch(direct_of(c));
    guest_write(g, USER_CODE, user, user_size);
    guest_write(g, KERNEL_ENTRY, kernel, size);
    guest_write(g, KERNEL_HALT, (const u8[]){0xf4}, 1);
    c->cr4 |= CR4_UMIP;
    c->lstar = c->cstar = KERNEL_HALT;
    c->star = 0x0023001000000000;
    c->sfmask = FLAG_IF;
    return g;
}

/* At CPL 3, in 32-bit or 64-bit mode, with the general registers as they are. */
static enum engine_exit enter_user(struct guest *g, bool narrow, u64 rip)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        c->seg[s] = x86_seg_null(0, 0);
    c->seg[SEG_CS] = narrow ? x86_seg_flat(HOST_CS32, SEG_CODE | SEG_READ | SEG_DB | 3 << 5)
                            : x86_seg_flat(HOST_CS, SEG_CODE | SEG_READ | SEG_L | 3 << 5);
    c->seg[SEG_SS] = x86_seg_flat(HOST_DS, SEG_DB | 3 << 5);
    if (narrow)
        c->seg[SEG_DS] = c->seg[SEG_ES] = c->seg[SEG_SS];
    c->cpl = 3;
    c->rflags = FLAG_FIXED | FLAG_IF;
    c->activity = CPU_RUNNING;
    c->rip = rip;
    x86_derive(c);
    return guest_run(g);
}

static enum engine_exit run_user(struct guest *g, u64 rip, u64 rdi)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    c->gpr[RDI] = rdi;
    c->gpr[RSI] = USER_DATA;
    c->gpr[RAX] = 1;
    return enter_user(g, false, rip);
}

/* User code forges its system call, so the kernel code runs, and goes on writing to a page.
 * Once the kernel has told its TLB, there are no more stores: the cell was found running, and
 * died. */
static void forge_and(const u8 *kernel, u64 size)
{
    /* The page is there, and the last true stop a system call, before the forgery. */
    static const u8 user[] = {
        0x48, 0xff, 0x06, 0x0f, 0x05,             /* +0: inc qword [rsi]; syscall */
        0x87, 0x07, 0x48, 0xff, 0x06, 0xeb, 0xfb, /* +5: xchg [rdi], eax; inc [rsi]; jmp */
    };
    struct guest *g = make_guest(user, sizeof(user), kernel, size);
    struct direct *d = direct_of(&g->vcpu->cpu);
    assert_int_equal(run_user(g, USER_CODE, 0), EXIT_HALTED);
    assert_true(d->stats.runs > 0); /* it was in a cell */
    assert_non_null(d->space);
    u64 mturn = d->space->cell.place.base + CELL_CONTROL_PAGE * PAGE_SIZE + CONTROL_MTURN;
    volatile u64 *count = (u64 *)guest_page(g, USER_DATA);
    g->vcpu->cpu.lstar = KERNEL_ENTRY;
    *count = 0;
    assert_int_equal(run_user(g, USER_CODE + 5, mturn), EXIT_HALTED);
    u64 before = *count;
    usleep(20000);
    assert_int_equal(before, *count);
    guest_destroy(g);
}

static void test_freed_by_invlpg(void **state)
{
    const u8 kernel[] = {0x0f, 0x01, 0x3e, 0xf4}; /* invlpg [rsi]; hlt */
    forge_and(kernel, sizeof(kernel));
}

static void test_freed_by_cr3(void **state)
{
    const u8 kernel[] = {0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xf4}; /* mov rax, cr3 and back */
    forge_and(kernel, sizeof(kernel));
}

static void test_freed_by_cr4(void **state)
{
    const u8 kernel[] = {0x0f, 0x20, 0xe0, 0x34, 0x80, 0x0f, 0x22, 0xe0, 0xf4}; /* CR4.PGE */
    forge_and(kernel, sizeof(kernel));
}

/* -- Devices ------------------------------------------------------------------------------- */

static void code_written(void *opaque, struct gfn frame)
{
    struct guest *g = opaque;
    access_code_written(&g->board, frame);
}

/* As the console's device writes, and as a disk's, whose bytes the host's kernel moves. */
static void write_by_device(struct guest *g, u64 at, const u8 *bytes, u64 size, bool parts)
{
    struct iovec part;
    unsigned n = 0;
    if (!parts) {
        assert_true(ram_write(&g->board, gpa(at), bytes, size));
        return;
    }
    assert_int_equal(ram_parts(&g->board, gpa(at), size, true, &part, 1, &n), size);
    memcpy(part.iov_base, bytes, size);
    ram_written(&g->board, gpa(at), size);
}

/* A device reads into a page that ran in a cell: it is scanned again before it runs again. */
static void test_code_by_device(void **state)
{
    static const u8 user[] = {0xff, 0xd7, 0x0f, 0x05}; /* call rdi; syscall */
    static const u8 first[] = {0xb8, 77, 0, 0, 0, 0xc3};
    static const u8 second[] = {0x0f, 0x01, 0xf9, 0x89, 0xc8, 0xc3}; /* rdtscp; mov eax, ecx */
    const u64 code = USER_DATA + 0x4000, frame = code >> PAGE_SHIFT;
    struct guest *g = make_guest(user, sizeof(user), NULL, 0);
    struct x86_cpu *c = &g->vcpu->cpu;
    struct direct *d = direct_of(c);
    g->board.code_written = code_written;
    g->board.opaque = g;
    c->tsc_aux = 0x5eed;
    for (unsigned i = 0; i < 8; i++) {
        u64 refused = d->world.stats.refused_code[FOUND_RDTSCP], runs = d->stats.runs;
        bool sensitive = i % 2;
        write_by_device(g, code, sensitive ? second : first,
                        sensitive ? sizeof(second) : sizeof(first), i & 4);
        assert_int_equal(run_user(g, USER_CODE, code), EXIT_HALTED);
        assert_true(d->stats.runs > runs);
        assert_int_equal(d->world.stats.refused_code[FOUND_RDTSCP] > refused, sensitive);
        assert_true(pmap_flags(g->board.pmap, gfn(frame)) & PMAP_CODE);
        assert_int_equal((u32)c->gpr[RAX], sensitive ? 0x5eed : 77);
    }
    guest_destroy(g);
}

/* A page that was given back while a cell had it: what it held is gone, and what the cell makes
 * of it counts as memory of the guest's. */
static void test_balloon(void **state)
{
    static const u8 user[] = {0x48, 0x8b, 0x06, 0x0f, 0x05,  /* +0: mov rax, [rsi]; syscall */
                              0x48, 0x89, 0x3e, 0x0f, 0x05}; /* +5: mov [rsi], rdi; syscall */
    struct guest *g = make_guest(user, sizeof(user), NULL, 0);
    struct x86_cpu *c = &g->vcpu->cpu;
    struct pmap *pmap = g->board.pmap;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(run_user(g, USER_CODE + 5, 0x5ec7e7), EXIT_HALTED);
        assert_int_equal(run_user(g, USER_CODE, 0), EXIT_HALTED);
        assert_int_equal(c->gpr[RAX], 0x5ec7e7);
        u64 before = pmap_allocated(pmap), runs = direct_of(c)->stats.runs;
        ram_release(&g->board, gpa(USER_DATA), PAGE_SIZE);
        assert_int_equal(pmap_allocated(pmap), before - PAGE_SIZE);
        assert_int_equal(run_user(g, USER_CODE + (i % 2 ? 0 : 5), 1), EXIT_HALTED);
        assert_int_equal(run_user(g, USER_CODE, 0), EXIT_HALTED);
        assert_true(direct_of(c)->stats.runs > runs);
        assert_int_equal(c->gpr[RAX], i % 2 ? 0 : 1);
        assert_int_equal(pmap_allocated(pmap), before);
    }
    guest_destroy(g);
}

/* -- From one process to the next ---------------------------------------------------------- */

#define TABLE (DATA + 0x6000)

/* The part of a Linux guest's descriptor table that user code sees. */
static void use_linux_table(struct guest *g)
{
    u64 table[TLS_FIRST + TLS_MAX] = {0};
    table[HOST_CS32 >> 3] = 0x00cffb000000ffff;
    table[HOST_DS >> 3] = 0x00cff3000000ffff;
    table[HOST_CS >> 3] = 0x00affb000000ffff;
    guest_write(g, TABLE, table, sizeof(table));
    g->vcpu->cpu.gdtr = (struct x86_table){TABLE, sizeof(table) - 1};
}

/* A process of 32-bit code sets a thread-local segment of its cell's by the stub; the next one
 * with the same tables must not be able to load it. */
static void test_left_segment(void **state)
{
    static const u8 user[] = {
        0xff, 0xe1,                                  /* +0: jmp ecx */
        0xb8, 0x6b, 0, 0, 0, 0x8e, 0xe8, 0xff, 0xe7, /* +2: mov gs, 6bh; jmp edi */
    };
    static const u8 kernel[] = {0x0f, 0x20, 0xdb, 0x0f, 0x22, 0xdb, 0xf4}; /* CR3 anew */
    /* SYSCALL or, where 32-bit code lacks it, SYSENTER; not beside code: such pages are
     * refused. */
    const u64 leave = USER_DATA + 0x4000;
    struct guest *g = make_guest(user, sizeof(user), kernel, sizeof(kernel));
    struct x86_cpu *c = &g->vcpu->cpu;
    struct direct *d = direct_of(c);
    use_linux_table(g);
    guest_write(g, leave, c->model->amd ? "\x0f\x05" : "\x0f\x34", 2);
    c->cstar = c->sysenter_eip = KERNEL_ENTRY;
    c->sysenter_cs = c->star >> 32 & 0xffff;
    c->gpr[RCX] = c->gpr[RDI] = leave;
    assert_int_equal(enter_user(g, true, USER_CODE), EXIT_HALTED);
    const struct cell *cell = &d->space->cell;
    u64 base = cell->place.base;
    assert_true(cell->narrow);
    /* It could write this by itself. */
    cell->control->tls[0] = (struct tls){TLS_FIRST + 1, USER_DATA, 0xfffff, TLS_DATA};
    c->gpr[RAX] = 243;
    c->gpr[RBX] = base + CELL_CONTROL_PAGE * PAGE_SIZE + CONTROL_TLS;
    c->gpr[RCX] = base + (u64)(cell_stub_legacy_end - cell_stub) - 2;
    c->gpr[RDI] = leave; /* the stub's jmp *%r15 is inc ecx; jmp edi here */
    assert_int_equal(enter_user(g, true, USER_CODE), EXIT_HALTED);
    assert_int_equal(c->gpr[RAX], 0);
    assert_int_equal(d->stats.cells, 1);
    /* No handler for its #GP: where the segment is not there the processor shuts down. */
    c->gpr[RDI] = leave;
    assert_int_equal(enter_user(g, true, USER_CODE + 2), EXIT_SHUTDOWN);
    assert_int_equal(d->stats.cells, 1);
    guest_destroy(g);
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freed_by_invlpg), cmocka_unit_test(test_freed_by_cr3),
        cmocka_unit_test(test_freed_by_cr4),    cmocka_unit_test(test_code_by_device),
        cmocka_unit_test(test_balloon),         cmocka_unit_test(test_left_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
