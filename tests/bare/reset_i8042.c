/* Reset by the keyboard controller: command 0xfe pulses the processor's reset line. */
#include "lib/ends.h"

void test(void);

void test(void)
{
    unsigned tries = 100000;

    while ((inb(0x64) & 2) && --tries)
        cpu_relax();
    check("the controller takes commands", tries);
    ends("keyboard controller");
    outb(0x64, 0xfe);
    ends_not();
}
