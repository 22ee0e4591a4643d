/*
 * Engines below the machine: what a vCPU must do whatever runs it. Code that is changed under
 * its feet, in every way there is; instructions that cross pages; devices in the middle of
 * instructions; being kicked and halted. Each test runs on each engine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/access.h"
#include "engine/engine.h"
#include "memory/pmap.h"
#include "platform/ram.h"
#include "x86/model.h"

#define CODE 0x7c00

struct fixture {
    struct log log;
    struct board board;
    struct vcpu *vcpu;
    struct vcpu *vcpus[1];
    struct x86_model model;
    const struct engine *engine;
};

static int interrupt_none(void *apic)
{
    return -1;
}
static const struct apic_ops no_apic = {.acknowledge = interrupt_none};

static void code_written(void *opaque, struct gfn frame)
{
    access_code_written(opaque, frame);
}

static struct fixture *start(const struct engine *engine)
{
    struct error err;
    struct fixture *f = calloc(1, sizeof(*f));
    f->log.fd = 2;
    board_init(&f->board, &f->log);
    f->board.code_written = code_written;
    f->board.opaque = &f->board;
    f->board.pmap = pmap_create(1 * MiB, &err);
    assert_non_null(f->board.pmap);
    assert_true(x86_model_init(&f->model, NULL, 1, 1000000000, &err));
    f->vcpu = vcpu_create(&f->board, 0);
    f->vcpu->cpu.model = &f->model;
    f->vcpu->apic_ops = &no_apic;
    f->vcpus[0] = f->vcpu;
    f->board.vcpus = f->vcpus;
    f->board.n_vcpus = 1;
    f->vcpu->engine = f->engine = engine;
    x86_reset(&f->vcpu->cpu);
    assert_true(engine->attach(f->vcpu, &err));
    return f;
}

static void finish(struct fixture *f)
{
    f->engine->detach(f->vcpu);
    vcpu_destroy(f->vcpu);
    pmap_destroy(f->board.pmap);
    board_destroy(&f->board);
    free(f);
}

/* Places real-mode code at CODE and runs it to its HLT. */
static void place(struct fixture *f, u64 at, const void *code, size_t size)
{
    assert_true(ram_write(&f->board, gpa(at), code, size));
}

static enum engine_exit run_at(struct fixture *f, u64 at)
{
    struct x86_cpu *c = &f->vcpu->cpu;
    c->seg[SEG_CS].sel = 0;
    c->seg[SEG_CS].base = 0;
    c->rip = at;
    c->activity = CPU_RUNNING;
    x86_derive(c);
    vcpu_enter_guest(f->vcpu);
    enum engine_exit exit = f->engine->enter(f->vcpu);
    vcpu_leave_guest(f->vcpu);
    return exit;
}

static u16 ax(const struct fixture *f)
{
    return (u16)f->vcpu->cpu.gpr[RAX];
}

#define EACH_ENGINE(f)                                                                         \
    for (unsigned each = 0; each < n_engines; each++)                                          \
        for (struct fixture *f = start(engines[each]); f; finish(f), f = NULL)

static void test_runs_to_halt(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 code[] = {0xb8, 0x34, 0x12, /* mov ax, 1234h */
                                  0x40,             /* inc ax */
                                  0xf4};            /* hlt */
        place(f, CODE, code, sizeof(code));
        assert_int_equal(run_at(f, CODE), EXIT_HALTED);
        assert_int_equal(ax(f), 0x1235);
        assert_int_equal(f->vcpu->cpu.rip, CODE + sizeof(code));
    }
}

/* The store changes the very next instruction: x86 promises that this works (SDM vol. 3,
 * 11.6). */
static void test_modifies_next_instruction(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 code[] = {0xb8, 0x01, 0x00,             /* mov ax, 1 */
                                  0xc6, 0x06, 0x09, 0x7c, 0x02, /* mov byte [7c09h], 2 */
                                  0xb8, 0x00, 0x00,             /* mov ax, 0 -> 2 */
                                  0xf4};
        place(f, CODE, code, sizeof(code));
        for (unsigned again = 0; again < 3; again++) {
            assert_int_equal(run_at(f, CODE), EXIT_HALTED);
            assert_int_equal(ax(f), 2);
        }
    }
}

/* A loop that increments its own immediate. */
static void test_modifies_loop(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 code[] = {0x31, 0xc0,             /* xor ax, ax */
                                  0xb9, 0x64, 0x00,       /* mov cx, 100 */
                                  0x05, 0x01, 0x00,       /* add ax, 1 */
                                  0xff, 0x06, 0x06, 0x7c, /* inc word [7c06h] */
                                  0xe2, 0xf7,             /* loop add */
                                  0xf4};
        place(f, CODE, code, sizeof(code));
        assert_int_equal(run_at(f, CODE), EXIT_HALTED);
        assert_int_equal(ax(f), 100 * 101 / 2);
    }
}

static void test_device_writes_code(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 one[] = {0xb8, 0x01, 0x00, 0xf4}, two[] = {0xb8, 0x02, 0x00, 0xf4};
        place(f, CODE, one, sizeof(one));
        run_at(f, CODE);
        assert_int_equal(ax(f), 1);
        place(f, CODE, two, sizeof(two));
        run_at(f, CODE);
        assert_int_equal(ax(f), 2);
    }
}

/* MOV AX, imm16 with its immediate on the next page, which changes between two runs. */
static void test_crosses_pages(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 code[] = {0xb8, 0x11, 0x22, 0xf4};
        place(f, 0x7ffe, code, sizeof(code));
        run_at(f, 0x7ffe);
        assert_int_equal(ax(f), 0x2211);
        place(f, 0x8000, (const u8[]){0x33}, 1);
        run_at(f, 0x7ffe);
        assert_int_equal(ax(f), 0x3311);
        /* And by the guest's own store, from code on the first page. */
        static const u8 store[] = {0xc6, 0x06, 0x00, 0x80, 0x44, /* mov byte [8000h], 44h */
                                   0xe9, 0xf6, 0x03};            /* jmp 7ffeh */
        place(f, CODE, store, sizeof(store));
        run_at(f, CODE);
        assert_int_equal(ax(f), 0x4411);
    }
}

/* -- Devices ------------------------------------------------------------------------------- */

struct latch {
    u64 value;
    unsigned reads, writes, last_size;
};

static u64 latch_read(void *opaque, u64 offset, unsigned size)
{
    struct latch *latch = opaque;
    latch->reads++;
    latch->last_size = size;
    return latch->value >> 8 * offset & bits_low(8 * size);
}

static void latch_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct latch *latch = opaque;
    latch->writes++;
    latch->last_size = size;
    u64 mask = bits_low(8 * size) << 8 * offset;
    latch->value = (latch->value & ~mask) | value << 8 * offset;
}

static const struct bus_ops latch_ops = {latch_read, latch_write};

/* Read-modify-write of a device register: one read, one write, of the operand's size. */
static void test_device_memory(void **state)
{
    EACH_ENGINE(f)
    {
        struct latch latch = {.value = 0x1000};
        struct bus_region region = {.name = "latch",
                                    .ops = &latch_ops,
                                    .opaque = &latch,
                                    .base = 0x100000,
                                    .size = 8,
                                    .space = BUS_MMIO};
        bus_add(&f->board, &region);
        static const u8 code[] = {0xb8, 0xff, 0xff,             /* mov ax, ffffh */
                                  0x8e, 0xd8,                   /* mov ds, ax */
                                  0x83, 0x06, 0x10, 0x00, 0x05, /* add word [0010h], 5 */
                                  0xf4};
        place(f, CODE, code, sizeof(code));
        run_at(f, CODE);
        assert_int_equal(latch.value, 0x1005);
        assert_int_equal(latch.reads, 1);
        assert_int_equal(latch.writes, 1);
        assert_int_equal(latch.last_size, 2);
        bus_remove(&f->board, &region);
    }
}

static void test_ports(void **state)
{
    EACH_ENGINE(f)
    {
        struct latch latch = {0};
        struct bus_region region = {.name = "latch",
                                    .ops = &latch_ops,
                                    .opaque = &latch,
                                    .base = 0x80,
                                    .size = 8,
                                    .space = BUS_PIO};
        bus_add(&f->board, &region);
        static const u8 code[] = {0xb8, 0xcd, 0xab, /* mov ax, abcdh */
                                  0xe7, 0x80,       /* out 80h, ax */
                                  0x31, 0xc0,       /* xor ax, ax */
                                  0xe4, 0x81,       /* in al, 81h */
                                  0xf4};
        place(f, CODE, code, sizeof(code));
        run_at(f, CODE);
        assert_int_equal(latch.value, 0xabcd);
        assert_int_equal(ax(f), 0xab);
        bus_remove(&f->board, &region);
    }
}

/* -- Leaving ------------------------------------------------------------------------------- */

static void *kick_soon(void *opaque)
{
    struct fixture *f = opaque;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    vcpu_signal(f->vcpu, ATTN_KICK);
    return NULL;
}

static void test_kick_leaves_a_loop(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 code[] = {0xeb, 0xfe}; /* jmp $ */
        place(f, CODE, code, sizeof(code));
        pthread_t thread;
        pthread_create(&thread, NULL, kick_soon, f);
        assert_int_equal(run_at(f, CODE), EXIT_STOPPED);
        pthread_join(thread, NULL);
        vcpu_clear(f->vcpu, ATTN_KICK);
        assert_int_equal(f->vcpu->cpu.rip, CODE);
    }
}

/* Each engine takes over where the one before it left (law 1). */
static void test_exchange(void **state)
{
    static const u8 code[] = {0xb8, 0x01, 0x00, 0xf4}, more[] = {0x40, 0xf4}; /* inc ax; hlt */
    struct fixture *f = start(engines[0]);
    struct error err;
    place(f, CODE, code, sizeof(code));
    assert_int_equal(run_at(f, CODE), EXIT_HALTED);
    for (unsigned i = 1; i < 4 * n_engines; i++) {
        u64 at = f->vcpu->cpu.rip;
        if (!engines[i % n_engines]->probe(&err))
            continue;
        place(f, at, more, sizeof(more));
        assert_true(engine_exchange(f->vcpu, engines[i % n_engines], &err));
        f->engine = f->vcpu->engine;
        u16 before = ax(f);
        assert_int_equal(run_at(f, at), EXIT_HALTED);
        assert_int_equal(ax(f), before + 1);
    }
    finish(f);
}

/* An empty IDT: INT3 cannot be delivered, nor #GP, nor #DF. */
static void test_triple_fault(void **state)
{
    EACH_ENGINE(f)
    {
        static const u8 code[] = {0xcc};
        place(f, CODE, code, sizeof(code));
        f->vcpu->cpu.idtr.limit = 0;
        assert_int_equal(run_at(f, CODE), EXIT_SHUTDOWN);
    }
}

/* Where displacements reach it; its place is free in a child, which may have cells there. */
static void test_place_of_vcpu(void **state)
{
    (void)state;
    struct board board = {0};
    struct vcpu *vcpu = vcpu_create(&board, 0);
    u8 *end = (u8 *)vcpu_engine_room(vcpu) + VCPU_ENGINE_ROOM;
    assert_true((u64)end <= 2 * GiB);
    unsigned char in_core;
    assert_int_equal(mincore(vcpu, PAGE_SIZE, &in_core), 0);
    pid_t child = fork();
    if (!child)
        _exit(mincore(vcpu, PAGE_SIZE, &in_core) ||
                      mincore(end - PAGE_SIZE, PAGE_SIZE, &in_core)
                  ? 0
                  : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    vcpu_destroy(vcpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_to_halt),  cmocka_unit_test(test_modifies_next_instruction),
        cmocka_unit_test(test_modifies_loop), cmocka_unit_test(test_device_writes_code),
        cmocka_unit_test(test_crosses_pages), cmocka_unit_test(test_device_memory),
        cmocka_unit_test(test_ports),         cmocka_unit_test(test_kick_leaves_a_loop),
        cmocka_unit_test(test_triple_fault),  cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_place_of_vcpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
