/* Whole datagrams from fragments, see fragments.h. */
#include "host/net/fragments.h"

#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/bits.h"
#include "base/ensure.h"
#include "base/time.h"

#define ETHERNET   14u
#define HEADER     20u /* without options */
#define UNIT       8u  /* of fragment offsets */
#define MAX_LEN    65535u
#define UNITS      (MAX_LEN / UNIT + 1)
#define DATAGRAMS  4 /* under way; the oldest makes room */
#define TIMEOUT_NS (30 * NS_PER_S)

#define MORE_FRAGMENTS 0x2000u
#define OFFSET_MASK    0x1fffu

/* Where a field of the IPv4 header lies. */
enum { IP_LEN = 2, IP_ID = 4, IP_OFF = 6, IP_PROTO = 9, IP_SUM = 10, IP_SOURCE = 12 };

struct datagram {
    bool used;
    u64 began;
    u8 key[11];     /* identification, protocol, source and destination */
    size_t header;  /* bytes of the first fragment's header; 0: not there yet */
    size_t len;     /* of the data, when the last fragment is there; else 0 */
    size_t end;     /* of what is there */
    unsigned units; /* that are there */
    u64 have[UNITS / 64 + 1];
    u8 head[ETHERNET + 60];
    u8 data[MAX_LEN + 1];
};

struct fragments {
    struct datagram datagrams[DATAGRAMS];
    u8 frame[ETHERNET + MAX_LEN];
};

struct fragments *fragments_create(void)
{
    struct fragments *fragments = calloc(1, sizeof(*fragments));
    ensure(fragments);
    return fragments;
}

void fragments_destroy(struct fragments *fragments)
{
    free(fragments);
}

bool fragments_is_one(const u8 *frame, size_t len)
{
    return len >= ETHERNET + HEADER && be_get16(frame + 12) == 0x0800 &&
           be_get16(frame + ETHERNET + IP_OFF) & (MORE_FRAGMENTS | OFFSET_MASK);
}

/* The ones' complement sum of a header; 0 where the checksum in it is right. */
static u16 header_sum(const u8 *ip, size_t header)
{
    u32 sum = 0;
    for (size_t i = 0; i < header; i += 2)
        sum += be_get16(ip + i);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16) ~(sum + (sum >> 16));
}

/* The datagram that the header belongs to: one under way, or a fresh one. */
static struct datagram *find(struct fragments *fragments, const u8 *ip, u64 now)
{
    struct datagram *oldest = &fragments->datagrams[0];
    u8 key[11];
    memcpy(key, ip + IP_ID, 2);
    key[2] = ip[IP_PROTO];
    memcpy(key + 3, ip + IP_SOURCE, 8);
    for (unsigned i = 0; i < DATAGRAMS; i++) {
        struct datagram *datagram = &fragments->datagrams[i];
        if (datagram->used && now - datagram->began > TIMEOUT_NS)
            datagram->used = false;
        if (datagram->used && !memcmp(datagram->key, key, sizeof(key)))
            return datagram;
        if (!datagram->used || (oldest->used && datagram->began < oldest->began))
            oldest = datagram;
    }
    memset(oldest, 0, offsetof(struct datagram, head));
    oldest->used = true;
    oldest->began = now;
    memcpy(oldest->key, key, sizeof(key));
    return oldest;
}

/* Enters units [first, end); false: some are there already. */
static bool enter(struct datagram *datagram, size_t first, size_t end)
{
    for (size_t unit = first; unit < end; unit++) {
        if (datagram->have[unit / 64] & BIT(unit % 64))
            return false;
        datagram->have[unit / 64] |= BIT(unit % 64);
    }
    datagram->units += (unsigned)(end - first);
    return true;
}

/* Enters a fragment's data at `offset`; false: it does not go with the others. */
static bool add(struct datagram *datagram, const u8 *data, size_t offset, size_t len, bool last)
{
    size_t end = offset + len;
    if (!len || end > MAX_LEN - HEADER || (!last && len % UNIT) ||
        (last && (datagram->len || datagram->end > end)) ||
        (datagram->len && end > datagram->len) ||
        !enter(datagram, offset / UNIT, align_up(end, UNIT) / UNIT))
        return false;
    if (last)
        datagram->len = end;
    if (end > datagram->end)
        datagram->end = end;
    memcpy(datagram->data + offset, data, len);
    return true;
}

/* As many units as the length asks for, none of them behind it: then none is missing. */
static bool is_whole(const struct datagram *datagram)
{
    size_t units = align_up(datagram->len, UNIT) / UNIT;
    return datagram->header && datagram->len && datagram->units == units;
}

static const u8 *put_together(struct fragments *fragments, struct datagram *datagram,
                              size_t *len)
{
    u8 *frame = fragments->frame, *ip = frame + ETHERNET;
    datagram->used = false;
    if (datagram->header + datagram->len > MAX_LEN)
        return NULL;
    memcpy(frame, datagram->head, ETHERNET + datagram->header);
    memcpy(ip + datagram->header, datagram->data, datagram->len);
    be_put16(ip + IP_LEN, datagram->header + datagram->len);
    be_put16(ip + IP_OFF, 0);
    be_put16(ip + IP_SUM, 0);
    be_put16(ip + IP_SUM, header_sum(ip, datagram->header));
    *len = ETHERNET + datagram->header + datagram->len;
    return frame;
}

const u8 *fragments_take(struct fragments *fragments, const u8 *frame, size_t *len, u64 now)
{
    const u8 *ip = frame + ETHERNET;
    size_t header = (ip[0] & 15) * 4u, total = be_get16(ip + IP_LEN);
    u16 off = be_get16(ip + IP_OFF);
    if (ip[0] >> 4 != 4 || header < HEADER || total < header || total > *len - ETHERNET ||
        header_sum(ip, header))
        return NULL;
    struct datagram *datagram = find(fragments, ip, now);
    size_t offset = (off & OFFSET_MASK) * (size_t)UNIT;
    if (!add(datagram, ip + header, offset, total - header, !(off & MORE_FRAGMENTS))) {
        datagram->used = false;
        return NULL;
    }
    if (!offset) {
        datagram->header = header;
        memcpy(datagram->head, frame, ETHERNET + header);
    }
    return is_whole(datagram) ? put_together(fragments, datagram, len) : NULL;
}
