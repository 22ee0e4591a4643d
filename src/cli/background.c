/* Going on in the background, see background.h. */
#include "cli/background.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/verbs.h"

/* The parent's part: ends as the child says. */
static _Noreturn void wait_until_ready(int fd, pid_t child)
{
    char byte;
    int status = 0;
    if (read(fd, &byte, 1) == 1)
        _exit(EXIT_OK);
    waitpid(child, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_HOST);
}

int background_start(struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        error_errno(err, "-daemonize: cannot make a pipe");
        return -1;
    }
    pid_t child = fork();
    if (child < 0) {
        error_errno(err, "-daemonize: cannot fork");
        return -1;
    }
    if (child) {
        close(ends[1]);
        wait_until_ready(ends[0], child);
    }
    close(ends[0]);
    setsid();
    return ends[1];
}

void background_ready(int fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int standard = 0; null >= 0 && standard < 3; standard++)
        dup2(null, standard);
    if (null > 2)
        close(null);
    /* Whether somebody still waits for it does not matter. */
    if (write(fd, "!", 1) < 0)
        perror("doppel");
    close(fd);
}

bool background_write_pid(const char *path, struct error *err)
{
    FILE *file = fopen(path, "we");
    if (!file || fprintf(file, "%ld\n", (long)getpid()) < 0 || fclose(file))
        return error_errno(err, "-pidfile: cannot write '%s'", path);
    return true;
}
