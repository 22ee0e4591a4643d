/*
 * Puts the fragments of IPv4 datagrams together (RFC 791, 3.2) before libslirp sees them:
 * version 4.7 of it does not survive all that a guest can send (fuzz/fuzz_net.c found it
 * reading links out of packets). Datagrams whose fragments overlap are dropped, as RFC 5722 has
 * it for IPv6.
 *
 * Threads: as the owner says.
 */
#pragma once

#include "base/types.h"

struct fragments;

struct fragments *fragments_create(void);
void fragments_destroy(struct fragments *fragments);

/* Whether the frame is Ethernet with a fragment of IPv4 in it. */
bool fragments_is_one(const u8 *frame, size_t len);

/*
 * Takes such a frame at the time `now` (ns). Returns the whole datagram in a frame of `*len`
 * bytes, which lasts until the next call, or NULL: more have to come, or it was no good.
 */
const u8 *fragments_take(struct fragments *fragments, const u8 *frame, size_t *len, u64 now);
