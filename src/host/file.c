/* Whole files, see file.h. */
#include "host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A kernel or RAM disk beyond this cannot be loaded below 4 GiB anyway. */
#define FILE_MAX (4 * GiB)

bool file_open(struct file *file, const char *option, const char *path, struct error *err)
{
    struct stat stat;
    /* A pipe without a writer is refused below, not waited for. */
    *file = (struct file){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
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

static bool fill(const struct file *file, u8 *data, u64 size, struct error *err)
{
    for (u64 done = 0; done < size;) {
        ssize_t got = pread(file->fd, data + done, size - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, "cannot read '%s'", file->path);
        if (!got)
            break; /* it became shorter meanwhile: zeros follow */
        done += (u64)got;
    }
    return true;
}

bool file_read(const struct file *file, u8 **data, u64 *size, struct error *err)
{
    struct stat stat;
    *data = NULL;
    *size = 0;
    if (fstat(file->fd, &stat))
        return error_errno(err, "cannot read '%s'", file->path);
    if (!stat.st_size)
        return true;
    u64 expected = (u64)stat.st_size < FILE_MAX ? (u64)stat.st_size : FILE_MAX;
    void *pages = mmap(NULL, expected, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return error_errno(err, "no memory for '%s'", file->path);
    if (!fill(file, pages, expected, err)) {
        munmap(pages, expected);
        return false;
    }
    *data = pages;
    *size = expected;
    return true;
}

void file_release(const u8 *data, u64 size)
{
    if (size)
        munmap((void *)data, size);
}
