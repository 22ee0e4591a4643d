/*
 * Character back ends over a UNIX or TCP socket. A server has one client at a time, as in QEMU:
 * the next one waits in the queue of the kernel until the first is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/char/char_state.h"

/* How often a wait for the first client looks whether the user gave up. */
#define LOOK_MS 100

static void use_client(struct char_back *back, int fd)
{
    int one = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (!back->config.path[0]) /* answers are small, and somebody waits for each */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    back->in.fd = back->out.fd = fd;
    back->owns_fd = true;
    back->listener.events = 0;
    char_connected(back, true);
}

void socket_hang_up(struct char_back *back)
{
    close(back->in.fd);
    back->in.fd = back->out.fd = -1;
    back->owns_fd = false;
    back->listener.events = POLLIN;
    char_connected(back, false);
}

static void listener_ready(void *opaque, short revents)
{
    struct char_back *back = opaque;
    int fd = accept4(back->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    board_lock(back->board);
    use_client(back, fd);
    board_unlock(back->board);
}

/* -- Opening ------------------------------------------------------------------------------- */

/* True: the descriptor listens, or is connected. */
static bool settle(int fd, const struct sockaddr *address, socklen_t len, bool server)
{
    int one = 1;
    if (!server)
        return !connect(fd, address, len);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    return !bind(fd, address, len) && !listen(fd, 1);
}

static int close_failed(int fd)
{
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int open_unix(const struct char_config *config)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(config->path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, config->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    struct stat old;
    if (config->server && !lstat(config->path, &old) && S_ISSOCK(old.st_mode))
        unlink(config->path); /* of a machine that is gone */
    bool good = settle(fd, (const struct sockaddr *)&address, sizeof(address), config->server);
    return good ? fd : close_failed(fd);
}

static int open_inet(const struct char_config *config)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = config->server ? AI_PASSIVE : 0};
    struct addrinfo *found;
    char port[8];
    snprintf(port, sizeof(port), "%u", config->port);
    if (getaddrinfo(config->host[0] ? config->host : NULL, port, &hints, &found)) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *info = found; info && fd < 0; info = info->ai_next) {
        fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && !settle(fd, info->ai_addr, info->ai_addrlen, config->server))
            fd = close_failed(fd);
    }
    freeaddrinfo(found);
    return fd;
}

/* Ending signals are blocked, for the loop takes them; here there is no loop yet. */
static bool user_gave_up(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
           sigismember(&pending, SIGHUP);
}

static bool wait_for_client(struct char_back *back, struct error *err)
{
    struct pollfd fd = {.fd = back->listener.fd, .events = POLLIN};
    char text[512];
    char_describe(back, text, sizeof(text));
    fprintf(stderr, "doppel: waiting for connection on: %s\n", text);
    while (poll(&fd, 1, LOOK_MS) <= 0)
        if (user_gave_up())
            return error_set(err, "%s: nobody connected", back->config.label);
    listener_ready(back, POLLIN);
    return true;
}

bool socket_open(struct char_back *back, struct error *err)
{
    const struct char_config *config = &back->config;
    int fd = config->path[0] ? open_unix(config) : open_inet(config);
    if (fd < 0)
        return error_errno(err, "%s: cannot %s '%.200s' port %u", config->label,
                           config->server ? "listen on" : "connect to",
                           config->path[0] ? config->path : config->host, config->port);
    if (!config->server) {
        board_lock(back->board);
        use_client(back, fd);
        board_unlock(back->board);
        return true;
    }
    back->listener = (struct loop_source){
        .fd = fd, .events = POLLIN, .ready = listener_ready, .opaque = back};
    loop_add(back->loop, &back->listener);
    if (config->wait && !wait_for_client(back, err)) {
        socket_close(back);
        return false;
    }
    return true;
}

void socket_close(struct char_back *back)
{
    if (back->listener.fd < 0)
        return;
    loop_remove(back->loop, &back->listener);
    close(back->listener.fd);
    if (back->config.path[0])
        unlink(back->config.path);
}
