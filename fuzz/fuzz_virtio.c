/*
 * Virtio devices against a hostile driver: registers, rings and descriptors as the input says,
 * with back ends that answer at once, late or with errors. Each 16 bytes are one step. The
 * sanitizers and ensure() judge.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/apic_bus.h"
#include "device/gsi.h"
#include "device/virtio/balloon.h"
#include "device/virtio/blk.h"
#include "device/virtio/console.h"
#include "device/virtio/net.h"
#include "device/virtio/p9.h"
#include "device/virtio/pci.h"
#include "device/virtio/rng.h"
#include "memory/pmap.h"
#include "platform/ram.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define MEMORY      (4 * MiB)
#define FIRST_SLOT  2
#define DEVICES     6
#define RING_SIZE   16
#define RINGS       0x10000ull /* queue q of device d: 1 KiB each from here */
#define DISK        (1 * MiB)
#define MAX_WAITING 1024

struct world {
    struct log log;
    struct board board;
    struct gsi gsi;
    struct pci_host *pci;
    struct virtio_balloon *balloon;
    struct block block;
    struct net_port net;
    struct chardev chardev;
    struct share share;
    struct share_request *messages[MAX_WAITING];
    unsigned n_messages;
    struct block_request *waiting[MAX_WAITING];
    unsigned n_waiting;
    u32 mood; /* of the back ends */
};

/* -- Back ends ----------------------------------------------------------------------------- */

static void answer(struct world *world, struct block_request *request)
{
    ensure(request->offset + request->len <= DISK);
    request->error = world->mood & 4 ? EIO : 0;
    if (request->op != BLOCK_READ)
        return;
    if (request->data)
        memset(request->data, 0x5a, request->len);
    u64 total = 0;
    for (unsigned i = 0; !request->data && i < request->n_parts; i++) {
        memset(request->parts[i].iov_base, 0x5a, request->parts[i].iov_len);
        total += request->parts[i].iov_len;
    }
    ensure(request->data || total == request->len);
}

static bool disk_submit(void *back, struct block_request *request)
{
    struct world *world = back;
    if (world->mood & 1 || world->n_waiting == MAX_WAITING) {
        answer(world, request);
        return true;
    }
    world->waiting[world->n_waiting++] = request;
    return false;
}

static void complete_one(struct world *world)
{
    if (!world->n_waiting)
        return;
    struct block_request *request = world->waiting[--world->n_waiting];
    answer(world, request);
    request->done(request);
}

static void disk_drain(void *back)
{
    struct world *world = back;
    while (world->n_waiting)
        complete_one(world);
}

static void net_send(void *back, const void *frame, size_t len,
                     const struct net_offload *offload)
{
    struct world *world = back;
    ensure(len <= NET_MAX_FRAME);
    /* What goes out comes back. */
    if (world->mood & 2)
        net_receive(&world->net, frame, len, offload);
}

static void share_answer(struct world *world, struct share_request *request)
{
    u32 len = request->in_len < request->out_size ? request->in_len : request->out_size;
    memcpy(request->out, request->in, len);
    request->out_len = world->mood & 4 ? 0 : len;
    request->done(request);
}

static void share_drain(void *back)
{
    struct world *world = back;
    while (world->n_messages)
        share_answer(world, world->messages[--world->n_messages]);
}

static void share_submit(void *back, struct share_request *request)
{
    struct world *world = back;
    if (world->n_messages == MAX_WAITING)
        share_drain(world);
    world->messages[world->n_messages++] = request;
}

static void char_write(void *back, const u8 *data, size_t len) {}

static void fill_entropy(void *opaque, void *buf, size_t len)
{
    memset(buf, 0xa5, len);
}

/* -- The machine --------------------------------------------------------------------------- */

static u64 stopped_clock(void *opaque)
{
    return 0;
}

static void world_init(struct world *world)
{
    struct error err;
    *world = (struct world){.log.fd = 2};
    board_init(&world->board, &world->log);
    world->board.clock.now = stopped_clock;
    world->board.pmap = pmap_create(MEMORY, &err);
    ensure(world->board.pmap);
    world->pci =
        pci_host_create(&world->board, &world->gsi, apic_bus_create(&world->board, 46));
    world->block = (struct block){.size = DISK,
                                  .discards = true,
                                  .submit = disk_submit,
                                  .drain = disk_drain,
                                  .back = world};
    world->net = (struct net_port){.send = net_send,
                                   .back = world,
                                   .sends_csum = true,
                                   .sends_tso = true,
                                   .receives_csum = true};
    world->chardev = (struct chardev){.write = char_write};
    world->share = (struct share){share_submit, share_drain, world};
    const struct virtio_p9_config p9 = {.share = &world->share, .tag = "share", .slot = 7};
    const struct virtio_blk_config blk = {
        .block = &world->block, .queues = 2, .packed = true, .slot = 2};
    const struct virtio_net_config net = {.port = &world->net, .packed = true, .slot = 3};
    const struct virtio_balloon_config balloon = {.free_page_reporting = true, .slot = 4};
    struct board *board = &world->board;
    ensure(virtio_blk_create(board, world->pci, &blk));
    ensure(virtio_net_create(board, world->pci, &net));
    world->balloon = virtio_balloon_create(board, world->pci, &balloon);
    ensure(world->balloon);
    ensure(virtio_console_create(board, world->pci, &world->chardev, 5));
    ensure(virtio_rng_create(board, world->pci, (struct entropy){.fill = fill_entropy}, 6));
    ensure(virtio_p9_create(board, world->pci, &p9));
    board_lock(board);
    pci_host_assign(world->pci);
    board_unlock(board);
}

static void world_destroy(struct world *world)
{
    board_destroy(&world->board);
    pmap_destroy(world->board.pmap);
}

/* -- The driver ---------------------------------------------------------------------------- */

static u32 config_read(struct world *world, unsigned device, unsigned offset)
{
    bus_write(&world->board, BUS_PIO, 0xcf8, 4,
              0x80000000 | (FIRST_SLOT + device) << 11 | (offset & 0xfc));
    return (u32)bus_read(&world->board, BUS_PIO, 0xcfc, 4);
}

static u64 bar(struct world *world, unsigned device)
{
    return config_read(world, device, PCI_BAR + 4 * VIRTIO_PCI_BAR) & ~15u;
}

static void reg(struct world *world, unsigned device, u64 offset, unsigned size, u64 value)
{
    bus_write(&world->board, BUS_MMIO, bar(world, device) + offset, size, value);
}

static u64 ring_of(unsigned device, unsigned queue)
{
    return RINGS + (device * 8 + queue) * 1024ull;
}

/* A driver that does everything right so far. */
static void start(struct world *world, unsigned device, u64 features)
{
    reg(world, device, 20, 1, 0);
    while (world->n_waiting)
        complete_one(world);
    reg(world, device, 20, 1, 3);
    for (unsigned half = 0; half < 2; half++) {
        reg(world, device, 0, 4, half);
        u64 offered = bus_read(&world->board, BUS_MMIO, bar(world, device) + 4, 4);
        reg(world, device, 8, 4, half);
        reg(world, device, 12, 4, half ? offered & (1 | features >> 32) : offered & features);
    }
    reg(world, device, 20, 1, 11);
    for (unsigned queue = 0; queue < 4; queue++) {
        u64 ring = ring_of(device, queue);
        u8 zero[1024] = {0};
        ram_write(&world->board, gpa(ring), zero, sizeof(zero));
        reg(world, device, 22, 2, queue);
        reg(world, device, 24, 2, RING_SIZE);
        reg(world, device, 32, 8, ring);
        reg(world, device, 40, 8, ring + 512);
        reg(world, device, 48, 8, ring + 768);
        reg(world, device, 28, 2, 1);
    }
    reg(world, device, 20, 1, 15);
}

/* Offers a head and notifies. In a packed ring the descriptor's AVAIL flag offers it. */
static void offer(struct world *world, unsigned device, unsigned queue, u16 head)
{
    u64 flags_at = ring_of(device, queue) + 16 * (head % RING_SIZE) + 14;
    u16 flags;
    ram_read(&world->board, gpa(flags_at), &flags, 2);
    flags ^= 0x80;
    ram_write(&world->board, gpa(flags_at), &flags, 2);
    u64 avail = ring_of(device, queue) + 512;
    u16 idx;
    ram_read(&world->board, gpa(avail + 2), &idx, 2);
    ram_write(&world->board, gpa(avail + 4 + 2ull * (idx % RING_SIZE)), &head, 2);
    idx++;
    ram_write(&world->board, gpa(avail + 2), &idx, 2);
    reg(world, device, 3 * 4096 + 4 * queue, 2, queue);
}

/* -- Steps --------------------------------------------------------------------------------- */

struct step {
    u8 what, device, queue, n;
    u32 small;
    u64 value;
};

/* Mostly sensible buffers, in RAM; now and then any. */
static void describe(struct world *world, const struct step *step)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } desc = {step->value % MEMORY, step->small & 0xfff, step->small >> 16 & 7,
              step->small >> 24 & 15};
    if (step->n & 0x80) {
        desc.addr = step->value;
        desc.len = step->small;
    }
    ram_write(&world->board, gpa(ring_of(step->device, step->queue) + 16ull * (step->n & 15)),
              &desc, sizeof(desc));
}

/* A block request's header, so that more than its type is reached. */
static void put_header(struct world *world, const struct step *step)
{
    static const u32 types[] = {0, 1, 4, 8, 11, 13, 99, 0};
    const struct {
        u32 type, reserved;
        u64 sector;
    } header = {types[step->n & 7], 0, step->small % (DISK / 256)};
    ram_write(&world->board, gpa(step->value % MEMORY), &header, sizeof(header));
}

static void outside(struct world *world, const struct step *step)
{
    u8 frame[2048];
    memset(frame, step->n, sizeof(frame));
    board_lock(&world->board);
    world->mood = step->small;
    world->block.takes_parts = world->mood & 8;
    complete_one(world);
    if (world->n_messages)
        share_answer(world, world->messages[--world->n_messages]);
    net_receive(&world->net, frame, 14 + step->value % (sizeof(frame) - 14), NULL);
    size_t room =
        world->chardev.can_receive ? world->chardev.can_receive(world->chardev.front) : 0;
    if (room)
        world->chardev.receive(world->chardev.front, frame, room < 7 ? room : 7);
    virtio_balloon_set_target(world->balloon, step->value);
    /* Asks at once, once: the clock stands. */
    virtio_balloon_poll(world->balloon, 0);
    virtio_balloon_poll(world->balloon, 1);
    clock_run(&world->board.clock);
    board_unlock(&world->board);
}

static void take_step(struct world *world, struct step step)
{
    unsigned size = 1u << (step.n & 3);
    step.device %= DEVICES;
    step.queue %= 4;
    switch (step.what % 12) {
    case 0:
        start(world, step.device, step.value);
        break;
    case 1:
    case 2:
    case 3:
        describe(world, &step);
        break;
    case 4:
        put_header(world, &step);
        break;
    case 5:
    case 6:
        offer(world, step.device, step.queue, step.n & 15);
        break;
    case 7:
        reg(world, step.device, step.small % (4 * 4096), size, step.value);
        break;
    case 8:
        bus_read(&world->board, BUS_MMIO, bar(world, step.device) + step.small % (4 * 4096),
                 size);
        break;
    case 9:
        ram_write(&world->board, gpa(RINGS + step.small % 0x10000), &step.value, size);
        break;
    case 10:
        outside(world, &step);
        break;
    default:
        config_read(world, step.device, step.n);
        bus_write(&world->board, BUS_PIO, 0xcfc, 4, step.value);
        /* Decoding on again, or nothing is reached any more. */
        board_lock(&world->board);
        pci_host_assign(world->pci);
        board_unlock(&world->board);
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct world *world = malloc(sizeof(*world));
    ensure(world);
    world_init(world);
    for (unsigned device = 0; device < DEVICES; device++)
        start(world, device, ~VIRTIO_F_RING_PACKED);
    struct step step;
    for (; size >= sizeof(step); data += sizeof(step), size -= sizeof(step)) {
        memcpy(&step, data, sizeof(step));
        take_step(world, step);
    }
    board_lock(&world->board);
    devices_reset(&world->board);
    board_unlock(&world->board);
    world_destroy(world);
    free(world);
    return 0;
}
