/* The host's random numbers, see entropy.h. */
#include "host/entropy.h"

#include <errno.h>
#include <sys/random.h>

#include "base/ensure.h"

static void fill(void *opaque, void *buf, size_t len)
{
    while (len) {
        ssize_t got = getrandom(buf, len, 0);
        ensure(got >= 0 || errno == EINTR);
        if (got < 0)
            continue;
        buf = (u8 *)buf + got;
        len -= (size_t)got;
    }
}

struct entropy host_entropy(void)
{
    return (struct entropy){.fill = fill};
}
