/*
 * A server of 9P2000.L (the Linux kernel's Documentation/filesystems/9p.rst, and the protocol's
 * description at github.com/chaos/diod, protocol.md) for one directory of the host.
 *
 * Confinement: each fid holds a descriptor (O_PATH) of its file, found from its directory's by
 * a single name through openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS; symbolic links
 * are the guest's to follow. Only regular files and directories are opened, devices never made.
 *
 * Threads: one at a time.
 */
#pragma once

#include "base/error.h"
#include "base/types.h"

struct p9;

enum p9_security {
    P9_NONE,   /* files are the process's; owners are set where it may, no setuid bits */
    P9_MAPPED, /* owner, mode and kind live in extended attributes (user.virtfs.*) */
};

struct p9_config {
    const char *path;
    enum p9_security security;
    bool read_only;
};

/* NULL: *err says why. */
struct p9 *p9_create(const struct p9_config *config, struct error *err);
void p9_destroy(struct p9 *p9);

/* Answers the message; returns the answer's length, at most `size`, 0 when there was no room
 * even for an error. The message may be hostile. */
u32 p9_serve(struct p9 *p9, const u8 *message, u32 len, u8 *answer, u32 size);
