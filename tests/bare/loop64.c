/*
 * Endless loops that another processor ends by patching their jump, without any serialising
 * instruction in the loop: it sees the new bytes in the end (SDM 3A 8.1.3). Needs two.
 */
#include "lib/pit.h"
#include "lib/smp.h"

static const struct loop {
    const char *name;
    u8 code[8];
    u8 patch; /* offset of the jump's displacement: 0 goes on to the RET behind it */
} loops[] = {
    {"a jump to itself ends", {0xeb, 0xfe, 0xc3}, 1},
    {"a counting loop ends", {0xff, 0x07, 0xeb, 0xfc, 0xc3}, 3}, /* incl (%rdi); jmp */
};

static volatile u8 code[4096] __attribute__((aligned(4096)));
static volatile u32 rounds __attribute__((aligned(4096)));
static volatile bool inside;

static void runner(void *unused)
{
    (void)unused;
    inside = true;
    ((void (*)(volatile u32 *))code)(&rounds);
    inside = false;
}

static void broken(const struct loop *loop)
{
    for (u32 i = 0; i < sizeof(loop->code); i++)
        code[i] = loop->code[i];
    smp_call(1, runner, NULL);
    while (!inside)
        cpu_relax();
    pit_wait_us(2000);
    check("it loops", inside);
    code[loop->patch] = 0;
    for (u32 ms = 0; ms < 100000 && inside; ms++)
        pit_wait_us(1000);
    if (!check(loop->name, !inside))
        check_done();
    smp_wait(1);
}

void test(void)
{
    check_equal("processors", smp_start(2), 2);
    for (u32 i = 0; i < sizeof(loops) / sizeof(*loops); i++)
        broken(loops + i);
    check("the second counted", rounds != 0);
}
