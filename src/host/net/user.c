/*
 * The user-mode network: a small NATed LAN with a gateway, DHCP and DNS, made of ordinary
 * sockets by libslirp. No privileges.
 *
 * libslirp is used under the board lock only, by the vCPU that sends a frame and by one thread
 * of this file, which waits for the sockets. A frame that the device has no room for waits in a
 * queue.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/log.h"
#include "host/net/fragments.h"
#include "host/net/frame.h"
#include "host/net/net.h"
#include "host/thread.h"
#include "platform/board.h"

#define MAX_QUEUED 1000 /* frames; more are lost, which TCP knows how to take */

struct queued {
    struct queued *next;
    size_t len;
    u8 frame[];
};

struct user_timer {
    SlirpTimerCb fire;
    void *opaque;
    s64 deadline; /* virtual ms; 0: rests */
    struct user_timer *next;
};

struct user {
    struct net_back back;
    struct board *board;
    Slirp *slirp;
    pthread_t thread;
    bool started;
    int wake_fd;

    /* Under the board lock: */
    bool ending;
    bool woken; /* wake_fd was written since the thread looked */
    struct queued *first, **last;
    unsigned n_queued;
    struct user_timer *timers;
    struct pollfd *fds; /* [0] is wake_fd; what libslirp asked for follows */
    unsigned n_fds, max_fds;
    struct fragments *fragments;
    u8 whole[NET_MAX_FRAME]; /* a frame with its checksum */
};

static void wake(struct user *user)
{
    u64 one = 1;
    if (user->woken)
        return;
    user->woken = true;
    if (write(user->wake_fd, &one, sizeof(one)) < 0)
        return; /* a full counter wakes as well */
}

/* -- Frames -------------------------------------------------------------------------------- */

static void user_send(void *opaque, const void *frame, size_t len,
                      const struct net_offload *offload)
{
    struct user *user = opaque;
    const u8 *whole = user->whole;
    memcpy(user->whole, frame, len);
    frame_checksum(user->whole, len, offload);
    if (fragments_is_one(whole, len)) {
        whole = fragments_take(user->fragments, whole, &len, clock_now(&user->board->clock));
        if (!whole)
            return;
    }
    /* A segmented packet goes in as the one large packet that it is. */
    slirp_input(user->slirp, whole, (int)len);
    /* What it did may be something to wait for. */
    wake(user);
}

/* Nobody has to check frames that never crossed a wire. */
static const struct net_offload checked = {.flags = 2};

static ssize_t frame_for_guest(const void *frame, size_t len, void *opaque)
{
    struct user *user = opaque;
    if (!user->first && net_can_receive(&user->back.port)) {
        net_receive(&user->back.port, frame, len, &checked);
        return (ssize_t)len;
    }
    if (user->n_queued == MAX_QUEUED || !user->back.port.can_receive)
        return (ssize_t)len;
    struct queued *queued = malloc(sizeof(*queued) + len);
    ensure(queued);
    queued->next = NULL;
    queued->len = len;
    memcpy(queued->frame, frame, len);
    *user->last = queued;
    user->last = &queued->next;
    user->n_queued++;
    return (ssize_t)len;
}

static void user_room(void *opaque)
{
    struct user *user = opaque;
    while (user->first && net_can_receive(&user->back.port)) {
        struct queued *queued = user->first;
        user->first = queued->next;
        if (!user->first)
            user->last = &user->first;
        user->n_queued--;
        net_receive(&user->back.port, queued->frame, queued->len, &checked);
        free(queued);
    }
}

/* -- Services for libslirp ----------------------------------------------------------------- */

static void guest_error(const char *message, void *opaque)
{
    const struct user *user = opaque;
    log_to(user->board->log, LOG_GUEST_ERRORS, "network: %s", message);
}

static int64_t clock_get_ns(void *opaque)
{
    const struct user *user = opaque;
    return (int64_t)clock_now(&user->board->clock);
}

static void *timer_new(SlirpTimerCb fire, void *timer_opaque, void *opaque)
{
    struct user *user = opaque;
    struct user_timer *timer = malloc(sizeof(*timer));
    ensure(timer);
    *timer = (struct user_timer){.fire = fire, .opaque = timer_opaque, .next = user->timers};
    user->timers = timer;
    return timer;
}

static void timer_free(void *freed, void *opaque)
{
    struct user *user = opaque;
    for (struct user_timer **at = &user->timers; *at; at = &(*at)->next) {
        if (*at == freed) {
            *at = (*at)->next;
            break;
        }
    }
    free(freed);
}

static void timer_mod(void *moved, int64_t deadline, void *opaque)
{
    struct user_timer *timer = moved;
    timer->deadline = deadline > 0 ? deadline : 1;
    wake(opaque);
}

static void poll_fd_changed(int fd, void *opaque)
{
    wake(opaque);
}

static void notify(void *opaque)
{
    wake(opaque);
}

static const SlirpCb callbacks = {
    .send_packet = frame_for_guest,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = poll_fd_changed,
    .unregister_poll_fd = poll_fd_changed,
    .notify = notify,
};

/* -- Waiting for sockets ------------------------------------------------------------------- */

static const struct {
    int slirp;
    short poll;
} event_names[] = {
    {SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
    {SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};

static int add_poll(int fd, int events, void *opaque)
{
    struct user *user = opaque;
    if (user->n_fds == user->max_fds) {
        user->max_fds = user->max_fds ? 2 * user->max_fds : 64;
        user->fds = realloc(user->fds, user->max_fds * sizeof(*user->fds));
        ensure(user->fds);
    }
    struct pollfd *pollfd = &user->fds[user->n_fds];
    *pollfd = (struct pollfd){.fd = fd};
    for (unsigned i = 0; i < ARRAY_LEN(event_names); i++)
        if (events & event_names[i].slirp)
            pollfd->events |= event_names[i].poll;
    return (int)user->n_fds++;
}

static int get_revents(int index, void *opaque)
{
    const struct user *user = opaque;
    int events = 0;
    for (unsigned i = 0; i < ARRAY_LEN(event_names); i++)
        if (user->fds[index].revents & event_names[i].poll)
            events |= event_names[i].slirp;
    return events;
}

/* Fires what is due; returns how many ms the next one leaves, at most `wait`. */
static u32 run_timers(struct user *user, u32 wait)
{
    s64 now = (s64)(clock_now(&user->board->clock) / NS_PER_MS);
    for (struct user_timer *timer = user->timers, *next; timer; timer = next) {
        next = timer->next;
        if (timer->deadline && timer->deadline <= now) {
            timer->deadline = 0;
            timer->fire(timer->opaque);
        }
    }
    for (struct user_timer *timer = user->timers; timer; timer = timer->next)
        if (timer->deadline && (u64)(timer->deadline - now) < wait)
            wait = timer->deadline > now ? (u32)(timer->deadline - now) : 0;
    return wait;
}

/* One turn: the lock is free only while we sleep. `fds` is not touched by others meanwhile. */
static void turn(struct user *user)
{
    u32 wait = 60000;
    u64 count;
    user->n_fds = 0;
    add_poll(user->wake_fd, SLIRP_POLL_IN, user);
    wait = run_timers(user, wait);
    slirp_pollfds_fill(user->slirp, &wait, add_poll, user);
    user->woken = false;
    board_unlock(user->board);
    int ready = poll(user->fds, user->n_fds, (int)wait);
    if (ready > 0 && user->fds[0].revents && read(user->wake_fd, &count, sizeof(count)) < 0)
        ensure(errno == EAGAIN);
    board_lock(user->board);
    if (!user->ending)
        slirp_pollfds_poll(user->slirp, ready < 0, get_revents, user);
}

static void *user_thread(void *opaque)
{
    struct user *user = opaque;
    board_lock(user->board);
    while (!user->ending)
        turn(user);
    board_unlock(user->board);
    return NULL;
}

/* -- Life ---------------------------------------------------------------------------------- */

static void user_destroy(struct net_back *back)
{
    struct user *user = container_of(back, struct user, back);
    if (user->started) {
        board_lock(user->board);
        user->ending = true;
        user->woken = false;
        wake(user);
        board_unlock(user->board);
        pthread_join(user->thread, NULL);
    }
    if (user->slirp)
        slirp_cleanup(user->slirp);
    while (user->first) {
        struct queued *queued = user->first;
        user->first = queued->next;
        free(queued);
    }
    if (user->wake_fd >= 0)
        close(user->wake_fd);
    fragments_destroy(user->fragments);
    free(user->fds);
    free(user);
}

static const struct net_back_ops user_ops = {user_destroy};

static struct in_addr in_addr(u32 network_order)
{
    return (struct in_addr){.s_addr = network_order};
}

/* An address of the LAN: as configured, or QEMU's, x.x.2.n as far as the network has bits. */
static struct in_addr lan_address(u32 network, u32 mask, u32 configured, u32 n)
{
    return in_addr(configured ? configured : network | (htonl(0x200 + n) & ~mask));
}

static SlirpConfig slirp_config(const struct net_config *config)
{
    u32 network = config->network ? config->network : htonl(0x0a000200); /* 10.0.2.0 */
    u32 mask = config->mask ? config->mask : htonl(0xffffff00);
    SlirpConfig slirp = {
        .version = 4,
        .restricted = config->restricted,
        .in_enabled = true,
        .vnetwork = in_addr(network),
        .vnetmask = in_addr(mask),
        .vhost = lan_address(network, mask, config->host, 2),
        .vdhcp_start = lan_address(network, mask, config->dhcp_start, 15),
        .vnameserver = lan_address(network, mask, config->dns, 3),
        .vhostname = config->hostname[0] ? config->hostname : NULL,
        .in6_enabled = true,
        .vprefix_len = 64,
    };
    inet_pton(AF_INET6, "fec0::", &slirp.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &slirp.vhost6);
    inet_pton(AF_INET6, "fec0::3", &slirp.vnameserver6);
    return slirp;
}

static bool lan_fits(const SlirpConfig *slirp, struct error *err)
{
    const struct {
        const char *word;
        u32 address;
    } addresses[] = {{"host", slirp->vhost.s_addr},
                     {"dns", slirp->vnameserver.s_addr},
                     {"dhcpstart", slirp->vdhcp_start.s_addr}};
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        u32 address = addresses[i].address;
        if ((address & slirp->vnetmask.s_addr) != slirp->vnetwork.s_addr)
            return error_set(err,
                             "network: %s= is not an address within net=", addresses[i].word);
        for (unsigned j = 0; j < i; j++)
            if (address == addresses[j].address)
                return error_set(err, "network: %s= and %s= are the same address",
                                 addresses[i].word, addresses[j].word);
    }
    return true;
}

static bool add_forwards(struct user *user, const struct net_config *config, struct error *err)
{
    for (unsigned i = 0; i < config->n_forwards; i++) {
        const struct net_forward *forward = &config->forwards[i];
        if (slirp_add_hostfwd(user->slirp, forward->udp, in_addr(forward->host_addr),
                              forward->host_port, in_addr(forward->guest_addr),
                              forward->guest_port) < 0)
            return error_errno(err,
                               "-netdev user: hostfwd cannot listen on %s port %u of the host",
                               forward->udp ? "UDP" : "TCP", forward->host_port);
    }
    return true;
}

static bool user_start(struct user *user, const struct net_config *config, struct error *err)
{
    SlirpConfig slirp = slirp_config(config);
    if (!lan_fits(&slirp, err))
        return false;
    user->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (user->wake_fd < 0)
        return error_errno(err, "cannot make an event descriptor");
    user->slirp = slirp_new(&slirp, &callbacks, user);
    if (!user->slirp)
        return error_set(err, "-netdev user: libslirp refuses these addresses");
    if (!add_forwards(user, config, err))
        return false;
    user->started = thread_start(&user->thread, user_thread, user);
    return user->started || error_set(err, "cannot start a thread for the network");
}

struct net_back *net_user_create(const struct net_config *config, struct board *board,
                                 struct error *err)
{
    struct user *user = calloc(1, sizeof(*user));
    ensure(user);
    user->board = board;
    user->wake_fd = -1;
    user->last = &user->first;
    user->fragments = fragments_create();
    user->back.ops = &user_ops;
    user->back.port = (struct net_port){
        .send = user_send,
        .room = user_room,
        .back = user,
        .sends_csum = true,
        .sends_tso = true,
        .receives_csum = true,
    };
    if (user_start(user, config, err))
        return &user->back;
    user_destroy(&user->back);
    return NULL;
}
