/* Files that a machine is started from: opened once, read whole when they are needed. */
#pragma once

#include "base/error.h"
#include "base/types.h"

struct file {
    const char *path; /* the caller's */
    int fd;           /* -1: closed */
};

/* Opens a regular file for reading; `option` is named in the message. */
bool file_open(struct file *file, const char *option, const char *path, struct error *err);
void file_close(struct file *file);

/* The file's contents as they are now, until file_release: in pages of their own, which go back
 * to the host, where a heap would keep a kernel's megabytes. */
bool file_read(const struct file *file, u8 **data, u64 *size, struct error *err);
void file_release(const u8 *data, u64 size);
