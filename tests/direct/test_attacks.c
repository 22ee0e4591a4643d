/*
 * Attacks on cells by guest user code that knows everything: where the stub is, its gadget, the
 * control page. Each must end in one of two ways: the guest sees an exception of its own, or
 * its cell is dead. In none may it reach a page that was not mapped for it, a file, a process
 * or the monitor's belief.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "probe.h"

#define SYSCALLS 512
#define X32      0x40000000u
#define WITNESS  "/tmp/doppel-attack-witness"

static void renew(struct fixture *f)
{
    fixture_drop(f);
    fixture_cell(f);
}

/* What the secret page held must still be there, and nowhere else. */
static void assert_secret(const struct fixture *f)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(f->ram[SECRET_PAGE * PAGE_SIZE + i], 0x5e);
    const u8 *data = f->ram + DATA_PAGE * PAGE_SIZE;
    for (unsigned i = 0; i < PAGE_SIZE; i += 8)
        assert_memory_not_equal(data + i, "\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e", 8);
}

/* The cell must be gone, or at least do nothing on its own after this. */
static void assert_killed(struct fixture *f, enum cell_end end)
{
    assert_int_equal(end, CELL_DEAD);
    assert_true(f->cell.dead);
    assert_secret(f);
    renew(f);
}

/* -- System calls -------------------------------------------------------------------------- */

/* Those that the filter lets pass or traps; 335 and 336 (probes of the kernel's own tracing)
 * are exempt from seccomp and do nothing outside of one. */
static bool is_harmless(u64 number)
{
    return number == SYS_rt_sigreturn || number == SYS_gettimeofday || number == SYS_time ||
           number == SYS_getcpu || number == 335 || number == 336;
}

static void test_every_call_by_gadget(void **state)
{
    struct fixture *f = *state;
    unlink(WITNESS);
    memcpy(f->ram + DATA_PAGE * PAGE_SIZE, WITNESS, sizeof(WITNESS));
    for (u64 number = 0; number < SYSCALLS; number++) {
        if (number == SYS_rt_sigreturn)
            continue; /* below */
        const u64 arguments[] = {DATA, 0101 /* O_WRONLY | O_CREAT */, 0666, 0, 0, 0};
        enum cell_end end = fixture_gadget(f, number, arguments);
        if (is_harmless(number))
            assert_int_equal(end, CELL_STOPPED);
        else
            assert_killed(f, end);
    }
    assert_int_equal(access(WITNESS, F_OK), -1);
}

static void test_x32_by_gadget(void **state)
{
    struct fixture *f = *state;
    for (u64 number = 0; number < SYSCALLS; number += 7) {
        const u64 arguments[] = {DATA, 0101, 0666, 0, 0, 0};
        assert_killed(f, fixture_gadget(f, X32 | number, arguments));
    }
}

/* From its own instructions every call, of both ABIs, is the guest's: never the host's. */
static void test_every_call_from_guest(void **state)
{
    static const u64 places[] = {CODE_SYSCALL, CODE_INT80};
    struct fixture *f = *state;
    unlink(WITNESS);
    memcpy(f->ram + DATA_PAGE * PAGE_SIZE, WITNESS, sizeof(WITNESS));
    for (u64 number = 0; number < 2 * SYSCALLS; number++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RAX] = number / 2;
        f->cpu->gpr[RDI] = f->cpu->gpr[RBX] = DATA;
        f->cpu->gpr[RSI] = f->cpu->gpr[RCX] = 0101;
        assert_int_equal(fixture_run(f, places[number % 2]), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGSYS);
        assert_int_equal(f->cpu->gpr[RAX], number / 2);
    }
    assert_int_equal(access(WITNESS, F_OK), -1);
    assert_secret(f);
}

/* Mapping, unmapping and protecting with the arguments that would help most. */
static void test_memory_calls(void **state)
{
    static const struct {
        u64 number, arguments[6];
    } calls[] = {
        {SYS_mmap,
         {0xb00000, PAGE_SIZE, 3, MAP_SHARED | MAP_FIXED, 0, SECRET_PAGE * PAGE_SIZE}},
        {SYS_mmap,
         {0xb00000, PAGE_SIZE, 3, MAP_SHARED | MAP_FIXED, 1, SECRET_PAGE * PAGE_SIZE}},
        {SYS_mmap,
         {0xb00000, PAGE_SIZE, 1, MAP_SHARED | MAP_FIXED, 2, SECRET_PAGE * PAGE_SIZE}},
        {SYS_mmap, {0xb00000, PAGE_SIZE, 7, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0}},
        {SYS_mmap, {BASE, PAGE_SIZE, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ull, 0}},
        {SYS_munmap, {BASE + PAGE_SIZE, PAGE_SIZE}},
        {SYS_munmap, {DATA, PAGE_SIZE}},
        {SYS_mprotect, {FIXED, PAGE_SIZE, PROT_READ | PROT_WRITE}},
        {SYS_mprotect, {BASE, PAGE_SIZE, 7}},
        {SYS_mremap, {DATA, PAGE_SIZE, 4 * PAGE_SIZE, 1}},
        {SYS_madvise, {DATA, PAGE_SIZE, 4}},
        {SYS_brk, {0xc00000}},
        {SYS_remap_file_pages, {DATA, PAGE_SIZE, 0, SECRET_PAGE}},
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(calls); i++)
        assert_killed(f, fixture_gadget(f, calls[i].number, calls[i].arguments));
}

/* The two words that the cell may use are for it one way each; others not at all. */
static void test_futexes(void **state)
{
    const u64 turn = fixture_control(CONTROL_TURN), mturn = fixture_control(CONTROL_MTURN);
    const u64 sequence = BASE + CELL_ORDERS_PAGE * PAGE_SIZE;
    const struct {
        u64 arguments[6];
    } calls[] = {
        {{DATA, 0, 0, 0}},          /* wait on guest memory */
        {{DATA, 1, 1, 0}},          /* wake there */
        {{turn, 1, 1, 0}},          /* wake another waiter for a turn */
        {{mturn, 0, 0, 0}},         /* wait as the monitor does */
        {{turn, 0, 1, 0}},          /* wait for another value */
        {{turn, 0, 0, DATA}},       /* with a timeout: it would come back by itself */
        {{sequence, 0, 0, 0}},      /* as the mapper does */
        {{sequence, 1, 1, 0}},      /* wake the mapper */
        {{turn, 6, 0, 0}},          /* priority inheritance */
        {{turn, 128, 0, 0}},        /* private */
        {{turn, 256, 0, 0}},        /* another clock */
        {{turn, 3, 1, 1, DATA, 0}}, /* requeue to guest memory */
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(calls); i++)
        assert_killed(f, fixture_gadget(f, SYS_futex, calls[i].arguments));
}

/* -- The shared pages ---------------------------------------------------------------------- */

static void store(struct fixture *f, u64 address, u64 value)
{
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = address;
    f->cpu->gpr[RAX] = value;
    assert_int_equal(fixture_run(f, CODE_STORE), CELL_STOPPED);
}

static void test_write_stub_and_orders(void **state)
{
    struct fixture *f = *state;
    static u8 before[CELL_CONTROL_PAGE * PAGE_SIZE];
    memcpy(before, f->cell.place.block, sizeof(before));
    for (u64 page = CELL_STUB_PAGE; page < CELL_CONTROL_PAGE; page++) {
        store(f, BASE + page * PAGE_SIZE + 8, ~0ull);
        assert_int_equal(f->stop.signal, SIGSEGV);
        /* Present or not, as the host has filled its tables. */
        assert_int_equal(f->stop.error & ~PF_P, PF_W | PF_U);
    }
    assert_memory_equal(before, f->cell.place.block, sizeof(before));
}

/* Everything that the guest can write is filled with one byte, then it makes a system call. */
static void test_fill_shared_pages(void **state)
{
    static const u8 bytes[] = {0xff, 0x00, 0x5a};
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(bytes); i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = fixture_control(0);
        f->cpu->gpr[RCX] = (CELL_TABLE_PAGE - CELL_CONTROL_PAGE) * PAGE_SIZE;
        f->cpu->gpr[RAX] = bytes[i];
        enum cell_end end = fixture_run(f, CODE_FILL);
        /* Non-zero in mturn is a report of a stop, with a frame that may be none: whatever
         * comes of it, the cell is parked or dead. */
        if (end == CELL_DEAD || !cell_verify(&f->cell)) {
            assert_killed(f, CELL_DEAD);
            continue;
        }
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = DATA + 8;
        end = fixture_run(f, CODE_STORE);
        if (end == CELL_DEAD || !cell_verify(&f->cell))
            assert_killed(f, CELL_DEAD);
    }
    assert_secret(f);
}

/* Stores to `mturn` say "stopped" while the guest runs on. Its word does not count for more
 * than its own registers, and verification finds it. */
static void test_forged_stop(void **state)
{
    struct fixture *f = *state;
    store(f, DATA, 7); /* leaves a good frame behind, which the forgery shows again */
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = fixture_control(CONTROL_MTURN);
    f->cpu->gpr[RAX] = 1;
    assert_int_equal(fixture_run(f, CODE_FORGE), CELL_STOPPED);
    assert_false(cell_verify(&f->cell));
    assert_true(f->cell.dead);
    renew(f);
}

/* A forger that counts after its report has stopped counting when cell_verify has returned. */
static void test_forger_is_off(void **state)
{
    struct fixture *f = *state;
    const u8 code[] = {0x87, 0x07, 0x48, 0xff, 0x06, 0xeb, 0xfb}; /* xchg; inc [rsi]; jmp */
    memcpy(f->ram + 0x200, code, sizeof(code));
    store(f, DATA, 0);
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = fixture_control(CONTROL_MTURN);
    f->cpu->gpr[RSI] = DATA;
    f->cpu->gpr[RAX] = 1;
    assert_int_equal(fixture_run(f, CODE + 0x200), CELL_STOPPED);
    assert_false(cell_verify(&f->cell));
    volatile u64 *count = (u64 *)(f->ram + DATA_PAGE * PAGE_SIZE);
    u64 before = *count;
    usleep(20000);
    assert_int_equal(before, *count);
    renew(f);
}

/* Handler arguments that point anywhere but into the signal stack. */
static void test_forged_arguments(void **state)
{
    const u64 ends = BASE + CELL_TABLE_PAGE * PAGE_SIZE;
    const u64 addresses[] = {
        0,
        DATA,
        ~0ull,
        BASE,
        fixture_control(0),
        ends - 8,
        ends - 100,
        0x8000000000000000,
        BASE + CELL_STACK_PAGE * PAGE_SIZE - 8,
        (u64)(uintptr_t)state,
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = SIGSEGV;
        f->cpu->gpr[RSI] = f->cpu->gpr[RDX] = addresses[i];
        assert_killed(f, fixture_run(f, fixture_stub(cell_stub_handler)));
    }
    /* And one whose frame is in place but whose image is not. */
    store(f, DATA, 7);
    u64 context = f->cell.control->context;
    store(f, context + offsetof(struct frame, fpu), DATA);
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = SIGSEGV;
    f->cpu->gpr[RSI] = BASE + CELL_STACK_PAGE * PAGE_SIZE;
    f->cpu->gpr[RDX] = BASE + CELL_STACK_PAGE * PAGE_SIZE; /* zeros: no image */
    assert_killed(f, fixture_run(f, fixture_stub(cell_stub_handler)));
}

/* What a frame of zeros with a good image pointer may bring: user registers, nothing else. */
static void test_forged_privileges(void **state)
{
    struct fixture *f = *state;
    store(f, DATA, 7);
    struct control *control = f->cell.control;
    u8 *stack = f->cell.place.block + CELL_STACK_PAGE * PAGE_SIZE;
    struct frame *frame = (struct frame *)stack;
    memset(stack, 0xff, 2 * PAGE_SIZE);
    memset(frame, 0xff, sizeof(*frame));
    frame->fpu = BASE + CELL_STACK_PAGE * PAGE_SIZE + 1024;
    control->context = control->info = BASE + CELL_STACK_PAGE * PAGE_SIZE;
    fixture_registers(f, 0);
    struct x86_cpu *c = f->cpu;
    c->cpl = 3;
    assert_true(frame_take(&f->cell.place, c, &f->stop));
    assert_int_equal(c->rflags & (FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP | FLAG_RF), 0);
    assert_true(c->rflags & FLAG_IF);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->fpu.mxcsr & ~0xffffu, 0);
    assert_int_equal(c->fpu.xcomp_bv, 0);
}

/* -- rt_sigreturn with frames of the guest's making ---------------------------------------- */

/* A frame on the guest's own page. */
static struct frame *own_frame(struct fixture *f)
{
    struct frame *frame = (struct frame *)(f->ram + DATA_PAGE * PAGE_SIZE + 0x400);
    memset(frame, 0, sizeof(*frame));
    frame->flags = 6;
    frame->rip = CODE_SPIN;
    frame->rsp = STACK;
    frame->rflags = 0x202;
    frame->cs = 0x33;
    frame->ss = 0x2b;
    return frame;
}

static enum cell_end return_by(struct fixture *f)
{
    fixture_registers(f, 0);
    f->cpu->gpr[RAX] = SYS_rt_sigreturn;
    f->cpu->gpr[RSP] = DATA + 0x400;
    return fixture_run(f, fixture_stub(cell_stub_gadget));
}

/* Deaf to kicks: only the deadline ends it. */
static void test_sigreturn_masks(void **state)
{
    struct fixture *f = *state;
    struct kicker kicker;
    struct frame *frame = own_frame(f);
    frame->mask = ~0ull;
    frame->rip = CODE_COUNT;
    frame->rdi = DATA;
    fixture_reset_count(f);
    f->cell.deadline = 50000000;
    kicker_start(&kicker, f, 0, true);
    enum cell_end end = return_by(f);
    kicker_join(&kicker);
    assert_killed(f, end);
    /* A mask alone is repaired by the next resume. */
    frame = own_frame(f);
    frame->mask = 1ull << (SIGUSR1 - 1);
    frame->rip = CODE_SYSCALL;
    assert_int_equal(return_by(f), CELL_STOPPED);
    kicker_start(&kicker, f, 5, false);
    fixture_registers(f, 0);
    assert_int_equal(fixture_run(f, CODE_SPIN), CELL_STOPPED);
    kicker_join(&kicker);
}

/* A signal stack in guest memory: its frames are not believed. */
static void test_sigreturn_stacks(void **state)
{
    struct fixture *f = *state;
    struct frame *frame = own_frame(f);
    frame->stack_pointer = DATA;
    frame->stack_size = PAGE_SIZE;
    frame->rip = CODE_UD2;
    assert_killed(f, return_by(f));
    frame = own_frame(f);
    frame->stack_flags = 2; /* SS_DISABLE: the frame goes to the guest's stack */
    frame->rip = CODE_UD2;
    assert_killed(f, return_by(f));
}

static void test_sigreturn_selectors(void **state)
{
    static const u16 selectors[] = {0, 0x08, 0x10, 0x18, 0x23, 0x2b, 0x3b, 0x7b, 0xffff, 0x33};
    struct fixture *f = *state;
    for (unsigned i = 0; i < 2 * ARRAY_LEN(selectors); i++) {
        struct frame *frame = own_frame(f);
        u16 selector = selectors[i / 2];
        if (i % 2)
            frame->cs = selector;
        else
            frame->ss = selector;
        frame->rip = CODE_UD2;
        frame->rflags = 0x202 | FLAG_IOPL | FLAG_NT | FLAG_VIF | FLAG_VIP;
        enum cell_end end = return_by(f);
        if (end == CELL_DEAD) {
            assert_killed(f, end);
            continue;
        }
        assert_int_equal(f->cpu->rflags & (FLAG_IOPL | FLAG_VIF | FLAG_VIP), 0);
        /* The next resume is in 64-bit mode again. */
        store(f, DATA + 8, 1);
        assert_int_equal(f->stop.signal, SIGTRAP);
    }
}

/* -- Stacks -------------------------------------------------------------------------------- */

static void test_stack_pointers(void **state)
{
    const u64 pointers[] = {
        0,
        8,
        BASE,
        BASE + CELL_STACK_PAGE * PAGE_SIZE,
        BASE + CELL_STACK_PAGE * PAGE_SIZE + 64,
        BASE + CELL_TABLE_PAGE * PAGE_SIZE,
        0x8000000000000000,
        0x7ffffffff000,
        ~0ull,
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(pointers); i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RSP] = pointers[i];
        assert_int_equal(fixture_run(f, CODE_UD2), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGILL);
        assert_int_equal(f->cpu->gpr[RSP], pointers[i]);
    }
}

/* -- Mappings ------------------------------------------------------------------------------ */

static void test_stale_mapping(void **state)
{
    struct fixture *f = *state;
    store(f, DATA, 1);
    assert_true(cell_verify(&f->cell));
    mapper_unmap(&f->cell.mapper, DATA, 1);
    assert_int_equal(mapper_run(&f->cell.mapper), 1);
    memset(f->ram + DATA_PAGE * PAGE_SIZE, 0, PAGE_SIZE);
    store(f, DATA, ~0ull);
    assert_int_equal(f->stop.signal, SIGSEGV);
    assert_int_equal(f->stop.error, PF_W | PF_U);
    assert_int_equal(f->ram[DATA_PAGE * PAGE_SIZE], 0);
}

/* Unmapping takes hold while the guest runs and writes: the report comes after the last
 * store. */
struct unmapper {
    struct fixture *fixture;
    u64 seen, after;
};

static void *unmap_running(void *opaque)
{
    struct unmapper *u = opaque;
    volatile u64 *count = (u64 *)(u->fixture->ram + DATA_PAGE * PAGE_SIZE);
    fixture_await_count(u->fixture);
    mapper_unmap(&u->fixture->cell.mapper, DATA, 1);
    mapper_run(&u->fixture->cell.mapper);
    u->seen = *count;
    usleep(5000);
    u->after = *count;
    return NULL;
}

static void test_unmap_while_running(void **state)
{
    struct fixture *f = *state;
    struct unmapper unmapper = {.fixture = f};
    pthread_t thread;
    memset(f->ram + DATA_PAGE * PAGE_SIZE, 0, PAGE_SIZE);
    pthread_create(&thread, NULL, unmap_running, &unmapper);
    fixture_registers(f, 0);
    f->cpu->gpr[RDI] = DATA;
    assert_int_equal(fixture_run(f, CODE_COUNT), CELL_STOPPED);
    pthread_join(thread, NULL);
    assert_int_equal(f->stop.signal, SIGSEGV);
    assert_true(unmapper.seen > 0);
    assert_int_equal(unmapper.seen, unmapper.after);
}

/* Nothing of the monitor is there: not its code, stack, heap, nor the memory it shares. */
static void test_monitor_memory(void **state)
{
    struct fixture *f = *state;
    int local = 0;
    const u64 addresses[] = {
        (u64)(uintptr_t)&local,
        (u64)(uintptr_t)f,
        (u64)(uintptr_t)f->cpu,
        (u64)(uintptr_t)f->ram,
        (u64)(uintptr_t)test_monitor_memory,
        (u64)(uintptr_t)&printf,
        (u64)(uintptr_t)f->cell.place.block,
        (u64)(uintptr_t)cell_stub,
        0xffffffffff600000,
        0xffffffff80000000,
        BASE - 8,
        BASE + CELL_PAGES * PAGE_SIZE,
    };
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        fixture_registers(f, 0);
        f->cpu->gpr[RDI] = addresses[i];
        assert_int_equal(fixture_run(f, CODE_LOAD), CELL_STOPPED);
        assert_int_equal(f->stop.signal, SIGSEGV);
    }
}

/* The file in /proc says what there is: the block, the guest's pages, the vsyscall page. */
static void test_only_these_mappings(void **state)
{
    struct fixture *f = *state;
    char path[64], line[512];
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)f->cell.pid);
    FILE *maps = fopen(path, "r");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        u64 start = strtoull(line, NULL, 16);
        bool guest = start == CODE || start == DATA || start == FIXED;
        if (!guest && !cell_owns(&f->cell, start) && !strstr(line, "[vsyscall]"))
            fail_msg("a mapping too many: %s", line);
    }
    fclose(maps);
    snprintf(path, sizeof(path), "ls /proc/%d/fd | grep -q .", (int)f->cell.pid);
    assert_int_not_equal(system(path), 0);
}

/* -- The mapper ---------------------------------------------------------------------------- */

/* The guest runs the mapper's own code, from each byte of the stub. */
static void test_run_all_of_stub(void **state)
{
    struct fixture *f = *state;
    const unsigned size = (unsigned)(cell_stub_end - cell_stub);
    for (unsigned at = 0; at < size; at++) {
        struct kicker kicker;
        fixture_registers(f, 0);
        for (unsigned i = 0; i < 16; i++)
            f->cpu->gpr[i] = DATA + 0x800;
        f->cpu->gpr[R15] = CODE_INT3;
        f->cpu->gpr[RBX] = BASE + CELL_ORDERS_PAGE * PAGE_SIZE + ORDERS_LIST;
        f->cell.deadline = 20000000;
        kicker_start(&kicker, f, 2, false);
        enum cell_end end = fixture_run(f, BASE + at);
        kicker_join(&kicker);
        if (end == CELL_STOPPED && !cell_verify(&f->cell))
            end = CELL_DEAD;
        if (end == CELL_DEAD)
            assert_killed(f, end);
        f->cell.deadline = 1000000000;
        atomic_store(&f->cell.kicked, 0);
        assert_secret(f);
    }
}

/* A report of the mapper's cannot be made: the cell has no descriptor, nor the call. */
static void test_forge_report(void **state)
{
    struct fixture *f = *state;
    for (u64 fd = 0; fd < 8; fd++) {
        const u64 arguments[] = {fd, BASE + CELL_ORDERS_PAGE * PAGE_SIZE + ORDERS_VALUES, 8};
        assert_killed(f, fixture_gadget(f, SYS_write, arguments));
    }
}

/* -- Ends ---------------------------------------------------------------------------------- */

/* Whoever kills the monitor kills its cells. */
static void test_monitor_dies(void **state)
{
    int numbers[2];
    pid_t tasks[3];
    assert_int_equal(pipe(numbers), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static struct fixture f;
        fixture_start(&f);
        fixture_cell(&f);
        pid_t mine[3] = {f.zygote.pid, f.cell.pid, f.cell.mapper.pid};
        if (write(numbers[1], mine, sizeof(mine)) != sizeof(mine))
            _exit(1);
        fixture_registers(&f, 0);
        fixture_run(&f, CODE_SPIN);
        _exit(1);
    }
    assert_int_equal(read(numbers[0], tasks, sizeof(tasks)), sizeof(tasks));
    usleep(10000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    for (unsigned i = 0; i < ARRAY_LEN(tasks); i++) {
        char path[40], text[256] = "";
        bool gone = false;
        for (unsigned tries = 0; tries < 6000 && !gone; tries++) {
            snprintf(path, sizeof(path), "/proc/%d/stat", (int)tasks[i]);
            FILE *stat = fopen(path, "r");
            gone = !stat || !fgets(text, sizeof(text), stat) || strstr(text, ") Z ");
            if (stat)
                fclose(stat);
            usleep(10000);
        }
        assert_true(gone);
    }
}

/* Memory and descriptors do not leak by making cells and losing them. */
static void test_many_cells(void **state)
{
    struct fixture *f = *state;
    int before = dup(0);
    close(before);
    for (unsigned i = 0; i < 100; i++) {
        const u64 arguments[6] = {0};
        assert_killed(f, fixture_gadget(f, SYS_fork, arguments));
    }
    int after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        CELL_TEST(test_every_call_by_gadget),
        CELL_TEST(test_x32_by_gadget),
        CELL_TEST(test_every_call_from_guest),
        CELL_TEST(test_memory_calls),
        CELL_TEST(test_futexes),
        CELL_TEST(test_write_stub_and_orders),
        CELL_TEST(test_fill_shared_pages),
        CELL_TEST(test_forged_stop),
        CELL_TEST(test_forger_is_off),
        CELL_TEST(test_forged_arguments),
        CELL_TEST(test_forged_privileges),
        CELL_TEST(test_sigreturn_masks),
        CELL_TEST(test_sigreturn_stacks),
        CELL_TEST(test_sigreturn_selectors),
        CELL_TEST(test_stack_pointers),
        CELL_TEST(test_stale_mapping),
        CELL_TEST(test_unmap_while_running),
        CELL_TEST(test_monitor_memory),
        CELL_TEST(test_only_these_mappings),
        CELL_TEST(test_run_all_of_stub),
        CELL_TEST(test_forge_report),
        CELL_TEST(test_monitor_dies),
        CELL_TEST(test_many_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
