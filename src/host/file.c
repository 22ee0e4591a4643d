/* Whole files, see file.h. */
#include "host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A kernel or RAM disk beyond this cannot be loaded below 4 GiB anyway. */
#define FILE_MAX (4 * GiB)

bool file_open(struct file *file, const char *option, const char *path, struct error *err)
{
    struct stat stat;
    *file = (struct file){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (file->fd < 0)
        return error_errno(err, "%s: cannot open '%s'", option, path);
    if (fstat(file->fd, &stat) || !S_ISREG(stat.st_mode) || (u64)stat.st_size > FILE_MAX) {
        file_close(file);
        return error_set(err, "%s: '%s' is not a regular file of at most 4 GiB", option, path);
    }
    return true;
}

void file_close(struct file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

bool file_read(const struct file *file, u8 **data, u64 *size, struct error *err)
{
    struct stat stat;
    *data = NULL;
    *size = 0;
    if (fstat(file->fd, &stat))
        return error_errno(err, "cannot read '%s'", file->path);
    u64 expected = (u64)stat.st_size < FILE_MAX ? (u64)stat.st_size : FILE_MAX;
    *data = malloc(expected ? expected : 1);
    if (!*data)
        return error_set(err, "out of memory for '%s'", file->path);
    while (*size < expected) {
        ssize_t got = pread(file->fd, *data + *size, expected - *size, (off_t)*size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error_format_errno(err, "cannot read '%s'", file->path);
            free(*data);
            *data = NULL;
            return false;
        }
        if (!got)
            break; /* it became shorter meanwhile */
        *size += (u64)got;
    }
    return true;
}
