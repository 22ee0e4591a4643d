/* The machine's hardware as monitors show it, see hardware.h. */
#include "control/hardware.h"

#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "control/actions.h"
#include "device/pci.h"
#include "host/block/back.h"
#include "machine/pc.h"

/* -- The PCI bus --------------------------------------------------------------------------- */

/* QEMU's words for classes of ours. */
static const struct {
    u16 class;
    const char *name;
} classes[] = {
    {0x0100, "SCSI controller"},
    {0x0101, "IDE controller"},
    {0x0200, "Ethernet controller"},
    {0x0280, "Network controller"},
    {0x0300, "VGA controller"},
    {0x0380, "Display controller"},
    {0x0600, "Host bridge"},
    {0x0601, "ISA bridge"},
    {0x0680, "Bridge"},
    {0x0780, "Communication controller"},
};

static const char *class_name(u16 class)
{
    for (unsigned i = 0; i < ARRAY_LEN(classes); i++)
        if (classes[i].class == class)
            return classes[i].name;
    return NULL;
}

/* The user's name for what is in the slot. */
static const char *slot_id(struct vm *vm, int slot)
{
    const struct plugs_config *config = &vm_config(vm)->plugs;
    for (unsigned i = 0; i < config->n_devices; i++)
        if (vm_plugs(vm)->slot[i] == slot && slot > 0)
            return config->devices[i].id;
    return "";
}

static json_t *region(const struct pci_device *pci, unsigned n)
{
    const struct pci_bar *bar = &pci->bar[n];
    bool io = bar->kind == PCI_BAR_IO;
    json_t *region = json_pack(
        "{s:i, s:s, s:I, s:I}", "bar", (int)n, "type", io ? "io" : "memory", "address",
        bar->mapped ? (json_int_t)bar->region.base : -1, "size", (json_int_t)bar->size);
    if (region && !io) {
        json_object_set_new(region, "prefetch", json_boolean(bar->prefetchable));
        json_object_set_new(region, "mem_type_64", json_boolean(bar->kind == PCI_BAR_MEM64));
    }
    return region;
}

static json_t *function(struct vm *vm, const struct pci_device *pci)
{
    u16 class = pci_get16(pci, PCI_CLASS + 1);
    u8 pin = pci->config[PCI_INTERRUPT_PIN];
    const char *name = class_name(class);
    int slot = pci->devfn / PCI_FUNCTIONS, device = pci_get16(pci, PCI_DEVICE);
    json_t *info = json_pack(
        "{s:i, s:i, s:i, s:{s:i}, s:{s:i, s:i, s:i, s:i}, s:i, s:s, s:[]}", "bus", 0, "slot",
        slot, "function", pci->devfn % PCI_FUNCTIONS, "class_info", "class", class, "id",
        "device", device, "vendor", pci_get16(pci, PCI_VENDOR), "subsystem",
        pci_get16(pci, PCI_SUBSYSTEM), "subsystem-vendor", pci_get16(pci, PCI_SUBSYSTEM_VENDOR),
        "irq_pin", pin, "qdev_id", slot_id(vm, slot), "regions");
    if (info && name)
        json_object_set_new(json_object_get(info, "class_info"), "desc", json_string(name));
    if (info && pin)
        json_object_set_new(info, "irq", json_integer(pci->config[PCI_INTERRUPT_LINE]));
    for (unsigned n = 0; n <= PCI_ROM_BAR; n++)
        if (pci->bar[n].size)
            json_array_append_new(json_object_get(info, "regions"), region(pci, n));
    return info;
}

json_t *hardware_pci(struct control *control)
{
    struct vm *vm = control_vm(control);
    json_t *devices = json_array();
    board_lock(vm_board(vm));
    for (unsigned devfn = 0; devfn < PCI_SLOTS * PCI_FUNCTIONS; devfn++) {
        const struct pci_device *pci =
            pci_host_device(vm_pc(vm)->pci, devfn / PCI_FUNCTIONS, devfn % PCI_FUNCTIONS);
        if (pci)
            json_array_append_new(devices, function(vm, pci));
    }
    board_unlock(vm_board(vm));
    return json_pack("[{s:i, s:o}]", "bus", 0, "devices", devices);
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_region(const json_t *region, FILE *out)
{
    json_int_t at = number(region, "address"), end = at + number(region, "size") - 1;
    fprintf(out, "      BAR%d: ", (int)number(region, "bar"));
    if (!strcmp(json_string_value(json_object_get(region, "type")), "io"))
        fprintf(out, "I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", (u64)at, (u64)end);
    else
        fprintf(out, "%d bit%s memory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n",
                json_is_true(json_object_get(region, "mem_type_64")) ? 64 : 32,
                json_is_true(json_object_get(region, "prefetch")) ? " prefetchable" : "",
                (u64)at, (u64)end);
}

static void print_function(const json_t *info, FILE *out)
{
    const json_t *class = json_object_get(info, "class_info"),
                 *id = json_object_get(info, "id");
    const json_t *name = json_object_get(class, "desc"), *region;
    size_t n;
    fprintf(out, "  Bus  0, device %3d, function %d:\n    ", (int)number(info, "slot"),
            (int)number(info, "function"));
    if (name)
        fputs(json_string_value(name), out);
    else
        fprintf(out, "Class %04d", (int)number(class, "class"));
    fprintf(out, ": PCI device %04x:%04x\n      PCI subsystem %04x:%04x\n",
            (unsigned)number(id, "vendor"), (unsigned)number(id, "device"),
            (unsigned)number(id, "subsystem-vendor"), (unsigned)number(id, "subsystem"));
    if (number(info, "irq_pin"))
        fprintf(out, "      IRQ %d, pin %c\n", (int)number(info, "irq"),
                (char)('A' + number(info, "irq_pin") - 1));
    json_array_foreach(json_object_get(info, "regions"), n, region) print_region(region, out);
    fprintf(out, "      id \"%s\"\n", json_string_value(json_object_get(info, "qdev_id")));
}

void hardware_print_pci(struct control *control, FILE *out)
{
    json_t *buses = hardware_pci(control), *info;
    size_t n;
    json_array_foreach(json_object_get(json_array_get(buses, 0), "devices"), n, info)
        print_function(info, out);
    json_decref(buses);
}

/* -- Disks --------------------------------------------------------------------------------- */

static void put_count(json_t *stats, const char *name, const struct block_count *count,
                      bool bytes)
{
    const struct {
        const char *suffix;
        u64 value;
    } values[] = {{"%s_operations", count->operations},
                  {"%s_total_time_ns", count->ns},
                  {"failed_%s_operations", count->failed},
                  {"invalid_%s_operations", 0},
                  {"%s_bytes", count->bytes},
                  {"%s_merged", 0}};
    for (unsigned i = 0; i < ARRAY_LEN(values) - (bytes ? 0 : 2); i++) {
        char key[64];
        char *end = stpncpy(key, values[i].suffix, strcspn(values[i].suffix, "%"));
        snprintf(end, sizeof(key) - (size_t)(end - key), "%s%s", name,
                 strchr(values[i].suffix, '%') + 2);
        json_object_set_new(stats, key, json_integer((json_int_t)values[i].value));
    }
}

static json_t *disk_stats(const struct block_stats *done)
{
    json_t *stats =
        json_pack("{s:I, s:b, s:b, s:[]}", "wr_highest_offset", (json_int_t)done->highest,
                  "account_invalid", 1, "account_failed", 1, "timed_stats");
    put_count(stats, "rd", &done->read, true);
    put_count(stats, "wr", &done->write, true);
    put_count(stats, "unmap", &done->discard, true);
    put_count(stats, "flush", &done->flush, false);
    return stats;
}

json_t *hardware_block_stats(struct control *control)
{
    struct vm *vm = control_vm(control);
    json_t *list = json_array();
    for (unsigned i = 0; i < vm_config(vm)->plugs.n_disks; i++) {
        char name[64], device[80];
        action_disk_name(vm_config(vm), i, name, sizeof(name));
        action_disk_device(vm_config(vm), i, device, sizeof(device));
        board_lock(vm_board(vm));
        struct block_stats done = *block_back_stats(vm_plugs(vm)->disks[i]);
        board_unlock(vm_board(vm));
        json_t *disk = json_pack("{s:s, s:o}", "device", name, "stats", disk_stats(&done));
        if (disk && device[0])
            json_object_set_new(disk, "qdev", json_string(device));
        json_array_append_new(list, disk);
    }
    return list;
}

void hardware_print_block_stats(struct control *control, FILE *out)
{
    static const char *const keys[] = {
        "rd_bytes",         "wr_bytes",         "rd_operations",    "wr_operations",
        "flush_operations", "wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns",
        "rd_merged",        "wr_merged"};
    json_t *list = hardware_block_stats(control), *disk;
    size_t n;
    json_array_foreach(list, n, disk)
    {
        const json_t *stats = json_object_get(disk, "stats");
        fprintf(out, "%s:", json_string_value(json_object_get(disk, "device")));
        for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
            fprintf(out, " %s=%" PRId64, keys[i], (s64)number(stats, keys[i]));
        fputc('\n', out);
    }
    json_decref(list);
}

/* -- Networks ------------------------------------------------------------------------------ */

static void print_back_end(const struct net_config *net, FILE *out)
{
    static const char *const kinds[] = {
        [NET_NONE] = "none", [NET_USER] = "user", [NET_STREAM] = "stream", [NET_TAP] = "tap"};
    fprintf(out, " \\ %s: index=0,type=%s", net->id[0] ? net->id : "#net0", kinds[net->kind]);
    const u8 *network = (const u8 *)&net->network;
    if (net->kind == NET_USER && net->network)
        fprintf(out, ",net=%u.%u.%u.%u", network[0], network[1], network[2], network[3]);
    else if (net->kind == NET_USER)
        fputs(",net=10.0.2.0", out);
    if (net->kind == NET_USER)
        fprintf(out, ",restrict=%s", net->restricted ? "on" : "off");
    else if (net->kind == NET_TAP)
        fprintf(out, ",ifname=%s", net->ifname);
    fputc('\n', out);
}

void hardware_print_networks(struct control *control, FILE *out)
{
    const struct plugs_config *plugs = &vm_config(control_vm(control))->plugs;
    unsigned n = 0;
    for (unsigned i = 0; i < plugs->n_devices; i++) {
        const struct plug_config *card = &plugs->devices[i];
        if (card->kind != PLUG_NET)
            continue;
        if (card->id[0])
            fputs(card->id, out);
        else
            fprintf(out, "virtio-net-pci.%u", n);
        n++;
        fputs(": index=0,type=nic,model=virtio-net-pci,macaddr=", out);
        for (unsigned j = 0; j < sizeof(card->mac); j++)
            fprintf(out, "%s%02x", j ? ":" : "", card->mac[j]);
        fputc('\n', out);
        print_back_end(&plugs->nets[card->net].net, out);
    }
}
