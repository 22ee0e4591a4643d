/*
 * Frames through a tap device of the host, which someone with privileges has made and bridged.
 * The kernel takes over checksums and segmentation, in virtio's own words (struct
 * virtio_net_hdr).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/ensure.h"
#include "host/net/net.h"
#include "platform/board.h"

#define BURST 64 /* frames taken under one lock */

_Static_assert(sizeof(struct net_offload) == 10, "the kernel's header without num_buffers");

struct tap {
    struct net_back back;
    struct board *board;
    struct loop *loop;
    struct loop_source source;
    struct net_offload offload;
    u8 frame[NET_MAX_FRAME];
};

static void tap_send(void *opaque, const void *frame, size_t len,
                     const struct net_offload *offload)
{
    const struct tap *tap = opaque;
    struct iovec parts[2] = {{(void *)offload, sizeof(*offload)}, {(void *)frame, len}};
    /* A full queue of the kernel's drops the frame, as a wire would. */
    if (writev(tap->source.fd, parts, 2) < 0)
        return;
}

static bool tap_take(struct tap *tap)
{
    struct iovec parts[2] = {{&tap->offload, sizeof(tap->offload)},
                             {tap->frame, sizeof(tap->frame)}};
    ssize_t got = readv(tap->source.fd, parts, 2);
    if (got < (ssize_t)sizeof(tap->offload) + 14)
        return false;
    net_receive(&tap->back.port, tap->frame, (size_t)got - sizeof(tap->offload), &tap->offload);
    return true;
}

static void tap_ready(void *opaque, short revents)
{
    struct tap *tap = opaque;
    board_lock(tap->board);
    bool room = true;
    for (unsigned i = 0; i < BURST; i++) {
        room = net_can_receive(&tap->back.port);
        if (!room || !tap_take(tap))
            break;
    }
    /* Without room frames wait in the kernel. */
    tap->source.events = room ? POLLIN : 0;
    board_unlock(tap->board);
}

static void tap_room(void *opaque)
{
    struct tap *tap = opaque;
    if (tap->source.events)
        return;
    tap->source.events = POLLIN;
    loop_wake(tap->loop);
}

static void tap_set_offloads(void *opaque, bool csum, bool tso4, bool tso6)
{
    const struct tap *tap = opaque;
    unsigned long offloads = (csum ? TUN_F_CSUM : 0) | (csum && tso4 ? TUN_F_TSO4 : 0) |
                             (csum && tso6 ? TUN_F_TSO6 : 0);
    /* It was asked before and could; should it refuse now, frames come whole. */
    (void)ioctl(tap->source.fd, TUNSETOFFLOAD, offloads);
}

static void tap_destroy(struct net_back *back)
{
    struct tap *tap = container_of(back, struct tap, back);
    loop_remove(tap->loop, &tap->source);
    close(tap->source.fd);
    free(tap);
}

static const struct net_back_ops tap_ops = {tap_destroy};

static int tap_open(const char *name, struct error *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int size = sizeof(struct net_offload);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
        error_errno(err,
                    "-netdev tap: cannot open '%s'; make it with 'ip tuntap add %s mode tap "
                    "user NAME', or use -nic user",
                    name, name);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

struct net_back *net_tap_create(const struct net_config *config, struct board *board,
                                struct loop *loop, struct error *err)
{
    int fd = tap_open(config->ifname, err);
    if (fd < 0)
        return NULL;
    bool offloads = !ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
    ioctl(fd, TUNSETOFFLOAD, 0);
    struct tap *tap = calloc(1, sizeof(*tap));
    ensure(tap);
    tap->board = board;
    tap->loop = loop;
    tap->source = (struct loop_source){.fd = fd, .ready = tap_ready, .opaque = tap};
    tap->back.ops = &tap_ops;
    tap->back.port = (struct net_port){
        .send = tap_send,
        .room = tap_room,
        .set_offloads = tap_set_offloads,
        .back = tap,
        .sends_csum = true,
        .sends_tso = true,
        .receives_csum = offloads,
        .receives_tso = offloads,
    };
    loop_add(loop, &tap->source);
    return &tap->back;
}
