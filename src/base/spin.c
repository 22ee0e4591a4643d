/* Looking before sleeping, see spin.h. */
#include "base/spin.h"

#include <sched.h>

#include "base/monotonic.h"

#define SHORTEST_NS 10000u
#define LONGEST_NS  100000u

void spin_init(struct spin *spin)
{
    cpu_set_t set;
    *spin = (struct spin){0};
    spin->lone = !sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) == 1;
}

bool spin_look(struct spin *spin, bool (*seen)(const void *opaque), const void *opaque)
{
    u64 now = spin->began = monotonic_ns();
    u64 end = now + spin->ns;
    bool found = seen(opaque);
    while (!found && now < end) {
        for (unsigned i = 0; i < 8; i++)
            __builtin_ia32_pause();
        found = seen(opaque);
        now = monotonic_ns();
    }
    if (now > end + LONGEST_NS)
        spin->ns = 0;
    return found;
}

void spin_slept(struct spin *spin)
{
    if (spin->lone || monotonic_ns() - spin->began > LONGEST_NS)
        spin->ns = 0;
    else if (spin->ns < SHORTEST_NS)
        spin->ns = SHORTEST_NS;
    else
        spin->ns = 2 * spin->ns < LONGEST_NS ? 2 * spin->ns : LONGEST_NS;
}
