/* A triple fault shuts the processor down; with -no-reboot the machine ends. */
#include "lib/ends.h"
#include "lib/system.h"

void test(void)
{
    ends("triple fault");
    idt_load(0);
    asm volatile("ud2");
    ends_not();
}
