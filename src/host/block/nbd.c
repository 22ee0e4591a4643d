/*
 * NBD through libnbd, see nbd.h. Requests of several threads are under way at once: each is
 * given to libnbd, and a thread of this file moves bytes and wakes who waits.
 *
 * A server that goes away, or says nothing for TIMEOUT_S while it owes answers, fails every
 * request that it owes and all that follow. They are tried over a new connection only when all
 * that was ever acknowledged had been flushed as well: a server that came back without data it
 * had promised must not look as if nothing had happened.
 */
#include "host/block/nbd.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "base/monotonic.h"
#include "host/block/parts.h"
#include "host/thread.h"

#define TIMEOUT_S 30
#define CLOSE_S   10 /* the same, for the last flush */
#define GOODBYE_S 2
#define CONNECT_S 10
/* The largest piece: what every server takes (NBD protocol, block size constraints). */
#define MAX_DATA  (32 * MiB)
#define MAX_RANGE (1 * GiB)
/* Larger parts of a request are sent as they are, smaller ones as one of at most BUFFER bytes:
 * libnbd takes one buffer a request, and a copy costs less than a request to the server. */
#define WHOLE_PART (64 * KiB)
#define BUFFER     (1 * MiB)
/* How long no new connection is tried after one that did not even fail at once. */
#define RETRY_S 5

struct nbd_image {
    struct image image;
    struct image_config config;
    char path[4096];

    pthread_mutex_t lock;
    pthread_cond_t done;
    struct nbd_handle *handle; /* NULL: gone */
    pthread_t thread;
    bool started, ending;
    bool broken_off; /* what is owed is given up */
    int wake_fd;
    unsigned owed;        /* requests that libnbd has */
    unsigned users;       /* threads between taking the handle and giving it back */
    u64 written, flushed; /* changes acknowledged, and how many of them a flush followed */
    time_t answered;      /* when the last answer came, or the first request was sent */
    time_t no_retry;      /* until then */
    time_t patience;      /* TIMEOUT_S */
    bool zeroes, trims, flushes;
    bool fua; /* changes are durable when they are acknowledged: cache=writethrough */
};

/* One request on its way: on the stack of who waits for it. */
struct flight {
    struct nbd_image *nbd;
    bool changes; /* what needs a flush to be durable */
    bool done;
    int error;
};

static time_t seconds(void)
{
    return (time_t)(monotonic_ns() / NS_PER_S);
}

static struct nbd_image *nbd_of(struct image *image)
{
    return container_of(image, struct nbd_image, image);
}

/* -- Connecting ---------------------------------------------------------------------------- */

bool nbd_is_address(const char *path)
{
    return !strncmp(path, "nbd:", 4) || !strncmp(path, "nbd+unix:", 9);
}

/* QEMU's older spelling, cut at the colons; modifies `text`, which is behind "nbd:". */
static int start_old_style(struct nbd_handle *handle, char *text)
{
    static const char name[] = ":exportname=";
    char *export = strstr(text, name);
    if (export) {
        *export = 0;
        if (nbd_set_export_name(handle, export + sizeof(name) - 1))
            return -1;
    }
    if (!strncmp(text, "unix:", 5))
        return nbd_aio_connect_unix(handle, text + 5);
    char *port = strrchr(text, ':');
    if (!port) {
        errno = EINVAL;
        return -1;
    }
    *port = 0;
    return nbd_aio_connect_tcp(handle, text, port + 1);
}

static int start_connecting(struct nbd_handle *handle, const char *path)
{
    char text[4096];
    if (strncmp(path, "nbd:", 4) || !strncmp(path, "nbd://", 6))
        return nbd_aio_connect_uri(handle, path);
    strcpy(text, path + 4);
    return start_old_style(handle, text);
}

/* True: connected and negotiated within CONNECT_S. */
static bool finish_connecting(struct nbd_handle *handle)
{
    time_t deadline = seconds() + CONNECT_S;
    while (nbd_aio_is_connecting(handle) == 1) {
        if (seconds() >= deadline) {
            errno = ETIMEDOUT;
            return false;
        }
        if (nbd_poll(handle, 1000) < 0)
            return false;
    }
    return nbd_aio_is_ready(handle) == 1;
}

static struct nbd_handle *connect_to(const char *path, struct error *err)
{
    struct nbd_handle *handle = nbd_create();
    ensure(handle);
    nbd_set_uri_allow_tls(handle, LIBNBD_TLS_DISABLE);
    nbd_set_uri_allow_transports(handle,
                                 LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX);
    if (!start_connecting(handle, path) && finish_connecting(handle))
        return handle;
    const char *why = nbd_get_error();
    error_set(err, "cannot connect to '%.200s': %.200s", path, why ? why : strerror(errno));
    nbd_close(handle);
    return NULL;
}

/* -- The thread ---------------------------------------------------------------------------- */

static void wake(struct nbd_image *nbd)
{
    u64 one = 1;
    if (write(nbd->wake_fd, &one, sizeof(one)) < 0)
        return; /* a full counter wakes as well */
}

/* Moves what can be moved; false: the connection is of no more use. */
static bool turn(struct nbd_image *nbd, struct nbd_handle *handle)
{
    unsigned direction = nbd_aio_get_direction(handle);
    struct pollfd fds[2] = {{.fd = nbd->wake_fd, .events = POLLIN},
                            {.fd = nbd_aio_get_fd(handle)}};
    if (direction & LIBNBD_AIO_DIRECTION_READ)
        fds[1].events |= POLLIN;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
        fds[1].events |= POLLOUT;
    poll(fds, 2, 1000);
    u64 count;
    if (fds[0].revents && read(nbd->wake_fd, &count, sizeof(count)) < 0)
        return true;
    if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ)
        nbd_aio_notify_read(handle);
    else if (fds[1].revents & POLLOUT)
        nbd_aio_notify_write(handle);
    return nbd_aio_is_dead(handle) != 1 && nbd_aio_is_closed(handle) != 1;
}

/* Whether the server keeps us waiting for too long; under the lock. */
static bool is_stuck(const struct nbd_image *nbd)
{
    return nbd->owed && (nbd->broken_off || seconds() - nbd->answered > nbd->patience);
}

/* What it owed has been answered with errors by libnbd; nobody may be using it. */
static void drop(struct nbd_image *nbd, struct nbd_handle *handle)
{
    nbd->handle = NULL;
    nbd->broken_off = false;
    while (nbd->users)
        pthread_cond_wait(&nbd->done, &nbd->lock);
    pthread_mutex_unlock(&nbd->lock);
    nbd_close(handle);
    pthread_mutex_lock(&nbd->lock);
    pthread_cond_broadcast(&nbd->done);
}

static void *pump(void *opaque)
{
    struct nbd_image *nbd = opaque;
    pthread_mutex_lock(&nbd->lock);
    while (!nbd->ending) {
        struct nbd_handle *handle = nbd->handle;
        if (!handle) {
            pthread_cond_wait(&nbd->done, &nbd->lock);
            continue;
        }
        pthread_mutex_unlock(&nbd->lock);
        bool good = turn(nbd, handle);
        pthread_mutex_lock(&nbd->lock);
        if (!good)
            drop(nbd, handle);
        else if (is_stuck(nbd)) /* libnbd sees the end, and fails what is under way */
            shutdown(nbd_aio_get_fd(handle), SHUT_RDWR);
    }
    pthread_mutex_unlock(&nbd->lock);
    return NULL;
}

/* -- Requests ------------------------------------------------------------------------------ */

/* libnbd calls it once for each request that it took, also when the handle is closed. */
static int landed(void *opaque, int *error)
{
    struct flight *flight = opaque;
    struct nbd_image *nbd = flight->nbd;
    pthread_mutex_lock(&nbd->lock);
    flight->error = *error;
    flight->done = true;
    nbd->owed--;
    nbd->written += flight->changes && !*error;
    nbd->answered = seconds();
    pthread_cond_broadcast(&nbd->done);
    pthread_mutex_unlock(&nbd->lock);
    return 1; /* libnbd may forget it */
}

/* A new connection in place of one that is gone, when nothing was lost with that. Under the
 * lock. */
static void reconnect(struct nbd_image *nbd)
{
    struct error err;
    bool promised = nbd->flushes && nbd->written != nbd->flushed;
    time_t now = seconds();
    if (promised || now < nbd->no_retry)
        return;
    struct nbd_handle *handle = connect_to(nbd->path, &err);
    if (!handle && seconds() > now + 1)
        nbd->no_retry = seconds() + RETRY_S;
    if (handle && nbd_get_size(handle) != (s64)nbd->image.size) {
        nbd_close(handle);
        handle = NULL;
    }
    nbd->handle = handle;
    pthread_cond_broadcast(&nbd->done);
}

enum kind { READ, WRITE, FLUSH, TRIM, ZERO, ZERO_KEEP };

static s64 launch(struct nbd_handle *handle, enum kind kind, u64 offset, void *buf, u64 len,
                  struct flight *flight)
{
    u32 flags = flight->nbd->fua ? LIBNBD_CMD_FLAG_FUA : 0;
    nbd_completion_callback back = {.callback = landed, .user_data = flight};
    switch (kind) {
    case READ:
        return nbd_aio_pread(handle, buf, len, offset, back, 0);
    case WRITE:
        return nbd_aio_pwrite(handle, buf, len, offset, back, flags);
    case FLUSH:
        return nbd_aio_flush(handle, back, 0);
    case TRIM:
        return nbd_aio_trim(handle, len, offset, back, flags);
    case ZERO:
        return nbd_aio_zero(handle, len, offset, back, flags);
    case ZERO_KEEP:
        return nbd_aio_zero(handle, len, offset, back, flags | LIBNBD_CMD_FLAG_NO_HOLE);
    }
    ensure(!"a known kind");
    return -1;
}

static int do_request(struct nbd_image *nbd, enum kind kind, u64 offset, void *buf, u64 len)
{
    struct flight flight = {.nbd = nbd, .changes = kind != READ && kind != FLUSH && !nbd->fua};
    pthread_mutex_lock(&nbd->lock);
    if (!nbd->handle)
        reconnect(nbd);
    struct nbd_handle *handle = nbd->handle;
    if (!handle) {
        pthread_mutex_unlock(&nbd->lock);
        return EIO;
    }
    nbd->users++;
    if (!nbd->owed++)
        nbd->answered = seconds();
    pthread_mutex_unlock(&nbd->lock);
    s64 cookie = launch(handle, kind, offset, buf, len, &flight);
    if (cookie >= 0)
        wake(nbd);
    pthread_mutex_lock(&nbd->lock);
    nbd->users--;
    pthread_cond_broadcast(&nbd->done);
    if (cookie < 0 && !flight.done) { /* it never got to libnbd, which frees nothing then */
        nbd->owed--;
        flight.done = true;
        flight.error = EIO;
    }
    while (!flight.done)
        pthread_cond_wait(&nbd->done, &nbd->lock);
    pthread_mutex_unlock(&nbd->lock);
    return flight.error == ESHUTDOWN || flight.error == ENOTCONN ? EIO : flight.error;
}

/* In pieces that every server takes. */
static int do_pieces(struct nbd_image *nbd, enum kind kind, u64 offset, void *buf, u64 len,
                     u64 most)
{
    while (len) {
        u64 part = len < most ? len : most;
        int error = do_request(nbd, kind, offset, buf, part);
        if (error)
            return error;
        offset += part;
        len -= part;
        buf = buf ? (u8 *)buf + part : NULL;
    }
    return 0;
}

/* -- The image ----------------------------------------------------------------------------- */

static int nbd_read(struct image *image, u64 offset, void *buf, u64 len)
{
    return do_pieces(nbd_of(image), READ, offset, buf, len, MAX_DATA);
}

static int nbd_write(struct image *image, u64 offset, const void *buf, u64 len)
{
    return do_pieces(nbd_of(image), WRITE, offset, (void *)(uintptr_t)buf, len, MAX_DATA);
}

/* The bytes of small parts, through a buffer. */
static int do_gathered(struct nbd_image *nbd, bool write, u64 offset, struct parts *data,
                       u64 len)
{
    u8 *buf = malloc(len < BUFFER ? len : BUFFER);
    int error = buf ? 0 : ENOMEM;
    while (len && !error) {
        u64 part = len < BUFFER ? len : BUFFER;
        if (write)
            parts_gather(data, buf, part);
        error = do_request(nbd, write ? WRITE : READ, offset, buf, part);
        if (!error && !write)
            parts_fill(data, buf, part);
        parts_advance(data, part);
        offset += part;
        len -= part;
    }
    free(buf);
    return error;
}

static int do_parts(struct nbd_image *nbd, bool write, u64 offset, const struct iovec *parts,
                    unsigned n, u64 len)
{
    struct parts data = {parts, 0};
    if (len / n < WHOLE_PART)
        return do_gathered(nbd, write, offset, &data, len);
    int error = 0;
    for (unsigned i = 0; i < n && !error; i++) {
        error = do_pieces(nbd, write ? WRITE : READ, offset, parts[i].iov_base,
                          parts[i].iov_len, MAX_DATA);
        offset += parts[i].iov_len;
    }
    return error;
}

static int nbd_read_parts(struct image *image, u64 offset, const struct iovec *parts,
                          unsigned n, u64 len, bool now)
{
    return now ? EAGAIN : do_parts(nbd_of(image), false, offset, parts, n, len);
}

static int nbd_write_parts(struct image *image, u64 offset, const struct iovec *parts,
                           unsigned n, u64 len)
{
    return do_parts(nbd_of(image), true, offset, parts, n, len);
}

static int nbd_flush_image(struct image *image)
{
    struct nbd_image *nbd = nbd_of(image);
    if (!nbd->flushes || nbd->config.cache.no_flush)
        return 0;
    /* What is acknowledged while the flush is under way may not be part of it. */
    pthread_mutex_lock(&nbd->lock);
    u64 written = nbd->written;
    pthread_mutex_unlock(&nbd->lock);
    int error = do_request(nbd, FLUSH, 0, NULL, 0);
    pthread_mutex_lock(&nbd->lock);
    if (!error && nbd->flushed < written)
        nbd->flushed = written;
    pthread_mutex_unlock(&nbd->lock);
    return error;
}

static int nbd_discard(struct image *image, u64 offset, u64 len)
{
    struct nbd_image *nbd = nbd_of(image);
    if (!nbd->config.discard || !nbd->trims)
        return 0;
    return do_pieces(nbd, TRIM, offset, NULL, len, MAX_RANGE);
}

static int write_zeroes_as_data(struct nbd_image *nbd, u64 offset, u64 len)
{
    u64 size = len < MiB ? len : MiB;
    void *zeroes = calloc(1, size);
    int error = zeroes ? 0 : ENOMEM;
    while (!error && len) {
        u64 part = len < size ? len : size;
        error = do_request(nbd, WRITE, offset, zeroes, part);
        offset += part;
        len -= part;
    }
    free(zeroes);
    return error;
}

static int nbd_write_zeroes(struct image *image, u64 offset, u64 len, bool unmap)
{
    struct nbd_image *nbd = nbd_of(image);
    if (!nbd->zeroes)
        return write_zeroes_as_data(nbd, offset, len);
    bool hole = unmap && nbd->config.discard;
    return do_pieces(nbd, hole ? ZERO : ZERO_KEEP, offset, NULL, len, MAX_RANGE);
}

/* As when the server had been silent for TIMEOUT_S, and as when it could not be reached
 * again. */
static void nbd_break_off(struct image *image)
{
    struct nbd_image *nbd = nbd_of(image);
    pthread_mutex_lock(&nbd->lock);
    nbd->broken_off = nbd->owed > 0;
    nbd->no_retry = seconds() + RETRY_S;
    pthread_mutex_unlock(&nbd->lock);
    wake(nbd);
}

/* nbd_shutdown would wait for ever for a server that keeps silent. */
static void say_goodbye(struct nbd_handle *handle)
{
    time_t deadline = seconds() + GOODBYE_S;
    bool said = !nbd_aio_disconnect(handle, 0);
    while (said && !nbd_aio_is_closed(handle) && !nbd_aio_is_dead(handle) &&
           seconds() < deadline)
        said = nbd_poll(handle, 500) >= 0;
    nbd_close(handle);
}

static void nbd_image_close(struct image *image)
{
    struct nbd_image *nbd = nbd_of(image);
    pthread_mutex_lock(&nbd->lock);
    nbd->patience = CLOSE_S;
    bool flush = nbd->handle && nbd->written != nbd->flushed;
    pthread_mutex_unlock(&nbd->lock);
    if (flush)
        nbd_flush_image(image);
    pthread_mutex_lock(&nbd->lock);
    nbd->ending = true;
    pthread_cond_broadcast(&nbd->done);
    pthread_mutex_unlock(&nbd->lock);
    wake(nbd);
    if (nbd->started)
        pthread_join(nbd->thread, NULL);
    if (nbd->handle)
        say_goodbye(nbd->handle);
    pthread_cond_destroy(&nbd->done);
    pthread_mutex_destroy(&nbd->lock);
    close(nbd->wake_fd);
    free(nbd);
}

static const struct image_ops nbd_ops = {
    .read = nbd_read,
    .write = nbd_write,
    .read_parts = nbd_read_parts,
    .write_parts = nbd_write_parts,
    .flush = nbd_flush_image,
    .discard = nbd_discard,
    .write_zeroes = nbd_write_zeroes,
    .break_off = nbd_break_off,
    .close = nbd_image_close,
};

/* What the server offers, and whether that will do. */
static bool examine(struct nbd_image *nbd, struct error *err)
{
    struct nbd_handle *handle = nbd->handle;
    s64 size = nbd_get_size(handle);
    if (size < 0 || size % 512)
        return error_set(err, "'%.300s' is not a whole number of sectors", nbd->path);
    nbd->image.size = (u64)size;
    nbd->image.read_only = nbd->config.read_only;
    if (nbd_is_read_only(handle) == 1 && !nbd->config.read_only)
        return error_set(err, "'%.300s' is read-only; use readonly=on", nbd->path);
    nbd->zeroes = nbd_can_zero(handle) == 1;
    nbd->trims = nbd_can_trim(handle) == 1;
    nbd->flushes = nbd_can_flush(handle) == 1;
    nbd->fua = !nbd->config.cache.writeback && nbd_can_fua(handle) == 1;
    return true;
}

static bool start_thread(struct nbd_image *nbd, struct error *err)
{
    nbd->started = thread_start(&nbd->thread, pump, nbd);
    return nbd->started || error_set(err, "cannot make a thread for '%.300s'", nbd->path);
}

struct image *nbd_open(const struct image_config *config, struct error *err)
{
    struct nbd_handle *handle = connect_to(config->path, err);
    if (!handle)
        return NULL;
    struct nbd_image *nbd = calloc(1, sizeof(*nbd));
    ensure(nbd);
    nbd->image.ops = &nbd_ops;
    nbd->config = *config;
    strncpy(nbd->path, config->path, sizeof(nbd->path) - 1);
    nbd->config.path = nbd->path;
    nbd->handle = handle;
    nbd->patience = TIMEOUT_S;
    nbd->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ensure(nbd->wake_fd >= 0);
    pthread_mutex_init(&nbd->lock, NULL);
    pthread_cond_init(&nbd->done, NULL);
    if (!examine(nbd, err) || !start_thread(nbd, err)) {
        nbd_image_close(&nbd->image);
        return NULL;
    }
    return &nbd->image;
}
