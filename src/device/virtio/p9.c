/* A virtio 9P transport, see p9.h. */
#include "device/virtio/p9.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/virtio/pci.h"

#define F_MOUNT_TAG BIT(0)

struct config {
    u16 tag_len;
    char tag[VIRTIO_P9_MAX_TAG + 1];
};

/* A message and its answer, copied: no back end holds pointers into guest memory. */
struct request {
    struct share_request io;
    struct virtio_p9 *p9;
    struct virtq_chain chain;
    u8 bytes[]; /* the message, then room for the answer */
};

struct virtio_p9 {
    struct virtio virtio;
    struct virtio_pci pci;
    struct device device;
    struct config config;
    struct share *share;
    unsigned in_flight;
    struct virtq_chain chain;
};

static void request_done(struct share_request *io)
{
    struct request *request = container_of(io, struct request, io);
    struct virtio_p9 *p9 = request->p9;
    p9->in_flight--;
    if (p9->virtio.stopping) {
        free(request);
        if (!p9->in_flight)
            virtio_stopped(&p9->virtio);
        return;
    }
    bool put = virtq_put(&request->chain, 0, io->out, io->out_len);
    virtq_push(&request->chain, put ? io->out_len : 0);
    free(request);
    virtio_signal(&p9->virtio, 0);
}

/* False: the chain was no message, and went back. */
static bool start(struct virtio_p9 *p9)
{
    const struct virtq_chain *chain = &p9->chain;
    u64 out = chain->in_len < SHARE_MAX_MESSAGE ? chain->in_len : SHARE_MAX_MESSAGE;
    if (chain->out_len > SHARE_MAX_MESSAGE)
        return false;
    struct request *request = malloc(sizeof(*request) + chain->out_len + out);
    ensure(request);
    request->p9 = p9;
    request->chain = *chain;
    request->io = (struct share_request){.in = request->bytes,
                                         .in_len = (u32)chain->out_len,
                                         .out = request->bytes + chain->out_len,
                                         .out_size = (u32)out,
                                         .done = request_done};
    if (!virtq_get(chain, 0, request->bytes, chain->out_len)) {
        free(request);
        return false;
    }
    p9->in_flight++;
    p9->share->submit(p9->share->back, &request->io);
    return true;
}

static void p9_notify(void *device, unsigned queue)
{
    struct virtio_p9 *p9 = device;
    do {
        while (virtio_pop(&p9->virtio, queue, &p9->chain))
            if (!start(p9))
                virtq_push(&p9->chain, 0);
    } while (virtio_more(&p9->virtio, queue));
    virtio_signal(&p9->virtio, queue);
}

static bool p9_stop(void *device)
{
    const struct virtio_p9 *p9 = device;
    return !p9->in_flight;
}

static void p9_drain(void *device)
{
    const struct virtio_p9 *p9 = device;
    p9->share->drain(p9->share->back);
}

static const struct virtio_class p9_class = {
    .name = "virtio-9p",
    .type = 9,
    .pci_class = 0x00ff00,
    .notify = p9_notify,
    .stop = p9_stop,
    .drain = p9_drain,
};

static void p9_destroy(void *device)
{
    struct virtio_p9 *p9 = device;
    virtio_pci_unplug(&p9->pci);
    virtio_destroy(&p9->virtio);
    free(p9);
}

static const struct device_class p9_device_class = {
    .name = "virtio-9p",
    .version = 1,
    .destroy = p9_destroy,
};

struct virtio_p9 *virtio_p9_create(struct board *board, struct pci_host *host,
                                   const struct virtio_p9_config *config)
{
    struct virtio_p9 *p9 = calloc(1, sizeof(*p9));
    ensure(p9);
    size_t len = strlen(config->tag);
    ensure(len <= VIRTIO_P9_MAX_TAG);
    p9->share = config->share;
    p9->config.tag_len = (u16)len;
    memcpy(p9->config.tag, config->tag, len);
    device_add(board, &p9->device, &p9_device_class, p9);
    virtio_init(&p9->virtio, board, &p9_class, p9, F_MOUNT_TAG, &p9->config,
                (unsigned)(sizeof(u16) + len), 1);
    return virtio_pci_plug(&p9->pci, &p9->virtio, host, config->slot) ? p9 : NULL;
}
