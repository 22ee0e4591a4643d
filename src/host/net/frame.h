/* Completing frames that a guest left unfinished, for back ends that need them whole. Pure. */
#pragma once

#include "platform/net.h"

/* Puts the checksum where the offload says it is missing (virtio 1.2, 5.1.6.2): `csum_start` +
 * `csum_offset` + 2 is within `len`. The field holds the pseudo header's sum. */
void frame_checksum(u8 *frame, size_t len, const struct net_offload *offload);
