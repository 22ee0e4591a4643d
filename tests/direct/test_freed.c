/*
 * Stale mappings through the whole engine: guest user code forges its stop and goes on writing
 * to a page, while guest kernel code tells its TLB that the page is free.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/direct/direct.h"
#include "../bt/fixture.h"
#include "platform/vcpu.h"
#include "probe.h"

#define USER_CODE    CODE
#define USER_DATA    (DATA + 0x4000)
#define KERNEL_ENTRY (CODE + 0x800)
#define KERNEL_HALT  (CODE + 0xff0)

static struct guest *make_guest(const u8 *kernel, u64 size)
{
    /* The page is there, and the last true stop a system call, before the forgery. */
    static const u8 user[] = {
        0x48, 0xff, 0x06, 0x0f, 0x05,             /* +0: inc qword [rsi]; syscall */
        0x87, 0x07, 0x48, 0xff, 0x06, 0xeb, 0xfb, /* +5: xchg [rdi], eax; inc [rsi]; jmp */
    };
    struct guest *g = guest_create(&direct_engine, 1);
    struct x86_cpu *c = &g->vcpu->cpu;
    direct_of(c)->always = true;
    notes_watch(direct_of(c));
    guest_write(g, USER_CODE, user, sizeof(user));
    guest_write(g, KERNEL_ENTRY, kernel, size);
    guest_write(g, KERNEL_HALT, (const u8[]){0xf4}, 1);
    c->cr4 |= CR4_UMIP;
    c->lstar = KERNEL_HALT;
    c->star = 0x0023001000000000;
    c->sfmask = FLAG_IF;
    return g;
}

static enum engine_exit run_user(struct guest *g, u64 rip, u64 rdi)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    const u32 flat = SEG_P | SEG_S | SEG_G | SEG_ACCESSED | 3 << 5;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        c->seg[s].sel = 0;
    c->seg[SEG_CS] = (struct x86_seg){0x33, flat | SEG_CODE | SEG_READ | SEG_L, 0xffffffff, 0};
    c->seg[SEG_SS] = (struct x86_seg){0x2b, flat | SEG_WRITE | SEG_DB, 0xffffffff, 0};
    c->cpl = 3;
    c->rflags = FLAG_FIXED | FLAG_IF;
    c->activity = CPU_RUNNING;
    c->rip = rip;
    c->gpr[RDI] = rdi;
    c->gpr[RSI] = USER_DATA;
    c->gpr[RAX] = 1;
    x86_derive(c);
    return guest_run(g);
}

/* User code forges its system call, so the kernel code runs, and goes on writing to a page.
 * Once the kernel has told its TLB, there are no more stores: the cell was found running, and
 * died. */
static void forge_and(const u8 *kernel, u64 size)
{
    struct guest *g = make_guest(kernel, size);
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

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freed_by_invlpg),
        cmocka_unit_test(test_freed_by_cr3),
        cmocka_unit_test(test_freed_by_cr4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
