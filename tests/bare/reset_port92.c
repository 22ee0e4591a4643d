/* PS/2 system control port A: a rise of bit 0 resets. */
#include "lib/ends.h"

void test(void);

void test(void)
{
    u8 value = inb(0x92);

    check_equal("A20 is on", value & 2, 2);
    outb(0x92, value & ~1);
    ends("port 92");
    outb(0x92, (value & ~1) | 1);
    ends_not();
}
