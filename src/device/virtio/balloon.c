/* A virtio memory balloon, see balloon.h. */
#include "device/virtio/balloon.h"

#include <stdlib.h>

#include "base/ensure.h"
#include "device/virtio/pci.h"
#include "platform/ram.h"

/* The first two are always there; which number the others have depends on the features. */
enum { INFLATE, DEFLATE, FIRST_OPTIONAL, QUEUES = 4 };

#define F_STATS_VQ       BIT(1)
#define F_DEFLATE_ON_OOM BIT(2)
#define F_PAGE_REPORTING BIT(5)

#define PIECE 256 /* page numbers taken at a time */
/* Most of one chain: a driver sends 256, and a hostile one must not keep us for minutes. */
#define MOST_PAGES 65536

/* 5.5.4 */
struct config {
    u32 num_pages;
    u32 actual;
    u32 free_page_hint_cmd_id;
    u32 poison_val;
};
#define CONFIG_LEN 8 /* without the features that the others are for */

/* 5.5.6.3 */
struct stat {
    u16 tag;
    u64 value;
} __attribute__((packed));

struct virtio_balloon {
    struct virtio virtio;
    struct virtio_pci pci;
    struct device device;
    struct config config;
    struct virtio_balloon_stats stats;
    u32 poll_s; /* the user's wish, no state of the device */
    struct timer poll;
    /* The driver's buffer for statistics, which goes back when new ones are wanted; declared
     * state is its head: enough to give it back in a split ring, and no other is offered. */
    bool stats_held;
    struct virtq_chain stats_chain;
    struct virtq_chain chain;
};

/* -- Pages --------------------------------------------------------------------------------- */

/* Frames in a row, either way: guests give them in both orders. */
struct run {
    u64 first, count;
};

static void run_release(struct virtio_balloon *balloon, const struct run *run)
{
    if (run->count)
        ram_release(balloon->virtio.board, gfn_to_gpa(gfn(run->first)), run->count * PAGE_SIZE);
}

static void run_add(struct virtio_balloon *balloon, struct run *run, u64 frame)
{
    if (run->count && frame == run->first + run->count) {
        run->count++;
    } else if (run->count && frame + 1 == run->first) {
        run->first--;
        run->count++;
    } else {
        run_release(balloon, run);
        *run = (struct run){frame, 1};
    }
}

static void inflate(struct virtio_balloon *balloon)
{
    const struct virtq_chain *chain = &balloon->chain;
    struct run run = {0, 0};
    u32 frames[PIECE];
    u64 n = chain->out_len / sizeof(u32);
    if (n > MOST_PAGES)
        n = MOST_PAGES;
    for (u64 at = 0; at < n; at += PIECE) {
        u64 part = n - at < PIECE ? n - at : PIECE;
        if (!virtq_get(chain, at * sizeof(u32), frames, part * sizeof(u32)))
            break;
        for (u64 i = 0; i < part; i++)
            run_add(balloon, &run, frames[i]);
    }
    run_release(balloon, &run);
}

/* -- Statistics ---------------------------------------------------------------------------- */

static void forget_stats(struct virtio_balloon *balloon)
{
    balloon->stats.taken = 0;
    for (unsigned i = 0; i < VIRTIO_BALLOON_STATS; i++)
        balloon->stats.value[i] = VIRTIO_BALLOON_UNKNOWN;
}

static void poll_in(struct virtio_balloon *balloon, u32 seconds)
{
    struct clock *clock = &balloon->virtio.board->clock;
    timer_arm(clock, &balloon->poll, clock_now(clock) + seconds * NS_PER_S);
}

static void take_stats(struct virtio_balloon *balloon, const struct virtq_chain *chain)
{
    struct stat stat;
    forget_stats(balloon);
    for (u64 at = 0; at < 64 * sizeof(stat) && virtq_get(chain, at, &stat, sizeof(stat));
         at += sizeof(stat))
        if (stat.tag < VIRTIO_BALLOON_STATS)
            balloon->stats.value[stat.tag] = stat.value;
    balloon->stats.taken = clock_wall(&balloon->virtio.board->clock);
    if (balloon->poll_s)
        poll_in(balloon, balloon->poll_s);
}

static void notify_stats(struct virtio_balloon *balloon, unsigned queue)
{
    /* One buffer goes to and fro; should there be a second, the first goes back. */
    while (virtio_pop(&balloon->virtio, queue, &balloon->chain)) {
        if (balloon->stats_held)
            virtq_push(&balloon->stats_chain, 0);
        balloon->stats_chain = balloon->chain;
        balloon->stats_held = true;
        take_stats(balloon, &balloon->chain);
    }
    virtq_want_notify(&balloon->virtio.queues[queue], true);
}

/* A driver that has its buffer, or has none yet, is asked again an interval later. */
static void poll_stats(void *opaque)
{
    struct virtio_balloon *balloon = opaque;
    poll_in(balloon, balloon->poll_s);
    if (!balloon->stats_held)
        return;
    balloon->stats_held = false;
    virtq_push(&balloon->stats_chain, 0);
    virtio_signal(&balloon->virtio, FIRST_OPTIONAL);
}

const struct virtio_balloon_stats *virtio_balloon_stats(const struct virtio_balloon *balloon)
{
    return &balloon->stats;
}

void virtio_balloon_poll(struct virtio_balloon *balloon, u32 seconds)
{
    bool polled = balloon->poll_s;
    balloon->poll_s = seconds;
    if (seconds)
        poll_in(balloon, polled ? seconds : 0);
    else
        timer_cancel(&balloon->virtio.board->clock, &balloon->poll);
}

u32 virtio_balloon_polled(const struct virtio_balloon *balloon)
{
    return balloon->poll_s;
}

/* -- Queues -------------------------------------------------------------------------------- */

static void handle(struct virtio_balloon *balloon, unsigned queue, bool reporting)
{
    do {
        while (virtio_pop(&balloon->virtio, queue, &balloon->chain)) {
            if (reporting)
                virtq_release(&balloon->chain);
            else if (queue == INFLATE)
                inflate(balloon);
            /* Deflated pages come back by being touched. */
            virtq_push(&balloon->chain, 0);
        }
    } while (virtio_more(&balloon->virtio, queue));
    virtio_signal(&balloon->virtio, queue);
}

static void balloon_notify(void *device, unsigned queue)
{
    struct virtio_balloon *balloon = device;
    bool has_stats = virtio_has(&balloon->virtio, F_STATS_VQ);
    unsigned reporting =
        virtio_has(&balloon->virtio, F_PAGE_REPORTING) ? FIRST_OPTIONAL + has_stats : QUEUES;
    if (has_stats && queue == FIRST_OPTIONAL)
        notify_stats(balloon, queue);
    else if (queue < FIRST_OPTIONAL || queue == reporting)
        handle(balloon, queue, queue == reporting);
}

/* -- The device ---------------------------------------------------------------------------- */

static void balloon_config_write(void *device, u64 offset, unsigned size, u64 value)
{
    struct virtio_balloon *balloon = device;
    if (offset == offsetof(struct config, actual) && size == sizeof(u32))
        balloon->config.actual = (u32)value;
}

/* Linux announces its first buffer for statistics before it is live, and not again. */
static void balloon_start(void *device)
{
    struct virtio_balloon *balloon = device;
    if (virtio_has(&balloon->virtio, F_STATS_VQ))
        virtio_notify(&balloon->virtio, FIRST_OPTIONAL);
}

static bool balloon_stop(void *device)
{
    struct virtio_balloon *balloon = device;
    balloon->config.actual = 0;
    balloon->stats_held = false; /* what it told stays known */
    return true;
}

void virtio_balloon_set_target(struct virtio_balloon *balloon, u64 bytes)
{
    balloon->config.num_pages = (u32)(bytes / PAGE_SIZE);
    virtio_config_changed(&balloon->virtio);
}

u64 virtio_balloon_actual(const struct virtio_balloon *balloon)
{
    return balloon->config.actual * PAGE_SIZE;
}

static const struct virtio_class balloon_class = {
    .name = "virtio-balloon",
    .type = 5,
    .pci_class = 0x00ff00,
    .notify = balloon_notify,
    .config_write = balloon_config_write,
    .start = balloon_start,
    .stop = balloon_stop,
};

/* Giving the buffer back takes its head and its queue, no more. */
static bool balloon_post_load(void *device)
{
    struct virtio_balloon *balloon = device;
    balloon->stats_chain.queue = &balloon->virtio.queues[FIRST_OPTIONAL];
    return true;
}

static const struct field balloon_fields[] = {
    FIELD(struct virtio_balloon, config.num_pages),
    FIELD(struct virtio_balloon, config.actual),
    FIELD_ARRAY(struct virtio_balloon, stats.value),
    FIELD(struct virtio_balloon, stats.taken),
    FIELD(struct virtio_balloon, stats_held),
    FIELD(struct virtio_balloon, stats_chain.head),
};

static void balloon_destroy(void *device)
{
    struct virtio_balloon *balloon = device;
    timer_cancel(&balloon->virtio.board->clock, &balloon->poll);
    virtio_pci_unplug(&balloon->pci);
    virtio_destroy(&balloon->virtio);
    free(balloon);
}

static const struct device_class balloon_device_class = {
    .name = "virtio-balloon",
    .version = 1,
    .fields = balloon_fields,
    .n_fields = ARRAY_LEN(balloon_fields),
    .post_load = balloon_post_load,
    .destroy = balloon_destroy,
};

struct virtio_balloon *virtio_balloon_create(struct board *board, struct pci_host *host,
                                             const struct virtio_balloon_config *config)
{
    struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
    ensure(balloon);
    u64 features = F_STATS_VQ | (config->deflate_on_oom ? F_DEFLATE_ON_OOM : 0) |
                   (config->free_page_reporting ? F_PAGE_REPORTING : 0);
    forget_stats(balloon);
    balloon->poll = (struct timer){.fire = poll_stats, .opaque = balloon};
    device_add(board, &balloon->device, &balloon_device_class, balloon);
    virtio_init(&balloon->virtio, board, &balloon_class, balloon, features, &balloon->config,
                CONFIG_LEN, QUEUES);
    return virtio_pci_plug(&balloon->pci, &balloon->virtio, host, config->slot) ? balloon
                                                                                : NULL;
}
