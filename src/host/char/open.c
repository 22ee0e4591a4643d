/* Character back ends that are a descriptor from the start: terminal, file, pseudo-terminal. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/ensure.h"
#include "host/char/char_state.h"

static bool open_file(struct char_back *back, struct error *err)
{
    back->out.fd = open(back->config.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (back->out.fd < 0)
        return error_errno(err, "%s: cannot write '%s'", back->config.option,
                           back->config.path);
    back->has_out = back->owns_fd = true;
    return true;
}

static bool open_pty(struct char_back *back, struct error *err)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || grantpt(fd) || unlockpt(fd)) {
        if (fd >= 0)
            close(fd);
        return error_errno(err, "%s: cannot make a pseudo-terminal", back->config.option);
    }
    char *name = back->config.path;
    /* QEMU's words, which scripts look for. */
    if (!ptsname_r(fd, name, sizeof(back->config.path)))
        fprintf(stderr, "char device redirected to %s (label %s)\n", name, back->config.label);
    /* Held open: without anybody at the other end, reading fails. */
    back->pty_peer = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    back->in.fd = back->out.fd = fd;
    back->has_in = back->has_out = back->owns_fd = true;
    return true;
}

bool char_open(struct char_back *back, struct error *err)
{
    switch (back->config.kind) {
    case CHAR_NULL:
        return true;
    case CHAR_STDIO:
        back->in.fd = STDIN_FILENO;
        back->out.fd = STDOUT_FILENO;
        back->has_in = back->has_out = true;
        return true;
    case CHAR_FILE:
        return open_file(back, err);
    case CHAR_PTY:
        return open_pty(back, err);
    case CHAR_SOCKET:
        break;
    }
    ensure(!"a kind that is opened here");
    return false;
}

void char_describe(const struct char_back *back, char *text, size_t size)
{
    const struct char_config *config = &back->config;
    static const char *const names[] = {"null", "stdio", "file", "pty:", "socket"};
    const char *what = config->kind == CHAR_PTY ? config->path : "";
    if (config->kind != CHAR_SOCKET)
        snprintf(text, size, "%s%s%s", config->mux ? "mux " : "", names[config->kind], what);
    else if (config->path[0])
        snprintf(text, size, "%sunix:%s%s", back->has_in ? "" : "disconnected:", config->path,
                 config->server ? ",server=on" : "");
    else
        snprintf(text, size, "%stcp:%s:%u%s", back->has_in ? "" : "disconnected:", config->host,
                 config->port, config->server ? ",server=on" : "");
}
