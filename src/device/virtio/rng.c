/* A virtio entropy device, see rng.h. */
#include "device/virtio/rng.h"

#include <stdlib.h>

#include "base/ensure.h"
#include "device/virtio/pci.h"

#define MOST 4096 /* bytes for one request: less than asked for is allowed (5.4.6.2) */

struct virtio_rng {
    struct virtio virtio;
    struct virtio_pci pci;
    struct device device;
    struct entropy entropy;
    struct virtq_chain chain;
};

static void rng_notify(void *device, unsigned queue)
{
    struct virtio_rng *rng = device;
    u8 data[MOST];
    do {
        while (virtio_pop(&rng->virtio, queue, &rng->chain)) {
            u64 len = rng->chain.in_len < MOST ? rng->chain.in_len : MOST;
            rng->entropy.fill(rng->entropy.opaque, data, len);
            bool put = virtq_put(&rng->chain, 0, data, len);
            virtq_push(&rng->chain, put ? (u32)len : 0);
        }
    } while (virtio_more(&rng->virtio, queue));
    virtio_signal(&rng->virtio, queue);
}

static const struct virtio_class rng_class = {
    .name = "virtio-rng",
    .type = 4,
    .pci_class = 0xff0000,
    .notify = rng_notify,
};

static void rng_destroy(void *device)
{
    struct virtio_rng *rng = device;
    virtio_pci_unplug(&rng->pci);
    virtio_destroy(&rng->virtio);
    free(rng);
}

static const struct device_class rng_device_class = {
    .name = "virtio-rng",
    .version = 1,
    .destroy = rng_destroy,
};

struct virtio_rng *virtio_rng_create(struct board *board, struct pci_host *host,
                                     struct entropy entropy, int slot)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));
    ensure(rng);
    rng->entropy = entropy;
    device_add(board, &rng->device, &rng_device_class, rng);
    virtio_init(&rng->virtio, board, &rng_class, rng, 0, NULL, 0, 1);
    return virtio_pci_plug(&rng->pci, &rng->virtio, host, slot) ? rng : NULL;
}
