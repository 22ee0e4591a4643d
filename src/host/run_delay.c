/* How long threads waited for a processor, see run_delay.h. */
#include "host/run_delay.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int run_delay_open(pid_t tid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", (int)tid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* "ran waited slices", in ns */
u64 run_delay_read(int fd)
{
    char text[80];
    ssize_t len = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
    if (len <= 0)
        return 0;
    text[len] = 0;
    char *end;
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}
