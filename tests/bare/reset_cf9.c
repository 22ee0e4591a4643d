/* Reset control register: a rise of bit 2 resets. */
#include "lib/ends.h"

void test(void);

void test(void)
{
    outb(0xcf9, 0x02);
    check_equal("the kind of reset reads back", inb(0xcf9) & 0x06, 0x02);
    ends("port cf9");
    outb(0xcf9, 0x06);
    ends_not();
}
