/*
 * Between a network device (virtio net) and whatever carries its frames (host/net, a test).
 * Frames are Ethernet's, without preamble and checksum.
 *
 * The back end is made first and handed to the device, which fills the front half. Threads: all
 * under the board lock.
 */
#pragma once

#include "base/types.h"

#define NET_MAX_FRAME 65550 /* a segmented packet of 64 KiB, with its Ethernet header */

/* What of a frame is left to whoever needs it whole: virtio's words (virtio 1.2, 5.1.6). */
struct net_offload {
    u8 flags; /* bit 0: a checksum is to be put at csum_start + csum_offset; bit 1: it is good
               */
    u8 gso_type; /* 0: none, 1: TCPv4, 3: UDP, 4: TCPv6; | 80h: ECN */
    u16 hdr_len;
    u16 gso_size;
    u16 csum_start;
    u16 csum_offset;
};

struct net_port {
    /* Back end: takes a frame from the guest; never blocks, and drops what it cannot carry. */
    void (*send)(void *back, const void *frame, size_t len, const struct net_offload *offload);
    /* Back end: the device has room again after can_receive said no; may be NULL. */
    void (*room)(void *back);
    /* Back end: which offloads frames for the guest may use from now on; may be NULL. */
    void (*set_offloads)(void *back, bool csum, bool tso4, bool tso6);
    void *back;
    /* What the guest may leave to the back end, and the back end to the guest. */
    bool sends_csum, sends_tso, receives_csum, receives_tso;

    const bool *stopped; /* the board's: nothing is received then; may be NULL */

    /* Front end. */
    bool (*can_receive)(void *front);
    void (*receive)(void *front, const void *frame, size_t len,
                    const struct net_offload *offload);
    void *front;
};

static inline bool net_can_receive(const struct net_port *port)
{
    bool stopped = port->stopped && *port->stopped;
    return !stopped && port->can_receive && port->can_receive(port->front);
}

/* A frame for the guest; it is lost when the device has no room. */
static inline void net_receive(struct net_port *port, const void *frame, size_t len,
                               const struct net_offload *offload)
{
    static const struct net_offload none;
    if (net_can_receive(port))
        port->receive(port->front, frame, len, offload ? offload : &none);
}
