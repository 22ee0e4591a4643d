/* Stream sockets, see stream_socket.h. */
#include "host/stream_socket.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* True: the descriptor listens, or is connected. */
static bool settle(int fd, const struct sockaddr *address, socklen_t len, bool server)
{
    int one = 1;
    if (!server)
        return !connect(fd, address, len);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    return !bind(fd, address, len) && !listen(fd, 1);
}

static int open_one(int family, const struct sockaddr *address, socklen_t len, bool server)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || settle(fd, address, len, server))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int open_unix(const struct stream_address *at)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat old;
    if (strlen(at->path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, at->path);
    if (at->server && !lstat(at->path, &old) && S_ISSOCK(old.st_mode))
        unlink(at->path);
    return open_one(AF_UNIX, (const struct sockaddr *)&address, sizeof(address), at->server);
}

static int open_inet(const struct stream_address *at)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = at->server ? AI_PASSIVE : 0};
    struct addrinfo *found;
    char port[8];
    snprintf(port, sizeof(port), "%u", at->port);
    if (getaddrinfo(at->host[0] ? at->host : NULL, port, &hints, &found)) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *info = found; info && fd < 0; info = info->ai_next)
        fd = open_one(info->ai_family, info->ai_addr, info->ai_addrlen, at->server);
    freeaddrinfo(found);
    return fd;
}

int stream_socket_open(const struct stream_address *at, const char *option, struct error *err)
{
    int fd = at->path[0] ? open_unix(at) : open_inet(at);
    const char *what = at->server ? "listen on" : "connect to";
    if (fd < 0 && at->path[0])
        error_errno(err, "%s: cannot %s '%.200s'", option, what, at->path);
    else if (fd < 0)
        error_errno(err, "%s: cannot %s '%.200s' port %u", option, what, at->host, at->port);
    return fd;
}
