/* See fixture.h. */
#include "fixture.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const struct {
    u64 at;
    u8 bytes[12];
} snippets[] = {
    {CODE_SYSCALL, {0x0f, 0x05, 0xeb, 0xfe}},
    {CODE_INT80, {0xcd, 0x80, 0xeb, 0xfe}},
    {CODE_UD2, {0x0f, 0x0b}},
    {CODE_SPIN, {0xeb, 0xfe}},
    {CODE_INT3, {0xcc}},
    {CODE_STORE, {0x48, 0x89, 0x07, 0xcc}},
    {CODE_LOAD, {0x48, 0x8b, 0x07, 0xcc}},
    {CODE_FILL, {0xf3, 0xaa, 0x0f, 0x05}},
    {CODE_FORGE, {0x87, 0x07, 0xeb, 0xfe}},
    {CODE_CALL, {0xff, 0xd3, 0xcc}},
    {CODE_DIVIDE, {0x31, 0xc9, 0xf7, 0xf1}},
    {CODE_SIGRET, {0xb8, 15, 0, 0, 0, 0xff, 0xe3}},
    {CODE_COUNT, {0x48, 0xff, 0x07, 0xeb, 0xfb}},
};

void fixture_start(struct fixture *f)
{
    struct error err;
    memset(f, 0, sizeof(*f));
    f->memory = memfd_create("test-ram", MFD_CLOEXEC);
    assert_true(f->memory >= 0);
    assert_int_equal(ftruncate(f->memory, RAM_PAGES * PAGE_SIZE), 0);
    f->ram =
        mmap(NULL, RAM_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory, 0);
    assert_true(f->ram != MAP_FAILED);
    for (unsigned i = 0; i < ARRAY_LEN(snippets); i++)
        memcpy(f->ram + (snippets[i].at - CODE), snippets[i].bytes, sizeof(snippets[i].bytes));
    memset(f->ram + SECRET_PAGE * PAGE_SIZE, 0x5e, PAGE_SIZE);
    f->cpu = aligned_alloc(64, align_up(sizeof(*f->cpu), 64));
    assert_non_null(f->cpu);
    if (!zygote_create(&f->zygote, f->memory, &err))
        fail_msg("%s", err.text);
}

void fixture_finish(struct fixture *f)
{
    zygote_destroy(&f->zygote);
    munmap(f->ram, RAM_PAGES * PAGE_SIZE);
    close(f->memory);
    free(f->cpu);
}

static void make_cell(struct fixture *f, u64 base, bool narrow)
{
    struct error err;
    struct mapper *m = &f->cell.mapper;
    if (!cell_create(&f->cell, &f->zygote, base, narrow, &err))
        fail_msg("%s", err.text);
    mapper_map(m, CODE, 1, CODE_PAGE * PAGE_SIZE, PROT_READ | PROT_EXEC);
    mapper_map(m, DATA, 1, DATA_PAGE * PAGE_SIZE, PROT_READ | PROT_WRITE);
    mapper_map(m, FIXED, 1, FIXED_PAGE * PAGE_SIZE, PROT_READ);
    assert_int_equal(mapper_run(m), 3);
}

void fixture_cell(struct fixture *f)
{
    make_cell(f, BASE, false);
}

void fixture_narrow(struct fixture *f)
{
    make_cell(f, NARROW, true);
}

void fixture_drop(struct fixture *f)
{
    cell_destroy(&f->cell);
}

static int set_up(void **state, void (*make)(struct fixture *f))
{
    static struct fixture fixture;
    fixture_start(&fixture);
    make(&fixture);
    *state = &fixture;
    return 0;
}

int fixture_setup(void **state)
{
    return set_up(state, fixture_cell);
}

int fixture_setup_narrow(void **state)
{
    return set_up(state, fixture_narrow);
}

int fixture_teardown(void **state)
{
    fixture_drop(*state);
    fixture_finish(*state);
    return 0;
}

void fixture_registers(struct fixture *f, u64 rip)
{
    struct x86_cpu *c = f->cpu;
    memset(c, 0, sizeof(*c));
    c->rip = rip;
    c->gpr[RSP] = STACK;
    c->rflags = FLAG_FIXED | FLAG_IF;
    c->fpu.fcw = 0x37f;
    c->fpu.mxcsr = 0x1f80;
    c->fpu.mxcsr_mask = 0xffff;
    c->fpu.xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
}

void fixture_registers32(struct fixture *f)
{
    static const u8 data[] = {SEG_SS, SEG_DS, SEG_ES};
    fixture_registers(f, 0);
    f->cpu->code_size = 4;
    f->cpu->seg[SEG_CS].sel = HOST_CS32;
    for (unsigned i = 0; i < ARRAY_LEN(data); i++)
        f->cpu->seg[data[i]].sel = HOST_DS;
}

enum cell_end fixture_run(struct fixture *f, u64 rip)
{
    f->cpu->rip = rip;
    return cell_run(&f->cell, f->cpu, &f->stop);
}

u64 fixture_stub(const u8 *place)
{
    return BASE + (u64)(place - cell_stub);
}

u64 fixture_control(unsigned field)
{
    return BASE + CELL_CONTROL_PAGE * PAGE_SIZE + field;
}

enum cell_end fixture_gadget(struct fixture *f, u64 number, const u64 *arguments)
{
    static const u8 places[] = {RDI, RSI, RDX, R10, R8, R9};
    fixture_registers(f, 0);
    f->cpu->gpr[RAX] = number;
    for (unsigned i = 0; i < ARRAY_LEN(places); i++)
        f->cpu->gpr[places[i]] = arguments[i];
    f->cpu->gpr[R15] = CODE_INT3;
    return fixture_run(f, fixture_stub(cell_stub_gadget));
}

static _Atomic u64 *counter(struct fixture *f)
{
    return (_Atomic u64 *)(f->ram + DATA_PAGE * PAGE_SIZE);
}

void fixture_reset_count(struct fixture *f)
{
    atomic_store(counter(f), 0);
}

void fixture_await_count(struct fixture *f)
{
    while (!atomic_load(counter(f)))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void *kick(void *opaque)
{
    struct kicker *kicker = opaque;
    nanosleep(&(struct timespec){.tv_nsec = kicker->ms * 1000000l}, NULL);
    if (kicker->counts)
        fixture_await_count(kicker->fixture);
    cell_kick(&kicker->fixture->cell);
    return NULL;
}

void kicker_start(struct kicker *kicker, struct fixture *f, unsigned ms, bool counts)
{
    *kicker = (struct kicker){.fixture = f, .ms = ms, .counts = counts};
    assert_int_equal(pthread_create(&kicker->thread, NULL, kick, kicker), 0);
}

void kicker_join(struct kicker *kicker)
{
    pthread_join(kicker->thread, NULL);
}
