/* Opening stream sockets, for what lines of bytes and networks end at. */
#pragma once

#include "base/error.h"

struct stream_address {
    const char *path; /* of a UNIX socket; "": TCP */
    const char *host; /* "": any address, or this host as a client */
    u16 port;
    bool server;
};

/*
 * A socket that is connected, or listens as a server for one client at a time; close-on-exec.
 * -1: *err names `option` and the address. A server's UNIX socket replaces one that a machine
 * which is gone left there. Blocks while it resolves and connects; any thread.
 */
int stream_socket_open(const struct stream_address *at, const char *option, struct error *err);
