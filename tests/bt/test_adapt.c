/*
 * Instructions that leave the fast path often: operands on two pages, devices, pages that are
 * code. Pieces of guest code run on the simulator and on the translator; state, memory and what
 * a device saw, in its order, must be the same. Counters show that what is meant happened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "platform/bus.h"
#include "platform/vcpu.h"

/* -- A device at HOLE ---------------------------------------------------------------------- */

#define DEVICE   0xd0000000ull
#define HOLE_PTE (0x10000ull + (HOLE >> PAGE_SHIFT) * 8) /* see fixture.c */

struct device {
    struct bus_region region;
    struct guest *guest;
    u64 seen; /* a hash of what it saw */
    u64 accesses;
};

static void see(struct device *d, u64 offset, u64 size, u64 value)
{
    d->seen = (d->seen ^ offset ^ size << 16 ^ value << 20) * 0x9e3779b97f4a7c15ull;
    d->accesses++;
}

static u64 device_read(void *opaque, u64 offset, unsigned size)
{
    struct device *d = opaque;
    see(d, offset, size, 0);
    return d->seen >> 7 & bits_low(8 * size);
}

/* A write there changes memory by way of the vCPU, as one that changes what memory is does. */
#define POSTS 0x800

static void change_data(struct vcpu *vcpu, struct vcpu_work *work)
{
    u8 *byte = work->opaque;
    (*byte)++;
}

static void device_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct device *d = opaque;
    see(d, offset, size | 128, value);
    if (offset == POSTS)
        vcpu_post_all(&d->guest->board, change_data, guest_page(d->guest, DATA) + 0x100);
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

/* -- Pieces -------------------------------------------------------------------------------- */

/* `body` 300 times; RDI, R8 and RBP are free, R13 counts. */
#define TIMES(body) "mov $300, %r13d; 1: " body "; dec %r13d; jnz 1b; hlt"
/* RDI: three bytes before the end of a page of data. */
#define CROSSING "lea 0x2ffd(%rbx), %rdi; sub $0x100, %rdi;"
#define AT_HOLE  "mov $0x400000, %edi;"

enum { DEVICE_THERE = 1, ADAPTS = 2, BOUNCES = 4, GOES_BACK = 8, FAULTS = 16 };

#define PIECES(X)                                                                              \
    X(posted_work, DEVICE_THERE,                                                               \
      AT_HOLE TIMES("movb $1, 0x800(%rdi); mov (%rbx), %rcx; add %rcx, %rax"))                 \
    X(crossing_loads, BOUNCES,                                                                 \
      CROSSING TIMES("mov (%rdi), %rax; add (%rdi), %r10d; adc (%rdi), %r12; movzwl 2(%rdi), " \
                     "%edx; movsbl 2(%rdi), %ecx; movups -9(%rdi), %xmm3; cmp %rax, 1(%rdi);"  \
                     "setc %cl; add %rcx, %r14; incq (%rbx); mov 2(%rdi), %r11w; add %r11, "   \
                     "%r15; vmovdqu -20(%rdi), %ymm4; vpaddq -5(%rdi), %ymm5, %ymm6"))         \
    X(crossing_stores, ADAPTS | BOUNCES,                                                       \
      CROSSING TIMES("add %r13, %rax; mov %rax, (%rdi); mov %r10d, 2(%rdi); mov (%rdi), %r8;"  \
                     "add %r8, %r10; movw $0x1234, 2(%rdi); movq $-7, -2(%rdi); cmp %rax, "    \
                     "%r10; mov %r11, -3(%rdi); setc %cl; adc %rcx, %r11; movups %xmm1, "      \
                     "-11(%rdi); movq %rax, %xmm1; vmovdqu %ymm1, -30(%rdi); movnti %rax, "    \
                     "-6(%rdi); mov -6(%rdi), %rcx"))                                          \
    X(crossing_stack, BOUNCES,                                                                 \
      "lea -0xffd(%rsp), %rsp;" TIMES(                                                         \
          "push %rax; push %r13; pop %rax; pop %rcx; add %rcx, %rax; call 2f; jmp 3f; "        \
          "2: ret; 3: lea 2b(%rip), %r8; mov %r8, (%rsp); sub $8, %rsp; mov %r8, (%rsp); "     \
          "call *(%rsp); add $8, %rsp; mov %rbp, %r9; push %rbp; mov %rsp, %rbp; leave; "      \
          "mov %r9, %rbp; push (%rbx); pop %r12"))                                             \
    X(crossing_others, BOUNCES,                                                                \
      CROSSING                                                                                 \
      "fninit;" TIMES("add %rax, (%rdi); lock incq (%rdi); xchg %rcx, (%rdi); btsq $13, "      \
                      "(%rdi); mov $13, %eax; bt %eax, (%rdi); rcl $1, %r12; sete 3(%rdi); "   \
                      "shrd $3, %r12, (%rdi); mov %rdi, %rsi; lodsq; lea -8(%rsi), %rsi; "     \
                      "fildll (%rdi); fistpll -1(%rdi)"))                                      \
    X(crossing_fault, FAULTS, "mov $0x3ffffd, %edi;" TIMES("inc %eax; mov (%rdi), %rcx"))      \
    X(crossing_fault_later, ADAPTS | FAULTS,                                                   \
      CROSSING TIMES("cmp $5, %r13; mov $0x3ffffd, %r8d; cmove %r8, %rdi; mov %rax, (%rdi);"   \
                     "inc %rax"))                                                              \
    X(crossing_fault_mmx, FAULTS,                                                              \
      CROSSING "fninit;" TIMES("cmp $5, %r13; mov $0x3ffffd, %r8d; cmove %r8, %rdi; movq "     \
                               "%mm2, (%rdi); emms"))                                          \
    X(crossing_alignment, BOUNCES | FAULTS,                                                    \
      "lea 0x2ff8(%rbx), %rdi; sub $0x100, %rdi;" TIMES(                                       \
          "movups (%rdi), %xmm2; cmp $4, %r13; jne 2f; stc; movaps (%rdi), %xmm3; 2:"))        \
    X(device_loads, DEVICE_THERE | BOUNCES,                                                    \
      AT_HOLE TIMES("mov (%rdi), %rax; movzwl 6(%rdi), %ecx; add %ecx, %r10d; and 8(%rdi), "   \
                    "%r11; adc 4(%rdi), %r12d; test %eax, 12(%rdi); setz %dl; cmp %dl, "       \
                    "(%rdi); setc %dh; mov 3(%rdi), %ch; movups 16(%rdi), %xmm2; movsbq "      \
                    "0x400020, %r8; add %r8, %r14; xadd %rcx, 24(%rdi)"))                      \
    X(device_stores, DEVICE_THERE | ADAPTS,                                                    \
      AT_HOLE TIMES("mov %rax, (%rdi); mov %r10d, 4(%rdi); mov %r11w, 6(%rdi); movb $3, "      \
                    "7(%rdi); mov %ah, 9(%rdi); cmp %r13, %rax; mov %al, 10(%rdi); adc %r13, " \
                    "%rax; movq $-9, 16(%rdi); movl $7, 0x400040; orl $16, 24(%rdi); "         \
                    "movups %xmm4, 32(%rdi); rol %r10; mov %r11, 1(%rdi); "                    \
                    "movd %xmm4, 12(%rdi); mov (%rdi), %r11"))                                 \
    X(device_pointer, DEVICE_THERE,                                                            \
      "movq $0x400000, (%rbx); mov %rsp, %r9;" TIMES("push 0x400008; pop %rcx; mov $0x400100," \
                                                     "%esp; pop %rdx; push %rcx; mov %r9,"     \
                                                     "%rsp"))                                  \
    X(device_and_ram, DEVICE_THERE | ADAPTS,                                                   \
      TIMES("mov $0x400010, %edi; test $3, %r13b; cmovnz %rbx, %rdi; mov %r13, (%rdi); "       \
            "mov 8(%rdi), %rcx; mov %r13d, 16(%rdi); add %rcx, %r12"))                         \
    X(device_then_fills, DEVICE_THERE | ADAPTS | GOES_BACK,                                    \
      "mov $3, %r14d; 3: mov $100, %r13d; mov $0x400010, %edi; 1: call 5f; dec %r13d; "        \
      "jnz 1b; mov $200, %r13d; mov $0x200000, %edi; 2: call 5f; mov %cr3, %rax; mov %rax, "   \
      "%cr3; dec %r13d; jnz 2b; dec %r14d; jnz 3b; hlt; 5: mov %r13, (%rdi); ret")             \
    X(code_stores, ADAPTS,                                                                     \
      "lea 9f(%rip), %rdi;" TIMES(                                                             \
          "mov %r13d, (%rdi); add %r13, %rax; mov %rax, 8(%rdi); "                             \
          "mov (%rdi), %ecx; add %rcx, %r12; lock incl 16(%rdi)") "; .p2align 8; 9: .skip 64") \
    X(code_stores_hit, ADAPTS,                                                                 \
      "lea 2f+3(%rip), %rdi;" TIMES(                                                           \
          "mov %r13d, (%rdi); 2: mov $0x1000, %r12; add %r12, %rax"))

struct piece {
    const char *name;
    const u8 *start, *end;
    unsigned expects;
};

#define DEFINE(name, expects, text)                                                            \
    extern const u8 start_##name[], end_##name[];                                              \
    __asm__(".pushsection .rodata\nstart_" #name ":\n" text "\nend_" #name ":\n."              \
            "popsection\n");
PIECES(DEFINE)

static const struct piece pieces[] = {
#define ROW(name, expects, text) {#name, start_##name, end_##name, expects},
    PIECES(ROW)};

/* -- Running ------------------------------------------------------------------------------- */

static struct guest *run(const struct engine *engine, const struct piece *p,
                         struct device *device)
{
    struct guest *g = guest_create(engine, 5);
    *device = (struct device){.guest = g,
                              .region = {.name = "test",
                                         .ops = &device_ops,
                                         .opaque = device,
                                         .space = BUS_MMIO,
                                         .base = DEVICE,
                                         .size = PAGE_SIZE}};
    if (p->expects & DEVICE_THERE) {
        u64 pte = DEVICE | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
        bus_add(&g->board, &device->region);
        guest_write(g, HOLE_PTE, &pte, sizeof(pte));
    }
    guest_write(g, CODE, p->start, (u64)(p->end - p->start));
    assert_int_equal(guest_run(g), EXIT_HALTED);
    return g;
}

/* No piece but those may end in a handler, which pushes its vector and halts. */
static void check_end(const struct guest *g, const struct piece *p)
{
    bool faults = g->vcpu->cpu.rip < CODE;
    assert_int_equal(faults, (p->expects & FAULTS) != 0);
}

static void check_counters(struct guest *bt, const struct piece *p)
{
    if (p->expects & ADAPTS)
        assert_in_range(guest_counter(bt, "sites_adapted"), 1, 24);
    if (p->expects & BOUNCES)
        assert_in_range(guest_counter(bt, "bounced_loads"), 250, 100000);
    if (p->expects & GOES_BACK)
        assert_in_range(guest_counter(bt, "sites_unadapted"), 1, 8);
}

static void test_same_as_simulator(void **state)
{
    const struct piece *p = *state;
    struct device seen_by_sim, seen_by_bt;
    struct guest *sim = run(&sim_engine, p, &seen_by_sim);
    struct guest *bt = run(&bt_engine, p, &seen_by_bt);
    const char *difference = guest_compare(sim, bt, 0);
    if (difference)
        fail_msg("%s: %s", p->name, difference);
    assert_int_equal(seen_by_sim.accesses, seen_by_bt.accesses);
    assert_int_equal(seen_by_sim.seen, seen_by_bt.seen);
    check_end(bt, p);
    check_counters(bt, p);
    guest_destroy(bt);
    guest_destroy(sim);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(pieces)];
    for (unsigned i = 0; i < ARRAY_LEN(pieces); i++)
        tests[i] = (struct CMUnitTest){.name = pieces[i].name,
                                       .test_func = test_same_as_simulator,
                                       .initial_state = (void *)&pieces[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
