/* 9P: walking, making, renaming and removing names in directories. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host/share/p9_state.h"

#define MAX_WALK 16

/* -- Walking ------------------------------------------------------------------------------- */

/* As many steps as there are; returns how many went well, and the last node in *at. */
static unsigned walk_names(struct p9 *p9, struct p9_in *in, unsigned n, struct p9_node **at,
                           struct p9_out *qids, int *error)
{
    char name[P9_MAX_NAME];
    struct stat st;
    for (unsigned i = 0; i < n; i++) {
        struct p9_node *next;
        p9_get_string(in, name, sizeof(name));
        *error = in->bad ? ENAMETOOLONG : p9_node_walk(p9, *at, name, &next);
        if (*error)
            return i;
        p9_node_put(p9, *at);
        *at = next;
        *error = p9_stat(p9, next, &st);
        if (*error)
            return i;
        p9_put_qid(qids, &st);
    }
    return n;
}

int p9_walk(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    u32 id = (u32)p9_get(in, 4);
    unsigned n = (unsigned)p9_get(in, 2);
    int error = 0;
    if (in->bad || !fid || fid->fd >= 0)
        return EBADF;
    if (n > MAX_WALK || (id != fid->id && p9_fid_find(p9, id)))
        return EINVAL;
    u8 *count = out->at;
    struct p9_node *at = fid->node;
    at->refs++;
    p9_put(out, 2, 0);
    unsigned done = walk_names(p9, in, n, &at, out, &error);
    if (done < n || (id != fid->id && id == P9_NO_ID)) {
        p9_node_put(p9, at);
        if (!done)
            return error ? error : EINVAL;
    } else if (id == fid->id) {
        p9_fid_move(p9, fid, at);
    } else {
        p9_fid_add(p9, id, fid->uid, at);
    }
    if (!out->full)
        memcpy(count, &(u16){(u16)done}, sizeof(u16));
    return 0;
}

/* -- Making -------------------------------------------------------------------------------- */

/* What the messages that make something have in common. */
struct making {
    struct p9_fid *parent;
    char name[P9_MAX_NAME];
    u32 mode, gid; /* the mode with the kind of file */
    u64 rdev;
};

static int check_making(const struct making *m, const struct p9_in *in)
{
    if (in->bad || !m->parent)
        return EBADF;
    return p9_is_name(m->name) ? 0 : EINVAL;
}

/* The new file's attributes and qid; *node (may be NULL) gets a reference. */
static int finish_making(struct p9 *p9, const struct making *m, struct p9_out *out,
                         struct p9_node **node)
{
    struct p9_node *made;
    struct stat st;
    int error = p9_node_walk(p9, m->parent->node, m->name, &made);
    if (error)
        return error;
    error = p9_made(p9, made, m->mode, m->parent->uid, m->gid, m->rdev);
    if (!error)
        error = p9_stat(p9, made, &st);
    if (!error)
        p9_put_qid(out, &st);
    if (!error && node)
        *node = made;
    else
        p9_node_put(p9, made);
    return error;
}

/* A regular file that was not there; its descriptor, or -1. */
static int make_file(const struct p9 *p9, const struct making *m, u32 flags)
{
    const struct open_how how = {.flags = (flags & (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC)) |
                                          O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                 .mode = p9_host_mode(p9, m->mode),
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, m->parent->node->fd, m->name, &how, sizeof(how));
}

int p9_lcreate(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct making m = {.parent = p9_fid_find(p9, (u32)p9_get(in, 4))};
    struct p9_node *node;
    p9_get_string(in, m.name, sizeof(m.name));
    u32 flags = (u32)p9_get(in, 4);
    m.mode = S_IFREG | ((u32)p9_get(in, 4) & 07777);
    m.gid = (u32)p9_get(in, 4);
    int error = check_making(&m, in);
    if (error || m.parent->fd >= 0)
        return error ? error : EBADF;
    int fd = make_file(p9, &m, flags);
    if (fd < 0)
        return errno;
    error = finish_making(p9, &m, out, &node);
    if (error) {
        close(fd);
        return error;
    }
    /* The directory's fid becomes the file's. */
    p9_fid_move(p9, m.parent, node);
    m.parent->fd = fd;
    p9_put(out, 4, 0);
    return 0;
}

int p9_mkdir(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct making m = {.parent = p9_fid_find(p9, (u32)p9_get(in, 4))};
    p9_get_string(in, m.name, sizeof(m.name));
    m.mode = S_IFDIR | ((u32)p9_get(in, 4) & 07777);
    m.gid = (u32)p9_get(in, 4);
    int error = check_making(&m, in);
    if (error)
        return error;
    if (mkdirat(m.parent->node->fd, m.name, p9_host_mode(p9, m.mode)))
        return errno;
    return finish_making(p9, &m, out, NULL);
}

/* Mapped: a file that holds where the link points to. */
static int make_mapped_link(const struct p9 *p9, const struct making *m, const char *target)
{
    int fd = make_file(p9, m, O_WRONLY);
    if (fd < 0)
        return errno;
    ssize_t len = (ssize_t)strlen(target);
    int error = write(fd, target, (size_t)len) == len ? 0 : EIO;
    close(fd);
    return error;
}

int p9_symlink(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct making m = {.parent = p9_fid_find(p9, (u32)p9_get(in, 4)), .mode = S_IFLNK | 0777};
    char target[P9_MAX_PATH];
    p9_get_string(in, m.name, sizeof(m.name));
    p9_get_string(in, target, sizeof(target));
    m.gid = (u32)p9_get(in, 4);
    int error = check_making(&m, in);
    if (error)
        return error;
    if (p9->config.security == P9_MAPPED)
        error = make_mapped_link(p9, &m, target);
    else if (symlinkat(target, m.parent->node->fd, m.name))
        error = errno;
    return error ? error : finish_making(p9, &m, out, NULL);
}

int p9_mknod(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct making m = {.parent = p9_fid_find(p9, (u32)p9_get(in, 4))};
    p9_get_string(in, m.name, sizeof(m.name));
    m.mode = (u32)p9_get(in, 4);
    u32 major = (u32)p9_get(in, 4), minor = (u32)p9_get(in, 4);
    m.gid = (u32)p9_get(in, 4);
    m.rdev = makedev(major, minor);
    int error = check_making(&m, in);
    if (error)
        return error;
    bool device = S_ISCHR(m.mode) || S_ISBLK(m.mode);
    bool other = S_ISFIFO(m.mode) || S_ISSOCK(m.mode) || S_ISREG(m.mode);
    if (!device && !other)
        return EINVAL;
    if (p9->config.security == P9_MAPPED) {
        int fd = make_file(p9, &m, O_WRONLY);
        if (fd < 0)
            return errno;
        close(fd);
    } else if (device) {
        return EPERM; /* it would be the host's device */
    } else if (mknodat(m.parent->node->fd, m.name, (m.mode & S_IFMT) | (m.mode & 0777), 0)) {
        return errno;
    }
    return finish_making(p9, &m, out, NULL);
}

int p9_link(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct making m = {.parent = p9_fid_find(p9, (u32)p9_get(in, 4))};
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    char path[P9_PROC_PATH];
    p9_get_string(in, m.name, sizeof(m.name));
    int error = check_making(&m, in);
    if (error || !fid)
        return error ? error : EBADF;
    return linkat(AT_FDCWD, p9_proc_path(fid->node, path), m.parent->node->fd, m.name,
                  AT_SYMLINK_FOLLOW)
               ? errno
               : 0;
}

/* -- Moving and removing ------------------------------------------------------------------- */

int p9_renameat(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    char from[P9_MAX_NAME], to[P9_MAX_NAME];
    struct p9_fid *source = p9_fid_find(p9, (u32)p9_get(in, 4));
    p9_get_string(in, from, sizeof(from));
    struct p9_fid *target = p9_fid_find(p9, (u32)p9_get(in, 4));
    p9_get_string(in, to, sizeof(to));
    if (in->bad || !source || !target)
        return EBADF;
    if (!p9_is_name(from) || !p9_is_name(to))
        return EINVAL;
    return renameat(source->node->fd, from, target->node->fd, to) ? errno : 0;
}

int p9_unlinkat(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    char name[P9_MAX_NAME];
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    p9_get_string(in, name, sizeof(name));
    u32 flags = (u32)p9_get(in, 4);
    if (in->bad || !fid)
        return EBADF;
    if (!p9_is_name(name))
        return EINVAL;
    return unlinkat(fid->node->fd, name, (int)(flags & AT_REMOVEDIR)) ? errno : 0;
}
