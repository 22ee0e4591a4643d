/* The 9P server: fids, nodes and the way to each message's handler; see p9.h. */
#include "host/share/p9.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/ensure.h"
#include "host/share/p9_state.h"

#define MAX_MESSAGE (512 * KiB)
#define MIN_MESSAGE 4096
#define MAX_NODES   65536
#define RLERROR     7

/* -- Nodes --------------------------------------------------------------------------------- */

bool p9_is_name(const char *name)
{
    return *name && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/');
}

const char *p9_proc_path(const struct p9_node *node, char path[P9_PROC_PATH])
{
    snprintf(path, P9_PROC_PATH, "/proc/self/fd/%d", node->fd);
    return path;
}

static struct p9_node *node_get(struct p9_node *node)
{
    node->refs++;
    return node;
}

void p9_node_put(struct p9 *p9, struct p9_node *node)
{
    while (node && !--node->refs) {
        struct p9_node *parent = node->parent == node ? NULL : node->parent;
        close(node->fd);
        free(node);
        p9->n_nodes--;
        node = parent;
    }
}

static struct p9_node *node_new(struct p9 *p9, int fd, struct p9_node *parent)
{
    struct p9_node *node = calloc(1, sizeof(*node));
    ensure(node);
    *node = (struct p9_node){.fd = fd, .refs = 1};
    node->parent = parent ? node_get(parent) : node;
    p9->n_nodes++;
    return node;
}

int p9_node_walk(struct p9 *p9, struct p9_node *from, const char *name, struct p9_node **to)
{
    const struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_MAGICLINKS};
    if (!strcmp(name, ".") || !strcmp(name, "..")) {
        *to = node_get(name[1] ? from->parent : from);
        return 0;
    }
    if (!p9_is_name(name))
        return ENOENT;
    if (p9->n_nodes >= p9->max_nodes)
        return EMFILE;
    int fd = (int)syscall(SYS_openat2, from->fd, name, &how, sizeof(how));
    if (fd < 0)
        return errno;
    *to = node_new(p9, fd, from);
    return 0;
}

/* -- Fids ---------------------------------------------------------------------------------- */

static struct p9_fid **fid_slot(struct p9 *p9, u32 id)
{
    struct p9_fid **at = &p9->fids[id % P9_BUCKETS];
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

struct p9_fid *p9_fid_find(struct p9 *p9, u32 id)
{
    return *fid_slot(p9, id);
}

struct p9_fid *p9_fid_add(struct p9 *p9, u32 id, u32 uid, struct p9_node *node)
{
    struct p9_fid **slot = fid_slot(p9, id);
    if (*slot || id == P9_NO_ID) {
        p9_node_put(p9, node);
        return NULL;
    }
    struct p9_fid *fid = calloc(1, sizeof(*fid));
    ensure(fid);
    *fid = (struct p9_fid){.id = id, .uid = uid, .node = node, .fd = -1};
    *slot = fid;
    return fid;
}

void p9_fid_move(struct p9 *p9, struct p9_fid *fid, struct p9_node *node)
{
    p9_node_put(p9, fid->node);
    fid->node = node;
}

static void fid_drop(struct p9 *p9, struct p9_fid *fid)
{
    *fid_slot(p9, fid->id) = fid->next;
    if (fid->dir)
        closedir(fid->dir);
    else if (fid->fd >= 0)
        close(fid->fd);
    p9_node_put(p9, fid->node);
    free(fid);
}

static void drop_all(struct p9 *p9)
{
    for (unsigned i = 0; i < P9_BUCKETS; i++)
        while (p9->fids[i])
            fid_drop(p9, p9->fids[i]);
}

/* -- The session --------------------------------------------------------------------------- */

static int version(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    char name[32];
    u32 msize = (u32)p9_get(in, 4);
    p9_get_string(in, name, sizeof(name));
    if (in->bad || msize < MIN_MESSAGE)
        return EINVAL;
    drop_all(p9);
    p9->msize = msize < MAX_MESSAGE ? msize : MAX_MESSAGE;
    p9_put(out, 4, p9->msize);
    p9_put_string(out, strcmp(name, "9P2000.L") ? "unknown" : "9P2000.L");
    return 0;
}

static int attach(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    char name[P9_MAX_PATH];
    struct stat st;
    u32 id = (u32)p9_get(in, 4);
    p9_get(in, 4); /* no authentication */
    p9_get_string(in, name, sizeof(name));
    p9_get_string(in, name, sizeof(name));
    u32 uid = (u32)p9_get(in, 4);
    if (in->bad)
        return EINVAL;
    int error = p9_stat(p9, p9->root, &st);
    if (error)
        return error;
    if (!p9_fid_add(p9, id, uid, node_get(p9->root)))
        return EINVAL;
    p9_put_qid(out, &st);
    return 0;
}

/* What is asked for is done before the next message is read: there is nothing to cancel. */
static int flush(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    return 0;
}

static int clunk(struct p9 *p9, struct p9_in *in, struct p9_out *out)
{
    struct p9_fid *fid = p9_fid_find(p9, (u32)p9_get(in, 4));
    if (in->bad || !fid)
        return EBADF;
    fid_drop(p9, fid);
    return 0;
}

/* -- Messages ------------------------------------------------------------------------------ */

static const struct {
    p9_handler *handle;
    bool changes; /* refused where the share is read-only */
} handlers[256] = {
    [8] = {p9_statfs, false},   [12] = {p9_lopen, false},  [14] = {p9_lcreate, true},
    [16] = {p9_symlink, true},  [18] = {p9_mknod, true},   [22] = {p9_readlink, false},
    [24] = {p9_getattr, false}, [26] = {p9_setattr, true}, [40] = {p9_readdir, false},
    [50] = {p9_fsync, false},   [52] = {p9_lock, false},   [54] = {p9_getlock, false},
    [70] = {p9_link, true},     [72] = {p9_mkdir, true},   [74] = {p9_renameat, true},
    [76] = {p9_unlinkat, true}, [100] = {version, false},  [104] = {attach, false},
    [108] = {flush, false},     [110] = {p9_walk, false},  [116] = {p9_read, false},
    [118] = {p9_write, true},   [120] = {clunk, false},
};

static int handle(struct p9 *p9, u8 type, struct p9_in *in, struct p9_out *out)
{
    if (!handlers[type].handle)
        return EOPNOTSUPP;
    if (handlers[type].changes && p9->config.read_only)
        return EROFS;
    int error = handlers[type].handle(p9, in, out);
    return !error && out->full ? EMSGSIZE : error;
}

u32 p9_serve(struct p9 *p9, const u8 *message, u32 len, u8 *answer, u32 size)
{
    struct p9_in in = {.at = message, .end = message + len};
    u32 claimed = (u32)p9_get(&in, 4);
    u8 type = (u8)p9_get(&in, 1);
    u16 tag = (u16)p9_get(&in, 2);
    if (size < P9_HEADER + 4)
        return 0;
    if (size > p9->msize)
        size = p9->msize;
    struct p9_out out = {answer + P9_HEADER, answer + P9_HEADER, answer + size, false};
    int error = in.bad || claimed != len ? EINVAL : handle(p9, type, &in, &out);
    if (error) {
        out.at = out.start;
        out.full = false;
        p9_put(&out, 4, (u32)error);
    }
    u32 answered = (u32)(out.at - answer);
    struct p9_out header = {answer, answer, answer + P9_HEADER, false};
    p9_put(&header, 4, answered);
    p9_put(&header, 1, error ? RLERROR : type + 1u);
    p9_put(&header, 2, tag);
    return answered;
}

/* -- Life ---------------------------------------------------------------------------------- */

/* The guest's open and remembered files are descriptors of ours. */
static unsigned raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 256;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur / 4 < MAX_NODES ? (unsigned)limit.rlim_cur / 4 : MAX_NODES;
}

struct p9 *p9_create(const struct p9_config *config, struct error *err)
{
    int fd = open(config->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || faccessat(fd, ".", R_OK | X_OK, AT_EACCESS)) {
        error_errno(err, "-virtfs: cannot open the directory '%.300s'", config->path);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct p9 *p9 = calloc(1, sizeof(*p9));
    ensure(p9);
    p9->config = *config;
    p9->config.path = NULL;
    p9->msize = MAX_MESSAGE;
    p9->max_nodes = raise_limit();
    p9->root = node_new(p9, fd, NULL);
    return p9;
}

void p9_destroy(struct p9 *p9)
{
    drop_all(p9);
    p9_node_put(p9, p9->root);
    free(p9);
}
