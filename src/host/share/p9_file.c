/* 9P: opening files, and what is in them. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "host/share/p9_state.h"

/* Of Tlopen's flags, which are Linux's, those that mean something here. */
#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC)

#define LOCK_GRANTED 0
#define UNLOCKED     2

static struct p9_fid *opened(struct p9 *p9, struct p9_in *in)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    return fid && fid->fd >= 0 ? fid : NULL;
}

int p9_lopen(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    u32 flags = (u32)p9_get(in, 4);
    char path[P9_PROC_PATH];
    struct stat st;
    if (in->bad || !fid || fid->fd >= 0)
        return EBADF;
    int error = p9_stat(p9, fid->node, &st);
    if (error)
        return error;
    /* Devices, pipes and links are the guest's own affair. */
    bool directory = S_ISDIR(st.st_mode);
    if (!directory && !S_ISREG(st.st_mode))
        return ELOOP;
    bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
    if (writes && (p9->config.read_only || directory))
        return directory ? EISDIR : EROFS;
    int fd = open(p9_proc_path(fid->node, path), (int)(flags & OPEN_FLAGS) |
                                                     (directory ? O_DIRECTORY : 0) | O_CLOEXEC |
                                                     O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno;
    fid->dir = directory ? fdopendir(fd) : NULL;
    if (directory && !fid->dir) {
        close(fd);
        return ENOMEM;
    }
    fid->fd = fd;
    p9_put_qid(out, &st);
    p9_put(out, 4, 0); /* no preferred size */
    return 0;
}

int p9_read(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = opened(p9, in);
    u64 offset = p9_get(in, 8);
    size_t count = p9_get(in, 4);
    if (in->bad || !fid || fid->dir)
        return EBADF;
    if (p9_room(out) < 4)
        return EMSGSIZE;
    if (count > p9_room(out) - 4)
        count = p9_room(out) - 4;
    ssize_t got = pread(fid->fd, out->at + 4, count, (off_t)offset);
    if (got < 0)
        return errno;
    p9_put(out, 4, (u64)got);
    out->at += got;
    return 0;
}

int p9_write(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = opened(p9, in);
    u64 offset = p9_get(in, 8);
    size_t count = p9_get(in, 4);
    if (in->bad || !fid || fid->dir)
        return EBADF;
    if (count > (size_t)(in->end - in->at))
        return EINVAL;
    ssize_t put = pwrite(fid->fd, in->at, count, (off_t)offset);
    if (put < 0)
        return errno;
    p9_put(out, 4, (u64)put);
    return 0;
}

int p9_fsync(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = opened(p9, in);
    if (in->bad || !fid)
        return EBADF;
    return fsync(fid->fd) ? errno : 0;
}

/* One directory entry; false: it did not fit. */
static bool put_entry(const struct p9 *p9, struct p9_out *out, const struct dirent *entry)
{
    struct p9_out before = *out;
    struct stat st = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
    p9_put_qid(out, &st);
    p9_put(out, 8, (u64)entry->d_off);
    /* What is mapped to another kind is a regular file here: the guest has to look. */
    bool mapped = p9->config.security == P9_MAPPED && entry->d_type == DT_REG;
    p9_put(out, 1, mapped ? DT_UNKNOWN : entry->d_type);
    p9_put_string(out, entry->d_name);
    if (!out->full)
        return true;
    *out = before;
    return false;
}

int p9_readdir(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = opened(p9, in);
    u64 offset = p9_get(in, 8);
    size_t count = p9_get(in, 4);
    if (in->bad || !fid || !fid->dir)
        return EBADF;
    if (p9_room(out) < 4)
        return EMSGSIZE;
    if (count > p9_room(out) - 4)
        count = p9_room(out) - 4;
    u8 *data = out->at + 4;
    struct p9_out entries = {data, data, data + count, false};
    const struct dirent *entry;
    if (offset)
        seekdir(fid->dir, (long)offset);
    else
        rewinddir(fid->dir);
    while ((entry = readdir(fid->dir)))
        if (!put_entry(p9, &entries, entry))
            break;
    if (entry && entries.at == data)
        return EINVAL; /* there is more, and no room for one */
    p9_put(out, 4, (u64)(entries.at - data));
    out->at = entries.at;
    return 0;
}

/* The guest is the only one who locks, and sees to its own processes by itself. */
int p9_lock(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    if (!opened(p9, in))
        return EBADF;
    p9_put(out, 1, LOCK_GRANTED);
    return 0;
}

int p9_getlock(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    char client[P9_MAX_NAME];
    struct p9_fid *fid = opened(p9, in);
    p9_get(in, 1);
    u64 start = p9_get(in, 8), length = p9_get(in, 8), process = p9_get(in, 4);
    p9_get_string(in, client, sizeof(client));
    if (in->bad || !fid)
        return EBADF;
    p9_put(out, 1, UNLOCKED);
    p9_put(out, 8, start);
    p9_put(out, 8, length);
    p9_put(out, 4, process);
    p9_put_string(out, client);
    return 0;
}
