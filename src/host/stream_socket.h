/* Opening stream sockets, for what lines of bytes and networks end at. */
#pragma once

#include "base/types.h"

struct stream_address {
    const char *path; /* of a UNIX socket; "": TCP */
    const char *host; /* "": any address, or this host as a client */
    u16 port;
    bool server;
};

/*
 * A socket that is connected, or listens as a server for one client at a time; close-on-exec.
 * -1 with errno: ENAMETOOLONG for a path beyond sun_path, EADDRNOTAVAIL for a name that does
 * not resolve. A server's UNIX socket replaces one that a machine which is gone left there.
 * Blocks while it resolves and connects; any thread.
 */
int stream_socket_open(const struct stream_address *at);
