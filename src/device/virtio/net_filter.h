/*
 * Which frames a network driver wants (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3): receive modes, a
 * table of addresses, VLANs. Until the driver has said anything all of them; a table with more
 * addresses than there is room for lets all of its kind through, as the driver is told that it
 * may see more than it asked for.
 */
#pragma once

#include "base/bits.h"
#include "base/types.h"

#define NET_FILTER_MACS  64
#define NET_FILTER_VLANS 4096

/* The receive modes, by number of their command (5.1.6.5.1). */
enum net_filter_mode {
    NET_FILTER_PROMISC,
    NET_FILTER_ALLMULTI,
    NET_FILTER_ALLUNI,
    NET_FILTER_NOMULTI,
    NET_FILTER_NOUNI,
    NET_FILTER_NOBCAST,
    NET_FILTER_MODES
};

struct net_filter_table {
    u32 n; /* more than NET_FILTER_MACS: all pass */
    u8 mac[NET_FILTER_MACS][6];
};

/* All zeroes: nothing was said yet. */
struct net_filter {
    bool on;
    bool vlans_on; /* VLANs are filtered: their feature was negotiated */
    u8 modes;      /* a bit for each net_filter_mode */
    struct net_filter_table unicast, multicast;
    u64 vlans[NET_FILTER_VLANS / 64];
};

void net_filter_set_mode(struct net_filter *filter, enum net_filter_mode mode, bool on);
/* The whole table anew: `n` addresses of six bytes each, of which NET_FILTER_MACS are there. */
void net_filter_set_table(struct net_filter *filter, bool multicast, const void *macs, u32 n);
void net_filter_set_vlan(struct net_filter *filter, u16 id, bool pass);

/* Whether the frame, of at least 14 bytes, is for the driver, whose own address is `mac`. */
bool net_filter_passes(const struct net_filter *filter, const u8 *mac, const u8 *frame,
                       size_t len);
