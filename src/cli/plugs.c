/* Disks, networks and virtio devices on the command line, see plugs.h. */
#include "cli/plugs.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "cli/drives.h"
#include "cli/lines.h"
#include "cli/shares.h"
#include "cli/words.h"
#include "device/virtio/virtio.h"

struct plug_config *plugs_add(struct run_options *o, enum plug_kind kind, struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (plugs->n_devices == PLUGS_MAX_DEVICES) {
        error_set(err, "-device: more than %d devices", PLUGS_MAX_DEVICES);
        return NULL;
    }
    struct plug_config *plug = &plugs->devices[plugs->n_devices++];
    *plug = (struct plug_config){.kind = kind, .slot = -1, .boot_index = -1};
    return plug;
}

/* -- Devices ------------------------------------------------------------------------------- */

/* "addr=SLOT[.0]" of every PCI device. */
static bool device_slot(struct plug_config *plug, const char *value, struct error *err)
{
    char text[16] = "";
    u64 slot;
    size_t length = strcspn(value, ".");
    bool function_0 = !value[length] || !strcmp(value + length, ".0");
    memcpy(text, value, length < sizeof(text) ? length : sizeof(text) - 1);
    if (!function_0)
        return error_set(err, "-device: addr=%.60s: devices have one function, 0", value);
    /* QEMU reads this number as hexadecimal. */
    char number[20] = "0x";
    strcat(number, !strncmp(text, "0x", 2) ? text + 2 : text);
    if (!words_number("-device addr", number, 2, PCI_SLOTS - 1, &slot, err))
        return false;
    plug->slot = (int)slot;
    return true;
}

static bool device_boot_index(struct plug_config *plug, const char *value, struct error *err)
{
    u64 index;
    if (!words_number("-device bootindex", value, 0, 255, &index, err))
        return false;
    plug->boot_index = (int)index;
    return true;
}

static bool net_mac(struct plug_config *plug, const char *value, struct error *err)
{
    int end = 0;
    u8 *mac = plug->mac;
    if (sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
               &mac[3], &mac[4], &mac[5], &end) != 6 ||
        value[end] || mac[0] & 1)
        return error_set(
            err, "-nic, -device: mac=%.60s is not a card's address, as in 52:54:00:12:34:56",
            value);
    return true;
}

static bool net_netdev(struct run_options *o, struct plug_config *plug, const char *value,
                       struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    for (unsigned i = 0; i < plugs->n_nets; i++) {
        if (!plugs->nets[i].net.id[0] || strcmp(plugs->nets[i].net.id, value))
            continue;
        if (plugs->nets[i].used)
            return error_set(err, "-device: netdev '%.60s' is in use by another device", value);
        plugs->nets[i].used = true;
        plug->net = i;
        return true;
    }
    return error_set(err, "-device: no -netdev with id=%.60s", value);
}

static bool net_property(struct run_options *o, struct plug_config *plug,
                         const struct word *word, struct error *err)
{
    u64 mtu;
    if (!strcmp(word->key, "netdev"))
        return net_netdev(o, plug, word->value, err);
    if (!strcmp(word->key, "mac"))
        return net_mac(plug, word->value, err);
    if (!strcmp(word->key, "romfile")) {
        plug->rom_given = true;
        return words_copy("-device romfile", word->value, plug->rom, sizeof(plug->rom), err);
    }
    if (strcmp(word->key, "host_mtu"))
        return error_set(err, "-device virtio-net-pci: no property '%s'", word->key);
    if (!words_number("-device host_mtu", word->value, 68, 65521, &mtu, err))
        return false;
    plug->mtu = (u16)mtu;
    return true;
}

static bool net_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    static const u8 none[6], first[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    struct plugs_config *plugs = &o->vm.plugs;
    if (plug->net == PLUGS_MAX_NETS)
        return error_set(err, "-device virtio-net-pci: no netdev=ID");
    if (memcmp(plug->mac, none, 6))
        return true;
    /* QEMU's addresses: the first card's, and one more for each that follows. */
    memcpy(plug->mac, first, 6);
    plug->mac[5] += (u8)plugs->n_cards++;
    return true;
}

static bool balloon_property(struct run_options *o, struct plug_config *plug,
                             const struct word *word, struct error *err)
{
    if (!strcmp(word->key, "deflate-on-oom"))
        return words_switch("-device deflate-on-oom", word->value, &plug->deflate_on_oom, err);
    if (!strcmp(word->key, "free-page-reporting"))
        return words_switch("-device free-page-reporting", word->value,
                            &plug->free_page_reporting, err);
    return error_set(err, "-device virtio-balloon-pci: no property '%s'", word->key);
}

static bool balloon_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    const struct plugs_config *plugs = &o->vm.plugs;
    for (unsigned i = 0; i + 1 < plugs->n_devices; i++)
        if (plugs->devices[i].kind == PLUG_BALLOON)
            return error_set(err, "-device: one balloon is enough");
    return true;
}

static bool rng_property(struct run_options *o, struct plug_config *plug,
                         const struct word *word, struct error *err)
{
    static const char *const ignored[] = {"rng", "max-bytes", "period", NULL};
    return words_among(word->key, ignored) ||
           error_set(err, "-device virtio-rng-pci: no property '%s'", word->key);
}

static bool console_property(struct run_options *o, struct plug_config *plug,
                             const struct word *word, struct error *err)
{
    if (!strcmp(word->key, "name"))
        return true;
    if (strcmp(word->key, "chardev"))
        return error_set(err, "-device virtconsole: no property '%s'", word->key);
    return lines_use(o, "-device", word->value, &plug->line, err);
}

static bool debug_port(const char *value, u16 *to, struct error *err)
{
    u64 port;
    if (!words_number("isa-debugcon iobase", value, 1, 0xffff, &port, err))
        return false;
    *to = (u16)port;
    return true;
}

static bool debug_property(struct run_options *o, struct plug_config *plug,
                           const struct word *word, struct error *err)
{
    if (!strcmp(word->key, "chardev"))
        return lines_use(o, "-device", word->value, &plug->line, err);
    if (strcmp(word->key, "iobase"))
        return error_set(err, "-device isa-debugcon: no property '%s'", word->key);
    return debug_port(word->value, &plug->port, err);
}

static bool debug_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    if (!plug->port)
        plug->port = o->debug_port ? o->debug_port : 0xe9;
    return plug->line < PLUGS_MAX_LINES ||
           error_set(err, "-device isa-debugcon: no chardev=ID");
}

static bool testdev_property(struct run_options *o, struct plug_config *plug,
                             const struct word *word, struct error *err)
{
    return error_set(err, "-device pc-testdev and pci-testdev: no property '%s'", word->key);
}

static bool console_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    return plug->line < PLUGS_MAX_LINES || error_set(err, "-device virtconsole: no chardev=ID");
}

static const struct device_kind {
    const char *name; /* without "virtio-" and "-pci" */
    enum plug_kind kind;
    bool (*property)(struct run_options *options, struct plug_config *plug,
                     const struct word *word, struct error *err);
    bool (*check)(struct run_options *options, struct plug_config *plug, struct error *err);
} device_kinds[] = {
    {"blk", PLUG_BLK, drives_blk_property, drives_check},
    {"net", PLUG_NET, net_property, net_check},
    {"rng", PLUG_RNG, rng_property, NULL},
    {"balloon", PLUG_BALLOON, balloon_property, balloon_check},
    {"console", PLUG_CONSOLE, console_property, console_check},
    {"9p", PLUG_P9, shares_property, shares_check},
};

/* Those whose names say all. */
static const struct device_kind plain_kinds[] = {
    {"ide-hd", PLUG_IDE, drives_ide_property, drives_check},
    {"ide-cd", PLUG_IDE_CD, drives_ide_property, drives_check},
    {"floppy", PLUG_FLOPPY, drives_floppy_property, drives_check},
    {"isa-debugcon", PLUG_DEBUG, debug_property, debug_check},
    {"pc-testdev", PLUG_TESTDEV, testdev_property, NULL},
    {"pci-testdev", PLUG_PCI_TESTDEV, testdev_property, NULL},
};

/* "virtio-KIND", "virtio-KIND-pci", "virtio-KIND-pci-non-transitional". */
static const struct device_kind *find_kind(const char *name)
{
    static const char *const endings[] = {"", "-pci", "-pci-non-transitional", NULL};
    for (unsigned i = 0; i < ARRAY_LEN(plain_kinds); i++)
        if (!strcmp(name, plain_kinds[i].name))
            return &plain_kinds[i];
    if (strncmp(name, "virtio-", 7))
        return NULL;
    for (unsigned i = 0; i < ARRAY_LEN(device_kinds); i++) {
        size_t length = strlen(device_kinds[i].name);
        if (!strncmp(name + 7, device_kinds[i].name, length) &&
            words_among(name + 7 + length, endings))
            return &device_kinds[i];
    }
    return NULL;
}

/* In QEMU's form, which scripts look through for what they need. */
void plugs_list_devices(FILE *out)
{
    fputs("name \"isa-debug-exit\"\nname \"virtconsole\"\n", out);
    for (unsigned i = 0; i < ARRAY_LEN(plain_kinds); i++)
        fprintf(out, "name \"%s\"\n", plain_kinds[i].name);
    for (unsigned i = 0; i < ARRAY_LEN(device_kinds); i++)
        fprintf(out, "name \"virtio-%s-pci\", bus PCI\n", device_kinds[i].name);
}

static bool device_property(struct run_options *o, const struct device_kind *kind,
                            struct plug_config *plug, const struct word *word,
                            struct error *err)
{
    static const char *const ignored[] = {"bus", "disable-legacy", "disable-modern", NULL};
    bool on_pci = !strncmp(kind->name, "ide-", 4) ? false : strcmp(kind->name, "floppy");
    if (!word->value)
        return error_set(err, "-device: '%s' has no value", word->key);
    if (!strcmp(word->key, "bootindex"))
        return device_boot_index(plug, word->value, err);
    if (!strcmp(word->key, "id"))
        return words_copy("-device id", word->value, plug->id, sizeof(plug->id), err);
    if ((on_pci && words_among(word->key, ignored)))
        return true;
    if (on_pci && !strcmp(word->key, "addr"))
        return device_slot(plug, word->value, err);
    if (!strcmp(word->key, "packed") && (kind->kind == PLUG_BLK || kind->kind == PLUG_NET))
        return words_switch("-device packed", word->value, &plug->packed, err);
    if (!kind->property)
        return error_set(err, "-device virtio-%s-pci: no property '%s'", kind->name, word->key);
    return kind->property(o, plug, word, err);
}

bool plugs_add_device(struct run_options *o, const char *name, const char *list,
                      struct error *err)
{
    struct word word;
    err->text[0] = 0;
    /* In QEMU a bus and its consoles; here each console is a device of its own. */
    if (!strcmp(name, "virtio-serial") || !strcmp(name, "virtio-serial-pci"))
        return true;
    const struct device_kind *kind =
        find_kind(strcmp(name, "virtconsole") ? name : "virtio-console");
    if (!kind)
        return false;
    struct plug_config *plug = plugs_add(o, kind->kind, err);
    if (!plug)
        return false;
    plug->disk = PLUGS_MAX_DISKS;
    plug->net = PLUGS_MAX_NETS;
    plug->share = PLUGS_MAX_SHARES;
    plug->line = PLUGS_MAX_LINES;
    while (words_next(&list, &word))
        if (!device_property(o, kind, plug, &word, err))
            return false;
    const struct plugs_config *plugs = &o->vm.plugs;
    if (!words_new_id("-device", plug->id, plugs->devices->id, plugs->n_devices - 1,
                      sizeof(*plug), err))
        return false;
    return !kind->check || kind->check(o, plug, err);
}

/* -- Networks ------------------------------------------------------------------------------ */

static bool net_switch(const char *value, bool *on, struct error *err)
{
    if (!strcmp(value, "y") || !strcmp(value, "yes") || !strcmp(value, "n") ||
        !strcmp(value, "no")) {
        *on = value[0] == 'y';
        return true;
    }
    return words_switch("-netdev user,restrict", value, on, err);
}

static bool ipv4(const char *key, const char *text, u32 *address, struct error *err)
{
    struct in_addr parsed;
    if (inet_pton(AF_INET, text, &parsed) != 1)
        return error_set(err, "-netdev: %s=%.60s is not an IPv4 address", key, text);
    *address = parsed.s_addr;
    return true;
}

/* "10.0.2.0/24" or "10.0.2.0/255.255.255.0" */
static bool net_network(struct net_config *net, const char *value, struct error *err)
{
    char address[32] = "";
    size_t length = strcspn(value, "/");
    const char *mask = value + length + (value[length] == '/');
    u64 bits = 24;
    if (length >= sizeof(address))
        return error_set(err, "-netdev: net=%.60s is not a network", value);
    memcpy(address, value, length);
    if (strchr(mask, '.')) {
        if (!ipv4("net", mask, &net->mask, err))
            return false;
    } else {
        if (*mask && !words_number("-netdev net", mask, 4, 30, &bits, err))
            return false;
        net->mask = htonl(0xffffffffu << (32 - bits));
    }
    if (!ipv4("net", address, &net->network, err))
        return false;
    net->network &= net->mask;
    return true;
}

/* "[HOST]:PORT", the end of the text or `stop` behind it; moves *text there. */
static bool endpoint(const char **text, char stop, u32 *address, u16 *port, struct error *err)
{
    char host[32] = "", number[8] = "";
    size_t host_length = strcspn(*text, ":");
    const char *from = *text + host_length + 1;
    size_t length = (*text)[host_length] ? strcspn(from, "-") : 0;
    u64 value;
    if (!length || length >= sizeof(number) || host_length >= sizeof(host) ||
        from[length] != stop)
        return error_set(err, "-netdev: hostfwd=%.80s is not [HOST]:PORT-[GUEST]:PORT", *text);
    memcpy(host, *text, host_length);
    memcpy(number, from, length);
    *address = 0;
    if (host_length && !ipv4("hostfwd", host, address, err))
        return false;
    if (!words_number("-netdev hostfwd port", number, 0, 65535, &value, err))
        return false;
    *port = (u16)value;
    *text = from + length + (stop != 0);
    return true;
}

static bool net_forward(struct net_config *net, const char *value, struct error *err)
{
    if (net->n_forwards == NET_MAX_FORWARDS)
        return error_set(err, "-netdev: more than %d of hostfwd", NET_MAX_FORWARDS);
    struct net_forward *forward = &net->forwards[net->n_forwards++];
    size_t length = strcspn(value, ":");
    forward->udp = length == 3 && !strncmp(value, "udp", 3);
    bool tcp = !length || (length == 3 && !strncmp(value, "tcp", 3));
    if ((!forward->udp && !tcp) || !value[length])
        return error_set(err,
                         "-netdev: hostfwd=%.80s begins with neither tcp: nor udp:", value);
    value += length + 1;
    return endpoint(&value, '-', &forward->host_addr, &forward->host_port, err) &&
           endpoint(&value, 0, &forward->guest_addr, &forward->guest_port, err);
}

static bool net_set_user(struct net_config *net, const struct word *word, struct error *err)
{
    static const char *const ignored[] = {"ipv4", "ipv6", NULL};
    const char *key = word->key, *value = word->value;
    if (!strcmp(key, "restrict"))
        return net_switch(value, &net->restricted, err);
    if (!strcmp(key, "net"))
        return net_network(net, value, err);
    if (!strcmp(key, "host"))
        return ipv4(key, value, &net->host, err);
    if (!strcmp(key, "dns"))
        return ipv4(key, value, &net->dns, err);
    if (!strcmp(key, "dhcpstart"))
        return ipv4(key, value, &net->dhcp_start, err);
    if (!strcmp(key, "hostname"))
        return words_copy("-netdev hostname", value, net->hostname, sizeof(net->hostname), err);
    if (!strcmp(key, "hostfwd"))
        return net_forward(net, value, err);
    return words_among(key, ignored) ||
           error_set(err,
                     "-netdev user: '%s' is not supported; there are hostfwd, restrict, net, "
                     "host, dhcpstart, dns and hostname",
                     key);
}

static bool net_port_number(struct net_config *net, const char *value, struct error *err)
{
    u64 port;
    if (!words_number("-netdev addr.port", value, 1, 65535, &port, err))
        return false;
    net->port = (u16)port;
    return true;
}

static bool net_set_stream(struct net_config *net, const struct word *word, struct error *err)
{
    const char *key = word->key, *value = word->value;
    if (!strcmp(key, "server"))
        return words_switch("-netdev server", value, &net->server, err);
    if (!strcmp(key, "addr.path"))
        return words_copy("-netdev addr.path", value, net->path, sizeof(net->path), err);
    if (!strcmp(key, "addr.host"))
        return words_copy("-netdev addr.host", value, net->address, sizeof(net->address), err);
    if (!strcmp(key, "addr.port"))
        return net_port_number(net, value, err);
    if (!strcmp(key, "addr.type") && (!strcmp(value, "unix") || !strcmp(value, "inet")))
        return true;
    bool on; /* of which there is one */
    if (!strcmp(key, "addr.ipv4") && words_switch("-netdev addr.ipv4", value, &on, err) && on)
        return true;
    if (!strcmp(key, "addr.ipv6") && words_switch("-netdev addr.ipv6", value, &on, err) && !on)
        return true;
    return error_set(
        err,
        "-netdev stream: '%s=%.60s' is not supported; there are server, addr.type, "
        "addr.path, addr.host and addr.port",
        key, value);
}

static bool net_set_tap(struct net_config *net, const struct word *word, struct error *err)
{
    bool script = !strcmp(word->key, "script") || !strcmp(word->key, "downscript");
    if (!strcmp(word->key, "ifname"))
        return words_copy("-netdev ifname", word->value, net->ifname, sizeof(net->ifname), err);
    if (script && !strcmp(word->value, "no"))
        return true;
    return error_set(err,
                     "-netdev tap: '%s=%.60s' is not supported; there are ifname, and "
                     "script=no and downscript=no",
                     word->key, word->value);
}

/* What a kind of network cannot do without. */
static bool net_complete(const struct net_config *net, struct error *err)
{
    if (net->kind == NET_STREAM && !net->path[0] && !net->port)
        return error_set(err, "-netdev stream: no addr.path, or addr.host and addr.port");
    if (net->kind == NET_TAP && !net->ifname[0])
        return error_set(err, "-netdev tap: no ifname");
    return true;
}

static bool net_kind(struct net_config *net, const char *option, const char *name,
                     struct error *err)
{
    if (!strcmp(name, "user"))
        net->kind = NET_USER;
    else if (!strcmp(name, "none"))
        net->kind = NET_NONE;
    else if (!strcmp(name, "stream"))
        net->kind = NET_STREAM;
    else if (!strcmp(name, "tap"))
        net->kind = NET_TAP;
    else
        return error_set(err,
                         "%s: network '%.60s' is not supported; use user, stream, tap or none",
                         option, name);
    return true;
}

static bool net_set(struct net_config *net, const struct word *word, struct error *err)
{
    if (!word->value)
        return error_set(err, "-netdev: '%s' has no value", word->key);
    if (!strcmp(word->key, "id"))
        return words_copy("-netdev id", word->value, net->id, sizeof(net->id), err);
    switch (net->kind) {
    case NET_USER:
        return net_set_user(net, word, err);
    case NET_STREAM:
        return net_set_stream(net, word, err);
    case NET_TAP:
        return net_set_tap(net, word, err);
    default:
        return error_set(err, "-netdev: '%s' is not supported", word->key);
    }
}

static struct network_config *add_net(struct run_options *o, struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (plugs->n_nets == PLUGS_MAX_NETS) {
        error_set(err, "-netdev: more than %d networks", PLUGS_MAX_NETS);
        return NULL;
    }
    return &plugs->nets[plugs->n_nets++];
}

bool plugs_add_netdev(struct run_options *o, const char *value, struct error *err)
{
    struct network_config *network = add_net(o, err);
    struct word word = {0};
    words_next(&value, &word);
    if (!network || !net_kind(&network->net, "-netdev", word.key, err))
        return false;
    while (words_next(&value, &word))
        if (!net_set(&network->net, &word, err))
            return false;
    if (!network->net.id[0])
        return error_set(err, "-netdev: no id=ID");
    const struct network_config *nets = o->vm.plugs.nets;
    return words_new_id("-netdev", network->net.id, nets->net.id, o->vm.plugs.n_nets - 1,
                        sizeof(*nets), err) &&
           net_complete(&network->net, err);
}

bool plugs_add_nic(struct run_options *o, const char *value, struct error *err)
{
    static const char *const models[] = {"virtio", "virtio-net", "virtio-net-pci", NULL};
    struct word word = {0};
    words_next(&value, &word);
    if (!strcmp(word.key, "none") && !*value)
        return true;
    struct network_config *network = add_net(o, err);
    if (!network || !net_kind(&network->net, "-nic", word.key, err))
        return false;
    struct plug_config *plug = plugs_add(o, PLUG_NET, err);
    if (!plug)
        return false;
    plug->net = o->vm.plugs.n_nets - 1;
    network->used = true;
    while (words_next(&value, &word)) {
        if (word.value && !strcmp(word.key, "model")) {
            if (!words_among(word.value, models))
                return error_set(err, "-nic: model=%.60s is not supported; use virtio",
                                 word.value);
        } else if (word.value && (!strcmp(word.key, "mac") || !strcmp(word.key, "macaddr"))) {
            if (!net_mac(plug, word.value, err))
                return false;
        } else if (!net_set(&network->net, &word, err)) {
            return false;
        }
    }
    return net_complete(&network->net, err) && net_check(o, plug, err);
}

bool plugs_add_net(struct run_options *o, const char *value, struct error *err)
{
    if (!strcmp(value, "none"))
        return true;
    bool card = !strcmp(value, "nic") || !strncmp(value, "nic,", 4);
    const char **half = card ? &o->net_card : &o->net_back;
    if (*half)
        return error_set(err, "-net: more than one card or network; give each by -nic");
    *half = value;
    return true;
}

bool plugs_join_net(struct run_options *o, struct error *err)
{
    char words[512];
    if (!o->net_card && !o->net_back)
        return true;
    if (!o->net_card || !o->net_back)
        return error_set(err, "-net: %s without %s; -nic user stands for both",
                         o->net_card ? "nic" : "a network", o->net_card ? "a network" : "nic");
    const char *properties = o->net_card + strlen("nic");
    if (snprintf(words, sizeof(words), "%s%s", o->net_back, properties) >= (int)sizeof(words))
        return error_set(err, "-net: too many words");
    return plugs_add_nic(o, words, err);
}

bool plugs_add_debugcon(struct run_options *o, const char *value, struct error *err)
{
    struct plug_config *plug = plugs_add(o, PLUG_DEBUG, err);
    return plug && lines_find(o, "-debugcon", "debugcon", value, &plug->line, err) &&
           debug_check(o, plug, err);
}

bool plugs_set_debug_port(struct run_options *o, const char *value, struct error *err)
{
    return debug_port(value, &o->debug_port, err);
}

bool plugs_have_disk(const struct plugs_config *plugs)
{
    for (unsigned i = 0; i < plugs->n_devices; i++)
        if (drives_are(plugs->devices[i].kind))
            return true;
    return false;
}
