/* Cells do what they are for: guest code runs, and each way in which it can stop comes back
 * with all registers and what the engine has to know. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/monotonic.h"
#include "fixture.h"
#include "probe.h"

static void test_stops(void **state)
{
    static const struct {
        u64 rip, stops_at;
        int signal;
        u64 trap; /* ~0: none */
    } cases[] = {
        {CODE_SYSCALL, CODE_SYSCALL + 2, SIGSYS, ~0ull},
        {CODE_INT80, CODE_INT80 + 2, SIGSYS, ~0ull},
        {CODE_UD2, CODE_UD2, SIGILL, 6},
        {CODE_INT3, CODE_INT3 + 1, SIGTRAP, 3},
        {CODE_DIVIDE, CODE_DIVIDE + 2, SIGFPE, 0},
        {0x500000, 0x500000, SIGSEGV, 14},
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_registers(f, 0);
        assert_int_equal(fixture_run(f, cases[i].rip), CELL_STOPPED);
        assert_int_equal(f->cpu->rip, cases[i].stops_at);
        assert_int_equal(f->stop.signal, cases[i].signal);
        if (cases[i].trap != ~0ull)
            assert_int_equal(f->stop.trap, cases[i].trap);
    }
}

static void test_page_faults(void **state)
{
    static const struct {
        u64 rip, address, error;
    } cases[] = {
        {CODE_LOAD, 0x800000, PF_U},
        {CODE_STORE, 0x800008, PF_U | PF_W},
        {CODE_STORE, FIXED, PF_U | PF_W | PF_P},
        {DATA, DATA, PF_U | PF_I | PF_P},
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = cases[i].address;
        assert_int_equal(fixture_run(f, cases[i].rip), CELL_STOPPED);
        assert_int_equal(f->cpu->rip, cases[i].rip);
        assert_int_equal(f->stop.trap, 14);
        assert_int_equal(f->stop.cr2, cases[i].address);
        assert_int_equal(f->stop.error, cases[i].error);
    }
}

static void test_all_state(void **state)
{
    struct fixture *f = *state;
    struct x86_cpu *c = f->cpu;
    fixture_registers(f, 0);
    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] = 0x1111111111111111ull * i + 3;
    for (unsigned i = 0; i < 16; i++) {
        memset(c->fpu.xmm[i], (int)(0x10 + i), 16);
        memset(c->fpu.ymm_hi[i], (int)(0x90 + i), 16);
    }
    for (unsigned i = 0; i < 8; i++)
        memset(c->fpu.st[i], (int)(0x30 + i), 10);
    c->fpu.ftw = 0xff;
    c->fpu.fcw = 0x27f;
    c->fpu.fsw = 3 << 11;
    c->fpu.mxcsr = 0x3f80;
    c->seg[SEG_FS].base = 0x7f0012340000;
    c->seg[SEG_GS].base = 0xffffc90000001000;
    c->rflags |= FLAGS_STATUS | FLAG_DF | FLAG_ID | FLAG_NT;
    static struct x86_cpu before;
    before = *c;
    before.rip = CODE_UD2;
    assert_int_equal(fixture_run(f, CODE_UD2), CELL_STOPPED);
    assert_memory_equal(c->gpr, before.gpr, sizeof(c->gpr));
    assert_memory_equal(&c->fpu, &before.fpu, sizeof(c->fpu));
    assert_int_equal(c->rflags, before.rflags);
    assert_int_equal(c->rip, before.rip);
    assert_int_equal(c->seg[SEG_FS].base, before.seg[SEG_FS].base);
    assert_int_equal(c->seg[SEG_GS].base, before.seg[SEG_GS].base);
}

/* Upper halves that are zero are not left loaded (frame.c); the image is behind the frame. */
static void test_uppers(void **state)
{
    struct fixture *f = *state;
    const u8 *frame = f->cell.place.block + CELL_FRAME_PAGE * PAGE_SIZE;
    for (unsigned loaded = 0; loaded < 2; loaded++) {
        u64 present;
        fixture_registers(f, 0);
        f->cpu->fpu.ymm_hi[15][15] = (u8)loaded;
        assert_int_equal(fixture_run(f, CODE_UD2), CELL_STOPPED);
        memcpy(&present, frame + 1024 + offsetof(struct x86_fpu, xstate_bv), sizeof(present));
        assert_int_equal(present & XCR0_AVX, loaded ? XCR0_AVX : 0);
        assert_int_equal(f->cpu->fpu.ymm_hi[15][15], loaded);
    }
}

static void test_kick(void **state)
{
    struct fixture *f = *state;
    struct kicker kicker;
    fixture_registers(f, 0);
    kicker_start(&kicker, f, 10, false);
    assert_int_equal(fixture_run(f, CODE_SPIN), CELL_STOPPED);
    kicker_join(&kicker);
    assert_int_equal(f->cpu->rip, CODE_SPIN);
    assert_int_equal(f->stop.signal, SIGUSR1);
}

/* A kick that comes while the cell is parked stops its next run, whenever that is. */
static void test_early_kick(void **state)
{
    struct fixture *f = *state;
    cell_kick(&f->cell);
    fixture_registers(f, 0);
    assert_int_equal(fixture_run(f, CODE_SPIN), CELL_STOPPED);
    assert_int_equal(f->cpu->rip, CODE_SPIN);
}

static void *starve(void *opaque)
{
    struct fixture *f = opaque;
    fixture_await_count(f);
    kill(f->cell.pid, SIGSTOP);
    cell_kick(&f->cell);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    kill(f->cell.pid, SIGCONT);
    return NULL;
}

/* A cell that gets no processor for longer than its deadline lives on: its host is busy. */
static void test_starved(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    f->cell.deadline = 20000000;
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = DATA;
    fixture_reset_count(f);
    assert_int_equal(pthread_create(&thread, NULL, starve, f), 0);
    assert_int_equal(fixture_run(f, CODE_COUNT), CELL_STOPPED);
    pthread_join(thread, NULL);
    assert_int_equal(f->stop.signal, SIGUSR1);
}

static void test_memory(void **state)
{
    struct fixture *f = *state;
    u64 value = 0x0123456789abcdef, got;
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = DATA + 0x10;
    f->cpu->gpr[RAX] = value;
    assert_int_equal(fixture_run(f, CODE_STORE), CELL_STOPPED);
    memcpy(&got, f->ram + DATA_PAGE * PAGE_SIZE + 0x10, 8);
    assert_int_equal(got, value);
}

/* The host's page of old system calls shows host time. */
static void test_vsyscall(void **state)
{
    struct fixture *f = *state;
    fixture_registers(f, 0);
    f->cpu->gpr[RBX] = 0xffffffffff600000; /* gettimeofday */
    f->cpu->gpr[RDI] = DATA;
    memset(f->ram + DATA_PAGE * PAGE_SIZE, 0, 16);
    assert_int_equal(fixture_run(f, CODE_CALL), CELL_STOPPED);
    if (f->stop.signal == SIGSYS)
        assert_int_equal(f->stop.call_address, 0xffffffffff600000);
    else
        assert_int_equal(f->stop.signal, SIGSEGV); /* a host without the page */
    assert_int_equal(f->ram[DATA_PAGE * PAGE_SIZE], 0);
}

static void test_verify(void **state)
{
    struct fixture *f = *state;
    fixture_registers(f, 0);
    assert_int_equal(fixture_run(f, CODE_SYSCALL), CELL_STOPPED);
    assert_true(cell_verify(&f->cell));
    assert_true(cell_verify(&f->cell));
    assert_int_equal(fixture_run(f, CODE_SYSCALL), CELL_STOPPED);
    assert_false(f->cell.parked);
}

static void *go_on(void *opaque)
{
    struct fixture *f = opaque;
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    kill(f->cell.pid, SIGCONT);
    return NULL;
}

/* Whether a cell is on its way to its futex shows only while it has a processor. */
static void test_verify_starved(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    fixture_registers(f, 0);
    assert_int_equal(fixture_run(f, CODE_SYSCALL), CELL_STOPPED); /* leaves a good frame */
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = fixture_control(CONTROL_MTURN);
    f->cpu->gpr[RAX] = 1;
    assert_int_equal(fixture_run(f, CODE_FORGE), CELL_STOPPED);
    u64 stopped = monotonic_ns();
    kill(f->cell.pid, SIGSTOP);
    assert_int_equal(pthread_create(&thread, NULL, go_on, f), 0);
    assert_false(cell_verify(&f->cell));
    assert_true(monotonic_ns() - stopped >= 1500000000);
    pthread_join(thread, NULL);
}

static void test_mapper_gone(void **state)
{
    struct fixture *f = *state;
    kill(f->cell.mapper.pid, SIGKILL);
    mapper_map(&f->cell.mapper, 0x900000, 1, 0, PROT_READ);
    assert_int_equal(mapper_run(&f->cell.mapper), -1);
}

/* The mapper says how far it came: the host has no page 7ffffffff000h. */
static void test_mapper_fails(void **state)
{
    struct fixture *f = *state;
    struct mapper *m = &f->cell.mapper;
    mapper_map(m, 0x900000, 1, 0, PROT_READ);
    mapper_map(m, 0x7ffffffff000, 1, 0, PROT_READ);
    mapper_map(m, 0xa00000, 1, 0, PROT_READ);
    assert_int_equal(mapper_run(m), 1);
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = 0x900000;
    assert_int_equal(fixture_run(f, CODE_LOAD), CELL_STOPPED);
    assert_int_equal(f->stop.signal, SIGTRAP);
    mapper_unmap(m, 0x900000, 1);
    assert_int_equal(mapper_run(m), 1);
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = 0x900000;
    assert_int_equal(fixture_run(f, CODE_LOAD), CELL_STOPPED);
    assert_int_equal(f->stop.signal, SIGSEGV);
}

/* Neighbours are unmapped in one order, and nothing beside them. */
static void test_mapper_joins(void **state)
{
    const u64 pages[] = {0x900000, 0x901000, 0x902000, 0x903000, 0x904000};
    struct fixture *f = *state;
    struct mapper *m = &f->cell.mapper;
    for (unsigned i = 0; i < 5; i++)
        mapper_map(m, pages[i], 1, 0, PROT_READ);
    assert_int_equal(mapper_run(m), 5);
    mapper_unmap(m, pages[1], 1);
    mapper_unmap(m, pages[2], 1);
    mapper_unmap(m, pages[4], 1);
    assert_int_equal(mapper_run(m), 2);
    for (unsigned i = 0; i < 5; i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = pages[i];
        assert_int_equal(fixture_run(f, CODE_LOAD), CELL_STOPPED);
        assert_int_equal(f->stop.signal, i == 0 || i == 3 ? SIGTRAP : SIGSEGV);
    }
    /* A mapping in between ends a run. */
    mapper_unmap(m, pages[0], 1);
    mapper_map(m, pages[0], 1, 0, PROT_READ);
    mapper_unmap(m, pages[1], 1);
    assert_int_equal(mapper_run(m), 3);
}

/* Mappings that come with the cell's turn are there when it runs. */
static void test_maps_with_turn(void **state)
{
    struct fixture *f = *state;
    struct mapper *m = &f->cell.mapper;
    for (u64 page = 0x900000; page < 0x908000; page += PAGE_SIZE) {
        mapper_map(m, page, 1, 0, PROT_READ);
        assert_true(mapper_only_adds(m));
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = page;
        assert_int_equal(fixture_run(f, CODE_LOAD), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGTRAP);
        assert_int_equal(m->n, 0);
        assert_int_equal(m->running, 0);
    }
    mapper_unmap(m, 0x900000, 1);
    assert_false(mapper_only_adds(m));
    assert_int_equal(mapper_run(m), 1);
    assert_true(mapper_only_adds(m));
    mapper_map(m, 0x900000, 1, 0, PROT_READ | PROT_EXEC);
    assert_false(mapper_only_adds(m));
}

/* What the host refuses of them is found out by the cell, and noted. */
static void test_refused_with_turn(void **state)
{
    struct fixture *f = *state;
    struct mapper *m = &f->cell.mapper;
    mapper_map(m, 0x900000, 1, 0, PROT_READ);
    mapper_map(m, 0x901001, 1, 0, PROT_READ); /* not aligned */
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = 0x902000;
    assert_int_equal(fixture_run(f, CODE_LOAD), CELL_STOPPED);
    assert_int_equal(f->stop.signal, SIGSEGV);
    assert_int_equal(f->stop.cr2, 0x902000);
    assert_true(m->refused);
}

/* A mapper that is gone wakes no cell. */
static void test_turn_without_mapper(void **state)
{
    struct fixture *f = *state;
    kill(f->cell.mapper.pid, SIGKILL);
    mapper_map(&f->cell.mapper, 0x900000, 1, 0, PROT_READ);
    fixture_registers(f, 0);
    assert_int_equal(fixture_run(f, CODE_LOAD), CELL_DEAD);
}

static void *go_on_late(void *opaque)
{
    struct fixture *f = opaque;
    cell_kick(&f->cell);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    kill(f->cell.mapper.pid, SIGCONT);
    return NULL;
}

/* A mapper without a processor keeps the cell from its turn, which is not the cell's fault: a
 * kick may be answered late. */
static void test_turn_starved(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    f->cell.deadline = 20000000;
    kill(f->cell.mapper.pid, SIGSTOP);
    mapper_map(&f->cell.mapper, 0x900000, 1, 0, PROT_READ);
    fixture_registers(f, 0);
    pthread_create(&thread, NULL, go_on_late, f);
    assert_int_equal(fixture_run(f, CODE_SPIN), CELL_STOPPED);
    assert_int_equal(f->stop.signal, SIGUSR1);
    pthread_join(thread, NULL);
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        CELL_TEST(test_stops),
        CELL_TEST(test_page_faults),
        CELL_TEST(test_all_state),
        CELL_TEST(test_uppers),
        CELL_TEST(test_kick),
        CELL_TEST(test_early_kick),
        CELL_TEST(test_starved),
        CELL_TEST(test_memory),
        CELL_TEST(test_vsyscall),
        CELL_TEST(test_verify),
        CELL_TEST(test_verify_starved),
        CELL_TEST(test_mapper_gone),
        CELL_TEST(test_mapper_fails),
        CELL_TEST(test_mapper_joins),
        CELL_TEST(test_maps_with_turn),
        CELL_TEST(test_refused_with_turn),
        CELL_TEST(test_turn_without_mapper),
        CELL_TEST(test_turn_starved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
