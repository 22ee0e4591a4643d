/* 9P: attributes of files, as they are on the host or as extended attributes map them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/time.h"
#include "host/share/p9_state.h"

/* Tgetattr's and Tsetattr's bits. */
#define GETATTR_BASIC     0x7ffull
#define SETATTR_MODE      0x1u
#define SETATTR_UID       0x2u
#define SETATTR_GID       0x4u
#define SETATTR_SIZE      0x8u
#define SETATTR_ATIME     0x10u
#define SETATTR_MTIME     0x20u
#define SETATTR_ATIME_SET 0x80u
#define SETATTR_MTIME_SET 0x100u

#define QID_DIRECTORY 0x80
#define QID_SYMLINK   0x02

/* -- Mapped attributes --------------------------------------------------------------------- */

static bool load_mapped(const char *path, const char *name, void *value, size_t size)
{
    return getxattr(path, name, value, size) == (ssize_t)size;
}

static int store_mapped(const struct p9_node *node, const char *name, u64 value, size_t size)
{
    char path[P9_PROC_PATH];
    return setxattr(p9_proc_path(node, path), name, &value, size, 0) ? errno : 0;
}

int p9_stat(const struct p9 *p9, const struct p9_node *node, struct stat *st)
{
    char path[P9_PROC_PATH];
    u32 value;
    u64 rdev;
    if (fstatat(node->fd, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        return errno;
    if (p9->config.security != P9_MAPPED || S_ISLNK(st->st_mode))
        return 0;
    p9_proc_path(node, path);
    if (load_mapped(path, "user.virtfs.uid", &value, sizeof(value)))
        st->st_uid = value;
    if (load_mapped(path, "user.virtfs.gid", &value, sizeof(value)))
        st->st_gid = value;
    if (load_mapped(path, "user.virtfs.mode", &value, sizeof(value)))
        st->st_mode = value;
    if (load_mapped(path, "user.virtfs.rdev", &rdev, sizeof(rdev)))
        st->st_rdev = rdev;
    return 0;
}

u32 p9_host_mode(const struct p9 *p9, u32 mode)
{
    if (p9->config.security == P9_MAPPED)
        return S_ISDIR(mode) ? 0700 : 0600;
    /* A guest does not make programs of the host that run as their owner. */
    return mode & (S_ISDIR(mode) ? 01777 : 0777);
}

int p9_made(const struct p9 *p9, const struct p9_node *node, u32 mode, u32 uid, u32 gid,
            u64 rdev)
{
    if (p9->config.security != P9_MAPPED) {
        char path[P9_PROC_PATH];
        /* As far as this process may; without privileges all files are its own. */
        int owned = fchownat(node->fd, "", uid == P9_NO_ID ? (uid_t)-1 : uid, gid,
                             AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
        (void)owned;
        /* The guest's umask has been at work; ours is not asked. */
        if (!S_ISLNK(mode) && chmod(p9_proc_path(node, path), p9_host_mode(p9, mode)))
            return errno;
        return 0;
    }
    int error = store_mapped(node, "user.virtfs.mode", mode, sizeof(u32));
    if (!error && uid != P9_NO_ID)
        error = store_mapped(node, "user.virtfs.uid", uid, sizeof(u32));
    if (!error)
        error = store_mapped(node, "user.virtfs.gid", gid, sizeof(u32));
    if (!error && rdev)
        error = store_mapped(node, "user.virtfs.rdev", rdev, sizeof(u64));
    return error;
}

/* -- Looking ------------------------------------------------------------------------------- */

void p9_put_qid(struct p9_out *out, const struct stat *st)
{
    u64 version = (u64)st->st_mtim.tv_sec ^ (u64)st->st_mtim.tv_nsec << 8 ^ (u64)st->st_size;
    p9_put(out, 1,
           S_ISDIR(st->st_mode)   ? QID_DIRECTORY
           : S_ISLNK(st->st_mode) ? QID_SYMLINK
                                  : 0);
    p9_put(out, 4, (u32)version);
    p9_put(out, 8, st->st_ino ^ (u64)st->st_dev << 48);
}

static void put_time(struct p9_out *out, const struct timespec *time)
{
    p9_put(out, 8, (u64)time->tv_sec);
    p9_put(out, 8, (u64)time->tv_nsec);
}

int p9_getattr(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    const struct timespec none = {0};
    struct stat st;
    if (in->bad || !fid)
        return EBADF;
    int error = p9_stat(p9, fid->node, &st);
    if (error)
        return error;
    p9_put(out, 8, GETATTR_BASIC);
    p9_put_qid(out, &st);
    p9_put(out, 4, st.st_mode);
    p9_put(out, 4, st.st_uid);
    p9_put(out, 4, st.st_gid);
    p9_put(out, 8, st.st_nlink);
    p9_put(out, 8, st.st_rdev);
    p9_put(out, 8, (u64)st.st_size);
    p9_put(out, 8, (u64)st.st_blksize);
    p9_put(out, 8, (u64)st.st_blocks);
    put_time(out, &st.st_atim);
    put_time(out, &st.st_mtim);
    put_time(out, &st.st_ctim);
    put_time(out, &none);
    p9_put(out, 8, 0); /* generation and data version are not among the basic ones */
    p9_put(out, 8, 0);
    return 0;
}

int p9_statfs(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    struct statfs fs;
    u64 id;
    if (in->bad || !fid)
        return EBADF;
    if (fstatfs(fid->node->fd, &fs))
        return errno;
    memcpy(&id, &fs.f_fsid, sizeof(id));
    p9_put(out, 4, (u32)fs.f_type);
    p9_put(out, 4, (u32)fs.f_bsize);
    p9_put(out, 8, fs.f_blocks);
    p9_put(out, 8, fs.f_bfree);
    p9_put(out, 8, fs.f_bavail);
    p9_put(out, 8, fs.f_files);
    p9_put(out, 8, fs.f_ffree);
    p9_put(out, 8, id);
    p9_put(out, 4, (u32)fs.f_namelen);
    return 0;
}

/* A mapped link is a file that holds where it points to. */
static ssize_t read_mapped_link(const struct p9_node *node, char *target, size_t size)
{
    char path[P9_PROC_PATH];
    int fd = open(p9_proc_path(node, path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    ssize_t len = pread(fd, target, size, 0);
    close(fd);
    return len;
}

int p9_readlink(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    char target[P9_MAX_PATH];
    struct stat st, host;
    if (in->bad || !fid)
        return EBADF;
    int error = p9_stat(p9, fid->node, &st);
    if (error)
        return error;
    if (!S_ISLNK(st.st_mode) || fstatat(fid->node->fd, "", &host, AT_EMPTY_PATH))
        return EINVAL;
    ssize_t len = S_ISREG(host.st_mode)
                      ? read_mapped_link(fid->node, target, sizeof(target) - 1)
                      : readlinkat(fid->node->fd, "", target, sizeof(target) - 1);
    if (len < 0)
        return errno;
    target[len] = 0;
    p9_put_string(out, target);
    return 0;
}

/* -- Changing ------------------------------------------------------------------------------ */

static int set_mode(const struct p9 *p9, const struct p9_node *node, const struct stat *st,
                    u32 mode)
{
    char path[P9_PROC_PATH];
    mode = (st->st_mode & S_IFMT) | (mode & 07777);
    if (p9->config.security == P9_MAPPED)
        return store_mapped(node, "user.virtfs.mode", mode, sizeof(u32));
    if (S_ISLNK(mode))
        return EOPNOTSUPP;
    return chmod(p9_proc_path(node, path), p9_host_mode(p9, mode)) ? errno : 0;
}

static int set_owner(const struct p9 *p9, const struct p9_node *node, u32 uid, u32 gid)
{
    int error = 0;
    if (p9->config.security == P9_MAPPED) {
        if (uid != P9_NO_ID)
            error = store_mapped(node, "user.virtfs.uid", uid, sizeof(u32));
        if (!error && gid != P9_NO_ID)
            error = store_mapped(node, "user.virtfs.gid", gid, sizeof(u32));
        return error;
    }
    return fchownat(node->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ? errno : 0;
}

static struct timespec time_for(u32 valid, u32 change, u32 set, u64 sec, u64 nsec)
{
    if (!(valid & change))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (!(valid & set))
        return (struct timespec){.tv_nsec = UTIME_NOW};
    return (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = (long)(nsec % NS_PER_S)};
}

int p9_setattr(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    char path[P9_PROC_PATH];
    struct stat st;
    u32 valid = (u32)p9_get(in, 4), mode = (u32)p9_get(in, 4);
    u32 uid = (u32)p9_get(in, 4), gid = (u32)p9_get(in, 4);
    u64 size = p9_get(in, 8), times[4];
    for (unsigned i = 0; i < 4; i++)
        times[i] = p9_get(in, 8);
    if (in->bad || !fid)
        return EBADF;
    int error = p9_stat(p9, fid->node, &st);
    p9_proc_path(fid->node, path);
    if (!error && valid & SETATTR_MODE)
        error = set_mode(p9, fid->node, &st, mode);
    if (!error && valid & (SETATTR_UID | SETATTR_GID))
        error = set_owner(p9, fid->node, valid & SETATTR_UID ? uid : P9_NO_ID,
                          valid & SETATTR_GID ? gid : P9_NO_ID);
    if (!error && valid & SETATTR_SIZE)
        error = !S_ISREG(st.st_mode) ? EINVAL : truncate(path, (off_t)size) ? errno : 0;
    if (!error && valid & (SETATTR_ATIME | SETATTR_MTIME) && !S_ISLNK(st.st_mode)) {
        const struct timespec both[2] = {
            time_for(valid, SETATTR_ATIME, SETATTR_ATIME_SET, times[0], times[1]),
            time_for(valid, SETATTR_MTIME, SETATTR_MTIME_SET, times[2], times[3])};
        error = utimensat(AT_FDCWD, path, both, 0) ? errno : 0;
    }
    return error;
}
