/*
 * What carries a guest's frames on the host: a user-mode network (libslirp), a stream socket to
 * another machine, a tap device, or nothing. The seam to the device is platform/net.h.
 *
 * Threads: create and destroy in the loop's thread. Whatever threads a back end has, it works
 * under the board lock.
 */
#pragma once

#include "base/error.h"
#include "host/loop.h"
#include "platform/board.h"
#include "platform/net.h"

enum net_kind { NET_NONE, NET_USER, NET_STREAM, NET_TAP };

#define NET_MAX_FORWARDS 16

/* hostfwd=tcp|udp:[HOST]:PORT-[GUEST]:PORT; addresses in network byte order. */
struct net_forward {
    bool udp;
    u32 host_addr, guest_addr; /* 0: any; the first that DHCP gives */
    u16 host_port, guest_port;
};

struct net_config {
    enum net_kind kind;
    char id[64]; /* "": none */
    /* NET_USER */
    bool restricted;                          /* nothing but the forwards leaves or enters */
    u32 network, mask, host, dhcp_start, dns; /* network byte order; 0: as usual */
    char hostname[64];
    struct net_forward forwards[NET_MAX_FORWARDS];
    unsigned n_forwards;
    /* NET_STREAM: an address of a UNIX socket, or host and port */
    bool server;
    char path[108];
    char address[64];
    u16 port;
    /* NET_TAP */
    char ifname[16];
};

struct net_back;

/* A back end's own functions. */
struct net_back_ops {
    void (*destroy)(struct net_back *back);
};

struct net_back {
    const struct net_back_ops *ops;
    struct net_port port; /* the seam to give to the device */
    struct board *board;
    struct board_gate gate; /* frames that came while the machine stood still */
};

/* NULL: *err says why. */
struct net_back *net_create(const struct net_config *config, struct board *board,
                            struct loop *loop, struct error *err);
/* After the device is gone. */
void net_destroy(struct net_back *back);

/* For net_create. */
struct net_back *net_user_create(const struct net_config *config, struct board *board,
                                 struct error *err);
struct net_back *net_stream_create(const struct net_config *config, struct board *board,
                                   struct loop *loop, struct error *err);
struct net_back *net_tap_create(const struct net_config *config, struct board *board,
                                struct loop *loop, struct error *err);
