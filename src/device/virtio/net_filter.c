/* Which frames a network driver wants, see net_filter.h. */
#include "device/virtio/net_filter.h"

#include <string.h>

#define ETHERTYPE_VLAN 0x8100

static const u8 broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

void net_filter_set_mode(struct net_filter *filter, enum net_filter_mode mode, bool on)
{
    filter->on = true;
    filter->modes = (u8)((filter->modes & ~BIT(mode)) | (on ? BIT(mode) : 0));
}

void net_filter_set_table(struct net_filter *filter, bool multicast, const void *macs, u32 n)
{
    struct net_filter_table *table = multicast ? &filter->multicast : &filter->unicast;
    filter->on = true;
    table->n = n;
    memcpy(table->mac, macs, (size_t)(n < NET_FILTER_MACS ? n : NET_FILTER_MACS) * 6);
}

void net_filter_set_vlan(struct net_filter *filter, u16 id, bool pass)
{
    u64 bit = BIT(id % 64);
    filter->vlans[id / 64] = (filter->vlans[id / 64] & ~bit) | (pass ? bit : 0);
}

static bool has(const struct net_filter_table *table, const u8 *mac)
{
    if (table->n > NET_FILTER_MACS)
        return true;
    for (u32 i = 0; i < table->n; i++)
        if (!memcmp(table->mac[i], mac, 6))
            return true;
    return false;
}

static bool vlan_passes(const struct net_filter *filter, const u8 *frame, size_t len)
{
    if (!filter->vlans_on || len < 16 || (frame[12] << 8 | frame[13]) != ETHERTYPE_VLAN)
        return true;
    unsigned id = (unsigned)(frame[14] << 8 | frame[15]) % NET_FILTER_VLANS;
    return filter->vlans[id / 64] >> id % 64 & 1;
}

bool net_filter_passes(const struct net_filter *filter, const u8 *mac, const u8 *frame,
                       size_t len)
{
    u8 modes = filter->modes;
    if (modes & BIT(NET_FILTER_PROMISC))
        return true;
    if (!vlan_passes(filter, frame, len))
        return false;
    if (!filter->on)
        return true;
    if (!memcmp(frame, broadcast, 6))
        return !(modes & BIT(NET_FILTER_NOBCAST));
    if (frame[0] & 1)
        return !(modes & BIT(NET_FILTER_NOMULTI)) &&
               ((modes & BIT(NET_FILTER_ALLMULTI)) || has(&filter->multicast, frame));
    return !(modes & BIT(NET_FILTER_NOUNI)) &&
           ((modes & BIT(NET_FILTER_ALLUNI)) || !memcmp(frame, mac, 6) ||
            has(&filter->unicast, frame));
}
