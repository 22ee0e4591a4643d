/*
 * Copies of code in a cell's annex: they do what the original does, whatever the moment at
 * which they are stopped, show none of their addresses, hold nothing that must be intercepted,
 * and give guest code that attacks them nothing.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/direct/scan.h"
#include "fixture.h"
#include "probe.h"

/* Behind the fixture's own snippets. */
#define PROGRAM (CODE + 0x200)

extern const u8 program[], program_end[], program_loop[], program_fault[], program_ret[],
    program_call[], program_sensitive[], program_cpuid[], program_each[], program_hidden[];

/* RBP: DATA. Each part adds what it finds to RAX, flags included. */
__asm__(".pushsection .rodata\n"
        "program: xor %eax, %eax\n"
        "mov $3, %ecx\n"
        "1: add $5, %rax\n"
        "loop 1b\n"
        "jrcxz 2f\n"
        "ud2\n"
        "2: add word(%rip), %rax\n"
        "mov word(%rip), %r9\n"
        "lea word(%rip), %r10\n"
        "add %r9, %rax\n"
        "xor %r10, %rax\n"
        "cmpq $0x1234, word(%rip)\n"
        "setc %bl\n"
        "movdqu word(%rip), %xmm9\n"
        "vpaddd word(%rip), %xmm9, %xmm10\n"
        "vaddps word(%rip), %ymm8, %ymm11\n"
        "movzwl word(%rip), %r15d\n"
        "imul $77, word(%rip), %rdi\n"
        "push word(%rip)\n"
        "pop %r12\n"
        "stc\n"
        "call leaf\n"
        "adc $0, %rax\n"
        "std\n"
        "call leaf\n"
        "pushfq\n"
        "pop %r13\n"
        "cld\n"
        "lea leaf(%rip), %rdx\n"
        "call *%rdx\n"
        "mov %rdx, 8(%rbp)\n"
        "call *8(%rbp)\n"
        "mov %rsp, %rsi\n"
        "mov %rbp, %rsp\n"
        "add $64, %rsp\n"
        "mov %rdx, -48(%rsp)\n"
        "call *-48(%rsp)\n"
        "mov %rsi, %rsp\n"
        "lea table(%rip), %r8\n"
        "movslq 4(%r8), %rdx\n"
        "add %r8, %rdx\n"
        "jmp *%rdx\n"
        "ud2\n"
        "3: push $7\n"
        "call drop\n"
        "lea 4f(%rip), %rdx\n"
        "push %rdx\n"
        "ret\n"
        "ud2\n"
        "4: mov $20, %ecx\n"
        "5: test $1, %ecx\n"
        "jnz 6f\n"
        "call leaf\n"
        "6: dec %ecx\n"
        "jnz 5b\n"
        "rdfsbase %r11\n"
        "cmpxchg16b 16(%rbp)\n"
        "int3\n"
        /* RAX := a sum over RCX rounds of calls, returns and words. */
        "program_loop: call leaf\n"
        "add word(%rip), %rax\n"
        "rol $3, %rax\n"
        "lea leaf(%rip), %rdx\n"
        "call *%rdx\n"
        "xor word(%rip), %rax\n"
        "dec %rcx\n"
        "jnz program_loop\n"
        "int3\n"
        /* RCX functions, named from RBP on. */
        "program_each: mov -8(%rbp, %rcx, 8), %rdx\n"
        "call *%rdx\n"
        "loop program_each\n"
        "int3\n"
        "program_fault: mov 0x7000000(%rip), %rax\n"
        "program_ret: ret\n"
        "program_call: call leaf\n"
        "program_sensitive: mov $0xa20f, %ecx\n"
        "mov $0xd0010f, %edx\n"
        "nop\n"
        "program_cpuid: cpuid\n"
        "xgetbv\n"
        "syscall\n"
        "popfq\n"
        "rdpid %rax\n"
        "lsl %eax, %eax\n"
        "xsave (%rdi)\n"
        "int $0x80\n"
        ".byte 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1\n"
        "int3\n"
        "program_hidden: jmp . + 1\n" /* EB FF, then C0: inc eax */
        ".byte 0xc0\n"
        "int3\n"
        "leaf: lea 3(%rax), %rax\n"
        "push word(%rip)\n"
        "lea 8(%rsp), %rsp\n"
        "ret\n"
        "drop: mov 8(%rsp), %rdi\n"
        "ret $8\n"
        ".balign 8\n"
        "table: .long 0, 3b - table\n"
        "word: .quad 0x0123456789abcdef, 0x3f8000003f800000, 0x4000000040400000, 1\n"
        "program_end: .popsection");

struct user {
    struct annex_source source;
    struct fixture *fixture;
};

static const u8 *code_page(const struct annex_source *source, u64 va)
{
    const struct user *user = (const struct user *)source;
    return va == CODE ? user->fixture->ram : NULL;
}

static u64 place(const u8 *label)
{
    return PROGRAM + (u64)(label - program);
}

static void start(struct fixture *f, u64 rip)
{
    fixture_registers(f, rip);
    f->cpu->gpr[RBP] = DATA;
    f->cpu->gpr[RCX] = 50;
    f->cpu->gpr[RDI] = DATA + 0x100;
    memset(f->ram + DATA_PAGE * PAGE_SIZE, 0, PAGE_SIZE);
    memcpy(f->ram + (PROGRAM - CODE), program, (size_t)(program_end - program));
}

/* One instruction of the original. */
static void step(struct fixture *f)
{
    f->cpu->rflags |= FLAG_TF;
    assert_int_equal(cell_run(&f->cell, f->cpu, &f->stop), CELL_STOPPED);
    f->cpu->rflags &= ~FLAG_TF;
}

/* Runs copies until something else stops them than what belongs to copies. Returns how many
 * branches had to be stepped. */
static unsigned run_copies_of(struct fixture *f, const struct annex_source *source)
{
    struct x86_cpu *c = f->cpu;
    struct annex *annex = &f->cell.annex;
    unsigned steps = 0;
    for (unsigned i = 0; i < 100000; i++) {
        u64 at = annex_enter(annex, source, c, c->rip);
        if (!at)
            return steps;
        c->rip = at;
        assert_int_equal(cell_run(&f->cell, c, &f->stop), CELL_STOPPED);
        if (annex_take(annex, c, &f->stop) || f->stop.signal == SIGUSR1)
            continue;
        assert_false(cell_owns(&f->cell, c->rip));
        if (f->stop.signal != SIGSEGV || f->stop.trap != VEC_GP)
            return steps;
        /* A branch to what was not known, or what must be intercepted. */
        u8 first = f->ram[c->rip - CODE];
        if (first != 0xc3 && first != 0xc2 && first != 0xff)
            return steps;
        step(f);
        steps++;
    }
    fail();
    return steps;
}

static void run_copies(struct fixture *f)
{
    const struct user user = {{code_page}, f};
    run_copies_of(f, &user.source);
}

static void set_up_model(struct fixture *f)
{
    static struct x86_model model;
    struct error err;
    assert_true(x86_model_init(&model, NULL, 1, 1000000000, &err));
    f->cpu->model = &model;
}

static void test_same(void **state)
{
    struct fixture *f = *state;
    static struct x86_cpu want;
    u8 memory[PAGE_SIZE];
    start(f, PROGRAM);
    assert_int_equal(fixture_run(f, PROGRAM), CELL_STOPPED);
    assert_int_equal(f->stop.signal, SIGTRAP);
    want = *f->cpu;
    memcpy(memory, f->ram + DATA_PAGE * PAGE_SIZE, PAGE_SIZE);
    for (unsigned i = 0; i < 3; i++) {
        start(f, PROGRAM);
        set_up_model(f);
        run_copies(f);
        /* INT3 itself is left to the simulator. */
        assert_int_equal(f->cpu->rip, want.rip - 1);
        assert_memory_equal(f->cpu->gpr, want.gpr, sizeof(want.gpr));
        assert_memory_equal(f->cpu->fpu.xmm, want.fpu.xmm, sizeof(want.fpu.xmm));
        assert_memory_equal(f->cpu->fpu.ymm_hi, want.fpu.ymm_hi, sizeof(want.fpu.ymm_hi));
        assert_int_equal(f->cpu->rflags, want.rflags);
        assert_memory_equal(f->ram + DATA_PAGE * PAGE_SIZE, memory, PAGE_SIZE);
    }
    assert_int_equal(f->cell.annex.stats.resets, 0);
}

/* The fixture's code, and functions on every other page. */
static const u8 *function_page(const struct annex_source *source, u64 va)
{
    static const u8 functions[PAGE_SIZE] = {0x48, 0xff, 0xc0, 0xc3}; /* inc rax; ret */
    const u8 *page = code_page(source, va);
    return page ? page : functions;
}

/* Functions whose addresses are alike in the bits that name a target's place in one way. */
static void test_alike_targets(void **state)
{
    enum { ALIKE = 12, APART = 0x4000 };
    struct fixture *f = *state;
    const struct user user = {{function_page}, f};
    for (unsigned round = 0; round < 3; round++) {
        start(f, place(program_each));
        set_up_model(f);
        u64 *functions = (u64 *)(f->ram + DATA_PAGE * PAGE_SIZE);
        for (unsigned i = 0; i < ALIKE; i++)
            functions[i] = BIT(40) + i * APART;
        f->cpu->gpr[RAX] = 0;
        f->cpu->gpr[RCX] = ALIKE;
        unsigned steps = run_copies_of(f, &user.source);
        assert_int_equal(f->cpu->gpr[RAX], ALIKE);
        assert_true(steps <= (round ? 0 : ALIKE));
    }
}

struct kicks {
    struct fixture *fixture;
    _Atomic bool done;
    _Atomic unsigned n;
};

static void *kick_often(void *opaque)
{
    struct kicks *kicks = opaque;
    while (!kicks->done) {
        usleep(30);
        cell_kick(&kicks->fixture->cell);
        kicks->n++;
    }
    return NULL;
}

/* Wherever a kick stops the copies, the original goes on from what they tell. */
static void test_stopped_anywhere(void **state)
{
    const u64 rounds = 2000000;
    struct fixture *f = *state;
    struct kicks kicks = {.fixture = f};
    pthread_t thread;
    start(f, 0);
    f->cpu->gpr[RCX] = rounds;
    assert_int_equal(fixture_run(f, place(program_loop)), CELL_STOPPED);
    u64 want = f->cpu->gpr[RAX];
    pthread_create(&thread, NULL, kick_often, &kicks);
    for (unsigned i = 0; (i < 100 || kicks.n <= 100) && kicks.n < 3000; i++) {
        start(f, place(program_loop));
        set_up_model(f);
        f->cpu->gpr[RCX] = rounds;
        run_copies(f);
        assert_int_equal(f->stop.signal, SIGSEGV);
        assert_int_equal(f->cpu->gpr[RAX], want);
        assert_int_equal(f->cpu->gpr[RSP], STACK);
    }
    kicks.done = true;
    pthread_join(thread, NULL);
    assert_true(kicks.n > 100);
}

static void test_faults(void **state)
{
    struct fixture *f = *state;
    const struct {
        u64 rip, rsp, address;
        u32 write;
    } cases[] = {
        {place(program_fault), STACK, place(program_ret) + 0x7000000, 0},
        {place(program_ret), 0x900000, 0x900000, 0},
        {place(program_call), 0x900008, 0x900000, PF_W},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        start(f, cases[i].rip);
        set_up_model(f);
        for (unsigned r = 0; r < 16; r++)
            f->cpu->gpr[r] = 0x1111 * (r + 1);
        f->cpu->gpr[RSP] = cases[i].rsp;
        run_copies(f);
        assert_int_equal(f->stop.trap, VEC_PF);
        assert_int_equal(f->stop.cr2, cases[i].address);
        assert_int_equal(f->stop.error & PF_W, cases[i].write);
        assert_int_equal(f->cpu->rip, cases[i].rip);
        for (unsigned r = 0; r < 16; r++)
            assert_int_equal(f->cpu->gpr[r], r == RSP ? cases[i].rsp : 0x1111 * (r + 1));
    }
}

static u16 findings(const struct fixture *f)
{
    const u8 *code = f->cell.place.block + CELL_CODE_PAGE * PAGE_SIZE;
    return scan_bytes(code, (CELL_PAGES - CELL_CODE_PAGE) * PAGE_SIZE);
}

/* What must be intercepted stops the cell before it, and is nowhere in the annex: not as a part
 * of constants, nor of distances. */
static void test_nothing_sensitive(void **state)
{
    struct fixture *f = *state;
    u64 rip = place(program_sensitive), end = place(program_hidden) - 1;
    unsigned stops = 0;
    start(f, rip);
    set_up_model(f);
    for (u64 at = rip; at < end; stops++) {
        f->cpu->rip = at;
        run_copies(f);
        assert_int_equal(f->stop.signal, SIGSEGV);
        assert_int_equal(f->stop.trap, VEC_GP);
        at = f->cpu->rip;
        assert_true(at >= rip && at < end);
        /* Behind it, where the simulator would go on. */
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(
            &f->cell.annex.decoder, f->ram + (at - CODE), 15, &z, operands)));
        at += z.length;
    }
    assert_int_equal(stops, 11);
    assert_int_equal(findings(f) & ~BIT(FOUND_RDTSC), 0);
    /* With an offset the counter is not the guest's either. */
    f->ram[0xf00] = 0x0f;
    f->ram[0xf01] = 0x31;
    f->cpu->tsc_offset = 5;
    f->cpu->rip = CODE + 0xf00;
    run_copies(f);
    assert_int_equal(f->cpu->rip, CODE + 0xf00);
    assert_int_equal(f->stop.trap, VEC_GP);
    assert_int_equal(findings(f), 0);
}

/* RDTSCP, of which the vdso's page is refused, goes on in the copy, with the guest's number of
 * its processor. */
static void test_rdtscp(void **state)
{
    struct fixture *f = *state;
    static const u8 code[] = {0x0f, 0x01, 0xf9, 0x0f, 0x0b}; /* rdtscp; ud2 */
    start(f, CODE + 0x800);
    set_up_model(f);
    if (!x86_has(f->cpu->model, FEAT_RDTSCP))
        skip();
    memcpy(f->ram + 0x800, code, sizeof(code));
    for (u32 aux = 5; aux < 7; aux++) {
        f->cpu->rip = CODE + 0x800;
        f->cpu->tsc_aux = aux;
        f->cpu->gpr[RCX] = ~0ull;
        run_copies(f);
        assert_int_equal(f->cpu->rip, CODE + 0x803);
        assert_int_equal(f->cpu->gpr[RCX], aux);
        assert_int_equal(f->cpu->gpr[RDX] >> 32, 0);
    }
    assert_int_equal(findings(f) & ~BIT(FOUND_RDTSC), 0);
}

/* Code in the middle of other instructions. */
static void test_overlapping(void **state)
{
    struct fixture *f = *state;
    start(f, place(program_hidden));
    set_up_model(f);
    f->cpu->gpr[RAX] = 41;
    run_copies(f);
    assert_int_equal(f->cpu->gpr[RAX], 42);
    assert_int_equal(f->cpu->rip, place(program_hidden) + 3);
}

/* More code than there is room for; and code that changed. */
static void test_anew(void **state)
{
    struct fixture *f = *state;
    struct annex *annex = &f->cell.annex;
    u8 *code = f->ram + 0x800;
    start(f, 0);
    set_up_model(f);
    for (unsigned i = 0; i < 20000; i++) {
        u8 load[] = {0xb8, (u8)i, (u8)(i >> 8), 0, 0, 0xcc}; /* mov eax, i; int3 */
        memcpy(code, load, sizeof(load));
        annex_drop(annex);
        if (i % 100)
            continue;
        f->cpu->rip = CODE + 0x800;
        run_copies(f);
        assert_int_equal(f->cpu->gpr[RAX], i);
    }
    /* One copy for each address: random bytes, entered everywhere. */
    const struct user user = {{code_page}, f};
    u64 before = annex->stats.resets;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0x800; i < PAGE_SIZE; i++)
            f->ram[i] = (u8)random();
        if (round % 20 == 0)
            annex_drop(annex);
        for (unsigned i = 0x800; i < PAGE_SIZE; i += 3)
            annex_enter(annex, &user.source, f->cpu, CODE + i);
        assert_int_equal(findings(f) & ~BIT(FOUND_RDTSC), 0);
    }
    assert_true(annex->stats.resets > before);
}

/* -- Attacks ------------------------------------------------------------------------------- */

/* Neither code nor tables can be written from the cell. */
static void test_written(void **state)
{
    struct fixture *f = *state;
    for (unsigned page = CELL_TABLE_PAGE; page < CELL_PAGES; page++) {
        start(f, 0);
        f->cpu->gpr[RDI] = BASE + page * PAGE_SIZE + 8;
        assert_int_equal(fixture_run(f, CODE_STORE), CELL_STOPPED);
        assert_int_equal(f->stop.trap, VEC_PF);
        assert_int_equal(f->stop.error | PF_P, PF_U | PF_W | PF_P);
    }
}

/* Guest code that jumps to each byte of the copies, its slots full of rubbish: whatever it
 * says it did, it is told as state of its own, and the cell stops or is killed. */
static void test_jumped_into(void **state)
{
    struct fixture *f = *state;
    struct annex *annex = &f->cell.annex;
    const u8 jump[] = {0xff, 0xe3}; /* jmp rbx */
    start(f, PROGRAM);
    set_up_model(f);
    run_copies(f);
    u32 first = CELL_CODE_PAGE * PAGE_SIZE, last = annex_here(annex);
    assert_true(last - first > 500);
    memcpy(f->ram + 0x900, jump, sizeof(jump));
    for (u32 at = first; at < last; at++) {
        struct kicker kicker;
        start(f, 0);
        set_up_model(f);
        for (unsigned i = 0; i < SLOTS; i++)
            f->cell.control->slot[i] = i % 2 ? ~0ull : 0x8000000000000000;
        f->cpu->gpr[RBX] = BASE + at;
        kicker_start(&kicker, f, 1, false);
        enum cell_end end = fixture_run(f, CODE + 0x900);
        kicker_join(&kicker);
        if (end == CELL_STOPPED)
            annex_take(annex, f->cpu, &f->stop);
        assert_int_equal(f->ram[SECRET_PAGE * PAGE_SIZE], 0x5e);
        if (end == CELL_STOPPED && cell_verify(&f->cell))
            continue;
        fixture_drop(f);
        fixture_cell(f);
        start(f, PROGRAM);
        set_up_model(f);
        run_copies(f);
    }
}

/* A stop that is said to be in the annex, without any copies, or beyond them. */
static void test_forged_place(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    set_up_model(f);
    f->stop = (struct stop){.signal = SIGSEGV, .trap = VEC_GP};
    for (unsigned round = 0; round < 2; round++) {
        for (u64 at = BASE; at < BASE + CELL_PAGES * PAGE_SIZE; at += 509) {
            f->cpu->rip = at;
            bool edge = annex_take(&f->cell.annex, f->cpu, &f->stop);
            bool inside = round && at >= BASE + CELL_CODE_PAGE * PAGE_SIZE &&
                          at < BASE + annex_here(&f->cell.annex);
            assert_true(inside || (!edge && f->cpu->rip == at));
        }
        start(f, PROGRAM);
        set_up_model(f);
        run_copies(f);
        f->stop = (struct stop){.signal = SIGSEGV, .trap = VEC_GP};
    }
}

int main(void)
{
    struct error err;
    static struct x86_model model;
    if (!probe_direct() || !x86_model_init(&model, NULL, 1, 1000000000, &err) ||
        !annex_works(&model))
        return 77;
    const struct CMUnitTest tests[] = {
        CELL_TEST(test_same),
        CELL_TEST(test_alike_targets),
        CELL_TEST(test_stopped_anywhere),
        CELL_TEST(test_faults),
        CELL_TEST(test_nothing_sensitive),
        CELL_TEST(test_rdtscp),
        CELL_TEST(test_overlapping),
        CELL_TEST(test_anew),
        CELL_TEST(test_written),
        CELL_TEST(test_jumped_into),
        CELL_TEST(test_forged_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
