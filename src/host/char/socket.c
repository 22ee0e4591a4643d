/*
 * Character back ends over a UNIX or TCP socket. A server has one client at a time, as in QEMU:
 * the next one waits in the queue of the kernel until the first is gone.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/char/char_state.h"
#include "host/stream_socket.h"

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
            return error_set(err, "%s: nobody connected", back->config.option);
    listener_ready(back, POLLIN);
    return true;
}

bool socket_open(struct char_back *back, struct error *err)
{
    const struct char_config *config = &back->config;
    const struct stream_address at = {.path = config->path,
                                      .host = config->host,
                                      .port = config->port,
                                      .server = config->server};
    int fd = stream_socket_open(&at, config->option, err);
    if (fd < 0)
        return false;
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
