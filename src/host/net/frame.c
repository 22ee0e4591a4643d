/* Completing frames, see frame.h. */
#include "host/net/frame.h"

#include <string.h>

#define NEEDS_CSUM 1

/* The ones' complement sum of 16-bit words (RFC 1071) does not care about byte order, nor about
 * how many words are taken at a time. */
static u16 sum(const u8 *data, size_t len)
{
    u64 total = 0;
    u32 word;
    for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        total += word;
    }
    word = 0;
    memcpy(&word, data, len);
    total += word;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (u16)total;
}

void frame_checksum(u8 *frame, size_t len, const struct net_offload *offload)
{
    if (!(offload->flags & NEEDS_CSUM))
        return;
    u16 checksum = (u16)~sum(frame + offload->csum_start, len - offload->csum_start);
    /* UDP says 0 for "none", so it sends the other zero (RFC 768); TCP takes either. */
    if (!checksum)
        checksum = 0xffff;
    memcpy(frame + offload->csum_start + offload->csum_offset, &checksum, sizeof(checksum));
}
