/* The inside of the 9P server, for the files of host/share/. */
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include "host/share/p9.h"
#include "host/share/p9_message.h"

#define P9_HEADER   7 /* size[4] type[1] tag[2] */
#define P9_MAX_NAME 256
#define P9_MAX_PATH 4096
#define P9_BUCKETS  1024
#define P9_NO_ID    0xffffffffu

/* A file that fids are at. */
struct p9_node {
    int fd;                 /* O_PATH */
    struct p9_node *parent; /* how it was reached; the root's is itself, uncounted */
    unsigned refs;
};

struct p9_fid {
    u32 id;
    u32 uid; /* of who attached */
    struct p9_node *node;
    int fd;   /* opened, or -1 */
    DIR *dir; /* opened as a directory, or NULL; owns fd then */
    struct p9_fid *next;
};

struct p9 {
    struct p9_config config;
    struct p9_node *root;
    u32 msize;
    unsigned n_nodes, max_nodes;
    struct p9_fid *fids[P9_BUCKETS];
};

/* A message's handler: 0, or an errno value that becomes the answer. */
typedef int p9_handler(struct p9 *p9, struct p9_in *in, struct p9_out *out);

/* -- p9.c: fids and nodes ------------------------------------------------------------------ */
struct p9_fid *p9_fid_find(struct p9 *p9, u32 id);
/* NULL: the id is in use. Takes a reference of the node over, also then. */
struct p9_fid *p9_fid_add(struct p9 *p9, u32 id, u32 uid, struct p9_node *node);
/* Gives the fid another node; takes the reference over. */
void p9_fid_move(struct p9 *p9, struct p9_fid *fid, struct p9_node *node);

/* The file `name` in a directory; 0 and a new reference, or an errno value. */
int p9_node_walk(struct p9 *p9, struct p9_node *from, const char *name, struct p9_node **to);
void p9_node_put(struct p9 *p9, struct p9_node *node);

/* A name that may be made or removed in a directory. */
bool p9_is_name(const char *name);
/* "/proc/self/fd/N" of the node: what calls without an AT_EMPTY_PATH take. */
#define P9_PROC_PATH 32
const char *p9_proc_path(const struct p9_node *node, char path[P9_PROC_PATH]);

/* -- p9_attr.c: attributes, mapped or not -------------------------------------------------- */
int p9_stat(const struct p9 *p9, const struct p9_node *node, struct stat *st);
void p9_put_qid(struct p9_out *out, const struct stat *st);
/* A file was just made: its mode with its kind, owner and device number. */
int p9_made(const struct p9 *p9, const struct p9_node *node, u32 mode, u32 uid, u32 gid,
            u64 rdev);
/* The mode that a file is made with on the host. */
u32 p9_host_mode(const struct p9 *p9, u32 mode);
p9_handler p9_getattr, p9_setattr, p9_statfs, p9_readlink;

/* -- p9_file.c: contents, p9_name.c: directories ------------------------------------------- */
p9_handler p9_lopen, p9_read, p9_write, p9_fsync, p9_readdir, p9_lock, p9_getlock;
p9_handler p9_walk, p9_lcreate, p9_mkdir, p9_symlink, p9_mknod, p9_link, p9_renameat,
    p9_unlinkat;
