/* For kernels that end the machine themselves: the runner looks for the line. */
#pragma once
#include "check.h"
#include "pit.h"

/* Says that the machine is about to end. */
static inline void ends(const char *how)
{
    print("ENDS by %s\n", how);
}

/* Called where the machine should not have come. */
static inline void ends_not(void)
{
    pit_wait_us(500000);
    check("the machine ended", false);
    check_done();
}
