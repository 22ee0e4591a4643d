/* A virtio console, see console.h. */
#include "device/virtio/console.h"

#include <stdlib.h>

#include "base/ensure.h"
#include "device/virtio/pci.h"

enum { RECEIVE, TRANSMIT, QUEUES };

#define F_EMERG_WRITE BIT(2)

/* 5.3.4 */
struct config {
    u16 cols, rows;
    u32 max_nr_ports;
    u32 emerg_wr;
};

#define PIECE 4096

struct virtio_console {
    struct virtio virtio;
    struct virtio_pci pci;
    struct device device;
    struct config config;
    struct chardev *chardev;
    struct virtq_chain chain;
};

static void transmit(struct virtio_console *console)
{
    const struct virtq_chain *chain = &console->chain;
    u8 data[PIECE];
    for (u64 at = 0; at < chain->out_len; at += PIECE) {
        u64 len = chain->out_len - at < PIECE ? chain->out_len - at : PIECE;
        if (!virtq_get(chain, at, data, len))
            return;
        chardev_write(console->chardev, data, len);
    }
}

static void console_notify(void *device, unsigned queue)
{
    struct virtio_console *console = device;
    if (queue == RECEIVE) {
        chardev_room(console->chardev);
        return;
    }
    do {
        while (virtio_pop(&console->virtio, TRANSMIT, &console->chain)) {
            transmit(console);
            virtq_push(&console->chain, 0);
        }
    } while (virtio_more(&console->virtio, TRANSMIT));
    virtio_signal(&console->virtio, TRANSMIT);
}

/* How much fits into the next buffer, without taking it. */
static size_t console_can_receive(void *front)
{
    struct virtio_console *console = front;
    struct virtq *queue = &console->virtio.queues[RECEIVE];
    struct virtq_mark mark = virtq_mark(queue);
    if (!virtio_pop(&console->virtio, RECEIVE, &console->chain)) {
        if (!virtio_more(&console->virtio, RECEIVE) ||
            !virtio_pop(&console->virtio, RECEIVE, &console->chain))
            return 0;
    }
    virtq_rewind(queue, mark);
    return console->chain.in_len < PIECE ? console->chain.in_len : PIECE;
}

static void console_receive(void *front, const u8 *data, size_t len)
{
    struct virtio_console *console = front;
    if (!virtio_pop(&console->virtio, RECEIVE, &console->chain))
        return;
    bool put = virtq_put(&console->chain, 0, data, len);
    virtq_push(&console->chain, put ? (u32)len : 0);
    virtio_signal(&console->virtio, RECEIVE);
}

/* 5.3.6.1: works before the driver is live. */
static void console_config_write(void *device, u64 offset, unsigned size, u64 value)
{
    struct virtio_console *console = device;
    u8 c = (u8)value;
    if (offset == offsetof(struct config, emerg_wr))
        chardev_write(console->chardev, &c, 1);
}

static void console_start(void *device)
{
    struct virtio_console *console = device;
    chardev_room(console->chardev);
}

static const struct virtio_class console_class = {
    .name = "virtio-console",
    .type = 3,
    .pci_class = 0x078000,
    .notify = console_notify,
    .config_write = console_config_write,
    .start = console_start,
};

static void console_destroy(void *device)
{
    struct virtio_console *console = device;
    console->chardev->can_receive = NULL;
    virtio_pci_unplug(&console->pci);
    virtio_destroy(&console->virtio);
    free(console);
}

static const struct device_class console_device_class = {
    .name = "virtio-console",
    .version = 1,
    .destroy = console_destroy,
};

struct virtio_console *virtio_console_create(struct board *board, struct pci_host *host,
                                             struct chardev *chardev, int slot)
{
    struct virtio_console *console = calloc(1, sizeof(*console));
    ensure(console);
    console->chardev = chardev;
    device_add(board, &console->device, &console_device_class, console);
    virtio_init(&console->virtio, board, &console_class, console, F_EMERG_WRITE,
                &console->config, sizeof(console->config), QUEUES);
    chardev->can_receive = console_can_receive;
    chardev->receive = console_receive;
    chardev->front = console;
    return virtio_pci_plug(&console->pci, &console->virtio, host, slot) ? console : NULL;
}
