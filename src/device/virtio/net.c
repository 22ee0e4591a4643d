/*
 * A virtio network device, see net.h.
 *
 * Each frame is copied once, through one buffer of the largest size there is: a back end never
 * sees guest memory, and a guest cannot change a frame after it was checked.
 */
#include "device/virtio/net.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/virtio/net_filter.h"
#include "device/virtio/pci.h"

enum { RECEIVE, TRANSMIT, CONTROL, QUEUES };

/* Features (5.1.3). */
#define F_CSUM       BIT(0)
#define F_GUEST_CSUM BIT(1)
#define F_MTU        BIT(3)
#define F_MAC        BIT(5)
#define F_GUEST_TSO4 BIT(7)
#define F_GUEST_TSO6 BIT(8)
#define F_HOST_TSO4  BIT(11)
#define F_HOST_TSO6  BIT(12)
#define F_MRG_RXBUF  BIT(15)
#define F_STATUS     BIT(16)
#define F_CTRL_VQ    BIT(17)
#define F_CTRL_RX    BIT(18)
#define F_CTRL_VLAN  BIT(19)
#define F_RX_EXTRA   BIT(20)
#define F_CTRL_MAC   BIT(23)

#define STATUS_LINK_UP 1

#define NEEDS_CSUM 1 /* header flags (5.1.6) */

#define GSO_NONE  0
#define GSO_TCPV4 1
#define GSO_TCPV6 4
#define GSO_ECN   0x80

/* 5.1.6; `num_buffers` is always there in version 1. */
struct header {
    struct net_offload offload;
    u16 num_buffers;
};
_Static_assert(sizeof(struct header) == 12, "virtio 5.1.6");

/* 5.1.4 */
struct config {
    u8 mac[6];
    u16 status;
    u16 max_virtqueue_pairs;
    u16 mtu;
};

/* Control commands (5.1.6.5). */
enum { CTRL_RX = 0, CTRL_MAC = 1, CTRL_VLAN = 2 };
enum { CTRL_MAC_TABLE_SET, CTRL_MAC_ADDR_SET };
enum { CTRL_VLAN_ADD, CTRL_VLAN_DEL };
enum { CTRL_OK, CTRL_ERR };

struct control {
    u8 class, command;
};

struct virtio_net {
    struct virtio virtio;
    struct virtio_pci pci;
    struct device device;
    struct config config;
    struct net_port *port;
    u8 mac[6]; /* at power-on */
    struct net_filter filter;
    struct virtq_chain first, chain;
    u8 frame[NET_MAX_FRAME];
};

/* -- From the guest ------------------------------------------------------------------------ */

/* What the driver asks for must be negotiated, and within the frame. */
static bool offload_good(const struct virtio_net *net, const struct net_offload *offload,
                         size_t len)
{
    u8 gso = offload->gso_type & (u8)~GSO_ECN;
    bool csum = offload->flags & NEEDS_CSUM;
    if (csum && (!virtio_has(&net->virtio, F_CSUM) ||
                 (size_t)offload->csum_start + offload->csum_offset + 2 > len))
        return false;
    if (gso == GSO_NONE)
        return true;
    u64 needed = gso == GSO_TCPV4 ? F_HOST_TSO4 : gso == GSO_TCPV6 ? F_HOST_TSO6 : 0;
    return csum && virtio_has(&net->virtio, needed) && needed && offload->gso_size;
}

static void transmit(struct virtio_net *net, const struct virtq_chain *chain)
{
    struct header header;
    u64 len = chain->out_len - sizeof(header);
    if (chain->out_len < sizeof(header) + 14 || len > NET_MAX_FRAME ||
        !virtq_get(chain, 0, &header, sizeof(header)) ||
        !virtq_get(chain, sizeof(header), net->frame, len))
        return;
    if (offload_good(net, &header.offload, len) && (net->config.status & STATUS_LINK_UP))
        net->port->send(net->port->back, net->frame, len, &header.offload);
}

static void notify_transmit(struct virtio_net *net)
{
    struct virtq *queue = &net->virtio.queues[TRANSMIT];
    do {
        virtq_want_notify(queue, false);
        while (virtio_pop(&net->virtio, TRANSMIT, &net->chain)) {
            transmit(net, &net->chain);
            virtq_push(&net->chain, 0);
        }
    } while (virtio_more(&net->virtio, TRANSMIT));
    virtio_signal(&net->virtio, TRANSMIT);
}

/* -- To the guest -------------------------------------------------------------------------- */

static bool net_can_take(void *front)
{
    struct virtio_net *net = front;
    struct virtq *queue = &net->virtio.queues[RECEIVE];
    if (!virtio_live(&net->virtio))
        return false;
    /* Without room, ask to be told of some; it may come at this moment. */
    return virtq_waiting(queue) || virtq_want_notify(queue, true);
}

/* Spreads header and frame over as many buffers as it takes. False: they do not suffice, and
 * none is used. */
static bool spread(struct virtio_net *net, struct header *header, const u8 *frame, size_t len)
{
    size_t done = 0; /* of the frame */
    header->num_buffers = 0;
    struct virtq *queue = &net->virtio.queues[RECEIVE];
    struct virtq_mark mark = virtq_mark(queue);
    bool merge = virtio_has(&net->virtio, F_MRG_RXBUF);
    do {
        bool is_first = !header->num_buffers;
        struct virtq_chain *chain = is_first ? &net->first : &net->chain;
        u64 skip = is_first ? sizeof(*header) : 0;
        if ((!is_first && !merge) || !virtio_pop(&net->virtio, RECEIVE, chain))
            break;
        header->num_buffers++;
        if (chain->in_len < sizeof(*header)) {
            virtio_fail(&net->virtio, "a receive buffer without room for the header");
            return false;
        }
        u64 room = chain->in_len - skip;
        size_t part = room < len - done ? room : len - done;
        virtq_put(chain, skip, frame + done, part);
        virtq_stage(chain, header->num_buffers - 1, (u32)(skip + part));
        done += part;
    } while (done < len);
    if (done == len)
        return true;
    virtq_rewind(queue, mark);
    return false;
}

static void net_take(void *front, const void *frame, size_t len,
                     const struct net_offload *offload)
{
    struct virtio_net *net = front;
    struct header header = {.offload = *offload};
    if (!virtio_live(&net->virtio) || len < 14 ||
        !net_filter_passes(&net->filter, net->config.mac, frame, len) ||
        !(net->config.status & STATUS_LINK_UP))
        return;
    if (!virtio_has(&net->virtio, F_GUEST_CSUM))
        header.offload = (struct net_offload){0};
    if (!spread(net, &header, frame, len))
        return;
    virtq_put(&net->first, 0, &header, sizeof(header));
    virtq_publish(&net->virtio.queues[RECEIVE], header.num_buffers);
    virtio_signal(&net->virtio, RECEIVE);
}

/* -- Control (5.1.6.5) --------------------------------------------------------------------- */

static u8 control_rx(struct virtio_net *net, u8 command, const struct virtq_chain *chain)
{
    u8 on;
    u64 needed = command <= NET_FILTER_ALLMULTI ? F_CTRL_RX : F_RX_EXTRA;
    if (command >= NET_FILTER_MODES || !virtio_has(&net->virtio, needed) ||
        !virtq_get(chain, sizeof(struct control), &on, 1))
        return CTRL_ERR;
    net_filter_set_mode(&net->filter, command, on);
    return CTRL_OK;
}

/* A count and as many addresses at `*offset`, which goes behind them. */
static bool get_table(const struct virtq_chain *chain, u64 *offset, u32 *n,
                      u8 macs[NET_FILTER_MACS][6])
{
    if (!virtq_get(chain, *offset, n, sizeof(*n)))
        return false;
    u64 len = (u64)*n * 6;
    *offset += sizeof(*n);
    if (*offset + len > chain->out_len ||
        !virtq_get(chain, *offset, macs, *n < NET_FILTER_MACS ? len : NET_FILTER_MACS * 6))
        return false;
    *offset += len;
    return true;
}

/* Both tables or none. */
static u8 set_tables(struct virtio_net *net, const struct virtq_chain *chain)
{
    u8 macs[2][NET_FILTER_MACS][6];
    u32 n[2];
    u64 offset = sizeof(struct control);
    if (!get_table(chain, &offset, &n[0], macs[0]) ||
        !get_table(chain, &offset, &n[1], macs[1]))
        return CTRL_ERR;
    for (unsigned i = 0; i < 2; i++)
        net_filter_set_table(&net->filter, i, macs[i], n[i]);
    return CTRL_OK;
}

static u8 control_mac(struct virtio_net *net, u8 command, const struct virtq_chain *chain)
{
    if (command == CTRL_MAC_TABLE_SET && virtio_has(&net->virtio, F_CTRL_RX))
        return set_tables(net, chain);
    bool done = command == CTRL_MAC_ADDR_SET && virtio_has(&net->virtio, F_CTRL_MAC) &&
                virtq_get(chain, sizeof(struct control), net->config.mac, 6);
    return done ? CTRL_OK : CTRL_ERR;
}

static u8 control_vlan(struct virtio_net *net, u8 command, const struct virtq_chain *chain)
{
    u16 id;
    if (!virtio_has(&net->virtio, F_CTRL_VLAN) || command > CTRL_VLAN_DEL ||
        !virtq_get(chain, sizeof(struct control), &id, sizeof(id)) || id >= NET_FILTER_VLANS)
        return CTRL_ERR;
    net_filter_set_vlan(&net->filter, id, command == CTRL_VLAN_ADD);
    return CTRL_OK;
}

static u8 control(struct virtio_net *net, const struct virtq_chain *chain)
{
    struct control control;
    if (!virtq_get(chain, 0, &control, sizeof(control)))
        return CTRL_ERR;
    switch (control.class) {
    case CTRL_RX:
        return control_rx(net, control.command, chain);
    case CTRL_MAC:
        return control_mac(net, control.command, chain);
    case CTRL_VLAN:
        return control_vlan(net, control.command, chain);
    default:
        return CTRL_ERR;
    }
}

static void notify_control(struct virtio_net *net)
{
    while (virtio_pop(&net->virtio, CONTROL, &net->chain)) {
        u8 answer = control(net, &net->chain);
        if (!net->chain.in_len) {
            virtio_fail(&net->virtio, "a control command without room for the answer");
            return;
        }
        virtq_put(&net->chain, 0, &answer, 1);
        virtq_push(&net->chain, 1);
    }
    virtq_want_notify(&net->virtio.queues[CONTROL], true);
    virtio_signal(&net->virtio, CONTROL);
}

/* -- The device ---------------------------------------------------------------------------- */

static void net_notify(void *device, unsigned queue)
{
    struct virtio_net *net = device;
    switch (queue) {
    case RECEIVE:
        virtq_want_notify(&net->virtio.queues[RECEIVE], false);
        if (net->port->room)
            net->port->room(net->port->back);
        break;
    case TRANSMIT:
        notify_transmit(net);
        break;
    default:
        notify_control(net);
    }
}

static void net_tell_offloads(struct virtio_net *net)
{
    if (net->port->set_offloads)
        net->port->set_offloads(net->port->back, virtio_has(&net->virtio, F_GUEST_CSUM),
                                virtio_has(&net->virtio, F_GUEST_TSO4),
                                virtio_has(&net->virtio, F_GUEST_TSO6));
}

static void net_start(void *device)
{
    struct virtio_net *net = device;
    net_tell_offloads(net);
    net->filter.vlans_on = virtio_has(&net->virtio, F_CTRL_VLAN);
    if (net->port->room)
        net->port->room(net->port->back);
}

static bool net_stop(void *device)
{
    struct virtio_net *net = device;
    net->filter = (struct net_filter){0};
    memcpy(net->config.mac, net->mac, 6);
    return true;
}

static const struct virtio_class net_class = {
    .name = "virtio-net",
    .type = VIRTIO_NET_TYPE,
    .pci_class = 0x020000,
    .notify = net_notify,
    .start = net_start,
    .stop = net_stop,
};

static const struct field net_fields[] = {
    FIELD_BLOB(struct virtio_net, config.mac),
    FIELD(struct virtio_net, config.status),
    FIELD(struct virtio_net, filter.on),
    FIELD(struct virtio_net, filter.vlans_on),
    FIELD(struct virtio_net, filter.modes),
    FIELD(struct virtio_net, filter.unicast.n),
    FIELD(struct virtio_net, filter.multicast.n),
    FIELD_BLOB(struct virtio_net, filter.unicast.mac),
    FIELD_BLOB(struct virtio_net, filter.multicast.mac),
    FIELD_ARRAY(struct virtio_net, filter.vlans),
};

static bool net_post_load(void *device)
{
    struct virtio_net *net = device;
    net_tell_offloads(net);
    return true;
}

static void net_destroy(void *device)
{
    struct virtio_net *net = device;
    net->port->can_receive = NULL;
    virtio_pci_unplug(&net->pci);
    virtio_destroy(&net->virtio);
    free(net);
}

static const struct device_class net_device_class = {
    .name = "virtio-net",
    .version = 2,
    .fields = net_fields,
    .n_fields = ARRAY_LEN(net_fields),
    .post_load = net_post_load,
    .destroy = net_destroy,
};

void virtio_net_set_link(struct virtio_net *net, bool up)
{
    u16 status = up ? STATUS_LINK_UP : 0;
    if (net->config.status == status)
        return;
    net->config.status = status;
    virtio_config_changed(&net->virtio);
}

static u64 net_features(const struct virtio_net_config *config)
{
    const struct net_port *port = config->port;
    u64 features = F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC |
                   F_CTRL_VLAN | F_RX_EXTRA;
    features |= port->sends_csum ? F_CSUM : 0;
    features |= port->sends_csum && port->sends_tso ? F_HOST_TSO4 | F_HOST_TSO6 : 0;
    features |= port->receives_csum ? F_GUEST_CSUM : 0;
    features |= port->receives_tso ? F_GUEST_TSO4 | F_GUEST_TSO6 : 0;
    features |= config->packed ? VIRTIO_F_RING_PACKED : 0;
    return features | (config->mtu ? F_MTU : 0);
}

struct virtio_net *virtio_net_create(struct board *board, struct pci_host *host,
                                     const struct virtio_net_config *config)
{
    struct virtio_net *net = calloc(1, sizeof(*net));
    ensure(net);
    net->port = config->port;
    memcpy(net->mac, config->mac, 6);
    memcpy(net->config.mac, config->mac, 6);
    net->config.status = STATUS_LINK_UP;
    net->config.max_virtqueue_pairs = 1;
    net->config.mtu = config->mtu;
    device_add(board, &net->device, &net_device_class, net);
    virtio_init(&net->virtio, board, &net_class, net, net_features(config), &net->config,
                sizeof(net->config), QUEUES);
    net->port->can_receive = net_can_take;
    net->port->receive = net_take;
    net->port->front = net;
    net->pci.rom = config->rom;
    net->pci.rom_size = config->rom_size;
    return virtio_pci_plug(&net->pci, &net->virtio, host, config->slot) ? net : NULL;
}
